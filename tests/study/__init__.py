"""Pictures and tables of studies on real models, which run outside the suite.

checkpoints.py  F, M, D and answers of many checkpoints of one speech LLM
table.py        what was asked of them, with intervals, and each less one of them
warm_start.py   a warm start's curve beside what a run's columns answered
written.py      what an adapter that reads by CTC writes of a run's questions
"""
