"""The loop turns: evaluate, select, speak, train, evaluate, on the shipped models with a few questions and two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.validation import dotted
from salad_train import loop as loops
from salad_train.loop import LoopPlan, load_loop, loop, round_plan
from salad_train.recipe import load_recipe
from salad_train.training.hf import HfTrainer


def small(tmp_path: Path, **changes: object) -> LoopPlan:
    evaluation = tmp_path / "evaluation.yaml"
    evaluation.write_text(
        yaml.safe_dump(
            {
                "tasks": ["salad_nano"], "limit": 14, "voices": ["en-us+f3"], "n_resamples": 100, "workers": 1,
                "tts": {"name": "pyttsx3"},
                "asr": {"name": "transformers-ctc", "options": {"pretrained": "nano/asr"}},
                "base": {"system": "hf-text", "options": {"pretrained": "nano/base"}},
                "adapted": {"system": "salad", "options": {"pretrained": "nano/speech"}},
            }
        )
    )  # fmt: skip
    return load_loop(
        "nano",
        {
            "evaluation": str(evaluation),
            "steer": {},
            "select.clusters": 4,
            "select.probe_documents": 2,
            "select.budget_seconds": 40.0,
            "settings.audio_store": str(tmp_path / "audio"),
            "settings.corpus.max_documents": 200,
            "settings.text.max_documents": 20,
            "settings.stage2.natural_documents": 10,
            "settings.stage2.train.steps": 2,
            **changes,
        },
    )


def test_two_rounds_end_in_a_report_and_started_again_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small(tmp_path, rounds=2)
    told: list[str] = []
    result = loop(plan, tmp_path / "out", told.append)
    assert result.files.html.is_file()
    assert "Before and after" in result.files.html.read_text(encoding="utf-8")
    assert (result.model / "model.safetensors").is_file()
    assert result.comparison.n_shared == 14
    first, second = result.selections
    assert {d.document.id for d in first.documents if not d.reserve}.isdisjoint(d.document.id for d in second.documents)
    assert result.comparison.overall.columns["base_text"].difference.value == 0
    assert any("round 2" in line for line in told)

    monkeypatch.setattr(HfTrainer, "fit", None)
    monkeypatch.setattr(loops, "select", None)
    monkeypatch.setattr(loops, "synthesise", None)
    again = loop(plan, tmp_path / "out")
    assert again.comparison == result.comparison
    assert again.selections == result.selections


def test_each_round_goes_on_from_the_last_with_chance_of_its_own() -> None:
    stage = load_recipe("nano", {"stage2.checkpoint": "before/decay"}).stage2
    first, second = round_plan(stage, "a", 1), round_plan(stage, "b", 2)
    assert (first.init, first.checkpoint) == ("a", "before/decay")
    assert (second.init, second.checkpoint) == ("b", None)
    assert first.train.seed != second.train.seed


def test_settings_may_be_nested_or_dotted() -> None:
    assert dotted({"a": {"b": {"c": 1}, "d": [2]}, "e": 3}) == {"a.b.c": 1, "a.d": [2], "e": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"select.gama": 1}, "gama"),
        ({"select.budget_seconds": 0}, "budget_seconds is 0"),
        ({"recipe": 3}, "recipe"),
    ],
)
def test_a_wrong_loop_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        load_loop("nano", changes)


def test_an_unknown_loop_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="nano"):
        load_loop("nanno")
