"""The trainer: the same step however it is cut up, accumulated, spread over processes, stopped or resumed."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import TrainerCallback

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.records import from_json, read_jsonl, to_json
from salad_train.training import checkpoints, optim, precision
from salad_train.training.batches import Batch
from salad_train.training.checkpoints import newest_checkpoint, read_state, whole_state_dict
from salad_train.training.distillation import Distillation, batch_objective, frozen_copy
from salad_train.training.lora import LoraPlan, add_lora, has_lora, merge_lora, merged_state_dict
from salad_train.training.optim import ParameterGroup, RateSchedule, StackedMuon, make_optimizer
from salad_train.training.parameters import prepare_tuning
from salad_train.training.plan import StepLog, TrainPlan
from salad_train.training.train import train
from salad_train.training.trainer import SaladTrainer, step_sentence, training_arguments
from tests.helpers import speech_llm_world as world
from tests.helpers.places import CHECKOUT
from tests.helpers.train_worker import CASES, PLAN, TEXT, batches_of, micro_batch, run, student

LORA = LoraPlan(4, 8)
Weights = dict[str, torch.Tensor]


def changed(**changes: Any) -> TrainPlan:
    return dataclasses.replace(PLAN, **changes)


def same(a: Weights, b: Weights) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def furthest(a: Weights, b: Weights) -> float:
    assert set(a) == set(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point())


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> Iterator[None]:
    """transformers' Trainer collects garbage before it begins: a quarter of a second with all that is imported here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Stop(Exception):
    pass


def stopping_at(index: int) -> Callable[[int], Batch]:
    """Batches of a run that is killed when it asks for micro-batch ``index``."""

    def batches(asked: int) -> Batch:
        if asked >= index:
            raise Stop
        return micro_batch(asked)

    return batches


# --- a step ----------------------------------------------------------------------------------------------------------


def test_training_is_what_a_loop_written_by_hand_does(tmp_path: Path) -> None:
    plan = changed(steps=3, micro_batches=2, max_grad_norm=0.05)
    model = student()
    teacher = frozen_copy(model.language_model)
    prepare_tuning(model, plan)
    model.train()
    parts = {"adapter.": plan.adapter_lr, "language_model.": plan.lm_lr}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizers = [
        torch.optim.AdamW(
            [p for name, p in named.items() if name.startswith(prefix) and (p.ndim > 1) == matrix],
            lr=lr,
            betas=plan.betas,
            weight_decay=plan.weight_decay if matrix else 0.0,
        )
        for prefix, lr in parts.items()
        for matrix in (True, False)
    ]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    for step in range(plan.steps):
        batches = [micro_batch(2 * step + k) for k in range(2)]
        scored = sum(len(batch.targets) for batch in batches)
        for batch in batches:
            batch_objective(model, teacher, batch, alpha=1.0, denominator=scored).loss.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), plan.max_grad_norm)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * plan.rate(step)
            optimizer.step()
            optimizer.zero_grad()
    expected = {name: tensor for name, tensor in model.state_dict().items() if "lm_head" not in name}
    assert furthest(run(plan, tmp_path), expected) < 1e-6


def test_micro_batches_are_asked_for_by_number_and_a_resumed_run_asks_for_the_rest(tmp_path: Path) -> None:
    asked: list[int] = []

    def batches(index: int) -> Batch:
        if index >= 6 and len(asked) == 6:
            raise Stop
        asked.append(index)
        return micro_batch(index)

    plan = changed(steps=5, micro_batches=2, checkpoint_every=2)
    with pytest.raises(Stop):
        run(plan, tmp_path, batches)
    assert asked == [0, 1, 2, 3, 4, 5]
    asked += [-1]  # so that it is not stopped again
    run(plan, tmp_path, batches)
    # The state before the decay, after step 3 of 5 (2.5 rounded up), was kept: nothing before it is asked for again.
    assert asked[7:] == [6, 7, 8, 9]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_may_be_made_by_other_processes(tmp_path: Path, workers: int) -> None:
    plan = changed(steps=3, checkpoint_every=0)
    model = student()
    trainer = SaladTrainer(
        model=Distillation(model, frozen_copy(model.language_model)),
        args=training_arguments(plan, tmp_path, device="cpu", dataloader_num_workers=workers),
        plan=plan,
        batches=micro_batch,
    )
    trainer.train()
    mine = {name: tensor for name, tensor in model.state_dict().items() if "lm_head" not in name}
    assert same(mine, run(plan, tmp_path / "plain"))


