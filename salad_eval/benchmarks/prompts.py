"""The question of a row as lm-eval prints it, with the spans that are spoken."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from salad_eval.benchmarks.data import Row, Table
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.lettered import list_options
from salad_eval.benchmarks.recordings import RecordingFinder
from salad_eval.benchmarks.requests import check_leak
from salad_eval.benchmarks.row_values import Unusable, call_function, field_of, render_template
from salad_eval.benchmarks.spec import TaskSpec, TextSource
from salad_eval.benchmarks.spoken_spans import Span, option_columns, printed_spans
from salad_eval.errors import LeakError
from salad_eval.types import Recording, Request, Role, SpokenPart, TextSegment, Turn

_FIRST_ROWS = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text, the spans of it that are spoken, their ready sound where there is any, and the spans that are messages of a chat."""

    text: str
    parts: tuple[SpokenPart, ...] = ()
    recordings: tuple[Recording, ...] = ()
    turns: tuple[Turn, ...] = ()

    def __add__(self, other: Prompt) -> Prompt:
        n = len(self.text)
        parts = (SpokenPart(part.name, part.start + n, part.end + n) for part in other.parts)
        turns = (Turn(turn.role, turn.start + n, turn.end + n) for turn in other.turns)
        return Prompt(
            self.text + other.text,
            (*self.parts, *parts),
            self.recordings + other.recordings,
            (*self.turns, *turns),
        )

    def said_by(self, role: Role) -> Prompt:
        """The same as one message of a chat; nothing is no message."""
        return replace(self, turns=(Turn(role, 0, len(self.text)),) if self.text else ())


def recordings_of(task: TaskSpec, table: Table) -> Callable[[Row], tuple[Recording, ...]]:
    """What finds the ready sound of a row; where the task has none, it finds nothing."""
    if not task.audio:
        return lambda row: ()
    folders = [folder for folder in (table.folder, task.data_dir, task.path.parent) if folder is not None]
    finder = RecordingFinder(task.audio, table.columns, list(dict.fromkeys(folders)), str(task.path))
    return lambda row: finder.find(row, tuple(task.spoken))


def question_of(
    task: TaskSpec, row: Row, columns: frozenset[str], source: TextSource | None = None, *, spoken: bool = True
) -> Prompt:
    """A row's own part of the prompt, with the spans that are ``spoken``."""
    source = task.doc_to_text if source is None else source
    text = context_of(task, source, row, columns)
    if isinstance(text, int):
        raise Unusable(
            "context is a number", "lm-eval reads this as one prompt for each option, and other rows have a text"
        )
    if not text.strip():
        raise Unusable("empty context")
    if not spoken:
        return Prompt(text)
    if task.spoken_printed and isinstance(source, str) and source not in columns:
        return Prompt(text, _printed_parts(task, source, row, text))
    return Prompt(text, _spoken_parts(task, row, text))


def with_options(task: TaskSpec, question: Prompt, choices: tuple[str, ...] | None) -> Prompt:
    """The question with its options listed, and spoken where options are, if the task is to list them and does not itself."""
    if task.options == "none" or not choices:
        return question
    try:
        listed = list_options(question.text, max((part.end for part in question.parts), default=0), choices)
    except ValueError as cause:
        raise Unusable("more options than letters", str(cause)) from None
    if task.speak != "context+choices":
        return replace(question, text=listed.text) if listed else question
    if listed is None:
        raise Unusable("options are listed in writing", "the task does not say which part of its prompt lists them")
    return replace(question, text=listed.text, parts=(*question.parts, SpokenPart("choices", listed.start, listed.end)))


def alternative_of(task: TaskSpec, choice: str, name: str, *, spoken: bool) -> Prompt:
    """The text of an option as a prompt of its own, all of it spoken."""
    if not choice.strip():
        raise Unusable("empty context")
    start = len(choice) - len(choice.lstrip())
    part = SpokenPart(name, start, start + len(choice.strip()))
    return Prompt(choice, (part,) if spoken and task.speak != "none" else ())


def has_alternatives(task: TaskSpec, rows: Sequence[Row], columns: frozenset[str]) -> bool:
    """Whether the task asks by one prompt for each option: its first rows' contexts are numbers of options.

    lm-eval goes by the first row alone; a question that is a number by chance would fool it.
    """
    if isinstance(task.doc_to_text, int) or not rows or task.doc_to_choice is None:
        return isinstance(task.doc_to_text, int)
    try:
        return all(isinstance(context_of(task, task.doc_to_text, row, columns), int) for row in rows[:_FIRST_ROWS])
    except Unusable:
        return False


def context_of(task: TaskSpec, source: TextSource, row: Row, columns: frozenset[str]) -> str | int:
    """What ``doc_to_text`` makes of a row; a number says which option is right, where each has a prompt of its own."""
    value: Any
    if isinstance(source, int):
        return source
    if isinstance(source, FunctionRef):
        value = call_function(source, row, "doc_to_text")
    elif source in columns:
        value = field_of(row, source)
    else:
        value = render_template(source, row, "doc_to_text")
        if value.isdecimal() and task.doc_to_choice is not None:
            value = int(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise Unusable("doc_to_text is not text", f"{value!r:.80}")
    return value


def _printed_parts(task: TaskSpec, source: str, row: Row, text: str) -> tuple[SpokenPart, ...]:
    """What a template prints of the row, part by part: ``context``, ``context2``, …, and the options it lists as ``choice1``, …"""
    spans = printed_spans(source, row, option_columns(task.doc_to_choice))
    if spans is None:  # the template works on what it has printed: its words cannot be told from the row's
        spans = [Span(len(text) - len(text.lstrip()), len(text.rstrip()), "context")]
    chosen = [span for span in spans if span.kind in task.spoken_printed]
    if not any(span.kind == "context" for span in chosen):
        raise Unusable("empty spoken text", "the template prints nothing of the row but options")
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
        spoken = (text if source is None else render_template(source, row, f"spoken_text ({name})")).strip()
        if not spoken:
            raise Unusable("empty spoken text", name)
        found = text.count(spoken)
        if found != 1:
            reason = (
                "spoken text not found in the context"
                if found == 0
                else "spoken text found more than once in the context"
            )
            raise Unusable(reason, f"{name}: {spoken!r:.80}")
        start = text.index(spoken)
        parts.append(SpokenPart(name, start, start + len(spoken)))
    parts.sort(key=lambda part: part.start)
    for left, right in itertools.pairwise(parts):
        if right.start < left.end:
            raise Unusable("spoken parts overlap", f"{left.name} and {right.name}")
    return tuple(parts)


def refuse_leak(item_id: str, prompt: Prompt) -> None:
    """A prompt that also writes out what it speaks (a shot about the same passage, say) would measure reading."""
    ordered = sorted(prompt.parts, key=lambda part: part.start)
    edges = [0, *(edge for part in ordered for edge in (part.start, part.end)), len(prompt.text)]
    written = tuple(TextSegment(prompt.text[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)
    try:
        check_leak(Request(item_id, written), {part.name: (prompt.text[part.start : part.end],) for part in ordered})
    except LeakError as cause:
        raise Unusable("spoken text is also written in the prompt", str(cause)) from None
