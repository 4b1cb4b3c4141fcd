"""Rows for a task of lm-eval, made up so that its own code takes them: columns from its source, values tried until all of it works."""

from __future__ import annotations

import itertools
import json
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.parity.columns import Reads, reads_of
from tests.parity.families import gold_is_fixed, more_rows_of
from tests.parity.oracle import LmEvalSide, Splits
from tests.parity.values import FREE_GOLDS, GOLDS, LISTS, kinds_for, question, value_of

MOST_TRIALS = 900
FEWEST_ROWS = 4
_MOST_LEARNED = 20


@dataclass(frozen=True)
class Schema:
    """What each column of a made-up data set holds (see ``values``), and how many options a question has."""

    kinds: Mapping[str, str]
    n_options: int
    plain: bool = False
    more: int = 1  # so many times the usual number of rows

    def rows(self, reads: Reads, first: int, n: int) -> list[dict[str, Any]]:
        asked = [question(first + k, self.n_options, plain=self.plain) for k in range(n)]
        return [{column: value_of(kind, column, reads, q) for column, kind in self.kinds.items()} for q in asked]


@dataclass(frozen=True)
class Found:
    """Rows by split, as a task's code takes them."""

    schema: Schema
    splits: Splits


def splits_named(table: Mapping[str, Any]) -> list[str]:
    """Every split that a task reads, the one that is asked first."""
    shots = table.get("fewshot_config") if isinstance(table.get("fewshot_config"), dict) else {}
    asked = table.get("test_split") or table.get("validation_split")
    named = [
        asked,
        table.get("validation_split"),
        table.get("training_split"),
        table.get("fewshot_split"),
        shots.get("split"),
    ]
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def same_rows(table: Mapping[str, Any], schema: Schema) -> Splits:
    """Rows of a schema that is known to fit."""
    reads = reads_of(table)
    n = max(6, schema.n_options + 2) * schema.more
    return {name: schema.rows(reads, 100 * place, n) for place, name in enumerate(splits_named(table))}


