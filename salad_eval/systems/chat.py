"""A request as the conversation that a chat template renders: lm-eval's ``apply_chat_template``, for text and for speech.

lm-eval's rules (``Task.fewshot_context`` and ``multiturn_to_singleturn`` of 0.4.13): the task's description is the system turn, after
the user's own instruction; shots are turns of their own, or one turn of the user's with the question; a ``gen_prefix`` opens the
assistant's turn, which the template is told to continue; without one the template writes the mark that begins an answer. A template
without a system role loses that turn. An option follows without ``target_delimiter`` (``Request.chat_continuations``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from salad_eval.errors import ModelError
from salad_eval.types import Request, Role, Segment, TextSegment, Turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """How requests are put into a checkpoint's chat template.

    ``system_prompt`` is said before a task's description, in the same turn; without either, the system turn is what the template
    itself writes. ``multiturn``: shots are turns of their own (lm-eval's ``fewshot_as_multiturn``).
    """

    system_prompt: str | None = None
    multiturn: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks, and the segments of what is said."""

    role: Role
    content: tuple[Segment, ...]


def conversation(request: Request, style: ChatStyle) -> tuple[Message, ...]:
    """The turns of a request; a last one of the assistant's is to be continued."""
    turns = _turns(request.prompt)
    described = bool(turns) and turns[0].role == "system"
    description = text_of(request.prompt[turns[0].start : turns[0].end]) if described else ""
    system = delimited(style.system_prompt or "", description, request.system_delimiter)
    turns = turns[described:]
    if not style.multiturn:
        answer = turns[-1:] if turns[-1].role == "assistant" else []
        asked = turns[: len(turns) - len(answer)]
        turns = [Turn("user", asked[0].start, asked[-1].end), *answer]
    said = tuple(Message(turn.role, request.prompt[turn.start : turn.end]) for turn in turns)
    return (Message("system", (TextSegment(system),)), *said) if system else said


def _turns(prompt: Sequence[Segment]) -> list[Turn]:
    """Runs of segments of one role, in places of ``prompt``; recordings are the user's, delimiters nobody's."""
    turns: list[Turn] = []
    for place, segment in enumerate(prompt):
        role: Role | None = segment.role if isinstance(segment, TextSegment) else "user"
        if turns and turns[-1].role == role and turns[-1].end == place:
            turns[-1] = Turn(role, turns[-1].start, place + 1)
        elif role is not None:
            turns.append(Turn(role, place, place + 1))
    return turns


def render(
    request: Request, style: ChatStyle, template: Callable[..., Any], content: Callable[[tuple[Segment, ...]], Any]
) -> str:
    """The prompt as ``template`` (an ``apply_chat_template``) writes it; ``content`` makes of a turn's segments what it takes.

    Raises ``ModelError`` where it refuses the conversation with and without its system turn.
    """

    def rendered(messages: Sequence[Message]) -> str:
        begun = messages[-1].role == "assistant"
        turns = [{"role": message.role, "content": content(message.content)} for message in messages]
        return str(template(turns, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun))

    messages = conversation(request, style)
    try:
        try:
            return rendered(messages)
        except TemplateError as cause:
            if messages[0].role != "system":
                raise
            text = rendered(messages[1:])
            _say_once(f"The chat template has no system turn ({cause}); it is left out, as lm-eval leaves it out.")
            return text
    except (TemplateError, ValueError) as cause:
        raise ModelError(f"item {request.item_id!r}: the chat template refuses the prompt: {cause}") from cause


def text_of(content: tuple[Segment, ...]) -> str:
    """A turn as the string that templates of text LLMs take; recordings are left out."""
    return "".join(segment.text for segment in content if isinstance(segment, TextSegment))


def delimited(first: str, second: str, delimiter: str) -> str:
    """The two with ``delimiter`` between them, unless one is empty or there is whitespace where they meet."""
    touching = not (first and second) or first[-1].isspace() or second[0].isspace()
    return first + ("" if touching else delimiter) + second


@lru_cache(maxsize=16)
def _say_once(sentence: str) -> None:
    logger.warning(sentence)
