"""GapCallback in a plain transformers.Trainer and in bare loops, and the gap of a live speech LLM."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from salad_eval import evaluate
from salad_eval.errors import ModelError, UserInputError
from salad_eval.types import DivergenceRates, GapReport
from salad_train.model.loading import load_salad
from salad_train.steering.callback import (
    HISTORY_FILE,
    GapCallback,
    GapMeasurement,
    gap_sentence,
    measured_once,
    read_history,
)
from salad_train.steering.live import LiveGap
from salad_train.steering.sampler import GapSampler
from salad_train.training.distillation import Distillation, frozen_copy
from tests.examples import toy_world
from tests.helpers.steering_world import report_of

N_POSITIONS = 40
GAPS = report_of({"capitals": 0.1, "metals": 0.4})


@pytest.fixture(scope="module")
def base() -> Any:
    return toy_world.base_model()


def arguments(out: Path, **changes: Any) -> TrainingArguments:
    settings = {
        "max_steps": 20, "per_device_train_batch_size": 5, "learning_rate": 1e-3, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "disable_tqdm": True, "logging_steps": 10, "gradient_accumulation_steps": 2,
    }  # fmt: skip
    return TrainingArguments(str(out), **{**settings, **changes})


def trainer_for(model: Any, out: Path, callbacks: list[TrainerCallback] | None = None, **changes: Any) -> Trainer:
    return Trainer(
        model=copy.deepcopy(model),
        args=arguments(out, **changes),
        train_dataset=toy_world.TRAINING,  # type: ignore[arg-type]
        data_collator=default_data_collator,
        callbacks=callbacks,
    )


def sampler(**changes: Any) -> GapSampler:
    return GapSampler(GAPS, domains=toy_world.DOMAINS, **changes)


class Seen(TrainerCallback):
    """What reached the log."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


# --- in a Trainer ----------------------------------------------------------------------------------------------------


