"""Loading the parts of a speech-adapted LLM, and the whole, with errors that say what is wrong with a checkpoint."""

from __future__ import annotations

from typing import Any

from salad_eval.checkpoints import check_complete, check_folder, explained, load_config, torch_dtype
from salad_eval.resources import resolve_pretrained
from salad_eval.systems.speech.loading import load_speech_llm
from salad_train.model import SaladForConditionalGeneration, SaladProcessor, register
from salad_train.model.family import SaladFamily


def load_family(
    pretrained: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    peft: str | None = None,
) -> SaladFamily:
    """A speech-adapted LLM in evaluation mode with its processor, from ``nano/speech``, a folder or a hub id, or the folder of a
    PEFT adapter on one (``peft``: such a folder, whose base is ``pretrained``).

    Raises ``ModelError`` naming what is missing or wrong.
    """
    register()
    return load_speech_llm(pretrained, SaladFamily, dtype=dtype, device=device, revision=revision, peft=peft)


def load_salad(
    pretrained: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    peft: str | None = None,
) -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    """Model and processor of ``load_family``."""
    llm = load_family(pretrained, dtype=dtype, device=device, revision=revision, peft=peft)
    return llm.model, llm.processor


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
