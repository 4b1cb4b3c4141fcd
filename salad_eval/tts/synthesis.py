"""One synthesis: spoken and checked."""

from __future__ import annotations

import numpy as np

from salad_eval.audio.sound import SAMPLE_RATE_HZ, problem, resample
from salad_eval.errors import AudioError
from salad_eval.types import TTS, Audio, Failure


def synthesise(engine: TTS, text: str, voice: str, retries: int) -> Audio | Failure:
    """``text`` at 16 kHz; asked for again up to ``retries`` times where the sound is bad.

    The reasons are those of ``sound.problem`` and ``tts_error`` where the engine raised ``AudioError``. Raises ``TypeError`` for what
    is no mono sound, and whatever else the engine raises.
    """
    failure = Failure("tts_error")
    for _ in range(1 + retries):
        try:
            audio = resample(_mono(engine.speak(text, voice)), SAMPLE_RATE_HZ)
        except AudioError as cause:
            failure = Failure("tts_error", str(cause))
            continue
        found = problem(audio, text)
        if found is None:
            return audio
        failure = Failure(found, f"{audio.seconds:.2f} s for {text!r:.80} in voice {voice!r}")
    return failure


def _mono(given: object) -> Audio:
    """A plug-in's sound, if it is what it is told to give."""
    if not isinstance(given, Audio):
        raise TypeError(
            f"it gave a {type(given).__name__}; expected an Audio (mono samples in [-1, 1], and their rate)"
        )
    samples = given.samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype.kind != "f":
        shape = (
            f"{samples.dtype} of shape {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        )
        raise TypeError(f"it gave an Audio of {shape}; expected float samples of shape (n,)")
    return given
