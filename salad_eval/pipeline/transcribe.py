"""Renderings to transcripts: what an ASR hears, how many errors it makes, and whether the answer came through.

Every recording gives one record, in order: a ``Transcript``, or a ``Reject`` that says why there is none. A recording that
cannot be read never becomes an empty transcript.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jiwer

from salad_eval.answers.numeric import final_answer
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, PluginError
from salad_eval.identity import digest
from salad_eval.pipeline.care import Caller
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.render import Spoken, left, of_items
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.speakable.normalise import NORMALISER, normalise
from salad_eval.types import ASR, Audio, Failure, Item, Reject, Rendering, Transcript


@dataclass(frozen=True, slots=True)
class TranscribeOutcome:
    """A line of ``transcribe.jsonl``."""

    transcript: Transcript | None = None
    reject: Reject | None = None


STEP = Step("transcribe", TranscribeOutcome, version="2", chunk=128)
UNREADABLE = "unreadable_audio"
BATCH = 256  # recordings held at a time; a quarter of a minute each would be 250 MB

# Words that bear no answer: they stand in almost any sentence, whatever is asked.
FUNCTION_WORDS = frozenset((
    "a", "an", "the", "and", "or", "but", "nor", "of", "to", "in", "on", "at", "by", "for", "from", "with", "into",
    "as", "is", "are", "was", "were", "be", "been", "being", "am", "it", "its", "this", "that", "these", "those",
    "he", "she", "they", "we", "you", "i", "his", "her", "their", "our", "your", "my", "there", "here", "do",
    "does", "did", "has", "have", "had", "not", "no", "so", "than", "then",
))  # fmt: skip
_LABEL = re.compile(r"[A-Za-z]|\d{1,2}")


# --- answers ---------------------------------------------------------------------------------------------------------


def answers_of(item: Item) -> tuple[str, ...]:
    """The texts that are right answers to ``item``: its gold option, and what it accepts of a generation.

    Of a worked solution that marks its answer ("… #### 42") it is that alone. Where the options are labels ("A", "B", …) that the prompt
    explains ("B. Calcium"), the answer is the explanation.
    """
    if item.gold is None:
        return tuple(final_answer(answer) for answer in item.answers)
    gold = item.choices[item.gold]
    if all(_LABEL.fullmatch(choice.strip()) for choice in item.choices):
        explained = re.findall(rf"(?m)^\W*{re.escape(gold.strip())}[.):]\s*(\S.*?)\s*$", item.context)
        if explained:
            return (explained[-1],)  # the last one: shots before the question have options of their own
    return (gold, *(answer for answer in item.answers if answer != gold))


def answer_words(answers: Iterable[str], spoken_text: str) -> frozenset[str]:
    """The answer-bearing words of a spoken text: the content words of the answers that are said in it, normalised.

    An answer that consists of function words alone keeps them all.
    """
    bearing: set[str] = set()
    for answer in answers:
        words = set(normalise(answer).split())
        bearing |= (words - FUNCTION_WORDS) or words
    return frozenset(bearing & set(normalise(spoken_text).split()))


def answer_word_heard(answers: Iterable[str], spoken_text: str, heard: str) -> bool | None:
    """Whether every answer-bearing word of ``spoken_text`` is in the transcript ``heard``; ``None`` where it has none.

    A round trip through speech that loses such a word makes an item unanswerable, whatever its word error rate. A question
    that does not name its answer has none; what its names suffer shows in the error counts alone.
    """
    bearing = answer_words(answers, spoken_text)
    return bearing <= set(normalise(heard).split()) if bearing else None


# --- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Raw counts of a pair of texts: substitutions + deletions + insertions, and the length of what was said."""

    word_errors: int
    n_words: int
    char_errors: int
    n_chars: int


def count_errors(spoken_text: str, heard: str) -> ErrorCounts:
    """Word and character errors (minimum edit distance, by jiwer) between two texts, both normalised; spaces count as characters."""
    reference, hypothesis = normalise(spoken_text), normalise(heard)
    if not reference:  # jiwer has no alignment for an empty reference: all that was heard is inserted
        return ErrorCounts(len(hypothesis.split()), 0, len(hypothesis), 0)
    words = jiwer.process_words(reference, hypothesis)
    chars = jiwer.process_characters(reference, hypothesis)
    return ErrorCounts(
        word_errors=words.substitutions + words.deletions + words.insertions,
        n_words=words.hits + words.substitutions + words.deletions,
        char_errors=chars.substitutions + chars.deletions + chars.insertions,
        n_chars=chars.hits + chars.substitutions + chars.deletions,
    )


# --- hearing ---------------------------------------------------------------------------------------------------------


