"""Engines: what each makes, what a choice may say, and that models in several processes give what one gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from salad_eval.errors import MissingExtraError, UserInputError
from salad_eval.pipeline.cluster import Cluster, RayWorkers
from salad_eval.pipeline.engines import EngineChoice, open_engine
from salad_eval.pipeline.executor import InProcess, WorkerProcesses
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.pipeline.session import changed_keys
from salad_eval.pipeline.tools import Tools


def test_this_machine_has_models_in_its_own_process_unless_told() -> None:
    engine = open_engine(EngineChoice(), None, 7.0)
    models, voices = engine.models(Tools()), engine.voices(Tools(), apart=True)
    assert isinstance(models, InProcess)
    assert isinstance(voices, WorkerProcesses)
    assert (models.timeout, voices.timeout, voices.workers, voices.apart) == (7.0, 7.0, os.cpu_count(), True)
    several = open_engine(EngineChoice(models=3, threads=2)).models(Tools())
    assert isinstance(several, WorkerProcesses)
    assert (several.workers, several.threads, several.apart) == (3, 2, True)


def test_a_cluster_is_not_asked_before_there_is_work() -> None:
    choice = EngineChoice(name="ray", address="nowhere:1", models=4, threads=2, gpus=0.5)
    engine = open_engine(choice, 6, 7.0)
    models, voices = engine.models(Tools()), engine.voices(Tools(), apart=False)
    assert isinstance(models, RayWorkers)
    assert isinstance(voices, RayWorkers)
    assert (models.workers, models.need.threads, models.need.gpus, models.timeout) == (4, 2, 0.5, 7.0)
    assert (voices.workers, voices.need.threads, voices.need.gpus) == (6, 1, 0.0)
    engine.close()


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"name": "slurm"}, "engine.name"),
        ({"address": "auto"}, "address is for a cluster, and the engine is local: say --engine ray"),
        ({"gpus": 0.5}, "gpus is for a cluster"),
        ({"name": "ray", "gpus": -1}, "engine.gpus"),
        ({"models": 0}, "engine.models"),
        ({"name": "ray", "nodes": 4}, "engine.nodes"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(fake_plan: dict[str, Any], engine: dict[str, Any], said: str) -> None:
    with pytest.raises(UserInputError, match=said):
        Plan.from_mapping(fake_plan | {"engine": engine})


def test_without_ray_its_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'salad-gap\[ray\]'"):
        Cluster().connect()


def test_the_engine_is_no_part_of_the_numbers(fake_plan: dict[str, Any]) -> None:
    plan, other = Plan.from_mapping(fake_plan), Plan.from_mapping(fake_plan | {"engine": {"name": "ray"}})
    assert changed_keys(plan, other) == []


def test_models_in_several_processes_give_what_one_gives(fake_plan: dict[str, Any], tmp_path: Path) -> None:
    """Byte for byte, on stores of their own, by processes that stay for the whole run and end with it."""
    for name, engine in (("one", {}), ("several", {"models": 2})):
        mine = {"out": str(tmp_path / name), "audio_store": str(tmp_path / f"sound-{name}"), "engine": engine}
        run(Plan.from_mapping(fake_plan | mine))
    made = [path.name for path in sorted((tmp_path / "one").glob("*.jsonl"))]
    assert len(made) > 8
    for name in [*made, "gap_report.json"]:
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
