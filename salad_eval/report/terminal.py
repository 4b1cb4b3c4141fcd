"""The gap report as a table for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salad_eval.report.costs import CostTable, cost_table
from salad_eval.report.wording import (
    by_gap,
    headline,
    interval,
    measure,
    nats,
    one_line,
    percent,
    printable,
    probability,
    shown,
    stands_out,
    unparsed_shares,
    value_of,
)
from salad_eval.types import COLUMNS, ColumnName, GapReport, GapRow

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

SHORT_TITLES: dict[ColumnName, str] = {
    "base_text": "\nreads",
    "base_transcript": "cas-\ncade",
    "adapted_text": "adapt\nreads",
    "adapted_speech": "\nhears",
}


def narrow_table(first: str, titles: Sequence[str]) -> Table:
    """An empty table within 80 columns: the first column gives way where there is no room, the others are numbers and stay whole."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


@dataclass(frozen=True, slots=True)
class FirstThatFits:
    """A rich renderable: the first of some tables, the widest first, that the terminal has room for without breaking a name; else the
    last."""

    tables: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement

        def needs(table: Table) -> int:
            return Measurement.get(console, options.update(max_width=10_000), table).maximum

        yield next((table for table in self.tables if needs(table) <= options.max_width), self.tables[-1])


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A rich renderable: the headline, one line a domain (largest gap first), the overall line, rejects, what the columns cost, and
    the signature.

    Names are shown as they are: rich's markup in them has no effect. Where there is no room WER and M are left out, then what the
    adapted model reads, which is what the base model reads less what was forgotten: so it fits 80 columns.
    """

    report: GapReport

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        report = self.report
        columns = [column for column in COLUMNS if column in report.overall.accuracy]
        yield Text(" ".join(headline(report)) + "\n")
        yield FirstThatFits(
            [
                _domains(report, columns, wide=True),
                _domains(report, columns, wide=False),
                _domains(report, without_adapted_text(columns), wide=False),
            ]
        )
        yield Text(_footnote(report), style="dim")
        if (costs := cost_table(report)) is not None:
            yield Text()
            yield _costs(costs)
            yield Text()
        yield to_copy(report.signature)


def without_adapted_text(columns: Sequence[ColumnName]) -> list[ColumnName]:
    return [column for column in columns if column != "adapted_text"]


def _domains(report: GapReport, columns: Sequence[ColumnName], *, wide: bool) -> Table:
    """``wide``: with WER and M."""
    from rich.text import Text

    accuracies = [SHORT_TITLES[column] for column in columns]
    titles = ["\nn", *accuracies, "\ngap", "\n95%", "for-\nget", "mis-\nalign", "\nq"]
    table = narrow_table("\ndomain", [*titles, "\nWER", "\nM"] if wide else titles)
    rows = shown(report)
    for row in by_gap(rows.domains):
        style = "bold" if stands_out(row) and row.gap.value > 0 else None
        table.add_row(*map(Text, _cells(row, columns, wide)), style=style)
    table.add_section()
    table.add_row(*map(Text, _cells(rows.overall, columns, wide)), style="bold")
    return table


def _costs(costs: CostTable) -> Table:
    """Titles that are wider than their numbers stand in two lines."""
    from rich.text import Text

    table = narrow_table("\ncost", [_in_two(printable(head)) for head in costs.heads])
    for title, cells in costs.titled():
        table.add_row(*map(Text, (title, *cells)))
    return table


def _in_two(title: str) -> str:
    first, space, rest = title.partition(" ")
    return f"{first}\n{rest}" if space else f"\n{title}"


def to_copy(text: str) -> Text:
    """A line that the terminal may wrap and rich does not break, so that it is copied whole; print it with ``crop=False``."""
    from rich.text import Text

    return Text(printable(text), style="dim", no_wrap=True, overflow="ignore")


def terminal_table(report: GapReport) -> ReportTable:
    """The report for ``rich.print`` or ``Console.print``."""
    return ReportTable(report)


def _cells(row: GapRow, columns: Sequence[ColumnName], wide: bool) -> list[str]:
    divergence = row.divergence_nats.misalignment if row.divergence_nats else None
    cells = [
        printable(row.name),
        str(row.n_items),
        *(percent(row.accuracy[column].value) for column in columns),
        percent(row.gap.value),
        interval(row.gap, digits=0),
        percent(value_of(row.forgetting)),
        percent(value_of(row.misalignment)),
        probability(row.q_value),
    ]
    return [*cells, percent(row.wer), nats(divergence)] if wide else cells


def _footnote(report: GapReport) -> str:
    rejects = "; ".join(f"{count.n} {count.step}: {one_line(count.reason)}" for count in report.rejects) or "none"
    unparsed = "; ".join(unparsed_shares(report))
    condition = f"In the condition {shown(report).condition}. " if shown(report).condition else ""
    lines = [
        f"{condition}Columns: {measure(report)}; columns, gaps and WER in percent; gap = forget + misalign; bold: gap at q < 0.05; "
        "M in nats a position.",
        f"Rejects: {rejects}." + (f" Unparsed answers, counted as wrong: {unparsed}." if unparsed else ""),
    ]
    return "\n".join(lines)