class Search:
    """Rows that a task's code takes. ``fixed``: what some of its columns hold.

    ``best``: how far those came that came farthest, and what was wrong with them.
    """

    def __init__(self, path: Path, table: Mapping[str, Any], fixed: Mapping[str, str]) -> None:
        self.path, self.table = path, table
        self.reads = reads_of(table)
        self.splits = splits_named(table)
        self.trials, self.more = 0, more_rows_of(path)
        self.fixed = fixed
        for column, kind in self.fixed.items():
            self.reads.add(column)
            if kind == "-":
                del self.reads.columns[column]
        self.best: tuple[float, str] = (-1.0, "nothing was tried")

    def run(self, known: Sequence[Schema]) -> Iterator[Found]:
        """One kind after the other; schemas in ``known`` first."""
        if not self.splits or not self.reads.columns:
            self.best = 0.0, "no column is read" if self.splits else "the task names no split"
            return
        tried: set[str] = set()
        for schema in itertools.chain(self._first(known), self._improved()):
            if schema_json(replace(schema, more=self.more)) in tried:
                continue
            tried.add(schema_json(replace(schema, more=self.more)))
            found = self._try(schema)
            if found is not None:
                yield found
            if self.trials >= MOST_TRIALS:
                break

    def _first(self, known: Sequence[Schema]) -> Iterator[Schema]:
        columns = set(self.reads.columns)
        yield from (schema for schema in known if columns <= set(schema.kinds) and self._can_be_made(schema))

    def _can_be_made(self, schema: Schema) -> bool:
        """Whether this task's code has the lists of words that rows of another task were made of."""
        try:
            return bool(schema.rows(self.reads, 0, 1))
        except (IndexError, KeyError):
            return False

    def _n_options(self) -> list[int]:
        choices = self.table.get("doc_to_choice")
        if isinstance(choices, (list, dict)):
            return [len(choices)]
        if isinstance(choices, str) and (listed := re.fullmatch(r"\{\{\s*\[([^\[\]]*)\]\s*\}\}", choices)):
            return [listed[1].count(",") + 1]
        numbered = [int(kind.split()[1]) + 1 for kind in self._default().values() if kind.startswith("option ")]
        return list(dict.fromkeys([*([max(numbered)] if numbered and max(numbered) > 1 else []), 4, 2, 3, 5]))

    def _kinds(self, column: str) -> list[str]:
        if column in self.fixed:
            return [self.fixed[column]]
        asked = self.table.get("output_type") == "multiple_choice"
        if asked and column == self.table.get("doc_to_choice"):
            return [*(f"list {name}" for name in LISTS), *kinds_for(column, self.reads)]
        if asked and column == self.table.get("doc_to_target"):
            words = ["own words"] if self.reads.words.get(column) else []
            return [*words, *(f"gold {name}" for name in GOLDS), *kinds_for(column, self.reads)]
        if not asked and column == self.table.get("doc_to_target"):
            return [*(f"gold {name}" for name in FREE_GOLDS), *kinds_for(column, self.reads, generated=True)]
        return kinds_for(column, self.reads, generated=self.table.get("output_type") != "multiple_choice")

    def _default(self) -> dict[str, str]:
        return {column: self._kinds(column)[0] for column in self.reads.columns}

    def _improved(self) -> Iterator[Schema]:
        """The likeliest kinds for each number of options, then those of the answer, then column by column from the best so far."""
        first = [Schema(self._default(), n) for n in self._n_options()]
        yield from first
        answers = [column for column in self._order("") if "gold" in " ".join(self._kinds(column)[:2])][:2]
        for schema, column in itertools.product(first, answers):
            for kind in self._kinds(column)[:16]:
                yield replace(schema, kinds={**schema.kinds, column: kind})
        for plain in (False, True):
            current = replace(self.best_schema, plain=plain)
            yield current
            score, error = self.last
            for _ in range(3):
                improved = False
                for column in self._order(error):
                    for kind in self._kinds(column):
                        if kind == current.kinds.get(column):
                            continue
                        changed = replace(current, kinds={**current.kinds, column: kind})
                        yield changed
                        if self.last[0] > score + 1e-9:
                            current, (score, error), improved = changed, self.last, True
                if not improved:
                    break

    def _order(self, error: str) -> list[str]:
        """Columns that the error names first, then those of which it is least clear what they hold."""

        def unclear(column: str) -> tuple[bool, int]:
            first = self._kinds(column)[0]
            rank = (
                0
                if column in self.reads.chosen
                else 1
                if "gold" in first
                else 2
                if "list" in first
                else 4
                if "option" in first
                else 3
            )
            return f"'{column}'" not in error, rank

        return sorted(self.reads.columns, key=unclear)

    def _try(self, schema: Schema) -> Found | None:
        """Rows of that schema, with every column that the code turns out to need."""
        for _ in range(1 + _MOST_LEARNED):
            self.trials += 1
            known = set(self.reads.columns)
            tried = replace(schema, kinds={**self._default(), **schema.kinds}, more=self.more)
            n = max(6, tried.n_options + 2) * tried.more
            splits = {name: tried.rows(self.reads, 100 * place, n) for place, name in enumerate(self.splits)}
            score, problem = judged(self.path, splits, self.table)
            self._learn(problem, json.dumps(splits, ensure_ascii=False, default=str))
            if set(self.reads.columns) == known:
                break
        self.last = (score, problem)
        if score > self.best[0]:
            self.best, self.best_schema = (score, problem), tried
        return Found(tried, splits) if not problem else None

    def _learn(self, problem: str, rows: str) -> None:
        """A column that the code misses by name; that more rows are needed for all of them to be drawn."""
        if problem.startswith("gold is only at") and self.more < 4:
            self.more += 1
        if (
            problem.startswith("KeyError: '")
            and (name := problem.split("'")[1]) not in self.reads.columns
            and name.isprintable()
            and f': "{name}"' not in rows
        ):
            self.reads.add(name)


