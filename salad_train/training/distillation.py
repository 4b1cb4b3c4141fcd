"""Training: distillation of a frozen teacher into a student that hears. The loop is ``transformers.Trainer``'s (``SaladTrainer``
in ``trainer``), resumable to the bit on CPU.

A step is a pure function of the state before it and of (seed, step): batches come from a callable of their number, and
chance (dropout, if a model has any) is seeded by the step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from salad_eval.errors import UserInputError
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.training.batches import Batch
from salad_train.training.checkpoints import (
    check_teacher,
    load_weights,
    named_parameters,
    teacher_fingerprint,
    weight_names,
)
from salad_train.training.lora import LoraPlan, add_lora, has_lora, is_lora, merge_lora
from salad_train.training.objective import (
    CachedPositions,
    LogitHead,
    Objective,
    cached_objective,
    check_head,
    objective,
)
from salad_train.training.optim import ParameterGroup

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Optimisation as the paper states it (as digested), except for sizes. Rates are peaks; shares are of ``steps``.

    Attributes:
        alpha: weight of the distillation; 1 is Stage I's.
        muon_lr: above 0, the adapter's matrices are trained by Muon at this rate, and ``adapter_lr`` is that of the rest of it.
            The paper uses AdamW throughout, which 0 is.
        muon_steps: Newton–Schulz iterations of Muon; fewer than its 5 orthogonalise less exactly, in less time.
        tune: what is trained beside the adapter, which always is: nothing ("adapter": the LM is frozen), LoRA ("lora", see
            ``lora``) or the whole LM ("full").
        lm_lr: of the LM, or of its LoRA; 0 freezes the LM as ``tune="adapter"`` does.
        warmup_steps: linear from 0 to the peak; then constant; the last ``decay_share`` of the steps falls linearly
            to 0.
        micro_batches: batches accumulated to a step, in each process.
        bf16: run the models under bfloat16 autocast (weights, optimiser and loss stay in float32).
        checkpoint_every: steps between resumable checkpoints; 0 keeps only the one before the decay.
        gradient_checkpointing: hold the inputs of the layers only, and compute the rest again in the backward pass.
        report_to: names of transformers' reporting callbacks, such as "tensorboard" or "wandb".
    """

    steps: int
    seed: int = 0
    alpha: float = 1.0
    adapter_lr: float = 1e-3
    muon_lr: float = 0.0
    muon_steps: int = 5
    lm_lr: float = 2e-5
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    warmup_steps: int = 50
    decay_share: float = 0.2
    micro_batches: int = 1
    bf16: bool = False
    log_every: int = 10
    checkpoint_every: int = 0
    tune: Literal["adapter", "lora", "full"] = "full"
    lora: LoraPlan = LoraPlan()
    gradient_checkpointing: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.micro_batches < 1:
            raise UserInputError(
                f"steps is {self.steps}, micro_batches is {self.micro_batches}; expected at least 1 of each."
            )
        if not 1 <= self.muon_steps < 100:
            raise UserInputError(f"muon_steps is {self.muon_steps}; expected 1 to 99 iterations.")
        if not 0.0 <= self.alpha <= 1.0 or not 0.0 <= self.decay_share <= 1.0:
            raise UserInputError(f"alpha is {self.alpha}, decay_share is {self.decay_share}; expected both in [0, 1].")
        if self.tune not in ("adapter", "lora", "full"):
            raise UserInputError(f"tune is {self.tune!r}; expected 'adapter', 'lora' or 'full'.")
        if self.tune == "lora" and self.lm_lr <= 0:
            raise UserInputError(
                f"tune is 'lora' and lm_lr is {self.lm_lr}; expected the learning rate of LoRA, above 0."
            )

    @property
    def trains_lm(self) -> bool:
        """Whether the LM can change: text replay is of use only then."""
        return self.tune != "adapter" and self.lm_lr > 0

    @property
    def decay_start(self) -> int:
        """The first step of the decay: what Stage II continues from is the state before it."""
        return self.steps - math.floor(self.steps * self.decay_share)

    def rate(self, step: int) -> float:
        """Warm-up–stable–decay: the share of the peak learning rates at ``step`` (from 0)."""
        if step < min(self.warmup_steps, self.decay_start):
            return (step + 1) / (self.warmup_steps + 1)
        if step < self.decay_start:
            return 1.0
        return (self.steps - step) / (self.steps - self.decay_start + 1)