def transcribe(
    renderings: Iterable[Rendering],
    asr: ASR,
    store: AudioStore,
    *,
    answers: Mapping[str, Sequence[str]],
    batch: int = BATCH,
    caller: Caller | None = None,
) -> Iterator[Transcript | Reject]:
    """One record a rendering, in order, ``batch`` recordings at a time.

    ``answers`` gives the right answers of each item by its id (see ``answers_of``). The reasons of rejects:
    ``unreadable_audio`` where the store has not got the sound or it is damaged, ``unusable_audio`` where the ASR refuses it (empty,
    too short), ``out_of_memory`` and ``plugin_failed`` where it fails (see ``Caller.ask``).
    """
    name = asr.fingerprint()
    caller = caller or Caller(f"the ASR {name}")
    remaining = iter(renderings)
    while chunk := list(itertools.islice(remaining, batch)):
        failures: dict[str, Failure] = {}
        sounds: dict[str, Audio] = {}
        for rendering in chunk:
            if rendering.sha256 not in sounds:
                try:
                    sounds[rendering.sha256] = store.get(rendering.sha256)
                except AudioError as cause:
                    failures[rendering.sha256] = Failure(UNREADABLE, str(cause))
        heard = dict(zip(sounds, caller.ask(functools.partial(_texts, asr), list(sounds.values())), strict=True))
        for rendering in chunk:
            outcome = failures.get(rendering.sha256) or heard[rendering.sha256]
            if isinstance(outcome, Failure):
                yield Reject(rendering.item_id, STEP.name, outcome.reason, outcome.detail)
            else:
                yield _transcript(rendering, name, outcome, answers.get(rendering.item_id, ()))


def _texts(asr: ASR, audios: Sequence[Audio]) -> list[str]:
    texts = asr.transcribe(audios)
    if len(texts) != len(audios):
        raise PluginError(f"the ASR {asr.fingerprint()} gave {len(texts)} transcripts for {len(audios)} recordings.")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"it gave a {type(text).__name__} as a transcript; expected a text")
    return texts


def _transcript(rendering: Rendering, asr: str, text: str, answers: Sequence[str]) -> Transcript:
    # Of a recording whose words are not known nothing can be counted as an error.
    counts = count_errors(rendering.spoken_text, text) if rendering.spoken_text else ErrorCounts(0, 0, 0, 0)
    return Transcript(
        item_id=rendering.item_id,
        part=rendering.part,
        voice=rendering.voice,
        perturbation=rendering.perturbation,
        asr=asr,
        text=text,
        word_errors=counts.word_errors,
        n_words=counts.n_words,
        char_errors=counts.char_errors,
        n_chars=counts.n_chars,
        answer_word_heard=answer_word_heard(answers, rendering.spoken_text, text),
    )


# --- the step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HearSetup:
    """Who listens, and where the sound is."""

    asr: PluginRef
    store: str


@dataclass(frozen=True, slots=True)
class Listening:
    """A recording, and the right answers of its item."""

    rendering: Rendering
    answers: tuple[str, ...]


def hear(tools: Tools, setup: HearSetup, chunk: Sequence[Listening]) -> list[TranscribeOutcome]:
    """What the ASR hears in each recording."""
    answers = {one.rendering.item_id: one.answers for one in chunk}
    asr, store = tools.plugin(setup.asr), tools.store(setup.store)
    caller = tools.caller(setup.asr)
    found = transcribe((one.rendering for one in chunk), asr, store, answers=answers, caller=caller)
    return [
        TranscribeOutcome(transcript=one) if isinstance(one, Transcript) else TranscribeOutcome(reject=one)
        for one in found
    ]


@dataclass(frozen=True, slots=True)
class Heard:
    """The items whose recordings can be used, their renderings and transcripts, and what was lost on the way."""

    items: tuple[Item, ...]
    renderings: tuple[Rendering, ...]
    transcripts: tuple[Transcript, ...]
    rejects: tuple[Reject, ...]

    @property
    def notes(self) -> list[str]:
        """A note where recordings were heard that have no word error rate."""
        n = sum(not rendering.spoken_text for rendering in self.renderings)
        return (
            [f"recordings of a text that has no spoken form by rule: {n}; they are not part of the WER."] if n else []
        )


def transcribe_items(session: Session, spoken: Spoken) -> Heard:
    """What the ASR hears in every rendering of the items, and the recordings that cannot be used."""
    answers = {item.id: answers_of(item) for item in spoken.items}
    listening = [Listening(rendering, answers[rendering.item_id]) for rendering in spoken.renderings]
    work = Work(hear, HearSetup(session.ref("asr"), str(session.store.root)), str(session.ref("asr")))
    outcomes = session.folder.run(
        STEP,
        listening,
        lambda chunks: session.models.map(work, chunks),
        depends_on={
            "asr": session.fingerprint("asr"),
            "normaliser": NORMALISER,
            "renderings": digest(*spoken.renderings),
            "answers": digest(answers),
        },
    )
    session.release("asr")
    lost = [outcome.reject for outcome in outcomes if outcome.reject is not None]
    kept = left(spoken.items, lost, "transcription")
    transcripts = [outcome.transcript for outcome in outcomes if outcome.transcript is not None]
    return Heard(tuple(kept), tuple(of_items(kept, spoken.renderings)), tuple(of_items(kept, transcripts)), tuple(lost))
