"""One row of the report (overall, a domain, a slice) out of paired items: accuracies, gaps, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.gap.consistency import consistency
from salad_eval.gap.pair import (
    CORRECT,
    FORGOTTEN,
    LOST_IN_ADAPTATION,
    LOST_IN_ALIGNMENT,
    LOST_IN_RENDERING,
    SPEECH_ONLY,
    TAXONOMY,
    TAXONOMY_UNSPLIT,
    WRONG_IN_TEXT,
    Paired,
)
from salad_eval.gap.power import Discordance, power_of
from salad_eval.gap.stats import (
    Measure,
    Resampled,
    cluster_sums,
    resample,
    sign_flip_p_value,
)
from salad_eval.types import (
    ColumnName,
    DivergenceRates,
    Estimate,
    GapRow,
)

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row of the report, and the error of its gap, which shrinkage needs and the report does not show."""

    row: GapRow
    gap_error: float


def item_values(paired: Paired, renderings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Item-level values under a mask of renderings: positions of the items left, int (n,), and their values, (n,
    n_columns)."""
    weight = np.bincount(paired.item_of[renderings], minlength=len(paired.items))
    left = np.flatnonzero(weight)
    columns = []
    for column in paired.columns:
        if column in paired.text:
            columns.append(paired.text[column][left])
        else:
            total = np.bincount(
                paired.item_of[renderings], weights=paired.spoken[column][renderings], minlength=len(paired.items)
            )
            columns.append(total[left] / weight[left])
    return left, np.column_stack(columns)


def measures_for(columns: Sequence[ColumnName]) -> tuple[Measure, ...]:
    """The columns themselves, then the gap, with adapted_text forgetting and misalignment, with a cascade cascade_loss."""

    def difference(name: str, first: ColumnName, second: ColumnName) -> Measure:
        weights = tuple(float(column == first) - float(column == second) for column in columns)
        return Measure(name, weights)

    plain = [Measure(column, tuple(float(other == column) for other in columns)) for column in columns]
    differences = [difference("gap", "base_text", "adapted_speech")]
    if "adapted_text" in columns:
        differences.append(difference("forgetting", "base_text", "adapted_text"))
        differences.append(difference("misalignment", "adapted_text", "adapted_speech"))
    if "base_transcript" in columns:
        differences.append(difference("cascade_loss", "base_text", "base_transcript"))
    return (*plain, *differences)


def report_row(
    paired: Paired,
    name: str,
    renderings: np.ndarray,
    *,
    seed: np.random.SeedSequence,
    n_resamples: int,
    agreement: np.ndarray | None = None,
) -> ReportRow:
    """All measures of the items that have a rendering under the mask ``renderings``, bool (n_renderings,). ``agreement``: see
    ``consistency.agreement``; without it there is no consistency."""
    left, values = item_values(paired, renderings)
    columns = paired.columns
    clusters = cluster_sums(values, [paired.items[position].group for position in left])
    interval_seed, flip_seed, consistency_seed = seed.spawn(3)
    measures = measures_for(columns)
    found = {
        measure.name: result
        for measure, result in zip(
            measures, resample(clusters, measures, seed=interval_seed, n_resamples=n_resamples), strict=True
        )
    }
    accuracy = {column: found[column].estimate for column in columns}
    text, speech = accuracy["base_text"].value, accuracy["adapted_speech"].value
    forgetting = misalignment = None
    whole = text - speech
    if "adapted_text" in columns:
        adapted = accuracy["adapted_text"].value
        forgetting = _with_value(found["forgetting"], text - adapted)
        misalignment = _with_value(found["misalignment"], adapted - speech)
        whole = forgetting.value + misalignment.value  # the identity holds as written, not up to rounding
    gap = _with_value(found["gap"], whole)
    loss = None
    if "base_transcript" in columns:
        loss = _with_value(found["cascade_loss"], text - accuracy["base_transcript"].value)
    flips = clusters.sums[:, columns.index("base_text")] - clusters.sums[:, columns.index("adapted_speech")]
    row = GapRow(
        name=name,
        n_items=clusters.n_items,
        n_groups=clusters.n_groups,
        accuracy=accuracy,
        gap=gap,
        forgetting=forgetting,
        misalignment=misalignment,
        cascade_loss=loss,
        p_value=sign_flip_p_value(flips, seed=flip_seed, n_resamples=n_resamples),
        q_value=None,
        shrunk_gap=None,
        wer=_word_error_rate(paired, renderings),
        divergence_nats=_divergence_rates(paired, renderings),
        taxonomy=_taxonomy(paired, renderings),
        consistency=(
            consistency(paired, agreement, renderings, seed=consistency_seed, n_resamples=n_resamples)
            if agreement is not None
            else None
        ),
        power=power_of(gap, found["gap"].standard_error, _discordance(paired, renderings, gap.value)),
        tasks=tuple(sorted({paired.items[position].task for position in left})),
    )
    return ReportRow(row, found["gap"].standard_error)


def _with_value(resampled: Resampled, value: float) -> Estimate:
    """The interval around ``value``, which differs from the resampled estimate by rounding only."""
    estimate = resampled.estimate
    assert estimate.low is not None  # for the type checker: resample() gives both bounds
    assert estimate.high is not None
    return Estimate(value, min(estimate.low, value), max(estimate.high, value), estimate.n)


def _discordance(paired: Paired, renderings: np.ndarray, gap: float) -> Discordance:
    """How often reading and hearing differ, the mean over items of the mean over their renderings."""
    item = paired.item_of[renderings]
    differs = np.abs(paired.text["base_text"][item] - paired.spoken["adapted_speech"][renderings])
    weight = 1.0 / np.bincount(item)[item]
    return Discordance(float((weight * differs).sum() / weight.sum()), gap)


def _word_error_rate(paired: Paired, renderings: np.ndarray) -> float | None:
    words = paired.n_words[renderings].sum()
    return float(paired.word_errors[renderings].sum() / words) if words else None


def _divergence_rates(paired: Paired, renderings: np.ndarray) -> DivergenceRates | None:
    positions = paired.positions[renderings].sum()
    if not positions:
        return None
    forgetting, misalignment, distillation = (float(nats) for nats in paired.nats[renderings].sum(axis=0) / positions)
    return DivergenceRates(forgetting, misalignment, distillation, int(positions))


def _taxonomy(paired: Paired, renderings: np.ndarray) -> dict[str, float]:
    """Share of items by cause; an item with several renderings is split evenly over them. The shares sum to 1."""
    item = paired.item_of[renderings]
    weight = 1.0 / np.bincount(item)[item]
    # weight @ share rounds; a share is never below 0 or above 1 for that
    return {
        cause: float(np.clip((weight * share[renderings]).sum() / weight.sum(), 0.0, 1.0))
        for cause, share in cause_shares(paired).items()
    }


def cause_shares(paired: Paired) -> dict[str, np.ndarray]:
    """How much of each rendering is put down to each cause, (n_renderings,) in [0, 1]; over the causes they sum to 1."""
    text, speech = paired.text["base_text"][paired.item_of], paired.spoken["adapted_speech"]
    # Levels at which a column is right are those below its value: "t and s" is min(t, s), "t, not s" what t exceeds s by.
    lost = np.maximum(text - speech, 0.0)
    # Without a cascade nothing says whether the recording could be understood, and nothing is put down to the
    # rendering.
    cascade = paired.spoken.get("base_transcript", text)
    heard = np.maximum(np.minimum(text, cascade) - speech, 0.0)
    shares = {
        CORRECT: np.minimum(text, speech),
        WRONG_IN_TEXT: 1.0 - np.maximum(text, speech),
        SPEECH_ONLY: np.maximum(speech - text, 0.0),
        LOST_IN_RENDERING: lost - heard,
    }
    causes = TAXONOMY_UNSPLIT
    if "adapted_text" in paired.text:
        adapted = np.minimum(np.minimum(text, cascade), paired.text["adapted_text"][paired.item_of])
        aligned = np.maximum(adapted - speech, 0.0)
        shares |= {FORGOTTEN: heard - aligned, LOST_IN_ALIGNMENT: aligned}
        causes = TAXONOMY
    else:
        shares |= {LOST_IN_ADAPTATION: heard}
    return {cause: shares[cause] for cause in causes}


def main_causes(paired: Paired) -> list[str]:
    """The one cause of each rendering: of a partly right answer the one that has the most of it, the first of equals."""
    shares = cause_shares(paired)
    names = list(shares)
    return [names[place] for place in np.argmax(np.stack(list(shares.values())), axis=0)]
