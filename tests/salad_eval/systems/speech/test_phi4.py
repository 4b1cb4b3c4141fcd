"""Phi-4-multimodal as a system, on a tiny random checkpoint of the real class with a LoRA adapter in ``speech-lora``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Tokenizer,
    Phi3Config,
    Phi3ForCausalLM,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
)

from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, ModelError
from salad_eval.systems.speech.family import recordings_of
from salad_eval.systems.speech.phi4 import ListeningPhi4Processor
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import SpeechSystemChecks, ask, heard
from salad_eval.types import Audio, AudioSegment, Request
from tests.helpers.qwen_world import byte_pairs

# The model's own: contents are strings, and the end of a turn of the assistant is not written.
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
ADAPTED = r".*((layers.*self_attn\.(qkv|o)_proj)|(layers.*mlp\.(gate_up|down)_proj))"
TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps", "rope_parameters", "eos_token_id", "pad_token_id", "bos_token_id",
    "tie_word_embeddings",
)  # fmt: skip


def phi4_tokenizer() -> GPT2Tokenizer:
    vocab, merges = byte_pairs()
    end = "<|endoftext|>"
    tokenizer = GPT2Tokenizer(
        vocab=dict(vocab),
        merges=list(merges),
        unk_token=end,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        extra_special_tokens={"image_token": "<|image|>", "audio_token": "<|audio|>"},
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|image|>", "<|audio|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]}
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def phi4_config(tokenizer: Any) -> Phi4MultimodalConfig:
    audio = {
        "hidden_size": 16, "intermediate_size": 32, "num_blocks": 2, "num_attention_heads": 2, "ext_pw_out_channel": 16,
        "depthwise_separable_out_channel": 16, "nemo_conv_channels": 16, "bias_max_distance": 50, "input_size": 80,
        "initializer_range": 0.2, "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "crop_size": 28, "image_token_id": tokenizer.convert_tokens_to_ids("<|image|>"),
    }  # fmt: skip
    return Phi4MultimodalConfig(
        audio_config=audio,
        vision_config=vision,
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        original_max_position_embeddings=2048,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")],
        pad_token_id=tokenizer.pad_token_id,
    )


def save_phi4(folder: Path, seed: int = 0) -> None:
    """The files of the model's repository; one preprocessor_config.json for eyes and ears."""
    tokenizer = phi4_tokenizer()
    torch.manual_seed(
        seed + 1
    )  # one whose greedy text holds no placeholder, which generate() would take for a recording
    model = Phi4MultimodalForCausalLM(phi4_config(tokenizer))
    model.save_pretrained(folder)
    model.add_adapter(LoraConfig(r=4, target_modules=ADAPTED, init_lora_weights=False), adapter_name="speech")
    model.save_pretrained(folder / "speech-lora")
    tokenizer.save_pretrained(folder)
    ears = Phi4MultimodalFeatureExtractor().to_dict()
    both = {
        **ears,
        "image_processor_type": "Phi4MultimodalImageProcessor",
        "processor_class": "Phi4MultimodalProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(both), encoding="utf-8")
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "Phi4MultimodalProcessor"}), encoding="utf-8"
    )


