"""Readers of multiple-choice replies side by side: ours and those of four other projects, on replies labelled by hand.

    python -m tests.speed.bench_readers REPLIES.jsonl --half dev|sealed [--show]
        [--voicebench DIR] [--ultraeval DIR] [--lmms-eval DIR] [--inspect]

Peers are run as they are, none of them ships with this project. Install them in a folder of your own:

    git clone https://github.com/MatthewCYM/VoiceBench                  # --voicebench VoiceBench
    git clone https://github.com/OpenBMB/UltraEval-Audio                # --ultraeval UltraEval-Audio
    git clone https://github.com/EvolvingLMMs-Lab/lmms-eval             # --lmms-eval lmms-eval
    pip install inspect_ai                                              # --inspect

A line of REPLIES is ``{"reply", "choices", "label"}``: the label is the option's letter, or ``N`` where a careful reader finds no answer
and ``X`` where the reply is ambiguous. Labels are written before any reader runs. Halves are drawn by ``--seed``; ``sealed`` is for one
run at the end. *Wrong*: an option is read that is not the label (``N`` and ``X`` have none). *Unparsed*: none is read, and there is one.

Readers that guess: VoiceBench draws a random option for what it cannot read (its reading before that has a row of its own), and so does
lmms-eval's MMMU reader. lmms-eval's shared reader takes any letter that occurs, also one within a word. inspect_ai reads what its own
prompt asks for, "ANSWER: X", and hardly anything else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import time
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.answers.choice import LETTERS, extract_choice

NO_OPTION = ("N", "X")


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    choices: tuple[str, ...]
    label: str

    @property
    def right(self) -> int | None:
        return None if self.label in NO_OPTION else LETTERS.index(self.label)


Read = Callable[[Reply], int | None]


@dataclass(frozen=True, slots=True)
class Reader:
    name: str
    read: Read
    guesses: bool = False


# --- readers ---------------------------------------------------------------------------------------------------------


def ours(reply: Reply) -> int | None:
    return extract_choice(reply.text, reply.choices)


def of_folder(folder: Path, module: str) -> Any:
    """A peer's module with what lies beside it, but without its package's ``__init__``, which needs its models' libraries."""
    path = folder.joinpath(*module.split(".")[:-1])
    package = types.ModuleType(f"peer_{abs(hash(path))}")
    package.__path__ = [str(path)]
    sys.modules[package.__name__] = package
    # UltraEval-Audio names its base class by its full name.
    for parent in (
        ("audio_evals", folder / "audio_evals"),
        ("audio_evals.evaluator", folder / "audio_evals/evaluator"),
    ):
        if parent[1].is_dir():
            sys.modules.setdefault(parent[0], types.ModuleType(parent[0])).__path__ = [str(parent[1])]
    return importlib.import_module(f"{package.__name__}.{module.split('.')[-1]}")


def _index(letter: str | None, reply: Reply) -> int | None:
    index = LETTERS.find(letter) if letter else -1
    return index if 0 <= index < len(reply.choices) else None


def voicebench(folder: Path, seed: int) -> list[Reader]:
    evaluator = of_folder(folder, "src.evaluator.mcq").MCQEvaluator()
    rng = random.Random(seed)

    def read(reply: Reply) -> int | None:
        return _index(evaluator.extract_answer(reply.text), reply)

    def scored(reply: Reply) -> int | None:
        found = evaluator.extract_answer(reply.text)
        return _index(found if found is not None else rng.choice("ABCD"), reply)

    return [Reader("VoiceBench", scored, guesses=True), Reader("VoiceBench, before its guess", read)]


def ultraeval(folder: Path) -> list[Reader]:
    evaluator = of_folder(folder, "audio_evals.evaluator.mcq").MCQ()
    return [Reader("UltraEval-Audio", lambda reply: _index(evaluator._extract_answer(reply.text), reply))]


