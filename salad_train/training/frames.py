"""The frozen encoder's output, kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salad_eval.errors import AudioError, DataError
from salad_eval.progress import track
from salad_eval.records import JsonlLog, read_jsonl, write_jsonl
from salad_eval.types import Audio
from salad_train.speech.utterances import Speaker, Utterance


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """A line of the store's index: rows ``start`` to ``start + n`` of its array, from so many seconds of sound.

    ``sum``: over the rows, their number and the seconds; empty in a store that was made before there were any.
    """

    key: str
    start: int
    n: int
    seconds: float
    sum: str = ""


@dataclass(frozen=True, slots=True)
class _StoreHead:
    """What a store was made with; frames of another encoder must not be mixed in."""

    width: int
    fingerprint: str


class FrameStore:
    """Output of a frozen model on disk, an encoder's mostly: one flat float16 array (rows, width), memory-mapped, and a JSONL index.

    Adding is resumable: a key counts once its index line is whole, and bytes beyond the last indexed row are
        overwritten.
    """

    def __init__(self, folder: Path, width: int, fingerprint: str) -> None:
        self.folder, self.width = Path(folder), width
        self.folder.mkdir(parents=True, exist_ok=True)
        head_path = self.folder / "store.jsonl"
        head = _StoreHead(width, fingerprint)
        if head_path.exists():
            found = read_jsonl(head_path, _StoreHead)
            if found != [head]:
                raise DataError(
                    f"{self.folder} holds the output of another model ({found}); this run needs {head}. Give another folder or remove it."
                )
        else:
            write_jsonl(head_path, [head])
        self._array_path = self.folder / "frames.f16"
        self._log: JsonlLog[StoredFrames] = JsonlLog(self.folder / "index.jsonl", StoredFrames)
        self._where = {entry.key: entry for entry in self._log.read()}
        self._rows = max((entry.start + entry.n for entry in self._where.values()), default=0)
        self._map: np.memmap[Any, Any] | None = None
        self._checked: set[str] = set()
        size = self._array_path.stat().st_size if self._array_path.exists() else 0
        if size < self._rows * width * 2:
            raise DataError(
                f"{self._array_path} has {size} bytes, its index speaks of {self._rows * width * 2}. Remove {self.folder}."
            )

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    @property
    def n_rows(self) -> int:
        return self._rows

    def n_frames(self, key: str) -> int:
        return self._where[key].n

    def seconds(self, key: str) -> float:
        return self._where[key].seconds

    def add(self, keys: Sequence[str], frames: Sequence[np.ndarray], seconds: Sequence[float]) -> None:
        """Append recordings, each (n, width) from so many seconds of sound; float16 on disk."""
        entries, start = [], self._rows
        with open(self._array_path, "r+b" if self._array_path.exists() else "w+b") as file:
            file.seek(start * self.width * 2)
            for key, rows, duration in zip(keys, frames, seconds, strict=True):
                if rows.ndim != 2 or rows.shape[1] != self.width or not len(rows):
                    raise DataError(f"model output of shape {rows.shape}; expected (n ≥ 1, {self.width}).")
                with np.errstate(over="ignore"):  # looked for on the next line
                    half = np.ascontiguousarray(rows, dtype="<f2")
                if not np.isfinite(half).all():
                    raise DataError("model output is not finite in float16; it cannot be stored.")
                file.write(half.tobytes())
                entries.append(StoredFrames(key, start, len(rows), duration, checksum(half, key, duration)))
                start += len(rows)
            file.flush()
            os.fsync(file.fileno())
        self._log.append(*entries)
        self._where.update((entry.key, entry) for entry in entries)
        self._rows, self._map = start, None

    def get(self, key: str) -> np.ndarray:
        """(n, width) float16, a view of the file. Raises ``DataError`` naming the file where they are not the rows that were written."""
        if self._map is None:
            self._map = np.memmap(self._array_path, dtype="<f2", mode="r", shape=(self._rows, self.width))
        entry = self._where[key]
        rows = self._map[entry.start : entry.start + entry.n]
        if key not in self._checked:
            if entry.sum and entry.sum != checksum(rows, key, entry.seconds):
                raise DataError(damaged(self._array_path, key))
            self._checked.add(key)
        return rows

    def close(self) -> None:
        self._log.close()


def checksum(rows: np.ndarray, *more: object) -> str:
    """32 hex digits over the bytes of rows and over what else is stated of them."""
    hasher = hashlib.blake2b(repr((len(rows), *more)).encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(rows).view(np.uint8).data if len(rows) else b"")
    return hasher.hexdigest()


def damaged(path: Path, key: str) -> str:
    """What is said of rows that are not what was written."""
    return f"{path}: the rows of {key} are not what was written (their checksum is another one). Remove {path.parent}; it is made again."


def fill_store(
    store: FrameStore,
    wanted: Iterable[Utterance],
    speaker: Speaker,
    encode: Callable[[Sequence[Audio]], Sequence[np.ndarray]],
    *,
    block: int = 256,
) -> dict[str, str]:
    """Speak and encode every utterance whose sound is not in the store yet. Returns the failures: key → reason.

    ``encode`` gives each recording's frozen encoder output, (n, width).
    """
    keyed = {speaker.key(utterance): utterance for utterance in wanted}
    missing = [(key, utterance) for key, utterance in keyed.items() if key not in store]
    failures: dict[str, str] = {}
    blocks = [missing[i : i + block] for i in range(0, len(missing), block)]
    said = iter(speaker.speak([utterance for _, utterance in missing]))  # in one go: voices work ahead of the encoder
    for number, part in enumerate(track(blocks, "speaking and encoding"), start=1):
        audios = list(itertools.islice(said, len(part) if number < len(blocks) else None))
        if len(audios) != len(part):
            raise AudioError(f"the voice gave {len(audios)} sounds for {len(part)} texts; expected one each.")
        good: list[tuple[str, Audio]] = []
        for (key, _), audio in zip(part, audios, strict=True):
            if audio is None or not len(audio.samples):
                failures[key] = "no_audio"
            else:
                good.append((key, audio))
        if good:
            keys, sounds = [key for key, _ in good], [audio for _, audio in good]
            store.add(keys, encode(sounds), [audio.seconds for audio in sounds])
    return failures


@dataclass(frozen=True, slots=True)
class FrameJitter:
    """Moves each recording by up to ``most`` encoder frames, earlier or later; the frame at the edge takes the places left free.

    Where a word falls in the groups that frame stacking makes is chance, and an adapter that hears few recordings many times learns
    it by heart. Moved anew in each batch, the same recording is cut into other groups: time shifting as in speech augmentation, at
    the cost of an index, on the stored output of the frozen encoder.
    """

    most: int
    rng: np.random.Generator

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(n, width) → (n, width)."""
        by = int(self.rng.integers(-self.most, self.most + 1))
        return frames[np.clip(np.arange(len(frames)) + by, 0, len(frames) - 1)] if by else frames


def pad_frames(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Recordings (n_i, width) as one float32 tensor (r, longest, width), zero beyond each length, and lengths (r,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded), torch.from_numpy(lengths)
