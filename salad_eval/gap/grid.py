"""Voice by condition: every cell a row of its own, and what the condition takes from it, paired by item with the clean one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from salad_eval.gap.pair import Paired
from salad_eval.gap.row import item_values
from salad_eval.gap.stats import Measure, cluster_sums, resample, row_seed
from salad_eval.types import CLEAN, COLUMN_FORM, ColumnName, Estimate, GapRow, GridCell


def clean_first(conditions: Iterable[str]) -> tuple[str, ...]:
    """Sorted, with the condition that changes nothing in front."""
    return tuple(sorted(set(conditions), key=lambda name: (name != CLEAN, name)))


def grid(
    paired: Paired, row: Callable[[str, np.ndarray], GapRow], *, seed: int, n_resamples: int
) -> tuple[GridCell, ...]:
    """The cells that hold a rendering, by voice and then condition. ``row`` makes a row of a name and a mask of renderings."""
    cells = []
    for voice in sorted(set(paired.voices)):
        by_voice = paired.voices == voice
        for condition in clean_first(paired.perturbations[by_voice]):
            here = by_voice & (paired.perturbations == condition)
            clean = by_voice & (paired.perturbations == CLEAN)
            name = f"{voice}, {condition}"
            cell_seed = row_seed(seed, "from clean", name)
            change = {} if condition == CLEAN else _change(paired, clean, here, cell_seed, n_resamples)
            cells.append(GridCell(voice, condition, row(name, here), change))
    return tuple(cells)


def _change(
    paired: Paired, clean: np.ndarray, here: np.ndarray, seed: np.random.SeedSequence, n_resamples: int
) -> dict[ColumnName, Estimate]:
    """Each spoken column ``here`` less the same under ``clean``, on the items that have both; nothing where none has."""
    first, before = item_values(paired, clean)
    second, after = item_values(paired, here)
    both = np.intersect1d(first, second)
    spoken = [column for column in paired.columns if COLUMN_FORM[column] != "text"]
    if len(both) == 0:
        return {}
    places = [paired.columns.index(column) for column in spoken]
    table = np.column_stack([before[np.isin(first, both)][:, places], after[np.isin(second, both)][:, places]])
    clusters = cluster_sums(table, [paired.items[position].group for position in both])
    signs = np.eye(len(spoken))
    measures = [Measure(column, (*-signs[k], *signs[k])) for k, column in enumerate(spoken)]
    found = resample(clusters, measures, seed=seed, n_resamples=n_resamples)
    return {column: change.estimate for column, change in zip(spoken, found, strict=True)}
