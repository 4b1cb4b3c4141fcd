"""Looking after a store of sound: what it holds, which of it is damaged, and room made by removing what was longest unused.

A sound that is removed is spoken again where a run asks for it; no run's numbers depend on the store.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, UserInputError
from salad_eval.progress import track

IN_USE_SECONDS = 3600.0  # what was used since then may be some run's, that has looked it up and not yet read it
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?[bB]?)\s*")
_SOUND = np.dtype([("used", "f8"), ("n_bytes", "i8"), ("sha256", "S64")])  # 80 bytes a sound, so that a million fit


@dataclass(frozen=True, slots=True)
class VoiceUse:
    """What one engine said in one voice. Names are those of the folders: their plain beginning, and a hash.

    ``n_missing`` requests gave a sound that is gone, and are spoken again when they are asked for.
    """

    engine: str
    voice: str
    n_requests: int
    n_missing: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Contents:
    """How many sounds a store holds, their bytes on disk, and who asked for them."""

    n_sounds: int
    n_bytes: int
    voices: tuple[VoiceUse, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, or would be, and what is left. ``n_spared`` sounds went against the cap: used just now, or a named run's."""

    n_sounds: int
    n_bytes: int
    n_left: int
    bytes_left: int
    n_spared: int


@dataclass(frozen=True, slots=True)
class Verified:
    """How many sounds were read, and those that are not what their names say."""

    n_sounds: int
    damaged: tuple[str, ...]


def parse_size(text: str) -> int:
    """Bytes of "20GB", "1.5 TB", "800 MB" or a plain number; units are powers of ten. Raises ``UserInputError``."""
    found = _SIZE.fullmatch(text)
    unit = found.group(2).upper() if found else ""
    unit = unit if unit.endswith("B") or not unit else f"{unit}B"
    if found is None or unit not in _UNITS:
        raise UserInputError(f"{text!r} is no size; expected bytes, or a number with kB, MB, GB or TB, such as 20GB.")
    return round(float(found.group(1)) * _UNITS[unit])


def contents(store: AudioStore) -> Contents:
    """What is there, from the names and lengths of its files and the notes of its requests; no sound is read."""
    sounds = _sounds(store)
    names = set(sounds["sha256"].tolist())
    voices = []
    for file in store.request_files():
        found = store.notes(file).values()
        there = [sound for sound in found if sound.sha256.encode() in names]
        seconds = sum(sound.n_samples / sound.sample_rate_hz for sound in there)
        voices.append(VoiceUse(file.parent.name, file.stem, len(found), len(found) - len(there), seconds))
    return Contents(len(sounds), int(sounds["n_bytes"].sum()), tuple(voices))


def collect_garbage(
    store: AudioStore,
    max_bytes: int,
    *,
    keep: Collection[str] = (),
    dry_run: bool = False,
    now: float | None = None,
) -> Removed:
    """Remove the sounds that were longest unused until the others fit into ``max_bytes``, and the notes of those that are gone.

    Used is what was written or read last, as the file system notes it: to the day on most, and not at all where it is mounted with
    noatime, which makes it the age. Sounds of the last hour stay.

    Args:
        keep: hashes that stay.
        dry_run: only count.
        now: seconds since the epoch; the clock's by default.
    """
    now = time.time() if now is None else now
    sounds = np.sort(_sounds(store), order=["used", "sha256"])
    kept = np.isin(sounds["sha256"], np.array([name.encode() for name in keep], dtype="S64"))
    free = ~kept & (sounds["used"] < now - IN_USE_SECONDS)
    excess = int(sounds["n_bytes"].sum()) - max_bytes
    before = np.cumsum(np.where(free, sounds["n_bytes"], 0)) - np.where(free, sounds["n_bytes"], 0)
    chosen = sounds[free & (before < excess)]
    n_bytes = int(chosen["n_bytes"].sum())
    if not dry_run:
        for name in track(chosen["sha256"].tolist(), "removing sounds"):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                store.path(name.decode()).unlink()
        _remove_leftovers(store, now)
        _forget(store, sounds["sha256"], chosen["sha256"])
    spared = int((~free).sum()) if excess > n_bytes else 0
    return Removed(len(chosen), n_bytes, len(sounds) - len(chosen), int(sounds["n_bytes"].sum()) - n_bytes, spared)


def verify(store: AudioStore, *, remove: bool = False) -> Verified:
    """Read every sound and compare it with its name; ``remove`` those that differ, so that they are spoken again."""
    names = _sounds(store)["sha256"].tolist()
    damaged = []
    for name in track([name.decode() for name in names], "reading sounds"):
        try:
            store.get(name)
        except AudioError:
            if store.path(name).exists():  # and not removed in the meantime
                damaged.append(name)
    if remove:
        for name in damaged:
            store.path(name).unlink(missing_ok=True)
    return Verified(len(names), tuple(damaged))


def _sounds(store: AudioStore) -> np.ndarray:
    """(n,) of ``_SOUND``: every sound's last use, length and hash."""
    return np.fromiter(_files(store), dtype=_SOUND)


def _files(store: AudioStore) -> Iterator[tuple[float, int, bytes]]:
    for entry in _entries(store):
        name, _, suffix = entry.name.partition(".")
        if suffix != "wav" or len(name) != 64:
            continue
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            yield max(stat.st_atime, stat.st_mtime), stat.st_size, name.encode()


def _entries(store: AudioStore) -> Iterator[os.DirEntry[str]]:
    folder = store.root / "pcm"
    for shard in sorted(folder.iterdir()) if folder.is_dir() else ():
        if shard.is_dir():
            with os.scandir(shard) as found:
                yield from found


def _remove_leftovers(store: AudioStore, now: float) -> None:
    """Files that a killed process left under a temporary name."""
    for entry in _entries(store):
        if entry.name.endswith(".tmp") and entry.stat().st_mtime < now - IN_USE_SECONDS:
            Path(entry.path).unlink(missing_ok=True)


def _forget(store: AudioStore, listed: np.ndarray, removed: np.ndarray) -> None:
    """Drop notes of sounds that are gone. A process that notes something at this very moment loses that note, and speaks again."""
    names = set(listed.tolist()) - set(removed.tolist())
    for file in store.request_files():
        notes = store.notes(file)
        left = {key: sound for key, sound in notes.items() if sound.sha256.encode() in names}
        if len(left) < len(notes):
            store.write_notes(file, left)
