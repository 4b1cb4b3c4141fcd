"""From cut documents to batches: what is spoken, the stored output of the frozen encoder, and an order that is a pure
function.

Nothing here trains. Everything here can be rebuilt from the documents, the seeds and the voices.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from salad_eval.errors import AudioError, DataError, UserInputError
from salad_eval.progress import track
from salad_eval.records import JsonlLog, read_jsonl, write_jsonl
from salad_eval.types import Audio
from salad_train.speech.interleave import Interleaved, Layout, lay_out, rng_for
from salad_train.training.objective import CachedPositions

# --- speech ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Utterance:
    """A span that is to be heard: characters ``start`` to ``end`` of a document, which read ``text`` without the whitespace
    around it."""

    document_id: str
    text: str
    voice: str
    start: int
    end: int


class Speaker(Protocol):
    """Where the sound of a span comes from: a synthetic voice that reads it, or the recording it is a part of."""

    def key(self, utterance: Utterance) -> str:
        """Names the sound in a frame store; equal keys mean equal sound."""
        ...

    def speak(self, utterances: Sequence[Utterance]) -> Iterable[Audio | None]:
        """One sound each, in the same order; ``None`` where there is none."""
        ...


def span_key(text: str, voice: str) -> str:
    """Names what was said by whom: 16 bytes of sha256, in hex."""
    return hashlib.sha256(f"{voice}\x00{text}".encode()).hexdigest()[:32]


def utterances_of(interleaved: Interleaved, voice: str) -> list[Utterance]:
    """The speech spans of a cut document."""
    found, at = [], 0
    for span in interleaved.spans:
        if span.modality == "speech":
            found.append(Utterance(interleaved.document_id, span.spoken_text, voice, at, at + len(span.text)))
        at += len(span.text)
    return found


def voice_for(document_id: str, epoch: int, voices: Sequence[str], seed: int) -> str:
    """The one voice that reads a document in an epoch."""
    if not voices:
        raise UserInputError("no voices: name at least one for the spans to be spoken in.")
    return voices[int(rng_for(seed + 1, document_id, epoch).integers(len(voices)))]


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """A line of the store's index: rows ``start`` to ``start + n`` of its array, from so many seconds of sound."""

    key: str
    start: int
    n: int
    seconds: float


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
                entries.append(StoredFrames(key, start, len(rows), duration))
                start += len(rows)
            file.flush()
            os.fsync(file.fileno())
        self._log.append(*entries)
        self._where.update((entry.key, entry) for entry in entries)
        self._rows, self._map = start, None

    def get(self, key: str) -> np.ndarray:
        """(n, width) float16, a view of the file."""
        if self._map is None:
            self._map = np.memmap(self._array_path, dtype="<f2", mode="r", shape=(self._rows, self.width))
        entry = self._where[key]
        return self._map[entry.start : entry.start + entry.n]

    def close(self) -> None:
        self._log.close()


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
    for part in track(blocks, "speaking and encoding"):
        audios = list(speaker.speak([utterance for _, utterance in part]))
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


# --- examples --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A document as student and teacher read it. ``recordings`` are keys of the frame store, in order."""

    document_id: str
    domain: str
    layout: Layout
    teacher_ids: np.ndarray
    recordings: tuple[str, ...]

    @property
    def length(self) -> int:
        """Positions of the student's sequence."""
        return len(self.layout.input_ids)


