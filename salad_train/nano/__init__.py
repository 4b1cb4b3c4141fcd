"""The embedded world: a closed set of true facts, the corpus that tells them, the benchmark that asks, the models trained on it.

world.py facts → corpus and benchmark
base.py  the text LLM
asr.py   the recogniser
train.py ``salad nano train``: all of it from nothing
card.py  the models' card

    data.py  its texts as a corpus
"""
