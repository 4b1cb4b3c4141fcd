"""The line, from a plan to a gap report:

    items -> render -> transcribe -> respond (four columns) -> score -> divergence -> gap -> report

Each step reads the records of the ones before it and leaves one JSONL in the run folder (see ``folder``). An item that
is rejected on the way is left out of all columns and counted, so that the four columns are always about the same items.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from salad_eval import plugins, records
from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.catalogue import load_tasks
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.recordings import RecordedJob, recorded_jobs, render_recorded, voices_of
from salad_eval.benchmarks.requests import build_requests
from salad_eval.benchmarks.scoring import measure_notes, scorer_of, scoring_fingerprint
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import DataError, LeakError, ModelError, SaladError, TaskError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.components import Loaded
from salad_eval.pipeline.divergence import DivergenceQuery, SpokenRequest, divergences, gold_only, incomparable
from salad_eval.pipeline.folder import DONE_FILE, RunFolder
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.pipeline.render import RenderJob, jobs_for, render
from salad_eval.pipeline.respond import Query, respond
from salad_eval.pipeline.transcribe import answers_of, transcribe
from salad_eval.report.json import load_report, write_atomic
from salad_eval.resources import resolve_path
from salad_eval.speakable.normalise import NORMALISER
from salad_eval.types import (
    COLUMN_FORM,
    COLUMNS,
    LOGPROB_SCORES,
    Audio,
    AudioSegment,
    ColumnName,
    ColumnSpec,
    Distributional,
    Divergence,
    GapReport,
    InputForm,
    Item,
    Reject,
    Rendering,
    Request,
    Response,
    Score,
    ScoreKind,
    TaskProtocol,
    Transcript,
)

if TYPE_CHECKING:
    from salad_eval.gap.compare import Comparison

# A step's number is raised whenever what it makes of equal inputs changes; its old lines are then not used again.
STEP_VERSION: Mapping[str, str] = {"render": "1", "transcribe": "2", "respond": "1", "score": "2", "divergence": "1"}
ITEMS_AT_A_TIME = (
    16  # in the steps that hold audio; fixed, so that batches are the same in a run that was killed and resumed
)
RECORDINGS_AT_A_TIME = 128
TEXTS_AT_A_TIME = 256
MOST_NAMED_VOICES = 8  # of recordings, in a signature
MOST_SLICED_VOICES = 24  # a table by speaker, with a question each, says nothing; the plan may still ask for it
BUILT_IN_SLICES = ("voice", "perturbation", "task")
COLUMN_ROLE: Mapping[ColumnName, Literal["base", "adapted"]] = {
    "base_text": "base",
    "base_transcript": "base",
    "adapted_text": "adapted",
    "adapted_speech": "adapted",
}

R = TypeVar("R", Rendering, Transcript)

Rendered = tuple[str, str]  # voice, perturbation
Heard = tuple[Item, Rendered | None]  # an item in one rendering; None: as written


@dataclass(frozen=True, slots=True)
class RenderOutcome:
    rendering: Rendering | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class TranscribeOutcome:
    transcript: Transcript | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class DivergenceOutcome:
    divergence: Divergence | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class Comparable:
    """Why two systems' distributions cannot be compared; ``None`` where they can."""

    obstacle: str | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The items of a run, in the order of their tasks, and how each task is asked."""

    items: tuple[Item, ...]
    rejects: tuple[Reject, ...]
    protocols: tuple[TaskProtocol, ...]
    tasks: Mapping[str, TaskSpec]

    def score_kind(self, task: str) -> ScoreKind:
        return self.tasks[task].score

    def asked(self) -> str:
        """How answers are asked for, by task: what of a protocol is not in the items themselves."""
        return digest({name: [task.score, task.generation] for name, task in self.tasks.items()})

    def measure_notes(self, scores: Sequence[Score]) -> list[str]:
        """What the report says of measures beside the one that counts."""
        return measure_notes(self.protocols, {item.id: item.task for item in self.items}, scores)

    def scored(self) -> str:
        """How answers are scored, by task."""
        return digest({name: scoring_fingerprint(task) for name, task in self.tasks.items()})


# --- in four lines ---------------------------------------------------------------------------------------------------


def evaluate(plan: Plan | str | os.PathLike[str] | Mapping[str, Any], /, **overrides: Any) -> GapReport:
    """Run a plan and return its gap report; the same as ``salad run``.

    ``plan`` is a preset's name (``"nano"``), the path of a YAML, a ``Plan``, or what a YAML would hold. ``overrides`` replace
    its keys: ``evaluate("nano", limit=100)``; nested ones by dotted name: ``**{"base.options.dtype": "bfloat16"}``.
    """
    changes = {key: str(value) if isinstance(value, os.PathLike) else value for key, value in overrides.items()}
    return run(Plan.of(plan, changes))


# --- the line --------------------------------------------------------------------------------------------------------


def run(plan: Plan) -> GapReport:
    """Run a plan to its end, or go on where an earlier run of it was stopped; the report lies in ``plan.folder``.

    Raises ``UserInputError`` for what the plan, the tasks or the names in them get wrong, before anything is rendered, and
    other ``SaladError``s where a step fails or no item is left.
    """
    from salad_eval import report
    from salad_eval.gap import report as gap
    from salad_eval.gap.signature import signature

    tasks = read_tasks(plan)
    with RunFolder(plan.folder) as folder:
        plan = begin(plan, folder)
        loaded = Loaded(plan, folder)
        benchmark = read_items(plan, tasks)
        records.write_jsonl(folder.file("items"), benchmark.items)
        rejects = list(benchmark.rejects)

        renderings, lost = render_items(plan, folder, loaded, benchmark.items)
        rejects += lost
        heard = left(benchmark.items, lost, "rendering")

        transcripts, lost = transcribe_items(folder, loaded, heard, renderings)
        rejects += lost
        kept = left(heard, lost, "transcription")
        renderings, transcripts = of_items(kept, renderings), of_items(kept, transcripts)

        speech = Speech(loaded.store, renderings, transcripts)
        responses = [r for column in COLUMNS for r in respond_column(column, folder, loaded, benchmark, kept, speech)]
        scores = score_responses(folder, benchmark, kept, responses)
        divergences, lost, notes = diverge(folder, loaded, kept, speech)
        rejects = once_an_item([*rejects, *lost])
        records.write_jsonl(folder.file("rejects"), rejects)

        columns = column_specs(plan, loaded)
        found = gap.build_report(
            items=benchmark.items,
            scores=scores,
            transcripts=transcripts,
            divergences=divergences,
            rejects=rejects,
            protocols=benchmark.protocols,
            columns=columns,
            signature=signature(
                protocols=benchmark.protocols,
                columns=columns,
                voices=voices_heard(plan, benchmark.items),
                perturbations=plan.perturbations,
                tts=tts_of(loaded, benchmark.items),
                asr=loaded.fingerprint("asr"),
                seed=plan.seed,
                n_resamples=plan.n_resamples,
            ),
            split=plan.split,
            seed=plan.seed,
            n_resamples=plan.n_resamples,
            slice_fields=slice_fields(plan, tasks, benchmark.items),
            created=plan.created or "",
            notes=[*notes, *without_words(renderings), *benchmark.measure_notes(scores)],
        )
        report.write_report(found, folder.path)
        (folder.path / DONE_FILE).write_text(found.signature + "\n", encoding="utf-8")
    return found


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a finished run left, as a comparison needs it."""

    items: list[Item]
    scores: list[Score]
    report: GapReport


