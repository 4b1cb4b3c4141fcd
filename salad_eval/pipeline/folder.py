"""The keeper of results: a folder with one JSONL a step, each under a key of all it depends on and with its own checksum, so that a
killed run goes on where it was and a damaged file is made again.

A step's lines go to ``<step>.jsonl.partial``, a chunk at a time, and are renamed to ``<step>.jsonl`` when the step is complete.
``steps.json`` says under which key the lines were made, how many they are and their sha256; ``<step>.jsonl.sums`` says the same of
the chunks of a step under way. Lines are used again only under an equal key and where they are what was written; otherwise they are
made anew, and that is told. That a file is there means nothing by itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from salad_eval import records
from salad_eval.errors import DataError, SaladError, UserInputError
from salad_eval.identity import digest, file_sha256
from salad_eval.progress import tell, track
from salad_eval.types import Tokens

T = TypeVar("T")
U = TypeVar("U")

STEPS_FILE = "steps.json"
DONE_FILE = "DONE"
LOCK_FILE = ".lock"
FIGURES = "figures"
ITEMS, REJECTS = "items", "rejects"  # files of records that are no step's
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """A step as its file states it.

    ``version`` is raised whenever what the step makes of equal inputs changes; its old lines are then not used again. ``chunk``: units
    worked on at a time, always cut at the same places, so that what a model computes in one batch does not depend on where a run was
    killed.
    """

    name: str
    record: type[T]
    version: str
    chunk: int


@dataclass(frozen=True, slots=True)
class StepState:
    """Under which key a step's lines were or are being made; ``n_lines`` and ``sha256`` when all are. ``depends_on`` is what the key
    hashes, for a reader; ``seconds_a_unit`` how long one took in the last session that made any, models' loading included, and
    ``tokens_a_unit`` how many the model read and wrote for it then."""

    key: str
    n_lines: int | None = None
    sha256: str | None = None
    depends_on: Mapping[str, str] = field(default_factory=dict)
    seconds_a_unit: float | None = None
    tokens_a_unit: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A plug-in's fingerprint, with what it was built from then; spares loading a model to learn that nothing changed."""

    built_from: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RunState:
    steps: Mapping[str, StepState] = field(default_factory=dict)
    fingerprints: Mapping[str, Known] = field(default_factory=dict)


