"""What is done to clean speech before it is kept, by name and settings: ``clean``, ``noise,snr=10``, ``telephone``.

Each is a pure function of the sound: length and rate stay, the samples stay float32 in [-1, 1], and noise is drawn with
the hash of the very sound as its seed, so that equal sounds are always perturbed equally and two signal-to-noise ratios
of one sound differ in the level of the noise alone. Nothing is clipped: where the result would pass ``PEAK`` the whole
of it is scaled down, which leaves the signal-to-noise ratio as it is.

The store remembers sounds by the canonical name. Whoever changes what a perturbation does must give it another name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from salad_eval.errors import UnknownNameError, UserInputError, did_you_mean
from salad_eval.types import CLEAN, Audio

if TYPE_CHECKING:
    import numpy as np

Perturbation = Callable[[Audio], Audio]

PEAK = 0.99  # of full scale; what would pass it is scaled down to it
# Speech spans some 30 dB between its loudest and its faintest sounds (ANSI S3.5); what lies below is pause.
ACTIVE_RANGE_DB = 30.0
SPECTRUM_SECONDS = 0.032  # window of the long-term average spectrum: resolves formants, not single harmonics
TELEPHONE_RATE_HZ = 8_000
TELEPHONE_BAND_HZ = (300.0, 3_400.0)
TELEPHONE_SKIRT_HZ = 50.0  # from pass to stop, inside the band: what is left outside it is the coder's noise
TELEPHONE_STOP_DB = 50.0  # below the noise of an 8-bit coder, which lies 38 dB under the speech
MU_LAW_FULL_SCALE = 8_192  # G.711 codes 14-bit samples; 1.0 is their full scale
MU_LAW_MOST = 8_158  # the largest magnitude that has a code of its own; beyond is coded like it
MU_LAW_BIAS = 33  # makes the segments powers of two


# --- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PerturbationSpec:
    """``noise,snr=10`` taken apart. ``str`` puts it together in canonical form: equal settings give equal strings."""

    name: str
    settings: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return ",".join([self.name, *(f"{key}={_number(value)}" for key, value in self.settings.items())])


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A perturbation: ``change`` takes the sound and the settings by name; each has a range, and none a default."""

    change: Callable[..., Audio]
    settings: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def usage(self, name: str) -> str:
        return ",".join([name, *(f"{key}=N" for key in self.settings)])


def parse_perturbation(text: str) -> PerturbationSpec:
    """The parts of a perturbation written ``name[,setting=N]``, spaces around them dropped:

    - ``clean``: the sound as it is.
    - ``noise,snr=N``: stationary noise with the long-term average spectrum of the sound, N dB (-20 to 60) below it.
    - ``white,snr=N``: white noise, N dB below the sound.
    - ``telephone``: 300 to 3400 Hz, sampled at 8 kHz, 8-bit G.711 mu-law.
    - ``gain,db=N``: a quiet recording, N from -40 to 0.

    Raises ``UnknownNameError`` for a name that is not there and ``UserInputError`` for an unknown, repeated or missing
    setting or a value out of range.
    """
    name, *written = (part.strip() for part in text.split(","))
    if not name or "=" in name:
        raise UserInputError(
            f"perturbation {text!r}: expected a name first, such as 'noise,snr=10' "
            "(in quotes, inside a [list] of YAML)."
        )
    if name not in PERTURBATIONS:
        raise UnknownNameError("perturbation", name, PERTURBATIONS)
    kind = PERTURBATIONS[name]
    values: dict[str, float] = {}
    for setting in written:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if key not in kind.settings or not equals:
            takes = ", ".join(f"{known}=N" for known in kind.settings) or "none"
            raise UserInputError(
                f"perturbation {text!r}: unknown setting {setting!r}{did_you_mean(key, kind.settings)}. "
                f"Settings of {name!r}: {takes}."
            )
        if key in values:
            raise UserInputError(f"perturbation {text!r}: {key} is given twice.")
        values[key] = _value(text, key, value, kind.settings[key])
    if missing := [key for key in kind.settings if key not in values]:
        raise UserInputError(
            f"perturbation {text!r}: {missing[0]} is missing, expected {kind.usage(name)!r} "
            "(in quotes, inside a [list] of YAML)."
        )
    return PerturbationSpec(name, {key: values[key] for key in kind.settings})


