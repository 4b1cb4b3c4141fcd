"""From scores to the gap report: the same items in every column, paired, per domain and slice. Pure functions.

Definitions (PAPER: Cuervo et al. 2025, arXiv 2510.13632; positive is worse):

- gap = base_text - adapted_speech
- forgetting = base_text - adapted_text
- misalignment = adapted_text - adapted_speech, so that gap = forgetting + misalignment on every row
- cascade_loss = base_text - base_transcript

Without the column adapted_text (results made elsewhere may lack it) the gap is not split: forgetting and misalignment are
``None``, and the two causes of the taxonomy that it tells apart are one.

An item's value in a spoken column is its mean over renderings (voice x perturbation); every item weighs the same in a
row. ``overall`` is over all items (micro average), not the mean of the domains.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from salad_eval.errors import SaladError, UserInputError, did_you_mean
from salad_eval.gap.consistency import agreement
from salad_eval.gap.controls import ControlScores, control_rows
from salad_eval.gap.grid import clean_first, grid
from salad_eval.gap.pair import NO_VALUE, REQUIRED_COLUMNS, UNKNOWN_DOMAIN, Paired, pair
from salad_eval.gap.row import OVERALL, ReportRow, report_row
from salad_eval.gap.signature import RunProtocol, signature
from salad_eval.gap.stats import (
    benjamini_hochberg,
    row_seed,
    shrink,
)
from salad_eval.types import (
    COLUMNS,
    LOGPROB_SCORES,
    ColumnName,
    ColumnSpec,
    ConditionRows,
    Divergence,
    GapReport,
    GapRow,
    GridCell,
    Item,
    LeftOut,
    Reject,
    RejectCount,
    Score,
    ShownPrompt,
    SliceRow,
    TaskProtocol,
    Transcript,
)

SCHEMA_VERSION = "1.3"
MOST_GRID_VOICES = 24  # of more speakers a grid says nothing
MAX_REJECT_EXAMPLES = 5
CONDITION = ("condition", "perturbation")  # a slice by acoustic condition; the second is its earlier name


def build_report(
    asked: RunProtocol,
    items: Sequence[Item],
    scores: Sequence[Score],
    *,
    transcripts: Sequence[Transcript] = (),
    divergences: Sequence[Divergence] = (),
    rejects: Sequence[Reject] = (),
    notes: Sequence[str] = (),
    prompts: Sequence[ShownPrompt] = (),
    controls: Sequence[ControlScores] = (),
) -> GapReport:
    """The gap report of one run: ``overall`` (all items), ``domains`` (sorted by name) and ``slices``, on paired items.

    A voice's slice takes the spoken columns in that voice and the same items' text columns. ``base_text`` and ``adapted_speech`` are
    what a gap is made of; the other two may be absent from the columns, and what they would tell is then ``None``. q-values
    (Benjamini-Hochberg) and shrunken gaps are over the domains only. Where there are several conditions, everything and the domains
    stand for each of them as well, and where voices times conditions are several, each pair of them (up to ``MOST_GRID_VOICES``).

    Raises ``UserInputError`` for missing or repeated columns and unknown slice fields, ``DataError`` for unusable
    records (see ``pair``), and ``SaladError`` where no item has a value in every column.
    """
    names = _checked(asked, items)
    paired, unpaired = pair(
        items,
        [score for score in scores if score.column in names],
        names,
        transcripts=transcripts,
        divergences=divergences,
        already_rejected=frozenset(reject.item_id for reject in rejects),
    )
    counts = count_rejects((*rejects, *unpaired), items)
    _check_left(paired, items, names, counts)
    row = partial(_row, paired, asked, agreement(paired, scores))
    everything, conditions = np.ones(len(paired.item_of), bool), clean_first(paired.perturbations)
    return GapReport(
        schema_version=SCHEMA_VERSION,
        signature=signature(asked),
        created=asked.created,
        split=asked.split,
        seed=asked.seed,
        n_resamples=asked.n_resamples,
        protocols=asked.protocols,
        columns=tuple(sorted(asked.columns, key=lambda column: COLUMNS.index(column.name))),
        overall=row("overall", OVERALL, everything).row,
        domains=_domain_rows(paired, partial(row, "domain"), everything),
        slices=_slices(paired, asked.slice_fields, row),
        rejects=counts,
        unparsed=_unparsed(scores, names),
        notes=tuple(notes),
        generated=_generated(items, scores, asked.protocols, names),
        names=asked.names,
        voices=tuple(sorted(set(paired.voices))),
        conditions=conditions,
        by_condition=_by_condition(paired, row, conditions) if len(conditions) > 1 else (),
        grid=_grid(paired, asked, row),
        prompts=tuple(prompts),
        left_out=_left_out(items, (*rejects, *unpaired), asked),
        controls=control_rows(paired, controls, seed=asked.seed, n_resamples=asked.n_resamples),
    )


def n_rows(items: Sequence[Item], slice_fields: Sequence[str], voices: Sequence[str], conditions: Sequence[str]) -> int:
    """How many rows a report of these items in these voices and conditions has. Each is resampled: a report takes as long as it has rows,
    and hardly longer of more items."""
    domains = len({item.domain for item in items})
    known = {
        "voice": len(voices),
        **dict.fromkeys(CONDITION, len(conditions)),
        "task": len({item.task for item in items}),
    }
    slices = sum(
        known[field] if field in known else len({item.fields.get(field, NO_VALUE) for item in items})
        for field in slice_fields
    )
    tasks = known["task"] if known["task"] > 1 else 0
    by_condition = len(conditions) * (1 + domains + tasks) if len(conditions) > 1 else 0
    cells = len(voices) * len(conditions) if _has_grid(len(voices), len(conditions)) else 0
    return 1 + domains + slices + by_condition + cells


def _has_grid(n_voices: int, n_conditions: int) -> bool:
    """Whether voices times conditions are several and not too many."""
    return n_voices * n_conditions > 1 and n_voices <= MOST_GRID_VOICES


def _left_out(items: Sequence[Item], rejects: Sequence[Reject], asked: RunProtocol) -> LeftOut:
    """Every question counts once, whatever it was rejected for."""
    known = {item.id for item in items}
    rejected = {reject.item_id for reject in rejects}
    n_rows = sum(protocol.n_rows for protocol in asked.protocols) or len(known | rejected)
    return LeftOut(n_rows, len(rejected - known), len(known), len(rejected & known), asked.most_rejected)


def _unparsed(scores: Sequence[Score], names: Sequence[ColumnName]) -> dict[ColumnName, int]:
    return {column: sum(not score.parsed for score in scores if score.column == column) for column in names}


def _check_left(
    paired: Paired, items: Sequence[Item], names: Sequence[ColumnName], counts: Sequence[RejectCount]
) -> None:
    if paired.items:
        return
    reasons = "; ".join(f"{count.step}: {count.reason} ({count.n})" for count in counts[:MAX_REJECT_EXAMPLES])
    raise SaladError(
        f"no item of {len(items)} has a value in every column ({', '.join(names)}). Rejects: {reasons or 'none recorded'}."
    )


def _row(
    paired: Paired, asked: RunProtocol, same: np.ndarray | None, kind: str, name: str, renderings: np.ndarray
) -> ReportRow:
    """The row of the renderings under a mask; ``kind`` and name seed its resampling."""
    seed = row_seed(asked.seed, kind, name)
    return report_row(paired, name, renderings, seed=seed, n_resamples=asked.n_resamples, agreement=same)


def _slices(
    paired: Paired, fields: Sequence[str], row: Callable[[str, str, np.ndarray], ReportRow]
) -> tuple[SliceRow, ...]:
    found = []
    for field in fields:
        labels = _labels(paired, field)
        field = CONDITION[0] if field in CONDITION else field
        found += [SliceRow(field, row(f"slice {field}", label, labels == label).row) for label in sorted(set(labels))]
    return tuple(found)


def _grid(paired: Paired, asked: RunProtocol, row: Callable[[str, str, np.ndarray], ReportRow]) -> tuple[GridCell, ...]:
    if not _has_grid(len(set(paired.voices)), len(set(paired.perturbations))):
        return ()
    return grid(paired, lambda name, mask: row("cell", name, mask).row, seed=asked.seed, n_resamples=asked.n_resamples)


def _domain_rows(
    paired: Paired, row: Callable[[str, np.ndarray], ReportRow], renderings: np.ndarray
) -> tuple[GapRow, ...]:
    """The rows of the domains, by name, over the renderings under a mask, with q-values and shrunken gaps over them."""
    domain_of = np.array([paired.items[position].domain for position in paired.item_of], dtype=object)
    domains = [row(name, renderings & (domain_of == name)) for name in sorted(set(domain_of[renderings]))]
    q_values = benjamini_hochberg([domain.row.p_value for domain in domains])
    shrunk = shrink([domain.row.gap.value for domain in domains], [domain.gap_error for domain in domains])
    return tuple(
        replace(domain.row, q_value=q, shrunk_gap=gap) for domain, q, gap in zip(domains, q_values, shrunk, strict=True)
    )


def _by_condition(
    paired: Paired, row: Callable[[str, str, np.ndarray], ReportRow], conditions: Sequence[str]
) -> tuple[ConditionRows, ...]:
    rows = []
    task_of = _labels(paired, "task")
    tasks = sorted(set(task_of))
    for condition in conditions:
        here = paired.perturbations == condition
        domains = _domain_rows(paired, partial(row, f"{condition} domain"), here)
        by_task = [row(f"{condition} task", name, here & (task_of == name)).row for name in tasks if len(tasks) > 1]
        rows.append(ConditionRows(condition, row(f"{condition} overall", OVERALL, here).row, domains, tuple(by_task)))
    return tuple(rows)


def _generated(
    items: Sequence[Item], scores: Sequence[Score], protocols: Sequence[TaskProtocol], columns: Sequence[ColumnName]
) -> dict[ColumnName, int]:
    """Scored answers that were read from a text, by column; empty where options were compared throughout."""
    generating = {protocol.task for protocol in protocols if protocol.score not in LOGPROB_SCORES}
    asked = {item.id for item in items if item.task in generating}
    counts = Counter(score.column for score in scores if score.item_id in asked and score.value is not None)
    return {column: counts[column] for column in columns if counts[column]}


def _checked(asked: RunProtocol, items: Sequence[Item]) -> tuple[ColumnName, ...]:
    """The columns, in their order."""
    _check_slice_fields(asked.slice_fields, items)
    return _checked_columns(asked.columns)


def _checked_columns(columns: Sequence[ColumnSpec]) -> tuple[ColumnName, ...]:
    given = [column.name for column in columns]
    for name in given:
        if name not in COLUMNS:
            raise UserInputError(
                f"columns: unknown column {name!r}{did_you_mean(name, COLUMNS)}. Known: {', '.join(COLUMNS)}."
            )
        if given.count(name) > 1:
            raise UserInputError(f"columns: {name!r} is given {given.count(name)} times; expected once.")
    missing = [name for name in REQUIRED_COLUMNS if name not in given]
    if missing:
        raise UserInputError(
            f"columns: {', '.join(missing)} missing; a gap needs {', '.join(REQUIRED_COLUMNS)} "
            "(base_transcript and adapted_text may be left out)."
        )
    return tuple(name for name in COLUMNS if name in given)


def _check_slice_fields(slice_fields: Sequence[str], items: Sequence[Item]) -> None:
    known = {"voice", *CONDITION, "task", *(key for item in items for key in item.fields)}
    for field in slice_fields:
        if field not in known:
            raise UserInputError(
                f"slice_fields: no item has the field {field!r}{did_you_mean(field, known)}. "
                f"Known: {', '.join(sorted(known))}."
            )


def _labels(paired: Paired, field: str) -> np.ndarray:
    """The value of a slice field for every rendering, object (n_renderings,)."""
    if field == "voice":
        return paired.voices
    if field in CONDITION:
        return paired.perturbations
    by_item = [item.task if field == "task" else item.fields.get(field, NO_VALUE) for item in paired.items]
    return np.array([by_item[position] for position in paired.item_of], dtype=object)


def count_rejects(rejects: Sequence[Reject], items: Sequence[Item]) -> tuple[RejectCount, ...]:
    """Rejects by step and reason, the most frequent first, with their domains and a few item ids."""
    domain_of = {item.id: item.domain for item in items}
    by_cause: dict[tuple[str, str], list[Reject]] = defaultdict(list)
    for reject in rejects:
        by_cause[reject.step, reject.reason].append(reject)
    counts = []
    for (step, reason), found in by_cause.items():
        domains = Counter(domain_of.get(reject.item_id, UNKNOWN_DOMAIN) for reject in found)
        examples = tuple(sorted({reject.item_id for reject in found})[:MAX_REJECT_EXAMPLES])
        counts.append(RejectCount(step, reason, len(found), dict(sorted(domains.items())), examples))
    return tuple(sorted(counts, key=lambda count: (-count.n, count.step, count.reason)))
