"""What a template prints of a row, apart from its fixed words.

``Question: {{goal}}\\nAnswer:`` prints the goal; that is what is spoken, and "Question:" and "Answer:" stay written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import jinja2
from jinja2 import nodes

from salad_eval.benchmarks.templates import environment, template

Kind = Literal["context", "choices"]
# Private-use characters, which no text that can be read aloud holds; a row that does is not marked at all (see ``printed_spans``).
_OPEN: Mapping[Kind, str] = {"context": "\uf8f0", "choices": "\uf8f1"}
_CLOSE = "\uf8f2"
_NO_COLUMNS = frozenset(
    {"loop", "range", "namespace", "dict", "joiner", "cycler", "lipsum"}
)  # what Jinja itself provides
_KIND: Mapping[str, Kind] = {mark: kind for kind, mark in _OPEN.items()}
# Columns that hold options, one each or all of them, by the names they have in the tasks of lm-eval 0.4.x.
_OPTION_COLUMN = re.compile(
    r"(?:(?:answer_?)?(?:choice|option|candidate|ending)s?|mc_answer|op|opt|sol|end)_?[A-Ea-e0-9]?|[A-E]"
)


@dataclass(frozen=True, slots=True)
class Span:
    """``text[start:end]`` of a rendered template, printed by an expression; ``choices`` where that reads a column of options."""

    start: int
    end: int
    kind: Kind


def printed_spans(source: str, row: Mapping[str, Any], options: frozenset[str]) -> list[Span] | None:
    """The spans of the rendered ``source`` that its expressions print, in order and without outer white space; empty ones are left out.

    ``options``: columns that hold options, besides those whose names say so. ``None`` where the spans cannot be told: a template that
    works on what it has printed (``{% set %}`` blocks, macros), or a row with the characters that mark them.
    """
    text = template(source).render(**row)
    marked = _marking(source, options).render(**row)
    spans, plain = _read_marks(marked)
    if plain != text:
        return None
    trimmed = []
    for span in spans:
        inner = text[span.start : span.end]
        start = span.start + len(inner) - len(inner.lstrip())
        if inner.strip():
            trimmed.append(Span(start, start + len(inner.strip()), span.kind))
    return trimmed


def lists_options(source: str, options: frozenset[str]) -> bool:
    """Whether any expression of ``source`` reads a column of options."""
    tree = environment().parse(source)
    return any(
        _kind(child, options, _loop_sources(tree)) == "choices"
        for output in tree.find_all(nodes.Output)
        for child in output.nodes
        if not isinstance(child, nodes.TemplateData)
    )


def option_columns(doc_to_choice: object) -> frozenset[str]:
    """The column that ``doc_to_choice`` names, or those of which a template makes a list without a word of its own.

    ``choices``, ``{{[sol1, sol2]}}`` and ``{{choices.text}}`` have such columns; a list, a function and any other template have none.
    """
    if not isinstance(doc_to_choice, str):
        return frozenset()
    if "{" not in doc_to_choice:
        return frozenset({doc_to_choice})
    try:
        body = environment().parse(doc_to_choice).body
    except jinja2.TemplateSyntaxError:
        return frozenset()  # refused where the task is read
    if len(body) != 1 or not isinstance(body[0], nodes.Output) or len(body[0].nodes) != 1:
        return frozenset()
    value = body[0].nodes[0]
    columns = [_column(item) for item in (value.items if isinstance(value, nodes.List) else [value])]
    return frozenset(filter(None, columns)) if all(columns) else frozenset()


def _column(value: nodes.Expr) -> str | None:
    while isinstance(value, (nodes.Getattr, nodes.Getitem)):
        value = value.node
    return value.name if isinstance(value, nodes.Name) else None


def _read_marks(marked: str) -> tuple[list[Span], str]:
    """The outermost marked spans, in places of the text without marks, and that text."""
    spans: list[Span] = []
    opened: list[tuple[int, Kind]] = []
    plain: list[str] = []
    length = 0
    for piece in re.split(f"([{''.join(_KIND)}{_CLOSE}])", marked):
        if piece in _KIND:
            opened.append((length, _KIND[piece]))
        elif piece == _CLOSE and opened:
            start, kind = opened.pop()
            if not opened:
                spans.append(Span(start, length, kind))
        else:
            plain.append(piece)
            length += len(piece)
    return spans, "".join(plain)


@cache
def _marking(source: str, options: frozenset[str]) -> jinja2.Template:
    """``source`` with marks around all that an expression prints."""
    environment_ = environment()
    tree = environment_.parse(source)
    loops = _loop_sources(tree)
    for output in tree.find_all(nodes.Output):
        marked: list[nodes.Expr] = []
        for child in output.nodes:
            kind = None if isinstance(child, nodes.TemplateData) else _kind(child, options, loops)
            if kind is None:
                marked.append(child)
                continue
            for expression in (nodes.Const(_OPEN[kind]), child, nodes.Const(_CLOSE)):
                expression.set_lineno(child.lineno)
                expression.set_environment(environment_)
                marked.append(expression)
        output.nodes = marked
    code = environment_.compile(tree)
    return environment_.template_class.from_code(environment_, code, environment_.make_globals(None))


def _loop_sources(tree: nodes.Template) -> dict[str, set[str]]:
    """For each variable that a loop or ``set`` defines, the names that its value is made of."""
    sources: dict[str, set[str]] = {}
    for loop in tree.find_all(nodes.For):
        for name in _names(loop.target):
            sources.setdefault(name, set()).update(_names(loop.iter))
    for assignment in tree.find_all(nodes.Assign):
        for name in _names(assignment.target):
            sources.setdefault(name, set()).update(_names(assignment.node))
    return sources


def _names(node: nodes.Node) -> set[str]:
    return {node.name} if isinstance(node, nodes.Name) else {name.name for name in node.find_all(nodes.Name)}


def _kind(expression: nodes.Expr, options: frozenset[str], sources: Mapping[str, set[str]]) -> Kind | None:
    """``None`` for an expression that reads no column: a letter by its place in a loop, say."""
    names, todo = set[str](), list(_names(expression))
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += sources.get(name, ())
    columns = names - set(sources) - _NO_COLUMNS
    if any(name in options or _OPTION_COLUMN.fullmatch(name) for name in columns):
        return "choices"
    return "context" if columns else None
