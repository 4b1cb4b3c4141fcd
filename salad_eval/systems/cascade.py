"""The cascade: an ASR hears the audio, a text LLM reads what it wrote. The bar a speech LLM has to pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salad_eval import plugins
from salad_eval.errors import ModelError, UserInputError, did_you_mean
from salad_eval.types import ASR, AudioSegment, Counting, Distributional, Request, Segment, System, TextSegment, Tokens

PluginSpec = str | Mapping[str, Any]
_SPEC_KEYS = ("name", "options")


class CascadeSystem:
    """A ``System`` usable wherever a speech system is: audio in a prompt is transcribed, and the text LLM reads the
    transcript.

    ``asr`` and ``text`` are each a plug-in's name, a mapping ``{"name": …, "options": {…}}``, or a built object. Each
    waveform is transcribed once (by its sha256) over the life of the system.
    """

    def __init__(self, asr: PluginSpec | ASR, text: PluginSpec | System) -> None:
        self.asr: ASR = _built("salad.asr", "asr", asr)
        self.text: System = _built("salad.systems", "text", text)
        self._heard: dict[str, str] = {}

    def fingerprint(self) -> str:
        return f"cascade({self.asr.fingerprint()} > {self.text.fingerprint()})"

    def already_heard(self, asr: str, texts: Mapping[str, str]) -> None:
        """Take over transcripts (sha256 of the sound → text) that the ASR of the fingerprint ``asr`` wrote, if it is this one."""
        if asr == self.asr.fingerprint():
            self._heard.update(texts)

    def tokens(self) -> Tokens | None:
        return self.text.tokens() if isinstance(self.text, Counting) else None

    def tokenizer_fingerprint(self) -> str:
        return self._distributional().tokenizer_fingerprint()

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        return self.text.loglikelihoods(self.transcribed(requests))

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        return self.text.generate(self.transcribed(requests), max_new_tokens=max_new_tokens, stop=stop)

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """Next-token distributions of the text LLM after the transcripts; ``ModelError`` where it does not give any."""
        return self._distributional().distributions(self.transcribed(requests))

    def transcribed(self, requests: Sequence[Request]) -> list[Request]:
        """The requests with every audio segment replaced by its transcript; whitespace around it stays as written."""
        unheard: dict[str, AudioSegment] = {}
        for request in requests:
            for segment in request.prompt:
                if isinstance(segment, AudioSegment) and segment.sha256 not in self._heard:
                    unheard.setdefault(segment.sha256, segment)
        if unheard:
            texts = self.asr.transcribe([segment.audio for segment in unheard.values()])
            if len(texts) != len(unheard):
                raise ModelError(
                    f"{self.asr.fingerprint()} gave {len(texts)} transcripts for {len(unheard)} recordings."
                )
            self._heard.update(zip(unheard, texts, strict=True))
        return [
            replace(request, prompt=tuple(self._as_text(segment) for segment in request.prompt)) for request in requests
        ]

    def _as_text(self, segment: Segment) -> TextSegment:
        return TextSegment(self._heard[segment.sha256].strip()) if isinstance(segment, AudioSegment) else segment

    def _distributional(self) -> Distributional:
        if not isinstance(self.text, Distributional):
            raise ModelError(
                f"{self.text.fingerprint()} gives no next-token distributions, so the cascade has none either."
            )
        return self.text


def _built(group: plugins.Group, role: str, spec: Any) -> Any:
    if isinstance(spec, str):
        return plugins.create(group, spec, {})
    if not isinstance(spec, Mapping):
        return spec
    for key in spec:
        if key not in _SPEC_KEYS:
            hint = did_you_mean(str(key), _SPEC_KEYS)
            raise UserInputError(f"cascade option {role!r} has the unknown key {key!r}{hint}. Expected: name, options.")
    name, options = spec.get("name"), spec.get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise UserInputError(
            f"cascade option {role!r} is {dict(spec)!r}; expected a name (text) and options (a mapping)."
        )
    return plugins.create(group, name, options)
