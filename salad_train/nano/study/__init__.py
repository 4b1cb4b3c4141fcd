"""The method, reproduced in small: every claim of the paper that the embedded world can test, with intervals over seeds.

plan.py        which runs there are
runs.py        one of them, from its record to what was measured
execute.py     all of them, each kept as it is done
answers.py     right and wrong answers as bits
analysis.py    records to findings
claims.py      what is said of the method, as numbers that could have come out otherwise
scaling.py     fits of M against data, and of accuracy against M
figures.py     pictures
page.py        the study's page
"""
