"""Speech LLMs whose code comes with the checkpoint, as Ultravox's does. Only for a user who trusts it by name.

Nothing is known of such a class but what its kind has in common: an ``AutoModel`` that merges recordings into the
embeddings of its LM, and an ``AutoProcessor`` that takes texts with a placeholder. Which positions a recording takes is
found out by looking which embeddings are not those of their tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from salad_eval.errors import ModelError
from salad_eval.systems.family import default_template
from salad_eval.systems.speech.family import LanguageModel, SpeechFamily, merged_embeddings

_PLACEHOLDERS = ("audio_token", "audio_placeholder")


class RemoteSpeechFamily(SpeechFamily):
    """Any speech LLM with remote code that does as the module says; an adapter is the way for one that does otherwise."""

    model_types = ()
    architecture = "AutoModel"
    plain_turns = True
    placeholder_is_token = False

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model, processor)
        if not any(getattr(processor, name, None) for name in _PLACEHOLDERS):
            raise ModelError(
                f"{type(processor).__name__} names no placeholder of a recording ({' or '.join(_PLACEHOLDERS)}); write "
                f"an adapter for this model."
            )
        self._begins = self._special_tokens_around(processor.tokenizer)

    @property
    def feature_extractor(self) -> Any:
        parts = (getattr(self.processor, name, None) for name in ("feature_extractor", "audio_processor"))
        found = next((part for part in parts if part is not None), None)
        if found is None:
            raise ModelError(
                f"{type(self.processor).__name__} has no feature extractor; write an adapter for this model."
            )
        return getattr(found, "feature_extractor", found)

    @property
    def audio_token(self) -> str:
        return str(next(token for name in _PLACEHOLDERS if (token := getattr(self.processor, name, None))))

    @property
    def audio_token_id(self) -> int:
        """No token's id: the placeholder need not be one."""
        return -1

    @property
    def audio_markup(self) -> str:  # type: ignore[override]
        return self.audio_token

    def language_model(self, *, has_audio: bool) -> Any:
        decoder = self.model.get_decoder()
        if decoder.get_output_embeddings() is not None:
            return decoder
        return LanguageModel(decoder, self.model.get_output_embeddings())

    # --- recordings --------------------------------------------------------------------------------------------------

    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        return [self._rows(samples) for samples in recordings]

    def _rows(self, samples: np.ndarray) -> torch.Tensor:
        table = self.model.get_decoder().get_input_embeddings()
        inputs = self.processor(
            text=self.audio_token, audio=samples, sampling_rate=self.sampling_rate_hz, return_tensors="pt"
        )
        placed = {
            name: value.to(table.weight.device, table.weight.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        merged = merged_embeddings(self.model, self.embedding_consumer(), placed)[0]
        ids = placed["input_ids"][0]
        with torch.no_grad():
            heard = (merged != table(ids)).any(-1).cpu()
        around = ids.cpu()[~heard].tolist()
        if around not in ([], self._begins):
            raise ModelError(
                f"{type(self.processor).__name__} writes tokens of its own around a recording ({around[:8]}); write an "
                f"adapter for this model."
            )
        return merged[heard.to(merged.device)]

    @staticmethod
    def _special_tokens_around(tokenizer: Any) -> list[int]:
        return [int(token) for token in tokenizer.encode("")]

    # --- prompts -----------------------------------------------------------------------------------------------------

    @property
    def template(self) -> str | None:
        return default_template(self.tokenizer)

    def chat_writer(self) -> Callable[..., Any]:
        writer: Callable[..., Any] = self.tokenizer.apply_chat_template
        return writer
