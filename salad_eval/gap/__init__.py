"""From scores to the gap report, and from two runs to their difference. Pure functions; numbers only, no words.

report.py      the report: overall, domains, slices, conditions
row.py         one row: a statistic of the report is made here, out of paired items
pair.py        the same items in every column: scores, word errors, divergences
stats.py       intervals, p-values, false discovery rate, shrinkage
consistency.py how often ear and eye choose alike
power.py       what a row could have shown
grid.py        voice by condition
items.py       the items behind the figures, for pages
compare.py     two runs on the items they share
signature.py   the line that says how the numbers were made

    board.py     many runs, each held against one
    controls.py  what is answered without the question
"""

from salad_eval.gap.report import build_report
from salad_eval.gap.signature import RunProtocol

__all__ = ["RunProtocol", "build_report"]
