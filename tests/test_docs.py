"""Every page: its links lead somewhere; every path, command, option and script that it names exists; generated pages are current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import typer

from salad_eval import plugins
from salad_eval.cli.main import app
from tests.helpers.places import CHECKOUT

PAGES = sorted(
    {
        *CHECKOUT.glob("*.md"),
        *(CHECKOUT / "docs").rglob("*.md"),
        *(CHECKOUT / "salad_eval").rglob("*.md"),
        *(CHECKOUT / "tasks").rglob("*.md"),
        *(CHECKOUT / "reports").rglob("*.md"),
    }
    - {CHECKOUT / "CHANGELOG.md"}
)  # fmt: skip
OURS = ("salad_eval/", "salad_train/", "tests/", "tasks/", "reports/", "docs/", "findings/")


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# --- links and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page if not path else (page.parent / path).resolve()
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", text_of(there), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page: Path) -> None:
    for path in re.findall(rf"(?<![\w/.-])((?:{'|'.join(OURS)})[\w./*-]*)", text_of(page)):
        path = path.rstrip(".").split("::")[0]
        assert any(CHECKOUT.glob(path.rstrip("/"))), path


# --- commands --------------------------------------------------------------------------------------------------------


def commands_in(page: Path) -> Iterator[str]:
    """Lines of console blocks, continued lines joined, comments cut; and code spans that are a command with arguments."""
    text = text_of(page)
    for block in re.findall(r"^```(?:console|sh|bash)\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part.strip() for part in re.split(r"&&|\s#\s|;", line)[:1] if part.strip())
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from re.findall(r"(?<!`)`((?:salad|make|python) [^`]+)`(?!`)", plain)


@cache
def root() -> Any:
    return typer.main.get_command(app)


def below(command: Any, word: str) -> Any:
    """The command called ``word`` of a group, or ``None``; one of a plug-in is made as it is when it is called."""
    found = command.get_command(click.Context(command, info_name="salad"), word)
    return (
        typer.main.get_command(plugins.load("salad.commands", word))
        if type(found).__name__ == "PluginCommand"
        else found
    )


def check_salad(line: str) -> None:
    words = shlex.split(re.sub(r"[\[\]…]|\.\.\.", " ", line))[1:]
    command = root()
    while words and hasattr(command, "get_command") and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        command = below(command, words[0])
        assert command is not None, f"{line}: no command {words[0]}"
        del words[0]
    if hasattr(command, "get_command") or command.context_settings.get("ignore_unknown_options"):
        return  # a group that is spoken of, or a command that hands its options on
    options = {"--help", *(name for one in command.params for name in (*one.opts, *one.secondary_opts))}
    for word in words:
        assert not word.startswith("--") or word.partition("=")[0] in options, f"{line}: no option {word}"


def check_make(line: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.M))
    asked = [word for word in line.split()[1:] if re.fullmatch(r"[a-z-]+", word)]
    assert set(asked) <= targets, line


def check_python(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[:1] == ["-m"] and words[1].split(".")[0] in ("tests", "salad_eval", "salad_train"):
        path = CHECKOUT / Path(*words[1].split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line
    elif words and words[0].endswith(".py") and "/" in words[0]:
        assert (CHECKOUT / words[0]).exists(), line


CHECKS = {"salad": check_salad, "make": check_make, "python": check_python}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    for line in commands_in(page):
        check = CHECKS.get(line.split()[0])
        if check is not None:
            check(line)


# --- what is generated, and what is promised -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", CHECKOUT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_current(reference: ModuleType) -> None:
    """After a change to a plan, a recipe, a loop or a command: python docs/reference.py"""
    there = {path.name: path.read_text(encoding="utf-8") for path in (CHECKOUT / "docs" / "reference").glob("*.md")}
    assert there == reference.pages()


@pytest.mark.parametrize("page", ["plan.md", "recipe.md", "loop.md"])
def test_every_key_has_a_meaning(reference: ModuleType, page: str) -> None:
    rows = [line.split(" | ") for line in reference.pages()[page].splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if not row[-1].strip(" |")] == []


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_bytes()) <= 7000
