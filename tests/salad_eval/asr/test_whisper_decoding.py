"""Whisper's rules of decoding: what is believed, what is decoded again, and what is taken for silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from salad_eval.asr.whisper_decoding import (
    Attempt,
    DecodingRules,
    Noise,
    compression_ratio,
    decode,
    decoding_rules,
)
from salad_eval.errors import UserInputError

LOOP = "may live in a place that " * 20
SURE, UNSURE = -0.3, -1.5


def heard(attempts: Sequence[Attempt], **rules: Any) -> tuple[str, int]:
    """The text of one window whose attempts come in this order, and how many were made."""
    made = 0

    def attempt(places: Sequence[int], temperature: float) -> list[Attempt]:
        nonlocal made
        made += 1
        return [attempts[made - 1] for _ in places]

    temperatures = tuple(0.2 * k for k in range(len(attempts)))
    (text,) = decode(1, attempt, DecodingRules(temperatures, **rules))
    return text, made


@pytest.mark.parametrize(
    ("attempts", "rules", "expected"),
    [
        ([Attempt("yes", SURE, 0.0), Attempt("no", SURE, 0.0)], {}, ("yes", 1)),
        ([Attempt("yes", UNSURE, 0.0), Attempt("no", SURE, 0.0)], {}, ("no", 2)),
        ([Attempt(LOOP, SURE, 0.0), Attempt("no", SURE, 0.0)], {}, ("no", 2)),
        ([Attempt(LOOP, SURE, 0.0), Attempt(LOOP, UNSURE, 0.0), Attempt("c", SURE, 0.0)], {}, ("c", 3)),
        # silence: no speech expected and nothing heard with confidence; a sure transcript is one
        ([Attempt("you", UNSURE, 0.7), Attempt("no", SURE, 0.0)], {}, ("", 1)),
        ([Attempt("you", SURE, 0.7)], {}, ("you", 1)),
        ([Attempt("you", UNSURE, 0.6), Attempt("no", SURE, 0.6)], {}, ("no", 2)),
        ([Attempt("you", SURE, 0.7)], {"logprob_threshold": None}, ("", 1)),
        # none is acceptable: the likeliest that does not repeat itself, or the likeliest of all
        ([Attempt(LOOP, SURE, 0.0), Attempt("b", -2.0, 0.0), Attempt("c", -1.5, 0.0)], {}, ("c", 3)),
        ([Attempt(LOOP, -0.5, 0.0), Attempt(LOOP.upper(), -0.2, 0.0)], {}, (LOOP.upper(), 2)),
        # rules that are left out
        ([Attempt(LOOP, SURE, 0.0), Attempt("no", SURE, 0.0)], {"compression_ratio_threshold": None}, (LOOP, 1)),
        ([Attempt("yes", UNSURE, 0.9)], {"logprob_threshold": None, "no_speech_threshold": None}, ("yes", 1)),
    ],
)
def test_which_attempt_is_believed(attempts: list[Attempt], rules: dict[str, Any], expected: tuple[str, int]) -> None:
    assert heard(attempts, **rules) == expected


def test_only_doubtful_windows_are_decoded_again() -> None:
    asked: list[tuple[list[int], float]] = []

    def attempt(places: Sequence[int], temperature: float) -> list[Attempt]:
        asked.append((list(places), temperature))
        return [
            Attempt(f"{place} at {temperature:g}", SURE if temperature >= 0.2 * place else UNSURE, 0.0)
            for place in places
        ]

    assert decode(3, attempt, DecodingRules((0.0, 0.2, 0.4, 0.6))) == ["0 at 0", "1 at 0.2", "2 at 0.4"]
    assert asked == [([0, 1, 2], 0.0), ([1, 2], 0.2), ([2], 0.4)]
    assert decode(0, attempt, DecodingRules()) == []


def test_the_compression_ratio_is_that_of_zlib() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio("The cat sat on the mat.") < 1.1
    assert compression_ratio(LOOP) > 10


WAVE = np.sin(np.arange(1600, dtype=np.float32))


def draws(rules: DecodingRules, temperature: float, wave: np.ndarray, logits: np.ndarray, n: int) -> list[int]:
    noise = Noise(rules, temperature, wave)
    return [noise.choose(logits) for _ in range(n)]


def test_the_draws_are_those_of_the_seed_the_temperature_and_the_sound() -> None:
    logits = np.zeros(50)
    first = draws(DecodingRules(), 0.5, WAVE, logits, 20)
    assert draws(DecodingRules(), 0.5, WAVE.copy(), logits, 20) == first
    assert draws(DecodingRules(seed=1), 0.5, WAVE, logits, 20) != first
    assert draws(DecodingRules(), 0.6, WAVE, logits, 20) != first
    assert draws(DecodingRules(), 0.5, WAVE * 0.5, logits, 20) != first


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_come_as_often_as_the_model_says(temperature: float) -> None:
    logits = np.log(
        np.array([0.6, 0.3, 0.1, 0.0], np.float64), where=np.array([1, 1, 1, 0], bool), out=np.full(4, -3e38)
    )
    shares = np.exp(logits[:3] / temperature)
    found = np.bincount(draws(DecodingRules(), temperature, WAVE, logits, 20_000), minlength=4) / 20_000
    assert found[3] == 0, "a token that is not allowed is never drawn"
    assert np.allclose(found[:3], shares / shares.sum(), atol=0.012)  # 3.5 standard errors


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"temperatures": "0.2"}, "temperatures is '0.2'; expected numbers from 0 up, such as 0 or"),
        ({"temperatures": []}, r"temperatures is \[\]"),
        ({"temperatures": [0, -1]}, r"temperatures is \[0, -1\]"),
        ({"temperatures": [0, True]}, r"temperatures is \[0, True\]"),
        ({"logprob_threshold": "no"}, "logprob_threshold is 'no'; expected a number, or null"),
        ({"no_speech_threshold": float("nan")}, "no_speech_threshold is nan"),
        ({"compression_ratio_threshold": [2]}, r"compression_ratio_threshold is \[2\]"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0 up"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_rules_that_make_no_sense_are_named(changed: dict[str, Any], told: str) -> None:
    right: dict[str, Any] = {
        "temperatures": 0, "compression_ratio_threshold": 2.4, "logprob_threshold": None, "no_speech_threshold": 0.6, "seed": 0,
    }  # fmt: skip
    assert decoding_rules(**right).temperatures == (0.0,)
    with pytest.raises(UserInputError, match=told):
        decoding_rules(**{**right, **changed})
