"""F, M and D against a dense reference, and what they must be for systems that are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import ModelError, UserInputError
from salad_eval.pipeline.divergence import (
    DivergenceQuery,
    SpokenRequest,
    divergences,
    gold_only,
    incomparable,
    kl_divergence,
)
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.types import Audio, AudioSegment, Divergence, Reject, Request, TextSegment
from tests.helpers.tiny_causal_lm import save_tiny_llama

VOCABULARY = 11


class RandomDistributions:
    """Distributions that depend on seed, item, input form and voice, and on nothing else."""

    def __init__(self, seed: int, tokenizer: str = "tok", vocabulary: int = VOCABULARY) -> None:
        self.seed, self.tokenizer, self.vocabulary = seed, tokenizer, vocabulary
        self.batches: list[int] = []

    def tokenizer_fingerprint(self) -> str:
        return self.tokenizer

    def rows(self, request: Request) -> np.ndarray:
        heard = sum(ord(c) for s in request.prompt if isinstance(s, AudioSegment) for c in s.sha256)
        rng = np.random.default_rng([self.seed, len(request.text), heard])
        logits = torch.tensor(rng.normal(0, 2, (len(request.continuations[0].split()), self.vocabulary)))
        return logits.log_softmax(-1).numpy().astype(np.float32)

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        self.batches.append(len(requests))
        return [[self.rows(request)] for request in requests]


def text_request(n: int, gold: str = " gold words here") -> Request:
    return Request(f"i{n}", (TextSegment("x" * (n + 1)),), (gold,))


def query(n: int, voices: Sequence[str] = ("en", "fr"), gold: str = " gold words here") -> DivergenceQuery:
    def spoken(voice: str) -> Request:
        segment = AudioSegment(Audio(np.zeros(4, dtype=np.float32), 16_000), voice)
        return Request(f"i{n}", (segment, TextSegment("x" * (n + 1))), (gold,))

    return DivergenceQuery(
        text_request(n, gold), tuple(SpokenRequest(voice, "clean", spoken(voice)) for voice in voices)
    )


def dense_kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p ‖ q) by torch, over whole rows in float64."""
    return torch.nn.functional.kl_div(
        torch.tensor(q, dtype=torch.float64), torch.tensor(p, dtype=torch.float64), log_target=True, reduction="sum"
    ).item()


def test_f_m_and_d_are_the_papers_divergences_in_nats():
    base, adapted = RandomDistributions(1), RandomDistributions(2)
    asked = [query(n) for n in range(5)]
    records = list(divergences(base, adapted, asked))
    assert [(r.item_id, r.voice) for r in records] == [(f"i{n}", voice) for n in range(5) for voice in ("en", "fr")]
    pairs = [(one, spoken) for one in asked for spoken in one.spoken]
    for record, (q, rendering) in zip(records, pairs, strict=True):
        base_text, adapted_text = base.rows(q.text), adapted.rows(q.text)
        adapted_speech = adapted.rows(rendering.request)
        assert record.n_positions == 3
        assert record.forgetting == pytest.approx(dense_kl(base_text, adapted_text), abs=1e-5)
        assert record.misalignment == pytest.approx(dense_kl(adapted_text, adapted_speech), abs=1e-5)
        assert record.distillation == pytest.approx(dense_kl(base_text, adapted_speech), abs=1e-5)
        assert min(record.forgetting, record.misalignment, record.distillation) > 0.1


def test_an_adapted_model_that_is_the_base_has_forgotten_nothing():
    for record in divergences(RandomDistributions(1), RandomDistributions(1), [query(0), query(1)]):
        assert record.forgetting == 0.0
        assert record.misalignment == record.distillation > 0