@dataclass(frozen=True, slots=True)
class StepLog:
    """A line of ``train.jsonl``: means over the steps since the line before, in nats per scored position."""

    step: int
    rate: float
    seconds: float
    scored: int
    speech_kl: float | None
    speech_nll: float | None
    replay_kl: float | None
    grad_norm: float


def frozen_copy(lm: Any) -> Any:
    """The teacher: a copy that training the original cannot move."""
    import copy

    teacher = copy.deepcopy(lm).eval()
    return teacher.requires_grad_(False)


def student_positions(
    model: SaladForConditionalGeneration, batch: Batch, *, through_adapter: bool = False
) -> torch.Tensor:
    """Last hidden states of the student at the scored positions, (n, LM width).

    ``through_adapter``: let a batch of text, too, go through the adapter, to no effect. Where parameters are sharded, all
    processes must gather the same ones in the same order, whatever their batches hold.
    """
    embeds = model.embed(
        batch.input_ids, encoder_hidden_states=batch.encoder_hidden_states, encoder_lengths=batch.encoder_lengths
    )
    if through_adapter and batch.encoder_lengths is None:
        silence = batch.input_ids.new_zeros(
            (1, model.config.stack_frames, model.spec.hidden_size), dtype=model.adapter.input_projection.weight.dtype
        )
        heard, _ = model.get_audio_features(
            encoder_hidden_states=silence, encoder_lengths=batch.input_ids.new_tensor([model.config.stack_frames])
        )
        embeds = embeds + 0.0 * heard.sum().to(embeds.dtype)
    return model.hidden_states(embeds).flatten(0, 1)[batch.student]


@torch.no_grad()
def teacher_positions(teacher: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states of the teacher reading pure text at the paired positions, (n, teacher width)."""
    hidden: torch.Tensor = teacher.base_model(input_ids=batch.teacher_ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)[batch.teacher]


def batch_objective(
    model: SaladForConditionalGeneration,
    teacher: Any,
    batch: Batch,
    *,
    alpha: float,
    denominator: float | None = None,
    bf16: bool = False,
    through_adapter: bool = False,
) -> Objective:
    """The loss of one batch; see ``objective``, and ``cached_objective`` for a batch that brings the teacher's distributions. A batch
    that brings the teacher's last hidden states is scored as if it had read along."""
    device = batch.input_ids.device.type
    with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
        ours = student_positions(model, batch, through_adapter=through_adapter)
        theirs = teacher_positions(teacher, batch) if batch.taught is None else batch.taught
    with torch.autocast(device, enabled=False):  # the loss keeps its own precision under anybody's autocast
        if isinstance(theirs, CachedPositions):
            return cached_objective(
                ours,
                LogitHead.of(model.language_model),
                theirs,
                batch.targets,
                alpha=alpha,
                denominator=denominator,
            )
        return objective(
            ours,
            LogitHead.of(model.language_model),
            theirs,
            LogitHead.of(teacher),
            batch.targets,
            alpha=alpha,
            denominator=denominator,
        )


class Scored(NamedTuple):
    """What a forward pass of ``Distillation`` gives: ``loss`` with gradients, and sums in nats over ``n`` positions."""

    loss: torch.Tensor
    kl_sum: float
    nll_sum: float
    n: int


class Distillation(nn.Module):
    """Student and frozen teacher as one module, whose forward pass is the objective.

    The loss is computed inside, since that is where the wrappers of data-parallel training look: DDP sees which parameters
    took part, and FSDP2 has the output heads (often tied to the embeddings) gathered.

    Args:
        student: trained; what ``requires_grad`` says is kept.
        teacher: a causal LM that stands by itself (``frozen_copy``); it is frozen here.
        alpha: weight of the distillation; see ``objective``.
    """

    def __init__(self, student: SaladForConditionalGeneration, teacher: Any, alpha: float = 1.0) -> None:
        super().__init__()
        check_head(teacher)
        self.student, self.alpha = student, alpha
        self.teacher = teacher.requires_grad_(False).eval()
        self.through_adapter = False  # see ``student_positions``
        # Read by FSDP: the layers that are sharded and gathered one by one.
        parts = (student.language_model, student.adapter.transformer, teacher)
        self._no_split_modules = sorted({name for part in parts for name in (part._no_split_modules or ())})

    def forward(self, batch: Batch, denominator: float | None = None) -> Scored:
        """``denominator``: scored tokens of the whole optimiser step; ``None``: of this batch."""
        # A batch of text does not reach the adapter: where the LM is frozen, nothing would carry a gradient.
        through_adapter = self.through_adapter or not self._lm_is_trained()
        found = batch_objective(
            self.student,
            self.teacher,
            batch,
            alpha=self.alpha,
            denominator=denominator,
            through_adapter=through_adapter,
        )
        return Scored(found.loss, found.kl_sum, found.nll_sum, found.n)

    def _lm_is_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.student.language_model.parameters())

    def train(self, mode: bool = True) -> Distillation:
        if mode != self.training or mode != self.student.training:
            super().train(mode)
            self.teacher.eval()
        return self

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Called by transformers' Trainer; adapter and LM then recompute their layers in the backward pass."""
        student: Any = self.student
        enable = getattr(student, "activation_checkpointing_enable", None) or student.gradient_checkpointing_enable
        enable(**options)

    gradient_checkpointing_enable = activation_checkpointing_enable  # its name in older releases of transformers 5


