"""Time of a Stage II step through ``SaladTrainer``: this build, another checkout, and a bare loop of PyTorch that is compiled.

    python tests/speed/bench_stage2_step.py [--against CHECKOUT] [--shape nano|smollm2] [--dtype float32|bfloat16]
                                            [--threads 1] [--steps 20] [--compiled]

``--against`` names the checkout of another commit (``git worktree add --detach DIR COMMIT``). Each side is a process of its own with
equal weights, batches, threads and dtype; they take turns, step by step, so that other work on the machine slows all of them. The
losses of all steps are compared. Shapes: ``nano``, the embedded models as ``salad loop`` trains them (the adapter alone, the teacher's
states kept); ``smollm2``, a language model of SmolLM2-135M's shape (30 layers of 576, 49,152 tokens; random weights), all of it trained
beside an adapter of 4 layers, the teacher reading along.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve()
WARM = 3  # steps that are not counted
TEXT_FRAMES_A_CHARACTER = {"nano": 25 * 0.065, "smollm2": 12.5 * 0.065}  # encoder frames a second, seconds a character


# --- what is trained on what ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Where a shape's models lie, and how they are trained."""

    student: str
    teacher: str
    attention: str
    plan: Mapping[str, Any]


class Frames:
    """Random encoder output by key (``name-frames``)."""

    def __init__(self, width: int) -> None:
        self.width, self.rng = width, np.random.default_rng(1)

    def get(self, key: str) -> np.ndarray:
        return self.rng.standard_normal((int(key.rsplit("-", 1)[1]), self.width)).astype(np.float16)


def make_world(shape: str, steps: int, folder: Path) -> World:
    """Models and ``steps`` batches of a shape, in ``folder``."""
    from salad_train.model import SaladForConditionalGeneration
    from salad_train.training.batches import BatchOrder, collate, make_example
    from salad_train.training.distillation import teacher_positions
    from salad_train.training.stages import borders_of, cut_documents, open_models

    make = {"nano": nano_world, "smollm2": smollm2_world}[shape]
    world, stage, documents = make(folder)
    if shape == "nano":
        model, processor, teacher = open_models(stage)
        tokenizer, audio_token_id = processor.tokenizer, processor.audio_token_id
    else:
        model, teacher = SaladForConditionalGeneration.from_pretrained(world.student), None
        tokenizer, audio_token_id = whole_words(), model.config.audio_token_id
    examples = []
    for number, (_, cut) in enumerate(cut_documents(documents, tokenizer, stage, borders_of)):
        frames = [max(4, round(len(span.text) * TEXT_FRAMES_A_CHARACTER[shape])) for span in cut.speech]
        keys = [f"{number}.{k}-{n}" for k, n in enumerate(frames)]
        positions = [-(-n // model.config.stack_frames) for n in frames]
        examples.append(make_example(cut, keys, positions, audio_token_id))
    order, store = BatchOrder([one.length for one in examples], stage.limits, seed=0), Frames(model.spec.hidden_size)
    for index in range(steps):
        batch = collate([examples[k] for k in order.batch(index)], store)  # type: ignore[arg-type]
        fields = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        if teacher is not None:
            fields["taught"] = teacher_positions(teacher, batch)
        torch.save(fields, folder / f"batch-{index}.pt")
    return world


def nano_world(folder: Path) -> tuple[World, Any, Any]:
    from salad_train.corpus.sources import documents_of
    from salad_train.loop import dotted, load_loop
    from salad_train.recipe import load_recipe

    loop = load_loop("nano")
    stage = load_recipe(loop.recipe, dotted(loop.settings)).stage2
    plan = {
        name: getattr(stage.train, name)
        for name in ("tune", "alpha", "adapter_lr", "muon_lr", "muon_steps", "lm_lr", "warmup_steps")
    }
    return World(stage.init, stage.base, stage.attention, plan), stage, documents_of("nano/corpus").documents[:2000]


def smollm2_world(folder: Path) -> tuple[World, Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM, ParakeetCTCConfig, ParakeetForCTC

    from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration
    from salad_train.training.batches import BatchLimits
    from salad_train.training.plan import TrainPlan
    from salad_train.training.stage_plan import Stage2Plan
    from salad_train.types import TextDocument

    torch.manual_seed(0)
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, rope_theta=100_000.0,
            bos_token_id=None, eos_token_id=0, pad_token_id=1,
        )
    )  # fmt: skip
    teacher, student = folder / "teacher", folder / "student"
    lm.save_pretrained(teacher)
    encoder = ParakeetForCTC(
        ParakeetCTCConfig(vocab_size=30, pad_token_id=29, encoder_config={"hidden_size": 144, "num_hidden_layers": 1})
    )
    adapter = SaladAdapterConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=4, num_attention_heads=9, num_key_value_heads=3
    )
    SaladForConditionalGeneration.from_parts(encoder, lm, adapter, audio_token_id=49_151).save_pretrained(student)
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, 5)) for _ in range(500)]
    documents = [TextDocument(str(k), " ".join(rng.choice(words, int(rng.integers(70, 130))))) for k in range(300)]
    train = TrainPlan(steps=1)
    stage = Stage2Plan(
        init=str(student), base=str(teacher), voices=("x",), train=train, limits=BatchLimits(tokens=512, sequences=8)
    )
    return World(str(student), str(teacher), "sdpa", {"tune": "full", "warmup_steps": 5}), stage, documents


