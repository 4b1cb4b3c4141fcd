"""The command: what it prints, and with which code it ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval import plugins, progress
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.cli import main as cli
from salad_eval.cli.main import main
from tests.salad_eval.benchmarks.test_items import make_task
from tests.salad_eval.cli.conftest import Salad
from tests.salad_eval.test_plugins import break_one


@pytest.fixture
def plan_file(tiny_plan: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(tiny_plan))
    return path


# --- the command itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_soon_sleep_unless_told(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], expected: str | None
) -> None:
    """Where they spin, two threads on a busy machine are slower than one."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, said.get(name, ""))
        if name not in said:
            monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_no_command_shows_bars_of_other_libraries_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every command goes through switches them off, in this process and in those that it starts."""
    script = """
import subprocess, sys
from salad_eval.cli.main import main
try:
    main(["--version"])
except SystemExit:
    pass
shown = (
    "import datasets.utils, huggingface_hub.utils, tqdm.auto; from transformers.utils import logging\\n"
    "for bar in (tqdm.auto.tqdm, datasets.utils.tqdm, huggingface_hub.utils.tqdm, logging.tqdm): list(bar(range(3)))"
)
exec(shown)
subprocess.run([sys.executable, "-c", shown], check=True)
"""
    for name in progress._BARS:
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_version_load_nothing_heavy() -> None:
    script = """
import sys
from salad_eval.cli.main import main
for args in (["--help"], ["--version"], ["run", "--help"], ["tasks", "--help"]):
    try:
        main(args)
    except SystemExit as ended:
        assert not ended.code, (args, ended.code)
