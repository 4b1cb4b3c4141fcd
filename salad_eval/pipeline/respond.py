"""Asking systems: from an item to a prompt in one input form, and from prompts to responses, chunk by chunk.

A speech prompt that lacks the audio of a spoken part is an error, and so is one whose text gives away what is to be
heard: either would be scored from text and called speech.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.requests import GenerationProtocol, unconditional
from salad_eval.errors import ModelError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.care import Caller
from salad_eval.pipeline.columns import COLUMNS, Column, SystemRole
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.items import Answering, items_digest
from salad_eval.pipeline.render import left
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speech import Question, Speech, hand_over, most_renderings
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.types import (
    COLUMN_FORM,
    LOGPROB_SCORES,
    ColumnName,
    Failure,
    InputForm,
    Item,
    Reject,
    Request,
    Response,
    ScoreKind,
    System,
)

CHUNK = {"text": 256, "transcript": 256, "speech": 32}  # requests held at a time; audio is what makes them large


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of an item, and the rendering it was made from; both ``None`` where the item is read as written.

    One request, or one for each alternative of an item that has several prompts.
    """

    requests: tuple[Request, ...]
    voice: str | None = None
    perturbation: str | None = None

    @property
    def item_id(self) -> str:
        return self.requests[0].item_id


def respond(
    system: System,
    queries: Iterable[Query],
    column: ColumnName,
    score: ScoreKind = "ll",
    *,
    generation: GenerationProtocol | None = None,
    chunk: int | None = None,
    caller: Caller | None = None,
) -> Iterator[Response]:
    """Ask ``system`` all queries; yields one ``Response`` a query, in their order, as each chunk is done.

    Queries are taken lazily, ``chunk`` at a time, so audio can be loaded as it is needed and a caller that appends each
    response to a file resumes by leaving out those that are there. The kinds of ``LOGPROB_SCORES`` ask for
    log-probabilities, the others for a text. A response whose log-probabilities are not all finite carries none, and is scored as
    missing, not as wrong. Where the system fails on a query, its response says so (see ``Caller.ask``).

    Raises ``ModelError`` for a speech query without audio, audio in a text column, or a system that answers in the
    wrong shape.
    """
    form = COLUMN_FORM[column]
    protocol = generation or GenerationProtocol()
    size = CHUNK[form] if chunk is None else chunk
    if size < 1:
        raise UserInputError(f"chunk is {size}; expected at least 1.")
    caller = caller or Caller(f"the system {system.fingerprint()}")
    remaining = iter(queries)
    while batch := list(itertools.islice(remaining, size)):
        for query in batch:
            for request in query.requests:
                _check_form(request, column, form)
        ask = _asking(system, score, protocol)
        for query, answer in zip(batch, caller.ask(ask, batch), strict=True):
            said = Response(query.item_id, column, form, query.voice, query.perturbation)
            if isinstance(answer, Failure):
                yield replace(said, failure=answer)
            elif isinstance(answer, str):
                yield replace(said, text=answer)
            else:
                yield replace(said, choice_logprobs=answer if all(map(math.isfinite, answer)) else None)


def _asking(
    system: System, score: ScoreKind, protocol: GenerationProtocol
) -> Callable[[Sequence[Query]], Sequence[tuple[float, ...] | str]]:
    """What asks the system for answers of that kind."""
    if score in LOGPROB_SCORES:
        return partial(_logprobs, system, alone=score == "ll_mutual_info")
    return partial(_texts, system, protocol)


def _texts(system: System, protocol: GenerationProtocol, batch: Sequence[Query]) -> list[str]:
    if several := next((query for query in batch if len(query.requests) > 1), None):
        raise ModelError(f"item {several.item_id!r} has several prompts, so there is none to generate an answer from.")
    requests = [query.requests[0] for query in batch]
    texts = system.generate(requests, max_new_tokens=protocol.max_new_tokens, stop=protocol.stop)
    _check_count(system, len(texts), len(requests))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"it gave a {type(text).__name__} as an answer; expected a text")
    return texts


def _logprobs(system: System, batch: Sequence[Query], *, alone: bool) -> list[tuple[float, ...]]:
    """Of each query the log-probabilities of all its requests' continuations; ``alone``: then those without any prompt."""
    requests = [request for query in batch for request in query.requests]
    found = iter(_asked(system, requests))
    after = [tuple(value for _ in query.requests for value in next(found)) for query in batch]
    if not alone:
        return after
    unprompted = {request.continuations: unconditional(request) for request in requests}
    by_options = dict(zip(unprompted, _asked(system, list(unprompted.values())), strict=True))
    return [values + by_options[query.requests[0].continuations] for query, values in zip(batch, after, strict=True)]


