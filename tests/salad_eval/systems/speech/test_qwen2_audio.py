"""Qwen2-Audio as a system, on a tiny random checkpoint of the real class with its real processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2ForCausalLM,
    WhisperFeatureExtractor,
)

from salad_eval.systems import trees
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import SpeechSystemChecks
from salad_eval.types import Request, TextSegment
from tests.helpers.qwen_world import qwen_config, qwen_tokenizer


class TestQwen2Audio(SpeechSystemChecks):
    architecture = Qwen2AudioForConditionalGeneration
    markup = "<|audio_bos|><|AUDIO|><|audio_eos|>"

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        tokenizer = qwen_tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
        encoder = Qwen2AudioEncoderConfig(
            num_mel_bins=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, d_model=16, initializer_range=0.2,
        )  # fmt: skip
        config = Qwen2AudioConfig(
            audio_config=encoder.to_dict(),
            text_config=qwen_config(tokenizer).to_dict(),
            audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
        )
        torch.manual_seed(seed)
        Qwen2AudioForConditionalGeneration(config).save_pretrained(folder)
        Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        text = Qwen2ForCausalLM(model.config.text_config)
        text.model.load_state_dict(model.model.language_model.state_dict())
        text.lm_head.load_state_dict(model.lm_head.state_dict())
        text.save_pretrained(folder)

    def test_its_language_model_is_shown_a_tree_once(
        self, system: SpeechLLMSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[Any] = []
        original = trees._is_read_right
        monkeypatch.setattr(trees, "_is_read_right", lambda lm, traits: shown.append(lm) or original(lm, traits))
        asked = [Request("a", (TextSegment("Which planet has rings?"),), (" the planet Saturn", " Mars"))]
        assert system.loglikelihoods(asked) == system.loglikelihoods(asked)
        assert len(shown) <= 1  # none, where another test has asked it
