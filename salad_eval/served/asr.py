"""ASR plug-in ``openai-asr``: transcription by an OpenAI-compatible server (``/audio/transcriptions``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from salad_eval.errors import AudioError, UserInputError
from salad_eval.served import wire
from salad_eval.served.endpoint import Endpoint, EndpointError, Usage, request_digest, unreadable
from salad_eval.types import Audio

TRANSCRIPTIONS = "/audio/transcriptions"
MIN_SECONDS = 0.1  # OpenAI refuses shorter files
_THE_RECORDING = (400, 413, 422)  # what a server says to a file it cannot use


class OpenAIASR:
    """One request a recording, at temperature 0. ``language`` is an ISO code ("en"), ``prompt`` a text that steers spelling.

    Recordings are remembered for the life of the object, so that none is paid for twice. ``endpoint``: the fields of
    ``EndpointSettings``.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        language: str | None = None,
        prompt: str | None = None,
        sample_rate_hz: int | None = None,
        **endpoint: Any,
    ) -> None:
        if sample_rate_hz is not None and sample_rate_hz < 8000:
            raise UserInputError(f"openai-asr: sample_rate_hz is {sample_rate_hz}; expected at least 8000.")
        self.endpoint = Endpoint.of("openai-asr", {"model": model, "base_url": base_url, **endpoint})
        self.language, self.prompt, self._rate = language, prompt, sample_rate_hz
        self._heard: dict[str, str] = {}

    def fingerprint(self) -> str:
        options = {"language": self.language, "prompt": self.prompt, "sample_rate_hz": self._rate}
        settings = [f"{name}={value!r}" for name, value in options.items() if value is not None]
        return f"openai-asr({','.join([self.endpoint.identity(), *settings])})"

    @property
    def usage(self) -> Usage:
        return self.endpoint.usage

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order.

        Raises ``AudioError`` for a recording that is too short, not finite, or refused by a server that took another one, and
        ``EndpointError`` for what is wrong with the endpoint.
        """
        files = [self._file(place, audio) for place, audio in enumerate(audios)]
        keys = [request_digest({}, file) for file in files]
        new = {key: place for place, key in enumerate(keys) if key not in self._heard}
        found = self.endpoint.map(lambda place: self._ask(files[place]), list(new.values()))
        self.endpoint.meter.add(audio_seconds=sum(audios[place].seconds for place in new.values()))
        for key, text in zip(new, found, strict=True):
            if isinstance(text, str):
                self._heard[key] = text
        for place, text in zip(new.values(), found, strict=True):
            if isinstance(text, EndpointError):
                if not self._heard:  # nothing was ever taken: it is not about this recording
                    raise text
                raise AudioError(f"recording {place} was refused: {text}")
        return [self._heard[key] for key in keys]

    def _file(self, place: int, audio: Audio) -> bytes:
        from salad_eval.audio.sound import resample

        if audio.seconds < MIN_SECONDS:
            raise AudioError(
                f"recording {place} is {audio.seconds:.3f} s long; an ASR needs at least {MIN_SECONDS} s. Leave it out."
            )
        if not np.isfinite(audio.samples).all():
            raise AudioError(
                f"recording {place} holds samples that are not finite numbers. Leave it out or make it again."
            )
        return wire.wav_bytes(audio if self._rate is None else resample(audio, self._rate))

    def _ask(self, file: bytes) -> str | EndpointError:
        """The transcript, or the error where the server may have refused this file alone."""
        fields = {"model": self.endpoint.settings.model, "response_format": "json", "temperature": "0"}
        fields |= {"language": self.language} if self.language is not None else {}
        fields |= {"prompt": self.prompt} if self.prompt is not None else {}
        try:
            return self.endpoint.post(TRANSCRIPTIONS, fields, self._read, wav=file)
        except EndpointError as cause:
            if cause.status in _THE_RECORDING:
                return cause
            raise

    def _read(self, reply: Any) -> str:
        with unreadable(self.endpoint, "a transcription"):
            return " ".join(wire.Transcription.model_validate(reply).text.split())
