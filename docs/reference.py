"""The generated pages of ``docs/reference/``: every key of a plan, a recipe and a loop, and every option of the command.

    python docs/reference.py          # after a change to a plan, a recipe, a loop or a command; a test says when it is due

A key's meaning is what its class's docstring says of it, so that nothing is said twice.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import typer
from pydantic import BaseModel

FOLDER = Path(__file__).resolve().parent / "reference"
HEADER = "<!-- Made by docs/reference.py; change the docstrings there, not this page. -->\n\n"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a YAML file. ``default`` is ``None`` where the key has to be given."""

    name: str
    type: str
    default: str | None
    meaning: str


# --- what a docstring says of each field -----------------------------------------------------------------------------


def meanings(cls: type) -> dict[str, str]:
    """Field → what its class's docstring says: entries of ``Attributes:``, or sentences that begin with the field's name in backquotes."""
    found: dict[str, str] = {}
    for base in cls.__mro__[1:-1]:
        if base is not BaseModel and base.__module__.startswith("salad_"):
            found |= meanings(base)
    return found | _said_by(cls)


def _said_by(cls: type) -> dict[str, str]:
    text = cls.__doc__ or ""
    found: dict[str, str] = {}
    before, _, attributes = text.partition("Attributes:")
    names = "|".join(map(re.escape, sorted(_fields(cls), key=len, reverse=True))) or "$^"
    flat = " ".join(before.split())
    starts = list(re.finditer(rf"((?:``(?:{names})``(?:, | and |: ))*``(?:{names})``):? ", flat))
    starts = [one for one in starts if not one.start() or flat[one.start() - 2] in ".:)"]
    ends = [*(one.start() for one in starts[1:]), len(flat)]
    for number, here in enumerate(starts):
        for name in re.findall(r"``(\w+)``", here.group(1)):
            found.setdefault(name, flat[here.end() : ends[number]].strip())
    several = rf"(?:{names})(?:, (?:{names}))*"
    for entry in re.finditer(rf"(?:^|\s)({several}): (.*?)(?=(?:\s{several}: )|$)", " ".join(attributes.split())):
        for name in entry.group(1).split(", "):
            found.setdefault(name, entry.group(2).strip())
    return found


def _fields(cls: type) -> list[str]:
    return list(cls.model_fields) if issubclass(cls, BaseModel) else [field.name for field in dataclasses.fields(cls)]


# --- keys of a class, and of those that its keys hold ----------------------------------------------------------------


def keys_of(cls: type, prefix: str = "") -> Iterator[Key]:
    """The keys of a plan class, depth first; those of a class that a key holds follow under ``key.``."""
    said, hints = meanings(cls), typing.get_type_hints(cls, include_extras=True)
    for name in _fields(cls):
        inner = _class_in(hints[name])
        yield Key(prefix + name, _shown(hints[name]), _default(cls, name), said.get(name, ""))
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}.")


def _class_in(hint: Any) -> type | None:
    for part in _parts(hint):
        if isinstance(part, type) and (dataclasses.is_dataclass(part) or issubclass(part, BaseModel)):
            return part
    return None


def _parts(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [part for one in get_args(hint) for part in _parts(one)]
    return [hint]


def _shown(hint: Any) -> str:
    parts = [part for part in _parts(hint) if part is not NoneType]
    return " or ".join(dict.fromkeys(_one_shown(part) for part in parts))


def _one_shown(part: Any) -> str:
    origin = get_origin(part)
    if origin is Literal:
        return ", ".join(map(str, get_args(part)))
    if origin is tuple:
        return f"list of {_shown(get_args(part)[0])}" if get_args(part)[-1] is Ellipsis else "list of numbers"
    if origin is not None:
        return "mapping"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping"}
    return words.get(part, "mapping")


def _default(cls: type, name: str) -> str | None:
    if issubclass(cls, BaseModel):
        info = cls.model_fields[name]
        return None if info.is_required() else _value(info.get_default(call_default_factory=True))
    (field,) = (one for one in dataclasses.fields(cls) if one.name == name)
    if field.default is not dataclasses.MISSING:
        return _value(field.default)
    return None if field.default_factory is dataclasses.MISSING else _value(field.default_factory())


def _value(value: object) -> str:
    if dataclasses.is_dataclass(value) or isinstance(value, BaseModel):
        return "as below"
    words = {None: "not set", True: "true", False: "false", "": "empty", (): "none"}
    if isinstance(value, (bool, NoneType, str, tuple)) and value in words:
        return words[value]
    if isinstance(value, dict) and not value:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def page_of_keys(title: str, intro: str, cls: type) -> str:
    rows = [
        f"| `{key.name}` | {_cell(key.type)} | {'**required**' if key.default is None else _cell(key.default)} | {_cell(key.meaning)} |"
        for key in keys_of(cls)
    ]
    return (
        f"{HEADER}# {title}\n\n{intro}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


# --- the command -----------------------------------------------------------------------------------------------------


def page_of_command() -> str:
    from salad_eval.cli.main import app

    root = typer.main.get_command(app)
    context = click.Context(root, info_name="salad")
    lines = [HEADER + "# The command `salad`\n", "`salad COMMAND --help` prints the same.\n"]
    for path, command in _commands(root, context, ("salad",)):
        lines.append(_of_command(path, command))
    return "\n".join(lines)


def _commands(command: Any, context: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if type(below).__name__ == "PluginCommand":  # its own command is made when it is called
            from salad_eval import plugins

            below = typer.main.get_command(plugins.load("salad.commands", name))
        yield from _commands(below, click.Context(below, info_name=name, parent=context), (*path, name))


def _of_command(path: tuple[str, ...], command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name not in ("help",)]
    usage = " ".join([*path, *(f"[{one.name.upper()}]" if not one.required else one.name.upper() for one in arguments)])
    lines = [
        f"## `{' '.join(path)}`\n",
        f"{(command.help or '').strip()}\n",
        f"`{usage}{' [OPTIONS]' if options else ''}`\n",
    ]
    if arguments or options:
        lines += ["| | default | |", "|---|---|---|"]
    for one in [*arguments, *options]:
        name = one.name.upper() if one in arguments else ", ".join([*one.opts, *one.secondary_opts])
        unset = one.default in (None, False, ()) or repr(one.default) == "Sentinel.UNSET"
        default = "" if unset else str(getattr(one.default, "value", one.default))
        lines.append(f"| `{name}` | {_cell(default)} | {_cell(getattr(one, 'help', None) or '')} |")
    return "\n".join(lines) + "\n"


# --- all pages -------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """File name → content."""
    from salad_eval.pipeline.plan import Plan
    from salad_train.loop import LoopPlan
    from salad_train.recipe import Recipe

    return {
        "plan.md": page_of_keys(
            "Keys of a plan", "A plan is what `salad run --plan FILE` reads; `--set KEY=VALUE` sets any of them.", Plan
        ),
        "recipe.md": page_of_keys(
            "Keys of a recipe",
            "A recipe is what `salad train --recipe` and `salad select --recipe` read, by name or as a file.",
            Recipe,
        ),
        "loop.md": page_of_keys("Keys of a loop", "A loop is what `salad loop --preset` or `--plan` reads.", LoopPlan),
        "cli.md": page_of_command(),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    sys.exit(main())
