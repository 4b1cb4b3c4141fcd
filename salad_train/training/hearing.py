"""Sound to encoder output and to LM embeddings, in batches of like length. Equal sound gives equal numbers, whatever
it is batched with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from salad_eval.audio.sound import resample
from salad_eval.types import Audio
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.model.processing_salad import SaladProcessor
from salad_train.training.batches import BatchLimits, pack
from salad_train.training.frames import pad_frames

BATCH_SECONDS = 40.0  # padded sound in one pass of the encoder: more does not fit a processor's cache


def batches_by_length(audios: Sequence[Audio], batch_seconds: float = BATCH_SECONDS) -> Iterator[list[int]]:
    """Indices of recordings, shortest first, in batches of at most ``batch_seconds`` of padded sound (at least one
    recording)."""
    current: list[int] = []
    for index in sorted(range(len(audios)), key=lambda i: (audios[i].seconds, i)):
        if current and audios[index].seconds * (len(current) + 1) > batch_seconds:
            yield current
            current = []
        current.append(index)
    if current:
        yield current


def encoder_frames(
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    audios: Sequence[Audio],
    batch_seconds: float = BATCH_SECONDS,
) -> list[np.ndarray]:
    """Frozen encoder output of each recording, (n_frames, width) float32, resampled first where the extractor asks
    for it."""
    out: list[np.ndarray] = [np.zeros((0, 0), dtype=np.float32)] * len(audios)
    for batch in batches_by_length(audios, batch_seconds):
        features = processor.extract([resample(audios[i], processor.sampling_rate).samples for i in batch])
        hidden, lengths = model.encode_audio(**features)
        rows = hidden.float().cpu().numpy()
        for index, row, n in zip(batch, rows, lengths.tolist(), strict=True):
            out[index] = row[:n].copy()
    return out


@torch.no_grad()
def audio_embeddings(
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    audios: Sequence[Audio],
    batch_seconds: float = BATCH_SECONDS,
) -> list[torch.Tensor]:
    """What the LM reads for each recording, (positions, LM width), on the model's device."""
    out: list[torch.Tensor] = [torch.empty(0)] * len(audios)
    for batch in batches_by_length(audios, batch_seconds):
        features = processor.extract([resample(audios[i], processor.sampling_rate).samples for i in batch])
        embeds, lengths = model.get_audio_features(**features)
        for index, rows, n in zip(batch, embeds, lengths.tolist(), strict=True):
            out[index] = rows[:n].clone()
    return out


@torch.no_grad()
def stored_embeddings(
    model: SaladForConditionalGeneration,
    frames: Sequence[np.ndarray],
    batch_frames: int = 4_096,
) -> list[torch.Tensor]:
    """As ``audio_embeddings``, from recordings' encoder output, each (n_frames, width)."""
    out: list[torch.Tensor] = [torch.empty(0)] * len(frames)
    lengths = [len(rows) for rows in frames]
    order = sorted(range(len(frames)), key=lambda i: (lengths[i], i))
    device = model.get_input_embeddings().weight.device
    for batch in pack(order, lengths, BatchLimits(batch_frames, len(frames))):
        padded, n_frames = pad_frames([frames[i] for i in batch])
        embeds, n_positions = model.get_audio_features(
            encoder_hidden_states=padded.to(device), encoder_lengths=n_frames.to(device)
        )
        for index, rows, n in zip(batch, embeds, n_positions.tolist(), strict=True):
            out[index] = rows[:n].clone()
    return out
