"""Sound on its way to a recogniser: checked, brought to its rate, cut at pauses, put into batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.asr import pieces as sound
from salad_eval.errors import AudioError, UserInputError
from salad_eval.types import Audio

RATE_HZ = 16_000


def speech(*parts: tuple[float, float]) -> np.ndarray:
    """Noise, each part so many seconds long and so loud."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [level * rng.uniform(-1, 1, int(seconds * RATE_HZ)) for seconds, level in parts], dtype=np.float32
    )


# --- the waveform


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_every_rate_becomes_the_recognisers(rate_hz: int) -> None:
    time = np.arange(rate_hz) / rate_hz
    wave = sound.waveform(0, Audio(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate_hz), RATE_HZ)
    assert (wave.dtype, len(wave)) == (np.float32, RATE_HZ)
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
    assert np.abs(wave - expected)[800:-800].max() < 0.01


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (np.zeros(0, np.float32), "recording 7 is 0.000 s long; an ASR needs at least 0.05 s"),
        (np.zeros(799, np.float32), "recording 7 is 0.050 s long"),
        (np.full(1600, np.inf, np.float32), "recording 7 holds samples that are not finite"),
    ],
)
def test_sound_that_cannot_be_heard_is_named(samples: np.ndarray, told: str) -> None:
    with pytest.raises(AudioError, match=told):
        sound.waveform(7, Audio(samples, RATE_HZ), RATE_HZ)


# --- where it is cut


@pytest.mark.parametrize(
    ("parts", "longest", "cuts"),
    [
        ([(2, 0.3)], 3.0, []),
        ([(3, 0.3)], 3.0, []),  # just as long as is allowed
        ([(2.5, 0.3), (0.4, 0.0), (2, 0.3)], 3.0, [2.7]),  # in the middle of the pause
        (
            [(1, 0.3), (0.4, 0.0), (1.2, 0.3), (0.3, 0.001), (2, 0.3)],
            3.0,
            [2.75],
        ),  # an early pause leaves too short a piece
        ([(2.3, 0.3), (0.3, 0.01), (0.1, 0.3), (0.3, 0.0), (2, 0.3)], 3.0, [2.85]),  # the quieter of two
        ([(2.5, 0.3), (0.4, 0), (2.2, 0.3), (0.4, 0), (2.2, 0.3)], 3.0, [2.7, 5.3]),
    ],
)
def test_long_sound_is_cut_where_it_is_quietest(
    parts: list[tuple[float, float]], longest: float, cuts: list[float]
) -> None:
    found = sound.pieces(speech(*parts), RATE_HZ, longest)
    assert [last / RATE_HZ for _, last in found[:-1]] == pytest.approx(cuts, abs=0.12)


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.floats(0.05, 20),
    longest=st.floats(1.0, 8.0),
    rate_hz=st.sampled_from([8_000, 11_025, 16_000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pieces_are_the_whole_and_none_is_too_long_or_too_short(
    seconds: float, longest: float, rate_hz: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.1, max(1, int(seconds * rate_hz))).astype(np.float32)
    wave *= np.repeat(rng.uniform(0, 1, -(-len(wave) // 500)), 500)[: len(wave)]
    found = sound.pieces(wave, rate_hz, longest)
    assert found[0][0] == 0
    assert found[-1][1] == len(wave)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    assert all(last - first <= round(longest * rate_hz) for first, last in found)
    assert all(last - first >= sound.MIN_SECONDS * rate_hz for first, last in found) or len(found) == 1
    assert len(found) <= max(1, np.ceil(len(wave) / (0.6 * longest * rate_hz)))


@pytest.mark.parametrize("longest", [0.0, -1.0, 0.99, float("nan"), float("inf")])
def test_a_length_of_which_no_pieces_can_be_made(longest: float) -> None:
    with pytest.raises(UserInputError, match="longest_seconds is"):
        sound.check_longest(longest)


def test_a_length_beyond_what_a_model_hears() -> None:
    sound.check_longest(30.0, 30.0, "a model")
    with pytest.raises(UserInputError, match=r"longest_seconds is 31.0; a model hears 30 s at most"):
        sound.check_longest(31.0, 30.0, "a model")


# --- silence


def test_a_piece_without_a_sound_is_not_heard() -> None:
    """2.9 s of noise, 3 s of near silence, 2.9 s of noise in pieces of 3 s, and a recording that is silent throughout."""
    asked: list[int] = []

    def hear(waves: list[np.ndarray]) -> list[str]:
        asked.extend(len(wave) for wave in waves)
        return [f"word{len(asked) - len(waves) + k}" for k in range(len(waves))]

    quiet = speech((8, 0.001))
    audios = [Audio(quiet, RATE_HZ), Audio(speech((2.9, 0.3), (6, 0.001), (2.9, 0.3)), RATE_HZ)]
    texts = sound.heard_in_pieces(audios, RATE_HZ, 3.0, hear)
    n_pieces = len(sound.pieces(audios[1].samples, RATE_HZ, 3.0))
    assert texts[0] == ""
    assert 2 <= len(asked) < n_pieces
    assert texts[1] == " ".join(f"word{k}" for k in range(len(asked)))
