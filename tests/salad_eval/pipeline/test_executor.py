"""Work on chunks by plain functions: the same results in the same order, whoever does it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from salad_eval.errors import SaladError, UserInputError
from salad_eval.pipeline import divergence, executor, render, respond, speak, transcribe
from salad_eval.pipeline.executor import Chunks, Executor, InProcess, Work, WorkerProcesses
from salad_eval.pipeline.worker import classes_of
from salad_train.selection import embed, probe
from salad_train.training import teacher_cache
from tests.helpers.products import Number, Product, Times, multiply
from tests.helpers.squares import Place, square


def lost(number: Number, how: str) -> Product:
    return Product(None, 0, how)


def chunks(*sizes: int) -> list[list[Number]]:
    numbers = iter(range(sum(sizes)))
    return [[Number(next(numbers)) for _ in range(size)] for size in sizes]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers for any amount of work, once the first chunk is done here; on their side as many threads as any of ours."""
    monkeypatch.setattr(executor, "WORKER_START_SECONDS", 0.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


@pytest.mark.parametrize("crew", [InProcess(), WorkerProcesses(1), WorkerProcesses(2)])
@pytest.mark.parametrize("sizes", [(), (1,), (3, 3, 2), (1,) * 12])
def test_results_are_those_of_the_chunks_in_order(crew: Executor, sizes: tuple[int, ...]) -> None:
    found = list(crew.map(Work(multiply, Times(7)), chunks(*sizes)))
    assert [[one.value for one in part] for part in found] == [[7 * n.value for n in part] for part in chunks(*sizes)]
    processes = {one.process for part in found for one in part}
    if isinstance(crew, InProcess) or crew.workers == 1 or len(sizes) < 2:
        assert processes <= {os.getpid()}
    else:
        assert processes - {os.getpid()}


def test_a_unit_that_ends_its_process_is_the_only_one_lost() -> None:
    found = list(WorkerProcesses(2).map(Work(multiply, Times(13), lost=lost), chunks(4, 4, 4, 4)))
    values = [one.value for part in found for one in part]
    assert values == [13 * n if n != 13 else None for n in range(16)]
    assert "exit code 5" in found[3][1].how
    with pytest.raises(SaladError, match="worker process ended with exit code 5"):
        list(WorkerProcesses(2).map(Work(multiply, Times(13)), chunks(4, 4, 4, 4)))


def test_a_worker_killed_in_the_midst_costs_nothing_where_nothing_may_be_lost(tmp_path: Path) -> None:
    gate = tmp_path / "gate-5"
    gate.touch()

    def kill() -> None:
        while not (begun := list(tmp_path.glob("begun-5-*"))):
            time.sleep(0.01)
        os.kill(int(begun[0].name.split("-")[2]), signal.SIGKILL)
        gate.unlink()

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    crew = WorkerProcesses(2, apart=True)
    found = [one.value for part in crew.map(Work(square, Place(str(tmp_path))), chunks(2, 2, 2, 2)) for one in part]
    killing.join(60)
    assert found == [n**2 for n in range(8)]
    assert len(list(tmp_path.glob("begun-5-*"))) == 2


@pytest.mark.parametrize("crew", [InProcess(), WorkerProcesses(2), WorkerProcesses(2, apart=True)])
def test_chunks_are_made_when_they_are_asked_for(crew: Executor) -> None:
    made: list[int] = []

    def make(number: int) -> list[Number]:
        made.append(number)
        return [Number(number)]

    given = Chunks(make, range(40))
    assert (len(given), [one.value for one in given[39]], [len(given[n:]) for n in (0, 38)]) == (40, [39], [40, 2])
    made.clear()
    found = crew.map(Work(multiply, Times(3)), given)
    assert [one.value for one in next(found)] == [0]
    assert max(made) <= 2 * executor.CHUNKS_AHEAD
    assert [part[0].value for part in found] == [3 * n for n in range(1, 40)]


def test_what_may_take_the_process_with_it_is_never_done_here() -> None:
    found = list(WorkerProcesses(1, apart=True).map(Work(multiply, Times(13), lost=lost), chunks(14)))
    assert [one.value for one in found[0]] == [*(13 * n for n in range(13)), None]
    assert os.getpid() not in {one.process for one in found[0]}
    assert list(WorkerProcesses(1, apart=True).map(Work(multiply, Times(1)), [])) == []


def test_kept_workers_stay_for_the_next_work_until_the_end() -> None:
    crew = WorkerProcesses(1, apart=True, keep=True)
    found = [one for factor in (2, 3) for part in crew.map(Work(multiply, Times(factor)), chunks(2, 1)) for one in part]
    assert [one.value for one in found] == [0, 2, 4, 0, 3, 6]
    (process,) = {one.process for one in found}
    crew.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert [one.value for part in crew.map(Work(multiply, Times(5)), chunks(2)) for one in part] == [0, 5]
    crew.close()


def test_a_kept_worker_that_has_gone_is_replaced() -> None:
    crew = WorkerProcesses(1, apart=True, keep=True)
    (before,) = (one for part in crew.map(Work(multiply, Times(2)), [[Number(1)]]) for one in part)
    os.kill(before.process, signal.SIGKILL)
    (after,) = (one for part in crew.map(Work(multiply, Times(2)), [[Number(4)]]) for one in part)
    assert after.value == 8
    crew.close()


@pytest.mark.parametrize("crew", [InProcess(), WorkerProcesses(2)])
def test_an_error_over_there_is_the_same_error_here(crew: Executor) -> None:
    with pytest.raises(UserInputError, match="-1 is below 0") as caught:
        list(crew.map(Work(multiply, Times(1)), [[Number(1)], [Number(2)], [Number(-1)]]))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "function",
    [
        speak.speak,
        render.take_recordings,
        transcribe.hear,
        respond.ask,
        divergence.compare_tokens,
        divergence.diverge,
        embed.embed_texts,
        probe.probe,
        teacher_cache.read_texts,
    ],
)
def test_every_step_can_be_done_elsewhere(function: object) -> None:
    """A step's function stands at the top of its module, and states records for all that goes in and comes out."""
    import importlib

    from pydantic import TypeAdapter

    assert callable(function)
    assert getattr(importlib.import_module(function.__module__), function.__qualname__) is function
    for cls in classes_of(function):
        assert cls is str or TypeAdapter(cls).json_schema()["type"] == "object"
