"""The gap of a model while it trains: questions are rendered and the base LLM asked once, the live model as often as one likes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import torch

from salad_eval.benchmarks.scoring import scorer_of
from salad_eval.errors import ModelError, UserInputError
from salad_eval.gap import report as gap
from salad_eval.gap.signature import signature
from salad_eval.pipeline import run as pipeline
from salad_eval.pipeline.components import Loaded
from salad_eval.pipeline.folder import RunFolder
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.respond import Query, respond
from salad_eval.types import (
    COLUMN_FORM,
    ColumnName,
    ColumnSpec,
    GapReport,
    Item,
    Reject,
    Score,
)
from salad_train.measure import evaluating
from salad_train.model import SaladForConditionalGeneration, SaladProcessor
from salad_train.model.system import SaladSystem
from salad_train.training.checkpoints import teacher_fingerprint

LIVE_COLUMNS: tuple[ColumnName, ...] = ("adapted_text", "adapted_speech")
LIVE_RESAMPLES = 1_000  # intervals that are watched, not published


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What does not change while the model trains."""

    benchmark: pipeline.Benchmark
    items: tuple[Item, ...]
    speech: pipeline.Speech
    base_scores: tuple[Score, ...]
    base: ColumnSpec
    tts: str
    rejects: tuple[Reject, ...]
    slices: tuple[str, ...]


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
        allow_test_split: measure on the test split; nothing should then be steered by it.
    """

    def __init__(
        self,
        plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
        processor: SaladProcessor,
        *,
        out: str | os.PathLike[str],
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
        self.processor = processor
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
            self._prepared = _prepare(self.plan)
        return self._prepared

    def _report(self, student: SaladForConditionalGeneration) -> GapReport:
        ready = self.prepare()
        plan = self.plan
        # Built anew each time: what its adapter makes of a recording changes, and only the frozen encoder's output is kept.
        name = f"live,{teacher_fingerprint(student)}"
        system = SaladSystem.live(student, self.processor, name, frames=str(plan.folder / "frames"))
        live: list[Score] = []
        for column in LIVE_COLUMNS:
            live += _ask(system, column, ready)
        fingerprint = system.fingerprint()
        columns = [ready.base, *(ColumnSpec(name, "salad", COLUMN_FORM[name], fingerprint) for name in LIVE_COLUMNS)]
        return gap.build_report(
            items=ready.benchmark.items,
            scores=[*ready.base_scores, *live],
            rejects=ready.rejects,
            protocols=ready.benchmark.protocols,
            columns=columns,
            signature=signature(
                protocols=ready.benchmark.protocols,
                columns=columns,
                voices=pipeline.voices_heard(plan, ready.benchmark.items),
                perturbations=plan.perturbations,
                tts=ready.tts,
                asr="none",
                seed=plan.seed,
                n_resamples=plan.n_resamples,
            ),
            split=plan.split,
            seed=plan.seed,
            n_resamples=plan.n_resamples,
            slice_fields=ready.slices,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
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


def _prepare(plan: Plan) -> _Prepared:
    """The steps of ``salad run`` up to the base LLM's answers, in the plan's folder."""
    tasks = pipeline.read_tasks(plan)
    with RunFolder(plan.folder) as folder:
        plan = pipeline.begin(plan, folder)
        loaded = Loaded(plan, folder)
        benchmark = pipeline.read_items(plan, tasks)
        renderings, lost = pipeline.render_items(plan, folder, loaded, benchmark.items)
        items = pipeline.left(benchmark.items, lost, "rendering")
        speech = pipeline.Speech(loaded.store, pipeline.of_items(items, renderings), [])
        answers = pipeline.respond_column("base_text", folder, loaded, benchmark, items, speech)
        by_id = {item.id: item for item in items}
        scorers = {name: scorer_of(task) for name, task in benchmark.tasks.items()}
        scores = [scorers[by_id[a.item_id].task](by_id[a.item_id], a) for a in answers]
        base = ColumnSpec("base_text", plan.base.system, "text", loaded.fingerprint("base"))
        tts = pipeline.tts_of(loaded, benchmark.items)
        loaded.release("base")
    return _Prepared(
        benchmark, tuple(items), speech, tuple(scores), base, tts,
        tuple(pipeline.once_an_item([*benchmark.rejects, *lost])), pipeline.slice_fields(plan, tasks, items),
    )  # fmt: skip


def _ask(system: SaladSystem, column: ColumnName, ready: _Prepared) -> Iterator[Score]:
    form = COLUMN_FORM[column]
    by_task: dict[str, list[Item]] = {}
    for item in ready.items:
        by_task.setdefault(item.task, []).append(item)
    for task, items in by_task.items():
        queries = (
            Query(ready.speech.requests(item, form, rendered), *(rendered or ()))
            for item in items
            for rendered in ((None,) if form == "text" else ready.speech.renderings_of(item))
        )
        by_id = {item.id: item for item in items}
        spec = ready.benchmark.tasks[task]
        score = scorer_of(spec)
        for answer in respond(system, queries, column, spec.score, generation=spec.generation):
            yield score(by_id[answer.item_id], answer)
