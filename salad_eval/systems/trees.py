"""A prompt and all that may follow it in one row of one pass: a tree, laid flat.

Each branch stands behind the prompt at the positions that it would have by itself, and a mask lets it look at the prompt and itself
alone (Cai et al. 2024, *Medusa*, verify drafts so). Against branches on copies of the prompt's cache, that is one pass in place of
several, with less padding.

A model has to take such a mask, and positions that stand twice. Which do is not in a list: each is shown a small tree, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers.cache_utils import Cache

from salad_eval.systems.passes import (
    Place,
    Traits,
    branched,
    device_of,
    dtype_of,
    followed_by,
    forward,
    new_cache,
    padded,
)

WIDEST = 2048  # positions that one of a tree looks at, at most: its mask and attention grow with the square
IDS, EMBEDDINGS = 1, 2  # dimensions of a prompt
_CLOSE = 0.1  # of the difference that a neglected mask or neglected positions make
_PAD, _PROMPT = -1, 0

_seen: WeakKeyDictionary[Any, dict[int, bool]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Tree:
    """A prompt's last positions, at least one, as ids (T,) or embeddings (T, d), and the tokens of each branch behind them."""

    prompt: torch.Tensor
    branches: Sequence[Sequence[int]]

    @property
    def tokens(self) -> list[int]:
        """Of the branches, one after the other."""
        return [token for branch in self.branches for token in branch]

    @property
    def width(self) -> int:
        return len(self.prompt) + sum(map(len, self.branches))

    def starts(self, width: int) -> list[int]:
        """Columns of the branches' first tokens, and of where the last ends, in a row of ``width`` with its padding on the left. The
        prompt ends before the first."""
        lengths = map(len, self.branches)
        return list(accumulate(lengths, initial=width - self.width + len(self.prompt)))


def layout(trees: Sequence[Tree], n_shared: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (B, W), counted from the shared ones on, and whether one may look at another: (B, W, n_shared + W)."""
    width = max(tree.width for tree in trees)
    positions = torch.zeros(len(trees), width, dtype=torch.long)
    part = torch.full((len(trees), width), _PAD)
    for row, tree in enumerate(trees):
        first = width - tree.width
        starts, behind = tree.starts(width), n_shared + len(tree.prompt)
        positions[row, first : starts[0]] = torch.arange(n_shared, behind)
        part[row, first : starts[0]] = _PROMPT
        for number, (start, branch) in enumerate(zip(starts, tree.branches, strict=False), 1):
            positions[row, start : start + len(branch)] = torch.arange(behind, behind + len(branch))
            part[row, start : start + len(branch)] = number
    asks, answers = part[:, :, None], part[:, None, :]
    own = torch.ones(width, width, dtype=torch.bool).tril() & ((answers == _PROMPT) | (answers == asks))
    return positions, torch.cat([torch.ones(len(trees), width, n_shared, dtype=torch.bool), own], dim=2)


def forward_trees(
    lm: Any,
    traits: Traits,
    trees: Sequence[Tree],
    n_shared: int,
    shared: Cache | None,
    wanted: Sequence[Place],
) -> torch.Tensor:
    """Logits (places, V) of one pass over trees that go on from the same ``n_shared`` positions, which are in a cache of one row."""
    device = device_of(lm)
    inputs, _ = padded(lm, [followed_by(lm, tree.prompt, tree.tokens) for tree in trees], device, left=True)
    positions, looks = (part.to(device) for part in layout(trees, n_shared))
    cache = None if shared is None else branched(shared, torch.zeros(len(trees), dtype=torch.long, device=device))
    logits, _ = forward(lm, traits, inputs, mask=_added(lm, looks), positions=positions, cache=cache, wanted=wanted)
    return logits


def _added(lm: Any, looks: torch.Tensor) -> torch.Tensor:
    """What is added to the attention's scores, of shape (B, 1, W, cached + W)."""
    dtype = dtype_of(lm, torch.get_default_dtype())
    nothing = torch.zeros(looks.shape, dtype=dtype, device=looks.device)
    return nothing.masked_fill_(~looks, torch.finfo(dtype).min)[:, None]


# --- which models read them ------------------------------------------------------------------------------------------


def are_read_by(lm: Any, traits: Traits, kind: int) -> bool:
    """Whether a model gives what is in a tree the logits that branches on a cache have; ``kind``: dimensions of the prompt. Seen once by
    a small one, and kept with the model."""
    try:
        known = _seen.setdefault(lm, {})
    except TypeError:  # no weak reference is to be had, so neither is a place to keep it
        return False
    if kind not in known:
        known[kind] = _is_read_right(lm, traits, kind)
    return known[kind]


def _is_read_right(lm: Any, traits: Traits, kind: int) -> bool:
    """Closer to a branch on its prompt's cache than to what comes of a mask or of positions that the model does not heed, by far."""
    n_tokens = getattr(lm.get_input_embeddings(), "num_embeddings", 0)
    if not n_tokens:  # a family's own embeddings, which hold more than a row a token
        return False
    tokens = [(17 * n + 5) % n_tokens for n in range(10)]
    device = device_of(lm)

    def prompt_of(tokens: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor(tokens, device=device)
        return ids if kind == IDS else lm.get_input_embeddings()(ids)

    shared, own, branches = tokens[:3], tokens[3:5], [tokens[5:7], tokens[7:]]
    tree = Tree(prompt_of(own), branches)
    flat = followed_by(lm, tree.prompt, tree.tokens)
    positions, looks = (part.to(device) for part in layout([tree], 0))

    def ends(width: int) -> list[Place]:
        return [(0, max(0, width - n)) for n in (3, 2, 1)]  # where the second branch stands

    def run(inputs: torch.Tensor, cache: Cache | None = None, **other: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """As a sequence like any other, but for what is given."""
        n_cached, width = (0 if cache is None else cache.get_seq_length()), len(inputs)
        usual = {
            "mask": torch.ones(1, n_cached + width, dtype=torch.long, device=device),
            "positions": torch.arange(n_cached, n_cached + width, device=device)[None],
        }
        return forward(lm, traits, inputs[None], cache=cache, wanted=ends(width), **{**usual, **other})

    def branched_after(prompt: Sequence[int]) -> torch.Tensor:
        _, cache = run(prompt_of(prompt), new_cache(lm))
        return run(torch.tensor(branches[1], device=device), cache)[0]

    def as_tree(n_shared: int, cache: Cache | None) -> torch.Tensor:
        return forward_trees(lm, traits, [tree], n_shared, cache, ends(tree.width))

    try:
        expected = branched_after(own)
        without_mask, _ = run(flat, positions=positions)
        without_positions, _ = run(flat, mask=_added(lm, looks))
        _, cache = run(prompt_of(shared), new_cache(lm))
        errors = (
            _distance(as_tree(0, None), expected),
            _distance(as_tree(len(shared), cache), branched_after([*shared, *own])),
        )
    except Exception:  # each model refuses what it does not take in its own way
        return False
    least = min(_distance(without_mask, expected), _distance(without_positions, expected))
    return max(errors) <= _CLOSE * least


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
