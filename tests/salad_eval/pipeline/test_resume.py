"""A run that is killed anywhere goes on where it was: nothing lost, nothing done twice, the same report."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval import plugins, records, report
from salad_eval.errors import SaladError
from salad_eval.pipeline import divergence, folder, render, respond, score, transcribe
from salad_eval.pipeline.folder import DONE_FILE, RunFolder, Step
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.types import Score

STEPS = (
    "render", "transcribe", "respond.base_text", "respond.base_transcript", "respond.adapted_text", "respond.adapted_speech",
    "score", "comparable", "divergence",
)  # fmt: skip


CHUNKS: dict[Any, int] = {render: 4, transcribe: 5, respond: 3, score: 3, divergence: 3}


class Killed(BaseException):
    """Stands for SIGKILL within the process: nothing may catch it."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks a step, on eight items."""
    for step, n in CHUNKS.items():
        monkeypatch.setattr(step, "STEP", replace(step.STEP, chunk=n))
    monkeypatch.setattr(respond, "HEARD_AT_A_TIME", 3)


pytestmark = pytest.mark.usefixtures("only_json")


def finished(plan: dict[str, Any], out: Path) -> bytes:
    run(Plan.from_mapping({**plan, "out": str(out)}), again=True)
    assert (out / DONE_FILE).exists()
    return (out / "gap_report.json").read_bytes()


def kill_after(monkeypatch: pytest.MonkeyPatch, step: str, n_lines: int) -> None:
    """Make the process die when ``step`` has written ``n_lines`` lines or more."""
    append = folder._Unfinished.append

    def dying(unfinished: Any, fresh: Sequence[Any]) -> None:
        lines = unfinished._lines
        if lines.name == f"{step}.jsonl.partial" and n_lines == 0:
            raise Killed
        append(unfinished, fresh)
        if lines.name == f"{step}.jsonl.partial" and len(lines.read_bytes().splitlines()) >= n_lines:
            raise Killed

    monkeypatch.setattr(folder._Unfinished, "append", dying)


@pytest.fixture
def whole(tiny_plan: dict[str, Any], tmp_path: Path, _reports: list[bytes]) -> bytes:
    """The report of a run that nobody disturbed; no path is in it, so one does for all tests."""
    if not _reports:
        _reports.append(finished(tiny_plan, tmp_path / "whole"))
    return _reports[0]


@pytest.fixture(scope="module")
def _reports() -> list[bytes]:
    return []


