"""Granite-Speech: a conformer in blocks of 4 s and a windowed Q-Former, 10 positions a second, before a Granite LM that
hears through a LoRA adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoTokenizer, BatchFeature, GraniteSpeechFeatureExtractor, GraniteSpeechProcessor
from transformers.audio_utils import mel_filter_bank
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from salad_eval.checkpoints import explained, load_config
from salad_eval.errors import AudioError, ModelError
from salad_eval.systems.speech import adapters
from salad_eval.systems.speech.family import LanguageModel, SpeechFamily


class GraniteSpeechFeatures(GraniteSpeechFeatureExtractor):
    """Granite-Speech's features without torchaudio, of which they use the mel spectrogram alone.

    Frames of ``win_length`` samples every ``hop_length`` under a periodic Hann window, centred (the ends are mirrored),
    their power through ``n_mels`` triangular filters on the HTK mel scale. The rest is its parent's: ``log10`` with a
    floor of 8 below the recording's loudest value, ``x / 4 + 1``, two frames a row.
    """

    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        n_mels: int = 80,
        projector_window_size: int = 15,
        projector_downsample_rate: int = 5,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        n_mels = kwargs.pop("feature_size", None) or n_mels
        SequenceFeatureExtractor.__init__(
            self, feature_size=n_mels, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs
        )
        self.melspec_kwargs = {
            "sample_rate": sampling_rate,
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "n_mels": n_mels,
        }
        self.projector_window_size = projector_window_size
        self.projector_downsample_rate = projector_downsample_rate

    def mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Mel power of samples (B, n): (B, n_mels, n // hop_length + 1)."""
        of = self.melspec_kwargs
        filters = mel_filter_bank(
            num_frequency_bins=of["n_fft"] // 2 + 1,
            num_mel_filters=of["n_mels"],
            min_frequency=0.0,
            max_frequency=of["sample_rate"] / 2,
            sampling_rate=of["sample_rate"],
            mel_scale="htk",
        )
        spectrum = torch.stft(
            samples,
            of["n_fft"],
            of["hop_length"],
            of["win_length"],
            window=torch.hann_window(of["win_length"]),
            return_complex=True,
        )
        return torch.from_numpy(filters).float().T @ spectrum.abs() ** 2

    def __call__(self, audios: Any, device: str | None = "cpu") -> BatchFeature:
        batch, lengths = self._get_audios_and_audio_lengths(audios)
        log = self.mel(batch.float().cpu()).transpose(-1, -2).clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(-2, -1), keepdim=True) - 8.0) / 4 + 1
        even = log[:, : log.shape[1] // 2 * 2]
        sizes = self._get_num_audio_features(lengths)
        return BatchFeature(
            {
                "input_features": even.reshape(len(even), -1, 2 * even.shape[-1]),
                "audio_embed_sizes": sizes,
                "input_features_mask": torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None],
            }
        )


class GraniteSpeechFamily(SpeechFamily):
    """``GraniteSpeechForConditionalGeneration``: Granite-Speech 3.2, 3.3 and 4.

    Its encoder masks no padding, so each recording is encoded alone. The LM's logits are divided by the text LLM's
    ``logits_scaling``, as ``GraniteForCausalLM`` divides them and as they were in training: the speech class of
    transformers 5 leaves that out, which changes no greedy answer, and makes every log-probability that many times too
    sure.
    """

    model_types = ("granite_speech",)
    architecture = "GraniteSpeechForConditionalGeneration"
    libraries = (*SpeechFamily.libraries, "peft")
    plain_turns = True
    audio_markup: ClassVar[str] = "<|audio|>"

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        with explained(source, "processor"):
            settings, _ = GraniteSpeechProcessor.get_processor_dict(source, **kwargs)
            named = {key: settings[key] for key in ("audio_token", "chat_template") if settings.get(key)}
            return GraniteSpeechProcessor(
                GraniteSpeechFeatures.from_pretrained(source, **kwargs),
                AutoTokenizer.from_pretrained(source, **kwargs),
                **named,
            )

    @classmethod
    def load_model(cls, source: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        origin = {key: kwargs[key] for key in ("revision", "trust_remote_code") if key in kwargs}
        if load_config(source, **origin).has_lora_adapter:
            return adapters.load_model_and_adapter(cls.architecture, source, **kwargs)
        return super().load_model(source, **kwargs)

    @property
    def feature_extractor(self) -> Any:
        return self.processor.audio_processor

    def embedding_consumer(self) -> torch.nn.Module:
        decoder: torch.nn.Module = self.model.model.language_model
        return decoder

    def language_model(self, *, has_audio: bool) -> Any:
        decoder = adapters.SwitchedDecoder(self.model, self.embedding_consumer(), adapted=has_audio)
        return LanguageModel(decoder, self._logits)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.lm_head(hidden)
        return logits / getattr(self.model.config.text_config, "logits_scaling", 1.0)

    def audio_inputs(self, recordings: Sequence[np.ndarray]) -> Mapping[str, torch.Tensor]:
        shortest = self.feature_extractor.melspec_kwargs["n_fft"] // 2 + 1
        if min(len(samples) for samples in recordings) < shortest:
            raise AudioError(
                f"a recording is shorter than {shortest / self.sampling_rate_hz * 1000:.0f} ms, less than one frame of "
                f"Granite-Speech; nothing can be heard in it."
            )
        inputs: Mapping[str, torch.Tensor] = self.processor(
            text=[self.audio_markup] * len(recordings), audio=list(recordings), return_tensors="pt"
        )
        return inputs

    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        adapters.switch(self.model, on=True)
        return [row for samples in recordings for row in super(GraniteSpeechFamily, self).audio_rows([samples])]

    def _check_heard(self, embedded: torch.Tensor, places: torch.Tensor) -> None:
        """Where no recording reaches it, this class leaves the embedding of token 0: the placeholder may have none."""
        with torch.no_grad():
            blank = self.embed(torch.tensor([0]))
        if bool((embedded[places] == blank.to(embedded.device, embedded.dtype)).all(-1).any()):
            raise ModelError(f"{type(self.model).__name__} was given a recording, and it did not reach the LM.")

    def chat_writer(self) -> Callable[..., Any]:
        """The tokenizer's: Granite's templates take strings, in which the placeholder stands."""
        return partial(self.tokenizer.apply_chat_template, chat_template=self.template)


class GraniteSpeechPlusFamily(GraniteSpeechFamily):
    """``GraniteSpeechPlusForConditionalGeneration``: Granite-Speech 4.1 plus, whose Q-Former reads several of the
    encoder's layers.
    """

    model_types = ("granite_speech_plus",)
    architecture = "GraniteSpeechPlusForConditionalGeneration"
