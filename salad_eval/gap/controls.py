"""What is answered without the question, held against what is answered with it. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.gap.grid import clean_first
from salad_eval.gap.pair import Paired
from salad_eval.gap.row import item_values
from salad_eval.gap.stats import Measure, cluster_sums, resample, row_seed
from salad_eval.types import ColumnName, ControlName, ControlRow, Score

_MEASURES = (Measure("control", (0.0, 1.0)), Measure("above", (1.0, -1.0)))


@dataclass(frozen=True, slots=True)
class ControlScores:
    """The scores of one control, at most one an item, and the column that it is held against."""

    control: ControlName
    column: ColumnName
    scores: Sequence[Score]


def control_rows(
    paired: Paired, controls: Sequence[ControlScores], *, seed: int, n_resamples: int
) -> tuple[ControlRow, ...]:
    """A row a control over all items and then a row a domain and control, on the items that have a value in both.

    Of several conditions a spoken column counts in the first (the clean one), in which controls are asked.
    """
    first = clean_first(paired.perturbations)[0]
    left, values = item_values(paired, paired.perturbations == first)
    items = [paired.items[position] for position in left]
    domains = np.array([item.domain for item in items], dtype=object)
    tables = [
        (one, {score.item_id: score.value for score in one.scores if score.value is not None}) for one in controls
    ]
    rows = []
    for name in ("", *sorted(set(domains))):
        here = np.ones(len(items), dtype=bool) if not name else domains == name
        for one, scored in tables:
            kept = [place for place in np.flatnonzero(here) if items[place].id in scored]
            if not kept:
                continue
            column = values[kept, paired.columns.index(one.column)]
            control = np.array([scored[items[place].id] for place in kept])
            clusters = cluster_sums(np.column_stack([column, control]), [items[place].group for place in kept])
            drawn = row_seed(seed, "control", one.control, one.column, name)
            accuracy, above = resample(clusters, _MEASURES, seed=drawn, n_resamples=n_resamples)
            rows.append(ControlRow(one.control, one.column, name, accuracy.estimate, above.estimate))
    return tuple(rows)