def _value(text: str, key: str, value: str, bounds: tuple[float, float]) -> float:
    low, high = bounds
    try:
        number = float(value) + 0.0  # -0 becomes 0
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise UserInputError(f"perturbation {text!r}: {key} is {value!r}, expected a number from {low:g} to {high:g}.")
    return number


def canonical(text: str) -> str:
    """The one way to write a perturbation: ``noise, snr=10.0`` is ``noise,snr=10``.

    Raises as ``parse_perturbation``.
    """
    return str(parse_perturbation(text))


def perturbation(text: str) -> Perturbation:
    """The function that a perturbation stands for. Raises as ``parse_perturbation``."""
    spec = parse_perturbation(text)
    change, settings = PERTURBATIONS[spec.name].change, dict(spec.settings)
    return lambda audio: change(audio, **settings)


# --- what they do ----------------------------------------------------------------------------------------------------


def _clean(audio: Audio) -> Audio:
    return audio


def _gain(audio: Audio, db: float) -> Audio:
    return _finished(audio, audio.samples * 10 ** (db / 20))


def _white(audio: Audio, snr: float) -> Audio:
    return _with_noise(audio, _white_noise(audio), snr)


def _speech_shaped(audio: Audio, snr: float) -> Audio:
    """White noise given the average spectrum of the sound by multiplying in the frequency domain (the noise wraps
    around, which stationary noise may)."""
    if len(audio.samples) == 0:
        return audio
    import numpy as np
    from scipy import fft

    n = len(audio.samples)
    frequencies, power = _average_spectrum(audio)
    n_fast = fft.next_fast_len(n, real=True)
    white = np.pad(_white_noise(audio), (0, n_fast - n), mode="wrap")
    shape = np.sqrt(np.interp(fft.rfftfreq(n_fast, 1 / audio.sample_rate_hz), frequencies, power))
    return _with_noise(audio, fft.irfft(fft.rfft(white) * shape, n_fast)[:n], snr)


