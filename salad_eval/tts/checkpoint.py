"""What TTS plug-ins on torch have in common: noise that depends on what is said alone, and checkpoints that load when first needed.

A plan's text-to-speech is built in several places (the process that plans, and each worker that renders), and most of the time
for its fingerprint alone. So what identifies a checkpoint is read when the plug-in is built, and the weights when it first speaks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from salad_eval.checkpoints import Weights, architecture, check_folder, load_config, load_weights, model_identity
from salad_eval.errors import AudioError, ModelError
from salad_eval.resources import resolve_pretrained
from salad_eval.types import Audio

# Weights that a vocoder's loader makes anew from others, or that only training reads.
_NOT_SPOKEN = ("masked_spec_embed",)


@contextmanager
def own_noise(device: str, *named: object) -> Iterator[None]:
    """Within, torch draws numbers that depend on ``named`` alone (a seed, a text, a voice); outside, it goes on as before.

    The models draw from torch's global generator and take no other, so its state is put aside and brought back.
    """
    import torch

    digest = hashlib.sha256("\0".join(str(one) for one in named).encode()).digest()
    index = torch.device(device).index
    devices = [torch.cuda.current_device() if index is None else index] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield


def config_of(pretrained: str, config_class: Any, role: str, *, weights: Weights, revision: str | None) -> Any:
    """The configuration of a checkpoint, if it is of ``config_class``; ``ModelError`` saying what it is if not."""
    source = resolve_pretrained(pretrained)
    check_folder(source, weights=weights)
    config = load_config(source, revision=revision)
    if not isinstance(config, config_class):
        raise ModelError(f"{source} is a {architecture(config)}, not {role}.")
    return config


def identity(pretrained: str, config: Any) -> str:
    """``sha256:…`` of a folder's files, or ``hub:id@commit``; the weights are not loaded for it."""
    return model_identity(pretrained, _Configured(config))


class _Configured:
    """What ``model_identity`` looks at of a model."""

    def __init__(self, config: Any) -> None:
        self.config = config


def load_model(
    pretrained: str, model_class: Any, config: Any, *, dtype: str, device: str, weights: Weights, revision: str | None
) -> Any:
    """A model with all its weights, on its device, in evaluation mode. Raises ``ModelError`` where some are missing."""
    source = resolve_pretrained(pretrained)
    model = load_weights(
        source, model_class, config=config, dtype=dtype, weights=weights, optional=_NOT_SPOKEN, revision=revision
    )
    return model.to(device).eval()


def to_audio(waveform: Any, sample_rate_hz: int, text: str) -> Audio:
    """A model's waveform, a tensor of n samples in any shape, as mono float32 in [-1, 1].

    Raises ``AudioError`` where it holds no samples, or one that is not a finite number.
    """
    samples = np.ascontiguousarray(waveform.detach().float().cpu().numpy().reshape(-1), np.float32)
    if len(samples) == 0:
        raise AudioError(f"the model made no sound for {text!r:.80}")
    if not np.isfinite(samples).all():
        raise AudioError(f"the model made samples that are not finite numbers for {text!r:.80}")
    return Audio(samples.clip(-1.0, 1.0), sample_rate_hz)


def refuse_unspoken(text: str, unspoken: str, source: str) -> None:
    """Raises ``AudioError`` where letters or digits of a text are not among what a model was trained to say: it would drop them.

    Marks that are no letters (a comma, a quotation mark) make no sound of their own and may go.
    """
    lost = sorted({character for character in unspoken if character.isalnum()})
    if lost:
        shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in lost[:5])
        raise AudioError(f"{source} has no sound for {shown} in {text!r:.80}")
