"""What a GPU is needed for, in one run of ten minutes at most: a Stage I step, the loss, option scoring.

    python -m tests.speed.gpu [--parts step loss options] [--out DIR]       # on a machine with one CUDA device
    python -m tests.speed.gpu --dry-run                                     # the same code at toy sizes, on the CPU

- ``step``: a Stage I step through ``train``, at the shapes of Qwen2.5-0.5B and 3B with an encoder of Mimi's width and the paper's
  adapter; random weights, bfloat16 autocast. Tokens a second, and the share of what a plain bfloat16 product of matrices reaches on the
  device just before (bar 45%). Operations are counted as 6 a parameter and position for what is trained and 2 for the teacher (Kaplan
  et al., arXiv 2001.08361); attention's own are left out, which is to our disadvantage.
- ``loss``: the chunked objective against the dense form, and against liger-kernel's where it is installed, at V = 151,936: time and peak
  memory, forward and backward.
- ``options``: ``bench_options`` on the device.

Figures are printed as ``tests.speed.collect`` reads them, and with ``--out`` written to ``gpu.json``. A part that fails is named with
its reason, and the others go on; none begins after ``--seconds``.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.speed.measured import MARK, Measured, tell, told

MFU_BAR = 0.45
WARM = 2  # steps that are not counted
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 by its sizes, and the batches it is trained on."""

    name: str
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    tokens: int  # of a micro-batch
    length: int  # of a document
    checkpointing: bool
    adapter: tuple[int, int, int, int, int]  # width, inner, layers, heads, kv heads


ADAPTER = (960, 2560, 12, 15, 5)
SHAPES = (
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 14, 2, 151_936, True, 16_384, 1_024, False, ADAPTER),
    Shape("Qwen2.5-3B", 2048, 11_008, 36, 16, 2, 151_936, True, 16_384, 1_024, True, ADAPTER),
)
TOYS = (Shape("a toy", 64, 128, 2, 4, 2, 512, True, 512, 64, True, (32, 64, 1, 2, 1)),)


@dataclass(frozen=True, slots=True)
class Setting:
    """On what, and how much of it."""

    device: str
    shapes: Sequence[Shape]
    steps: int
    square: int  # of the matrices that tell the device's peak
    positions: int  # of the loss
    width: int
    vocabulary: int
    options: tuple[str, ...]  # of bench_options

    @property
    def named(self) -> str:
        return torch.cuda.get_device_name() if self.device == "cuda" else f"a dry run on {self.device}"


