"""What does not fit into memory at once is computed in smaller batches."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from salad_eval.errors import ModelError

logger = logging.getLogger(__name__)
T = TypeVar("T")
N = TypeVar("N", int, float)

# How libraries say it where they raise no error of its own class: torch on a CPU, cuBLAS, CTranslate2.
_SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


def halving(run: Callable[[N], T], budget: N, *, least: N) -> tuple[T, N]:
    """``run(budget)``, and the budget that memory held: half of it, and half again, where it ran out.

    Raises ``ModelError`` where it does not hold ``least``, which one row alone takes.
    """
    while True:
        try:
            return run(budget), budget
        except Exception as cause:
            if not is_out_of_memory(cause):
                raise
            if budget <= least:
                raise ModelError(
                    f"out of memory with one recording or prompt at a time ({_first_line(cause)})."
                ) from cause
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
