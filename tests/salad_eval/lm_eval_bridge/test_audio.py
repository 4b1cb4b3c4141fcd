"""Sound in a text prompt: markers and references that fit, and every way in which they do not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.audio.sound import write_audio
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError
from salad_eval.lm_eval_bridge.audio_refs import (
    AudioRef,
    heard,
    holds_marker,
    marked_text,
    marker,
    parse_refs,
    read_ref,
    split_at_markers,
)
from salad_eval.types import Audio, AudioSegment, Segment, TextSegment

A, B = "a" * 64, "b" * 64
RATE = 16_000


def tone(n_samples: int = 1600, pitch: float = 220.0) -> Audio:
    time = np.arange(n_samples) / RATE
    return Audio((0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32), RATE)


def sound(digest: str) -> AudioSegment:
    return AudioSegment(tone(10), digest)


# --- text and markers ------------------------------------------------------------------------------------------------

plain = st.text(min_size=1).filter(lambda text: "<|salad-audio:" not in text)


@given(st.lists(st.one_of(plain, st.sampled_from([A, B])), max_size=8))
def test_a_prompt_is_itself_again(written: list[str]) -> None:
    """Through text and back; neighbouring texts become one, as they are in a string."""
    prompt: list[Segment] = [sound(piece) if piece in (A, B) else TextSegment(piece) for piece in written]
    text = marked_text(prompt)
    refs = [AudioRef(f"{digest}.wav", digest) for digest in (A, B) if digest in written]
    joined: list[Segment] = []
    for segment in prompt:
        if isinstance(segment, TextSegment) and joined and isinstance(joined[-1], TextSegment):
            joined[-1] = TextSegment(joined[-1].text + segment.text)
        else:
            joined.append(segment)
    if any(isinstance(s, TextSegment) and holds_marker(s.text) for s in joined):
        return  # two texts that make a marker between them: the rows refuse such items
    again = heard(split_at_markers(text, refs, "here"), {digest: sound(digest) for digest in (A, B)})
    assert [s.text if isinstance(s, TextSegment) else s.sha256 for s in again] == [
        s.text if isinstance(s, TextSegment) else s.sha256 for s in joined
    ]


@pytest.mark.parametrize(
    ("text", "refs", "message"),
    [
        (f"Q: {marker(A)}", [], "no such audio came with the request"),
        (f"Q: {marker(A)}", [B], "no such audio came with the request"),
        ("Q: what?", [A], "no marker in its text"),
        ("", [A], "acc_mutual_info"),
        (f"Q: {marker(A)}", [A, B], "no marker in its text"),
        (f"Q: {marker(A)[:-3]}", [A], "cut or damaged"),
        (f"Q: {marker(A)} and <|salad-audio:", [A], "cut or damaged"),
    ],
)
def test_audio_and_markers_that_do_not_fit_are_refused(text: str, refs: list[str], message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        split_at_markers(text, [AudioRef("x.wav", digest) for digest in refs], "task t, document 3")
    assert "task t, document 3" in str(caught.value)


def test_one_sound_may_be_heard_twice() -> None:
    ref = AudioRef("x.wav", A)
    assert split_at_markers(f"{marker(A)} or {marker(A)}", [ref], "here") == (ref, " or ", ref)


def test_a_marker_needs_a_whole_digest() -> None:
    with pytest.raises(AudioError, match="64 hexadecimal digits"):
        marker("abc")


# --- references ------------------------------------------------------------------------------------------------------

GOOD = {"path": "x.wav", "sha256": A}


@pytest.mark.parametrize("audio", [GOOD, [GOOD], [{**GOOD, "extra": 1}]])
def test_references_are_read(audio: object) -> None:
    assert parse_refs({"audio": audio}, "here") == (AudioRef("x.wav", A),)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"visual": []}, "the keys visual"),
        ({"audio": [GOOD], "visual": []}, "the keys audio, visual"),
        ([GOOD], "a list"),
        ({"audio": None}, "a NoneType"),
        ({"audio": "x.wav"}, "a str"),
        ({"audio": []}, "not scored from text instead"),
        ({"audio": [np.zeros(3)]}, "a ndarray without path and sha256"),
        ({"audio": [{"array": np.zeros(3), "sampling_rate": RATE}]}, "a dict without path and sha256"),
        ({"audio": [{"path": None, "sha256": A}]}, "path None"),
        ({"audio": [{"path": "x.wav", "sha256": "A" * 64}]}, "64 hexadecimal digits"),
    ],
)
def test_anything_else_is_refused(value: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        parse_refs(value, "here")


def test_a_sound_of_the_store_is_read_and_so_is_any_file_by_its_own_digest(tmp_path: Path) -> None:
    store = AudioStore(tmp_path / "store")
    digest = store.put(tone())
    found = read_ref(AudioRef(str(store.path(digest)), digest))
    assert found.sha256 == digest
    assert np.array_equal(found.audio.samples, store.get(digest).samples)
    file = tmp_path / "x.flac"
    write_audio(file, tone())
    of_file = hashlib.sha256(file.read_bytes()).hexdigest()
    assert np.array_equal(read_ref(AudioRef(str(file), of_file)).audio.samples, found.audio.samples)


@pytest.mark.parametrize("damage", ["missing", "replaced", "bit", "cut", "text", "empty"])
def test_missing_and_damaged_sound_is_an_error(damage: str, tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    digest, other = store.put(tone()), store.put(tone(pitch=330.0))
    file = store.path(digest)
    data = file.read_bytes()
    changes = {
        "replaced": store.path(other).read_bytes(),
        "bit": data[:-1] + bytes([data[-1] ^ 1]),
        "cut": data[: len(data) // 2 * 2 - 200],
        "text": b"<html>404</html>",
        "empty": b"",
    }
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(changes[damage])
    with pytest.raises(AudioError, match=digest[:12]):
        read_ref(AudioRef(str(file), digest))
