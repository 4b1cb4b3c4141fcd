"""Which columns a task of lm-eval reads, and which words its code knows: read out of its templates and of its functions' source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import nodes

from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.templates import environment
from salad_eval.errors import TaskError

_TEXT_KEYS = (
    "doc_to_text", "doc_to_target", "doc_to_choice", "process_docs", "process_results", "description", "gen_prefix",
)  # fmt: skip
_WORDS = ("description", "gen_prefix")  # plain words, where they are no template
_JINJA = frozenset({"loop", "range", "namespace", "dict", "joiner", "cycler", "lipsum", "self", "caller"})


@dataclass
class Reads:
    """``columns``: each with the keys that are looked up in its value. ``words``: what a column is compared with or looked up in.

    ``groups``: further lists of texts that belong together in the code: the keys of a table, the names that a function is called with.
    """

    columns: dict[str, set[str]] = field(default_factory=dict)
    words: dict[str, list[Any]] = field(default_factory=dict)
    groups: list[tuple[Any, ...]] = field(default_factory=list)
    lists: set[str] = field(default_factory=set)  # columns that are looped over or indexed by number
    chosen: set[str] = field(default_factory=set)  # columns that are compared with a variable: rows are chosen by them
    given: list[str] = field(default_factory=list)  # texts that the code's functions were made with
    each: dict[str, set[str]] = field(default_factory=dict)  # columns of lists, with the keys of what is in them
    parsed: dict[str, str] = field(default_factory=dict)  # columns whose texts are read as Python or as JSON

    def add(self, column: str, keys: Iterable[str] = ()) -> None:
        self.columns.setdefault(column, set()).update(keys)


def reads_of(table: Mapping[str, Any]) -> Reads:
    """What the task whose YAML is ``table`` reads of a row."""
    found = Reads()
    shots = table.get("fewshot_config")
    for part in (table, shots if isinstance(shots, dict) else {}):
        for key in _TEXT_KEYS:
            if key not in _WORDS or "{" in str(part.get(key)):
                _source(part.get(key), found)
    for one in table.get("metric_list") or []:
        _source(one.get("metric"), found) if isinstance(one.get("metric"), FunctionRef) else None
    for one in table.get("filter_list") or []:
        for step in one.get("filter", []):
            for value in step.values():
                _source(value, found) if isinstance(value, FunctionRef) else None
            if step.get("function") == "multi_choice_regex":
                found.add("choices")
    found.groups = list(dict.fromkeys(found.groups))
    return found


def _source(value: object, found: Reads) -> None:
    if isinstance(value, FunctionRef):
        file = value.file
        if file is None and value.name.startswith("lm_eval."):
            import lm_eval

            file = Path(lm_eval.__file__).parent.joinpath(*value.name.split(".")[1:-1]).with_suffix(".py")
        if file is not None and file.is_file():
            made, given = made_of(value)
            _function(file, made or value.name.rpartition(".")[2], found)
            found.given += given
            for column in found.chosen if given else ():
                found.words[column] = given
    elif isinstance(value, str):
        if "{" not in value:
            if re.fullmatch(r"[\w .@-]+", value):
                found.add(value)
            return
        _template(value, found)


def made_of(function: FunctionRef) -> tuple[str, list[str]]:
    """The function that another one was made of, by ``partial`` or in a closure, and the texts that it was given."""
    try:
        made = function.resolve()
    except TaskError:
        return "", []
    if isinstance(made, partial):
        values, name = [*made.args, *made.keywords.values()], made.func.__qualname__
    else:
        values, name = (
            [cell.cell_contents for cell in getattr(made, "__closure__", None) or ()],
            getattr(made, "__qualname__", ""),
        )
    return name.partition(".")[0], [value for value in values if isinstance(value, str)]


# --- templates -------------------------------------------------------------------------------------------------------


def _template(source: str, found: Reads) -> None:
    tree = environment().parse(source)
    own = {name.name for node in tree.find_all((nodes.For, nodes.Assign)) for name in _targets(node)}
    for name in tree.find_all(nodes.Name):
        if name.name not in own and name.name not in _JINJA:
            found.add(name.name)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        key = (
            node.attr
            if isinstance(node, nodes.Getattr)
            else node.arg.value
            if isinstance(node.arg, nodes.Const)
            else None
        )
        if not isinstance(node.node, nodes.Name) or node.node.name in own | _JINJA:
            continue
        if isinstance(key, str) and not _is_call(tree, node):
            found.add(node.node.name, [key])
        elif isinstance(node, nodes.Getitem) and not isinstance(key, str):
            found.lists.add(node.node.name)
    for mapped in tree.find_all(nodes.Filter):
        attributes = [
            one.value.value for one in mapped.kwargs if one.key == "attribute" and isinstance(one.value, nodes.Const)
        ]
        if mapped.name == "map" and isinstance(mapped.node, nodes.Name) and attributes:
            found.each.setdefault(mapped.node.name, set()).update(map(str, attributes))
    for loop in tree.find_all(nodes.For):
        if isinstance(loop.iter, nodes.Name):
            found.lists.add(loop.iter.name)
    for node in tree.find_all((nodes.Compare, nodes.Getitem, nodes.Call)):
        columns = [one.name for one in _inside(node, nodes.Name) if one.name in found.columns]
        if isinstance(node, nodes.Compare):
            values: list[Any] = [one.value for one in _inside(node, nodes.Const)]
        elif isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Dict):
            values = [pair.key.value for pair in node.node.items if isinstance(pair.key, nodes.Const)]
        elif (
            isinstance(node, nodes.Call)
            and isinstance(node.node, nodes.Getattr)
            and isinstance(node.node.node, nodes.List)
        ):
            values = [one.value for one in node.node.node.items if isinstance(one, nodes.Const)]
        else:
            continue
        for column in columns:
            found.words.setdefault(column, []).extend(
                value for value in values if value not in found.words.get(column, [])
            )


def _inside(node: nodes.Node, kind: type[Any]) -> list[Any]:
    return [node] if isinstance(node, kind) else list(node.find_all(kind))


def _targets(node: nodes.Node) -> list[nodes.Name]:
    target = node.target  # type: ignore[attr-defined]
    return [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))


def _is_call(tree: nodes.Template, node: nodes.Node) -> bool:
    return any(call.node is node for call in tree.find_all(nodes.Call))


# --- functions -------------------------------------------------------------------------------------------------------


@cache
def _module(file: Path) -> dict[str, ast.stmt]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined: dict[str, ast.stmt] = {}
    for statement in _top_level(tree.body):
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            defined[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    defined[target.id] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            defined[statement.target.id] = statement
    return defined


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _top_level([*statement.body, *statement.orelse])
        else:
            yield statement


def _function(file: Path, name: str, found: Reads) -> None:
    """The function and what else of its file it uses."""
    defined = _module(file)
    todo, seen = [name], set[str]()
    while todo:
        one = todo.pop()
        if one in seen or one not in defined:
            continue
        seen.add(one)
        for node in ast.walk(defined[one]):
            if isinstance(node, ast.Name):
                todo.append(node.id)
            _reads_in(node, found)


def _reads_in(node: ast.AST, found: Reads) -> None:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key, inner = node.slice.value, node.value
        if isinstance(key, str):
            outer = _key(inner)
            found.add(outer, [key]) if outer is not None else found.add(key)
        elif isinstance(key, int) and (outer := _key(inner)) is not None:
            found.lists.add(outer)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            outer = _key(node.func.value)
            found.add(outer, [node.args[0].value]) if outer is not None else found.add(node.args[0].value)
    elif (
        isinstance(node, ast.Call)
        and node.args
        and (reader := _reader(node.func))
        and (outer := _key(node.args[0])) is not None
    ):
        found.add(outer)
        found.parsed[outer] = reader
    elif isinstance(node, (ast.For, ast.comprehension)) and (outer := _key(node.iter)) is not None:
        found.lists.add(outer)
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("enumerate", "zip", "len", "list")
    ):
        for argument in node.args:
            if (outer := _key(argument)) is not None and node.func.id != "len":
                found.lists.add(outer)
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        _group([key.value for key in node.keys if isinstance(key, ast.Constant)], found)
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)) and len(node.elts) > 1:
        _group([one.value for one in node.elts if isinstance(one, ast.Constant)], found)
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
        _group([node.value.value], found)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        values = [one.value for side in sides for one in ast.walk(side) if isinstance(one, ast.Constant)]
        for column in filter(None, (_key(one) for side in sides for one in ast.walk(side))):
            if any(isinstance(side, ast.Name) for side in sides):
                found.chosen.add(column)
            found.words.setdefault(column, []).extend(value for value in values if value != column)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict):
        keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        for column in filter(None, (_key(one) for one in ast.walk(node.slice))):
            found.words.setdefault(column, []).extend(keys)


def _reader(function: ast.AST) -> str:
    name = ast.unparse(function)
    return (
        "JSON"
        if name in ("json.loads", "loads")
        else "Python"
        if name in ("eval", "literal_eval", "ast.literal_eval")
        else ""
    )


def _group(values: list[Any], found: Reads) -> None:
    if (
        values
        and all(isinstance(value, (str, int)) for value in values)
        and all(len(str(value)) < 60 for value in values)
    ):
        found.groups.append(tuple(values))


def _key(node: ast.AST) -> str | None:
    """``x`` of ``doc["x"]`` or ``doc.get("x")``."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ):
        return node.args[0].value
    return None
