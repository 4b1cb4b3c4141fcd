"""What the teacher says of a text, kept on disk: for probe sets that are measured again and again, and for a Stage II without the
teacher in memory.

Per position of a text either the ``k`` most likely tokens with one bucket for the mass of all others (``"top"``), or ``k`` tokens
drawn from the whole distribution (``"sampled"``). Both keep the entropy of the whole distribution. What that does to KL(Q ‖ P):

- ``"top"`` compares the distributions after all tokens but k are thrown together. By the data-processing inequality the result
  is never above the full KL (a lower bound of every divergence, and equal to it at k = vocabulary): the shape of the tail is not
  taught. No variance.
- ``"sampled"`` is the mean of log Q − log P over the drawn tokens: right on average, in value and in gradient, and noisy; a
  position's value may be below 0. The draws are kept: going over the same texts again averages positions, not draws.

Measured on the shipped nano models (``tests/speed/bench_teacher_cache.py``; vocabulary 2,048, 1,526 positions): where the student
is far from the teacher (D = 1.98 nats), k = 8, 32 and 128 likeliest tokens give D less 6.3%, 1.9% and 0.4%; where it is near
(0.0115), less 29%, 13% and 4%. As many drawn tokens are right within their noise, whose spread by position is 0.25, 0.14 and 0.07
nats when far and 0.05, 0.03 and 0.01 when near.

In a training step the cache takes the teacher's place::

    cached = cache.positions(chosen)                       # the examples that were collated into ``batch``, in the same order
    hidden = student_positions(model, batch)
    found = cached_objective(hidden, LogitHead.of(model.language_model), cached.to(device), batch.targets, alpha=1.0)

``TeacherStates`` leaves nothing out: it keeps the teacher's last hidden states, from which its head, which is always at hand, makes
the distributions anew; 2 bytes × its width a position.

On disk: ``cache.jsonl`` (whose distributions these are), ``index.jsonl`` (sha256 of the token ids → rows), ``positions.bin`` (one
record a position, memory-mapped). Filling is resumable as ``FrameStore`` is: a text counts once its index line is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.arrays import Packed
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.executor import Chunks, Work
from salad_eval.pipeline.tools import Tools
from salad_eval.progress import track
from salad_eval.records import JsonlLog, read_jsonl, write_jsonl
from salad_eval.systems.prompts import tokenizer_fingerprint
from salad_train.training.batches import BatchLimits, Example
from salad_train.training.checkpoints import teacher_fingerprint
from salad_train.training.frames import FrameStore, checksum, damaged
from salad_train.training.objective import CachedPositions, LogitHead, check_head, position_chunks
from salad_train.training.precision import in_bfloat16

Keep = Literal["top", "sampled"]
Precision = Literal["float32", "bfloat16"]
FINGERPRINT_SAMPLES = 4096  # values of each parameter: a cache outlives the run that made it
WRITE_TOKENS = 1 << 16  # positions written before the index is


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Whose distributions a cache holds, and how much of them.

    Attributes:
        teacher, tokenizer: fingerprints. vocabulary: entries of the teacher's head.
        k: tokens kept a position. precision: of the teacher's arithmetic.
        seed: of the draws, for ``"sampled"``; 0 for ``"top"``.
    """

    teacher: str
    tokenizer: str
    vocabulary: int
    keep: Keep
    k: int
    precision: Precision
    seed: int

    @property
    def record(self) -> np.dtype[Any]:
        """A position on disk: ids and log-probabilities of the kept tokens, log of the mass of all others (−∞ for none), and
        the entropy of the whole distribution, all in nats."""
        return np.dtype([("ids", "<i4", self.k), ("logp", "<f4", self.k), ("tail", "<f4"), ("entropy", "<f4")])


def spec_for(
    teacher: Any, tokenizer: Any, *, k: int, keep: Keep = "top", bf16: bool = False, seed: int = 0
) -> CacheSpec:
    """The spec of a cache of this teacher. Raises ``UserInputError`` for a k outside [1, vocabulary]."""
    vocabulary = int(teacher.get_output_embeddings().weight.shape[0])
    if not 1 <= k <= vocabulary:
        raise UserInputError(f"k is {k}; expected a number of tokens from 1 to the vocabulary's {vocabulary}.")
    return CacheSpec(
        teacher=teacher_fingerprint(teacher, FINGERPRINT_SAMPLES),
        tokenizer=tokenizer_fingerprint(tokenizer),
        vocabulary=vocabulary,
        keep=keep,
        k=k,
        precision=_precision(teacher, bf16),
        seed=seed if keep == "sampled" else 0,
    )


