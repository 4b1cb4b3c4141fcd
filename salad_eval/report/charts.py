"""The pictures of a page, as inline SVG: the bar that splits the loss, a domain's line of points, the bars and scatters of the tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salad_eval.gap.compare import ComparisonRow
from salad_eval.report.svg import bar, element, line, mark, share, text, text_width
from salad_eval.report.wording import COLUMN_WORDS, TAXONOMY_TITLES, causes, one_line, percent, stands_out
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapRow

SHAPES: Mapping[ColumnName, str] = {
    "base_text": "square",
    "base_transcript": "diamond",
    "adapted_text": "triangle",
    "adapted_speech": "circle",
}
# What is heard lies on top of what is read; the others below both.
ON_TOP_LAST: tuple[ColumnName, ...] = ("base_transcript", "adapted_text", "base_text", "adapted_speech")
_NEAR = 0.16  # marks whose labels would touch
_NARROWEST = 340  # of the loss bar, in pixels: on a page of 390
_LABEL = 14.6  # size of its labels, in pixels; they are bold, which takes about an eighth more


# --- the loss --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on the scale of the loss bar, with a word for it."""

    word: str
    value: float
    class_: str


def loss_bar(row: GapRow, floor: float | None = None) -> Markup:
    """From what is heard to what is read, the loss split into what was forgotten and what is misaligned; the cascade and the floor
    (what is right without the question) marked below. A part that is a gain is hatched."""
    reads, hears = row.accuracy["base_text"].value, row.accuracy["adapted_speech"].value
    adapted = row.accuracy["adapted_text"].value if "adapted_text" in row.accuracy else None
    parts = [bar(0, 1, 34, 26, "track"), bar(0, hears, 34, 26, "heard")]
    if adapted is None:
        parts.append(_span(hears, reads, "gap-part"))
    else:
        parts += [_span(hears, adapted, "misaligned"), _span(adapted, reads, "forgotten")]
    close = abs(reads - hears) < _NEAR
    parts += _labelled(
        Mark(f"hears {percent(hears)}", hears, "hears"), 22, "end" if close and hears <= reads else None, up=True
    )
    parts += _labelled(
        Mark(f"reads {percent(reads)}", reads, "reads"), 22, "start" if close and hears <= reads else None, up=True
    )
    below = []
    if "base_transcript" in row.accuracy:
        cascade = row.accuracy["base_transcript"].value
        below.append(Mark(f"cascade {percent(cascade)}", cascade, "cascade"))
    if floor is not None:
        below.append(Mark(f"floor {percent(floor)}", floor, "floor"))
    apart = len(below) < 2 or abs(below[0].value - below[1].value) >= _NEAR
    for place, one in enumerate(below):
        parts += _labelled(one, 80 if apart else 80 + 15 * place, None, up=False)
    height = 88 if apart else 102
    return element(
        "svg", *parts, class_="loss", width="100%", height=height, role="img", aria_label=_loss_words(row, floor)
    )


def _span(first: float, last: float, class_: str) -> Markup:
    """What is lost from ``last`` down to ``first``; hatched where it is won."""
    won = " won" if last < first else ""
    return bar(min(first, last), max(first, last), 34, 26, class_ + won)


def _labelled(one: Mark, y: float, anchor: str | None, *, up: bool) -> list[Markup]:
    ends = (26, 60) if up else (34, 68)
    half = text_width(one.word, _LABEL) / 2 / _NARROWEST
    held = anchor or ("start" if one.value < half else "end" if one.value > 1 - half else "middle")
    return [
        line(share(one.value), ends[0], share(one.value), ends[1], f"tick {one.class_}"),
        text(one.word, share(one.value), y, class_=f"label {one.class_}", anchor=held),
    ]


def _loss_words(row: GapRow, floor: float | None) -> str:
    said = [
        f"{COLUMN_WORDS[column]} {percent(row.accuracy[column].value)}" for column in COLUMNS if column in row.accuracy
    ]
    if row.forgetting is not None and row.misalignment is not None:
        said += [f"forgetting {percent(row.forgetting.value)}", f"misalignment {percent(row.misalignment.value)}"]
    if floor is not None:
        said.append(f"floor {percent(floor)}")
    return f"The loss from reading to hearing, in percent: {', '.join(said)}."


# --- domains ---------------------------------------------------------------------------------------------------------


def least_shown(rows: Sequence[GapRow]) -> float:
    """Where the scale of the domains' lines begins: a multiple of 10% below every value. They are points, not bars."""
    least = min(estimate.value for row in rows for estimate in row.accuracy.values())
    return max(0.0, math.floor(10 * (least - 0.02)) / 10)


