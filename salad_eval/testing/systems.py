"""A language model of digests: repeatable on every machine, and right by chance alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from salad_eval.errors import AudioError, ModelError
from salad_eval.testing.recognisers import ToneASR
from salad_eval.types import AudioSegment, Request

VOCABULARY = 16  # its tokens are half bytes
_SPREAD = 4.0  # nats between its likeliest and unlikeliest logit


class HashedSystem:
    """``System`` and ``Distributional``: the next token's distribution is a digest of ``name`` and of all that was read and heard.

    It hears ``ToneTTS`` by letters, and refuses sound where ``hears`` is false, or where it is longer than ``max_audio_seconds``.
    """

    def __init__(self, name: str = "hashed", hears: bool = True, max_audio_seconds: float | None = None) -> None:
        self.name, self.hears, self.max_audio_seconds = name, hears, max_audio_seconds

    def fingerprint(self) -> str:
        most = "" if self.max_audio_seconds is None else f", {self.max_audio_seconds:g} s"
        return f"hashed 1({self.name}{'' if self.hears else ', deaf'}{most})"

    def tokenizer_fingerprint(self) -> str:
        return "half bytes"

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        found = []
        for request, options in zip(requests, self.distributions(requests), strict=True):
            tokens = map(_tokens, request.continuations)
            found.append(tuple(float(r[np.arange(len(t)), t].sum()) for r, t in zip(options, tokens, strict=True)))
        return found

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """A word of the prompt."""
        return [self._word(request) for request in requests]

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        return [[self._rows(self._read(r), option) for option in r.continuations] for r in requests]

    def _read(self, request: Request) -> str:
        if request.has_audio and not self.hears:
            raise ModelError(f"{self.name} hears nothing, and item {request.item_id!r} has sound in its prompt.")
        longest = max((s.audio.seconds for s in request.prompt if isinstance(s, AudioSegment)), default=0.0)
        if self.max_audio_seconds is not None and longest > self.max_audio_seconds:
            raise AudioError(f"{self.name}: the recording of item {request.item_id!r} takes {longest:.1f} s.")
        return "".join(
            f"<{ToneASR().transcribe([s.audio])[0]}>" if isinstance(s, AudioSegment) else s.text for s in request.prompt
        )

    def _rows(self, prompt: str, continuation: str) -> np.ndarray:
        tokens = _tokens(continuation)
        rows = [self._row(f"{prompt}\0{tokens[:n]}") for n in range(len(tokens))]
        return np.array(rows, dtype=np.float32).reshape(-1, VOCABULARY)

    def _row(self, before: str) -> np.ndarray:
        """(VOCABULARY,) log-probabilities."""
        digest = hashlib.sha256(f"{self.name}\0{before}".encode()).digest()
        logits = np.frombuffer(digest, dtype="<u2").astype(np.float64) * (_SPREAD / 65_535)
        row: np.ndarray = logits - np.log(np.exp(logits).sum())
        return row

    def _word(self, request: Request) -> str:
        words = self._read(request).split() or [""]
        digest = hashlib.sha256(f"{self.name}\0{words}".encode()).digest()
        return words[digest[0] % len(words)]


def _tokens(text: str) -> list[int]:
    return [half for byte in text.encode() for half in (byte >> 4, byte & 15)]
