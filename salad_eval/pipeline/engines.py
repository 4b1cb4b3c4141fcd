"""Which engine does a run's work: this machine's processes, or a Ray cluster's. Chosen once, where a run begins; no step asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from salad_eval.pipeline.cluster import Cluster, Need, RayWorkers
from salad_eval.pipeline.deadline import DEFAULT_SECONDS
from salad_eval.pipeline.executor import Executor, InProcess, WorkerProcesses
from salad_eval.pipeline.tools import Tools

Share: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_FOR_A_CLUSTER = ("address", "gpus", "voice_gpus")


class EngineChoice(BaseModel):
    """Where the work is done. No number depends on it, so it may change between a run's start and its end.

    Attributes:
        name: ``local``, this machine, or ``ray``, a Ray cluster.
        address: of the cluster, ``auto`` or ``HOST:PORT``; by default the one that a job runs in, else one begun here for the time of
            the run.
        models: workers that models work in. By default ``local`` has none, and models work in the run's own process; ``ray`` has as many
            as there is room for.
        threads: of the numerical libraries in each of these, and its CPUs.
        gpus: a GPU's share that each of these takes of its node: 1 for one of its own, 0.5 where two share one.
        voice_gpus: the same of a worker that speaks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Literal["local", "ray"] = "local"
    address: Annotated[str, Field(min_length=1)] | None = None
    models: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] = 1
    gpus: Share = 0.0
    voice_gpus: Share = 0.0

    @model_validator(mode="after")
    def _fits(self) -> EngineChoice:
        said = [key for key in _FOR_A_CLUSTER if getattr(self, key)]
        if said and self.name == "local":
            raise ValueError(f"{said[0]} is for a cluster, and the engine is local: say --engine ray")
        return self


class Engine(Protocol):
    """Makes executors for the two kinds of work."""

    def models(self, tools: Tools) -> Executor:
        """For what models do; ``tools``: what this process has opened."""
        ...

    def voices(self, tools: Tools, *, apart: bool) -> Executor:
        """For what a TTS does; ``apart``: it may take its process with it."""
        ...

    def close(self) -> None: ...


class LocalEngine:
    """This machine. Models work in this process, so that each is in memory once, unless workers are asked for."""

    def __init__(self, choice: EngineChoice, workers: int | None, timeout: float) -> None:
        self._choice, self._workers, self._timeout = choice, workers, timeout
        self._kept: list[WorkerProcesses] = []

    def models(self, tools: Tools) -> Executor:
        if self._choice.models is None:
            return InProcess(tools, self._timeout)
        kept = WorkerProcesses(
            self._choice.models, tools, self._timeout, apart=True, threads=self._choice.threads, keep=True
        )
        self._kept.append(kept)
        return kept

    def voices(self, tools: Tools, *, apart: bool) -> Executor:
        return WorkerProcesses(self._workers or os.cpu_count() or 1, tools, self._timeout, apart)

    def close(self) -> None:
        for kept in self._kept:
            kept.close()


class RayEngine:
    """A Ray cluster. It is joined when the first step has something to do."""

    def __init__(self, choice: EngineChoice, workers: int | None, timeout: float) -> None:
        self._choice, self._workers, self._timeout = choice, workers, timeout
        self._cluster = Cluster(choice.address)

    def models(self, tools: Tools) -> Executor:
        need = Need(self._choice.threads, self._choice.gpus)
        return RayWorkers(self._cluster, need, self._choice.models, self._timeout)

    def voices(self, tools: Tools, *, apart: bool) -> Executor:
        return RayWorkers(self._cluster, Need(gpus=self._choice.voice_gpus), self._workers, self._timeout)

    def close(self) -> None:
        self._cluster.close()


_ENGINES: Mapping[str, Callable[[EngineChoice, int | None, float], Engine]] = {"local": LocalEngine, "ray": RayEngine}


def open_engine(choice: EngineChoice, workers: int | None = None, timeout: float = DEFAULT_SECONDS) -> Engine:
    """The engine that was chosen. ``workers`` speak, by default one a core or as many as a cluster has room for; ``timeout``: seconds
    that a unit may take, in the mean of its chunk."""
    return _ENGINES[choice.name](choice, workers, timeout)


class Workshop:
    """An engine at work, and what this process has opened for it. Nothing is started before there is something to do.

    ``models`` works on what models do. Arguments as for ``open_engine``.
    """

    def __init__(
        self, choice: EngineChoice = EngineChoice(), workers: int | None = None, timeout: float = DEFAULT_SECONDS
    ) -> None:
        self.tools = Tools()
        self._engine = open_engine(choice, workers, timeout)
        self.models = self._engine.models(self.tools)

    def voices(self, *, apart: bool) -> Executor:
        """Works on what a TTS does; ``apart``: it may take its process with it."""
        return self._engine.voices(self.tools, apart=apart)

    def close(self) -> None:
        """Let the workers go, with what they have opened; work that comes after it starts others."""
        self._engine.close()

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