def read_run(path: Path) -> FinishedRun:
    """A finished run's records. Raises ``DataError`` where the folder holds none, or the run did not come to its end."""
    folder = RunFolder(path)
    if not path.is_dir() or not (path / DONE_FILE).is_file():
        state = "is not finished; start it again" if path.is_dir() else "is not there"
        raise DataError(f"{path}: expected the folder of a finished run, and it {state}.")
    items = records.read_jsonl(folder.file("items"), Item)
    return FinishedRun(items, records.read_jsonl(folder.file("score"), Score), load_report(path))


def compare_runs(a: Path, b: Path) -> Comparison:
    """The second finished run less the first, on the items they share."""
    from salad_eval.gap.compare import compare

    first, second = read_run(a), read_run(b)
    return compare(
        first.scores, first.items, first.report, second.scores, second.items, second.report,
        seed=first.report.seed, n_resamples=first.report.n_resamples,
    )  # fmt: skip


# --- before anything is made -----------------------------------------------------------------------------------------


def tasks_of(plan: Plan) -> list[TaskSpec]:
    """The tasks that a plan names, as it asks them."""
    mirror = resolve_path(plan.data_dir) if plan.data_dir is not None else None
    return load_tasks(
        plan.tasks, speak=plan.speak, score=plan.score, data_dir=mirror, options=plan.options, metric=plan.metric
    )


