"""How a model is trained: steps, rates and their schedule, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from salad_eval.errors import UserInputError
from salad_train.training.lora import LoraPlan


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Optimisation as the paper states it (as digested), except for sizes. Rates are peaks; shares are of ``steps``.

    Attributes:
        steps: updates of the weights.
        seed: of the order of the data, of dropout and of what is drawn at random at first.
        alpha: weight of the distillation; 1 is Stage I's.
        ctc: weight of CTC beside it: the nats by which it misses what is said, divided, as the rest, by the scored positions. Only where
            the LM reads by CTC (``readout``). It keeps the adapter's words while the LM's answers move it, and teaches new ones.
            **Ours**, not the paper's; 0 is without.
        adapter_lr: of the adapter.
        muon_lr: above 0, the adapter's matrices are trained by Muon at this rate, and ``adapter_lr`` is that of the rest of it.
            The paper uses AdamW throughout, which 0 is.
        muon_steps: Newton–Schulz iterations of Muon; fewer than its 5 orthogonalise less exactly, in less time.
        lora: sizes of the LoRA.
        tune: what is trained beside the adapter, which always is: nothing ("adapter": the LM is frozen), LoRA ("lora", see
            ``lora``) or the whole LM ("full").
        lm_lr: of the LM, or of its LoRA; 0 freezes the LM as ``tune="adapter"`` does.
        weight_decay: of matrices; biases and norms have none.
        betas: of AdamW's moments.
        max_grad_norm: a longer gradient is cut to this length.
        warmup_steps: linear from 0 to the peak; then constant; the last ``decay_share`` of the steps falls linearly
            to 0.
        decay_share: share of the steps in which the rate falls.
        micro_batches: batches accumulated to a step, in each process.
        bf16: run the models under bfloat16 autocast (weights, optimiser and loss stay in float32). A processor without bfloat16
            products of its own runs them in float32, which is several times faster there.
        log_every: steps between lines of the log.
        checkpoint_every: steps between resumable checkpoints; 0 keeps only the one before the decay.
        gradient_checkpointing: hold the inputs of the layers only, and compute the rest again in the backward pass.
        report_to: names of transformers' reporting callbacks, such as "tensorboard" or "wandb".
    """

    steps: int
    seed: int = 0
    alpha: float = 1.0
    ctc: float = 0.0
    adapter_lr: float = 1e-3
    muon_lr: float = 0.0
    muon_steps: int = 5
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
    tune: Literal["adapter", "lora", "full"] = "full"
    lora: LoraPlan = LoraPlan()
    gradient_checkpointing: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.micro_batches < 1:
            raise UserInputError(
                f"steps is {self.steps}, micro_batches is {self.micro_batches}; expected at least 1 of each."
            )
        if not 1 <= self.muon_steps < 100:
            raise UserInputError(f"muon_steps is {self.muon_steps}; expected 1 to 99 iterations.")
        if not 0.0 <= self.alpha <= 1.0 or not 0.0 <= self.decay_share <= 1.0:
            raise UserInputError(f"alpha is {self.alpha}, decay_share is {self.decay_share}; expected both in [0, 1].")
        if self.ctc < 0:
            raise UserInputError(f"ctc is {self.ctc}; expected a weight of 0 or more.")
        if self.tune not in ("adapter", "lora", "full"):
            raise UserInputError(f"tune is {self.tune!r}; expected 'adapter', 'lora' or 'full'.")
        if self.tune == "lora" and self.lm_lr <= 0:
            raise UserInputError(
                f"tune is 'lora' and lm_lr is {self.lm_lr}; expected the learning rate of LoRA, above 0."
            )

    @property
    def trains_lm(self) -> bool:
        """Whether the LM can change: text replay is of use only then."""
        return self.tune != "adapter" and self.lm_lr > 0

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
    """A line of ``train.jsonl``: means over the steps since the line before, in nats per scored position; of CTC, per spoken token."""

    step: int
    rate: float
    seconds: float
    scored: int
    speech_kl: float | None
    speech_nll: float | None
    replay_kl: float | None
    grad_norm: float
    speech_ctc: float | None = None