def test_a_trainer_reads_exactly_the_samplers_order(base: Any, tmp_path: Path) -> None:
    read: list[int] = []

    class Watched(Trainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            read.extend((inputs["input_ids"][:, 0] - toy_world.HEARD).tolist())
            return super().training_step(model, inputs, *rest)

    chosen = sampler(num_samples=30)
    trainer = Watched(
        model=copy.deepcopy(base), args=arguments(tmp_path, max_steps=6), train_dataset=toy_world.TRAINING,
        data_collator=default_data_collator,
    )  # fmt: skip
    assert chosen.attach(trainer) is trainer
    trainer.train()
    assert read == [*chosen.order(0).tolist(), *chosen.order(1).tolist()]


@pytest.mark.parametrize("how", ["attached", "callbacks"])
def test_measurements_go_to_history_log_and_weights(
    base: Any, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, chosen, seen = toy_world.Measure(base), sampler(), Seen()
    callback = GapCallback(measure, chosen, every_steps=10, at_start=True)
    trainer = trainer_for(base, tmp_path, [seen] if how == "attached" else [seen, callback])
    chosen.attach(trainer)
    if how == "attached":
        assert callback.attach(trainer) is trainer
    trainer.train()
    history = read_history(tmp_path)
    assert history == callback.history
    told = [line for line in capsys.readouterr().err.splitlines() if "gap" in line]
    assert told == [f"· {gap_sentence(found)}" for found in history]
    assert [found.step for found in history] == [0, 10, 20]
    assert chosen.updates[1:] == tuple(found.update for found in history)
    logged = [line for line in trainer.state.log_history if "gap" in line]
    assert [(line["step"], line["gap"], line["gap/metals"]) for line in logged] == [
        (found.step, found.gap, found.domains["metals"]) for found in history
    ]
    assert sum("gap" in logs for logs in seen.logs) == (3 if how == "attached" else 0)
    assert all(found.gap == pytest.approx(found.forgetting + found.misalignment) for found in history)


def test_a_local_tensorboard_shows_gap_and_divergences(base: Any, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    taken = toy_world.Measure(base)

    def measure(model: Any) -> GapReport:
        report = taken(model)
        rates = DivergenceRates(0.25, 0.5, 0.125, N_POSITIONS)
        return dataclasses.replace(report, overall=dataclasses.replace(report.overall, divergence_nats=rates))

    trainer = trainer_for(base, tmp_path, max_steps=4, report_to="tensorboard")
    callback = GapCallback(measure, None, every_steps=2, at_start=True)
    callback.attach(trainer).train()
    (events,) = tmp_path.rglob("events.out.tfevents*")
    shown = accumulator.EventAccumulator(str(events.parent))
    shown.Reload()

    def series(name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in shown.Scalars(f"train/{name}")]

    assert series("gap") == [(found.step, pytest.approx(found.gap)) for found in callback.history]
    assert [step for step, _ in series("gap")] == [0, 2, 4]
    assert series("gap_F") == [(0, 0.25), (2, 0.25), (4, 0.25)]
    assert [value for _, value in series("gap_M")] == [0.5] * 3
    assert [value for _, value in series("gap_D")] == [0.125] * 3
    assert series("gap/metals") == [(found.step, pytest.approx(found.domains["metals"])) for found in callback.history]
    assert read_history(tmp_path) == callback.history


def test_a_measurement_in_a_line() -> None:
    found = GapMeasurement(1200, 0.2134, 0.18, 0.246, 0.071, 0.1424, {}, 1280, 12.3, "toy", None)
    assert gap_sentence(found) == (
        "step 1,200: gap 21.3 [18.0, 24.6] points, forgetting 7.1, misalignment 14.2 (1,280 questions, 12 s)"
    )
    assert gap_sentence(dataclasses.replace(found, low=None)).startswith("step 1,200: gap 21.3 points, forgetting 7.1")


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(base: Any, tmp_path: Path) -> None:
    def run(out: Path, resume: bool = False, **changes: Any) -> Trainer:
        trainer, chosen = trainer_for(base, out, save_strategy="steps", save_steps=8, **changes), sampler()
        chosen.attach(trainer)
        GapCallback(toy_world.Measure(base), chosen, every_steps=3).attach(trainer)
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer

    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 11:
                raise KeyboardInterrupt

    whole = run(tmp_path / "whole")
    stopped, chosen = trainer_for(base, tmp_path / "parts", [Kill()], save_strategy="steps", save_steps=8), sampler()
    chosen.attach(stopped)
    GapCallback(toy_world.Measure(base), chosen, every_steps=3).attach(stopped)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert [found.step for found in read_history(tmp_path / "parts")] == [3, 6, 9]  # one more than the checkpoint knows
    resumed = run(tmp_path / "parts", resume=True)
    for (name, one), other in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    one, other = (
        [dataclasses.replace(found, seconds=0.0) for found in read_history(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert one == other
    assert [found.step for found in one] == [3, 6, 9, 12, 15, 18]


def test_the_sampler_learns_the_epoch_also_where_its_loader_is_wrapped_too_deep(base: Any, tmp_path: Path) -> None:
    """As in a resumed run of two processes, where accelerate does not reach it."""
    chosen = sampler()
    trainer = chosen.attach(trainer_for(base, tmp_path))
    trainer.state.epoch = 2 + 5 / 7
    trainer.callback_handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
    assert chosen.epoch == 2


def test_where_measuring_fails_a_checkpoint_is_saved_before_the_error_is_raised(base: Any, tmp_path: Path) -> None:
    measure = toy_world.Measure(base)

    def fails_later(model: Any) -> GapReport:
        if len(callback.history) == 1:
            raise OSError("no space left on device")
        return measure(model)

    chosen = sampler()
    trainer = trainer_for(base, tmp_path)
    callback = GapCallback(fails_later, chosen, every_steps=5)
    chosen.attach(trainer)
    callback.attach(trainer)
    with pytest.raises(ModelError, match="measuring the gap at step 10 failed: OSError: no space left on device"):
        trainer.train()
    assert trainer.state.global_step == 10
    saved = load_file(tmp_path / "checkpoint-10" / "model.safetensors")
    live = trainer.model.state_dict()
    assert all(torch.equal(value, live[name]) for name, value in saved.items())
    assert [found.step for found in read_history(tmp_path)] == [5]


def test_a_sampler_of_other_data_is_refused(base: Any, tmp_path: Path) -> None:
    trainer = trainer_for(base, tmp_path)
    with pytest.raises(UserInputError, match="train_dataset has 48 examples, the sampler was made for 2"):
        GapSampler(GAPS, domains=["capitals", "metals"]).attach(trainer)
    with pytest.raises(UserInputError, match="num_replicas is 2; a Trainer shares batches out"):
        sampler(num_replicas=2).attach(trainer)


# --- what measuring must not change ----------------------------------------------------------------------------------


def test_measuring_changes_neither_modes_nor_chance_nor_gradients() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4))
    model[2].eval()  # frozen statistics amid a training model

    def measure(live: torch.nn.Module) -> GapReport:
        assert not any(module.training for module in live.modules())
        assert not torch.is_grad_enabled()
        torch.rand(100)  # chance of its own
        return GAPS

    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    callback = GapCallback(measure, None, every_steps=2)
    assert callback.step(model, 1) is None
    found = callback.step(model, 2)
    assert found is not None
    assert found.update is None
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert torch.equal(torch.rand(3), expected)
    assert torch.is_grad_enabled()


# --- in a bare loop --------------------------------------------------------------------------------------------------


def test_a_bare_loop_keeps_its_history_and_drops_what_it_does_again(tmp_path: Path) -> None:
    model, chosen = torch.nn.Linear(1, 1), sampler()
    callback = GapCallback(lambda live: GAPS, chosen, every_steps=2, folder=tmp_path)
    found = [callback.step(model, step) for step in range(7)]
    assert [one is not None for one in found] == [False, False, True, False, True, False, True]
    later = GapCallback(lambda live: GAPS, chosen, every_steps=2, folder=tmp_path)
    later.resume(5)
    assert [one.step for one in later.history] == [2, 4] == [one.step for one in read_history(tmp_path)]
    later.step(model, 6)
    assert [one.step for one in read_history(tmp_path)] == [2, 4, 6]
    assert (tmp_path / HISTORY_FILE).read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda model: report_of({"capitals": 0.1}), "step 4 failed: UserInputError: the new report lacks 1 domains"),
        (
            lambda model: report_of({"capitals": 0.1, "metals": 0.2}, split="test"),
            "step 4 failed: UserInputError: the report is of the test",
        ),
        (lambda model: 1 / 0, "step 4 failed: ZeroDivisionError"),
    ],
)
def test_an_error_in_measuring_names_the_step_and_spoils_no_weights(tmp_path: Path, measure: Any, message: str) -> None:
    chosen = sampler()
    model = torch.nn.Linear(1, 1)
    callback = GapCallback(measure, chosen, every_steps=4, folder=tmp_path)
    with pytest.raises(ModelError) as caught:
        callback.step(model, 4)
    assert message in str(caught.value)
    assert model.training
    assert len(chosen.updates) == 1
    assert not callback.history


def test_zero_steps_are_refused() -> None:
    with pytest.raises(UserInputError, match="every_steps is 0"):
        GapCallback(lambda model: GAPS, None, every_steps=0)


@pytest.fixture
def one_of_a_group() -> Any:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_of_a_group")
def test_a_report_or_an_error_crosses_processes_whole() -> None:
    model = torch.nn.Linear(1, 1)
    assert measured_once(lambda live: GAPS, model) == GAPS
    with pytest.raises(ModelError, match="ZeroDivisionError: division by zero"):
        measured_once(lambda live: 1 / 0, model)  # type: ignore[arg-type,return-value]


# --- the gap of a live speech LLM ------------------------------------------------------------------------------------


def test_a_live_model_is_measured_as_an_evaluation_of_its_checkpoint_would(
    tiny_plan: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    expected = evaluate({**tiny_plan, "split": "validation"})
    model, processor = load_salad(str(tiny_models["speech"]), device="cpu")
    measure = LiveGap(tiny_plan, processor, out=tmp_path / "live", divergences=True)
    model.train()
    found = measure(Distillation(model, frozen_copy(model.language_model)))  # what SaladTrainer trains
    assert model.language_model.training
    assert [row.name for row in found.domains] == [row.name for row in expected.domains]
    for ours, theirs in zip((found.overall, *found.domains), (expected.overall, *expected.domains), strict=True):
        for column in ("base_text", "adapted_text", "adapted_speech"):
            assert ours.accuracy[column].value == theirs.accuracy[column].value
        assert ours.gap.value == theirs.gap.value
    ours, theirs = found.overall.divergence_nats, expected.overall.divergence_nats
    assert ours is not None
    assert theirs is not None
    assert dataclasses.astuple(ours) == pytest.approx(dataclasses.astuple(theirs), abs=1e-5)
    assert found.split == "validation"
    assert GapSampler(
        dataclasses.replace(found, domains=report_of({"music": 0.2}).domains), domains=["music"]
    ).weights == {"music": 1.0}

    rendered = (tmp_path / "live" / "render.jsonl").read_bytes()
    with torch.no_grad():
        for parameter in model.adapter.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    changed = measure(model)
    assert changed.columns[2].fingerprint != found.columns[2].fingerprint
    assert changed.overall.accuracy["base_text"].value == found.overall.accuracy["base_text"].value
    assert (tmp_path / "live" / "render.jsonl").read_bytes() == rendered


def test_a_live_measure_refuses_the_test_split_and_models_that_hear_nothing(
    tiny_plan: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    _, processor = load_salad(str(tiny_models["speech"]), device="cpu")
    with pytest.raises(UserInputError, match="measures on the test split"):
        LiveGap(tiny_plan, processor, out=tmp_path, split="test")
    with pytest.raises(ModelError, match="a Linear holds no SaladForConditionalGeneration"):
        LiveGap(tiny_plan, processor, out=tmp_path)(torch.nn.Linear(1, 1))
