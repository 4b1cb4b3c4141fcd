"""Qwen2.5-Omni's Thinker as a system, on a tiny random checkpoint of the real class with its real processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperFeatureExtractor,
)

from salad_eval.systems.speech.qwen_omni import ListeningOmniProcessor, QwenOmniFamily
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import LENGTHS, SpeechSystemChecks
from tests.helpers import speech_llm_world as world
from tests.helpers.qwen_world import qwen_config, qwen_tokenizer

TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
# In the manner of the model's own: a system turn is written where the conversation has none.
TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% elif 'text' in c %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "initializer_range", "eos_token_id", "pad_token_id",
)  # fmt: skip


def thinker_config(tokenizer: Any) -> Qwen2_5OmniThinkerConfig:
    text = {key: value for key, value in qwen_config(tokenizer).to_dict().items() if key in TEXT_KEYS}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    text["tie_word_embeddings"] = False
    audio = {
        "num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "d_model": 16,
        "output_dim": 32, "n_window": 25, "initializer_range": 0.2,
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    return Qwen2_5OmniThinkerConfig(
        audio_config=audio,
        vision_config=vision,
        text_config=text,
        audio_token_index=tokenizer.audio_token_id,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
    )


def save_processor(folder: Path, tokenizer: Any) -> None:
    """The files of the model's repository: one preprocessor_config.json for eyes and ears, and a chat_template.json."""
    tokenizer.save_pretrained(folder)
    ears = WhisperFeatureExtractor(feature_size=16, return_attention_mask=True).to_dict()
    eyes = {"image_processor_type": "Qwen2VLImageProcessor", "merge_size": 2, "patch_size": 14}
    both = {**eyes, **ears, "processor_class": "Qwen2_5OmniProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(both), encoding="utf-8")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")


class TestQwenOmni(SpeechSystemChecks):
    architecture = Qwen2_5OmniThinkerForConditionalGeneration
    markup = "<|audio_bos|><|AUDIO|><|audio_eos|>"

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        tokenizer = qwen_tokenizer(*TOKENS.values(), **TOKENS)
        torch.manual_seed(seed)
        Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(tokenizer)).save_pretrained(folder)
        save_processor(folder, tokenizer)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        ours = model.config.text_config.to_dict()
        config = Qwen2Config(**{key: ours[key] for key in TEXT_KEYS}, tie_word_embeddings=False)
        text = Qwen2ForCausalLM(config)
        text.model.load_state_dict(model.model.language_model.state_dict())
        text.lm_head.load_state_dict(model.lm_head.state_dict())
        text.save_pretrained(folder)

    @pytest.fixture(scope="class")
    def own(self, folder: Path) -> tuple[Any, Any]:
        model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder).eval()
        return model, ListeningOmniProcessor.from_pretrained(folder)

    def test_the_thinker_is_found_in_a_checkpoint_of_the_whole_model(
        self, system: SpeechLLMSystem, own: tuple[Any, Any], tmp_path: Path
    ) -> None:
        dit = {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 16, "emb_dim": 16,
            "num_embeds": 10, "mel_dim": 8, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [8, 8, 8, 8, 24],
            "enc_attention_channels": 4, "enc_se_channels": 4,
        }  # fmt: skip
        talker = {
            "vocab_size": 8448, "embedding_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        }  # fmt: skip
        config = Qwen2_5OmniConfig(
            thinker_config=own[0].config.to_dict(),
            talker_config=talker,
            token2wav_config={
                "dit_config": dit,
                "bigvgan_config": {"mel_dim": 8, "upsample_initial_channel": 64},
            },
        )
        whole = Qwen2_5OmniForConditionalGeneration(config)
        whole.thinker.load_state_dict(own[0].state_dict())
        whole.save_pretrained(tmp_path)
        save_processor(tmp_path, own[1].tokenizer)
        found = SpeechLLMSystem(str(tmp_path), device="cpu", chat_template=False)
        requests = self.requests()
        for one, other in zip(found.loglikelihoods(requests), system.loglikelihoods(requests), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert not any(name.startswith("talker") for name, _ in found.model.named_parameters())

    def test_its_features_are_those_of_the_longest_padding(self, own: tuple[Any, Any]) -> None:
        """Real checkpoints pad to 300 s; padding to less must change no frame that counts."""
        model, processor = own
        longest = WhisperFeatureExtractor(feature_size=16, chunk_length=300, return_attention_mask=True)
        whole = ListeningOmniProcessor(longest, processor.tokenizer, chat_template=TEMPLATE)
        sounds = [world.sound(text).samples for text in LENGTHS]
        expected = whole(
            text=[self.markup] * len(sounds),
            audio=sounds,
            sampling_rate=16_000,
            return_tensors="pt",
            text_kwargs={"padding": True},
        )
        found = QwenOmniFamily(model, whole).audio_inputs(sounds)
        assert found["input_features"].shape[-1] < 250 < expected["input_features"].shape[-1] == 30_000
        assert found["input_ids"].tolist() == expected["input_ids"].tolist()
        for row in range(len(sounds)):
            one = found["input_features"][row][:, found["feature_attention_mask"][row].bool()]
            other = expected["input_features"][row][:, expected["feature_attention_mask"][row].bool()]
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
