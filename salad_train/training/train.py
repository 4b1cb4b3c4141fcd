"""Train a student by a plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.training.batches import Batch
from salad_train.training.checkpoints import (
    check_teacher,
    load_weights,
    named_parameters,
    teacher_fingerprint,
    weight_names,
)
from salad_train.training.lora import is_lora, merge_lora

if TYPE_CHECKING:
    from transformers import TrainerCallback
from salad_train.training.distillation import Distillation
from salad_train.training.parameters import prepare_tuning
from salad_train.training.plan import TrainPlan


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
            model=Distillation(model, teacher, plan.alpha, plan.ctc),
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