# --- what is trained, and how ----------------------------------------------------------------------------------------


def prepare_tuning(model: SaladForConditionalGeneration, plan: TrainPlan) -> None:
    """Set ``requires_grad`` as ``plan.tune`` says, putting LoRA into the LM where it asks for it and there is none yet."""
    model.freeze_encoder()
    model.adapter.requires_grad_(True)
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


def train(
    model: SaladForConditionalGeneration,
    teacher: Any,
    batches: Callable[[int], Batch],
    plan: TrainPlan,
    out: Path,
    *,
    device: str = "cpu",
    init_from: Path | None = None,
    fresh_moments: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Train ``model`` in place for ``plan.steps`` steps, or on from the last checkpoint in ``out``.

    ``batches(i)`` gives micro-batch ``i`` and must always give the same; of R processes, process r takes micro-batch
    ``(step · micro_batches + k) · R + r`` as its k-th of a step. Writes ``out/train.jsonl`` and ``out/checkpoints/``. LoRA is
    merged at the end. Under FSDP2 the model stays sharded: save it by ``whole_state_dict``.

    Args:
        device: "cpu", or the kind of the accelerator ("cuda", "auto").
        init_from: a checkpoint to start from (Stage II: the one before Stage I's decay), weights and moments; steps are
            counted from 0.
        fresh_moments: take only weights from ``init_from``, of which there may be more or fewer than what is trained now.
        callbacks: ``transformers.TrainerCallback``s.

    Raises ``ModelError`` naming the batch where loss or gradients are not finite (the last checkpoint then still stands) and
    ``DataError`` for a checkpoint of another model, teacher or choice of what is trained.
    """
    from salad_train.training.trainer import SaladTrainer, training_arguments

    out = Path(out)
    fingerprint = teacher_fingerprint(teacher)
    start = None if init_from is None else Path(init_from)
    if start is not None:
        check_teacher(start, fingerprint)
    early = start is not None and fresh_moments and not any(map(is_lora, weight_names(start)))
    if start is not None and early:  # while the LM's weights still have their own names
        load_weights(start, named_parameters(model, trained=False), only_known=True)
    with _own_chance():
        prepare_tuning(model, plan)
        if start is not None and not early:
            load_weights(start, named_parameters(model, trained=not fresh_moments), only_known=fresh_moments)
        trainer = SaladTrainer(
            model=Distillation(model, teacher, plan.alpha),
            args=training_arguments(plan, out, device=device),
            plan=plan,
            batches=batches,
            init_moments=None if fresh_moments else start,
            callbacks=list(callbacks),
        )
        trainer.train(resume_from_checkpoint=True)
    merge_lora(model.language_model)
    model.eval()


@contextmanager
def _own_chance() -> Iterator[None]:
    """transformers' Trainer seeds every global generator: leave them as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is the global one that is meant)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
