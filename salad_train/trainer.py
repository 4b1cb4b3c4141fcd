"""The training loop: distillation of a frozen teacher into a student that hears. Plain PyTorch, resumable to the bit
on CPU.

A step is a pure function of the state before it and of (seed, step): batches come from a callable of the step, and
chance (dropout,
if a model has any) is seeded by the step.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.progress import track
from salad_eval.records import JsonlLog
from salad_train.data import Batch
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.objective import LogitHead, Objective, check_head, objective, position_divergences


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Optimisation as the paper states it (as digested), except for sizes. Rates are peaks; shares are of ``steps``.

    Attributes:
        alpha: weight of the distillation; 1 is Stage I's.
        muon_lr: above 0, the adapter's matrices are trained by Muon at this rate, and ``adapter_lr`` is that of the rest of it.
            The paper uses AdamW throughout, which 0 is.
        lm_lr: 0 freezes the LM.
        warmup_steps: linear from 0 to the peak; then constant; the last ``decay_share`` of the steps falls linearly
            to 0.
        bf16: run the models under bfloat16 autocast (weights, optimiser and loss stay in float32).
        checkpoint_every: steps between resumable checkpoints; 0 keeps only the one before the decay.
    """

    steps: int
    seed: int = 0
    alpha: float = 1.0
    adapter_lr: float = 1e-3
    muon_lr: float = 0.0
    lm_lr: float = 2e-5
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    warmup_steps: int = 50
    decay_share: float = 0.2
    micro_batches: int = 1
    bf16: bool = False
    log_every: int = 10
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.micro_batches < 1:
            raise UserInputError(
                f"steps is {self.steps}, micro_batches is {self.micro_batches}; expected at least 1 of each."
            )
        if not 0.0 <= self.alpha <= 1.0 or not 0.0 <= self.decay_share <= 1.0:
            raise UserInputError(f"alpha is {self.alpha}, decay_share is {self.decay_share}; expected both in [0, 1].")

    @property
    def decay_start(self) -> int:
        """The first step of the decay: what Stage II continues from is the state before it."""
        return self.steps - math.floor(self.steps * self.decay_share)

    def rate(self, step: int) -> float:
        """Warm-up–stable–decay: the share of the peak learning rates at ``step`` (from 0)."""
        if step < min(self.warmup_steps, self.decay_start):
            return (step + 1) / (self.warmup_steps + 1)
        if step < self.decay_start:
            return 1.0
        return (self.steps - step) / (self.steps - self.decay_start + 1)


@dataclass(frozen=True, slots=True)
class StepLog:
    """A line of ``train.jsonl``: means over the steps since the line before, in nats per scored position."""

    step: int
    rate: float
    seconds: float
    scored: int
    speech_kl: float | None
    speech_nll: float | None
    replay_kl: float | None
    grad_norm: float


def frozen_copy(lm: Any) -> Any:
    """The teacher: a copy that training the original cannot move."""
    import copy

    teacher = copy.deepcopy(lm).eval()
    return teacher.requires_grad_(False)


