"""Scoring many continuations of one prompt with the prompt computed once.

A multiple-choice item asks a causal LM for the log-probabilities of a few short options after one long context, and
k-shot items of a task share their shots as well. Scored as independent sequences, nearly all of the work is repeated.
Here

1. prompts that begin alike are grouped, and what a group shares is run once (its keys and values are kept);
2. the rest of each prompt is run once, on a view of that cache,
   with all its options behind it in the same row (``trees``), where the model is seen to read that as it should;
3. else the options branch from it: the cache is repeated over the options of several prompts, and one short batch scores
   them. An option's first token is read from the prompt's last position, so one-token options need no second run.

The numbers are those of scoring every sequence by itself (padding is masked and positions are given explicitly). Models
whose cache cannot be branched (recurrent states, windows shorter than the prompt, no ``position_ids``) are scored
without one, to the same numbers.

A prompt is either a 1-D integer tensor of token ids or a 2-D float tensor of input embeddings (T, d), which is how a
speech LLM hands over text and audio in one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from salad_eval.errors import ModelError
from salad_eval.systems import trees
from salad_eval.systems.passes import (
    CacheUnusable,
    Place,
    Traits,
    batches,
    branched,
    checked,
    device_of,
    followed_by,
    forward,
    new_cache,
    of_equal_rope,
    padded,
    traits_of,
)
from salad_eval.systems.shared_prefixes import Group, groups_of, keys_of

DEFAULT_BATCH_TOKENS = 4096
_READ_BLOCK_VALUES = 1 << 24  # logits turned to float32 at a time (64 MiB)

Progress = Callable[[int], None]
_Slot = tuple[int, int, int]  # request, continuation, token


# --- public ----------------------------------------------------------------------------------------------------------


def continuation_logprobs(
    lm: Any,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
    progress: Progress | None = None,
) -> list[list[list[float]]]:
    """Log-probability (nats, float32 log-softmax) of each token of each continuation of each prefix.

    ``prefixes[i]`` is (T,) token ids or (T, d) input embeddings, T ≥ 1; ``continuations[i]`` are lists of token ids.
    The result is indexed request, continuation, token. ``max_batch_tokens`` bounds rows × new positions of a forward
    pass (cached positions may be 8 times as many), and with it memory. ``progress`` is called with the number of
    requests finished since its last call. Raises ``ModelError`` for an empty prefix.
    """
    results = [[[0.0] * len(option) for option in options] for options in continuations]
    for slots, values in _score(lm, prefixes, continuations, _read_logprobs, max_batch_tokens, progress):
        for (request, option, token), value in zip(slots, values.tolist(), strict=True):
            results[request][option][token] = value
    return results


def continuation_distributions(
    lm: Any,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
    progress: Progress | None = None,
) -> list[list[np.ndarray]]:
    """The whole next-token distributions behind ``continuation_logprobs``.

    For each request and continuation: log-probabilities (nats), float32, shape (n_tokens, vocabulary); row ``t`` is the
    distribution from which token ``t`` is drawn. All of them are held in memory: the caller chooses how many requests
    to ask for.
    """
    rows: list[list[list[np.ndarray]]] = [[[_NO_ROW] * len(option) for option in options] for options in continuations]
    width = 0
    for slots, values in _score(lm, prefixes, continuations, _read_distributions, max_batch_tokens, progress):
        width = values.shape[-1] if slots else width
        for (request, option, token), value in zip(slots, values, strict=True):
            rows[request][option][token] = value
    empty = np.zeros((0, width), dtype=np.float32)
    return [[np.stack(option) if option else empty for option in options] for options in rows]


def greedy(
    lm: Any,
    prefixes: Sequence[torch.Tensor],
    *,
    max_new_tokens: int,
    eos_ids: Iterable[int] = (),
    stop: Callable[[list[int]], bool] = lambda ids: False,
    max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
    progress: Progress | None = None,
) -> list[list[int]]:
    """The most probable token, one after the other, after each prefix.

    A row ends before a token of ``eos_ids`` (which is not returned), after the token that makes ``stop(ids so far)``
    true (which is), or after ``max_new_tokens``. Ties go to the smallest id.
    """
    _check_prefixes(prefixes)
    outputs: list[list[int]] = [[] for _ in prefixes]
    rule = _EndRule(frozenset(eos_ids), stop, max_new_tokens)
    if max_new_tokens <= 0 or not prefixes:
        return outputs
    traits = traits_of(lm)
    with torch.inference_mode():
        try:
            for finished in _greedy_cached(lm, traits, prefixes, outputs, rule, max_batch_tokens):
                if progress:
                    progress(finished)
            return outputs
        except CacheUnusable:  # found out before any row has an end
            outputs = [[] for _ in prefixes]
        for finished in _greedy_uncached(lm, traits, prefixes, outputs, rule, max_batch_tokens):
            if progress:
                progress(finished)
    return outputs


def can_branch(lm: Any) -> bool:
    """Whether ``lm``'s cache can be branched at all; where it cannot, scores are the same and slower."""
    return traits_of(lm).branchable


