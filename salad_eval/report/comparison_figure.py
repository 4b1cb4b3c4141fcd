"""The figure of a comparison: accuracy by ear in the first run and in the second, domain by domain, with the text LLM as the mark
to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from salad_eval.gap.compare import Comparison, ComparisonRow
from salad_eval.report.figures import (
    COLUMN_COLOURS,
    COLUMN_MARKERS,
    INK,
    STYLE,
    RenderedFigure,
    legend,
    line_axes,
    line_label,
    rendered,
    traced,
)
from salad_eval.report.wording import COLUMN_TITLES, percent, signed, stands_out
from salad_eval.types import ColumnName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPEECH: ColumnName = "adapted_speech"
TEXT: ColumnName = "base_text"


def comparison_figure(comparison: Comparison) -> RenderedFigure:
    """PNG and SVG. Domains stand in the order of the first run's gap, the largest on top; ``*`` marks q < 0.05 of its change."""
    import matplotlib

    speech = comparison.overall.columns[SPEECH]
    alt = (
        f"Accuracy by ear by domain, first run and second. Overall {percent(speech.first)}% and {percent(speech.second)}%, "
        f"gap {percent(comparison.overall.gap.first)} and {percent(comparison.overall.gap.second)} points."
    )
    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        return rendered("comparison", "Before and after", alt, _figure(comparison))


def _figure(comparison: Comparison) -> Figure:
    rows = [*sorted(comparison.domains, key=lambda row: (-row.gap.first, row.name)), comparison.overall]
    print_ = "\n".join(
        (
            "first: " + traced(comparison.n_shared, comparison.signature_a),
            "second: " + traced(comparison.n_shared, comparison.signature_b),
        )
    )
    figure, axes = line_axes([_label(row) for row in rows], "Accuracy by ear, before and after", print_)
    colour = COLUMN_COLOURS[SPEECH]
    lowest = 1.0
    for line, row in enumerate(rows):
        before, after, goal = row.columns[SPEECH].first, row.columns[SPEECH].second, row.columns[TEXT].second
        lowest = min(lowest, before, after, goal)
        axes.plot([100 * before, 100 * after], [line, line], color=colour, linewidth=3, alpha=0.35, zorder=2)
        axes.plot([100 * before], [line], "o", color=colour, markerfacecolor="white", markersize=6, zorder=4)
        axes.plot([100 * after], [line], "o", color=colour, markersize=6, zorder=5)
        axes.plot([100 * goal], [line], COLUMN_MARKERS[TEXT], color=COLUMN_COLOURS[TEXT], markersize=5, zorder=3)
        axes.annotate(
            signed(row.columns[SPEECH].difference.value),
            (100 * (before + after) / 2, line),
            xytext=(0, 4.5),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=INK,
        )
    axes.set_xlim(max(0, 10 * int(10 * lowest) - 5), 102)  # points, not bars: the axis need not begin at 0
    axes.set_xlabel("accuracy, % of items (numbers: change in points; * q < 0.05 for the change of the gap)")
    legend(
        figure,
        [
            axes.plot([], [], "o", color=colour, markerfacecolor="white", label="by ear, first run", markersize=6)[0],
            axes.plot([], [], "o", color=colour, label="by ear, second run", markersize=6)[0],
            axes.plot([], [], COLUMN_MARKERS[TEXT], color=COLUMN_COLOURS[TEXT], label=COLUMN_TITLES[TEXT])[0],
        ],
    )
    return figure


def _label(row: ComparisonRow) -> str:
    return line_label(row.name, row.n_items, stands_out(row))
