"""The embedded world's texts as a corpus: everything, and what its Stage I hears of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from salad_train.types import TextDocument

if TYPE_CHECKING:
    from salad_train.nano import world

CORPUS, NARROW_SPEECH = "nano/corpus", "nano/narrow_speech"
QUESTIONS, NARROW_QUESTIONS = "nano/questions", "nano/narrow_questions"
NAMES = (CORPUS, NARROW_SPEECH, QUESTIONS, NARROW_QUESTIONS)


def embedded_documents(name: str) -> Iterator[TextDocument]:
    """The texts of one of ``NAMES``, with the borders they would like to be cut at."""
    from salad_train.nano import train

    made_by = train.NanoPlan()
    documents: Sequence[world.Document] = _corpus(made_by.seed)
    if name in (NARROW_SPEECH, NARROW_QUESTIONS):
        documents = train.heard_of(made_by, documents)
    if name in (QUESTIONS, NARROW_QUESTIONS):
        documents = [one for one in documents if one.kind == "question"]
    # What Stage I hears is cut as it was when the shipped model was made.
    borders = train.question_borders if name in (NARROW_SPEECH, NARROW_QUESTIONS) else train.completion_borders
    for one in documents:
        yield TextDocument(one.id, one.text, one.domain, tuple(borders(one) or ()))


@cache
def _corpus(seed: int) -> tuple[world.Document, ...]:
    """A round of the loop reads it six times, and making it takes seconds."""
    from salad_train.nano import world

    return tuple(world.corpus(seed))