def whole_words() -> Any:
    """A tokenizer of one id a word: what the tokens are makes no difference to the time."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, 5)) for _ in range(500)]
    vocabulary = {"<eos>": 0, "<pad>": 1, **{word: 97 * k + 2 for k, word in enumerate(dict.fromkeys(words))}}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")


# --- one side ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """What a child process is told."""

    folder: str
    world: World
    dtype: str
    threads: int
    steps: int
    bare: bool
    compiled: bool


class Turns:
    """Batches by number. Asked for the next one, it says how long the step before took, and waits for its turn."""

    def __init__(self, batches: Callable[[int], Any]) -> None:
        self._batches, self._marks = batches, (0.0, 0.0)

    def __call__(self, index: int) -> Any:
        batch = self._batches(index)
        self.end(index)
        return batch

    def end(self, index: int) -> None:
        if index:
            wall, busy = time.perf_counter() - self._marks[0], time.process_time() - self._marks[1]
            print(json.dumps({"wall": wall, "busy": busy}), flush=True)
        sys.stdin.readline()
        self._marks = time.perf_counter(), time.process_time()


def run_side(side: Side) -> None:
    from transformers import AutoModelForCausalLM

    from salad_eval.resources import resolve_pretrained
    from salad_train.model import SaladForConditionalGeneration

    if (HERE.parents[2] / "salad_train").samefile(Path(sys.modules["salad_train"].__file__ or "").parent):
        from salad_train.training.batches import Batch
        from salad_train.training.plan import TrainPlan
        from salad_train.training.train import train
    else:  # before modules stood in folders
        from salad_train.data import Batch  # type: ignore[import-not-found, no-redef]
        from salad_train.trainer import TrainPlan, train  # type: ignore[import-not-found, no-redef]

    torch.set_num_threads(side.threads)
    student: Any = SaladForConditionalGeneration.from_pretrained(
        resolve_pretrained(side.world.student), dtype="float32"
    )
    teacher: Any = AutoModelForCausalLM.from_pretrained(resolve_pretrained(side.world.teacher), dtype="float32")
    for part in (student.language_model, student.adapter.transformer, teacher):
        part.set_attn_implementation(side.world.attention)
    folder = Path(side.folder)

    def batch(index: int) -> Any:
        fields = torch.load(folder / f"batch-{index}.pt", weights_only=True)
        missing = {"encoder_hidden_states": None, "encoder_lengths": None}
        return Batch(**{**missing, **fields}, document_ids=())

    plan = TrainPlan(steps=side.steps, bf16=side.dtype == "bfloat16", decay_share=0.0, log_every=1, **side.world.plan)
    turns = Turns(batch)
    if side.bare:
        losses = bare_loop(student, teacher, turns, plan, compiled=side.compiled)
    else:
        with tempfile.TemporaryDirectory() as out:
            train(student, teacher.eval(), turns, plan, Path(out))
            lines = (Path(out) / "train.jsonl").read_text().splitlines()
        losses = [json.loads(line)["speech_kl"] for line in lines]
    turns.end(side.steps)
    print(json.dumps({"losses": losses}), flush=True)


def bare_loop(student: Any, teacher: Any, batches: Callable[[int], Any], plan: Any, *, compiled: bool) -> list[float]:
    """The step with nothing around it. Compiled are the layers of both LMs and of the adapter."""
    from salad_train.training.checkpoints import named_parameters
    from salad_train.training.distillation import batch_objective, frozen_copy
    from salad_train.training.optim import make_optimizer
    from salad_train.training.parameters import parameter_groups, prepare_tuning

    prepare_tuning(student, plan)
    teacher = frozen_copy(teacher)
    if compiled:
        for part in (student.language_model.base_model, student.adapter.transformer, teacher.base_model):
            for layer in part.layers:
                layer.compile(dynamic=True)
    parameters = named_parameters(student)
    optimizer = make_optimizer(parameter_groups(parameters, plan), betas=plan.betas, muon_steps=plan.muon_steps)
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(plan.steps):
        batch = batches(step)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * plan.rate(step)
        found = batch_objective(student, teacher, batch, alpha=plan.alpha, bf16=plan.bf16)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), plan.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(found.kl_sum / found.n)
    return losses


# --- side by side -----------------------------------------------------------------------------------------------------


class Child:
    """A side in a process of its own, of a checkout."""

    def __init__(self, checkout: Path, side: Side) -> None:
        given = json.dumps(dataclasses.asdict(side))
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(side.threads)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE), "--side", given],
            env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines = self._answers()

    def _answers(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                yield json.loads(line)

    def step(self) -> tuple[float, float]:
        """(wall, processor) seconds of its next step."""
        self._go()
        found = next(self._lines)
        return found["wall"], found["busy"]

    def losses(self) -> list[float]:
        self._go()
        found: list[float] = next(self._lines)["losses"]
        self._process.wait()
        return found

    def _go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the checkout of another commit")
    parser.add_argument("--shape", choices=("nano", "smollm2"), default="nano")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compiled", action="store_true", help="a bare loop with compiled layers, too")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is not None:
        told = json.loads(args.side)
        run_side(Side(**{**told, "world": World(**told["world"])}))
        return
    from tests.speed.measured import Measured, tell  # not above: a side of another checkout need not have it

    n = args.steps + WARM
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(args.shape, n + 1, Path(folder))
        here = HERE.parents[2]
        side = Side(folder, world, args.dtype, args.threads, n, bare=False, compiled=False)
        sides = {"this build": Child(here, side)}
        if args.against is not None:
            sides["the other checkout"] = Child(args.against.resolve(), side)
        bare = dataclasses.replace(side, bare=True, compiled=args.compiled)
        sides["a compiled bare loop" if args.compiled else "a bare loop"] = Child(here, bare)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(n):
            for name, child in sides.items():
                times[name].append(child.step())
        losses = {name: np.array(child.losses()) for name, child in sides.items()}
    print(f"{args.shape}, {args.dtype}, {args.threads} thread(s), {args.steps} steps after {WARM}; milliseconds a step")
    ours = np.array(times["this build"][WARM:])
    setting = f"Stage II step, {args.shape}, {args.dtype}, {args.threads} thread(s), processor time"
    for name, found in times.items():
        of_side = np.array(found[WARM:])
        ratio = np.median(of_side / ours, axis=0)
        apart = np.abs(losses[name] - losses["this build"]) / np.abs(losses["this build"])
        print(
            f"  {name:22s} wall {1000 * np.median(of_side[:, 0]):8.1f}   processor {1000 * np.median(of_side[:, 1]):8.1f}   "
            f"this build is {ratio[0]:.2f}x (wall), {ratio[1]:.2f}x (processor); losses apart by {apart.max():.1e} at most, "
            f"{apart[:5].max():.1e} in the first 5"
        )
        if name != "this build":  # a bare loop is the limit, another checkout what is to be beaten
            bar = {"nano": 1.5, "smollm2": 1.15}[args.shape] if name == "the other checkout" else 0.85
            tell(Measured(setting, float(ratio[1]), "×", bar, against=name))


if __name__ == "__main__":
    main()
