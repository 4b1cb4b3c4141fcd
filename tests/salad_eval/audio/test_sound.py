"""Sound: exact PCM, honest files, identity by hash, and the checks a rendering must pass."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salad_eval.audio import sound as audio
from salad_eval.audio.sound import SAMPLE_RATE_HZ, problem
from salad_eval.errors import AudioError
from salad_eval.types import Audio

TEXT = "The capital of France is Paris."


def tone(seconds: float, *, hz: float = 200.0, level: float = 0.3, rate: int = SAMPLE_RATE_HZ) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def speechlike(seconds: float = 2.0, level: float = 0.3) -> Audio:
    """A tone that dies away at its end, as a finished utterance does."""
    samples = tone(seconds, level=level)
    fade = min(len(samples), SAMPLE_RATE_HZ // 5)
    samples[len(samples) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32) ** 2
    return Audio(samples, SAMPLE_RATE_HZ)


# --- samples


@given(arrays(np.int16, st.integers(0, 50)))
def test_pcm_to_float_to_pcm_is_exact(pcm: np.ndarray) -> None:
    assert np.array_equal(audio.to_pcm16(audio.from_pcm16(pcm)), pcm)
    assert np.array_equal(audio.to_pcm16(audio.from_pcm16(pcm.astype("<i2").tobytes())), pcm)


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(-2, 2, width=32)))
def test_float_to_pcm_is_within_half_a_step_and_cut_to_range(samples: np.ndarray) -> None:
    back = audio.from_pcm16(audio.to_pcm16(samples))
    assert np.all(np.abs(back - np.clip(samples, -1, 1 - 1 / audio.PCM_SCALE)) <= 0.5 / audio.PCM_SCALE + 1e-9)


def test_resampling_keeps_pitch_level_and_length() -> None:
    rate = 22_050
    out = audio.resample(Audio(tone(1.0, hz=440, rate=rate), rate), SAMPLE_RATE_HZ)
    assert out.sample_rate_hz == SAMPLE_RATE_HZ
    assert abs(len(out.samples) - SAMPLE_RATE_HZ) <= 1
    assert out.samples.dtype == np.float32
    middle = slice(1000, 15_000)
    assert np.allclose(out.samples[middle], tone(1.0, hz=440)[: len(out.samples)][middle], atol=1e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    out = audio.resample(Audio(tone(1.0, hz=10_000, rate=44_100), 44_100), SAMPLE_RATE_HZ)
    assert np.abs(out.samples[1000:-1000]).max() < 1e-3


def test_resampling_stays_in_range_and_leaves_the_right_rate_alone() -> None:
    square = Audio(np.sign(tone(0.1, rate=22_050)), 22_050)
    assert np.abs(audio.resample(square, SAMPLE_RATE_HZ).samples).max() <= 1.0
    assert audio.resample(square, 22_050) is square
    assert len(audio.resample(Audio(np.zeros(0, np.float32), 22_050), SAMPLE_RATE_HZ).samples) == 0


def test_identity_is_of_samples_and_rate() -> None:
    sound = speechlike()
    assert audio.sha256_of(sound) == audio.sha256_of(Audio(sound.samples.copy(), sound.sample_rate_hz))
    assert audio.sha256_of(sound) != audio.sha256_of(Audio(sound.samples, 8_000))
    changed = sound.samples.copy()
    changed[100] += 1 / audio.PCM_SCALE
    assert audio.sha256_of(sound) != audio.sha256_of(Audio(changed, sound.sample_rate_hz))
    # Nothing that a 16-bit file cannot keep is part of it.
    assert audio.sha256_of(sound) == audio.sha256_of(Audio(audio.from_pcm16(audio.to_pcm16(sound.samples)), 16_000))


# --- files


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "A.WAV"])
def test_a_file_keeps_the_sound(tmp_path: Path, name: str) -> None:
    sound = speechlike()
    audio.write_audio(tmp_path / name, sound)
    back = audio.read_audio(tmp_path / name)
    assert back.sample_rate_hz == sound.sample_rate_hz
    assert audio.sha256_of(back) == audio.sha256_of(sound)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_exact_forms_keep_every_sample(form: audio.SoundForm) -> None:
    sound = speechlike()
    samples, rate = soundfile.read(io.BytesIO(audio.encoded(sound, form)), dtype="int16")
    assert rate == sound.sample_rate_hz
    assert np.array_equal(samples, audio.to_pcm16(sound.samples))


@pytest.mark.parametrize(
    ("rate", "kept_at"),
    [(8_000, 8_000), (11_025, 12_000), (16_000, 16_000), (22_050, 24_000), (44_100, 48_000), (96_000, 48_000)],
)
def test_opus_is_as_long_and_sounds_alike_at_the_next_rate_that_it_knows(rate: int, kept_at: int) -> None:
    sound = Audio(tone(0.7, rate=rate) + tone(0.7, hz=930, level=0.2, rate=rate), rate)
    content = audio.encoded(sound, "opus")
    assert content[:4] == b"OggS"
    assert len(content) < 0.6 * len(audio.encoded(sound, "wav"))
    samples, found = soundfile.read(io.BytesIO(content), dtype="float32")
    there = audio.resample(sound, kept_at).samples
    assert (found, len(samples)) == (kept_at, len(there))
    assert np.corrcoef(samples, there)[0, 1] > 0.97


def test_a_rate_that_a_form_does_not_know_is_named() -> None:
    with pytest.raises(AudioError, match="1000000 Hz cannot be written as flac"):
        audio.encoded(Audio(tone(0.01), 1_000_000), "flac")


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, -0.25], [0.25, 0.25]]), 8_000, subtype="FLOAT")
    back = audio.read_audio(tmp_path / "a.wav")
    assert back.samples.tolist() == [0.125, 0.25]
    assert back.sample_rate_hz == 8_000


def test_the_header_we_write_is_a_wav_header(tmp_path: Path) -> None:
    pcm = audio.to_pcm16(tone(0.1))
    (tmp_path / "a.wav").write_bytes(audio.wav_header(len(pcm), SAMPLE_RATE_HZ) + pcm.tobytes())
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == SAMPLE_RATE_HZ
    assert np.array_equal(samples, pcm)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), (b"", "bad.wav"), (b"not sound at all", "bad.wav"), (b"RIFF", "bad.wav")],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=told):
        audio.read_audio(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.write_bytes(audio.wav_header(0, SAMPLE_RATE_HZ))
    with pytest.raises(AudioError, match=r"empty\.wav holds no samples"):
        audio.read_audio(path)


def test_only_wav_and_flac_are_written(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"\.wav or \.flac"):
        audio.write_audio(tmp_path / "a.mp3", speechlike())
    with pytest.raises(AudioError, match="cannot write"):
        audio.write_audio(tmp_path / "no" / "folder.wav", speechlike())


# --- validation


def with_samples(change: object) -> Audio:
    samples = speechlike().samples.copy()
    change(samples)  # type: ignore[operator]
    return Audio(samples, SAMPLE_RATE_HZ)


PROBLEMS = [
    ("a whole utterance", speechlike(), TEXT, None),
    ("a short word", speechlike(0.3), "yes", None),
    ("a quiet voice", speechlike(level=0.02), TEXT, None),
    ("no samples", Audio(np.zeros(0, np.float32), SAMPLE_RATE_HZ), TEXT, "empty"),
    ("a NaN", with_samples(lambda s: s.__setitem__(5, np.nan)), TEXT, "nan"),
    ("an infinity", with_samples(lambda s: s.__setitem__(5, -np.inf)), TEXT, "nan"),
    ("outside the range", with_samples(lambda s: s.__setitem__(5, 1.01)), TEXT, "clipped"),
    ("flat tops", Audio(np.clip(4 * speechlike().samples, -1, 1), SAMPLE_RATE_HZ), TEXT, "clipped"),
    ("one sample at the top", with_samples(lambda s: s.__setitem__(5, 1.0)), TEXT, None),
    ("nothing but zeros", Audio(np.zeros(32_000, np.float32), SAMPLE_RATE_HZ), TEXT, "silent"),
    ("nothing but hiss", speechlike(level=0.002), TEXT, "silent"),
    ("half a second for a long text", speechlike(0.5), TEXT * 3, "too_short"),
    (
        "mostly silence",
        Audio(np.append(speechlike(0.2).samples, np.zeros(48_000, np.float32)), 16_000),
        TEXT,
        "too_short",
    ),
    ("cut off in a vowel", Audio(tone(2.0), SAMPLE_RATE_HZ), TEXT, "truncated"),
    ("a minute for a word", speechlike(60.0), "yes", "too_long"),
]


@pytest.mark.parametrize(("sound", "text", "found"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS])
def test_problems(sound: Audio, text: str, found: str | None) -> None:
    assert problem(sound, text) == found


def test_loudness_by_frames() -> None:
    loud = audio.frame_rms(np.array([0.5] * 160 + [0.0] * 160 + [0.25] * 80, np.float32), SAMPLE_RATE_HZ)
    assert loud == pytest.approx([0.5, 0.0, np.sqrt((80 * 0.25**2) / 160)])
    assert audio.frame_rms(np.array([0.5], np.float32), SAMPLE_RATE_HZ) == pytest.approx([0.5])
