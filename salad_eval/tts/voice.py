"""Voices as they are written in a plan: a name, and numbers that shape the speech: ``en-us+f3,rate=150,pitch=60``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from salad_eval.errors import AudioError, UserInputError, did_you_mean

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """The range of a number that a voice may carry, ends included; ``whole``: no fractions."""

    low: float
    high: float
    whole: bool = False

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


def parse_settings(voice: str, settings: Mapping[str, Setting], example: str) -> tuple[str, dict[str, float]]:
    """The name of a voice written ``name[,setting=number]…``, and its numbers.

    Raises ``UserInputError`` where there is no name (it then shows ``example``), for an unknown or repeated setting, and for a value
    out of range. Whether there is such a voice is the engine's to say.
    """
    name, *written = (part.strip() for part in voice.split(","))
    if not name:
        raise UserInputError(f"voice {voice!r}: expected a voice name first, such as {example!r}")
    values: dict[str, float] = {}
    for setting in written:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if key not in settings or not equals:
            known = ", ".join(f"{one}=N" for one in settings) or "none"
            raise UserInputError(
                f"voice {voice!r}: unknown setting {setting!r}{did_you_mean(key, settings)}. Settings: {known}."
            )
        if key in values:
            raise UserInputError(f"voice {voice!r}: {key} is given twice")
        wanted = settings[key]
        number = float(value) if _NUMBER.fullmatch(value) else None
        if number is None or not wanted.low <= number <= wanted.high or (wanted.whole and "." in value):
            raise UserInputError(f"voice {voice!r}: {key} is {value!r}, expected {wanted}")
        values[key] = number
    return name, values


def check_text(text: str) -> str:
    """``text`` if there is something to say in it. Raises ``AudioError`` for an empty one and for one with a NUL."""
    if "\0" in text:
        raise AudioError(f"cannot speak {text!r:.80}: the text holds a NUL character, at which it would be cut off")
    if not text.strip():
        raise AudioError("cannot speak an empty text")
    return text
