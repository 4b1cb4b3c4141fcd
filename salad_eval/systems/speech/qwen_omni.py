"""Qwen2.5-Omni: its Thinker, which hears and reads and answers in text. The Talker and the vocoder are left unloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5OmniProcessor
from transformers.processing_utils import ProcessorMixin

from salad_eval.checkpoints import explained
from salad_eval.systems.speech.family import SpeechFamily

_TOKENS = (
    "image_token",
    "audio_token",
    "video_token",
    "vision_bos_token",
    "vision_eos_token",
    "audio_bos_token",
    "audio_eos_token",
)


class ListeningOmniProcessor(Qwen2_5OmniProcessor):
    """Qwen2.5-Omni's processor without its eyes: the whole one cannot be built without torchvision, which sound has no
    use for. What it makes of text and audio is its parent's.
    """

    def __init__(self, feature_extractor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, chat_template=chat_template)
        for name in _TOKENS:
            setattr(self, name, getattr(tokenizer, name))
        for kind in ("image", "audio", "video"):
            setattr(self, f"{kind}_token_id", getattr(tokenizer, f"{kind}_token_id"))


class QwenOmniFamily(SpeechFamily):
    """``Qwen2_5OmniThinkerForConditionalGeneration``, from a checkpoint of the whole model or of the Thinker alone.

    Its rotary positions have three axes, which are equal where there is no picture: what is heard and read is numbered
    one by one, as ``branching`` numbers it.
    """

    model_types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    architecture = "Qwen2_5OmniThinkerForConditionalGeneration"
    audio_markup = "<|audio_bos|><|AUDIO|><|audio_eos|>"

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        with explained(source, "processor"):
            return ListeningOmniProcessor.from_pretrained(source, **kwargs)

    @property
    def max_audio_seconds(self) -> float:
        return float(self.feature_extractor.n_samples / self.feature_extractor.sampling_rate)

    def audio_inputs(self, recordings: Sequence[np.ndarray]) -> Mapping[str, torch.Tensor]:
        """The processor pads every recording to the longest it takes (300 s) before it masks the padding out. Padding to
        a little more than the longest at hand gives the same features: all frames that count see the same samples.
        """
        extractor = self.feature_extractor
        frames = -(-max(len(samples) for samples in recordings) // extractor.hop_length)
        length = frames * extractor.hop_length + 2 * extractor.n_fft // extractor.hop_length * extractor.hop_length
        inputs: Mapping[str, torch.Tensor] = self.processor(
            text=[self.audio_markup] * len(recordings),
            audio=list(recordings),
            return_tensors="pt",
            text_kwargs={"padding": True},
            audio_kwargs={"sampling_rate": self.sampling_rate_hz, "max_length": min(length, extractor.n_samples)},
        )
        return inputs