def judged(path: Path, splits: Splits, table: Mapping[str, Any]) -> tuple[float, str]:
    """How far lm-eval comes with these rows, and what is wrong; an empty text where nothing is."""
    try:
        side = LmEvalSide(path, splits)
    except (Exception, SystemExit) as cause:
        return _stage(cause), f"{type(cause).__name__}: {cause}"[:300]
    task = side.task
    docs = side.docs
    if len(docs) < FEWEST_ROWS:
        return 1.0 + len(docs) / 100, f"{len(docs)} rows are left by process_docs"
    good, problem = 0, ""
    contexts, golds, n_choices = set(), set(), 0
    for doc in docs:
        try:
            fault, context, gold, n_choices = _asked(task, doc)
        except (Exception, SystemExit) as cause:
            fault, context, gold = f"{type(cause).__name__}: {cause}"[:300], None, None
        problem = problem or fault
        good += not fault
        contexts.add(str(context))
        golds.update(gold if isinstance(gold, list) else [gold])
    score = 2.0 + good / len(docs)
    if not problem and len(contexts) < len(docs) / 2:
        return score + 0.1, "the contexts are the same"
    if (
        not problem
        and task.OUTPUT_TYPE == "multiple_choice"
        and len(golds) < n_choices
        and task.config.process_results is None
        and gold_varies(task.config.doc_to_target, path)
    ):
        return score + len(golds) / 10, f"gold is only at {sorted(map(str, golds))} of {n_choices}"
    return score + 1.0, problem


def gold_varies(doc_to_target: object, path: Path) -> bool:
    """Whether the right option may stand at any place, and not at one that the YAML or its code states for all rows."""
    stated = isinstance(doc_to_target, int) or (isinstance(doc_to_target, str) and doc_to_target.isdecimal())
    return not stated and not gold_is_fixed(path)


def _stage(cause: BaseException) -> float:
    return (
        0.5
        if isinstance(cause, (KeyError, AttributeError))
        else 0.6
        if isinstance(cause, (TypeError, IndexError))
        else 0.7
    )


def _asked(task: Any, doc: Mapping[str, Any]) -> tuple[str, Any, Any, int]:
    text, target = task.doc_to_text(doc), task.doc_to_target(doc)
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else None
    n = len(choices) if isinstance(choices, list) else 0
    if isinstance(text, int) and choices:
        if not 0 <= text < n:
            return "the number of the option is out of range", text, text, n
        return (
            ("" if isinstance(target, str) and target.strip() else "no text after the prompts"),
            str(choices),
            text,
            n,
        )
    if not isinstance(text, str) or not text.strip():
        return f"context is {text!r:.60}", text, None, n
    if task.OUTPUT_TYPE == "multiple_choice":
        if n < 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
            return f"choices are {choices!r:.80}", text, None, n
        if len({choice.strip() for choice in choices}) < n:
            return "two choices are equal", text, None, n
        if task.config.process_results is not None:
            task.process_results(doc, [(-1.0 - k, False) for k in range(n)])
            return "", text, 0, n
        gold = [
            choices.index(one) if isinstance(one, str) else one
            for one in (target if isinstance(target, list) else [target])
        ]
        if (
            not gold
            or len(gold) == n
            or not all(isinstance(one, numbers.Integral) and not isinstance(one, bool) and 0 <= one < n for one in gold)
        ):
            return f"gold is {target!r:.60}", text, None, n
        return "", text, gold, n
    if (
        isinstance(target, (int, float))
        and choices is not None
        and not isinstance(target, bool)
        and 0 <= int(target) < n
    ):
        target = choices[int(target)]
    first = target[0] if isinstance(target, list) and target else target
    if task.config.process_results is None and (not isinstance(first, (str, int, float)) or not str(first).strip()):
        return f"target is {target!r:.60}", text, None, n
    if task.config.process_results is not None:
        task.process_results(doc, [str(first)])
    return "", text, str(first), n


def schema_json(schema: Schema) -> str:
    return json.dumps([dict(schema.kinds), schema.n_options, schema.plain, schema.more], ensure_ascii=False)
