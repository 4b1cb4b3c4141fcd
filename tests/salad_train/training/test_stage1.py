"""Stage I end to end on tiny random models saved in their real formats: it learns, repeats, resumes, and harms
nobody."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.formats.parts import OWN
from salad_eval.records import read_jsonl
from salad_train.measure import position_measures
from salad_train.model.audio_encoders import encoder_of
from salad_train.model.loading import load_encoder, load_salad
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.speech.utterances import Speaker
from salad_train.training import batches as data
from salad_train.training import distillation as trainer
from salad_train.training import stages
from salad_train.training.batches import Batch, BatchLimits, BatchOrder
from salad_train.training.checkpoints import read_state
from salad_train.training.frames import FrameJitter, FrameStore
from salad_train.training.mixture import Mixture
from salad_train.training.plan import StepLog, TrainPlan
from salad_train.training.stage_plan import AdapterSize, Stage1Plan
from salad_train.training.stages import Heard, SpeechSource
from salad_train.training.train import train
from tests.helpers import speech_llm_world as world

SPEC = InterleaveSpec(WordRange(2, 6), WordRange(2, 5))


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> Iterator[None]:
    """transformers' Trainer collects garbage before it begins: a quarter of a second with all that is imported here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Path]]:
    return {
        (lm, audio): world.save_parts(tmp_path_factory.mktemp(f"{lm}-{audio}"), lm, audio)
        for lm, audio, _ in world.PAIRS
    }


def plan_for(folders: tuple[Path, Path], stack: int = 2, **changes: Any) -> Stage1Plan:
    train_changes = {k: changes.pop(k) for k in list(changes) if k in {f.name for f in dataclasses.fields(TrainPlan)}}
    settings: dict[str, Any] = {"steps": 6, "warmup_steps": 1, "log_every": 1, "adapter_lr": 5e-3, "lm_lr": 1e-3}
    return Stage1Plan(
        base=str(folders[0]),
        encoder=str(folders[1]),
        voices=("a", "b"),
        train=TrainPlan(**{**settings, **train_changes}),
        adapter=AdapterSize(24, 48, 2, 3, 1),
        stack_frames=stack,
        interleave=SPEC,
        **{"limits": BatchLimits(tokens=600, sequences=6), "cuts": 2, **changes},
    )


def run(plan: Stage1Plan, out: Path, voice: Speaker | None = None, n: int = 12) -> Path:
    docs = world.documents(n)
    return stages.stage1(plan, heard(docs, voice), docs, out)


def heard(docs: Sequence[world.Doc], voice: Speaker | None = None) -> SpeechSource:
    return SpeechSource(docs, voice or world.Voice())


# --- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lm", "audio", "stack"), world.PAIRS)
def test_stage_one_from_saved_parts_to_a_model_that_loads(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, lm: str, audio: str, stack: int
) -> None:
    folder = run(plan_for(parts[lm, audio], stack, steps=3), tmp_path, n=4)
    model, processor = load_salad(str(folder))
    batch = processor(text="<|audio|> is", audio=world.sound("gold", rate=processor.sampling_rate).samples)
    assert torch.isfinite(model(**batch).logits).all()
    lines = read_jsonl(tmp_path / "train.jsonl", StepLog)
    assert [line.step for line in lines] == [1, 2, 3]
    assert [line.replay_kl is None for line in lines] == [True, True, False]  # a third of the batches is text
    frozen = encoder_of(load_encoder(str(parts[lm, audio][1]))[0]).state_dict()
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, frozen[name])


