"""Granite-Speech as a system, on a tiny random checkpoint of the real class with a LoRA adapter, as its real ones have."""

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
    AutoProcessor,
    GPT2Tokenizer,
    GraniteConfig,
    GraniteForCausalLM,
    GraniteSpeechConfig,
    GraniteSpeechFeatureExtractor,
    GraniteSpeechForConditionalGeneration,
    GraniteSpeechPlusConfig,
    GraniteSpeechPlusForConditionalGeneration,
    PreTrainedModel,
)

from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, ModelError
from salad_eval.systems.speech import adapters
from salad_eval.systems.speech.family import recordings_of
from salad_eval.systems.speech.granite import GraniteSpeechFamily, GraniteSpeechFeatures
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import LENGTHS, SpeechSystemChecks, ask, heard
from salad_eval.types import Audio, AudioSegment, Request
from tests.helpers import speech_llm_world as world
from tests.helpers.qwen_world import byte_pairs

SCALING = 4.0
# In the manner of the model's own: contents are strings.
TEMPLATE = (
    "{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>{{ m['content'] + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
FEATURES = {
    "feature_extractor_type": "GraniteSpeechFeatureExtractor",
    "melspec_kwargs": {"hop_length": 160, "n_fft": 512, "n_mels": 80, "sample_rate": 16000, "win_length": 400},
    "processor_class": "GraniteSpeechProcessor",
    "projector_downsample_rate": 5,
    "projector_window_size": 15,
    "sampling_rate": 16000,
}


def granite_tokenizer() -> GPT2Tokenizer:
    vocab, merges = byte_pairs()
    end = "<|end_of_text|>"
    tokenizer = GPT2Tokenizer(
        vocab=dict(vocab), merges=list(merges), unk_token=end, bos_token=end, eos_token=end, pad_token=end
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start_of_role|>", "<|end_of_role|>", "<|audio|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def granite_config(tokenizer: Any, *, lora: bool = True) -> GraniteSpeechConfig:
    encoder = {
        "input_dim": 160, "num_layers": 2, "hidden_dim": 16, "num_heads": 2, "dim_head": 8, "output_dim": 6,
        "context_size": 20, "max_pos_emb": 32, "conv_kernel_size": 5,
    }  # fmt: skip
    projector = {
        "model_type": "blip_2_qformer", "hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "cross_attention_frequency": 1, "vocab_size": 10,
    }  # fmt: skip
    text = GraniteConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.4, logits_scaling=SCALING,
        embedding_multiplier=3.0, residual_multiplier=0.9, attention_multiplier=0.3, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    return GraniteSpeechConfig(
        encoder_config=encoder,
        projector_config=projector,
        text_config=text.to_dict(),
        audio_token_index=tokenizer.convert_tokens_to_ids("<|audio|>"),
        has_lora_adapter=lora,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )


def save_granite(folder: Path, seed: int = 0, *, lora: bool = True) -> None:
    """The files of the model's repository: model, adapter beside it, tokenizer with the template, two small JSON files."""
    tokenizer = granite_tokenizer()
    torch.manual_seed(seed)
    model = GraniteSpeechForConditionalGeneration(granite_config(tokenizer, lora=lora))
    model.save_pretrained(folder)
    if lora:
        model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
        PreTrainedModel.save_pretrained(model, folder)
        # The real adapters have the names of an earlier layout of the class, as its weights do.
        path, now, then = (
            folder / "adapter_model.safetensors",
            "model.model.language_model.",
            "model.language_model.model.",
        )
        renamed = {name.replace(now, then): value for name, value in load_file(path).items()}
        assert all(name.startswith("base_model.model.language_model.model.layers.") for name in renamed)
        save_file(renamed, path, metadata={"format": "pt"})
    save_processor(folder, tokenizer)


def save_processor(folder: Path, tokenizer: Any) -> None:
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(FEATURES), encoding="utf-8")
    (folder / "processor_config.json").write_text(
        json.dumps({"audio_token": "<|audio|>", "processor_class": "GraniteSpeechProcessor"}), encoding="utf-8"
    )


class TestGraniteSpeech(SpeechSystemChecks):
    architecture = GraniteSpeechForConditionalGeneration
    markup = "<|audio|>"
    too_long_seconds = None
    says_nothing = ("processor_config.json",)

    save = staticmethod(save_granite)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        """``AutoModelForCausalLM``'s Granite with the weights beneath the adapter."""
        text = GraniteForCausalLM(model.config.text_config)
        state = {
            name.replace(".base_layer.", "."): value
            for name, value in model.model.language_model.state_dict().items()
            if "lora_" not in name
        }
        text.model.load_state_dict(state)
        text.save_pretrained(folder)

    @pytest.fixture(scope="class")
    def own(self, folder: Path) -> tuple[Any, Any]:
        """The model as transformers loads it, which finds and switches on the adapter by itself."""
        model = GraniteSpeechForConditionalGeneration.from_pretrained(folder).eval()
        assert model.active_adapters() == ["default"]
        processor = GraniteSpeechFamily.load_processor(str(folder))
        processor.feature_extractor = processor.audio_processor  # the name the checks know it by
        return model, processor

    def own_inputs(self, processor: Any, request: Request, answer: str = "") -> Mapping[str, torch.Tensor]:
        text = "".join(self.markup if isinstance(s, AudioSegment) else s.text for s in request.prompt)
        sounds = [resample(s.audio, 16_000).samples for s in recordings_of(request)]
        inputs: Mapping[str, torch.Tensor] = processor(text=text + answer, audio=sounds, return_tensors="pt")
        return inputs

    def chat_inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Mapping[str, torch.Tensor]:
        """As the model's card does it: strings with the placeholder, then the processor."""
        turns, sounds = [], []
        for message in messages:
            sounds += [part["audio"] for part in message["content"] if part["type"] == "audio"]
            text = "".join(self.markup if part["type"] == "audio" else part["text"] for part in message["content"])
            turns.append({"role": message["role"], "content": text})
        prompt = processor.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs: Mapping[str, torch.Tensor] = processor(text=prompt, audio=sounds, return_tensors="pt")
        return inputs

    def own_logprobs(self, own: tuple[Any, Any], request: Request) -> list[float]:
        """Through the text LLM's scaling, which the speech class leaves out (see ``GraniteSpeechFamily``)."""
        return super().own_logprobs((_Scaled(own[0]), own[1]), request)

    @staticmethod
    def appended_logprob(model: Any, inputs: Mapping[str, torch.Tensor], ids: list[int]) -> float:
        return SpeechSystemChecks.appended_logprob(_Scaled(model), inputs, ids)

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """Of equal length: this class pads unlike ones in a prompt and hears the padding; here each is heard alone."""
        first, second = heard("a river in the rain"), heard("gold and the river.", "b")
        forth, back = ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")
        found = system.loglikelihoods([forth, back])
        np.testing.assert_allclose(found[0], self.own_logprobs(own, forth), atol=self.atol, rtol=0)
        np.testing.assert_allclose(found[1], self.own_logprobs(own, back), atol=self.atol, rtol=0)
        assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-3

    # --- what is particular about Granite ---

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

    def test_a_checkpoint_whose_adapter_is_missing_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        (copy / "adapter_config.json").unlink()
        with pytest.raises(ModelError, match="LoRA adapter, and there is none"):
            SpeechLLMSystem(str(copy), device="cpu")

    @pytest.mark.parametrize("renamed", [False, True])
    def test_an_adapter_that_does_not_fit_is_refused(self, folder: Path, tmp_path: Path, renamed: bool) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        weights = load_file(copy / "adapter_model.safetensors")
        name = sorted(weights)[0]
        value = weights.pop(name)
        if renamed:
            weights[name.replace("q_proj", "z_proj")] = value
        save_file(weights, copy / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"missing keys|not a pair"):
            SpeechLLMSystem(str(copy), device="cpu")

    def test_a_checkpoint_without_an_adapter_of_its_own_needs_none(self, tmp_path: Path) -> None:
        save_granite(tmp_path, lora=False)
        system = SpeechLLMSystem(str(tmp_path), device="cpu", chat_template=False)
        model = _Scaled(GraniteSpeechForConditionalGeneration.from_pretrained(tmp_path).eval())
        request = ask("a", "Question:", heard("gold"), "\nAnswer:")
        expected = SpeechSystemChecks.own_logprobs(self, (model, system.llm.processor), request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=self.atol, rtol=0)

    def test_the_adapter_takes_the_precision_asked_for(self, folder: Path) -> None:
        system = SpeechLLMSystem(str(folder), device="cpu", dtype="bfloat16", chat_template=False)
        assert {parameter.dtype for parameter in system.llm.model.parameters()} == {torch.bfloat16}
        full = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
        request = ask("a", "Question:", heard("gold"), "\nAnswer:")
        assert system.loglikelihoods([request])[0] == pytest.approx(full.loglikelihoods([request])[0], abs=1.0)

    def test_less_than_a_frame_of_sound_is_refused(self, system: SpeechLLMSystem) -> None:
        click = AudioSegment(Audio(np.ones(200, np.float32), 16_000), "1" * 64)
        with pytest.raises(AudioError, match="less than one frame"):
            system.loglikelihoods([ask("a", "Q:", click, "A:")])

    def test_sound_that_is_dropped_without_a_word_is_an_error(
        self, system: SpeechLLMSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = system.llm.audio_inputs
        monkeypatch.setattr(system.llm, "audio_inputs", lambda sounds: {"input_ids": original(sounds)["input_ids"]})
        system._heard.clear()
        with pytest.raises(ModelError, match="did not reach the LM"):
            system.loglikelihoods([ask("a", "Q:", heard("gold"), "A:")])


def test_granite_speech_plus_is_heard_as_it_hears_itself(tmp_path: Path) -> None:
    tokenizer = granite_tokenizer()
    plain = granite_config(tokenizer, lora=False).to_dict()
    encoder = {**plain["encoder_config"], "cat_hidden_layers": [1], "model_type": "granite_speech_plus_encoder"}
    projector = {**plain["projector_config"], "encoder_hidden_size": 32}
    names = ("text_config", "audio_token_index", "has_lora_adapter", "initializer_range", "tie_word_embeddings")
    torch.manual_seed(0)
    model = GraniteSpeechPlusForConditionalGeneration(
        GraniteSpeechPlusConfig(
            encoder_config=encoder, projector_config=projector, **{name: plain[name] for name in names}
        )
    )
    model.eval().save_pretrained(tmp_path)
    save_processor(tmp_path, tokenizer)
    system = SpeechLLMSystem(str(tmp_path), device="cpu", chat_template=False)
    checks = TestGraniteSpeech()
    for request in (ask("a", "Question:", heard("gold"), "\nAnswer:"), ask("b", heard("a river in the rain"), " is")):
        expected = checks.own_logprobs((model, system.llm.processor), request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=1e-4, rtol=0)


class _Scaled:
    """A Granite-Speech model whose logits are divided as its text LLM divides them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        output.logits = output.logits / SCALING
        return output


# --- features --------------------------------------------------------------------------------------------------------


def chirp() -> np.ndarray:
    """A quarter of a second that rises from 51 Hz to 6.4 kHz."""
    return (0.5 * np.sin(np.cumsum(np.linspace(0.02, 2.5, 4000)))).astype(np.float32)


def test_the_features_are_those_of_torchaudio() -> None:
    """Values that ``GraniteSpeechFeatureExtractor`` gave with torchaudio 2.11: (frame, column, value)."""
    found = GraniteSpeechFeatures()([chirp()])
    features = found["input_features"][0]
    assert features.shape == (13, 160)
    assert found["audio_embed_sizes"] == [3]
    for frame, column, value in TORCHAUDIO:
        assert float(features[frame, column]) == pytest.approx(value, abs=2e-5)
    assert float(features.mean()) == pytest.approx(0.15845513, abs=1e-6)
    assert float(features.std()) == pytest.approx(0.54179680, abs=1e-6)


TORCHAUDIO = (
    (0, 0, 1.673657774925232),
    (0, 37, 0.45549094676971436),
    (0, 79, 0.08426815271377563),
    (0, 80, 1.2279131412506104),
    (0, 120, -0.09839844703674316),
    (5, 0, -0.12528157234191895),
    (11, 159, -0.12528157234191895),
)


def test_the_features_and_lengths_of_a_batch_are_the_extractors_own() -> None:
    pytest.importorskip("torchaudio", reason="the extractor of transformers needs torchaudio", exc_type=ImportError)
    sounds = [world.sound(text, "a", 16_000).samples for text in LENGTHS]
    found, expected = GraniteSpeechFeatures()(sounds), GraniteSpeechFeatureExtractor()(sounds)
    assert found["audio_embed_sizes"] == expected["audio_embed_sizes"]
    assert torch.equal(found["input_features_mask"], expected["input_features_mask"])
    torch.testing.assert_close(found["input_features"], expected["input_features"], atol=1e-4, rtol=0)


def test_the_processor_of_transformers_gives_the_same_inputs(tmp_path: Path) -> None:
    pytest.importorskip("torchaudio", reason="the processor of transformers needs torchaudio", exc_type=ImportError)
    save_granite(tmp_path)
    theirs, ours = AutoProcessor.from_pretrained(tmp_path), GraniteSpeechFamily.load_processor(str(tmp_path))
    sound = world.sound(LENGTHS[1], "a", 16_000).samples
    expected = theirs(text="Q:<|audio|>A:", audio=[sound], return_tensors="pt")
    found = ours(text="Q:<|audio|>A:", audio=[sound], return_tensors="pt")
    assert sorted(found) == sorted(expected)
    assert torch.equal(found["input_ids"], expected["input_ids"])
    torch.testing.assert_close(found["input_features"], expected["input_features"], atol=1e-4, rtol=0)


def test_adapters_are_not_switched_where_there_are_none() -> None:
    adapters.switch(torch.nn.Linear(1, 1), on=True)
