"""Items to sound: what is to be said, said by a TTS plug-in, checked, and kept in the store.

A job is done once: equal requests of one call share a sound, and a request that the store remembers is not spoken
again. Results come in the order of the jobs, whatever the number of worker processes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salad_eval import plugins
from salad_eval.audio.perturb import canonical, perturbation
from salad_eval.audio.store import AudioStore, SpeechRequest, StoredSound
from salad_eval.errors import SaladError, UserInputError
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.tts.worker import Failure, Worker, WorkerDied, WorkerSetup, synthesise
from salad_eval.types import CLEAN, Item, Reject, Rendering

STEP = "render"  # the step that its rejects name
CHUNK = 16  # requests sent to a worker at a time: enough to hide the sending, few enough to lose little in a kill
WORKER_START_SECONDS = 0.4  # what it costs to have workers; work that takes less is done in this process
MAX_DEATHS_IN_A_ROW = 5  # a worker that dies so often without one success will not recover


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
            rejects.append(Reject(item.id, STEP, f"unspeakable: {cause.kind}", str(cause)))
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
    workers: int,
    retries: int = 3,
) -> Iterator[Rendering | Reject]:
    """Speak the jobs; one ``Rendering`` or ``Reject`` each, in their order, as soon as it is known.

    ``workers`` processes share the work where it is long enough to be worth their start; with one, or for little work,
    all is done in this process. A worker that dies is replaced and the request that killed it rejected
    (``worker_died``). The other reasons are those of ``sound.problem`` and ``tts_error``. Raises ``UserInputError`` for
    a voice, perturbation or option that is not there.
    """
    todo = list(jobs)
    for name in {job.perturbation for job in todo}:
        perturbation(name)
    if retries < 0 or workers < 0:
        raise UserInputError(f"render: retries ({retries}) and workers ({workers}) must not be negative")
    engine = plugins.create("salad.tts", tts, tts_options)
    fingerprint = engine.fingerprint()
    requests = [SpeechRequest(fingerprint, job.voice, job.spoken_text, canonical(job.perturbation)) for job in todo]
    known: dict[SpeechRequest, StoredSound | Failure] = {}
    missing: dict[SpeechRequest, None] = {}
    for request in dict.fromkeys(requests):
        sound = store.find(request)
        if sound is None:
            missing[request] = None
        else:
            known[request] = sound
    setup = WorkerSetup(tts, tts_options, str(store.root), retries)
    new = _outcomes(list(missing), engine, setup, store, workers)
    for job, request in zip(todo, requests, strict=True):
        while request not in known:
            outcomes = next(new)
            store.remember({r: o for r, o in outcomes.items() if isinstance(o, StoredSound)})
            known.update(outcomes)
        yield _result(job, known[request])


def _result(job: RenderJob, outcome: StoredSound | Failure) -> Rendering | Reject:
    if isinstance(outcome, Failure):
        return Reject(job.item_id, STEP, outcome.reason, outcome.detail)
    return Rendering(
        job.item_id,
        job.part,
        job.voice,
        job.perturbation,
        job.spoken_text,
        outcome.sha256,
        outcome.sample_rate_hz,
        outcome.n_samples,
    )


Outcomes = dict[SpeechRequest, StoredSound | Failure]


def _outcomes(
    requests: Sequence[SpeechRequest], engine: Any, setup: WorkerSetup, store: AudioStore, workers: int
) -> Iterator[Outcomes]:
    """The outcomes of all requests, a chunk at a time: here while that is quicker, then by worker processes."""
    chunks = [requests[i : i + CHUNK] for i in range(0, len(requests), CHUNK)]
    seconds = 0.0  # spent on the chunks done so far
    for n_done, chunk in enumerate(chunks):
        left = seconds / n_done * (len(chunks) - n_done) if n_done else 0.0
        if workers > 1 and left * (1 - 1 / workers) > WORKER_START_SECONDS:
            yield from _outcomes_of_workers(chunks[n_done:], setup, workers)
            return
        began = time.perf_counter()
        outcomes = {r: synthesise(engine, store, r, setup.retries) for r in _by_voice(chunk)}
        seconds += time.perf_counter() - began
        yield outcomes


def _by_voice(chunk: Sequence[SpeechRequest]) -> list[SpeechRequest]:
    """A chunk with the requests for a voice together: an engine may take long to change it."""
    return sorted(chunk, key=lambda request: request.voice)


def _outcomes_of_workers(
    chunks: Sequence[Sequence[SpeechRequest]], setup: WorkerSetup, workers: int
) -> Iterator[Outcomes]:
    """The same by worker processes, one thread waiting for each; chunks come in any order."""
    waiting: queue.SimpleQueue[Sequence[SpeechRequest]] = queue.SimpleQueue()
    for chunk in chunks:
        waiting.put(_by_voice(chunk))
    done: queue.SimpleQueue[Outcomes | BaseException] = queue.SimpleQueue()
    crew = [_Hand(setup, waiting, done) for _ in range(min(workers, len(chunks)))]
    try:
        for hand in crew:
            hand.start()
        for _ in chunks:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        for hand in crew:
            hand.stop()


class _Hand(threading.Thread):
    """A thread that keeps one worker process busy and replaces it when it dies."""

    def __init__(
        self,
        setup: WorkerSetup,
        waiting: queue.SimpleQueue[Sequence[SpeechRequest]],
        done: queue.SimpleQueue[Outcomes | BaseException],
    ) -> None:
        super().__init__(name="salad-render", daemon=True)
        self._setup, self._waiting, self._done = setup, waiting, done
        self._worker: Worker | None = None
        self._stopped = threading.Event()
        self._deaths_in_a_row = 0

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    chunk = self._waiting.get_nowait()
                except queue.Empty:
                    return
                self._done.put(self._speak(chunk))
        except BaseException as cause:  # whatever it is, the thread that waits for results must hear of it
            self._done.put(cause)
        finally:
            self._dismiss()

    def stop(self) -> None:
        """Stop at once; what was being spoken is lost."""
        self._stopped.set()
        if (worker := self._worker) is not None:
            worker.kill()
        self.join()

    def _speak(self, chunk: Sequence[SpeechRequest]) -> Outcomes:
        """The outcomes of a chunk; where it kills the worker, one by one, so that only the culprit is lost."""
        try:
            return self._ask(chunk)
        except WorkerDied as cause:
            self._dismiss()
            if len(chunk) > 1:
                return {r: o for request in chunk for r, o in self._speak([request]).items()}
            self._deaths_in_a_row += 1
            if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
                raise SaladError(f"rendering: {self._deaths_in_a_row} requests in a row ended their {cause}") from None
            return {chunk[0]: Failure("worker_died", str(cause))}

    def _ask(self, chunk: Sequence[SpeechRequest]) -> Outcomes:
        if self._stopped.is_set():
            raise SaladError("rendering was stopped")
        if self._worker is None:
            self._worker = Worker(self._setup)
            try:
                self._worker.start()
            except WorkerDied as cause:
                raise SaladError(f"the TTS plug-in {self._setup.tts!r} could not be started: {cause}") from None
            if self._stopped.is_set():
                raise SaladError("rendering was stopped")
        outcomes = dict(zip(chunk, self._worker.ask(chunk), strict=True))
        self._deaths_in_a_row = 0
        return outcomes

    def _dismiss(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
