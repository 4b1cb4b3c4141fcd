"""A cached teacher says what the teacher said, resumes, refuses what is not its own, and trains as the teacher does."""

from __future__ import annotations

import builtins
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.pipeline.engines import Workshop
from salad_train.speech.interleave import as_text
from salad_train.training import precision, teacher_cache
from salad_train.training.batches import BatchLimits, Example, collate, make_example
from salad_train.training.objective import (
    LogitHead,
    cached_divergences,
    cached_objective,
    objective,
    position_divergences,
)
from salad_train.training.teacher_cache import (
    Lesson,
    TeacherCache,
    TeacherRef,
    TeacherStates,
    fill_cache,
    spec_for,
)
from tests.helpers import speech_llm_world as world


@pytest.fixture(scope="module")
def teacher() -> Any:
    return world.language_model("llama").requires_grad_(False)


@pytest.fixture(scope="module")
def student() -> Any:
    return world.language_model("llama", seed=1)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    tokenizer = world.tokenizer()
    return [make_example(as_text(doc, tokenizer, append_eos=True), (), (), -1) for doc in world.documents(6)]


def texts(examples: list[Example]) -> list[np.ndarray]:
    return [example.teacher_ids for example in examples]


def filled(folder: Path, teacher: Any, examples: list[Example], **options: Any) -> TeacherCache:
    cache = TeacherCache(folder, spec_for(teacher, world.tokenizer(), **{"k": 16, **options}))
    fill_cache(cache, teacher, texts(examples), limits=BatchLimits(400, 4))
    return cache


@torch.no_grad()
def logprobs(lm: Any, ids: np.ndarray) -> torch.Tensor:
    return lm(torch.from_numpy(ids)[None]).logits[0, :-1].double().log_softmax(-1)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_rows_are_the_teachers_likeliest_tokens_tail_and_entropy(
    tmp_path: Path, teacher: Any, examples: list[Example]
) -> None:
    cache = filled(tmp_path, teacher, examples)
    assert (len(cache), cache.n_positions) == (6, sum(len(ids) - 1 for ids in texts(examples)))
    for ids in texts(examples):
        log_q, rows = logprobs(teacher, ids), cache.rows(ids)
        top = log_q.topk(16, dim=-1)
        np.testing.assert_array_equal(rows["ids"], top.indices.numpy())
        np.testing.assert_allclose(rows["logp"], top.values.numpy(), atol=1e-5)
        np.testing.assert_allclose(np.exp(rows["tail"]), 1 - top.values.exp().sum(-1).numpy(), atol=1e-5)
        np.testing.assert_allclose(rows["entropy"], -(log_q.exp() * log_q).sum(-1).numpy(), atol=1e-5)


