"""A forward pass of a causal LM, and what of a model one has to know before it: which inputs it takes, how its cache may be used.

A pass is asked for the positions whose logits are wanted, and the model's head is run on these alone: on a vocabulary of 49,152 the head
is a fifth of a small model's work, and of a prompt one position is read.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import cache_utils
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_CACHED_PER_NEW = 8  # a cached position costs memory but no computation
_PADDING_SHARE = 16  # of the budget one such part may be padding: about what a pass costs, however little it holds
# Of a layer that reads another layer's keys and values, in the versions of transformers that count such layers.
_EMPTY_LAYER = getattr(cache_utils, "DummyLayer", None)
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


# --- what a model can do ---------------------------------------------------------------------------------------------


Place = tuple[int, int]  # a row and a column of a pass's inputs


class CacheUnusable(Exception):
    """The model did not hand back the cache it was given; it is then scored without one."""


@dataclass(frozen=True)
class Traits:
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


def traits_of(lm: Any) -> Traits:
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
    return Traits(
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


def device_of(lm: Any) -> torch.device:
    return next(iter(lm.get_input_embeddings().parameters())).device


def dtype_of(lm: Any, otherwise: torch.dtype) -> torch.dtype:
    """What the model computes in; ``otherwise``: where its embeddings are quantised, and do not say."""
    dtype: torch.dtype = next(iter(lm.get_input_embeddings().parameters())).dtype
    return dtype if dtype.is_floating_point else otherwise


# --- batches -------------------------------------------------------------------------------------------------------------


def batches(new: Sequence[int], cached: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches, widest first (so that what does not fit fails at once).

    A batch computes at most ``budget`` padded new positions, few of them padding, and holds at most ``_CACHED_PER_NEW``
    times as many with those cached.
    """
    batch: list[int] = []
    width = total = padding = 0
    for index in sorted(range(len(new)), key=lambda i: -new[i]):
        width, total = max(width, new[index]), max(total, new[index] + cached[index])
        rows, padding = len(batch) + 1, padding + width - new[index]
        too_large = rows * width > budget or rows * total > budget * _CACHED_PER_NEW
        if batch and (too_large or padding > budget // _PADDING_SHARE):
            yield batch
            batch, width, total, padding = [], new[index], new[index] + cached[index], 0
        batch.append(index)
    if batch:
        yield batch


def of_equal_rope(lengths: Sequence[int], limit: int | None) -> list[list[int]]:
    """Indices in parts that may share a forward pass: rotary frequencies that depend on the longest row of a pass would
    be wrong for its shorter rows. Rows within ``limit`` go together, longer ones with those of their length.
    """
    parts: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        parts.setdefault(0 if limit is None or length <= limit else length, []).append(index)
    return list(parts.values())


# --- forward passes --------------------------------------------------------------------------------------------------


def forward(
    lm: Any,
    traits: Traits,
    inputs: torch.Tensor,
    *,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache | None,
    wanted: Sequence[Place],
) -> tuple[torch.Tensor, Any]:
    """One pass: inputs (B, W) ids or (B, W, d) embeddings, positions (B, W), mask (B, cached + W) of what is no padding or, for models
    that take it (see ``trees``), (B, 1, W, cached + W) to be added to the attention's scores -> logits (places, V), cache.

    ``wanted``: at least one row and column of the inputs.
    """
    kwargs: dict[str, Any] = {"attention_mask": mask, "use_cache": cache is not None}
    kwargs["input_ids" if inputs.dim() == 2 else "inputs_embeds"] = inputs
    if cache is not None:
        kwargs["past_key_values"] = cache
    if traits.position_ids:
        kwargs["position_ids"] = positions
    width = inputs.shape[1]
    if traits.logits_to_keep:
        kwargs["logits_to_keep"] = width - min(column for _, column in wanted)
    rows, columns = torch.tensor(wanted, device=inputs.device).unbind(1)
    with _head_on(lm, rows, columns, width) as selected:
        output = lm(**kwargs)
    logits = output.logits
    logits = logits[0] if selected else logits[rows, columns - (width - logits.shape[1])]
    return logits, getattr(output, "past_key_values", None)


@contextlib.contextmanager
def _head_on(lm: Any, rows: torch.Tensor, columns: torch.Tensor, width: int) -> Iterator[list[bool]]:
    """While this lasts, the module that makes logits of hidden states is given those of the places alone, as one row; the list is not
    empty once it was. Models with another kind of head are left as they are.

    What a model does to hidden states it does before its head; behind it, it scales and caps each logit by itself.
    """
    selected: list[bool] = []

    def select(_: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = given[0] if given else None
        if selected or not isinstance(hidden, torch.Tensor) or hidden.dim() != 3:
            return None
        selected.append(True)
        device = hidden.device
        return hidden[rows.to(device), (columns - (width - hidden.shape[1])).to(device)][None], *given[1:]

    head = _head_of(lm)
    handle = None if head is None else head.register_forward_pre_hook(select)
    try:
        yield selected
    finally:
        if handle is not None:
            handle.remove()


def _head_of(lm: Any) -> torch.nn.Module | None:
    try:
        head = lm.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return head if isinstance(head, torch.nn.Module) else None


def padded(
    lm: Any, sequences: Sequence[torch.Tensor], device: torch.device, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack sequences (ids or embeddings) into one tensor with its mask (B, W); padding is id 0 or a zero vector."""
    width = max(len(sequence) for sequence in sequences)
    like = sequences[0]
    if like.dim() == 1:
        inputs = torch.zeros(len(sequences), width, dtype=torch.long)
    else:
        shape = (len(sequences), width, like.shape[-1])
        inputs = torch.zeros(shape, dtype=dtype_of(lm, like.dtype), device=like.device)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        inputs[row, place] = sequence.to(inputs.device, inputs.dtype)
        mask[row, place] = 1
    return inputs.to(device), mask.to(device)


def followed_by(lm: Any, prompt: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """A prompt and tokens after it, as ids or as embeddings, whichever the prompt is."""
    ids = torch.tensor(tokens, dtype=torch.long, device=device_of(lm))
    if prompt.dim() == 1:
        return torch.cat([prompt.to(ids), ids])
    embedded = lm.get_input_embeddings()(ids)
    return torch.cat([prompt.to(embedded), embedded])


def branched(cache: Cache, rows: torch.Tensor) -> Cache:
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


def new_cache(lm: Any) -> DynamicCache:
    config = getattr(lm, "config", None)
    return DynamicCache(config=config) if config is not None else DynamicCache()


def checked(cache: Any, length: int) -> Cache:
    if not isinstance(cache, Cache) or cache.get_seq_length() != length:
        raise CacheUnusable
    return cache
