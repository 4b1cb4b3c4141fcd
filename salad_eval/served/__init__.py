"""Models behind an OpenAI-compatible endpoint: vLLM, ``transformers serve``, llama.cpp, OpenAI itself.

``endpoint`` sends requests and bears what networks do, ``wire`` knows what is said (bodies and replies), and ``systems`` and
``asr`` are the plug-ins ``openai-text``, ``openai-audio`` and ``openai-asr``.
"""
