"""Asking systems: from an item to a prompt in one input form, and from prompts to responses, chunk by chunk.

A speech prompt that lacks the audio of a spoken part is an error, and so is one whose text gives away what is to be
heard: either would be scored from text and called speech.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from salad_eval.benchmarks.requests import GenerationProtocol
from salad_eval.errors import ModelError, UserInputError
from salad_eval.types import (
    COLUMN_FORM,
    LOGPROB_SCORES,
    ColumnName,
    InputForm,
    Request,
    Response,
    ScoreKind,
    System,
)

CHUNK = {"text": 256, "transcript": 256, "speech": 32}  # requests held at a time; audio is what makes them large


@dataclass(frozen=True, slots=True)
class Query:
    """A request and the rendering it was made from; both ``None`` where the item is read as written."""

    request: Request
    voice: str | None = None
    perturbation: str | None = None


def respond(
    system: System,
    queries: Iterable[Query],
    column: ColumnName,
    score: ScoreKind = "ll",
    *,
    generation: GenerationProtocol | None = None,
    chunk: int | None = None,
) -> Iterator[Response]:
    """Ask ``system`` all queries; yields one ``Response`` a query, in their order, as each chunk is done.

    Queries are taken lazily, ``chunk`` at a time, so audio can be loaded as it is needed and a caller that appends each
    response to a file resumes by leaving out those that are there. ``ll`` and ``ll_norm`` ask for log-probabilities,
    the other kinds for a text. A response whose log-probabilities are not all finite carries none, and is scored as
    missing, not as wrong.

    Raises ``ModelError`` for a speech query without audio, audio in a text column, or a system that answers in the
    wrong shape.
    """
    form = COLUMN_FORM[column]
    protocol = generation or GenerationProtocol()
    size = CHUNK[form] if chunk is None else chunk
    if size < 1:
        raise UserInputError(f"chunk is {size}; expected at least 1.")
    remaining = iter(queries)
    while batch := list(itertools.islice(remaining, size)):
        for query in batch:
            _check_form(query.request, column, form)
        requests = [query.request for query in batch]
        if score not in LOGPROB_SCORES:
            texts = system.generate(requests, max_new_tokens=protocol.max_new_tokens, stop=protocol.stop)
            _check_count(system, len(texts), len(requests))
            for query, text in zip(batch, texts, strict=True):
                yield Response(query.request.item_id, column, form, query.voice, query.perturbation, text=text)
        else:
            scored = system.loglikelihoods(requests)
            _check_count(system, len(scored), len(requests))
            for query, logprobs in zip(batch, scored, strict=True):
                if len(logprobs) != len(query.request.continuations):
                    raise ModelError(
                        f"{system.fingerprint()} gave {len(logprobs)} log-probabilities for the "
                        f"{len(query.request.continuations)} options of item {query.request.item_id!r}."
                    )
                values = tuple(float(value) for value in logprobs)
                finite = values if all(map(math.isfinite, values)) else None
                yield Response(
                    query.request.item_id, column, form, query.voice, query.perturbation, choice_logprobs=finite
                )


def _check_form(request: Request, column: ColumnName, form: InputForm) -> None:
    if form == "speech" and not request.has_audio:
        raise ModelError(f"item {request.item_id!r}: column {column} hears speech, but the request holds no audio.")
    if form == "text" and request.has_audio:
        raise ModelError(f"item {request.item_id!r}: column {column} reads text, but the request holds audio.")


def _check_count(system: System, given: int, asked: int) -> None:
    if given != asked:
        raise ModelError(f"{system.fingerprint()} gave {given} answers to {asked} requests.")
