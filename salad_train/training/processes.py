"""Several processes of one run, as torchrun or ``accelerate launch`` start them: who writes what all of them read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def is_first() -> bool:
    """Whether this is the process that writes: the only one, or the first of them all."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def first_process_first(device: str) -> Iterator[None]:
    """What writes for all processes of a run (encoded speech, an aligner's log) is done by one, and read by the others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=device == "cpu").main_process_first():
        yield


def wait_for_all(device: str) -> None:
    """Go on when every process has come here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu").wait_for_everyone()
