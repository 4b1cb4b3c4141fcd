"""Views of a board of runs: for a terminal and as a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from salad_eval.gap.board import Board, BoardGroup, BoardLine
from salad_eval.report.svg import circle, element, line, share, text
from salad_eval.report.terminal import narrow_table
from salad_eval.report.wording import (
    MISSING,
    interval,
    models,
    one_line,
    percent,
    printable,
    probability,
    signed,
    stands_out,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

FEWEST_IN_A_TREND = 3
_TOP, _HEIGHT, _FOOT = 14.0, 150.0, 34.0


def board_terminal(board: Board) -> RenderableType:
    """A line a run; a star where its difference to the baseline has q < 0.05."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for group in board.groups:
        table = narrow_table("run", ("n", "reads", "hears", "gap", "95%", "change", "95%", "q"))
        for one in group.lines:
            table.add_row(*map(Text, _cells(one)))
        parts += [Text(printable(f"{', '.join(group.tasks)}, {group.split}")), table, Text()]
    for path, why in board.left_out.items():
        parts.append(Text(printable(f"left out: {path}: {why}"), style="dim"))
    parts.append(Text("In percent; change: to the baseline, paired, in points. * q < 0.05 over the runs.", style="dim"))
    return Group(*parts)


def _cells(one: BoardLine) -> list[str]:
    row = one.report.overall
    change = one.against.comparison.overall.gap.difference if one.against else None
    star = "*" if one.against is not None and stands_out(one.against) else ""
    return [
        printable(one.name), str(row.n_items), percent(row.accuracy["base_text"].value),
        percent(row.accuracy["adapted_speech"].value), percent(row.gap.value), interval(row.gap),
        "baseline" if one.is_baseline else MISSING if change is None else signed(change.value) + star,
        "" if change is None else interval(change), probability(one.against.q_value) if one.against else "",
    ]  # fmt: skip


def write_board(board: Board, out: Path) -> Path:
    """Write the page; links lead to the runs' own pages, from where ``out`` lies."""
    from salad_eval.records import write_atomic
    from salad_eval.report import charts
    from salad_eval.report.parts import page_parts
    from salad_eval.report.templates import environment

    templates = environment(autoescape=True)
    templates.filters.update(
        signed=signed,
        gap_bar=charts.gap_bar,
        trend=trend,
        models=models,
        link=lambda one: link(one, out.parent),
    )
    gaps = [one.report.overall.gap for one in board.lines]
    page = templates.get_template("board.html.j2").render(
        parts=page_parts(),
        board=board,
        n=len(board.lines),
        reach=max(0.1, *(gap.high if gap.high is not None else gap.value for gap in gaps)),
        fewest=FEWEST_IN_A_TREND,
        missing=MISSING,
    )
    write_atomic(out, page)
    return out


def link(one: BoardLine, start: Path) -> str:
    """Where a run's page lies, as an address relative to ``start``; empty where it has none."""
    page = one.path / "report.html"
    return quote(Path(os.path.relpath(str(page), str(start))).as_posix()) if page.is_file() else ""


def trend(group: BoardGroup) -> Markup:
    """The gap run by run, the oldest on the left, with its interval."""
    gaps = [one.report.overall.gap for one in group.lines]
    ends = [value for gap in gaps for value in (gap.low, gap.high, gap.value) if value is not None]
    low, high = min(0.0, *ends), max(0.05, *ends)

    def down(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _FOOT) * (high - value) / (high - low)

    def across(place: int) -> str:
        return share(0.06 + 0.9 * (place + 0.5) / len(gaps))

    parts = [line(share(0.06), down(0.0), share(1.0), down(0.0), "zero"), text("0", 0, down(0.0) + 4, class_="axis")]
    if high > 0.05:
        parts.append(text(percent(high, 0), 0, down(high) + 4, class_="axis"))
    every = max(1, len(gaps) // 8)
    for place, (one, gap) in enumerate(zip(group.lines, gaps, strict=True)):
        x = across(place)
        title = element("title", f"{one.name}: {percent(gap.value)} {interval(gap)}, {one.report.created}")
        marks = [title, circle(x, down(gap.value), "dot out" if one.is_baseline else "dot")]
        if gap.low is not None and gap.high is not None:
            marks.insert(1, line(x, down(gap.low), x, down(gap.high), "whisker"))
        parts.append(element("g", *marks))
        if place % every == 0:
            parts.append(text(one_line(one.name, 14), x, _HEIGHT - 12, class_="axis", anchor="middle"))
    words = f"The gap run by run: {', '.join(percent(gap.value) for gap in gaps)} points."
    return element("svg", *parts, class_="trend", width="100%", height=_HEIGHT, role="img", aria_label=words)
