"""Damaged and random input for everything that reads what strangers write: ``make fuzz``.

inputs.py     how valid values are damaged
targets.py    what is given to whom, what may come of it, and the oracles
__main__.py   many inputs, counts, and the table of docs/evidence/fuzz.md
"""
