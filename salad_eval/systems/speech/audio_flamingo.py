"""Audio Flamingo 3: a Whisper-like encoder in windows of 30 s, 25 positions a second, before a Qwen LM."""

from __future__ import annotations

import math

from salad_eval.systems.speech.family import SpeechFamily


class AudioFlamingo3Family(SpeechFamily):
    """``AudioFlamingo3ForConditionalGeneration``; its processor cuts recordings at 10 minutes."""

    model_types = ("audioflamingo3",)
    architecture = "AudioFlamingo3ForConditionalGeneration"

    @property
    def audio_markup(self) -> str:  # type: ignore[override]
        return self.audio_token

    @property
    def max_audio_seconds(self) -> float:
        return float(self.processor.max_audio_len)

    def padded_seconds(self, seconds: float) -> float:
        window = float(self.feature_extractor.chunk_length)
        return math.ceil(seconds / window) * window