def student_positions(model: SaladForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Last hidden states of the student at the scored positions, (n, LM width)."""
    embeds = model.embed(
        batch.input_ids, encoder_hidden_states=batch.encoder_hidden_states, encoder_lengths=batch.encoder_lengths
    )
    return model.hidden_states(embeds).flatten(0, 1)[batch.student]


@torch.no_grad()
def teacher_positions(teacher: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states of the teacher reading pure text at the paired positions, (n, teacher width)."""
    hidden: torch.Tensor = teacher.base_model(input_ids=batch.teacher_ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)[batch.teacher]


def batch_objective(
    model: SaladForConditionalGeneration,
    teacher: Any,
    batch: Batch,
    *,
    alpha: float,
    denominator: float | None = None,
    bf16: bool = False,
) -> Objective:
    """The loss of one batch; see ``objective``."""
    device = batch.input_ids.device.type
    with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
        ours, theirs = student_positions(model, batch), teacher_positions(teacher, batch)
    return objective(
        ours,
        LogitHead.of(model.language_model),
        theirs,
        LogitHead.of(teacher),
        batch.targets,
        alpha=alpha,
        denominator=denominator,
    )


@torch.no_grad()
def batch_divergences(model: SaladForConditionalGeneration, teacher: Any, batch: Batch) -> torch.Tensor:
    """KL(teacher on pure text ‖ student on the batch) in nats at each scored position, (n,): D; F where the batch is
    text."""
    was_training = model.training
    model.eval()
    ours, theirs = student_positions(model, batch), teacher_positions(teacher, batch)
    model.train(was_training)
    return position_divergences(ours, LogitHead.of(model.language_model), theirs, LogitHead.of(teacher))


# --- the loop --------------------------------------------------------------------------------------------------------


def trainable(model: SaladForConditionalGeneration, plan: TrainPlan) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name; sets ``requires_grad`` accordingly."""
    model.freeze_encoder()
    model.adapter.requires_grad_(True)
    model.language_model.requires_grad_(plan.lm_lr > 0)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Optimizers:
    """Several optimisers over disjoint parameters, used as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self._of = {parameter: part for part in parts for group in part.param_groups for parameter in group["params"]}

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state(self, parameter: torch.nn.Parameter) -> Mapping[str, torch.Tensor]:
        """The moments of a parameter; empty before its first step."""
        return self._of[parameter].state.get(parameter, {})

    def set_state(self, parameter: torch.nn.Parameter, state: Mapping[str, torch.Tensor]) -> None:
        self._of[parameter].state[parameter] = dict(state)


def make_optimizers(parameters: Mapping[str, torch.nn.Parameter], plan: TrainPlan) -> Optimizers:
    """AdamW in four groups: adapter and LM, each with decayed matrices and undecayed vectors (norms, biases).

    With ``plan.muon_lr`` above 0 the adapter's matrices are Muon's (Jordan et al., 2024) instead.
    """
    groups: list[dict[str, Any]] = []
    parts: list[torch.optim.Optimizer] = []
    for prefix, lr in (("adapter.", plan.adapter_lr), ("language_model.", plan.lm_lr)):
        mine = [parameter for name, parameter in parameters.items() if name.startswith(prefix)]
        matrices, vectors = [p for p in mine if p.ndim > 1], [p for p in mine if p.ndim < 2]
        if prefix == "adapter." and plan.muon_lr > 0 and matrices:
            group = {"params": matrices, "lr": plan.muon_lr, "peak_lr": plan.muon_lr}
            parts.append(
                torch.optim.Muon([group], momentum=0.95, weight_decay=plan.weight_decay, adjust_lr_fn="original")
            )
            matrices = []
        for chosen, decay in ((matrices, plan.weight_decay), (vectors, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": lr, "peak_lr": lr, "weight_decay": decay})
    return Optimizers(*parts, torch.optim.AdamW(groups, betas=plan.betas, eps=1e-8))


def train(
    model: SaladForConditionalGeneration,
    teacher: Any,
    batches: Callable[[int], Batch],
    plan: TrainPlan,
    out: Path,
    *,
    device: str = "cpu",
) -> None:
    """Train ``model`` in place for ``plan.steps`` steps, or on from the last checkpoint in ``out``.

    ``batches(i)`` gives micro-batch ``i`` and must always give the same. Writes ``out/train.jsonl`` and
    ``out/checkpoints/``. Raises
    ``ModelError`` naming the batch where loss or gradients are not finite; the last checkpoint then still stands.
    """
    out = Path(out)
    check_head(teacher)
    cast(Any, model).to(device)
    teacher.to(device)
    parameters = trainable(model, plan)
    optimizers = make_optimizers(parameters, plan)
    first = load_checkpoint(out / "checkpoints", parameters, optimizers)
    _cut_log(out / "train.jsonl", first)
    model.train()
    began, window = time.monotonic(), _Window()
    with JsonlLog(out / "train.jsonl", StepLog) as log, torch.random.fork_rng():
        for step in track(range(first, plan.steps), "training", total=plan.steps - first):
            torch.manual_seed(plan.seed * 1_000_003 + step)
            for group in optimizers.param_groups:
                group["lr"] = group["peak_lr"] * plan.rate(step)
            micro = [batches(step * plan.micro_batches + k).to(torch.device(device)) for k in range(plan.micro_batches)]
            scored = sum(len(batch.targets) for batch in micro)
            for batch in micro:
                found = batch_objective(model, teacher, batch, alpha=plan.alpha, denominator=scored, bf16=plan.bf16)
                if not math.isfinite(float(found.loss.detach())):
                    raise ModelError(_not_finite("loss", float(found.loss.detach()), step, batch))
                found.loss.backward()
                window.add(batch, found)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), plan.max_grad_norm))
            if not math.isfinite(norm):
                raise ModelError(_not_finite("gradient norm", norm, step, micro[0]))
            optimizers.step()
            optimizers.zero_grad()
            done = step + 1
            window.norm = norm
            if done % plan.log_every == 0 or done == plan.steps:
                log.append(window.line(done, plan.rate(step), time.monotonic() - began))
                window = _Window()
            before_decay = done == plan.decay_start < plan.steps
            if before_decay or (plan.checkpoint_every and done % plan.checkpoint_every == 0 and done < plan.steps):
                save_checkpoint(out / "checkpoints", done, parameters, optimizers, keep=before_decay)
    model.eval()


