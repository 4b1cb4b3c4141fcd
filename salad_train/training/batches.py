"""From cut documents to batches: what is spoken, the stored output of the frozen encoder, and an order that is a pure
function.

Nothing here trains. Everything here can be rebuilt from the documents, the seeds and the voices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from salad_eval.batches import of_like_length
from salad_eval.errors import DataError, UserInputError
from salad_train.speech.interleave import Interleaved, Layout, lay_out
from salad_train.training.frames import pad_frames
from salad_train.training.objective import CachedPositions


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A document as student and teacher read it. ``recordings`` are keys of the frame store, in order; ``said``: the tokens of each."""

    document_id: str
    domain: str
    layout: Layout
    teacher_ids: np.ndarray
    recordings: tuple[str, ...]
    said: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Positions of the student's sequence."""
        return len(self.layout.input_ids)


def make_example(
    interleaved: Interleaved, keys: Sequence[str], audio_positions: Sequence[int], audio_token_id: int
) -> Example:
    layout = lay_out(interleaved, audio_positions, audio_token_id)
    return Example(
        interleaved.document_id,
        interleaved.domain,
        layout,
        np.asarray(interleaved.ids, dtype=np.int64),
        tuple(keys),
        tuple(tuple(interleaved.ids[span.token_start : span.token_end]) for span in interleaved.speech),
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
        said: the tokens of each recording, where they are known.
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
    said: tuple[tuple[int, ...], ...] = ()
    taught: CachedPositions | torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        moved = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, (torch.Tensor, CachedPositions))
        }
        return Batch(**{**vars(self), **moved})


class Frames(Protocol):
    """The encoder's output by recordings' keys, such as a ``FrameStore``."""

    def get(self, key: str, /) -> np.ndarray:
        """(n, width)."""
        ...


def collate(
    examples: Sequence[Example],
    store: Frames | None,
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
        said=tuple(tokens for example in examples for tokens in example.said),
    )


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch is; it always holds one sequence at least.

    Attributes:
        tokens: padded positions at most.
        sequences: sequences at most.
    """

    tokens: int
    sequences: int

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.sequences < 1:
            raise UserInputError(
                f"batches of {self.tokens} tokens and {self.sequences} sequences: expected both to be at least 1."
            )

    def batches(self, lengths: Sequence[int], places: Sequence[int] | None = None) -> list[tuple[int, ...]]:
        """Places (by default all) of ``lengths`` in batches within these limits, the shortest first."""
        return [tuple(batch) for batch in of_like_length(lengths, self.tokens, places=places, most=self.sequences)]


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
            batches = self.limits.batches(self.lengths, order[start : start + self.window].tolist())
            packed += [batches[k] for k in rng.permutation(len(batches))]
        return packed