def make_example(
    interleaved: Interleaved, keys: Sequence[str], audio_positions: Sequence[int], audio_token_id: int
) -> Example:
    layout = lay_out(interleaved, audio_positions, audio_token_id)
    return Example(
        interleaved.document_id, interleaved.domain, layout, np.asarray(interleaved.ids, dtype=np.int64), tuple(keys)
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded on the right: a causal LM needs no mask for it, since no real position can see a padded one.

    Attributes:
        input_ids: (b, t) student sequences; teacher_ids: (b, u) pure texts.
        student, teacher: (n,) scored positions as indices into the flattened (b·t) and (b·u); ``targets``: (n,).
        after_speech: (n,) whether a target is the first text token after speech.
        encoder_hidden_states: (r, frames, width) and encoder_lengths (r,) of the recordings in order, or ``None`` in
            a batch of text.
        taught: what was kept of the teacher at the scored positions (``teacher_cache``): its distributions, or (n, teacher width)
            its last hidden states. It is then not asked.
    """

    input_ids: torch.Tensor
    teacher_ids: torch.Tensor
    student: torch.Tensor
    teacher: torch.Tensor
    targets: torch.Tensor
    after_speech: torch.Tensor
    encoder_hidden_states: torch.Tensor | None
    encoder_lengths: torch.Tensor | None
    document_ids: tuple[str, ...]
    taught: CachedPositions | torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        moved = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, (torch.Tensor, CachedPositions))
        }
        return Batch(**{**vars(self), **moved})


def collate(
    examples: Sequence[Example],
    store: FrameStore | None,
    pad_id: int = 0,
    moved: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
) -> Batch:
    """One batch of examples; ``pad_id`` is any id of the vocabulary (padded positions are never read). ``moved`` is done to the
    frames of each recording, and must keep their shape (see ``FrameJitter``)."""
    width = max(example.length for example in examples)
    teacher_width = max(len(example.teacher_ids) for example in examples)
    inputs = np.full((len(examples), width), pad_id, dtype=np.int64)
    teachers = np.full((len(examples), teacher_width), pad_id, dtype=np.int64)
    for row, example in enumerate(examples):
        inputs[row, : example.length] = example.layout.input_ids
        teachers[row, : len(example.teacher_ids)] = example.teacher_ids
    student = np.concatenate([row * width + example.layout.student for row, example in enumerate(examples)])
    teacher = np.concatenate([row * teacher_width + example.layout.teacher for row, example in enumerate(examples)])
    keys = [key for example in examples for key in example.recordings]
    frames = lengths = None
    if keys:
        if store is None:
            raise DataError("examples with recordings need the frame store they were made with.")
        frames, lengths = pad_frames([moved(store.get(key)) for key in keys])
    return Batch(
        input_ids=torch.from_numpy(inputs),
        teacher_ids=torch.from_numpy(teachers),
        student=torch.from_numpy(student),
        teacher=torch.from_numpy(teacher),
        targets=torch.from_numpy(np.concatenate([example.layout.targets for example in examples])),
        after_speech=torch.from_numpy(np.concatenate([example.layout.after_speech for example in examples])),
        encoder_hidden_states=frames,
        encoder_lengths=lengths,
        document_ids=tuple(example.document_id for example in examples),
    )


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


# --- order -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch holds at most ``tokens`` padded positions and ``sequences`` sequences (always at least one)."""

    tokens: int
    sequences: int

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.sequences < 1:
            raise UserInputError(
                f"batches of {self.tokens} tokens and {self.sequences} sequences: expected both to be at least 1."
            )


@dataclass
class BatchOrder:
    """Which examples make up batch ``index``: a pure function of (lengths, limits, seed, index), without end.

    Each epoch is a fresh permutation, cut into windows; in a window, sequences of like length come together and the
    batches are shuffled again.
    """

    lengths: Sequence[int]
    limits: BatchLimits
    seed: int
    window: int = 2048
    _epochs: list[list[tuple[int, ...]]] = field(default_factory=list, repr=False)
    _starts: list[int] = field(default_factory=lambda: [0], repr=False)

    def __post_init__(self) -> None:
        if not len(self.lengths):
            raise UserInputError("no examples to make batches of.")

    def batch(self, index: int) -> tuple[int, ...]:
        while index >= self._starts[-1]:
            self._epochs.append(self._pack(len(self._epochs)))
            self._starts.append(self._starts[-1] + len(self._epochs[-1]))
        epoch = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._epochs[epoch][index - self._starts[epoch]]

    def batches_in_epoch(self, epoch: int) -> int:
        return len(self._pack(epoch))

    def _pack(self, epoch: int) -> list[tuple[int, ...]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        packed: list[tuple[int, ...]] = []
        for start in range(0, len(order), self.window):
            chunk = sorted(order[start : start + self.window].tolist(), key=lambda i: (self.lengths[i], i))
            batches = list(pack(chunk, self.lengths, self.limits))
            packed += [batches[k] for k in rng.permutation(len(batches))]
        return packed


def pack(order: Sequence[int], lengths: Sequence[int], limits: BatchLimits) -> Iterator[tuple[int, ...]]:
    """Cut ``order`` (ascending in length) into batches within ``limits``."""
    current: list[int] = []
    for index in order:
        if current and (len(current) == limits.sequences or lengths[index] * (len(current) + 1) > limits.tokens):
            yield tuple(current)
            current = []
        current.append(index)
    if current:
        yield tuple(current)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Which source each batch is drawn from: sources take turns in proportion to ``weights``, as evenly as can be."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or not 0 < math.fsum(self.weights) < math.inf:
            raise UserInputError(f"weights of the mixture are {self.weights}; expected shares ≥ 0, not all of them 0.")

    def source(self, index: int) -> tuple[int, int]:
        """(the source of batch ``index``, the batch's number among those of its source)."""
        before, after = self._counts(index), self._counts(index + 1)
        which = next(j for j, (a, b) in enumerate(zip(before, after, strict=True)) if b > a)
        return which, before[which]

    def _counts(self, index: int) -> list[int]:
        """How many of the first ``index`` batches each source has; adding one to ``index`` adds one to exactly one of them."""
        total = math.fsum(self.weights)
        counts, left, rest = [], index, total
        for weight in self.weights[:0:-1]:  # the last sources take their share of what the later ones left
            taken = math.floor(left * weight / rest + 1e-9) if rest > 0 else 0  # 3 · (1/3) must reach 1
            counts.append(taken)
            left, rest = left - taken, rest - weight
        return [left, *reversed(counts)]
