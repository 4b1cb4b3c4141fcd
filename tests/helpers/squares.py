"""Work for a cluster's workers, whose course a test follows and steers by files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salad_eval.errors import UserInputError
from salad_eval.pipeline.tools import Tools
from tests.helpers.products import Number


@dataclass(frozen=True, slots=True)
class Place:
    folder: str


@dataclass(frozen=True, slots=True)
class Square:
    value: int | None
    how: str = ""


def square(tools: Tools, setup: Place, chunk: Sequence[Number]) -> list[Square]:
    """Says in a file which process squares what; a negative number ends it. A process waits at a number whose gate is shut."""
    folder = Path(setup.folder)
    for number in chunk:
        if number.value < 0:
            os._exit(7)
        if number.value > 1_000_000:
            raise UserInputError(f"{number.value} is too large.")
        (folder / f"begun-{number.value}-{os.getpid()}-{os.getppid()}").touch()
        while (folder / f"gate-{number.value}").exists():
            time.sleep(0.02)
    return [Square(number.value**2) for number in chunk]