def _check_prefixes(prefixes: Sequence[torch.Tensor]) -> None:
    for index, prefix in enumerate(prefixes):
        if prefix.dim() not in (1, 2) or (prefix.dim() == 2) != prefix.is_floating_point():
            raise ModelError(
                f"prompt {index} is a {prefix.dtype} tensor of shape {tuple(prefix.shape)}; expected token ids (T,) "
                f"or float input embeddings (T, d)."
            )
        if len(prefix) == 0:
            raise ModelError(f"prompt {index} is empty: a causal LM needs a token to read from (BOS will do).")


# --- reading logits --------------------------------------------------------------------------------------------------

_NO_ROW = np.zeros(0, dtype=np.float32)
_Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], np.ndarray]


def _read_logprobs(logits: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """``log_softmax(logits)[rows, targets]`` in float32: logits (N, V), rows and targets (M,) -> (M,)."""
    block = max(1, _READ_BLOCK_VALUES // logits.shape[-1])
    normaliser = torch.cat([part.float().logsumexp(-1) for part in logits.split(block)])
    return (logits[rows, targets].float() - normaliser[rows]).cpu().numpy()


def _read_distributions(logits: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """``log_softmax(logits)[rows]`` in float32: logits (N, V), rows (M,) -> (M, V)."""
    return logits[rows].float().log_softmax(-1).cpu().numpy()


@dataclass
class _Reading:
    """What is read of a pass: slots, each with the place whose logits fill it and the token it asks about."""

    slots: list[_Slot] = field(default_factory=list)
    places: dict[Place, int] = field(default_factory=dict)  # each once, however many ask about it
    rows: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, place: Place, slot: _Slot, target: int) -> None:
        self.slots.append(slot)
        self.rows.append(self.places.setdefault(place, len(self.places)))
        self.targets.append(target)

    def of(self, logits: torch.Tensor, read: _Read) -> tuple[list[_Slot], np.ndarray]:
        """``logits`` (places, V), in the places' order."""
        device = logits.device
        return self.slots, read(
            logits, torch.tensor(self.rows, device=device), torch.tensor(self.targets, device=device)
        )


def _score(
    lm: Any,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    read: _Read,
    max_batch_tokens: int,
    progress: Progress | None,
) -> Iterator[tuple[list[_Slot], np.ndarray]]:
    """Yield (slots, values) until every token of every continuation has its value."""
    if len(prefixes) != len(continuations):
        raise ModelError(
            f"{len(prefixes)} prompts but {len(continuations)} lists of continuations; expected one list a prompt."
        )
    _check_prefixes(prefixes)
    if not prefixes:
        return
    traits = traits_of(lm)
    with torch.inference_mode():
        try:
            for slots, values, finished in _score_cached(lm, traits, prefixes, continuations, read, max_batch_tokens):
                yield slots, values
                if progress and finished:
                    progress(finished)
            return
        except CacheUnusable:  # found out before any request is finished
            pass
        yield from _score_uncached(lm, traits, prefixes, continuations, read, max_batch_tokens)
        if progress:
            progress(len(prefixes))


@dataclass
class _Prefilled:
    """Prompts run up to their last position: the cache, its mask (B, width), their lengths (B,), and the last logits
    (B, V).
    """

    cache: Cache
    mask: torch.Tensor
    lengths: torch.Tensor
    logits: torch.Tensor

    def select(self, rows: torch.Tensor) -> _Prefilled:
        return _Prefilled(branched(self.cache, rows), self.mask[rows], self.lengths[rows], self.logits[rows])


def _prefill(lm: Any, traits: Traits, shared: _Shared, suffixes: Sequence[torch.Tensor]) -> _Prefilled:
    """Run the rest of each prompt after the shared positions, padded on the left so that all end at the same index."""
    device = device_of(lm)
    inputs, own_mask = padded(lm, suffixes, device, left=True)
    rows = torch.zeros(len(suffixes), dtype=torch.long, device=device)
    cache = new_cache(lm) if shared.cache is None else branched(shared.cache, rows)
    mask = torch.cat([own_mask.new_ones(len(suffixes), shared.n), own_mask], dim=1)
    positions = (own_mask.cumsum(1) - 1).clamp(min=0) + shared.n
    last = _last_of_each(inputs)
    logits, cache = forward(lm, traits, inputs, mask=mask, positions=positions, cache=cache, wanted=last)
    return _Prefilled(checked(cache, mask.shape[1]), mask, mask.sum(1), logits)


def _last_of_each(inputs: torch.Tensor) -> list[Place]:
    return [(row, inputs.shape[1] - 1) for row in range(len(inputs))]


# --- scoring with a branched cache -----------------------------------------------------------------------------------


@dataclass
class _Branch:
    """Tokens fed after a prompt, and the slots their logits fill; continuations that differ in the last token only
    share one.
    """

    request: int
    fed: tuple[int, ...]
    slots: list[tuple[int, _Slot, int]] = field(default_factory=list)  # index into ``fed``, slot, target id


@dataclass
class _Asked:
    """What is asked after one prompt: first tokens, which its last position answers, and branches."""

    request: int
    first: list[tuple[_Slot, int]]  # slot, target id
    branches: list[_Branch]

    @property
    def n_fed(self) -> int:
        return sum(len(branch.fed) for branch in self.branches)


def _asked(request: int, continuations: Sequence[Sequence[int]]) -> _Asked:
    first: list[tuple[_Slot, int]] = []
    branches: dict[tuple[int, ...], _Branch] = {}
    for number, option in enumerate(continuations):
        if len(option):
            first.append(((request, number, 0), int(option[0])))
        if len(option) > 1:
            fed = tuple(int(token) for token in option[:-1])
            branch = branches.setdefault(fed, _Branch(request, fed))
            branch.slots += [(t - 1, (request, number, t), int(option[t])) for t in range(1, len(option))]
    return _Asked(request, first, list(branches.values()))


def _groups(traits: Traits, prefixes: Sequence[torch.Tensor], extra: Sequence[int]) -> list[Group]:
    """Prompts that begin alike; ``extra[i]`` positions will follow prompt i. Raises ``CacheUnusable`` where that is too wide."""
    groups: list[Group] = []
    for kind in (1, 2):
        indices = [i for i, prefix in enumerate(prefixes) if prefix.dim() == kind]
        if indices:
            found = groups_of(keys_of([prefixes[i] for i in indices]))
            groups += [Group(group.shared, tuple(indices[i] for i in group.members)) for group in found]
    for group in groups:
        # Left padding lies between the shared and the own positions, so a row can be as wide as this sum.
        widest = max(len(prefixes[i]) for i in group.members) + max(extra[i] for i in group.members)
        if not traits.branches_up_to(widest):
            raise CacheUnusable
    return groups


@dataclass(frozen=True)
class _Shared:
    """The positions with which a group's prompts begin, run once."""

    n: int
    cache: Cache | None


def _run_shared(lm: Any, traits: Traits, prefixes: Sequence[torch.Tensor], group: Group) -> _Shared:
    if not group.shared:
        return _Shared(0, None)
    device = device_of(lm)
    inputs, mask = padded(lm, [prefixes[group.members[0]][: group.shared]], device, left=True)
    positions, last = torch.arange(group.shared, device=device)[None], _last_of_each(inputs)
    _, cache = forward(lm, traits, inputs, mask=mask, positions=positions, cache=new_cache(lm), wanted=last)
    return _Shared(group.shared, checked(cache, group.shared))


def _prefilled(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    shared: _Shared,
    requests: Sequence[int],
    max_batch_tokens: int,
    extra: Sequence[int],
) -> Iterator[tuple[list[int], _Prefilled]]:
    """Run these prompts to their ends; yields request indices and their prompts' state."""
    new = [len(prefixes[i]) - shared.n for i in requests]
    for batch in batches(new, [shared.n + extra[i] for i in requests], max_batch_tokens):
        members = [requests[i] for i in batch]
        yield members, _prefill(lm, traits, shared, [prefixes[i][shared.n :] for i in members])


def _score_cached(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    read: _Read,
    max_batch_tokens: int,
) -> Iterator[tuple[list[_Slot], np.ndarray, int]]:
    longest = [max((len(option) for option in options), default=0) for options in continuations]
    asked = [_asked(request, options) for request, options in enumerate(continuations)]
    for group in _groups(traits, prefixes, longest):
        shared = _run_shared(lm, traits, prefixes, group)
        widths = {i: len(prefixes[i]) - group.shared + asked[i].n_fed for i in group.members}
        as_trees: list[int] = []
        others: list[int] = []
        for i in group.members:
            fits = _is_tree(lm, traits, prefixes[i], group.shared + widths[i], max_batch_tokens)
            (as_trees if fits else others).append(i)
        own = [widths[i] for i in as_trees]
        for batch in batches(own, [group.shared] * len(own), max_batch_tokens):
            members = [asked[as_trees[i]] for i in batch]
            yield *_score_trees(lm, traits, prefixes, shared, members, read), len(members)
        for requests, state in _prefilled(lm, traits, prefixes, shared, others, max_batch_tokens, longest):
            members = [asked[i] for i in requests]
            for slots, values in _score_after(lm, traits, state, members, read, max_batch_tokens):
                yield slots, values, 0
            yield [], _NO_ROW, len(requests)


def _is_tree(lm: Any, traits: Traits, prefix: torch.Tensor, width: int, max_batch_tokens: int) -> bool:
    """Whether a prompt goes into one row with all its branches; ``width``: of all that its positions look at."""
    return (
        width <= min(trees.WIDEST, max_batch_tokens)
        and traits.branches_up_to(width)
        and trees.are_read_by(lm, traits, prefix.dim())
    )


def _score_trees(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    shared: _Shared,
    members: Sequence[_Asked],
    read: _Read,
) -> tuple[list[_Slot], np.ndarray]:
    """Prompts with all their branches in one pass."""
    made = [trees.Tree(prefixes[one.request][shared.n :], [branch.fed for branch in one.branches]) for one in members]
    width, reading = max(tree.width for tree in made), _Reading()
    for row, (one, tree) in enumerate(zip(members, made, strict=True)):
        starts = tree.starts(width)
        for slot, target in one.first:
            reading.add((row, starts[0] - 1), slot, target)
        for start, branch in zip(starts, one.branches, strict=False):
            for index, slot, target in branch.slots:
                reading.add((row, start + index), slot, target)
    if not reading.slots:
        return [], _NO_ROW
    logits = trees.forward_trees(lm, traits, made, shared.n, shared.cache, list(reading.places))
    return reading.of(logits, read)


def _score_after(
    lm: Any, traits: Traits, state: _Prefilled, members: Sequence[_Asked], read: _Read, max_batch_tokens: int
) -> Iterator[tuple[list[_Slot], np.ndarray]]:
    """Prompts that were run: their first tokens, then their branches, each a row on a copy of its prompt's cache."""
    first = _Reading()
    for row, one in enumerate(members):
        for slot, target in one.first:
            first.add((row, 0), slot, target)
    if first.slots:
        yield first.of(state.logits[[row for row, _ in first.places]], read)
    waiting = [(row, branch) for row, one in enumerate(members) for branch in one.branches]
    width = state.mask.shape[1]
    for batch in batches([len(branch.fed) for _, branch in waiting], [width] * len(waiting), max_batch_tokens):
        yield _score_branches(lm, traits, state, [waiting[i] for i in batch], read)


def _score_branches(
    lm: Any, traits: Traits, state: _Prefilled, branches: Sequence[tuple[int, _Branch]], read: _Read
) -> tuple[list[_Slot], np.ndarray]:
    device = device_of(lm)
    rows = torch.tensor([row for row, _ in branches], device=device)
    inputs, own_mask = padded(lm, [torch.tensor(branch.fed) for _, branch in branches], device, left=False)
    positions = state.lengths[rows][:, None] + torch.arange(inputs.shape[1], device=device)[None]
    mask = torch.cat([state.mask[rows], own_mask], dim=1)
    reading = _Reading()
    for number, (_, branch) in enumerate(branches):
        for index, slot, target in branch.slots:
            reading.add((number, index), slot, target)
    cache, places = branched(state.cache, rows), list(reading.places)
    logits, _ = forward(lm, traits, inputs, mask=mask, positions=positions, cache=cache, wanted=places)
    return reading.of(logits, read)


# --- scoring without a cache -----------------------------------------------------------------------------------------


def _score_uncached(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    read: _Read,
    max_batch_tokens: int,
) -> Iterator[tuple[list[_Slot], np.ndarray]]:
    """Each prompt with each continuation as a sequence of its own, padded on the right: exact for any causal model."""
    device = device_of(lm)
    for kind in (1, 2):
        branches: dict[tuple[int, tuple[int, ...]], _Branch] = {}
        for request, options in enumerate(continuations):
            if prefixes[request].dim() != kind:
                continue
            for number, option in enumerate(options):
                if len(option):
                    fed = tuple(int(token) for token in option[:-1])
                    branch = branches.setdefault((request, fed), _Branch(request, fed))
                    branch.slots += [(t, (request, number, t), int(option[t])) for t in range(len(option))]
        waiting = list(branches.values())
        lengths = [len(prefixes[b.request]) + len(b.fed) for b in waiting]
        together = (
            [part[i] for i in batch]
            for part in of_equal_rope(lengths, traits.rope_limit)
            for batch in batches([lengths[i] for i in part], [0] * len(part), max_batch_tokens)
        )
        for batch in together:
            chosen = [waiting[i] for i in batch]
            sequences = [followed_by(lm, prefixes[b.request], b.fed) for b in chosen]
            inputs, mask = padded(lm, sequences, device, left=False)
            positions = torch.arange(inputs.shape[1], device=device)[None].expand(len(chosen), -1)
            reading = _Reading()
            for number, branch in enumerate(chosen):
                start = len(prefixes[branch.request]) - 1
                for index, slot, target in branch.slots:
                    reading.add((number, start + index), slot, target)
            places = list(reading.places)
            logits, _ = forward(lm, traits, inputs, mask=mask, positions=positions, cache=None, wanted=places)
            yield reading.of(logits, read)


# --- greedy generation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EndRule:
    eos_ids: frozenset[int]
    stop: Callable[[list[int]], bool]
    max_new_tokens: int

    def extend(self, ids: list[int], token: int) -> bool:
        """Append ``token`` unless it ends the text; true where the row goes on."""
        if token in self.eos_ids:
            return False
        ids.append(token)
        return not self.stop(ids) and len(ids) < self.max_new_tokens


def _greedy_cached(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    outputs: list[list[int]],
    rule: _EndRule,
    max_batch_tokens: int,
) -> Iterator[int]:
    extra = [rule.max_new_tokens] * len(prefixes)
    for group in _groups(traits, prefixes, extra):
        shared = _run_shared(lm, traits, prefixes, group)
        for requests, state in _prefilled(lm, traits, prefixes, shared, group.members, max_batch_tokens, extra):
            _continue_greedily(lm, traits, requests, state, outputs, rule)
            yield len(requests)


def _continue_greedily(
    lm: Any, traits: Traits, requests: Sequence[int], state: _Prefilled, outputs: list[list[int]], rule: _EndRule
) -> None:
    device = device_of(lm)
    alive = list(requests)
    while alive:
        tokens = state.logits.argmax(-1).tolist()
        going = [
            row
            for row, (request, token) in enumerate(zip(alive, tokens, strict=True))
            if rule.extend(outputs[request], token)
        ]
        if not going:
            return
        if len(going) < len(alive):
            alive = [alive[row] for row in going]
            state = state.select(torch.tensor(going, device=device))
        inputs = torch.tensor([[outputs[request][-1]] for request in alive], device=device)
        mask = torch.cat([state.mask, state.mask.new_ones(len(alive), 1)], dim=1)
        positions, last = state.lengths[:, None], _last_of_each(inputs)
        logits, cache = forward(lm, traits, inputs, mask=mask, positions=positions, cache=state.cache, wanted=last)
        state = _Prefilled(checked(cache, mask.shape[1]), mask, state.lengths + 1, logits)


def _greedy_uncached(
    lm: Any,
    traits: Traits,
    prefixes: Sequence[torch.Tensor],
    outputs: list[list[int]],
    rule: _EndRule,
    max_batch_tokens: int,
) -> Iterator[int]:
    device = device_of(lm)
    for kind in (1, 2):
        indices = [i for i, prefix in enumerate(prefixes) if prefix.dim() == kind]
        for batch in batches(
            [len(prefixes[i]) + rule.max_new_tokens for i in indices], [0] * len(indices), max_batch_tokens
        ):
            alive = [indices[i] for i in batch]
            while alive:
                sequences = [followed_by(lm, prefixes[i], outputs[i]) for i in alive]
                going: list[int] = []
                for part in of_equal_rope([len(sequence) for sequence in sequences], traits.rope_limit):
                    tokens = _next_tokens(lm, traits, [sequences[row] for row in part], device)
                    going += [
                        alive[row]
                        for row, token in zip(part, tokens, strict=True)
                        if rule.extend(outputs[alive[row]], token)
                    ]
                alive = going
            yield len(batch)


def _next_tokens(lm: Any, traits: Traits, sequences: Sequence[torch.Tensor], device: torch.device) -> list[int]:
    """The most probable token after each sequence."""
    inputs, mask = padded(lm, sequences, device, left=False)
    last = [(row, len(sequence) - 1) for row, sequence in enumerate(sequences)]
    positions = torch.arange(inputs.shape[1], device=device)[None].expand(len(sequences), -1)
    logits, _ = forward(lm, traits, inputs, mask=mask, positions=positions, cache=None, wanted=last)
    tokens: list[int] = logits.argmax(-1).tolist()
    return tokens
