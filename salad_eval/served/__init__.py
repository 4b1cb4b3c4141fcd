"""Models behind an OpenAI-compatible endpoint: vLLM, ``transformers serve``, llama.cpp, OpenAI itself.

endpoint.py sends requests and bears what networks do
wire.py     what is said: bodies and replies
systems.py  ``openai-text``, ``openai-audio``
asr.py      ``openai-asr``
cache.py    answers that were paid for
"""
