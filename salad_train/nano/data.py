"""The embedded world's texts as a corpus: everything, and what its Stage I hears of it."""

from __future__ import annotations

from collections.abc import Iterator

from salad_train.types import TextDocument

CORPUS, NARROW_SPEECH = "nano/corpus", "nano/narrow_speech"
QUESTIONS, NARROW_QUESTIONS = "nano/questions", "nano/narrow_questions"
NAMES = (CORPUS, NARROW_SPEECH, QUESTIONS, NARROW_QUESTIONS)


def embedded_documents(name: str) -> Iterator[TextDocument]:
    """The texts of one of ``NAMES``, with the borders they would like to be cut at."""
    from salad_train.nano import train, world

    made_by = train.NanoPlan()
    documents = world.corpus(made_by.seed)
    if name in (NARROW_SPEECH, NARROW_QUESTIONS):
        # The corpus' order is random: its first documents of a kind are a fair sample. See ``nano.train.train_speech``.
        budget = {
            "question": made_by.n_questions,
            "statements": made_by.n_statements,
            "narrative": made_by.n_narrative,
        }
        narrow = world.narrow_speech(documents)
        documents = [d for kind, n in budget.items() for d in [d for d in narrow if d.kind == kind][:n]]
    if name in (QUESTIONS, NARROW_QUESTIONS):
        documents = [one for one in documents if one.kind == "question"]
    # What Stage I hears is cut as it was when the shipped model was made.
    borders = train.question_borders if name in (NARROW_SPEECH, NARROW_QUESTIONS) else train.completion_borders
    for one in documents:
        yield TextDocument(one.id, one.text, one.domain, tuple(borders(one) or ()))
