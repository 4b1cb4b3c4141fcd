"""Controls of a run: whose sound stands where, and what they say of stand-ins that hear and of one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.pipeline.controls import questions_of, silent_samples
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.pipeline.speech import Speech, hand_over
from salad_eval.types import CLEAN, Audio, AudioSegment, ControlName, Item, Rendering, Transcript
from tests.helpers.gap_world import item


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


def heard(items: Sequence[Item], store: AudioStore, voices: Sequence[str] = ("ann", "bob")) -> Speech:
    """Each item in each voice, first in noise and then clean, with a sound of its own."""
    renderings = []
    for k, one in enumerate(items):
        for voice in voices:
            for condition in ("noise,snr=10", CLEAN):
                n = 800 + 10 * len(renderings)
                sound = Audio(np.full(n, (k + 1) / 100, dtype=np.float32), 16_000)
                renderings.append(Rendering(one.id, "context", voice, condition, "what", store.put(sound), 16_000, n))
    return Speech(renderings)


ITEMS = [item(f"i{k}", "A") for k in range(7)]


def test_the_floor_leaves_out_what_is_spoken(store: AudioStore) -> None:
    for question in questions_of("floor", ITEMS, heard(ITEMS, store), store, 0):
        (request,) = question.requests(store)
        assert request.text == question.item.context.replace(question.item.part_text(question.item.spoken_parts[0]), "")
        assert not request.has_audio
        assert request.continuations == question.item.continuations


@pytest.mark.parametrize(
    ("n_samples", "rate", "expected"),
    [(800, 16_000, 800), (8_000, 16_000, 8_000), (15_999, 16_000, 8_000), (40_100, 16_000, 40_000), (30, 11, 30)],
)
def test_silences_are_of_whole_half_seconds(n_samples: int, rate: int, expected: int) -> None:
    assert silent_samples(n_samples, rate) == expected


def test_silence_is_as_long_as_what_it_stands_for_and_clean(store: AudioStore) -> None:
    speech = heard(ITEMS, store)
    for question in questions_of("silent", ITEMS, speech, store, 0):
        assert question.rendered == ("ann", CLEAN)
        (segment,) = [part for part in question.requests(store)[0].prompt if isinstance(part, AudioSegment)]
        (own,) = speech.question(question.item, "speech", ("ann", CLEAN)).renderings
        assert len(segment.audio.samples) == own.n_samples
        assert not segment.audio.samples.any()


@pytest.mark.parametrize("seed", range(5))
def test_every_sound_is_heard_once_and_none_in_its_own_place(store: AudioStore, seed: int) -> None:
    speech = heard(ITEMS, store)
    own = {one.id: speech.question(one, "speech", ("ann", CLEAN)).renderings[0].sha256 for one in ITEMS}
    asked = {one.item.id: one.renderings[0].sha256 for one in questions_of("swapped", ITEMS, speech, store, seed)}
    assert asked.keys() == own.keys()
    assert sorted(asked.values()) == sorted(own.values())
    assert all(asked[id_] != own[id_] for id_ in own)
    again = {one.item.id: one.renderings[0].sha256 for one in questions_of("swapped", ITEMS, speech, store, seed)}
    assert again == asked


def test_an_item_without_a_partner_is_not_swapped(store: AudioStore) -> None:
    assert questions_of("swapped", ITEMS[:1], heard(ITEMS[:1], store), store, 0) == []


class Ears:
    """A system with an ASR in it: what it is told of a sound."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def already_heard(self, asr: str, texts: Mapping[str, str]) -> None:
        self.told.update(texts)


@pytest.mark.parametrize("control", ["silent", "swapped"])
def test_a_cascade_is_told_no_transcript_of_another_sound(store: AudioStore, control: ControlName) -> None:
    """What was heard of an item is never told of the silence, or of another's sound, that stands in its place."""
    renderings = [heard(ITEMS, store).question(one, "speech", ("ann", CLEAN)).renderings[0] for one in ITEMS]
    transcripts = [Transcript(r.item_id, r.part, r.voice, CLEAN, "asr", r.item_id, 0, 1, 0, 1) for r in renderings]
    ears = Ears()
    hand_over(ears, questions_of(control, ITEMS, Speech(renderings, transcripts), store, 0))
    own = {rendering.sha256: rendering.item_id for rendering in renderings}
    assert ears.told == ({} if control == "silent" else own)


def test_a_run_asks_the_controls_of_its_plan(fake_plan: dict[str, Any]) -> None:
    fake_plan["controls"] = ["swapped"]
    report = run(Plan.from_mapping(fake_plan))
    assert {row.control for row in report.controls} == {"swapped"}
    assert (Path(fake_plan["out"]) / "control.adapted_swapped.jsonl").is_file()
    assert not (Path(fake_plan["out"]) / "control.adapted_silent.jsonl").exists()
    with pytest.raises(UserInputError, match="controls"):
        Plan.from_mapping({**fake_plan, "controls": ["deaf"]})


def test_a_run_names_its_models_and_shows_a_prompt_of_each_column(fake_plan: dict[str, Any]) -> None:
    report = run(Plan.from_mapping({**fake_plan, "name": "monday"}))
    assert (report.names.run, report.names.base, report.names.adapted) == ("monday", "base", "adapted")
    by_column = {prompt.column: prompt.text for prompt in report.prompts}
    assert set(by_column) == {"base_text", "base_transcript", "adapted_text", "adapted_speech"}
    assert "s of sound⟩" in by_column["adapted_speech"]
    assert by_column["base_text"] == by_column["adapted_text"]
    assert {(row.control, row.column) for row in report.controls} == {
        ("floor", "base_text"), ("floor", "adapted_speech"), ("silent", "adapted_speech"), ("swapped", "adapted_speech"),
    }  # fmt: skip
