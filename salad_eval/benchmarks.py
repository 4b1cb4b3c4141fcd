"""Benchmarks: the rows of a task as items, with lm-eval's own context, options and gold, and the spans that are spoken.

Row by row the text equals what lm-eval 0.4.x builds from the same YAML, at 0 and at k shots; a row that cannot be an item
becomes a counted ``Reject`` and never a guess.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from salad_eval import resources
from salad_eval.errors import LeakError, TaskError, UnknownNameError, did_you_mean
from salad_eval.respond import check_leak
from salad_eval.task_yaml import (
    ChoiceSource,
    FunctionRef,
    MissingField,
    TargetSource,
    TaskSpec,
    TextSource,
    find_tasks,
    load_task,
    template,
)
from salad_eval.types import Item, Reject, Request, SpokenPart, TaskProtocol, TextSegment

__all__ = ["TaskSpec", "find_tasks", "load_items", "load_task", "packaged_dataset"]

STEP = "items"
_PACKAGED = "salad_eval.benchmarks.packaged_dataset"
Row = Mapping[str, Any]
Target = int | str | list[Any]


class _Unusable(Exception):
    """A row that cannot be an item; becomes a ``Reject`` with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Text and the spans of it that are spoken."""

    text: str
    parts: tuple[SpokenPart, ...] = ()

    def __add__(self, other: _Prompt) -> _Prompt:
        moved = (SpokenPart(part.name, part.start + len(self.text), part.end + len(self.text)) for part in other.parts)
        return _Prompt(self.text + other.text, (*self.parts, *moved))


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a split; ``revision`` identifies their content."""

    rows: Sequence[Row]
    columns: frozenset[str]
    revision: str


# --- items -----------------------------------------------------------------------------------------------------------


def load_items(
    task: TaskSpec,
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    spoken_shots: bool | None = None,
) -> tuple[list[Item], list[Reject], TaskProtocol]:
    """The items of a split in the order of its rows, the rows that cannot be items and why, and how the task is asked.

    ``limit`` takes that many items, spread evenly over the domains and drawn by ``seed``; a larger limit takes the same ones and more.
    ``shots`` and ``spoken_shots`` override the task's own. Ids are ``task:row id``, so that items of several tasks can stand in one
    run. Raises ``TaskError`` for data that cannot be read, shots that cannot be made, and where no row can be an item.
    """
    n_shots = task.num_fewshot if shots is None else shots
    speak_shots = task.spoken_shots if spoken_shots is None else spoken_shots
    table = _read_split(task, split)
    if table.rows:
        _check_columns(task, table.columns)
    shot_prompts = _shot_maker(task, split, table, n_shots, speak_shots)
    items: dict[str, Item] = {}
    rejects: list[Reject] = []
    for number, row in enumerate(table.rows):
        item_id = f"{task.name}:{split}:{number}"
        try:
            if task.id in table.columns or task.id != "id":
                item_id = f"{task.name}:{_text(task.id, row, table.columns, 'id')}"
            if item_id in items:
                raise _Unusable("duplicate id", f"row {number + 1} of the {split} split")
            items[item_id] = _item(task, split, item_id, row, table.columns, shot_prompts(row))
        except _Unusable as cause:
            rejects.append(Reject(item_id, STEP, cause.reason, cause.detail))
    if not items:
        reasons = ", ".join(sorted({reject.reason for reject in rejects})) or "the split is empty"
        raise TaskError(
            f"task {task.name}, split {split!r}: none of its {len(table.rows)} rows can be used ({reasons})."
        )
    chosen = _spread(list(items.values()), limit, seed)
    protocol = TaskProtocol(
        task=task.name,
        split=split,
        data_revision=table.revision,
        speak=task.speak,
        shots=n_shots,
        spoken_shots=n_shots > 0 and speak_shots,
        score=task.score,
        domain_field=task.domain.source,
        n_items=len(chosen),
    )
    return chosen, rejects, protocol


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


