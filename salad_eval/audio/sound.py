"""Mono sound: files, rates, identity, and the checks that a rendering must pass before anything is measured on it."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from salad_eval.errors import AudioError
from salad_eval.types import Audio

SAMPLE_RATE_HZ = 16_000  # what speech recognisers and speech encoders hear
BYTES_PER_SAMPLE = 2  # 16-bit PCM
PCM_SCALE = 32_768  # int16 steps in 1.0: dividing by a power of two makes PCM -> float32 -> PCM exact
WAV_HEADER_BYTES = 44
RESAMPLE_QUALITY = "HQ"  # soxr: 20-bit precision, above 16-bit PCM's; its cost is about a fifth of the synthesis

FRAME_SECONDS = 0.01  # loudness is judged in frames of this length
SILENCE_RMS = 10 ** (-50 / 20)  # a frame below -50 dB of full scale holds no speech
CLIP_LEVEL = 32_760 / PCM_SCALE  # at or above this a sample has hit the ceiling
MAX_CLIPPED_SHARE = 1e-3  # loud voices touch the ceiling now and then; one sample in a thousand is distortion
# Reading aloud takes 0.05 to 0.1 s a letter. The bounds leave room for the fastest setting of a synthesiser and for
# letters that are named one by one, and still catch speech that lacks most of its words or that goes on and on.
MIN_SECONDS_PER_CHAR = 0.015
MAX_SECONDS_PER_CHAR = 0.6
MAX_SECONDS_EXTRA = 4.0
# A finished utterance dies away: its last frame lies more than 20 dB below its loudest. One cut in a vowel does not.
END_DROP = 10 ** (-20 / 20)

SoundForm = Literal["wav", "flac", "opus"]
_FORMS: Mapping[SoundForm, tuple[str, str]] = {  # libsndfile's container and encoding
    "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS"),
}  # fmt: skip
OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)  # that Opus encodes, and no others

Problem = Literal["empty", "nan", "clipped", "silent", "too_short", "truncated", "too_long"]


# --- samples ---------------------------------------------------------------------------------------------------------


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1], shape (n,), to little-endian int16, shape (n,); what lies outside is cut to range."""
    steps = np.asarray(samples, np.float32) * np.float32(PCM_SCALE)
    np.rint(steps, out=steps)
    np.clip(steps, -PCM_SCALE, PCM_SCALE - 1, out=steps)
    return steps.astype("<i2")


def from_pcm16(pcm: np.ndarray | bytes) -> np.ndarray:
    """Little-endian int16 samples (or their bytes) to float32 in [-1, 1), shape (n,)."""
    steps = np.frombuffer(pcm, "<i2") if isinstance(pcm, bytes) else pcm
    return np.multiply(steps, np.float32(1 / PCM_SCALE), dtype=np.float32)


def resample(audio: Audio, sample_rate_hz: int) -> Audio:
    """The same sound at another rate, band-limited (soxr). Same object where the rate is right already.

    A resampler may overshoot a peak; the result is cut to [-1, 1].
    """
    if audio.sample_rate_hz == sample_rate_hz:
        return audio
    if len(audio.samples) == 0:
        return Audio(np.zeros(0, np.float32), sample_rate_hz)
    samples = np.ascontiguousarray(audio.samples, np.float32)
    import soxr

    out = soxr.resample(samples, audio.sample_rate_hz, sample_rate_hz, quality=RESAMPLE_QUALITY)
    return Audio(np.clip(out, -1.0, 1.0, out=out), sample_rate_hz)


def pcm_digest(pcm: bytes, sample_rate_hz: int) -> str:
    """sha256 (hex) of a rate and 16-bit little-endian samples: the identity of a waveform."""
    digest = hashlib.sha256(f"{sample_rate_hz}:".encode())
    digest.update(pcm)
    return digest.hexdigest()


def sha256_of(audio: Audio) -> str:
    """The identity of a waveform: sha256 (hex) of its rate and its samples as 16-bit PCM."""
    return pcm_digest(to_pcm16(audio.samples).tobytes(), audio.sample_rate_hz)


# --- files -----------------------------------------------------------------------------------------------------------


def read_audio(path: str | os.PathLike[str]) -> Audio:
    """A WAV, FLAC or OGG file as mono float32 at the file's own rate; channels are averaged.

    Raises ``AudioError`` naming the file where it is missing, unreadable, or holds no samples.
    """
    import soundfile  # here, because processes that only render have no use for it and should start fast

    try:
        samples, sample_rate_hz = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (
        OSError,
        RuntimeError,
        TypeError,
    ) as cause:  # soundfile's errors are RuntimeErrors; TypeError: a headerless .raw
        reason = "no such file" if not Path(path).exists() else str(cause)
        raise AudioError(f"cannot read audio from {os.fspath(path)}: {reason}") from None
    if len(samples) == 0:
        raise AudioError(f"the audio file {os.fspath(path)} holds no samples; make it again or leave it out")
    return Audio(np.ascontiguousarray(samples.mean(axis=1, dtype=np.float32)), int(sample_rate_hz))


