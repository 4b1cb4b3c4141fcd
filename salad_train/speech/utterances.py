"""What is to be said for training, and who can say it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.types import Audio, Rendering
from salad_train.speech.interleave import Interleaved, rng_for


@dataclass(frozen=True, slots=True)
class Utterance:
    """A span that is to be heard: characters ``start`` to ``end`` of a document, which read ``text`` without the whitespace
    around it."""

    document_id: str
    text: str
    voice: str
    start: int
    end: int


class Speaker(Protocol):
    """Where the sound of a span comes from: a synthetic voice that reads it, or the recording it is a part of."""

    def fingerprint(self) -> str:
        """Names all that shapes the sound besides what is to be said."""
        ...

    def key(self, utterance: Utterance) -> str:
        """Names the sound in a frame store; equal keys mean equal sound."""
        ...

    def speak(self, utterances: Sequence[Utterance]) -> Iterable[Audio | None]:
        """One sound each, in the same order; ``None`` where there is none."""
        ...


class StoringSpeaker(Speaker, Protocol):
    """One that keeps what it says."""

    store: AudioStore

    def render(self, utterances: Sequence[Utterance]) -> Iterator[Rendering | None]:
        """What is in the store of each, in the same order; ``None`` where there is nothing."""
        ...


def span_key(text: str, voice: str) -> str:
    """Names what was said by whom: 16 bytes of sha256, in hex."""
    return hashlib.sha256(f"{voice}\x00{text}".encode()).hexdigest()[:32]


def utterances_of(interleaved: Interleaved, voice: str) -> list[Utterance]:
    """The speech spans of a cut document."""
    found, at = [], 0
    for span in interleaved.spans:
        if span.modality == "speech":
            found.append(Utterance(interleaved.document_id, span.spoken_text, voice, at, at + len(span.text)))
        at += len(span.text)
    return found


def voice_for(document_id: str, epoch: int, voices: Sequence[str], seed: int) -> str:
    """The one voice that reads a document in an epoch."""
    if not voices:
        raise UserInputError("no voices: name at least one for the spans to be spoken in.")
    return voices[int(rng_for(seed + 1, document_id, epoch).integers(len(voices)))]
