"""Quick features against the library's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ParakeetFeatureExtractor, WhisperFeatureExtractor

from salad_eval.audio.features import quick


@pytest.mark.parametrize(
    "settings", [{"feature_size": 64}, {"feature_size": 80, "preemphasis": None, "hop_length": 200}]
)
def test_parakeets_features_are_the_librarys_to_the_last_bit(settings: dict[str, object]) -> None:
    extractor = ParakeetFeatureExtractor(**settings)
    random = np.random.default_rng(0)
    sounds = [random.normal(0, 0.1, n).astype(np.float32) for n in (16_000, 23_456, 8_001)]
    asked = {"sampling_rate": 16_000, "padding": True, "return_attention_mask": True, "return_tensors": "pt"}
    found, expected = quick(extractor)(sounds, **asked), extractor(sounds, **asked)
    assert type(quick(extractor)) is not type(extractor)
    assert list(found) == list(expected)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_settings_are_shared_and_the_extractor_itself_is_left_as_it_was() -> None:
    extractor = ParakeetFeatureExtractor(feature_size=64)
    quick(extractor).hop_length = 320
    assert extractor.hop_length == 320
    assert type(extractor) is ParakeetFeatureExtractor


def test_other_extractors_are_their_own_quick_form() -> None:
    class Heir(ParakeetFeatureExtractor):  # type: ignore[misc]
        """May compute otherwise."""

    for extractor in (WhisperFeatureExtractor(), Heir(feature_size=64)):
        assert quick(extractor) is extractor
