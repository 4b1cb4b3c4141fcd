"""Embedders: unit rows, zeros where nothing is known, the same vectors for the same options."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import MissingExtraError, UserInputError
from salad_train.selection.embedders import LanguageModelEmbedder, SentenceTransformerEmbedder, TfidfEmbedder, unit_rows
from salad_train.types import Embedder

TOPICS = {
    "sea": ("the whale swims in the deep sea", "a whale and a shark in the sea", "the shark hunts fish in the deep"),
    "sky": ("the star shines in the night sky", "a comet crosses the night sky", "the star and the comet at night"),
}
TEXTS = [text for texts in TOPICS.values() for text in texts]


def fitted(texts: list[str], **options: Any) -> TfidfEmbedder:
    embedder = TfidfEmbedder(**options)
    embedder.fit(texts)
    return embedder


# --- tfidf -----------------------------------------------------------------------------------------------------------


def test_tfidf_puts_texts_of_one_topic_together() -> None:
    rows = fitted(TEXTS, width=3).embed(TEXTS)
    cosine = rows @ rows.T
    same = [cosine[i, j] for i in range(6) for j in range(6) if i != j and i // 3 == j // 3]
    other = [cosine[i, j] for i in range(6) for j in range(6) if i // 3 != j // 3]
    assert np.mean(same) > np.mean(other) + 0.4


def test_tfidf_rows_are_float32_of_unit_length_and_as_wide_as_asked() -> None:
    texts = [f"word{i % 13} other{i % 7} third{i % 5}" for i in range(60)]
    rows = fitted(texts, width=8).embed(texts)
    assert rows.shape == (60, 8)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", "  \n", "...", "zzyzx quux"])
def test_a_text_with_nothing_known_is_a_row_of_zeros(text: str) -> None:
    rows = fitted(TEXTS).embed([TEXTS[0], text])
    assert not rows[1].any()
    assert np.linalg.norm(rows[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_corpus_smaller_than_the_width_keeps_all_its_axes(n: int) -> None:
    texts = TEXTS[:n]
    rows = fitted(texts, width=64).embed(texts)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    # nothing is projected away: cosines are those of plain TF-IDF
    again = fitted(texts, width=1000).embed(texts)
    np.testing.assert_allclose(rows @ rows.T, again @ again.T, atol=1e-5)


def test_a_corpus_of_punctuation_embeds_to_zeros() -> None:
    assert not fitted(["...", "?!"]).embed(["...", "words"]).any()


def test_no_texts_to_embed_are_no_rows() -> None:
    assert fitted(TEXTS).embed([]).shape[0] == 0


def test_grammar_weighs_less_at_higher_powers() -> None:
    frequent = ["the a whale", *["the a thing"] * 6, "the a star"]
    low, high = (fitted(frequent, idf_power=p).embed(frequent) for p in (1.0, 3.0))
    assert high[0] @ high[-1] < low[0] @ low[-1] - 0.1


@given(st.lists(st.text(alphabet="ab c.", max_size=12), min_size=1, max_size=12), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_any_texts_give_finite_unit_or_zero_rows_and_the_same_ones_again(texts: list[str], seed: int) -> None:
    rows = fitted(texts, width=2, seed=seed).embed(texts)
    lengths = np.linalg.norm(rows, axis=1)
    assert np.isfinite(rows).all()
    assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))
    np.testing.assert_array_equal(rows, fitted(texts, width=2, seed=seed).embed(texts))


def test_it_is_fitted_on_a_seeded_sample_and_embeds_everything() -> None:
    texts = [f"common word{i}" for i in range(200)]
    first, again, other = (fitted(texts, sample=20, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.embed(texts), again.embed(texts))
    assert first.embed(texts).shape[0] == 200
    assert not np.array_equal(first.embed(texts), other.embed(texts))


def test_embedding_before_fitting_is_refused() -> None:
    with pytest.raises(UserInputError, match="fit"):
        TfidfEmbedder().embed(["a"])


def test_fitting_to_nothing_is_refused() -> None:
    with pytest.raises(UserInputError, match="empty"):
        TfidfEmbedder().fit([])


@pytest.mark.parametrize(
    "options", [{"width": 0}, {"max_terms": 0}, {"sample": -1}, {"idf_power": -1.0}, {"idf_power": float("nan")}]
)
def test_wrong_options_name_themselves(options: dict[str, Any]) -> None:
    with pytest.raises(UserInputError, match=next(iter(options))):
        TfidfEmbedder(**options)


@pytest.mark.parametrize("option", [{"width": 5}, {"seed": 1}, {"sample": 7}, {"max_terms": 9}, {"idf_power": 1.0}])
def test_every_option_is_in_the_fingerprint(option: dict[str, Any]) -> None:
    assert TfidfEmbedder(**option).fingerprint() != TfidfEmbedder().fingerprint()


def test_zero_rows_stay_zero() -> None:
    np.testing.assert_array_equal(unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])), np.float32([[0.6, 0.8], [0, 0]]))


# --- the base LLM ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers.tiny_causal_lm import save_tiny_llama

    return save_tiny_llama(tmp_path_factory.mktemp("llama"), bos=True)


def test_lm_rows_are_the_mean_of_last_hidden_states_of_the_texts_tokens(llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = LanguageModelEmbedder(str(llama)).embed(TEXTS)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    for text, row in zip(TEXTS, rows, strict=True):
        with torch.no_grad():
            out = model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True)
        mean = out.hidden_states[-1][0, 1:].mean(dim=0).numpy()  # without BOS
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_lm_batches_and_their_padding_change_nothing(llama: Path) -> None:
    texts = [TEXTS[0], "a", *TEXTS[1:], "the sea " * 20]
    alone = LanguageModelEmbedder(str(llama), batch_tokens=1).embed(texts)
    together = LanguageModelEmbedder(str(llama), batch_tokens=4096).embed(texts)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_lm_fit_takes_off_what_all_texts_share(llama: Path) -> None:
    embedder = LanguageModelEmbedder(str(llama))
    raw = embedder.embed(TEXTS)
    embedder.fit(TEXTS)
    centred = embedder.embed(TEXTS)
    assert (centred @ centred.T).mean() < (raw @ raw.T).mean() / 2
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1, atol=1e-5)


def test_lm_empty_texts_are_zeros_and_long_ones_are_cut(llama: Path) -> None:
    embedder = LanguageModelEmbedder(str(llama), max_tokens=8)
    rows = embedder.embed(["", "the sea " * 50, "the sea " * 60])
    assert not rows[0].any()
    np.testing.assert_allclose(rows[1], rows[2], atol=1e-6)


def test_lm_fit_to_one_text_does_not_make_it_vanish(llama: Path) -> None:
    embedder = LanguageModelEmbedder(str(llama))
    embedder.fit(TEXTS[:1])
    assert np.linalg.norm(embedder.embed(TEXTS[:1])) == pytest.approx(1, abs=1e-5)


# --- sentence-transformers -------------------------------------------------------------------------------------------


def test_sentence_transformers_says_how_to_install_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*sentence-transformers"):
        SentenceTransformerEmbedder().embed(["a text"])


def test_sentence_transformers_rows_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self, name: str, **options: Any) -> None:
            self.name = name

        def encode(self, texts: list[str], **options: Any) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts])

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    rows = SentenceTransformerEmbedder("x").embed(["abc", " "])
    np.testing.assert_allclose(rows, [[3 / 10**0.5, 1 / 10**0.5], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("embedder", [TfidfEmbedder, LanguageModelEmbedder, SentenceTransformerEmbedder])
def test_all_of_them_are_embedders_that_load_nothing_when_made(embedder: type) -> None:
    assert isinstance(embedder(), Embedder)