def _not_finite(what: str, value: float, step: int, batch: Batch) -> str:
    shown = ", ".join(batch.document_ids[:8]) + (", …" if len(batch.document_ids) > 8 else "")
    return (
        f"{what} is {value} at step {step}, in the batch of documents {shown}. Training stopped; the last checkpoint stands. "
        "Lower the learning rate or look at these documents."
    )


class _Window:
    """Sums over the steps between two lines of the log."""

    def __init__(self) -> None:
        self.speech = self.nll = self.replay = 0.0
        self.n_speech = self.n_replay = 0
        self.norm = 0.0

    def add(self, batch: Batch, found: Objective) -> None:
        if batch.encoder_lengths is None:
            self.replay, self.n_replay = self.replay + found.kl_sum, self.n_replay + found.n
        else:
            self.speech, self.nll, self.n_speech = (
                self.speech + found.kl_sum,
                self.nll + found.nll_sum,
                self.n_speech + found.n,
            )

    def line(self, step: int, rate: float, seconds: float) -> StepLog:
        return StepLog(
            step=step,
            rate=rate,
            seconds=seconds,
            scored=self.n_speech + self.n_replay,
            speech_kl=self.speech / self.n_speech if self.n_speech else None,
            speech_nll=self.nll / self.n_speech if self.n_speech else None,
            replay_kl=self.replay / self.n_replay if self.n_replay else None,
            grad_norm=self.norm,
        )


def _cut_log(path: Path, first: int) -> None:
    """Drop lines of steps that will be done again, so that a resumed run writes each once."""
    if not path.exists():
        return
    from salad_eval.records import write_jsonl

    write_jsonl(path, [line for line in JsonlLog(path, StepLog).read() if line.step <= first])


# --- checkpoints -----------------------------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizers: Optimizers,
    *,
    keep: bool = False,
) -> Path:
    """``folder/step-000123``: trained weights and the optimisers' moments as safetensors. Written whole under a temporary
    name, then renamed.

    Older ones are removed, except those marked to ``keep`` (the one before the decay).
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:07d}"
    temporary = Path(tempfile.mkdtemp(prefix=".step-", dir=folder))
    try:
        save_file(
            {name: parameter.detach().contiguous() for name, parameter in parameters.items()},
            temporary / "model.safetensors",
        )
        moments: dict[str, torch.Tensor] = {}
        for name, parameter in parameters.items():
            for key, value in optimizers.state(parameter).items():
                moments[f"{name}::{key}"] = value.detach().contiguous()
        save_file(moments, temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "keep": keep}) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for other in _checkpoints(folder):
        if other != target and not _state(other)["keep"]:
            shutil.rmtree(other)
    return target


def load_checkpoint(
    folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizers: Optimizers | None = None
) -> int:
    """Put the newest checkpoint under ``folder`` (or ``folder`` itself, if it is one) into the parameters. Returns
    its step, 0 where there is none."""
    found = [folder] if (folder / "state.json").exists() else _checkpoints(folder)
    if not found:
        return 0
    newest = found[-1]
    weights = load_file(newest / "model.safetensors")
    if set(weights) != set(parameters):
        odd = sorted(set(weights) ^ set(parameters))[:3]
        raise DataError(
            f"the checkpoint {newest} is of another model or of another choice of what is trained (for example {odd})."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    if optimizers is not None:
        moments = load_file(newest / "optimizer.safetensors")
        for name, parameter in parameters.items():
            keys = [key for key in moments if key.startswith(f"{name}::")]
            state = {
                key.rsplit("::", 1)[1]: moments[key].to(parameter.device if moments[key].ndim else "cpu")
                for key in keys
            }
            if state:
                optimizers.set_state(parameter, state)
    return int(_state(newest)["step"])


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _state(checkpoint: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise DataError(f"{checkpoint} is no whole checkpoint ({cause}); remove it.") from None
    return state


def mean_divergence(model: SaladForConditionalGeneration, teacher: Any, batches: Sequence[Batch]) -> float:
    """Mean KL in nats per scored position over batches."""
    values = torch.cat([batch_divergences(model, teacher, batch) for batch in batches])
    return float(values.double().mean())
