"""Whisper's encoder on windows that fit the recording, against its own class built for a window of that size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salad_eval.errors import AudioError, ModelError
from salad_eval.types import Audio
from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration, SaladProcessor
from salad_train.model.audio_encoders import spec_of
from salad_train.model.family import SaladFamily
from salad_train.model.loading import load_salad
from salad_train.training.hearing import encoder_frames
from salad_train.training.stages import encoder_fingerprint
from tests.helpers.speech_llm_world import encoder, language_model, tokenizer

WINDOWS = [2.0, 4.0, 30.0]
SECONDS = (0.7, 2.5, 1.0, 1.1, 6.0)  # windows 2, 4, 2, 4 and 30: a second of silence is left after each


def parts(windows: list[float] | None, dtype: str = "float32") -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    whisper, extractor = encoder("whisper", seed=4)
    model = SaladForConditionalGeneration.from_parts(
        whisper,
        language_model("llama"),
        SaladAdapterConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
        ),
        encoder_windows=windows,
        encoder_dtype=dtype,
    )
    return model, SaladProcessor.from_parts(extractor, tokenizer(), model.config)


def recordings() -> list[Audio]:
    rng = np.random.default_rng(1)
    return [Audio(rng.normal(0, 0.1, int(seconds * 16_000)).astype(np.float32), 16_000) for seconds in SECONDS]


def by_its_own_class(model: SaladForConditionalGeneration, extractor: Any, audio: Audio, seconds: float) -> np.ndarray:
    """The frames that a WhisperEncoder of this window gives, with the same weights and as many positions as it needs."""
    n = int(seconds * 50)
    config = WhisperConfig.from_dict({**model.encoder.config.to_dict(), "max_source_positions": n})
    small = WhisperEncoder(config).eval()
    weights = dict(model.encoder.state_dict())
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:n]
    small.load_state_dict(weights)
    features = extractor(
        audio.samples, sampling_rate=16_000, padding="max_length", max_length=int(seconds * 16_000), return_tensors="pt"
    ).input_features
    with torch.no_grad():
        return small(features).last_hidden_state[0, : -(-len(audio.samples) // 320)].numpy()


def test_a_recording_is_encoded_in_the_smallest_window_that_leaves_a_second() -> None:
    model, processor = parts(WINDOWS)
    found = encoder_frames(model, processor, recordings())
    for frames, audio, window in zip(found, recordings(), (2.0, 4.0, 2.0, 4.0, 30.0), strict=True):
        expected = by_its_own_class(model, processor.feature_extractor, audio, window)
        assert frames.shape == expected.shape
        np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-5)


def test_the_full_window_alone_is_what_there_was_without_windows() -> None:
    whole, stated = parts(None), parts([30.0])
    for one, other in zip(encoder_frames(*whole, recordings()), encoder_frames(*stated, recordings()), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_batch_mates_change_nothing() -> None:
    model, processor = parts(WINDOWS)
    together = encoder_frames(model, processor, recordings(), batch_seconds=1000.0)
    for audio, frames in zip(recordings(), together, strict=True):
        np.testing.assert_allclose(encoder_frames(model, processor, [audio])[0], frames, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("windows", "costs"), [(None, [30.0] * 5), (WINDOWS, [2.0, 4.0, 2.0, 4.0, 30.0])])
def test_a_recording_costs_its_window(windows: list[float] | None, costs: list[float]) -> None:
    family = SaladFamily(*parts(windows))
    assert [family.padded_seconds(seconds) for seconds in SECONDS] == costs
    assert family.max_audio_seconds == 30


def test_features_are_made_for_the_largest_window_that_is_needed() -> None:
    _, processor = parts(WINDOWS)
    lengths = [processor.extract([audio.samples])["input_features"].shape[-1] for audio in recordings()]
    assert lengths == [200, 400, 200, 400, 3000]
    with pytest.raises(AudioError, match=r"31.0 s is longer than this encoder's window of 30.0 s"):
        processor.extract([np.zeros(31 * 16_000, np.float32)])


def test_the_choice_is_part_of_the_checkpoint_and_of_a_frame_stores_name(tmp_path: Path) -> None:
    model, processor = parts(WINDOWS, "bfloat16")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = load_salad(str(tmp_path), device="cpu")
    assert again.spec == model.spec
    assert (again.config.encoder_windows, again.config.encoder_dtype) == (WINDOWS, "bfloat16")
    for one, other in zip(
        encoder_frames(model, processor, recordings()), encoder_frames(again, its_processor, recordings()), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    names = {
        encoder_fingerprint(parts(*choice)[0])
        for choice in ((None,), (WINDOWS,), ([3.0, 30.0],), (WINDOWS, "bfloat16"))
    }
    assert len(names) == 4


def test_bfloat16_is_float32_but_for_rounding() -> None:
    exact, rounded = (encoder_frames(*parts(WINDOWS, dtype), recordings()) for dtype in ("float32", "bfloat16"))
    for one, other in zip(exact, rounded, strict=True):
        assert 0 < np.linalg.norm(one - other) < 0.03 * np.linalg.norm(one)


@pytest.mark.parametrize(
    ("kind", "windows", "dtype", "says"),
    [
        ("whisper", [4.0, 2.0, 30.0], "float32", "in rising order"),
        ("whisper", [2.0, 10.0], "float32", "the last 30"),
        ("whisper", [1.0, 30.0], "float32", "from 2 up"),
        ("whisper", [2.01, 30.0], "float32", "in steps of 0.02"),
        ("whisper", None, "int8", "encoder_dtype is 'int8'"),
        ("parakeet", [2.0, 30.0], "float32", "They are Whisper's alone"),
        ("mimi", None, "bfloat16", "looked up in float32"),
    ],
)
def test_choices_that_make_no_sense(kind: str, windows: list[float] | None, dtype: str, says: str) -> None:
    model, _ = encoder(kind)
    with pytest.raises(ModelError, match=says):
        spec_of(getattr(model.config, "encoder_config", model.config), None, windows, dtype)


def test_the_extractor_of_whisper_makes_a_hundred_frames_a_second() -> None:
    extractor = WhisperFeatureExtractor()
    assert extractor.sampling_rate / extractor.hop_length == 100
