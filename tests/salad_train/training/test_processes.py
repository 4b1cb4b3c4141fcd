"""Where a training works: all of it on the device that its plan names, and of several processes each on its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from salad_eval.errors import UserInputError
from salad_eval.records import read_jsonl
from salad_train.training.plan import StepLog
from salad_train.training.processes import LONGEST_WAIT, own_device
from salad_train.training.warm_start import WarmStartLog
from tests.helpers.places import TESTS
from tests.helpers.second_device import NAME
from tests.helpers.stages_on_second_device import run


def test_both_stages_work_on_the_device_of_their_plan_from_the_first_sound_on(tmp_path: Path) -> None:
    """A tensor of another device would raise, and modules tell where they were read. Numbers are the CPU's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.stages_on_second_device", str(tmp_path / NAME)],
        cwd=TESTS.parent,
        env={**os.environ, "ACCELERATE_TORCH_DEVICE": NAME, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    read = json.loads(done.stdout.splitlines()[-1])
    assert read.keys() == {NAME}
    assert {"ParakeetEncoder", "SaladAdapter", "LlamaDecoderLayer"} <= set(read[NAME])
    run(tmp_path / "cpu", "cpu")
    for stage in ("stage1", "stage2"):
        ours, theirs = (read_jsonl(tmp_path / name / stage / "train.jsonl", StepLog) for name in (NAME, "cpu"))
        assert [line.grad_norm for line in ours] == pytest.approx([line.grad_norm for line in theirs], rel=1e-3)
    ours, theirs = (read_jsonl(tmp_path / name / "stage1/warm_start/log.jsonl", WarmStartLog) for name in (NAME, "cpu"))
    assert [line.loss for line in ours] == pytest.approx([line.loss for line in theirs], rel=1e-4)


def test_one_process_works_where_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert own_device("cpu") == torch.device("cpu")
    assert own_device("meta") == torch.device("meta")
    with pytest.raises(UserInputError, match="device 'gpu' is not one that torch knows"):
        own_device("gpu")


def test_of_several_processes_each_works_on_its_own_and_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL gives up after ten minutes unless it is told otherwise; the first process may speak and encode for days."""
    asked: list[dict[str, Any]] = []

    def state(**options: Any) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(device=torch.device("meta", 3))

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr("accelerate.PartialState", state)
    assert own_device("cuda") == torch.device("meta", 3)
    assert asked == [{"cpu": False, "timeout": LONGEST_WAIT}]
    assert LONGEST_WAIT.days >= 1
