"""What can be asked of a Whisper model, whichever program runs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, TypeVar

from salad_eval.errors import UserInputError, did_you_mean

Task = Literal["transcribe", "translate"]
TASKS = ("transcribe", "translate")
N = TypeVar("N", int, float)
AUTO = "auto"  # the language that the model hears, found for each piece of sound by itself
PROMPT_TOKENS = 4  # start, language, task, no timestamps: they share the decoder's positions with the transcript


def check_task(task: str) -> None:
    """Raises ``UserInputError`` for a task that Whisper does not have."""
    if task not in TASKS:
        raise UserInputError(f"task is {task!r}{did_you_mean(str(task), TASKS)}; expected one of {', '.join(TASKS)}.")


def new_tokens(asked: int | None, positions: int, most: int | None = None) -> int:
    """How many tokens a transcript of one window may have; by default half of the decoder's positions, as in OpenAI's program.

    ``most``: a program's own limit. Raises ``UserInputError`` for more than that or than the positions that the prompt leaves.
    """
    limit = positions - PROMPT_TOKENS if most is None else most
    if asked is None:
        return min(positions // 2, limit)
    if not isinstance(asked, int) or not 1 <= asked <= limit:
        raise UserInputError(f"max_new_tokens is {asked!r}; expected a whole number from 1 to {limit}.")
    return asked


def language_code(source: str, language: str, task: str, known: Collection[str] | None) -> str:
    """``en`` for ``English`` or ``<|en|>``; ``auto`` as it is. ``known``: the codes a multilingual model has, ``None`` where it has one.

    Raises ``UserInputError`` for a language that ``source`` does not know, and for anything but English where it knows no other.
    """
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    name = str(language).strip("<|>").lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    if known is None:
        if task != "transcribe" or code not in ("en", AUTO):
            raise UserInputError(
                f"{source} knows English alone; language is {language!r} and task {task!r}. Leave both options out."
            )
        return "en"
    if code != AUTO and code not in known:
        raise UserInputError(
            f"language {language!r} is not one of {source}{did_you_mean(code, known)}. Known: {', '.join(sorted(known))}, auto."
        )
    return code


def window_of(length: N, windows: Sequence[N], margin: N) -> N:
    """The smallest of rising ``windows`` that leaves ``margin`` of silence after a recording, and the largest where none does; all in one
    unit."""
    return next((size for size in windows if size >= length + margin), windows[-1])
