"""Items to sound: what is to be said, said by a TTS plug-in, checked, and kept in the store.

A job is done once: equal requests of one call share a sound, and a request that the store remembers is not spoken again.
Results come in the order of the jobs, whatever the number of worker processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salad_eval import plugins
from salad_eval.audio import SAMPLE_RATE_HZ, problem, resample
from salad_eval.errors import AudioError, SaladError, UnknownNameError
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.store import AudioStore, SpeechRequest, StoredSound
from salad_eval.types import CLEAN, TTS, Audio, Item, Reject, Rendering

STEP = "render"  # the step that its rejects name
FEW_JOBS = 24  # below this many sounds, starting worker processes costs more than it saves
CHUNK = 16  # jobs sent to a worker at a time: large enough to hide the talking, small enough to lose little in a kill

Perturbation = Callable[[Audio], Audio]


def _clean(audio: Audio) -> Audio:
    return audio


PERTURBATIONS: Mapping[str, Perturbation] = {CLEAN: _clean}


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One spoken part of one item in one voice: what is to be said, and what is done to the sound."""

    item_id: str
    part: str
    voice: str
    perturbation: str
    spoken_text: str


def jobs_for(
    items: Iterable[Item], voices: Sequence[str], perturbations: Sequence[str] = (CLEAN,)
) -> tuple[list[RenderJob], list[Reject]]:
    """The jobs that speak every part of every item in every voice, and the items with a part that cannot be spoken.

    An item whose parts cannot all be spoken gets no job and one reject (``unspeakable``, with the cause).
    """
    for name in perturbations:
        perturbation(name)
    jobs: list[RenderJob] = []
    rejects: list[Reject] = []
    for item in items:
        try:
            parts = [(part.name, to_spoken(item.part_text(part))) for part in item.spoken_parts]
        except Unspeakable as cause:
            rejects.append(Reject(item.id, STEP, "unspeakable", str(cause)))
            continue
        jobs.extend(
            RenderJob(item.id, part, voice, name, spoken) for voice in voices for name in perturbations for part, spoken in parts
        )
    return jobs, rejects