def domain_line(row: GapRow, least: float) -> Markup:
    """The columns of a row as points on a scale from ``least`` to 1, reading and hearing joined, with the interval of hearing."""

    def place(value: float) -> float:
        return (max(value, least) - least) / (1 - least)

    reads, speech = row.accuracy["base_text"].value, row.accuracy["adapted_speech"]
    low, high = sorted((place(reads), place(speech.value)))
    parts = [line(share(low), 11, share(high), 11, "joined")]
    if speech.low is not None and speech.high is not None:
        parts.append(line(share(place(speech.low)), 11, share(place(speech.high)), 11, "interval"))
    for column in ON_TOP_LAST:
        if column in row.accuracy:
            parts.append(mark(SHAPES[column], place(row.accuracy[column].value), 11, f"point {column}"))
    said = ", ".join(
        f"{COLUMN_WORDS[column]} {percent(row.accuracy[column].value)}" for column in COLUMNS if column in row.accuracy
    )
    return element("svg", *parts, class_="line", width="100%", height=22, role="img", aria_label=f"{said}, in percent")


def change_line(row: ComparisonRow, least: float) -> Markup:
    """What is heard in the first run (open) and in the second (full), and what is read in the second as the mark to reach."""
    hears, reads = row.columns["adapted_speech"], row.columns["base_text"]

    def place(value: float) -> float:
        return (max(value, least) - least) / (1 - least)

    low, high = sorted((place(hears.first), place(hears.second)))
    parts = [
        line(share(low), 11, share(high), 11, "joined"),
        mark("square", place(reads.second), 11, "point base_text"),
        mark("circle", place(hears.first), 11, "point adapted_speech open"),
        mark("circle", place(hears.second), 11, "point adapted_speech"),
    ]
    said = f"hears {percent(hears.first)}, then {percent(hears.second)}; reads {percent(reads.second)}, in percent"
    return element("svg", *parts, class_="line", width="100%", height=22, role="img", aria_label=said)


def least_compared(rows: Sequence[ComparisonRow]) -> float:
    """As ``least_shown``, of what ``change_line`` shows."""
    heard = [row.columns["adapted_speech"] for row in rows]
    least = min(
        [*(c.first for c in heard), *(c.second for c in heard), *(row.columns["base_text"].second for row in rows)]
    )
    return max(0.0, math.floor(10 * (least - 0.02)) / 10)


def scale(least: float) -> Markup:
    """The scale below the domains' lines."""
    steps = [k / 10 for k in range(round(10 * least), 11)]
    shown = steps if len(steps) <= 6 else [step for step in steps if round(10 * step) % 2 == 0]
    places = [(step, (step - least) / (1 - least)) for step in shown]
    parts = [line(share(x), 0, share(x), 5, "tick") for _, x in places]
    parts += [
        text(
            f"{100 * step:.0f}",
            share(x),
            18,
            class_="axis",
            anchor="start" if x == 0 else "end" if x == 1 else "middle",
        )
        for step, x in places
    ]
    return element("svg", *parts, class_="scale", width="100%", height=22, aria_hidden="true")


def column_key(column: ColumnName, hollow: bool = False) -> Markup:
    """The mark of a column, for a legend."""
    shape = mark(SHAPES[column], 0.5, 8, f"point {column}{' open' if hollow else ''}")
    return element("svg", shape, class_="key", width=16, height=16, aria_hidden="true")


def gap_bar(gap: Estimate, reach: float) -> Markup:
    """A gap as a bar from 0 with its interval; the scale goes from -``reach``'s share to ``reach``, the same in a table."""
    low, high = gap.low if gap.low is not None else gap.value, gap.high if gap.high is not None else gap.value

    def place(value: float) -> float:
        return min(1.0, max(0.0, 0.2 + 0.8 * value / reach))

    first, last = sorted((place(0.0), place(gap.value)))
    parts = [
        bar(first, last, 2, 8, "gap-bar" if gap.value >= 0 else "gap-bar won"),
        line(share(place(low)), 6, share(place(high)), 6, "interval"),
        line(share(place(0.0)), 0, share(place(0.0)), 12, "zero"),
    ]
    return element("svg", *parts, class_="bar", width="100%", height=12, aria_hidden="true")


def cause_bar(row: GapRow) -> Markup:
    """The shares of a row's causes, stacked to 1."""
    left, parts = 0.0, []
    for cause in causes(row):
        part = row.taxonomy[cause]
        title = element("title", f"{TAXONOMY_TITLES[cause]} {percent(part)}%")
        parts.append(element("g", title, bar(left, left + part, 0, 14, f"cause-{cause}")))
        left += part
    said = ", ".join(f"{TAXONOMY_TITLES[cause]} {percent(row.taxonomy[cause])}%" for cause in causes(row))
    return element("svg", *parts, class_="stack", width="100%", height=14, role="img", aria_label=said)


