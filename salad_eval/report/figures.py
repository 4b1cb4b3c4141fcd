"""The report's figures, by matplotlib on the Agg canvas (no display, no pyplot state). Colours are Okabe and Ito's,
for all eyes.

Every figure carries the number of items and the signature in small print, so that it can be cut out and still be
traced.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from salad_eval.gap.pair import (
    CORRECT,
    FORGOTTEN,
    LOST_IN_ADAPTATION,
    LOST_IN_ALIGNMENT,
    LOST_IN_RENDERING,
    SPEECH_ONLY,
    WRONG_IN_TEXT,
)
from salad_eval.report.wording import (
    ACCURACY,
    COLUMN_TITLES,
    TAXONOMY_TITLES,
    by_gap,
    causes,
    measure,
    one_line,
    percent,
    stands_out,
    value_of,
)
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapReport, GapRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

INK, GREY, LIGHT, SMALL_PRINT_INK = "#222222", "#8a8a8a", "#e4e4e4", "#555555"
COLUMN_COLOURS: Mapping[ColumnName, str] = {
    "base_text": INK,
    "base_transcript": "#0072B2",
    "adapted_text": "#009E73",
    "adapted_speech": "#D55E00",
}
COLUMN_MARKERS: Mapping[ColumnName, str] = {
    "base_text": "s",
    "base_transcript": "D",
    "adapted_text": "^",
    "adapted_speech": "o",
}
FORGETTING_COLOUR, MISALIGNMENT_COLOUR = "#56B4E9", "#E69F00"
CAUSE_COLOURS: Mapping[str, str] = {
    CORRECT: "#009E73",
    LOST_IN_ALIGNMENT: "#D55E00",
    LOST_IN_ADAPTATION: "#D55E00",
    FORGOTTEN: "#56B4E9",
    LOST_IN_RENDERING: "#F0E442",
    WRONG_IN_TEXT: "#BDBDBD",
    SPEECH_ONLY: "#CC79A7",
}
WIDTH_IN = 8.6
ROW_IN = 0.34  # height of a domain's line
MARGIN_IN = 1.9  # title, axis, legend and small print of a figure of domain lines
DPI = 150
SMALL_PRINT_PT, SMALL_PRINT_COLUMNS = 6.0, 160  # what fits WIDTH_IN
MOST_LABELS = 24  # points of a scatter that are named; of more, those with the largest gaps
STYLE: Mapping[str, object] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 9.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a domain's name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "salad-gap",  # the same report gives the same bytes
    "svg.fonttype": "none",  # text as text, which pages show in their own ink
}


@dataclass(frozen=True, slots=True)
class RenderedFigure:
    """A figure as files: ``name`` is the file's stem, ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    png: bytes
    svg: bytes


def render_figures(report: GapReport) -> tuple[RenderedFigure, ...]:
    """All figures for which the report has data: WER and divergence are left out where they were not measured."""
    import matplotlib

    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        figures = [
            rendered("accuracy", _accuracy_title(report), _accuracy_alt(report), accuracy_figure(report)),
            rendered("decomposition", _gap_title(report), _gap_alt(report), decomposition_figure(report)),
            rendered("taxonomy", "Where answers are lost", _taxonomy_alt(report), taxonomy_figure(report)),
        ]
        if any(row.wer is not None for row in report.domains):
            figures.append(
                rendered(
                    "wer_misalignment",
                    "Is it the recognisability of the speech?",
                    "Scatter: word error rate of each domain against its misalignment.",
                    wer_figure(report),
                )
            )
        if any(row.divergence_nats is not None for row in report.domains):
            figures.append(
                rendered(
                    "divergence_gap",
                    "Does the divergence M predict the gap?",
                    "Scatter: cross-modal divergence M of each domain in nats against its gap.",
                    divergence_figure(report),
                )
            )
    return tuple(figures)


def rendered(name: str, title: str, alt: str, figure: Figure) -> RenderedFigure:
    png, svg = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for a letter the font lacks
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return RenderedFigure(name, title, alt, png.getvalue(), svg.getvalue())


