"""Speech LLMs as systems: finding the family, refusals, remote code by name only, and the adapter of the docs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GlmAsrConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

import salad_eval.systems.speech as speech_package
from salad_eval.errors import ModelError, UserInputError
from salad_eval.systems.speech.family import LanguageModel, SpeechFamily
from salad_eval.systems.speech.loading import FAMILIES, family_of
from salad_eval.systems.speech.qwen2_audio import Qwen2AudioFamily
from salad_eval.systems.speech.qwen_omni import QwenOmniFamily
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.speech_checks import LENGTHS, OPTIONS, SpeechSystemChecks, ask, heard
from salad_eval.types import AudioSegment
from tests.helpers import remote_speech_llm
from tests.helpers.qwen_world import qwen_tokenizer
from tests.helpers.tiny_causal_lm import save_tiny_llama, train_tokenizer
from tests.salad_eval.systems.speech.test_qwen2_audio import TestQwen2Audio as Qwen2AudioCase


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen2-audio")
    Qwen2AudioCase.save(path)
    return path


# --- families --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_family_of_the_table_can_be_loaded_and_claims_its_model_type(kind: str) -> None:
    module, _, name = FAMILIES[kind].partition(":")
    found = getattr(__import__(module, fromlist=[name]), name)
    assert kind in found.model_types


def test_the_family_is_found_from_the_checkpoint(folder: Path) -> None:
    assert family_of(str(folder)) is Qwen2AudioFamily


def test_a_family_that_does_not_read_the_checkpoint_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"qwen2_audio.*QwenOmniFamily reads qwen2_5_omni"):
        family_of(str(folder), QwenOmniFamily)


def test_a_text_lm_is_no_speech_llm(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*'hf-text'"):
        SpeechLLMSystem(str(tmp_path), device="cpu")


def test_an_asr_is_no_speech_llm(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tiny = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 8}
    config = WhisperConfig(**tiny, decoder_attention_heads=1, decoder_ffn_dim=8, vocab_size=20, pad_token_id=0)
    config.decoder_start_token_id = config.bos_token_id = config.eos_token_id = 0
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ASR of a cascade"):
        SpeechLLMSystem(str(tmp_path), device="cpu")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no-such"):
        SpeechLLMSystem(str(tmp_path / "no-such"), device="cpu")


def test_a_processor_with_another_placeholder_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["audio_token_index"] -= 1
    config.pop("audio_token_id", None)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="not a pair"):
        SpeechLLMSystem(str(copy), device="cpu")


def test_weights_that_are_cut_short_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="corrupt or cut short"):
        SpeechLLMSystem(str(copy), device="cpu")


def test_naming_the_system_loads_no_torch() -> None:
    code = "import sys; import salad_eval.systems.speech.system; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- a placeholder that is no token ------------------------------------------------------------------------------------


class PieceFamily(SpeechFamily):
    """Nothing but what the tokens of a prompt depend on."""

    model_types = ()
    architecture = ""
    placeholder_is_token = False
    audio_markup = "<|audio|>"
    audio_token = "<|audio|>"
    audio_token_id = -1


@pytest.mark.parametrize("bos", [False, True])
def test_texts_around_a_recording_are_tokenised_piece_by_piece(bos: bool) -> None:
    """One beginning, before a recording too; whitespace before one is dropped, whitespace at the end goes to the continuations."""
    tokenizer = train_tokenizer(bos=bos)
    family = PieceFamily(None, SimpleNamespace(tokenizer=tokenizer))
    sound = heard("gold")

    def plain(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    def pairs(*prompt: str | AudioSegment, options: tuple[str, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        found = family.encode_pairs(ask("i", *prompt, options=options), {sound.sha256: 2}, None)
        return [(pair.context, pair.continuation) for pair in found]

    begin, context = tuple(tokenizer.encode("")), plain("\nAnswer:")
    head = (*begin, *plain("Question:"), -1, -1)
    assert pairs("Question: ", sound, "\nAnswer: ", options=("Paris", "red")) == [
        ((*head, *context), plain("\nAnswer: Paris")[len(context) :]),
        ((*head, *context), plain(" red")),
    ]
    assert pairs(sound, options=(" Paris",)) == [((*begin, -1, -1), plain(" Paris"))]
    assert pairs(sound, " ", options=("Paris",)) == [((*begin, -1, -1), plain(" Paris"))]
    free = ask("i", sound, " and", sound, "\nAnswer: ", options=())
    assert family.encode_prompt(free, {sound.sha256: 2}, None) == (
        *begin, -1, -1, *plain(" and"), -1, -1, *plain("\nAnswer: "),
    )  # fmt: skip
    with pytest.raises(ModelError, match="no tokens of its own"):
        pairs(sound, options=("",))


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chat_template": "yes"}, "true, false or auto"),
        ({"chat_template": False, "system_prompt": "Be brief."}, "system_prompt"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"batch_seconds": 0.0}, "batch_seconds"),
        ({"cache_mb": -1}, "cache_mb"),
        ({"dtype": "float12"}, "float12"),
        ({"device": "gpu"}, "gpu"),
        ({"weights": "zip"}, "zip"),
        ({"quantization": "3bit"}, "3bit"),
    ],
)
def test_options_that_make_no_sense_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        SpeechLLMSystem(str(folder), **{"device": "cpu", **options})


def test_auto_takes_the_chat_template_where_there_is_one(folder: Path) -> None:
    auto = SpeechLLMSystem(str(folder), device="cpu")
    chat = SpeechLLMSystem(str(folder), device="cpu", chat_template=True)
    assert auto.fingerprint() == chat.fingerprint()
    request = ask("a", heard("gold"), "\nAnswer:")
    assert auto.loglikelihoods([request]) == chat.loglikelihoods([request])


def test_a_system_prompt_is_put_before_the_turn(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu", system_prompt="Be brief.")
    prompt = system.llm.render(ask("a", heard("gold"), "Answer."), system.chat)
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert prompt.count("<|AUDIO|>") == 1
    other = SpeechLLMSystem(str(folder), device="cpu", system_prompt="Be long.")
    assert system.fingerprint() != other.fingerprint()


def test_a_template_that_refuses_a_prompt_is_an_error_with_the_items_name(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    refusing = "{% if messages[-1]['role'] == 'user' %}{{ raise_exception('no questions') }}{% endif %}"
    whole = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").write_text(refusing + whole)
    system = SpeechLLMSystem(str(copy), device="cpu", system_prompt="Be brief.")
    with pytest.raises(ModelError, match=r"'a'.*no questions"):
        system.loglikelihoods([ask("a", heard("gold"), "Answer.")])


def test_a_template_kept_with_the_tokenizer_is_found(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu")
    request = ask("a", heard("gold"), "Answer.")
    prompt = system.llm.render(request, system.chat)
    template, system.llm.processor.chat_template = system.llm.processor.chat_template, None
    system.llm.tokenizer.chat_template = None  # transformers gives a template of its own file to both
    assert system.llm.template is None
    system.llm.tokenizer.chat_template = template
    assert system.llm.template == template
    assert system.llm.render(request, system.chat) == prompt


def test_the_memory_for_recordings_is_bounded(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu", cache_mb=0)
    assert np.isfinite(system.loglikelihoods([ask("a", heard("gold"), " is")])[0]).all()
    assert not system._heard


def test_bfloat16_hears_too(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu", dtype="bfloat16", chat_template=False)
    full = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
    request = ask("a", "Question:", heard("gold"), "\nAnswer:")
    assert system.loglikelihoods([request])[0] == pytest.approx(full.loglikelihoods([request])[0], abs=1.0)
    assert isinstance(system.generate([request], max_new_tokens=2, stop=())[0], str)


def test_generation_that_leaves_no_room_is_refused(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu")
    with pytest.raises(UserInputError, match="max_new_tokens"):
        system.generate([ask("a", "Hi")], max_new_tokens=4096, stop=())


def test_a_recording_that_gives_no_position_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu")
    monkeypatch.setattr(system.llm, "audio_rows", lambda recordings: [torch.zeros(0, 32) for _ in recordings])
    with pytest.raises(Exception, match="nothing was heard"):
        system.loglikelihoods([ask("a", "Q:", heard("gold"), "A:")])


def test_sound_that_is_dropped_without_a_word_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the old keyword ``audios=`` was: the prompt still holds the placeholder, and the features are gone."""
    system = SpeechLLMSystem(str(folder), device="cpu")
    original = system.llm.audio_inputs

    def deaf(recordings: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        inputs = original(recordings)
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    monkeypatch.setattr(system.llm, "audio_inputs", deaf)
    with pytest.raises(ModelError, match="did not reach the LM"):
        system.loglikelihoods([ask("a", "Q:", heard("gold"), "A:")])


def test_prompts_of_sound_alone_and_of_text_alone(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu", chat_template=False)
    found = system.loglikelihoods([ask("a", heard("gold")), ask("b", ""), ask("c", " ", heard("gold"), " ")])
    assert np.isfinite(found).all()


# --- batches of recordings -------------------------------------------------------------------------------------------


def test_a_window_of_the_encoder_counts_as_a_whole(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu", batch_seconds=60)
    encoded: list[int] = []
    original = system.llm.audio_rows
    system.llm.audio_rows = lambda sounds: encoded.append(len(sounds)) or original(sounds)  # type: ignore[method-assign,func-returns-value]
    system.loglikelihoods([ask(str(n), heard("gold" + "d" * n), " is") for n in range(5)])
    assert encoded == [2, 2, 1]  # each recording is short, and padded to 30 s


def test_a_language_model_keeps_the_logits_that_are_read(folder: Path) -> None:
    system = SpeechLLMSystem(str(folder), device="cpu")
    lm = system.llm.language_model(has_audio=True)
    assert isinstance(lm, LanguageModel)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        whole = lm(input_ids=ids).logits
        torch.testing.assert_close(lm(input_ids=ids, logits_to_keep=2).logits, whole[:, -2:])
        torch.testing.assert_close(lm(input_ids=ids, logits_to_keep=torch.tensor([0, 2])).logits, whole[:, [0, 2]])


# --- code that comes with a checkpoint -------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that brings its own code, in an empty cache of remote modules."""
    cache = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(cache))
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    tokenizer = train_tokenizer(bos=True)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}:\n\n{{ m['content'] }}</s>{% endfor %}{{ 'assistant:\n\n' }}"
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path / "tinyvox"
    model = remote_speech_llm.TinyVoxModel(remote_speech_llm.TinyVoxConfig(text_config=text.to_dict()))
    torch.nn.init.normal_(model.projector.weight, std=0.2)
    model.save_pretrained(path)
    remote_speech_llm.TinyVoxProcessor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(path)
    shutil.copy(str(remote_speech_llm.__file__), path / "tinyvox.py")
    for name in ("config.json", "processor_config.json"):
        state = json.loads((path / name).read_text())
        state["auto_map"] = {
            "AutoConfig": "tinyvox.TinyVoxConfig",
            "AutoModel": "tinyvox.TinyVoxModel",
            "AutoProcessor": "tinyvox.TinyVoxProcessor",
        }
        (path / name).write_text(json.dumps(state))
    return path


def test_code_that_comes_with_a_checkpoint_is_not_run_unasked(remote: Path) -> None:
    with pytest.raises(ModelError, match="trust_remote_code=true"):
        SpeechLLMSystem(str(remote), device="cpu")
    assert not any(name.startswith("transformers_modules.") and "tinyvox" in name for name in sys.modules)


def test_code_that_comes_with_a_checkpoint_is_run_by_name(remote: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    system = SpeechLLMSystem(str(remote), device="cpu", trust_remote_code=True, chat_template=False)
    model = AutoModel.from_pretrained(remote, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(remote, trust_remote_code=True)
    requests = [ask(str(i), "Question:", heard(text), "\nAnswer:") for i, text in enumerate(LENGTHS)]
    requests += [ask("text", "The capital of France is")]
    found = system.loglikelihoods(requests)
    assert len(set(found)) == len(found)
    for request, values in zip(requests, found, strict=True):
        sounds = [segment.audio.samples for segment in request.prompt if isinstance(segment, AudioSegment)]
        text = "".join("<|audio|>" if isinstance(s, AudioSegment) else s.text for s in request.prompt)
        for option, value in zip(OPTIONS, values, strict=True):
            inputs = processor(text=text + option, audio=sounds or None, sampling_rate=16_000)
            n = len(processor.tokenizer.encode(option, add_special_tokens=False))
            with torch.no_grad():
                logprobs = model(**inputs).logits[0, -n - 1 : -1].log_softmax(-1)
            assert value == pytest.approx(float(logprobs.gather(-1, inputs["input_ids"][0, -n:, None]).sum()), abs=1e-4)


def test_remote_code_in_its_chat_template(remote: Path) -> None:
    system = SpeechLLMSystem(str(remote), device="cpu", trust_remote_code=True)
    request = ask("a", heard("gold"), "Answer.")
    ids = system.llm.encode_prompt(request, {request.prompt[0].sha256: 3}, system.chat)  # type: ignore[union-attr]
    tokenizer = system.llm.tokenizer
    head = tokenizer.encode("<s>user:\n\n", add_special_tokens=False)
    tail = tokenizer.encode("Answer.</s>assistant:\n\n", add_special_tokens=False)
    assert ids == (*head, -1, -1, -1, *tail)
    assert isinstance(system.generate([request], max_new_tokens=3, stop=())[0], str)
    with pytest.raises(ModelError, match="placeholder"):
        system.loglikelihoods([ask("a", "Q <|audio|>", heard("gold"), "A:")])


# --- the adapter of the docs -----------------------------------------------------------------------------------------


def adapter() -> ModuleType:
    """The Python block of ADAPTER.md as a module."""
    text = (Path(str(speech_package.__file__)).parent / "ADAPTER.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(block.splitlines()) <= 60
    module = ModuleType("glm_asr_adapter")
    exec(compile(block, "ADAPTER.md", "exec"), module.__dict__)  # noqa: S102
    return module


GLM_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'audio' %}<|begin_of_audio|><|pad|><|end_of_audio|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ '\n' }}{% endif %}"
)


