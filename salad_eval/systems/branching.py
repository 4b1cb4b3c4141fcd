"""Scoring many continuations of one prompt with the prompt computed once.

A multiple-choice item asks a causal LM for the log-probabilities of a few short options after one long context, and
k-shot items of a task share their shots as well. Scored as independent sequences, nearly all of the work is repeated.
Here

1. prompts that begin alike are grouped, and what a group shares is run once (its keys and values are kept);
2. the rest of each prompt is run once, on a view of that cache;
3. the options branch from it: the cache is repeated over the options of several prompts, and one short batch scores
   them. An option's first token is read from the prompt's last position, so one-token options need no second run.

The numbers are those of scoring every sequence by itself (padding is masked and positions are given explicitly). Models
whose cache cannot be branched (recurrent states, windows shorter than the prompt, no ``position_ids``) are scored
without one, to the same numbers.

A prompt is either a 1-D integer tensor of token ids or a 2-D float tensor of input embeddings (T, d), which is how a
speech LLM hands over text and audio in one sequence.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import cache_utils
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from salad_eval.errors import ModelError
from salad_eval.systems.shared_prefixes import Group, groups_of, keys_of

DEFAULT_BATCH_TOKENS = 4096
_CACHED_PER_NEW = 8  # a cached position costs memory but no computation
_READ_BLOCK_VALUES = 1 << 24  # logits turned to float32 at a time (64 MiB)
# Of a layer that reads another layer's keys and values, in the versions of transformers that count such layers.
_EMPTY_LAYER = getattr(cache_utils, "DummyLayer", None)
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")

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
    traits = _traits(lm)
    with torch.inference_mode():
        try:
            for finished in _greedy_cached(lm, traits, prefixes, outputs, rule, max_batch_tokens):
                if progress:
                    progress(finished)
            return outputs
        except _CacheUnusable:  # found out before any row has an end
            outputs = [[] for _ in prefixes]
        for finished in _greedy_uncached(lm, traits, prefixes, outputs, rule, max_batch_tokens):
            if progress:
                progress(finished)
    return outputs


def can_branch(lm: Any) -> bool:
    """Whether ``lm``'s cache can be branched at all; where it cannot, scores are the same and slower."""
    return _traits(lm).branchable


# --- what a model can do ---------------------------------------------------------------------------------------------


class _CacheUnusable(Exception):
    """The model did not hand back the cache it was given; it is then scored without one."""


@dataclass(frozen=True)
class _Traits:
    """What a model's forward pass takes, up to which width (padding included) a branched cache is exact, and beyond
    which width rotary frequencies depend on the width.
    """

    position_ids: bool
    logits_to_keep: bool
    branchable: bool
    window: int | None
    rope_limit: int | None

    def branches_up_to(self, width: int) -> bool:
        return self.branchable and (self.window is None or width < self.window)


def _traits(lm: Any) -> _Traits:
    parameters = inspect.signature(lm.forward).parameters
    takes_any = (
        any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()) and "input_ids" not in parameters
    )
    position_ids = takes_any or "position_ids" in parameters
    windows: list[int] = []
    limits: list[int] = []
    branchable = position_ids and (takes_any or "past_key_values" in parameters)
    config = getattr(lm, "config", None)
    if config is not None:
        try:
            layers = DynamicCache(config=config).layers
        except Exception:  # a config this version of transformers knows nothing of: no claim about its cache
            layers, branchable = [], False
        for layer in layers:
            if type(layer) is DynamicSlidingWindowLayer:
                windows.append(int(layer.sliding_window))
            elif type(layer) is not DynamicLayer and type(layer) is not _EMPTY_LAYER:
                branchable = False
        limits = _rope_limits(config.get_text_config(decoder=True))
    return _Traits(
        position_ids,
        takes_any or "logits_to_keep" in parameters,
        branchable,
        min(windows + limits, default=None),
        min(limits, default=None),
    )


