"""Progress bars on stderr, so that stdout stays for results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
_silent = False


def silence() -> None:
    """No bars in this process from now on: for workers, whose parent shows one."""
    global _silent
    _silent = True


def tell(line: str) -> None:
    """Say on stderr what the user should know of a step before its bar is shown."""
    if not _silent:
        print(f"· {line}", file=sys.stderr)


def quiet_loading() -> None:
    """No progress bars of weights being loaded where nobody watches them."""
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` behind a progress bar; where stderr is no terminal, without one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=_silent or not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
