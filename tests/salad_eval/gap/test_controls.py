"""What is answered without the question: by hand, and of planted systems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from salad_eval.gap.controls import ControlScores
from salad_eval.report.controls import control_table, floor_of, is_deaf, verdicts
from salad_eval.types import ControlName, ControlRow, Estimate, GapReport, Item, Score
from tests.helpers.gap_world import ITEMS, SCORES, item, report, scores


def told(control: ControlName, values: dict[str, float | None]) -> ControlScores:
    found = [Score(id_, "adapted_speech", None, None, value) for id_, value in values.items()]
    return ControlScores(control, "adapted_speech", found)


def row(made: GapReport, control: ControlName, domain: str = "") -> ControlRow:
    rows = [one for one in made.controls if one.control == control and one.domain == domain]
    return next(one for one in rows if one.column == "adapted_speech")


def test_a_control_is_held_against_its_column_item_by_item() -> None:
    """Hears in the hand world: a1 0.5, a2 0, b1 0.5, b2 1."""
    floor = told("floor", {"a1": 0.0, "a2": 1.0, "b1": None, "b2": 1.0})
    made = report(ITEMS, SCORES, controls=[floor])
    whole = row(made, "floor")
    assert (whole.accuracy.n, whole.accuracy.value) == (3, pytest.approx(2 / 3))  # b1 has no answer
    assert whole.above.value == pytest.approx((0.5 - 1.0 + 0.0) / 3)
    assert row(made, "floor", "A").above.value == pytest.approx(-0.25)
    assert row(made, "floor", "B").above.value == 0.0
    assert [one.domain for one in made.controls] == ["", "A", "B"]
    assert floor_of(made) == whole.accuracy.value
    table = control_table(made)
    assert table is not None
    assert table.titles == ["Hears, unasked"]


def test_without_controls_nothing_is_said() -> None:
    made = report(ITEMS, SCORES)
    assert (made.controls, control_table(made), floor_of(made), is_deaf(made), verdicts(made)) == (
        (),
        None,
        None,
        None,
        (),
    )


def planted(hears: str, seed: int = 0, n: int = 300) -> GapReport:
    """Four options, text right in 90%. ``deaf``: by ear as by another's sound; ``exact``: by ear as by reading."""
    rng = np.random.default_rng(seed)
    items: list[Item] = [item(f"i{k}", "A") for k in range(n)]
    found: list[Score] = []
    controls: dict[ControlName, dict[str, float | None]] = {"floor": {}, "silent": {}, "swapped": {}}
    for one in items:
        reads = float(rng.random() < 0.9)
        guess = float(rng.random() < 0.25)
        by_ear = reads if hears == "exact" else guess
        found += scores(one.id, reads, (reads, reads), reads, (by_ear, by_ear))
        controls["floor"][one.id] = float(rng.random() < 0.25)
        controls["silent"][one.id] = guess if hears == "deaf" else float(rng.random() < 0.25)
        controls["swapped"][one.id] = guess if hears == "deaf" else float(rng.random() < 0.25)
    base = [Score(one.id, "base_text", None, None, float(rng.random() < 0.27)) for one in items]
    asked = [told(name, values) for name, values in controls.items()]
    return report(items, found, controls=[ControlScores("floor", "base_text", base), *asked])


@pytest.mark.parametrize("seed", range(3))
def test_a_deaf_system_is_called_deaf_and_an_exact_one_is_not(seed: int) -> None:
    deaf, exact = planted("deaf", seed), planted("exact", seed)
    assert is_deaf(deaf) is True
    assert row(deaf, "swapped").above.value == 0.0
    assert is_deaf(exact) is False
    assert "Nothing shows that the speech LLM hears" in verdicts(deaf)[1]
    assert verdicts(exact)[1].startswith("the speech LLM hears: it is ")
    assert verdicts(exact)[0].startswith("Room for a gap: ")


def test_a_benchmark_that_gives_its_answers_away_has_no_room() -> None:
    made = planted("exact")
    known = [Score(one.item_id, "base_text", None, None, one.value) for one in _read(made)]
    again = replace(made, controls=tuple(one for one in made.controls if one.column != "base_text"))
    assert "Room" not in " ".join(verdicts(again))
    given_away = report(
        [item(one.item_id, "A") for one in known],
        [s for one in known for s in scores(one.item_id, one.value or 0.0, (1.0, 1.0), 1.0, (1.0, 1.0))],
        controls=[ControlScores("floor", "base_text", known)],
    )
    assert verdicts(given_away)[0].startswith("This benchmark has no room for this model")


def _read(made: GapReport) -> list[Score]:
    rng = np.random.default_rng(1)
    return [Score(f"i{k}", "base_text", None, None, float(rng.random() < 0.9)) for k in range(made.overall.n_items)]


def test_what_is_above_silence_and_another_sound_is_not_called_deaf_for_want_of_items() -> None:
    made = planted("exact")
    high = replace(row(made, "floor"), above=Estimate(0.1, -0.05, 0.25, 40))
    few = replace(made, controls=tuple(high if one == row(made, "floor") else one for one in made.controls))
    assert is_deaf(few) is False
    assert "but not clearly above the " in verdicts(few)[1]
    alone = replace(few, controls=(high,))
    assert is_deaf(alone) is True
