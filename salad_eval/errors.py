"""Errors a user can act on. Each message names the field, the value, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaladError(Exception):
    """Any failure this package explains. The CLI prints it without a traceback and exits with ``exit_code``."""

    exit_code = 1


class UserInputError(SaladError):
    """What the user wrote (a plan, a task, a name, a path) is wrong."""

    exit_code = 2


class UnknownNameError(UserInputError):
    """A name that is not registered; the message lists what exists and the nearest match."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        listing = ", ".join(self.known) if self.known else "none"
        super().__init__(f"unknown {kind} {name!r}{did_you_mean(name, self.known)}. Known: {listing}.")


class PluginError(SaladError):
    """A registered plug-in could not be loaded; names the package and the cause."""


class MissingExtraError(UserInputError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, package: str, install: str) -> None:
        super().__init__(f"{feature} needs the package {package!r}, which is not installed. Install it with: {install}")


class TaskError(UserInputError):
    """A task YAML or its data cannot be used."""


class AudioError(SaladError):
    """Audio is unreadable, empty or otherwise not usable as speech."""


class ModelError(SaladError):
    """A checkpoint cannot be loaded or does not fit the role it was given."""


class RoomError(ModelError):
    """A prompt is longer than the model can read, and cannot be cut."""


class LeakError(SaladError):
    """A speech prompt contains the very text that is meant to be heard; its score would not measure speech."""


class DataError(UserInputError):
    """A file of records (JSONL, a report) cannot be read as what it should be."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``'; did you mean "x"?'`` for the closest of ``known``, or an empty string where nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
