"""The command called in this process, and runs by stand-ins to call it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from salad_eval.cli.main import main
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.testing.installed import installed
from tests.salad_eval.benchmarks.test_items import make_task
from tests.salad_eval.pipeline.conftest import TARGETS


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Salad = Callable[..., Ended]


@pytest.fixture
def salad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Salad:
    """Call ``salad`` in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def call(*args: object) -> Ended:
        code = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


def plan_of(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    """A plan that stand-ins run in a second: one task with options, two voices in two conditions."""
    task = folder / "task"
    if not task.is_dir():
        task.mkdir()
        make_task(task, task="choice")
    return {
        "name": name,
        "tasks": [str(next(task.glob("*.yaml")))],
        "voices": ["high", "low"],
        "perturbations": ["clean", "telephone"],
        "tts": {"name": "tones"},
        "asr": {"name": "tones", "options": {"deaf_to": "v"}},
        "base": {"system": "hashed", "options": {"name": "base", "hears": False}},
        "adapted": {"system": "hashed", "options": {"name": f"ears-{name}"}},
        "score": "ll_norm",  # a model of digests would choose the shortest option under ll
        "n_resamples": 100,
        "workers": 1,
        "out": str(folder / name),
        "audio_store": str(folder / "audio"),
        **changes,
    }


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("stand-ins"), TARGETS):  # type: ignore[arg-type]
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, stand_ins: None) -> Path:
    """A folder with three finished runs, ``monday``, ``tuesday`` and ``wednesday``, with all their views."""
    folder = tmp_path_factory.mktemp("runs")
    for day, name in enumerate(("monday", "tuesday", "wednesday"), start=1):
        run(Plan.from_mapping(plan_of(folder, name, created=f"2025-01-0{day}T00:00:00+00:00")))
    return folder