REAL = Setting(
    "cuda", SHAPES, 6, 8192, 8192, 2048, 151_936, ("--device", "cuda", "--parameters", "500", "--items", "128")
)
DRY = Setting("cpu", TOYS, 2, 256, 64, 32, 512, ("--parameters", "1", "--items", "4"))


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of the fastest of ``repeats``, after one that does not count."""
    found = []
    for _ in range(repeats + 1):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def product_rate(setting: Setting) -> float:
    """Operations a second of a bfloat16 product of square matrices."""
    n = setting.square
    left, right = (torch.randn(n, n, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / timed(lambda: left @ right, setting.device, 5)


# --- a Stage I step --------------------------------------------------------------------------------------------------


def models(shape: Shape) -> tuple[Any, Any]:
    """Student and teacher with random weights, on the CPU."""
    from transformers import ParakeetCTCConfig, ParakeetForCTC, Qwen2Config, Qwen2ForCausalLM

    from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration
    from salad_train.training.distillation import frozen_copy

    torch.manual_seed(0)
    lm = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            tie_word_embeddings=shape.tied, bos_token_id=None, eos_token_id=0, pad_token_id=1,
        )
    )  # fmt: skip
    teacher = frozen_copy(lm)
    # Its output is what training reads, from disk: one layer of Mimi's width (512) stands for the whole encoder.
    encoder = ParakeetForCTC(
        ParakeetCTCConfig(vocab_size=30, pad_token_id=29, encoder_config={"hidden_size": 512, "num_hidden_layers": 1})
    )
    width, inner, layers, heads, kv_heads = shape.adapter
    adapter = SaladAdapterConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )  # fmt: skip
    student = SaladForConditionalGeneration.from_parts(encoder, lm, adapter, audio_token_id=shape.vocabulary - 1)
    return student, teacher


def batches(shape: Shape, width: int, n: int) -> list[Any]:
    """Documents of 20 tokens read, 13 heard in 4 seconds (50 frames), and so on: the recipe's lengths."""
    from salad_train.speech.interleave import Interleaved, Span
    from salad_train.training.batches import collate, make_example

    rng = np.random.default_rng(0)

    class Frames:
        def get(self, key: str) -> np.ndarray:
            return rng.standard_normal((int(key.rpartition("-")[2]), width)).astype(np.float16)

    def example(name: str) -> Any:
        spans, keys, positions, at = [], [], [], 0
        while at < shape.length:
            modality, length = ("speech", 13) if len(spans) % 2 else ("text", 20)
            spans.append(Span(modality, "", at, at + length))  # type: ignore[arg-type]
            at += length
            if modality == "speech":
                keys.append(f"{name}.{at}-50")
                positions.append(50)
        ids = tuple(int(i) for i in rng.integers(2, shape.vocabulary - 2, at))
        return make_example(
            Interleaved(name, "", ids, tuple(spans)), tuple(keys), tuple(positions), shape.vocabulary - 1
        )

    made = []
    for number in range(n):
        examples, size = [], 0
        while size < shape.tokens:
            examples.append(example(f"{number}-{len(examples)}"))
            size += examples[-1].length
        made.append(collate(examples, Frames()))  # type: ignore[arg-type]
    return made


def step(setting: Setting) -> Iterator[Measured]:
    from salad_train.training.plan import TrainPlan
    from salad_train.training.train import train

    peak = product_rate(setting)
    yield Measured(f"bfloat16 products of {setting.square:,}² on {setting.named}", peak / 1e12, "TFLOP/s")
    for shape in setting.shapes:
        student, teacher = models(shape)
        made = batches(shape, student.spec.hidden_size, 2)
        plan = TrainPlan(
            steps=setting.steps + WARM, bf16=True, decay_share=0.0, log_every=1, warmup_steps=2, lm_lr=1e-5,
            gradient_checkpointing=shape.checkpointing,
        )  # fmt: skip
        what = f"Stage I step at {shape.name}'s shape, bf16"
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            train(student, teacher, lambda k, made=made: made[k % len(made)], plan, Path(folder), device=setting.device)  # type: ignore[misc]
            lines = [json.loads(line) for line in (Path(folder) / "train.jsonl").read_text().splitlines()]
        seconds = (lines[-1]["seconds"] - lines[WARM - 1]["seconds"]) / setting.steps
        tokens = float(np.mean([batch.input_ids.numel() for batch in made]))
        yield Measured(what, tokens / seconds, "tokens/s")
        yield Measured(
            f"{what}: share of the products' rate", operations(student, teacher, made) / seconds / peak, "", MFU_BAR,
            against="a plain product in the same run",
        )  # fmt: skip
        if setting.device == "cuda":
            yield Measured(
                f"{what}: peak memory",
                torch.cuda.max_memory_allocated() / MIB,
                "MiB",
                better="less",
            )
        del student, teacher, made
        release(setting.device)


def operations(student: Any, teacher: Any, made: Sequence[Any]) -> float:
    """Of a step, without attention's own and without what is computed twice to save memory."""
    lm, adapter, frozen = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (student.language_model, student.adapter, teacher)
    )
    heard = [batch.encoder_hidden_states.shape[0] * batch.encoder_hidden_states.shape[1] for batch in made]
    read = [batch.input_ids.numel() for batch in made]
    taught = [batch.teacher_ids.numel() for batch in made]
    return float(np.mean(read) * 6 * lm + np.mean(heard) * 6 * adapter + np.mean(taught) * 2 * frozen)


def release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


# --- the loss --------------------------------------------------------------------------------------------------------


