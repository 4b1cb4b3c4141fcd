"""The speech-adapted LLM in Hugging Face form. Loading any of its names registers it with the Auto classes; importing
the package alone does not.

    modeling_salad.py      frozen audio encoder → frame stacking → causal adapter → causal LM
    configuration_salad.py its configuration
    readout.py             what the LM reads of an adapter that was taught by CTC
    processing_salad.py    text with placeholders and sound → inputs
    audio_encoders.py      any audio encoder behind one face
    loading.py             its parts and the whole, with errors that say what is wrong
    system.py              as a system of the evaluation: ``salad``
    family.py              as a family like any other
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salad_train.model.configuration_salad import SaladAdapterConfig, SaladConfig
    from salad_train.model.modeling_salad import SaladForConditionalGeneration
    from salad_train.model.processing_salad import AUDIO_TOKEN, SaladProcessor

_WHERE = {
    "SaladAdapterConfig": "configuration_salad",
    "SaladConfig": "configuration_salad",
    "SaladForConditionalGeneration": "modeling_salad",
    "AUDIO_TOKEN": "processing_salad",
    "SaladProcessor": "processing_salad",
}
__all__ = [
    "AUDIO_TOKEN",
    "SaladAdapterConfig",
    "SaladConfig",
    "SaladForConditionalGeneration",
    "SaladProcessor",
    "register",
]


def register() -> None:
    """Make ``AutoConfig``, ``AutoModelForCausalLM``, ``AutoModelForImageTextToText``'s audio kin and
    ``AutoProcessor`` know ``salad``."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

    from salad_train.model.configuration_salad import SaladConfig
    from salad_train.model.modeling_salad import SaladForConditionalGeneration
    from salad_train.model.processing_salad import SaladProcessor

    AutoConfig.register("salad", SaladConfig, exist_ok=True)
    AutoModel.register(SaladConfig, SaladForConditionalGeneration, exist_ok=True)
    AutoModelForCausalLM.register(SaladConfig, SaladForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(SaladConfig, SaladProcessor, exist_ok=True)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    register()
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