def test_a_step_of_text_leaves_the_adapter_alone_and_a_frozen_lm_everything(tmp_path: Path) -> None:
    text = min(TEXT)
    for tune in ("full", "adapter"):
        before = {name: tensor.clone() for name, tensor in student().state_dict().items() if "lm_head" not in name}
        after = run(changed(steps=1, tune=tune), tmp_path / tune, lambda index: micro_batch(text))
        moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert moved == ({"language_model"} if tune == "full" else set())


def test_recomputing_activations_changes_nothing(tmp_path: Path) -> None:
    assert furthest(run(PLAN, tmp_path / "a"), run(changed(gradient_checkpointing=True), tmp_path / "b")) < 1e-6
    model = student()
    Distillation(model, frozen_copy(model.language_model)).activation_checkpointing_enable()
    for part in (model.adapter, model.language_model):
        assert any(getattr(module, "gradient_checkpointing", False) for module in part.modules())


def test_bfloat16_that_a_processor_only_emulates_is_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: False)
    plain = run(PLAN, tmp_path / "a")
    assert "bf16" not in capsys.readouterr().err
    assert same(plain, run(changed(bf16=True), tmp_path / "b"))
    assert "float32 is faster here" in capsys.readouterr().err


def test_bfloat16_stays_near_and_keeps_weights_and_moments_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: True)
    exact, near = run(PLAN, tmp_path / "a"), run(changed(bf16=True), tmp_path / "b")
    assert 0 < furthest(exact, near) < 4 * 2e-3  # no step moves a weight by much more than the learning rate
    checkpoint = newest_checkpoint(tmp_path / "b" / "checkpoints")
    assert checkpoint is not None
    for file in ("model", "optimizer"):
        assert {tensor.dtype for tensor in load_file(checkpoint / f"{file}.safetensors").values()} == {torch.float32}
    logs = [read_jsonl(tmp_path / name / "train.jsonl", StepLog)[0].speech_kl for name in "ab"]
    assert logs[0] == pytest.approx(logs[1], rel=0.05)