# --- the five figures ------------------------------------------------------------------------------------------------


def accuracy_figure(report: GapReport) -> Figure:
    """Per domain: accuracy of the columns with intervals; a line joins text LLM and speech."""
    rows = [*by_gap(report.domains), report.overall]
    figure, axes = _domain_axes(report, rows, _accuracy_title(report), line_in=0.46)
    columns = [column for column in COLUMNS if column in report.overall.accuracy]
    offsets = [0.24 * (2 * place / (len(columns) - 1) - 1) for place in range(len(columns))]
    for line, row in enumerate(rows):
        first, last = row.accuracy["base_text"], row.accuracy["adapted_speech"]
        axes.plot(
            [100 * last.value, 100 * first.value],
            [line + offsets[-1], line + offsets[0]],
            color=LIGHT,
            linewidth=4,
            zorder=1,
        )
        for column, offset in zip(columns, offsets, strict=True):
            _point(axes, row.accuracy[column], line + offset, COLUMN_COLOURS[column], COLUMN_MARKERS[column])
    lowest = min(
        estimate.value if estimate.low is None else estimate.low for row in rows for estimate in row.accuracy.values()
    )
    axes.set_xlim(max(0, 10 * int(10 * lowest) - 5), 102)  # points, not bars: the axis need not begin at 0
    unit = "% of items" if measure(report) == ACCURACY else "%"
    axes.set_xlabel(f"{measure(report)}, {unit} (bars: 95% intervals)")
    handles = [
        axes.plot(
            [], [], COLUMN_MARKERS[column], color=COLUMN_COLOURS[column], label=COLUMN_TITLES[column], markersize=5
        )[0]
        for column in columns
    ]
    legend(figure, handles)
    return figure


def decomposition_figure(report: GapReport) -> Figure:
    """Per domain: forgetting and misalignment as bars, the gap as a point with its interval. Negative parts go left.

    The gap alone where it is not split.
    """
    rows = [*by_gap(report.domains), report.overall]
    figure, axes = _domain_axes(report, rows, _gap_title(report))
    parts = ((FORGETTING_COLOUR, "forgetting"), (MISALIGNMENT_COLOUR, "misalignment")) if _is_split(report) else ()
    for line, row in enumerate(rows):
        left, right = 0.0, 0.0
        for colour, name in parts:
            width = 100 * (value_of(getattr(row, name)) or 0.0)
            axes.barh(line, width, left=right if width >= 0 else left, height=0.62, color=colour, zorder=2)
            left, right = (left, right + width) if width >= 0 else (left + width, right)
        _point(axes, row.gap, line, INK, "o", size=4.5)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=3)
    axes.set_xlabel("percentage points lost against the text LLM (bars: 95% intervals of the gap; * q < 0.05)")
    handles = [
        *(axes.barh([0], [0], color=colour, label=name) for colour, name in parts),
        axes.plot([], [], "o", color=INK, label="gap", markersize=4.5)[0],
    ]
    legend(figure, handles)
    return figure


def taxonomy_figure(report: GapReport) -> Figure:
    """Per domain: share of items by cause, stacked to 100%."""
    rows = [*by_gap(report.domains), report.overall]
    figure, axes = _domain_axes(report, rows, "Where answers are lost")
    axes.grid(visible=False)
    for line, row in enumerate(rows):
        left = 0.0
        for cause in causes(row):
            share = 100 * row.taxonomy[cause]
            axes.barh(line, share, left=left, height=0.74, color=CAUSE_COLOURS[cause], edgecolor="white", linewidth=0.6)
            if share >= 6:
                axes.text(left + share / 2, line, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=INK)
            left += share
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of items, %")
    handles = [
        axes.barh([0], [0], color=CAUSE_COLOURS[cause], label=TAXONOMY_TITLES[cause])
        for cause in causes(report.overall)
    ]
    legend(figure, handles)
    return figure


