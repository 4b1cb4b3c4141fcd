"""Gemma 3n: a causal conformer, 188 positions for each recording of up to 30 s, before an LM whose every layer reads an
embedding of its own for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, Gemma3nForConditionalGeneration, Gemma3nModel, Gemma3nProcessor
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder, Gemma3nPreTrainedModel
from transformers.processing_utils import ProcessorMixin

from salad_eval.checkpoints import explained
from salad_eval.errors import ModelError
from salad_eval.systems.speech.family import LanguageModel, SpeechFamily

MAX_SECONDS = 30.0
"""Where the feature extractor cuts unless it is told otherwise; the 188 positions end just after it."""

_TOKENS = ("audio_token", "boa_token", "eoa_token", "image_token", "boi_token", "eoi_token")


class ListeningGemma3nProcessor(Gemma3nProcessor):
    """Gemma 3n's processor without its eyes: the whole one cannot be built without torchvision, which sound has no use
    for. What it makes of text and audio is its parent's.
    """

    def __init__(
        self, feature_extractor: Any, tokenizer: Any, chat_template: str | None = None, audio_seq_length: int = 188
    ) -> None:
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, chat_template=chat_template)
        for name in _TOKENS:
            setattr(self, name, getattr(tokenizer, name))
        self.audio_token_id, self.image_token_id = tokenizer.audio_token_id, tokenizer.image_token_id
        self.audio_seq_length = audio_seq_length
        self.full_audio_sequence = self.audio_sequence(audio_seq_length)

    def audio_sequence(self, n: int) -> str:
        """What stands in a prompt for a recording of ``n`` positions."""
        return f"\n\n{self.boa_token}{self.audio_token * n}{self.tokenizer.eoa_token}\n\n"


class ListeningGemma3nModel(Gemma3nModel):
    """Gemma 3n without its eyes, whose 0.3 billion weights cannot be loaded without timm. The rest, and what it does
    with text and audio, is its parent's.
    """

    def __init__(self, config: Any) -> None:
        Gemma3nPreTrainedModel.__init__(self, config)
        self.vocab_size = config.text_config.vocab_size
        self.vocab_size_per_layer_input = config.text_config.vocab_size_per_layer_input
        self.language_model = AutoModel.from_config(config.text_config)
        self.audio_tower = AutoModel.from_config(config.audio_config)
        self.embed_vision = Gemma3nMultimodalEmbedder(config.vision_config, config.text_config)
        self.embed_audio = Gemma3nMultimodalEmbedder(config.audio_config, config.text_config)
        self.post_init()


class ListeningGemma3n(Gemma3nForConditionalGeneration):
    """``Gemma3nForConditionalGeneration`` around a ``ListeningGemma3nModel``."""

    _keys_to_ignore_on_load_unexpected = [r"\bvision_tower\."]  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        Gemma3nPreTrainedModel.__init__(self, config)
        self.model = ListeningGemma3nModel(config)
        self.lm_head = torch.nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()


class PackedEmbeddings:
    """All that the LM reads of a token in one row: its input embedding (d) and those of the layers (n_layers · p).

    A row for every position is what a prompt with sound is made of, and what a cached prefix is compared by.
    """

    def __init__(self, model: Gemma3nModel) -> None:
        self._model = model

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (…, d + n_layers · p) of token ids (…)."""
        text = self._model.language_model
        embeddings = text.embed_tokens(ids)
        # As ``Gemma3nModel.forward`` has it, the marks of pictures and of sound have embeddings of their own.
        marks = (self._model.embed_vision, self._model.embed_audio)
        for embedder, end in zip(marks, (marks[1].vocab_offset, text.config.vocab_size), strict=True):
            here = (ids >= embedder.vocab_offset) & (ids < end)
            if bool(here.any()):
                own = embedder(input_ids=ids[here]).to(embeddings.device, embeddings.dtype)
                embeddings = embeddings.masked_scatter(here[..., None], own)
        per_layer = text.get_per_layer_inputs(ids).flatten(-2).to(embeddings.device, embeddings.dtype)
        return torch.cat([embeddings, per_layer], dim=-1)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(self._model.language_model.embed_tokens.parameters())


class PackedDecoder:
    """The LM, which reads packed rows where another would read input embeddings."""

    def __init__(self, model: Gemma3nModel) -> None:
        self._text = model.language_model
        self._rows = PackedEmbeddings(model)
        self.config = self._text.config

    def get_input_embeddings(self) -> PackedEmbeddings:
        return self._rows

    def __call__(self, *, inputs_embeds: torch.Tensor | None = None, **inputs: Any) -> Any:
        if inputs_embeds is None:
            return self._text(**inputs)
        width = self.config.hidden_size
        per_layer = inputs_embeds[..., width:].unflatten(-1, (self.config.num_hidden_layers, -1))
        return self._text(inputs_embeds=inputs_embeds[..., :width], per_layer_inputs=per_layer, **inputs)


class Gemma3nFamily(SpeechFamily):
    """``Gemma3nForConditionalGeneration``. A recording always takes 188 positions; those beyond its end hold one and
    the same embedding.

    Each recording is encoded alone, so that the end of a short one does not depend on what it is batched with. Its LM
    remembers the last 512 positions in most layers, so longer prompts are scored without a cached prefix.
    """

    model_types = ("gemma3n",)
    architecture = "Gemma3nForConditionalGeneration"

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        with explained(source, "processor"):
            return ListeningGemma3nProcessor.from_pretrained(source, **kwargs)

    @classmethod
    def load_model(cls, source: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with explained(source, "model"):
            loaded: Any = ListeningGemma3n.from_pretrained(source, output_loading_info=True, **kwargs)
        model, info = loaded
        return model, info

    @property
    def max_audio_seconds(self) -> float:
        return MAX_SECONDS

    @property
    def audio_markup(self) -> str:  # type: ignore[override]
        return self.audio_token

    def audio_text(self, n_rows: int) -> str:
        return str(self.processor.audio_sequence(n_rows))

    def embedding_consumer(self) -> torch.nn.Module:
        decoder: torch.nn.Module = self.model.model.language_model
        return decoder

    def language_model(self, *, has_audio: bool) -> Any:
        return LanguageModel(PackedDecoder(self.model.model), self._logits)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.lm_head(hidden)
        cap = self.model.config.text_config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        (own,) = self._marks(self.audio_token_id)
        per_layer = own[self.model.config.text_config.hidden_size :]
        rows = []
        for samples in recordings:
            (heard,) = super().audio_rows([samples])
            rows.append(torch.cat([heard, per_layer.expand(len(heard), -1).to(heard.device)], dim=-1))
        return rows

    def _check_heard(self, embedded: torch.Tensor, places: torch.Tensor) -> None:
        """Neither the placeholder as it was, nor the filling beyond a recording's end alone."""
        text = self.model.config.text_config
        own, filling = self._marks(self.audio_token_id, text.vocab_size - 1)[:, : text.hidden_size].to(embedded.device)
        rows = embedded[places]
        # The rows are normalised, and the filling may have been computed in a batch of another size.
        same, filled = ((rows - mark).abs().amax(-1) < 1e-2 for mark in (own, filling))
        if bool(same.any()) or bool(filled.all()):
            raise ModelError(f"{type(self.model).__name__} was given a recording, and it did not reach the LM.")

    def _marks(self, *ids: int) -> torch.Tensor:
        """Packed rows of some token ids."""
        device = self.model.get_input_embeddings().weight.device
        with torch.no_grad():
            return PackedEmbeddings(self.model.model)(torch.tensor(ids, device=device))
