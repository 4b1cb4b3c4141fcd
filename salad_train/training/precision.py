"""In what numbers models are read while training: bfloat16 where it is asked for and the device multiplies it, else float32.

A processor without bfloat16 products of its own (AVX-512 BF16, AMX) makes each of them by way of float32: an eighth of float32's speed,
measured on a processor of AVX2, and rounded more coarsely. Nothing speaks for it there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are this device's own. PyTorch has no public names for it on a CPU; where its own are missing,
    assume not: float32 is right everywhere."""
    if device.type != "cpu":
        return True
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in questions if ask is not None)


def in_bfloat16(device: torch.device, *, asked: bool) -> bool:
    """Whether a model on ``device`` is read in bfloat16, where a plan ``asked`` for it or did not."""
    return asked and multiplies_bfloat16(device)


def autocast(device: torch.device, *, bf16: bool) -> AbstractContextManager[object]:
    """The context in which models are read; ``bf16``: whether the plan asks for it."""
    if not in_bfloat16(device, asked=bf16):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
