"""Which rows of the few-shot split stand before a question, drawn as lm-eval 0.4.x draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from salad_eval.errors import TaskError, did_you_mean

LM_EVAL_SEED = 1234  # of its few-shot sampler, where the user gives none
Row = Mapping[str, Any]
Picker = Callable[[Row], list[int]]
"""For a row that is asked, the places of its shots in the pool. Called once a row in the order of the rows: a random one has a state."""


def first_n(pool: Sequence[Row], n: int, without_self: bool, seed: int) -> Picker:
    """The first ``n`` rows; under ``without_self`` those that equal the row asked are passed over."""

    def pick(row: Row) -> list[int]:
        places: list[int] = []
        for place, other in enumerate(pool):
            if len(places) == n:
                break
            if not (without_self and other == row):
                places.append(place)
        return _enough(places, n, len(places))

    return pick


def at_random(pool: Sequence[Row], n: int, without_self: bool, seed: int) -> Picker:
    """``n`` rows by ``random.Random(seed)``, the draws of one row following those of the row before it.

    Under ``without_self`` one more is drawn and a row that equals the one asked is left out; where that leaves too few (copies of it
    in the pool), they are drawn again from the others.
    """
    random = Random(seed)

    def pick(row: Row) -> list[int]:
        if not without_self:
            return random.sample(range(len(pool)), _fits(n, len(pool)))
        drawn = random.sample(range(len(pool)), _fits(n + 1, len(pool)))
        places = [place for place in drawn if pool[place] != row][:n]
        if len(places) < n:
            others = [place for place, other in enumerate(pool) if other != row]
            places = random.sample(others, _fits(n, len(others)))
        return places

    return pick


SAMPLERS: Mapping[str, Callable[[Sequence[Row], int, bool, int], Picker]] = {"default": at_random, "first_n": first_n}


def picker(sampler: str, pool: Sequence[Row], n: int, without_self: bool, seed: int) -> Picker:
    """The sampler that lm-eval calls by that name. Raises ``TaskError`` for another; the picker does where the pool is too small."""
    if sampler not in SAMPLERS:
        raise TaskError(
            f"fewshot_config.sampler is {sampler!r}{did_you_mean(sampler, SAMPLERS)}; expected one of: {', '.join(SAMPLERS)}."
        )
    return SAMPLERS[sampler](pool, n, without_self, seed)


def _fits(n: int, of: int) -> int:
    _enough([], n, of)
    return n


def _enough(places: list[int], n: int, of: int) -> list[int]:
    if n > of:
        raise TooFewShots(n, of)
    return places


class TooFewShots(Exception):
    """The pool has ``has`` rows, and ``needs`` are drawn."""

    def __init__(self, needs: int, has: int) -> None:
        super().__init__(needs, has)
        self.needs, self.has = needs, has
