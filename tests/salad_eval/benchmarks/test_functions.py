"""A task file from a stranger runs no program: whatever it names, the marker file is not there afterwards.

Each attack is a YAML (with files beside it) that once ran what it named, or a near kin of one. The harmless program writes a marker.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from salad_eval import resources
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.functions import OWN_FUNCTIONS, lm_eval_tasks_dir
from salad_eval.benchmarks.items import load_items
from salad_eval.cli.main import main
from salad_eval.errors import DataError, TaskError
from salad_eval.sharing.importing import check_import

ROW = {"id": "1", "question": "Which?", "choices": ["a", "b"], "answer": 0, "domain": "d"}
TASK = """\
task: stranger
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
test_split: test
"""
SALAD = "{salad: {speak: context, domain: domain}}"


def marking(marker: Path) -> list[str]:
    """A program that a task must not get to run: it writes ``marker``."""
    return [sys.executable, "-c", f"open({str(marker)!r}, 'w').close()"]


def rows_loader(folder: Path, marker: Path) -> str:
    """Our rows loader, told to speak by a program."""
    options = json.dumps({"argv": [*marking(marker), "{text}", "{voice}", "{out}"], "voices": ["v"]})
    return (
        TASK + "custom_dataset: !function salad_eval.lm_eval_bridge.rows.dataset\n"
        f"dataset_kwargs: {{task: salad_nano, form: speech, voice: v, tts: command, tts_options: {options}, first: 1}}\n"
        f"metadata: {SALAD}\n"
    )


def rows_loader_by_metadata(folder: Path, marker: Path) -> str:
    """The same, said in the YAML's metadata instead."""
    options = json.dumps({"argv": [*marking(marker), "{text}", "{voice}", "{out}"], "voices": ["v"]})
    return (
        TASK + "custom_dataset: !function salad_eval.lm_eval_bridge.rows.dataset\n"
        "dataset_kwargs: {task: salad_nano, form: speech, voice: v, first: 1}\n"
        f"metadata: {{salad: {{speak: context, domain: domain}}, tts: command, tts_options: {options}}}\n"
    )


