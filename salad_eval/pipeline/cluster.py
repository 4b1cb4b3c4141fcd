"""Workers on the nodes of a Ray cluster: the engine ``ray`` (an extra).

An actor (``Hand``) holds the very worker process that this machine's engine has, so what a plug-in does, how long it may take and what
becomes of a unit that kills its process are the same here and there. Ray adds what one machine has not got: where an actor is placed, by
CPUs and shares of GPUs, and word of nodes that are gone. A chunk crosses as JSON, in and out; sound lies in the store, on a path that the
nodes share, and the run folder is written by the driver alone.

Ray's core and not Ray Data: ``map_batches`` gives rows back in any order unless told to keep it, cuts batches where it sees fit, and
takes a record for a row of a table. Here chunks are cut by the step (what a model answers may depend on its batch), come back in
order, and one that was lost with its node is simply handed out again, so that nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from salad_eval import records
from salad_eval.errors import MissingExtraError, SaladError, UserInputError
from salad_eval.pipeline.deadline import START_SECONDS
from salad_eval.pipeline.executor import CHUNKS_AHEAD, Crew, Work
from salad_eval.pipeline.worker import Worker, classes_of, function_named, name_of
from salad_eval.progress import tell

S = TypeVar("S")
U = TypeVar("U")
R = TypeVar("R")

INSTALL = "pip install 'salad-gap[ray]'"
EMBEDDED = "local"  # Ray's word for a cluster of its own, on this machine
ADDRESS_VARIABLE = "RAY_ADDRESS"  # a job that `ray job submit` started finds its cluster there
MOST_LOSSES = 4  # of one chunk, or of actors before one is ready; what is lost so often is not lost by chance
# Of an embedded cluster; chunks and results are small, and Ray would take a third of the memory.
_OBJECT_STORE_BYTES = 128 << 20


# --- on a node -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lost:
    """Stands for the result of a unit that ended its process."""

    how: str


@dataclass(frozen=True, slots=True)
class Post:
    """All that a node has to know of the work: names and JSON, so that nothing of the driver's is unpickled there."""

    function: str  # module:name
    setup: str
    who: str
    may_lose: bool
    timeout: float
    threads: int
    path: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of a chunk: a JSON list of those that are there, and how the others' process ended, by their places."""

    results: str
    lost: Mapping[int, str] = field(default_factory=dict)


class Hand:
    """An actor: one worker process on its node, replaced when it dies, and kept from one work to the next."""

    def __init__(self) -> None:
        self._spare: list[Worker] = []
        self._crew: Crew[Any, Any, Any] | None = None

    def take_up(self, post: Post) -> None:
        sys.path.extend(place for place in post.path if place not in sys.path)
        with contextlib.suppress(OSError):  # a node that has no such folder; then relative paths are of no use there
            os.chdir(post.folder)
        function = function_named(post.function)
        setup, self._unit, _ = classes_of(function)
        lost = _lost if post.may_lose else None
        work = Work(function, records.loads(setup, post.setup), post.who, lost)
        if self._crew is not None:
            self._crew.dismiss()
        self._crew = Crew(work, post.timeout, post.threads, self._spare)

    def work_on(self, chunk: str) -> Answer:
        assert self._crew is not None
        outcomes = self._crew.work_on(records.loads_list(self._unit, chunk.encode()))
        lost = {place: one.how for place, one in enumerate(outcomes) if isinstance(one, _Lost)}
        return Answer(records.dumps([one for one in outcomes if not isinstance(one, _Lost)]), lost)


def _lost(_: object, how: str) -> _Lost:
    return _Lost(how)


# --- the driver's side -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """What a worker takes of its node: CPUs, as many threads of numerical libraries, and a share of a GPU (0.5: two share one)."""

    threads: int = 1
    gpus: float = 0.0

    def fit_in(self, resources: Mapping[str, float]) -> int:
        """How many of them a node has room for."""
        by_cpus = int(resources.get("CPU", 0.0) / self.threads)
        return min(by_cpus, int(resources.get("GPU", 0.0) / self.gpus + 1e-9)) if self.gpus else by_cpus


