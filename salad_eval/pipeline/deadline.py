"""A plug-in that does not come back is given up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from salad_eval.errors import SaladError

DEFAULT_SECONDS = 60.0  # for a unit of work: an item, a recording, an utterance
START_SECONDS = 600.0  # more for the chunk that loads a model
GRACE_SECONDS = 30.0  # until a process that does not even notice that its time is up is ended


class _Overdue(BaseException):
    """Raised in the midst of a plug-in, which has no business catching it."""


def limit(seconds: float, n_units: int) -> float:
    """How many seconds a chunk may take that is worked on for ``seconds`` a unit."""
    return START_SECONDS + seconds * n_units


def too_long(who: str, seconds: float, n_units: int) -> str:
    """What is said of a plug-in that has been given up."""
    return (
        f"{who} has not answered within {limit(seconds, n_units):g} s on {n_units} units of work and was given up ({seconds:g} s a "
        f"unit, the plan's timeout, and {START_SECONDS:g} s to start). Run again to go on from here, or give it longer: --set timeout=…"
    )


@contextlib.contextmanager
def deadline(who: str, seconds: float, n_units: int) -> Iterator[None]:
    """Raise ``SaladError`` where what is done inside takes longer than ``limit``.

    It interrupts Python code and waiting. A process that is stuck in code which no signal reaches is ended after a grace, with the same
    sentence. Only where signals are to be had: in the main thread, and not on Windows.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def overdue(*_: object) -> None:
        raise _Overdue

    told = too_long(who, seconds, n_units)
    last = threading.Timer(limit(seconds, n_units) + GRACE_SECONDS, _end, [told])
    last.daemon = True
    before, began = signal.signal(signal.SIGALRM, overdue), time.monotonic()
    others, _ = signal.setitimer(signal.ITIMER_REAL, limit(seconds, n_units))
    last.start()
    try:
        yield
    except _Overdue:
        raise SaladError(told) from None
    finally:
        last.cancel()
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(others - (time.monotonic() - began), 0.001) if others else 0)


def _end(told: str) -> None:
    print(f"salad: {told}", file=sys.stderr, flush=True)
    os._exit(SaladError.exit_code)
