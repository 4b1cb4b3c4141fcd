"""How far the adapted model's next-token distributions have moved from the base model's: F, M and D of Cuervo et al.
(2510.13632).

With Q the base text LLM, P the adapted one, w the written item and c the same item with its spoken parts as audio,

    F (forgetting)    = Σ KL( Q(·|w) ‖ P(·|w) )
    M (misalignment)  = Σ KL( P(·|w) ‖ P(·|c) )
    D (distillation)  = Σ KL( Q(·|w) ‖ P(·|c) )

in nats. **Positions scored:** the tokens of the gold continuation (the delimiter and the gold option), and no others:
at position t the distribution from which gold token t is drawn, given the prompt and the gold tokens before it. The
paper sums over all text positions of interleaved training text; on a benchmark item the gold continuation is the text
that follows the speech.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.errors import ModelError, UserInputError
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.items import items_digest
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speech import Question, Speech, hand_over, most_renderings
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.types import Distributional, Divergence, Failure, Item, Reject, Request

DEFAULT_CHUNK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class DivergenceOutcome:
    """A line of ``divergence.jsonl``."""

    divergence: Divergence | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class Comparable:
    """Why two systems' distributions cannot be compared; ``None`` where they can."""

    obstacle: str | None


STEP = Step("divergence", DivergenceOutcome, version="1", chunk=16)
ASKED_BEFORE = Step("comparable", Comparable, version="1", chunk=1)


@dataclass(frozen=True, slots=True)
class SpokenRequest:
    """The speech prompt of an item in one rendering."""

    voice: str
    perturbation: str
    request: Request


@dataclass(frozen=True, slots=True)
class DivergenceQuery:
    """An item as written and as heard in each rendering; every request has the gold continuation as its only one."""

    text: Request
    spoken: tuple[SpokenRequest, ...]


def gold_only(requests: Sequence[Request], gold: int) -> Request:
    """What is asked of an item with its gold continuation as the only one: of its only prompt, or its gold alternative's."""
    if len(requests) > 1 and 0 <= gold < len(requests):
        return requests[gold]
    (request,) = requests
    if not 0 <= gold < len(request.continuations):
        raise UserInputError(
            f"item {request.item_id!r}: gold is {gold}, but it has {len(request.continuations)} options."
        )
    return replace(request, continuations=(request.continuations[gold],))


def incomparable(base: object, adapted: object) -> str | None:
    """Why no divergence can be taken between two systems, as a note for the report; ``None`` where it can."""
    without = "divergences not measured: the {} system gives no next-token distributions."
    if not isinstance(base, Distributional):
        return without.format("base")
    if not isinstance(adapted, Distributional):
        return without.format("adapted")
    ours, theirs = base.tokenizer_fingerprint(), adapted.tokenizer_fingerprint()
    if ours != theirs:
        return f"divergences not measured: the two systems' tokenizers differ ({ours} and {theirs})."
    return None