def loss(setting: Setting) -> Iterator[Measured]:
    from salad_train.training.objective import LogitHead, objective

    device, dtype = setting.device, torch.bfloat16 if setting.device == "cuda" else torch.float32
    n, width, vocabulary = setting.positions, setting.width, setting.vocabulary
    generator = torch.Generator(device).manual_seed(0)
    weight = torch.randn(vocabulary, width, generator=generator, device=device).to(dtype)
    states = torch.randn(n, width, generator=generator, device=device).mul_(3 / width**0.5).to(dtype)
    targets = torch.randint(vocabulary, (n,), generator=generator, device=device)

    def run(backend: str) -> float:
        hidden, head = states.clone().requires_grad_(), weight.clone().requires_grad_()
        if backend == "dense":
            log_p = torch.nn.functional.linear(hidden, head).float().log_softmax(-1)
            with torch.no_grad():
                log_q = torch.nn.functional.linear(states.roll(1, 0), weight).float().log_softmax(-1)
            value = torch.nn.functional.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
        else:
            heads = LogitHead(head), LogitHead(weight)
            found = objective(hidden, heads[0], states.roll(1, 0), heads[1], targets, alpha=1.0, backend=backend)  # type: ignore[arg-type]
            value = found.loss
        value.backward()
        return float(value.detach())

    seconds, peaks, values = {}, {}, {}
    for backend in ("dense", "torch", "liger"):
        try:
            release(device)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            values[backend] = run(backend)
            peaks[backend] = (torch.cuda.max_memory_allocated() - before) / MIB if device == "cuda" else 0.0
            seconds[backend] = timed(lambda backend=backend: run(backend), device, 3)  # type: ignore[misc]
        except Exception as cause:
            print(f"loss, {backend}: {type(cause).__name__}: {cause}", flush=True)
    what = f"{n:,} positions, V = {vocabulary:,}, {str(dtype).partition('.')[2]}"
    for backend in (other for other in ("dense", "liger") if other in seconds):
        print(f"loss, {backend} {values[backend]:.6f}, ours {values['torch']:.6f}", flush=True)
        yield Measured(f"loss, time, {what}", seconds["torch"] / seconds[backend], "×", 1.0, "less", backend)
        if peaks[backend]:
            bar = 0.2 if backend == "dense" else None
            yield Measured(f"loss, peak memory, {what}", peaks["torch"] / peaks[backend], "×", bar, "less", backend)


# --- option scoring --------------------------------------------------------------------------------------------------


def options(setting: Setting) -> Iterator[Measured]:
    command = [sys.executable, "-m", "tests.speed.bench_options", *setting.options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print("\n".join(line for line in done.stdout.splitlines() if not line.startswith(MARK)), flush=True)
    yield from told(done.stdout)


PARTS: Mapping[str, Callable[[Setting], Iterator[Measured]]] = {"loss": loss, "step": step, "options": options}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU: does it run?")
    parser.add_argument("--out", type=Path, help="folder for gpu.json")
    parser.add_argument("--seconds", type=float, default=420, help="no part begins after so many")
    asked = parser.parse_args()
    if not asked.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here. Try it out with --dry-run.")
    setting, began = DRY if asked.dry_run else REAL, time.monotonic()
    found: list[Measured] = []
    failures: dict[str, str] = {}
    for name in asked.parts:
        if time.monotonic() - began > asked.seconds:
            failures[name] = f"not begun: {asked.seconds:.0f} s are over"
            continue
        try:
            for one in PARTS[name](setting):
                tell(one)
                found.append(one)
        except Exception as cause:  # an out-of-memory in one part says nothing of the others
            failures[name] = f"{type(cause).__name__}: {cause}"
        release(setting.device)
        print(f"{name}: {failures.get(name, 'done')} ({time.monotonic() - began:.0f} s)", flush=True)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        stated = {"device": setting.named, "torch": torch.__version__, "figures": [asdict(one) for one in found]}
        (asked.out / "gpu.json").write_text(json.dumps({**stated, "failures": failures}, indent=1) + "\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
