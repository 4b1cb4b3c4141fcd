"""The rows behind ``tasks/lm_eval/``: our items, with our prompts, as the dataset that an lm-eval task reads.

A task YAML names ``dataset`` as its ``custom_dataset``; lm-eval calls it with the YAML's ``dataset_kwargs`` (which task, which
input form, which domain) and with what the user gave as ``--metadata`` and ``--model_args``, mixed. A row's context is the whole
prompt, few-shot examples included, so that lm-eval adds nothing to it and asks exactly what ``salad run`` asks.

Spoken rows are rendered as the dataset is built, by the same step as in a run and into the same store; the context then holds
markers, and ``audio`` the references (see ``audio_refs``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from salad_eval.answers.score import score_response
from salad_eval.audio.perturb import canonical
from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.functions import task_function
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.recordings import recorded_jobs, render_recorded
from salad_eval.benchmarks.requests import build_request
from salad_eval.benchmarks.spec import OptionList
from salad_eval.errors import LeakError, TaskError, UserInputError, did_you_mean
from salad_eval.lm_eval_bridge.audio_refs import AudioRef, holds_marker, marked_text
from salad_eval.pipeline.apart import is_strange
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.pipeline.render import RenderJob, jobs_for, render
from salad_eval.pipeline.tools import PluginRef
from salad_eval.progress import track
from salad_eval.resources import resolve_path
from salad_eval.types import CLEAN, Audio, AudioSegment, Item, Reject, Rendering, Response, TaskProtocol
from salad_eval.validation import parse

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

Form: TypeAlias = Literal["text", "cascade", "speech"]
FORMS: tuple[Form, ...] = ("text", "cascade", "speech")
SPLIT = "test"  # what the only split of the dataset is called, whichever split of the data it holds
DEFAULT_VOICE = "en-us+f3"
METRICS: Mapping[str, str] = {"ll": "acc", "ll_norm": "acc_norm", "exact_match": "exact_match", "f1": "f1"}
GENERATED_METRIC = "acc"  # of the other scores, which read right or wrong out of a text
_SPLIT_ORDER = ("test", "validation", "train")
_SILENCE = Audio(np.zeros(0, dtype=np.float32), 16_000)
_LISTS = ("choices", "golds", "answers", "audio", "fields")  # of a row: not plain values
_NEAR = 0.8  # how alike a key of --metadata must be to one of ours to count as its misspelling


class RowOptions(BaseModel):
    """What a user may choose by ``--metadata key=value``; each key means what it means in a plan of ``salad run``.

    ``split``: by default test, or what the task has. ``data_dir``: a local mirror of the data sets. ``limit``: items of the whole task,
    spread over its domains by ``seed``, as in ``salad run --limit`` (lm-eval's own ``--limit`` takes the first of each domain).
    ``shots``: few-shot examples, spoken where the task says so or ``spoken_shots`` is true. ``options``: ``lettered`` lists the options
    in the prompt. ``voice``, ``perturbation``, ``tts``, ``tts_options``, ``audio_store``, ``workers``: how and where spoken rows are
    rendered; an item with ready sound is heard in that, by its speaker of that name or else its first one. ``first``: make the first
    rows only, so that ``lm-eval --limit`` renders no more than it asks (``salad lm-eval`` sees to it).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    split: str | None = None
    data_dir: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    shots: Annotated[int, Field(ge=0)] | None = None
    spoken_shots: bool | None = None
    options: OptionList | None = None
    voice: Annotated[str, Field(min_length=1)] = DEFAULT_VOICE
    perturbation: Annotated[str, Field(min_length=1)] = CLEAN
    tts: Annotated[str, Field(min_length=1)] = "pyttsx3"
    tts_options: dict[str, JsonValue] = {}
    audio_store: str | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    first: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A document of an lm-eval task: one item in one input form and, where it is spoken, in one voice.

    ``context`` is the whole prompt, with markers for what is heard; ``question_sha256`` is over the item as written (context,
    options, gold, answers), so that the same question is known again in every form. ``score`` says which measure the task's
    protocol goes by (``ll``: acc, ``ll_norm``: acc_norm). Item fields are as in ``types.Item``.
    """

    id: str
    task: str
    split: str
    form: Form
    domain: str
    group: str
    context: str
    choices: tuple[str, ...]
    golds: tuple[int, ...]
    answers: tuple[str, ...]
    score: str
    question_sha256: str
    data_revision: str
    speak: str
    shots: int
    spoken_shots: bool
    options: OptionList = "none"
    voice: str | None = None
    perturbation: str | None = None
    audio: tuple[AudioRef, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


# --- what lm-eval calls ----------------------------------------------------------------------------------------------


@task_function(refuses=("tts", "tts_options", "audio_store", "data_dir"))
def dataset(*, task: str, form: Form, domain: str | None = None, **given: Any) -> Mapping[str, datasets.Dataset]:
    """The rows of a task in one input form, of one domain or all, as ``{"test": Dataset}``.

    ``given`` are lm-eval's metadata: those of ``RowOptions`` count, others (the model's arguments, say) are left alone unless they
    are a misspelling of one of ours. Rows that cannot be asked in this form are left out, counted and logged by reason.
    Raises ``UserInputError`` and ``TaskError`` for options, names and data that cannot be used.
    """
    import datasets

    made, lost = rows(task, form, domain, options_from(given))
    name = f"{task}, {form}" + (f", {domain}" if domain else "")
    for (step, reason), n in Counter((reject.step, reject.reason) for reject in lost).most_common():
        logger.warning("%s: %d items left out (%s: %s)", name, n, step, reason)
    return {SPLIT: datasets.Dataset.from_list([as_doc(row) for row in made])}


@task_function()
def doc_to_audio(doc: Mapping[str, Any]) -> list[dict[str, str]]:
    """The references of a row's sounds, in the order of their first use."""
    return [{"path": ref["path"], "sha256": ref["sha256"]} for ref in doc["audio"]]


