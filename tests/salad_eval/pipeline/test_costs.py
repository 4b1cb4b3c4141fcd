"""What columns took, from what steps noted, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from salad_eval import evaluate
from salad_eval.errors import UserInputError
from salad_eval.pipeline.costs import column_costs
from salad_eval.pipeline.folder import StepState
from salad_eval.pipeline.plan import Plan, Price, Prices
from salad_eval.testing.systems import HashedSystem
from salad_eval.types import CLEAN, Costs, Rendering, Request, Tokens

RENDERINGS = [
    Rendering("a", "context", voice, CLEAN, "what", voice * 64, 16_000, 960_000) for voice in "ab"
]  # a minute each


def step(n: int, seconds: float | None = None, tokens: Tokens | None = None) -> StepState:
    return StepState("key", n, "sum", {}, seconds, tokens)


STEPS = {
    "transcribe": step(2, 3.0),
    "respond.base_text": step(10, 0.5, Tokens(40, 0)),
    "respond.base_transcript": step(20, 0.25, Tokens(50, 5)),
    "respond.adapted_speech": step(20, 1.0, Tokens(100, 10)),
}


def costs(prices: Prices, steps: dict[str, StepState] = STEPS) -> Costs:
    return column_costs(steps, RENDERINGS, prices)


def money(prices: Prices, steps: dict[str, StepState] = STEPS) -> dict[str, float | None]:
    return {cost.column: cost.money for cost in costs(prices, steps).columns}


def test_each_column_is_counted_by_its_own_steps() -> None:
    found = costs(Prices())
    assert found.currency == ""
    assert [(c.column, c.n_questions, c.seconds, c.sound_seconds, c.tokens) for c in found.columns] == [
        ("base_text", 10, 0.5, 0.0, Tokens(400, 0)),
        ("base_transcript", 20, 0.25 + 2 * 3.0 / 20, 120.0, Tokens(1000, 100)),  # with the ASR's share
        ("adapted_speech", 20, 1.0, 120.0, Tokens(2000, 200)),
    ]
    assert [c.money for c in found.columns] == [None, None, None]


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (Prices(base=Price(million_read=100.0)), [0.04, 0.1, None]),
        (Prices(base=Price(million_read=100.0, million_written=1000.0)), [0.04, 0.1 + 0.1, None]),
        (Prices(asr=Price(sound_minute=0.5)), [None, 1.0, None]),
        (Prices(asr=Price(machine_hour=3600.0), base=Price(machine_hour=360.0)), [0.5, 6.0 + 0.5, None]),
        (Prices(adapted=Price(sound_minute=0.5, million_written=1000.0)), [None, None, 1.0 + 0.2]),
        (Prices(adapted=Price()), [None, None, 0.0]),
    ],
)
def test_what_is_paid_by_tokens_by_sound_and_by_the_hour(prices: Prices, expected: list[float | None]) -> None:
    assert list(money(prices).values()) == [pytest.approx(one) for one in expected]
    assert costs(prices).currency == "USD"


def test_nothing_is_priced_that_was_not_counted() -> None:
    steps = {"respond.adapted_speech": step(20)}
    assert money(Prices(adapted=Price(million_read=1.0)), steps) == {"adapted_speech": None}
    assert money(Prices(adapted=Price(machine_hour=1.0)), steps) == {"adapted_speech": None}
    assert money(Prices(adapted=Price(sound_minute=1.0)), steps) == {"adapted_speech": 2.0}
    assert costs(Prices(), {}).columns == ()


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"base": {"million_read": -1}}, r"prices\.base\.million_read.*-1"),
        ({"base": {"token": 1}}, r"prices\.base\.token"),
        ({"tts": {"million_read": 1}}, r"prices\.tts"),
        ({"currency": ""}, r"prices\.currency"),
        ({"asr": {"sound_minute": float("inf")}}, r"prices\.asr\.sound_minute"),
    ],
)
def test_prices_are_checked(fake_plan: dict[str, Any], prices: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        Plan.from_mapping({**fake_plan, "prices": prices})


def test_a_system_that_counts_is_counted_and_no_answer_depends_on_prices(
    fake_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Request] = []
    answered = HashedSystem.loglikelihoods

    def counting(system: HashedSystem, requests: Any) -> Any:
        read.extend(requests)
        return answered(system, requests)

    monkeypatch.setattr(HashedSystem, "loglikelihoods", counting)
    monkeypatch.setattr(HashedSystem, "tokens", lambda _: Tokens(7 * len(read), 0), raising=False)
    plan = {**fake_plan, "tasks": fake_plan["tasks"][:1], "controls": []}
    report = evaluate(plan)
    assert report.costs is not None
    by_column = {cost.column: cost for cost in report.costs.columns}
    n = report.overall.n_items
    assert {name: cost.tokens for name, cost in by_column.items()} == {
        "base_text": Tokens(7 * n, 0),
        "base_transcript": Tokens(14 * n, 0),
        "adapted_text": Tokens(7 * n, 0),
        "adapted_speech": Tokens(14 * n, 0),
    }
    asked = len(read)
    again = evaluate({**plan, "prices": {"currency": "EUR", "base": {"million_read": 1e6}}})
    assert len(read) == asked, "a price makes nothing anew"
    assert again == report
    assert again.costs is not None
    assert again.costs.currency == "EUR"
    assert {cost.column: cost.money for cost in again.costs.columns}["base_text"] == 7 * n
