"""Tasks of lm-eval, read by us without a YAML of ours: the same contexts, continuations and golds as its own task object, row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from tests.helpers.lm_eval_world import Rows, asked_by_lm_eval, write_mirror
from tests.helpers.places import SHARED_DATA

LETTERS = "ABCDE"


# --- rows in the schema of each data set -----------------------------------------------------------------------------


def arc(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    labels = list("12345" if n % 3 == 2 else LETTERS)[: len(choices)]  # ARC has both
    return {
        "id": f"arc{n}",
        "question": question,
        "choices": {"text": choices, "label": labels},
        "answerKey": labels[gold],
    }


def openbookqa(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    labels = list(LETTERS)[: len(choices)]
    return {
        "id": f"o{n}",
        "question_stem": question,
        "choices": {"text": choices, "label": labels},
        "answerKey": labels[gold],
    }


def piqa(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    right, wrong = choices[gold], choices[gold - 1]
    first, second = (right, wrong) if n % 2 == 0 else (wrong, right)
    return {"goal": question, "sol1": first, "sol2": second, "label": n % 2}


def hellaswag(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    head, _, tail = question.rpartition(". ")
    return {
        "ind": n, "activity_label": "Cooking" if n % 2 else "Baking [title] bread", "ctx_a": f"{head} [substeps]", "ctx_b": tail,
        "endings": choices, "label": str(gold),
    }  # fmt: skip


def mmlu(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    return {"question": question, "subject": "anatomy", "choices": choices, "answer": gold}


def commonsense_qa(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    return {
        "id": f"c{n}", "question": f" {question} ", "question_concept": "x", "choices": {"text": choices, "label": list(LETTERS)},
        "answerKey": LETTERS[gold],
    }  # fmt: skip


def boolq(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    return {"question": question, "passage": f"Passage {n // 2} about {choices[0]}.", "idx": n, "label": gold % 2}


def gsm8k(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    return {"question": question, "answer": f"It takes {gold} steps.\n#### {gold}"}


def sciq(question: str, choices: list[str], gold: int, n: int) -> dict[str, Any]:
    return {
        "question": question, "support": f" Support {n}." if n % 4 else "", "distractor1": choices[0], "distractor2": choices[1],
        "distractor3": choices[2], "correct_answer": f"{choices[3]} at last",
    }  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A task of lm-eval: how its rows look, where its data lies, which splits it has, and what is spoken of its first row."""

    row: Callable[[str, list[str], int, int], dict[str, Any]]
    dataset: str
    config: str | None
    splits: tuple[str, ...]
    spoken: tuple[str, ...]


TASKS: dict[str, Known] = {
    "arc_easy": Known(arc, "allenai/ai2_arc", "ARC-Easy", ("train", "validation", "test"), ("Why is it 0. So?",)),
    "arc_challenge": Known(arc, "allenai/ai2_arc", "ARC-Challenge", ("train", "validation", "test"), ("Why is it 0. So?",)),
    "openbookqa": Known(openbookqa, "allenai/openbookqa", "main", ("train", "validation", "test"), ("Why is it 0. So?",)),
    "piqa": Known(piqa, "baber/piqa", None, ("train", "validation"), ("Why is it 0. So?",)),
    "hellaswag": Known(hellaswag, "Rowan/hellaswag", None, ("train", "validation"), ("Baking. bread: Why is it 0 So?",)),
    "mmlu_anatomy": Known(mmlu, "cais/mmlu", "anatomy", ("dev", "validation", "test"), ("Why is it 0. So?",)),
    "commonsense_qa": Known(commonsense_qa, "tau/commonsense_qa", None, ("train", "validation"), ("Why is it 0. So?",)),
    "boolq": Known(boolq, "aps/super_glue", "boolq", ("train", "validation"), ("Passage 0 about red 0.", "Why is it 0. So?")),
    "gsm8k": Known(gsm8k, "openai/gsm8k", "main", ("train", "test"), ("Why is it 0. So?",)),
    "sciq": Known(sciq, "allenai/sciq", None, ("train", "validation", "test"), ("Why is it 0. So?",)),
}  # fmt: skip


def invented(row: Callable[[str, list[str], int, int], dict[str, Any]], first: int, n: int) -> Rows:
    return [
        row(f"Why is it {k}. So?", [f"red {k}", f"blue {k}", f"a tree {k}", f"two {k}", f"none {k}"], k % 4, k)
        for k in range(first, first + n)
    ]


def compared(name: str, splits: Mapping[str, Rows], shots: int, root: Path) -> tuple[int, list[str]]:
    """How many items of ours equal lm-eval's, after finding no difference; and why the other rows are none."""
    known = TASKS["mmlu_anatomy" if name.startswith("mmlu_") else name]
    config = name.removeprefix("mmlu_") if name.startswith("mmlu_") else known.config
    mirror = write_mirror(root, known.dataset, config, splits)
    theirs = asked_by_lm_eval(name, splits, shots)
    score = "generate" if name == "gsm8k" else None
    task = load_task(name, speak="context", data_dir=mirror, score=score)  # type: ignore[arg-type]
    items, rejects, protocol = load_items(task, "test", shots=shots)
    assert protocol.shots == shots
    assert len(items) + len(rejects) == len(theirs)
    for item in items:
        asked = theirs[int(item.id.rpartition(":")[2])]
        assert item.context == asked.context
        assert item.continuations == asked.continuations
        if item.choices:
            assert item.gold is not None
            assert str(asked.target) in (str(item.gold), item.choices[item.gold])
        else:
            assert item.answers == (asked.target,)
        assert all(item.part_text(part).strip() == item.part_text(part) != "" for part in item.spoken_parts)
    return len(items), [reject.reason for reject in rejects]


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", TASKS)
def test_invented_rows_read_as_lm_eval_reads_them(name: str, shots: int, tmp_path: Path) -> None:
    known = TASKS[name]
    splits = {split: invented(known.row, 100 * place, 12) for place, split in enumerate(reversed(known.splits))}
    assert compared(name, splits, shots, tmp_path) == (12, [])


