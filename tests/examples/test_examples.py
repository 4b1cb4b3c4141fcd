"""The examples run as they are, from the command line's point of view, and close the gap that they show."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from salad_train.steering.callback import GapMeasurement, read_history

EXAMPLES = Path(__file__).parent


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(monkeypatch: pytest.MonkeyPatch, name: str, out: Path, steps: int = 60) -> list[GapMeasurement]:
    monkeypatch.setattr(sys, "argv", [name, "--out", str(out), "--steps", str(steps)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return read_history(out)


def test_a_plain_trainer_draws_by_the_gap_until_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = run(monkeypatch, "plain_trainer.py", tmp_path)
    assert [found.step for found in history] == [0, 10, 20, 30, 40, 50, 60]
    assert history[0].domains["metals"] > 0.8 > 0.1 > history[0].domains["capitals"]
    assert history[0].update is not None
    assert history[0].update.weights == {"capitals": 0.05, "metals": 1.0}
    assert history[-1].gap <= history[0].gap / 4
    assert capsys.readouterr().out.count("step ") == 7


def test_a_bare_loop_that_is_stopped_and_started_again_ends_where_it_would_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run(monkeypatch, "bare_loop.py", tmp_path / "whole", steps=40)
    assert [found.step for found in whole] == [10, 20, 30, 40]
    assert whole[-1].gap < 0.25
    run(monkeypatch, "bare_loop.py", tmp_path / "parts", steps=20)
    state = json.loads((tmp_path / "parts" / "state.json").read_text())
    assert 0 < state["sampler"]["position"] < 48  # in the middle of an epoch
    again = run(monkeypatch, "bare_loop.py", tmp_path / "parts", steps=40)
    assert [(found.step, found.gap, found.update) for found in again] == [
        (found.step, found.gap, found.update) for found in whole
    ]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all((one[key] == other[key]).all() for key in one)
