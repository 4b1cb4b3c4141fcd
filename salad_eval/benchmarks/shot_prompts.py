"""Few-shot examples as they stand before a question: which rows, how they are printed, and what of them is spoken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from salad_eval.benchmarks.data import Row, Table, lm_eval_seeds, processed, read_split
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.lettered import letter_of
from salad_eval.benchmarks.prompts import (
    Prompt,
    alternative_of,
    context_of,
    has_alternatives,
    question_of,
    recordings_of,
    with_options,
)  # fmt: skip
from salad_eval.benchmarks.reader import rows_of_samples
from salad_eval.benchmarks.recordings import NoRecording, of_shot
from salad_eval.benchmarks.row_values import Unusable, choices_of, gold_of, target_of, text_of
from salad_eval.benchmarks.shots import Picker, TooFewShots, picker
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError
from salad_eval.types import SpokenPart


def shot_maker(
    task: TaskSpec, split: str, raw: Table, table: Table, n_shots: int, spoken: bool, seed: int
) -> Callable[[Row], Callable[[], Prompt]]:
    """For each row, in their order, what makes its shots: rows of the few-shot split as lm-eval's sampler would draw them.

    ``raw`` and ``table`` are the rows that are asked, before and after ``process_docs``. Where that split is also the few-shot split and
    lm-eval would let a row be its own shot, one whose shots have it is a reject: its answer would stand in its prompt.
    """
    if n_shots == 0:
        return lambda row: lambda: Prompt("")
    pool = _shot_pool(task, split, raw, table, n_shots)
    alternatives = has_alternatives(task, table.rows, table.columns)
    recordings = recordings_of(task, pool.table) if spoken else lambda row: ()
    made: dict[int, Prompt] = {}
    pickers: dict[str | None, tuple[Picker, list[int]]] = {}

    def shot(place: int) -> Prompt:
        if place not in made:
            row, name = pool.table.rows[place], f"shot{place + 1}"
            try:
                ready = of_shot(recordings(row), name)
                shot_prompt = _shot(task, row, table.columns, name, spoken, alternatives)
                made[place] = replace(shot_prompt, recordings=ready)
            except (Unusable, NoRecording) as cause:
                problem = f"{cause.reason} {cause.detail}".rstrip()
                raise TaskError(
                    f"task {task.name}: row {place + 1} of {pool.name} cannot be a shot: {problem}."
                ) from None
        return made[place]

    def shots_of(row: Row) -> Callable[[], Prompt]:
        key = _shots_key(task, row, table.columns)
        if key not in pickers:
            places = [n for n, other in enumerate(pool.table.rows) if _shots_key(task, other, table.columns) == key]
            rows = [pool.table.rows[place] for place in places]
            pickers[key] = picker(task.shots.sampler, rows, n_shots, pool.without_self, seed), places
        pick, places = pickers[key]
        try:
            chosen = [places[n] for n in pick(row)]
        except TooFewShots as few:
            of = f" with {task.shots_by} {key!r:.80}" if task.shots_by else ""
            needs = f", and {few.needs} are drawn to leave out the row itself" if few.needs > n_shots else ""
            raise TaskError(
                f"task {task.name}: {n_shots} shots were asked for{needs}, but {pool.name} has {few.has} rows{of} for them."
            ) from None

        def prompt() -> Prompt:
            if pool.is_asked and any(pool.table.rows[place] == row for place in chosen):
                raise Unusable("item is one of its own shots", "as lm-eval's sampler draws them")
            return sum((shot(place) for place in chosen), Prompt(""))

        return prompt

    return shots_of


@dataclass(frozen=True, slots=True)
class _ShotPool:
    """The rows that shots are drawn from. ``is_asked``: they are the very rows that are asked."""

    table: Table
    name: str
    is_asked: bool
    without_self: bool


def _shot_pool(task: TaskSpec, split: str, raw: Table, table: Table, n_shots: int) -> _ShotPool:
    spec = task.shots
    if spec.samples is not None:
        samples = spec.samples
        if isinstance(samples, FunctionRef):
            samples = rows_of_samples(samples.resolve()(), f"task {task.name}")
        rows = Table(samples, frozenset(table.columns), "")
        return _ShotPool(rows, "fewshot_config.samples", False, spec.without_self)
    if spec.split is None:
        raise TaskError(f"task {task.name}: {n_shots} shots were asked for, and it names no fewshot_split.")
    is_asked = task.splits.get(split) == spec.split
    if is_asked and spec.process_docs == task.process_docs:
        rows = table
    else:
        read = raw if is_asked else read_split(task, spec.split, own_name=True)
        with lm_eval_seeds():
            rows = processed(task, read, spec.process_docs)
    return _ShotPool(
        table=rows,
        name=f"the few-shot split {spec.split!r}",
        is_asked=is_asked,
        without_self=spec.without_self,  # told of the row where lm-eval's is, so that it draws what lm-eval draws
    )


def _shots_key(task: TaskSpec, row: Row, columns: frozenset[str]) -> str | None:
    """What a row and its shots have in common; ``None`` where anything goes, or the row has no such value."""
    if task.shots_by is None:
        return None
    try:
        return text_of(task.shots_by, row, columns, "shots_by")
    except Unusable:
        return None


def _shot(task: TaskSpec, row: Row, columns: frozenset[str], name: str, spoken: bool, alternatives: bool) -> Prompt:
    spec = task.shots
    choices = choices_of(spec.doc_to_choice, row, columns)
    if alternatives:
        right = gold_of(context_of(task, spec.doc_to_text, row, columns), choices or ())
        question = asked = alternative_of(task, choices[right] if choices else "", "context", spoken=spoken)
        choices = None
    else:
        asked = question_of(task, row, columns, spec.doc_to_text, spoken=spoken or task.options != "none")
        question = with_options(task, asked, choices)
    named = (SpokenPart(f"{name}.{part.name}", part.start, part.end) for part in question.parts)
    parts = tuple(named) if spoken else ()
    gen_prefix = text_of(spec.gen_prefix, row, columns, "gen_prefix") if spec.gen_prefix else ""
    if spec.doc_to_target == "":  # lm-eval ends such a shot nowhere: the next question follows at once
        begins = spec.target_delimiter if gen_prefix and needs_delimiter(question.text, gen_prefix) else ""
        return Prompt(question.text, parts).said_by("user") + Prompt(begins) + Prompt(gen_prefix).said_by("assistant")
    target = target_of(spec.doc_to_target, row, columns, has_choices=task.doc_to_choice is not None)
    if choices and question.text != asked.text:
        answer = letter_of(gold_of(target[0] if isinstance(target, list) and target else target, choices))
    elif isinstance(target, int) and choices:
        answer = choices[gold_of(target, choices)]
    else:
        first = target[0] if isinstance(target, list) and target else target
        if choices and not isinstance(first, str):
            raise Unusable("gold is not one option", f"{target!r:.80}: lm-eval shows no such shot either")
        answer = str(first)
    if not answer:
        raise Unusable("empty answer")
    between = spec.target_delimiter if not gen_prefix or needs_delimiter(question.text, gen_prefix) else ""
    joint = " " if gen_prefix and not (gen_prefix[-1].isspace() or answer[0].isspace()) else ""
    said = Prompt(gen_prefix + joint + answer).said_by("assistant")
    return Prompt(question.text, parts).said_by("user") + Prompt(between) + said + Prompt(spec.fewshot_delimiter)


def needs_delimiter(prefix: str, suffix: str) -> bool:
    return prefix != "" and not (prefix[-1].isspace() or suffix[0].isspace())
