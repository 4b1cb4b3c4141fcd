"""A voice of tones, the same to the last bit on every machine: its waves are made of whole numbers."""

from __future__ import annotations

import numpy as np

from salad_eval.errors import UnknownNameError
from salad_eval.tts.voice import check_text
from salad_eval.types import Audio

RATE_HZ = 16_000
LETTER_SAMPLES = 1_280  # 80 ms
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'-"
VOICES = {"low": 1, "high": 2}
_FADE = 160  # samples at either end of a letter
_LOUD = 9_000


def period_of(letter: str) -> int:
    """Samples in a wave of a letter: an even number, another for each."""
    return 20 + 2 * LETTERS.index(letter)


class ToneTTS:
    """Letters as triangle waves of a period each; what is no letter is a pause. ``high`` is as loud and half as long as ``low``."""

    def __init__(self, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = rate_hz

    def fingerprint(self) -> str:
        return f"tones 1, {self.rate_hz} Hz"

    def voices(self) -> list[str]:
        return sorted(VOICES)

    def check_voice(self, voice: str) -> None:
        if voice not in VOICES:
            raise UnknownNameError("tone voice", voice, VOICES)

    def speak(self, text: str, voice: str) -> Audio:
        self.check_voice(voice)
        length = LETTER_SAMPLES // VOICES[voice]
        waves = [letter_wave(one, length) for one in check_text(text).lower()]
        pause = np.zeros(length, dtype=np.int64)
        return Audio((np.concatenate([*waves, pause]) / 32_768).astype(np.float32), self.rate_hz)


def letter_wave(letter: str, length: int) -> np.ndarray:
    """(length,) whole numbers within ±``_LOUD``."""
    if letter not in LETTERS:
        return np.zeros(length, dtype=np.int64)
    at, period = np.arange(length), period_of(letter)
    half = period // 2
    triangle = np.abs(at % period - half) * 4 - period  # from -period to period
    fade = np.minimum(np.minimum(at, length - 1 - at), _FADE)
    wave: np.ndarray = triangle * fade * _LOUD // (period * _FADE)
    return wave
