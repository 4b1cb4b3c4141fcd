"""Views of a gap report. They show what ``gap.build_report`` computed and compute nothing themselves.

``write_report`` puts all of them into a run directory; ``load_report`` reads one back; ``terminal_table`` is for rich.

    json.py              ``gap_report.json`` and back
    wording.py           titles, glossary, sentences, number formats of all views
    page.py              ``report.html``: what its template (reports/templates/report.html.j2) is given
    charts.py            its pictures, of ``svg``'s elements
    svg.py               elements of an SVG as escaped markup
    parts.py             style, scripts and policy that pages share
    templates.py         jinja2's environment for reports/templates/
    listing.py           which items and sound a page holds
    sound.py             the sound of a page
    pack.py              the items of a page, packed
    markdown.py          ``report.md``
    terminal.py          the table in a terminal
    figures.py           ``figures/*.png, *.svg``, by matplotlib
    inline.py            a figure of matplotlib in a page
    card.py              ``card.png``, to share
    comparison.py        two runs, as page, Markdown and table
    comparison_figure.py their picture
    published.py         another paper's figures beside ours, from presets/reported/
    items.py             items in a terminal, as CSV and Parquet
    board.py             a board of runs
    costs.py             what the columns cost, in words and cells
    estimate.py          what a run would take
    notebook.py          a report in a notebook
    controls.py          room for a gap, and whether it hears
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.records import write_atomic
from salad_eval.report.json import REPORT_FILE, load_report, save_report
from salad_eval.report.terminal import terminal_table
from salad_eval.types import GapReport

if TYPE_CHECKING:
    from salad_eval.audio.store import AudioStore
    from salad_eval.gap.items import RunRecords
    from salad_eval.report.listing import PageOptions

__all__ = ["ReportFiles", "load_report", "save_report", "terminal_table", "write_report"]


PAGE_FILE, CARD_FILE = "report.html", "card.png"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where ``write_report`` put things. ``figures`` are the PNG files; an SVG of the same name lies beside each."""

    json: Path
    markdown: Path
    html: Path
    card: Path
    figures: tuple[Path, ...]


def write_report(
    report: GapReport,
    out_dir: Path,
    records: RunRecords | None = None,
    *,
    store: AudioStore | None = None,
    options: PageOptions | None = None,
    home: Path | None = None,
) -> ReportFiles:
    """Write ``gap_report.json``, ``report.md``, ``report.html``, ``card.png`` and ``figures/*.png|svg`` into ``out_dir``, made where
    needed; ``home`` is where the run lies, if elsewhere. With ``records`` the page lists its items, with ``store`` their sound lies in
    ``sound/``, as ``options`` allow.

    Loads matplotlib. Raises ``DataError`` where the report does not fit its schema.
    """
    from salad_eval.report.card import card_png
    from salad_eval.report.figures import render_figures
    from salad_eval.report.listing import PageOptions, page_items
    from salad_eval.report.markdown import FIGURES_DIR, markdown_page
    from salad_eval.report.page import html_page

    out_dir = Path(out_dir)
    save_report(report, out_dir / REPORT_FILE)
    figures = render_figures(report)
    paths = []
    for figure in figures:
        write_atomic(out_dir / FIGURES_DIR / f"{figure.name}.svg", figure.svg)
        paths.append(out_dir / FIGURES_DIR / f"{figure.name}.png")
        write_atomic(paths[-1], figure.png)
    write_atomic(out_dir / "report.md", markdown_page(report, figures))
    write_atomic(out_dir / CARD_FILE, card_png(report))
    items = page_items(report, records, store, out_dir, options or PageOptions()) if records is not None else None
    write_atomic(out_dir / PAGE_FILE, html_page(report, items, home or out_dir))
    return ReportFiles(
        out_dir / REPORT_FILE, out_dir / "report.md", out_dir / PAGE_FILE, out_dir / CARD_FILE, tuple(paths)
    )
