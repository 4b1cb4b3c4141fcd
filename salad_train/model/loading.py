"""Loading the parts of a speech-adapted LLM, and the whole, with errors that say what is wrong with a checkpoint."""

from __future__ import annotations

from typing import Any

from salad_eval.checkpoints import (
    check_complete,
    check_folder,
    explained,
    load_config,
    load_weights,
    resolve_device,
    torch_dtype,
)
from salad_eval.errors import ModelError
from salad_eval.formats.peft import sources, with_adapter
from salad_eval.resources import resolve_pretrained
from salad_train.model import SaladForConditionalGeneration, SaladProcessor, register


def load_salad(
    pretrained: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    peft: str | None = None,
    **options: Any,
) -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    """A speech-adapted LLM in evaluation mode and its processor, from ``nano/speech``, a folder or a hub id, or the folder of a
    PEFT adapter on one (``peft``: such a folder, whose base is ``pretrained``).

    ``options`` go to ``from_pretrained``. Raises ``ModelError`` naming what is missing or wrong.
    """
    stated = sources(pretrained, peft)
    source = resolve_pretrained(stated.base)
    check_folder(source)
    register()
    config = load_config(source, revision=revision)
    if config.model_type != "salad":
        raise ModelError(
            f"{source} is a model of type {config.model_type!r}; expected 'salad', "
            "a SaladForConditionalGeneration as this package trains it."
        )
    model: Any = load_weights(
        source,
        SaladForConditionalGeneration,
        config=config,
        dtype=dtype,
        weights="safetensors",
        revision=revision or "main",
        **options,
    )
    with explained(source, "processor"):
        processor = SaladProcessor.from_pretrained(source, revision=revision or "main")
    if processor.audio_token_id != model.config.audio_token_id:
        raise ModelError(
            f"{source}: the processor marks audio with id {processor.audio_token_id}, the model expects {model.config.audio_token_id}; "
            "they are not a pair."
        )
    if stated.adapter is not None:
        model = with_adapter(model, stated.adapter)
    if "device_map" not in options:
        model = model.to(resolve_device(device))
    model.freeze_encoder()
    return model.eval(), processor


def load_encoder(pretrained: str, *, dtype: str = "float32", revision: str | None = None) -> tuple[Any, Any]:
    """An audio encoder (alone, or within a CTC or encoder-decoder model) and its feature extractor."""
    from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCTC

    source = resolve_pretrained(pretrained)
    check_folder(source)
    config = load_config(source, revision=revision)
    architectures = list(getattr(config, "architectures", None) or [])
    loader = AutoModelForCTC if any(name.endswith("ForCTC") for name in architectures) else AutoModel
    with explained(source, "audio encoder"):
        loaded: Any = loader.from_pretrained(
            source,
            config=config,
            dtype=torch_dtype(dtype),
            revision=revision,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, info = loaded
    check_complete(source, info)
    with explained(source, "feature extractor"):
        extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision)
    return model.eval(), extractor
