"""Plug-ins that fail: what they can answer is had, the item at fault is counted by name, and one that always fails ends the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from salad_eval.errors import AudioError, ModelError, PluginError, RoomError
from salad_eval.pipeline.care import MOST_FAILED, Caller
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.testing.installed import installed
from salad_eval.types import Failure


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class Doubling:
    """Doubles numbers; ``room`` is how many at once, and ``bad`` what it fails on."""

    def __init__(self, room: int = 99, bad: Sequence[int] = (), error: Exception | None = None) -> None:
        self.room, self.bad, self.error = room, set(bad), error or ValueError("odd\n\nthing")
        self.asked: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        if len(numbers) > self.room:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.bad & set(numbers):
            raise self.error
        return [2 * n for n in numbers]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    double = Doubling(room=2)
    assert Caller("it").ask(double, range(8)) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [len(batch) for batch in double.asked] == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize(
    ("error", "reason", "told"),
    [
        (ValueError("odd\n\nthing"), "plugin_failed", "it failed: ValueError: odd thing"),
        (KeyError("x"), "plugin_failed", "it failed: KeyError: 'x'"),
        (MemoryError(), "out_of_memory", "it failed: MemoryError: "),
        (RuntimeError("MPS backend out of memory"), "out_of_memory", "it failed: RuntimeError: MPS backend out of memory"),
        (AudioError("too short"), "unusable_audio", "too short"),
        (RoomError("no room for it"), "prompt_too_long", "no room for it"),
    ],
)  # fmt: skip
def test_the_unit_at_fault_is_the_only_one_lost(error: Exception, reason: str, told: str) -> None:
    double = Doubling(bad=[5], error=error)
    found = Caller("it").ask(double, range(8))
    assert found == [0, 2, 4, 6, 8, Failure(reason, told), 12, 14]
    assert Caller("it").ask(double, []) == []


def test_errors_that_are_about_more_than_one_unit_are_raised() -> None:
    with pytest.raises(ModelError, match="no such model"):
        Caller("it").ask(Doubling(bad=[5], error=ModelError("no such model")), range(8))


def test_one_that_always_fails_ends_the_run() -> None:
    caller = Caller("the ASR plug-in 'x'")
    with pytest.raises(
        PluginError, match=r"the ASR plug-in 'x' failed: ValueError: odd thing\. It was the 8th failure in a row"
    ):
        caller.ask(Doubling(bad=range(99)), range(64))
    patient = Caller("it")
    for _ in range(3):  # not in a row
        patient.ask(Doubling(bad=range(1, MOST_FAILED)), range(MOST_FAILED))
    for error in (AudioError("too long"), RoomError("too long")):
        deaf = Doubling(bad=range(99), error=error)
        assert len(Caller("it").ask(deaf, range(20))) == 20  # it says so itself, and well it may


# --- in a run --------------------------------------------------------------------------------------------------------

MODULE = """
import os
from salad_eval.errors import RoomError
from salad_eval.testing.recognisers import ToneASR
from salad_eval.testing.systems import HashedSystem
from salad_eval.testing.voices import ToneTTS

class TTS(ToneTTS):
    def __init__(self, how=""): super().__init__(); self.how = how
    def speak(self, text, voice):
        if self.how == "ends" and "planet has rings" in text: os._exit(7)
        return super().speak(text, voice)

class ASR(ToneASR):
    def __init__(self, how="", room=99): super().__init__(); self.how, self.room = how, room
    def transcribe(self, audios):
        if len(audios) > self.room: raise MemoryError("no room")
        heard = super().transcribe(audios)
        if self.how == "none": return [None if "rings" in text else text for text in heard]
        if self.how == "always": raise KeyError("x")
        if self.how == "raises" and any("rings" in text for text in heard): raise ZeroDivisionError("a bug")
        return heard

class System(HashedSystem):
    def __init__(self, name="hashed", hears=True, how="", room=99): super().__init__(name, hears); self.how, self.room = how, room
    def distributions(self, requests):
        if len(requests) > self.room: raise MemoryError("no room")
        if self.how == "raises" and any("rings" in self._read(r) for r in requests): raise ZeroDivisionError("a bug")
        if self.how == "always": raise ZeroDivisionError("a bug")
        if self.how == "room" and any(r.has_audio and "rings" in self._read(r) for r in requests): raise RoomError("no room")
        return super().distributions(requests)
    def generate(self, requests, *, max_new_tokens, stop):
        texts = super().generate(requests, max_new_tokens=max_new_tokens, stop=stop)
        return [None if self.how == "none" and "rings" in self._read(r) else t for r, t in zip(requests, texts)]
