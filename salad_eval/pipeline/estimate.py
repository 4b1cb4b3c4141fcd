"""What a run would take: counted from its items, and timed on a few of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salad_eval import progress
from salad_eval.benchmarks.recordings import recorded_jobs
from salad_eval.gap.report import n_rows
from salad_eval.pipeline.columns import COLUMNS
from salad_eval.pipeline.controls import CONTROLS
from salad_eval.pipeline.engines import EngineChoice
from salad_eval.pipeline.executor import WORKER_START_SECONDS
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.items import Benchmark, read_benchmark, slice_fields, voices_heard
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import STEP as RENDER
from salad_eval.pipeline.render import jobs_for
from salad_eval.pipeline.run import run, steps_of
from salad_eval.types import LOGPROB_SCORES, GapReport, Item

BYTES_A_SAMPLE = 2
LETTERS_A_SECOND = 16.0  # of synthetic speech, about
RATE_HZ = 16_000
LETTERS_A_TOKEN = 4.0  # of English, about
FIRST, FEW, MORE = 1, 8, 24  # renderings a task, about, of the three runs that the time is taken from
MOST_RENDERINGS_AS_ONE = 4  # of an item, as far as these three go
NOT_BY_LENGTH = ("score", "comparable", "report")  # steps that do not take longer of longer questions
REPORT = "report"  # what is neither a step nor in one: reading the tasks, intervals, pages
SERVED = "openai-"


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """``units``: recordings, questions or rows of the report; ``calls``: to a served model, 0 where it is local; ``seconds``: ``None``
    where not timed."""

    name: str
    units: int
    calls: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Estimated:
    """``tokens``: read by the columns, about: as in the small runs, or letters by four where nothing was run.

    ``seconds_of_sound`` and ``disk_bytes``: of recordings that are not in the store yet, too."""

    n_items: int
    n_rejects: int
    n_recordings: int
    seconds_of_sound: float
    disk_bytes: int
    tokens: int
    steps: tuple[StepEstimate, ...]
    measured_on: int  # items; 0 where nothing was run

    @property
    def seconds(self) -> float | None:
        timed = [step.seconds for step in self.steps]
        return None if None in timed else sum(one for one in timed if one is not None)

    @property
    def calls(self) -> int:
        return sum(step.calls for step in self.steps)


@dataclass(frozen=True, slots=True)
class _Size:
    """How much there is to do."""

    n_items: int
    n_recordings: int
    n_rows: int  # of the report
    letters: float  # of a question with its options, in the mean


@dataclass(frozen=True, slots=True)
class _Mean:
    """What was seen of a few units, that differ in length from all: ``value`` a unit, of so many letters each."""

    value: float
    letters: float

    def at(self, letters: float, a_letter: float) -> float:
        """Of a unit with ``letters``: what was seen, and ``a_letter`` for each that it has more."""
        return max(0.0, self.value + (letters - self.letters) * a_letter)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Three small runs: their steps; seconds of a recording; samples a second; tokens read of a question, by column; items asked."""

    steps: Mapping[str, _Runs]
    sound: _Mean
    rate_hz: int
    read: Mapping[str, _Mean]
    n_items: int


_UNSEEN = _Seen({}, _Mean(0.0, 0.0), RATE_HZ, {}, 0)


@dataclass(frozen=True, slots=True)
class _Timed:
    """A step of a small run; ``work`` as ``_work`` has it."""

    work: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Runs:
    """A step of the three small runs. The first opens what the others find open already: packages, files in the memory of the system."""

    first: _Timed
    few: _Timed
    more: _Timed

    @property
    def a_unit(self) -> float:
        """Seconds that one unit of work more takes."""
        if self.more.work <= self.few.work:
            return self.more.seconds / max(1, self.more.work)
        return max(0.0, (self.more.seconds - self.few.seconds) / (self.more.work - self.few.work))

    @property
    def begin(self) -> float:
        return max(0.0, self.first.seconds - self.a_unit * self.first.work)


def estimate(plan: Plan) -> Estimated:
    """What the plan would take. Three small runs of it, in folders and stores of their own that are removed, give its times; none where
    a model is served, for each question to it is paid."""
    return _estimated(plan, measure=not served(plan))


