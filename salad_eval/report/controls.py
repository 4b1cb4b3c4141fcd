"""What the controls say: how much room a benchmark has for this model, and whether the speech LLM hears at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salad_eval.report.wording import clear, interval, percent, signed
from salad_eval.types import ColumnName, ControlName, ControlRow, Estimate, GapReport

CONTROL_TITLES: Mapping[tuple[ControlName, ColumnName], str] = {
    ("floor", "base_text"): "Reads, unasked",
    ("floor", "adapted_speech"): "Hears, unasked",
    ("silent", "adapted_speech"): "Hears silence",
    ("swapped", "adapted_speech"): "Hears another",
}
CONTROL_MEANINGS: Mapping[ControlName, str] = {
    "floor": "the prompt without what is spoken; the options alone speak",
    "silent": "silence of the same length, to the half second, in the sound's place",
    "swapped": "the sound of another item of the task in its place",
}


@dataclass(frozen=True, slots=True)
class ControlTable:
    """``titles``: of the controls that were asked; ``cells``: by domain (empty: all items), one a control, ``None`` where it has none."""

    keys: tuple[tuple[ControlName, ColumnName], ...]
    cells: Mapping[str, Sequence[ControlRow | None]]

    @property
    def titles(self) -> list[str]:
        return [CONTROL_TITLES.get(key, key[0]) for key in self.keys]


def control_table(report: GapReport) -> ControlTable | None:
    """The controls by domain, ``None`` where none was asked."""
    if not report.controls:
        return None
    keys = tuple(dict.fromkeys((row.control, row.column) for row in report.controls))
    found = {(row.domain, row.control, row.column): row for row in report.controls}
    domains = dict.fromkeys(row.domain for row in report.controls)
    return ControlTable(keys, {domain: [found.get((domain, *key)) for key in keys] for domain in domains})


def overall(report: GapReport, control: ControlName, column: ColumnName) -> ControlRow | None:
    """The control over all items."""
    return next(
        (row for row in report.controls if (row.control, row.column, row.domain) == (control, column, "")), None
    )


def floor_of(report: GapReport) -> float | None:
    """What the speech LLM has right without the question."""
    row = overall(report, "floor", "adapted_speech")
    return row.accuracy.value if row is not None else None


def surely_above(estimate: Estimate) -> bool:
    """Whether the difference is above 0 by its interval."""
    return clear(estimate) and estimate.value > 0


def is_deaf(report: GapReport) -> bool | None:
    """Whether nothing shows that the speech LLM hears: it is not surely above silence and another item's sound (where neither was asked,
    above its floor). ``None`` where no control was asked of it."""
    asked = [row for row in report.controls if row.column == "adapted_speech" and not row.domain]
    heard = [row for row in asked if row.control != "floor"] or asked
    return not all(surely_above(row.above) for row in heard) if heard else None


def verdicts(report: GapReport) -> tuple[str, ...]:
    """Whether the figures can be about hearing at all, in sentences."""
    return tuple(sentence for sentence in (_room(report), _hearing(report)) if sentence)


def _room(report: GapReport) -> str:
    row = overall(report, "floor", "base_text")
    if row is None:
        return ""
    unasked = f"{percent(row.accuracy.value)} without the question"
    if not surely_above(row.above):
        return (
            f"This benchmark has no room for this model: it has {unasked}, and reading the question adds nothing clear "
            f"({signed(row.above.value)} points {interval(row.above)}); no gap can show here."
        )
    return (
        f"Room for a gap: {percent(row.above.value)} points {interval(row.above)}. The text LLM has {unasked}, "
        "so a model that hears nothing would show a gap of about that."
    )


def _hearing(report: GapReport) -> str:
    deaf, name = is_deaf(report), report.names.adapted or "the speech LLM"
    if deaf is None:
        return ""
    asked = [row for row in report.controls if row.column == "adapted_speech" and not row.domain]
    words: Mapping[ControlName, str] = {
        "floor": "without the question", "silent": "for silence", "swapped": "for another item's sound",
    }  # fmt: skip
    if deaf:
        low = [row for row in asked if not surely_above(row.above)]
        beside = "; ".join(
            f"{signed(row.above.value)} points {interval(row.above)} against {percent(row.accuracy.value)} {words[row.control]}"
            for row in low
        )
        return f"Nothing shows that {name} hears: what it answers by ear is not clearly above its controls ({beside})."
    beside = ", ".join(
        f"{percent(row.above.value)} points {interval(row.above)} above the {percent(row.accuracy.value)} it has {words[row.control]}"
        for row in asked
        if surely_above(row.above)
    )
    under = next((row for row in asked if not surely_above(row.above)), None)
    but = (
        ""
        if under is None
        else f", but not clearly above the {percent(under.accuracy.value)} it has {words[under.control]} "
        f"({signed(under.above.value)} points {interval(under.above)})"
    )
    return f"{name} hears: it is {beside}{but}."
