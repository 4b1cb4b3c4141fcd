"""Rows of the benchmarks in their own columns: a few invented ones each, and real ones where the development data is present."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import SHARED_DATA

Row = dict[str, Any]
Splits = dict[str, list[Row]]

# --- invented rows, in the columns of each dataset -------------------------------------------------------------------


def _options(*texts: str) -> dict[str, list[str]]:
    return {"text": list(texts), "label": list("ABCDE"[: len(texts)])}


ARC = [
    {
        "id": "Mercury_1",
        "question": "Which planet has rings?",
        "choices": _options("Mars", "Saturn", "the Moon", "Venus"),
        "answerKey": "B",
    },
    {
        "id": "NYSEDREGENTS_2",
        "question": "Which tool measures mass?",
        "choices": {"text": ["ruler", "balance", "clock"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
]
OPENBOOKQA = [
    {
        "id": "7-1",
        "question_stem": "A squirrel stores nuts for the",
        "choices": _options("summer", "weekend", "winter", "night"),
        "answerKey": "C",
    },
    {
        "id": "7-2",
        "question_stem": "Which of these conducts electricity?",
        "choices": _options("a spoon of steel", "a wooden spoon", "a cup", "a book"),
        "answerKey": "A",
    },
]
HELLASWAG = [
    {
        "ind": 4, "activity_label": "Sharpening knives", "ctx_a": "A man stands at a table. ", "ctx_b": "he",
        "ctx": "A man stands at a table. he", "source_id": "activitynet~v_1", "split": "val", "split_type": "indomain", "label": "2",
        "endings": ["flies away.", "paints the [sic] wall.", "draws a knife  over a stone.", "sings."],
    },
    {
        "ind": 9, "activity_label": "Home and Garden", "ctx_a": "[header] How to dry herbs [title] Pick them early. [step] Go out at dawn.",
        "ctx_b": "", "ctx": "[header] How to dry herbs [title] Pick them early. [step] Go out at dawn.", "source_id": "wikihow~9",
        "split": "val", "split_type": "zeroshot", "label": "0",
        "endings": ["Cut the stems. [substeps] Use scissors.", "Boil them.", "Freeze. [title] Wait.", "Burn them."],
    },
]  # fmt: skip
PIQA = [
    {"goal": "To boil an egg,", "sol1": "put it in boiling water.", "sol2": "put it in the freezer.", "label": 0},
    {"goal": "Clean a window.", "sol1": "Rub it with honey.", "sol2": "Wipe it with vinegar.", "label": 1},
]
MMLU = [
    {"question": "What is 2 + 2?", "subject": "elementary_mathematics", "choices": ["3", "4", "5", "6"], "answer": 1},
    {
        "question": " Who wrote of the cave? ",
        "subject": "philosophy",
        "choices": ["Plato", "Hume", "Kant", "Mill"],
        "answer": 0,
    },
]
COMMONSENSEQA = [
    {
        "id": "a1", "question": "Where do you keep milk? ", "question_concept": "milk", "answerKey": "D",
        "choices": _options("a shoe", "the roof", "a car", "the fridge", "a hat"),
    },
    {
        "id": "a2", "question": "What do people do at night?", "question_concept": "night", "answerKey": "A",
        "choices": _options("sleep", "mow", "melt", "rust", "orbit"),
    },
]  # fmt: skip
BOOLQ = [
    {
        "question": "is barley a grass",
        "passage": "Barley -- Barley, a member of the grass family, is a grain.",
        "idx": 0,
        "label": 1,
    },
    {
        "question": "is barley a metal",
        "passage": "Barley -- It was one of the first grains to be sown.",
        "idx": 1,
        "label": 0,
    },
]
GSM8K = [
    {
        "question": "Ann has 3 boxes of 4 pens. How many pens has she?",
        "answer": "She has 3 x 4 = <<3*4=12>>12 pens.\n#### 12",
    },
    {
        "question": "Ben had $1,500 and spent $300. How much is left?",
        "answer": "1500 - 300 = <<1500-300=1200>>1200\n#### 1,200",
    },
]
STORYCLOZE = [
    {
        "story_id": "s1", "input_sentence_1": "Ann was hungry.", "input_sentence_2": "She had no bread.",
        "input_sentence_3": "She took her purse.", "input_sentence_4": "She walked to the baker.",
        "sentence_quiz1": "She bought a loaf.", "sentence_quiz2": "She sold her house.", "answer_right_ending": 1,
    },
    {
        "story_id": "s2", "input_sentence_1": "Ben has a dog.", "input_sentence_2": "It ran off.", "input_sentence_3": "Ben called.",
        "input_sentence_4": "Nothing moved.", "sentence_quiz1": "Ben was glad.", "sentence_quiz2": "Ben was sad.", "answer_right_ending": 2,
    },
]  # fmt: skip
VOICEBENCH_MMSU = [
    {
        "prompt": "What do bees make?\nA. honey\nB. salt\nC. glass\nD. rope\nWhich option is right?",
        "reference": "A",
        "question_id": 11,
        "category": "biology",
        "src": "ori_mmlu-x",
    },
    {
        "prompt": "What is torque?\nA. a color\nB. a turning force\nC. a sound\nD. a rock",
        "reference": "B",
        "question_id": 12,
        "category": "physics",
        "src": "ori_mmlu-y",
    },
]
VOICEBENCH_OPENBOOKQA = [
    {"prompt": "Ice is\nA. cold\nB. hot\nC. loud\nD. green", "reference": "A"},
    {"prompt": "Fire is\nA. cold\nB. hot\nC. wet\nD. blue", "reference": "B"},
]


# --- a local mirror --------------------------------------------------------------------------------------------------


def write_mirror(root: Path, dataset: str, config: str | None, splits: Splits) -> Path:
    """``splits`` as ``--data-dir`` expects them: ``root/<dataset id, / as __>/[config/]<split>.jsonl``."""
    folder = root / dataset.replace("/", "__")
    folder = folder / config if config else folder
    folder.mkdir(parents=True, exist_ok=True)
    for split, table in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return root


# --- real rows, where the development data is present ----------------------------------------------------------------


def shared_data(name: str) -> Path:
    """A folder of the development data, or a skip that names it."""
    root = SHARED_DATA
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"the development rows {name!r} are not here ({folder}; SALAD_SHARED_DATA names another place)")
    return folder


def _read(path: Path) -> list[Row]:
    # Split at newlines only: the rows hold other characters that str.splitlines would split at.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _arc(file: str) -> Callable[[], Splits]:
    def splits() -> Splits:
        table = _read(shared_data("arc") / file)
        return {
            "test": [
                {
                    "id": f"{file}/{n}",
                    "question": row["query"].removeprefix("Question: "),
                    "choices": _options(*row["choices"]),
                    "answerKey": "ABCDE"[row["gold"]],
                }
                for n, row in enumerate(table)
            ],
            "train": ARC,
        }

    return splits


def _openbookqa() -> Splits:
    def rows(file: str) -> list[Row]:
        return [
            {
                "id": row["id"],
                "question_stem": row["question"]["stem"],
                "choices": {key: [choice[key] for choice in row["question"]["choices"]] for key in ("text", "label")},
                "answerKey": row["answerKey"],
            }
            for row in _read(shared_data("openbookqa") / file)
        ]

    return {"test": rows("test.jsonl"), "validation": rows("dev.jsonl"), "train": rows("train.jsonl")}


def _piqa() -> Splits:
    table = _read(shared_data("piqa") / "piqa_valid.jsonl")
    return {
        "validation": [{key: row[key] for key in ("goal", "sol1", "sol2", "label")} for row in table],
        "train": PIQA,
    }


def _hellaswag() -> Splits:
    """The kept rows hold the cleaned context only: a last piece that begins in lower case was ``ctx_b``, as in the original."""
    made = []
    for row in _read(shared_data("hellaswag") / "hellaswag_val_stride2.jsonl"):
        split = re.fullmatch(r"(.*[.!?]) ([a-z][^.!?]*)", row["ctx"], re.DOTALL)
        ctx_a, ctx_b = split.groups() if split else (row["ctx"], "")
        made.append(
            {
                "ind": row["id"],
                "activity_label": row["activity_label"],
                "ctx_a": ctx_a,
                "ctx_b": ctx_b,
                "ctx": row["ctx"],
                "endings": row["endings"],
                "source_id": f"row~{row['id']}",
                "split": "val",
                "split_type": "indomain",
                "label": str(row["label"]),
            }
        )
    return {"validation": made, "train": HELLASWAG}


def _mmlu() -> Splits:
    def rows(file: str) -> list[Row]:
        keys = ("question", "subject", "choices", "answer")
        return [{key: row[key] for key in keys} for row in _read(shared_data("mmlu") / file)]

    return {
        "test": rows("mmlu_test_stride2.jsonl"),
        "validation": rows("mmlu_val.jsonl"),
        "dev": rows("mmlu_dev.jsonl"),
    }


REAL_ROWS: dict[str, Callable[[], Splits]] = {
    "salad_arc_easy": _arc("arc_easy.jsonl"),
    "salad_arc_challenge": _arc("arc_challenge.jsonl"),
    "salad_openbookqa": _openbookqa,
    "salad_piqa": _piqa,
    "salad_hellaswag": _hellaswag,
    "salad_mmlu": _mmlu,
}


def invented(rows: Iterable[Row], names: Iterable[str] = ("test", "validation", "train")) -> Splits:
    return {name: [dict(row) for row in rows] for name in names}
