"""Saving the embedded models: weights in float16, computed in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel


class Saves(Protocol):
    """A tokenizer or a processor, as far as saving goes."""

    def save_pretrained(self, save_directory: str) -> object: ...


def save_float16(model: PreTrainedModel, processor: Saves | None, out: Path) -> None:
    """Save ``model`` (safetensors, float16: half the size) and its tokenizer or processor to the folder ``out``.

    The configuration says float32, which is what ``from_pretrained`` then loads and computes in by default. Integer
    tensors keep their type, and ``model`` itself is left as it is.
    """
    half = {
        name: tensor.detach().to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(out, state_dict=half)
    _set_dtype(out / "config.json", "float32")
    if processor is not None:
        processor.save_pretrained(str(out))


def _set_dtype(path: Path, dtype: str) -> None:
    """Rewrite every ``dtype`` of a saved configuration: saving notes the type the weights had in memory."""

    def set_in(node: object) -> None:
        if isinstance(node, dict):
            if "dtype" in node:
                node["dtype"] = dtype
            for value in node.values():
                set_in(value)

    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = dtype
    set_in(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
