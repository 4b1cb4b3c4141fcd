"""Sound to encoder output and to LM embeddings, in batches of like length. Equal sound gives equal numbers, whatever
it is batched with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from salad_eval.audio.sound import resample
from salad_eval.batches import of_like_length
from salad_eval.types import Audio
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.model.processing_salad import SaladProcessor
from salad_train.training.frames import pad_frames

BATCH_SECONDS = 40.0  # padded sound in one pass of the encoder: more does not fit a processor's cache


def encoder_frames(
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    audios: Sequence[Audio],
    batch_seconds: float = BATCH_SECONDS,
) -> list[np.ndarray]:
    """Frozen encoder output of each recording, (n_frames, width) float32, resampled first where the extractor asks
    for it."""
    out: list[np.ndarray] = [np.zeros((0, 0), dtype=np.float32)] * len(audios)
    for batch in of_like_length([audio.seconds for audio in audios], batch_seconds):
        features = processor.extract([resample(audios[i], processor.sampling_rate).samples for i in batch])
        hidden, lengths = model.encode_audio(**features)
        rows = hidden.float().cpu().numpy()
        for index, row, n in zip(batch, rows, lengths.tolist(), strict=True):
            out[index] = row[:n].copy()
    return out


@torch.no_grad()
def stored_embeddings(
    model: SaladForConditionalGeneration,
    frames: Sequence[np.ndarray],
    batch_frames: int = 4_096,
) -> list[torch.Tensor]:
    """What the LM reads for each recording, (positions, LM width), on the model's device, from its encoder output (n_frames, width)."""
    out: list[torch.Tensor] = [torch.empty(0)] * len(frames)
    device = model.get_input_embeddings().weight.device
    for batch in of_like_length([len(rows) for rows in frames], batch_frames):
        padded, n_frames = pad_frames([frames[i] for i in batch])
        embeds, n_positions = model.get_audio_features(
            encoder_hidden_states=padded.to(device), encoder_lengths=n_frames.to(device)
        )
        for index, rows, n in zip(batch, embeds, n_positions.tolist(), strict=True):
            out[index] = rows[:n].clone()
    return out
