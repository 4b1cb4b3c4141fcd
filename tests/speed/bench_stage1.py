"""Processor time of a Stage I step at the sizes of the embedded models: 32 short sequences, a third of the batches
text.

    python -m tests.speed.bench_stage1 [--steps 20] [--threads 1] [--bf16]

Random weights and documents of the length of the embedded world's. Prints the time of each part of a bare loop, and what
the same steps take through ``SaladTrainer``: the two take turns, step by step, on the same batches.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salad_train.speech.interleave import Interleaved, Span
from salad_train.training.batches import Batch, Example, collate, make_example
from salad_train.training.checkpoints import named_parameters
from salad_train.training.distillation import frozen_copy, student_positions, teacher_positions
from salad_train.training.objective import LogitHead, objective
from salad_train.training.optim import make_optimizer
from salad_train.training.parameters import parameter_groups, prepare_tuning
from salad_train.training.plan import TrainPlan
from salad_train.training.train import train
from tests.speed.bench_salad_system import nano_sized
from tests.speed.measured import Measured, tell


class Frames:
    """Random encoder output by key."""

    def __init__(self, width: int) -> None:
        self.width, self.rng, self.kept = width, np.random.default_rng(1), dict[str, np.ndarray]()

    def get(self, key: str) -> np.ndarray:
        if key not in self.kept:
            self.kept[key] = self.rng.standard_normal((int(key.split("-")[1]), self.width)).astype(np.float16)
        return self.kept[key]


def example(rng: np.random.Generator, number: int, *, speech: bool) -> Example:
    """Eight words asked, one answered, as tokens: about 4 + 10 + 5, the middle ones spoken in about 2.2 s."""
    head, middle, tail = 2 + int(rng.integers(4)), 8 + int(rng.integers(6)), 3 + int(rng.integers(5))
    ids = tuple(int(i) for i in rng.integers(2, 2000, head + middle + tail))
    frames = int(rng.integers(40, 70))
    spans = (
        Span("text", "", 0, head),
        Span("speech", "", head, head + middle),
        Span("text", "", head + middle, len(ids)),
    )
    if not speech:
        return make_example(Interleaved(f"t{number}", "", ids, (Span("text", "", 0, len(ids)),)), (), (), 2048)
    return make_example(Interleaved(f"s{number}", "", ids, spans), (f"{number}-{frames}",), (-(-frames // 2),), 2048)


PARTS = ("student", "teacher", "objective", "backward", "optimiser")


class BareLoop:
    """A training loop with nothing around it; ``step`` gives the processor time of each of ``PARTS`` in seconds."""

    def __init__(self, model: Any, plan: TrainPlan) -> None:
        prepare_tuning(model, plan)
        self.model, self.teacher, self.plan = model.train(), frozen_copy(model.language_model), plan
        self.parameters = named_parameters(model)
        self.optimizer = make_optimizer(parameter_groups(self.parameters, plan))

    def step(self, batch: Batch) -> list[float]:
        marks = [time.process_time()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.plan.bf16):
            ours = student_positions(self.model, batch)
            marks.append(time.process_time())
            theirs = teacher_positions(self.teacher, batch)
            marks.append(time.process_time())
        heads = LogitHead.of(self.model.language_model), LogitHead.of(self.teacher)
        found = objective(ours, heads[0], theirs, heads[1], batch.targets, alpha=1.0)
        marks.append(time.process_time())
        found.loss.backward()
        marks.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.plan.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.process_time())
        return [b - a for a, b in pairwise(marks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, _ = nano_sized()
    model.language_model.set_attn_implementation("eager")  # as the embedded models are trained
    rng = np.random.default_rng(0)
    frames = Frames(model.spec.hidden_size)

    def make(step: int) -> Batch:
        speech = step % 3 != 2
        return collate([example(rng, 32 * step + k, speech=speech) for k in range(32)], frames if speech else None)  # type: ignore[arg-type]

    plan = TrainPlan(steps=args.steps + WARM + 1, muon_lr=0.02, bf16=args.bf16)
    batches = [make(step) for step in range(plan.steps)]
    bare = BareLoop(copy.deepcopy(model), plan)
    of_parts: list[list[float]] = []
    through: list[float] = []
    began = 0.0

    def batch(index: int) -> Batch:
        """The trainer asks for its next batch: its step before ended, and the bare loop takes its turn."""
        nonlocal began
        if index:
            through.append(time.process_time() - began)
        of_parts.append(bare.step(batches[index]))
        began = time.process_time()
        return batches[index]

    with tempfile.TemporaryDirectory() as folder:
        train(model, frozen_copy(model.language_model), batch, plan, Path(folder))
    times = 1000 * np.array(of_parts[WARM:-1])
    whole = times.sum(1)
    text = np.array([one.encoder_lengths is None for one in batches[WARM:-1]])
    print(
        f"{args.steps} steps of 32 sequences, {args.threads} threads, {'bf16' if args.bf16 else 'fp32'}; processor time a step"
    )
    for name, column in zip(PARTS, times.T, strict=True):
        print(f"  {name:10s} {column.mean():7.1f} ms")
    print(
        f"  mean       {whole.mean():7.1f} ms; of speech {whole[~text].mean():.1f} ms, of text {whole[text].mean():.1f} ms"
    )
    trained = 1000 * np.array(through[WARM:])
    print(
        f"  SaladTrainer {trained.mean():5.1f} ms; {trained.sum() / whole.sum():.3f} of the bare loop's, "
        f"median {np.median(trained / whole):.3f}"
    )
    what = f"SaladTrainer's step, processor time, {'bf16' if args.bf16 else 'fp32'}, {args.threads} thread(s)"
    tell(Measured(what, float(np.median(trained / whole)), "×", 1.15, "less", "a bare loop"))


WARM = 3  # steps that are not counted

if __name__ == "__main__":
    main()