class RunFolder:
    """The files of one run. One process writes to it at a time; a second one is refused while the first one lives."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._state: RunState | None = None
        self._lock: int | None = None

    def __enter__(self) -> RunFolder:
        self._take_lock()
        for folder in (self.path, self.path / FIGURES):
            records.remove_unfinished(folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as cause:
            raise DataError(f"cannot write to the run folder {self.path}: {cause.strerror or cause}.") from None
        try:
            import fcntl
        except ImportError:  # no advisory locks on this system: one writer at a time is up to the user
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SaladError(
                f"another process is writing to {self.path}. Wait for it, or give another --out."
            ) from None

    def check(self) -> None:
        """Raise ``SaladError`` where the folder is not the one any more that the lock was taken in."""
        if self._lock is None:
            return
        try:
            same = os.path.samestat(os.stat(self.path / LOCK_FILE), os.fstat(self._lock))
        except OSError:
            same = False
        if not same:
            raise SaladError(f"the run folder {self.path} was removed or replaced while the run was writing to it.")

    # --- state

    @property
    def state(self) -> RunState:
        if self._state is None:
            try:
                self._state = next(records.iter_jsonl(self.path / STEPS_FILE, RunState), RunState())
            except DataError:  # none yet, or not one of ours: nothing is known of the lines that are there
                self._state = RunState()
        return self._state

    def _save(self, state: RunState) -> None:
        self.check()
        records.write_jsonl(self.path / STEPS_FILE, [state])
        self._state = state

    def _note(self, step: str, state: StepState) -> None:
        self._save(replace(self.state, steps={**self.state.steps, step: state}))

    def fingerprint(self, role: str, built_from: str | None, make: Callable[[], str]) -> str:
        """A plug-in's fingerprint: the one known for an equal ``built_from``, else ``make()``. ``None`` is never equal."""
        known = self.state.fingerprints.get(role)
        if built_from is not None and known is not None and known.built_from == built_from:
            return known.fingerprint
        made = make()
        kept = {**self.state.fingerprints, role: Known(built_from or "", made)}
        self._save(replace(self.state, fingerprints=kept))
        return made

    # --- steps

    def file(self, step: str) -> Path:
        return self.path / f"{step}.jsonl"

    def forget(self, step: str) -> None:
        """Drop a step's lines, whatever their key."""
        self.file(step).unlink(missing_ok=True)
        _Unfinished(self.file(step), object).drop()
        self._save(replace(self.state, steps={name: s for name, s in self.state.steps.items() if name != step}))

    def run(
        self,
        step: Step[T],
        units: Sequence[U],
        make: Callable[[Sequence[Sequence[U]]], Iterable[Sequence[T]]],
        *,
        depends_on: Mapping[str, str],
        counted: Callable[[], Tokens | None] = lambda: None,
    ) -> list[T]:
        """A step's records, one a unit and in the units' order; what is there under an equal key, undamaged, is not made again.

        ``make`` turns chunks of units into their records, in order; a chunk's lines are written together, as they come. ``counted``: the
        tokens so far of the model that works on them.
        """
        depends_on = {"version": step.version, **depends_on}
        key = digest(step.name, depends_on)
        if self._reusable(step.name, key, len(units)):
            _Unfinished(self.file(step.name), object).drop()  # a kill may have come between the last rename and the end
            return list(records.iter_jsonl(self.file(step.name), step.record))
        self._begin(step.name, key, depends_on)
        unfinished = _Unfinished(self.file(step.name), step.record)
        done = unfinished.read(step.chunk, len(units))
        todo = units[len(done) :]
        chunks = [todo[start : start + step.chunk] for start in range(0, len(todo), step.chunk)]

        def made() -> Iterator[T]:
            for part, fresh in zip(chunks, make(chunks), strict=True):
                if len(fresh) != len(part):
                    raise SaladError(
                        f"step {step.name}: {len(fresh)} records for {len(part)} units; expected one a unit."
                    )
                self.check()
                unfinished.append(fresh)
                yield from fresh

        began, before = time.monotonic(), counted()
        with unfinished:
            done += track(made(), step.name, total=len(todo))
        took = (time.monotonic() - began) / len(todo) if todo else None
        tokens = _a_unit(before, counted(), len(todo))
        self._note(step.name, StepState(key, len(done), unfinished.sha256, depends_on, took, tokens))
        unfinished.finish()
        return done

    def once(
        self,
        name: str,
        make: Callable[[Path], T],
        read: Callable[[Path], T],
        *,
        files: str,
        depends_on: Mapping[str, str],
    ) -> T:
        """What ``make`` gives and puts into the folder ``name``, or what ``read`` finds there of an earlier call under an equal key.

        ``files`` is the pattern of the files, below that folder, that are the result: they are read again only as they were written. A
        folder of another key is made anew; one that was not finished is gone on with, if its own files know how.
        """
        folder, key, state = self.path / name, digest(name, depends_on), self.state.steps.get(name)
        same = state is not None and state.key == key
        if same and state is not None and state.sha256 is not None:
            if _digest_of(folder, files) == state.sha256:
                return read(folder)
            tell(f"{name} is made again: {folder} is not what was written (its checksum is another one)")
            shutil.rmtree(folder, ignore_errors=True)
        elif not same:
            if state is not None:
                tell(f"{name} is made again: {_what_changed(state.depends_on, depends_on)}")
            shutil.rmtree(folder, ignore_errors=True)
        self._note(name, StepState(key, depends_on=depends_on))
        folder.mkdir(parents=True, exist_ok=True)
        made = make(folder)
        self._note(name, StepState(key, sha256=_digest_of(folder, files), depends_on=depends_on))
        return made

    def claim(self, name: str, depends_on: Mapping[str, str]) -> None:
        """Take the folder for what goes on from its own files, such as a training. Raises ``UserInputError`` naming what is another
        where it was taken for something else."""
        key, state = digest(name, depends_on), self.state.steps.get(name)
        if state is not None and state.key != key:
            raise UserInputError(
                f"{self.path} holds a {name} of something else: {_what_changed(state.depends_on, depends_on)}. Give another folder, or "
                f"remove {self.path}."
            )
        if state is None:
            self._note(name, StepState(key, depends_on=depends_on))

    def _reusable(self, step: str, key: str, n_lines: int) -> bool:
        """Whether the step's file was made under this key and is what was written."""
        state = self.state.steps.get(step)
        if state is None or state.key != key or state.n_lines != n_lines or not self.file(step).is_file():
            return False
        if file_sha256(self.file(step)) == state.sha256:
            return True
        tell(f"{step} is made again: {self.file(step)} is not what was written (its checksum is another one)")
        return False

    def _begin(self, step: str, key: str, depends_on: Mapping[str, str]) -> None:
        self.check()
        state = self.state.steps.get(step)
        if state is not None and state.n_lines is not None and state.key != key:
            tell(f"{step} is made again: {_what_changed(state.depends_on, depends_on)}")
        if state is None or state.key != key or self.file(step).exists():
            # Lines go before the key does: at no moment do old lines stand under a new key.
            self.file(step).unlink(missing_ok=True)
            _Unfinished(self.file(step), object).drop()
            self._note(step, StepState(key, depends_on=depends_on))


