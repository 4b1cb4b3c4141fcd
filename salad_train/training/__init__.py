"""Stages I and II: distillation of a frozen teacher into a student that hears. The loop is ``transformers.Trainer``'s.

stages.py        both stages, as the method section reads: start here
stage_plan.py    what they depend on, typed
plan.py          steps, rates and their schedule, precision
precision.py     bfloat16 where the device multiplies it
warm_start.py    the adapter's own start, by CTC against the LLM's embeddings
train.py         a student trained by a plan
trainer.py       ``SaladTrainer``: the training loop
distillation.py  what a step computes
objective.py     L = α·L_DIST + (1 − α)·L_NLL, in chunks
optim.py         Muon and AdamW
parameters.py    which weights are trained
lora.py          low-rank adaptation, and back
mixture.py       whose turn the next batch is, by weights; Stage II's sources and shares: stages.py (mixed_batches), stage_plan.py
batches.py       cut documents → batches
frames.py        the encoder's output, kept on disk
hearing.py       sound → embeddings
teacher_cache.py what the teacher says, kept on disk
checkpoints.py   resumable, by safetensors
saving.py        how weights are stored
processes.py     several processes of one run
selected.py      trainers by name (group ``salad.trainers``)
hf.py            the trainer ``hf``
dry_run.py       the trainer ``dry_run``
cost.py          what a training costs
"""
