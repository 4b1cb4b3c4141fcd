"""The chunked objective against the dense one at the vocabulary of Qwen2.5: peak memory, time, value and gradient.

    python -m tests.speed.bench_kl [--positions 2048] [--repeats 1] [--threads 1] [--dtype float32] [--frozen-head]

Dense: ``kl_div(log_softmax(student), log_softmax(teacher), log_target=True)``, the teacher's part without gradients, and backward.
Both variants start from the same hidden states and heads (trained head: its gradient is part of the work) and end with the same
gradients. Each measurement is a process of its own, dense and chunked in turn. **Memory** is the process's peak resident set in
the measured part (VmHWM, set back just before) minus what was resident before it (inputs, heads, libraries): what the loss
itself takes, gradients that it returns included. A trained head's gradient is 519 MiB, whoever computes it, and the dense form
takes 2.9 MiB a position: the bar can be met from 900 positions up, and is met from 1,550. **Time** is processor time, forward
and backward; the least of ``--repeats``.
Exits with 1 unless memory ≤ 0.2×, time ≤ 1× and value and gradients agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from salad_train.training.objective import CHUNK_ROWS, LogitHead, objective
from tests.speed.measured import Measured, tell

MEMORY_BAR, TIME_BAR = 0.2, 1.0
VALUE_TOLERANCE = (
    5e-5  # relative; the dense form's own distance from float64 is 1e-5 in float32, the chunked one's 5e-7
)
GRADIENT_TOLERANCE = 1e-4  # relative, in norm


def inputs(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student states and head, teacher states and head, targets: logits of a spread like a trained LM's, the two alike but not
    equal."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, args.dtype)
    weight = torch.randn(args.vocabulary, args.width, generator=generator)
    hidden = torch.randn(args.positions, args.width, generator=generator).mul_(3 / args.width**0.5)
    teacher_weight = weight.clone().to(dtype)
    teacher_hidden = hidden.add(torch.randn(hidden.shape, generator=generator), alpha=0.3 / args.width**0.5).to(dtype)
    targets = torch.randint(args.vocabulary, (args.positions,), generator=generator)
    return (
        hidden.to(dtype).requires_grad_(),
        weight.to(dtype).requires_grad_(not args.frozen_head),
        teacher_hidden,
        teacher_weight,
        targets,
    )


def dense(
    hidden: torch.Tensor, weight: torch.Tensor, teacher_hidden: torch.Tensor, teacher_weight: torch.Tensor
) -> torch.Tensor:
    log_p = torch.nn.functional.linear(hidden, weight).float().log_softmax(-1)
    with torch.no_grad():
        log_q = torch.nn.functional.linear(teacher_hidden, teacher_weight).float().log_softmax(-1)
    return torch.nn.functional.kl_div(log_p, log_q, log_target=True, reduction="batchmean")


def memory_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}: peak memory is measured on Linux only.")


def measured(args: argparse.Namespace) -> None:
    """One variant in this process; prints a line of JSON."""
    torch.set_num_threads(args.threads)
    hidden, weight, teacher_hidden, teacher_weight, targets = inputs(args)
    tiny = torch.randn(8, 8, requires_grad=True)  # libraries take their own workspace on first use
    dense(tiny, torch.randn(16, 8, requires_grad=True), tiny.detach(), torch.randn(16, 8)).backward()
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
    before = memory_kib("VmRSS")
    wall, began = time.perf_counter(), time.process_time()
    if args.variant == "dense":
        loss = dense(hidden, weight, teacher_hidden, teacher_weight)
    else:
        loss = objective(
            hidden,
            LogitHead(weight),
            teacher_hidden,
            LogitHead(teacher_weight),
            targets,
            alpha=1.0,
            chunk_logits=args.rows * args.vocabulary,
        ).loss
    forward = time.process_time()
    loss.backward()
    seconds, peak = time.process_time() - began, memory_kib("VmHWM") - before
    found = {"loss": float(loss.detach()), "seconds": seconds, "forward": forward - began, "mib": peak / 1024}
    found["wall"] = time.perf_counter() - wall
    if args.keep:
        np.save(Path(args.keep) / f"{args.variant}-hidden.npy", hidden.grad.float().numpy())
        if weight.grad is not None:
            np.save(Path(args.keep) / f"{args.variant}-weight.npy", weight.grad.float().numpy())
    print(json.dumps(found))


def apart(a: Path, b: Path) -> float:
    """‖a − b‖ / ‖b‖, a block of rows at a time."""
    ours, theirs = np.load(a, mmap_mode="r"), np.load(b, mmap_mode="r")
    gap = size = 0.0
    for start in range(0, len(ours), 4096):
        x, y = ours[start : start + 4096].astype(np.float64), theirs[start : start + 4096].astype(np.float64)
        gap, size = gap + float(np.square(x - y).sum()), size + float(np.square(y).sum())
    return (gap / size) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--frozen-head", action="store_true", help="as with LoRA: only hidden states get a gradient")
    parser.add_argument("--rows", type=int, default=CHUNK_ROWS, help="positions in a chunk")
    parser.add_argument("--variant", choices=("dense", "chunked"), help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        measured(args)
        return
    print(
        f"{args.positions} positions, vocabulary {args.vocabulary}, width {args.width}, {args.dtype}, {args.threads} threads, "
        f"{'frozen' if args.frozen_head else 'trained'} head"
    )
    runs: dict[str, list[dict[str, float]]] = {"dense": [], "chunked": []}
    with tempfile.TemporaryDirectory() as keep:
        for repeat in range(args.repeats):
            for variant in runs:
                command = [sys.executable, "-m", "tests.speed.bench_kl", *sys.argv[1:], "--variant", variant]
                done = subprocess.run(
                    [*command, *(["--keep", keep] if repeat == 0 else [])], check=True, capture_output=True, text=True
                )
                runs[variant].append(json.loads(done.stdout.splitlines()[-1]))
                one = runs[variant][-1]
                print(
                    f"  {variant:8s} {one['mib']:8.0f} MiB {one['seconds']:7.2f} s of processor (forward {one['forward']:6.2f}), "
                    f"{one['wall']:7.2f} s of clock, loss {one['loss']:.7f}",
                    flush=True,
                )
        folder = Path(keep)
        apart_by = {
            name: apart(folder / f"chunked-{name}.npy", folder / f"dense-{name}.npy")
            for name in ("hidden", "weight")
            if (folder / f"dense-{name}.npy").exists()
        }
    memory = max(run["mib"] for run in runs["chunked"]) / min(run["mib"] for run in runs["dense"])
    seconds = min(run["seconds"] for run in runs["chunked"]) / min(run["seconds"] for run in runs["dense"])
    ours, theirs = runs["chunked"][0]["loss"], runs["dense"][0]["loss"]
    value = abs(ours - theirs) / abs(theirs)
    loose = 1.0 if args.dtype == "float32" else 100.0  # bfloat16 has 8 bits
    verdicts = {
        f"peak memory {memory:.3f}× (bar {MEMORY_BAR}×)": memory <= MEMORY_BAR,
        f"time {seconds:.3f}× (bar {TIME_BAR}×)": seconds <= TIME_BAR,
        f"value apart by {value:.1e} (bar {VALUE_TOLERANCE * loose:.0e})": value <= VALUE_TOLERANCE * loose,
        **{
            f"gradient of {name} apart by {gap:.1e} in norm (bar {GRADIENT_TOLERANCE * loose:.0e})": gap
            <= GRADIENT_TOLERANCE * loose
            for name, gap in apart_by.items()
        },
    }
    what, against = f"{args.positions:,} positions, V = {args.vocabulary:,}, {args.dtype}", "dense log-softmax KL"
    tell(
        Measured(f"peak memory, {what}", memory, "×", MEMORY_BAR, "less", against),
        Measured(f"processor time, {what}", seconds, "×", TIME_BAR, "less", against),
    )
    for text, good in verdicts.items():
        print(f"  {'ok  ' if good else 'FAIL'} {text}")
    raise SystemExit(0 if all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
