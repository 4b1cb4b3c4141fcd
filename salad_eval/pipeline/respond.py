"""Asking systems: from an item to a prompt in one input form, and from prompts to responses, chunk by chunk.

A speech prompt that lacks the audio of a spoken part is an error, and so is one whose text gives away what is to be
heard: either would be scored from text and called speech.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from salad_eval.errors import AudioError, LeakError, ModelError, UserInputError
from salad_eval.types import (
    COLUMN_FORM,
    LOGPROB_SCORES,
    AudioSegment,
    ColumnName,
    InputForm,
    Item,
    Request,
    Response,
    ScoreKind,
    Segment,
    SpokenPart,
    System,
    TextSegment,
)

MIN_LEAK_WORDS = 3
CHUNK = {"text": 256, "transcript": 256, "speech": 32}  # requests held at a time; audio is what makes them large


# --- prompts ---------------------------------------------------------------------------------------------------------


def build_request(
    item: Item,
    form: InputForm,
    *,
    audio: Mapping[str, AudioSegment] | None = None,
    transcripts: Mapping[str, str] | None = None,
    spoken_texts: Mapping[str, str] | None = None,
) -> Request:
    """The prompt for an item in one input form, with its options as continuations.

    ``text``: the context as written. ``transcript``: each spoken part replaced by ``transcripts[part]``. ``speech``:
    each spoken part replaced by ``audio[part]``; ``spoken_texts[part]`` is what was said in it (numbers and symbols
    spelt out), which must not be in the text either. Parts are looked up by name.

    Raises ``AudioError`` where a part has no audio or no transcript or the item has no spoken part at all,
    ``LeakError`` where the text holds a spoken part (see ``check_leak``).
    """
    if form == "text":
        return Request(item.id, (TextSegment(item.context),), item.continuations)
    parts = _ordered_parts(item)
    if not parts:
        raise AudioError(f"item {item.id!r} has no spoken part, so it cannot be asked in the form {form!r}.")
    if form == "transcript":
        replacements: list[Segment] = [
            TextSegment(_found(item, part, transcripts, "transcript").strip()) for part in parts
        ]
        joined = "".join(s.text for s in _spliced(item, parts, replacements) if isinstance(s, TextSegment))
        return Request(item.id, (TextSegment(joined),), item.continuations)
    segments = _spliced(item, parts, [_found(item, part, audio, "audio") for part in parts])
    request = Request(item.id, segments, item.continuations)
    said = spoken_texts or {}
    check_leak(request, {part.name: (item.part_text(part), said.get(part.name, "")) for part in parts})
    return request


def _ordered_parts(item: Item) -> list[SpokenPart]:
    parts = sorted(item.spoken_parts, key=lambda part: part.start)
    end = 0
    for part in parts:
        if not end <= part.start < part.end <= len(item.context):
            raise UserInputError(
                f"item {item.id!r}: spoken part {part.name!r} is context[{part.start}:{part.end}], which is empty, "
                f"overlaps another part or lies outside the context of {len(item.context)} characters."
            )
        end = part.end
    return parts


def _found(item: Item, part: SpokenPart, given: Mapping[str, Segment] | Mapping[str, str] | None, what: str) -> Any:
    if given is None or part.name not in given:
        raise AudioError(
            f"item {item.id!r}: no {what} for its spoken part {part.name!r}; it is not scored from "
            f"text instead. Render it, or reject it."
        )
    return given[part.name]


def _spliced(item: Item, parts: list[SpokenPart], replacements: list[Segment]) -> tuple[Segment, ...]:
    """The context with each part replaced; the text between the parts is kept to the character."""
    segments: list[Segment] = []
    end = 0
    for part, replacement in zip(parts, replacements, strict=True):
        segments += [TextSegment(item.context[end : part.start]), replacement]
        end = part.end
    segments.append(TextSegment(item.context[end:]))
    return tuple(segment for segment in segments if not (isinstance(segment, TextSegment) and segment.text == ""))


def check_leak(request: Request, secrets: Mapping[str, Iterable[str]]) -> None:
    """Refuse a speech prompt whose text holds what is to be heard.

    ``secrets`` gives for each spoken part its written and its spoken form. Texts are compared word by word without
    case, accents' encoding or punctuation. A part of at least ``MIN_LEAK_WORDS`` words must not occur anywhere in a
    text segment; a shorter one ("calcium", "the moon") may, since such words are part of ordinary prompts, but must not
    be a whole text segment. Raises ``LeakError``.
    """
    texts = [f" {' '.join(_words(segment.text))} " for segment in request.prompt if isinstance(segment, TextSegment)]
    for part, forms in secrets.items():
        for form in forms:
            words = _words(form)
            if not words:
                continue
            needle = f" {' '.join(words)} "
            if any(needle == text if len(words) < MIN_LEAK_WORDS else needle in text for text in texts):
                raise LeakError(
                    f"item {request.item_id!r}: the text of the speech prompt contains the spoken part {part!r} "
                    f"({form!r}). Its score would measure reading, not hearing. Check the task's template and its "
                    f"spoken parts."
                )


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in folded).split()


# --- responses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GenerationProtocol:
    """How a free answer is asked for: greedily, at most ``max_new_tokens`` tokens, cut before the first of ``stop``."""

    max_new_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserInputError(f"generation.max_new_tokens is {self.max_new_tokens}; expected at least 1.")
        if not all(self.stop):
            raise UserInputError("generation.stop holds an empty string, which would cut every answer to nothing.")


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
