"""Phi-4-multimodal: a conformer, 12.5 positions a second, before a Phi-4-mini LM that hears through a LoRA adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import Phi4MultimodalProcessor
from transformers.processing_utils import ProcessorMixin

from salad_eval.checkpoints import explained, folder_identity
from salad_eval.errors import AudioError, ModelError
from salad_eval.systems.speech import adapters
from salad_eval.systems.speech.family import LanguageModel, SpeechFamily


class ListeningPhi4Processor(Phi4MultimodalProcessor):
    """Phi-4-multimodal's processor without its eyes: the whole one cannot be built without torchvision, which sound has
    no use for. What it makes of text and audio is its parent's.
    """

    def __init__(self, audio_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        ProcessorMixin.__init__(self, audio_processor, tokenizer, chat_template=chat_template)
        for kind in ("image", "audio"):
            setattr(self, f"{kind}_token", getattr(tokenizer, f"{kind}_token"))
            setattr(self, f"{kind}_token_id", getattr(tokenizer, f"{kind}_token_id"))


class Phi4MultimodalFamily(SpeechFamily):
    """``Phi4MultimodalForCausalLM`` with the adapter for speech in the folder ``speech-lora`` of its checkpoint (the one
    for pictures is left unloaded).

    In a batch its encoder adds its mask of zeros and ones to the attention scores, which hides no padding, so each
    recording is encoded alone.
    """

    model_types = ("phi4_multimodal",)
    architecture = "Phi4MultimodalForCausalLM"
    libraries = (*SpeechFamily.libraries, "peft")
    plain_turns = True
    adapter_folder: ClassVar[str] = "speech-lora"

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model, processor)
        expected = model.config.audio_config.audio_token_id
        if expected != self.audio_token_id:
            raise ModelError(
                f"{type(model).__name__} hears recordings at token {expected}, and the processor writes "
                f"{self.audio_token_id} ({self.audio_token!r}): not a pair."
            )

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        with explained(source, "processor"):
            return ListeningPhi4Processor.from_pretrained(source, **kwargs)

    @classmethod
    def load_model(cls, source: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return adapters.load_model_and_adapter(cls.architecture, source, cls.adapter_folder, **kwargs)

    def parts_fingerprint(self) -> str:
        """Of the adapter in its folder; that of a hub id is part of the commit."""
        folder = Path(self.model.name_or_path) / self.adapter_folder
        if not folder.is_dir():
            return ""
        return folder_identity(folder)

    @property
    def feature_extractor(self) -> Any:
        return self.processor.audio_processor

    @property
    def audio_markup(self) -> str:  # type: ignore[override]
        return self.audio_token

    def embedding_consumer(self) -> torch.nn.Module:
        raise ModelError(f"{type(self.model).__name__} merges recordings inside its LM.")

    def language_model(self, *, has_audio: bool) -> Any:
        decoder = adapters.SwitchedDecoder(self.model, self.model.model, adapted=has_audio)
        return LanguageModel(decoder, self.model.lm_head)

    def audio_inputs(self, recordings: Sequence[np.ndarray]) -> Mapping[str, torch.Tensor]:
        shortest = self.feature_extractor.win_length
        if min(len(samples) for samples in recordings) < shortest:
            raise AudioError(
                f"a recording is shorter than {shortest / self.sampling_rate_hz * 1000:.0f} ms, less than one frame of "
                f"Phi-4-multimodal; nothing can be heard in it."
            )
        return super().audio_inputs(recordings)

    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        adapters.switch(self.model, on=True)
        return [self._rows(samples) for samples in recordings]

    def _rows(self, samples: np.ndarray) -> torch.Tensor:
        """As ``Phi4MultimodalModel.forward`` merges them."""
        lm = self.model.model
        inputs = self.audio_inputs([samples])
        ids = inputs["input_ids"].to(lm.embed_tokens.weight.device)
        with torch.no_grad():
            merged: torch.Tensor = lm.embed_tokens_extend(
                ids,
                lm.embed_tokens(ids),
                audio_input_features=inputs["audio_input_features"],
                audio_embed_sizes=inputs["audio_embed_sizes"],
            )
        places = ids == self.audio_token_id
        self._check_heard(merged, places)
        return merged[places]
