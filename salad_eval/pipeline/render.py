"""Items to sound: what is to be said, said by a TTS plug-in, checked, and kept in the store.

A job is done once: equal requests of one call share a sound, and a request that the store remembers is not spoken
again. Results come in the order of the jobs, whatever works on them.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from salad_eval.audio.perturb import canonical, perturbation
from salad_eval.audio.store import AudioStore, SpeechRequest
from salad_eval.benchmarks.recordings import RecordedJob, recorded_jobs, render_recorded
from salad_eval.benchmarks.requests import build_requests
from salad_eval.errors import LeakError, SaladError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.apart import opened
from salad_eval.pipeline.executor import Executor, InProcess, Work
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speak import SpeakSetup, SpeechOutcome, speak, worker_died
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import CLEAN, Audio, AudioSegment, Failure, Item, Reject, Rendering, Transcript

REQUESTS_AT_A_TIME = 16  # enough to hide the sending to a worker, few enough to lose little in a kill
R = TypeVar("R", Rendering, Transcript)


@dataclass(frozen=True, slots=True)
class RenderOutcome:
    """A line of ``render.jsonl``."""

    rendering: Rendering | None = None
    reject: Reject | None = None


STEP = Step("render", RenderOutcome, version="1", chunk=16)


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One spoken part of one item in one voice: what is to be said, and what is done to the sound."""

    item_id: str
    part: str
    voice: str
    perturbation: str
    spoken_text: str


# --- jobs ------------------------------------------------------------------------------------------------------------


def jobs_for(
    items: Iterable[Item], voices: Sequence[str], perturbations: Sequence[str] = (CLEAN,)
) -> tuple[list[RenderJob], list[Reject]]:
    """The jobs that speak every part of every item in every voice, and the items that cannot be spoken.

    An item with a part that has no spoken form gets one reject (``unspeakable:`` and the kind of text, with the cause) and
    no job: half an item cannot be asked. Items with recordings are left to ``recordings.recorded_jobs``.
    """
    jobs: list[RenderJob] = []
    rejects: list[Reject] = []
    for item in items:
        if item.recordings:
            continue
        try:
            spoken = [(part.name, to_spoken(item.part_text(part))) for part in item.spoken_parts]
        except Unspeakable as cause:
            rejects.append(Reject(item.id, STEP.name, f"unspeakable: {cause.kind}", str(cause)))
            continue
        for voice in voices:
            for name in perturbations:
                jobs.extend(RenderJob(item.id, part, voice, name, text) for part, text in spoken)
    return jobs, rejects


# --- rendering -------------------------------------------------------------------------------------------------------


def render(
    jobs: Iterable[RenderJob],
    *,
    tts: str,
    tts_options: Mapping[str, Any],
    store: AudioStore,
    executor: Executor | None = None,
    retries: int = 3,
    tools: Tools | None = None,
) -> Iterator[Rendering | Reject]:
    """Speak the jobs; one ``Rendering`` or ``Reject`` each, in their order, as soon as it is known.

    ``executor`` does the work, by default in this process; ``tools``: what this process has opened already. A request that ends the
    process it is spoken in is rejected (``worker_died``). The other reasons are those of ``sound.problem``, ``tts_error`` where the
    engine says so, and ``plugin_failed`` where it fails. Raises ``UserInputError`` for a voice, perturbation or option that is not
    there, and ``PluginError`` for an engine that cannot be built or fails throughout.
    """
    todo = list(jobs)
    for name in {job.perturbation for job in todo}:
        perturbation(name)
    if retries < 0:
        raise UserInputError(f"render: retries is {retries}; expected 0 or more.")
    tools, ref = tools or Tools(), PluginRef("salad.tts", tts, tts_options)
    tools.use(store)
    fingerprint = opened(tools, ref).fingerprint()
    requests = [SpeechRequest(fingerprint, job.voice, job.spoken_text, canonical(job.perturbation)) for job in todo]
    known = {request: sound for request in dict.fromkeys(requests) if (sound := store.find(request)) is not None}
    outcomes = {request: SpeechOutcome(sound=sound) for request, sound in known.items()}
    missing = [request for request in dict.fromkeys(requests) if request not in known]
    chunks = [missing[i : i + REQUESTS_AT_A_TIME] for i in range(0, len(missing), REQUESTS_AT_A_TIME)]
    work = Work(speak, SpeakSetup(ref, str(store.root), retries), str(ref), functools.partial(worker_died, str(ref)))
    new = zip(chunks, (executor or InProcess(tools)).map(work, chunks), strict=True)
    for job, request in zip(todo, requests, strict=True):
        while request not in outcomes:
            made = dict(zip(*next(new), strict=True))
            store.remember({r: o.sound for r, o in made.items() if o.sound is not None})
            outcomes |= made
        yield _result(job, outcomes[request])