def wer_figure(report: GapReport) -> Figure:
    """Domains by WER and misalignment (the gap, where it is not split): if bad synthesis made the gap, the points would rise to
    the right."""
    points = [(100 * row.wer, row.misalignment or row.gap, row) for row in report.domains if row.wer is not None]
    return _scatter(
        report,
        points,
        "Is it the recognisability of the speech?",
        "word error rate of the ASR, %",
        "misalignment, percentage points" if _is_split(report) else "gap, percentage points",
    )


def divergence_figure(report: GapReport) -> Figure:
    """Domains by cross-modal divergence M and gap."""
    points = [
        (row.divergence_nats.misalignment, row.gap, row) for row in report.domains if row.divergence_nats is not None
    ]
    return _scatter(
        report,
        points,
        "Does the divergence M predict the gap?",
        "divergence M, nats per scored text position",
        "gap, percentage points",
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _figure(height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def traced(n_items: int, signature: str) -> str:
    """The small print of a figure: how many items it rests on and how they were measured."""
    return f"n = {n_items} items · {signature}".replace("|", " | ")


def _small_print(figure: Figure, print_: str) -> float:
    """Put it at the foot, line by line; returns its height in inches."""
    lines = [
        line
        for paragraph in print_.split("\n")
        for line in textwrap.wrap(paragraph, width=SMALL_PRINT_COLUMNS, break_on_hyphens=False)
    ]
    figure.text(
        0.012,
        0.05 / figure.get_figheight(),
        "\n".join(lines),
        fontsize=5.6,
        color=SMALL_PRINT_INK,
        va="bottom",
        linespacing=1.3,
    )
    return 0.12 + 0.105 * len(lines)


def _domain_axes(report: GapReport, rows: Sequence[GapRow], title: str, line_in: float = ROW_IN) -> tuple[Figure, Axes]:
    labels = [_label(row) for row in rows]
    return line_axes(labels, title, traced(report.overall.n_items, report.signature), line_in)


def line_axes(labels: Sequence[str], title: str, print_: str, line_in: float = ROW_IN) -> tuple[Figure, Axes]:
    """A figure with one line a label, the first on top and the last (the sum of all) set off, with room for a legend and the
    small print."""
    figure = _figure(MARGIN_IN + line_in * len(labels))
    height = figure.get_figheight()
    foot = _small_print(figure, print_)
    axes = figure.add_axes((0.27, (foot + 0.85) / height, 0.70, 1 - (foot + 0.85 + 0.42) / height))
    axes.set_title(title, x=-0.37, ha="left")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.axhline(len(labels) - 1.5, color=GREY, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.grid(axis="x", color=LIGHT, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _label(row: GapRow) -> str:
    return line_label(row.name, row.n_items, stands_out(row))


def line_label(name: str, n_items: int, starred: bool) -> str:
    return f"{one_line(name, 22)}{' *' if starred else ''}  (n={n_items})"


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    height = figure.get_figheight()
    foot = 0.12 + 0.105 * len(figure.texts[0].get_text().split("\n"))
    figure.legend(
        handles=list(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, foot / height),
        ncols=min(6, len(handles)),
        frameon=False,
        fontsize=8,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _point(axes: Axes, estimate: Estimate, line: float, colour: str, marker: str, size: float = 4.5) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.plot([100 * estimate.low, 100 * estimate.high], [line, line], color=colour, linewidth=1.3, zorder=4)
    axes.plot([100 * estimate.value], [line], marker, color=colour, markersize=size, zorder=5)


def _scatter(
    report: GapReport, points: Sequence[tuple[float, Estimate, GapRow]], title: str, x_label: str, y_label: str
) -> Figure:
    figure = _figure(5.4)
    height = figure.get_figheight()
    foot = _small_print(figure, traced(report.overall.n_items, report.signature))
    axes = figure.add_axes((0.09, (foot + 0.55) / height, 0.88, 1 - (foot + 0.55 + 0.42) / height))
    axes.set_title(title)
    axes.grid(color=LIGHT, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for x, estimate, row in points:
        colour = COLUMN_COLOURS["adapted_speech"] if stands_out(row) else GREY
        if estimate.low is not None and estimate.high is not None:
            axes.plot(
                [x, x], [100 * estimate.low, 100 * estimate.high], color=colour, linewidth=1.0, alpha=0.45, zorder=2
            )
        axes.plot([x], [100 * estimate.value], "o", color=colour, markersize=5.5, zorder=3)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.set_xlabel(f"{x_label}   (a point a domain; orange: q < 0.05; bars: 95% intervals)")
    axes.set_ylabel(y_label)
    _name_points(figure, axes, points)
    return figure


def _name_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, Estimate, GapRow]]) -> None:
    """Write names beside the points, each at the free place nearest to its point (greedy; no two names overlap if it
    can be had)."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    canvas: FigureCanvasAgg = figure.canvas  # type: ignore[assignment]
    renderer = canvas.get_renderer()
    named = sorted(points, key=lambda point: -abs(point[2].gap.value))[:MOST_LABELS]
    # Points must not be covered by names either: each takes a small box in display pixels.
    centres = [axes.transData.transform((x, 100 * estimate.value)) for x, estimate, _ in points]
    taken = [Bbox.from_extents(cx - 4, cy - 4, cx + 4, cy + 4) for cx, cy in centres]
    frame = axes.get_window_extent(renderer)
    places = [(dx, dy) for reach in (7, 14, 22, 32) for dx, dy in _around(reach)]
    scale = figure.dpi / 72  # pixels a point
    for x, estimate, row in named:
        text = axes.annotate(
            one_line(row.name, 22),
            (x, 100 * estimate.value),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7.5,
            zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        size = text.get_window_extent(renderer)
        centre_x, centre_y = axes.transData.transform((x, 100 * estimate.value))
        options = []
        for rank, (dx, dy) in enumerate(places):
            left = centre_x + scale * dx - {1: 0.0, 0: 0.5, -1: 1.0}[_sign(dx)] * size.width
            below = centre_y + scale * dy - {1: 0.0, 0: 0.5, -1: 1.0}[_sign(dy)] * size.height
            box = Bbox.from_bounds(left, below, size.width, size.height)
            outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
            options.append((10 * sum(box.overlaps(other) for other in taken) + 25 * outside, rank, dx, dy, box))
        _, _, dx, dy, box = min(options, key=lambda option: option[:2])
        text.set_position((dx, dy))
        text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
        text.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
        taken.append(box)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _around(reach: float) -> list[tuple[float, float]]:
    near = 0.6 * reach
    return [
        (reach, 0),
        (-reach, 0),
        (near, near),
        (near, -near),
        (-near, near),
        (-near, -near),
        (0, reach),
        (0, -reach),
    ]


# --- alternative texts -----------------------------------------------------------------------------------------------


def _accuracy_title(report: GapReport) -> str:
    return f"{_capital(measure(report))} by reading and by ear"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _accuracy_alt(report: GapReport) -> str:
    shown = [
        f"{COLUMN_TITLES[column]} {percent(report.overall.accuracy[column].value)}%"
        for column in report.overall.accuracy
    ]
    return f"{_capital(measure(report))} by domain with intervals. Overall: {', '.join(shown)}."


def _is_split(report: GapReport) -> bool:
    return report.overall.forgetting is not None


def _gap_title(report: GapReport) -> str:
    return "Gap = forgetting + misalignment" if _is_split(report) else "Gap"


def _gap_alt(report: GapReport) -> str:
    row = report.overall
    if row.forgetting is None or row.misalignment is None:
        return f"Gap by domain. Overall {percent(row.gap.value)} points."
    return (
        f"Gap by domain, split into forgetting and misalignment. Overall {percent(row.gap.value)} points: "
        f"forgetting {percent(row.forgetting.value)}, misalignment {percent(row.misalignment.value)}."
    )


def _taxonomy_alt(report: GapReport) -> str:
    shares = [
        f"{TAXONOMY_TITLES[cause]} {percent(report.overall.taxonomy[cause])}%" for cause in causes(report.overall)
    ]
    return f"Share of items by cause, by domain. Overall: {', '.join(shares)}."
