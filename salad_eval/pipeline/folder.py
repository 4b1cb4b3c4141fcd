"""The folder of a run: one JSONL a step, each under a key of all it depends on, so that a killed run goes on where it was.

A step's lines go to ``<step>.jsonl.partial`` and are renamed to ``<step>.jsonl`` when the step is complete. ``steps.json`` says
under which key the lines were made. Lines are used again only under an equal key; otherwise they are made anew. That a file is
there means nothing by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from salad_eval import records
from salad_eval.errors import DataError, SaladError
from salad_eval.identity import digest
from salad_eval.progress import track

T = TypeVar("T")
U = TypeVar("U")

STEPS_FILE = "steps.json"
DONE_FILE = "DONE"
LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class StepState:
    """Under which key a step's lines were made. ``depends_on`` is what the key hashes, for a reader."""

    key: str
    complete: bool
    n_lines: int = 0
    depends_on: Mapping[str, str] = field(default_factory=dict)


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

    def _partial(self, step: str) -> Path:
        return self.path / f"{step}.jsonl.partial"

    def forget(self, step: str) -> None:
        """Drop a step's lines, whatever their key."""
        self.file(step).unlink(missing_ok=True)
        self._partial(step).unlink(missing_ok=True)
        self._save(replace(self.state, steps={name: s for name, s in self.state.steps.items() if name != step}))

    def run(
        self,
        step: str,
        cls: type[T],
        units: Sequence[U],
        make: Callable[[Sequence[U]], Iterable[T]],
        *,
        depends_on: Mapping[str, str],
        chunk: int | None = None,
        lines_per_unit: int = 1,
    ) -> list[T]:
        """A step's records, ``lines_per_unit`` a unit and in the units' order; what is there under an equal key is not made
        again.

        ``make`` turns units into their records, in order. With ``chunk`` it is given that many at a time, always cut at
        the same places, and a chunk's lines are written together: what a model computes in one batch does not depend on
        where a run was killed. Without, it is given all units that remain, and each line is written as it comes.
        """
        key, n_lines = digest(step, depends_on), len(units) * lines_per_unit
        if (whole := self._reusable(step, key, n_lines)) is not None:
            return list(records.iter_jsonl(whole, cls))
        self._begin(step, key, depends_on)
        done = self._continued(step, cls, lines_per_unit * (chunk or 1), n_lines)
        todo = units[len(done) // lines_per_unit :]

        def made(log: records.JsonlLog[T]) -> Iterator[T]:
            for part in _chunks(todo, chunk):
                fresh: list[T] = []
                for record in make(part):
                    fresh.append(record)
                    if chunk is None:
                        log.append(record)
                    yield record
                if len(fresh) != len(part) * lines_per_unit:
                    raise SaladError(
                        f"step {step}: {len(fresh)} records for {len(part)} units; expected {lines_per_unit} a unit."
                    )
                if chunk is not None:
                    log.append(*fresh)

        with records.JsonlLog(self._partial(step), cls) as log:
            log.append()  # a step without units has a file too
            done += track(made(log), step, total=n_lines - len(done))
        os.replace(self._partial(step), self.file(step))
        self._note(step, StepState(key, True, len(done), depends_on))
        return done

    def _reusable(self, step: str, key: str, n_lines: int) -> Path | None:
        """The step's complete file, if it was made under this key."""
        state = self.state.steps.get(step)
        if state is None or state.key != key or not self.file(step).is_file():
            return None
        if not state.complete:
            if self._partial(step).exists():
                return None
            # Killed between the rename and the note of it: renaming was the last thing that was left to do.
            self._note(step, replace(state, complete=True, n_lines=n_lines))
            return self.file(step)
        return self.file(step) if state.n_lines == n_lines else None

    def _begin(self, step: str, key: str, depends_on: Mapping[str, str]) -> None:
        state = self.state.steps.get(step)
        if state is None or state.key != key or state.complete:
            # Lines go before the key does: at no moment do old lines stand under a new key.
            self.file(step).unlink(missing_ok=True)
            self._partial(step).unlink(missing_ok=True)
            self._note(step, StepState(key, False, 0, depends_on))
        self.file(step).unlink(missing_ok=True)

    def _continued(self, step: str, cls: type[T], block: int, most: int) -> list[T]:
        """The lines of a partial step, cut back to whole blocks (the last block may be short where all units are done)."""
        partial = self._partial(step)
        if not partial.exists():
            return []
        done = list(records.iter_jsonl(partial, cls))
        keep = len(done) if len(done) == most else len(done) // block * block
        if keep != len(done):
            records.write_jsonl(partial, done[:keep])
        return done[:keep]


def _chunks(units: Sequence[U], size: int | None) -> Iterator[Sequence[U]]:
    if size is None:
        if units:
            yield units
        return
    for start in range(0, len(units), size):
        yield units[start : start + size]
