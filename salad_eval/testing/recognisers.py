"""A recogniser that hears ``ToneTTS``, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salad_eval.errors import AudioError
from salad_eval.testing.voices import LETTER_SAMPLES, LETTERS, VOICES, letter_wave
from salad_eval.types import Audio

_SILENT = 0.01  # of full scale


class ToneASR:
    """The letter whose tone is nearest, every 80 ms (40 ms for ``high``). ``deaf_to``: letters that it never hears."""

    def __init__(self, deaf_to: str = "") -> None:
        self.deaf_to = deaf_to

    def fingerprint(self) -> str:
        return f"tones heard 1, deaf to {self.deaf_to or 'none'}"

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        return [self._heard(place, audio) for place, audio in enumerate(audios)]

    def _heard(self, place: int, audio: Audio) -> str:
        if not len(audio.samples):
            raise AudioError(f"recording {place} is empty.")
        tried = {voice: _letters(audio.samples, LETTER_SAMPLES // faster) for voice, faster in VOICES.items()}
        text, _ = max(tried.values(), key=lambda found: found[1])
        return " ".join("".join(letter for letter in text if letter not in self.deaf_to).split())


def _letters(samples: np.ndarray, length: int) -> tuple[str, float]:
    """The nearest letters, and how near they are on the whole: mean cosine of the windows that sound."""
    tones = np.stack([letter_wave(letter, length) for letter in LETTERS]).astype(np.float64)
    tones /= np.linalg.norm(tones, axis=1, keepdims=True)
    windows = samples[: len(samples) // length * length].reshape(-1, length).astype(np.float64)
    loud = np.abs(windows).max(axis=1, initial=0.0) > _SILENT
    cosines = windows @ tones.T / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-9)
    text = "".join(LETTERS[k] if sounds else " " for k, sounds in zip(cosines.argmax(axis=1), loud, strict=True))
    return text, float(cosines.max(axis=1)[loud].mean()) if loud.any() else 0.0
