"""Voxtral: a Whisper encoder in chunks of 30 s, 12.5 positions a second, before a Mistral LM.

Its prompts are made by ``mistral-common``, which writes control tokens as ids and never reads them from a string, so the
prompt is its chat format or, for text, plain text; plain text cannot hold a recording.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from salad_eval.audio.sound import resample
from salad_eval.errors import MissingExtraError, ModelError, UserInputError
from salad_eval.systems import prompts
from salad_eval.systems.chat import ChatStyle, conversation, text_of
from salad_eval.systems.speech.family import SpeechFamily
from salad_eval.types import Audio, AudioSegment, Request, Segment

CHUNK_SECONDS = 30.0  # of the encoder


class VoxtralFamily(SpeechFamily):
    """``VoxtralForConditionalGeneration``. A recording takes whole chunks of 30 s (375 positions each), padded."""

    model_types = ("voxtral",)
    architecture = "VoxtralForConditionalGeneration"
    audio_markup = "[BEGIN_AUDIO][AUDIO]"
    libraries = (*SpeechFamily.libraries, "mistral-common")

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        if find_spec("mistral_common") is None:
            raise MissingExtraError("Voxtral's tokenizer", "mistral-common", "pip install 'mistral-common[audio]'")
        return super().load_processor(source, **kwargs)

    @property
    def audio_token_id(self) -> int:
        return int(self.processor.audio_token_id)

    @property
    def template(self) -> str | None:
        """Of no file: the format is part of mistral-common."""
        return "mistral-common"

    def padded_seconds(self, seconds: float) -> float:
        return math.ceil(seconds / CHUNK_SECONDS) * CHUNK_SECONDS

    def audio_inputs(self, recordings: Sequence[np.ndarray]) -> Mapping[str, torch.Tensor]:
        rate = self.sampling_rate_hz
        turns = [[{"role": "user", "content": [_recording(Audio(samples, rate))]}] for samples in recordings]
        inputs: Mapping[str, torch.Tensor] = self.processor.apply_chat_template(turns, tokenize=True, return_dict=True)
        return inputs

    def encode_pairs(
        self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None
    ) -> tuple[prompts.EncodedPair, ...]:
        """After the chat format's last control token a continuation is encoded by itself, as generated text would be."""
        if chat is None:
            self._check_plain(request)
            return super().encode_pairs(request, n_rows, chat)
        context = self._chat_ids(request, chat)
        return tuple(
            prompts.EncodedPair(context, prompts.encode_continuation(self.tokenizer, option))
            for option in self.options(request, chat)
        )

    def encode_prompt(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> tuple[int, ...]:
        if chat is None:
            self._check_plain(request)
            return super().encode_prompt(request, n_rows, chat)
        return self._chat_ids(request, chat)

    def expanded(self, request: Request, n_rows: Mapping[str, int], chat: ChatStyle | None) -> str:
        return request.text

    def _check_plain(self, request: Request) -> None:
        if request.has_audio:
            raise UserInputError(
                f"item {request.item_id!r}: Voxtral hears recordings in its chat format only. Set chat_template to true "
                f"or auto."
            )

    def _chat_ids(self, request: Request, chat: ChatStyle) -> tuple[int, ...]:
        from mistral_common.exceptions import MistralCommonException

        messages = conversation(request, chat)
        turns = [{"role": message.role, "content": self.content(message.content)} for message in messages]
        begun = messages[-1].role == "assistant"
        try:
            found = self.processor.apply_chat_template(
                [turns], tokenize=True, return_dict=True, continue_final_message=begun
            )
        except (MistralCommonException, ValueError) as cause:
            raise ModelError(
                f"item {request.item_id!r}: its prompt does not fit Voxtral's chat format: {cause}"
            ) from cause
        return tuple(found["input_ids"][0].tolist())

    def content(self, segments: tuple[Segment, ...]) -> Any:
        """A turn's texts and recordings as typed parts; one of text alone as a string, which is all that a system turn takes."""
        if not any(isinstance(segment, AudioSegment) for segment in segments):
            return text_of(segments)
        return [
            {"type": "text", "text": piece}
            if isinstance(piece, str)
            else _recording(resample(piece.audio, self.sampling_rate_hz))
            for piece in prompts.split_at_audio(segments)
        ]


def _recording(audio: Audio) -> dict[str, str]:
    return {"type": "audio", "base64": _wav_base64(audio)}


def _wav_base64(audio: Audio) -> str:
    """A WAV file of 32-bit floats, which loses nothing, as base64."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, audio.samples, audio.sample_rate_hz, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()
