"""What a training costs: sizes of the model's parts, floating-point operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salad_eval.errors import ModelError

if TYPE_CHECKING:
    from salad_train.model import SaladConfig, SaladProcessor


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations of the whole training, by part."""

    lm: float
    adapter: float
    teacher: float
    heads: float
    encoder: float

    @property
    def total(self) -> float:
        return self.lm + self.adapter + self.teacher + self.heads + self.encoder


@dataclass(frozen=True, slots=True)
class Cost:
    """``None`` where nothing was said that it could be estimated from."""

    gpu_hours: float | None
    wall_hours: float | None
    price: float | None
    currency: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters without embeddings and heads (``n_…``), L·H·Q (``a_…``), and V·d of the heads."""

    n_lm: int
    n_adapter: int
    n_encoder: int
    n_base: int
    a_lm: int
    a_adapter: int
    a_base: int
    head: int
    base_head: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What all batches of the training add up to. ``…_squares`` is Σ positions · T over batches, for the attention."""

    positions: int
    position_squares: int
    audio: int
    audio_squares: int
    teacher: int
    teacher_squares: int
    scored: int
    times: Mapping[str, int]


def open_configuration(init: str) -> tuple[SaladConfig, SaladProcessor]:
    """Configuration and processor (tokenizer and feature extractor) of a speech LLM; its weights stay where they are."""
    from transformers import AutoConfig

    from salad_eval.checkpoints import explained
    from salad_eval.resources import resolve_pretrained
    from salad_train.model import SaladProcessor, register

    source = resolve_pretrained(init)
    register()
    with explained(source, "configuration"):
        config = AutoConfig.from_pretrained(source)
    if config.model_type != "salad":
        raise ModelError(
            f"{source} is a model of type {config.model_type!r}; expected 'salad', the speech LLM to go on from."
        )
    with explained(source, "processor"):
        processor = SaladProcessor.from_pretrained(source)
    return config, processor


def frames_per_second(config: SaladConfig, processor: SaladProcessor, seconds: int = 10) -> float:
    """Encoder frames a second of sound, by the feature extractor and the encoder's stated geometry."""
    from salad_train.model.audio_encoders import encoder_config, output_length, spec_of

    spec = spec_of(encoder_config(config.audio_config), config.length_geometry)
    features = processor.extract([np.zeros(seconds * processor.sampling_rate, dtype=np.float32)])
    return output_length(int(features["input_features_mask"].sum()), spec.geometry) / seconds


def sizes_of(config: SaladConfig, base: str) -> Sizes:
    """Numbers of parameters, from models built without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from salad_eval.checkpoints import explained
    from salad_eval.resources import resolve_pretrained
    from salad_train.model import SaladForConditionalGeneration

    source = resolve_pretrained(base)
    with explained(source, "configuration"):
        base_config = AutoConfig.from_pretrained(source)
    with torch.device("meta"):
        model = SaladForConditionalGeneration(config)
        teacher: Any = AutoModelForCausalLM.from_config(base_config)
    lm = model.language_model
    return Sizes(
        n_lm=_without_embeddings(lm),
        n_adapter=_count(model.adapter),
        n_encoder=_count(model.encoder),
        n_base=_without_embeddings(teacher),
        a_lm=_attention(config.text_config),
        a_adapter=_attention(config.adapter_config),
        a_base=_attention(base_config.get_text_config(decoder=True)),
        head=lm.get_output_embeddings().weight.numel(),
        base_head=teacher.get_output_embeddings().weight.numel(),
    )


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _without_embeddings(lm: Any) -> int:
    outer = {id(lm.get_input_embeddings().weight), id(lm.get_output_embeddings().weight)}
    return sum(parameter.numel() for parameter in lm.parameters() if id(parameter) not in outer)


def _attention(config: Any) -> int:
    """L · H · Q."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * config.num_attention_heads * width)


def training_flops(sizes: Sizes, reading: Reading, *, trains_lm: bool, encoder_frames: float) -> Flops:
    """The formula of this module. Attention is counted as in training throughout: its inputs need gradients also where the LM's
    weights are frozen."""
    per_weight = 6 if trains_lm else 4
    return Flops(
        lm=float(per_weight * sizes.n_lm * reading.positions + 12 * sizes.a_lm * reading.position_squares),
        adapter=float(6 * sizes.n_adapter * reading.audio + 12 * sizes.a_adapter * reading.audio_squares),
        teacher=float(2 * sizes.n_base * reading.teacher + 4 * sizes.a_base * reading.teacher_squares),
        heads=float((per_weight * sizes.head + 2 * sizes.base_head) * reading.scored),
        encoder=2.0 * sizes.n_encoder * encoder_frames,
    )