def _item(task: TaskSpec, split: str, item_id: str, row: Row, columns: frozenset[str], shots: _Prompt) -> Item:
    question = _question(task, row, columns)
    gen_prefix = _text(task.gen_prefix, row, columns, "gen_prefix") if task.gen_prefix else ""
    description = _text(task.description, row, columns, "description") if task.description else ""
    tail = (task.target_delimiter if gen_prefix and _needs_delimiter(question.text, gen_prefix) else "") + gen_prefix
    prompt = _Prompt(description) + shots + question + _Prompt(tail)
    choices = _choices(task.doc_to_choice, row, columns)
    target = _target(task.doc_to_target, row, columns, has_choices=choices is not None)
    gold, answers = _gold_and_answers(task, target, choices)
    _refuse_leak(item_id, prompt)
    group = f"{task.name}:{_text(task.group, row, columns, 'group')}" if task.group else item_id
    return Item(
        id=item_id,
        task=task.name,
        split=split,
        domain=_domain(task, row, columns),
        context=prompt.text,
        choices=choices or (),
        gold=gold,
        group=group,
        spoken_parts=prompt.parts,
        target_delimiter=task.target_delimiter,
        answers=answers,
        fields={name: _text(name, row, columns, f"slice {name}") for name in task.slices},
    )


def _question(task: TaskSpec, row: Row, columns: frozenset[str], source: TextSource | None = None) -> _Prompt:
    """A row's own part of the prompt, with the spans that are spoken."""
    text = _text(source or task.doc_to_text, row, columns, "doc_to_text")
    if task.doc_to_choice is not None and text.isdigit():
        raise _Unusable("context is a number", "lm-eval reads this as one context per option, which is not supported")
    if not text.strip():
        raise _Unusable("empty context")
    return _Prompt(text, _spoken_parts(task, row, text))


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


def _gold_and_answers(
    task: TaskSpec, target: Target, choices: tuple[str, ...] | None
) -> tuple[int | None, tuple[str, ...]]:
    """The index of the right option, and under ``generate_until`` the accepted strings."""
    if choices is None:
        answers = tuple(str(answer) for answer in target) if isinstance(target, list) else (str(target),)
        if not answers or not all(answer.strip() for answer in answers):
            raise _Unusable("empty answer")
        return None, answers
    gold = target[0] if isinstance(target, list) and len(target) == 1 else target
    if isinstance(gold, list):
        raise _Unusable("several golds", f"{gold!r:.80}")
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
    return gold, (choices[gold],) if task.output_type == "generate_until" else ()


def _domain(task: TaskSpec, row: Row, columns: frozenset[str]) -> str:
    value = _text(task.domain.source, row, columns, "domain").strip()
    if task.domain.names is None:
        if not value:
            raise _Unusable("empty domain")
        return value
    domain = task.domain.names.get(value, task.domain.default)
    if domain is None:
        raise _Unusable("domain not in the map", f"{value!r:.80}")
    return domain


# --- shots -----------------------------------------------------------------------------------------------------------


