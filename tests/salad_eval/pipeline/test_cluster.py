"""The engine ``ray`` on a cluster of several nodes of this machine: what the local engine gives, whatever is lost on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from salad_eval.audio.store import AudioStore
from salad_eval.errors import SaladError, UserInputError
from salad_eval.pipeline import cluster
from salad_eval.pipeline.cluster import Cluster, Need, RayWorkers
from salad_eval.pipeline.engines import EngineChoice, Workshop
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.records import write_jsonl
from salad_train.selection import embed
from salad_train.selection.files import SelectPlan
from salad_train.selection.select import Voice, readers_of, select
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.synthesise import tokenizer_of
from salad_train.training.batches import BatchLimits
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import Stage2Plan
from salad_train.training.teacher_cache import Lesson, TeacherRef, TeacherStates
from salad_train.types import Corpus, TextDocument
from tests.helpers.products import Number
from tests.helpers.squares import Place, Square, square
from tests.helpers.tiny_causal_lm import TEXTS

pytest.importorskip("ray", reason="Ray is an extra: pip install 'salad-gap[ray]'")

TIMEOUT = 60.0


def gone(number: Number, how: str) -> Square:
    return Square(None, how)


def chunks(*values: int, size: int = 2) -> list[list[Number]]:
    return [[Number(value) for value in values[at : at + size]] for at in range(0, len(values), size)]


class Nodes:
    """A cluster of a head without CPUs and nodes of one each."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._nodes: list[Any] = []
        self.joined = Cluster(cluster.address)

    def crew(self, need: Need = Need(), workers: int | None = None) -> RayWorkers:
        return RayWorkers(self.joined, need, workers, TIMEOUT)

    def add(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=80 << 20))

    def lose_one(self) -> None:
        """As a machine is lost: all that runs on it at once."""
        node = self._nodes.pop()
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        everything = [raylet, *raylet.children(recursive=True)]
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster as LocalNodes

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    local = LocalNodes(initialize_head=True, head_node_args=head)
    here = Nodes(local)
    for _ in range(2):
        here.add()
    here.joined.connect()
    yield here
    here.joined.close()
    local.shutdown()


def begun(folder: Path, value: int) -> list[tuple[int, int]]:
    """The processes that have worked on a number, and their parents."""
    names = [path.name.split("-") for path in folder.glob(f"begun-{value}-*")]
    return [(int(pid), int(parent)) for _, _, pid, parent in names]


def when_begun(folder: Path, *values: int, then: Any) -> threading.Thread:
    """Do something once all these numbers are being worked on, and open their gates."""
    gates = [folder / f"gate-{value}" for value in values]
    for gate in gates:
        gate.touch()

    def watch() -> None:
        while not all(begun(folder, value) for value in values):
            time.sleep(0.02)
        then()
        for gate in gates:
            gate.unlink()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_come_in_order_from_every_node(nodes: Nodes, tmp_path: Path) -> None:
    given = chunks(*range(40))
    found = list(nodes.crew().map(Work(square, Place(str(tmp_path))), given))
    assert [[one.value for one in part] for part in found] == [[n.value**2 for n in part] for part in given]
    worked = Counter(begun(tmp_path, value)[0] for value in range(40))
    assert len(worked) == 2
    assert sum(worked.values()) == 40
    assert list(nodes.crew().map(Work(square, Place(str(tmp_path))), [])) == []


def test_a_unit_that_ends_its_process_is_the_only_one_lost(nodes: Nodes, tmp_path: Path) -> None:
    given = chunks(1, 2, 3, -4, 5, 6)
    found = [one for part in nodes.crew().map(Work(square, Place(str(tmp_path)), lost=gone), given) for one in part]
    assert [one.value for one in found] == [1, 4, 9, None, 25, 36]
    assert "exit code 7" in found[3].how
    with pytest.raises(SaladError, match="worker process ended with exit code 7"):
        list(nodes.crew().map(Work(square, Place(str(tmp_path))), given))


def test_an_error_over_there_is_the_same_error_here(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="2000000 is too large") as caught:
        list(nodes.crew().map(Work(square, Place(str(tmp_path))), chunks(1, 2_000_000)))
    assert str(caught.value) == "2000000 is too large."


# --- what is lost on the way -----------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_midst_costs_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """The actor, and with it the process that it holds."""
    killed = when_begun(tmp_path, 11, then=lambda: os.kill(begun(tmp_path, 11)[0][1], signal.SIGKILL))
    found = [
        one.value for part in nodes.crew().map(Work(square, Place(str(tmp_path))), chunks(*range(24))) for one in part
    ]
    killed.join(TIMEOUT)
    assert found == [value**2 for value in range(24)]
    assert len(begun(tmp_path, 11)) == 2  # the second time by another one
    assert max(len(begun(tmp_path, value)) for value in range(10)) == 1


def test_a_node_killed_in_the_midst_costs_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """While both nodes are at work: what the lost one was working on is done again, on the one that is left."""
    killed = when_begun(tmp_path, 8, 10, then=nodes.lose_one)
    found = [
        one.value for part in nodes.crew().map(Work(square, Place(str(tmp_path))), chunks(*range(16))) for one in part
    ]
    killed.join(TIMEOUT)
    nodes.add()
    assert found == [value**2 for value in range(16)]
    assert sorted(len(begun(tmp_path, value)) for value in (8, 10)) == [1, 2]


