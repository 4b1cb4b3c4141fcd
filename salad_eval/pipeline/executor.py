"""Where a step's work is done: in this process, or shared out to worker processes. No step knows which.

A step hands over a plain function, a record that names the plug-ins and options it needs, and chunks of records; it gets the results
back, chunk by chunk and in order. Nothing else crosses: no model, no closure, no file handle. So an engine that runs on other machines
is one more class with a ``map`` (``cluster.RayWorkers``), and no step changes.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, overload

from salad_eval.errors import SaladError
from salad_eval.pipeline.deadline import DEFAULT_SECONDS, deadline, limit
from salad_eval.pipeline.tools import Tools
from salad_eval.pipeline.worker import Worker, WorkerDied

S = TypeVar("S")
U = TypeVar("U")
R = TypeVar("R")

WORKER_START_SECONDS = 0.4  # what it costs to have workers; work that takes less is done in this process
MAX_DEATHS_IN_A_ROW = 5  # a worker that dies so often without one success will not recover
CHUNKS_AHEAD = 3  # a worker, done or under way before the next result is taken: what a kill may lose


@dataclass(frozen=True, slots=True)
class Work(Generic[S, U, R]):
    """What is done to each chunk.

    ``function(tools, setup, chunk)`` stands at the top of a module and gives one result a unit, in order; ``setup`` and units and
    results are frozen dataclasses that JSON can hold (see ``records``), as its annotations say. ``who`` does it, for messages. ``lost``
    makes the result of a unit that ended two processes it was worked on in, of the unit and how they ended; without it that is
    an error. ``parts``: of a unit, each of which may take as long as a unit of other work.
    """

    function: Callable[[Tools, S, Sequence[U]], list[R]]
    setup: S
    who: str = "a worker"
    lost: Callable[[U, str], R] | None = None
    parts: int = 1


class Chunks(Sequence[Sequence[U]]):
    """Chunks by their numbers, each made when it is asked for: what they are cut from may be larger than memory."""

    def __init__(self, make: Callable[[int], Sequence[U]], numbers: range) -> None:
        self._make, self._numbers = make, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Sequence[U]: ...
    @overload
    def __getitem__(self, index: slice) -> Chunks[U]: ...
    def __getitem__(self, index: int | slice) -> Sequence[U] | Chunks[U]:
        if isinstance(index, int):
            return self._make(self._numbers[index])
        return Chunks(self._make, self._numbers[index])


class Executor(Protocol):
    """Works on chunks, by whatever means. The results of each chunk come in the chunks' order, as soon as they are known."""

    def map(self, work: Work[S, U, R], chunks: Sequence[Sequence[U]]) -> Iterator[list[R]]: ...


class InProcess:
    """One chunk after the other, here. ``timeout``: seconds that a unit may take, in the mean of its chunk."""

    def __init__(self, tools: Tools | None = None, timeout: float = DEFAULT_SECONDS) -> None:
        self.tools, self.timeout = tools or Tools(), timeout

    def map(self, work: Work[S, U, R], chunks: Sequence[Sequence[U]]) -> Iterator[list[R]]:
        for chunk in chunks:
            with deadline(work.who, self.timeout * work.parts, len(chunk)):
                results = work.function(self.tools, work.setup, chunk)
            yield results


