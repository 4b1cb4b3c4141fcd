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
from salad_eval.types import AudioSegment, Segment, TextSegment

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
    return list(_ids(tokenizer, text, add_special_tokens))


@lru_cache(maxsize=512)
def _ids(tokenizer: Any, text: str, add_special_tokens: bool | None) -> tuple[int, ...]:
    """Kept, since an item's options follow one context, and what is read around a recording is the same in each voice and condition."""
    if add_special_tokens is None:
        has_prefix = tokenizer.bos_token_id is not None or tokenizer.eos_token_id is not None
        if has_prefix and text.startswith(tokenizer.decode([prefix_token_id(tokenizer)])):
            add_special_tokens = False
    if add_special_tokens is None:
        return tuple(tokenizer.encode(text))
    return tuple(tokenizer.encode(text, add_special_tokens=add_special_tokens))


def encode_pair(
    tokenizer: Any,
    context: str,
    continuation: str,
    *,
    add_special_tokens: bool | None = None,
) -> EncodedPair:
    """Token ids of a context and of the continuation scored after it, by lm-eval's conventions (see the module).

    Raises ``ModelError`` for a continuation without tokens.
    """
    if context == "":
        ids = encode(tokenizer, continuation, add_special_tokens=False)
        _check_tokens(ids, continuation)
        prefix = prefix_token_id(tokenizer)
        return EncodedPair((prefix,), tuple(ids[1:] if ids[0] == prefix and len(ids) > 1 else ids))
    stripped = context.rstrip()
    tail = context[len(stripped) :]
    context_ids = _ids(tokenizer, stripped, add_special_tokens)
    whole = encode(tokenizer, stripped + tail + continuation, add_special_tokens=add_special_tokens)
    ids = whole[len(context_ids) :]
    _check_tokens(ids, continuation)
    # A context of whitespace only has moved to the continuation as a whole, and something must be read before it.
    return EncodedPair(context_ids or (prefix_token_id(tokenizer),), tuple(ids))


def encode_context(tokenizer: Any, context: str) -> tuple[int, ...]:
    """Token ids of a prompt to generate from: as written (lm-eval keeps its trailing whitespace), never empty."""
    return tuple(encode(tokenizer, context) or [prefix_token_id(tokenizer)])


def encode_continuation(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a continuation by itself, as generated text would be; ``ModelError`` where it has none."""
    ids = encode(tokenizer, text, add_special_tokens=False)
    _check_tokens(ids, text)
    return tuple(ids)


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


def split_at_audio(segments: Sequence[Segment]) -> tuple[str | AudioSegment, ...]:
    """Segments as texts and audio in turn: adjacent texts joined, and whitespace right before audio dropped.

    In a byte-pair vocabulary the space before a word belongs to that word's token; where the word is spoken, its space
    is not text. Texts left empty are dropped.
    """
    pieces: list[str | AudioSegment] = []
    for segment in segments:
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
    return _sha256(_reading(tokenizer, _state(tokenizer)))


def tokenizer_identity(tokenizer: Any) -> str:
    """As ``tokenizer_fingerprint``, and of what else decides an answer: how ids become text, and which tokens begin a text."""
    state = _state(tokenizer)
    writing = {
        "decoder": state.get("decoder"),
        "clean_up": getattr(tokenizer, "clean_up_tokenization_spaces", None),
        "special": sorted(getattr(tokenizer, "all_special_ids", ())),
        "prefix": [tokenizer.bos_token_id, tokenizer.eos_token_id],
    }
    return _sha256([_reading(tokenizer, state), writing])


def _state(tokenizer: Any) -> dict[str, Any]:
    """All that a fast tokenizer is made of; empty for a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = {} if backend is None else json.loads(backend.to_str())
    return state


def _reading(tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    if not state:
        return {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")}


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