def test_training_leaves_the_generators_of_the_process_alone(tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    model = student()
    teacher = frozen_copy(model.language_model)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(3)
    expected = drawn()
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(3)
    train(model, teacher, micro_batch, changed(steps=1), tmp_path)
    assert drawn() == expected


def test_a_gradient_that_is_not_finite_stops_and_names_the_batch(tmp_path: Path) -> None:
    model = student()

    def poison(grad: torch.Tensor) -> torch.Tensor:
        return grad * float("inf")

    handle: list[Any] = []

    def batches(index: int) -> Batch:
        if index == 2:
            handle.append(model.adapter.output_projection.bias.register_hook(poison))
        return micro_batch(index + 6)

    with pytest.raises(ModelError, match=r"gradient norm is (inf|nan) at step 2, in the batch of documents doc-8-0"):
        train(model, frozen_copy(model.language_model), batches, PLAN, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000002"]


@pytest.mark.parametrize("targets", [("q_proj", "lm_head"), ("embed_tokens",)])
def test_lora_on_one_end_of_tied_embeddings_is_refused(targets: tuple[str, ...]) -> None:
    lm = student().language_model
    lm.config.tie_word_embeddings = True
    lm.lm_head.weight = lm.get_input_embeddings().weight
    with pytest.raises(ModelError, match=f"{targets[-1]} of this .* in common with another layer"):
        add_lora(lm, LoraPlan(4, 8, target_modules=targets), seed=0)


# --- stopping and resuming -------------------------------------------------------------------------------------------

TUNINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "adapter": {"tune": "adapter"},
    "frozen by its rate": {"lm_lr": 0.0},
    "lora with dropout": {"tune": "lora", "lora": LoraPlan(4, 8, dropout=0.5)},
    "muon": {"muon_lr": 0.02, "muon_steps": 3},
}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_stopped_and_resumed_is_the_uninterrupted_run_to_the_bit(tmp_path: Path, tuning: str) -> None:
    plan = changed(**TUNINGS[tuning])
    whole = run(plan, tmp_path / "whole")
    with pytest.raises(Stop):
        run(plan, tmp_path / "cut", stopping_at(3))
    assert same(run(plan, tmp_path / "cut"), whole)
    assert [line.step for line in read_jsonl(tmp_path / "cut" / "train.jsonl", StepLog)] == [2, 4]


def test_dropout_is_drawn_by_the_step(tmp_path: Path) -> None:
    plan = changed(**TUNINGS["lora with dropout"])
    assert not same(run(plan, tmp_path / "a"), run(dataclasses.replace(plan, seed=1), tmp_path / "b"))


def test_a_finished_run_is_not_run_again_from_before_its_last_checkpoint(tmp_path: Path) -> None:
    first = run(PLAN, tmp_path)
    asked: list[int] = []

    def batches(index: int) -> Batch:
        asked.append(index)
        return micro_batch(index)

    assert same(run(PLAN, tmp_path, batches), first)
    assert asked == [3]


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pickled")

    for module, name in ((torch, "save"), (torch, "load"), (pickle, "load"), (pickle, "dump")):
        monkeypatch.setattr(module, name, refuse)
    with pytest.raises(Stop):
        run(PLAN, tmp_path, stopping_at(2))
    run(PLAN, tmp_path)
    files = {file.name for file in (tmp_path / "checkpoints").rglob("*") if file.is_file()}
    assert files == {"model.safetensors", "optimizer.safetensors", "state.json", "trainer_state.json"}


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    whole, original = run(PLAN, tmp_path / "whole"), checkpoints.save_file
    written = 0

    def full(tensors: Any, path: Path) -> None:
        nonlocal written
        if path.name == file:
            written += 1
        if written == 2 and path.name == file:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        original(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(DataError, match="No space left"):
        run(PLAN, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-0000001"]
    monkeypatch.setattr(checkpoints, "save_file", original)
    assert same(run(PLAN, tmp_path / "full"), whole)


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".step-0000001.abc.tmp"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    run(PLAN, tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer_state.json"])
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path, name: str) -> None:
    file = stopped(tmp_path) / name
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"{name} is not what was written"):
        run(PLAN, tmp_path)


# --- checkpoints of something else -----------------------------------------------------------------------------------


def stopped(out: Path, **changes: Any) -> Path:
    """A run of two steps of four in ``out``; its last checkpoint."""
    with pytest.raises(Stop):
        run(changed(**changes), out, stopping_at(2))
    found = newest_checkpoint(out / "checkpoints")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("made_with", "message"),
    [
        ({"tune": "adapter"}, "another choice of what is trained"),
        ({"tune": "lora", "lora": LORA}, "another choice of what is trained"),
        ({"muon_lr": 0.02}, "another optimiser: adapter"),
    ],
)
def test_a_checkpoint_of_another_tuning_is_refused(tmp_path: Path, made_with: dict[str, Any], message: str) -> None:
    stopped(tmp_path, **made_with)
    with pytest.raises(DataError, match=message):
        run(PLAN, tmp_path)


def test_a_checkpoint_of_another_base_llm_or_tokenizer_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    model = student()
    with torch.no_grad():  # the same shapes, but its tokens mean other things
        embeddings = model.language_model.get_input_embeddings().weight
        embeddings.copy_(embeddings.flip(0))
    with pytest.raises(DataError, match="another base LLM"):
        train(model, frozen_copy(model.language_model), micro_batch, PLAN, tmp_path)


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    encoder, _ = world.encoder("parakeet")
    base = world.language_model("qwen2")
    other = type(student()).from_parts(encoder, base, world.adapter_config(intermediate_size=56), stack_frames=2)
    with pytest.raises(DataError, match=r"mlp\.\w+\.weight has shape \(.*48.*\), expected \(.*56.*\)"):
        train(other, frozen_copy(base), micro_batch, PLAN, tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_that_is_cut_off_is_refused_by_name(tmp_path: Path, file: str) -> None:
    checkpoint = stopped(tmp_path)
    data = (checkpoint / file).read_bytes()
    (checkpoint / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"step-0000002.*(no whole|is not what was written)"):
        run(PLAN, tmp_path)


# --- beginning from another run --------------------------------------------------------------------------------------


def test_stage_two_goes_on_from_before_the_decay_with_weights_and_moments(tmp_path: Path) -> None:
    """Two steps, then two more from their checkpoint in a new run, are four steps."""
    steady = {"decay_share": 0.0, "warmup_steps": 0}
    four = run(changed(steps=4, **steady), tmp_path / "four")
    run(changed(steps=4, decay_share=0.5, warmup_steps=0), tmp_path / "one")
    before_decay = tmp_path / "one" / "checkpoints" / "step-0000002"
    assert read_state(before_decay).keep
    options: dict[str, Any] = {"batches": lambda index: micro_batch(index + 2), "init_from": before_decay}
    two = run(changed(steps=2, **steady), tmp_path / "two", **options)
    assert same(two, four)
    assert [line.step for line in read_jsonl(tmp_path / "two" / "train.jsonl", StepLog)] == [2]
    without = run(changed(steps=2, **steady), tmp_path / "without", fresh_moments=True, **options)
    assert furthest(without, four) > 1e-5


def test_a_second_stage_that_was_stopped_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    start = stopped(tmp_path / "one")
    whole = run(PLAN, tmp_path / "whole", init_from=start)
    with pytest.raises(Stop):
        run(PLAN, tmp_path / "cut", stopping_at(3), init_from=start)
    assert same(run(PLAN, tmp_path / "cut", init_from=start), whole)


def test_moments_that_are_missing_are_an_error_unless_they_are_not_wanted(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    start = stopped(tmp_path / "one")
    save_file({}, start / "optimizer.safetensors")
    state = json.loads((start / "state.json").read_text(encoding="utf-8"))
    (start / "state.json").write_text(json.dumps({**state, "sha256": {}}), encoding="utf-8")  # as saved without them
    with pytest.raises(DataError, match="no optimiser moments"):
        run(PLAN, tmp_path / "two", init_from=start)
    run(PLAN, tmp_path / "three", init_from=start, fresh_moments=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"tune": "lora", "lora": LORA}),
        ({}, {"tune": "adapter"}),
        ({"tune": "adapter"}, {}),
        ({"tune": "lora", "lora": LORA}, {"tune": "lora", "lora": LORA}),
    ],
)
def test_weights_alone_may_begin_another_tuning(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    start = stopped(tmp_path / "one", **first)
    held = load_file(start / "model.safetensors")
    tiny = {
        "steps": 1,
        "adapter_lr": 1e-9,
        "lm_lr": 1e-9,
        "weight_decay": 0.0,
        "checkpoint_every": 0,
        "decay_share": 0.0,
    }
    began = run(changed(**{**second, **tiny}), tmp_path / "two", init_from=start, fresh_moments=True)
    for name in set(held) & set(began):
        assert float((held[name] - began[name]).abs().max()) < 1e-7, name
    if first.get("tune") == "lora":
        model = student()
        add_lora(model.language_model, LORA, seed=5)
        model.load_state_dict(held, strict=False)
        merge_lora(model.language_model)
        merged = {name: tensor for name, tensor in model.state_dict().items() if name in began}
        assert furthest(merged, began) < 1e-6


# --- LoRA ------------------------------------------------------------------------------------------------------------


def test_lora_trains_adapter_and_small_matrices_and_leaves_a_plain_model(tmp_path: Path) -> None:
    plan = changed(tune="lora", lora=LORA)
    before = {name: tensor.clone() for name, tensor in student().state_dict().items() if "lm_head" not in name}
    after = run(plan, tmp_path)
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {name for name in before if name.startswith("language_model") and "_proj.weight" in name}
    assert {name for name in moved if name.startswith("language_model")} == linear
    assert any(name.startswith("adapter.") for name in moved)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    held = load_file(checkpoint / "model.safetensors")
    assert {name for name in held if not name.startswith("adapter.")} == {
        name.replace(".weight", f".lora_{side}.default.weight") for name in linear for side in "AB"
    }
    for name in linear:  # a change of rank 4 at most
        assert int(torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5)) <= 4