def counted(plan: Plan) -> Estimated:
    """What the plan would take, by its items alone: nothing is run, and nothing timed."""
    return _estimated(plan, measure=False)


def _estimated(plan: Plan, *, measure: bool) -> Estimated:
    benchmark = read_benchmark(plan)
    jobs, unspeakable = jobs_for(benchmark.items, plan.voices, plan.conditions)
    recorded, unheard = recorded_jobs(benchmark.items, plan.conditions)
    letters = sum(len(job.spoken_text) for job in jobs)
    seen = _seen(plan, benchmark) if measure else _UNSEEN
    seconds = len(jobs) * seen.sound.at(letters / max(1, len(jobs)), 1 / LETTERS_A_SECOND)
    lost = {reject.item_id for reject in (*unspeakable, *unheard)}
    items = [item for item in benchmark.items if item.id not in lost]
    size = _size(plan, benchmark, items, len(jobs) + len(recorded))
    steps = tuple(_step(name, plan, benchmark, items, size, seen.steps) for name in (*steps_of(plan), REPORT))
    return Estimated(
        n_items=len(items),
        n_rejects=len(benchmark.rejects) + len(lost),
        n_recordings=size.n_recordings,
        seconds_of_sound=seconds,
        disk_bytes=round(seconds * seen.rate_hz * BYTES_A_SAMPLE),
        tokens=_tokens(items, plan, seen.read),
        steps=steps,
        measured_on=seen.n_items,
    )


def _size(plan: Plan, benchmark: Benchmark, items: Sequence[Item], n_recordings: int) -> _Size:
    voices = voices_heard(plan, items)
    rows = n_rows(items, slice_fields(plan, benchmark), voices, plan.conditions)
    return _Size(len(items), n_recordings, rows, _letters(items))


def served(plan: Plan) -> bool:
    """Whether a question of the plan goes to a server."""
    names = [plan.asr.name, plan.base.system, plan.adapted.system, *([plan.tts.name] if plan.tts is not None else [])]
    return any(name.startswith(SERVED) for name in names)


def _n_renderings(plan: Plan) -> int:
    return max(1, len(plan.voices)) * len(plan.conditions)


def _units(name: str, plan: Plan, size: _Size) -> int:
    """How many recordings, questions or rows a step has."""
    n_items, spoken = size.n_items, size.n_items * _n_renderings(plan)
    if name in ("render", "transcribe", "limits"):
        return size.n_recordings
    if name == "comparable":
        return 1
    if name == REPORT:
        return size.n_rows
    if name == "score":
        return sum(n_items if column.form == "text" else spoken for column in COLUMNS)
    column = next((column for column in COLUMNS if name.endswith(f".{column.name}")), None)
    if column is not None:
        return n_items if column.form == "text" else spoken
    return spoken if name == "divergence" else n_items  # the others are controls


def _step(
    name: str,
    plan: Plan,
    benchmark: Benchmark,
    items: list[Item],
    size: _Size,
    timed: Mapping[str, _Runs],
) -> StepEstimate:
    units = _units(name, plan, size)
    workers = min(plan.n_workers, os.cpu_count() or 1) if name == RENDER.name else 1
    return StepEstimate(
        name,
        units,
        _calls(name, units, plan, benchmark, items),
        _seconds(_work(name, plan, size), timed.get(name), workers),
    )


def _work(name: str, plan: Plan, size: _Size) -> float:
    """What a step's time grows with: its units, longer ones more."""
    return _units(name, plan, size) * (1.0 if name in NOT_BY_LENGTH else size.letters)


def _seconds(work: float, timed: _Runs | None, workers: int = 1) -> float | None:
    """A straight line: what a step takes to begin in a fresh process, and each unit of work. Where the executor shares it out, each
    worker begins anew."""
    if timed is None:
        return None
    alone = timed.a_unit * work
    if alone * (1 - 1 / workers) > WORKER_START_SECONDS:
        return timed.begin + WORKER_START_SECONDS + timed.begin + alone / workers
    return timed.begin + alone


