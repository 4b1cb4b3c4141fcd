"""Feature extractors of transformers whose arithmetic is slower than it need be, made quick without another bit in their result."""

from __future__ import annotations

from typing import Any

import torch
from transformers import ParakeetFeatureExtractor
from transformers.models.parakeet.feature_extraction_parakeet import LOG_ZERO_GUARD_VALUE


def quick(extractor: Any) -> Any:
    """The same extractor, or for Parakeet's own class one with its settings that makes equal features in half the time: where the class
    adds real² and imaginary² by a sum over a last dimension of two, and squares the root of that."""
    if type(extractor) is not ParakeetFeatureExtractor:
        return extractor
    twin = _QuickParakeet.__new__(_QuickParakeet)
    twin.__dict__ = extractor.__dict__
    return twin


class _QuickParakeet(ParakeetFeatureExtractor):
    def _torch_extract_fbank_features(self, waveform: torch.Tensor, device: str = "cpu") -> torch.Tensor:
        window = torch.hann_window(self.win_length, periodic=False, device=device)
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, self.win_length, window, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square().add_(spectrum.imag.square()).sqrt_().square_()
        mel = self.mel_filters.to(device) @ power
        return torch.log(mel.add_(LOG_ZERO_GUARD_VALUE)).permute(0, 2, 1)