def _average_spectrum(audio: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and the power at each, both (size // 2 + 1,): the mean over half-overlapping Hann windows.

    Welch's method; scipy's, which can do much more, takes longer than the synthesis. Two windows see every sample.
    """
    import numpy as np

    size = 2 * max(1, round(SPECTRUM_SECONDS * audio.sample_rate_hz / 2))
    hop = size // 2
    padded = np.pad(audio.samples.astype(np.float64), (hop, hop + -len(audio.samples) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = np.hanning(size + 1)[:-1]
    power = np.mean(np.abs(np.fft.rfft(frames * window)) ** 2, axis=0)
    return np.fft.rfftfreq(size, 1 / audio.sample_rate_hz), power


def _telephone(audio: Audio) -> Audio:
    """A narrow-band telephone line: band-pass at 8 kHz, G.711 mu-law and back, and again the rate it came in."""
    if len(audio.samples) == 0:
        return audio
    from scipy import signal

    from salad_eval.audio.sound import resample

    narrow = resample(audio, TELEPHONE_RATE_HZ)
    taps = _telephone_filter()
    # The filter is symmetric: cutting half its length off both ends takes its delay out again.
    filtered = signal.fftconvolve(narrow.samples, taps)[len(taps) // 2 :][: len(narrow.samples)]
    sent = _finished(narrow, filtered)
    heard = Audio(mu_law_decode(mu_law_encode(sent.samples)), TELEPHONE_RATE_HZ)
    return _finished(audio, resample(heard, audio.sample_rate_hz).samples)


@functools.cache
def _telephone_filter() -> np.ndarray:
    """A linear-phase FIR band-pass (Kaiser window), (n_taps,) with n_taps odd: 50 dB down at the ends of the band and
    beyond, flat from 50 Hz inside them."""
    from scipy import signal

    nyquist = TELEPHONE_RATE_HZ / 2
    n_taps, beta = signal.kaiserord(TELEPHONE_STOP_DB, TELEPHONE_SKIRT_HZ / nyquist)
    low, high = TELEPHONE_BAND_HZ
    edges = [low + TELEPHONE_SKIRT_HZ / 2, high - TELEPHONE_SKIRT_HZ / 2]
    return signal.firwin(n_taps | 1, edges, window=("kaiser", beta), pass_zero=False, fs=TELEPHONE_RATE_HZ)


PERTURBATIONS: Mapping[str, _Kind] = {
    CLEAN: _Kind(_clean),
    "noise": _Kind(_speech_shaped, {"snr": (-20.0, 60.0)}),
    "white": _Kind(_white, {"snr": (-20.0, 60.0)}),
    "telephone": _Kind(_telephone),
    "gain": _Kind(_gain, {"db": (-40.0, 0.0)}),
}


# --- levels and noise ------------------------------------------------------------------------------------------------


def active(audio: Audio) -> np.ndarray:
    """Which samples hold speech: (n,) bool, whole frames of 10 ms, true where the frame's RMS lies within
    ``ACTIVE_RANGE_DB`` of the loudest frame's. All false in digital silence."""
    import numpy as np

    from salad_eval.audio.sound import FRAME_SECONDS, frame_rms

    if len(audio.samples) == 0:
        return np.zeros(0, bool)
    loudness = frame_rms(audio.samples.astype(np.float64), audio.sample_rate_hz)
    loud = (loudness >= loudness.max() * 10 ** (-ACTIVE_RANGE_DB / 20)) & (loudness > 0)
    return np.repeat(loud, max(1, int(audio.sample_rate_hz * FRAME_SECONDS)))[: len(audio.samples)]


def _white_noise(audio: Audio) -> np.ndarray:
    """(n,) float64, unit variance, drawn with the sound's hash as the seed."""
    import numpy as np

    from salad_eval.audio.sound import sha256_of

    return np.random.default_rng(int(sha256_of(audio), 16)).standard_normal(len(audio.samples))


def _with_noise(audio: Audio, noise: np.ndarray, snr: float) -> Audio:
    """``audio`` plus ``noise`` from its first sample to its last, at ``snr`` dB: the power of the speech over that of
    the noise, both over the active samples. Silence has no such ratio and is returned as it is."""
    import numpy as np

    speaks = active(audio)
    samples = audio.samples.astype(np.float64)
    noise_power = float(np.mean(noise[speaks] ** 2)) if speaks.any() else 0.0
    if noise_power == 0.0:
        return audio
    wanted = float(np.mean(samples[speaks] ** 2)) * 10 ** (-snr / 10)
    return _finished(audio, samples + noise * math.sqrt(wanted / noise_power))


def _finished(audio: Audio, samples: np.ndarray) -> Audio:
    """``samples`` as a sound of the rate and length of ``audio`` (a resampler may miss by one), within ``PEAK``."""
    import numpy as np

    n = len(audio.samples)
    samples = np.pad(samples[:n], (0, max(0, n - len(samples))))
    peak = float(np.max(np.abs(samples), initial=0.0))
    if peak > PEAK:
        samples = samples * (PEAK / peak)
    return Audio(samples.astype(np.float32), audio.sample_rate_hz)


# --- G.711 -----------------------------------------------------------------------------------------------------------


def mu_law_encode(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1], shape (n,), as the 8-bit codes of ITU-T G.711 mu-law, shape (n,) uint8.

    The code approximates F(x) = sgn(x) ln(1 + 255 |x|) / ln(256) by eight straight segments (G.711, tables 2a and 2b):
    with m = min(|x|, 8158) + 33 for 14-bit x, the segment is s = floor(log2 m) - 5, the step within it
    q = floor(m / 2^(s+1)) - 16, and the code, its bits inverted for transmission, 128 [x < 0] + 16 s + q.
    """
    import numpy as np

    x = np.rint(np.asarray(samples, np.float64) * MU_LAW_FULL_SCALE).astype(np.int64)
    magnitude = np.minimum(np.abs(x), MU_LAW_MOST) + MU_LAW_BIAS
    segment = np.frexp(magnitude.astype(np.float64))[1] - 6  # frexp's exponent is floor(log2 m) + 1
    step = (magnitude >> (segment + 1)) - 16
    return (255 - (128 * (x < 0) + 16 * segment + step)).astype(np.uint8)


def mu_law_decode(codes: np.ndarray) -> np.ndarray:
    """The inverse, to the middle of each step: (2q + 33) 2^s - 33 of 8192; codes (n,) uint8 to float32 (n,) in [-1, 1].

    ``mu_law_decode(mu_law_encode(x))`` differs from a 14-bit x by at most (|x| + 33) / 32 in its units of 1/8192.
    """
    import numpy as np

    bits = 255 - np.asarray(codes, np.int64)
    segment, step = bits >> 4 & 7, bits & 15
    magnitude = ((2 * step + MU_LAW_BIAS) << segment) - MU_LAW_BIAS
    return (np.where(bits & 128, -magnitude, magnitude) / MU_LAW_FULL_SCALE).astype(np.float32)
