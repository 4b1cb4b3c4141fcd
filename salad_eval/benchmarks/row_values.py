"""What a task's templates give for one row: text, options, gold. A row that cannot be an item is ``Unusable``, with the reason."""

from __future__ import annotations

import ast
import numbers
from typing import Any

import jinja2

from salad_eval.benchmarks.data import Row
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.spec import ChoiceSource, TargetSource, TaskSpec
from salad_eval.benchmarks.templates import MissingField, template
from salad_eval.errors import TaskError, did_you_mean

Target = int | str | list[Any]


_CALLS = 3  # of a function, to see whether it draws; one that draws of two options is overlooked once in four times


class Unusable(Exception):
    """A row that cannot be an item; becomes a ``Reject`` with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def golds_and_answers(
    task: TaskSpec, target: Target, choices: tuple[str, ...] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The indices of the right options, and under ``generate_until`` the accepted strings."""
    targets = target if isinstance(target, list) else [target]
    if choices is None:
        answers = tuple(str(answer) for answer in targets)
        if not answers or not all(answer.strip() for answer in answers):
            raise Unusable("empty answer")
        return (), answers
    if not targets:
        raise Unusable("no gold", "the target is an empty list")
    golds = tuple(dict.fromkeys(gold_of(one, choices) for one in targets))
    return golds, tuple(choices[gold] for gold in golds) if task.output_type == "generate_until" else ()


def gold_of(gold: Any, choices: tuple[str, ...]) -> int:
    if isinstance(gold, str):
        if gold not in choices:
            reason = (
                "gold out of range"
                if gold.strip().lstrip("-").isdecimal()
                else "gold is neither a number nor an option"
            )
            raise Unusable(reason, f"{gold!r:.80}")
        gold = choices.index(gold)
    if not isinstance(gold, int) or isinstance(gold, bool):
        raise Unusable("gold is neither a number nor an option", f"{gold!r:.80}")
    if not 0 <= gold < len(choices):
        raise Unusable("gold out of range", f"{gold}, with {len(choices)} options")
    return gold


def text_of(source: str | FunctionRef, row: Row, columns: frozenset[str], what: str) -> str:
    """A field where ``source`` names a column, else the rendered template."""
    if isinstance(source, FunctionRef):
        value = call_function(source, row, what)
    elif source in columns:
        value = field_of(row, source)
    else:
        return render_template(source, row, what)
    if isinstance(value, (list, dict)):
        raise Unusable(f"{what} is not text", f"{value!r:.80}")
    return str(value)


def choices_of(source: ChoiceSource, row: Row, columns: frozenset[str]) -> tuple[str, ...] | None:
    """The options; ``None`` for a task without any."""
    value: Any
    if source is None:
        return None
    if isinstance(source, tuple):
        value = list(source)
    elif isinstance(source, FunctionRef):
        value = call_function(source, row, "doc_to_choice")
    elif source in columns:
        value = field_of(row, source)
    else:
        rendered = render_template(source, row, "doc_to_choice")
        try:
            value = ast.literal_eval(rendered)
        except (ValueError, SyntaxError):
            raise Unusable("choices are not a list", f"{rendered!r:.80}") from None
    if not isinstance(value, (list, tuple)):
        raise Unusable("choices are not a list", f"{value!r:.80}")
    for choice in value:
        if not isinstance(choice, str):
            raise Unusable("a choice is not text", f"{choice!r:.80}")
        if not choice.strip():
            raise Unusable("empty choice")
    if len(value) < 2:
        raise Unusable("fewer than two choices", f"{value!r:.80}")
    return tuple(value)


def target_of(source: TargetSource, row: Row, columns: frozenset[str], *, has_choices: bool) -> Target:
    """lm-eval's doc_to_target: a column's value as it is; a rendered template as a number, a list or a text."""
    value: Any
    if isinstance(source, int):
        return source
    if isinstance(source, tuple):
        return list(source)
    if isinstance(source, FunctionRef):
        value = call_function(source, row, "doc_to_target")
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            value = int(value)  # one of numpy's
    elif source in columns:
        value = field_of(row, source)
    else:
        text = render_template(source, row, "doc_to_target")
        if text.isdecimal() and has_choices:
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
    raise Unusable("gold is neither a number nor an option", f"{value!r:.80}")


def field_of(row: Row, name: str) -> Any:
    if row.get(name) is None:
        raise Unusable("missing field", name)
    return row[name]


def render_template(source: str, row: Row, what: str) -> str:
    try:
        return template(source).render(**row)
    except (jinja2.UndefinedError, MissingField) as cause:
        raise Unusable("missing field", f"{what}: {cause}") from None
    except Exception as cause:  # a template may fail in any way a row makes it (an index, a type, the sandbox)
        raise Unusable("template failed", f"{what}: {type(cause).__name__}: {cause}") from None


def call_function(function: FunctionRef, row: Row, what: str) -> Any:
    try:
        return function.resolve()(dict(row))
    except TaskError:
        raise
    except (Exception, SystemExit) as cause:
        raise Unusable("function failed", f"{what}: {function.name}: {type(cause).__name__}: {cause}") from None


def check_settled(task: TaskSpec, row: Row) -> None:
    """Refuse a task whose code draws anew each time it is called: what is shown of a row is then not what is scored."""
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        function = getattr(task, key)
        if (
            isinstance(function, FunctionRef)
            and len({repr(call_function(function, row, key)) for _ in range(_CALLS)}) > 1
        ):
            raise TaskError(
                f"task {task.name}: its {key} ({function.name}) gives something else of the same row each time it is called, so that the "
                "options that are shown are not those that are scored. Ask another task."
            )


def check_columns(task: TaskSpec, columns: frozenset[str]) -> None:
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