@pytest.mark.parametrize("name", TASKS)
def test_what_the_template_prints_of_the_row_is_spoken(name: str, tmp_path: Path) -> None:
    known = TASKS[name]
    splits = {split: invented(known.row, 0, 3) for split in known.splits}
    task = load_task(name, speak="context", data_dir=write_mirror(tmp_path, known.dataset, known.config, splits), score=
                     "generate" if name == "gsm8k" else None)  # fmt: skip
    items, _, protocol = load_items(task, "test", shots=0)
    assert tuple(items[0].part_text(part) for part in items[0].spoken_parts) == known.spoken
    assert protocol.speak == "context"


@pytest.mark.parametrize("name", ["piqa", "hellaswag", "arc_easy"])
def test_a_row_that_is_also_among_the_shots_is_drawn_as_lm_eval_draws_it(name: str, tmp_path: Path) -> None:
    """Validation rows that lie in the train split too, twice: lm-eval leaves them out of their own shots where it has no test split."""
    known = TASKS[name]
    asked = invented(known.row, 0, 9)
    splits = {split: asked for split in known.splits if split != "train"}
    splits["train"] = [*asked, *asked, *invented(known.row, 50, 2)]
    n_items, reasons = compared(name, splits, 5, tmp_path)
    assert set(reasons) <= {
        "spoken text is also written in the prompt"
    }  # arc_easy: lm-eval shows the row itself, with its answer
    assert (n_items == 9) == (name != "arc_easy")


# --- real rows -------------------------------------------------------------------------------------------------------


def shared_rows(*names: str) -> list[dict[str, Any]]:
    path = SHARED_DATA.joinpath(*names)
    if not path.is_file():
        pytest.skip(f"no rows at {path}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def real_splits(name: str) -> dict[str, Rows]:
    """The shared rows in the schema of the real data set; where a split is missing, some rows of another stand in for it."""
    if name.startswith("arc"):
        made = [
            arc(row["query"].removeprefix("Question: "), row["choices"], row["gold"], 0)
            for row in shared_rows("arc", f"{name}.jsonl")
        ]
        return {"train": made[::7], "validation": made[1::7], "test": made}
    if name == "openbookqa":

        def flat(row: dict[str, Any]) -> dict[str, Any]:
            choices = row["question"]["choices"]
            return {
                "id": row["id"], "question_stem": row["question"]["stem"], "answerKey": row["answerKey"],
                "choices": {"text": [one["text"] for one in choices], "label": [one["label"] for one in choices]},
            }  # fmt: skip

        files = {"train": "train", "validation": "dev", "test": "test"}
        return {split: [flat(row) for row in shared_rows(name, f"{file}.jsonl")] for split, file in files.items()}
    if name == "piqa":
        made = [{key: row[key] for key in ("goal", "sol1", "sol2", "label")} for row in shared_rows(name, "piqa_valid.jsonl")]  # fmt: skip
        return {"train": made[::5], "validation": made}
    if name == "hellaswag":
        made = []
        for row in shared_rows(name, "hellaswag_val_stride2.jsonl"):
            head, _, tail = row["ctx"].rpartition(". ")
            made.append(
                {
                    "activity_label": row["activity_label"], "ctx_a": head, "ctx_b": tail, "endings": row["endings"],
                    "label": str(row["label"]),
                }
            )  # fmt: skip
        return {"train": made[::5], "validation": made[:2000]}
    subject = name.removeprefix("mmlu_")
    files = {"dev": "mmlu_dev", "validation": "mmlu_val", "test": "mmlu_test_stride2"}
    return {
        split: [
            {key: row[key] for key in ("question", "subject", "choices", "answer")}
            for row in shared_rows("mmlu", f"{file}.jsonl")
            if row["subject"] == subject
        ]
        for split, file in files.items()
    }


MOST_ROWS = int(
    os.environ.get("SALAD_PARITY_ROWS", "40")
)  # of a split that is asked; lm-eval compiles every template anew for each row
REAL = (
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "piqa",
    "hellaswag",
    "mmlu_anatomy",
    "mmlu_college_mathematics",
)


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", REAL)
def test_real_rows_read_as_lm_eval_reads_them(name: str, shots: int, tmp_path: Path) -> None:
    splits = {split: rows if split == "train" else rows[:MOST_ROWS] for split, rows in real_splits(name).items()}
    n_items, reasons = compared(name, splits, shots, tmp_path)
    n_rows = len(splits["test" if "test" in splits else "validation"])
    print(name, shots, f"{n_items} of {n_rows}", sorted(set(reasons)))
    assert n_items >= 0.9 * n_rows