def _a_unit(before: Tokens | None, after: Tokens | None, n_units: int) -> Tokens | None:
    if after is None or not n_units:
        return None
    before = before or Tokens(0, 0)
    return Tokens((after.read - before.read) / n_units, (after.written - before.written) / n_units)


def _digest_of(folder: Path, files: str) -> str:
    """Of the names and bytes of the files below a folder that a pattern names."""
    found = sorted(path for path in folder.glob(files) if path.is_file())
    return digest([(path.relative_to(folder).as_posix(), file_sha256(path)) for path in found])


def _what_changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What sets two keys apart, for people: digests by their name alone."""
    parts = []
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name, "none"), now.get(name, "none")
        if old != new:
            named = "" if _DIGEST.fullmatch(new) else f" (was {old}, is {new})"
            parts.append(f"other {name}{named}")
    return "; ".join(parts) or "it was not complete"


# --- a step under way ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ChunkSum:
    """What a chunk's lines are: how many, in how many bytes, and their sha256."""

    n_lines: int
    n_bytes: int
    sha256: str


class _Unfinished(Generic[T]):
    """The lines of a step under way. A chunk counts when all of it is there as it was written: its checksum is noted first."""

    def __init__(self, file: Path, cls: type[T]) -> None:
        self._file, self._cls = file, cls
        self._lines = file.with_name(f"{file.name}.partial")
        self._sums = records.JsonlLog(file.with_name(f"{file.name}.sums"), _ChunkSum)
        self._out: int | None = None
        self._hasher = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all lines so far."""
        return self._hasher.hexdigest()

    def read(self, chunk: int, most: int) -> list[T]:
        """The records of the chunks that are whole, in as many of them as make chunks of ``chunk`` records (or ``most`` in all);
        what else is there is cut off."""
        data, blocks, sums = self._lines.read_bytes() if self._lines.exists() else b"", [], self._known_sums()
        at, n, whole = 0, 0, 0
        for number, one in enumerate(sums, start=1):
            block = data[at : at + one.n_bytes]
            if len(block) != one.n_bytes or hashlib.sha256(block).hexdigest() != one.sha256:
                break
            blocks.append(block)
            at, n = at + one.n_bytes, n + one.n_lines
            if n == most or (n < most and n % chunk == 0):
                whole = number
        kept = b"".join(blocks[:whole])
        records.write_jsonl(self._sums.path, sums[:whole])
        records.write_atomic(self._lines, kept)
        self._hasher.update(kept)
        return [records.loads(self._cls, line, str(self._lines)) for line in kept.splitlines(keepends=True)]

    def _known_sums(self) -> list[_ChunkSum]:
        try:
            return self._sums.read()
        except DataError:
            return []

    def append(self, fresh: Sequence[T]) -> None:
        """Add a chunk."""
        block = b"".join(records.dumps(record).encode() + b"\n" for record in fresh)
        self._sums.append(_ChunkSum(len(fresh), len(block), hashlib.sha256(block).hexdigest()))
        try:
            if self._out is None:
                self._out = os.open(self._lines, os.O_WRONLY | os.O_APPEND)
            records.write_all(self._out, block)
        except OSError as cause:
            raise DataError(f"cannot write {self._lines}: {cause.strerror or cause}.") from None
        self._hasher.update(block)

    def finish(self) -> None:
        """The lines are those of the step."""
        os.replace(self._lines, self._file)
        self._sums.path.unlink(missing_ok=True)

    def drop(self) -> None:
        self._lines.unlink(missing_ok=True)
        self._sums.path.unlink(missing_ok=True)

    def __enter__(self) -> _Unfinished[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._sums.close()
        if self._out is not None:
            os.close(self._out)
            self._out = None
