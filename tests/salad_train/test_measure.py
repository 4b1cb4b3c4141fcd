"""F, M and D are the dense formulas at exactly paired positions, add up, and are 0 where nothing has moved."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import ModelError, UserInputError
from salad_eval.records import dumps, loads
from salad_train.measure import (
    DocumentDivergence,
    evaluating,
    mean_per_position,
    measure,
    measure_documents,
    pooled,
    position_measures,
    summarise,
)
from salad_train.speech.interleave import Interleaved, InterleaveSpec, WordRange, as_text, interleave
from salad_train.training import precision
from salad_train.training.batches import BatchLimits, Example, collate, make_example
from salad_train.training.distillation import frozen_copy
from salad_train.training.frames import FrameStore
from salad_train.training.teacher_cache import TeacherCache, fill_cache, spec_for
from tests.helpers import speech_llm_world as world

SPEC = InterleaveSpec(WordRange(2, 6), WordRange(2, 5))
STACK, FRAMES = 2, 5


@dataclasses.dataclass(frozen=True)
class World:
    model: Any
    teacher: Any
    examples: list[Example]
    texts: list[Example]
    store: FrameStore


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A student that has moved from its teacher, documents in two domains, and random encoder output for their spans."""
    model, _ = world.speech_llm("llama", "parakeet", STACK)
    teacher = frozen_copy(model.language_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    store = FrameStore(tmp_path_factory.mktemp("frames"), model.spec.hidden_size, "test")
    examples = [speak(cut(doc), store) for doc in world.documents(8)]
    texts = [make_example(as_text(d, world.tokenizer(), append_eos=True), (), (), -1) for d in world.documents(4)]
    return World(model.eval(), teacher, examples, texts, store)


def cut(doc: world.Doc, epoch: int = 0) -> Interleaved:
    domain = "even" if int(doc.id.split("-")[1]) % 2 == 0 else "odd"
    return interleave(
        dataclasses.replace(doc, domain=domain), world.tokenizer(), SPEC, seed=0, epoch=epoch, append_eos=True
    )


def speak(doc: Interleaved, store: FrameStore) -> Example:
    keys = [f"{doc.document_id}/{span.text}" for span in doc.speech]
    rng = np.random.default_rng(len(store))
    new = sorted({key for key in keys if key not in store})
    store.add(new, [rng.standard_normal((FRAMES, store.width)) for _ in new], [0.4] * len(new))
    positions = [-(-store.n_frames(key) // STACK) for key in keys]
    return make_example(doc, keys, positions, audio_token_id=len(world.tokenizer()))


def kl(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    return (log_q.exp() * (log_q - log_p)).sum(-1)


@torch.no_grad()
def dense(w: World, example: Example) -> dict[str, torch.Tensor]:
    """The three readings of one document alone, through the models' own forward passes and all logits at once."""
    layout, text = example.layout, torch.from_numpy(example.teacher_ids)[None]
    batch = collate([example], w.store)
    q = w.teacher(text).logits[0].double().log_softmax(-1)[layout.teacher]
    p = w.model(input_ids=text).logits[0].double().log_softmax(-1)[layout.teacher]
    c = w.model(
        input_ids=batch.input_ids,
        encoder_hidden_states=batch.encoder_hidden_states,
        encoder_lengths=batch.encoder_lengths,
    )
    c = c.logits[0].double().log_softmax(-1)[layout.student]
    return {
        "forgetting": kl(q, p),
        "misalignment": kl(p, c),
        "distillation": kl(q, c),
        "teacher_entropy": -(q.exp() * q).sum(-1),
    }


# --- the measures ----------------------------------------------------------------------------------------------------


def test_positions_equal_the_dense_formulas_whatever_the_chunks(small: World) -> None:
    for example in small.examples[:3]:
        expected = dense(small, example)
        for rows in (1, 7, 1000):
            found = position_measures(
                small.model, small.teacher, collate([example], small.store), chunk_logits=rows * len(world.tokenizer())
            )
            for name, values in expected.items():
                torch.testing.assert_close(getattr(found, name), values, rtol=1e-4, atol=1e-5)
            assert found.after_speech.tolist() == example.layout.after_speech.tolist()


@pytest.mark.parametrize("limits", [BatchLimits(10_000, 64), BatchLimits(10_000, 3), BatchLimits(1, 1)])
def test_groups_are_means_over_their_documents_positions_however_batched(small: World, limits: BatchLimits) -> None:
    found = measure(small.model, small.teacher, small.examples, small.store, limits=limits)
    assert [group.group for group in found] == ["even", "odd"]
    for group in found:
        mine = [example for example in small.examples if example.domain == group.group]
        parts = [dense(small, example) for example in mine]
        assert (group.n_documents, group.n_positions) == (4, sum(len(example.layout.targets) for example in mine))
        for name in parts[0]:
            expected = float(torch.cat([part[name] for part in parts]).mean())
            estimate = getattr(group, name)
            assert estimate.value == pytest.approx(expected, rel=1e-4)
            assert estimate.low < estimate.value < estimate.high
            assert estimate.n == 4
        d = torch.cat([part["distillation"] for part in parts])
        after = torch.from_numpy(np.concatenate([example.layout.after_speech for example in mine]))
        assert group.n_after_speech == int(after.sum()) > 0
        assert group.after_speech is not None
        assert group.after_speech.value == pytest.approx(float(d[after].mean()), rel=1e-4)
        assert group.inside_text is not None
        assert group.inside_text.value == pytest.approx(float(d[~after].mean()), rel=1e-4)


def test_groups_by_document_and_all_in_one(small: World) -> None:
    documents = measure_documents(small.model, small.teacher, small.examples, small.store)
    assert [d.document_id for d in documents] == [example.document_id for example in small.examples]
    cluster = {d.document_id: f"c{k % 3}" for k, d in enumerate(documents)}
    groups = summarise(documents, cluster)
    whole = pooled(documents)
    assert [g.group for g in groups] == ["c0", "c1", "c2"]
    assert measure(small.model, small.teacher, small.examples, small.store, groups=cluster) == groups
    for name in ("forgetting", "misalignment", "distillation", "teacher_entropy"):
        weighted = sum(getattr(g, name).value * g.n_positions for g in groups) / whole.n_positions
        assert getattr(whole, name).value == pytest.approx(weighted)


def test_cuts_of_one_document_are_one_document(small: World) -> None:
    doc = world.documents(1)[0]
    cuts = [speak(cut(doc, epoch), small.store) for epoch in range(3)]
    (found,) = measure(small.model, small.teacher, cuts, small.store)
    assert found.n_documents == 1
    assert found.n_positions == sum(len(example.layout.targets) for example in cuts)
    assert found.distillation.low is None
    assert found.distillation.high is None


def test_no_divergence_where_every_span_is_text_and_the_student_is_the_teacher(small: World) -> None:
    teacher = frozen_copy(small.model.language_model)
    (found,) = measure(small.model, teacher, small.texts, None, groups={d.document_id: "all" for d in small.texts})
    for estimate in (found.forgetting, found.misalignment, found.distillation):
        assert abs(estimate.value) < 1e-6
    assert found.after_speech is None
    assert found.inside_text == found.distillation
    assert found.teacher_entropy.value > 0


def test_text_alone_gives_forgetting_and_no_misalignment(small: World) -> None:
    found = pooled(measure_documents(small.model, small.teacher, small.texts, None))
    assert found.misalignment.value == 0.0
    assert found.distillation == found.forgetting
    assert found.forgetting.value > 1e-3


def test_an_unmoved_llm_forgets_nothing_and_d_is_m(small: World) -> None:
    teacher = frozen_copy(small.model.language_model)
    found = pooled(measure_documents(small.model, teacher, small.examples, small.store))
    assert abs(found.forgetting.value) < 1e-6
    assert found.distillation.value == pytest.approx(found.misalignment.value, rel=1e-5)
    assert found.misalignment.value > 1e-2


def test_bfloat16_is_near(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: True)
    exact = pooled(measure_documents(small.model, small.teacher, small.examples, small.store))
    rough = pooled(measure_documents(small.model, small.teacher, small.examples, small.store, bf16=True))
    assert rough.distillation.value == pytest.approx(exact.distillation.value, rel=0.1)
    assert rough.distillation.value != exact.distillation.value


def test_a_cache_of_all_tokens_stands_in_for_the_teacher_and_one_of_few_says_less(small: World, tmp_path: Path) -> None:
    exact = pooled(measure_documents(small.model, small.teacher, small.examples, small.store))
    for k in (len(world.tokenizer()), 8):
        cache = TeacherCache(tmp_path / str(k), spec_for(small.teacher, world.tokenizer(), k=k))
        fill_cache(cache, small.teacher, [example.teacher_ids for example in small.examples])
        found = pooled(measure_documents(small.model, cache, small.examples, small.store, limits=BatchLimits(200, 2)))
        for name in ("misalignment", "teacher_entropy"):
            assert getattr(found, name).value == pytest.approx(getattr(exact, name).value, rel=1e-4)
        for name in ("forgetting", "distillation"):
            ours, full = getattr(found, name).value, getattr(exact, name).value
            assert ours == pytest.approx(full, rel=1e-4) if k > 8 else ours < 0.95 * full


# --- manners ---------------------------------------------------------------------------------------------------------


def test_modes_and_gradients_are_left_as_they_were(small: World) -> None:
    small.model.train()
    small.model.adapter.eval()
    before = [(name, module.training) for name, module in small.model.named_modules()]
    measure(small.model, small.teacher, small.examples[:2], small.store)
    assert [(name, module.training) for name, module in small.model.named_modules()] == before
    assert all(parameter.grad is None for parameter in small.model.parameters())
    small.model.eval()
    small.model.train()
    with evaluating(small.model):
        assert not small.model.language_model.training
    assert small.model.language_model.training
    small.model.eval()


def test_bad_input_is_named(small: World) -> None:
    with pytest.raises(UserInputError, match="none with a scored position"):
        measure(small.model, small.teacher, [], small.store)
    with pytest.raises(UserInputError, match="doc-1"):
        measure(small.model, small.teacher, small.examples[:2], small.store, groups={"doc-0": "a"})
    other = frozen_copy(small.teacher)
    other.resize_token_embeddings(500)
    with pytest.raises(ModelError, match="vocabulary"):
        measure(small.model, other, small.examples[:1], small.store)
    broken = frozen_copy(small.teacher)
    with torch.no_grad():
        broken.base_model.layers[0].mlp.down_proj.weight[0] = math.nan
    with pytest.raises(ModelError):
        measure(small.model, broken, small.examples[:1], small.store)
    with torch.no_grad():  # finite on the few tokens that the head is checked with, not on the document's
        late = frozen_copy(small.teacher)
        late.get_input_embeddings().weight[int(small.examples[0].teacher_ids[-2])] = math.nan
    with pytest.raises(ModelError, match=r"not finite.*doc-0"):
        measure(small.model, late, small.examples[:1], small.store)


def test_records_survive_a_file(small: World) -> None:
    documents = measure_documents(small.model, small.teacher, small.examples[:2], small.store)
    assert tuple(loads(DocumentDivergence, dumps(d)) for d in documents) == documents
    assert loads(type(pooled(documents)), dumps(pooled(documents))) == pooled(documents)


# --- intervals -------------------------------------------------------------------------------------------------------

COUNTED = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 40)), min_size=1, max_size=12)


@given(COUNTED)
@settings(max_examples=100, deadline=None)
def test_the_interval_holds_the_mean_and_stays_above_zero(rows: list[tuple[float, int]]) -> None:
    sums, counts = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    found = mean_per_position(sums, counts)
    assert found.value == pytest.approx(sums.sum() / counts.sum())
    if len(rows) == 1:
        assert (found.low, found.high) == (None, None)
    else:
        assert 0 <= found.low <= found.value <= found.high


def test_documents_without_such_positions_do_not_count() -> None:
    full = mean_per_position(np.array([1.0, 3.0]), np.array([2, 4]))
    assert mean_per_position(np.array([1.0, 0.0, 3.0]), np.array([2, 0, 4])) == full
    assert full.n == 2


def test_equal_documents_leave_no_doubt_and_jackknife_is_the_textbook_error() -> None:
    same = mean_per_position(np.array([2.0, 2.0, 2.0]), np.array([4, 4, 4]))
    assert (same.low, same.high) == (0.5, 0.5)
    values = np.array([1.0, 2.0, 4.0, 3.0])  # one position each: the jackknife error of a mean is s / √n
    error = values.std(ddof=1) / 2
    found = mean_per_position(values, np.ones(4, dtype=int))
    assert found.high == pytest.approx(2.5 * math.exp(3.182446 * error / 2.5), rel=1e-6)


def test_the_interval_covers() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        counts = rng.integers(10, 60, 12)
        sums = rng.gamma(counts * rng.gamma(2.0, 0.5, 12) * 0.5, 2.0)  # documents' rates are spread around 1
        found = mean_per_position(sums, counts)
        hits += found.low <= 1.0 <= found.high
    assert 0.90 < hits / 600 < 0.98
