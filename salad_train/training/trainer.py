"""``SaladTrainer``: ``transformers.Trainer`` with this project's objective, data order, optimiser and checkpoints.

What is changed, and why:

- Data. Micro-batches are asked for by number, a pure function of (step, place in the step, process): nothing is skipped or
  replayed on resuming, and whatever order the batches have is theirs.
- Loss. It is normalised by the scored tokens of the whole step, over accumulated micro-batches and processes. One process that
  accumulates two micro-batches takes the step of two processes with one each.
- Checkpoints. Safetensors by parameter name, written whole (``checkpoints``); no random states, since each step is seeded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from salad_eval.errors import ModelError, UserInputError
from salad_eval.progress import tell, track
from salad_eval.records import JsonlLog, remove_unfinished, write_jsonl
from salad_train.training.batches import Batch
from salad_train.training.checkpoints import (
    CheckpointState,
    check_files,
    check_teacher,
    load_moments,
    load_weights,
    named_parameters,
    newest_checkpoint,
    read_state,
    save_checkpoint,
    teacher_fingerprint,
    whole_state_dict,
)
from salad_train.training.distillation import Distillation, Scored
from salad_train.training.lora import merged_state_dict
from salad_train.training.optim import CombinedOptimizer, RateSchedule, make_optimizer
from salad_train.training.parameters import parameter_groups, prepare_tuning
from salad_train.training.plan import StepLog, TrainPlan
from salad_train.training.precision import in_bfloat16

TELL_SECONDS = 30.0  # between two lines for people


def training_arguments(plan: TrainPlan, out: Path, *, device: str = "auto", **more: Any) -> TrainingArguments:
    """``TrainingArguments`` that say what ``plan`` says. ``more`` is anything else they take: ``fsdp``, ``ddp_backend``,
    ``dataloader_num_workers``, ``run_name``…

    Checkpoints go to ``out/checkpoints`` as the plan asks, so ``save_strategy`` is "no" unless given. ``device`` is "cpu",
    "auto" or the kind of an accelerator; which one of several is for the launcher or ``CUDA_VISIBLE_DEVICES`` to say.
    """
    if ":" in device:
        raise UserInputError(
            f"device is {device!r}; expected 'cpu', 'auto' or the kind of an accelerator. Choose one of several by "
            "CUDA_VISIBLE_DEVICES, or start one process for each: accelerate launch."
        )
    settings: dict[str, Any] = {
        **_stated_by(plan),
        "output_dir": str(out / "checkpoints"),
        "use_cpu": device == "cpu",
        "save_strategy": "no",
        "report_to": list(plan.report_to) or "none",
        "logging_nan_inf_filter": False,  # a loss that is not finite stops the run
        "disable_tqdm": True,  # there is a bar already
    }
    args = TrainingArguments(**{**settings, **more})
    if args.device.type != device and device not in ("auto", "cpu"):
        raise UserInputError(
            f"device is {device!r}, but this machine offers {args.device.type!r}. Say 'auto' or 'cpu'."
        )
    args._n_gpu = min(
        args.n_gpu, 1
    )  # several processes, never several devices in one: nn.DataParallel cannot split a Batch
    return args


def _stated_by(plan: TrainPlan) -> dict[str, Any]:
    return {
        "max_steps": plan.steps,
        "gradient_accumulation_steps": plan.micro_batches,
        "max_grad_norm": plan.max_grad_norm,
        "bf16": plan.bf16,
        "seed": plan.seed,
        "logging_steps": plan.log_every,
    }


class SaladTrainer(Trainer):
    """Distils a teacher into a speech LLM, alone or under ``accelerate launch``/``torchrun`` (DDP, FSDP2).

    >>> plan = TrainPlan(steps=1000, report_to=("tensorboard",))                    # doctest: +SKIP
    >>> trainer = SaladTrainer(
    ...     model=Distillation(student, frozen_copy(student.language_model)),
    ...     args=training_arguments(plan, Path("run")),
    ...     plan=plan,
    ...     batches=lambda i: collate([examples[k] for k in order.batch(i)], store),
    ...     callbacks=[GapCallback(...)],
    ... )
    >>> trainer.train(resume_from_checkpoint=True)      # or None, or a folder step-…

    Args:
        model: what of its student is trained follows ``plan.tune``.
        args: of ``training_arguments(plan, out)``; what the plan states must be the same in both.
        batches: gives micro-batch ``i``, always the same. Of R processes, process r takes number
            ``(step · micro_batches + k) · R + r`` as its k-th micro-batch of a step.
        init_moments: a checkpoint whose optimiser moments to begin with, where nothing is resumed.

    ``log`` lines hold, beside transformers' own, ``speech_kl``, ``speech_nll`` and ``replay_kl`` in nats per scored position and
    ``speech_ctc`` per spoken token; the same go to ``train.jsonl`` beside the folder of the checkpoints.
    """

    loss_is_scaled_for_ga = True  # by the scored tokens of all micro-batches

    def __init__(
        self,
        model: Distillation,
        args: TrainingArguments,
        *,
        plan: TrainPlan,
        batches: Callable[[int], Batch],
        init_moments: Path | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **more: Any,
    ) -> None:
        for name, value in _stated_by(plan).items():
            if getattr(args, name) != value:
                raise UserInputError(
                    f"args.{name} is {getattr(args, name)!r}, but the plan says {value!r}. Make them by training_arguments(plan, …)."
                )
        args.ignore_data_skip = True  # the sampler starts where the run does
        prepare_tuning(model.student, plan)
        if plan.gradient_checkpointing:
            model.activation_checkpointing_enable()
        if args.bf16 and not in_bfloat16(args.device, asked=args.bf16):
            args.mixed_precision = "no"
            tell("bf16: this processor multiplies no bfloat16 of its own; float32 is faster here, and taken")
        self.plan, self.batches, self.init_moments = plan, batches, init_moments
        self.teacher_id = teacher_fingerprint(model.teacher)
        self._window = _Window()
        self._micro: Sequence[Batch] = ()
        self._sizes: tuple[int, ...] = ()
        self._stack = model.student.config.stack_frames
        self._heard = True
        self._told = -math.inf
        super().__init__(model=model, args=args, callbacks=[*(callbacks or []), _Milestones(plan)], **more)
        self.remove_callback(PrinterCallback)
        if args.disable_tqdm and self.is_world_process_zero():
            self.add_callback(_Bar())
        # Sharded parameters are gathered by all processes together; and a process may have text where another has speech.
        model.through_adapter = self.is_fsdp_enabled

    @property
    def distillation(self) -> Distillation:
        return cast(Distillation, self.accelerator.unwrap_model(self.model))

    @property
    def folder(self) -> Path:
        return Path(cast(str, self.args.output_dir))

    @property
    def log_path(self) -> Path:
        return self.folder.parent / "train.jsonl"

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, **more: Any) -> Any:  # type: ignore[override]
        """As ``Trainer.train``; ``True`` goes on from the newest checkpoint, or begins where there is none. A finished run is
        loaded and not run again."""
        if self.is_world_process_zero():
            remove_unfinished(self.folder)
        checkpoint = (
            newest_checkpoint(self.folder) if resume_from_checkpoint is True else resume_from_checkpoint or None
        )
        first = 0
        if checkpoint is not None:
            checkpoint = Path(checkpoint)
            check_files(checkpoint)
            check_teacher(checkpoint, self.teacher_id)
            first = read_state(checkpoint).step
            if first >= self.plan.steps:
                load_weights(checkpoint, named_parameters(self.distillation.student))
                return TrainOutput(first, 0.0, {})
        if self.is_world_process_zero():
            _cut_log(self.log_path, first)
        self._window = _Window()
        return super().train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint), **more)

    # --- data --------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Batch]:
        sampler = _MicroBatchNumbers(self.args, lambda: self.state.global_step)
        return DataLoader(
            _MicroBatches(self.batches), batch_size=None, sampler=sampler, num_workers=self.args.dataloader_num_workers
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of a step; called once a step, so this is where its chance is seeded."""
        found = super().get_batch_samples(*args, **kwargs)
        self._micro = found[0]
        torch.manual_seed((self.plan.seed * 1_000_003 + self.state.global_step) + (self.args.process_index << 40))
        return found

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def floating_point_ops(self, inputs: Any) -> int:
        """About 6 operations a parameter and position for what is trained, 2 for the teacher (Kaplan et al., arXiv 2001.08361)."""
        if not self._sizes:
            parts = (
                self.distillation.student.language_model,
                self.distillation.student.adapter,
                self.distillation.teacher,
            )
            self._sizes = tuple(sum(parameter.numel() for parameter in part.parameters()) for part in parts)
        lm, adapter, teacher = self._sizes
        batch: Batch = inputs
        frames = batch.encoder_hidden_states
        heard = 0 if frames is None else frames.shape[0] * frames.shape[1] // self._stack
        return 6 * (lm * batch.input_ids.numel() + adapter * heard) + 2 * teacher * batch.teacher_ids.numel()

    # --- loss --------------------------------------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Scored tokens of the step, over its micro-batches and all processes."""
        scored = sum(len(batch.targets) for batch in batch_samples)
        spoken = sum(batch.encoder_lengths is not None for batch in batch_samples)
        if self.args.world_size > 1:
            counts = torch.tensor([scored, spoken], device=device)
            scored, spoken = cast(torch.Tensor, self.accelerator.reduce(counts, "sum")).tolist()
        self._heard = spoken > 0
        return scored

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        scored: Scored = model(inputs, num_items_in_batch)
        value = float(scored.loss.detach())
        if not math.isfinite(value):
            raise ModelError(_not_finite("loss", value, self.state.global_step, inputs))
        self._window.add(inputs, scored)
        # Gradients are averaged over the processes, and the loss is normalised over all of them already.
        loss = scored.loss * self.args.world_size if self.args.world_size > 1 else scored.loss
        return (loss, scored) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        """Called last before the optimiser steps."""
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        if not math.isfinite(norm):
            raise ModelError(_not_finite("gradient norm", norm, self.state.global_step, self._micro[0]))
        if not self._heard:  # a step of text alone leaves the adapter as it is, also where zeros went through it
            for parameter in self.distillation.student.adapter.parameters():
                parameter.grad = None
        self._window.norm = norm
        return norm

    # --- optimiser ---------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = parameter_groups(named_parameters(self.distillation.student), self.plan)
            self.optimizer = make_optimizer(groups, betas=self.plan.betas, muon_steps=self.plan.muon_steps)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is None:
            self.lr_scheduler = RateSchedule(optimizer or cast(Any, self.optimizer), self.plan.rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _combined(self) -> CombinedOptimizer:
        optimizer: Any = self.optimizer
        while not isinstance(optimizer, CombinedOptimizer):  # accelerate's wrapper
            optimizer = optimizer.optimizer
        return optimizer

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.init_moments is not None and not self.state.global_step:
            load_moments(self.init_moments, named_parameters(self.distillation.student), self._combined())
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        save_checkpoint(
            self.folder,
            CheckpointState(step, keep=step == self.plan.decay_start < self.plan.steps, teacher=self.teacher_id),
            named_parameters(self.distillation.student),
            self._combined(),
            writes=self.is_world_process_zero(),
            also=lambda folder: self.state.save_to_json(str(folder / TRAINER_STATE_NAME)),
        )
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The student as ``from_pretrained`` takes it, whole and with LoRA merged, and the processor if there is one."""
        student = self.distillation.student
        weights = merged_state_dict(student, whole_state_dict(student))
        if self.is_world_process_zero():
            folder = output_dir or str(self.folder)
            student.save_pretrained(folder, state_dict=weights)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: weights are read together with the moments, once the model is wrapped."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        parameters = named_parameters(self.distillation.student)
        load_weights(Path(checkpoint), parameters)
        load_moments(Path(checkpoint), parameters, self._combined())
        cast(RateSchedule, self.lr_scheduler).go_to(read_state(Path(checkpoint)).step)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: each step is seeded."""

    # --- log ---------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            line = self._window.line(self.state.global_step, self.plan, self._sum)
            self._window = _Window(self._window.began)
            found = {
                name: getattr(line, name) for name in ("scored", "speech_kl", "speech_nll", "replay_kl", "speech_ctc")
            }
            logs = {**logs, **{name: value for name, value in found.items() if value is not None}}
            if self.is_world_process_zero():
                with JsonlLog(self.log_path, StepLog) as file:
                    file.append(line)
                self._tell(line)
        super().log(logs, start_time)

    def _tell(self, line: StepLog) -> None:
        """For people, on stderr: at most a line every half minute, and the last."""
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS or line.step == self.plan.steps:
            self._told = now
            tell(step_sentence(line, self.plan.steps))

    def _sum(self, values: Sequence[float]) -> list[float]:
        """Over all processes."""
        if self.args.world_size == 1:
            return list(values)
        kind = torch.float32 if self.args.device.type == "mps" else torch.float64
        total: torch.Tensor = self.accelerator.reduce(torch.tensor(values, dtype=kind, device=self.args.device), "sum")
        return total.tolist()


# --- what numbers a process asks for ---------------------------------------------------------------------------------


class _MicroBatches(Dataset[Batch]):
    def __init__(self, batches: Callable[[int], Batch]) -> None:
        self._batches = batches

    def __getitem__(self, index: int) -> Batch:
        return self._batches(index)


class _MicroBatchNumbers(Sampler[int]):
    """Without end, from the step that the run is at when it is asked."""

    def __init__(self, args: TrainingArguments, step: Callable[[], int]) -> None:
        self._args, self._step = args, step

    def __iter__(self) -> Iterator[int]:
        number = self._step() * self._args.gradient_accumulation_steps
        while True:
            yield number * self._args.world_size + self._args.process_index
            number += 1


# --- callbacks -------------------------------------------------------------------------------------------------------


class _Milestones(TrainerCallback):
    """When to save and to log, beyond what ``TrainingArguments`` can say."""

    def __init__(self, plan: TrainPlan) -> None:
        self._plan = plan

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        plan, done = self._plan, state.global_step
        if done == plan.steps:
            control.should_log = True
        elif done == plan.decay_start or (plan.checkpoint_every and done % plan.checkpoint_every == 0):
            control.should_save = True
        return control


class _Bar(TrainerCallback):
    """This package's progress bar."""

    def __init__(self) -> None:
        self._steps: Iterator[int] = iter(())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        left = state.max_steps - state.global_step
        self._steps = track(range(left), "training", total=left)
        next(self._steps, None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        next(self._steps, None)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for _ in self._steps:  # a run that stopped early
            pass


# --- log lines -------------------------------------------------------------------------------------------------------


class _Window:
    """Sums over the steps between two lines of the log, of this process."""

    def __init__(self, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began
        self.speech = self.nll = self.replay = self.ctc = 0.0
        self.n_speech = self.n_replay = self.n_said = 0
        self.norm = 0.0

    def add(self, batch: Batch, found: Scored) -> None:
        if batch.encoder_lengths is None:
            self.replay, self.n_replay = self.replay + found.kl_sum, self.n_replay + found.n
        else:
            self.speech, self.nll = self.speech + found.kl_sum, self.nll + found.nll_sum
            self.n_speech += found.n
            self.ctc, self.n_said = self.ctc + found.ctc_sum, self.n_said + found.n_said

    def line(self, step: int, plan: TrainPlan, total: Callable[[Sequence[float]], list[float]]) -> StepLog:
        speech, nll, replay, ctc, n_speech, n_replay, n_said = total(
            (self.speech, self.nll, self.replay, self.ctc, self.n_speech, self.n_replay, self.n_said)
        )
        return StepLog(
            step=step,
            rate=plan.rate(step - 1),
            seconds=time.monotonic() - self.began,
            scored=int(n_speech + n_replay),
            speech_kl=speech / n_speech if n_speech else None,
            speech_nll=nll / n_speech if n_speech else None,
            replay_kl=replay / n_replay if n_replay else None,
            grad_norm=self.norm,
            speech_ctc=ctc / n_said if n_said else None,
        )


def step_sentence(line: StepLog, n_steps: int) -> str:
    """``training, step 50 of 700 (12 s): 0.532 nats from the base LLM where it hears, 0.021 where it reads``."""
    where = {"hears": line.speech_kl, "reads": line.replay_kl}
    distances = [
        f"{value:.3f} nats from the base LLM where it {name}" for name, value in where.items() if value is not None
    ]
    return f"training, step {line.step:,} of {n_steps:,} ({line.seconds:,.0f} s): {', '.join(distances) or 'nothing was scored'}"


def _not_finite(what: str, value: float, step: int, batch: Batch) -> str:
    shown = ", ".join(batch.document_ids[:8]) + (", …" if len(batch.document_ids) > 8 else "")
    return (
        f"{what} is {value} at step {step}, in the batch of documents {shown}. Training stopped; the last checkpoint stands. "
        "Lower the learning rate or look at these documents."
    )


def _cut_log(path: Path, first: int) -> None:
    """Drop lines of steps that will be done again, so that a resumed run writes each once."""
    if path.exists():
        write_jsonl(path, [line for line in JsonlLog(path, StepLog).read() if line.step <= first])
