"""PEFT's adapter folders (LoRA and its kin): their base model, and the model that the two make together.

An adapter is folded into the weights when it is loaded, in the precision that was asked for, so that whatever runs afterwards is a
model of the base's own class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.errors import ModelError, UserInputError
from salad_eval.records import parse_json

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a model comes from: what holds its weights, as a user would write it, and the adapter that goes on top."""

    base: str
    adapter: Path | None


def sources(pretrained: str, peft: str | None = None) -> Sources:
    """``pretrained`` itself, or, where it is an adapter's folder, the base that its adapter_config.json names and the adapter.

    ``peft``: an adapter's folder on top of ``pretrained``, which is then the base, whatever the adapter says. Raises
    ``UserInputError`` for a ``peft`` that is no such folder and ``ModelError`` for an adapter that names no base.
    """
    from salad_eval.resources import resolve_path

    if peft is not None:
        folder = resolve_path(peft)
        if not (folder / CONFIG).is_file():
            raise UserInputError(f"peft is {peft!r}; expected the folder of a PEFT adapter, with its {CONFIG}.")
        return Sources(pretrained, folder)
    folder = resolve_path(pretrained)
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return Sources(pretrained, None)
    base = adapter_settings(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{folder / CONFIG} names no base model. State it: pretrained: BASE with peft: {pretrained} beside it."
        )
    beside = folder / base
    return Sources(str(beside) if not Path(base).exists() and beside.is_dir() else base, folder)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json; ``ModelError`` where it cannot be read."""
    try:
        found = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise ModelError(f"{folder / CONFIG} is not readable ({cause}). Copy the adapter again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{folder / CONFIG} is no JSON object. Copy the adapter again.")
    return found


def with_adapter(model: Any, folder: Path) -> Any:
    """``model`` with the adapter in ``folder`` folded into its weights; it is changed in place and returned as its own class.

    Raises ``ModelError`` for an adapter that has no safetensors, cannot be folded in (soft prompts), does not fit the model, or
    would have to be folded into a matrix that stands in two places at once.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    from salad_eval.checkpoints import explained

    settings = adapter_settings(folder)
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{folder} lacks {_WEIGHTS}. Save the adapter again with safe_serialization=True.")
    if settings.get("ensure_weight_tying"):
        raise ModelError(
            f"{folder}: it was trained with ensure_weight_tying, and peft folds such an update in twice. Merge it where it was "
            "trained, compare the logits, and give the merged model."
        )
    with explained(str(folder), "adapter"):
        adapted: Any = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    if settings.get("is_prompt_learning") or not any(isinstance(part, BaseTunerLayer) for part in adapted.modules()):
        raise ModelError(
            f"{folder}: an adapter of the kind {settings.get('peft_type')!r} adds to the prompt and not to weights, so it cannot be "
            "folded in. Only adapters of weights (LoRA and its kin) can be used here."
        )
    untie_adapted(model)
    with explained(str(folder), "adapter"):
        return adapted.merge_and_unload().eval()


def adapted_and_tied(model: Any) -> list[str]:
    """Names of the layers of ``model`` that carry an adapter on a weight which another layer shares (a tied ``lm_head``)."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    places = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer) and places[id(getattr(layer.get_base_layer(), "weight", None))] > 1
    ]


def untie_adapted(model: Any) -> None:
    """Give a weight that stands in two places, and is adapted in one of them, a copy of its own there.

    While LoRA is trained on a tied ``lm_head`` the embeddings stay what they were; folded into the one matrix, its update would
    change both.
    """
    import torch

    for name in adapted_and_tied(model):
        layer = model.get_submodule(name).get_base_layer()
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
