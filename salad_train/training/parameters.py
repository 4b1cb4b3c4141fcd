"""Which weights are trained, and by which optimiser."""

from __future__ import annotations

from torch import nn

from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.training.lora import add_lora, has_lora, is_lora
from salad_train.training.optim import ParameterGroup
from salad_train.training.plan import TrainPlan


def prepare_tuning(model: SaladForConditionalGeneration, plan: TrainPlan) -> None:
    """Set ``requires_grad`` as ``plan.tune`` says, putting LoRA into the LM where it asks for it and there is none yet."""
    model.freeze_encoder()
    model.adapter.requires_grad_(True)
    if model.readout is not None:
        model.readout.requires_grad_(False)  # CTC alone can teach what a blank is
    if plan.tune == "lora":
        if not has_lora(model.language_model):
            add_lora(model.language_model, plan.lora, plan.seed)
        for name, parameter in model.language_model.named_parameters():
            parameter.requires_grad_(is_lora(name))
    else:
        model.language_model.requires_grad_(plan.trains_lm)


def parameter_groups(parameters: dict[str, nn.Parameter], plan: TrainPlan) -> list[ParameterGroup]:
    """Adapter and LM, each as decayed matrices and undecayed vectors (norms, biases); the adapter's matrices are Muon's
    where ``plan.muon_lr`` is above 0. ``parameters`` by the student's names."""
    groups = []
    for prefix, lr, muon_lr in (("adapter.", plan.adapter_lr, plan.muon_lr), ("language_model.", plan.lm_lr, 0.0)):
        mine = [parameter for name, parameter in parameters.items() if name.startswith(prefix)]
        matrices, vectors = [p for p in mine if p.ndim > 1], [p for p in mine if p.ndim < 2]
        if muon_lr > 0:
            groups.append(ParameterGroup(matrices, muon_lr, plan.weight_decay, "muon"))
        else:
            groups.append(ParameterGroup(matrices, lr, plan.weight_decay))
        groups.append(ParameterGroup(vectors, lr))
    return groups
