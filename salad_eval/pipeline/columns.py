"""The columns of a run: whose system answers, and in what form it is asked. A further column is one more entry, once ``types`` has its name
(``ColumnName``, ``COLUMNS``, ``COLUMN_FORM``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
