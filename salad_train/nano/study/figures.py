"""The study's figures, in the style of the gap report's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from salad_eval.report.figures import GREY, INK, LIGHT, STYLE, WIDTH_IN, RenderedFigure, rendered
from salad_eval.types import Estimate
from salad_train.nano.study.analysis import ArmResult, Curve
from salad_train.nano.study.plan import BREADTHS, SIGNALS, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNAL_COLOURS = dict(zip(SIGNALS, (GREY, "#0072B2", "#56B4E9", "#D55E00", "#009E73"), strict=True))
ALPHA_COLOURS = ("#000000", "#CC79A7", "#E69F00", "#56B4E9", "#0072B2")


def figures(records: Sequence[Record], curves: Sequence[Curve], budget_arms: Sequence[ArmResult],
            gamma_arms: Sequence[ArmResult], cluster_arms: Sequence[ArmResult]) -> tuple[RenderedFigure, ...]:  # fmt: skip
    """Those for which there are runs."""
    import matplotlib

    found = []
    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        if budget_arms:
            found.append(rendered("budgets", "Speech accuracy by budget", "Test accuracy by ear against seconds of made speech, a line "
                                  "a signal, with 95% intervals over seeds.", _arms_figure(budget_arms, "budget_seconds",
                                  "made speech, seconds (log scale)", log=True)))  # fmt: skip
        if gamma_arms:
            found.append(
                rendered(
                    "gamma", "The exponent γ", "Test accuracy by ear against γ.", _arms_figure(gamma_arms, "gamma", "γ")
                )
            )
        if cluster_arms:
            found.append(rendered("clusters", "The number of clusters", "Test accuracy by ear against K.",
                                  _arms_figure(cluster_arms, "clusters", "clusters K (log scale)", log=True)))  # fmt: skip
        if curves:
            found.append(rendered("alpha", "Divergence against data", "M and F against hours of speech, a line for each α, for narrow and "
                                  "broad speech.", _alpha_figure(curves)))  # fmt: skip
        if len(records) > 8:
            found.append(rendered("explained", "Does divergence tell accuracy?", "Scatter of checkpoints: speech accuracy against M, text "
                                  "accuracy against F.", _explained_figure(records)))  # fmt: skip
    return tuple(found)


def _panels(columns: int, height_in: float = 3.4, rows: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for axes in panels:
        axes.grid(color=LIGHT, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, panels


def _line(
    axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str, label: str, scale: float = 1.0
) -> None:
    y = [scale * e.value for e in estimates]
    axes.plot(x, y, "-o", color=colour, markersize=4, linewidth=1.4, label=label, zorder=3)
    low = [scale * (e.value if e.low is None else e.low) for e in estimates]
    high = [scale * (e.value if e.high is None else e.high) for e in estimates]
    axes.vlines(x, low, high, color=colour, linewidth=1.0, alpha=0.6, zorder=2)


def _arms_figure(arms: Sequence[ArmResult], vary: str, x_label: str, *, log: bool = False) -> Figure:
    figure, (axes, beside) = _panels(2)
    signals = [name for name in SIGNALS if any(arm.run.signal == name for arm in arms)]
    values = sorted({float(getattr(arm.run, vary)) for arm in arms})
    reach = 0.012 if log else 0.02 * (values[-1] - values[0] or 1.0)
    for place, name in enumerate(signals):
        mine = sorted((arm for arm in arms if arm.run.signal == name), key=lambda arm: float(getattr(arm.run, vary)))
        shift = place - (len(signals) - 1) / 2  # so that intervals do not hide one another
        x = [float(getattr(arm.run, vary)) for arm in mine]
        x = [v * (1 + 2 * reach * shift) if log else v + reach * shift for v in x]
        _line(axes, x, [arm.speech for arm in mine], SIGNAL_COLOURS[name], name, 100)
        paired = [
            (v, arm.against_uniform.over_seeds)
            for v, arm in zip(x, mine, strict=True)
            if arm.against_uniform is not None
        ]
        if paired:
            _line(beside, [v for v, _ in paired], [e for _, e in paired], SIGNAL_COLOURS[name], name, 100)
    for one in (axes, beside):
        if log:
            one.set_xscale("log")
            one.set_xticks(values, [f"{value:g}" for value in values])
            one.minorticks_off()
        one.set_xlabel(x_label)
    beside.axhline(0, color=INK, linewidth=0.8)
    axes.set_title("Accuracy by ear, %")
    beside.set_title("… less uniform's, points")
    axes.legend(frameon=False, fontsize=7.5)
    return figure


def _alpha_figure(curves: Sequence[Curve]) -> Figure:
    """M in the upper row, F in the lower, a column for each breadth of speech."""
    breadths = [breadth for breadth in BREADTHS if any(curve.breadth == breadth for curve in curves)]
    figure, panels = _panels(len(breadths), 5.6, rows=2)
    for axes, (measure, breadth) in zip(
        panels, itertools.product(("misalignment", "forgetting"), breadths), strict=True
    ):
        mine = [curve for curve in curves if curve.breadth == breadth]
        for curve in mine:
            colour = ALPHA_COLOURS[round(curve.alpha * 4) % len(ALPHA_COLOURS)]
            _line(axes, curve.hours, getattr(curve, measure), colour, f"α = {curve.alpha:g}")
            if measure == "misalignment" and curve.fit is not None:
                grid = np.geomspace(min(curve.hours), max(curve.hours), 40)
                axes.plot(grid, curve.fit.law(grid), ":", color=colour, linewidth=1.0, zorder=1)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(mine[0].hours, [f"{hours:.2g}" for hours in mine[0].hours])
        axes.set_ylim(0, 1.06 * max(e.value for curve in curves for e in getattr(curve, measure)))
        axes.set_title(f"{'M' if measure == 'misalignment' else 'F'}, {breadth}", fontsize=9.5)
    for axes in panels[len(breadths) :]:
        axes.set_xlabel("hours heard (log scale)", fontsize=8)
    for axes in panels[:: len(breadths)]:
        axes.set_ylabel("nats a position")
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def _explained_figure(records: Sequence[Record]) -> Figure:
    figure, (left, right) = _panels(2)
    for record in records:
        stage = "Stage I" if record.stage1 is not None else "Stage II"
        colour = "#56B4E9" if stage == "Stage I" else "#D55E00"
        for checkpoint in record.checkpoints:
            left.plot(
                [checkpoint.misalignment],
                [100 * checkpoint.speech_accuracy],
                "o",
                color=colour,
                markersize=2.6,
                alpha=0.6,
            )
            right.plot(
                [checkpoint.forgetting], [100 * checkpoint.text_accuracy], "o", color=colour, markersize=2.6, alpha=0.6
            )
    left.set_xlabel("M, nats a position")
    right.set_xlabel("F, nats a position")
    left.set_title("Accuracy by ear, %")
    right.set_title("Accuracy by reading, %")
    for name, colour in (("Stage I", "#56B4E9"), ("Stage II", "#D55E00")):
        left.plot([], [], "o", color=colour, markersize=4, label=name)
    left.legend(frameon=False, fontsize=7.5)
    return figure
