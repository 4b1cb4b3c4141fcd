"""Benchmarks: the rows of a task as items, with lm-eval's own context, options and gold, and the spans that are spoken.

Row by row the text equals what lm-eval 0.4.x builds from the same YAML, at 0 and at k shots; a row that cannot be an item
becomes a counted ``Reject`` and never a guess.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import jinja2
import numpy as np

from salad_eval import resources
from salad_eval.benchmarks.data import Row, Table, processed, read_split
from salad_eval.benchmarks.lettered import letter_of, list_options
from salad_eval.benchmarks.reader import (
    ChoiceSource,
    DomainRule,
    FunctionRef,
    MissingField,
    TargetSource,
    TaskSpec,
    TextSource,
    find_tasks,
    lm_eval_tasks_dir,
    load_task,
    load_tasks,
    rows_of_samples,
    task_function,
    template,
)
from salad_eval.benchmarks.recordings import NoRecording, RecordingFinder, arranged, joined, of_shot
from salad_eval.benchmarks.shots import LM_EVAL_SEED, Picker, TooFewShots, picker
from salad_eval.benchmarks.spoken_spans import Span, option_columns, printed_spans
from salad_eval.errors import LeakError, TaskError, did_you_mean
from salad_eval.pipeline.respond import check_leak
from salad_eval.types import Item, Recording, Reject, Request, SpokenPart, TaskProtocol, TextSegment

__all__ = ["TaskSpec", "find_tasks", "load_items", "load_task", "load_tasks", "packaged_dataset"]

STEP = "items"
Target = int | str | list[Any]


class _Unusable(Exception):
    """A row that cannot be an item; becomes a ``Reject`` with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Text, the spans of it that are spoken, and their ready sound where there is any."""

    text: str
    parts: tuple[SpokenPart, ...] = ()
    recordings: tuple[Recording, ...] = ()

    def __add__(self, other: _Prompt) -> _Prompt:
        moved = (SpokenPart(part.name, part.start + len(self.text), part.end + len(self.text)) for part in other.parts)
        return _Prompt(self.text + other.text, (*self.parts, *moved), self.recordings + other.recordings)


# --- items -----------------------------------------------------------------------------------------------------------


def load_items(
    task: TaskSpec,
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    spoken_shots: bool | None = None,
    shots_seed: int = LM_EVAL_SEED,
) -> tuple[list[Item], list[Reject], TaskProtocol]:
    """The items of a split in the order of its rows, the rows that cannot be items and why, and how the task is asked.

    ``limit`` takes that many items, spread evenly over the domains and drawn by ``seed``; a larger limit takes the same ones and more.
    ``shots`` and ``spoken_shots`` override the task's own; ``shots_seed`` draws shots where they are drawn at random. Ids are
    ``task:row id``, so that items of several tasks can stand in one run. Raises ``TaskError`` for data that cannot be read, shots that
    cannot be made, and where no row can be an item.
    """
    n_shots = task.num_fewshot if shots is None else shots
    speak_shots = task.spoken_shots if spoken_shots is None else spoken_shots
    raw = read_split(task, split)
    table = processed(task, raw, task.process_docs)
    if table.rows:
        _check_columns(task, table.columns)
    task = _with_domain(task, table)
    shot_prompts = _shot_maker(task, split, raw, table, n_shots, speak_shots, shots_seed)
    recordings = _recordings_of(task, table)
    items: dict[str, Item] = {}
    rejects: list[Reject] = []
    for number, row in enumerate(table.rows):
        item_id = f"{task.name}:{split}:{number}"
        shots_of_row = shot_prompts(row)  # of rejected rows too: what is drawn for one row depends on those before it
        try:
            if task.id is not None and (task.id in table.columns or task.id != "id"):
                item_id = f"{task.name}:{_text(task.id, row, table.columns, 'id')}"
            if item_id in items and not task.audio:
                raise _Unusable("duplicate id", f"row {number + 1} of the {split} split")
            made = _item(task, split, item_id, row, table.columns, shots_of_row(), recordings(row))
            items[item_id] = _with_speaker(items[item_id], made, number, split) if item_id in items else made
        except (_Unusable, NoRecording) as cause:
            rejects.append(Reject(item_id, STEP, cause.reason, cause.detail))
    if not items:
        reasons = ", ".join(sorted({reject.reason for reject in rejects})) or "the split is empty"
        reasons += f"; first: {rejects[0].detail}" if rejects and rejects[0].detail else ""
        raise TaskError(
            f"task {task.name}, split {split!r}: none of its {len(table.rows)} rows can be used ({reasons})."
        )
    chosen = _spread(list(items.values()), limit, seed)
    protocol = TaskProtocol(
        task=task.name,
        split=split,
        data_revision=table.revision + _of_lm_eval(task),
        speak=task.speak,
        shots=n_shots,
        spoken_shots=n_shots > 0 and speak_shots,
        score=task.score,
        domain_field=task.domain.source or "task",
        n_items=len(chosen),
        options=task.options,
    )
    return chosen, rejects, protocol


def _of_lm_eval(task: TaskSpec) -> str:
    """Of whose prompts and code the items are made, where they are not the task's own file alone."""
    installed = lm_eval_tasks_dir()
    if installed is None or not task.path.is_relative_to(installed):
        return ""
    return f" asked as in lm-eval {version('lm_eval')}"