@torch.no_grad()
def test_merging_changes_neither_outputs_nor_class_nor_names() -> None:
    model = student("llama")
    names, ids = list(model.state_dict()), micro_batch(0).teacher_ids
    add_lora(model.language_model, LORA, seed=0)
    assert has_lora(model.language_model)
    for name, parameter in model.language_model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.1)
    expected = model.language_model(input_ids=ids).logits
    on_the_side = merged_state_dict(model, whole_state_dict(model))
    merge_lora(model.language_model)
    assert not has_lora(model.language_model)
    assert list(model.state_dict()) == names == list(on_the_side)
    assert furthest(on_the_side, model.state_dict()) < 1e-6
    torch.testing.assert_close(model.language_model(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    merge_lora(model.language_model)  # and again: nothing happens


def test_equal_seeds_draw_equal_lora() -> None:
    drawn = []
    for seed in (0, 0, 1):
        lm = world.language_model("qwen2")
        add_lora(lm, LORA, seed)
        drawn.append({name: p.detach() for name, p in lm.named_parameters() if "lora_A" in name})
    assert same(drawn[0], drawn[1])
    assert not same(drawn[0], drawn[2])


def test_modules_that_are_not_there_are_named() -> None:
    with pytest.raises(ModelError, match="no_such_proj"):
        add_lora(world.language_model("qwen2"), LoraPlan(target_modules=("no_such_proj",)), 0)


@pytest.mark.parametrize(
    "changes", [{"tune": "some"}, {"tune": "lora", "lm_lr": 0.0}, {"micro_batches": 0}, {"alpha": -0.1}]
)
def test_impossible_plans_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserInputError):
        changed(**changes)


def test_a_plan_goes_through_json_and_says_whether_the_lm_is_trained() -> None:
    plan = changed(tune="lora", lora=LoraPlan(2, 3, 0.1, ("q_proj", "v_proj")), report_to=("wandb",))
    assert from_json(TrainPlan, to_json(plan)) == plan
    assert [changed(**c).trains_lm for c in ({}, {"tune": "adapter"}, {"lm_lr": 0.0}, {"tune": "lora"})] == [
        True,
        False,
        False,
        True,
    ]


def test_impossible_lora_is_refused() -> None:
    for options in ({"r": 0}, {"dropout": 1.0}):
        with pytest.raises(UserInputError, match="lora"):
            LoraPlan(**options)


# --- optimiser and schedule ------------------------------------------------------------------------------------------


def test_combined_optimisers_step_as_they_would_alone_and_keep_their_state() -> None:
    torch.manual_seed(0)
    start = [torch.randn(6, 4), torch.randn(3, 5), torch.randn(5)]
    grads = [[torch.randn_like(tensor) for tensor in start] for _ in range(4)]

    def parameters() -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(tensor.clone()) for tensor in start]

    def groups(own: list[torch.nn.Parameter]) -> list[ParameterGroup]:
        return [
            ParameterGroup(own[:1], 0.1, 0.2, "muon"),
            ParameterGroup(own[1:2], 0.01, 0.3),
            ParameterGroup(own[2:], 0.02),
        ]

    alone, together = parameters(), parameters()
    separate = [
        torch.optim.Muon(alone[:1], lr=0.1, weight_decay=0.2, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(alone[1:2], lr=0.01, weight_decay=0.3, betas=(0.9, 0.95)),
        torch.optim.AdamW(alone[2:], lr=0.02, weight_decay=0.0, betas=(0.9, 0.95)),
    ]
    combined = make_optimizer(groups(together), fused=False)
    for number, step in enumerate(grads):
        for own in (alone, together):
            for parameter, grad in zip(own, step, strict=True):
                parameter.grad = grad.clone()
        for optimizer in separate:
            optimizer.step()
        combined.step()
        if number == 1:  # its state goes through a dictionary into a fresh one
            saved, old = combined.state_dict(), combined
            combined = make_optimizer(groups(together), fused=False)
            combined.load_state_dict(saved)
            assert set(combined.state) == set(old.state)
    for a, b in zip(alone, together, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    combined.zero_grad()
    assert all(parameter.grad is None for parameter in together)
    assert set(combined.moment_names().values()) == {
        ("momentum_buffer",),
        ("step", "exp_avg", "exp_avg_sq"),
    }


@pytest.mark.parametrize("ns_steps", [3, 5])
def test_stacked_matrices_move_as_torchs_muon_moves_them_one_by_one(
    ns_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optim, "multiplies_bfloat16", lambda _: True)  # products as torch's own makes them
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 8), (24, 8), (8, 24), (8, 8), (24, 8), (8, 8)]
    one_by_one, stacked = (
        [
            torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(k)))
            for k, shape in enumerate(shapes)
        ]
        for _ in range(2)
    )
    theirs = torch.optim.Muon(
        [{"params": one_by_one[:4], "lr": 0.1, "weight_decay": 0.2}, {"params": one_by_one[4:], "lr": 0.01}],
        momentum=0.9, adjust_lr_fn="original", ns_steps=ns_steps,
    )  # fmt: skip
    ours = StackedMuon(
        [{"params": stacked[:4], "lr": 0.1, "weight_decay": 0.2}, {"params": stacked[4:], "lr": 0.01}],
        momentum=0.9, ns_steps=ns_steps,
    )  # fmt: skip
    for number in range(4):
        for place, (a, b) in enumerate(zip(one_by_one, stacked, strict=True)):
            if (place, number) == (3, 0):
                continue  # without a gradient, a parameter stays where it is
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        theirs.step()
        ours.step()
    for a, b in zip(one_by_one, stacked, strict=True):
        assert torch.allclose(
            a, b, rtol=0, atol=1e-5
        )  # equal to the bit where products of a stack round as single ones


