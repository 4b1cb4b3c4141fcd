"""The report in the seat: gaps → weights → which example comes next, while somebody's trainer runs.

gaps.py     the gaps of a report as they steer
weights.py  gaps or a selection → weights
sampler.py  ``GapSampler``
callback.py ``GapCallback``
live.py     the gap of a model while it trains
"""
