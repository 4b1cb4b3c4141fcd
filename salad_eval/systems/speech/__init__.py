"""Speech LLMs of transformers as systems. ``ADAPTER.md`` beside this file shows how to add a model class.

system.py            ``hf-speech``
family.py            what a class of models says about itself: a new family begins here
loading.py           a checkpoint to its family; a built-in family is listed here (FAMILIES)
adapters.py          LoRA that is part of a speech LLM
qwen2_audio.py       Qwen2-Audio
qwen_omni.py         Qwen2.5-Omni's Thinker
voxtral.py           Voxtral
granite.py           Granite-Speech
phi4.py              Phi-4-multimodal
gemma3n.py           Gemma 3n
audio_flamingo.py    Audio Flamingo 3
remote.py            models whose code comes with the checkpoint
"""