class TestAdapterOfTheDocs(SpeechSystemChecks):
    system_class = adapter().GlmAsrSystem
    architecture = GlmAsrForConditionalGeneration
    markup = "<|begin_of_audio|><|pad|><|end_of_audio|>"
    too_long_seconds = 61.0

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        tokenizer = qwen_tokenizer("<|pad|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|user|>", "<|assistant|>")
        text = {
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
            "initializer_range": 0.2, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        }  # fmt: skip
        audio = {
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_mel_bins": 16, "initializer_range": 0.2,
        }  # fmt: skip
        config = GlmAsrConfig(
            audio_config=audio,
            text_config=text,
            audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
            tie_word_embeddings=False,
        )
        torch.manual_seed(seed)
        GlmAsrForConditionalGeneration(config).save_pretrained(folder)
        GlmAsrProcessor(
            WhisperFeatureExtractor(feature_size=16), tokenizer, chat_template=GLM_TEMPLATE, max_audio_len=60
        ).save_pretrained(folder)

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        llm = LlamaForCausalLM(model.config.text_config)
        llm.model.load_state_dict(model.model.language_model.state_dict())
        llm.lm_head.load_state_dict(model.lm_head.state_dict())
        llm.save_pretrained(folder)

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        """This processor takes one recording a text; the order of two must matter all the same."""
        first, second = heard("gold"), heard("a river in the rain", "b")
        one, other = system.loglikelihoods(
            [ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")]
        )
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-3

    def test_the_built_in_plug_in_sends_one_here(self, folder: Path) -> None:
        with pytest.raises(ModelError, match="write an adapter"):
            SpeechLLMSystem(str(folder), device="cpu")
