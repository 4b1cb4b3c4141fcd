"""From text to token ids, the same way for every system, and the same way as lm-eval's ``hf`` model for plain text.

lm-eval's conventions (``TemplateLM._encode_pair``, ``HFLM.tok_encode``): whitespace at the end of a context moves to
the continuation; context + continuation is encoded as one string, and the continuation's ids are what follows the first
``len(encode(context))`` of them; special tokens are added as the tokenizer does by default, but not where the string
already begins with the BOS token's text; an empty context is the BOS (or else the EOS) token; sequences that are too
long lose tokens on the left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from salad_eval.errors import ModelError, UserInputError
from salad_eval.types import AudioSegment, Request, TextSegment

DEFAULT_MAX_LENGTH = 2048  # lm-eval's, for models that do not state theirs
_CONTEXT_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
_UNLIMITED = 10**12  # transformers writes 1e30 for a tokenizer without a limit


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of a context (at least one) and of a continuation (at least one)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def truncated(self, max_length: int) -> EncodedPair:
        """Cut the context on the left so that a model of ``max_length`` positions can score the continuation.

        The last continuation token is never fed, so ``max_length + 1`` ids fit. Raises ``ModelError`` where not even
        one context token would remain.
        """
        room = max_length + 1 - len(self.continuation)
        if room < 1:
            raise ModelError(
                f"a continuation of {len(self.continuation)} tokens does not fit a model of {max_length} positions."
            )
        return self if len(self.context) <= room else EncodedPair(self.context[-room:], self.continuation)


@dataclass(frozen=True, slots=True)
class SpokenPrompt:
    """A prompt with audio: token ids and audio in order, and each continuation's ids.

    ``pieces`` holds no empty id tuple; the text after the last audio is the context in which the continuations were
    encoded.
    """

    pieces: tuple[tuple[int, ...] | AudioSegment, ...]
    continuations: tuple[tuple[int, ...], ...]


# --- text ------------------------------------------------------------------------------------------------------------


def prefix_token_id(tokenizer: Any) -> int:
    """The token that stands for an empty context: BOS, or else EOS."""
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token, so an empty context cannot be scored.")


def encode(tokenizer: Any, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
    """Token ids of ``text`` as lm-eval's ``hf`` model makes them.

    ``None`` leaves special tokens to the tokenizer's default, except that a text that already begins with the BOS
    token's text gets none.
    """
    if add_special_tokens is None:
        has_prefix = tokenizer.bos_token_id is not None or tokenizer.eos_token_id is not None
        if has_prefix and text.startswith(tokenizer.decode([prefix_token_id(tokenizer)])):
            add_special_tokens = False
    if add_special_tokens is None:
        return list(tokenizer.encode(text))
    return list(tokenizer.encode(text, add_special_tokens=add_special_tokens))


@lru_cache(maxsize=8)
def _context_ids(tokenizer: Any, context: str, add_special_tokens: bool | None) -> tuple[int, ...]:
    """The options of an item come one after the other with one context: it is encoded once."""
    return tuple(encode(tokenizer, context, add_special_tokens=add_special_tokens))


def encode_pair(
    tokenizer: Any,
    context: str,
    continuation: str,
    *,
    max_length: int | None = None,
    add_special_tokens: bool | None = None,
) -> EncodedPair:
    """Token ids of a context and of the continuation scored after it, by lm-eval's conventions (see the module).

    With ``max_length`` the context is cut on the left to what the model can hold. Raises ``ModelError`` for a
    continuation without tokens.
    """
    if context == "":
        ids = encode(tokenizer, continuation, add_special_tokens=False)
        _check_tokens(ids, continuation)
        prefix = prefix_token_id(tokenizer)
        pair = EncodedPair((prefix,), tuple(ids))
        if ids[0] == prefix and len(ids) > 1:
            pair = EncodedPair((prefix,), tuple(ids[1:]))
    else:
        stripped = context.rstrip()
        tail = context[len(stripped) :]
        context_ids = _context_ids(tokenizer, stripped, add_special_tokens)
        whole = encode(tokenizer, stripped + tail + continuation, add_special_tokens=add_special_tokens)
        ids = whole[len(context_ids) :]
        _check_tokens(ids, continuation)
        # A context of whitespace only has moved to the continuation as a whole, and something must be read before it.
        pair = EncodedPair(context_ids or (prefix_token_id(tokenizer),), tuple(ids))
    return pair if max_length is None else pair.truncated(max_length)


def encode_context(tokenizer: Any, context: str, *, max_length: int | None = None) -> tuple[int, ...]:
    """Token ids of a prompt to generate from: as written (lm-eval keeps its trailing whitespace), never empty, cut on
    the left.
    """
    ids = encode(tokenizer, context) or [prefix_token_id(tokenizer)]
    return tuple(ids if max_length is None else ids[-max_length:])


def _check_tokens(ids: Sequence[int], continuation: str) -> None:
    if not ids:
        raise ModelError(
            f"the continuation {continuation!r} has no tokens of its own after its context; it cannot be scored."
        )


def max_length(config: Any, tokenizer: Any) -> int:
    """Positions the model can hold, resolved as lm-eval does: the configuration, else the tokenizer, else 2048."""
    text_config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    for key in _CONTEXT_KEYS:
        value = getattr(text_config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < _UNLIMITED else DEFAULT_MAX_LENGTH


# --- text and audio --------------------------------------------------------------------------------------------------


def split_at_audio(request: Request) -> tuple[str | AudioSegment, ...]:
    """The prompt as texts and audio in turn: adjacent texts joined, and whitespace right before audio dropped.

    In a byte-pair vocabulary the space before a word belongs to that word's token; where the word is spoken, its space
    is not text. Texts left empty are dropped.
    """
    pieces: list[str | AudioSegment] = []
    for segment in request.prompt:
        if isinstance(segment, AudioSegment):
            if pieces and isinstance(pieces[-1], str):
                pieces[-1] = pieces[-1].rstrip()
            pieces.append(segment)
        elif isinstance(segment, TextSegment):
            if pieces and isinstance(pieces[-1], str):
                pieces[-1] += segment.text
            else:
                pieces.append(segment.text)
    return tuple(piece for piece in pieces if not (isinstance(piece, str) and piece == ""))


def encode_spoken_prompt(tokenizer: Any, request: Request) -> SpokenPrompt:
    """Token ids of the texts around the audio, and of each continuation in the context of the last text.

    The special tokens that begin a sequence stand at the very start, before audio too; a text after audio gets none.
    Whitespace at the end of the last text moves to the continuations, as it does for text. Without continuations
    (generation) it stays. Raises ``ModelError`` where the request holds no audio.
    """
    pieces = split_at_audio(request)
    if not any(isinstance(piece, AudioSegment) for piece in pieces):
        raise ModelError(f"item {request.item_id!r}: a speech prompt without audio; nothing would be heard.")
    tail = pieces[-1] if isinstance(pieces[-1], str) else ""
    body = pieces[:-1] if tail else pieces
    encoded: list[tuple[int, ...] | AudioSegment] = []
    for index, piece in enumerate(body):
        if isinstance(piece, AudioSegment):
            encoded.append(piece)
        else:
            encoded.append(tuple(encode(tokenizer, piece, add_special_tokens=None if index == 0 else False)))
    if isinstance(body[0], AudioSegment):
        encoded.insert(0, tuple(encode(tokenizer, "")))
    context = tail.rstrip() if request.continuations else tail
    context_ids = encode(tokenizer, context, add_special_tokens=False) if context else []
    encoded.append(tuple(context_ids))
    continuations = []
    for continuation in request.continuations:
        ids = encode(tokenizer, tail + continuation, add_special_tokens=False)[len(context_ids) :]
        _check_tokens(ids, continuation)
        continuations.append(tuple(ids))
    return SpokenPrompt(tuple(piece for piece in encoded if piece != ()), tuple(continuations))


# --- generation ------------------------------------------------------------------------------------------------------


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Token ids that end a generation: the tokenizer's EOS and those of the model's generation settings."""
    ids: set[int] = set()
    settings = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    for value in (tokenizer.eos_token_id, settings):
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(int(token_id) for token_id in value)
    return frozenset(ids)


def stop_rule(tokenizer: Any, stop: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether the text of generated ids holds a stop string. Only the last tokens are decoded: enough for the longest
    stop string.
    """
    if not all(stop):
        raise UserInputError("a stop string is empty, which would end every generation before it begins.")
    if not stop:
        return lambda ids: False
    # A stop string ends within the newest token, so it lies within as many tokens as it has UTF-8 bytes, plus that one.
    reach = max(len(text.encode()) for text in stop) + 1

    def holds_stop(ids: list[int]) -> bool:
        tail = tokenizer.decode(ids[-reach:], skip_special_tokens=True)
        return any(text in tail for text in stop)

    return holds_stop


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """``text`` before the first occurrence of any stop string."""
    return text[: min((text.index(string) for string in stop if string in text), default=len(text))]


# --- identity --------------------------------------------------------------------------------------------------------


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Sha256 (16 hex digits) of what decides token ids: vocabulary, merges, normalisation, added tokens; not padding or
    truncation.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        decisive = {
            key: state.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
        }
    else:
        decisive = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