def test_bfloat16_carried_by_float32_moves_matrices_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4,000 numbers nearly all are equal to the bit; a sum taken in another order is rounded the other way now and then."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 32, 32), (1, 16, 128), (1, 128, 16)):
        matrices = torch.randn(shape, generator=generator)
        found = []
        for own in (True, False):
            monkeypatch.setattr(optim, "multiplies_bfloat16", lambda _, own=own: own)
            found.append(optim.orthogonalised(matrices, (3.4445, -4.775, 2.0315), n_iterations=5, eps=1e-7).float())
        assert (found[0] == found[1]).float().mean() > 0.8
        assert torch.allclose(*found, rtol=0, atol=2**-7)
        # Singular values near 1, which is what the iterations are for.
        assert ((torch.linalg.svdvals(found[1]) - 0.85).abs() < 0.4).all()


def test_a_step_in_a_line() -> None:
    line = StepLog(50, 1.0, 12.3, 100, 0.5321, 1.2, 0.02, 0.7)
    where = "0.532 nats from the base LLM where it hears"
    assert (
        step_sentence(line, 1700)
        == f"training, step 50 of 1,700 (12 s): {where}, 0.020 nats from the base LLM where it reads"
    )
    assert step_sentence(dataclasses.replace(line, replay_kl=None), 50) == f"training, step 50 of 50 (12 s): {where}"


