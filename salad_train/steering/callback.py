"""``GapCallback``: measure the gap every N steps while somebody's trainer runs, and draw the next examples by it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from salad_eval.errors import ModelError, UserInputError
from salad_eval.progress import tell
from salad_eval.records import JsonlLog, dumps, loads, write_jsonl
from salad_eval.types import DivergenceRates, GapReport
from salad_train.measure import evaluating
from salad_train.steering.gaps import domain_gaps
from salad_train.steering.sampler import GapSampler, WeightUpdate

HISTORY_FILE = "gap_history.jsonl"

AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


@dataclass(frozen=True, slots=True)
class GapMeasurement:
    """A line of ``gap_history.jsonl``. Accuracies and gaps are fractions.

    Attributes:
        step: optimiser steps that were done.
        low, high: 95% interval of ``gap``.
        domains: gap by domain, shrunken where the report has it so.
        n_items: questions asked.
        seconds: what measuring took.
        signature: how the report's numbers were made.
        update: the weights that followed from it; ``None`` without a sampler.
        divergence_nats: F, M and D, where the report has them.
    """

    step: int
    gap: float
    low: float | None
    high: float | None
    forgetting: float
    misalignment: float
    domains: Mapping[str, float]
    n_items: int
    seconds: float
    signature: str
    update: WeightUpdate | None
    divergence_nats: DivergenceRates | None = None

    @property
    def logs(self) -> dict[str, float]:
        """What goes to a trainer's log: fractions, and nats a position."""
        found = {"gap": self.gap, "gap_forgetting": self.forgetting, "gap_misalignment": self.misalignment}
        if (rates := self.divergence_nats) is not None:
            found |= {"gap_F": rates.forgetting, "gap_M": rates.misalignment, "gap_D": rates.distillation}
        return found | {f"gap/{domain}": gap for domain, gap in self.domains.items()}


class GapCallback(TrainerCallback):
    """Re-measures the gap every ``every_steps`` steps, re-weights ``sampler`` and keeps a history.

    >>> callback = GapCallback(measure, sampler, every_steps=100)                    # doctest: +SKIP
    >>> callback.attach(trainer)                      # a transformers.Trainer; or, in a loop of your own,
    >>> callback.step(model, step)                    # after each step

    The model is measured in eval mode and without gradients; its modes and torch's random state are afterwards what they were, so
    that measuring changes nothing but the weights. Where measuring fails in a ``Trainer``, a checkpoint is saved, training stops, and the
    error that names the step is raised.

    Args:
        measure: from the model to a gap report: ``steering.live.LiveGap``, or any function of your own. Of several processes the
            first calls it (all do where the model is sharded), and its report counts for all.
        sampler: re-weighted by each report; ``None`` only watches.
        every_steps: optimiser steps between measurements.
        at_start: measure before the first step too.
        folder: where ``gap_history.jsonl`` goes; a Trainer's ``output_dir`` by default. Without either nothing is written.

    A Trainer that resumes from a checkpoint gets the weights back that the run had there, from the history.
    """

    def __init__(
        self,
        measure: Callable[[Any], GapReport],
        sampler: GapSampler | None,
        every_steps: int,
        *,
        at_start: bool = False,
        folder: str | Path | None = None,
    ) -> None:
        if every_steps < 1:
            raise UserInputError(f"every_steps is {every_steps}; expected at least 1.")
        self.measure, self.sampler, self.every_steps, self.at_start = measure, sampler, every_steps, at_start
        self.folder = None if folder is None else Path(folder)
        self.history: list[GapMeasurement] = []
        self._failure: ModelError | None = None
        self._log: Callable[[dict[str, float]], None] | None = None

    def attach(self, trainer: AnyTrainer) -> AnyTrainer:
        """Add this callback to a trainer, and the gap with F, M and D, where they are measured, to its log (TensorBoard, W&B…); returns
        the trainer.

        Added by ``callbacks=[…]`` instead, it works alike, but for the gap going to the trainer's ``log_history`` alone.
        """
        trainer.add_callback(self)
        self._log = trainer.log
        return trainer

    # --- in a loop of one's own

    def step(self, model: Any, step: int) -> GapMeasurement | None:
        """Say that ``step`` optimiser steps are done; measures where it is time to, and returns what was found.

        Raises ``ModelError`` naming the step where measuring fails.
        """
        if step % self.every_steps or (step == 0 and not self.at_start):
            return None
        return self._measured(model, step)

    def resume(self, step: int) -> None:
        """Go on after ``step`` optimiser steps: later measurements are dropped from the history. The sampler's own state is for its
        ``load_state_dict``."""
        self.history = [found for found in self._read() if found.step <= step]
        if self._path is not None and self._path.exists() and _is_first_process():
            write_jsonl(self._path, self.history)

    # --- in a Trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self.folder is None and args.output_dir:
            self.folder = Path(args.output_dir)
        self._failure = None
        self.resume(state.global_step)
        updates = [found.update for found in self.history if found.update is not None]
        if self.sampler is not None and updates:
            # The trainer goes through the epoch from its start and skips what it had: it needs the weights that were.
            self.sampler.replay([self.sampler.updates[0], *updates])
        if self.at_start and state.global_step == 0:
            self._watched(state, control, kwargs["model"])
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if state.global_step % self.every_steps == 0:
            self._watched(state, control, kwargs["model"])
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self._failure is not None:
            raise self._failure
        return control

    def _watched(self, state: TrainerState, control: TrainerControl, model: Any) -> None:
        """Measure; where that fails, have the trainer save and stop first, and raise at the end of training."""
        try:
            found = self._measured(model, state.global_step)
        except ModelError as failure:
            self._failure = failure
            control.should_save = control.should_training_stop = True
            return
        if self._log is not None:
            self._log(found.logs)
        else:
            state.log_history.append({**found.logs, "step": state.global_step})

    # --- measuring

    def _measured(self, model: Any, step: int) -> GapMeasurement:
        began = time.monotonic()
        try:
            with evaluating(model), torch.no_grad(), _own_chance():
                report = measured_once(self.measure, model)
            update = None if self.sampler is None else self.sampler.update(report)
            found = _measurement(report, step, time.monotonic() - began, update)
        except Exception as cause:
            raise ModelError(
                f"measuring the gap at step {step} failed: {type(cause).__name__}: {cause} Training up to that step is not lost."
            ) from cause
        self.history.append(found)
        if _is_first_process():
            tell(gap_sentence(found))
            if self._path is not None:
                with JsonlLog(self._path, GapMeasurement) as log:
                    log.append(found)
        return found

    @property
    def _path(self) -> Path | None:
        return None if self.folder is None else self.folder / HISTORY_FILE

    def _read(self) -> list[GapMeasurement]:
        return self.history if self._path is None else JsonlLog(self._path, GapMeasurement).read()


