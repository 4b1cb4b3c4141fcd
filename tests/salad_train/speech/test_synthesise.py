"""A selection, spoken: the budget is met in seconds of real sound, and what could not be spoken is counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salad_eval.audio.store import AudioStore
from salad_eval.errors import DataError, UserInputError
from salad_eval.pipeline.render import RenderJob
from salad_eval.tts.espeak import Pyttsx3TTS
from salad_eval.types import Audio, Reject, Rendering
from salad_train.speech import speaker as speakers
from salad_train.speech import synthesise as synthesising
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.synthesise import Synthesis, read_synthesis, spoken_documents, synthesise, write_synthesis
from salad_train.speech.utterances import Utterance
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import Stage2Plan
from salad_train.types import SelectedDocument, Selection, TextDocument
from tests.helpers import speech_llm_world as tiny

PLAN = Stage2Plan(
    init="x", base="y", voices=("en-us+m1", "en-us+f1"), train=TrainPlan(steps=1),
    interleave=InterleaveSpec(WordRange(1, 3), WordRange(2, 4)),
)  # fmt: skip


def selection(texts: list[str], budget: float) -> Selection:
    chosen = tuple(
        SelectedDocument(TextDocument(f"d{k}", text, "any"), 0, 1.0, "because", 2.0) for k, text in enumerate(texts)
    )
    return Selection("gap", 5.0, budget, 0, (), (), chosen, f"selection of {len(texts)} for {budget}")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> TTSSpeaker:
    return TTSSpeaker(AudioStore(tmp_path_factory.mktemp("audio")))


@pytest.fixture(scope="module")
def whole(speaker: TTSSpeaker) -> Synthesis:
    texts = [doc.text for doc in tiny.documents(60)]
    return synthesise(selection(texts, 1e6), PLAN, tiny.tokenizer(), speaker)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_budget_is_met_within_a_hundredth(speaker: TTSSpeaker, whole: Synthesis, share: float) -> None:
    budget = share * whole.seconds
    found = synthesise(selection([doc.text for doc in tiny.documents(60)], budget), PLAN, tiny.tokenizer(), speaker)
    assert found.is_met
    assert abs(found.seconds - budget) <= 0.01 * budget
    drawn = [document.document_id for document in whole.documents]
    assert [d.document_id for d in found.documents] == [
        i for i in drawn if i in {d.document_id for d in found.documents}
    ]


def test_a_selection_is_asked_for_once_and_little_is_said_beyond_the_budget(
    tmp_path: Path, whole: Synthesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    said: list[str] = []

    def render(jobs: list[RenderJob], **more: Any) -> Iterator[Rendering | Reject]:
        asked.append(len(jobs))
        return render_all(jobs, **more)

    def speak(self: Pyttsx3TTS, text: str, voice: str) -> Audio:
        said.append(text)
        return speak_one(self, text, voice)

    render_all, speak_one = speakers.render, Pyttsx3TTS.speak
    monkeypatch.setattr(speakers, "render", render)
    monkeypatch.setattr(Pyttsx3TTS, "speak", speak)
    monkeypatch.setattr(synthesising, "BLOCK", 4)
    chosen = selection([doc.text for doc in tiny.documents(60)], 0.3 * whole.seconds)
    found = synthesise(chosen, PLAN, tiny.tokenizer(), TTSSpeaker(AudioStore(tmp_path)))
    heard = sum(span.sha256 is not None for document in found.documents for span in document.spans)
    (n,) = asked
    assert heard <= len(said) < 0.6 * n


def test_a_selection_that_holds_too_little_says_so(whole: Synthesis) -> None:
    assert not whole.is_met
    assert whole.documents


def test_a_line_says_what_is_read_and_what_is_heard(speaker: TTSSpeaker, whole: Synthesis) -> None:
    texts = {f"d{k}": doc.text for k, doc in enumerate(tiny.documents(60))}
    for document in whole.documents[:8]:
        assert "".join(span.text for span in document.spans) == texts[document.document_id]
        heard = [span for span in document.spans if span.sha256]
        assert heard
        for span in heard:
            assert speaker.store.get(span.sha256 or "").seconds == pytest.approx(span.seconds)
        assert document.voice in PLAN.voices


def test_what_cannot_be_spoken_is_counted_and_later_ones_stand_in(speaker: TTSSpeaker) -> None:
    good = [doc.text for doc in tiny.documents(6)]
    bad = [
        "Here comes \u4e16\u754c \u4e16\u754c \u4e16\u754c and \u4e16\u754c \u4e16\u754c \u4e16\u754c and more",
        "Gold",
    ]
    found = synthesise(selection([*bad, *good], 1e6), PLAN, tiny.tokenizer(), speaker)
    assert found.left_out.get("not_cut") == 1
    assert len(found.documents) + sum(found.left_out.values()) == 8
    with pytest.raises(DataError, match="none of 1 selected documents could be spoken"):
        synthesise(selection(["Gold"], 10.0), PLAN, tiny.tokenizer(), speaker)


def test_a_folder_of_another_selection_or_cut_is_refused(tmp_path: Path, whole: Synthesis) -> None:
    chosen = selection([doc.text for doc in tiny.documents(60)], 1e6)
    write_synthesis(whole, chosen, PLAN, "tts 1", tmp_path)
    again = read_synthesis(tmp_path, chosen, PLAN, "tts 1")
    assert again.documents == whole.documents
    assert [d.id for d in spoken_documents(chosen, again)] == [d.document_id for d in whole.documents]
    with pytest.raises(UserInputError, match="another selection"):
        read_synthesis(tmp_path, selection(["a b c d e f"], 5.0), PLAN, "tts 1")
    with pytest.raises(UserInputError, match=r"another voice \(tts 1\) than this one \(tts 2\)"):
        read_synthesis(tmp_path, chosen, PLAN, "tts 2")
    other = dataclasses.replace(PLAN, train=TrainPlan(steps=1, seed=7))
    with pytest.raises(UserInputError, match="another plan"):
        read_synthesis(tmp_path, chosen, other, "tts 1")
    lines = (tmp_path / "synthesis.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for damaged in (lines[:-1], [*lines, lines[0]]):
        (tmp_path / "synthesis.jsonl").write_text("".join(damaged), encoding="utf-8")
        with pytest.raises(DataError, match=r"synthesis\.jsonl is not the file"):
            read_synthesis(tmp_path, chosen, PLAN, "tts 1")
    (tmp_path / "synthesis.json").unlink()
    with pytest.raises(UserInputError, match="no finished synthesis"):
        read_synthesis(tmp_path, chosen, PLAN, "tts 1")


def test_the_sound_of_a_span_is_named_by_all_that_shapes_it(speaker: TTSSpeaker) -> None:
    said = Utterance("d", "gold and iron", "en-us+f3", 0, 13)
    keys = {
        speaker.key(said),
        speaker.key(dataclasses.replace(said, text="gold and silver")),
        speaker.key(dataclasses.replace(said, voice="en-us+m1")),
        TTSSpeaker(speaker.store, "pyttsx3", {"rate": 150}).key(said),
        TTSSpeaker(speaker.store, "pyttsx3", {"pitch": 60}).key(said),
    }
    assert len(keys) == 5
    assert TTSSpeaker(speaker.store).key(said) in keys  # by the same engine
    assert TTSSpeaker(speaker.store).key(dataclasses.replace(said, document_id="e")) in keys


def test_another_version_of_the_engine_is_another_sound(speaker: TTSSpeaker, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Utterance("d", "gold and iron", "en-us+f3", 0, 13)
    before = speaker.key(said)
    monkeypatch.setattr(Pyttsx3TTS, "fingerprint", lambda self: "pyttsx3 9.9")
    assert TTSSpeaker(speaker.store).key(said) != before
