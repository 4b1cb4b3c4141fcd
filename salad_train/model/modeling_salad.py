"""The speech-adapted LLM: frozen audio encoder → frame stacking → causal adapter → embeddings of a causal LM.

Architecture after Cuervo et al., *Closing the Gap Between Text and Speech Understanding in LLMs* (arXiv 2510.13632);
the adapter is a stock
Llama decoder, the encoder and the LM are any that transformers can build.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    LlamaModel,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from salad_eval.errors import ModelError
from salad_train.model.audio_encoders import (
    build_encoder,
    encode,
    encoder_config,
    encoder_of,
    first_places,
    spec_of,
    stack,
)
from salad_train.model.configuration_salad import SaladAdapterConfig, SaladConfig
from salad_train.model.readout import CtcReadout


class Placed(NamedTuple):
    """Input embeddings (batch, length, LM width) with recordings in their places, and which of them the LM reads, (batch, length);
    ``None``: all. A position that is left out takes no place in the LM's sequence. ``heard``: see ``adapted``; ``None`` without sound."""

    embeds: torch.Tensor
    read: torch.Tensor | None
    heard: tuple[torch.Tensor, torch.Tensor] | None = None


class SaladAdapter(nn.Module):
    """Linear in, causal transformer, linear out: (n, t, frame width) → (n, t, LM width). Position i never sees beyond
    i."""

    def __init__(self, config: SaladAdapterConfig, frame_size: int, output_size: int) -> None:
        super().__init__()
        self.input_projection = nn.Linear(frame_size, config.hidden_size)
        self.transformer = LlamaModel(config)
        self.transformer.embed_tokens = None  # type: ignore[assignment]  # it reads embeddings only
        self.output_projection = nn.Linear(config.hidden_size, output_size)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        # Causal attention and right padding: no real position can see a padded one, so no mask is needed.
        hidden = self.transformer(inputs_embeds=self.input_projection(frames), use_cache=False).last_hidden_state
        projected: torch.Tensor = self.output_projection(hidden)
        return projected


class SaladPreTrainedModel(PreTrainedModel):
    config_class = SaladConfig
    config: SaladConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _supports_cache_class = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 (typed as an instance variable by its base class)


