"""The base text LLM of the `nano` world: a byte-level BPE tokenizer and a Llama, both from nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_scheduler

from salad_eval.batches import of_like_length
from salad_eval.progress import track
from salad_train.training.optim import CombinedOptimizer, ParameterGroup, make_optimizer
from salad_train.training.precision import autocast
from salad_train.training.saving import save_float16

EOS, PAD, AUDIO = "<|endoftext|>", "<|pad|>", "<|audio|>"


@dataclass(frozen=True, slots=True)
class BasePlan:
    """Size and training of the base LLM."""

    seed: int = 0
    vocab_size: int = 2048
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 4
    heads: int = 3
    epochs: int = 4
    tokens_per_batch: int = 1536
    muon_lr: float = 0.02
    adamw_lr: float = 3e-3
    weight_decay: float = 0.1
    warmup: float = 0.03  # share of the steps


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ``<|endoftext|>`` as end (and no beginning) of text; digits are split one by one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD, AUDIO],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, model_max_length=512)


def batches(lengths: Sequence[int], tokens_per_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch of index batches: similar lengths together, batches in random order, ``tokens_per_batch`` padded tokens at most each."""
    order = np.argsort(rng.uniform(0, 1, len(lengths)))  # which of equal lengths come together is drawn anew
    groups = [order[batch] for batch in of_like_length([lengths[i] for i in order], tokens_per_batch)]
    for k in rng.permutation(len(groups)):
        yield groups[k]


def optimizer_for(model: LlamaForCausalLM, plan: BasePlan) -> CombinedOptimizer:
    """Muon for the matrices of the layers, AdamW for embeddings and norms.

    On this world Muon needs about half the epochs AdamW needs to the same validation accuracy.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return make_optimizer(
        [ParameterGroup(matrices, plan.muon_lr, plan.weight_decay, "muon"), ParameterGroup(others, plan.adamw_lr)],
        fused=True,
    )


def train_base(texts: Sequence[str], out: Path, plan: BasePlan) -> dict[str, float]:
    """Train tokenizer and LLM on ``texts`` and save both to ``out``. Returns what was measured."""
    began = time.monotonic()
    torch.manual_seed(plan.seed)
    tokenizer = train_tokenizer(texts, plan.vocab_size)
    eos = tokenizer.eos_token_id
    ids = [[*encoded, eos] for encoded in tokenizer(list(texts))["input_ids"]]
    config = LlamaConfig(
        vocab_size=plan.vocab_size,
        hidden_size=plan.hidden_size,
        intermediate_size=plan.intermediate_size,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # the fused CPU kernel is several times slower on sequences this short
    optimizer = optimizer_for(model, plan)
    lengths = [len(row) for row in ids]
    rng = np.random.default_rng([plan.seed, 3])
    schedule = [batch for _ in range(plan.epochs) for batch in batches(lengths, plan.tokens_per_batch, rng)]
    steps = len(schedule)
    scheduler = get_scheduler("cosine", optimizer, int(plan.warmup * steps), steps)
    model.train()
    loss_sum, n_logged, final_loss = 0.0, 0, math.nan
    for step, index in enumerate(track(schedule, "base LLM")):
        rows = [ids[i] for i in index]
        width = max(map(len, rows))
        inputs = torch.full((len(rows), width), tokenizer.pad_token_id)
        labels = torch.full((len(rows), width), -100)
        for k, row in enumerate(rows):
            inputs[k, : len(row)] = torch.tensor(row)
            labels[k, : len(row)] = inputs[k, : len(row)]
        with autocast(model.device, bf16=True):
            hidden = model.model(input_ids=inputs).last_hidden_state[:, :-1]
            targets = labels[:, 1:]
            kept = targets != -100
            logits = model.lm_head(hidden[kept])
        loss = torch.nn.functional.cross_entropy(logits.float(), targets[kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        loss_sum, n_logged = loss_sum + float(loss.detach()), n_logged + 1
        if n_logged == 100 or step == steps - 1:
            final_loss, loss_sum, n_logged = loss_sum / n_logged, 0.0, 0
    save_float16(model, tokenizer, out)
    return {
        "parameters": float(model.num_parameters()),
        "steps": float(steps),
        "final_loss_nats": final_loss,
        "seconds": time.monotonic() - began,
    }