def test_positions_follow_the_order_of_a_batch(tmp_path: Path, teacher: Any, examples: list[Example]) -> None:
    cache = filled(tmp_path, teacher, examples)
    chosen = [examples[k] for k in (4, 0, 3)]
    found, batch = cache.positions(chosen), collate(chosen, None)
    assert len(found) == len(batch.targets)
    hidden = teacher.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
    log_q = LogitHead.of(teacher).logits(hidden).log_softmax(-1)
    assert found.ids.tolist() == log_q.topk(16, dim=-1).indices.tolist()
    assert found.tail is not None
    torch.testing.assert_close(found.weights.sum(-1) + found.tail, torch.ones(len(found), dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_all_tokens_kept_train_as_the_teacher_does(
    tmp_path: Path, teacher: Any, student: Any, examples: list[Example], alpha: float
) -> None:
    vocabulary = teacher.config.vocab_size
    cache = filled(tmp_path, teacher, examples, k=vocabulary)
    batch = collate(examples, None)
    theirs = teacher.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
    found = {}
    for name in ("teacher", "cache"):
        student.zero_grad()
        hidden = student.base_model(input_ids=batch.input_ids).last_hidden_state.flatten(0, 1)[batch.student]
        head = LogitHead.of(student)
        if name == "teacher":
            scored = objective(hidden, head, theirs, LogitHead.of(teacher), batch.targets, alpha=alpha)
        else:
            scored = cached_objective(hidden, head, cache.positions(examples), batch.targets, alpha=alpha)
        scored.loss.backward()
        found[name] = scored, student.lm_head.weight.grad.clone(), student.get_input_embeddings().weight.grad.clone()
    (a, a_head, a_in), (b, b_head, b_in) = found["teacher"], found["cache"]
    assert (b.kl_sum, b.nll_sum) == (pytest.approx(a.kl_sum, rel=1e-5), pytest.approx(a.nll_sum, rel=1e-6))
    torch.testing.assert_close(b_head, a_head, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(b_in, a_in, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory, teacher: Any, examples: list[Example]) -> dict[int, TeacherCache]:
    return {k: filled(tmp_path_factory.mktemp(f"k{k}"), teacher, examples, k=k) for k in (1, 8, 32, 128)}


@given(st.integers(0, 999), st.floats(0.05, 3))
@settings(max_examples=25, deadline=None)
def test_a_cache_never_says_more_than_the_full_divergence_and_more_tokens_say_more(
    caches: dict[int, TeacherCache], teacher: Any, examples: list[Example], seed: int, distance: float
) -> None:
    batch = collate(examples[:2], None)
    with torch.no_grad():
        theirs = teacher.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
    moved = theirs + distance * torch.randn(theirs.shape, generator=torch.Generator().manual_seed(seed))
    head = LogitHead.of(teacher)
    full = position_divergences(moved, head, theirs, head).double()
    before = torch.zeros_like(full)
    for k in (1, 8, 32, 128):
        now = cached_divergences(moved, head, caches[k].positions(examples[:2]))
        assert bool((now >= before - 1e-4).all())
        before = now
    assert bool((before <= full + 1e-4).all())


def test_drawn_tokens_are_right_on_average_and_a_function_of_seed_and_text(
    tmp_path: Path, teacher: Any, student: Any, examples: list[Example]
) -> None:
    cache = filled(tmp_path / "a", teacher, examples, keep="sampled", k=64, seed=3)
    batch = collate(examples, None)
    with torch.no_grad():
        theirs, ours = (
            lm.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
            for lm in (teacher, student)
        )
    full = position_divergences(ours, LogitHead.of(student), theirs, LogitHead.of(teacher)).double()
    found = cached_divergences(ours, LogitHead.of(student), cache.positions(examples))
    assert float((found - full).abs().max()) > 0.05  # noisy by position
    error = float((found - full).std() / len(full) ** 0.5)
    assert abs(float((found - full).mean())) < 4 * error  # and right on average
    alone = TeacherCache(tmp_path / "b", cache.spec)
    fill_cache(alone, teacher, texts(examples)[:1], limits=BatchLimits(1, 1))
    ids = examples[0].teacher_ids
    np.testing.assert_array_equal(alone.rows(ids)["ids"], cache.rows(ids)["ids"])
    other = filled(tmp_path / "c", teacher, examples[:1], keep="sampled", k=64, seed=4)
    assert (other.rows(ids)["ids"] != cache.rows(ids)["ids"]).any()


# --- its hidden states -----------------------------------------------------------------------------------------------


def test_kept_states_are_those_of_reading_along_in_the_order_of_a_batch(
    tmp_path: Path, teacher: Any, examples: list[Example]
) -> None:
    states = TeacherStates(tmp_path, teacher)
    assert states.fill(texts(examples) * 2, limits=BatchLimits(400, 4)) == 6
    chosen = [examples[k] for k in (4, 0, 3)]
    batch = collate(chosen, None)
    with torch.no_grad():
        read = teacher.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
    found = states.positions(chosen)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, read, rtol=1e-3, atol=1e-4)


def test_kept_states_are_gone_on_with_and_refused_for_another_teacher(
    tmp_path: Path, teacher: Any, student: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: True)
    assert TeacherStates(tmp_path, teacher).fill(texts(examples)[:2]) == 2
    again = TeacherStates(tmp_path, teacher)
    with pytest.raises(DataError, match=r"does not hold document 'doc-2'"):
        again.positions(examples[:3])
    assert again.fill(texts(examples)) == 4
    for other in ({"teacher": student}, {"teacher": teacher, "bf16": True}):
        with pytest.raises(DataError, match="another model"):
            TeacherStates(tmp_path, **other)


# --- elsewhere -------------------------------------------------------------------------------------------------------


def test_two_processes_keep_what_this_one_keeps(
    tmp_path: Path, teacher: Any, examples: list[Example], two_processes: Workshop
) -> None:
    for part in (teacher, world.tokenizer()):
        part.save_pretrained(tmp_path / "teacher")
    fingerprint = spec_for(teacher, world.tokenizer(), k=1).teacher
    there = Lesson(TeacherRef(str(tmp_path / "teacher"), fingerprint=fingerprint), two_processes)
    for place, lesson in (("here", None), ("there", there)):
        for keep in ("states", "top", "sampled"):
            folder, limits = tmp_path / place / keep, BatchLimits(100, 2)
            if keep == "states":
                assert TeacherStates(folder, teacher).fill(texts(examples), limits=limits, lesson=lesson) == 6
            else:
                spec = spec_for(teacher, world.tokenizer(), k=16, keep=keep, seed=3)  # type: ignore[arg-type]
                cache = TeacherCache(folder, spec)
                assert fill_cache(cache, teacher, texts(examples), limits=limits, lesson=lesson) == 6
    files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").glob("*/*")]
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_a_teacher_that_is_another_one_elsewhere_is_refused_there(tmp_path: Path, teacher: Any) -> None:
    for part in (teacher, world.tokenizer()):
        part.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"has other weights here .* than where the command runs \(0123\)"):
        TeacherRef(str(tmp_path), fingerprint="0123").open()


# --- resuming and refusing -------------------------------------------------------------------------------------------


def test_filling_goes_on_where_it_stopped(tmp_path: Path, teacher: Any, examples: list[Example]) -> None:
    spec = spec_for(teacher, world.tokenizer(), k=16)
    first = TeacherCache(tmp_path / "a", spec)
    assert fill_cache(first, teacher, texts(examples)[:2]) == 2
    first.close()
    with open(tmp_path / "a" / "positions.bin", "ab") as file:
        file.write(b"half a record")  # a kill between the records and their index lines
    with open(tmp_path / "a" / "index.jsonl", "ab") as file:
        file.write(b'{"key": "ab')
    again = TeacherCache(tmp_path / "a", spec)
    assert len(again) == 2
    assert fill_cache(again, teacher, texts(examples) * 2) == 4
    assert fill_cache(again, teacher, texts(examples)) == 0
    whole = filled(tmp_path / "b", teacher, examples)
    reopened = TeacherCache.open(tmp_path / "a", world.tokenizer())
    for ids in texts(examples):
        np.testing.assert_array_equal(reopened.rows(ids)["ids"], whole.rows(ids)["ids"])
        np.testing.assert_allclose(reopened.rows(ids)["logp"], whole.rows(ids)["logp"], atol=1e-5)


def test_another_teacher_tokenizer_or_setting_is_refused(
    tmp_path: Path, teacher: Any, student: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path, teacher, examples[:1])
    with pytest.raises(DataError, match="another teacher"):
        TeacherCache(tmp_path, spec_for(student, world.tokenizer(), k=16))
    with pytest.raises(DataError, match="not of this one"):
        fill_cache(cache, student, texts(examples))
    with pytest.raises(DataError, match="other settings"):
        TeacherCache(tmp_path, spec_for(teacher, world.tokenizer(), k=8))
    monkeypatch.setattr(teacher_cache, "tokenizer_fingerprint", lambda tokenizer: "another")
    with pytest.raises(DataError, match="another tokenizer"):
        TeacherCache(tmp_path, spec_for(teacher, world.tokenizer(), k=16))
    with pytest.raises(DataError, match="token ids mean something else"):
        TeacherCache.open(tmp_path, world.tokenizer())


def test_what_is_not_cached_is_named(tmp_path: Path, teacher: Any, examples: list[Example]) -> None:
    cache = filled(tmp_path, teacher, examples[:2])
    with pytest.raises(DataError, match=r"doc-2.*fill_cache"):
        cache.positions(examples[:3])
    with pytest.raises(DataError, match="fill_cache"):
        cache.rows(examples[3].teacher_ids)
    with pytest.raises(UserInputError, match="no examples"):
        cache.positions([])
    with pytest.raises(DataError, match="cannot read"):
        TeacherCache.open(tmp_path / "nothing")
    (tmp_path / "positions.bin").write_bytes(b"")
    with pytest.raises(DataError, match="its index speaks of"):
        TeacherCache.open(tmp_path)


@pytest.mark.parametrize("k", [0, 10_000])
def test_a_k_that_cannot_be_is_refused(teacher: Any, k: int) -> None:
    with pytest.raises(UserInputError, match="k is"):
        spec_for(teacher, world.tokenizer(), k=k)


def test_a_broken_teacher_is_named_and_caches_nothing(tmp_path: Path, examples: list[Example]) -> None:
    broken = world.language_model("llama").requires_grad_(False)
    broken.get_input_embeddings().weight[int(examples[0].teacher_ids[3])] = float("nan")
    cache = TeacherCache(tmp_path, spec_for(broken, world.tokenizer(), k=4))
    with pytest.raises(ModelError, match="not finite"):
        fill_cache(cache, broken, texts(examples)[:1])
    assert len(TeacherCache.open(tmp_path)) == 0


def test_a_full_disk_leaves_what_was_cached(
    tmp_path: Path, teacher: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path, teacher, examples[:2])
    real = builtins.open

    def full(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if str(path).endswith("positions.bin") and "+" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(DataError, match="No space left"):
        fill_cache(cache, teacher, texts(examples))
    monkeypatch.undo()
    again = TeacherCache.open(tmp_path)
    assert len(again) == 2
    assert fill_cache(again, teacher, texts(examples)) == 4


@pytest.mark.parametrize("kept", ["cache", "states"])
def test_what_was_damaged_on_disk_is_not_taught(
    kept: str, teacher: Any, examples: list[Example], tmp_path: Path
) -> None:
    def opened() -> Any:
        if kept == "states":
            return TeacherStates(tmp_path, teacher)
        return TeacherCache(tmp_path, spec_for(teacher, world.tokenizer(), k=16))

    if kept == "states":
        opened().fill(texts(examples))
    else:
        filled(tmp_path, teacher, examples)
    opened().positions(examples)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix in (".bin", ".f16"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"{file.name}: the rows of .* are not what was written"):
        opened().positions(examples)
