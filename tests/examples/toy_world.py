"""What the examples train: a very small text model that must learn to "hear". Nothing here is needed to use the plug-in.

Every fact has one answer and two forms of its question: as written, and as heard (tokens of their own, as sounds are to an LLM).
The base model knows all facts as written, and has heard the capitals, but never the metals: that is the gap to be closed.
"""

from __future__ import annotations

import copy

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salad_eval.gap import RunProtocol, build_report
from salad_eval.types import (
    CLEAN,
    COLUMN_FORM,
    ColumnName,
    ColumnSpec,
    GapReport,
    Item,
    Score,
    SpokenPart,
    TaskProtocol,
)

FACTS_PER_DOMAIN = 24
DOMAINS = ["capitals"] * FACTS_PER_DOMAIN + [
    "metals"
] * FACTS_PER_DOMAIN  # the domain of every training example, in order
N = len(DOMAINS)
WRITTEN, HEARD, ANSWER = (
    0,
    N,
    2 * N,
)  # token ids: fact k is asked by WRITTEN + k or HEARD + k and answered by ANSWER + k


def example(question: int, fact: int) -> dict[str, list[int]]:
    return {"input_ids": [question + fact, ANSWER + fact], "labels": [-100, ANSWER + fact]}


TRAINING = [example(HEARD, fact) for fact in range(N)]


def base_model() -> LlamaForCausalLM:
    """Trained in a second on all facts as written and on the capitals as heard."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3 * N, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=8
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    known = [example(WRITTEN, fact) for fact in range(N)] + [example(HEARD, fact) for fact in range(FACTS_PER_DOMAIN)]
    batch = {key: torch.tensor([row[key] for row in known]) for key in ("input_ids", "labels")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


class Measure:
    """From a model to its gap report: each fact is asked with four answers to choose from, as written and as heard."""

    def __init__(self, base: LlamaForCausalLM) -> None:
        self.base = copy.deepcopy(base).eval()  # a frozen copy: the live model moves

    def __call__(self, model: LlamaForCausalLM) -> GapReport:
        scores = [
            *self.scores("base_text", self.base, WRITTEN),
            *self.scores("adapted_text", model, WRITTEN),
            *self.scores("adapted_speech", model, HEARD),
        ]
        columns: tuple[ColumnName, ...] = ("base_text", "adapted_text", "adapted_speech")
        asked = RunProtocol(
            protocols=(TaskProtocol("toy", "validation", "1", "context", 0, False, "ll", "domain", N),),
            columns=tuple(ColumnSpec(name, "toy", COLUMN_FORM[name], "toy") for name in columns),
            split="validation",
            voices=("toy",),
            conditions=(CLEAN,),
            tts="none",
            asr="none",
            seed=0,
            n_resamples=200,
        )
        return build_report(asked, [item(fact) for fact in range(N)], scores)

    @torch.no_grad()
    def scores(self, column: ColumnName, model: LlamaForCausalLM, question: int) -> list[Score]:
        logits = model(torch.arange(N)[:, None] + question).logits[:, -1]
        options = (torch.arange(N)[:, None] + torch.arange(4)) % N  # the right answer first, then three others
        chosen = logits.gather(1, ANSWER + options).argmax(1).tolist()
        voice, perturbation = (None, None) if question == WRITTEN else ("toy", CLEAN)
        return [Score(str(fact), column, voice, perturbation, float(chosen[fact] == 0)) for fact in range(N)]


def item(fact: int) -> Item:
    return Item(
        str(fact), "toy", "validation", DOMAINS[fact], "?", ("0", "1", "2", "3"), 0, str(fact), (SpokenPart("q", 0, 1),)
    )
