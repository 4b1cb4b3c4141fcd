"""Options listed in a prompt by letters, for tasks that do not list them themselves.

A question that is answered by a generated text (``score: generate``; a chat model, a server that gives no log-probabilities) has to say
what there is to choose from. It then says so in every column alike: the list is part of the item.

The list stands on lines of its own, right after what is spoken of the question (and the punctuation that follows it); where nothing of
the prompt comes after it, "Answer:" does, so that the prompt ends in asking. A prompt that lists its options already stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from salad_eval.answers.choice import LETTERS, shows_letters

CUE = "Answer:"
_PUNCTUATION = re.compile(r"[^\w\s]*")


@dataclass(frozen=True, slots=True)
class Listed:
    """A prompt that lists its options, ``text[start:end]``."""

    text: str
    start: int
    end: int


def list_options(question: str, spoken_end: int, choices: Sequence[str]) -> Listed | None:
    """``question`` with its options listed after ``spoken_end``, where the last spoken part ends; ``None`` where it lists them already.

    Raises ``ValueError`` for more options than there are letters.
    """
    if len(choices) > len(LETTERS):
        raise ValueError(f"{len(choices)} options, and {len(LETTERS)} letters to name them")
    if shows_letters(question, choices):
        return None
    listing = "\n".join(f"{letter}. {choice.strip()}" for letter, choice in zip(LETTERS, choices, strict=False))
    after = _PUNCTUATION.match(question, spoken_end)
    cut = after.end() if after else spoken_end
    head, rest = question[:cut] + "\n", question[cut:].lstrip(" ")
    if not rest.strip():
        rest = CUE
    tail = rest if rest.startswith("\n") else "\n" + rest
    return Listed(head + listing + tail, len(head), len(head) + len(listing))


def letter_of(index: int) -> str:
    """The letter under which the option ``index`` (from 0) is listed."""
    return LETTERS[index]
