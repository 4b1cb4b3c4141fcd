"""Work for executors, in a module that a worker imports in no time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from salad_eval.errors import UserInputError
from salad_eval.pipeline.tools import Tools


@dataclass(frozen=True, slots=True)
class Times:
    factor: int


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class Product:
    value: int | None
    process: int
    how: str = ""


def multiply(tools: Tools, setup: Times, chunk: Sequence[Number]) -> list[Product]:
    for number in chunk:
        if number.value == 13 and os.environ.get("OMP_NUM_THREADS") == "1" and setup.factor == 13:
            os._exit(5)
        if number.value < 0:
            raise UserInputError(f"{number.value} is below 0.")
    return [Product(setup.factor * number.value, os.getpid()) for number in chunk]
