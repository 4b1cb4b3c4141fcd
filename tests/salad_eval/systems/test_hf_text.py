"""The text system: its tokenisation, its promises as a plug-in, and what it says of a checkpoint that cannot be used."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from salad_eval import plugins
from salad_eval.checkpoints import load_causal_lm
from salad_eval.errors import MissingExtraError, ModelError, UserInputError
from salad_eval.systems import prompts
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import Audio, AudioSegment, Distributional, Request, System, TextSegment, Tokens
from tests.helpers.tiny_causal_lm import TEXTS, save_tiny_llama, train_tokenizer

SOUND = AudioSegment(Audio(np.zeros(160, dtype=np.float32), 16_000), "00")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def system(folder) -> HFTextSystem:
    return HFTextSystem(str(folder), device="cpu")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module", params=[False, True], ids=["no_bos", "bos"])
def tokenizer(request):
    return train_tokenizer(bos=request.param)


def ask(context: str, *continuations: str) -> Request:
    return Request("i", (TextSegment(context),), continuations)


# --- tokenisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "continuation", "as_if"),
    [
        ("Question: moon?\nAnswer:", " Paris", ("Question: moon?\nAnswer:", " Paris")),
        ("Question: moon? ", "Paris", ("Question: moon?", " Paris")),  # the space moves
        ("Question: moon?\n\n", "Paris", ("Question: moon?", "\n\nParis")),
    ],
)
def test_trailing_whitespace_belongs_to_the_continuation(tokenizer, context, continuation, as_if):
    pair = prompts.encode_pair(tokenizer, context, continuation)
    assert pair.context == tuple(tokenizer.encode(as_if[0]))
    assert list(pair.context + pair.continuation) == tokenizer.encode("".join(as_if))


def test_an_empty_context_is_the_bos_token(tokenizer):
    pair = prompts.encode_pair(tokenizer, "", "Paris")
    assert pair.context == (tokenizer.bos_token_id,)
    assert pair.continuation == tuple(tokenizer.encode("Paris", add_special_tokens=False))
    assert prompts.encode_pair(tokenizer, " ", "Paris").context == (tokenizer.bos_token_id,)


def test_no_second_bos_where_the_text_has_one(tokenizer):
    assert prompts.encode_pair(tokenizer, "<s>Mars", " red").context.count(0) == 1


def test_what_is_too_long_loses_its_beginning(tokenizer):
    whole = prompts.encode_pair(tokenizer, "The quick brown fox jumps", " over it")
    n = len(whole.continuation)
    cut = whole.truncated(n + 1)
    assert cut.continuation == whole.continuation
    assert cut.context == whole.context[-2:]
    assert len(whole.truncated(n).context) == 1
    with pytest.raises(ModelError, match="does not fit"):
        whole.truncated(n - 1)


def test_a_continuation_without_tokens_is_refused(tokenizer):
    with pytest.raises(ModelError, match="no tokens of its own"):
        prompts.encode_pair(tokenizer, "Mars", "")


def test_texts_around_audio_lose_the_space_that_belongs_to_the_spoken_word():
    segments = (TextSegment("Passage: "), TextSegment("\n "), SOUND, TextSegment(" \nAnswer:"), SOUND, SOUND)
    assert prompts.split_at_audio(segments) == ("Passage:", SOUND, " \nAnswer:", SOUND, SOUND)
    assert prompts.split_at_audio((TextSegment("  "), SOUND)) == (SOUND,)


def test_a_tokenizers_fingerprint_is_its_vocabulary_not_its_padding():
    one, same, other = train_tokenizer(), train_tokenizer(), train_tokenizer(texts=TEXTS[:2])
    same.pad_token = "</s>"
    same(["a", "longer text"], padding=True)
    assert prompts.tokenizer_fingerprint(one) == prompts.tokenizer_fingerprint(same)
    assert prompts.tokenizer_fingerprint(one) != prompts.tokenizer_fingerprint(other)
    assert prompts.tokenizer_fingerprint(one) != prompts.tokenizer_fingerprint(train_tokenizer(bos=True))


# --- the plug-in -----------------------------------------------------------------------------------------------------


def test_it_is_a_system_with_distributions_and_comes_by_name(folder, system):
    assert isinstance(system, System)
    assert isinstance(system, Distributional)
    by_name = plugins.create("salad.systems", "hf-text", {"pretrained": str(folder), "device": "cpu"})
    assert by_name.fingerprint() == system.fingerprint()
    assert by_name.tokenizer_fingerprint() == system.tokenizer_fingerprint()


def test_log_probabilities_sum_the_distributions(system):
    requests = [ask("Mars is", " red", " hot", " the dog"), ask("The quick", " brown fox"), ask("none")]
    summed = system.loglikelihoods(requests)
    rows = system.distributions(requests)
    assert [len(row) for row in summed] == [3, 1, 0]
    for request, values, options in zip(requests, summed, rows, strict=True):
        for continuation, value, option in zip(request.continuations, values, options, strict=True):
            ids = prompts.encode_pair(system.tokenizer, request.text, continuation).continuation
            assert option.shape == (len(ids), len(system.tokenizer))
            assert option[np.arange(len(ids)), list(ids)].sum() == pytest.approx(value, abs=1e-5)


def test_options_that_push_the_context_out_are_scored_each_with_its_own(folder):
    short = HFTextSystem(str(folder), device="cpu", max_length=20)
    context, options = "The quick brown fox jumps over the lazy dog " * 3, (" red", " the moon is red and hot" * 2)
    together = short.loglikelihoods([ask(context, *options)])[0]
    apart = [short.loglikelihoods([ask(context, option)])[0][0] for option in options]
    assert list(together) == pytest.approx(apart, abs=1e-5)


def test_tokens_are_counted_as_the_tokenizer_counts_them(folder):
    system = HFTextSystem(str(folder), device="cpu")
    n = len(system.tokenizer.encode("Question: moon?", add_special_tokens=False))
    options = [" Paris", " the moon"]
    n_options = sum(len(system.tokenizer.encode(option, add_special_tokens=False)) for option in options)
    assert system.tokens() == Tokens(0, 0)
    system.loglikelihoods([ask("Question: moon?", *options)])
    assert system.tokens() == Tokens(n + n_options, 0)  # the prompt is read once for both
    (said,) = system.generate([ask("Question: moon?")], max_new_tokens=5, stop=[])
    assert system.tokens() == Tokens(2 * n + n_options, 5), said
    system.loglikelihoods([])
    assert system.tokens() == Tokens(2 * n + n_options, 5)


def test_generation_stops_before_the_first_stop_string(system):
    prompt = ask("The quick brown")
    (free,) = system.generate([prompt], max_new_tokens=20, stop=())
    stop = free[4:6]
    (cut,) = system.generate([prompt], max_new_tokens=20, stop=(stop, "never there"))
    assert cut == free[: free.index(stop)]
    with pytest.raises(UserInputError, match="max_new_tokens"):
        system.generate([prompt], max_new_tokens=512, stop=())
    with pytest.raises(UserInputError, match="empty"):
        system.generate([prompt], max_new_tokens=5, stop=("",))


def test_audio_is_refused_not_skipped(system):
    request = Request("item-7", (TextSegment("Question:"), SOUND, TextSegment("\nAnswer:")), (" red",))
    for call in (system.loglikelihoods, system.distributions, lambda r: system.generate(r, max_new_tokens=2, stop=())):
        with pytest.raises(ModelError, match="item-7"):
            call([request])


def test_a_chat_template_wraps_the_prompt(copy):
    plain = HFTextSystem(str(copy), device="cpu")
    with pytest.raises(ModelError, match="chat_template"):
        HFTextSystem(str(copy), device="cpu", chat_template=True)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    chat = HFTextSystem(str(copy), device="cpu", chat_template=True)
    (wrapped,) = chat.loglikelihoods([ask("Mars is", " red")])
    (by_hand,) = plain.loglikelihoods([ask("<s>user: Mars is\nassistant:", " red")])
    assert wrapped == pytest.approx(by_hand, abs=1e-6)
    assert chat.fingerprint() != plain.fingerprint()


def test_the_fingerprint_follows_weights_and_settings(folder, copy, system):
    assert HFTextSystem(str(copy), device="cpu").fingerprint() == system.fingerprint()  # not the path
    assert HFTextSystem(str(copy), device="cpu", dtype="bfloat16").fingerprint() != system.fingerprint()


@pytest.mark.parametrize("chat_template", [False, True])
def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(folder, copy, tmp_path, chat_template):
    (copy / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")

    def fingerprint(path: str) -> str:
        return HFTextSystem(path, device="cpu", chat_template=chat_template).fingerprint()

    assert unseen(copy, tmp_path, fingerprint) == ([] if chat_template else ["chat_template.jinja"])
    assert fingerprint(str(with_beside(copy, tmp_path))) == fingerprint(str(copy))


def test_an_edited_chat_template_is_another_fingerprint(copy):
    """Also one that stands among the tokenizer's settings, as older checkpoints keep it."""
    path, prints = copy / "tokenizer_config.json", []
    for template in ("{{ messages[-1].content }}", "{{ messages[-1].content }}!"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
        prints.append(HFTextSystem(str(copy), device="cpu", chat_template=True).fingerprint())
    assert prints[0] != prints[1]


# --- memory ----------------------------------------------------------------------------------------------------------


def test_passes_that_memory_does_not_hold_are_made_smaller(folder, system, monkeypatch):
    requests = [ask(f"Question {n}: moon?\nAnswer:", " Paris", " a red moon") for n in range(8)]
    small = HFTextSystem(str(folder), device="cpu", batch_tokens=4096)
    forward, passes = small.model.forward, []

    def limited(*args, **inputs):
        passes.append(inputs["input_ids"].numel())
        if passes[-1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*args, **inputs)

    monkeypatch.setattr(small.model, "forward", limited)
    np.testing.assert_allclose(small.loglikelihoods(requests), system.loglikelihoods(requests), atol=1e-5)
    assert max(passes) > 64
    assert small.batch_tokens <= 64
    passes.clear()
    wanted = {"max_new_tokens": 3, "stop": ()}
    assert small.generate(requests, **wanted) == system.generate(requests, **wanted)
    assert max(passes) <= 64  # the smaller batches are kept to
    assert small.fingerprint() == system.fingerprint()


# --- checkpoints that cannot be used ---------------------------------------------------------------------------------


def drop(*names: str):
    def spoil(folder: Path) -> None:
        for name in names:
            for path in folder.glob(name):
                path.unlink()

    return spoil


def cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def scribble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lose_a_shard(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def become_an_encoder(folder: Path) -> None:
    config = BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)


def become_pickle(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def take_a_larger_tokenizer(folder: Path) -> None:
    tokenizer = train_tokenizer()
    tokenizer.add_tokens([f"<extra{i}>" for i in range(50)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("token*"), "no tokenizer"),
        (drop("config.json"), "no config.json"),
        (drop("model.safetensors"), "no weights"),
        (cut_short, "corrupt or cut short"),
        (scribble, "corrupt or cut short"),
        (lose_a_tensor, "missing keys: model.layers.1.mlp.up_proj.weight"),
        (lose_a_shard, "lacks 1 of 2 weight files: model-00002-of-00002"),
        (become_an_encoder, "BertModel, not a causal language model"),
        (become_pickle, "weights=pickle"),
        (take_a_larger_tokenizer, "not a pair"),
        (lambda folder: (folder / "config.json").write_text("{"), "configuration"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_spoilt_folder_is_named_with_what_is_wrong(copy, spoil, message):
    spoil(copy)
    with pytest.raises(ModelError) as error:
        load_causal_lm(str(copy), device="cpu")
    assert str(copy) in str(error.value)
    assert message in str(error.value)


def test_pickle_weights_load_where_they_are_asked_for_by_name(copy, system):
    become_pickle(copy)
    pickled = HFTextSystem(str(copy), device="cpu", weights="pickle")
    request = ask("Mars is", " red")
    assert pickled.loglikelihoods([request])[0] == pytest.approx(system.loglikelihoods([request])[0], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "flaot32"}, "did you mean 'float32'"),
        ({"device": "gpuu"}, "device 'gpuu'"),
        ({"weights": "zip"}, "weights 'zip'"),
        ({"quantization": "3bit"}, "quantization '3bit'"),
    ],
)
def test_options_nobody_knows_are_refused(folder, options, message):
    with pytest.raises(UserInputError, match=message):
        load_causal_lm(str(folder), **{"device": "cpu", **options})


def test_quantisation_says_what_to_install(folder, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="bitsandbytes"):
        load_causal_lm(str(folder), device="cpu", quantization="4bit")


def test_a_path_that_does_not_exist_and_a_hub_that_cannot_be_reached(monkeypatch):
    with pytest.raises(UserInputError, match="no model folder"):
        load_causal_lm("./no/such/folder")

    def no_network(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="hub cannot be reached") as error:
        load_causal_lm("nobody-here/no-such-model")
    assert "nobody-here/no-such-model" in str(error.value)