def read_tasks(plan: Plan) -> tuple[TaskSpec, ...]:
    """The plan's tasks, with the columns it slices by; what cannot be run is refused here, before anything is made."""
    if plan.tts is not None:
        plugins.load("salad.tts", plan.tts.name)
    plugins.load("salad.asr", plan.asr.name)
    for system in (plan.base.system, plan.adapted.system):
        plugins.load("salad.systems", system)
    tasks = tasks_of(plan)
    columns = [field for field in plan.slice_fields or () if field not in BUILT_IN_SLICES]
    for task in tasks:
        if task.speak == "none":
            raise TaskError(f"{task.path}: metadata.salad.speak is 'none'; a gap needs something spoken.")
        if not task.audio and (plan.tts is None or not plan.voices):
            missing = "voices" if plan.tts is not None else "tts"
            raise UserInputError(
                f"plan: the key {missing!r} is missing, and task {task.name} is spoken: only tasks with ready sound (metadata.salad.audio) "
                "do without. Give, for example, tts: {name: pyttsx3} and voices: [en-us+f3]."
            )
        if plan.score in LOGPROB_SCORES and task.output_type == "generate_until":
            raise UserInputError(
                f"plan: score is {plan.score!r}, and task {task.name} has no options (generate_until); expected 'generate' or "
                "another that reads an answer."
            )
        if sum(other.name == task.name for other in tasks) > 1:
            raise UserInputError(f"plan: two of its tasks are called {task.name!r}; names must differ within a run.")
    _refuse_two_lists(plan, tasks)
    return tuple(dataclasses.replace(task, slices=tuple(dict.fromkeys([*task.slices, *columns]))) for task in tasks)


def _refuse_two_lists(plan: Plan, tasks: Sequence[TaskSpec]) -> None:
    """Options are listed by the items, for every column alike, or by one system for itself; never by both."""
    listing = next((task.name for task in tasks if task.options == "lettered"), None)
    if plan.options == "lettered" and all(task.doc_to_choice is None for task in tasks):
        raise UserInputError("plan: options is 'lettered', and none of its tasks has options. Leave the key out.")
    for role, system in (("base", plan.base), ("adapted", plan.adapted)):
        if listing is not None and system.options.get("list_options"):
            raise UserInputError(
                f"plan: {role}.options.list_options lists the options in one system's prompt, and task {listing} lists them in every "
                "column's (options: lettered). Keep one; only the latter asks both systems the same."
            )