def _shot_maker(task: TaskSpec, split: str, table: _Table, n_shots: int, spoken: bool) -> Callable[[Row], _Prompt]:
    """For each row its shots: the first rows of the few-shot split, without the row itself where it is one of them.

    Every item has the same shots (but for those few), so that a model computes them once; lm-eval's sampler ``first_n`` does the same.
    """
    if n_shots == 0:
        return lambda row: _Prompt("")
    if task.shots.sampler != "first_n":
        raise TaskError(
            f"task {task.name}: {n_shots} shots were asked for, and fewshot_config.sampler is {task.shots.sampler!r}. "
            "Set fewshot_config: {sampler: first_n}, so that every item has the same shots and lm-eval has them too."
        )
    if task.shots.samples is not None:
        pool, columns, where = list(task.shots.samples), frozenset(table.columns), "fewshot_config.samples"
        shared = False
    else:
        source = task.shots.split
        if source is None:
            raise TaskError(f"task {task.name}: {n_shots} shots were asked for, and it names no fewshot_split.")
        shared = task.splits.get(split) == source
        shot_table = table if shared else _read_split(task, source, own_name=True)
        pool, columns, where = list(shot_table.rows), shot_table.columns, f"the few-shot split {source!r}"
    made: dict[int, _Prompt] = {}

    def shot(index: int) -> _Prompt:
        if index not in made:
            try:
                made[index] = _shot(task, pool[index], columns, f"shot{index + 1}", spoken)
            except _Unusable as cause:
                raise TaskError(
                    f"task {task.name}: row {index + 1} of {where} cannot be a shot: {cause.reason} {cause.detail}".rstrip()
                    + "."
                ) from None
        return made[index]

    def prompts(row: Row) -> _Prompt:
        chosen = (index for index, other in enumerate(pool) if not (shared and other == row))
        indices = [index for index, _ in zip(chosen, range(n_shots), strict=False)]
        if len(indices) < n_shots:
            raise TaskError(
                f"task {task.name}: {n_shots} shots were asked for, but {where} has {len(indices)} rows for them."
            )
        return sum((shot(index) for index in indices), _Prompt(""))

    return prompts


def _shot(task: TaskSpec, row: Row, columns: frozenset[str], name: str, spoken: bool) -> _Prompt:
    spec = task.shots
    question = _question(task, row, columns, spec.doc_to_text)
    parts = tuple(SpokenPart(f"{name}.{part.name}", part.start, part.end) for part in question.parts) if spoken else ()
    gen_prefix = _text(spec.gen_prefix, row, columns, "gen_prefix") if spec.gen_prefix else ""
    choices = _choices(spec.doc_to_choice, row, columns)
    target = _target(spec.doc_to_target, row, columns, has_choices=task.doc_to_choice is not None)
    if isinstance(target, int) and choices:
        gold, _ = _gold_and_answers(task, target, choices)
        answer = choices[gold or 0]
    else:
        answer = str(target[0] if isinstance(target, list) and target else target)
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
        "metadata.salad.group": task.group, "metadata.salad.id": None if task.id == "id" else task.id,
        **{f"metadata.salad.slices ({name})": name for name in task.slices},
    }  # fmt: skip
    for key, source in named.items():
        if isinstance(source, str) and source not in columns and "{" not in source and not source.startswith("["):
            raise TaskError(
                f"{task.path}: {key} is {source!r}, which is neither a column of the data{did_you_mean(source, columns)} nor a template. "
                f"Columns: {', '.join(sorted(columns))}."
            )


# --- data ------------------------------------------------------------------------------------------------------------


def packaged_dataset(*, data_files: Mapping[str, str], **_: object) -> dict[str, Any]:
    """For lm-eval (``custom_dataset: !function salad_eval.benchmarks.packaged_dataset``): JSONL files of this package as a dataset.

    With it a packaged task works from any working directory; lm-eval's own ``data_files`` are relative to that.
    """
    import datasets

    return {split: datasets.Dataset.from_json(str(resources.tasks_dir() / file)) for split, file in data_files.items()}


def _read_split(task: TaskSpec, split: str, *, own_name: bool = False) -> _Table:
    """The rows of a split by the plan's name for it, or (``own_name``) by the data's."""
    if not own_name and split not in task.splits:
        raise UnknownNameError(f"split of task {task.name}", split, task.splits)
    source = split if own_name else task.splits[split]
    packaged = task.custom_dataset is not None and task.custom_dataset.name == _PACKAGED
    if packaged or (task.dataset_path == "json" and task.dataset_name is None and task.custom_dataset is None):
        files = _data_files(task, source)
        if all("://" not in file for file in files):
            return _read_json([_local(task, file) for file in files])
    return _read_dataset(task, source)