def test_training_lowers_the_divergence_on_a_fixed_batch_and_leaves_the_teacher_alone(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    plan = plan_for(parts["llama", "parakeet"], steps=40, replay_share=0.0)
    model, processor, teacher = stages.build(plan)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    batch = next(speech_batches(plan, model, processor, tmp_path))
    start = distance(model, teacher, batch).mean()
    train(model, teacher, lambda index: batch, plan.train, tmp_path)
    assert distance(model, teacher, batch).mean() < 0.5 * start
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@torch.no_grad()
def distance(model: Any, teacher: Any, batch: Batch) -> torch.Tensor:
    """D at each scored position of a batch, in nats."""
    return position_measures(model.eval(), teacher, batch).distillation


def speech_batches(plan: Stage1Plan, model: Any, processor: Any, out: Path) -> Iterator[Batch]:
    store = stages.open_store(out / "frames", model)
    spoken = stages.speak_documents(heard(world.documents(6)), plan, model, processor, store)
    for index in range(99):
        yield stages.mixed_batches([Heard(spoken.examples, store)], [], plan)(index)


def test_no_divergence_where_every_span_is_text_and_the_student_is_the_teacher(
    parts: dict[tuple[str, str], tuple[Path, Path]],
) -> None:
    plan = plan_for(parts["llama", "parakeet"])
    model, processor, teacher = stages.build(plan)
    texts = stages.texts_of(world.documents(6), processor, plan)
    batch = data.collate(texts, None)
    assert len(batch.targets) == sum(len(text.teacher_ids) - 1 for text in texts)
    assert float(distance(model, teacher, batch).abs().max()) < 1e-6
    found = trainer.batch_objective(model, teacher, batch, alpha=1.0)
    found.loss.backward()
    assert abs(float(found.loss.detach())) < 1e-6
    assert all(float(p.grad.abs().max()) < 1e-5 for p in model.language_model.parameters() if p.grad is not None)


@torch.no_grad()
def test_divergence_pairs_the_same_next_token(parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path) -> None:
    """The teacher's and the student's scored positions, taken one document at a time by hand."""
    plan = plan_for(parts["llama", "parakeet"])
    model, processor, teacher = stages.build(plan)
    store = stages.open_store(tmp_path / "frames", model)
    spoken = stages.speak_documents(heard(world.documents(4)), plan, model, processor, store)
    batched = distance(model, teacher, data.collate(spoken.examples, store))
    by_hand = []
    for example in spoken.examples:
        frames, lengths = data.pad_frames([store.get(key) for key in example.recordings])
        ids = torch.from_numpy(example.layout.input_ids)[None]
        p = model(input_ids=ids, encoder_hidden_states=frames, encoder_lengths=lengths).logits[0].log_softmax(-1)
        q = teacher(input_ids=torch.from_numpy(example.teacher_ids)[None]).logits[0].log_softmax(-1)
        for here, there, token in zip(
            example.layout.student, example.layout.teacher, example.layout.targets, strict=True
        ):
            assert example.teacher_ids[there + 1] == token
            by_hand.append(float((q[there].exp() * (q[there] - p[here])).sum()))
    np.testing.assert_allclose(batched.detach().numpy(), by_hand, atol=1e-4)


# --- repeating and resuming ------------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_two_runs_of_one_seed_are_equal_to_the_bit_and_other_seeds_differ(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    first, second, other = (
        weights(run(plan_for(parts["llama", "parakeet"], seed=seed), tmp_path / name))
        for name, seed in (("one", 0), ("two", 0), ("three", 1))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_a_killed_run_goes_on_to_the_very_same_model(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    plan = plan_for(parts["llama", "parakeet"], checkpoint_every=2)
    whole = weights(run(plan, tmp_path / "whole"))
    calls = 0
    original = trainer.batch_objective

    def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > killed_after:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer, "batch_objective", killed)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "killed")
    monkeypatch.setattr(trainer, "batch_objective", original)

    silent = world.Voice()
    resumed = weights(run(plan, tmp_path / "killed", silent))
    assert not silent.said, "spoken twice"
    assert (tmp_path / "whole" / "speech.json").read_text() == (tmp_path / "killed" / "speech.json").read_text()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [line.step for line in read_jsonl(tmp_path / "killed" / "train.jsonl", StepLog)] == [1, 2, 3, 4, 5, 6]


def test_the_state_before_the_decay_is_kept(parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path) -> None:
    plan = plan_for(parts["llama", "parakeet"], steps=10, checkpoint_every=3)
    run(plan, tmp_path)
    assert plan.train.decay_start == 8
    kept = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-0000008", "step-0000009"]
    kept_one = read_state(tmp_path / "checkpoints" / "step-0000008")
    assert (kept_one.step, kept_one.keep) == (8, True)


