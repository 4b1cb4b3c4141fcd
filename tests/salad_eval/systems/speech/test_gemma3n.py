"""Gemma 3n as a system, on a tiny random checkpoint of the real class (without eyes, unless timm is there)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma3nAudioFeatureExtractor, Gemma3nConfig, Gemma3nForCausalLM, GemmaTokenizer

from salad_eval.errors import ModelError
from salad_eval.systems.speech.gemma3n import ListeningGemma3n, ListeningGemma3nProcessor, PackedEmbeddings
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import SpeechSystemChecks, ask, heard
from tests.helpers import speech_llm_world as world

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
MARKS = {
    "boi_token": "<start_of_image>",
    "boa_token": "<start_of_audio>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
    "eoa_token": "<end_of_audio>",
    "audio_token": "<audio_soft_token>",
}
N_VISION, N_AUDIO = 2, 4  # tokens that only the embedders of pictures and of sound know, the last of them in this order
# In the manner of the model's own: the system's words come before the user's, in one turn.
TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = (messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text']) + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for m in loop_messages %}<start_of_turn>{{ m['role'] }}\n{{ first if loop.first else '' }}"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'audio' %}<audio_soft_token>{% elif c['type'] == 'text' %}{{ c['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@cache
def gemma_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=[*SPECIAL, *bytes_], show_progress=False)
    bpe.train_from_iterator([*world.SENTENCES * 2, "Question: \nAnswer: model user is"], trainer)
    state = json.loads(bpe.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def gemma_tokenizer() -> GemmaTokenizer:
    vocab, merges = gemma_pieces()
    n = len(vocab)
    unused = [f"<unused{i}>" for i in range(N_AUDIO - 2)]
    order = [MARKS[name] for name in ("boi_token", "boa_token", "eoi_token", "image_token", "eoa_token", "audio_token")]
    vocab = {**vocab, **{token: n + i for i, token in enumerate([*order, *unused])}}
    tokenizer = GemmaTokenizer(
        vocab=vocab, merges=merges, add_bos_token=True, extra_special_tokens=MARKS, model_max_length=2048
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>", *order, *unused]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def gemma_config(tokenizer: Any, architecture: str = "mobilenetv5_300m_enc") -> Gemma3nConfig:
    total = len(tokenizer)
    audio_offset, vision_offset = total - N_AUDIO, total - N_AUDIO - N_VISION
    text = {
        "vocab_size": total, "vocab_size_per_layer_input": vision_offset, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2, "laurel_rank": 4, "altup_num_inputs": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 256,
        "max_position_embeddings": 2048, "initializer_range": 0.3, "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    }  # fmt: skip
    audio = {
        "vocab_size": N_AUDIO, "vocab_offset": audio_offset, "hidden_size": 16, "conf_num_attention_heads": 2,
        "conf_num_hidden_layers": 1, "sscp_conv_channel_size": (8, 4), "initializer_range": 0.3,
    }  # fmt: skip
    vision = {
        "vocab_size": N_VISION, "vocab_offset": vision_offset, "hidden_size": 16, "architecture": architecture,
        "label_names": ["LABEL_0", "LABEL_1"], "num_classes": 2,
    }  # fmt: skip
    ids = {name.replace("token", "token_id"): tokenizer.convert_tokens_to_ids(token) for name, token in MARKS.items()}
    return Gemma3nConfig(
        text_config=text, audio_config=audio, vision_config=vision, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, **ids,
    )  # fmt: skip


def save_processor(folder: Path, tokenizer: Any) -> None:
    """The files of the model's repository: one preprocessor_config.json for eyes and ears."""
    tokenizer.save_pretrained(folder)
    ears = json.loads(Gemma3nAudioFeatureExtractor().to_json_string())
    both = {**ears, "image_processor_type": "SiglipImageProcessor", "processor_class": "Gemma3nProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(both), encoding="utf-8")
    sizes = {"audio_seq_length": 188, "image_seq_length": 256, "processor_class": "Gemma3nProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(sizes), encoding="utf-8")


def livened(model: Any, seed: int) -> Any:
    """What starts at zero or one would hide mistakes: norms and the corrections of AltUp get values of their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        # The padding token's, zero at first, is what the layers read where sound stands.
        model.get_per_layer_input_embeddings().weight[0].normal_(generator=generator)
    return model


class TestGemma3n(SpeechSystemChecks):
    architecture = ListeningGemma3n
    markup = "<audio_soft_token>"
    too_long_seconds = 30.5

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        tokenizer = gemma_tokenizer()
        torch.manual_seed(seed)
        livened(ListeningGemma3n(gemma_config(tokenizer)), seed).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config["architectures"] = ["Gemma3nForConditionalGeneration"]
        (folder / "config.json").write_text(json.dumps(config))
        save_processor(folder, tokenizer)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        text = Gemma3nForCausalLM(model.config.text_config)
        text.model.load_state_dict(model.model.language_model.state_dict())
        text.save_pretrained(folder)

    @pytest.fixture(scope="class")
    def own(self, folder: Path) -> tuple[Any, Any]:
        return ListeningGemma3n.from_pretrained(folder).eval(), ListeningGemma3nProcessor.from_pretrained(folder)

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """Of equal length: the end of the shorter of unlike ones depends on the longer; here each is heard alone."""
        first, second = heard("a river in the rain"), heard("gold and the river.", "b")
        forth, back = ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")
        found = system.loglikelihoods([forth, back])
        np.testing.assert_allclose(found[0], self.own_logprobs(own, forth), atol=self.atol, rtol=0)
        np.testing.assert_allclose(found[1], self.own_logprobs(own, back), atol=self.atol, rtol=0)
        assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-3

    # --- what is particular about Gemma 3n ---

    def test_every_recording_takes_188_positions_between_its_marks(self, system: SpeechLLMSystem) -> None:
        request = ask("a", "Q:", heard("gold"), "A:")
        tokenizer = system.llm.tokenizer
        ids = system.llm.encode_prompt(request, {request.prompt[1].sha256: 188}, None)  # type: ignore[union-attr]
        text = tokenizer.decode(ids)
        assert text == f"<bos>Q:\n\n<start_of_audio>{'<audio_soft_token>' * 188}<end_of_audio>\n\nA:"
        (rows,) = system._hear([request]).values()
        assert rows.shape == (188, 32 + 4 * 8)

    def test_embeddings_of_prompts_are_the_models_own(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """Marks of sound and of pictures have embeddings of their own, and none in the layers."""
        model, processor = own
        marks = [processor.tokenizer.convert_tokens_to_ids(token) for token in MARKS.values()]
        ids = torch.tensor([[5, 300, *marks, 7]])
        caught: dict[str, torch.Tensor] = {}

        def catch(module: Any, args: Any, kwargs: dict[str, torch.Tensor]) -> None:
            caught.update({name: kwargs[name] for name in ("inputs_embeds", "per_layer_inputs")})

        hook = model.model.language_model.register_forward_pre_hook(catch, with_kwargs=True)
        with torch.no_grad():
            model(input_ids=ids)
            found = PackedEmbeddings(system.llm.model.model)(ids)
        hook.remove()
        torch.testing.assert_close(found[..., :32], caught["inputs_embeds"])
        torch.testing.assert_close(found[..., 32:], caught["per_layer_inputs"].flatten(-2))

    def test_layers_read_the_tokens_after_a_recording(
        self, system: SpeechLLMSystem, folder: Path, tmp_path: Path
    ) -> None:
        """Other embeddings of the layers, other answers: what is not in the prefix of embeddings is not lost."""
        request = ask("a", "Question:", heard("gold"), "\nAnswer:")
        other = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
        with torch.no_grad():
            other.llm.model.model.language_model.embed_tokens_per_layer.weight.mul_(2)
        one, two = (of.loglikelihoods([request])[0] for of in (system, other))
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 1e-2

    def test_prompts_longer_than_its_window_are_scored_too(
        self, system: SpeechLLMSystem, own: tuple[Any, Any], folder: Path
    ) -> None:
        request = ask("a", heard("gold"), " or", heard("rain"), " or", heard("Gold"), "\nAnswer:")
        prefixes, _, _ = system._encoded([request])
        assert len(prefixes[0]) > 2 * 256
        expected = self.own_logprobs(own, request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=self.atol, rtol=0)

    def test_sound_that_is_dropped_without_a_word_is_an_error(
        self, system: SpeechLLMSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = system.llm.audio_inputs

        def deaf(sounds: Any) -> dict[str, Any]:
            inputs = original(sounds)
            return {name: inputs[name] for name in ("input_ids", "attention_mask")}

        def masked(sounds: Any) -> dict[str, Any]:
            inputs = dict(original(sounds))
            inputs["input_features_mask"] = torch.zeros_like(inputs["input_features_mask"])
            return inputs

        for broken in (deaf, masked):
            monkeypatch.setattr(system.llm, "audio_inputs", broken)
            system._heard.clear()
            with pytest.raises(ModelError, match="did not reach the LM"):
                system.loglikelihoods([ask("a", "Q:", heard("gold"), "A:")])

    def test_eyes_in_the_checkpoint_are_left_unloaded(
        self, system: SpeechLLMSystem, folder: Path, tmp_path: Path
    ) -> None:
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        weights = load_file(folder / "model.safetensors")
        weights["model.vision_tower.timm_model.conv_stem.weight"] = torch.zeros(3, 3)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        found = SpeechLLMSystem(str(tmp_path), device="cpu", chat_template=False)
        request = ask("a", "Question:", heard("gold"), "\nAnswer:")
        np.testing.assert_allclose(found.loglikelihoods([request]), system.loglikelihoods([request]), atol=1e-5, rtol=0)

    def test_the_whole_model_gives_the_same_numbers(self, tmp_path: Path) -> None:
        pytest.importorskip("timm", reason="the whole model needs timm")
        pytest.importorskip("torchvision", reason="the whole processor needs torchvision")
        from transformers import AutoProcessor, Gemma3nForConditionalGeneration

        tokenizer = gemma_tokenizer()
        torch.manual_seed(3)
        whole = livened(Gemma3nForConditionalGeneration(gemma_config(tokenizer, "test_resnet")), 3).eval()
        whole.save_pretrained(tmp_path)
        save_processor(tmp_path, tokenizer)
        system = SpeechLLMSystem(str(tmp_path), device="cpu", chat_template=False)
        request = ask("a", "Question:", heard("gold"), "\nAnswer:")
        expected = self.own_logprobs((whole, AutoProcessor.from_pretrained(tmp_path)), request)
        np.testing.assert_allclose(system.loglikelihoods([request])[0], expected, atol=self.atol, rtol=0)
