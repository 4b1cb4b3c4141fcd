"""What a question costs in each column: how people choose between a cascade and a speech LLM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from salad_eval.gap.items import RunRecords
from salad_eval.types import COLUMN_FORM, COLUMNS, ColumnName


@dataclass(frozen=True, slots=True)
class ColumnCost:
    """``seconds``: a question, by the clock of the machine that ran it, loading included; ``None`` where it was not noted.

    ``sound_seconds``: heard in all; 0.0 where the column reads. ``letters``: written in answers in all.
    """

    column: ColumnName
    n_questions: int
    seconds: float | None
    sound_seconds: float
    letters: int


def column_costs(records: RunRecords, seconds: Mapping[ColumnName, float]) -> tuple[ColumnCost, ...]:
    """One a column that has answers."""
    asked = Counter(response.column for response in records.responses)
    written: Counter[ColumnName] = Counter()
    for response in records.responses:
        written[response.column] += len(response.text or "")
    sound = sum(rendering.seconds for rendering in records.renderings)
    return tuple(
        ColumnCost(
            column, asked[column], seconds.get(column), 0.0 if COLUMN_FORM[column] == "text" else sound, written[column]
        )
        for column in COLUMNS
        if asked[column]
    )
