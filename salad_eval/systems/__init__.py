"""Systems (entry-point group ``salad.systems``): what answers. Each gives log-probabilities of options, or a text, for prompts of text
and sound. Those behind a server are in ``served``; speech LLMs of transformers, a family each, in ``speech/``.

    causal.py     causal LMs: what is the same for text LLMs and speech LLMs of every class
    family.py     what a causal LM has to say about itself
    hf_text.py    ``hf-text``
    cascade.py    the cascade: an ASR hears, a text LLM reads
    prompts.py    text to token ids, as lm-eval's ``hf`` makes them
    chat.py       a request as the conversation that a chat template renders
    branching.py  many continuations of one prompt, with the prompt computed once
    trees.py      a prompt with all its continuations in one row, for models that read it
    passes.py     a forward pass, and what one has to know of a model before it
    shared_prefixes.py  which prompts are computed together
"""
