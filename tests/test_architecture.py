"""The rules of ARCHITECTURE.md and CONTRIBUTING.md: who imports whom, what an import may load, how large things are."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import CHECKOUT

PACKAGES = ("salad_eval", "salad_train")
FILES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})
MAX_LINES, MAX_FUNCTION_LINES = 700, 60
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "matplotlib")
# Folders that hold pure functions and records, and what of our own they may know.
PURE = {
    "salad_eval/answers": ("answers", "benchmarks", "errors", "speakable", "types"),
    "salad_eval/gap": ("answers", "benchmarks", "errors", "gap", "records", "resources", "types"),
    "salad_eval/speakable": ("errors", "speakable", "types"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def at_import(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that importing a module runs: none inside functions, none for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif not _later(child):
            yield from at_import(child)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _later(node: ast.AST) -> bool:
    """Whether importing the module does not run this."""
    return _for_type_checkers(node) or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def names_of(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert statement.module is not None
    assert statement.level == 0, "imports are absolute"
    return [f"{statement.module}.{alias.name}" for alias in statement.names] + [statement.module]


def everywhere(path: Path) -> set[str]:
    """Every module of ours that a file names in an import, inside functions too; what type checkers alone read apart."""
    unread = {id(below) for node in ast.walk(tree_of(path)) if _for_type_checkers(node) for below in ast.walk(node)}
    statements = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in unread
    ]
    return {name for statement in statements for name in names_of(statement) if name in MODULES}


@functools.cache
def loaded_by(module: str) -> frozenset[str]:
    """Modules of ours that importing ``module`` imports itself; the packages above them apart."""
    names = {name for statement in at_import(tree_of(MODULES[module])) for name in names_of(statement)}
    return frozenset(name for name in names if name in MODULES and name != module)


def test_evaluation_knows_nothing_of_training() -> None:
    guilty = {
        module_of(path)
        for path in FILES
        if path.is_relative_to(CHECKOUT / "salad_eval")
        and any(name.startswith("salad_train") for name in everywhere(path))
    }
    assert guilty == set()


def test_no_two_modules_import_each_other() -> None:
    finished: set[str] = set()

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join([*above[above.index(module) :], module])
        if module in finished:
            return
        for name in sorted(loaded_by(module)):
            if MODULES[name].name == "__init__.py" and module.startswith(name + "."):
                continue  # the package above, which Python has begun already
            walk(name, (*above, module))
        finished.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("folder", PURE)
def test_pure_folders_know_records_alone(folder: str) -> None:
    package = folder.split("/")[0]
    for path in sorted((CHECKOUT / folder).rglob("*.py")):
        known = {name.split(".")[1] for name in everywhere(path) if name.count(".")}
        assert known <= set(PURE[folder]), f"{module_of(path)} imports {sorted(known - set(PURE[folder]))} of {package}"


def test_nobody_imports_the_command() -> None:
    for path in FILES:
        owner = path.relative_to(CHECKOUT).parts
        if owner[1:2] == ("cli",) or owner[-1] == "cli_train.py":
            continue
        asked = [name for name in everywhere(path) if name.split(".")[1:2] == ["cli"]]
        assert asked == [], module_of(path)


def test_no_product_code_imports_tests() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not any(name.split(".")[0] == "tests" for name in names_of(node)), module_of(path)


@pytest.mark.parametrize(
    "module", ["salad_eval", "salad_train", "salad_eval.types", "salad_eval.report.json", "salad_eval.cli.main"]
)
def test_these_imports_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tasks_and_reports_hold_no_code() -> None:
    assert [path for folder in ("tasks", "reports") for path in (CHECKOUT / folder).rglob("*.py")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_small_at_its_top_and_not_deep(package: str) -> None:
    top = CHECKOUT / package
    modules = [path for path in top.glob("*.py") if path.name != "__init__.py"]
    folders = [path for path in top.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))]
    assert len(modules) <= 10
    assert len(folders) <= 18
    assert max(len(path.relative_to(top).parts) for path in top.rglob("*.py")) <= 3


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def too_large(path: Path) -> list[str]:
    """What of a file is over the sizes, by name."""
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    names = [node.name for node in functions if body_lines(node) > MAX_FUNCTION_LINES]
    return [*names, *(["the file"] if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES else [])]


def test_sizes() -> None:
    assert [f"{module_of(path)}: {name}" for path in FILES for name in too_large(path)] == []


def test_no_function_is_too_complex() -> None:
    pytest.importorskip("ruff", reason="ruff is an extra of developers: pip install -e '.[dev]'")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--config", "lint.mccabe.max-complexity=15", *PACKAGES],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(CHECKOUT)))
def test_the_map_of_a_folder_names_each_of_its_files(folder: Path) -> None:
    text = ast.get_docstring(tree_of(folder / "__init__.py")) or ""
    files = [path.name for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    assert [name for name in files if name not in text] == []
    assert [name for name in re.findall(r"^([a-z0-9_]+\.py) ", text, re.MULTILINE) if name not in files] == []
    if folder.parent == CHECKOUT:
        below = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))]
        assert [name for name in below if f"{name}/" not in text] == []