def divergences(
    base: Distributional,
    adapted: Distributional,
    queries: Iterable[DivergenceQuery],
    *,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    first: int = 1,
) -> Iterator[Divergence | Reject]:
    """F, M and D of each query and rendering, in order; ``Reject`` where an item's distributions cannot be compared.

    Queries are taken lazily, as many at a time as keep the distributions held to about ``chunk_bytes`` (judged by the
    queries before; at least one); the first time ``first`` of them, unjudged. Raises ``ModelError`` for systems that
    are not comparable: ask ``incomparable`` first.
    """
    if (reason := incomparable(base, adapted)) is not None:
        raise ModelError(reason)
    remaining = iter(queries)
    size, heaviest = max(1, first), 1
    while batch := list(itertools.islice(remaining, size)):
        base_text = _single(base, [query.text for query in batch])
        adapted_text = _single(adapted, [query.text for query in batch])
        spoken = iter(_single(adapted, [s.request for query in batch for s in query.spoken]))
        for query, q_text, p_text in zip(batch, base_text, adapted_text, strict=True):
            heard = [next(spoken) for _ in query.spoken]
            heaviest = max(heaviest, sum(rows.nbytes for rows in (q_text, p_text, *heard)))
            yield from _records(query, q_text, p_text, heard)
        size = max(1, chunk_bytes // heaviest)


def kl_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Σ over rows of KL(p ‖ q) in nats; both are log-probabilities of shape (positions, vocabulary).

    Rows are normalised again in float64, so that float32 rounding cannot make the sum negative; 0 · log 0 is 0.
    """
    return _kl(_normalised(p), _normalised(q))


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    mass = np.exp(p)
    with np.errstate(invalid="ignore"):
        terms = np.where(mass > 0, mass * (p - q), 0.0)
    return max(0.0, float(terms.sum()))


def _normalised(logprobs: np.ndarray) -> np.ndarray:
    values = logprobs.astype(np.float64)
    peak = values.max(axis=-1, keepdims=True)
    return values - peak - np.log(np.exp(values - peak).sum(axis=-1, keepdims=True))


def _single(system: Distributional, requests: Sequence[Request]) -> list[np.ndarray]:
    """The distributions of each request's only continuation."""
    for request in requests:
        if len(request.continuations) != 1:
            raise UserInputError(
                f"item {request.item_id!r}: a divergence is taken over the gold continuation, but the request has "
                f"{len(request.continuations)} continuations. Use gold_only()."
            )
    return [options[0] for options in system.distributions(requests)] if requests else []


def _records(
    query: DivergenceQuery, q_text: np.ndarray, p_text: np.ndarray, heard: Sequence[np.ndarray]
) -> Iterator[Divergence | Reject]:
    """One a rendering; what is read is the same in all of them."""
    item_id = query.text.item_id
    read: tuple[np.ndarray, np.ndarray, float] | None = None
    for rendering, p_speech in zip(query.spoken, heard, strict=True):
        where = f"voice {rendering.voice}, {rendering.perturbation}"
        if len({rows.shape for rows in (q_text, p_text, p_speech)}) > 1:
            listing = ", ".join(str(rows.shape) for rows in (q_text, p_text, p_speech))
            detail = f"{where}: (positions, vocabulary) {listing}"
            yield Reject(item_id, STEP.name, "the distributions differ in shape", detail)
            continue
        if read is None:
            q, p = _normalised(q_text), _normalised(p_text)
            read = q, p, _kl(q, p)
        q, p, forgetting = read
        s = _normalised(p_speech)
        values = (forgetting, _kl(p, s), _kl(q, s))
        if all(map(math.isfinite, values)):
            yield Divergence(item_id, rendering.voice, rendering.perturbation, len(q_text), *values)
        else:
            yield Reject(item_id, STEP.name, "a divergence is not finite", where)


# --- the step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DivergeSetup:
    """The two systems, and where the sound is."""

    base: PluginRef
    adapted: PluginRef
    store: str


@dataclass(frozen=True, slots=True)
class Spread:
    """The divergences of items and renderings, what was lost on the way, and what a reader should know."""

    divergences: tuple[Divergence, ...]
    rejects: tuple[Reject, ...]
    notes: tuple[str, ...]


def compare_tokens(tools: Tools, setup: DivergeSetup, chunk: Sequence[str]) -> list[Comparable]:
    """Whether the systems can be compared; the one unit says nothing."""
    return [Comparable(incomparable(tools.plugin(setup.base), tools.plugin(setup.adapted))) for _ in chunk]


def diverge(tools: Tools, setup: DivergeSetup, chunk: Sequence[Question]) -> list[DivergenceOutcome]:
    """F, M and D of items in each of the renderings asked for."""
    base, adapted = tools.plugin(setup.base), tools.plugin(setup.adapted)
    if not (isinstance(base, Distributional) and isinstance(adapted, Distributional)):
        raise ModelError("divergences: a system that gave next-token distributions before gives none now.")
    # All of a chunk at once, as it was in the column of speech: a system that hears it anew after a kill then hears it
    # in the same batch, and gives the same numbers to the last digit.
    hand_over(adapted, chunk)
    by_item = [list(heard) for _, heard in itertools.groupby(chunk, key=lambda question: question.item.id)]
    store = tools.store(setup.store)

    def measured(batch: Sequence[list[Question]]) -> list[list[Divergence | Reject]]:
        found = divergences(base, adapted, (query_of(heard, store) for heard in batch), first=len(batch))
        return [list(itertools.islice(found, len(heard))) for heard in batch]

    outcomes: list[DivergenceOutcome] = []
    for heard, found in zip(by_item, tools.caller(setup.adapted).ask(measured, by_item), strict=True):
        if isinstance(found, Failure):
            lost = Reject(heard[0].item.id, STEP.name, found.reason, found.detail)
            outcomes += [DivergenceOutcome(reject=lost) for _ in heard]
        else:
            outcomes += [
                DivergenceOutcome(divergence=one) if isinstance(one, Divergence) else DivergenceOutcome(reject=one)
                for one in found
            ]
    return outcomes


def query_of(heard: Sequence[Question], store: AudioStore) -> DivergenceQuery:
    """What is asked of one item, of its questions in each rendering."""
    item = heard[0].item

    def gold(question: Question) -> Request:
        return gold_only(question.requests(store), item.gold or 0)

    spoken = tuple(SpokenRequest(*one.rendered, gold(one)) for one in heard if one.rendered is not None)
    return DivergenceQuery(gold(Question(item, "text")), spoken)


def diverge_items(session: Session, items: Sequence[Item], speech: Speech) -> Spread:
    """F, M and D of every item that has options and in every rendering; a note where they cannot be taken."""
    measured = [item for item in items if item.gold is not None and item.choices]
    notes = []
    if len(measured) < len(items):
        notes.append(f"divergences not measured for {len(items) - len(measured)} items without options.")
    if not measured:
        return Spread((), (), tuple(notes))
    systems = {"base": session.fingerprint("base"), "adapted": session.fingerprint("adapted")}
    setup = DivergeSetup(session.ref("base"), session.ref("adapted"), str(session.store.root))
    (comparable,) = session.folder.run(
        ASKED_BEFORE, [""], lambda chunks: session.models.map(Work(compare_tokens, setup), chunks), depends_on=systems
    )
    if comparable.obstacle is not None:
        return Spread((), (), (*notes, comparable.obstacle))
    questions = speech.questions(measured, "speech")
    outcomes = session.folder.run(
        replace(STEP, chunk=STEP.chunk * most_renderings(questions)),
        questions,
        lambda chunks: session.models.map(Work(diverge, setup, str(setup.adapted)), chunks),
        depends_on={**systems, "items": items_digest(measured), "heard": speech.digest("speech")},
    )
    return Spread(
        tuple(outcome.divergence for outcome in outcomes if outcome.divergence is not None),
        tuple(outcome.reject for outcome in outcomes if outcome.reject is not None),
        tuple(notes),
    )
