"""What is under way, on stderr, so that stdout stays for results: bars in a terminal, plain lines where there is none."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
EVERY_SECONDS = 30.0  # between two lines of a log
WORTH_A_LINE_SECONDS = 2.0  # what takes less is not told where it is no step of a line
_silent = False


def silence() -> None:
    """No bars and no lines in this process from now on: for workers, whose parent shows them."""
    global _silent
    _silent = True


def tell(line: str) -> None:
    """Say on stderr what the user should know of a step before its bar is shown."""
    if not _silent:
        print(f"· {line}", file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """No bars of other libraries where there is no terminal, in this process and those that it starts. They read this when they are
    imported; what the user has set stands."""
    if not sys.stderr.isatty():
        for name in _BARS:
            os.environ.setdefault(name, "1")


_BARS = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """The steps of what is under way, and how long those took that are done."""

    steps: Sequence[str]
    took: dict[str, float] = field(default_factory=dict)

    def titled(self, name: str) -> str:
        """``step 3 of 8, respond.base_text``; of what is no step its name alone."""
        return f"step {self.steps.index(name) + 1} of {len(self.steps)}, {name}" if name in self.steps else name


_line = _Line(())


@contextmanager
def steps(names: Sequence[str]) -> Iterator[None]:
    """What is done in the block consists of these steps: said before it begins, counted as they come, with their times at the end."""
    global _line
    before, _line = _line, _Line(tuple(names))
    began = time.monotonic()
    tell(f"{len(names)} steps: {', '.join(names)}")
    try:
        yield
        whole = time.monotonic() - began
        took = {**_line.took, "between and after them": whole - sum(_line.took.values())}
        slow = [f"{name} {duration(seconds)}" for name, seconds in took.items() if seconds >= 0.5]
        tell(f"all done in {duration(whole)}" + (f": {', '.join(slow)}" if slow else ""))
    finally:
        _line = before


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds by step of what is done in the block, said by nobody."""
    global _silent, _times
    before, _silent, _times = (_silent, _times), True, {}
    try:
        yield _times
    finally:
        _silent, _times = before


_times: dict[str, float] | None = None


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` behind a progress bar; where stderr is no terminal, with a line when it begins and ends and every half minute.

    What has nothing to do is told in neither way.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    began = time.monotonic()
    if _silent or total == 0:
        yield from items
    else:
        shown = _bar if sys.stderr.isatty() else _log
        yield from shown(items, _line.titled(description), total)
    seconds = time.monotonic() - began
    if description in _line.steps:
        _line.took[description] = _line.took.get(description, 0.0) + seconds
    if _times is not None:
        _times[description] = _times.get(description, 0.0) + seconds


def _bar(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        for item in items:
            yield item
            bar.advance(task)


def _log(items: Iterable[T], title: str, total: int | None, every: float = EVERY_SECONDS) -> Iterator[T]:
    """``every``: seconds between two lines, however long an item takes: what works by chunks gives many at once, and none before."""
    began, n = time.monotonic(), 0
    ended = threading.Event()

    def now_and_then() -> None:
        while not ended.wait(every):
            tell(_status(title, n, total, time.monotonic() - began))

    if title.startswith("step "):
        tell(f"{title}: {'some' if total is None else f'{total:,}'} to do")
    threading.Thread(target=now_and_then, daemon=True).start()
    try:
        for item in items:
            yield item
            n += 1
    finally:
        ended.set()
    seconds = time.monotonic() - began
    if title.startswith("step ") or seconds >= WORTH_A_LINE_SECONDS:
        tell(f"{title}: {n:,} done in {duration(seconds)}")


def _status(title: str, n: int, total: int | None, seconds: float) -> str:
    """``step 2 of 3, respond: 3 of 8, 0.1 a second, about 50 s left``."""
    done = f"{title}: {n:,}{'' if total is None else f' of {total:,}'}"
    if not n:
        return f"{done} after {duration(seconds)}"
    rate = n / max(seconds, 1e-9)
    return f"{done}, {rate:.3g} a second" + ("" if total is None else f", about {duration((total - n) / rate)} left")
