"""A task YAML of a table of questions, as people keep them: a CSV with options in columns of their own and a letter for the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from salad_eval.benchmarks.data import read_table_file
from salad_eval.errors import TaskError, UserInputError, did_you_mean

QUESTION = ("question", "prompt", "query", "stem", "q", "text")
CHOICES = ("choices", "options", "answers")
ANSWER = ("answer", "gold", "label", "key", "correct", "target", "correct_answer", "answer_key", "answerkey")
DOMAIN = ("domain", "subject", "category", "topic", "field", "area")
LETTERS = "ABCDEFGHIJ"
FEWEST_OPTIONS = 2
_OPTION_COLUMN = re.compile(r"(?:option|choice|answer|opt)[ _]?([A-J]|\d{1,2})|([A-J])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which column is what; ``None``: found by its name. ``choices``: one that lists them, or several, comma-separated."""

    question: str | None = None
    choices: str | None = None
    answer: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    yaml: Path
    n_items: int
    n_domains: int


def write_task(
    table: Path,
    out: Path | None = None,
    *,
    name: str | None = None,
    columns: TableColumns = TableColumns(),
    speak_choices: bool = False,
) -> NewTask:
    """Write ``NAME.yaml`` and ``NAME.rows.jsonl`` beside the table, or where ``out`` says.

    Raises ``TaskError`` naming the row for an answer that is none of its options, ``UserInputError`` for a column that is not there, and
    where a file would be overwritten.
    """
    rows, known = read_table_file(table)
    if not rows:
        raise TaskError(f"{table}: holds no rows.")
    question = _named("question", columns.question, known, QUESTION, table)
    options = _option_columns(columns.choices, known, table)
    answer = _named("answer", columns.answer, [one for one in known if one not in options], ANSWER, table)
    domain = (columns.domain and _named("domain", columns.domain, known, (), table)) or _found(known, DOMAIN)
    made = [_row(row, n, question, options, answer, domain, table) for n, row in enumerate(rows, start=1)]
    task = re.sub(r"\W+", "_", name or table.stem).strip("_") or "quiz"
    file = out if out is not None else table.with_name(f"{task}.yaml")
    data = file.with_name(f"{file.stem}.rows.jsonl")
    for path in (file, data):
        if path.exists():
            raise UserInputError(f"{path} is there already. Give another --out, or remove it.")
    file.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    text = yaml.safe_dump(
        _task(task, data.name, domain is not None, speak_choices), sort_keys=False, allow_unicode=True
    )
    file.write_text(f"# Made of {table.name} by salad tasks new.\n{text}", encoding="utf-8")
    return NewTask(file, len(made), len({row.get("domain") for row in made}))


def _task(name: str, data: str, has_domain: bool, speak_choices: bool) -> dict[str, Any]:
    listed = (
        "\n{% for choice in choices %}{{'ABCDEFGHIJ'[loop.index0]}}. {{choice}}\n{% endfor %}"
        if speak_choices
        else "\n"
    )
    salad: dict[str, Any] = {"speak": "context", "spoken_text": "{{question}}", "score": "ll_norm"}
    if speak_choices:
        salad |= {"speak": "context+choices", "spoken_choices": listed.strip("\n"), "score": "ll"}
    salad["domain"] = "domain" if has_domain else f"{{{{'{name}'}}}}"
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": data}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": f"Question: {{{{question}}}}{listed}Answer:",
        "doc_to_choice": "{{'ABCDEFGHIJ'[:choices|length]|list}}" if speak_choices else "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "salad": salad},
    }


def _row(
    row: Mapping[str, Any],
    number: int,
    question: str,
    options: Sequence[str],
    answer: str,
    domain: str | None,
    table: Path,
) -> dict[str, Any]:
    where = f"{table}, row {number}"
    choices = _choices(row, options, where)
    made = {
        "question": str(row[question]).strip(),
        "choices": choices,
        "answer": answer_index(str(row[answer]), choices, where),
    }
    if not made["question"]:
        raise TaskError(f"{where}: {question} is empty.")
    return made if domain is None else {**made, "domain": str(row[domain]).strip() or "(none)"}


def _choices(row: Mapping[str, Any], options: Sequence[str], where: str) -> list[str]:
    if len(options) == 1:
        value = row[options[0]]
        listed = value if isinstance(value, list) else [part.strip() for part in re.split(r"[|;\n]", str(value))]
    else:
        listed = [row[column] for column in options]
    texts = [str(one).strip() for one in listed if one is not None and str(one).strip()]
    if len(texts) < FEWEST_OPTIONS or len(texts) > len(LETTERS):
        raise TaskError(f"{where}: has {len(texts)} options; expected {FEWEST_OPTIONS} to {len(LETTERS)}.")
    return texts


def answer_index(answer: str, choices: Sequence[str], where: str) -> int:
    """Which option an answer names: by its text, its letter (``B``, ``(b)``, ``B.``), or a number from 0.

    Raises ``TaskError`` where it names none.
    """
    said = answer.strip()
    texts = [choice.casefold() for choice in choices]
    if texts.count(said.casefold()) == 1:
        return texts.index(said.casefold())
    letter = re.fullmatch(r"[(\[]?([A-Ja-j])[)\].:]?", said)
    place = (
        LETTERS.index(letter[1].upper()) if letter else int(said) if re.fullmatch(r"\d{1,2}", said) else len(choices)
    )
    if place >= len(choices):
        raise TaskError(
            f"{where}: the answer {said!r:.60} is none of its {len(choices)} options; expected one of their texts, a letter from A to "
            f"{LETTERS[len(choices) - 1]}, or a number from 0 to {len(choices) - 1}."
        )
    return place


def _option_columns(stated: str | None, known: Sequence[str], table: Path) -> list[str]:
    if stated is not None:
        return [_named("choices", name.strip(), known, (), table) for name in stated.split(",")]
    if (one := _found(known, CHOICES)) is not None:
        return [one]
    several = [name for name in known if _OPTION_COLUMN.fullmatch(name.strip())]
    if len(several) < FEWEST_OPTIONS:
        raise UserInputError(
            f"{table}: no columns of options were found among {', '.join(known)}. Name them: --choices A,B,C,D."
        )
    return several


def _named(what: str, stated: str | None, known: Sequence[str], usual: Sequence[str], table: Path) -> str:
    if stated is not None:
        if stated not in known:
            raise UserInputError(
                f"{table}: has no column {stated!r}{did_you_mean(stated, known)}. Columns: {', '.join(known)}."
            )
        return stated
    if (one := _found(known, usual)) is None:
        raise UserInputError(
            f"{table}: no column of the {what} was found among {', '.join(known)}. Name it: --{what} COLUMN."
        )
    return one


def _found(known: Sequence[str], usual: Sequence[str]) -> str | None:
    by_name = {name.strip().casefold(): name for name in known}
    return next((by_name[name] for name in usual if name in by_name), None)
