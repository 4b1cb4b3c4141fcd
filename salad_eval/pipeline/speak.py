"""Requests to sounds in the store: what a process that speaks does, and all that it has to import for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salad_eval.audio.perturb import perturbation
from salad_eval.audio.store import SpeechRequest, StoredSound
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.tts.synthesis import synthesise
from salad_eval.types import Audio, Failure


@dataclass(frozen=True, slots=True)
class SpeakSetup:
    """Who speaks, where the sound is kept, and how often a failure is tried again."""

    tts: PluginRef
    store: str
    retries: int


@dataclass(frozen=True, slots=True)
class SpeechOutcome:
    """What came of a request: a sound in the store, or why there is none."""

    sound: StoredSound | None = None
    failure: Failure | None = None


def speak(tools: Tools, setup: SpeakSetup, chunk: Sequence[SpeechRequest]) -> list[SpeechOutcome]:
    """The outcomes of requests, spoken a voice at a time: an engine may take long to change it.

    The check is on the clean sound: a perturbation may well hide what is missing.
    """
    engine, store, caller = tools.plugin(setup.tts), tools.store(setup.store), tools.caller(setup.tts)

    def said(requests: Sequence[SpeechRequest]) -> list[Audio | Failure]:
        return [synthesise(engine, one.spoken_text, one.voice, setup.retries) for one in requests]

    made: dict[SpeechRequest, SpeechOutcome] = {}
    for request in sorted(chunk, key=lambda request: request.voice):
        (found,) = caller.ask(said, [request])
        if isinstance(found, Failure):
            made[request] = SpeechOutcome(failure=found)
        else:
            made[request] = SpeechOutcome(sound=store.put_sound(perturbation(request.perturbation)(found)))
    return [made[request] for request in chunk]


def worker_died(who: str, request: SpeechRequest, how: str) -> SpeechOutcome:
    said = f"{who} on {request.spoken_text!r:.80} in voice {request.voice!r}: {how}"
    return SpeechOutcome(failure=Failure("worker_died", said))