def _result(job: RenderJob, outcome: SpeechOutcome) -> Rendering | Reject:
    sound = outcome.sound
    if sound is None:
        why = outcome.failure or Failure("tts_error")
        return Reject(job.item_id, STEP.name, why.reason, why.detail)
    return Rendering(
        job.item_id,
        job.part,
        job.voice,
        job.perturbation,
        job.spoken_text,
        sound.sha256,
        sound.sample_rate_hz,
        sound.n_samples,
    )


# --- the step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedSetup:
    """Where the sound of recordings is kept."""

    store: str


def take_recordings(tools: Tools, setup: RecordedSetup, chunk: Sequence[RecordedJob]) -> list[RenderOutcome]:
    """Ready sound, decoded, checked and kept."""
    return [_outcome(one) for one in render_recorded(chunk, tools.store(setup.store))]


@dataclass(frozen=True, slots=True)
class Spoken:
    """The items that can be heard, their renderings, and what was lost on the way."""

    items: tuple[Item, ...]
    renderings: tuple[Rendering, ...]
    rejects: tuple[Reject, ...]


def render_items(session: Session, items: Sequence[Item]) -> Spoken:
    """Every spoken part of every item in every voice, and what could not be spoken or would be written out as well.

    An item with ready sound is heard in the voices that it was recorded in, the others in the plan's.
    """
    plan = session.plan
    jobs, unspeakable = jobs_for(items, plan.voices, plan.conditions)
    recorded, unheard = recorded_jobs(items, plan.conditions)

    def make(chunks: Sequence[Sequence[RenderJob | RecordedJob]]) -> Iterator[list[RenderOutcome]]:
        todo = [job for chunk in chunks for job in chunk]
        said = [job for job in todo if isinstance(job, RenderJob)]
        ready = [job for job in todo if isinstance(job, RecordedJob)]  # all of them after the spoken ones, as in jobs
        outcomes = itertools.chain(_spoken(session, said), _recorded(session, ready))
        for chunk in chunks:
            yield list(itertools.islice(outcomes, len(chunk)))

    every: list[RenderJob | RecordedJob] = [*jobs, *recorded]
    depends_on = {"tts": session.fingerprint("tts"), "jobs": digest(*every)}
    outcomes = session.folder.run(STEP, every, make, depends_on=depends_on)
    if not all(o.rendering.sha256 in session.store for o in outcomes if o.rendering is not None):
        session.folder.forget(STEP.name)  # the store has been cleared since; what is still there is not spoken again
        outcomes = session.folder.run(STEP, every, make, depends_on=depends_on)
    renderings = [o.rendering for o in outcomes if o.rendering is not None]
    lost = [*unspeakable, *unheard, *(o.reject for o in outcomes if o.reject is not None), *_leaks(items, renderings)]
    kept = left(items, lost, "rendering")
    return Spoken(tuple(kept), tuple(of_items(kept, renderings)), tuple(lost))


def _spoken(session: Session, jobs: Sequence[RenderJob]) -> Iterator[RenderOutcome]:
    if not jobs:
        return
    tts = session.ref("tts")
    outcomes = render(
        jobs, tts=tts.name, tts_options=tts.options, store=session.store, executor=session.voices, tools=session.tools
    )
    yield from map(_outcome, outcomes)


def _recorded(session: Session, jobs: Sequence[RecordedJob]) -> Iterator[RenderOutcome]:
    chunks = [jobs[i : i + REQUESTS_AT_A_TIME] for i in range(0, len(jobs), REQUESTS_AT_A_TIME)]
    work = Work(take_recordings, RecordedSetup(str(session.store.root)), "the reader of recordings")
    for outcomes in session.models.map(work, chunks):
        yield from outcomes


def _outcome(found: Rendering | Reject) -> RenderOutcome:
    return RenderOutcome(rendering=found) if isinstance(found, Rendering) else RenderOutcome(reject=found)


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
                rejects.append(Reject(item.id, STEP.name, "spoken text is also written in the prompt", str(cause)))
    return rejects


# --- what is left ----------------------------------------------------------------------------------------------------


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
