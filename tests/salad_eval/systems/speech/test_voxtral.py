"""Voxtral as a system, on a tiny random checkpoint of the real class with its real processor and a tekken tokenizer."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import LlamaForCausalLM, VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from salad_eval.audio.sound import resample
from salad_eval.errors import MissingExtraError, UserInputError
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import OPTIONS, SpeechSystemChecks, ask, heard
from salad_eval.types import AudioSegment, Request
from tests.helpers.qwen_world import PATTERN

pytest.importorskip("mistral_common", reason="the package mistral-common is Voxtral's tokenizer")

CONTROL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[CALL_ID]", "[ARGS]", "[THINK]", "[/THINK]", "[AUDIO]",
    "[BEGIN_AUDIO]", "[TRANSCRIBE]",
)  # fmt: skip
MERGES = ("th", "he", "in", "er", "an", "re", "on", "at", "go", "ld", " t", " a", " s", " w", "gold", " the")


def save_tekken(folder: Path) -> int:
    """A tekken.json of the version Voxtral has: bytes, a few merges, the control tokens at their ranks. Returns its size."""
    pieces = [bytes([i]) for i in range(256)] + [piece.encode() for piece in MERGES]
    n_control = 32
    mel = {"num_mel_bins": 16, "hop_length": 160, "window_size": 400}
    state = {
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": len(pieces),
            "default_vocab_size": len(pieces) + n_control,
            "default_num_special_tokens": n_control,
            "version": "v11",
        },
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for i, piece in enumerate(pieces)
        ],
        "special_tokens": [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(CONTROL)],
        "audio": {"sampling_rate": 16_000, "frame_rate": 12.5, "audio_encoding_config": mel, "chunk_length_s": 30.0},
    }
    (folder / "tekken.json").write_text(json.dumps(state), encoding="utf-8")
    return len(pieces) + n_control


def wav(segment: AudioSegment) -> str:
    file = io.BytesIO()
    soundfile.write(file, resample(segment.audio, 16_000).samples, 16_000, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()


class TestVoxtral(SpeechSystemChecks):
    architecture = VoxtralForConditionalGeneration
    too_long_seconds = None
    chat = True

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        from transformers import VoxtralProcessor
        from transformers.tokenization_mistral_common import MistralCommonBackend

        size = save_tekken(folder)
        VoxtralProcessor(
            WhisperFeatureExtractor(feature_size=16), MistralCommonBackend.from_pretrained(folder)
        ).save_pretrained(folder)
        audio = {
            "num_mel_bins": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "hidden_size": 16, "head_dim": 8, "intermediate_size": 64, "vocab_size": 10, "initializer_range": 0.2,
        }  # fmt: skip
        text = {
            "model_type": "llama", "vocab_size": size + 2, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "max_position_embeddings": 2048, "initializer_range": 0.2, "rms_norm_eps": 1e-5,
        }  # fmt: skip
        torch.manual_seed(seed)
        config = VoxtralConfig(audio_config=audio, text_config=text, audio_token_id=24)
        VoxtralForConditionalGeneration(config).save_pretrained(folder)

    def own_inputs(self, processor: Any, request: Request, answer: str = "") -> Mapping[str, torch.Tensor]:
        content = [
            {"type": "audio", "base64": wav(part)}
            if isinstance(part, AudioSegment)
            else {"type": "text", "text": part.text}
            for part in request.prompt
        ]
        inputs: dict[str, torch.Tensor] = dict(self.chat_inputs(processor, [{"role": "user", "content": content}]))
        if answer:
            ids = torch.tensor([self.answer_ids(processor, answer)])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def answer_ids(self, processor: Any, answer: str) -> list[int]:
        ids: list[int] = processor.tokenizer.encode(answer, add_special_tokens=False)
        return ids

    def chat_inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Mapping[str, torch.Tensor]:
        for message in messages:
            for part in message["content"]:
                if "audio" in part:
                    file = io.BytesIO()
                    soundfile.write(file, part.pop("audio"), 16_000, format="WAV", subtype="FLOAT")
                    part["base64"] = base64.b64encode(file.getvalue()).decode()
        inputs: Mapping[str, torch.Tensor] = processor.apply_chat_template(messages, tokenize=True, return_dict=True)
        return inputs

    def test_text_is_answered_as_by_its_own_text_llm(self, folder: Path, own: tuple[Any, Any], tmp_path: Path) -> None:
        """Its text LLM run by hand: a tekken tokenizer goes with no ``AutoModelForCausalLM`` folder."""
        model, processor = own
        llm = LlamaForCausalLM(model.config.text_config).eval()
        llm.model.load_state_dict(model.model.language_model.state_dict())
        llm.lm_head.load_state_dict(model.lm_head.state_dict())
        plain = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
        request = ask("a", "The capital of France is")
        context = processor.tokenizer.encode("The capital of France is")
        assert context[0] == processor.tokenizer.bos_token_id
        for option, value in zip(OPTIONS, plain.loglikelihoods([request])[0], strict=True):
            ids = self.answer_ids(processor, option)
            with torch.no_grad():
                logprobs = llm(torch.tensor([context + ids])).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
            assert value == pytest.approx(float(logprobs[torch.arange(len(ids)), ids].sum()), abs=1e-4)
        with torch.no_grad():
            ids = llm.generate(torch.tensor([context]), max_new_tokens=5, do_sample=False, pad_token_id=11)
        new = ids[0, len(context) :].tolist()
        new = new[: new.index(2)] if 2 in new else new
        assert plain.generate([request], max_new_tokens=5, stop=()) == [
            processor.tokenizer.decode(new, skip_special_tokens=True)
        ]

    def test_text_in_the_chat_template_is_as_hf_text_would_ask(
        self, chat_system: SpeechLLMSystem, own: tuple[Any, Any], tmp_path: Path
    ) -> None:
        """``hf-text`` does not read a tekken tokenizer; the chat format of a text is that of mistral-common."""
        model, processor = own
        llm = LlamaForCausalLM(model.config.text_config).eval()
        llm.model.load_state_dict(model.model.language_model.state_dict())
        llm.lm_head.load_state_dict(model.lm_head.state_dict())
        text = "Question: What is gold?\nAnswer:"
        inputs = processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        found = chat_system.loglikelihoods([ask("a", text)])[0]
        for option, value in zip(OPTIONS, found, strict=True):
            ids = self.answer_ids(processor, option)
            assert value == pytest.approx(self.appended_logprob(llm, inputs, ids), abs=1e-4)

    def test_a_recording_in_plain_text_is_refused(self, folder: Path) -> None:
        plain = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
        with pytest.raises(UserInputError, match="chat_template"):
            plain.loglikelihoods([ask("a", "Q:", heard("gold"), "A:")])
        with pytest.raises(UserInputError, match="chat_template"):
            plain.generate([ask("a", "Q:", heard("gold"), "A:")], max_new_tokens=2, stop=())

    def test_a_text_that_holds_the_placeholder_is_refused(self, system: SpeechLLMSystem) -> None:
        """It is not refused here but read as the characters it is: this tokenizer takes no control token from a text."""
        with_it, without = ask("a", "Q [AUDIO]:", heard("gold"), "A:"), ask("b", "Q:", heard("gold"), "A:")
        prefixes, _, _ = system._encoded([with_it, without])
        assert len(prefixes[0]) - len(prefixes[1]) == len(self.answer_ids(system.llm.processor, " [AUDIO]"))

    def test_a_system_prompt_and_a_chunk_per_thirty_seconds(self, folder: Path) -> None:
        system = SpeechLLMSystem(str(folder), device="cpu", system_prompt="Be brief.")
        request = ask("a", heard("gold"), "A:")
        plain = SpeechLLMSystem(str(folder), device="cpu")
        assert system.loglikelihoods([request]) != plain.loglikelihoods([request])
        long = heard("a river in the rain " * 26)
        assert long.audio.seconds > 30
        rows = plain._hear([ask("b", heard("gold")), ask("c", long)])
        assert sorted(len(row) for row in rows.values()) == [375, 750]
        assert np.isfinite(plain.loglikelihoods([ask("c", long, "A:")])[0]).all()

    def test_without_its_tokenizer_package_it_says_what_to_install(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "mistral_common", raising=False)
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.setattr("salad_eval.systems.speech.voxtral.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match="pip install 'mistral-common"):
            SpeechLLMSystem(str(folder), device="cpu")