"""


@pytest.fixture(scope="module")
def _failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    targets = {
        "salad.tts": {"failing": "failing_plugins:TTS"},
        "salad.asr": {"failing": "failing_plugins:ASR"},
        "salad.systems": {"failing": "failing_plugins:System"},
    }
    folder = tmp_path_factory.mktemp("failing")
    with installed(folder, targets, {"failing_plugins": MODULE}):  # type: ignore[arg-type]
        yield


@pytest.fixture
def plan(fake_plan: dict[str, Any], _failing: None) -> dict[str, Any]:
    return {**fake_plan, "voices": ["low"]}


def with_plugin(plan: dict[str, Any], role: str, **options: object) -> dict[str, Any]:
    if role in ("tts", "asr"):
        return {**plan, role: {"name": "failing", "options": options}}
    return {**plan, role: {"system": "failing", "options": {**plan[role]["options"], **options}}}


CHOICE, FREE = {"choice:test-0", "choice:test-6"}, {"free:test-0", "free:test-6"}  # have rings in their prompts
FAULTS = [
    ("tts", {"how": "ends"}, {"choice:test-0", "free:test-0"}, "render", "worker_died",
     "the TTS plug-in 'failing' on 'Which planet has rings?' in voice 'low': worker process ended with exit code 7"),
    ("asr", {"how": "raises"}, CHOICE | FREE, "transcribe", "plugin_failed",
     "the ASR plug-in 'failing' failed: ZeroDivisionError: a bug"),
    ("asr", {"how": "none"}, CHOICE | FREE, "transcribe", "plugin_failed",
     "the ASR plug-in 'failing' failed: TypeError: it gave a NoneType as a transcript; expected a text"),
    ("base", {"how": "raises"}, CHOICE, "respond", "plugin_failed",
     "base_text: the system plug-in 'failing' failed: ZeroDivisionError: a bug"),
    ("adapted", {"how": "raises"}, CHOICE, "respond", "plugin_failed",
     "adapted_text: the system plug-in 'failing' failed: ZeroDivisionError: a bug"),
    ("adapted", {"how": "room"}, CHOICE, "respond", "prompt_too_long", "adapted_speech: no room"),
    ("adapted", {"how": "none"}, FREE, "respond", "plugin_failed",
     "adapted_text: the system plug-in 'failing' failed: TypeError: it gave a NoneType as an answer; expected a text"),
]  # fmt: skip


@pytest.mark.parametrize(("role", "options", "at_fault", "step", "reason", "told"), FAULTS)
def test_an_item_that_a_plug_in_fails_on_is_a_counted_reject(
    role: str, options: dict[str, object], at_fault: set[str], step: str, reason: str, told: str, plan: dict[str, Any]
) -> None:
    report = run(Plan.from_mapping(with_plugin(plan, role, **options)))
    finished = read_run(Path(plan["out"]))
    with (Path(plan["out"]) / "rejects.jsonl").open() as lines:
        rejects = [json.loads(line) for line in lines]
    assert {reject["item_id"] for reject in rejects} == at_fault
    assert {(reject["step"], reject["reason"]) for reject in rejects} == {(step, reason)}
    assert {reject["detail"] for reject in rejects} == {told}
    assert [(count.step, count.reason, count.n) for count in report.rejects] == [(step, reason, len(at_fault))]
    assert {score.item_id for score in finished.scores} == {item.id for item in finished.items} - at_fault


@pytest.mark.parametrize(("role", "room"), [("asr", 3), ("base", 1), ("adapted", 2)])
def test_what_does_not_fit_into_memory_at_once_is_asked_in_parts(role: str, room: int, plan: dict[str, Any]) -> None:
    whole = run(Plan.from_mapping(with_plugin(plan, role)))
    parts = run(Plan.from_mapping({**with_plugin(plan, role, room=room), "out": plan["out"] + "-parts"}))
    assert parts.rejects == whole.rejects == ()
    assert parts.overall == whole.overall


@pytest.mark.parametrize("role", ["asr", "base"])
def test_a_plug_in_that_always_fails_ends_the_run_by_name(role: str, plan: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=r"plug-in 'failing' failed: .*8th failure in a row"):
        run(Plan.from_mapping(with_plugin(plan, role, how="always")))
    assert not (Path(plan["out"]) / "DONE").exists()
