"""Speech LLMs of transformers as systems. ``ADAPTER.md`` beside this file shows how to add a model class."""