@dataclass(frozen=True, slots=True)
class CachedText:
    """A line of the index: rows ``start`` to ``start + n`` are what the teacher says after each token of a text but the last.

    ``sum``: over the rows; empty in a cache that was made before there were any.
    """

    key: str
    start: int
    n: int
    sum: str = ""


def text_key(ids: np.ndarray) -> str:
    """sha256 of a text's token ids, in hex."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()


class TeacherCache:
    """Teacher distributions by text. ``spec`` must be the folder's own, where it holds a cache already; see ``TeacherCache.open``."""

    def __init__(self, folder: Path, spec: CacheSpec) -> None:
        self.folder, self.spec = Path(folder), spec
        self.folder.mkdir(parents=True, exist_ok=True)
        head = self.folder / "cache.jsonl"
        if head.exists():
            found = _spec_at(self.folder)
            if found != spec:
                raise DataError(f"{self.folder} holds {_difference(found, spec)} Give another folder, or remove it.")
        else:
            write_jsonl(head, [spec])
        self._bin = self.folder / "positions.bin"
        self._log: JsonlLog[CachedText] = JsonlLog(self.folder / "index.jsonl", CachedText)
        self._where = {entry.key: entry for entry in self._log.read()}
        self._rows = max((entry.start + entry.n for entry in self._where.values()), default=0)
        self._map: np.ndarray | None = None
        self._checked: set[str] = set()
        size = self._bin.stat().st_size if self._bin.exists() else 0
        if size < self._rows * spec.record.itemsize:
            raise DataError(
                f"{self._bin} has {size} bytes, its index speaks of {self._rows * spec.record.itemsize}. Remove {self.folder}."
            )

    @classmethod
    def open(cls, folder: Path, tokenizer: Any = None) -> TeacherCache:
        """A cache that is there, where its teacher is not at hand. ``tokenizer``: the student's, which must be the teacher's."""
        spec = _spec_at(Path(folder))
        if tokenizer is not None and (ours := tokenizer_fingerprint(tokenizer)) != spec.tokenizer:
            raise DataError(
                f"{folder} was made with another tokenizer ({spec.tokenizer}) than the student's ({ours}); its token ids mean "
                "something else. Cache the teacher of this student."
            )
        return cls(folder, spec)

    def __contains__(self, ids: np.ndarray) -> bool:
        return text_key(ids) in self._where

    def __len__(self) -> int:
        return len(self._where)

    @property
    def n_positions(self) -> int:
        return self._rows

    def add(self, texts: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        """Append texts (token ids) with a record (``spec.record``) for every token but the last."""
        entries, start = [], self._rows
        try:
            with open(self._bin, "r+b" if self._bin.exists() else "w+b") as file:
                file.seek(start * self.spec.record.itemsize)
                for ids, records in zip(texts, rows, strict=True):
                    if records.dtype != self.spec.record or len(records) != len(ids) - 1:
                        raise DataError(
                            f"{len(records)} records of {records.dtype} for a text of {len(ids)} tokens; expected one a token but "
                            f"the last, of {self.spec.record}."
                        )
                    file.write(np.ascontiguousarray(records).tobytes())
                    key = text_key(ids)
                    entries.append(CachedText(key, start, len(records), checksum(records, key)))
                    start += len(records)
                file.flush()
                os.fsync(file.fileno())
            self._log.append(*entries)
        except OSError as cause:
            raise DataError(
                f"cannot write {self._bin}: {cause.strerror or cause}. What was cached before stands; make room and start again."
            ) from None
        self._where.update((entry.key, entry) for entry in entries)
        self._rows, self._map = start, None

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The records of a text, (tokens − 1,), a view of the file. Raises ``DataError`` where the text is not cached, or its records
        are not those that were written."""
        entry = self._where.get(text_key(ids))
        if entry is None:
            raise DataError(
                f"{self.folder} does not hold a text of {len(ids)} tokens that is asked for: fill_cache first."
            )
        if entry.n == 0:
            return np.zeros(0, dtype=self.spec.record)
        if self._map is None:
            self._map = np.memmap(self._bin, dtype=self.spec.record, mode="r", shape=(self._rows,))
        found = self._map[entry.start : entry.start + entry.n]
        if entry.key not in self._checked:
            if entry.sum and entry.sum != checksum(found, entry.key):
                raise DataError(damaged(self._bin, entry.key))
            self._checked.add(entry.key)
        return found

    def positions(self, examples: Sequence[Example]) -> CachedPositions:
        """The teacher at the scored positions of ``examples``, in the order in which ``collate`` puts them."""
        if not examples:
            raise UserInputError("no examples to take the teacher's positions of.")
        found = []
        for example in examples:
            if example.teacher_ids not in self:
                raise DataError(
                    f"{self.folder} does not hold document {example.document_id!r} as it reads now: fill_cache first."
                )
            found.append(self.rows(example.teacher_ids)[example.layout.teacher])
        return as_positions(np.concatenate(found), self.spec)

    def close(self) -> None:
        self._log.close()


def as_positions(records: np.ndarray, spec: CacheSpec) -> CachedPositions:
    """Records off the disk as what ``cached_objective`` takes."""
    ids, entropy = torch.from_numpy(records["ids"].astype(np.int64)), records["entropy"].astype(np.float64)
    if spec.keep == "sampled":
        weights = np.full((len(records), spec.k), 1.0 / spec.k)
        # The drawn tokens' own log Q and not −H(Q): as right on average, and its noise cancels that of log P where the two agree.
        constant = records["logp"].astype(np.float64).mean(axis=1)
        return CachedPositions(
            ids, torch.from_numpy(weights), None, torch.from_numpy(constant), torch.from_numpy(entropy), spec.vocabulary
        )
    mass = np.exp(np.column_stack([records["logp"], records["tail"]]).astype(np.float64))
    mass /= mass.sum(axis=1, keepdims=True)  # float32 logarithms add up to 1 within 1e-6
    constant = (mass * np.log(np.where(mass > 0, mass, 1.0))).sum(axis=1)
    return CachedPositions(
        ids,
        torch.from_numpy(mass[:, :-1].copy()),
        torch.from_numpy(mass[:, -1].copy()),
        torch.from_numpy(constant),
        torch.from_numpy(entropy),
        spec.vocabulary,
    )


def fill_cache(
    cache: TeacherCache,
    teacher: Any,
    texts: Iterable[np.ndarray],
    *,
    limits: BatchLimits = BatchLimits(tokens=4096, sequences=64),
    chunk_logits: int | None = None,
    lesson: Lesson | None = None,
) -> int:
    """Let the teacher read every text (1-d token ids) that is not in the cache yet; returns how many those were.

    Texts of one token have nothing to predict and are left out. ``lesson``: where it reads; by default ``teacher`` itself, here. Raises
    ``DataError`` where the cache is another teacher's, and ``ModelError`` where the teacher's logits are not finite.
    """
    spec = cache.spec
    ours = teacher_fingerprint(teacher, FINGERPRINT_SAMPLES)
    if ours != spec.teacher:
        raise DataError(f"{cache.folder} is of teacher {spec.teacher}, not of this one ({ours}). Give another folder.")
    check_head(teacher)
    lesson = lesson or Lesson.of(teacher)
    return _fill(cache, texts, limits, lesson, Reading(lesson.teacher, spec.precision, spec, chunk_logits))


# --- where it is read ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TeacherRef:
    """A teacher by what it is loaded from.

    Attributes:
        base: the text LLM: ``nano/…``, a folder or a hub id. attention: transformers' implementation.
        device: where it reads in a process that has to load it.
        fingerprint: of the weights that such a process has to find; empty: of any.
    """

    base: str
    attention: str = "sdpa"
    device: str = "cpu"
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"the teacher {self.base}"

    def key(self) -> str:
        return digest(self)

    def open(self) -> Any:
        from salad_eval.checkpoints import load_causal_lm

        teacher, _ = load_causal_lm(self.base, dtype="float32", device=self.device)
        found = teacher_fingerprint(teacher, FINGERPRINT_SAMPLES)
        if self.fingerprint not in ("", found):
            raise DataError(
                f"{self} has other weights here ({found}) than where the command runs ({self.fingerprint})."
            )
        teacher.set_attn_implementation(self.attention)
        return teacher.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A teacher, and where it reads. At its end the workers go that read, with what they have loaded."""

    teacher: TeacherRef
    shop: Workshop

    @classmethod
    def of(cls, opened: Any, teacher: TeacherRef = TeacherRef("in memory"), shop: Workshop | None = None) -> Lesson:
        """``opened``: the teacher as this process has it, for what is read here."""
        shop = shop or Workshop()
        shop.tools.put(teacher, opened)
        return cls(teacher, shop)

    def __enter__(self) -> Lesson:
        return self

    def __exit__(self, *_: object) -> None:
        self.shop.tools.release(self.teacher)
        self.shop.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of the texts that a teacher reads: what a cache's ``spec`` says, or without one its last hidden states."""

    teacher: TeacherRef
    precision: Precision
    spec: CacheSpec | None = None
    chunk_logits: int | None = None


def read_texts(tools: Tools, setup: Reading, chunk: Sequence[Packed]) -> list[Packed]:
    """Of each text's token ids what is kept of it, a row for every token but the last; they are read in one padded batch.

    A row is a hidden state in float16, or the bytes of a cache's record.
    """
    teacher, texts = tools.open(setup.teacher), [ids.array() for ids in chunk]
    hidden = _last_hidden(teacher, texts, setup.precision)
    if setup.spec is not None:
        found = _records(teacher, hidden, texts, setup.spec, setup.chunk_logits)
        return [Packed.of(rows.view(np.uint8)) for rows in found]
    states = hidden.half().cpu().numpy()  # as the store keeps them
    return [Packed.of(rows[: len(ids) - 1]) for rows, ids in zip(states, texts, strict=True)]


def _fill(
    kept: TeacherCache | TeacherStates, texts: Iterable[np.ndarray], limits: BatchLimits, lesson: Lesson, how: Reading
) -> int:
    """Add what is kept of every text that is not there yet, shortest first; returns how many those were."""
    missing = list({text_key(ids): ids for ids in texts if len(ids) > 1 and ids not in kept}.values())
    batches = limits.batches([len(ids) for ids in missing])
    chunks = Chunks(lambda number: [Packed.of(missing[k]) for k in batches[number]], range(len(batches)))
    read = lesson.shop.models.map(Work(read_texts, how, str(how.teacher)), chunks)
    done: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    for batch, found in zip(batches, track(read, "caching the teacher", len(batches)), strict=True):
        done += [missing[k] for k in batch]
        rows += [one.array() if how.spec is None else one.array().view(how.spec.record) for one in found]
        if sum(map(len, rows)) >= WRITE_TOKENS:
            kept.add(done, rows)
            done, rows = [], []
    if done:
        kept.add(done, rows)
    return len(missing)


@torch.no_grad()
def _records(
    teacher: Any, hidden: torch.Tensor, texts: Sequence[np.ndarray], spec: CacheSpec, chunk_logits: int | None
) -> list[np.ndarray]:
    """The teacher's records of each text, from its last hidden states (texts, longest, width)."""
    device, head = hidden.device, LogitHead.of(teacher)
    found = []
    for states, ids in zip(hidden, texts, strict=True):
        records = np.zeros(len(ids) - 1, dtype=spec.record)
        generator = torch.Generator(device).manual_seed(_draw_seed(spec.seed, ids))
        for rows in position_chunks(len(records), spec.vocabulary, chunk_logits):
            log_q = head.logits(states[rows]).log_softmax(-1)
            if not bool(torch.isfinite(log_q).all()):
                raise ModelError(
                    f"the teacher's logits are not finite in the text that begins with ids {ids[:8].tolist()}."
                )
            q = log_q.exp()
            records["entropy"][rows] = -(q * log_q).sum(-1).cpu().numpy()
            if spec.keep == "sampled":
                kept = torch.multinomial(q, spec.k, replacement=True, generator=generator)
                records["tail"][rows] = -np.inf
            else:
                kept = log_q.topk(spec.k, dim=-1).indices
                # Summed over the tail itself: 1 − Σ of the kept is all rounding where a teacher is sure of itself.
                records["tail"][rows] = q.scatter(-1, kept, 0.0).sum(-1).log().cpu().numpy()
            records["ids"][rows] = kept.cpu().numpy()
            records["logp"][rows] = log_q.gather(-1, kept).cpu().numpy()
        found.append(records)
    return found


def _precision(teacher: Any, bf16: bool) -> Precision:
    """Of the teacher's arithmetic where it stands, if ``bf16`` is asked for or not."""
    device = teacher.get_input_embeddings().weight.device
    return "bfloat16" if in_bfloat16(device, asked=bf16) else "float32"


@torch.no_grad()
def _last_hidden(teacher: Any, texts: Sequence[np.ndarray], precision: Precision) -> torch.Tensor:
    """(texts, longest, width) from one padded batch."""
    device = teacher.get_input_embeddings().weight.device
    padded = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)  # on the right: a causal LM never sees it
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        hidden: torch.Tensor = teacher.base_model(
            input_ids=torch.from_numpy(padded).to(device), use_cache=False
        ).last_hidden_state
    return hidden