class Cluster:
    """A Ray cluster, connected to when first asked for: the one at ``address``, else the one that a job runs in, else one of its own on
    this machine, which ends with ``close``. Actors stay from one work to the next while these need the same."""

    def __init__(self, address: str | None = None) -> None:
        self.address = address
        self._ours = False
        self._hired = Need()
        self._spare: list[Any] = []  # actors without work; a chunk each

    def connect(self) -> Any:
        """The module ``ray``, connected. Raises ``MissingExtraError`` where it is not installed, and ``SaladError`` where no cluster
        answers."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send statistics to its makers
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ModuleNotFoundError:
            raise MissingExtraError("the engine 'ray'", "ray", INSTALL) from None
        if not ray.is_initialized():
            address = self.address or os.environ.get(ADDRESS_VARIABLE) or EMBEDDED
            own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
            try:
                ray.init(
                    address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == EMBEDDED else {})
                )
            except (ConnectionError, ValueError, RuntimeError) as cause:
                said = " ".join(str(cause).split())[:300]
                raise SaladError(f"engine ray: no cluster at address {address!r}: {said}") from None
            self._ours = True
        return ray

    def spare(self, need: Need) -> list[Any]:
        """Actors without work that have what is needed, to take from and to give back to; others leave their places."""
        if need != self._hired:
            self.discharge()
            self._hired = need
        return self._spare

    def discharge(self) -> None:
        """End the actors that have no work, and with them free their places."""
        while self._spare:
            self.connect().kill(self._spare.pop())

    def close(self) -> None:
        """Leave the cluster, if it was joined here; end it, if it was begun here."""
        self.discharge()
        if self._ours:
            self.connect().shutdown()
            self._ours = False


class RayWorkers:
    """Actors of a cluster, ``workers`` of them, by default as many as it has room for when the work begins.

    A chunk whose actor or node is lost is handed out again, whole; it is given up after ``MOST_LOSSES``. Of a chunk that ends its worker
    process on a node that lives, only the unit that does so again is lost, as with ``WorkerProcesses``.
    """

    def __init__(self, cluster: Cluster, need: Need, workers: int | None, timeout: float) -> None:
        self.cluster, self.need, self.workers, self.timeout = cluster, need, workers, timeout

    def map(self, work: Work[S, U, R], chunks: Sequence[Sequence[U]]) -> Iterator[list[R]]:
        if not chunks:
            return
        ray, need = self.cluster.connect(), self.need
        post = _post(work, self.timeout * work.parts, need.threads)
        actor = ray.remote(Hand).options(
            num_cpus=need.threads, num_gpus=need.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        size = min(self.workers or self._room(ray), len(chunks))
        spare = self.cluster.spare(need)
        gang = _Gang(ray, actor.remote, spare, post, chunks, size)
        result = classes_of(work.function)[2]
        try:
            for chunk, answer in zip(chunks, gang.answers(), strict=True):
                found = iter(records.loads_list(result, answer.results.encode()))
                yield [
                    work.lost(unit, answer.lost[place]) if place in answer.lost and work.lost else next(found)
                    for place, unit in enumerate(chunk)
                ]
        finally:
            spare += gang.dismiss()

    def _room(self, ray: Any) -> int:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(map(self.need.fit_in, nodes))
        if room < 1:
            has = ", ".join(sorted(f"{node.get('CPU', 0.0):g} and {node.get('GPU', 0.0):g}" for node in nodes))
            raise UserInputError(
                f"engine ray: a worker needs {self.need.threads} CPUs and {self.need.gpus:g} GPUs of one node, and the cluster's nodes "
                f"have {has}. Ask for less (engine.threads, engine.gpus, engine.voice_gpus), or say how "
                "many workers are to wait for nodes that join later (engine.models, workers)."
            )
        return room


def _post(work: Work[S, U, R], timeout: float, threads: int) -> Post:
    function, setup = name_of(work.function), records.dumps(work.setup)
    return Post(function, setup, work.who, work.lost is not None, timeout, threads, tuple(sys.path), os.getcwd())


class _Gang:
    """Actors at work on numbered chunks. Each has one at a time: what it holds when it is lost is all that is done again."""

    def __init__(
        self,
        ray: Any,
        hire: Callable[[], Any],
        spare: list[Any],
        post: Post,
        chunks: Sequence[Sequence[object]],
        size: int,
    ) -> None:
        self._ray, self._hire, self._spare, self._post, self._chunks = ray, hire, spare, post, chunks
        self._size = size
        self._most_failed_starts = MOST_LOSSES + len(spare)  # those may have gone with their node since
        self._waiting = list(range(len(chunks)))  # a heap: a chunk that was lost comes first
        self._losses: Counter[int | None] = Counter()  # by chunk; of actors that were not ready yet: None
        self._starting: dict[Any, Any] = {}  # what will say that an actor is ready, and the actor
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._done: dict[int, Answer] = {}

    def answers(self) -> Iterator[Answer]:
        """In the chunks' order. No more is begun than ``CHUNKS_AHEAD`` an actor beyond the one that is waited for."""
        for number in range(len(self._chunks)):
            while True:
                self._hand_out(number + CHUNKS_AHEAD * self._size)
                if number in self._done:
                    break
                self._wait()
            yield self._done.pop(number)

    def _hand_out(self, before: int) -> None:
        """Give the chunks before a number to actors that have none, and hire where one is missing."""
        self._take_in(0.0)
        while self._idle and self._waiting and self._waiting[0] < before:
            hand, number = self._idle.pop(), heapq.heappop(self._waiting)
            self._busy[hand.work_on.remote(records.dumps(list(self._chunks[number])))] = hand, number
        missing = min(self._size - len(self._busy), len(self._waiting)) - len(self._starting) - len(self._idle)
        for _ in range(missing):
            hand = self._spare.pop() if self._spare else self._hire()
            self._starting[hand.take_up.remote(self._post)] = hand

    def _wait(self) -> None:
        if not self._take_in(START_SECONDS) and not self._busy:
            raise SaladError(
                f"engine ray: no node of the cluster had room for a worker within {START_SECONDS:g} s, for {self._post.who}. "
                "`ray status` shows what is free; run again to go on from here."
            )

    def _take_in(self, seconds: float) -> int:
        """Note what has come within so many seconds; how much that was."""
        asked = [*self._starting, *self._busy]
        if not asked:
            return 0
        ready, _ = self._ray.wait(asked, num_returns=len(asked) if not seconds else 1, timeout=seconds)
        for one in ready:
            hand, number = self._busy.pop(one) if one in self._busy else (self._starting.pop(one), None)
            self._note(one, hand, number)
        return len(ready)

    def _note(self, one: Any, hand: Any, number: int | None) -> None:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(one)
        except errors.RayTaskError as cause:
            if isinstance(cause.cause, SaladError):
                raise cause.cause from None
            raise
        except errors.RayError as cause:
            self._ray.kill(hand)
            self._lose(number, cause)
            return
        self._idle.append(hand)
        if number is not None:
            self._done[number] = answer

    def _lose(self, number: int | None, cause: Exception) -> None:
        self._losses[number] += 1
        said = " ".join(str(cause).split())
        if self._losses[number] >= (self._most_failed_starts if number is None else MOST_LOSSES):
            what = "no worker could be started" if number is None else "a chunk of work was lost with its worker"
            raise SaladError(
                f"engine ray, {self._post.who}: {what} {self._losses[number]} times. The last time: {said[-600:]}"
            )
        if number is not None:
            tell(f"a worker of the cluster was lost ({type(cause).__name__}); what it was working on is done again")
            heapq.heappush(self._waiting, number)

    def dismiss(self) -> list[Any]:
        """The actors that have nothing to do; all others end at once, and what they were working on is lost."""
        for hand in [*self._starting.values(), *(hand for hand, _ in self._busy.values())]:
            self._ray.kill(hand)
        return self._idle