def begin(plan: Plan, folder: RunFolder) -> Plan:
    """Write the plan down first. A run that goes on keeps the time stamp it began with, and with it its report."""
    (folder.path / DONE_FILE).unlink(missing_ok=True)
    file = folder.path / PLAN_FILE
    if plan.created is None:
        earlier = _earlier_plan(file)
        same = earlier is not None and _numbers_of(earlier) == _numbers_of(plan)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        plan = plan.model_copy(update={"created": earlier.created if earlier is not None and same else now})
    write_atomic(file, json.dumps(plan.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
    return plan


def _earlier_plan(file: Path) -> Plan | None:
    try:
        return Plan.from_yaml(file)
    except UserInputError:
        return None


def _numbers_of(plan: Plan) -> dict[str, Any]:
    """What of a plan its numbers depend on."""
    return plan.model_dump(mode="json", exclude={"created", "workers", "out", "audio_store"})


def read_items(plan: Plan, tasks: Sequence[TaskSpec]) -> Benchmark:
    items: list[Item] = []
    rejects: list[Reject] = []
    protocols: list[TaskProtocol] = []
    for task in tasks:
        found, lost, protocol = load_items(
            task, plan.split, limit=plan.limit, seed=plan.seed, shots=plan.shots, spoken_shots=plan.spoken_shots
        )
        items += found
        rejects += lost
        protocols.append(protocol)
    return Benchmark(tuple(items), tuple(rejects), tuple(protocols), {task.name: task for task in tasks})


# --- render ----------------------------------------------------------------------------------------------------------


def render_items(
    plan: Plan, folder: RunFolder, loaded: Loaded, items: Sequence[Item]
) -> tuple[list[Rendering], list[Reject]]:
    """Every spoken part of every item in every voice, and what could not be spoken or would be written out as well.

    An item with ready sound is heard in the voices that it was recorded in, the others in the plan's.
    """
    spoken, lost = jobs_for(items, plan.voices, plan.perturbations)
    recorded, dead = recorded_jobs(items, plan.perturbations)
    lost += dead
    jobs: list[RenderJob | RecordedJob] = [*spoken, *recorded]

    def make(todo: Sequence[RenderJob | RecordedJob]) -> Iterator[RenderOutcome]:
        said = [job for job in todo if isinstance(job, RenderJob)]
        ready = [job for job in todo if isinstance(job, RecordedJob)]  # all of them after the spoken ones, as in jobs
        outcomes: Iterable[Rendering | Reject] = render_recorded(ready, loaded.store)
        if said and plan.tts is not None:
            speak = render(
                said, tts=plan.tts.name, tts_options=plan.tts.options, store=loaded.store, workers=plan.n_workers
            )
            outcomes = itertools.chain(speak, outcomes)
        for outcome in outcomes:
            yield RenderOutcome(rendering=outcome) if isinstance(outcome, Rendering) else RenderOutcome(reject=outcome)

    depends_on = _depends("render", tts=tts_of(loaded, items), jobs=digest(*jobs))
    run_step = functools.partial(folder.run, "render", RenderOutcome, jobs, make, depends_on=depends_on)
    outcomes = run_step()
    if not all(o.rendering.sha256 in loaded.store for o in outcomes if o.rendering is not None):
        folder.forget("render")  # the store has been cleared since; what is still there is not spoken again
        outcomes = run_step()
    renderings = [o.rendering for o in outcomes if o.rendering is not None]
    lost += [o.reject for o in outcomes if o.reject is not None]
    return renderings, lost + _leaks(items, renderings)


def voices_heard(plan: Plan, items: Sequence[Item]) -> tuple[str, ...]:
    """The voices of a run, as its signature names them: the plan's where anything is spoken, and the speakers of recordings.

    Many speakers are counted, not named.
    """
    spoken = plan.voices if any(not item.recordings for item in items) else ()
    speakers = voices_of(items)
    named = speakers if len(speakers) <= MOST_NAMED_VOICES else (f"recorded({len(speakers)})",)
    return tuple(dict.fromkeys([*spoken, *named]))


def without_words(renderings: Sequence[Rendering]) -> list[str]:
    """A note where recordings were heard that have no word error rate."""
    n = sum(not rendering.spoken_text for rendering in renderings)
    return [f"recordings of a text that has no spoken form by rule: {n}; they are not part of the WER."] if n else []


def tts_of(loaded: Loaded, items: Sequence[Item]) -> str:
    """The fingerprint of the TTS, or ``recordings`` where nothing is spoken by it."""
    return "recorded" if all(item.recordings for item in items) else loaded.fingerprint("tts")


def _leaks(items: Sequence[Item], renderings: Sequence[Rendering]) -> list[Reject]:
    """Items whose prompt writes out what is said in them (spelt out, that is; the written form was seen to before)."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for rendering in renderings:
        said[rendering.item_id][rendering.part] = rendering.spoken_text
    silence = AudioSegment(Audio(np.zeros(0, dtype=np.float32), 16_000), "")
    rejects = []
    for item in items:
        if set(said[item.id]) == {part.name for part in item.spoken_parts}:
            try:
                build_requests(item, "speech", audio=dict.fromkeys(said[item.id], silence), spoken_texts=said[item.id])
            except LeakError as cause:
                rejects.append(Reject(item.id, "render", "spoken text is also written in the prompt", str(cause)))
    return rejects


# --- transcribe ------------------------------------------------------------------------------------------------------


def transcribe_items(
    folder: RunFolder, loaded: Loaded, items: Sequence[Item], renderings: Sequence[Rendering]
) -> tuple[list[Transcript], list[Reject]]:
    """What the ASR hears in every rendering of the items, and the recordings that cannot be used."""
    said = of_items(items, renderings)
    answers = {item.id: answers_of(item) for item in items}

    def make(todo: Sequence[Rendering]) -> Iterator[TranscribeOutcome]:
        for outcome in transcribe(todo, loaded.asr, loaded.store, answers=answers):
            if isinstance(outcome, Transcript):
                yield TranscribeOutcome(transcript=outcome)
            else:
                yield TranscribeOutcome(reject=outcome)

    depends_on = _depends(
        "transcribe",
        asr=loaded.fingerprint("asr"),
        normaliser=NORMALISER,
        renderings=digest(*said),
        answers=digest(answers),
    )
    outcomes = folder.run(
        "transcribe", TranscribeOutcome, said, make, depends_on=depends_on, chunk=RECORDINGS_AT_A_TIME
    )
    loaded.release("asr")
    lost = [outcome.reject for outcome in outcomes if outcome.reject is not None]
    return [outcome.transcript for outcome in outcomes if outcome.transcript is not None], lost


# --- respond ---------------------------------------------------------------------------------------------------------


class Speech:
    """Renderings and transcripts by item, voice and perturbation, as prompts need them."""

    def __init__(self, store: AudioStore, renderings: Sequence[Rendering], transcripts: Sequence[Transcript]) -> None:
        self._store = store
        self._renderings: dict[str, dict[Rendered, dict[str, Rendering]]] = defaultdict(lambda: defaultdict(dict))
        self._transcripts: dict[str, dict[Rendered, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        for r in renderings:
            self._renderings[r.item_id][r.voice, r.perturbation][r.part] = r
        for t in transcripts:
            self._transcripts[t.item_id][t.voice, t.perturbation][t.part] = t.text
        self.digest = digest(*renderings)
        self.transcripts_digest = digest(*transcripts)

    def renderings_of(self, item: Item) -> tuple[Rendered, ...]:
        return tuple(self._renderings[item.id])

    def requests(self, item: Item, form: InputForm, rendered: Rendered | None = None) -> tuple[Request, ...]:
        """What is asked of an item in one input form; sound is read from the store here and not before."""
        if form == "text" or rendered is None:
            return build_requests(item, "text")
        if form == "transcript":
            return build_requests(item, form, transcripts=self._transcripts[item.id][rendered])
        parts = self._renderings[item.id][rendered]
        return build_requests(
            item,
            form,
            audio={name: AudioSegment(self._store.get(r.sha256), r.sha256) for name, r in parts.items()},
            spoken_texts={name: r.spoken_text for name, r in parts.items()},
        )


def respond_column(
    column: ColumnName, folder: RunFolder, loaded: Loaded, benchmark: Benchmark, items: Sequence[Item], speech: Speech
) -> list[Response]:
    """What a column's system says of every item: once as written, or once a rendering."""
    form, role = COLUMN_FORM[column], COLUMN_ROLE[column]

    def queries(group: Iterable[Heard]) -> Iterator[Query]:
        for item, rendered in group:
            yield Query(speech.requests(item, form, rendered), *(rendered or ()))

    def make(chunk: Sequence[Heard]) -> Iterator[Response]:
        for task, group in itertools.groupby(chunk, key=lambda heard: heard[0].task):
            yield from respond(
                loaded.system(role),
                queries(group),
                column,
                benchmark.score_kind(task),
                generation=benchmark.tasks[task].generation,
            )

    heard = {"text": "", "transcript": speech.transcripts_digest, "speech": speech.digest}[form]
    units: list[Heard] = [(item, None) for item in items] if form == "text" else each_rendering(items, speech)
    return folder.run(
        f"respond.{column}",
        Response,
        units,
        make,
        depends_on=_depends(
            "respond",
            system=loaded.fingerprint(role),
            items=digest(*written(items)),
            heard=heard,
            protocol=benchmark.asked(),
        ),
        chunk=(ITEMS_AT_A_TIME if form == "speech" else TEXTS_AT_A_TIME) * most_renderings(units),
    )


# --- score -----------------------------------------------------------------------------------------------------------


def score_responses(
    folder: RunFolder, benchmark: Benchmark, items: Sequence[Item], responses: Sequence[Response]
) -> list[Score]:
    """Right, wrong or missing, for every response."""
    by_id = {item.id: item for item in items}
    scorers = {name: scorer_of(task) for name, task in benchmark.tasks.items()}

    def make(chunk: Sequence[Response]) -> Iterator[Score]:
        for response in chunk:
            item = by_id[response.item_id]
            yield scorers[item.task](item, response)

    depends_on = _depends(
        "score", responses=digest(*responses), items=digest(*written(items)), protocol=benchmark.scored()
    )
    return folder.run("score", Score, responses, make, depends_on=depends_on, chunk=TEXTS_AT_A_TIME)


# --- divergence ------------------------------------------------------------------------------------------------------


def diverge(
    folder: RunFolder, loaded: Loaded, items: Sequence[Item], speech: Speech
) -> tuple[list[Divergence], list[Reject], list[str]]:
    """F, M and D of every item that has options and in every rendering; a note where they cannot be taken."""
    measured = [item for item in items if item.gold is not None and item.choices]
    notes = []
    if len(measured) < len(items):
        notes.append(f"divergences not measured for {len(items) - len(measured)} items without options.")
    if not measured:
        return [], [], notes
    systems = {"base": loaded.fingerprint("base"), "adapted": loaded.fingerprint("adapted")}

    def compare(_: Sequence[str]) -> Iterator[Comparable]:
        yield Comparable(incomparable(loaded.base, loaded.adapted))

    (comparable,) = folder.run("comparable", Comparable, [""], compare, depends_on=_depends("divergence", **systems))
    if comparable.obstacle is not None:
        return [], [], [*notes, comparable.obstacle]

    def query(item: Item, heard: Iterable[Heard]) -> DivergenceQuery:
        def gold(form: InputForm, rendered: Rendered | None = None) -> Request:
            return gold_only(speech.requests(item, form, rendered), item.gold or 0)

        spoken = tuple(SpokenRequest(*rendered, gold("speech", rendered)) for _, rendered in heard if rendered)
        return DivergenceQuery(gold("text"), spoken)

    def make(chunk: Sequence[Heard]) -> Iterator[DivergenceOutcome]:
        base, adapted = loaded.base, loaded.adapted
        if not (isinstance(base, Distributional) and isinstance(adapted, Distributional)):
            raise ModelError("divergences: a system that gave next-token distributions before gives none now.")
        # All of a chunk at once, as it was in the column of speech: a system that hears it anew after a kill then hears it
        # in the same batch, and gives the same numbers to the last digit.
        by_item = [list(heard) for _, heard in itertools.groupby(chunk, key=lambda heard: heard[0].id)]
        queries = (query(heard[0][0], heard) for heard in by_item)
        for found in divergences(base, adapted, queries, first=len(by_item)):
            yield (
                DivergenceOutcome(divergence=found)
                if isinstance(found, Divergence)
                else DivergenceOutcome(reject=found)
            )

    units = each_rendering(measured, speech)
    outcomes = folder.run(
        "divergence",
        DivergenceOutcome,
        units,
        make,
        depends_on=_depends("divergence", **systems, items=digest(*written(measured)), heard=speech.digest),
        chunk=ITEMS_AT_A_TIME * most_renderings(units),
    )
    lost = [outcome.reject for outcome in outcomes if outcome.reject is not None]
    return [outcome.divergence for outcome in outcomes if outcome.divergence is not None], lost, notes


# --- between the steps -----------------------------------------------------------------------------------------------


def left(items: Sequence[Item], lost: Iterable[Reject], step: str) -> list[Item]:
    """The items without a reject. Raises ``SaladError`` where none is left."""
    rejected = {reject.item_id: reject for reject in lost}
    kept = [item for item in items if item.id not in rejected]
    if not kept:
        reasons = sorted(
            {f"{reject.reason} ({reject.detail})" if reject.detail else reject.reason for reject in rejected.values()}
        )
        raise SaladError(
            f"no item is left after {step}: all {len(items)} were rejected. Reasons: {'; '.join(reasons[:3])}."
        )
    return kept


def of_items(items: Iterable[Item], found: Sequence[R]) -> list[R]:
    """The renderings or transcripts of the items."""
    ids = {item.id for item in items}
    return [record for record in found if record.item_id in ids]


def written(items: Iterable[Item]) -> list[Item]:
    """The items without the places of their recordings: what is heard has a digest of its own, and files may be moved."""
    return [dataclasses.replace(item, recordings=()) if item.recordings else item for item in items]


def each_rendering(items: Iterable[Item], speech: Speech) -> list[Heard]:
    """The items, each once a rendering of it: as many as the plan has voices, or as it has speakers where it is recorded."""
    return [(item, rendered) for item in items for rendered in speech.renderings_of(item)]


def most_renderings(units: Sequence[Heard]) -> int:
    """The largest number of renderings of an item: chunks are cut so that all of an item's are asked together where all have as many."""
    return max(Counter(item.id for item, _ in units).values(), default=1)


def once_an_item(rejects: Iterable[Reject]) -> list[Reject]:
    """One reject an item, step and reason, however many of its renderings it befell."""
    return list({(reject.item_id, reject.step, reject.reason): reject for reject in reversed(list(rejects))}.values())[
        ::-1
    ]


def column_specs(plan: Plan, loaded: Loaded) -> tuple[ColumnSpec, ...]:
    names = {"base": plan.base.system, "adapted": plan.adapted.system}
    return tuple(
        ColumnSpec(column, names[COLUMN_ROLE[column]], COLUMN_FORM[column], loaded.fingerprint(COLUMN_ROLE[column]))
        for column in COLUMNS
    )


def slice_fields(plan: Plan, tasks: Sequence[TaskSpec], items: Sequence[Item] = ()) -> tuple[str, ...]:
    """The fields that a report slices by: the plan's, or voice (where they are not too many) and what the tasks name."""
    if plan.slice_fields is not None:
        return plan.slice_fields
    by_voice = ["voice"] if len(voices_of(items)) <= MOST_SLICED_VOICES else []
    several = [name for name, values in (("perturbation", plan.perturbations), ("task", tasks)) if len(values) > 1]
    return tuple(dict.fromkeys([*by_voice, *several, *(field for task in tasks for field in task.slices)]))


def _depends(step: str, **inputs: str) -> dict[str, str]:
    return {"version": STEP_VERSION[step], **inputs}
