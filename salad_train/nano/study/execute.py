"""All runs of the study, by as many processes as there are cores; each record is kept as soon as it is made."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.errors import UserInputError
from salad_eval.progress import track
from salad_eval.records import JsonlLog, read_jsonl, write_jsonl
from salad_train.nano.study.plan import Record, Stage1Run, Stage2Run, StudyPlan

if TYPE_CHECKING:
    from salad_train.nano.study.runs import Bench, Workplace

RUNS = "runs.jsonl"
SHIPPED = "shipped"

_bench: Bench | None = None  # of a worker process


def read_runs(plan: StudyPlan, out: Path) -> list[Record]:
    """The records of ``plan`` that are there, the shipped model's first, making none."""
    file = out / RUNS
    done = {record.key: record for record in read_jsonl(file, Record)} if file.exists() else {}
    if SHIPPED not in done:
        raise UserInputError(f"{file} holds no study yet; start it: salad nano study --out {out}")
    return [done[key] for key in (SHIPPED, *plan.runs()) if key in done]


def execute(plan: StudyPlan, out: Path, work: Path, *, processes: int | None = None) -> list[Record]:
    """Make the runs that ``out/runs.jsonl`` does not hold yet; returns the records of ``plan``, the shipped model's first.

    ``work`` holds sound and encoded speech while it runs; it can be removed afterwards. A killed study loses the runs that
    were being made.
    """
    from salad_train.nano.study.runs import Workplace

    out.mkdir(parents=True, exist_ok=True)
    n = processes or os.cpu_count() or 1
    if n < 1:
        raise UserInputError(f"processes is {processes}; expected at least 1.")
    file = out / RUNS
    done = {record.key: record for record in read_jsonl(file, Record)} if file.exists() else {}
    wanted = plan.runs()
    todo: list[Stage1Run | Stage2Run | None] = [run for key, run in wanted.items() if key not in done]
    if SHIPPED not in done:
        todo.insert(0, None)
    if todo:
        report = _steer(work)
        place = Workplace(work, report, "0")
        with JsonlLog(file, Record) as log:
            for record in track(_made(todo, place, min(n, len(todo))), "the study's runs", total=len(todo)):
                log.append(record)
                done[record.key] = record
        order = [SHIPPED, *wanted, *(key for key in done if key not in wanted and key != SHIPPED)]
        write_jsonl(file, [done[key] for key in order])
    return [done[key] for key in (SHIPPED, *wanted)]


def _steer(work: Path) -> Path:
    """The gap report of the shipped models on the validation split, which the signal "gap" reads."""
    from salad_eval import evaluate

    folder = work / "validation"
    evaluate("nano", split="validation", out=str(folder), audio_store=str(work / "audio"))
    return folder


def _made(todo: list[Stage1Run | Stage2Run | None], place: Workplace, n: int) -> Iterator[Record]:
    """Records as they come. Each process has one thread: on models this small, threads wait more than they work."""
    context = multiprocessing.get_context("spawn")
    names = context.SimpleQueue()
    for number in range(n):
        names.put(str(number))
    with ProcessPoolExecutor(n, mp_context=context, initializer=_begin, initargs=(place, names)) as pool:
        waiting: set[Future[Record]] = set()
        remaining = iter(todo)
        try:
            for run in remaining:
                waiting.add(pool.submit(_make, run))
                if len(waiting) == n:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(place: Workplace, names: multiprocessing.queues.SimpleQueue[str]) -> None:
    import dataclasses

    import torch

    from salad_eval import progress
    from salad_train.nano.study.runs import Bench

    global _bench
    torch.set_num_threads(1)
    progress.silence()
    _bench = Bench(dataclasses.replace(place, process=names.get()))


def _make(run: Stage1Run | Stage2Run | None) -> Record:
    from salad_train.nano.study.runs import make, shipped

    if _bench is None:
        raise RuntimeError("a worker of the study was not set up")
    return shipped(_bench) if run is None else make(run, _bench)