def test_adamw_in_one_pass_is_adamw() -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(7, 5), torch.randn(6, 7, 5)
    found = []
    for fused in (None, False):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make_optimizer([ParameterGroup([parameter], 0.01, 0.1)], fused=fused)
        assert optimizer.param_groups[0]["fused"] is (fused is None)
        for grad in grads:
            parameter.grad = grad.clone()
            optimizer.step()
        found.append(parameter.detach())
    assert torch.allclose(*found, rtol=0, atol=1e-6)


def test_a_combined_optimiser_takes_no_more_and_an_empty_one_is_refused() -> None:
    combined = make_optimizer([ParameterGroup([torch.nn.Parameter(torch.ones(2))], 0.1)])
    with pytest.raises(TypeError):
        combined.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    with pytest.raises(ValueError, match="no parameters"):
        make_optimizer([ParameterGroup([], 0.1)])


@given(
    steps=st.integers(1, 30),
    warmup=st.integers(0, 40),
    share=st.floats(0, 1),
    peaks=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3),
    at=st.integers(0, 30),
)
@settings(max_examples=50, deadline=None)
def test_the_schedule_is_the_plans_rate_stepped_or_put_anywhere(
    steps: int, warmup: int, share: float, peaks: list[float], at: int
) -> None:
    plan = TrainPlan(steps=steps, warmup_steps=warmup, decay_share=share)
    groups = [ParameterGroup([torch.nn.Parameter(torch.ones(1))], peak) for peak in peaks]
    at = min(at, steps)
    stepped, put = (RateSchedule(make_optimizer(groups), plan.rate) for _ in range(2))
    for step in range(at):
        assert [group["lr"] for group in stepped.optimizer.param_groups] == [peak * plan.rate(step) for peak in peaks]
        stepped.optimizer.step()
        stepped.step()
    put.go_to(at)
    for schedule in (stepped, put):
        assert [group["lr"] for group in schedule.optimizer.param_groups] == [peak * plan.rate(at) for peak in peaks]
        assert schedule.get_last_lr() == [peak * plan.rate(at) for peak in peaks]
    assert 0.0 <= plan.rate(at) <= 1.0


