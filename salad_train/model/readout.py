"""What the LM reads of an adapter that was taught by CTC: the words it wrote, without the silence between them.

CTC (Graves et al., 2006) writes most positions as blank, and an LM has never read a blank. So blank positions and repeats are left out
(CTC compression; Gaido et al., 2021), and at the others the LM reads the mean of its own embeddings under CTC's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from salad_train.model.audio_encoders import first_places

FIRST_LOGIT = 10.0  # of a token whose embedding the untrained adapter's output points along


class CtcReadout(nn.Module):
    """CTC's scores of an adapter's output against some of an LM's embeddings, and what the LM reads by them.

    The score of a token at a position is the product of the output there with the token's embedding, brought to length 1; that of the
    blank is the product with a vector that is learned.

    Args:
        tokens: how many tokens can be written; ``width``: the LM's.
    """

    ids: torch.Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.zeros(tokens, dtype=torch.long))
        self.blank = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.zeros(()))

    @classmethod
    def fresh(cls, embeddings: torch.Tensor, ids: Sequence[int], seed: int) -> CtcReadout:
        """Of the tokens ``ids``, with a blank drawn from ``seed``; ``embeddings``: (V, LM width)."""
        made = cls(len(ids), embeddings.shape[1])
        drawn = torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            made.ids.copy_(torch.tensor(list(ids)))
            made.blank.copy_(drawn / drawn.norm())
        made.to(embeddings.device)
        with torch.no_grad():
            made.log_scale.fill_(math.log(FIRST_LOGIT / made.size(embeddings)))
        return made

    def size(self, embeddings: torch.Tensor) -> float:
        """Mean length of the tokens' embeddings."""
        return float(embeddings.detach()[self.ids].float().norm(dim=1).mean())

    def scores(self, heard: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """(n, positions, LM width) → log-probabilities (n, positions, 1 + tokens) of the blank (0) and of ``ids`` (1, 2, …)."""
        directions = nn.functional.normalize(embeddings.detach()[self.ids].float(), dim=1)
        products = heard.float() @ torch.cat([self.blank[None].float(), directions]).T
        return (products * self.log_scale.float().exp()).log_softmax(-1)

    def nll(
        self, heard: torch.Tensor, lengths: torch.Tensor, embeddings: torch.Tensor, said: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, int]:
        """By how many nats CTC misses what was said, summed, and how many tokens that is of.

        ``said``: the tokens of each recording. One that holds a token that cannot be written, or more of them than there are positions
        for, is left out.
        """
        place = {token: k for k, token in enumerate(self.ids.tolist(), start=1)}
        rows = [
            k
            for k, (tokens, n) in enumerate(zip(said, lengths.tolist(), strict=True))
            if tokens and fits(tokens, n) and place.keys() >= set(tokens)
        ]
        if not rows:
            return heard.sum() * 0.0, 0
        sizes = torch.tensor([len(said[k]) for k in rows])
        places = torch.tensor([place[token] for k in rows for token in said[k]], device=self.ids.device)
        scores = self.scores(heard[rows], embeddings).transpose(0, 1)
        loss = nn.functional.ctc_loss(scores, places, lengths[rows].cpu(), sizes, reduction="sum")
        return loss, int(sizes.sum())

    def forward(
        self, heard: torch.Tensor, lengths: torch.Tensor, embeddings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the LM reads of outputs (n, positions, LM width) with lengths (n,): (n, most, LM width), and how many of each, at least
        one. Where nothing but blanks was written, the position that is least one is read."""
        scores = self.scores(heard, embeddings)
        rows = scores[..., 1:].softmax(-1) @ embeddings.detach()[self.ids].float()
        read = written(scores.detach(), lengths)
        counts = read.sum(1)
        packed = rows.new_zeros(len(rows), int(counts.max()), rows.shape[-1])
        packed[first_places(counts, packed.shape[1])] = rows[read]
        return packed.to(heard.dtype), counts


def fits(tokens: Sequence[int], positions: int) -> bool:
    """Whether CTC can write them: a position a token, and a blank between two equal ones."""
    return positions >= len(tokens) + sum(a == b for a, b in pairwise(tokens))


def written(scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(n, positions) which positions CTC writes a token at: their best symbol is no blank (0) and not the one before again.

    Args:
        scores: (n, positions, symbols) log-probabilities.
        lengths: (n,) positions that are real, at least one each.
    """
    best = scores.argmax(-1)
    before = nn.functional.pad(best, (1, 0), value=0)[:, :-1]
    real = first_places(lengths.to(best.device), best.shape[1])
    found = (best > 0) & (best != before) & real
    least_blank = scores[..., 0].masked_fill(~real, math.inf).argmin(1)
    silent = ~found.any(1)
    found[silent, least_blank[silent]] = True
    return found
