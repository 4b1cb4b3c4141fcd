"""Recordings longer than the speech system hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from salad_eval import records
from salad_eval.errors import SaladError
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import RenderOutcome
from salad_eval.pipeline.run import run
from salad_eval.testing.systems import HashedSystem
from salad_eval.types import COLUMNS, Item, Reject, Rendering, Response


def limited(plan: dict[str, Any], seconds: float | None) -> Plan:
    adapted = {"system": "hashed", "options": {"name": "adapted", "max_audio_seconds": seconds}}
    return Plan.from_mapping({**plan, "adapted": adapted})


def renderings(plan: dict[str, Any]) -> list[Rendering]:
    outcomes = records.read_jsonl(Path(plan["out"]) / "render.jsonl", RenderOutcome)
    return [outcome.rendering for outcome in outcomes if outcome.rendering is not None]


def test_an_item_too_long_in_one_voice_is_a_counted_reject_in_all_columns(fake_plan: dict[str, Any]) -> None:
    run(Plan.from_mapping(fake_plan))
    lengths = {one.item_id: 0.0 for one in renderings(fake_plan)}
    for one in renderings(fake_plan):
        lengths[one.item_id] = max(lengths[one.item_id], one.seconds)
    limit = sorted(lengths.values())[len(lengths) // 2]
    long = {item for item, seconds in lengths.items() if seconds > limit}
    assert 0 < len(long) < len(lengths)

    report = run(limited(fake_plan, limit), again=True)
    assert {f"{count.step}: {count.reason}": count.n for count in report.rejects} == {
        "limits: recording_too_long": len(long)
    }
    folder = Path(fake_plan["out"])
    assert {item.id for item in records.read_jsonl(folder / "items.jsonl", Item)} >= long  # all that was to be asked
    for column in COLUMNS:
        answered = {response.item_id for response in records.read_jsonl(folder / f"respond.{column}.jsonl", Response)}
        assert answered == lengths.keys() - long
    rejects = records.read_jsonl(folder / "rejects.jsonl", Reject)
    assert all(f"the system hashed hears {limit:g} s at most" in reject.detail for reject in rejects)


def test_nothing_is_asked_where_nothing_is_left(fake_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HashedSystem, "distributions", None)
    with pytest.raises(SaladError, match=r"all \d+ were rejected.*recording takes .* hears 0.01 s at most"):
        run(limited(fake_plan, 0.01))


def test_without_a_limit_none_is_left_out(fake_plan: dict[str, Any]) -> None:
    assert not run(limited(fake_plan, None)).rejects