def test_a_frozen_lm_is_bit_for_bit_the_base(parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path) -> None:
    base = weights(parts["llama", "parakeet"][0])
    trained = weights(run(plan_for(parts["llama", "parakeet"], lm_lr=0.0), tmp_path))
    for name, tensor in base.items():
        assert torch.equal(trained[f"language_model.{name}"], tensor)


def test_an_adapter_alone_is_written_beside_the_model(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    whole = weights(run(plan_for(parts["llama", "parakeet"], tune="adapter", steps=1), tmp_path / "run", n=4))
    own = load_file(tmp_path / "run" / "adapter" / OWN)
    assert own
    assert all(name.startswith("adapter.") for name in own)
    model, _ = load_salad(str(tmp_path / "run" / "adapter"), device="cpu")
    assert all(torch.equal(one, whole[name]) for name, one in model.state_dict().items() if name in whole)


def test_micro_batches_are_normalised_by_all_scored_tokens(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    """One step of two unequal micro-batches moves the model as one step of both together."""
    plan = plan_for(parts["llama", "parakeet"], steps=1, lm_lr=0.0)
    results = []
    for accumulate in (False, True):
        model, processor, teacher = stages.build(plan)
        store = stages.open_store(tmp_path / f"frames-{accumulate}", model)
        examples = stages.speak_documents(heard(world.documents(4)), plan, model, processor, store).examples
        split = [examples[:1], examples[1:]] if accumulate else [examples]
        batches = [data.collate(part, store) for part in split]
        changed = dataclasses.replace(plan.train, micro_batches=len(batches))
        train(model, teacher, batches.__getitem__, changed, tmp_path / str(accumulate))
        results.append(torch.cat([p.detach().flatten() for p in model.adapter.parameters()]))
    # AdamW's first step moves by the sign of the gradient; equal signs almost everywhere is what equal gradients give
    assert float((results[0] - results[1]).abs().mean()) < 1e-5


# --- schedule --------------------------------------------------------------------------------------------------------


def test_warm_up_stable_decay() -> None:
    plan = TrainPlan(steps=20, warmup_steps=4, decay_share=0.25)
    rates = [plan.rate(step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:15] == [1.0] * 10
    assert rates[15:] == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize("changes", [{"steps": 0}, {"steps": 5, "alpha": 1.2}, {"steps": 5, "micro_batches": 0}])
def test_impossible_plans_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserInputError):
        TrainPlan(**changes)


def test_a_teacher_is_kept_in_one_way(parts: dict[tuple[str, str], tuple[Path, Path]]) -> None:
    with pytest.raises(UserInputError, match="teacher_cache is 8 and teacher_states is true"):
        plan_for(parts["llama", "parakeet"], teacher_cache=8, teacher_states=True)


def test_frames_cannot_move_by_less_than_none(parts: dict[tuple[str, str], tuple[Path, Path]]) -> None:
    with pytest.raises(UserInputError, match="frame_jitter is -1"):
        plan_for(parts["llama", "parakeet"], frame_jitter=-1)


# --- what can go wrong -----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(parts["llama", "parakeet"], checkpoint_every=1, replay_share=0.0)
    original, calls = data.collate, 0

    def poisoned(*args: Any, **options: Any) -> Batch:
        nonlocal calls
        calls += 1
        batch = original(*args, **options)
        if calls == 3:
            assert batch.encoder_hidden_states is not None
            batch.encoder_hidden_states[:] = float("nan")
        return batch

    monkeypatch.setattr(stages, "collate", poisoned)
    with pytest.raises(ModelError, match=r"nan at step 2, in the batch of documents doc-\d+"):
        run(plan, tmp_path)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-0000002"]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("states", [False, True])
def test_a_teacher_kept_whole_teaches_as_one_that_is_asked(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: bool
) -> None:
    asked = plan_for(parts["llama", "parakeet"], steps=3)
    vocabulary = load_vocabulary(parts["llama", "parakeet"][0])
    kept = dataclasses.replace(asked, **{"teacher_states": True} if states else {"teacher_cache": vocabulary})  # type: ignore[arg-type]
    run(asked, tmp_path / "asked")
    monkeypatch.setattr(trainer, "teacher_positions", None)  # it is not asked any more
    run(kept, tmp_path / "kept")
    first, second = (read_jsonl(tmp_path / name / "train.jsonl", StepLog) for name in ("asked", "kept"))
    for a, b in zip(first, second, strict=True):
        assert (a.speech_kl is None) == (b.speech_kl is None)
        if a.speech_kl is not None and b.speech_kl is not None:
            assert a.speech_kl == pytest.approx(b.speech_kl, rel=1e-3)
        if a.replay_kl is not None and b.replay_kl is not None:
            assert a.replay_kl == pytest.approx(b.replay_kl, abs=1e-4)


def load_vocabulary(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def test_documents_that_cannot_be_spoken_are_left_out_and_counted(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    run(plan_for(parts["llama", "parakeet"], steps=1), tmp_path, world.Voice(mute_on="gold"))
    clean = run(plan_for(parts["llama", "parakeet"], steps=1), tmp_path / "clean")
    assert clean.exists()
    muted = json.loads((tmp_path / "speech.json").read_text())["heard"]
    whole = json.loads((tmp_path / "clean" / "speech.json").read_text())["heard"]
    assert whole["left_out"] == {}
    assert muted["examples"] + sum(muted["left_out"].values()) == whole["examples"]


def test_a_folder_of_another_plan_is_refused(parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path) -> None:
    run(plan_for(parts["llama", "parakeet"], steps=1), tmp_path)
    with pytest.raises(UserInputError, match="another plan"):
        run(plan_for(parts["llama", "parakeet"], steps=2), tmp_path)


def test_a_folder_of_other_data_models_or_voice_is_refused_by_name(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    base, encoder = (Path(shutil.copytree(part, tmp_path / part.name)) for part in parts["llama", "parakeet"])
    plan, docs, out = plan_for((base, encoder), steps=1), world.documents(6), tmp_path / "out"
    stages.stage1(plan, heard(docs), docs, out)
    stages.stage1(plan, heard(world.documents(6), world.Voice()), world.documents(6), out)
    changed = [*docs[:-1], dataclasses.replace(docs[-1], text=docs[-1].text + " And more.")]
    for again, told in (
        (lambda: stages.stage1(plan, heard(changed), docs, out), "other speech"),
        (lambda: stages.stage1(plan, heard(docs, world.Voice(mute_on="iron")), docs, out), "other speech"),
        (lambda: stages.stage1(plan, heard(docs), changed, out), "other replay text"),
        (lambda: stages.stage1(plan, heard(docs), docs[:-1], out), "other replay text"),
    ):
        with pytest.raises(UserInputError, match=f"something else: {told}"):
            again()
    for folder, told in ((base, "other base LLM"), (encoder, "other encoder")):
        saved = (folder / "config.json").read_text(encoding="utf-8")
        (folder / "config.json").write_text(
            json.dumps({**json.loads(saved), "initializer_range": 0.5}), encoding="utf-8"
        )
        with pytest.raises(UserInputError, match=f"something else: {told}"):
            stages.stage1(plan, heard(docs), docs, out)
        (folder / "config.json").write_text(saved, encoding="utf-8")


def test_documents_too_short_to_cut_are_refused(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="could be cut"):
        stages.stage1(plan_for(parts["llama", "parakeet"]), heard([world.Doc("d", "any", "Gold")]), [], tmp_path)


def test_a_save_that_fails_leaves_the_last_model_intact(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor, _ = stages.build(plan_for(parts["llama", "parakeet"]))
    stages.save(model, processor, tmp_path / "model", plan_for(parts["llama", "parakeet"]))
    before = weights(tmp_path / "model")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(processor), "save_pretrained", full)
    with pytest.raises(DataError, match="No space"):
        stages.save(model, processor, tmp_path / "model", plan_for(parts["llama", "parakeet"]))
    after = weights(tmp_path / "model")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tied_weights_are_written_once(parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path) -> None:
    plan = plan_for(parts["qwen2", "mimi"], save_dtype="float16")
    model, processor, _ = stages.build(plan)
    names = weights(stages.save(model, processor, tmp_path / "model", plan))
    assert "language_model.model.embed_tokens.weight" in names
    assert "language_model.lm_head.weight" not in names


def test_half_precision_on_disk_loads_as_float32(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    plan = plan_for(parts["llama", "parakeet"], save_dtype="float16")
    model, processor, _ = stages.build(plan)
    folder = stages.save(model, processor, tmp_path / "model", plan)
    assert weights(folder)["adapter.input_projection.weight"].dtype == torch.float16
    assert next(model.parameters()).dtype == torch.float32
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "float32"
    again, _ = load_salad(str(folder), dtype="auto")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert again.adapter.input_projection.weight.dtype == torch.float32
    torch.testing.assert_close(
        again.adapter.input_projection.weight, model.adapter.input_projection.weight, atol=1e-3, rtol=1e-3
    )


# --- batches ---------------------------------------------------------------------------------------------------------


def test_batches_keep_the_limits_and_each_epoch_holds_every_example_once() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, size=500).tolist()
    order = BatchOrder(lengths, BatchLimits(tokens=400, sequences=16), seed=3, window=100)
    for epoch in range(2):
        start = sum(order.batches_in_epoch(e) for e in range(epoch))
        batches = [order.batch(start + i) for i in range(order.batches_in_epoch(epoch))]
        assert sorted(i for batch in batches for i in batch) == list(range(500))
        for batch in batches:
            assert len(batch) <= 16
            assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 400


def test_a_batch_is_a_function_of_seed_and_index_alone() -> None:
    lengths = list(range(5, 105))
    limits = BatchLimits(tokens=300, sequences=8)
    forward = BatchOrder(lengths, limits, seed=1)
    expected = [forward.batch(i) for i in range(60)]
    assert BatchOrder(lengths, limits, seed=1).batch(57) == expected[57]
    assert [BatchOrder(lengths, limits, seed=2).batch(i) for i in range(60)] != expected


@given(n=st.integers(1, 40), most=st.integers(0, 50), seed=st.integers(0, 99))
def test_moved_frames_are_the_recording_from_another_place_on(n: int, most: int, seed: int) -> None:
    frames = np.arange(n)[:, None]
    moved = FrameJitter(most, np.random.default_rng(seed))(frames)[:, 0]
    by = {int(to) - i for i, to in enumerate(moved) if 0 < to < n - 1}  # away from the edges, all by the same number
    assert len(by) <= 1
    assert all(abs(b) <= most for b in by)
    assert len(moved) == n
    assert set(np.diff(moved)) <= {0, 1}


def test_each_recording_is_moved_for_itself_and_anew_in_each_batch(
    parts: dict[tuple[str, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    plan = plan_for(parts["llama", "parakeet"], frame_jitter=3)
    model, processor, _ = stages.build(plan)
    store = stages.open_store(tmp_path, model)
    spoken = stages.speak_documents(heard(world.documents(12)), plan, model, processor, store)
    still, moved = (
        stages.mixed_batches([Heard(spoken.examples, store)], (), dataclasses.replace(plan, frame_jitter=jitter))
        for jitter in (0, 3)
    )

    def frames(batch: Batch) -> np.ndarray:
        assert batch.encoder_hidden_states is not None
        return batch.encoder_hidden_states.numpy()

    shifts: list[tuple[int, ...]] = []
    for index in range(3):
        before, after = still(index), moved(index)
        assert torch.equal(before.input_ids, after.input_ids)
        assert np.array_equal(frames(after), frames(moved(index)))  # a pure function of the seed and the batch's number
        assert before.encoder_lengths is not None
        found = []
        for rows, now, n in zip(frames(before), frames(after), before.encoder_lengths.tolist(), strict=True):
            places = {by: np.clip(np.arange(n) + by, 0, n - 1) for by in range(-3, 4)}
            (by,) = [by for by, place in places.items() if np.array_equal(rows[place], now[:n])]
            assert not now[n:].any()
            found.append(by)
        shifts.append(tuple(found))
    assert len(set(shifts)) > 1
    assert any(len(set(found)) > 1 for found in shifts)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1.0,), [300]),
        ((2 / 3, 1 / 3), [200, 100]),
        ((1 / 3, 1 / 3, 1 / 3), [100, 100, 100]),
        ((0.6, 0.0, 0.4), [180, 0, 120]),
        ((5, 3, 2), [150, 90, 60]),
    ],
)
def test_sources_have_their_shares_and_no_batch_is_skipped(weights: tuple[float, ...], expected: list[int]) -> None:
    drawn = [Mixture(weights).source(i) for i in range(300)]
    assert [sum(which == source for which, _ in drawn) for source in range(len(weights))] == expected
    for source in range(len(weights)):
        numbers = [number for which, number in drawn if which == source]
        assert numbers == list(range(len(numbers)))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(lambda w: sum(w) > 0.1), st.integers(1, 200))
def test_no_prefix_of_the_batches_is_far_from_the_shares(weights: list[float], n: int) -> None:
    drawn = [Mixture(tuple(weights)).source(i)[0] for i in range(n)]
    for source, weight in enumerate(weights):
        assert abs(drawn.count(source) - n * weight / sum(weights)) < len(weights)


@pytest.mark.parametrize("weights", [(), (0.0, 0.0), (-1.0, 2.0), (float("inf"),)])
def test_impossible_shares_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UserInputError, match="weights of the mixture"):
        Mixture(weights)


# --- the frame store -------------------------------------------------------------------------------------------------


def test_frames_come_back_as_they_went_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = {f"k{n}": rng.standard_normal((n, 4)).astype(np.float16) for n in (3, 1, 7)}
    store = FrameStore(tmp_path, 4, "x")
    store.add(list(frames)[:2], list(frames.values())[:2], [0.1, 0.2])
    store.add(["k7"], [frames["k7"]], [0.7])
    again = FrameStore(tmp_path, 4, "x")
    assert len(again) == 3
    for key, rows in frames.items():
        assert np.array_equal(again.get(key), rows)
    assert again.seconds("k7") == 0.7


@pytest.mark.parametrize("damage", ["rows", "index"])
def test_a_store_whose_rows_are_not_what_was_written_names_the_file(tmp_path: Path, damage: str) -> None:
    store = FrameStore(tmp_path, 4, "x")
    store.add(["a", "b"], [np.ones((2, 4)), np.full((3, 4), 2.0)], [0.1, 0.2])
    store.close()
    if damage == "rows":
        data = bytearray((tmp_path / "frames.f16").read_bytes())
        data[-1] ^= 1
        (tmp_path / "frames.f16").write_bytes(data)
    else:
        index = tmp_path / "index.jsonl"
        index.write_text(index.read_text().replace('"start": 2', '"start": 1'))
    again = FrameStore(tmp_path, 4, "x")
    assert np.array_equal(again.get("a"), np.ones((2, 4)))
    for _ in range(2):
        with pytest.raises(DataError, match=r"frames\.f16: the rows of b are not what was written"):
            again.get("b")


def test_a_store_whose_writer_was_killed_goes_on(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, 2, "x")
    store.add(["a"], [np.ones((2, 2), np.float32)], [0.1])
    with open(tmp_path / "frames.f16", "ab") as file:
        file.write(b"\x00" * 7)  # rows whose index line was never written
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"key": "b", "sta')
    again = FrameStore(tmp_path, 2, "x")
    assert "b" not in again
    again.add(["b"], [np.full((3, 2), 2.0, np.float32)], [0.1])
    assert np.array_equal(FrameStore(tmp_path, 2, "x").get("b"), np.full((3, 2), 2.0))
    assert np.array_equal(FrameStore(tmp_path, 2, "x").get("a"), np.ones((2, 2)))


def test_frames_of_another_encoder_are_refused(tmp_path: Path) -> None:
    FrameStore(tmp_path, 2, "x")
    with pytest.raises(DataError, match="another model"):
        FrameStore(tmp_path, 2, "y")


def test_frames_that_do_not_fit_half_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="float16"):
        FrameStore(tmp_path, 2, "x").add(["a"], [np.full((1, 2), 1e6)], [0.1])