def read_history(folder: str | Path) -> list[GapMeasurement]:
    """The measurements of a training, in order."""
    return JsonlLog(Path(folder) / HISTORY_FILE, GapMeasurement).read()


def _measurement(report: GapReport, step: int, seconds: float, update: WeightUpdate | None) -> GapMeasurement:
    row = report.overall
    if not math.isfinite(row.gap.value):
        raise ModelError(f"the overall gap is {row.gap.value}.")
    if row.forgetting is None or row.misalignment is None:
        raise ModelError("the report of a training has no column adapted_text.")  # measured above in all columns
    return GapMeasurement(
        step=step,
        gap=row.gap.value,
        low=row.gap.low,
        high=row.gap.high,
        forgetting=row.forgetting.value,
        misalignment=row.misalignment.value,
        domains=domain_gaps(report) if report.domains else {},
        n_items=row.n_items,
        seconds=seconds,
        signature=report.signature,
        update=update,
        divergence_nats=row.divergence_nats,
    )


def gap_sentence(found: GapMeasurement) -> str:
    """``step 100: gap 21.3 [18.0, 24.6] points, forgetting 7.1, misalignment 14.2 (280 questions, 12 s)``."""
    interval = "" if found.low is None or found.high is None else f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return (
        f"step {found.step:,}: gap {100 * found.gap:.1f}{interval} points, forgetting {100 * found.forgetting:.1f}, "
        f"misalignment {100 * found.misalignment:.1f} ({found.n_items:,} questions, {found.seconds:.0f} s)"
    )


@contextmanager
def _own_chance() -> Iterator[None]:
    """Whatever is drawn inside, torch's random state is what it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        yield


# --- several processes -----------------------------------------------------------------------------------------------


def measured_once(measure: Callable[[Any], GapReport], model: Any) -> GapReport:
    """The first process's report in all of them, since equal weights are what keeps their orders one order. The others measure
    only where the model is sharded (FSDP2), which all of them must then run; an error of the first is raised in all."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return measure(model)
    message, error = b"", None
    if _is_first_process() or is_sharded(model):
        try:
            message = b"+" + dumps(measure(model)).encode()
        except Exception as cause:
            message, error = f"-{type(cause).__name__}: {cause}".encode(), cause
    shared = _from_first_process(message)
    if shared.startswith(b"-"):
        raise ModelError(shared[1:].decode()) from error
    return loads(GapReport, shared[1:])


def is_sharded(model: Any) -> bool:
    """Whether processes hold parts of the model's parameters."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def _is_first_process() -> bool:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_rank() == 0


def _from_first_process(message: bytes) -> bytes:
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    size = torch.tensor([len(message)], device=device)
    torch.distributed.broadcast(size, src=0)
    text = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if _is_first_process():
        text = torch.frombuffer(bytearray(message), dtype=torch.uint8).to(device)
    torch.distributed.broadcast(text, src=0)
    return text.cpu().numpy().tobytes()
