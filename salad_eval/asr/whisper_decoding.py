"""Decoding as Whisper's own program does it: greedily first, and again with sampling where a transcript is not to be trusted.

A transcript that repeats itself compresses well, and one that the model made up is unlikely to it; either is decoded again at the next
temperature. Sound in which the model expects no speech and that it cannot transcribe with confidence has no transcript. (Radford et
al., arXiv 2212.04356, section 4.5, and the defaults of OpenAI's program.) If no temperature gives an acceptable transcript, the
likeliest of those that do not repeat themselves is taken, as faster-whisper does.

Sampling is by noise of our own (Gumbel-max), drawn from the seed, the temperature and the sound: the same sound gives the same words
whatever is heard with it, and whichever program computes the scores.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.errors import UserInputError

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LEAST = -1e30  # a score below it says that a token is not allowed


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """When a transcript is made again, and how. ``None`` switches a rule off.

    Attributes:
        temperatures: tried in this order; 0 is greedy.
        compression_ratio_threshold: bytes of the text over bytes of it compressed, above which it repeats itself.
        logprob_threshold: nats a token on average, below which it is too unlikely.
        no_speech_threshold: probability of no speech above which an unlikely transcript is taken for silence.
        seed: of the sampling above temperature 0.
    """

    temperatures: tuple[float, ...] = TEMPERATURES
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    seed: int = 0

    def __str__(self) -> str:
        tried = "/".join(f"{one:g}" for one in self.temperatures)
        return (
            f"temperatures={tried},compression_ratio={self.compression_ratio_threshold},logprob={self.logprob_threshold},"
            f"no_speech={self.no_speech_threshold},seed={self.seed}"
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """A transcript of one window at one temperature.

    ``avg_logprob``: of its tokens and its end, in nats, without the temperature; ``no_speech_prob``: of the first place.
    """

    text: str
    avg_logprob: float
    no_speech_prob: float


def decoding_rules(
    temperatures: Sequence[float] | float,
    compression_ratio_threshold: float | None,
    logprob_threshold: float | None,
    no_speech_threshold: float | None,
    seed: int,
) -> DecodingRules:
    """Rules as a user states them; ``UserInputError`` for what makes no sense."""
    tried = tuple(temperatures) if isinstance(temperatures, Sequence) else (temperatures,)
    if isinstance(temperatures, str) or not tried or not all(_is_number(one) and one >= 0 for one in tried):
        raise UserInputError(
            f"temperatures is {temperatures!r}; expected numbers from 0 up, such as 0 or [0, 0.2, 0.4]."
        )
    for name, value in (
        ("compression_ratio_threshold", compression_ratio_threshold),
        ("logprob_threshold", logprob_threshold),
        ("no_speech_threshold", no_speech_threshold),
    ):
        if value is not None and not _is_number(value):
            raise UserInputError(f"{name} is {value!r}; expected a number, or null to leave the rule out.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserInputError(f"seed is {seed!r}; expected a whole number from 0 up.")
    return DecodingRules(
        tuple(map(float, tried)), compression_ratio_threshold, logprob_threshold, no_speech_threshold, seed
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def compression_ratio(text: str) -> float:
    """Bytes of ``text`` over bytes of it compressed by zlib; 0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def decode(n: int, attempt: Callable[[Sequence[int], float], Sequence[Attempt]], rules: DecodingRules) -> list[str]:
    """Texts of ``n`` windows. ``attempt`` transcribes those at the given places at a temperature."""
    tried: list[list[Attempt]] = [[] for _ in range(n)]
    pending = list(range(n))
    for temperature in rules.temperatures:
        if not pending:
            break
        for place, found in zip(pending, attempt(pending, temperature), strict=True):
            tried[place].append(found)
        pending = [place for place in pending if _is_doubtful(tried[place][-1], rules)]
    refused = set(pending)
    chosen = [_best(found, rules) if place in refused else found[-1] for place, found in enumerate(tried)]
    return ["" if _is_silence(one, rules) else one.text for one in chosen]


def _is_silence(attempt: Attempt, rules: DecodingRules) -> bool:
    if rules.no_speech_threshold is None or attempt.no_speech_prob <= rules.no_speech_threshold:
        return False
    return rules.logprob_threshold is None or attempt.avg_logprob < rules.logprob_threshold


def _repeats(attempt: Attempt, rules: DecodingRules) -> bool:
    most = rules.compression_ratio_threshold
    return most is not None and compression_ratio(attempt.text.strip()) > most


def _is_doubtful(attempt: Attempt, rules: DecodingRules) -> bool:
    unlikely = rules.logprob_threshold is not None and attempt.avg_logprob < rules.logprob_threshold
    return (_repeats(attempt, rules) or unlikely) and not _is_silence(attempt, rules)


def _best(tried: Sequence[Attempt], rules: DecodingRules) -> Attempt:
    plain = [attempt for attempt in tried if not _repeats(attempt, rules)]
    return max(plain or tried, key=lambda attempt: attempt.avg_logprob)


class Noise:
    """Gumbel noise for one sound at one temperature: the largest of log p / T + noise is a draw from p at temperature T."""

    def __init__(self, rules: DecodingRules, temperature: float, wave: np.ndarray) -> None:
        sound = hashlib.sha256(np.ascontiguousarray(wave, "<f4").tobytes()).hexdigest()
        key = hashlib.sha256(f"{rules.seed} {temperature!r} {sound}".encode()).digest()
        self._rng = np.random.default_rng(list(np.frombuffer(key, "<u4")))
        self._temperature = temperature

    def choose(self, logits: np.ndarray) -> int:
        """A token drawn at this temperature; ``logits``: (vocabulary,), -inf (or the lowest number) where a token is not allowed."""
        noise = self._rng.gumbel(size=len(logits))
        return int(np.argmax(np.where(logits > LEAST, logits / self._temperature + noise, -np.inf)))
