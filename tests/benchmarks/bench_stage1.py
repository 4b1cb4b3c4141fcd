"""Processor time of a Stage I step at the sizes of the embedded models: 32 short sequences, a third of the batches
text.

    python -m tests.benchmarks.bench_stage1 [--steps 12] [--threads 1] [--bf16]

Random weights and documents of the length of the embedded world's. Prints the time of each part in one run.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from salad_train.data import Batch, Example, collate, make_example
from salad_train.interleave import Interleaved, Span
from salad_train.objective import LogitHead, objective
from salad_train.trainer import TrainPlan, frozen_copy, make_optimizers, student_positions, teacher_positions, trainable
from tests.benchmarks.bench_salad_system import nano_sized


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, _ = nano_sized()
    teacher = frozen_copy(model.language_model)
    plan = TrainPlan(steps=args.steps)
    parameters = trainable(model, plan)
    optimizers = make_optimizers(parameters, plan)
    rng = np.random.default_rng(0)
    frames = Frames(model.spec.hidden_size)

    def batch(step: int) -> Batch:
        speech = step % 3 != 2
        return collate([example(rng, 32 * step + k, speech=speech) for k in range(32)], frames if speech else None)  # type: ignore[arg-type]

    batches = [batch(step) for step in range(args.steps)]
    took = dict.fromkeys(("student", "teacher", "objective", "backward", "optimiser"), 0.0)
    kinds = {"speech": 0.0, "text": 0.0}
    model.train()
    for index, one in enumerate((*batches[:3], *batches)):
        marks = [time.process_time()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            ours = student_positions(model, one)
            marks.append(time.process_time())
            theirs = teacher_positions(teacher, one)
            marks.append(time.process_time())
        found = objective(
            ours, LogitHead.of(model.language_model), theirs, LogitHead.of(teacher), one.targets, alpha=1.0
        )
        marks.append(time.process_time())
        found.loss.backward()
        marks.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizers.step()
        optimizers.zero_grad()
        marks.append(time.process_time())
        if index >= 3:  # the first ones warm up
            for name, a, b in zip(took, marks, marks[1:], strict=False):
                took[name] += b - a
            kinds["text" if one.encoder_lengths is None else "speech"] += marks[-1] - marks[0]
    print(
        f"{args.steps} steps of 32 sequences, {args.threads} threads, {'bf16' if args.bf16 else 'fp32'}; processor time a step"
    )
    for name, seconds in took.items():
        print(f"  {name:10s} {1000 * seconds / args.steps:7.1f} ms")
    n_text = sum(one.encoder_lengths is None for one in batches)
    print(
        f"  speech step {1000 * kinds['speech'] / (args.steps - n_text):6.1f} ms, text step {1000 * kinds['text'] / max(1, n_text):6.1f} ms"
    )
    print(f"  mean        {1000 * sum(took.values()) / args.steps:6.1f} ms")


if __name__ == "__main__":
    main()
