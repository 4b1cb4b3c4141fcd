"""Views of a gap report. They show what ``gap.build_report`` computed and compute nothing themselves.

``write_report`` puts all of them into a run directory; ``load_report`` reads one back; ``terminal_table`` is for rich.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salad_eval.report.json import REPORT_FILE, load_report, save_report, write_atomic
from salad_eval.report.terminal import terminal_table
from salad_eval.types import GapReport

__all__ = ["ReportFiles", "load_report", "save_report", "terminal_table", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where ``write_report`` put things. ``figures`` are the PNG files; an SVG of the same name lies beside each."""

    json: Path
    markdown: Path
    html: Path
    figures: tuple[Path, ...]


def write_report(report: GapReport, out_dir: Path) -> ReportFiles:
    """Write ``gap_report.json``, ``report.md``, ``report.html`` and ``figures/*.png|svg`` into ``out_dir``, made where
    needed.

    Loads matplotlib. Raises ``DataError`` where the report does not fit its schema.
    """
    from salad_eval.report.figures import render_figures
    from salad_eval.report.html import html_page
    from salad_eval.report.markdown import FIGURES_DIR, markdown_page

    out_dir = Path(out_dir)
    save_report(report, out_dir / REPORT_FILE)
    figures = render_figures(report)
    paths = []
    for figure in figures:
        write_atomic(out_dir / FIGURES_DIR / f"{figure.name}.svg", figure.svg)
        paths.append(out_dir / FIGURES_DIR / f"{figure.name}.png")
        write_atomic(paths[-1], figure.png)
    write_atomic(out_dir / "report.md", markdown_page(report, figures))
    write_atomic(out_dir / "report.html", html_page(report, figures))
    return ReportFiles(out_dir / REPORT_FILE, out_dir / "report.md", out_dir / "report.html", tuple(paths))
