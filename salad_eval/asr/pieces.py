"""What every recogniser does with sound before it hears it: check it, bring it to its rate, cut long sound, make batches.

**The rule for long sound.** Sound up to ``longest_seconds`` is heard in one piece. Longer sound is cut where it is
quietest: each piece ends in the middle of the quietest fifth of a second between two thirds of ``longest_seconds`` and
all of it. So a piece is never longer than ``longest_seconds``, a cut falls into a pause wherever there is one, and
where the cuts fall depends on the sound alone, not on what else is heard with it.

**The rule for silence.** A piece in which no frame of 10 ms is louder than ``SILENCE_RMS`` (-50 dB of full scale) is not
heard: its text is empty. Recognisers that learned from subtitles put words into silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from salad_eval.audio.sound import FRAME_SECONDS, SILENCE_RMS, frame_rms, resample
from salad_eval.errors import AudioError, UserInputError
from salad_eval.types import Audio

MIN_SECONDS = 0.05  # a shorter sound holds no word, and an encoder's first convolutions may not fit into it
PAUSE_SECONDS = 0.2  # loudness is averaged over so long to find a pause: longer than the closure of a plosive
SEARCH_SHARE = 1 / 3  # of the longest piece, at its end, in which the pause is looked for
MIN_LONGEST_SECONDS = 1.0


def waveform(place: int, audio: Audio, sample_rate_hz: int) -> np.ndarray:
    """The samples of a recording at a recogniser's rate, float32, shape (n,).

    Raises ``AudioError``, naming the recording by its ``place`` in the call, for one that is empty, too short, not finite.
    """
    if audio.seconds < MIN_SECONDS:
        raise AudioError(
            f"recording {place} is {audio.seconds:.3f} s long; an ASR needs at least {MIN_SECONDS} s. Leave it out."
        )
    if not np.isfinite(audio.samples).all():
        raise AudioError(f"recording {place} holds samples that are not finite numbers. Leave it out or make it again.")
    return np.ascontiguousarray(resample(audio, sample_rate_hz).samples, np.float32)


def check_longest(longest_seconds: float, most: float = math.inf, source: str = "") -> None:
    """Raises ``UserInputError`` for a length of which no sensible pieces can be made, or beyond the ``most`` that ``source`` hears."""
    if not MIN_LONGEST_SECONDS <= longest_seconds < math.inf:
        raise UserInputError(
            f"longest_seconds is {longest_seconds}; expected a number of seconds from {MIN_LONGEST_SECONDS:g} up."
        )
    if longest_seconds > most:
        raise UserInputError(f"longest_seconds is {longest_seconds}; {source} hears {most:g} s at most.")


def pieces(wave: np.ndarray, sample_rate_hz: int, longest_seconds: float) -> list[tuple[int, int]]:
    """Where to cut ``wave``, as (first, last + 1) samples of each piece in order; see the rule above. One for short sound."""
    longest = round(longest_seconds * sample_rate_hz)
    least = math.ceil(MIN_SECONDS * sample_rate_hz)
    if len(wave) <= longest:
        return [(0, len(wave))]
    frame = max(1, int(sample_rate_hz * FRAME_SECONDS))
    width = round(PAUSE_SECONDS / FRAME_SECONDS)
    found: list[tuple[int, int]] = []
    start = 0
    while len(wave) - start > longest:
        low = start + int(longest * (1 - SEARCH_SHARE))
        high = min(start + longest, len(wave) - least)  # what is left must be long enough to be heard
        power = frame_rms(wave[low:high], sample_rate_hz) ** 2
        quiet = np.convolve(power, np.ones(min(width, len(power))), "valid")
        middle = int(np.argmin(quiet)) + min(width, len(power)) // 2
        cut = min(low + middle * frame, high)
        found.append((start, cut))
        start = cut
    return [*found, (start, len(wave))]


def heard_in_pieces(
    audios: Sequence[Audio],
    sample_rate_hz: int,
    longest_seconds: float,
    hear: Callable[[list[np.ndarray]], Sequence[str]],
) -> list[str]:
    """What ``hear`` makes of each recording, the pieces of a long one joined by single spaces.

    ``hear`` takes the waveforms (n,) of all pieces in which something is to be heard, and gives their texts. Raises ``AudioError`` as
    ``waveform`` does.
    """
    waves = [waveform(place, audio, sample_rate_hz) for place, audio in enumerate(audios)]
    parts = [
        (place, wave[first:last])
        for place, wave in enumerate(waves)
        for first, last in pieces(wave, sample_rate_hz, longest_seconds)
    ]
    heard = [""] * len(parts)
    audible = [k for k, (_, wave) in enumerate(parts) if frame_rms(wave, sample_rate_hz).max() > SILENCE_RMS]
    for k, text in zip(audible, hear([parts[k][1] for k in audible]), strict=True):
        heard[k] = text
    texts: list[list[str]] = [[] for _ in waves]
    for (place, _), text in zip(parts, heard, strict=True):
        texts[place].append(text)
    return [" ".join(" ".join(found).split()) for found in texts]
