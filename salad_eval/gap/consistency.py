"""How often the adapted model chooses by ear what it chooses in reading, right or wrong: consistency, after C3T (arXiv 2509.12171)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salad_eval.gap.pair import Paired
from salad_eval.gap.stats import Measure, cluster_sums, resample
from salad_eval.types import Estimate, Score


def agreement(paired: Paired, scores: Sequence[Score]) -> np.ndarray | None:
    """For each rendering 1 where the choice by ear is the choice in reading, 0 where it is not, NaN where there is no choice to be made
    (an item without options); (n_renderings,). ``None`` where the adapted model was not asked in text, or nothing has options.

    An answer that could not be parsed agrees with none.
    """
    if "adapted_text" not in paired.text:
        return None
    chosen = {
        (score.item_id, score.column, score.voice, score.perturbation): score.predicted
        for score in scores
        if score.column in ("adapted_text", "adapted_speech")
    }
    same = np.full(len(paired.item_of), np.nan)
    for place, position in enumerate(paired.item_of):
        item = paired.items[position]
        if item.choices:
            read = chosen.get((item.id, "adapted_text", None, None))
            heard = chosen.get((item.id, "adapted_speech", paired.voices[place], paired.perturbations[place]))
            same[place] = float(read is not None and read == heard)
    return None if np.isnan(same).all() else same


def consistency(
    paired: Paired, same: np.ndarray, renderings: np.ndarray, *, seed: np.random.SeedSequence, n_resamples: int
) -> Estimate | None:
    """The mean of ``same`` (see ``agreement``) over the items under a mask, each over its renderings; ``None`` where none has a value."""
    known = renderings & ~np.isnan(same)
    counts = np.bincount(paired.item_of[known], minlength=len(paired.items))
    left = np.flatnonzero(counts)
    if len(left) == 0:
        return None
    totals = np.bincount(paired.item_of[known], weights=same[known], minlength=len(paired.items))
    clusters = cluster_sums((totals[left] / counts[left])[:, None], [paired.items[position].group for position in left])
    (found,) = resample(clusters, [Measure("consistency", (1.0,))], seed=seed, n_resamples=n_resamples)
    return found.estimate