@task_function()
def process_answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a generated answer as ``salad run`` does: its measure (1: right), and ``unparsed``, 1 where no answer can be read."""
    item = item_of(doc)
    response = Response(item.id, "base_text", "text", None, None, text=results[0])
    score = score_response(item, response, doc["score"])
    if score.value is None:
        raise TaskError(f"item {item.id!r} cannot be scored: {score.reason}.")
    return {METRICS.get(doc["score"], GENERATED_METRIC): score.value, "unparsed": float(not score.parsed)}


def item_of(doc: Mapping[str, Any]) -> Item:
    """The item of a row, without its spoken parts: what is needed to score an answer to it."""
    golds = doc["golds"] or ()
    return Item(
        id=doc["id"],
        task=doc["task"],
        split=doc["split"],
        domain=doc["domain"],
        context=doc["context"],
        choices=tuple(doc["choices"] or ()),
        gold=golds[0] if golds else None,
        group=doc["group"],
        spoken_parts=(),
        also_gold=tuple(golds[1:]),
        answers=tuple(doc["answers"] or ()),
        fields=json.loads(doc["fields"]),
    )


def as_doc(row: Row) -> dict[str, Any]:
    """A row as a table holds it: every row has the same columns, and item fields are one column of JSON."""
    return {
        **{name: getattr(row, name) for name in Row.__slots__ if name not in _LISTS},
        "choices": list(row.choices),
        "golds": list(row.golds),
        "answers": list(row.answers),
        "audio": [ref.as_json() for ref in row.audio],
        "fields": json.dumps(dict(row.fields), sort_keys=True, ensure_ascii=False),
    }


# --- options ---------------------------------------------------------------------------------------------------------


def options_from(given: Mapping[str, Any]) -> RowOptions:
    """Our options among lm-eval's metadata. Raises ``UserInputError`` for a wrong value, and for a key much like one of ours."""
    import difflib

    known = list(RowOptions.model_fields)
    for key in given:
        if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=_NEAR):
            raise UserInputError(f"--metadata {key}={given[key]!r}: there is no such option{did_you_mean(key, known)}.")
    return parse(RowOptions, {key: value for key, value in given.items() if key in known}, "--metadata")


