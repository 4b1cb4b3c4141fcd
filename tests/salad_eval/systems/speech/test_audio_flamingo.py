"""Audio Flamingo 3 as a system, on a tiny random checkpoint of the real class with its real processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    Qwen2ForCausalLM,
    WhisperFeatureExtractor,
)

from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import SpeechSystemChecks, ask, heard
from salad_eval.types import Audio, AudioSegment
from tests.helpers.qwen_world import qwen_config, qwen_tokenizer

# In the manner of the model's own: the sound comes where it was put, and a system turn is always written.
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'audio' %}<sound>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TestAudioFlamingo3(SpeechSystemChecks):
    architecture = AudioFlamingo3ForConditionalGeneration
    markup = "<sound>"
    too_long_seconds = 91.0

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        tokenizer = qwen_tokenizer("<sound>")
        audio = {
            "num_mel_bins": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
            "hidden_size": 16, "initializer_range": 0.2,
        }  # fmt: skip
        config = AudioFlamingo3Config(
            audio_config=audio,
            text_config=qwen_config(tokenizer).to_dict(),
            audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
        )
        torch.manual_seed(seed)
        AudioFlamingo3ForConditionalGeneration(config).save_pretrained(folder)
        AudioFlamingo3Processor(
            WhisperFeatureExtractor(feature_size=16), tokenizer, chat_template=TEMPLATE, max_audio_len=90
        ).save_pretrained(folder)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        text = Qwen2ForCausalLM(model.config.text_config)
        text.model.load_state_dict(model.model.language_model.state_dict())
        text.lm_head.load_state_dict(model.lm_head.state_dict())
        text.save_pretrained(folder)

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """This processor takes one recording a text; the order of two must matter all the same."""
        first, second = heard("gold"), heard("a river in the rain", "b")
        one, other = system.loglikelihoods(
            [ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")]
        )
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-3

    def test_more_than_a_window_is_heard_in_parts(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        samples = np.sin(np.cumsum(np.linspace(0.01, 2, 35 * 16_000))).astype(np.float32)
        request = ask("a", "Q:", AudioSegment(Audio(samples, 16_000), "2" * 64), "\nAnswer:", options=(" H",))
        assert system.llm.padded_seconds(35.0) == 60.0
        (rows,) = system._hear([request]).values()
        assert len(rows) == 35 * 25
        expected = self.own_logprobs(own, request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=self.atol, rtol=0)