def test_what_is_lost_again_and_again_is_given_up(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_LOSSES", 1)
    when_begun(tmp_path, 3, then=lambda: os.kill(begun(tmp_path, 3)[0][1], signal.SIGKILL))
    with pytest.raises(SaladError, match="a chunk of work was lost with its worker 1 times"):
        list(nodes.crew().map(Work(square, Place(str(tmp_path))), chunks(*range(8))))


def test_a_node_killed_in_the_midst_of_a_run_loses_and_doubles_nothing(
    nodes: Nodes, fake_plan: dict[str, Any], tmp_path: Path
) -> None:
    """A whole run, by stand-ins, on stores of their own: every file equal to those of this machine's engine, byte for byte."""
    fake_plan |= {"controls": ["floor"], "workers": 2}
    here = fake_plan | {"out": str(tmp_path / "here"), "audio_store": str(tmp_path / "sound-here")}
    there = fake_plan | {"out": str(tmp_path / "there"), "audio_store": str(tmp_path / "sound-there")}
    nodes.joined.discharge()  # the places are the run's
    run(Plan.from_mapping(here))
    lines = tmp_path / "there" / "respond.base_text.jsonl"

    done_by_then: list[bool] = []

    def lose_a_node() -> None:
        while not lines.exists():
            time.sleep(0.02)
        nodes.lose_one()
        done_by_then.append((tmp_path / "there" / "DONE").exists())

    losing = threading.Thread(target=lose_a_node, daemon=True)
    losing.start()
    run(Plan.from_mapping(there | {"engine": {"name": "ray", "models": 2}}))
    losing.join(TIMEOUT)
    assert done_by_then == [False]
    nodes.add()
    made = [path.name for path in sorted((tmp_path / "here").glob("*.jsonl"))]
    assert {"render.jsonl", "transcribe.jsonl", "respond.adapted_speech.jsonl", "divergence.jsonl"} <= set(made)
    for name in [*made, "gap_report.json"]:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    sounds = [
        sorted(path.name for path in (tmp_path / place).rglob("*.wav")) for place in ("sound-here", "sound-there")
    ]
    assert sounds[0] == sounds[1] != []
    assert not list((tmp_path / "sound-there").rglob("*.tmp"))


def test_a_corpus_is_embedded_probed_and_read_by_a_teacher_as_here(
    nodes: Nodes, tiny_models: dict[str, Path], audio_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte."""
    monkeypatch.setattr(embed, "CHUNK", 30)
    stage = Stage2Plan(
        train=TrainPlan(steps=1),
        voices=("en-us+f3",),
        interleave=InterleaveSpec(text=WordRange(1, 3), speech=WordRange(1, 3)),
        init=str(tiny_models["speech"]),
        base=str(tiny_models["base"]),
    )
    documents = [TextDocument(f"d{n}", f"{text} Note {n}.") for n, text in enumerate(TEXTS[:3] * 40)]
    texts = [np.arange(n, n + 9 + n % 3) for n in range(24)]
    plan = SelectPlan(budget_seconds=20.0, clusters=9, probe_documents=1, embedder_options={"width": 3})
    nodes.joined.discharge()  # the places are the workshop's

    with Workshop(EngineChoice(name="ray", models=2)) as there:
        for place, shop in (("here", Workshop()), ("there", there)):
            voice = Voice(stage, TTSSpeaker(AudioStore(audio_store)), tokenizer_of(stage))
            corpus = Corpus(documents, (), "a corpus")
            found = select(plan, corpus, voice, tmp_path / place, readers=readers_of(stage), shop=shop)
            write_jsonl(tmp_path / place / "selected.jsonl", found.documents)
            teacher = TeacherRef(stage.base)
            states = TeacherStates(tmp_path / place, teacher.open())
            assert states.fill(texts, limits=BatchLimits(40, 4), lesson=Lesson(teacher, shop)) == 24
    for name in ("selected.jsonl", "probe.jsonl", "frames.f16", "index.jsonl", "store.jsonl"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


# --- room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "resources", "n"),
    [
        (Need(), {"CPU": 5.0}, 5),
        (Need(threads=2), {"CPU": 5.0}, 2),
        (Need(gpus=0.5), {"CPU": 16.0, "GPU": 2.0}, 4),
        (Need(gpus=0.1), {"CPU": 16.0, "GPU": 0.3}, 3),
        (Need(threads=8, gpus=0.5), {"CPU": 16.0, "GPU": 2.0}, 2),
        (Need(gpus=1), {"CPU": 16.0}, 0),
    ],
)
def test_so_many_workers_fit(need: Need, resources: dict[str, float], n: int) -> None:
    assert need.fit_in(resources) == n


def test_a_cluster_without_room_is_said_at_once(nodes: Nodes, tmp_path: Path) -> None:
    lone = nodes.crew(Need(gpus=0.5))
    with pytest.raises(
        UserInputError, match=r"needs 1 CPUs and 0\.5 GPUs of one node, and the cluster's nodes have 0 and 0, 1 and 0"
    ):
        list(lone.map(Work(square, Place(str(tmp_path))), chunks(1)))


def test_workers_that_find_no_node_are_waited_for_and_then_given_up(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "START_SECONDS", 0.5)
    lone = nodes.crew(Need(gpus=0.5), workers=1)
    with pytest.raises(SaladError, match=r"no node of the cluster had room for a worker within 0.5 s"):
        list(lone.map(Work(square, Place(str(tmp_path))), chunks(1)))