@pytest.mark.parametrize("n_lines", [0, 4])
@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_step_it_ends_in_the_same_report(
    step: str, n_lines: int, whole: bytes, tiny_plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        kill_after(patch, step, min(n_lines, 1) if step == "comparable" else n_lines)
        with pytest.raises(Killed):
            finished(tiny_plan, out)
    assert not (out / DONE_FILE).exists()
    assert finished(tiny_plan, out) == whole


def test_killed_again_and_again_it_asks_nothing_twice(
    whole: bytes, tiny_plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    written: Counter[tuple[str, str]] = Counter()
    append = folder._Unfinished.append

    def counting(unfinished: Any, fresh: Sequence[Any]) -> None:
        written.update((unfinished._lines.name, records.dumps(line)) for line in fresh)
        append(unfinished, fresh)

    monkeypatch.setattr(folder._Unfinished, "append", counting)
    for step in STEPS:
        if step == "comparable":
            continue
        with monkeypatch.context() as patch:
            kill_after(patch, step, 4)
            with pytest.raises(Killed):
                finished(tiny_plan, out)
    assert finished(tiny_plan, out) == whole
    assert len(written) > 100
    asked = Counter(
        {line: n for line, n in written.items() if line[0] != "limits.jsonl.partial"}
    )  # where equal lines stand for many
    assert max(asked.values()) == 1


def test_killed_by_the_system_it_goes_on(whole: bytes, tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    """A real process and a real SIGKILL, in the middle of writing a line."""
    out, plan = tmp_path / "killed", tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({**tiny_plan, "out": str(out)}))
    script = f"""
import os, signal
from dataclasses import replace
from salad_eval import records
from salad_eval.pipeline import divergence, render, respond, run, score, transcribe
for step, n in ((render, 4), (transcribe, 5), (respond, 3), (score, 3), (divergence, 3)):
    step.STEP = replace(step.STEP, chunk=n)
respond.HEARD_AT_A_TIME = 3
write_all, seen = records.write_all, []
def dying(file, data):
    if b'"base_transcript"' in data:
        seen.append(data)
        if len(seen) == 2:
            write_all(file, data[:40])
            os.kill(os.getpid(), signal.SIGKILL)
    write_all(file, data)
records.write_all = dying
run.evaluate({str(plan)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / "respond.base_transcript.jsonl.partial").read_bytes()[-1:] != b"\n"
    assert finished(tiny_plan, out) == whole


# --- what is used again, and what is not -----------------------------------------------------------------------------


def made_anew(plan: dict[str, Any], out: Path) -> set[str]:
    """The steps whose files a run wrote, of those that lay in the folder before."""
    before = {step: (out / f"{step}.jsonl").stat().st_mtime_ns for step in STEPS}
    finished(plan, out)
    return {step for step in STEPS if (out / f"{step}.jsonl").stat().st_mtime_ns != before[step]}


@pytest.fixture
def run_folder(tiny_plan: dict[str, Any], tmp_path: Path) -> Path:
    finished(tiny_plan, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_is_not_made_again_and_loads_no_model(
    run_folder: Path, tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = plugins.create
    created: list[str] = []
    monkeypatch.setattr(
        plugins, "create", lambda group, name, options: created.append(name) or create(group, name, options)
    )
    assert made_anew(tiny_plan, run_folder) == set()
    assert created == ["pyttsx3"]  # which is light, and has no files that could tell whether it changed


def with_option(plan: dict[str, Any], role: str, **options: Any) -> dict[str, Any]:
    return {**plan, role: {**plan[role], "options": {**plan[role]["options"], **options}}}


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], set[str]]] = {
    "resampling": (lambda plan: {**plan, "n_resamples": 300}, set()),
    "workers": (lambda plan: {**plan, "workers": 2}, set()),
    "base": (
        lambda plan: with_option(plan, "base", max_length=100),
        {"respond.base_text", "respond.base_transcript", "comparable", "divergence"},
    ),
    "adapted": (
        lambda plan: with_option(plan, "adapted", max_length=100),
        {"respond.adapted_text", "respond.adapted_speech", "comparable", "divergence"},
    ),
    "score": (
        lambda plan: {**plan, "score": "ll_norm"},
        {"score", "respond.base_text", "respond.base_transcript", "respond.adapted_text", "respond.adapted_speech"},
    ),
    "voices": (
        lambda plan: {**plan, "voices": ["en-us+f3"]},
        set(STEPS) - {"respond.base_text", "respond.adapted_text", "comparable"},
    ),
    "limit": (lambda plan: {**plan, "limit": 5}, set(STEPS) - {"comparable"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_depends_on_a_change_is_made_anew(change: str, run_folder: Path, tiny_plan: dict[str, Any]) -> None:
    changed, expected = CHANGES[change]
    assert made_anew(changed(tiny_plan), run_folder) == expected


def test_new_weights_under_an_old_name_are_noticed(
    run_folder: Path, tiny_plan: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "base"
    shutil.copytree(tiny_models["base"], copy)
    plan = with_option(tiny_plan, "base", pretrained=str(copy))
    finished(plan, run_folder)
    weights = load_file(copy / "model.safetensors")
    save_file(
        {name: tensor * 1.5 for name, tensor in weights.items()}, copy / "model.safetensors", metadata={"format": "pt"}
    )
    redone = made_anew(plan, run_folder)
    assert {"respond.base_text", "respond.base_transcript", "divergence"} <= redone
    assert not redone & {"render", "transcribe", "respond.adapted_text", "respond.adapted_speech"}


def test_a_raised_step_version_makes_its_lines_anew(
    run_folder: Path, tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "STEP", replace(transcribe.STEP, version="next"))
    assert made_anew(tiny_plan, run_folder) == {
        "transcribe"
    }  # the transcripts came out equal, and with them all that follows


def test_a_file_that_is_there_means_nothing_by_itself(whole: bytes, tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "foreign"
    out.mkdir()
    for step in STEPS:
        (out / f"{step}.jsonl").write_text("not ours\n")
        (out / f"{step}.jsonl.partial").write_text("nor this\n")
    (out / DONE_FILE).write_text("done\n")
    (out / "steps.json").write_text("{}garbage")
    assert finished(tiny_plan, out) == whole


def test_sound_that_has_gone_from_the_store_is_made_again(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    import shutil

    plan = {**tiny_plan, "audio_store": str(tmp_path / "audio")}
    finished(plan, tmp_path / "run")
    shutil.rmtree(tmp_path / "audio")
    assert "render" in made_anew(plan, tmp_path / "run")


def test_a_run_that_goes_on_keeps_its_time_stamp(
    tiny_plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {**tiny_plan, "created": None}
    with monkeypatch.context() as patch:
        kill_after(patch, "score", 1)
        with pytest.raises(Killed):
            finished(plan, tmp_path / "run")
    begun = Plan.from_yaml(tmp_path / "run" / "plan.json").created
    finished(plan, tmp_path / "run")
    assert begun is not None
    assert report.load_report(tmp_path / "run").created == begun


def test_two_processes_do_not_write_to_one_folder(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run"), pytest.raises(SaladError, match="another process is writing"):
        finished(tiny_plan, tmp_path / "run")


# --- the folder ------------------------------------------------------------------------------------------------------


def scores(units: Sequence[int]) -> list[Score]:
    return [Score(str(unit), "base_text", None, None, 1.0) for unit in units]


def step(chunk: int = 3) -> Step[Score]:
    return Step("score", Score, version="1", chunk=chunk)


def test_a_step_that_gives_too_few_records_is_an_error(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder, pytest.raises(SaladError, match="1 records for 2 units"):
        folder.run(step(), [1, 2], lambda chunks: [scores(part[:1]) for part in chunks], depends_on={})


@pytest.mark.parametrize("n_units", [0, 1, 7])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_step_gives_the_same_whether_made_or_read(n_units: int, chunk: int, tmp_path: Path) -> None:
    calls: list[Sequence[int]] = []

    def make(chunks: Sequence[Sequence[int]]) -> Iterable[list[Score]]:
        calls.extend(chunks)
        return map(scores, chunks)

    with RunFolder(tmp_path) as folder:
        made = folder.run(step(chunk), list(range(n_units)), make, depends_on={"a": "1"})
        seen = len(calls)
        again = folder.run(step(chunk), list(range(n_units)), make, depends_on={"a": "1"})
    assert [score.item_id for score in made] == [str(n) for n in range(n_units)]
    assert again == made
    assert len(calls) == seen
    assert all(len(part) <= chunk for part in calls)