def _data_files(task: TaskSpec, split: str) -> list[str]:
    files = task.dataset_kwargs.get("data_files")
    if isinstance(files, (str, list)):
        files = {"train": files}  # what the datasets library calls files without a split
    if not isinstance(files, dict) or not files:
        raise TaskError(
            f"{task.path}: dataset_path is 'json', and dataset_kwargs.data_files is {files!r:.80}; expected files by split."
        )
    if split not in files:
        raise TaskError(
            f"{task.path}: dataset_kwargs.data_files has no split {split!r}; it has {', '.join(map(str, files))}."
        )
    chosen = files[split] if isinstance(files[split], list) else [files[split]]
    if not chosen or not all(isinstance(file, str) for file in chosen):
        raise TaskError(
            f"{task.path}: dataset_kwargs.data_files.{split} is {files[split]!r:.80}; expected a path or a list of them."
        )
    return chosen


def _local(task: TaskSpec, file: str) -> Path:
    """A data file: as an absolute path, beside the YAML, or under the package's tasks."""
    candidates = [task.path.parent / file, resources.tasks_dir() / file]
    for path in candidates:
        if path.is_file():
            return path
    raise TaskError(
        f"{task.path}: the data file {file!r} is missing (looked at {' and '.join(map(str, dict.fromkeys(candidates)))})."
    )


def _read_json(paths: Sequence[Path]) -> _Table:
    digest = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as cause:
            raise TaskError(f"cannot read {path}: {cause.strerror or cause}.") from None
        digest.update(data)
        rows.extend(_json_rows(path, data))
    columns = dict.fromkeys(column for row in rows for column in row)
    # As in a table: every row has every column, null where it had no value.
    return _Table(
        [{**dict.fromkeys(columns), **row} for row in rows], frozenset(columns), f"sha256:{digest.hexdigest()[:12]}"
    )


def _json_rows(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, or of a JSON file that holds one list of them."""
    if data.lstrip()[:1] == b"[":
        for number, row in enumerate(_parsed(data, str(path)), start=1):
            yield _row(row, f"{path}, row {number}")
        return
    # Split at newlines only: JSON texts may hold other characters that str.splitlines would split at.
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _row(_parsed(line, where), where)


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as cause:  # not JSON, or not UTF-8
        raise TaskError(f"{where}: is not JSON: {cause}.") from None


def _row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TaskError(f"{where}: a row is an object of columns, this is {row!r:.60}.")
    return row


def _read_dataset(task: TaskSpec, split: str) -> _Table:
    """A split through the datasets library: a hub id, a folder, or a loader such as ``parquet`` with ``data_files``."""
    import datasets

    kwargs = dict(task.dataset_kwargs)
    kwargs.pop("trust_remote_code", None)  # as lm-eval does; code that a dataset brings along is never run
    if "data_files" in kwargs:
        kwargs["data_files"] = _absolute(task, kwargs["data_files"])
    beside = task.path.parent / task.dataset_path
    path = str(beside) if task.dataset_path and beside.is_dir() else task.dataset_path
    if task.revision is not None and not Path(path).exists():
        kwargs.setdefault("revision", task.revision)
    try:
        if task.custom_dataset is not None:
            found = task.custom_dataset.resolve()(**task.metadata, **kwargs)
        else:
            found = datasets.load_dataset(path, task.dataset_name, **kwargs)
    except TaskError:
        raise
    except Exception as cause:
        name = f"{path} ({task.dataset_name})" if task.dataset_name else path
        raise TaskError(
            f"task {task.name}: its data {name!r} cannot be loaded: {type(cause).__name__}: {cause}. Check the id and the network, or give "
            "a local folder or JSONL files."
        ) from None
    if split not in found:
        raise TaskError(f"task {task.name}: its data has no split {split!r}; it has {', '.join(map(str, found))}.")
    data = found[split]
    revision = task.revision or f"fingerprint:{getattr(data, '_fingerprint', '?')}"
    return _Table(list(data), frozenset(data.column_names), revision)


def _absolute(task: TaskSpec, files: Any) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(task, value) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(task, value) for value in files]
    return str(files) if "://" in str(files) else str(_local(task, str(files)))
