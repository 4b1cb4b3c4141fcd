"""Plug-ins are asked with care: what they can answer is had, what they fail on is named, and one that fails throughout ends the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from salad_eval.batches import free_memory, is_out_of_memory
from salad_eval.errors import AudioError, PluginError, RoomError, SaladError
from salad_eval.types import Failure

U = TypeVar("U")
R = TypeVar("R")

PLUGIN_FAILED, OUT_OF_MEMORY = "plugin_failed", "out_of_memory"
UNUSABLE, TOO_LONG = "unusable_audio", "prompt_too_long"  # no fault of the plug-in's
MOST_FAILED = 8  # units in a row; a plug-in that fails on so many will not recover


class Caller:
    """One plug-in, by the name that messages have for it, and how it has done so far in this process."""

    def __init__(self, who: str) -> None:
        self.who = who
        self._in_a_row = 0

    def ask(self, call: Callable[[Sequence[U]], Sequence[R]], units: Sequence[U]) -> list[R | Failure]:
        """What ``call`` gives for each unit, in order, or why it gave nothing.

        A batch in which something fails is asked again by halves, so that what does not fit into memory at once is answered all the
        same, and only the unit at fault is lost. ``AudioError`` is the plug-in's own word for a recording that it cannot use,
        ``RoomError`` for a prompt that is too long for it. Any other ``SaladError`` is about more than one unit, and is raised; so is
        ``PluginError`` after ``MOST_FAILED`` units in a row.
        """
        if not units:
            return []
        try:
            answers = list(call(units))
        except AudioError as cause:
            failure = Failure(UNUSABLE, str(cause))
        except RoomError as cause:
            failure = Failure(TOO_LONG, str(cause))
        except SaladError:
            raise
        except Exception as cause:
            reason = OUT_OF_MEMORY if is_out_of_memory(cause) else PLUGIN_FAILED
            failure = Failure(
                reason, f"{self.who} failed: {type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
            )
        else:
            self._in_a_row = 0
            return list(answers)
        # Not where it was caught: what the traceback held on to is free by now.
        if len(units) == 1:
            self._count(failure)
            return [failure]
        if failure.reason == OUT_OF_MEMORY:
            free_memory()
        half = len(units) // 2
        return [*self.ask(call, units[:half]), *self.ask(call, units[half:])]

    def _count(self, failure: Failure) -> None:
        if failure.reason not in (UNUSABLE, TOO_LONG):
            self._in_a_row += 1
        if self._in_a_row >= MOST_FAILED:
            raise PluginError(
                f"{failure.detail}. It was the {self._in_a_row}th failure in a row, of as many items; the run stops."
            )