def _rope_limits(config: Any) -> list[int]:
    """Lengths at which rotary frequencies change with the sequence's length, so that keys of a prefix would no longer
    hold.
    """
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    variants = [parameters, *(v for v in parameters.values() if isinstance(v, dict))]
    limits = []
    for variant in variants:
        if variant.get("rope_type", variant.get("type")) in _LENGTH_DEPENDENT_ROPE:
            original = variant.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            limits.append(int(original or config.max_position_embeddings))
    return limits


def _device(lm: Any) -> torch.device:
    return next(iter(lm.get_input_embeddings().parameters())).device


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
    traits = _traits(lm)
    with torch.inference_mode():
        try:
            for slots, values, finished in _score_cached(lm, traits, prefixes, continuations, read, max_batch_tokens):
                yield slots, values
                if progress and finished:
                    progress(finished)
            return
        except _CacheUnusable:  # found out before any request is finished
            pass
        yield from _score_uncached(lm, traits, prefixes, continuations, read, max_batch_tokens)
        if progress:
            progress(len(prefixes))


# --- batches -------------------------------------------------------------------------------------------------------------


def _batches(new: Sequence[int], cached: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches, widest first (so that what does not fit fails at once).

    A batch computes at most ``budget`` padded new positions, and holds at most ``_CACHED_PER_NEW`` times as many with
    those cached.
    """
    batch: list[int] = []
    width = total = 0
    for index in sorted(range(len(new)), key=lambda i: -new[i]):
        width, total = max(width, new[index]), max(total, new[index] + cached[index])
        rows = len(batch) + 1
        if batch and (rows * width > budget or rows * total > budget * _CACHED_PER_NEW):
            yield batch
            batch, width, total = [], new[index], new[index] + cached[index]
        batch.append(index)
    if batch:
        yield batch


def _of_equal_rope(lengths: Sequence[int], limit: int | None) -> list[list[int]]:
    """Indices in parts that may share a forward pass: rotary frequencies that depend on the longest row of a pass would
    be wrong for its shorter rows. Rows within ``limit`` go together, longer ones with those of their length.
    """
    parts: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        parts.setdefault(0 if limit is None or length <= limit else length, []).append(index)
    return list(parts.values())


# --- forward passes --------------------------------------------------------------------------------------------------


def _forward(
    lm: Any,
    traits: _Traits,
    inputs: torch.Tensor,
    *,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache | None,
    keep: int | torch.Tensor = 0,
) -> tuple[torch.Tensor, Any]:
    """One pass: inputs (B, W) ids or (B, W, d) embeddings, mask (B, cached + W), positions (B, W) -> logits (B, kept,
    V), cache.

    ``keep`` is the number of last positions (0: all) or a tensor of positions whose logits are wanted.
    """
    kwargs: dict[str, Any] = {"attention_mask": mask, "use_cache": cache is not None}
    kwargs["input_ids" if inputs.dim() == 2 else "inputs_embeds"] = inputs
    if cache is not None:
        kwargs["past_key_values"] = cache
    if traits.position_ids:
        kwargs["position_ids"] = positions
    if traits.logits_to_keep:
        kwargs["logits_to_keep"] = keep
    output = lm(**kwargs)
    logits = output.logits
    if not traits.logits_to_keep:
        logits = logits[:, keep] if isinstance(keep, torch.Tensor) else logits[:, -keep:]
    return logits, getattr(output, "past_key_values", None)


def _padded(
    lm: Any, sequences: Sequence[torch.Tensor], device: torch.device, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack sequences (ids or embeddings) into one tensor with its mask (B, W); padding is id 0 or a zero vector."""
    width = max(len(sequence) for sequence in sequences)
    like = sequences[0]
    if like.dim() == 1:
        inputs = torch.zeros(len(sequences), width, dtype=torch.long)
    else:
        dtype = next(iter(lm.get_input_embeddings().parameters())).dtype
        dtype = dtype if dtype.is_floating_point else like.dtype
        inputs = torch.zeros(len(sequences), width, like.shape[-1], dtype=dtype, device=like.device)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        inputs[row, place] = sequence.to(inputs.device, inputs.dtype)
        mask[row, place] = 1
    return inputs.to(device), mask.to(device)


def _branched(cache: Cache, rows: torch.Tensor) -> Cache:
    """A cache whose batch is ``rows`` of ``cache``. The original stays as it is: layers grow by concatenation, never in
    place.
    """
    branch = copy.copy(cache)
    branch.layers = []
    for original in cache.layers:
        layer: Any = copy.copy(original)
        if getattr(layer, "keys", None) is not None and layer.keys.numel():
            if layer.keys.shape[0] == 1:
                layer.keys = layer.keys.expand(len(rows), *layer.keys.shape[1:])
                layer.values = layer.values.expand(len(rows), *layer.values.shape[1:])
            else:
                layer.keys = layer.keys.index_select(0, rows.to(layer.keys.device))
                layer.values = layer.values.index_select(0, rows.to(layer.values.device))
        branch.layers.append(layer)
    return branch


def _new_cache(lm: Any) -> DynamicCache:
    config = getattr(lm, "config", None)
    return DynamicCache(config=config) if config is not None else DynamicCache()


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
        return _Prefilled(_branched(self.cache, rows), self.mask[rows], self.lengths[rows], self.logits[rows])


def _run_shared(lm: Any, traits: _Traits, shared: torch.Tensor, device: torch.device) -> Cache:
    inputs, mask = _padded(lm, [shared], device, left=True)
    positions = torch.arange(len(shared), device=device)[None]
    _, cache = _forward(lm, traits, inputs, mask=mask, positions=positions, cache=_new_cache(lm), keep=1)
    return _checked(cache, len(shared))


def _prefill(
    lm: Any,
    traits: _Traits,
    shared_cache: Cache | None,
    shared: int,
    suffixes: Sequence[torch.Tensor],
    device: torch.device,
) -> _Prefilled:
    """Run the rest of each prompt after the shared positions, padded on the left so that all end at the same index."""
    inputs, own_mask = _padded(lm, suffixes, device, left=True)
    rows = torch.zeros(len(suffixes), dtype=torch.long, device=device)
    cache = _new_cache(lm) if shared_cache is None else _branched(shared_cache, rows)
    mask = torch.cat([own_mask.new_ones(len(suffixes), shared), own_mask], dim=1)
    positions = (own_mask.cumsum(1) - 1).clamp(min=0) + shared
    logits, cache = _forward(lm, traits, inputs, mask=mask, positions=positions, cache=cache, keep=1)
    return _Prefilled(_checked(cache, mask.shape[1]), mask, mask.sum(1), logits[:, -1])


def _checked(cache: Any, length: int) -> Cache:
    if not isinstance(cache, Cache) or cache.get_seq_length() != length:
        raise _CacheUnusable
    return cache


# --- scoring with a branched cache -----------------------------------------------------------------------------------


@dataclass
class _Branch:
    """Tokens fed after a prompt, and the slots their logits fill; continuations that differ in the last token only
    share one.
    """

    row: int
    fed: tuple[int, ...]
    slots: list[tuple[int, _Slot, int]] = field(default_factory=list)  # index into ``fed``, slot, target id


def _prompt_batches(
    lm: Any, traits: _Traits, prefixes: Sequence[torch.Tensor], max_batch_tokens: int, extra: Sequence[int]
) -> Iterator[tuple[list[int], _Prefilled]]:
    """Run all prompts, group by group; yields request indices and their prompts' state. ``extra[i]`` positions will
    follow prompt i.
    """
    device = _device(lm)
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
            raise _CacheUnusable
    for group in groups:
        first = prefixes[group.members[0]]
        shared_cache = _run_shared(lm, traits, first[: group.shared], device) if group.shared else None
        new = [len(prefixes[i]) - group.shared for i in group.members]
        cached = [group.shared + extra[i] for i in group.members]
        for batch in _batches(new, cached, max_batch_tokens):
            requests = [group.members[i] for i in batch]
            suffixes = [prefixes[i][group.shared :] for i in requests]
            yield requests, _prefill(lm, traits, shared_cache, group.shared, suffixes, device)


def _score_cached(
    lm: Any,
    traits: _Traits,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    read: _Read,
    max_batch_tokens: int,
) -> Iterator[tuple[list[_Slot], np.ndarray, int]]:
    device = _device(lm)
    longest = [max((len(option) for option in options), default=0) for options in continuations]
    for requests, state in _prompt_batches(lm, traits, prefixes, max_batch_tokens, longest):
        slots: list[_Slot] = []
        rows: list[int] = []
        targets: list[int] = []
        branches: dict[tuple[int, tuple[int, ...]], _Branch] = {}
        for row, request in enumerate(requests):
            for number, option in enumerate(continuations[request]):
                if len(option):
                    slots.append((request, number, 0))
                    rows.append(row)
                    targets.append(int(option[0]))
                if len(option) > 1:
                    fed = tuple(int(token) for token in option[:-1])
                    branch = branches.setdefault((row, fed), _Branch(row, fed))
                    branch.slots += [(t - 1, (request, number, t), int(option[t])) for t in range(1, len(option))]
        if slots:
            yield slots, read(state.logits, torch.tensor(rows, device=device), torch.tensor(targets, device=device)), 0
        waiting = list(branches.values())
        width = state.mask.shape[1]
        for batch in _batches([len(branch.fed) for branch in waiting], [width] * len(waiting), max_batch_tokens):
            yield *_score_branches(lm, traits, state, [waiting[i] for i in batch], read, device), 0
        yield [], _NO_ROW, len(requests)


def _score_branches(
    lm: Any, traits: _Traits, state: _Prefilled, branches: Sequence[_Branch], read: _Read, device: torch.device
) -> tuple[list[_Slot], np.ndarray]:
    rows = torch.tensor([branch.row for branch in branches], device=device)
    inputs, own_mask = _padded(lm, [torch.tensor(branch.fed) for branch in branches], device, left=False)
    width = inputs.shape[1]
    positions = state.lengths[rows][:, None] + torch.arange(width, device=device)[None]
    mask = torch.cat([state.mask[rows], own_mask], dim=1)
    logits, _ = _forward(lm, traits, inputs, mask=mask, positions=positions, cache=_branched(state.cache, rows))
    slots, flat, targets = [], [], []
    for number, branch in enumerate(branches):
        for index, slot, target in branch.slots:
            slots.append(slot)
            flat.append(number * width + index)
            targets.append(target)
    return slots, read(logits.flatten(0, 1), torch.tensor(flat, device=device), torch.tensor(targets, device=device))


# --- scoring without a cache -----------------------------------------------------------------------------------------


def _with_tokens(lm: Any, prefix: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """``prefix`` followed by ``tokens``, as ids or as embeddings, whichever the prefix is."""
    ids = torch.tensor(list(tokens), dtype=torch.long)
    if prefix.dim() == 1:
        return torch.cat([prefix.cpu().long(), ids])
    embedded = lm.get_input_embeddings()(ids.to(_device(lm)))
    return torch.cat([prefix.to(embedded.device, embedded.dtype), embedded])


def _score_uncached(
    lm: Any,
    traits: _Traits,
    prefixes: Sequence[torch.Tensor],
    continuations: Sequence[Sequence[Sequence[int]]],
    read: _Read,
    max_batch_tokens: int,
) -> Iterator[tuple[list[_Slot], np.ndarray]]:
    """Each prompt with each continuation as a sequence of its own, padded on the right: exact for any causal model."""
    device = _device(lm)
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
        lengths = [len(prefixes[b.row]) + len(b.fed) for b in waiting]
        batches = (
            [part[i] for i in batch]
            for part in _of_equal_rope(lengths, traits.rope_limit)
            for batch in _batches([lengths[i] for i in part], [0] * len(part), max_batch_tokens)
        )
        for batch in batches:
            chosen = [waiting[i] for i in batch]
            inputs, mask = _padded(lm, [_with_tokens(lm, prefixes[b.row], b.fed) for b in chosen], device, left=False)
            width = inputs.shape[1]
            first = min(len(prefixes[b.row]) for b in chosen) - 1
            keep = torch.arange(first, width, device=device)
            positions = torch.arange(width, device=device)[None].expand(len(chosen), -1)
            logits, _ = _forward(lm, traits, inputs, mask=mask, positions=positions, cache=None, keep=keep)
            slots, flat, targets = [], [], []
            for number, branch in enumerate(chosen):
                start = number * len(keep) + len(prefixes[branch.row]) - 1 - first
                for index, slot, target in branch.slots:
                    slots.append(slot)
                    flat.append(start + index)
                    targets.append(target)
            flat_rows, wanted = torch.tensor(flat, device=device), torch.tensor(targets, device=device)
            yield slots, read(logits.flatten(0, 1), flat_rows, wanted)


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
    traits: _Traits,
    prefixes: Sequence[torch.Tensor],
    outputs: list[list[int]],
    rule: _EndRule,
    max_batch_tokens: int,
) -> Iterator[int]:
    device = _device(lm)
    for requests, state in _prompt_batches(
        lm, traits, prefixes, max_batch_tokens, [rule.max_new_tokens] * len(prefixes)
    ):
        alive = list(requests)
        while alive:
            tokens = state.logits.argmax(-1).tolist()
            going = [
                row
                for row, (request, token) in enumerate(zip(alive, tokens, strict=True))
                if rule.extend(outputs[request], token)
            ]
            if not going:
                break
            if len(going) < len(alive):
                alive = [alive[row] for row in going]
                state = state.select(torch.tensor(going, device=device))
            inputs = torch.tensor([[outputs[request][-1]] for request in alive], device=device)
            mask = torch.cat([state.mask, state.mask.new_ones(len(alive), 1)], dim=1)
            logits, cache = _forward(
                lm, traits, inputs, mask=mask, positions=state.lengths[:, None], cache=state.cache, keep=1
            )
            state = _Prefilled(_checked(cache, mask.shape[1]), mask, state.lengths + 1, logits[:, -1])
        yield len(requests)


def _greedy_uncached(
    lm: Any,
    traits: _Traits,
    prefixes: Sequence[torch.Tensor],
    outputs: list[list[int]],
    rule: _EndRule,
    max_batch_tokens: int,
) -> Iterator[int]:
    device = _device(lm)
    for kind in (1, 2):
        indices = [i for i, prefix in enumerate(prefixes) if prefix.dim() == kind]
        for batch in _batches(
            [len(prefixes[i]) + rule.max_new_tokens for i in indices], [0] * len(indices), max_batch_tokens
        ):
            alive = [indices[i] for i in batch]
            while alive:
                sequences = [_with_tokens(lm, prefixes[i], outputs[i]) for i in alive]
                going: list[int] = []
                for part in _of_equal_rope([len(sequence) for sequence in sequences], traits.rope_limit):
                    tokens = _next_tokens(lm, traits, [sequences[row] for row in part], device)
                    going += [
                        alive[row]
                        for row, token in zip(part, tokens, strict=True)
                        if rule.extend(outputs[alive[row]], token)
                    ]
                alive = going
            yield len(batch)


def _next_tokens(lm: Any, traits: _Traits, sequences: Sequence[torch.Tensor], device: torch.device) -> list[int]:
    """The most probable token after each sequence."""
    inputs, mask = _padded(lm, sequences, device, left=False)
    keep, place = (mask.sum(1) - 1).unique(return_inverse=True)
    positions = torch.arange(inputs.shape[1], device=device)[None].expand(len(sequences), -1)
    logits, _ = _forward(lm, traits, inputs, mask=mask, positions=positions, cache=None, keep=keep)
    tokens: list[int] = logits[torch.arange(len(sequences), device=device), place].argmax(-1).tolist()
    return tokens
