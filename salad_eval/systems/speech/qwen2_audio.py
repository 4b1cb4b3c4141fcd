"""Qwen2-Audio: a Whisper-like encoder in windows of 30 s, pooled to 25 positions a second, before a Qwen LM."""

from __future__ import annotations

from salad_eval.systems.speech.family import SpeechFamily


class Qwen2AudioFamily(SpeechFamily):
    """``Qwen2AudioForConditionalGeneration``; its feature extractor cuts recordings at 30 s."""

    model_types = ("qwen2_audio",)
    architecture = "Qwen2AudioForConditionalGeneration"
    audio_markup = "<|audio_bos|><|AUDIO|><|audio_eos|>"

    @property
    def max_audio_seconds(self) -> float:
        return float(self.feature_extractor.n_samples / self.feature_extractor.sampling_rate)

    def padded_seconds(self, seconds: float) -> float:
        return self.max_audio_seconds
