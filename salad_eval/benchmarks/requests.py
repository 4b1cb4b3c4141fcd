"""From an item to the request that a system gets, and the check that nothing spoken is also written."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from salad_eval.errors import AudioError, LeakError, UserInputError
from salad_eval.types import (
    AudioSegment,
    InputForm,
    Item,
    Request,
    Role,
    Segment,
    SpokenPart,
    TextSegment,
)

MIN_LEAK_WORDS = 3


def build_requests(
    item: Item,
    form: InputForm,
    *,
    audio: Mapping[str, AudioSegment] | None = None,
    transcripts: Mapping[str, str] | None = None,
    spoken_texts: Mapping[str, str] | None = None,
) -> tuple[Request, ...]:
    """What is asked of an item in one input form, with its options as continuations: one prompt, or one for each alternative.

    ``text``: the context as written. ``transcript``: each spoken part replaced by ``transcripts[part]``. ``speech``:
    each spoken part replaced by ``audio[part]``; ``spoken_texts[part]`` is what was said in it (numbers and symbols
    spelt out), which must not be in the text either. Parts are looked up by name.

    Raises ``AudioError`` where a part has no audio or no transcript or the item has no spoken part at all,
    ``LeakError`` where the text holds a spoken part (see ``check_leak``).
    """
    parts = _ordered_parts(item)
    if form != "text" and not parts:
        raise AudioError(f"item {item.id!r} has no spoken part, so it cannot be asked in the form {form!r}.")
    replaced: dict[SpokenPart, Segment] = {}
    if form == "transcript":
        replaced = {part: TextSegment(_found(item, part, transcripts, "transcript").strip()) for part in parts}
    elif form == "speech":
        replaced = {part: _found(item, part, audio, "audio") for part in parts}
    made = tuple(
        Request(
            item.id,
            _segments(item, spans, replaced),
            item.continuations,
            target_delimiter=item.target_delimiter,
            chat_delimiter=item.chat_delimiter,
            system_delimiter=item.system_delimiter,
        )
        for spans in _prompts(item)
    )
    if form == "speech":
        said = spoken_texts or {}
        secrets = {part.name: (item.part_text(part), said.get(part.name, "")) for part in parts}
        for request in made:
            check_leak(request, secrets)
    return made


def build_request(
    item: Item,
    form: InputForm,
    *,
    audio: Mapping[str, AudioSegment] | None = None,
    transcripts: Mapping[str, str] | None = None,
    spoken_texts: Mapping[str, str] | None = None,
) -> Request:
    """The only prompt of an item without alternatives; see ``build_requests``. Raises ``UserInputError`` for one that has any."""
    if item.alternatives:
        raise UserInputError(
            f"item {item.id!r} has {len(item.alternatives)} prompts, one for each option; expected one."
        )
    (request,) = build_requests(item, form, audio=audio, transcripts=transcripts, spoken_texts=spoken_texts)
    return request


def unconditional(request: Request) -> Request:
    """The continuations of ``request`` without any prompt before them, as lm-eval asks for acc_mutual_info."""
    return replace(request, prompt=())


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


def _prompts(item: Item) -> list[list[tuple[int, int]]]:
    """Of each prompt of an item the spans of its context that it is made of."""
    if not item.alternatives:
        return [[(0, len(item.context))]]
    shared = (0, item.alternatives[0].start)
    return [[shared, (one.start, one.end)] for one in item.alternatives]


def _segments(
    item: Item, spans: Sequence[tuple[int, int]], replaced: Mapping[SpokenPart, Segment]
) -> tuple[Segment, ...]:
    """Those spans of the context with each part replaced; the text between the parts is kept to the character.

    Text is one segment as far as it belongs to one message.
    """
    by_start = {part.start: part for part in replaced}
    spanned = [*((part.start, part.end) for part in replaced), *((turn.start, turn.end) for turn in item.turns)]
    cuts = set(itertools.chain.from_iterable(spanned))
    begun = {turn.start for turn in item.turns}
    segments: list[Segment] = []
    for start, end in spans:
        edges = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
        for left, right in itertools.pairwise(edges):
            part = by_start.get(left)
            role = _role(item, left)
            segment = TextSegment(item.context[left:right], role) if part is None else replaced[part]
            if isinstance(segment, AudioSegment):
                segments.append(segment)
                continue
            before = segments[-1] if segments else None
            if isinstance(before, TextSegment) and before.role == role and left in begun and before.text:
                segments.append(TextSegment("", None))  # two messages of one speaker with nothing between them
                before = None
            if isinstance(before, TextSegment) and before.role == role:
                segments[-1] = TextSegment(before.text + segment.text, role)
            elif segment.text:
                segments.append(TextSegment(segment.text, role))
    return tuple(segments)


def _role(item: Item, place: int) -> Role | None:
    """Whose message the character at ``place`` belongs to; an item without turns is one message of the user's."""
    if not item.turns:
        return "user"
    return next((turn.role for turn in item.turns if turn.start <= place < turn.end), None)


def check_leak(request: Request, secrets: Mapping[str, Iterable[str]]) -> None:
    """Refuse a speech prompt whose text holds what is to be heard.

    ``secrets`` gives for each spoken part its written and its spoken form. Texts are compared word by word without
    case, accents' encoding or punctuation. A part of at least ``MIN_LEAK_WORDS`` words must not occur anywhere in a
    text segment; a shorter one ("calcium", "the moon") may, since such words are part of ordinary prompts, but must not
    be a whole text segment. Raises ``LeakError``.
    """
    runs = itertools.groupby(request.prompt, key=lambda segment: isinstance(segment, TextSegment))
    joined = ["".join(s.text for s in run if isinstance(s, TextSegment)) for is_text, run in runs if is_text]
    texts = [f" {' '.join(_words(text))} " for text in joined]
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


@dataclass(frozen=True, slots=True)
class GenerationProtocol:
    """How a free answer is asked for: greedily, at most ``max_new_tokens`` tokens, cut before the first of ``stop``.

    Nothing is cut by default: a model that reasons before it answers, or answers in lines, would lose its answer.
    """

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserInputError(f"generation.max_new_tokens is {self.max_new_tokens}; expected at least 1.")
        if not all(self.stop):
            raise UserInputError("generation.stop holds an empty string, which would cut every answer to nothing.")