def with_rows(folder: Path, row: dict[str, object], function: str, key: str) -> str:
    (folder / "rows.jsonl").write_text(json.dumps({**ROW, **row}) + "\n", encoding="utf-8")
    lines = [line for line in TASK.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join(
        [
            *lines,
            "dataset_path: json",
            "dataset_kwargs: {data_files: {test: rows.jsonl}}",
            f"{key}: !function {function}",
            f"metadata: {SALAD}",
            "",
        ]
    )


def speaking_plan(folder: Path, marker: Path) -> dict[str, object]:
    argv = [*marking(marker), "{text}", "{voice}", "{out}"]
    return {"name": "p", "tts": {"name": "command", "options": {"argv": argv, "voices": ["v"]}}, "voices": ["v"]}


def command_line(folder: Path, marker: Path) -> str:
    """The command ``salad``, called with a row: its keys are the arguments."""
    return with_rows(folder, {"render": 1}, "salad_eval.cli.main.main", "doc_to_text")


def plan_of_a_row(folder: Path, marker: Path) -> str:
    """A row, run as a plan."""
    return with_rows(folder, speaking_plan(folder, marker), "salad_eval.evaluate", "doc_to_text")


def voice_of_a_row(folder: Path, marker: Path) -> str:
    """A plug-in's constructor, called with a row."""
    return with_rows(folder, {}, "salad_eval.tts.command.CommandTTS", "doc_to_choice")


def trainer(folder: Path, marker: Path) -> str:
    """Anything of the other package."""
    return with_rows(folder, {}, "salad_train.loop.run_loop", "doc_to_text")


def beside(folder: Path, marker: Path) -> str:
    """A module beside the YAML, as lm-eval would import it."""
    (folder / "utils.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef f(x): return x\n", encoding="utf-8")
    return with_rows(folder, {}, "utils.f", "process_docs")


def inside_a_name(folder: Path, marker: Path) -> str:
    """A name that begins as one of ours does."""
    (folder / "salad_eval.py").write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    return with_rows(folder, {}, "salad_eval.lm_eval_bridge.rows.dataset.__globals__", "process_docs")


def standard_library(folder: Path, marker: Path) -> str:
    return with_rows(folder, {}, "os.system", "doc_to_text")


def sound_of_a_program(folder: Path, marker: Path) -> str:
    """An export, as salad import reads it, with a function in it."""
    return TASK + (
        "dataset_path: parquet\ndataset_kwargs: {data_files: {test: [rows.parquet]}}\n"
        "process_docs: !function salad_eval.lm_eval_bridge.rows.dataset\n"
        "metadata: {salad: {speak: context, domain: domain, audio: {column: audio}}}\n"
    )


Attack = Callable[[Path, Path], str]
ATTACKS: list[Attack] = [
    rows_loader, rows_loader_by_metadata, command_line, plan_of_a_row, voice_of_a_row, trainer, beside, inside_a_name,
    standard_library, sound_of_a_program,
]  # fmt: skip
COMMANDS = {
    "import": lambda folder, task: ["import", folder],
    "validate": lambda folder, task: ["tasks", "validate", task],
    "show": lambda folder, task: ["tasks", "show", task],
    "run": lambda folder, task: ["run", "--preset", "nano", "--tasks", task, "--limit", "1", "--out", folder / "out"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_command_runs_what_a_strangers_task_names(
    attack: Attack, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, marker = tmp_path / "theirs", tmp_path / "marker"
    folder.mkdir()
    task = folder / "task.yaml"
    task.write_text(attack(folder, marker), encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in COMMANDS[command](folder, task)])
    assert ended.value.code in (1, 2)
    assert not marker.exists()
    assert "Traceback" not in capsys.readouterr().err


def test_the_marking_program_marks(tmp_path: Path) -> None:
    """The attacks would show: the program does what the test looks for."""
    import subprocess

    subprocess.run(marking(tmp_path / "marker"), check=True)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("key", ["tts", "tts_options", "audio_store", "data_dir"])
def test_the_rows_loader_lets_no_task_choose_programs_and_folders(key: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        TASK + "custom_dataset: !function salad_eval.lm_eval_bridge.rows.dataset\n"
        f"dataset_kwargs: {{task: salad_nano, form: text, {key}: {{}}}}\nmetadata: {SALAD}\n",
        encoding="utf-8",
    )
    with pytest.raises(TaskError, match=f"{key} is not for a task's YAML to say"):
        load_items(load_task(str(path)), "test")


def test_what_a_task_may_name_is_marked_and_shipped() -> None:
    """The list is as short as the shipped tasks allow, and each function on it says so where it is defined."""
    shipped = "".join(path.read_text(encoding="utf-8") for path in resources.tasks_dir().glob("**/*.yaml"))
    for name in OWN_FUNCTIONS:
        assert name in shipped
        module, _, function = name.rpartition(".")
        assert hasattr(getattr(importlib.import_module(module), function), "__salad_refuses__")


def test_import_calls_no_function_at_all(tmp_path: Path) -> None:
    """Not even one that a task may name."""
    (tmp_path / "task.yaml").write_text(
        TASK + "custom_dataset: !function salad_eval.benchmarks.packaged_dataset\n"
        f"dataset_kwargs: {{data_files: {{test: x.jsonl}}}}\nmetadata: {SALAD}\n",
        encoding="utf-8",
    )
    with pytest.raises(DataError, match=r"names the function salad_eval\.benchmarks\.packaged_dataset"):
        check_import(tmp_path)


def test_packaged_data_stays_in_the_package(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    path = tmp_path / "task.yaml"
    path.write_text(
        TASK + "custom_dataset: !function salad_eval.benchmarks.packaged_dataset\n"
        f"dataset_kwargs: {{data_files: {{test: {json.dumps(str(tmp_path / 'rows.jsonl'))}}}}}\nmetadata: {SALAD}\n",
        encoding="utf-8",
    )
    from salad_eval.benchmarks.packaged import packaged_dataset

    with pytest.raises(TaskError, match="no file of this package"):
        packaged_dataset(data_files={"test": str(tmp_path / "rows.jsonl")})


def test_a_task_of_lm_evals_may_be_included(tmp_path: Path) -> None:
    """What is in the installed lm-eval was installed by the user, wherever it is included from."""
    installed = lm_eval_tasks_dir()
    assert installed is not None
    named = next(path for path in sorted(installed.glob("hellaswag/*.yaml")) if "!function" in path.read_text())
    path = tmp_path / "task.yaml"
    path.write_text(f"include: {json.dumps(str(named))}\ntask: mine\n", encoding="utf-8")
    task = load_task(str(path), speak="context")
    assert [function.name for function in task.functions] == ["utils.process_docs"]


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        ("dataset_path: pandas", "a loader that is not for plain files"),
        ("dataset_path: webdataset", "a loader that is not for plain files"),
        (
            "dataset_path: json\ndataset_kwargs: {data_files: {test: 'ftp://somewhere/rows.json'}}",
            "expected a path, or an address of",
        ),
        (
            "dataset_path: json\ndataset_kwargs: {data_files: {test: 'https://a/b::c'}}",
            "expected a path, or an address of",
        ),
    ],
)
def test_only_loaders_of_plain_files_read_data(data: str, refusal: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(f"{TASK}{data}\nmetadata: {SALAD}\n", encoding="utf-8")
    with pytest.raises(TaskError, match=refusal):
        load_items(load_task(str(path)), "test")
