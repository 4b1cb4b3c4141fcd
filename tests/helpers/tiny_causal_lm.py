"""A tiny random Llama with a byte-pair tokenizer trained on the spot, saved as a real Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = (
    "Question: Which metal is in bones?\nAnswer: calcium",
    "Question: What is the capital of France?\nAnswer: Paris",
    "The quick brown fox jumps over the lazy dog, and the dog barks at the moon.",
    "Iron rusts; iron oxide is what we call rust. Carbon burns to carbon dioxide.",
    "Which planet is the largest? Jupiter is the largest planet. Mars is red, Venus is hot.",
)


def train_tokenizer(
    *, bos: bool = False, vocabulary: int = 400, texts: tuple[str, ...] = TEXTS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; with ``bos`` it begins every text with its BOS token, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def save_tiny_llama(folder: Path, *, bos: bool = False, seed: int = 0, positions: int = 512) -> Path:
    """Two layers of width 32, weights large enough for distributions far from uniform; model and tokenizer in ``folder``."""
    tokenizer = train_tokenizer(bos=bos)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