def _spread(items: list[Item], limit: int | None, seed: int) -> list[Item]:
    """At most ``limit`` items, the same number of each domain as far as they go, in their own order."""
    if limit is None or limit >= len(items):
        return items
    by_domain: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_domain[item.domain].append(index)
    ranks: list[tuple[int, int, int]] = []
    for place, (_, members) in enumerate(sorted(by_domain.items())):
        order = np.random.default_rng([seed, place]).permutation(len(members))
        ranks += [(rank, place, members[k]) for rank, k in enumerate(order)]
    return [items[index] for index in sorted(index for _, _, index in sorted(ranks)[:limit])]


def _recordings_of(task: TaskSpec, table: Table) -> Callable[[Row], tuple[Recording, ...]]:
    """What finds the ready sound of a row; where the task has none, it finds nothing."""
    if not task.audio:
        return lambda row: ()
    folders = [folder for folder in (table.folder, task.data_dir, task.path.parent) if folder is not None]
    finder = RecordingFinder(task.audio, table.columns, list(dict.fromkeys(folders)), str(task.path))
    return lambda row: finder.find(row, tuple(task.spoken))


def _with_speaker(item: Item, other: Item, number: int, split: str) -> Item:
    """An item with the recording of another row of it: the same question by another speaker."""
    both = joined(item, other)
    if both is None:
        detail = f"row {number + 1} of the {split} split: another text, or a voice that the item has already"
        raise _Unusable("duplicate id", detail)
    return both


def _item(
    task: TaskSpec,
    split: str,
    item_id: str,
    row: Row,
    columns: frozenset[str],
    shots: _Prompt,
    recordings: tuple[Recording, ...] = (),
) -> Item:
    choices = _choices(task.doc_to_choice, row, columns)
    question = _with_options(task, _question(task, row, columns), choices)
    gen_prefix = _text(task.gen_prefix, row, columns, "gen_prefix") if task.gen_prefix else ""
    description = _text(task.description, row, columns, "description") if task.description else ""
    tail = (task.target_delimiter if gen_prefix and _needs_delimiter(question.text, gen_prefix) else "") + gen_prefix
    prompt = _Prompt(description) + shots + question + _Prompt(tail)
    target = _target(task.doc_to_target, row, columns, has_choices=choices is not None)
    golds, answers = _golds_and_answers(task, target, choices)
    _refuse_leak(item_id, prompt)
    group = f"{task.name}:{_text(task.group, row, columns, 'group')}" if task.group else item_id
    return Item(
        id=item_id,
        task=task.name,
        split=split,
        domain=_domain(task, row, columns),
        context=prompt.text,
        choices=choices or (),
        gold=golds[0] if golds else None,
        also_gold=golds[1:],
        group=group,
        spoken_parts=prompt.parts,
        target_delimiter=task.target_delimiter,
        answers=answers,
        fields={name: _slice(task, name, row, columns) for name in task.slices},
        recordings=arranged((*prompt.recordings, *recordings), [part.name for part in prompt.parts]),
    )


