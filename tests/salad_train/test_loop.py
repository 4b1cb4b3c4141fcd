"""The loop turns: evaluate, select, speak, train, evaluate, on the shipped models with a few questions and two steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from salad_eval import records
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.report.json import REPORT_FILE, save_report
from salad_eval.testing.installed import installed
from salad_eval.validation import dotted
from salad_train import loop as loops
from salad_train.loop import LoopPlan, evaluation_of, load_loop, loop, round_plan
from salad_train.recipe import load_recipe
from salad_train.speech.synthesise import Synthesis
from salad_train.training.hf import HfTrainer
from salad_train.types import Corpus, SelectedDocument, Selection, SpokenDocument
from tests.conftest import json_alone
from tests.helpers.loop_stand_ins import WITHOUT_MODELS
from tests.helpers.selection_world import gap_report


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
    monkeypatch.setattr("salad_eval.report.write_report", json_alone)
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


def test_a_loop_s_evaluations_run_where_its_recipe_says(tmp_path: Path) -> None:
    plan = small(tmp_path, **{"settings.engine.models": 2})
    recipe = load_recipe(plan.recipe, dotted(plan.settings))
    assert evaluation_of(plan, recipe, {}).engine.models == recipe.engine.models == 2
    assert evaluation_of(plan, load_recipe(plan.recipe), {}).engine.models is None


class NotingSignal:
    def __init__(self, x: int) -> None:
        self.x = x

    def fingerprint(self) -> str:
        return "noting"  # its options count as well: a plug-in may leave them out here


class NotingTrainer(NotingSignal):
    made: ClassVar[list[str]] = []

    def fit(self, plan: object, selection: object, data: object, out: Path) -> Path:
        self.made.append("stage2")
        records.write_atomic(out / "model" / "config.json", f"{len(self.made)}")
        return out / "model"


CHANGES: dict[str, tuple[dict[str, object], set[str]]] = {
    "nothing": ({}, set()),
    "its name": ({"settings.name": "another"}, set()),
    "an option of the trainer": ({"trainer_options.x": 2}, {"stage2"}),
    "what is read as text": ({"settings.text.max_documents": 19}, {"stage2"}),
    "natural speech": ({"settings.natural.documents.source": "nano/narrow_speech"}, {"stage2"}),
    "the voice": ({"settings.voice.options.rate": 150}, {"selection", "synthesis", "stage2"}),
    "the selection": ({"select.gamma": 1.0}, {"selection", "synthesis", "stage2"}),
    "an option of the signal's": ({"select.signal_options.x": 2}, {"selection", "synthesis", "stage2"}),
    "the corpus": ({"settings.corpus.max_documents": 199}, {"selection", "synthesis", "stage2"}),
    "the cut": ({"settings.stage2.cuts": 2}, {"selection", "synthesis", "stage2"}),
    "steps": ({"settings.stage2.train.steps": 3}, {"selection", "synthesis", "stage2"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_of_a_round_is_made_again_where_what_it_is_made_of_changes(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, expected = CHANGES[change]
    plain: dict[str, object] = {
        "trainer": "noting", "trainer_options": {"x": 1}, "select.signal": "noting", "select.signal_options": {"x": 1},
        "settings.stage2.train.tune": "full", "settings.stage2.train.lm_lr": 1e-5,  # so that text is read as well
    }  # fmt: skip
    with noting_plugins(tmp_path, monkeypatch) as made:
        loop(small(tmp_path, **plain), tmp_path / "out")
        assert made == ["selection", "synthesis", "stage2"]
        made.clear()
        loop(small(tmp_path, **{**plain, **changes}), tmp_path / "out")
    assert set(made) == expected


@contextlib.contextmanager
def noting_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A loop whose steps only note that they were asked, around the real keeping of their results."""
    made: list[str] = []

    def evaluate(plan: LoopPlan, recipe: object, model: str, split: str, out: Path, *more: object) -> None:
        out.mkdir(parents=True, exist_ok=True)
        save_report(gap_report({"animals": 0.5}, split=split), out / REPORT_FILE)

    def select(plan: object, corpus: Corpus, *more: object, **given: object) -> Selection:
        made.append("selection")
        chosen = tuple(SelectedDocument(document, 0, 1.0, "", 1.0) for document in corpus.documents[:3])
        return Selection("noting", 1.0, 9.0, 0, (), (), chosen, f"{plan} of {corpus.fingerprint}")

    def synthesise(selection: Selection, *more: object) -> Synthesis:
        made.append("synthesis")
        spoken = tuple(SpokenDocument(one.document.id, "", 0, 1.0, "v", ()) for one in selection.documents)
        return Synthesis(spoken, 9.0, {})

    monkeypatch.setattr(NotingTrainer, "made", made)
    ours = {
        "evaluate_model": evaluate, "select": select, "synthesise": synthesise, "benchmark_items": lambda *_: (),
        "compare_runs": lambda *_: None, "write_comparison": lambda *_, **__: None,
    }  # fmt: skip
    for name, stand_in in {**WITHOUT_MODELS, **ours}.items():
        monkeypatch.setattr(loops, name, stand_in)
    here = "tests.salad_train.test_loop"
    targets = {
        "salad.trainers": {"noting": f"{here}:NotingTrainer"},
        "salad.signals": {"noting": f"{here}:NotingSignal"},
    }
    with installed(tmp_path, targets):  # type: ignore[arg-type]
        yield made


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


def test_a_result_that_was_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small(
        tmp_path,
        trainer="noting",
        **{"trainer_options": {"x": 1}, "select.signal": "noting", "select.signal_options": {"x": 1}},
    )
    with noting_plugins(tmp_path, monkeypatch) as made:
        loop(plan, tmp_path / "out")
        made.clear()
        (tmp_path / "out" / "round-1" / "stage2" / "model" / "config.json").write_text("damaged")
        loop(plan, tmp_path / "out")
        assert made == ["stage2"]
        lines = tmp_path / "out" / "round-1" / "synthesis" / "synthesis.jsonl"
        lines.write_text(lines.read_text() * 2)
        loop(plan, tmp_path / "out")
        assert made == ["stage2", "synthesis"]
