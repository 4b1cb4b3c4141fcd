"""One process of a data-parallel training run on a tiny model; ``test_trainer`` starts two of them by torchrun.

    torchrun --nproc-per-node 2 tests/helpers/train_worker.py OUT ddp fsdp2 …

Each named case trains the same world and rank 0 saves the student's weights to ``OUT/<case>.safetensors``.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from salad_train.training import precision
from salad_train.training.batches import Batch
from salad_train.training.checkpoints import whole_state_dict
from salad_train.training.distillation import frozen_copy
from salad_train.training.lora import LoraPlan
from salad_train.training.plan import TrainPlan
from salad_train.training.processes import first_process_first, is_first
from salad_train.training.teacher_cache import TeacherStates
from salad_train.training.train import train
from tests.helpers import speech_llm_world as world

PLAN = TrainPlan(
    steps=4,
    warmup_steps=1,
    decay_share=0.5,
    log_every=2,
    adapter_lr=2e-3,
    lm_lr=1e-3,
    checkpoint_every=1,
    micro_batches=1,
)
LM_ALONE = frozenset({2, 3})  # micro-batches of text: first together in one step, then beside speech
TEXT = frozenset({*LM_ALONE, 5})


def student(lm: str = "qwen2") -> Any:
    """A tiny speech LLM with tied embeddings."""
    return world.speech_llm(lm, "parakeet", 2)[0]


def micro_batch(index: int) -> Batch:
    """Micro-batch ``index``: one to three sequences of unequal length, of speech unless ``index`` is in ``TEXT``."""
    rng = np.random.default_rng([7, index])
    vocabulary = len(world.tokenizer())
    n, text = 1 + index % 3, 6 + index % 4
    heard = 0 if index in TEXT else 3
    ids = rng.integers(2, vocabulary, (n, 2 + text))
    audio = np.full((n, heard), vocabulary)
    inputs = np.concatenate([ids[:, :2], audio, ids[:, 2:]], axis=1)
    width, theirs = inputs.shape[1], ids.shape[1]
    student_at = np.concatenate([row * width + 2 + heard - 1 + np.arange(text) for row in range(n)])
    teacher_at = np.concatenate([row * theirs + 1 + np.arange(text) for row in range(n)])
    frames = rng.standard_normal((n, 2 * heard, 32)).astype(np.float32)
    return Batch(
        input_ids=torch.from_numpy(inputs),
        teacher_ids=torch.from_numpy(ids),
        student=torch.from_numpy(student_at),
        teacher=torch.from_numpy(teacher_at),
        targets=torch.from_numpy(ids[:, 2:].reshape(-1)),
        after_speech=torch.zeros(n * text, dtype=torch.bool),
        encoder_hidden_states=torch.from_numpy(frames) if heard else None,
        encoder_lengths=torch.full((n,), 2 * heard) if heard else None,
        document_ids=tuple(f"doc-{index}-{row}" for row in range(n)),
    )


def run(
    plan: TrainPlan, out: Path, batches: Callable[[int], Batch] = micro_batch, **options: Any
) -> dict[str, torch.Tensor]:
    """Train a fresh student in ``out``; its weights."""
    model = student()
    train(model, frozen_copy(model.language_model), batches, plan, out, **options)
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    assert all(isinstance(parameter, DTensor) is sharded for parameter in model.parameters())
    whole = whole_state_dict(model)
    assert whole["language_model.lm_head.weight"].equal(whole["language_model.model.embed_tokens.weight"])
    return {name: tensor.contiguous() for name, tensor in whole.items() if "lm_head" not in name}


def taught_batches(folder: Path, n: int) -> Callable[[int], Batch]:
    """``micro_batch`` with what the teacher says at its scored positions, kept on disk by the first process for all."""
    teacher = frozen_copy(student().language_model)
    texts = [row.numpy() for index in range(n) for row in micro_batch(index).teacher_ids]
    with first_process_first("cpu"):
        states = TeacherStates(folder, teacher)
        new = states.fill(texts)
    assert (new == 0) != is_first()

    def batch(index: int) -> Batch:
        made = micro_batch(index)
        rows = made.teacher_ids.numpy()
        at = made.teacher.numpy().reshape(len(rows), -1) % rows.shape[1]
        examples: Any = [
            SimpleNamespace(document_id=name, teacher_ids=ids, layout=SimpleNamespace(teacher=scored))
            for name, ids, scored in zip(made.document_ids, rows, at, strict=True)
        ]
        return dataclasses.replace(made, taught=states.positions(examples))

    return batch


def batches_of(case: str, plan: TrainPlan, folder: Path) -> Callable[[int], Batch]:
    """Of a case, for a plan that one process follows alone."""
    return taught_batches(folder, plan.steps * plan.micro_batches) if case.endswith("-states") else micro_batch


CASES: dict[str, dict[str, Any]] = {
    "ddp": {"micro_batches": 2, "steps": 3, "checkpoint_every": 0},
    "ddp-states": {"micro_batches": 2, "steps": 3, "checkpoint_every": 0},
    "ddp-adapter": {"tune": "adapter"},
    "fsdp2": {"checkpoint_every": 3},
    "fsdp2-lora": {"tune": "lora", "lora": LoraPlan(4, 8), "steps": 2, "checkpoint_every": 0},
    "fsdp2-accumulating": {"micro_batches": 2, "steps": 3},
    "fsdp2-muon": {"muon_lr": 0.02},
    "fsdp2-bf16": {"bf16": True, "gradient_checkpointing": True},
    "ddp-bf16": {"bf16": True, "gradient_checkpointing": True},
}


def allow_fsdp_on_cpu() -> None:
    """accelerate opens FSDP to accelerators only; all that lies behind that gate, its own code and torch's, runs on a CPU."""
    import transformers.trainer
    from accelerate import Accelerator, PartialState
    from accelerate.utils import DistributedType

    def accelerator(*args: Any, **kwargs: Any) -> Accelerator:
        if os.environ["ACCELERATE_USE_FSDP"] == "true":
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return Accelerator(*args, **kwargs)

    transformers.trainer.Accelerator = accelerator


def main(out: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    allow_fsdp_on_cpu()
    precision.multiplies_bfloat16 = lambda device: True  # two cases are about bfloat16, whatever this processor has
    for case in cases:
        sharded = case.startswith("fsdp2")
        # What `accelerate launch --use_fsdp --fsdp_version 2` sets.
        os.environ["ACCELERATE_USE_FSDP"] = str(sharded).lower()
        os.environ.update({"FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"})
        plan = dataclasses.replace(PLAN, **CASES[case])
        alone = dataclasses.replace(plan, micro_batches=plan.micro_batches * int(os.environ.get("WORLD_SIZE", "1")))
        weights = run(plan, out / case, batches_of(case, alone, out / f"{case}-kept"))
        if os.environ.get("RANK", "0") == "0":
            save_file(weights, out / f"{case}.safetensors")
        print("done", case, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
