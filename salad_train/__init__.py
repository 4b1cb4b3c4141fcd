"""What to train on next, and the training: the loop that a gap report steers.

Evaluation (``salad_eval``) knows nothing of this package. Each arrow is a folder, each box a record of ``types``::

    [GapReport] --steering--> gaps by domain ------------------+
                                                               v
    texts --corpus--> [Corpus] --selection: embed, cluster, probe, score, weigh, draw--> [Selection]
                                                                                             |
             model <--training: Stage I, Stage II <-- [Synthesis] <--speech: interleave, speak

``loop.py`` walks it round by round, ``cli`` asks for its steps.

    corpus/      texts read, filtered for counted reasons, kept free of the benchmark
    selection/   which clusters are spoken next; signals, embedders, probes
    speech/      speech made by a voice or natural by manifest; interleaving; alignment
    model/       the speech LLM as classes of transformers, and as a system of the evaluation
    training/    both stages: mixture, batches, objective, optimiser, rates and their schedule (plan.py), the trainer's loop
    steering/    sampler and callback for a trainer of your own
    nano/        the embedded world, from facts to trained models; nano/study/: its study
    cli/         ``salad select | synthesise | train | loop | nano``, with their options
    recipes/, loops/   data: recipes and loops by name

    types.py     the records of selection and training, and the protocols of plug-ins
    recipe.py    everything a training depends on, as YAML and typed
    loop.py      evaluate, select, synthesise, train, evaluate
    measure.py   F, M and D of any checkpoint
    callback.py, sampler.py, cli_train.py   doors: the names that trainers and launchers import
"""