# --- rows ------------------------------------------------------------------------------------------------------------


def rows(task: str, form: Form, domain: str | None, options: RowOptions) -> tuple[list[Row], list[Reject]]:
    """The rows of a task (by its name or the path of its YAML), and the items that cannot be asked in this form.

    Raises ``TaskError`` where no row is left.
    """
    mirror = resolve_path(options.data_dir) if options.data_dir is not None else None
    spec = load_task(task, data_dir=mirror)
    split = options.split or next((name for name in _SPLIT_ORDER if name in spec.splits), next(iter(spec.splits)))
    asked = _Asked(
        task, mirror, split, options.limit, options.seed, options.shots, options.spoken_shots, options.options
    )
    found = _loaded(asked, spec.path.stat().st_mtime_ns)
    items = [item for item in found.items if domain is None or item.domain == domain]
    rejects = list(found.rejects) if domain is None else []  # which domain an unusable row would have had is not known
    askable, marked = _without_markers(items)
    rejects += marked
    if form == "text":
        made = [_row(item, found.protocol, form, item.context) for item in askable[: options.first]]
    else:
        if spec.speak == "none":
            raise TaskError(f"{spec.path}: metadata.salad.speak is 'none'; nothing of it can be heard.")
        made, unheard = _spoken_rows(askable, found.protocol, form, options)
        rejects += unheard
    if not made:
        reasons = "; ".join(sorted({f"{reject.reason} {reject.detail}".strip() for reject in rejects})[:3])
        where = f"task {task}, split {split!r}" + (f", domain {domain!r}" if domain else "")
        raise TaskError(
            f"{where}: no item can be asked in the form {form!r} ({reasons or 'there is none'})."
            + (f" lm-eval runs no empty task: ask {spec.name}_{form}_all, all domains in one." if domain else "")
        )
    return made, rejects


@dataclass(frozen=True, slots=True)
class _Asked:
    """What decides which items a task has."""

    task: str
    data_dir: Path | None
    split: str
    limit: int | None
    seed: int
    shots: int | None
    spoken_shots: bool | None
    options: OptionList | None


@dataclass(frozen=True, slots=True)
class _Found:
    items: tuple[Item, ...]
    rejects: tuple[Reject, ...]
    protocol: TaskProtocol


@lru_cache(maxsize=4)
def _loaded(asked: _Asked, changed_ns: int) -> _Found:
    """A task's items, read once for all its domains; ``changed_ns`` is of its YAML, so that an edited one is read again."""
    items, rejects, protocol = load_items(
        load_task(asked.task, data_dir=asked.data_dir, options=asked.options),
        asked.split,
        limit=asked.limit,
        seed=asked.seed,
        shots=asked.shots,
        spoken_shots=asked.spoken_shots,
    )
    return _Found(tuple(items), tuple(rejects), protocol)


def _without_markers(items: Iterable[Item]) -> tuple[list[Item], list[Reject]]:
    """Items whose own text looks like an audio marker are left out: a model could not tell it from a sound."""
    kept, lost = [], []
    for item in items:
        if holds_marker(item.context):
            lost.append(Reject(item.id, "items", "its text holds an audio marker"))
        else:
            kept.append(item)
    return kept, lost


def question_sha256(item: Item) -> str:
    """The identity of what is asked, as written: context (few-shot examples included), options, golds and accepted answers."""
    asked = [item.context, list(item.choices), list(item.golds), list(item.answers)]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def text_row(item: Item, protocol: TaskProtocol) -> Row:
    """The row of an item that is read as written."""
    return _row(item, protocol, "text", item.context)


