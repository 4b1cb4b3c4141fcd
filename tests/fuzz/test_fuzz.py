"""Some inputs to every target; ``make fuzz`` gives a million. And the harness itself: it sees what is uncaught, wrong and slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from salad_eval.errors import DataError
from tests.fuzz import __main__ as fuzz
from tests.fuzz.targets import Target, targets


def test_no_input_is_uncaught_or_wrong(tmp_path: Path) -> None:
    outcomes = [fuzz.asked(target, 25 if target.name == "reports" else 100, seed=1) for target in targets(tmp_path)]
    assert [(one.name, one.faults) for one in outcomes if one.kinds] == []
    assert all(one.refused < one.n for one in outcomes), "a target that refuses everything tests nothing"


def raises(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("outcome", "kinds", "refused"),
    [
        (lambda: "", {}, 0),
        (lambda: raises(DataError("no")), {}, 3),
        (lambda: raises(KeyError("no")), {"uncaught": 3}, 0),
        (lambda: "another", {"wrong": 3}, 0),
    ],
)
def test_the_harness_counts(outcome: object, kinds: dict[str, int], refused: int) -> None:
    assert callable(outcome)
    counted = fuzz.asked(Target("t", lambda draw: draw.random(), lambda _: outcome()), 3, seed=0)
    assert (dict(counted.kinds), counted.refused, counted.n) == (kinds, refused, 3)


def test_a_slow_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SLOW_SECONDS", -1.0)
    assert fuzz.asked(Target("t", lambda draw: 0, lambda _: ""), 1, seed=0).kinds == {"slow": 1}


def test_the_page_has_a_row_a_target() -> None:
    counted = fuzz.asked(Target("t", lambda draw: 0, lambda _: "another"), 2, seed=0)
    assert "| t | 2 | 0 | 0 | 2 | 0 |" in fuzz.page([counted], "c")
