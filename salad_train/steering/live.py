"""The gap of a model while it trains: questions are rendered and the base LLM asked once, the live model as often as one likes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import torch

from salad_eval.audio.store import AudioStore
from salad_eval.errors import ModelError, UserInputError
from salad_eval.gap import RunProtocol, build_report
from salad_eval.pipeline.columns import COLUMNS, Column
from salad_eval.pipeline.divergence import divergences, incomparable, query_of
from salad_eval.pipeline.items import Benchmark, read_benchmark
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import render_items
from salad_eval.pipeline.respond import answers, respond_column
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speech import Speech
from salad_eval.types import ColumnSpec, Distributional, Divergence, GapReport, Item, Reject, Score, System
from salad_train.measure import evaluating
from salad_train.model import SaladForConditionalGeneration, SaladProcessor
from salad_train.model.system import SaladSystem
from salad_train.training.checkpoints import teacher_fingerprint

BASE = next(column for column in COLUMNS if (column.role, column.form) == ("base", "text"))
LIVE_COLUMNS = tuple(column for column in COLUMNS if column.role == "adapted" and column.form != "transcript")
LIVE_RESAMPLES = 1_000  # intervals that are watched, not published


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What does not change while the model trains. ``asked``: with the base LLM's column alone."""

    benchmark: Benchmark
    items: tuple[Item, ...]
    speech: Speech
    store: AudioStore
    base_scores: tuple[Score, ...]
    asked: RunProtocol
    rejects: tuple[Reject, ...]
    base: System | None  # where divergences from it are measured


class LiveGap:
    """``measure`` for ``GapCallback``: the gap of a live speech LLM on the validation split, by the evaluation's own steps.

    >>> measure = LiveGap("nano", processor, out="run/gap", limit=150, voices="en-us+f3")        # doctest: +SKIP
    >>> callback = GapCallback(measure, sampler, every_steps=100)

    The first call reads the items, renders them and asks the base LLM (all kept in ``out``, as a run of ``salad run`` would keep it);
    later calls ask the live model alone. Recordings are not transcribed: the report has no ``base_transcript`` column. A model
    that is sharded over processes (FSDP2) is refused.

    Args:
        plan: a ``Plan``, a preset's name, the path of a YAML or what one would hold; its ``adapted`` system is not read.
        processor: of the live model.
        out: run folder; one that goes on finds its recordings there.
        limit, voices, tasks and other keys of a plan: as in ``evaluate``. The split is "validation" unless given.
        divergences: measure F, M and D too; the base LLM then stays in memory, and is asked again each time.
        allow_test_split: measure on the test split; nothing should then be steered by it.
    """

    def __init__(
        self,
        plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
        processor: SaladProcessor,
        *,
        out: str | os.PathLike[str],
        divergences: bool = False,
        allow_test_split: bool = False,
        **overrides: Any,
    ) -> None:
        settings = {"split": "validation", "n_resamples": LIVE_RESAMPLES, **overrides, "out": os.fspath(out)}
        self.plan = Plan.of(plan, settings)
        if self.plan.split == "test" and not allow_test_split:
            raise UserInputError(
                "the plan measures on the test split: to train by it would be to look at the answers. Take split 'validation', "
                "or say allow_test_split=True."
            )
        self.processor, self.divergences = processor, divergences
        self._prepared: _Prepared | None = None

    def __call__(self, model: torch.nn.Module) -> GapReport:
        """The report of the model as it is now; the model's modes are left as they were."""
        student = speech_llm_in(model)
        if any(hasattr(parameter, "full_tensor") for parameter in student.parameters()):
            raise ModelError(
                "the model is sharded over processes (FSDP2), and LiveGap asks it whole. Save a checkpoint and evaluate that."
            )
        with evaluating(student), torch.no_grad():
            return self._report(student)

    def prepare(self) -> _Prepared:
        """Render and ask the base LLM now; otherwise the first call does."""
        if self._prepared is None:
            self._prepared = _prepare(self.plan, keep_base=self.divergences)
        return self._prepared

    def _report(self, student: SaladForConditionalGeneration) -> GapReport:
        ready = self.prepare()
        plan = self.plan
        # Built anew each time: what its adapter makes of a recording changes, and only the frozen encoder's output is kept.
        name = f"live,{teacher_fingerprint(student)}"
        system = SaladSystem.live(student, self.processor, name, frames=str(plan.folder / "frames"))
        live = [score for column in LIVE_COLUMNS for score in _ask(system, column, ready)]
        columns = [ColumnSpec(column.name, "salad", column.form, system.fingerprint()) for column in LIVE_COLUMNS]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return build_report(
            replace(ready.asked, columns=(*ready.asked.columns, *columns), created=now),
            ready.benchmark.items,
            [*ready.base_scores, *live],
            divergences=_divergences(ready, system) if ready.base is not None else (),
            rejects=ready.rejects,
            notes=("measured on a model in training; recordings were not transcribed.",),
        )


def speech_llm_in(model: Any) -> SaladForConditionalGeneration:
    """The speech LLM inside what a trainer trains: a data-parallel wrapper, a student beside its teacher, or the model itself."""
    found = model
    while not isinstance(found, SaladForConditionalGeneration):
        inner = getattr(found, "module", None) or getattr(found, "student", None)
        if inner is None:
            raise ModelError(
                f"a {type(model).__name__} holds no SaladForConditionalGeneration. LiveGap measures this package's speech LLMs; for "
                "another model give GapCallback a function from the model to a GapReport."
            )
        found = inner
    return found


def _prepare(plan: Plan, *, keep_base: bool) -> _Prepared:
    """The steps of ``salad run`` up to the base LLM's answers, in the plan's folder."""
    benchmark = read_benchmark(plan)
    with Session(plan, benchmark, again=True, roles=("tts", "base")) as session:
        spoken = render_items(session, benchmark.items)
        speech = Speech(spoken.renderings)
        responses = respond_column(session, BASE, spoken.items, speech)
        return _Prepared(
            benchmark,
            spoken.items,
            speech,
            session.store,
            tuple(map(benchmark.scorer(), responses)),
            session.protocol([BASE]),
            tuple(session.rejects(spoken.rejects)),
            session.plugin("base") if keep_base else None,
        )


def _divergences(ready: _Prepared, system: SaladSystem) -> list[Divergence]:
    """Of the items that have options, in each rendering; none where the two systems cannot be compared."""
    base = ready.base
    if not isinstance(base, Distributional) or incomparable(base, system) is not None:
        return []
    asked = [item for item in ready.items if item.gold is not None and item.choices]
    heard = itertools.groupby(ready.speech.questions(asked, "speech"), key=lambda question: question.item.id)
    queries = (query_of(list(questions), ready.store) for _, questions in heard)
    return [one for one in divergences(base, system, queries) if isinstance(one, Divergence)]


def _ask(system: SaladSystem, column: Column, ready: _Prepared) -> Iterator[Score]:
    questions = ready.speech.questions(ready.items, column.form)
    responses = answers(system, questions, column.name, ready.benchmark.answering, ready.store)
    return map(ready.benchmark.scorer(), responses)
