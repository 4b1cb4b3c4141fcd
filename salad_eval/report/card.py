"""``card.png``: the report as one picture of 1200 × 630 pixels, the size that chats and pages show of a link."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from salad_eval.report.charts import ON_TOP_LAST, least_shown
from salad_eval.report.figures import (
    COLUMN_COLOURS,
    COLUMN_MARKERS,
    FORGETTING_COLOUR,
    GREY,
    LIGHT,
    MISALIGNMENT_COLOUR,
    STYLE,
)
from salad_eval.report.wording import COLUMN_WORDS, by_gap, found, models, one_line, percent, shown, stands_out
from salad_eval.types import COLUMNS, ColumnName, GapReport, GapRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 1200, 630, 100  # pixels
MOST_DOMAINS = 9
_LEFT, _RIGHT = 0.045, 0.955
_HEARD, _TRACK, _SOFT = "#f0c4a4", "#f1efea", "#5d5d66"
_SMALL_PRINT = 190  # characters of the signature that are shown


def card_png(report: GapReport) -> bytes:
    """The picture, as PNG. The same report gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for a letter the font lacks
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        rows = shown(report)
        _words(figure, report, rows.overall, rows.condition)
        _loss(figure, rows.overall)
        domains = by_gap(rows.domains)
        _domains(figure, [*domains[:MOST_DOMAINS], rows.overall], len(domains) - MOST_DOMAINS)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return png.getvalue()


def _words(figure: Figure, report: GapReport, row: GapRow, condition: str) -> None:
    tasks = ", ".join(protocol.task for protocol in report.protocols[:3]) + (" …" if len(report.protocols) > 3 else "")
    several = len(report.conditions) > 1
    place = [f"{tasks}, {report.split}", f"{row.n_items:,} items", condition if several else ""]
    figure.text(_LEFT, 0.925, one_line(" · ".join(part for part in place if part), 110), fontsize=13, color=_SOFT)
    title = one_line(models(report), 80)
    figure.text(_LEFT, 0.83, title, fontsize=min(30.0, 1500.0 / max(1, len(title))), fontweight="bold")
    figure.text(_LEFT, 0.75, one_line(found(report), 86), fontsize=21)
    figure.text(_LEFT, 0.022, one_line(report.signature, _SMALL_PRINT), fontsize=6.5, color=GREY)


def _loss(figure: Figure, row: GapRow) -> None:
    axes = _bare(figure, (_LEFT, 0.625, _RIGHT - _LEFT, 0.07))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    reads, hears = row.accuracy["base_text"].value, row.accuracy["adapted_speech"].value
    middle = row.accuracy["adapted_text"].value if "adapted_text" in row.accuracy else reads
    axes.barh(0.5, 1, height=1, color=_TRACK)
    axes.barh(0.5, hears, height=1, color=_HEARD)
    axes.barh(0.5, abs(middle - hears), left=min(hears, middle), height=1, color=MISALIGNMENT_COLOUR)
    axes.barh(0.5, abs(reads - middle), left=min(middle, reads), height=1, color=FORGETTING_COLOUR)
    for column in ("base_text", "base_transcript", "adapted_speech"):
        if column in row.accuracy:
            axes.axvline(row.accuracy[column].value, color=COLUMN_COLOURS[column], linewidth=2.5)
    parts = [f"heard {percent(hears)}"]
    if row.misalignment is not None and row.forgetting is not None:
        parts += [f"misaligned {percent(row.misalignment.value)}", f"forgotten {percent(row.forgetting.value)}"]
    colours = [_HEARD, MISALIGNMENT_COLOUR, FORGETTING_COLOUR]
    if "base_transcript" in row.accuracy:
        parts.append(f"cascade {percent(row.accuracy['base_transcript'].value)}")
    x = _LEFT
    for word, colour in zip(parts, [*colours[: len(parts) - 1], COLUMN_COLOURS["base_transcript"]], strict=False):
        figure.text(x, 0.575, "■", fontsize=13, color=colour)
        figure.text(x + 0.018, 0.575, word, fontsize=13)
        x += 0.035 + 0.0098 * len(word)


def _domains(figure: Figure, rows: Sequence[GapRow], n_hidden: int) -> None:
    axes = _bare(figure, (0.19, 0.125, _RIGHT - 0.19 - 0.06, 0.40))
    least = least_shown(rows)
    axes.set_xlim(least, 1.0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    beside = axes.get_yaxis_transform()  # x in parts of the width, y in lines
    for line, row in enumerate(rows):
        reads, hears = row.accuracy["base_text"].value, row.accuracy["adapted_speech"].value
        axes.plot([hears, reads], [line, line], color=LIGHT, linewidth=5, zorder=1, solid_capstyle="butt")
        for column in ON_TOP_LAST:
            if column in row.accuracy:
                _mark(axes, row.accuracy[column].value, line, column)
        style: dict[str, Any] = {"va": "center", "fontsize": 12, "fontweight": "bold" if row is rows[-1] else "normal"}
        name = one_line(row.name, 18) + (" *" if stands_out(row) else "")
        axes.text(-0.015, line, name, transform=beside, ha="right", **style)
        axes.text(1.07, line, percent(row.gap.value), transform=beside, ha="right", **style)
    axes.text(1.07, -1.0, "gap", transform=beside, ha="right", va="center", fontsize=11, color=_SOFT)
    x = _LEFT
    for column in [column for column in COLUMNS if column in rows[-1].accuracy]:
        _mark(axes, x + 0.006, 0.077, column, transform=figure.transFigure)
        figure.text(x + 0.018, 0.068, COLUMN_WORDS[column], fontsize=12)
        x += 0.045 + 0.009 * len(COLUMN_WORDS[column])
    more = f"{n_hidden} more domains; " if n_hidden > 0 else ""
    figure.text(_RIGHT, 0.068, f"{more}* q < 0.05", fontsize=11, color=_SOFT, ha="right")


def _mark(axes: Axes, x: float, y: float, column: ColumnName, **where: Any) -> None:
    axes.plot([x], [y], COLUMN_MARKERS[column], color=COLUMN_COLOURS[column], markersize=7, clip_on=False, **where)


def _bare(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    axes = figure.add_axes(place)
    axes.set_axis_off()
    return axes
