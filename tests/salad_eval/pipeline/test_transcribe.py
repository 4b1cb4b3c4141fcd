"""The transcribe step: counts by hand, the round-trip check as a table, and that nothing unreadable passes as silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, ModelError, PluginError
from salad_eval.pipeline.transcribe import answer_word_heard, answer_words, answers_of, count_errors, transcribe
from salad_eval.types import CLEAN, Audio, Item, Reject, Rendering, Transcript

RATE_HZ = 16_000


class ScriptedASR:
    """Hears what the script says of a sound of that many samples; refuses a sound of one sample."""

    def __init__(self, script: dict[int, str]) -> None:
        self.script = script
        self.calls: list[int] = []

    def fingerprint(self) -> str:
        return "scripted"

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        self.calls.append(len(audios))
        if any(len(audio.samples) == 1 for audio in audios):
            raise AudioError("too short")
        return [self.script[len(audio.samples)] for audio in audios]


def rendering_of(store: AudioStore, item_id: str, n_samples: int, spoken: str, voice: str = "v") -> Rendering:
    sha256 = store.put(Audio(np.full(n_samples, 0.25, np.float32), RATE_HZ))
    return Rendering(item_id, "context", voice, CLEAN, spoken, sha256, RATE_HZ, n_samples)


def item_of(
    choices: tuple[str, ...] = (), gold: int | None = None, answers: tuple[str, ...] = (), context: str = "Q"
) -> Item:
    return Item("i", "t", "test", "d", context, choices, gold, "i", (), answers=answers)


# --- error counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoken", "heard", "word_errors", "n_words", "char_errors", "n_chars"),
    [
        ("the cat sat", "The cat sat.", 0, 3, 0, 11),
        ("the cat sat", "the hat sat", 1, 3, 1, 11),  # substitution
        ("the cat sat", "the sat", 1, 3, 4, 11),  # deletion
        ("the cat sat", "the cat sat down", 1, 3, 5, 11),  # insertion
        ("the cat sat", "", 3, 3, 11, 11),
        ("a", "one two three", 3, 1, 13, 1),  # more errors than words
        ("what is three plus four", "What is 3 plus 4?", 0, 5, 0, 23),  # digits are words
        ("?!", "hm", 1, 0, 2, 0),  # nothing said: all that was heard is inserted
        ("", "", 0, 0, 0, 0),
    ],
)
def test_count_errors(spoken: str, heard: str, word_errors: int, n_words: int, char_errors: int, n_chars: int) -> None:
    counts = count_errors(spoken, heard)
    assert (counts.word_errors, counts.n_words) == (word_errors, n_words)
    assert (counts.char_errors, counts.n_chars) == (char_errors, n_chars)


WORDS = st.lists(st.sampled_from(["ant", "bee", "cow", "dog"]), max_size=6).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(WORDS, WORDS)
def test_count_errors_lies_between_the_difference_in_length_and_the_longer_text(spoken: str, heard: str) -> None:
    counts, n_heard = count_errors(spoken, heard), len(heard.split())
    assert counts.n_words == len(spoken.split())
    assert abs(counts.n_words - n_heard) <= counts.word_errors <= max(counts.n_words, n_heard)
    assert (counts.word_errors == 0) == (spoken == heard)


# --- the round-trip check --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "spoken", "heard", "expected"),
    [
        (("calcium",), "Is it calcium or iron?", "is it calcium or iron", True),
        (("calcium",), "Is it calcium or iron?", "is it cowsium or iron", False),
        (("calcium",), "Is it calcium or iron?", "", False),
        (
            ("calcium",),
            "What makes bones hard?",
            "what makes bones hard",
            None,
        ),  # the question does not name its answer
        (("the calcium",), "What is the metal?", "what is a metal", None),  # "the" bears no answer
        (("Max Planck",), "Was it Max Planck?", "was it max planck", True),
        (("Max Planck",), "Was it Max Planck?", "was it max plank", False),  # every word counts
        (("the Max Planck institute",), "Was it Planck?", "was it planck", True),  # as far as it is spoken
        (("7",), "Is it seven or 8?", "is it 7 or eight", True),  # both are normalised
        (("cat",), "The catalogue", "the dog", None),  # whole words only
        (("is",), "What is is?", "what", False),  # an answer of function words keeps them
        (("", "?"), "What is it?", "what is it", None),
        ((), "What is it?", "what is it", None),
    ],
)
def test_answer_word_heard(answers: tuple[str, ...], spoken: str, heard: str, expected: bool | None) -> None:
    assert answer_word_heard(answers, spoken, heard) is expected


def test_answer_words() -> None:
    assert answer_words(("the Eiffel Tower",), "Is the eiffel tower in Rome?") == {"eiffel", "tower"}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (item_of(("iron", "calcium"), 1), ("calcium",)),
        (item_of(("iron", "calcium"), 1, ("calcium", "Ca")), ("calcium", "Ca")),
        (item_of(answers=("Paris", "the city of Paris")), ("Paris", "the city of Paris")),
        (item_of(), ()),
        # options that are labels stand for what the prompt says behind them, after the shots' own options
        (
            item_of(("A", "B"), 1, context="A. ant\nB. bee\nAnswer: A\n\nWhich?\nA. iron\nB. calcium  \nAnswer:"),
            ("calcium",),
        ),
        (item_of(("A", "B"), 0, context="Which?\n(A) iron ore\n(B) calcium\nAnswer:"), ("iron ore",)),
        (item_of(("H", "O"), 0, context="What is the symbol for hydrogen?"), ("H",)),
        (item_of(("1", "12"), 1, context="How many eggs are in a dozen?"), ("12",)),
    ],
)
def test_answers_of(item: Item, expected: tuple[str, ...]) -> None:
    assert answers_of(item) == expected


# --- the step --------------------------------------------------------------------------------------------------------


def test_one_transcript_a_rendering_in_order(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    renderings = [
        rendering_of(store, "a", 300, "Is it calcium?", voice="v1"),
        rendering_of(store, "a", 200, "Is it calcium?", voice="v2"),
        rendering_of(store, "b", 100, "What is it?"),
    ]
    asr = ScriptedASR({300: "is it calcium", 200: "is it cow", 100: "What is it"})
    found = list(transcribe(renderings, asr, store, answers={"a": ("calcium",)}))
    assert found == [
        Transcript("a", "context", "v1", CLEAN, "scripted", "is it calcium", 0, 3, 0, 13, True),
        Transcript("a", "context", "v2", CLEAN, "scripted", "is it cow", 1, 3, 6, 13, False),
        Transcript("b", "context", "v", CLEAN, "scripted", "What is it", 0, 3, 0, 10, None),
    ]


def test_equal_sound_is_heard_once(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    asr = ScriptedASR({100: "hello"})
    renderings = [rendering_of(store, str(k), 100, "hello") for k in range(5)]
    assert [t.item_id for t in transcribe(renderings, asr, store, answers={})] == list("01234")
    assert asr.calls == [1]


def test_it_streams(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    asr = ScriptedASR(dict.fromkeys(range(100, 110), "hello"))
    stream = transcribe(
        (rendering_of(store, str(n), n, "hello") for n in range(100, 110)), asr, store, answers={}, batch=4
    )
    next(stream)
    assert asr.calls == [4]
    assert len(list(stream)) == 9
    assert asr.calls == [4, 4, 2]


def test_missing_and_damaged_sound_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    gone, damaged, whole = (
        rendering_of(store, name, n, "hello") for name, n in (("gone", 10), ("damaged", 20), ("whole", 30))
    )
    store.path(gone.sha256).unlink()
    data = bytearray(store.path(damaged.sha256).read_bytes())
    data[-1] ^= 1
    store.path(damaged.sha256).write_bytes(data)
    asr = ScriptedASR({30: "hello"})
    found = list(transcribe([gone, damaged, whole], asr, store, answers={}))
    assert [(o.item_id, o.step, o.reason) for o in found if isinstance(o, Reject)] == [
        ("gone", "transcribe", "unreadable_audio"),
        ("damaged", "transcribe", "unreadable_audio"),
    ]
    assert all(o.detail for o in found if isinstance(o, Reject))
    assert isinstance(found[2], Transcript)
    assert asr.calls == [1]


def test_sound_the_asr_refuses_is_rejected_alone(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    renderings = [rendering_of(store, str(n), n, "hello") for n in (50, 1, 60)]
    found = list(transcribe(renderings, ScriptedASR({50: "hello", 60: "hullo"}), store, answers={}))
    assert [type(o) for o in found] == [Transcript, Reject, Transcript]
    assert found[1] == Reject("1", "transcribe", "unusable_audio", "too short")


def test_what_the_asr_fails_on_is_rejected_alone(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    renderings = [rendering_of(store, str(n), n, "hello") for n in (50, 10, 60, 70)]

    class Failing(ScriptedASR):
        def transcribe(self, audios: Sequence[Audio]) -> list[str]:
            if any(len(audio.samples) == 10 for audio in audios):
                raise IndexError("list index out of range")
            return [None if len(audio.samples) == 60 else "hello" for audio in audios]  # type: ignore[misc]

    found = list(transcribe(renderings, Failing({}), store, answers={}))
    assert [type(one) for one in found] == [Transcript, Reject, Reject, Transcript]
    assert [(one.item_id, one.reason, one.detail) for one in found if isinstance(one, Reject)] == [
        ("10", "plugin_failed", "the ASR scripted failed: IndexError: list index out of range"),
        (
            "60",
            "plugin_failed",
            "the ASR scripted failed: TypeError: it gave a NoneType as a transcript; expected a text",
        ),
    ]


def test_an_asr_that_breaks_is_an_error_and_no_reject(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)

    class Broken(ScriptedASR):
        def transcribe(self, audios: Sequence[Audio]) -> list[str]:
            raise ModelError("out of memory")

    class Short(ScriptedASR):
        def transcribe(self, audios: Sequence[Audio]) -> list[str]:
            return []

    renderings = [rendering_of(store, "a", 10, "hello")]
    with pytest.raises(ModelError, match="out of memory"):
        list(transcribe(renderings, Broken({}), store, answers={}))
    with pytest.raises(PluginError, match="0 transcripts for 1 recordings"):
        list(transcribe(renderings, Short({}), store, answers={}))


def test_nothing_to_transcribe(tmp_path: Path) -> None:
    assert list(transcribe([], ScriptedASR({}), AudioStore(tmp_path), answers={})) == []
