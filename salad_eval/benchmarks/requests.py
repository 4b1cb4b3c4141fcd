"""From an item to the request that a system gets, and the check that nothing spoken is also written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from salad_eval.errors import AudioError, LeakError, UserInputError
from salad_eval.types import (
    AudioSegment,
    InputForm,
    Item,
    Request,
    Segment,
    SpokenPart,
    TextSegment,
)

MIN_LEAK_WORDS = 3


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