# --- two measures against each other -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """A domain in a scatter: ``y`` a fraction with its interval."""

    x: float
    y: Estimate
    row: GapRow


WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 40
_NAME = 12.5  # size of a name
_MOST_NAMED = 20
_AROUND = (
    (1, 0, "start"), (-1, 0, "end"), (0, -1, "middle"), (0, 1, "middle"),
    (1, -1, "start"), (1, 1, "start"), (-1, -1, "end"), (-1, 1, "end"),
)  # fmt: skip
_REACHES = (8.0, 20.0, 34.0)  # from a point to its name; from the second on with a line between


def scatter(points: Sequence[Point], x_title: str, y_title: str, words: str, x_factor: float = 100.0) -> Markup:
    """Domains by two measures; those that stand out are coloured. ``x_factor``: what x is shown as (100: percent)."""
    tops = [point.y.high if point.y.high is not None else point.y.value for point in points]
    feet = [point.y.low if point.y.low is not None else point.y.value for point in points]
    y_low, y_high = min(0.0, *feet), max(0.05, *tops)
    x_high = max(point.x for point in points) * 1.08 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (WIDTH - _LEFT - _RIGHT) * x / x_high
        return across, _TOP + (HEIGHT - _TOP - _BOTTOM) * (y_high - y) / (y_high - y_low)

    parts: list[Markup] = []
    for value in _ticks(y_low, y_high):
        y = at(0, value)[1]
        parts += [
            line(_LEFT, y, WIDTH - _RIGHT, y, "zero" if value == 0 else "grid"),
            text(percent(value, 0), _LEFT - 7, y + 4, class_="axis", anchor="end"),
        ]
    for value in _ticks(0.0, x_high):
        x = at(value, y_low)[0]
        shown = f"{x_factor * value:g}"
        parts.append(text(shown, x, HEIGHT - _BOTTOM + 17, class_="axis", anchor="middle"))
    parts.append(text(x_title, (WIDTH + _LEFT) / 2, HEIGHT - 5, class_="axis", anchor="middle"))
    middle = (HEIGHT - _BOTTOM) / 2
    parts.append(text(y_title, 12, middle, class_="axis", anchor="middle", transform=f"rotate(-90 12 {middle})"))
    for point in points:
        x, y = at(point.x, point.y.value)
        out = " out" if stands_out(point.row) else ""
        title = element("title", f"{point.row.name}: {x_factor * point.x:.1f}, {percent(point.y.value)}")
        drawn = [title, element("circle", cx=x, cy=y, r=4.5, class_=f"dot{out}")]
        if point.y.low is not None and point.y.high is not None:
            drawn.insert(1, line(x, at(point.x, point.y.low)[1], x, at(point.x, point.y.high)[1], f"whisker{out}"))
        parts.append(element("g", *drawn))
    parts += _names(
        [(point.row.name, *at(point.x, point.y.value)) for point in sorted(points, key=lambda p: -p.y.value)]
    )
    return element("svg", *parts, class_="scatter", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=words)


def _ticks(low: float, high: float) -> list[float]:
    """Some six round values from ``low`` to ``high``, 0 among them where it lies between."""
    raw = (high - low) / 6
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= raw)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


_Box = tuple[float, float, float, float]  # left, top, right, bottom


def _names(points: Sequence[tuple[str, float, float]]) -> list[Markup]:
    """Names around their points, each at the nearest free place within the plot; of many points, or where no place is free, none."""
    taken: list[_Box] = [(x - 5, y - 5, x + 5, y + 5) for _, x, y in points]
    drawn = []
    for name, x, y in points[:_MOST_NAMED]:
        word = one_line(name, 22)
        width = text_width(word, _NAME)
        for reach, (right, down, anchor) in itertools.product(_REACHES, _AROUND):
            across, foot = x + right * reach, y + 4 + down * (reach + 5)
            left = across - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
            box = (left, foot - 10, left + width, foot + 3)
            inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM
            if inside and not any(_touch(box, other) for other in taken):
                taken.append(box)
                if reach > _REACHES[0]:
                    drawn.append(line(x + right * 5, y + down * 5, across, foot - 4 - down * 5, "leader"))
                drawn.append(text(word, across, foot, class_="name", anchor=anchor))
                break
    return drawn


def _touch(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