def spoken_row(
    item: Item, protocol: TaskProtocol, form: Form, parts: Mapping[str, Rendering], store: AudioStore
) -> Row:
    """The row of an item whose ``parts`` (by name) are heard. Raises ``LeakError`` where its text holds what is said."""
    audio = {part: AudioSegment(_SILENCE, rendering.sha256) for part, rendering in parts.items()}
    said = {part: rendering.spoken_text for part, rendering in parts.items()}
    request = build_request(item, "speech", audio=audio, spoken_texts=said)
    heard = dict.fromkeys(segment.sha256 for segment in request.prompt if isinstance(segment, AudioSegment))
    refs = tuple(AudioRef(str(store.path(sha256).absolute()), sha256) for sha256 in heard)
    first = next(iter(parts.values()))
    return _row(item, protocol, form, marked_text(request.prompt), first.voice, first.perturbation, refs)


def _row(
    item: Item,
    protocol: TaskProtocol,
    form: Form,
    context: str,
    voice: str | None = None,
    perturbation: str | None = None,
    audio: tuple[AudioRef, ...] = (),
) -> Row:
    return Row(
        id=item.id,
        task=item.task,
        split=item.split,
        form=form,
        domain=item.domain,
        group=item.group,
        context=context,
        choices=item.choices,
        golds=item.golds,
        answers=item.answers,
        score=protocol.score,
        question_sha256=question_sha256(item),
        data_revision=protocol.data_revision,
        speak=protocol.speak,
        shots=protocol.shots,
        spoken_shots=protocol.spoken_shots,
        options=protocol.options,
        voice=voice,
        perturbation=perturbation,
        audio=audio,
        fields=item.fields,
    )


def _spoken_rows(
    items: Sequence[Item], protocol: TaskProtocol, form: Form, options: RowOptions
) -> tuple[list[Row], list[Reject]]:
    """Rows of the items that can be heard; of the first of them only, where ``options.first`` says how many are wanted."""
    store = AudioStore(options.audio_store)
    made: list[Row] = []
    rejects: list[Reject] = []
    remaining = list(items)
    while remaining and (options.first is None or len(made) < options.first):
        n = len(remaining) if options.first is None else options.first - len(made)
        block, remaining = remaining[:n], remaining[n:]
        by_item, lost = _rendered(block, options, store)
        rejects += lost
        for item in block:
            if item.id in by_item:
                try:
                    made.append(spoken_row(item, protocol, form, by_item[item.id], store))
                except LeakError as cause:
                    reason = "spoken text is also written in the prompt"
                    rejects.append(Reject(item.id, "render", reason, str(cause)))
    return made, rejects


def _rendered(
    items: Sequence[Item], options: RowOptions, store: AudioStore
) -> tuple[dict[str, dict[str, Rendering]], list[Reject]]:
    """Each item's renderings by part, in one voice, for items all of whose parts can be heard; one reject for each of the others."""
    perturbations = [canonical(options.perturbation)]
    jobs, rejects = jobs_for(items, [options.voice], perturbations)
    recorded, dead = recorded_jobs(items, perturbations)
    outcomes = itertools.chain(_spoken(jobs, options, store), render_recorded(recorded, store))
    heard: dict[str, dict[str, dict[str, Rendering]]] = {}
    failed: dict[str, Reject] = {}
    for outcome in track(outcomes, "render", total=len(jobs) + len(recorded)):
        if isinstance(outcome, Rendering):
            heard.setdefault(outcome.item_id, {}).setdefault(outcome.voice, {})[outcome.part] = outcome
        else:
            failed.setdefault(outcome.item_id, outcome)
    by_item = {}
    for item in items:
        voices = heard.get(item.id, {})
        parts = voices.get(options.voice) or next(iter(voices.values()), {})
        if set(parts) == {part.name for part in item.spoken_parts} and parts:
            by_item[item.id] = parts
            failed.pop(item.id, None)  # another speaker's recording
    return by_item, [*rejects, *dead, *failed.values()]


def _spoken(jobs: Sequence[RenderJob], options: RowOptions, store: AudioStore) -> Iterator[Rendering | Reject]:
    if jobs:  # a task of recordings needs no TTS
        strange = is_strange(PluginRef("salad.tts", options.tts, options.tts_options))
        crew = WorkerProcesses(options.workers or os.cpu_count() or 1, apart=strange)
        yield from render(jobs, tts=options.tts, tts_options=options.tts_options, store=store, executor=crew)
