"""Low-rank adaptation of the LM inside a speech LLM (Hu et al., arXiv 2106.09685), by peft, and its way back to plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from salad_eval.errors import ModelError, UserInputError
from salad_eval.formats.peft import adapted_and_tied


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """W + (alpha / r)·B·A with A (r × in) drawn at random and B (out × r) zero at first.

    Attributes:
        r: rank of the update.
        alpha: its scale, over ``r``.
        dropout: of the input of A, in [0, 1).
        target_modules: names of the linear layers, or "all-linear": every one but the output head.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        if self.r < 1 or not 0.0 <= self.dropout < 1.0:
            raise UserInputError(
                f"lora: r is {self.r}, dropout is {self.dropout}; expected r ≥ 1 and dropout in [0, 1)."
            )


def is_lora(name: str) -> bool:
    """Whether a parameter of that name is one of LoRA's matrices."""
    return ".lora_" in name


def add_lora(lm: Any, plan: LoraPlan, seed: int) -> None:
    """Put LoRA into ``lm`` in place; its own weights freeze. Equal seeds draw equal matrices."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = plan.target_modules if isinstance(plan.target_modules, str) else list(plan.target_modules)
    config = LoraConfig(r=plan.r, lora_alpha=plan.alpha, lora_dropout=plan.dropout, target_modules=targets)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, lm)
        except ValueError as cause:
            raise ModelError(f"LoRA cannot be put into {type(lm).__name__} at {targets!r}: {cause}") from None
    if shared := adapted_and_tied(lm):
        raise ModelError(
            f"lora: target_modules is {targets!r}, and {', '.join(shared)} of this {type(lm).__name__} has its weight in common with "
            "another layer (tied embeddings). Folded back, the update would change both, and the saved model would not be the "
            "trained one. Leave it out, or untie the two first."
        )


def has_lora(lm: torch.nn.Module) -> bool:
    return any(is_lora(f".{name}") for name, _ in lm.named_parameters())


@torch.no_grad()
def merged_state_dict(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``weights`` (of ``model``, by its names) as they would be after ``merge_lora``: for saving in the midst of training."""
    if not has_lora(model):
        return dict(weights)
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: dict[str, Any] = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)
    }
    plain = {}
    for name, weight in weights.items():
        owner, _, own = name.rpartition(_ADAPTED)
        if owner in adapted:
            name = f"{owner}.{own}"
            if own == "weight":
                up, down = (weights[f"{owner}.lora_{side}.{_ONLY}.weight"] for side in "BA")
                weight = weight + adapted[owner].scaling[_ONLY] * (up @ down).to(weight.dtype)
        if not is_lora(name):
            plain[name] = weight
    return plain


_ONLY, _ADAPTED = "default", ".base_layer."  # peft's names: of the one LoRA there is, and of what it adapts


@torch.no_grad()
def merge_lora(lm: torch.nn.Module) -> None:
    """Fold LoRA into the weights it adapts and take its layers out, in place: what is left is the class and the names the LM
    had before. Without LoRA nothing happens."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in lm.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(lm.get_submodule(parent), child, module.get_base_layer())
    if adapted:
        for attribute in ("peft_config", "_hf_peft_config_loaded"):
            if attribute in vars(lm):
                delattr(lm, attribute)