import salad_eval
heavy = {"torch", "transformers", "lm_eval", "datasets", "matplotlib", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("run", "report", "compare", "tasks", "plugins", "render", "transcribe", "doctor", "nano"):
        assert command in done.stdout
    assert "salad-gap 0." in done.stdout


def test_a_broken_command_breaks_only_itself(salad: Salad, monkeypatch: pytest.MonkeyPatch) -> None:
    break_one(monkeypatch, "salad.commands", "wreck", "no_such_module:app")
    shown = salad("--help")
    assert shown.code == 0
    assert "wreck" in shown.out
    called = salad("wreck", "anything", "--at-all")
    assert called.code == 1
    assert "plug-in 'wreck' (salad.commands, no_such_module:app" in called.err
    assert "Traceback" not in called.err
    assert salad("tasks", "list").code == 0


def test_commands_of_plugins_are_mounted(salad: Salad) -> None:
    assert salad("nano", "--help").code == 0


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/mine/model.safetensors"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors says it
    ],
)
def test_a_full_disk_is_one_line_and_says_how_to_go_on(
    salad: Salad, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fill(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fill)
    shown = salad("run")
    assert shown.code == 1
    assert "no space left on the disk" in shown.err
    assert "make room, and the same command goes on" in shown.err
    assert "Traceback" not in shown.err
    if isinstance(error, OSError) and error.filename:
        assert "runs/mine/model.safetensors" in shown.err
    with pytest.raises(type(error)):
        main(["run", "--debug"])


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(
    salad: Salad, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "runs")

    monkeypatch.setattr(cli, "app", refuse)
    shown = salad("run")
    assert (shown.code, shown.err) == (1, "salad: run: runs: Permission denied.\n")


def test_debug_shows_the_traceback(salad: Salad) -> None:
    from salad_eval.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        main(["run", "--preset", "nanoo", "--debug"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--preset", "nano", "--plan", "x.yaml"], "not both"),
        (["run", "--preset", "nanoo"], "unknown preset 'nanoo'; did you mean 'nano'"),
        (["run", "--plan", "nowhere.yaml"], "no plan at nowhere.yaml"),
        (["run", "--preset", "nano", "--limit", "many"], "'--limit'"),
        (["run", "--preset", "nano", "--limit", "0"], "limit is 0"),
        (["run", "--preset", "nano", "--set", "voises=[x]"], "unknown key 'voises'; did you mean 'voices'"),
        (["run", "--preset", "nano", "--set", "base.options"], "expected key=value"),
        (["run", "--preset", "nano", "--tasks", "salad_nan"], "unknown task 'salad_nan'; did you mean 'salad_nano'"),
        (["run", "--preset", "nano", "--set", "tts.name=pyttsx"], "did you mean 'pyttsx3'"),
        (["run", "--preset", "nano", "--set", "base.system=nothing"], "unknown systems plug-in 'nothing'"),
        (["report", "nowhere"], "no such file"),
        (["compare", "nowhere", "nothing"], "is not there"),
        (["tasks", "show", "salad_nan"], "did you mean 'salad_nano'"),
        (["tasks", "validate", "nowhere.yaml"], "no task file at"),
        (["render"], "give either texts to say, or --task NAME"),
        (["render", "hello", "--voices", "xx-nowhere"], "xx-nowhere"),
        (["transcribe"], "give either audio files, or --run DIR"),
        (["transcribe", "nowhere.wav"], "no audio file at 'nowhere.wav'"),
        (["nonsense"], "nonsense"),
    ],
)
def test_what_the_user_got_wrong_ends_with_2(
    args: list[str], message: str, salad: Salad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    ended = salad(*args)
    assert message in " ".join((ended.out + ended.err).split())
    assert "Traceback" not in ended.err
    assert ended.code == 2


# --- run, report, compare --------------------------------------------------------------------------------------------


def test_a_run_prints_the_table_and_where_the_report_is(
    salad: Salad, plan_file: Path, tmp_path: Path, only_json: None
) -> None:
    ended = salad(
        "run",
        "--plan",
        plan_file,
        "--limit",
        6,
        "--voices",
        "en-us+m1,rate=150",
        "--seed",
        3,
        "--out",
        tmp_path / "there",
    )
    assert ended.code == 0, ended.err
    for text in ("astronomy", "chemistry", "music", "gap", f"report: {tmp_path / 'there' / 'report.html'}"):
        assert text in ended.out
    written = json.loads((tmp_path / "there" / "plan.json").read_text())
    assert (written["limit"], written["voices"], written["seed"]) == (6, ["en-us+m1,rate=150"], 3)
    again = salad("run", "--plan", tmp_path / "there" / "plan.json")
    assert (again.code, again.out) == (0, ended.out)


def test_a_run_that_fails_ends_with_1(salad: Salad, plan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = salad("run", "--plan", plan_file, "--set", f"base.options.pretrained={tmp_path / 'empty'}")
    assert ended.code == 1
    assert str(tmp_path / "empty") in ended.err
    assert "Traceback" not in ended.err


def test_views_are_made_again_from_the_json(
    salad: Salad, plan_file: Path, tiny_plan: dict[str, Any], only_json: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tiny_plan["out"])
    assert salad("run", "--plan", plan_file).code == 0
    monkeypatch.undo()
    assert not (folder / "report.html").exists()
    assert json.loads(salad("report", folder, "--format", "json").out)["overall"]["n_items"] == 8
    assert "astronomy" in salad("report", folder).out
    assert salad("report", folder / "gap_report.json", "--format", "html").out.strip().endswith("report.html")
    assert salad("report", folder, "--format", "md").out.strip().endswith("report.md")
    assert "astronomy" in (folder / "report.html").read_text()
    assert "astronomy" in (folder / "report.md").read_text()
    assert salad("report", folder, "--format", "pdf").code == 2


def test_runs_are_compared_on_shared_items(salad: Salad, plan_file: Path, tmp_path: Path, only_json: None) -> None:
    for name, changes in (("a", ()), ("b", ("--limit", 6))):
        assert salad("run", "--plan", plan_file, "--out", tmp_path / name, *changes).code == 0
    ended = salad("compare", tmp_path / "a", tmp_path / "b")
    assert ended.code == 0
    assert "6 shared items" in ended.out
    (tmp_path / "b" / "DONE").unlink()
    unfinished = salad("compare", tmp_path / "a", tmp_path / "b")
    assert (unfinished.code, "is not finished" in unfinished.err) == (2, True)


# --- tasks, plugins --------------------------------------------------------------------------------------------------


def test_tasks_are_listed_shown_and_found(salad: Salad, tiny_task: Path) -> None:
    assert "salad_nano" in salad("tasks", "list").out
    assert (Path(salad("tasks", "path").out.strip()) / "salad_nano.yaml").is_file()
    shown = salad("tasks", "show", tiny_task, "--limit", 8, "--shots", 1).out
    assert "Question: ⟨Which planet has rings?⟩\nAnswer:\n  * Saturn\n    Mars\n    Venus" in shown
    assert "shots: 1" in shown


def test_validation_counts_what_cannot_be_used(salad: Salad, tmp_path: Path) -> None:
    good = salad("tasks", "validate", make_task(tmp_path))
    assert (good.code, good.out.count("8 items in 3 domains")) == (0, 2)
    row = {"id": "a", "domain": "d", "question": "Is it so?", "choices": ["yes", "no"], "answer": 0, "topic": "t"}
    bad = salad(
        "tasks",
        "validate",
        make_task(tmp_path, [row, {**row, "id": "b", "answer": 5}, {**row, "id": "c", "answer": 6}]),
    )
    assert bad.code == 1
    assert "2 rejected: gold out of range (first: made:b, 5, with 2 options)" in bad.out


def test_the_packaged_tasks_are_sound(salad: Salad) -> None:
    ended = salad("tasks", "validate")
    assert (ended.code, "840 items in 14 domains" in ended.out) == (0, True)


def test_plugins_are_listed_and_broken_ones_found_out(salad: Salad, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = salad("plugins", "list")
    assert listed.code == 0
    assert {info.name for group in plugins.GROUPS for info in plugins.available(group)} <= set(
        listed.out.replace("│", " ").split()
    )
    break_one(monkeypatch, "salad.tts", "mute", "no_such_module:Mute")
    loaded = salad("plugins", "list", "--load")
    assert loaded.code == 1
    assert "no_such_module" in loaded.out


# --- speech ----------------------------------------------------------------------------------------------------------


def test_texts_are_spoken_into_files(salad: Salad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    ended = salad(
        "render", "It weighs 5 kg.", "--voices", "en-us+f3", "--voices", "en-us+m7", "--out", tmp_path / "sound"
    )
    assert ended.code == 0, ended.err
    assert "written: It weighs 5 kg." in ended.out
    assert "kilogram" in ended.out
    assert len(list((tmp_path / "sound").glob("*.wav"))) == 2


def test_a_tasks_items_are_spoken_into_files(
    salad: Salad, tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    ended = salad(
        "render", "--task", tiny_task, "--limit", 2, "--voices", "en-us+f3,en-us+m7", "--out", tmp_path / "sound"
    )
    assert ended.code == 0, ended.err
    files = {str(path) for path in (tmp_path / "sound").glob("*.wav")}
    assert len(files) == 4
    # What was rendered is what a task asks that names its manifest.
    fields = yaml.safe_load(tiny_task.read_text())
    fields["metadata"]["salad"]["audio"] = {
        "manifest": str(tmp_path / "sound" / "manifest.jsonl"),
        "folder": str(tmp_path),
    }
    tiny_task.write_text(yaml.safe_dump(fields))
    items, rejects, _ = load_items(load_task(str(tiny_task)), "test")
    assert {one.file for item in items for one in item.recordings} == files
    assert {tuple(one.voice for one in item.recordings) for item in items} == {("en-us+f3", "en-us+m7")}
    assert (len(items), {reject.reason for reject in rejects}) == (2, {"not in the manifest"})


def test_files_are_transcribed(
    salad: Salad, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    salad("render", "Two words.", "Two more words.", "--out", tmp_path / "sound")
    files = sorted((tmp_path / "sound").glob("*.wav"))
    ended = salad(
        "transcribe",
        *files,
        "--reference",
        "Two words.",
        "--reference",
        "Two more words.",
        "--set-asr",
        f"pretrained={tiny_models['asr']}",
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("WER ") == 3
    assert "of 5 words" in ended.out
    (tmp_path / "empty.wav").write_bytes(b"")
    assert salad("transcribe", tmp_path / "empty.wav", "--set-asr", f"pretrained={tiny_models['asr']}").code == 1


def test_a_runs_renderings_are_transcribed(
    salad: Salad, plan_file: Path, tiny_plan: dict[str, Any], only_json: None
) -> None:
    salad("run", "--plan", plan_file, "--limit", 2)
    ended = salad("transcribe", "--run", tiny_plan["out"])
    assert ended.code == 0, ended.err
    assert ended.out.count("heard: ") == 4
    assert "WER of en-us+f3: " in ended.out


# --- what nobody foresaw ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyError("x"), 1, "render: KeyError in"),
        (RecursionError("too deep"), 1, "RecursionError"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/a/report.md"),
            1,
            "render: runs/a/report.md: Permission denied.",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/a/card.png"),
            1,
            "runs/a/card.png: Read-only file system.",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, "(300 characters): File name too long."),
    ],
)
def test_the_last_guard_says_one_sentence_and_debug_the_rest(
    salad: Salad, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    shown = salad("render", "hello")
    assert shown.code == code
    assert said in shown.err
    assert shown.err.startswith("salad: ")
    assert len(shown.err.splitlines()) == 1
    assert "Traceback" not in shown.err
    with pytest.raises(type(error)):
        main(["render", "hello", "--debug"])


def test_ctrl_c_says_what_is_kept(salad: Salad, monkeypatch: pytest.MonkeyPatch) -> None:
    from salad_eval.pipeline import run as line

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(line, "run", stop)
    shown = salad("run", "--preset", "nano")
    assert shown.code == 130
    assert "salad run: stopped. What was finished is kept: the same command goes on from there." in shown.err


def test_control_characters_do_not_reach_the_terminal(salad: Salad) -> None:
    shown = salad("report", "runs/\x1b[31mred\x07\x9b")
    assert shown.code == 2
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.err)


@pytest.mark.parametrize("command", ["run", "render", "compare", "items", "tasks show", "select", "train"])
def test_help_is_printed_as_it_was_written(salad: Salad, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = salad(*command.split(), "--help")
    assert shown.code == 0
    assert "…" not in [word[-1:] for word in shown.out.split() if word.startswith("--")]
    if command == "run":
        assert "[config/]" in "".join(shown.out.split())


def test_file_names_of_long_texts_are_cut(salad: Salad, tmp_path: Path) -> None:
    from salad_eval.cli.speech import _file_name

    long, other = _file_name("a" * 300 + ".wav"), _file_name("a" * 300 + ".mp3")
    assert len(long.encode()) <= 200
    assert long != other
    assert _file_name("text1.context.en-us+f3") == "text1.context.en-us+f3"


def test_training_commands_say_what_they_do(salad: Salad, monkeypatch: pytest.MonkeyPatch) -> None:
    break_one(monkeypatch, "salad.commands", "wreck", "no_such_module:app")
    told = " ".join(salad("--help").out.split())
    for words in (
        "loop Evaluate, select what",
        "select Choose what to speak next",
        "train Train by a recipe",
        "synthesise Speak a selection",
    ):
        assert words in told
    assert "wreck Commands of" in told


def test_a_small_two_behind_a_path_is_said(salad: Salad, tmp_path: Path) -> None:
    shown = salad("render", "/etc/passwd²", "--out", tmp_path)
    assert shown.code == 0, shown.err
    assert "two" in shown.out.partition("spoken:")[2]
