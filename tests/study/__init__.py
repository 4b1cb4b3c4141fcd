"""Pictures of studies on real models, which run outside the suite.

warm_start.py   a warm start's curve beside what a run's columns answered
written.py      what an adapter that reads by CTC writes of a run's questions
"""
