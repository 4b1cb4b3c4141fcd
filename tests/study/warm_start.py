"""A warm start's curve, beside what the columns of runs answered: ``reports/smollm2-study/warm_start.png``.

    python -m tests.study.warm_start LOG REPORT… --out PICTURE.png

``LOG``: ``warm_start/log.jsonl`` of a Stage I. ``REPORT``: folders of ``salad run`` on the same questions; what a text is answered is
drawn once, what speech is, with silence and swapped sound, for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from salad_eval import load_report
from salad_eval.records import read_jsonl
from salad_eval.report.figures import DPI, GREY, STYLE, WIDTH_IN
from salad_eval.types import Estimate, GapReport
from salad_train.training.warm_start import WarmStartLog

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def bars(reports: Sequence[tuple[str, GapReport]]) -> list[tuple[str, Estimate, str]]:
    """Label, share and colour of each bar, from the top."""
    first = reports[0][1]
    found = [
        ("text, read", first.overall.accuracy["base_text"], GREY),
        ("cascade", first.overall.accuracy["base_transcript"], GREEN),
    ]
    for name, report in reports:
        of_all = [one for one in report.controls if not one.domain and one.column == "adapted_speech"]
        found.append((f"{name}: heard", report.overall.accuracy["adapted_speech"], BLUE))
        found += [(f"{name}: {one.control}", one.accuracy, ORANGE) for one in of_all]
    return found


def draw(log: Sequence[WarmStartLog], reports: Sequence[tuple[str, GapReport]], out: Path) -> None:
    """Write the picture."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        figure = Figure(figsize=(WIDTH_IN, 3.6), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        curve, answers = figure.subplots(1, 2)
        _curve(curve, log)
        if reports:
            _answers(answers, bars(reports))
        figure.savefig(out, format="png", dpi=DPI)


def _curve(axes: Any, log: Sequence[WarmStartLog]) -> None:
    steps = [line.step for line in log]
    axes.plot(steps, [100 * line.missed for line in log], color=BLUE, marker="o", markersize=3)
    axes.set_ylim(0, 105)
    axes.set_xlabel("steps of the warm start")
    axes.set_ylabel("% of tokens missed, unseen voice", color=BLUE)
    other = axes.twinx()
    other.plot(steps, [line.loss for line in log], color=GREY)
    other.set_ylim(bottom=0)
    other.set_ylabel("nats a token, trained on", color=GREY)
    axes.set_title("What the adapter writes", loc="left")


def _answers(axes: Any, shown: Sequence[tuple[str, Estimate, str]]) -> None:
    values = [100 * one.value for _, one, _ in shown]
    lows = [100 * (one.value if one.low is None else one.low) for _, one, _ in shown]
    highs = [100 * (one.value if one.high is None else one.high) for _, one, _ in shown]
    spread = [
        [v - low for v, low in zip(values, lows, strict=True)],
        [h - v for v, h in zip(values, highs, strict=True)],
    ]
    axes.barh(range(len(shown)), values, xerr=spread, color=[colour for *_, colour in shown], error_kw={"linewidth": 1})
    axes.set_yticks(range(len(shown)), [label for label, *_ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("% of questions right, 95% intervals")
    axes.set_title("What SmolLM2 answers", loc="left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("reports", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw(read_jsonl(options.log, WarmStartLog), [(one.name, load_report(one)) for one in options.reports], options.out)


if __name__ == "__main__":
    main()