def _question(
    task: TaskSpec, row: Row, columns: frozenset[str], source: TextSource | None = None, *, spoken: bool = True
) -> _Prompt:
    """A row's own part of the prompt, with the spans that are ``spoken``."""
    source = source or task.doc_to_text
    text = _context(task, source, row, columns)
    if not text.strip():
        raise _Unusable("empty context")
    if not spoken:
        return _Prompt(text)
    if task.spoken_printed and isinstance(source, str) and source not in columns:
        return _Prompt(text, _printed_parts(task, source, row, text))
    return _Prompt(text, _spoken_parts(task, row, text))


def _with_options(task: TaskSpec, question: _Prompt, choices: tuple[str, ...] | None) -> _Prompt:
    """The question with its options listed, and spoken where options are, if the task is to list them and does not itself."""
    if task.options == "none" or not choices:
        return question
    try:
        listed = list_options(question.text, max((part.end for part in question.parts), default=0), choices)
    except ValueError as cause:
        raise _Unusable("more options than letters", str(cause)) from None
    if task.speak != "context+choices":
        return replace(question, text=listed.text) if listed else question
    if listed is None:
        raise _Unusable("options are listed in writing", "the task does not say which part of its prompt lists them")
    return replace(question, text=listed.text, parts=(*question.parts, SpokenPart("choices", listed.start, listed.end)))


def _context(task: TaskSpec, source: TextSource, row: Row, columns: frozenset[str]) -> str:
    """What ``doc_to_text`` makes of a row; a number would be lm-eval's sign for one context per option."""
    value: Any
    if isinstance(source, FunctionRef):
        value = _call(source, row, "doc_to_text")
    elif source in columns:
        value = _field(row, source)
    else:
        value = _render(source, row, "doc_to_text")
        if value.isdigit() and task.doc_to_choice is not None:
            value = int(value)
    if isinstance(value, int):
        raise _Unusable("context is a number", "lm-eval reads this as one context per option, which is not supported")
    if not isinstance(value, str):
        raise _Unusable("doc_to_text is not text", f"{value!r:.80}")
    return value


def _printed_parts(task: TaskSpec, source: str, row: Row, text: str) -> tuple[SpokenPart, ...]:
    """What a template prints of the row, part by part: ``context``, ``context2``, …, and the options it lists as ``choice1``, …"""
    spans = printed_spans(source, row, option_columns(task.doc_to_choice))
    if spans is None:  # the template works on what it has printed: its words cannot be told from the row's
        spans = [Span(len(text) - len(text.lstrip()), len(text.rstrip()), "context")]
    chosen = [span for span in spans if span.kind in task.spoken_printed]
    if not any(span.kind == "context" for span in chosen):
        raise _Unusable("empty spoken text", "the template prints nothing of the row but options")
    counts: Counter[str] = Counter()
    parts = []
    for span in chosen:
        counts[span.kind] += 1
        number = counts[span.kind]
        name = f"choice{number}" if span.kind == "choices" else f"context{number}" if number > 1 else "context"
        parts.append(SpokenPart(name, span.start, span.end))
    return tuple(parts)


def _spoken_parts(task: TaskSpec, row: Row, text: str) -> tuple[SpokenPart, ...]:
    parts = []
    for name, source in task.spoken.items():
        spoken = (text if source is None else _render(source, row, f"spoken_text ({name})")).strip()
        if not spoken:
            raise _Unusable("empty spoken text", name)
        found = text.count(spoken)
        if found != 1:
            reason = (
                "spoken text not found in the context"
                if found == 0
                else "spoken text found more than once in the context"
            )
            raise _Unusable(reason, f"{name}: {spoken!r:.80}")
        start = text.index(spoken)
        parts.append(SpokenPart(name, start, start + len(spoken)))
    parts.sort(key=lambda part: part.start)
    for left, right in itertools.pairwise(parts):
        if right.start < left.end:
            raise _Unusable("spoken parts overlap", f"{left.name} and {right.name}")
    return tuple(parts)