def test_real_models_the_same_and_different(tmp_path):
    one = HFTextSystem(str(save_tiny_llama(tmp_path / "one", seed=0)), device="cpu")
    two = HFTextSystem(str(save_tiny_llama(tmp_path / "two", seed=1)), device="cpu")
    written = Request("i", (TextSegment("Question: moon?\nAnswer:"),), (" the dog",))
    misheard = Request("i", (TextSegment("Question: noon?\nAnswer:"),), (" the dog",))
    asked = [
        DivergenceQuery(written, (SpokenRequest("same", "clean", written), SpokenRequest("other", "clean", misheard)))
    ]
    same, other = divergences(one, one, asked)
    assert [same.forgetting, same.misalignment, same.distillation] == pytest.approx([0.0] * 3, abs=1e-9)
    assert other.forgetting == pytest.approx(0.0, abs=1e-9)
    assert other.misalignment > 0
    moved, _ = divergences(one, two, asked)
    assert moved.forgetting > 0
    assert moved.misalignment == pytest.approx(0.0, abs=1e-9)
    assert moved.distillation == pytest.approx(moved.forgetting, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30), st.integers(1, 4), st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_kl_is_never_negative_zero_for_equals_and_the_dense_value(seed, scale, positions, vocabulary):
    rng = np.random.default_rng(seed)
    p, q = (torch.tensor(rng.normal(0, scale, (positions, vocabulary))).log_softmax(-1).numpy() for _ in range(2))
    p32, q32 = p.astype(np.float32), q.astype(np.float32)
    assert kl_divergence(p32, p32) == 0.0
    assert kl_divergence(p32, q32) >= 0.0
    assert kl_divergence(p32, q32) == pytest.approx(dense_kl(p, q), rel=1e-4, abs=1e-4)


def test_kl_of_a_known_pair_and_of_impossible_tokens():
    p, q = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    assert kl_divergence(p, q) == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))
    with np.errstate(divide="ignore"):
        one_sided = np.log([[1.0, 0.0]])
    assert kl_divergence(one_sided, p) == pytest.approx(np.log(2))
    assert kl_divergence(p, one_sided) == np.inf


def test_an_infinite_divergence_is_a_reject_with_its_rendering():
    class Certain(RandomDistributions):
        def rows(self, request):
            rows = np.full((1, VOCABULARY), -np.inf, dtype=np.float32)
            rows[0, 0] = 0.0
            return rows

    class Level(RandomDistributions):
        def rows(self, request):
            return np.full((1, VOCABULARY), -np.log(VOCABULARY), dtype=np.float32)

    (reject,) = divergences(Level(0), Certain(0), [query(0, ["en"])])
    assert isinstance(reject, Reject)
    assert (reject.item_id, reject.step) == ("i0", "divergence")
    assert "not finite" in reject.reason
    assert "en" in reject.detail


def test_distributions_that_differ_in_shape_are_a_reject():
    (reject,) = divergences(RandomDistributions(0), RandomDistributions(1, vocabulary=12), [query(0, ["en"])])
    assert isinstance(reject, Reject)
    assert "(3, 11), (3, 12), (3, 12)" in reject.detail


def test_systems_that_cannot_be_compared_are_noted():
    one, other = RandomDistributions(1), RandomDistributions(1, tokenizer="another")
    assert incomparable(one, one) is None
    assert "tokenizers differ (tok and another)" in incomparable(one, other)
    assert "base system gives no" in incomparable(object(), one)
    assert "adapted system gives no" in incomparable(one, object())
    with pytest.raises(ModelError, match="tokenizers differ"):
        list(divergences(one, other, [query(0)]))


def test_memory_is_bounded_and_chunks_change_nothing():
    whole = list(divergences(RandomDistributions(1), RandomDistributions(2), [query(n) for n in range(20)]))
    one_query = 4 * 3 * VOCABULARY * 4  # base text, adapted text and two voices: 3 positions of float32
    base = RandomDistributions(1)
    bounded = list(divergences(base, RandomDistributions(2), (query(n) for n in range(20)), chunk_bytes=5 * one_query))
    assert bounded == whole
    assert base.batches == [1, 5, 5, 5, 4]
    assert all(isinstance(record, Divergence) for record in bounded)


def test_queries_are_taken_lazily():
    taken = []

    def source():
        for n in range(10):
            taken.append(n)
            yield query(n)

    stream = divergences(RandomDistributions(1), RandomDistributions(2), source(), chunk_bytes=1)
    next(stream)
    assert taken == [0]


def test_items_that_were_not_spoken_yield_nothing():
    assert list(divergences(RandomDistributions(1), RandomDistributions(2), [query(0, [])])) == []


def test_only_the_gold_continuation_is_scored():
    request = Request("i", (TextSegment("x"),), (" a", " b", " c"))
    assert gold_only([request], 2).continuations == (" c",)
    with pytest.raises(UserInputError, match="gold is 3"):
        gold_only([request], 3)
    with pytest.raises(UserInputError, match="gold_only"):
        list(divergences(RandomDistributions(1), RandomDistributions(2), [DivergenceQuery(request, ())]))
