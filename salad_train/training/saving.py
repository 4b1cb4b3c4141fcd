"""How weights are stored: in another type than they are computed in, tied ones once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel

STORED, COMPUTED = torch.float16, "float32"


class Saves(Protocol):
    """A tokenizer or a processor, as far as saving goes."""

    def save_pretrained(self, save_directory: str) -> object: ...


def save_float16(model: PreTrainedModel, processor: Saves | None, out: Path) -> None:
    """Save ``model`` (safetensors, float16: half the size) and its tokenizer or processor to the folder ``out``.

    The configuration says float32, which is what ``from_pretrained`` then loads and computes in by default. Integer
    tensors keep their type, tied weights stay tied, and ``model`` itself is left as it is.
    """
    model.save_pretrained(out, state_dict=as_stored(model.state_dict(), STORED))
    _set_dtype(out / "config.json")
    if processor is not None:
        processor.save_pretrained(str(out))


def as_stored(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Floating tensors as ``dtype``; tensors that share memory still do, so that a tied one is written once."""
    cast: dict[tuple[int, torch.Size, tuple[int, ...]], torch.Tensor] = {}
    stored = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            memory = (tensor.data_ptr(), tensor.shape, tensor.stride())
            tensor = cast.setdefault(memory, tensor.detach().to(dtype))
        stored[name] = tensor
    return stored


def _set_dtype(path: Path) -> None:
    """Correct every ``dtype`` of a saved configuration: saving notes the type that the model had in memory."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = COMPUTED
    pending: list[object] = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "dtype" in node:
                node["dtype"] = COMPUTED
            pending.extend(node.values())
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
