"""What is said to an OpenAI-compatible server, and what its replies hold. No network in here.

Fields of the bodies are OpenAI's, but for ``prompt_logprobs``, ``return_token_ids``, ``add_generation_prompt`` and
``continue_final_message``, which are vLLM's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from salad_eval.audio.sound import to_pcm16, wav_header
from salad_eval.types import Audio, AudioSegment, Request, TextSegment

Message = Mapping[str, Any]
NOTHING = "."  # stands for a prompt without text, which some servers refuse

# --- requests --------------------------------------------------------------------------------------------------------


def wav_bytes(audio: Audio) -> bytes:
    """A mono 16-bit WAV file at the audio's own rate."""
    return wav_header(len(audio.samples), audio.sample_rate_hz) + to_pcm16(audio.samples).tobytes()


def user_message(request: Request, preamble: str = "") -> Message:
    """A prompt as one user turn: its text, or with audio its parts in their order, audio as base64 WAV."""
    if not request.has_audio:
        return {"role": "user", "content": preamble + request.text}
    parts: list[dict[str, Any]] = [{"type": "text", "text": preamble}] if preamble else []
    for segment in request.prompt:
        if isinstance(segment, AudioSegment):
            data = base64.b64encode(wav_bytes(segment.audio)).decode("ascii")
            parts.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
        elif isinstance(segment, TextSegment) and parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += segment.text
        elif isinstance(segment, TextSegment):
            parts.append({"type": "text", "text": segment.text})
    return {"role": "user", "content": parts}


def without_audio(message: Message) -> Message:
    """The message with its text alone."""
    parts = [part for part in message["content"] if part["type"] == "text"]
    return {**message, "content": parts or [{"type": "text", "text": NOTHING}]}


def options_preamble(continuations: Sequence[str]) -> str:
    """Lists the options before a prompt and asks for one of them word for word; empty without options."""
    if not continuations:
        return ""
    listed = "\n".join(f"- {option.strip()}" for option in continuations)
    return f"Answer with one of these options, word for word, and nothing else:\n{listed}\n\n"


# --- replies ---------------------------------------------------------------------------------------------------------


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _PromptDetails(_Reply):
    audio_tokens: int | None = None


class Tokens(_Reply):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _EchoedTokens(_Reply):
    tokens: list[str]
    token_logprobs: list[float | None]


class _CompletionChoice(_Reply):
    text: str
    logprobs: _EchoedTokens | None = None


class Completion(_Reply):
    """A reply of ``/completions`` to one prompt."""

    choices: list[_CompletionChoice] = Field(min_length=1, max_length=1)
    usage: Tokens | None = None

    @property
    def text(self) -> str:
        return self.choices[0].text


class _ChatMessage(_Reply):
    content: str | None = None
    refusal: str | None = None


class _ChatChoice(_Reply):
    message: _ChatMessage


class _PromptLogprob(_Reply):
    logprob: float


class Chat(_Reply):
    """A reply of ``/chat/completions`` to one prompt."""

    choices: list[_ChatChoice] = Field(min_length=1, max_length=1)
    usage: Tokens | None = None
    prompt_logprobs: list[dict[str, _PromptLogprob] | None] | None = None
    prompt_token_ids: list[int] | None = None

    @property
    def text(self) -> str:
        """What the model said; a refusal's words, and nothing where a filter or the length limit left none."""
        message = self.choices[0].message
        return message.content or message.refusal or ""


class Transcription(_Reply):
    text: str


# --- log-probabilities -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """A prompt's tokens (ids or pieces) and the log-probability (nats) of each given those before it; the first has none."""

    tokens: tuple[int, ...] | tuple[str, ...]
    logprobs: tuple[float | None, ...]


def echoed(completion: Completion, n_prompt: int | None = None) -> ScoredTokens | None:
    """The prompt's tokens in a reply to ``echo`` with ``logprobs`` and ``max_tokens=1``; ``None`` where the server gave none.

    ``n_prompt`` tokens where that is known, else as many as the server says it read; what it generated is cut off.
    """
    found = completion.choices[0].logprobs
    if found is None or len(found.tokens) != len(found.token_logprobs):
        return None
    n = n_prompt if n_prompt is not None else (completion.usage.prompt_tokens if completion.usage else 0)
    # One token was asked for, and an end of text may or may not be listed. A server that does not echo lists that one only.
    if not 0 < n <= len(found.tokens) <= n + 1:
        return None
    return ScoredTokens(tuple(found.tokens[:n]), tuple(found.token_logprobs[:n]))


def chat_prompt(chat: Chat) -> ScoredTokens | None:
    """The prompt's tokens in a reply to vLLM's ``prompt_logprobs: 0``; ``None`` where the server gave none."""
    if not chat.prompt_logprobs:
        return None
    ids = chat.prompt_token_ids
    if ids is not None and len(ids) != len(chat.prompt_logprobs):
        return None
    tokens: list[int] = []
    logprobs: list[float | None] = []
    for place, table in enumerate(chat.prompt_logprobs):
        if not table:  # of the first token, which nothing comes before
            tokens.append(ids[place] if ids is not None else -1)
            logprobs.append(None)
            continue
        key = str(ids[place]) if ids is not None else next(iter(table))
        if key not in table or (ids is None and len(table) != 1):
            return None
        tokens.append(int(key))
        logprobs.append(table[key].logprob)
    return ScoredTokens(tuple(tokens), tuple(logprobs))