def _asked(system: System, requests: Sequence[Request]) -> list[tuple[float, ...]]:
    scored = system.loglikelihoods(requests)
    _check_count(system, len(scored), len(requests))
    for request, logprobs in zip(requests, scored, strict=True):
        if len(logprobs) != len(request.continuations):
            raise ModelError(
                f"{system.fingerprint()} gave {len(logprobs)} log-probabilities for the {len(request.continuations)} options of item "
                f"{request.item_id!r}."
            )
    return [tuple(float(value) for value in logprobs) for logprobs in scored]


def _check_form(request: Request, column: ColumnName, form: InputForm) -> None:
    if form == "speech" and not request.has_audio:
        raise ModelError(f"item {request.item_id!r}: column {column} hears speech, but the request holds no audio.")
    if form == "text" and request.has_audio:
        raise ModelError(f"item {request.item_id!r}: column {column} reads text, but the request holds audio.")


def _check_count(system: System, given: int, asked: int) -> None:
    if given != asked:
        raise ModelError(f"{system.fingerprint()} gave {given} answers to {asked} requests.")


# --- the step --------------------------------------------------------------------------------------------------------

STEP = Step("respond", Response, version="1", chunk=256)
HEARD_AT_A_TIME = 16  # items, where their sound is held


@dataclass(frozen=True, slots=True)
class AskSetup:
    """Whose answers to which column, how each task asks for them, and where the sound is."""

    system: PluginRef
    column: ColumnName
    answering: Mapping[str, Answering]
    store: str


def ask(tools: Tools, setup: AskSetup, chunk: Sequence[Question]) -> list[Response]:
    """What the system says to each question."""
    system, store = tools.plugin(setup.system), tools.store(setup.store)
    return list(answers(system, chunk, setup.column, setup.answering, store, tools.caller(setup.system)))


def answers(
    system: System,
    questions: Sequence[Question],
    column: ColumnName,
    answering: Mapping[str, Answering],
    store: AudioStore,
    caller: Caller | None = None,
) -> Iterator[Response]:
    """One response a question, in their order; each task's are asked for in its own way."""
    hand_over(system, questions)
    for task, group in itertools.groupby(questions, key=lambda question: question.item.task):
        how = answering[task]
        queries = (Query(question.requests(store), *(question.rendered or ())) for question in group)
        yield from respond(system, queries, column, how.score, generation=how.generation, caller=caller)


@dataclass(frozen=True, slots=True)
class Answered:
    """The items that every column has an answer to, the responses to them, and what was lost on the way."""

    items: tuple[Item, ...]
    responses: tuple[Response, ...]
    rejects: tuple[Reject, ...]


def respond_items(session: Session, items: Sequence[Item], speech: Speech) -> Answered:
    """What each column's system says of every item; one that a system fails on is left out of all columns."""
    responses = [one for column in COLUMNS for one in respond_column(session, column, items, speech)]
    lost = [
        Reject(one.item_id, STEP.name, one.failure.reason, f"{one.column}: {one.failure.detail}")
        for one in responses
        if one.failure is not None
    ]
    kept = left(items, lost, "the answers")
    ids = {item.id for item in kept}
    return Answered(tuple(kept), tuple(one for one in responses if one.item_id in ids), tuple(lost))


def respond_column(session: Session, column: Column, items: Sequence[Item], speech: Speech) -> list[Response]:
    """What a column's system says of every item: once as written, or once a rendering."""
    questions = speech.questions(items, column.form)
    renderings = most_renderings(questions)  # of an item: in one chunk, since much of them is alike
    n_items = HEARD_AT_A_TIME if column.form == "speech" else max(HEARD_AT_A_TIME, STEP.chunk // renderings)
    step = replace(STEP, name=f"{STEP.name}.{column.name}", chunk=n_items * renderings)
    return ask_all(session, step, column.role, column.name, questions, items=items, heard=speech.digest(column.form))


def ask_all(
    session: Session,
    step: Step[Response],
    role: SystemRole,
    column: ColumnName,
    questions: Sequence[Question],
    *,
    items: Sequence[Item],
    heard: str,
) -> list[Response]:
    """A step: what the system of a role says to questions that are asked as a column's are. ``heard``: a digest of what they hold."""
    answering = session.benchmark.answering
    system = session.ref(role)
    work = Work(ask, AskSetup(system, column, answering, str(session.store.root)), str(system))
    return session.folder.run(
        step,
        questions,
        lambda chunks: session.models.map(work, chunks),
        depends_on={
            "system": session.fingerprint(role),
            "items": items_digest(items),
            "heard": heard,
            "protocol": digest(answering),
        },
        counted=lambda: session.tokens(role),
    )