class SaladForConditionalGeneration(SaladPreTrainedModel, GenerationMixin):
    """A causal LM that also reads speech.

    In ``input_ids`` each audio position is held by ``config.audio_token_id``. The sound comes as extractor features
    (``input_features``, ``input_features_mask``) or, since the encoder is frozen, as its stored output
    (``encoder_hidden_states``,
    ``encoder_lengths``), one row a recording in the order of the text. Without either it is exactly its LM.
    """

    def __init__(self, config: SaladConfig) -> None:
        super().__init__(config)
        audio_config = encoder_config(config.audio_config)
        self.spec = spec_of(audio_config, config.length_geometry, config.encoder_windows, config.encoder_dtype)
        self.encoder = build_encoder(audio_config)
        self.adapter = self._new_adapter()
        tokens, width = config.ctc_tokens, config.text_config.hidden_size
        self.readout: CtcReadout | None = CtcReadout(tokens, width) if tokens else None
        self.language_model: Any = AutoModelForCausalLM.from_config(config.text_config)
        self.freeze_encoder()
        self.post_init()

    def _new_adapter(self) -> SaladAdapter:
        sizes = cast(SaladAdapterConfig, self.config.adapter_config)
        return SaladAdapter(
            sizes, self.spec.hidden_size * self.config.stack_frames, self.config.text_config.hidden_size
        )

    @classmethod
    def from_parts(
        cls,
        encoder: Any,
        language_model: Any,
        adapter_config: SaladAdapterConfig,
        *,
        stack_frames: int = 1,
        audio_token_id: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> SaladForConditionalGeneration:
        """Join a trained encoder and a trained LM (both are taken, not copied) with a fresh adapter drawn from
        ``seed``.

        ``encoder`` may be a CTC or encoder-decoder model, of which the encoder is taken. The adapter's output is
        scaled to the
        size of the LM's own embeddings. ``options`` go to ``SaladConfig``.
        """
        inner = encoder_of(encoder)
        config = SaladConfig(
            audio_config=inner.config,
            adapter_config=adapter_config,
            text_config=language_model.config,
            audio_token_id=audio_token_id,
            stack_frames=stack_frames,
            **options,
        )
        with torch.device("meta"):  # encoder and LM are there already: building them again would double the memory
            model = cls(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.adapter = model._new_adapter()
            # The final norm gives rows of unit mean square: this makes the projected ones as large as token embeddings.
            size = language_model.get_input_embeddings().weight.detach().float().pow(2).mean().sqrt()
            nn.init.normal_(model.adapter.output_projection.weight, std=float(size) / adapter_config.hidden_size**0.5)
            nn.init.zeros_(model.adapter.output_projection.bias)
        model.encoder = inner
        model.language_model = language_model
        if getattr(language_model, "generation_config", None) is not None:
            model.generation_config = language_model.generation_config
        model.freeze_encoder()
        return model.eval()

    # --- the encoder is frozen ---------------------------------------------------------------------------------------

    def freeze_encoder(self) -> None:
        self.encoder.requires_grad_(False)
        self.encoder.eval()

    def train(self, mode: bool = True) -> SaladForConditionalGeneration:
        super().train(mode)
        self.encoder.eval()  # frozen means its normalisation statistics and dropout too
        return self

    def read_by(self, readout: CtcReadout) -> None:
        """From now on the LM reads what ``readout`` makes of the adapter's output."""
        self.readout = readout
        self.config.ctc_tokens = len(readout.ids)

    # --- parts -------------------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> Any:
        return self.language_model

    # --- speech ------------------------------------------------------------------------------------------------------

    def encode_audio(
        self, input_features: torch.Tensor, input_features_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frozen encoder output (n, frames, encoder width), zero beyond each length, and lengths (n,). What may be
        cached."""
        return encode(
            self.encoder,
            self.spec,
            input_features,
            input_features_mask,
            mimi_latents=self.config.mimi_latents,
            mimi_quantizers=self.config.mimi_quantizers,
        )

    def adapted(
        self,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The adapter's output for each recording, (n, positions, LM width), and lengths (n,), from features or from encoder output."""
        if input_features is not None:
            if input_features_mask is None:
                raise ModelError(
                    "input_features came without input_features_mask; pass both, as SaladProcessor gives them."
                )
            encoder_hidden_states, encoder_lengths = self.encode_audio(input_features, input_features_mask)
        if encoder_hidden_states is None or encoder_lengths is None:
            raise ModelError(
                "no audio: pass input_features with input_features_mask, or encoder_hidden_states with encoder_lengths."
            )
        frames, lengths = stack(encoder_hidden_states, encoder_lengths, self.config.stack_frames)
        weight = self.adapter.input_projection.weight
        return self.adapter(frames.to(device=weight.device, dtype=weight.dtype)), lengths.to(weight.device)

    def get_audio_features(
        self,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the LM reads for each recording, (n, most, LM width), and how many rows of each, (n,): the adapter's output, or what
        CTC writes of it."""
        adapted = self.adapted(input_features, input_features_mask, encoder_hidden_states, encoder_lengths)
        return self._read_out(*adapted)

    def _read_out(self, heard: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.readout is None:
            return heard, lengths
        rows: tuple[torch.Tensor, torch.Tensor] = self.readout(heard, lengths, self.get_input_embeddings().weight)
        return rows

    def embed(
        self,
        input_ids: torch.Tensor,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_lengths: torch.Tensor | None = None,
    ) -> Placed:
        """Input embeddings with the recordings in the places of ``audio_token_id``; what CTC leaves out of a recording is the end of
        its places.

        Raises ``ModelError`` where audio positions and audio do not match exactly: an LM that did not hear must not
        answer.
        """
        is_audio = input_ids == self.config.audio_token_id
        embeds: torch.Tensor = self.get_input_embeddings()(input_ids.masked_fill(is_audio, 0))
        n_places = int(is_audio.sum())
        if input_features is None and encoder_hidden_states is None:
            if n_places:
                raise ModelError(f"input_ids hold {n_places} audio positions, but no audio was passed.")
            return Placed(embeds, None)
        whole = self.adapted(input_features, input_features_mask, encoder_hidden_states, encoder_lengths)
        adapted, lengths = whole
        if int(lengths.sum()) != n_places:
            raise ModelError(
                f"{len(lengths)} recordings give {int(lengths.sum())} audio positions, but input_ids hold {n_places}. "
                "Build both with the same SaladProcessor."
            )
        features, counts = self._read_out(adapted, lengths)
        heard = features[first_places(counts, features.shape[1])].to(embeds)
        if self.readout is None:
            return Placed(embeds.masked_scatter(is_audio[..., None], heard), None, whole)
        filled = is_audio.masked_scatter(
            is_audio, first_places(counts, adapted.shape[1])[first_places(lengths, adapted.shape[1])]
        )
        return Placed(embeds.masked_scatter(filled[..., None], heard), filled | ~is_audio, whole)

    # --- language model ----------------------------------------------------------------------------------------------

    def hidden_states(self, placed: Placed) -> torch.Tensor:
        """The LM's last hidden states (batch, length, LM width), before the output head: for losses that never hold
        all logits. That of a position that is left out is that of the one read before it."""
        embeds, read, _ = placed
        decoder = self.language_model.base_model
        if read is None:
            output: torch.Tensor = decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
            return output
        counts = read.sum(1)
        packed = embeds.new_zeros(len(embeds), int(counts.max()), embeds.shape[-1])
        packed[first_places(counts, packed.shape[1])] = embeds[read]
        hidden: torch.Tensor = decoder(inputs_embeds=packed, use_cache=False).last_hidden_state
        place = (read.cumsum(1) - 1).clamp(min=0)
        return hidden.gather(1, place[..., None].expand(-1, -1, hidden.shape[-1]))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_lengths: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As a causal LM's forward. ``labels`` at audio positions must be -100 (they are set so)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds, read, _ = self.embed(
                cast(torch.Tensor, input_ids),
                input_features,
                input_features_mask,
                encoder_hidden_states,
                encoder_lengths,
            )
            if read is not None:
                attention_mask = _attended(read, attention_mask)
                position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0) if position_ids is None else position_ids
        elif input_features is not None or encoder_hidden_states is not None:
            raise ValueError("audio can only be placed into input_ids; inputs_embeds must hold it already.")
        if labels is not None and input_ids is not None:
            labels = labels.masked_fill(input_ids == self.config.audio_token_id, -100)
        output: CausalLMOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return output

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self, inputs: torch.Tensor | None = None, generation_config: GenerationConfig | None = None, **kwargs: Any
    ) -> Any:
        """``GenerationMixin.generate``; the prompt's audio is encoded once and travels as embeddings (also under
        beams)."""
        input_ids = kwargs.pop("input_ids", inputs)
        audio = {
            name: kwargs.pop(name, None)
            for name in ("input_features", "input_features_mask", "encoder_hidden_states", "encoder_lengths")
        }
        if input_ids is None:
            if any(value is not None for value in audio.values()):
                raise ValueError("audio can only be placed into input_ids; pass them too.")
            return super().generate(generation_config=generation_config, **kwargs)  # type: ignore[misc]
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"], read, _ = self.embed(input_ids, **audio)
            if read is not None:
                kwargs["attention_mask"] = _attended(read, kwargs.get("attention_mask"))
        return super().generate(generation_config=generation_config, input_ids=input_ids, **kwargs)  # type: ignore[misc]


def _attended(read: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """An attention mask (batch, length) in which positions that are not read are as padding."""
    return read.long() if mask is None else mask * read
