"""A tiny tokenizer of Qwen's class with a model's special tokens, and the configuration of a tiny LM beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2Tokenizer

from tests.helpers import speech_llm_world as world

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def byte_pairs() -> tuple[Mapping[str, int], Sequence[tuple[str, str]]]:
    """Vocabulary (about 400 pieces) and merges of a byte-level BPE trained on a few sentences."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    bpe.train_from_iterator(world.SENTENCES * 2, trainer)
    state = json.loads(bpe.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def qwen_tokenizer(*special: str, **named: str) -> Qwen2Tokenizer:
    """A tiny tokenizer of Qwen's class; ``special`` and ``named`` (``audio_token=…``) tokens are never split."""
    vocab, merges = byte_pairs()
    tokenizer = Qwen2Tokenizer(
        vocab=dict(vocab),
        merges=list(merges),
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or None,
        model_max_length=2048,
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", *special]}
    )
    return tokenizer


def qwen_config(tokenizer: Any, **changes: Any) -> Qwen2Config:
    return Qwen2Config(
        **{
            "vocab_size": len(tokenizer) + 3,  # real checkpoints have more rows than tokens, too
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "initializer_range": 0.2,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **changes,
        }
    )