class TestPhi4Multimodal(SpeechSystemChecks):
    architecture = Phi4MultimodalForCausalLM
    markup = "<|audio|>"
    too_long_seconds = None
    says_nothing = ("processor_config.json",)

    save = staticmethod(save_phi4)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        """Phi-4-mini, a Phi-3 for transformers, with the weights beneath the adapter."""
        ours = model.config.to_dict()
        text = Phi3ForCausalLM(Phi3Config(**{key: ours[key] for key in TEXT_KEYS}))
        state = {
            name.replace(".base_layer.", "."): value
            for name, value in model.model.state_dict().items()
            if "lora_" not in name and not name.startswith("embed_tokens_extend")
        }
        text.model.load_state_dict(state)
        text.save_pretrained(folder)

    @pytest.fixture(scope="class")
    def own(self, folder: Path) -> tuple[Any, Any]:
        """The model as its documentation loads it."""
        model = Phi4MultimodalForCausalLM.from_pretrained(folder)
        model.load_adapter(str(folder), adapter_name="speech", adapter_kwargs={"subfolder": "speech-lora"})
        model.set_adapter("speech")
        processor = ListeningPhi4Processor.from_pretrained(folder)
        processor.feature_extractor = processor.audio_processor  # the name the checks know it by
        return model.eval(), processor

    def own_inputs(self, processor: Any, request: Request, answer: str = "") -> Mapping[str, torch.Tensor]:
        text = "".join(self.markup if isinstance(s, AudioSegment) else s.text for s in request.prompt)
        sounds = [resample(s.audio, 16_000).samples for s in recordings_of(request)]
        inputs: Mapping[str, torch.Tensor] = processor(
            text=text + answer, audio=sounds, sampling_rate=16_000, return_tensors="pt"
        )
        return inputs

    def chat_inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Mapping[str, torch.Tensor]:
        turns, sounds = [], []
        for message in messages:
            sounds += [part["audio"] for part in message["content"] if part["type"] == "audio"]
            text = "".join(self.markup if part["type"] == "audio" else part["text"] for part in message["content"])
            turns.append({"role": message["role"], "content": text})
        prompt = processor.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs: Mapping[str, torch.Tensor] = processor(
            text=prompt, audio=sounds, sampling_rate=16_000, return_tensors="pt"
        )
        return inputs

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """Of equal length: this class hears the padding of unlike ones in a prompt; here each is heard alone."""
        first, second = heard("a river in the rain"), heard("gold and the river.", "b")
        forth, back = ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")
        found = system.loglikelihoods([forth, back])
        np.testing.assert_allclose(found[0], self.own_logprobs(own, forth), atol=self.atol, rtol=0)
        np.testing.assert_allclose(found[1], self.own_logprobs(own, back), atol=self.atol, rtol=0)
        assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-3

    # --- what is particular about Phi-4-multimodal ---

    def test_the_adapter_is_on_for_speech_and_off_for_text_in_whatever_order(self, folder: Path) -> None:
        system = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
        spoken, written = ask("a", "Q:", heard("gold"), "A:"), ask("b", "Q: gold A:")
        one = [system.loglikelihoods([request])[0] for request in (spoken, written, spoken, written)]
        assert one[:2] == one[2:]
        with torch.no_grad():  # without its adapter the model hears otherwise, and reads as before
            for name, parameter in system.llm.model.named_parameters():
                if "lora_B" in name:
                    parameter.zero_()
        other = system.loglikelihoods([spoken, written])
        assert other[1] == one[1]
        assert max(abs(a - b) for a, b in zip(other[0], one[0], strict=True)) > 1e-2

    @pytest.mark.parametrize("lost", ["speech-lora", "speech-lora/adapter_model.safetensors"])
    def test_a_checkpoint_whose_adapter_is_missing_is_refused(self, folder: Path, tmp_path: Path, lost: str) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        path = copy / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(ModelError, match="LoRA adapter"):
            SpeechLLMSystem(str(copy), device="cpu")

    def test_an_adapter_with_weights_missing_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        weights = load_file(copy / "speech-lora" / "adapter_model.safetensors")
        del weights[sorted(weights)[0]]
        save_file(weights, copy / "speech-lora" / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="missing keys"):
            SpeechLLMSystem(str(copy), device="cpu")

    def test_a_processor_with_another_placeholder_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        config = json.loads((copy / "config.json").read_text())
        config["audio_config"]["audio_token_id"] -= 1
        (copy / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="not a pair"):
            SpeechLLMSystem(str(copy), device="cpu")

    def test_rows_are_as_many_as_its_extractor_says(self, system: SpeechLLMSystem) -> None:
        """A row for every eight frames of 25 ms every 10 ms, or part of eight."""
        for samples, rows in ((400, 1), (1520, 1), (1680, 2), (16_000, 13), (160_000, 125)):
            (found,) = system.llm.audio_rows([np.sin(np.arange(samples) / 7).astype(np.float32)])
            assert len(found) == rows == -(-((samples - 400) // 160 + 1) // 8)

    def test_more_than_forty_seconds_are_encoded_in_parts(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        samples = np.sin(np.cumsum(np.linspace(0.01, 2, 41 * 16_000))).astype(np.float32)
        request = ask("a", "Q:", AudioSegment(Audio(samples, 16_000), "2" * 64), "\nAnswer:", options=(" H",))
        expected = self.own_logprobs(own, request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=self.atol, rtol=0)

    def test_less_than_a_frame_of_sound_is_refused(self, system: SpeechLLMSystem) -> None:
        click = AudioSegment(Audio(np.ones(399, np.float32), 16_000), "1" * 64)
        with pytest.raises(AudioError, match="less than one frame"):
            system.loglikelihoods([ask("a", "Q:", click, "A:")])

    def test_its_own_processor_gives_the_same_inputs(self, folder: Path, own: tuple[Any, Any]) -> None:
        pytest.importorskip("torchvision", reason="the whole processor needs torchvision")
        from transformers import Phi4MultimodalImageProcessor, Phi4MultimodalProcessor

        whole = Phi4MultimodalProcessor(
            Phi4MultimodalImageProcessor(), own[1].audio_processor, own[1].tokenizer, chat_template=TEMPLATE
        )
        request = ask("a", "Q:", heard("gold"), "\nAnswer:")
        found, expected = self.own_inputs(own[1], request), self.own_inputs(whole, request)
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
