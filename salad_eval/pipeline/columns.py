"""The columns of a run: whose system answers, and in what form it is asked. A further column is one more entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from salad_eval.pipeline.folder import RunFolder
from salad_eval.types import ColumnName, InputForm

SystemRole = Literal["base", "adapted"]


@dataclass(frozen=True, slots=True)
class Column:
    name: ColumnName
    role: SystemRole
    form: InputForm


COLUMNS: tuple[Column, ...] = (
    Column("base_text", "base", "text"),
    Column("base_transcript", "base", "transcript"),
    Column("adapted_text", "adapted", "text"),
    Column("adapted_speech", "adapted", "speech"),
)


def seconds_of(folder: RunFolder) -> dict[ColumnName, float]:
    """Seconds a question of each column, as far as the run noted them; the ASR's share is in the cascade's."""
    steps = folder.state.steps
    found: dict[ColumnName, float] = {}
    for column in COLUMNS:
        parts = [f"respond.{column.name}", *(["transcribe"] if column.form == "transcript" else [])]
        took = [steps[part].seconds_a_unit if part in steps else None for part in parts]
        if None not in took:
            found[column.name] = sum(one for one in took if one is not None)
    return found