def lmms_eval(folder: Path, seed: int) -> list[Reader]:
    shared = of_folder(folder, "lmms_eval.tasks._task_utils.mcq_extract")
    mmmu = of_folder(folder, "lmms_eval.tasks._task_utils.mmmu_mcq_utils")
    random.seed(seed)  # it guesses by the global generator

    def read(reply: Reply) -> int | None:
        return _index(shared.extract_mcq_answer(reply.text, list(LETTERS[: len(reply.choices)])), reply)

    def read_mmmu(reply: Reply) -> int | None:
        named, letters = mmmu.get_multi_choice_info(list(reply.choices))
        return _index(mmmu.parse_mmmu_multi_choice_response(reply.text, letters, named), reply)

    return [Reader("lmms-eval, shared", read, guesses=True), Reader("lmms-eval, MMMU", read_mmmu, guesses=True)]


def inspect_ai() -> list[Reader]:
    from inspect_ai.model import ModelName, ModelOutput
    from inspect_ai.solver import TaskState
    from inspect_ai.solver._multiple_choice import parse_answers

    def read(reply: Reply) -> int | None:
        state = TaskState(
            model=ModelName("mockllm/model"), sample_id=0, epoch=0, input="", messages=[], choices=list(reply.choices),
            output=ModelOutput.from_content("mockllm/model", reply.text),
        )  # fmt: skip
        found = sorted(parse_answers(state, multiple_correct=False))
        return _index(found[0], reply) if len(found) == 1 else None

    return [Reader("inspect_ai", read)]


# --- the table -------------------------------------------------------------------------------------------------------


def half_of(replies: Sequence[Reply], half: str, seed: int) -> list[Reply]:
    order = list(range(len(replies)))
    random.Random(seed).shuffle(order)
    middle = len(order) // 2
    chosen = set(order[:middle] if half == "dev" else order[middle:])
    return [reply for place, reply in enumerate(replies) if place in chosen]


def table(readers: Iterable[Reader], replies: Sequence[Reply]) -> list[str]:
    answered = sum(reply.right is not None for reply in replies)
    lines = [
        f"{len(replies)} replies, {answered} with an answer",
        "",
        "| reader | guesses | right | wrong | unparsed |",
        "|---|---|---|---|---|",
    ]
    for reader in readers:
        found = [reader.read(reply) for reply in replies]
        right = sum(one == reply.right for one, reply in zip(found, replies, strict=True))
        unparsed = sum(one is None and reply.right is not None for one, reply in zip(found, replies, strict=True))
        guesses = "yes" if reader.guesses else "no"
        lines.append(f"| {reader.name} | {guesses} | {right} | {len(replies) - right - unparsed} | {unparsed} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replies", type=Path)
    parser.add_argument("--half", choices=("dev", "sealed"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voicebench", type=Path)
    parser.add_argument("--ultraeval", type=Path)
    parser.add_argument("--lmms-eval", type=Path)
    parser.add_argument("--inspect", action="store_true")
    parser.add_argument("--show", action="store_true", help="print the replies that ours reads otherwise than labelled")
    options = parser.parse_args()
    rows = map(json.loads, options.replies.read_text(encoding="utf-8").splitlines())
    replies = half_of([Reply(r["reply"], tuple(r["choices"]), r["label"]) for r in rows], options.half, options.seed)
    readers = [Reader("ours", ours)]
    readers += voicebench(options.voicebench, options.seed) if options.voicebench else []
    readers += ultraeval(options.ultraeval) if options.ultraeval else []
    readers += lmms_eval(options.lmms_eval, options.seed) if options.lmms_eval else []
    readers += inspect_ai() if options.inspect else []
    start = time.perf_counter()
    print("\n".join(table(readers, replies)))
    print(f"\n{time.perf_counter() - start:.1f} s; Python {sys.version.split()[0]}; seed {options.seed}")
    for reply in replies if options.show else ():
        if (found := ours(reply)) != reply.right:
            print(
                f"\nlabel {reply.label}, read {LETTERS[found] if found is not None else '–'}: {reply.choices}\n{reply.text.strip()}"
            )


if __name__ == "__main__":
    main()