class WorkerProcesses:
    """Here while that is quicker, then by ``workers`` processes, each with plug-ins of its own.

    A worker that dies, or takes longer than ``timeout`` seconds a unit, is replaced; of its chunk only the unit that kills it again is
    lost. ``apart``: never here, for code that may take the process with it. ``threads``: of a worker's numerical libraries. ``keep``:
    workers stay for the next work, with what they have opened, until ``close``.
    """

    def __init__(
        self,
        workers: int,
        tools: Tools | None = None,
        timeout: float = DEFAULT_SECONDS,
        apart: bool = False,
        threads: int = 1,
        keep: bool = False,
    ) -> None:
        self.workers, self.tools, self.timeout, self.apart = workers, tools or Tools(), timeout, apart
        self.threads = threads
        self._spare: list[Worker] | None = [] if keep else None

    def map(self, work: Work[S, U, R], chunks: Sequence[Sequence[U]]) -> Iterator[list[R]]:
        seconds = 0.0  # spent on the chunks done so far
        for n_done, chunk in enumerate(chunks):
            left = seconds / n_done * (len(chunks) - n_done) if n_done else 0.0
            if self.apart or (self.workers > 1 and left * (1 - 1 / self.workers) > WORKER_START_SECONDS):
                crew = Crew(work, self.timeout * work.parts, self.threads, self._spare)
                yield from _by_workers(crew, chunks[n_done:], min(self.workers, len(chunks) - n_done))
                return
            began = time.perf_counter()
            with deadline(work.who, self.timeout * work.parts, len(chunk)):
                results = work.function(self.tools, work.setup, chunk)
            seconds += time.perf_counter() - began
            yield results

    def close(self) -> None:
        """End the workers that were kept."""
        while self._spare:
            self._spare.pop().close()


def _by_workers(crew: Crew[S, U, R], chunks: Sequence[Sequence[U]], workers: int) -> Iterator[list[R]]:
    with ThreadPoolExecutor(workers, thread_name_prefix="salad-worker") as pool:
        ahead: deque[Future[list[R]]] = deque()
        try:
            for chunk in chunks:
                ahead.append(pool.submit(crew.work_on, chunk))
                if len(ahead) >= workers * CHUNKS_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            crew.dismiss()


class Crew(Generic[S, U, R]):
    """Worker processes, as many as threads ask for one at a time.

    ``spare``: workers of earlier work, taken first; those that have nothing to do when the crew is dismissed are put there.
    """

    def __init__(
        self, work: Work[S, U, R], timeout: float, threads: int = 1, spare: list[Worker] | None = None
    ) -> None:
        self._work, self._timeout, self._threads, self._spare = work, timeout, threads, spare
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: list[Worker] = []
        self._lock = threading.Lock()
        self._dismissed = False
        self._deaths_in_a_row = 0

    def work_on(self, chunk: Sequence[U], again: bool = False) -> list[R]:
        """The results of a chunk; where it kills its worker, unit by unit, so that only the culprit is lost. Where nothing may be lost, a
        chunk that kills a second worker is an error."""
        try:
            results = self._ask(chunk)
        except WorkerDied as cause:
            if self._dismissed or (again and self._work.lost is None):
                raise SaladError(f"a {cause}") from None
            if self._work.lost is None:
                return self.work_on(chunk, again=True)
            if len(chunk) > 1:
                return [result for unit in chunk for result in self.work_on([unit])]
            self._deaths_in_a_row += 1
            if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
                raise SaladError(
                    f"{self._work.who}: {self._deaths_in_a_row} requests in a row ended their {cause}"
                ) from None
            return [self._work.lost(chunk[0], str(cause))]
        self._deaths_in_a_row = 0
        return results

    def _ask(self, chunk: Sequence[U]) -> list[R]:
        worker = self._take()
        try:
            results: list[R] = worker.ask(chunk, limit(self._timeout, len(chunk)))
        except BaseException:
            worker.close()
            raise
        self._idle.put(worker)
        return results

    def _take(self) -> Worker:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._lock:
            if self._dismissed:
                raise SaladError("the work was stopped")
            kept = bool(self._spare)
            worker = self._spare.pop() if self._spare else Worker(self._threads)
            self._all.append(worker)
        try:
            worker.take_up(self._work.function, self._work.setup)
        except WorkerDied as cause:
            worker.close()
            if kept:  # it has gone since
                return self._take()
            raise SaladError(f"a worker could not be started for {self._work.setup}: {cause}") from None
        return worker

    def dismiss(self) -> None:
        """End all workers at once but those that are kept; what they were working on is lost."""
        with self._lock:
            self._dismissed = True
        while self._spare is not None and not self._idle.empty():
            self._spare.append(self._idle.get_nowait())
        for worker in self._all:
            if worker not in (self._spare or ()):
                worker.close()