def _refuse_leak(item_id: str, prompt: _Prompt) -> None:
    """A prompt that also writes out what it speaks (a shot about the same passage, say) would measure reading."""
    ordered = sorted(prompt.parts, key=lambda part: part.start)
    edges = [0, *(edge for part in ordered for edge in (part.start, part.end)), len(prompt.text)]
    written = tuple(TextSegment(prompt.text[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)
    try:
        check_leak(Request(item_id, written), {part.name: (prompt.text[part.start : part.end],) for part in ordered})
    except LeakError as cause:
        raise _Unusable("spoken text is also written in the prompt", str(cause)) from None


def _golds_and_answers(
    task: TaskSpec, target: Target, choices: tuple[str, ...] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The indices of the right options, and under ``generate_until`` the accepted strings."""
    targets = target if isinstance(target, list) else [target]
    if choices is None:
        answers = tuple(str(answer) for answer in targets)
        if not answers or not all(answer.strip() for answer in answers):
            raise _Unusable("empty answer")
        return (), answers
    if not targets:
        raise _Unusable("no gold", "the target is an empty list")
    golds = tuple(dict.fromkeys(_gold(one, choices) for one in targets))
    return golds, tuple(choices[gold] for gold in golds) if task.output_type == "generate_until" else ()


def _gold(gold: Any, choices: tuple[str, ...]) -> int:
    if isinstance(gold, str):
        if gold not in choices:
            reason = (
                "gold out of range" if gold.strip().lstrip("-").isdigit() else "gold is neither a number nor an option"
            )
            raise _Unusable(reason, f"{gold!r:.80}")
        gold = choices.index(gold)
    if not isinstance(gold, int) or isinstance(gold, bool):
        raise _Unusable("gold is neither a number nor an option", f"{gold!r:.80}")
    if not 0 <= gold < len(choices):
        raise _Unusable("gold out of range", f"{gold}, with {len(choices)} options")
    return gold


# Columns by which the rows of a task that names no domain may be told apart.
_DOMAIN_COLUMNS = ("subject", "category", "domain", "activity_label")


def _with_domain(task: TaskSpec, table: Table) -> TaskSpec:
    """The task with a column as its domain, where it names none and a usual one says something of every row."""
    if task.domain.source is not None:
        return task
    for column in _DOMAIN_COLUMNS:
        values = [row.get(column) for row in table.rows]
        if values and all(isinstance(value, str) and value.strip() for value in values):
            return replace(task, domain=DomainRule(column))
    return task


def _domain(task: TaskSpec, row: Row, columns: frozenset[str]) -> str:
    rule = task.domain
    return task.name if rule.source is None else _by_rule(rule, rule.source, row, columns, "domain")


def _slice(task: TaskSpec, name: str, row: Row, columns: frozenset[str]) -> str:
    rule, what = task.slice_rules.get(name), f"slice {name}"
    return _text(name, row, columns, what) if rule is None else _by_rule(rule, rule.source or name, row, columns, what)


def _by_rule(rule: DomainRule, source: str, row: Row, columns: frozenset[str], what: str) -> str:
    value = _text(source, row, columns, what).strip()
    if rule.topics is not None:
        nearest = rule.topics.nearest(value) or rule.default
        if nearest is None:
            raise _Unusable("no topic shares a word with it", f"{value!r:.80}")
        return nearest
    if rule.names is None:
        if not value:
            raise _Unusable(f"empty {what}")
        return value
    named = rule.names.get(value, rule.default)
    if named is None:
        raise _Unusable(f"{what} not in the map", f"{value!r:.80}")
    return named


# --- shots -----------------------------------------------------------------------------------------------------------


def _shot_maker(
    task: TaskSpec, split: str, raw: Table, table: Table, n_shots: int, spoken: bool, seed: int
) -> Callable[[Row], Callable[[], _Prompt]]:
    """For each row, in their order, what makes its shots: rows of the few-shot split as lm-eval's sampler would draw them.

    ``raw`` and ``table`` are the rows that are asked, before and after ``process_docs``. Where that split is also the few-shot split and
    lm-eval would let a row be its own shot, the first rows leave it out, and a random draw that has it makes it a reject.
    """
    if n_shots == 0:
        return lambda row: lambda: _Prompt("")
    pool = _shot_pool(task, split, raw, table, n_shots)
    recordings = _recordings_of(task, pool.table) if spoken else lambda row: ()
    made: dict[int, _Prompt] = {}
    pickers: dict[str | None, tuple[Picker, list[int]]] = {}

    def shot(place: int) -> _Prompt:
        if place not in made:
            row, name = pool.table.rows[place], f"shot{place + 1}"
            try:
                ready = of_shot(recordings(row), name)
                made[place] = replace(_shot(task, row, table.columns, name, spoken), recordings=ready)
            except (_Unusable, NoRecording) as cause:
                problem = f"{cause.reason} {cause.detail}".rstrip()
                raise TaskError(
                    f"task {task.name}: row {place + 1} of {pool.name} cannot be a shot: {problem}."
                ) from None
        return made[place]

    def shots_of(row: Row) -> Callable[[], _Prompt]:
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

        def prompt() -> _Prompt:
            if pool.is_asked and any(pool.table.rows[place] == row for place in chosen):
                raise _Unusable("item is one of its own shots", "as lm-eval's sampler draws them")
            return sum((shot(place) for place in chosen), _Prompt(""))

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
        rows = processed(task, raw if is_asked else read_split(task, spec.split, own_name=True), spec.process_docs)
    return _ShotPool(
        table=rows,
        name=f"the few-shot split {spec.split!r}",
        is_asked=is_asked,
        # Its random sampler is told of the row where lm-eval tells it, so that it draws what lm-eval draws.
        without_self=spec.without_self or (is_asked and spec.sampler == "first_n"),
    )


def _shots_key(task: TaskSpec, row: Row, columns: frozenset[str]) -> str | None:
    """What a row and its shots have in common; ``None`` where anything goes, or the row has no such value."""
    if task.shots_by is None:
        return None
    try:
        return _text(task.shots_by, row, columns, "shots_by")
    except _Unusable:
        return None


def _shot(task: TaskSpec, row: Row, columns: frozenset[str], name: str, spoken: bool) -> _Prompt:
    spec = task.shots
    choices = _choices(spec.doc_to_choice, row, columns)
    asked = _question(task, row, columns, spec.doc_to_text, spoken=spoken or task.options != "none")
    question = _with_options(task, asked, choices)
    named = (SpokenPart(f"{name}.{part.name}", part.start, part.end) for part in question.parts)
    parts = tuple(named) if spoken else ()
    gen_prefix = _text(spec.gen_prefix, row, columns, "gen_prefix") if spec.gen_prefix else ""
    target = _target(spec.doc_to_target, row, columns, has_choices=task.doc_to_choice is not None)
    if choices and question.text != asked.text:
        answer = letter_of(_gold(target[0] if isinstance(target, list) and target else target, choices))
    elif isinstance(target, int) and choices:
        answer = choices[_gold(target, choices)]
    else:
        first = target[0] if isinstance(target, list) and target else target
        if choices and not isinstance(first, str):
            raise _Unusable("gold is not one option", f"{target!r:.80}: lm-eval shows no such shot either")
        answer = str(first)
    if not answer:
        raise _Unusable("empty answer")
    between = spec.target_delimiter if not gen_prefix or _needs_delimiter(question.text, gen_prefix) else ""
    joint = " " if gen_prefix and not (gen_prefix[-1].isspace() or answer[0].isspace()) else ""
    return _Prompt(question.text, parts) + _Prompt(between + gen_prefix + joint + answer + spec.fewshot_delimiter)


def _needs_delimiter(prefix: str, suffix: str) -> bool:
    return prefix != "" and not (prefix[-1].isspace() or suffix[0].isspace())


# --- a row's values, by lm-eval's rules ------------------------------------------------------------------------------


def _text(source: TextSource, row: Row, columns: frozenset[str], what: str) -> str:
    """A field where ``source`` names a column, else the rendered template."""
    if isinstance(source, FunctionRef):
        value = _call(source, row, what)
    elif source in columns:
        value = _field(row, source)
    else:
        return _render(source, row, what)
    if isinstance(value, (list, dict)):
        raise _Unusable(f"{what} is not text", f"{value!r:.80}")
    return str(value)


def _choices(source: ChoiceSource, row: Row, columns: frozenset[str]) -> tuple[str, ...] | None:
    """The options; ``None`` for a task without any."""
    value: Any
    if source is None:
        return None
    if isinstance(source, tuple):
        value = list(source)
    elif isinstance(source, FunctionRef):
        value = _call(source, row, "doc_to_choice")
    elif source in columns:
        value = _field(row, source)
    else:
        rendered = _render(source, row, "doc_to_choice")
        try:
            value = ast.literal_eval(rendered)
        except (ValueError, SyntaxError):
            raise _Unusable("choices are not a list", f"{rendered!r:.80}") from None
    if not isinstance(value, (list, tuple)):
        raise _Unusable("choices are not a list", f"{value!r:.80}")
    for choice in value:
        if not isinstance(choice, str):
            raise _Unusable("a choice is not text", f"{choice!r:.80}")
        if not choice.strip():
            raise _Unusable("empty choice")
    if len(value) < 2:
        raise _Unusable("fewer than two choices", f"{value!r:.80}")
    return tuple(value)


def _target(source: TargetSource, row: Row, columns: frozenset[str], *, has_choices: bool) -> Target:
    """lm-eval's doc_to_target: a column's value as it is; a rendered template as a number, a list or a text."""
    value: Any
    if isinstance(source, int):
        return source
    if isinstance(source, tuple):
        return list(source)
    if isinstance(source, FunctionRef):
        value = _call(source, row, "doc_to_target")
    elif source in columns:
        value = _field(row, source)
    else:
        text = _render(source, row, "doc_to_target")
        if text.isdigit() and has_choices:
            return int(text)
        if len(text) >= 2 and text[0] == "[" and text[-1] == "]":
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                return text
        else:
            return text
    if isinstance(value, (int, str, list)) and not isinstance(value, bool):
        return value
    raise _Unusable("gold is neither a number nor an option", f"{value!r:.80}")


def _field(row: Row, name: str) -> Any:
    if row.get(name) is None:
        raise _Unusable("missing field", name)
    return row[name]


def _render(source: str, row: Row, what: str) -> str:
    try:
        return template(source).render(**row)
    except (jinja2.UndefinedError, MissingField) as cause:
        raise _Unusable("missing field", f"{what}: {cause}") from None
    except Exception as cause:  # a template may fail in any way a row makes it (an index, a type, the sandbox)
        raise _Unusable("template failed", f"{what}: {type(cause).__name__}: {cause}") from None


def _call(function: FunctionRef, row: Row, what: str) -> Any:
    try:
        return function.resolve()(dict(row))
    except TaskError:
        raise
    except Exception as cause:
        raise _Unusable("function failed", f"{what}: {function.name}: {type(cause).__name__}: {cause}") from None


def _check_columns(task: TaskSpec, columns: frozenset[str]) -> None:
    """A name that is no column would be taken for a template of plain text, the same for every row: refuse it."""
    named: dict[str, object] = {
        "doc_to_text": task.doc_to_text, "doc_to_choice": task.doc_to_choice, "metadata.salad.domain": task.domain.source,
        "metadata.salad.group": task.group, "metadata.salad.shots_by": task.shots_by,
        "metadata.salad.id": None if task.id == "id" else task.id,
        **{
            f"metadata.salad.slices ({name})": task.slice_rules[name].source if name in task.slice_rules else name
            for name in task.slices
        },
    }  # fmt: skip
    for key, source in named.items():
        if isinstance(source, str) and source not in columns and "{" not in source and not source.startswith("["):
            raise TaskError(
                f"{task.path}: {key} is {source!r}, which is neither a column of the data{did_you_mean(source, columns)} nor a template. "
                f"Columns: {', '.join(sorted(columns))}."
            )


# --- data ------------------------------------------------------------------------------------------------------------


@task_function()
def packaged_dataset(*, data_files: Mapping[str, str], **_: object) -> dict[str, Any]:
    """For lm-eval (``custom_dataset: !function salad_eval.benchmarks.packaged_dataset``): JSONL files of this package as a dataset.

    With it a packaged task works from any working directory; lm-eval's own ``data_files`` are relative to that.
    """
    import datasets

    root = resources.tasks_dir().resolve()
    files = {split: (root / file).resolve() for split, file in data_files.items()}
    for split, path in files.items():
        if not path.is_relative_to(root):
            raise TaskError(
                f"packaged_dataset: data_files.{split} is {data_files[split]!r}, which is no file of this package."
            )
    return {split: datasets.Dataset.from_json(str(path)) for split, path in files.items()}
