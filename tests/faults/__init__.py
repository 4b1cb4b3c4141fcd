"""Real SIGKILLs at chosen places of a run, and what is left of it: ``make faults``.

victim.py     a run, its folder and plug-ins, and the process that is killed at its n-th touch of the disk
__main__.py   many kills, and the table of docs/evidence/faults.md
"""
