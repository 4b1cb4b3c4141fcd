"""One option, one name, in all commands: collected from the commands themselves, those of plug-ins included."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
import pytest
import typer

from salad_eval import plugins
from salad_eval.cli.main import app

# What a name means wherever it stands, where commands say it in words of their own. A name that comes to stand in a second command with
# other words has to be put down here by somebody who has looked at both.
MEANINGS: Mapping[str, str] = {
    "--out": "where what is made goes",
    "--audio-format": "how sound is kept",
    "--seed": "what makes chance the same again",
    "--limit": "how many of them",
    "--set": "a key of what is read from YAML, and its value",
    "--shots": "examples before a question",
    "--split": "which split of the data",
    "--speak": "what is spoken of an item",
    "--data-dir": "a local mirror of data sets",
    "--device": "where models run",
    "--voices": "who speaks",
    "--recipe": "a training recipe by name or file",
    "--recogniser": "a CTC model by name, folder or hub id",
    "--selection": "the folder of a selection",
    "--metric": "which measure of lm-eval's counts",
    "--name": "what it is called",
    "--dry-run": "say what would be done, and do nothing of it",
    "--preset": "a plan that ships with the package",
    "--plan": "a plan of one's own",
    "--play": "hear them",
    "--work": "a folder that can be removed afterwards",
    "--task": "one task",
}
# ``salad check --text A --voice B`` holds a text model against a voice model; it is for people who know no other command.
APART = ("check",)


@dataclass(frozen=True, slots=True)
class Option:
    """An option as one command has it: its names, how its value is read, and what is said of it."""

    command: str
    names: tuple[str, ...]
    value: str
    help: str


def commands(group: Any, context: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(group, "list_commands"):
        yield " ".join(path), group
        return
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        if type(below).__name__ == "PluginCommand":
            below = typer.main.get_command(plugins.load("salad.commands", name))
        yield from commands(below, click.Context(below, info_name=name, parent=context), (*path, name))


def options() -> list[Option]:
    root = typer.main.get_command(app)
    found = []
    for path, command in commands(root, click.Context(root, info_name="salad")):
        for one in command.params:
            if one.param_type_name == "option":
                descriptor = getattr(one, "type_descriptor", None)  # of Typer's newer versions; click's own before
                read_as = descriptor.annotation if descriptor is not None else (one.type.name, one.multiple)
                found.append(Option(path, (*one.opts, *one.secondary_opts), str(read_as), one.help or ""))
    return found


@pytest.fixture(scope="module")
def every() -> list[Option]:
    return options()


def by_name(every: list[Option]) -> dict[str, list[Option]]:
    found = defaultdict(list)
    for option in every:
        if option.command not in APART or option.names[0] not in ("--text", "--voice"):
            for name in option.names:
                found[name].append(option)
    return found


def test_options_are_found_in_all_commands(every: list[Option]) -> None:
    assert {"run", "tasks new", "store gc", "select", "train", "loop", "nano study"} <= {one.command for one in every}
    assert len(every) > 100


def test_a_name_takes_the_same_kind_of_value_everywhere(every: list[Option]) -> None:
    kinds = {name: {one.value for one in named} for name, named in by_name(every).items()}
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}


def test_a_name_means_the_same_everywhere(every: list[Option]) -> None:
    told = {name: {one.help for one in named} for name, named in by_name(every).items()}
    assert {name: words for name, words in told.items() if len(words) > 1 and name not in MEANINGS} == {}
    assert {name for name in MEANINGS if len(told.get(name, ())) < 2} == set(), "stands there for nothing"


def test_what_means_the_same_has_one_name(every: list[Option]) -> None:
    names = defaultdict(set)
    for option in every:
        names[" ".join(option.help.casefold().split())].add(option.names)
    assert {words: found for words, found in names.items() if len(found) > 1} == {}
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def test_every_option_says_what_it_does(every: list[Option]) -> None:
    assert [one for one in every if not one.help.endswith((".", "?", "…"))] == []


def test_completion_is_not_offered_by_some_commands_alone(every: list[Option]) -> None:
    assert not {one.command for one in every if "--install-completion" in one.names}
    root = typer.main.get_command(app)
    groups = [
        typer.main.get_command(plugins.load("salad.commands", info.name))
        for info in plugins.available("salad.commands")
    ]
    for group in (root, *getattr(root, "commands", {}).values(), *groups):
        assert "--install-completion" not in [name for one in group.params for name in one.opts], group.name


# --- examples --------------------------------------------------------------------------------------------------------


def test_examples_are_whole_at_80_columns_and_are_understood() -> None:
    root = typer.main.get_command(app)
    shown = 0
    for path, command in commands(root, click.Context(root, info_name="salad")):
        context = click.Context(command, info_name=f"salad {path}", terminal_width=80)
        told = {line.strip() for line in command.get_help(context).splitlines()}
        examples = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("salad ")]
        for example in examples:
            assert example in told, f"{example!r} is broken in the help of {path}"
            words = shlex.split(example)[1:]
            assert words[: len(path.split())] == path.split()
            command.make_context(
                path, words[len(path.split()) :]
            )  # every option and argument is known, none is missing
        shown += len(examples)
        needed = [one for one in command.params if one.required]
        assert examples or not needed or path.startswith("nano "), f"{path} needs an example"
    assert shown > 25
