"""The audio store: sound by hash and by request, shared by processes that may die at any moment."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from salad_eval.audio import sound as audio
from salad_eval.audio.store import AudioStore, SpeechRequest, StoredSound, default_root
from salad_eval.errors import AudioError
from salad_eval.types import Audio


def sound(seed: int = 0, n: int = 800) -> Audio:
    return Audio(np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32), 16_000)


def request(
    text: str = "hello", voice: str = "en-us", tts: str = "tts 1", perturbation: str = "clean"
) -> SpeechRequest:
    return SpeechRequest(tts, voice, text, perturbation)


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


# --- by hash


def test_what_is_put_is_got_back(store: AudioStore) -> None:
    name = store.put(sound())
    assert name == audio.sha256_of(sound())
    assert name in store
    back = store.get(name)
    assert back.sample_rate_hz == 16_000
    assert audio.sha256_of(back) == name
    assert np.abs(back.samples - sound().samples).max() <= 0.5 / audio.PCM_SCALE


def test_a_kept_sound_is_an_ordinary_wav_file(store: AudioStore) -> None:
    name = store.put(sound())
    path = store.path(name)
    assert path == store.root / "pcm" / name[:1] / f"{name}.wav"
    assert audio.sha256_of(audio.read_audio(path)) == name


def test_equal_sounds_are_kept_once(store: AudioStore) -> None:
    name = store.put(sound())
    written = store.path(name).stat().st_mtime_ns
    assert store.put(sound()) == name
    assert store.path(name).stat().st_mtime_ns == written
    assert [p for p in store.root.rglob("*") if p.is_file()] == [store.path(name)]


def test_an_empty_store_holds_nothing_and_writes_nothing(store: AudioStore) -> None:
    assert "0" * 64 not in store
    assert "../../etc/passwd" not in store
    assert 5 not in store
    assert store.find(request()) is None
    with pytest.raises(AudioError, match="has no sound 0000"):
        store.get("0" * 64)
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["", "abc", "../" * 30, "A" * 64, "0" * 63 + "\n"])
def test_only_a_hash_names_a_sound(store: AudioStore, name: str) -> None:
    with pytest.raises(AudioError, match="sha256"):
        store.path(name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-2],
        lambda d: d[:-3],
        lambda d: d[:100] + b"xx" + d[102:],
        lambda d: b"",
        lambda d: d[:24] + b"\x00\x7d" + d[26:],
    ],
)
def test_a_damaged_file_is_never_handed_out(store: AudioStore, damage: object) -> None:
    name = store.put(sound())
    path = store.path(name)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(AudioError, match="damaged"):
        store.get(name)


def test_a_shortened_file_is_written_again(store: AudioStore) -> None:
    name = store.put(sound())
    store.path(name).write_bytes(b"RIFF")
    store.put(sound())
    assert audio.sha256_of(store.get(name)) == name


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    (tmp_path / "pcm").write_text("a file where a folder should be")
    with pytest.raises(AudioError, match="cannot write"):
        store.put(sound())


# --- by request


def test_a_request_is_remembered_across_runs(store: AudioStore) -> None:
    kept = store.put_sound(sound())
    store.remember({request(): kept})
    assert store.find(request()) == kept
    again = AudioStore(store.root)
    assert again.find(request()) == kept == StoredSound(audio.sha256_of(sound()), 16_000, 800)


@pytest.mark.parametrize(
    "other", [request("Hello"), request(voice="en-us+f3"), request(tts="tts 2"), request(perturbation="noise")]
)
def test_every_part_of_a_request_counts(store: AudioStore, other: SpeechRequest) -> None:
    store.remember({request(): store.put_sound(sound())})
    assert store.find(other) is None
    assert AudioStore(store.root).find(other) is None


def test_the_last_answer_counts(store: AudioStore) -> None:
    first, second = store.put_sound(sound(1)), store.put_sound(sound(2))
    store.remember({request(): first})
    store.remember({request(): second})
    assert store.find(request()) == AudioStore(store.root).find(request()) == second


def test_an_answer_without_its_sound_is_no_answer(store: AudioStore) -> None:
    kept = store.put_sound(sound())
    store.remember({request(): kept})
    store.path(kept.sha256).write_bytes(b"RIFF")
    assert store.find(request()) is None
    store.path(kept.sha256).unlink()
    assert store.find(request()) is None


def test_a_kill_in_the_middle_of_a_note_loses_that_note_only(store: AudioStore) -> None:
    kept = store.put_sound(sound())
    store.remember({request("one"): kept, request("two"): kept})
    (file,) = (store.root / "requests").rglob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    again = AudioStore(store.root)
    assert again.find(request("one")) == kept
    assert again.find(request("two")) is None
    again.remember({request("three"): kept})
    assert AudioStore(store.root).find(request("three")) == kept


@pytest.mark.parametrize("voice", ["../../up", "en-us+f3,rate=150", "Mr serious", "ünï", "", "a" * 300])
def test_any_voice_name_has_a_file_of_its_own_inside_the_store(store: AudioStore, voice: str) -> None:
    kept = store.put_sound(sound())
    store.remember({request(voice=voice): kept})
    assert AudioStore(store.root).find(request(voice=voice)) == kept
    assert {p.parts[len(store.root.parts)] for p in store.root.rglob("*")} == {"pcm", "requests"}


def _fill(root: str, worker: int) -> None:
    store = AudioStore(root)
    for i in range(20):
        kept = store.put_sound(sound(i, n=50))
        store.remember({request(f"{worker} {i}"): kept})


def test_several_processes_share_a_store(store: AudioStore) -> None:
    context = multiprocessing.get_context("spawn")
    crew = [context.Process(target=_fill, args=(str(store.root), worker)) for worker in range(2)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    assert [process.exitcode for process in crew] == [0, 0]
    for worker in range(2):
        for i in range(20):
            found = store.find(request(f"{worker} {i}"))
            assert found is not None
            assert found.sha256 == audio.sha256_of(store.get(found.sha256)) == audio.sha256_of(sound(i, n=50))
    assert not list(store.root.rglob("*.tmp"))


def test_the_default_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path))
    assert default_root() == tmp_path / "audio" == AudioStore().root
    monkeypatch.delenv("SALAD_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "salad-gap" / "audio"