# --- in someone else's program ---------------------------------------------------------------------------------------


class Watch(TrainerCallback):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.logs: list[dict[str, float]] = []
        self.rates: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def trainer_for(plan: TrainPlan, out: Path, *callbacks: TrainerCallback, **options: Any) -> SaladTrainer:
    model = student()
    return SaladTrainer(
        model=Distillation(model, frozen_copy(model.language_model), plan.alpha),
        args=training_arguments(plan, out, device="cpu", **options),
        plan=plan,
        batches=micro_batch,
        callbacks=list(callbacks),
    )


def test_callbacks_see_steps_rates_and_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    plan = changed(alpha=0.5)
    trainer_for(plan, tmp_path, watch).train()
    assert watch.steps == [1, 2, 3, 4]
    assert watch.rates == pytest.approx([plan.adapter_lr * plan.rate(step) for step in range(4)])
    lines = read_jsonl(tmp_path / "train.jsonl", StepLog)
    seen = [log for log in watch.logs if "loss" in log]
    assert [line.step for line in lines] == [2, 4]
    for line, log in zip(lines, seen, strict=True):
        assert {name: log.get(name) for name in ("speech_kl", "speech_nll", "replay_kl", "grad_norm")} == {
            name: getattr(line, name) for name in ("speech_kl", "speech_nll", "replay_kl", "grad_norm")
        }
        assert log["learning_rate"] == pytest.approx(plan.adapter_lr * line.rate)
    assert capsys.readouterr().out == ""


def test_a_callback_can_stop_the_run(tmp_path: Path) -> None:
    class StopAfterTwo(Watch):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control)
            control.should_training_stop = state.global_step == 2

    watch = StopAfterTwo()
    trainer_for(PLAN, tmp_path, watch).train()
    assert watch.steps == [1, 2]


def test_resuming_by_the_trainers_own_argument(tmp_path: Path) -> None:
    whole = run(PLAN, tmp_path / "whole")
    checkpoint = stopped(tmp_path / "cut")
    for resume in (True, str(checkpoint)):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(tmp_path / "cut", tmp_path / "again")
        trainer = trainer_for(PLAN, tmp_path / "again")
        trainer.train(resume_from_checkpoint=resume)
        found = trainer.distillation.student.state_dict()
        assert same({name: found[name] for name in whole}, whole)


