"""``salad report`` and ``salad compare``: what was found, shown again and beside another run."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from salad_eval.types import GapReport


class ReportFormat(str, Enum):
    table = "table"
    html = "html"
    md = "md"
    json = "json"


def report_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a gap_report.json.")],
    format: Annotated[
        ReportFormat, typer.Option(help="What to show, or which files to write again.")
    ] = ReportFormat.table,
) -> None:
    """Show a report, or make its views again from gap_report.json."""
    import json

    from salad_eval.report import load_report, write_report
    from salad_eval.report.json import report_to_json

    report = load_report(folder)
    if format is ReportFormat.table:
        print_table(report)
    elif format is ReportFormat.json:
        print(json.dumps(report_to_json(report), ensure_ascii=False, indent=1))
    else:
        files = write_report(report, folder if folder.is_dir() else folder.parent)
        print(files.html if format is ReportFormat.html else files.markdown)


def compare_command(
    a: Annotated[Path, typer.Argument(help="The folder of a run.")],
    b: Annotated[Path, typer.Argument(help="The folder of another run on the same items.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder for comparison.html, comparison.md and the figure.")
    ] = None,
) -> None:
    """Compare two runs, paired on the items they share; differences are the second less the first."""
    from rich.console import Console

    from salad_eval.pipeline.finished import compare_runs
    from salad_eval.report.comparison import comparison_terminal, write_comparison

    found = compare_runs(a, b)
    Console().print(comparison_terminal(found))
    if out is not None:
        print(f"\npage: {write_comparison(found, out).html}")


def print_table(report: GapReport) -> None:
    from rich.console import Console

    from salad_eval.report import terminal_table

    Console().print(terminal_table(report))