def write_audio(path: str | os.PathLike[str], audio: Audio) -> None:
    """Write 16-bit PCM as WAV or FLAC, by the name's ending.

    Raises ``AudioError`` for another ending or a failed write.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".wav", ".flac"):
        raise AudioError(f"cannot write audio to {os.fspath(path)}: its name should end in .wav or .flac")
    import soundfile

    try:
        soundfile.write(os.fspath(path), to_pcm16(audio.samples), audio.sample_rate_hz, subtype="PCM_16")
    except (OSError, RuntimeError) as cause:
        raise AudioError(f"cannot write audio to {os.fspath(path)}: {cause}") from None


def encoded(audio: Audio, form: SoundForm) -> bytes:
    """A sound as a file: WAV and FLAC hold its samples as 16-bit PCM, Opus (in Ogg) about what is heard of them, at the next rate of
    ``OPUS_RATES_HZ``. Raises ``AudioError`` for a rate that the form does not know."""
    import soundfile

    if form == "opus":
        rates = (rate for rate in OPUS_RATES_HZ if rate >= audio.sample_rate_hz)
        audio = resample(audio, next(rates, OPUS_RATES_HZ[-1]))
    samples = audio.samples if form == "opus" else to_pcm16(audio.samples)
    container, subtype = _FORMS[form]
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, audio.sample_rate_hz, format=container, subtype=subtype)
    except (RuntimeError, ValueError) as cause:
        raise AudioError(f"{audio.sample_rate_hz} Hz cannot be written as {form}: {cause}") from None
    return buffer.getvalue()


def wav_header(n_samples: int, sample_rate_hz: int) -> bytes:
    """The 44 bytes before the samples of a mono 16-bit PCM WAV file."""
    data = n_samples * BYTES_PER_SAMPLE
    form = (
        b"fmt ",
        16,
        1,
        1,
        sample_rate_hz,
        sample_rate_hz * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
    )
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + data, b"WAVE", *form, b"data", data)


# --- validation ------------------------------------------------------------------------------------------------------


def problem(audio: Audio, spoken_text: str) -> Problem | None:
    """Why ``audio`` cannot be a whole, sound rendering of ``spoken_text``, or ``None``.

    - ``empty``: no samples. ``nan``: a sample is not a finite number.
    - ``clipped``: samples outside [-1, 1], or more than ``MAX_CLIPPED_SHARE`` of them at the ceiling.
    - ``silent``: no frame of 10 ms reaches ``SILENCE_RMS``.
    - ``too_short``: the span from the first to the last audible frame is below ``MIN_SECONDS_PER_CHAR`` times the
      number of letters and digits, which no speaker reaches: words are missing.
    - ``truncated``: the last frame is within 20 dB of the loudest one: the end was cut off in the middle of a sound. (A
      cut that falls into a pause cannot be heard; ``too_short`` and the transcript's errors are left to find it.)
    - ``too_long``: longer than ``MAX_SECONDS_EXTRA`` plus ``MAX_SECONDS_PER_CHAR`` a character: stuck, or another text.
    """
    samples = audio.samples
    if len(samples) == 0:
        return "empty"
    peak = max(float(samples.max()), -float(samples.min()))
    if not np.isfinite(peak):  # both hand a NaN on
        return "nan"
    if peak > 1.0:
        return "clipped"
    if peak >= CLIP_LEVEL and np.count_nonzero(np.abs(samples) >= CLIP_LEVEL) > MAX_CLIPPED_SHARE * len(samples):
        return "clipped"
    loudness = frame_rms(samples, audio.sample_rate_hz)
    audible = np.flatnonzero(loudness > SILENCE_RMS)
    if len(audible) == 0:
        return "silent"
    n_chars = sum(character.isalnum() for character in spoken_text)
    if (audible[-1] + 1 - audible[0]) * FRAME_SECONDS < MIN_SECONDS_PER_CHAR * n_chars:
        return "too_short"
    if loudness[-1] > END_DROP * float(loudness.max()):
        return "truncated"
    if audio.seconds > MAX_SECONDS_EXTRA + MAX_SECONDS_PER_CHAR * len(spoken_text):
        return "too_long"
    return None


def frame_rms(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Root mean square of each frame of 10 ms, shape (ceil(n / frame),); the last frame takes the end of the sound."""
    size = max(1, int(sample_rate_hz * FRAME_SECONDS))
    whole = len(samples) // size
    frames = samples[: whole * size].reshape(whole, size)
    power = np.einsum("fs,fs->f", frames, frames) / size
    if len(samples) > whole * size:
        last = samples[-size:]
        power = np.append(power, np.dot(last, last) / len(last))
    return np.sqrt(power)


@cache
def versions() -> str:
    """The resampler that shapes every rendering, for fingerprints."""
    import soxr

    return f"soxr {soxr.__version__} {RESAMPLE_QUALITY}"
