"""Several processes of one run, as torchrun or ``accelerate launch`` start them: who writes what all of them read, and where each works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LONGEST_WAIT = timedelta(days=7)  # for what the first process does: a corpus may take days to speak and encode


def in_company() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this is the process that writes: the only one, or the first of them all."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def first_process_first(device: str) -> Iterator[None]:
    """What writes for all processes of a run (encoded speech, an aligner's log) is done by one, and read by the others."""
    if not in_company():
        yield
        return
    with _state(device).main_process_first():
        yield


def wait_for_all(device: str) -> None:
    """Go on when every process has come here."""
    if in_company():
        _state(device).wait_for_everyone()


def own_device(device: str) -> torch.device:
    """Where this process works: what a plan asks for, and of several processes' accelerators its own. Raises as ``resolve_device``."""
    import torch  # the commands' help imports this module

    from salad_eval.checkpoints import resolve_device

    return torch.device(_state(device).device if in_company() else resolve_device(device))


def _state(device: str) -> Any:
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu", timeout=LONGEST_WAIT)
