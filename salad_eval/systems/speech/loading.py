"""From a checkpoint to its speech family, with errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from salad_eval.checkpoints import (
    Quantization,
    Weights,
    architecture,
    load_config,
    loading_options,
    located,
    ready,
)
from salad_eval.errors import ModelError

if TYPE_CHECKING:
    from salad_eval.systems.speech.family import SpeechFamily

F = TypeVar("F", bound="SpeechFamily")
_HERE = "salad_eval.systems.speech"
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "qwen2_audio": f"{_HERE}.qwen2_audio:Qwen2AudioFamily",
        "qwen2_5_omni": f"{_HERE}.qwen_omni:QwenOmniFamily",
        "qwen2_5_omni_thinker": f"{_HERE}.qwen_omni:QwenOmniFamily",
        "voxtral": f"{_HERE}.voxtral:VoxtralFamily",
        "granite_speech": f"{_HERE}.granite:GraniteSpeechFamily",
        "granite_speech_plus": f"{_HERE}.granite:GraniteSpeechPlusFamily",
        "phi4_multimodal": f"{_HERE}.phi4:Phi4MultimodalFamily",
        "gemma3n": f"{_HERE}.gemma3n:Gemma3nFamily",
        "audioflamingo3": f"{_HERE}.audio_flamingo:AudioFlamingo3Family",
    }
)
"""The built-in family of each ``config.model_type``. A family from elsewhere comes with a system class of its own."""

_ELSEWHERE = MappingProxyType(
    {
        "salad": "Use the system 'salad' for it.",
        "whisper": "It transcribes: use it as the ASR of a cascade.",
    }
)


def load_speech_llm(
    pretrained: str,
    family: type[F] | None = None,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    weights: Weights = "safetensors",
    quantization: Quantization | None = None,
    peft: str | None = None,
    **model_kwargs: Any,
) -> F:
    """A speech LLM in evaluation mode with its processor, as the family of its checkpoint (or as ``family``).

    The options are those of ``load_causal_lm``. Raises ``ModelError`` naming the path and what is wrong: not a speech
    LLM, of another class, processor files missing, weights missing or corrupt, tokenizer and model not a pair.
    """
    source, adapter = located(pretrained, peft, weights=weights, quantization=quantization)
    chosen = cast("type[F]", family_of(source, family, revision=revision, trust_remote_code=trust_remote_code))
    _check_processor_files(source)
    origin = {"revision": revision, "trust_remote_code": trust_remote_code}
    processor = chosen.load_processor(source, **origin)
    kwargs = loading_options(dtype, device, weights, quantization, **origin, **model_kwargs)
    model, info = chosen.load_model(source, **kwargs)
    model = ready(source, model, info, processor.tokenizer, adapter, None if "device_map" in kwargs else device)
    loaded = chosen(model, processor)
    _check_placeholder(source, loaded)
    return loaded


def family_of(
    source: str,
    family: type[SpeechFamily] | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> type[SpeechFamily]:
    """The family that reads the checkpoint in ``source`` (a folder or hub id), by its ``model_type``; checks that
    ``family`` does where it is given.
    """
    config = load_config(source, revision=revision, trust_remote_code=trust_remote_code)
    kind, what = str(config.model_type), architecture(config)
    if family is not None:
        if kind not in family.model_types:
            raise ModelError(
                f"{source} is a {what} (model_type {kind!r}), and {family.__name__} reads {', '.join(family.model_types)}."
            )
        return family
    if kind not in FAMILIES and trust_remote_code and "AutoModel" in (getattr(config, "auto_map", None) or {}):
        from salad_eval.systems.speech.remote import RemoteSpeechFamily

        return RemoteSpeechFamily
    if kind not in FAMILIES:
        hint = _ELSEWHERE.get(
            kind, "A text LM belongs to the system 'hf-text'; for another speech LLM write an adapter."
        )
        raise ModelError(
            f"{source} is a {what} (model_type {kind!r}), not a speech LLM that hf-speech knows "
            f"({', '.join(sorted(FAMILIES))}). {hint}"
        )
    module, _, name = FAMILIES[kind].partition(":")
    found: type[SpeechFamily] = getattr(import_module(module), name)
    return found


def _check_processor_files(source: str) -> None:
    """A folder without a feature extractor's file gives an error deep in transformers, or another class than is needed."""
    folder = Path(source)
    names = ("processor_config.json", "preprocessor_config.json")
    if folder.is_dir() and not any((folder / name).is_file() for name in names):
        raise ModelError(
            f"{source} holds a model but no processor (expected {' or '.join(names)}): what turns sound into features is "
            f"not known. Copy the processor's files into that folder."
        )


def _check_placeholder(source: str, family: SpeechFamily) -> None:
    """The model merges recordings where its configuration says the placeholder is; the processor must write that one."""
    expected = getattr(family.model.config, "audio_token_id", None)
    found = family.audio_token_id
    if expected is not None and expected != found:
        raise ModelError(
            f"{source}: the model hears recordings at token {expected}, and the processor writes {found} "
            f"({family.audio_token!r}): not a pair."
        )
