"""Looking after the store: what it holds, what is damaged, and which sounds make room."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from salad_eval.audio.store import AudioStore, SpeechRequest
from salad_eval.audio.upkeep import IN_USE_SECONDS, Verified, collect_garbage, contents, parse_size, verify
from salad_eval.errors import UserInputError
from salad_eval.types import Audio

NOW = 1_700_000_000.0
DAY = 86_400.0
N_BYTES = 44 + 2 * 800  # a file of one of these sounds


def request(number: int, voice: str = "anna") -> SpeechRequest:
    return SpeechRequest("engine 1", voice, f"sentence {number}", "clean")


def filled(folder: Path, ages: list[float], voice: str = "anna") -> tuple[AudioStore, list[str]]:
    """A store of sounds of 800 samples that were last used so many seconds before ``NOW``, each noted."""
    store = AudioStore(folder)
    names = []
    for number, age in enumerate(ages):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, 800).astype(np.float32)
        sound = store.put_sound(Audio(samples, 16_000))
        store.remember({request(number, voice): sound})
        os.utime(store.path(sound.sha256), (NOW - age, NOW - age))
        names.append(sound.sha256)
    return AudioStore(folder), names


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("0", 0), ("500", 500), ("20GB", 20 * 10**9), ("1.5 tb", 1_500_000_000_000), (" 800 kB ", 800_000), ("3M", 3_000_000), ("7B", 7)],
)  # fmt: skip
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "3 GiB", "1e9", "3GBs", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserInputError, match="is no size; expected bytes"):
        parse_size(text)


def test_contents_are_counted_by_engine_and_voice(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [DAY, DAY, DAY])
    filled(tmp_path, [DAY], voice="bob")  # the same sound as anna's first
    store.path(names[2]).unlink()
    found = contents(store)
    assert (found.n_sounds, found.n_bytes) == (2, 2 * N_BYTES)
    assert [(one.voice.rpartition("-")[0], one.n_requests, one.n_missing, one.seconds) for one in found.voices] == [
        ("anna", 3, 1, 0.1), ("bob", 1, 0, 0.05)
    ]  # fmt: skip


def test_an_empty_store_holds_nothing_and_nothing_is_written(tmp_path: Path) -> None:
    store = AudioStore(tmp_path / "none")
    assert contents(store).n_sounds == 0
    assert collect_garbage(store, 0).n_sounds == 0
    assert verify(store).n_sounds == 0
    assert not store.root.exists()


def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [3 * DAY, 9 * DAY, DAY, 5 * DAY])
    found = collect_garbage(store, 2 * N_BYTES, now=NOW)
    assert (found.n_sounds, found.n_bytes, found.n_left, found.bytes_left, found.n_spared) == (
        2, 2 * N_BYTES, 2, 2 * N_BYTES, 0
    )  # fmt: skip
    assert [name in store for name in names] == [True, False, True, False]
    # Their notes are gone with them, and what is left is found as before.
    again = AudioStore(tmp_path)
    assert [again.find(request(number)) is not None for number in range(4)] == [True, False, True, False]
    assert contents(again).voices[0].n_requests == 2


def test_a_byte_too_many_takes_one_sound_more(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [3 * DAY, 2 * DAY, DAY])
    assert collect_garbage(store, 2 * N_BYTES - 1, now=NOW).n_sounds == 2
    assert [name in store for name in names] == [False, False, True]


def test_what_fits_stays(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [3 * DAY, 2 * DAY])
    before = {file: file.read_bytes() for file in store.request_files()}
    assert collect_garbage(store, 2 * N_BYTES, now=NOW).n_sounds == 0
    assert all(name in store for name in names)
    assert {file: file.read_bytes() for file in store.request_files()} == before


def test_sounds_in_use_and_those_to_keep_stay_and_it_is_said(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [3 * DAY, IN_USE_SECONDS / 2, 2 * DAY])
    found = collect_garbage(store, 0, keep=[names[0]], now=NOW)
    assert (found.n_sounds, found.n_left, found.n_spared) == (1, 2, 2)
    assert [name in store for name in names] == [True, True, False]


def test_a_dry_run_counts_and_removes_nothing(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [3 * DAY, 2 * DAY])
    assert collect_garbage(store, 0, dry_run=True, now=NOW).n_sounds == 2
    assert all(name in store for name in names)


def test_what_killed_processes_left_goes_after_an_hour(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [DAY])
    shard = store.path(names[0]).parent
    for name, age in ((".1-0.tmp", 2 * IN_USE_SECONDS), (".2-0.tmp", 5.0)):
        (shard / name).write_bytes(b"half")
        os.utime(shard / name, (NOW - age, NOW - age))
    collect_garbage(store, 10**9, now=NOW)
    assert sorted(one.name for one in shard.iterdir() if one.suffix == ".tmp") == [".2-0.tmp"]


def test_damaged_sounds_are_named_and_removed_on_request(tmp_path: Path) -> None:
    store, names = filled(tmp_path, [DAY, DAY, DAY])
    data = store.path(names[1]).read_bytes()
    store.path(names[1]).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify(store).damaged == (names[1],)
    assert names[1] in store
    assert verify(store, remove=True).damaged == (names[1],)
    assert [name in store for name in names] == [True, False, True]
    assert verify(store) == Verified(2, ())
