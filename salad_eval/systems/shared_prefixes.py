"""Which prompts are worth computing together: those that begin alike, in groups that share a prefix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

GROUP_COST_TOKENS = (
    64  # what one more forward pass costs, in tokens; a shared prefix that saves less is not run by itself
)


@dataclass(frozen=True)
class Group:
    """Requests whose prompts begin with the same ``shared`` positions."""

    shared: int
    members: tuple[int, ...]


@dataclass
class _Node:
    """An interval of the sorted prompts with a common prefix of ``depth`` positions."""

    depth: int
    start: int
    end: int = 0
    children: list[_Node] = field(default_factory=list)
    value: int = 0  # tokens saved by making this interval a group, plus size × the depth it would have had anyway

    @property
    def size(self) -> int:
        return self.end - self.start


def keys_of(prefixes: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """One integer a position, equal where positions are equal: token ids, or numbers standing for distinct embedding
    rows.
    """
    numbers: dict[bytes, int] = {}
    keys = []
    for prefix in prefixes:
        if prefix.dim() == 1:
            keys.append(prefix.cpu().numpy().astype(np.int64))
        else:
            rows = prefix.detach().cpu().contiguous().view(torch.uint8).numpy()
            digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
            keys.append(np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64))
    return keys


def _common_length(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common prefix, at most one less than the shorter: every prompt keeps a position of its own to read
    from.
    """
    n = min(len(a), len(b)) - 1
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def groups_of(keys: Sequence[np.ndarray]) -> list[Group]:
    """Split requests into groups with a shared prefix, so that few positions are computed twice and few groups are
    made.

    The sorted prompts' common-prefix intervals form a tree (as in a suffix array's LCP intervals); an interval becomes
    a group of its own where that saves more than ``GROUP_COST_TOKENS``.
    """
    order = sorted(range(len(keys)), key=lambda i: keys[i].astype(">u8").tobytes())
    root = _interval_tree([_common_length(keys[a], keys[b]) for a, b in pairwise(order)], len(order))
    found: list[Group] = []
    pending = [root]
    while pending:
        node = pending.pop()
        split: list[_Node] = []
        looking = list(node.children)
        while looking:
            child = looking.pop()
            within = sum(max(0, grand.value - grand.size * node.depth) for grand in child.children)
            if child.value - child.size * node.depth > within:
                split.append(child)
            else:
                looking.extend(child.children)
        pending.extend(split)
        taken = {position for child in split for position in range(child.start, child.end)}
        members = tuple(order[position] for position in range(node.start, node.end) if position not in taken)
        if members:
            found.append(Group(node.depth if len(members) > 1 else 0, members))
    return found


def _interval_tree(common: Sequence[int], size: int) -> _Node:
    """The tree of maximal intervals with a common prefix; ``common[i]`` is the common length of sorted prompts i and i
    + 1.
    """
    stack = [_Node(0, 0)]
    for position, depth in enumerate([*common, 0], start=1):
        start, last = position - 1, None
        while depth < stack[-1].depth:
            last = stack.pop()
            last.end, start = position, last.start
            last.value = (last.size - 1) * last.depth - GROUP_COST_TOKENS
            last.value += sum(max(0, child.value - child.size * last.depth) for child in last.children)
            if depth <= stack[-1].depth:
                stack[-1].children.append(last)
                last = None
        if depth > stack[-1].depth:
            stack.append(_Node(depth, start, children=[last] if last else []))
    root = stack[0]
    root.end = size
    return root