class TeacherStates:
    """The teacher's last hidden states over whole texts, on disk, instead of the teacher's reading along.

    They are rounded to float16, finer than the bfloat16 in which a teacher mostly reads: what is taught is the same but for that
    rounding. Worth its disk where each document is read in several epochs. Filling is resumable.
    """

    def __init__(self, folder: Path, teacher: Any, *, bf16: bool = False) -> None:
        self.folder, self._teacher, self._precision = Path(folder), teacher, _precision(teacher, bf16)
        width = int(LogitHead.of(teacher).weight.shape[1])
        fingerprint = teacher_fingerprint(teacher, FINGERPRINT_SAMPLES)
        self._store = FrameStore(self.folder, width, f"teacher {fingerprint}, {self._precision}")

    def fill(
        self,
        texts: Iterable[np.ndarray],
        *,
        limits: BatchLimits = BatchLimits(tokens=4096, sequences=256),
        lesson: Lesson | None = None,
    ) -> int:
        """Let the teacher read every text (1-d token ids) that is not kept yet; returns how many those were. ``lesson``: where it reads;
        by default here."""
        lesson = lesson or Lesson.of(self._teacher)
        return _fill(self, texts, limits, lesson, Reading(lesson.teacher, self._precision))

    def __contains__(self, ids: np.ndarray) -> bool:
        return text_key(ids) in self._store

    def add(self, texts: Sequence[np.ndarray], states: Sequence[np.ndarray]) -> None:
        """Append texts (token ids) with a state (width,) for every token but the last."""
        self._store.add([text_key(ids) for ids in texts], states, [0.0] * len(texts))

    def positions(self, examples: Sequence[Example]) -> torch.Tensor:
        """(n, teacher width) float32 at the scored positions of ``examples``, in the order in which ``collate`` puts them."""
        found = []
        for example in examples:
            if not len(example.layout.teacher):
                continue
            if example.teacher_ids not in self:
                raise DataError(
                    f"{self.folder} does not hold document {example.document_id!r} as it reads now: fill it first."
                )
            found.append(self._store.get(text_key(example.teacher_ids))[example.layout.teacher])
        return torch.from_numpy(np.concatenate(found).astype(np.float32))


def _draw_seed(seed: int, ids: np.ndarray) -> int:
    """A text's draws depend on the seed and the text alone, not on what it is batched with."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text_key(ids)}".encode()).digest()[:7], "little")


def _spec_at(folder: Path) -> CacheSpec:
    found = read_jsonl(folder / "cache.jsonl", CacheSpec)
    if len(found) != 1:
        raise DataError(
            f"{folder / 'cache.jsonl'} holds {len(found)} lines; expected the one line that says what is cached."
        )
    return found[0]


def _difference(found: CacheSpec, wanted: CacheSpec) -> str:
    """What sets two specs apart, for people."""
    if found.tokenizer != wanted.tokenizer:
        return f"a cache of another tokenizer ({found.tokenizer}; this run's is {wanted.tokenizer})."
    if found.teacher != wanted.teacher:
        return f"a cache of another teacher ({found.teacher}; this run's is {wanted.teacher})."
    return f"a cache of other settings ({found}; this run asks for {wanted})."
