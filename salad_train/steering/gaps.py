"""The gaps of a report as they steer: what is selected, and how often what is there is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

from salad_eval.errors import DataError, UserInputError
from salad_eval.types import GapReport


def domain_gaps(report: GapReport) -> dict[str, float]:
    """The report's gaps by domain as fractions, in the order of ``report.domains``.

    They are the shrunken ones (empirical Bayes): a domain of few items is drawn to the mean of all, so that chance in a small
    domain does not steer. Where they were not shrunk (one domain), the plain gap stands in.

    Raises ``UserInputError`` for a report without domains and ``DataError`` where a gap is not a number.
    """
    if not report.domains:
        raise UserInputError(
            "the report has no gaps by domain, so it cannot say what to speak or to train on. Evaluate a task that has domains "
            "(metadata.salad.domain)."
        )
    gaps = {row.name: row.gap.value if row.shrunk_gap is None else row.shrunk_gap for row in report.domains}
    for name, gap in gaps.items():
        if not math.isfinite(gap):
            raise DataError(f"the gap of domain {name!r} is {gap}; expected a finite number. Make the report again.")
    return gaps


def largest_gap(gaps: Mapping[str, float], otherwise: str) -> float:
    """The largest gap, above 0. Raises ``UserInputError`` where there is none: it says what to do ``otherwise``."""
    name = max(gaps, key=lambda domain: gaps[domain])
    if gaps[name] <= 0:
        raise UserInputError(
            f"no domain has a gap above 0 (the largest is {name!r} with {100 * gaps[name]:+.1f} points): speech is understood as "
            f"well as text there, and there is nothing to close. {otherwise}"
        )
    return gaps[name]
