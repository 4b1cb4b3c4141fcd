"""Runs on the items they share: the difference in gap and in every column, paired item by item. Pure functions.

Every difference is *second minus first* (B - A): above 0 in a column means B answers more, below 0 in the gap means
B's gap is smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from salad_eval.errors import UserInputError, did_you_mean
from salad_eval.gap.pair import pair
from salad_eval.gap.row import OVERALL, item_values
from salad_eval.gap.stats import Measure, benjamini_hochberg, cluster_sums, resample, row_seed, sign_flip_p_value
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapReport, Item, Rendered, Score

if TYPE_CHECKING:
    from salad_eval.pipeline.finished import FinishedRun

GAP = "gap"
RIGHT = 0.5  # a value of at least this counts as right where a rendering is said to be lost or won
Between = Literal["condition", "voice"]


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column in both runs. ``difference`` is ``second`` - ``first`` with its 95% interval; ``p_value`` is
    two-sided."""

    first: float
    second: float
    difference: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A domain, or everything. ``gap`` holds both runs' gaps and their difference; ``q_value`` is over domains, of the
    gap's p-values."""

    name: str
    n_items: int
    n_groups: int
    columns: Mapping[ColumnName, ColumnChange]
    gap: ColumnChange
    q_value: float | None


@dataclass(frozen=True, slots=True)
class Flip:
    """A rendering that is understood by ear in one of the runs alone: in the second (``won``) or in the first."""

    item_id: str
    voice: str
    condition: str
    won: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts are of items: shared and scored in both runs; only in one; same id but another question; shared but not
    scored in both. ``unlike``: what the runs differ in, as sentences; ``renderings``: voices and conditions that both have, which the
    spoken columns are means over (none: over each run's own)."""

    name_a: str
    name_b: str
    signature_a: str
    signature_b: str
    seed: int
    n_resamples: int
    n_shared: int
    n_only_a: int
    n_only_b: int
    n_changed: int
    n_unscored: int
    overall: ComparisonRow
    domains: tuple[ComparisonRow, ...]
    unlike: tuple[str, ...]
    renderings: tuple[Rendered, ...]
    flips: tuple[Flip, ...]

    @property
    def n_lost(self) -> int:
        return sum(not flip.won for flip in self.flips)

    @property
    def n_won(self) -> int:
        return sum(flip.won for flip in self.flips)


@dataclass(frozen=True, slots=True)
class Against:
    """A run held against the baseline, with its q-value over all that were (of the gap's p-values)."""

    comparison: Comparison
    q_value: float


def names_of(runs: Sequence[FinishedRun]) -> list[str]:
    """What runs are called beside one another: by their own names, and where several have the same by their folders'."""
    folders = [run.path.parent.name if run.path.suffix == ".json" else run.path.name for run in runs]
    own = [run.report.names.run or folder for run, folder in zip(runs, folders, strict=True)]
    return [(folder or name) if own.count(name) > 1 else name for name, folder in zip(own, folders, strict=True)]


def compare_all(baseline: FinishedRun, others: Sequence[FinishedRun]) -> tuple[Against, ...]:
    """Each of the others less the baseline; see ``compare``."""
    return against([compare(baseline, other) for other in others])


def against(found: Sequence[Comparison]) -> tuple[Against, ...]:
    """Comparisons with one baseline, with their q-values over all of them."""
    q_values = benjamini_hochberg([one.overall.gap.p_value for one in found])
    return tuple(Against(one, q or 0.0) for one, q in zip(found, q_values, strict=True))


def between(run: FinishedRun, field: Between, first: str, second: str) -> Comparison:
    """One run in two of its conditions, or two of its voices, on the items that were heard in both.

    Raises ``UserInputError`` where the run has not got them.
    """
    known = run.report.conditions if field == "condition" else run.report.voices
    for value in (first, second):
        if value not in known:
            raise UserInputError(
                f"--between {field}={first},{second}: the run has no {field} {value!r}{did_you_mean(value, known)}. "
                f"Known: {', '.join(known) or 'none'}."
            )
    return compare(_only(run, field, first), _only(run, field, second))


def _only(run: FinishedRun, field: Between, value: str) -> FinishedRun:
    """The run as if it had been heard so alone; what tells the two apart is named away, so that they share their renderings."""
    scores = []
    for score in run.scores:
        if score.voice is None:
            scores.append(score)
        elif field == "condition" and score.perturbation == value:
            scores.append(replace(score, perturbation=BOTH))
        elif field == "voice" and score.voice == value:
            scores.append(replace(score, voice=BOTH))
    names = replace(run.report.names, run=f"{run.report.names.run or run.path.name} {field}={value}".strip())
    return replace(run, scores=scores, report=replace(run.report, names=names))


def compare(first: FinishedRun, second: FinishedRun) -> Comparison:
    """The second run less the first, on the items with the same id and the same question (context, choices and right answer).

    Both runs' columns are resampled together over the first one's groups, as often as its report says and by its seed, so what both
    find hard cancels. Domains are the first one's. A spoken column is the item's mean over the renderings that both runs have; where they
    have none in common, over each run's own.

    Raises ``UserInputError`` where no question is shared, or none of the shared ones is scored in both runs.
    """
    seed, n_resamples = first.report.seed, first.report.n_resamples
    columns = shared_columns(first.report, second.report)
    by_id_a, by_id_b = {item.id: item for item in first.items}, {item.id: item for item in second.items}
    common = by_id_a.keys() & by_id_b.keys()
    same = {id_ for id_ in common if question(by_id_a[id_]) == question(by_id_b[id_])}
    if not same:
        raise UserInputError(
            f"nothing to compare: of {len(by_id_a)} items in the first run and {len(by_id_b)} in the second, "
            f"{len(common)} share an id "
            "and none of these asks the same question. Compare runs of the same task, split and data revision."
        )
    heard_a, heard_b = _renderings(first.scores), _renderings(second.scores)
    renderings = heard_a & heard_b
    scores_a, scores_b = (_heard_so(run.scores, renderings) for run in (first, second))
    values_a, groups, domains = _values(first.items, scores_a, same, columns)
    values_b, _, _ = _values(second.items, scores_b, same, columns)
    ids = sorted(values_a.keys() & values_b.keys())
    if not ids:
        raise UserInputError(
            f"nothing to compare: {len(same)} questions are shared, but none has a score in every column of both runs. "
            "Look at the rejects of both reports."
        )
    table = np.array([np.concatenate([values_a[id_], values_b[id_]]) for id_ in ids])
    group_of = np.array([groups[id_] for id_ in ids])
    domain_of = np.array([domains[id_] for id_ in ids], dtype=object)

    def row(name: str, kind: str, members: np.ndarray) -> ComparisonRow:
        return _row(
            name, table[members], group_of[members], columns, row_seed(seed, "compare", kind, name), n_resamples
        )

    name_a, name_b = names_of([first, second])
    rows = [row(name, "domain", domain_of == name) for name in sorted(set(domain_of))]
    q_values = benjamini_hochberg([domain.gap.p_value for domain in rows])
    return Comparison(
        name_a=name_a or "first",
        name_b=name_b or "second",
        signature_a=first.report.signature,
        signature_b=second.report.signature,
        seed=seed,
        n_resamples=n_resamples,
        n_shared=len(ids),
        n_only_a=len(by_id_a.keys() - common),
        n_only_b=len(by_id_b.keys() - common),
        n_changed=len(common) - len(same),
        n_unscored=len(same) - len(ids),
        overall=row(OVERALL, "overall", np.ones(len(ids), dtype=bool)),
        domains=tuple(replace(domain, q_value=q) for domain, q in zip(rows, q_values, strict=True)),
        unlike=_unlike(first.report, second.report, columns, heard_a, heard_b),
        renderings=tuple(sorted(renderings)),
        flips=_flips(scores_a, scores_b, set(ids)),
    )


def shared_columns(report_a: GapReport, report_b: GapReport) -> tuple[ColumnName, ...]:
    """The columns that both reports have, in the report's order; never without the three that a gap is made of."""
    first, second = ({column.name for column in report.columns} for report in (report_a, report_b))
    return tuple(column for column in COLUMNS if column in first & second)


def question(item: Item) -> tuple[str, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """What makes two items the same question: what is asked, the options, and what counts as right."""
    return item.context, item.choices, item.golds, item.answers


def _values(
    items: Sequence[Item], scores: Sequence[Score], ids: set[str], columns: Sequence[ColumnName]
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """Item-level values (n_columns,), group and domain of the items among ``ids`` that are scored in every column."""
    paired, _ = pair(
        [item for item in items if item.id in ids],
        [score for score in scores if score.item_id in ids and score.column in columns],
        columns,
    )
    if not paired.items:
        return {}, {}, {}
    left, values = item_values(paired, np.ones(len(paired.item_of), dtype=bool))
    kept = [paired.items[position] for position in left]
    return (
        {item.id: row for item, row in zip(kept, values, strict=True)},
        {item.id: item.group for item in kept},
        {item.id: item.domain for item in kept},
    )


def _row(
    name: str,
    table: np.ndarray,
    groups: np.ndarray,
    columns: Sequence[ColumnName],
    seed: np.random.SeedSequence,
    n_resamples: int,
) -> ComparisonRow:
    """``table``: (n_items, 2 * n_columns), A's columns and then B's."""
    interval_seed, *flip_seeds = seed.spawn(2 + len(columns))
    clusters = cluster_sums(table, groups)
    plain = {column: tuple(float(column == other) for other in columns) for column in columns}
    gap = tuple(t - s for t, s in zip(plain["base_text"], plain["adapted_speech"], strict=True))
    weights: dict[str, tuple[float, ...]] = {**{str(column): w for column, w in plain.items()}, GAP: gap}
    measures = [Measure(key, (*(-w for w in combination), *combination)) for key, combination in weights.items()]
    found = resample(clusters, measures, seed=interval_seed, n_resamples=n_resamples)
    means_a, means_b = np.split(clusters.means, 2)
    changes = {}
    for (key, combination), measure, resampled, flip_seed in zip(
        weights.items(), measures, found, flip_seeds, strict=True
    ):
        changes[key] = ColumnChange(
            first=float(np.dot(combination, means_a)),
            second=float(np.dot(combination, means_b)),
            difference=resampled.estimate,
            p_value=sign_flip_p_value(
                clusters.sums @ np.array(measure.weights), seed=flip_seed, n_resamples=n_resamples
            ),
        )
    return ComparisonRow(
        name=name,
        n_items=clusters.n_items,
        n_groups=clusters.n_groups,
        columns={column: changes[column] for column in columns},
        gap=changes[GAP],
        q_value=None,
    )


def _unlike(
    a: GapReport, b: GapReport, columns: Sequence[ColumnName], heard_a: set[Rendered], heard_b: set[Rendered]
) -> tuple[str, ...]:
    """What the runs differ in, the weightiest first."""
    said = []
    if a.split != b.split:
        said.append(f"The runs are of different splits: {a.split} and {b.split}.")
    if heard_a != heard_b:
        used = (
            "Spoken columns are over what both have."
            if heard_a & heard_b
            else "Spoken columns are over each run's own."
        )
        alone = (("first", heard_a - heard_b), ("second", heard_b - heard_a))
        only = "; ".join(f"only the {which} has {_listed(renderings)}" for which, renderings in alone if renderings)
        said.append(f"The runs differ in their renderings: {only}. {used}")
    left_out = [
        column
        for column in COLUMNS
        if column not in columns and any(spec.name == column for report in (a, b) for spec in report.columns)
    ]
    if left_out:
        said.append(f"Not in both runs, so not compared: {', '.join(left_out)}.")
    tasks_b = {protocol.task: protocol for protocol in b.protocols}
    for protocol in a.protocols:
        other = tasks_b.get(protocol.task)
        said += [
            f"Task {protocol.task} has another {words}: {getattr(protocol, key)} and {getattr(other, key)}."
            for key, words in _ASKED.items()
            if other is not None and getattr(protocol, key) != getattr(other, key)
        ]
    systems_b = {spec.name: spec for spec in b.columns}
    others = [
        spec.name
        for spec in a.columns
        if (theirs := systems_b.get(spec.name)) is not None
        and (theirs.system, theirs.fingerprint) != (spec.system, spec.fingerprint)
    ]
    if others:
        said.append(f"Another system answers in {', '.join(others)}.")
    return tuple(said)


_ASKED = {
    "data_revision": "revision of its data", "speak": "spoken part", "shots": "number of shots", "spoken_shots": "form of shots",
    "score": "score", "options": "list of options", "metric": "measure",
}  # fmt: skip
BOTH = "(either)"  # stands for the voice or condition that two halves of one run differ in


def _heard_so(scores: Sequence[Score], renderings: set[Rendered]) -> Sequence[Score]:
    """The scores of what was read, and of what was heard in these renderings; all where there are none."""
    if not renderings:
        return scores
    return [score for score in scores if score.voice is None or (score.voice, score.perturbation) in renderings]


def _flips(scores_a: Sequence[Score], scores_b: Sequence[Score], ids: set[str]) -> tuple[Flip, ...]:
    """The renderings that both runs have and one alone understands."""

    def right(scores: Sequence[Score]) -> dict[tuple[str, str, str], bool]:
        return {
            (score.item_id, score.voice or "", score.perturbation or ""): score.value >= RIGHT
            for score in scores
            if score.column == "adapted_speech" and score.value is not None and score.item_id in ids
        }

    before, after = right(scores_a), right(scores_b)
    return tuple(
        Flip(*key, won=after[key]) for key in sorted(before.keys() & after.keys()) if before[key] != after[key]
    )


def _renderings(scores: Sequence[Score]) -> set[Rendered]:
    return {
        (score.voice, score.perturbation)
        for score in scores
        if score.voice is not None and score.perturbation is not None
    }


def _listed(renderings: set[Rendered]) -> str:
    return ", ".join(f"{voice} ({perturbation})" for voice, perturbation in sorted(renderings))
