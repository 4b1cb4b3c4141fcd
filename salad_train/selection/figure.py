"""The picture of a selection: each cluster's share of the corpus beside its share of what will be spoken."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from salad_eval.report.figures import (
    GREY,
    INK,
    LIGHT,
    SMALL_PRINT_COLUMNS,
    SMALL_PRINT_PT,
    STYLE,
    WIDTH_IN,
    RenderedFigure,
    legend,
    rendered,
)
from salad_eval.report.wording import one_line, percent
from salad_train.selection.views import ClusterRow, cluster_rows, concentration, main_domain
from salad_train.types import Selection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEB_COLOUR, TARGET_COLOUR = "#BDBDBD", "#0072B2"
MOST_BARS = 32  # clusters that are shown by themselves; the others are one bar each way
ROW_IN, LABEL_SHARE = 0.3, 0.50  # of the width
NAME = "selection"


def selection_picture(selection: Selection) -> RenderedFigure:
    """The figure as PNG and SVG. Loads matplotlib."""
    import matplotlib

    alt = (
        f"Bars: each cluster's share of the corpus and of the target, largest target first. {concentration(selection)}"
    )
    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        return rendered(NAME, "What to speak next", alt, selection_figure(selection))


def selection_figure(selection: Selection) -> Figure:
    """Two bars a cluster, in percent: P_web in grey, P_target in colour; labelled by domain, terms and signal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = cluster_rows(selection)
    shown, rest = (rows, []) if len(rows) <= MOST_BARS + 1 else (rows[:MOST_BARS], rows[MOST_BARS:])
    bars = [(_label(row), row.weight.web, row.weight.target, row.weight.excluded is not None) for row in shown]
    if rest:
        web, target = (math.fsum(getattr(row.weight, name) for row in rest) for name in ("web", "target"))
        bars.append((f"{len(rest)} other clusters together", web, target, False))
    small = textwrap.wrap(selection.signature.replace("|", " | "), width=SMALL_PRINT_COLUMNS, break_on_hyphens=False)
    foot = 0.12 + 0.105 * len(small)
    height = 1.75 + ROW_IN * len(bars) + 0.105 * len(small)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        0.012, 0.05 / height, "\n".join(small), fontsize=SMALL_PRINT_PT - 0.4, color="#555555", va="bottom", linespacing=1.3,
    )  # fmt: skip
    axes = figure.add_axes(
        (LABEL_SHARE, (foot + 0.85) / height, 0.965 - LABEL_SHARE, 1 - (foot + 0.85 + 0.62) / height)
    )
    figure.text(0.012, 1 - 0.26 / height, "What to speak next", fontsize=11, fontweight="bold", va="center")
    figure.text(0.012, 1 - 0.47 / height, _subtitle(selection), fontsize=8, color="#555555", va="center")
    _bars(axes, bars)
    legend(
        figure,
        [
            axes.barh([0], [0], color=WEB_COLOUR, label="share of the corpus, P_web"),
            axes.barh([0], [0], color=TARGET_COLOUR, label="share of the speech to be made, P_target"),
        ],
    )
    return figure


def _bars(axes: Any, bars: Sequence[tuple[str, float, float, bool]]) -> None:
    for line, (_, web, target, excluded) in enumerate(bars):
        axes.barh(line - 0.2, 100 * web, height=0.34, color=WEB_COLOUR, zorder=2)
        axes.barh(line + 0.2, 100 * target, height=0.34, color=TARGET_COLOUR, zorder=2)
        if excluded:
            axes.text(100 * web, line + 0.2, " excluded", fontsize=7, color=GREY, va="center")
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=7.5)
    for text, (*_, excluded) in zip(axes.get_yticklabels(), bars, strict=True):
        text.set_color(GREY if excluded else INK)
    axes.set_xlabel("%")
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _label(row: ClusterRow) -> str:
    about = ", ".join(row.cluster.terms[:4])
    domain = main_domain(row.cluster)
    known = f"{domain}%: " if any(row.cluster.domains) else ""
    return f"{one_line(known + about, 58)}   [{row.weight.signal:.3g}]"


def _subtitle(selection: Selection) -> str:
    seconds = math.fsum(one.seconds for one in selection.documents if not one.reserve)
    excluded = math.fsum(weight.web for weight in selection.weights if weight.excluded)
    left_out = f"; {percent(excluded)}% of the corpus excluded" if excluded else ""
    return (
        f"signal {selection.signal} [in brackets], gamma {selection.gamma:g}, {len(selection.clusters)} clusters, "
        f"about {seconds:.0f} s of speech{left_out}. {concentration(selection)}"
    )
