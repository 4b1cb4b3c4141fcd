"""What there is to hear of the items: renderings and transcripts by item, voice and perturbation, as prompts need them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.requests import build_requests
from salad_eval.identity import digest
from salad_eval.types import (
    AudioSegment,
    InputForm,
    Item,
    Listening,
    Rendered,
    Rendering,
    Request,
    Transcript,
)


@dataclass(frozen=True, slots=True)
class Question:
    """An item in one input form: as written (without ``rendered``), or with the sound or the transcript of its spoken parts in one
    voice and perturbation. One that is heard carries its transcripts too, for systems that would only make them again."""

    item: Item
    form: InputForm
    rendered: Rendered | None = None
    renderings: tuple[Rendering, ...] = ()
    transcripts: tuple[Transcript, ...] = ()

    def requests(self, store: AudioStore) -> tuple[Request, ...]:
        """What is asked: one prompt, or one for each alternative. Sound is read from the store here and not before."""
        if self.form == "speech":
            return build_requests(
                self.item,
                "speech",
                audio={r.part: AudioSegment(store.get(r.sha256), r.sha256) for r in self.renderings},
                spoken_texts={r.part: r.spoken_text for r in self.renderings},
            )
        return build_requests(self.item, self.form, transcripts={t.part: t.text for t in self.transcripts})


class Speech:
    """Renderings and transcripts of items, in the order in which they were made."""

    def __init__(self, renderings: Sequence[Rendering], transcripts: Sequence[Transcript] = ()) -> None:
        self._renderings: dict[str, dict[Rendered, list[Rendering]]] = defaultdict(lambda: defaultdict(list))
        self._transcripts: dict[str, dict[Rendered, list[Transcript]]] = defaultdict(lambda: defaultdict(list))
        for r in renderings:
            self._renderings[r.item_id][r.voice, r.perturbation].append(r)
        for t in transcripts:
            self._transcripts[t.item_id][t.voice, t.perturbation].append(t)
        self._digests: dict[InputForm, str] = {
            "text": "",
            "transcript": digest(*transcripts),
            "speech": digest(*renderings),
        }

    def digest(self, form: InputForm) -> str:
        """Of all that is heard in a form."""
        return self._digests[form]

    def question(self, item: Item, form: InputForm, rendered: Rendered) -> Question:
        """An item as it is heard, or as its transcript reads, in one rendering."""
        if form == "speech":
            sounds = tuple(self._renderings[item.id][rendered])
            return Question(item, form, rendered, sounds, tuple(self._transcripts[item.id][rendered]))
        return Question(item, form, rendered, transcripts=tuple(self._transcripts[item.id][rendered]))

    def questions(self, items: Iterable[Item], form: InputForm) -> list[Question]:
        """The items in one form: once as written, or once a rendering: as many as the plan has voices, or as an item has speakers."""
        if form == "text":
            return [Question(item, form) for item in items]
        return [self.question(item, form, rendered) for item in items for rendered in self._renderings[item.id]]


def hand_over(system: object, questions: Iterable[Question]) -> None:
    """Tell a system with an ASR in it what the plan's ASR heard; it knows by the fingerprint whether that is its own."""
    if not isinstance(system, Listening):
        return
    for question in questions:
        sounds = {one.part: one.sha256 for one in question.renderings}
        for transcript in question.transcripts:
            if transcript.part in sounds:
                system.already_heard(transcript.asr, {sounds[transcript.part]: transcript.text})


def most_renderings(questions: Sequence[Question]) -> int:
    """The largest number of renderings of an item: chunks are cut so that all of an item's are asked together where all have as many."""
    return max(Counter(question.item.id for question in questions).values(), default=1)
