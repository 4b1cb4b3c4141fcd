"""Training the `nano` ASR on a world of a few sentences, and how its models are saved."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCTC, AutoProcessor, LlamaConfig, LlamaForCausalLM, ParakeetForCTC

from salad_eval.asr.transformers_ctc import TransformersCTC
from salad_eval.audio.store import AudioStore
from salad_eval.tts.espeak import parse_voice
from salad_train.nano import world
from salad_train.nano.asr import AsrPlan, cast, choose, measure_asr, sentences_of, train_asr, train_tokenizer
from salad_train.nano.world import Document, Question
from salad_train.training.saving import save_float16

TINY = AsrPlan(
    n_sentences=12,
    vocab_size=48,
    mel_bins=32,
    hidden_size=32,
    intermediate_size=64,
    layers=1,
    heads=2,
    subsampling_channels=4,
    epochs=2,
    seconds_per_batch=20,
    voices=("en-us+m1",),
)
DOCUMENTS = [
    Document("d0", "a", "The cat sat. A dog ran home."),
    Document("d1", "a", "Question: What is red?\nAnswer: a rose"),
    Document("d2", "b", "Two cows eat grass. The sun is hot."),
    Document("d3", "b", "Question: Who runs home?\nAnswer: a dog"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are faster with one thread, and the sum of their gradients has one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AudioStore:
    return AudioStore(tmp_path_factory.mktemp("audio"))


# --- what it hears ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Question: What is the symbol for tin?\nAnswer: Sn", ["What is the symbol for tin?"]),
        ("Tin is a metal. Is it? 7 is odd.", ["Tin is a metal.", "Is it?", "7 is odd."]),
        (
            "Mr. Bell met J. S. Bach",
            ["Mr.", "Bell met J.", "S.", "Bach"],
        ),  # what is said is what is written, all the same
        ("Only one.", ["Only one."]),
    ],
)
def test_sentences_of(text: str, expected: list[str]) -> None:
    assert sentences_of(Document("d", "a", text)) == expected


def test_it_never_hears_a_phrasing_of_the_benchmark() -> None:
    heard = {sentence for document in world.corpus(0, n_everyday=50) for sentence in sentences_of(document)}
    asked = {question.question for split in ("validation", "test") for question in world.benchmark(split, 0)}
    assert len(heard) > 10_000
    assert not heard & asked


def test_rare_words_are_heard_first() -> None:
    common = [f"the cat sat on mat {k}" for k in range(100)]
    rare = ["a zebra ran", "that zebra slept", "the quokka woke"]
    taken = choose([*common, *rare], n=110, mentions=2, rng=np.random.default_rng(0))
    assert len(taken) == len(set(taken)) == 103
    few = choose([f"the cat sat {'x' * (k % 2)}" for k in range(500)] + rare, 20, 2, np.random.default_rng(0))
    assert set(rare) <= set(few)
    assert choose(common, 10, 2, np.random.default_rng(3)) == choose(common, 10, 2, np.random.default_rng(3))
    assert choose(common, 10, 2, np.random.default_rng(3)) != choose(common, 10, 2, np.random.default_rng(4))


def test_speakers_of_training_and_evaluation_are_disjoint() -> None:
    jobs = cast(["One."] * 500, AsrPlan(), np.random.default_rng(0))
    trained = {(spec.base, spec.variant) for spec in map(parse_voice, {job.voice for job in jobs})}
    evaluated = {(spec.base, spec.variant) for spec in map(parse_voice, world.EVALUATION_VOICES)}
    assert not trained & evaluated
    assert trained == {(spec.base, spec.variant) for spec in map(parse_voice, world.TRAINING_VOICES)}


def test_each_sentence_is_said_once_as_it_is_spoken() -> None:
    plan = dataclasses.replace(TINY, voices=("en-us+m1", "en-us+f2,rate=160"), rates=(0, 10), pitches=(0, -5))
    jobs = cast(["I have 3.", "You have 4."], plan, np.random.default_rng(0))
    assert {job.item_id: job.spoken_text for job in jobs} == {"0": "I have three.", "1": "You have four."}
    many = {job.voice for job in cast(["Yes."] * 100, plan, np.random.default_rng(0))}
    assert many == {"en-us+m1", "en-us+m1,rate=185,pitch=45", "en-us+f2,rate=160", "en-us+f2,rate=170,pitch=45"}


def test_the_tokenizer_gives_the_written_text_back() -> None:
    texts = ["What is 3 plus 4?", "Dvorak's F-sharp; see page 12!", "aa  bb"]
    tokenizer = train_tokenizer(texts, 64)
    assert tokenizer.pad_token_id == 0
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert 0 not in ids
        spread = [token for i in ids for token in (i, i, 0)]  # as CTC emits it: repeated, and with blanks between
        assert tokenizer.decode(spread, skip_special_tokens=True) == text


# --- training --------------------------------------------------------------------------------------------------------


def test_it_learns_what_it_hears_and_is_saved_like_any_other(store: AudioStore, tmp_path: Path) -> None:
    """A few sentences, overfitted: the saved model writes down what is said, capitals and stops included."""
    plan = dataclasses.replace(TINY, n_sentences=4, epochs=150, rates=(0,), pitches=(0,), time_masks=0, mel_masks=0)
    documents = [Document("d", "a", "The cat sat. What is red?"), DOCUMENTS[3]]
    measured = train_asr(documents, tmp_path / "asr", plan, store=store, workers=1)
    asked = [Question(str(k), "a", "r", "f", text, (), 0) for k, text in enumerate(["The cat sat.", "Who runs home?"])]
    figures = measure_asr(str(tmp_path / "asr"), asked, store=store, voices=plan.voices, workers=1)
    assert figures.wer == 0.0
    assert figures.wer_by_domain == {"a": 0.0}
    assert figures.wer_by_voice == {"en-us+m1": 0.0}
    assert figures.n_words == 6
    assert measured["sentences"] == 3
    assert measured["final_loss_nats"] < 0.5
    written = TransformersCTC(str(tmp_path / "asr")).transcribe(
        [store.get(path.stem) for path in store.root.glob("pcm/*/*.wav")]
    )
    assert {"The cat sat.", "What is red?", "Who runs home?"} <= set(written)


def test_the_same_seed_gives_the_same_model(store: AudioStore, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_asr(DOCUMENTS, tmp_path / name, dataclasses.replace(TINY, seed=seed), store=store, workers=1)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a if name in c and a[name].shape == c[name].shape)


def test_a_trained_asr_loads_as_stock_transformers(store: AudioStore, tmp_path: Path) -> None:
    measured = train_asr(DOCUMENTS, tmp_path, TINY, store=store, workers=1)
    model, processor = AutoModelForCTC.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert type(model) is ParakeetForCTC
    assert model.dtype == torch.float32
    assert model.num_parameters() == measured["parameters"]
    assert processor.feature_extractor.feature_size == 32
    assert len(processor.tokenizer) == model.config.vocab_size
    assert 0 < measured["hours_of_speech"] * 3600 < 60


def test_the_shipped_size_is_within_its_bounds() -> None:
    from salad_train.nano.asr import build_model

    tokenizer = train_tokenizer(
        [sentence for document in world.corpus(0) for sentence in sentences_of(document)], AsrPlan().vocab_size
    )
    assert build_model(tokenizer, AsrPlan()).num_parameters() <= 2_000_000


# --- saving ----------------------------------------------------------------------------------------------------------


def llama(tied: bool) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_float16_and_loaded_as_float32(tied: bool, tmp_path: Path) -> None:
    model = llama(tied)
    save_float16(model, None, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert ("lm_head.weight" in stored) == (not tied)
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_saving_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = llama(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_float16(model, None, tmp_path)
    assert model.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_part_of_the_configuration_says_float32(store: AudioStore, tmp_path: Path) -> None:
    train_asr(DOCUMENTS, tmp_path, TINY, store=store, workers=1)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text)["dtype"] == "float32"
    assert set(re.findall(r'"(?:torch_)?dtype": "(\w+)"', text)) == {"float32"}
    stored = load_file(tmp_path / "model.safetensors")
    counters = {name for name, tensor in stored.items() if tensor.dtype != torch.float16}
    assert all(name.endswith("num_batches_tracked") for name in counters)