def _calls(name: str, units: int, plan: Plan, benchmark: Benchmark, items: list[Item]) -> int:
    control = next((control for control in CONTROLS if control.step == name), None)
    column = next((column for column in COLUMNS if name == f"respond.{column.name}"), None)
    role = control.role if control is not None else column.role if column is not None else None
    plugin = {"base": plan.base.system, "adapted": plan.adapted.system}.get(role or "", "")
    if name == "transcribe":
        return units if plan.asr.name.startswith(SERVED) else 0
    if not plugin.startswith(SERVED) or not items:
        return 0
    options = sum(len(item.choices) if benchmark.answering[item.task].score in LOGPROB_SCORES else 1 for item in items)
    return round(units * options / len(items))


def _tokens(items: list[Item], plan: Plan, read: Mapping[str, _Mean]) -> int:
    """Read by all columns; ``read``: what each was seen to read of a question, by its name."""
    if not read:
        return round(_letters_read(items, plan) / LETTERS_A_TOKEN)
    asked = {column.name: len(items) * (1 if column.form == "text" else _n_renderings(plan)) for column in COLUMNS}
    letters = _letters(items)
    return round(sum(read[name].at(letters, 1 / LETTERS_A_TOKEN) * n for name, n in asked.items() if name in read))


def _letters(items: Sequence[Item]) -> float:
    """Of a question with its options, in the mean."""
    return sum(len(item.context) + sum(map(len, item.choices)) for item in items) / max(1, len(items))


def _letters_read(items: list[Item], plan: Plan) -> int:
    """Letters of all prompts and options that are read as text; sound is no text."""
    whole = sum(len(item.context) + sum(map(len, item.choices)) for item in items)
    unspoken = whole - sum(part.end - part.start for item in items for part in item.spoken_parts)
    n = _n_renderings(plan)
    by_form = {"text": whole, "transcript": n * whole, "speech": n * unspoken}
    asked = sum(by_form[column.form] for column in COLUMNS)
    return asked + sum(unspoken for control in CONTROLS if control.name in plan.controls)


def _seen(plan: Plan, benchmark: Benchmark) -> _Seen:
    """Runs of a few items, each larger than the one before. Sound and tokens are those of the last."""
    found: list[dict[str, _Timed]] = []
    sound, rate, n_items = _Mean(0.0, 0.0), RATE_HZ, 0
    read: Mapping[str, _Mean] = {}
    an_item = min(_n_renderings(plan), MOST_RENDERINGS_AS_ONE)
    with tempfile.TemporaryDirectory(prefix="salad-dry-run-") as place:
        for number, renderings in enumerate((FIRST, FEW, MORE)):
            limit = max(1, renderings // an_item)
            small = plan.model_copy(
                update={
                    "limit": min(limit, plan.limit or limit),
                    "out": str(Path(place) / f"{number}"),
                    "audio_store": str(Path(place) / f"audio-{number}"),
                    "workers": 1,
                    "engine": EngineChoice(),  # what a cluster takes to begin says nothing of what a unit takes
                    "created": None,
                }
            )
            began = time.monotonic()
            with progress.timed() as took:
                report = run(small)
            whole = time.monotonic() - began
            made = read_run(small.folder)
            said = made.renderings()
            if spoken := [one for one in said if one.spoken_text]:
                seconds, letters = sum(one.seconds for one in spoken), sum(len(one.spoken_text) for one in spoken)
                sound, rate = _Mean(seconds / len(spoken), letters / len(spoken)), spoken[0].sample_rate_hz
            n_items += report.overall.n_items
            read = _read_of_a_question(report, _letters(made.items))
            by_step = {name: took.get(name, 0.0) for name in steps_of(plan)}
            by_step[REPORT] = max(0.0, whole - sum(by_step.values()))
            size = _size(plan, benchmark, made.items, len(said))
            found.append({name: _Timed(_work(name, plan, size), seconds) for name, seconds in by_step.items()})
    first, few, more = found
    return _Seen({name: _Runs(first[name], few[name], more[name]) for name in first}, sound, rate, read, n_items)


def _read_of_a_question(report: GapReport, letters: float) -> Mapping[str, _Mean]:
    costs = report.costs.columns if report.costs is not None else ()
    return {
        cost.column: _Mean(cost.tokens.read / cost.n_questions, letters)
        for cost in costs
        if cost.tokens and cost.n_questions
    }
