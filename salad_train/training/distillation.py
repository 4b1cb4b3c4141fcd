"""Training: distillation of a frozen teacher into a student that hears. The loop is ``transformers.Trainer``'s (``SaladTrainer``
in ``trainer``), resumable to the bit on CPU.

A step is a pure function of the state before it and of (seed, step): batches come from a callable of their number, and
chance (dropout, if a model has any) is seeded by the step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from salad_eval.errors import ModelError
from salad_train.model.modeling_salad import Placed, SaladForConditionalGeneration
from salad_train.training.batches import Batch
from salad_train.training.objective import (
    CachedPositions,
    LogitHead,
    Objective,
    cached_objective,
    check_head,
    objective,
)
from salad_train.training.precision import autocast


def frozen_copy(lm: Any) -> Any:
    """The teacher: a copy that training the original cannot move."""
    import copy

    teacher = copy.deepcopy(lm).eval()
    return teacher.requires_grad_(False)


def student_input(model: SaladForConditionalGeneration, batch: Batch, *, through_adapter: bool = False) -> Placed:
    """What the student's LM reads.

    ``through_adapter``: let a batch of text, too, go through the adapter, to no effect. Where parameters are sharded, all
    processes must gather the same ones in the same order, whatever their batches hold.
    """
    placed = model.embed(
        batch.input_ids, encoder_hidden_states=batch.encoder_hidden_states, encoder_lengths=batch.encoder_lengths
    )
    if through_adapter and batch.encoder_lengths is None:
        silence = batch.input_ids.new_zeros(
            (1, model.config.stack_frames, model.spec.hidden_size), dtype=model.adapter.input_projection.weight.dtype
        )
        heard, _ = model.get_audio_features(
            encoder_hidden_states=silence, encoder_lengths=batch.input_ids.new_tensor([model.config.stack_frames])
        )
        placed = placed._replace(embeds=placed.embeds + 0.0 * heard.sum().to(placed.embeds.dtype))
    return placed


def student_positions(model: SaladForConditionalGeneration, batch: Batch, placed: Placed | None = None) -> torch.Tensor:
    """Last hidden states of the student at the scored positions, (n, LM width). ``placed``: its input, where that is there already."""
    read = student_input(model, batch) if placed is None else placed
    return model.hidden_states(read).flatten(0, 1)[batch.student]


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
    ctc: float = 0.0,
) -> Objective:
    """The loss of one batch; with ``ctc`` that many times by how many nats CTC misses what is said in it (``CtcReadout.nll``), over the
    same denominator. See ``objective``, and ``cached_objective`` for a batch that brings the teacher's distributions. A batch
    that brings the teacher's last hidden states is scored as if it had read along."""
    device = batch.input_ids.device
    with autocast(device, bf16=bf16):
        placed = student_input(model, batch, through_adapter=through_adapter)
        ours = student_positions(model, batch, placed)
        theirs = teacher_positions(teacher, batch) if batch.taught is None else batch.taught
    with torch.autocast(device.type, enabled=False):  # the loss keeps its own precision under anybody's autocast
        if isinstance(theirs, CachedPositions):
            found = cached_objective(
                ours,
                LogitHead.of(model.language_model),
                theirs,
                batch.targets,
                alpha=alpha,
                denominator=denominator,
            )
        else:
            found = objective(
                ours,
                LogitHead.of(model.language_model),
                theirs,
                LogitHead.of(teacher),
                batch.targets,
                alpha=alpha,
                denominator=denominator,
            )
        if not ctc or placed.heard is None or model.readout is None:
            return found
        missed, n_said = model.readout.nll(*placed.heard, model.get_input_embeddings().weight, batch.said)
        loss = found.loss + missed * (ctc / (found.n if denominator is None else denominator))
        return replace(found, loss=loss, ctc_sum=float(missed.detach()), n_said=n_said)


class Scored(NamedTuple):
    """What a forward pass of ``Distillation`` gives: ``loss`` with gradients, and sums in nats over ``n`` positions, of CTC over ``n_said``
    tokens."""

    loss: torch.Tensor
    kl_sum: float
    nll_sum: float
    n: int
    ctc_sum: float
    n_said: int


class Distillation(nn.Module):
    """Student and frozen teacher as one module, whose forward pass is the objective.

    The loss is computed inside, since that is where the wrappers of data-parallel training look: DDP sees which parameters
    took part, and FSDP2 has the output heads (often tied to the embeddings) gathered.

    Args:
        student: trained; what ``requires_grad`` says is kept.
        teacher: a causal LM that stands by itself (``frozen_copy``); it is frozen here.
        alpha: weight of the distillation; see ``objective``.
        ctc: weight of CTC; see ``batch_objective``. The student's LM must read by it.
    """

    def __init__(
        self, student: SaladForConditionalGeneration, teacher: Any, alpha: float = 1.0, ctc: float = 0.0
    ) -> None:
        super().__init__()
        check_head(teacher)
        if ctc and student.readout is None:
            raise ModelError(
                f"train.ctc is {ctc}, but this speech LLM reads by no CTC. Give Stage I a warm start with readout: ctc, or set it to 0."
            )
        self.student, self.alpha, self.ctc = student, alpha, ctc
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
            ctc=self.ctc,
        )
        return Scored(found.loss, found.kl_sum, found.nll_sum, found.n, found.ctc_sum, found.n_said)

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
