"""Controls: what each system answers that was never asked the question. A speech LLM that does no better by ear hears nothing, and a
benchmark whose options give it away has no room for a gap.

Each item is asked once a control: in its first rendering, of the clean condition where there is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.gap.controls import ControlScores
from salad_eval.identity import digest
from salad_eval.pipeline.columns import SystemRole
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.respond import HEARD_AT_A_TIME, ask_all
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speech import Question, Speech
from salad_eval.types import CLEAN, Audio, ColumnName, ControlName, Item, Rendering, Response, Transcript

STEP = Step("control", Response, version="2", chunk=256)


@dataclass(frozen=True, slots=True)
class Control:
    """``asked_as``: the column whose way of asking it takes; ``against``: the column that it is held against."""

    name: ControlName
    role: SystemRole
    asked_as: ColumnName
    against: ColumnName

    @property
    def step(self) -> str:
        return f"{STEP.name}.{self.role}_{self.name}"


CONTROLS: tuple[Control, ...] = (
    Control("floor", "base", "base_transcript", "base_text"),
    Control("floor", "adapted", "base_transcript", "adapted_speech"),
    Control("silent", "adapted", "adapted_speech", "adapted_speech"),
    Control("swapped", "adapted", "adapted_speech", "adapted_speech"),
)


def ask_controls(session: Session, items: Sequence[Item], speech: Speech) -> list[ControlScores]:
    """The scores of the controls that the plan names."""
    wanted = [control for control in CONTROLS if control.name in session.plan.controls]
    return [_asked(session, control, items, speech) for control in wanted]


def _asked(session: Session, control: Control, items: Sequence[Item], speech: Speech) -> ControlScores:
    questions = questions_of(control.name, items, speech, session.store, session.plan.seed)
    step = replace(STEP, name=control.step, chunk=STEP.chunk if control.name == "floor" else HEARD_AT_A_TIME)
    responses = ask_all(
        session,
        step,
        control.role,
        control.asked_as,
        questions,
        items=[question.item for question in questions],
        heard=digest(*(rendering for question in questions for rendering in question.renderings)),
    )
    return ControlScores(control.name, control.against, list(map(session.benchmark.scorer(), responses)))


def questions_of(
    control: ControlName, items: Sequence[Item], speech: Speech, store: AudioStore, seed: int
) -> list[Question]:
    """The items as a control asks them; those that it cannot be asked of (a swap needs a partner) are left out."""
    if control == "floor":
        return [_unasked(item) for item in items]
    heard = [_first(speech.questions([item], "speech")) for item in items]
    if control == "silent":
        return [_with_silence(one, store) for one in heard]
    return swapped(heard, seed)


def swapped(heard: Sequence[Question], seed: int) -> list[Question]:
    """Each question with the sound of another, drawn among those of its task with the same spoken parts and another sound.

    Both ways: no sound is heard twice, and none in its own place.
    """
    alike: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for one in heard:
        alike[(one.item.task, *(rendering.part for rendering in one.renderings))].append(one)
    partner: dict[str, Question] = {}
    for key, group in sorted(alike.items()):
        names = digest("swapped", list(key))
        order = np.random.default_rng([seed, int(names[:8], 16)]).permutation(len(group))
        for place, other in zip(order, np.roll(order, 1), strict=True):
            if _sounds(group[place]) != _sounds(group[other]):
                partner[group[place].item.id] = group[other]
    return [_with_sound_of(other, one) for one in heard if (other := partner.get(one.item.id)) is not None]


def _with_sound_of(other: Question, one: Question) -> Question:
    """What is said in it is not this item's, and may not be compared with what is written; what was heard of it goes with the sound."""
    renderings = tuple(replace(r, item_id=one.item.id, spoken_text="") for r in other.renderings)
    return replace(one, renderings=renderings, transcripts=other.transcripts)


def _sounds(question: Question) -> list[str]:
    return [rendering.sha256 for rendering in question.renderings]


def _first(questions: Sequence[Question]) -> Question:
    """The rendering that controls are asked in."""
    return next((one for one in questions if one.rendered is not None and one.rendered[1] == CLEAN), questions[0])


def _unasked(item: Item) -> Question:
    """The prompt without what would be spoken."""
    nothing = tuple(Transcript(item.id, part.name, "", "", "none", "", 0, 0, 0, 0) for part in item.spoken_parts)
    return Question(item, "transcript", transcripts=nothing)


def _with_silence(one: Question, store: AudioStore) -> Question:
    """Nothing was heard of it yet."""
    return replace(one, renderings=tuple(_silence(r, store) for r in one.renderings), transcripts=())


def _silence(rendering: Rendering, store: AudioStore) -> Rendering:
    """Near as long as what it stands for."""
    n_samples = silent_samples(rendering.n_samples, rendering.sample_rate_hz)
    silence = Audio(np.zeros(n_samples, dtype=np.float32), rendering.sample_rate_hz)
    return replace(rendering, sha256=store.put(silence), n_samples=n_samples, spoken_text="")


def silent_samples(n_samples: int, sample_rate_hz: int) -> int:
    """The half seconds in a recording: then a few silences stand for all recordings, and each is encoded once. Rounded down, so that
    none is longer than an encoder's limit; a recording shorter than one keeps its length."""
    step = sample_rate_hz // 2
    return n_samples // step * step or n_samples
