"""Batches of like length, as large as memory holds: the one way in which texts, recordings and frames are put together."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")
N = TypeVar("N", int, float)

# How libraries say it where they raise no error of its own class: torch on a CPU, cuBLAS, CTranslate2.
_SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


def of_like_length(
    lengths: Sequence[float],
    limit: float,
    *,
    places: Sequence[int] | None = None,
    most: int | None = None,
    equal: bool = False,
) -> Iterator[list[int]]:
    """Places of ``lengths`` from the shortest up, so many together that, padded to the longest, they hold at most ``limit``.

    One always goes, however long it is. ``places``: these alone (by default all). ``most``: no more than so many together.
    ``equal``: only those of one length, for models in which padding changes the result. What comes together depends on the lengths
    alone, and places of one length come in their order.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)) if places is None else places, key=lambda place: (lengths[place], place)):
        full = lengths[place] * (len(batch) + 1) > limit or len(batch) == most
        if batch and (full or (equal and lengths[place] != lengths[batch[-1]])):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def in_batches(
    lengths: Sequence[float],
    limit: N,
    run: Callable[[list[int]], Sequence[T]],
    *,
    equal: bool = False,
) -> tuple[list[T], N]:
    """What ``run`` gives for each place of ``lengths``, asked in the batches of ``of_like_length``, and the limit that memory held.

    What was done before memory ran out is kept; what was not is asked again in batches half as large (see ``halving``).
    """
    found: dict[int, T] = {}

    def rest(limit: N) -> list[T]:
        left = [place for place in range(len(lengths)) if place not in found]
        for batch in of_like_length(lengths, limit, places=left, equal=equal):
            found.update(zip(batch, run(batch), strict=True))
        return [found[place] for place in range(len(lengths))]

    return halving(rest, limit, least=type(limit)(max(lengths, default=1)))


def halving(run: Callable[[N], T], budget: N, *, least: N) -> tuple[T, N]:
    """``run(budget)``, and the budget that memory held: half of it, and half again, where it ran out.

    Raises ``MemoryError`` where it does not hold ``least``, which one row alone takes.
    """
    while True:
        try:
            return run(budget), budget
        except Exception as cause:
            if not is_out_of_memory(cause):
                raise
            if budget <= least:
                raise MemoryError(f"with one recording or prompt at a time: {_first_line(cause)}") from cause
        # Outside of the handler, whose error holds on to the tensors of the pass that failed.
        free_memory()
        budget = max(type(budget)(budget / 2), least)
        logger.warning("Out of memory: batches are made half as large (%s).", budget)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)


def free_memory() -> None:
    """Give back what a failed pass has left behind."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