def test_a_run_that_saved_its_end_is_loaded_and_not_run_again(tmp_path: Path) -> None:
    first = trainer_for(PLAN, tmp_path, save_strategy="steps", save_steps=1)
    first.train()
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path / "checkpoints")] == [
        "step-0000002",
        "step-0000004",
    ]
    watch = Watch()
    again = trainer_for(PLAN, tmp_path, watch)
    assert again.train(resume_from_checkpoint=True).global_step == 4
    assert watch.steps == []
    assert same(dict(again.distillation.student.state_dict()), dict(first.distillation.student.state_dict()))


def test_saving_the_model_gives_the_student_with_lora_merged_and_without_the_teacher(tmp_path: Path) -> None:
    trainer = trainer_for(changed(tune="lora", lora=LORA), tmp_path)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    own = trainer.distillation.student
    again = type(own).from_pretrained(tmp_path / "model")
    assert not has_lora(again)
    batch = micro_batch(0)
    with torch.no_grad():
        ours = own.eval()(input_ids=batch.teacher_ids).logits
        torch.testing.assert_close(again.eval()(input_ids=batch.teacher_ids).logits, ours, atol=1e-4, rtol=1e-4)
    assert not any("teacher" in name for name in load_file(tmp_path / "model" / "model.safetensors"))


def test_arguments_that_contradict_the_plan_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="max_steps is 9, but the plan says 4"):
        trainer_for(PLAN, tmp_path, max_steps=9)


def test_devices_are_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="CUDA_VISIBLE_DEVICES"):
        training_arguments(PLAN, tmp_path, device="cuda:1")
    if not torch.cuda.is_available():
        with pytest.raises(UserInputError, match="offers 'cpu'"):
            training_arguments(PLAN, tmp_path, device="cuda")


def test_a_tensorboard_run_is_written(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None and importlib.util.find_spec("tensorboardX") is None:
        pytest.skip("tensorboard is not installed")
    run(changed(report_to=("tensorboard",)), tmp_path)
    assert list((tmp_path / "checkpoints").rglob("events.out.tfevents.*"))


# --- several processes -----------------------------------------------------------------------------------------------


def test_two_processes_take_the_steps_of_one_that_accumulates(tmp_path: Path) -> None:
    """DDP, also with a teacher whose states the first process keeps for both, and FSDP2 with the whole LM
    and with LoRA, each with steps in which only one of the processes has speech, and with
    one of text alone; and checkpoints that a run of another kind goes on from."""
    cases = ("ddp", "ddp-states", "fsdp2", "fsdp2-lora")
    plans = {case: changed(**CASES[case]) for case in cases}
    single = {case: dataclasses.replace(plan, micro_batches=2 * plan.micro_batches) for case, plan in plans.items()}
    # FSDP2 goes on from where a single process was stopped.
    with pytest.raises(Stop):
        run(single["fsdp2"], tmp_path / "fsdp2", stopping_at(4))
    root = CHECKOUT
    found = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(root / "tests" / "helpers" / "train_worker.py"), str(tmp_path), *cases],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-4000:]
    for case in cases:
        batches = batches_of(case, single[case], tmp_path / f"single-{case}-kept")
        expected = run(single[case], tmp_path / f"single-{case}", batches)
        assert furthest(load_file(tmp_path / f"{case}.safetensors"), expected) < 1e-6, case
        theirs, ours = (read_jsonl(tmp_path / name / "train.jsonl", StepLog) for name in (case, f"single-{case}"))
        for a, b in zip(theirs, ours, strict=True):
            assert (a.step, a.scored) == (b.step, b.scored)
            assert a.speech_kl == pytest.approx(b.speech_kl, rel=1e-5)
        # A single process goes on from their last checkpoint.
        last = newest_checkpoint(tmp_path / case / "checkpoints")
        assert last is not None
        assert read_state(last).step == {"ddp": 2, "ddp-states": 2, "fsdp2": 3, "fsdp2-lora": 1}[case]
        assert furthest(run(single[case], tmp_path / case, batches), expected) < 1e-6, case
