"""Figures that others report, printed beside ours for the presets that repeat their comparison. They are never mixed with ours.

They stand in ``presets/reported/``, in percent as they were printed, with their source; here they are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from salad_eval.errors import DataError
from salad_eval.report.wording import COLUMN_TITLES, MISSING, one_line, percent
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapReport, GapRow
from salad_eval.validation import parse, read_table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_FOLDER = Path(__file__).resolve().parents[1] / "presets" / "reported"
MEAN, GAP = "mean", "gap"  # of a reported system, beside its benchmarks


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reported(_Typed):
    """What one source reports. ``systems``: percent by benchmark, and their ``mean`` and ``gap`` where it gives them.

    ``benchmarks``: the tasks of ours that ask them, in order of preference. ``presets``: which system stands beside which column.
    ``taken_from``: where the figures were read, if not in the source itself.
    """

    source: str
    taken_from: str
    protocol: str
    benchmarks: dict[str, list[str]]
    systems: dict[str, dict[str, Annotated[float | int, Field(ge=-100, le=100)]]]
    presets: dict[str, dict[ColumnName, str]]


@dataclass(frozen=True, slots=True)
class Beside:
    """One cell: our estimate, or ``None`` where the report has none, and the reported fraction, or ``None`` where none is reported."""

    ours: Estimate | None
    reported: float | None


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """A benchmark, or the mean over all: accuracy by column, and the gap. ``task``: which of ours asked it; ``None``: not in the report."""

    benchmark: str
    task: str | None
    columns: Mapping[ColumnName, Beside]
    gap: Beside


@dataclass(frozen=True, slots=True)
class ReportedTable:
    """Our figures and the reported ones by benchmark; a rich renderable. ``systems`` names what is reported for each column."""

    preset: str
    source: str
    taken_from: str
    protocol: str
    systems: Mapping[ColumnName, str]
    rows: tuple[ReportedRow, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown = [column for column in COLUMNS if column in self.systems]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("\nbenchmark")
        for title in [*(COLUMN_TITLES[column] for column in shown), "Gap"]:
            table.add_column(f"{title}\nours", justify="right", no_wrap=True)
            table.add_column("\nreported", justify="right", no_wrap=True, style="dim")
        for row in self.rows:
            cells = [cell for column in shown for cell in _cells(row.columns[column])]
            table.add_row(*map(Text, [one_line(row.benchmark), *cells, *_cells(row.gap)]))
        yield table
        yield Text(self.footnote(), style="dim")

    def footnote(self) -> str:
        systems = "; ".join(
            f"{COLUMN_TITLES[column]}: {self.systems[column]}" for column in COLUMNS if column in self.systems
        )
        return (
            f"Percent. Reported, not ours: {self.source} ({self.taken_from}). {systems}. Its protocol: {self.protocol}. Voices, shots and "
            "prompts differ from ours, so that a difference between the two is no finding."
        )


@cache
def reported_sources() -> tuple[Reported, ...]:
    """Everything that ships with the package. Raises ``DataError`` for a file that contradicts itself."""
    found = []
    for path in sorted(_FOLDER.glob("*.yaml")):
        source = parse(Reported, read_table(path, "table of reported figures", "reinstall the package"), str(path))
        _check(source, path)
        found.append(source)
    return tuple(found)


def _check(source: Reported, path: Path) -> None:
    for system, figures in source.systems.items():
        if unknown := set(figures) - set(source.benchmarks) - {MEAN, GAP}:
            raise DataError(
                f"{path}: systems.{system} has a figure for {min(unknown)!r}, which is none of its benchmarks."
            )
    for preset, columns in source.presets.items():
        if unknown := set(columns.values()) - set(source.systems):
            raise DataError(
                f"{path}: presets.{preset} names the system {min(unknown)!r}, of which nothing is reported."
            )


def reported_beside(report: GapReport, preset: str) -> ReportedTable | None:
    """What is reported for a preset, beside ``report``; ``None`` where nothing is.

    A benchmark that the report did not ask has its reported figures alone. The mean of ours is over benchmarks, as the reported one is,
    and there only where all of them were asked.
    """
    source = next((one for one in reported_sources() if preset in one.presets), None)
    if source is None:
        return None
    systems = source.presets[preset]
    by_task = _rows_by_task(report)
    rows = []
    for benchmark, tasks in source.benchmarks.items():
        task = next((name for name in tasks if name in by_task), None)
        rows.append(_row(source, systems, benchmark, task, by_task[task] if task is not None else None))
    return ReportedTable(
        preset, source.source, source.taken_from, source.protocol, systems, (*rows, _mean_row(source, systems, rows))
    )


def _rows_by_task(report: GapReport) -> dict[str, GapRow]:
    """The report's row of each task: its slices, or everything where there is but one task."""
    if len(report.protocols) == 1:
        return {report.protocols[0].task: report.overall}
    return {part.row.name: part.row for part in report.slices if part.field == "task"}


def _figure(source: Reported, system: str | None, name: str) -> float | None:
    value = source.systems[system].get(name) if system is not None else None
    return value / 100 if value is not None else None


def _row(
    source: Reported, systems: Mapping[ColumnName, str], benchmark: str, task: str | None, ours: GapRow | None
) -> ReportedRow:
    columns = {
        column: Beside(ours.accuracy.get(column) if ours else None, _figure(source, system, benchmark))
        for column, system in systems.items()
    }
    text, speech = (columns[c].reported if c in columns else None for c in ("base_text", "adapted_speech"))
    gap = text - speech if text is not None and speech is not None else None
    return ReportedRow(benchmark, task, columns, Beside(ours.gap if ours else None, gap))


def _mean_row(source: Reported, systems: Mapping[ColumnName, str], rows: list[ReportedRow]) -> ReportedRow:
    columns = {
        column: Beside(_mean([row.columns[column].ours for row in rows]), _figure(source, system, MEAN))
        for column, system in systems.items()
    }
    gap = Beside(_mean([row.gap.ours for row in rows]), _figure(source, systems.get("adapted_speech"), GAP))
    return ReportedRow(MEAN, None, columns, gap)


def _mean(estimates: list[Estimate | None]) -> Estimate | None:
    """The plain mean over benchmarks; without an interval, which would need their errors to be put together."""
    values = [estimate for estimate in estimates if estimate is not None]
    if not values or len(values) < len(estimates):
        return None
    return Estimate(sum(one.value for one in values) / len(values), None, None, sum(one.n for one in values))


def _cells(beside: Beside) -> tuple[str, str]:
    ours = percent(beside.ours.value) if beside.ours is not None else MISSING
    return ours, percent(beside.reported)
