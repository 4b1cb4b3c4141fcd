"""Both stages on ``second_device``, in a process that ends with it: on which devices the modules read is printed as JSON.

    ACCELERATE_TORCH_DEVICE=second python -m tests.helpers.stages_on_second_device OUT

``run`` is the same on any device.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from salad_train.training import stages
from salad_train.training.batches import BatchLimits
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import AdapterSize, Stage1Plan, Stage2Plan, StagePlan, WarmStartPlan
from salad_train.training.stages import SpeechSource, Stage2Data
from tests.helpers import second_device
from tests.helpers import speech_llm_world as world


def run(out: Path, device: str) -> None:
    """Stage I with a warm start and kept states of the teacher, and Stage II from there, in ``out``."""
    base, encoder = world.save_parts(out / "parts", "llama", "parakeet")
    documents = world.documents(4)
    heard = SpeechSource(documents, world.Voice())
    shared: dict[str, Any] = {
        **{field.name: getattr(plan, field.name) for plan in [_common(device)] for field in dataclasses.fields(plan)},
        "base": str(base),
    }
    warm = WarmStartPlan(steps=2, warmup_steps=1, limits=BatchLimits(400, 8), held_out=2, log_every=1)
    first = Stage1Plan(
        **shared, encoder=str(encoder), adapter=AdapterSize(24, 48, 2, 3, 1), stack_frames=2, warm_start=warm
    )
    speaking = stages.stage1(first, heard, documents, out / "stage1")
    second = Stage2Plan(**shared, init=str(speaking))
    stages.stage2(second, Stage2Data(heard, heard, documents), out / "stage2")


def _common(device: str) -> StagePlan:
    return StagePlan(
        train=TrainPlan(steps=2, warmup_steps=1, log_every=1, adapter_lr=5e-3, lm_lr=1e-3, bf16=False),
        voices=("a", "b"),
        limits=BatchLimits(tokens=600, sequences=6),
        teacher_states=True,
        device=device,
    )


def main() -> None:
    second_device.register()
    read: defaultdict[str, set[str]] = defaultdict(set)

    def note(module: torch.nn.Module, given: tuple[object, ...]) -> None:
        for one in given:
            if isinstance(one, torch.Tensor):
                read[one.device.type].add(type(module).__name__)

    torch.nn.modules.module.register_module_forward_pre_hook(note)
    # All storages of the device look alike to transformers, which would take its tensors for one.
    whole = stages.whole_state_dict
    stages.whole_state_dict = lambda model: {
        name: second_device.inner(tensor.detach()) for name, tensor in whole(model).items()
    }
    run(Path(sys.argv[1]), second_device.NAME)
    print(json.dumps({device: sorted(names) for device, names in read.items()}))


if __name__ == "__main__":
    main()
