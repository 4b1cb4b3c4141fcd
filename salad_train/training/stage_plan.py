"""What Stage I and Stage II depend on, typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from salad_eval.checkpoints import model_identity
from salad_eval.errors import UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.folder import RunFolder
from salad_eval.records import dumps, write_json
from salad_train.model import SaladAdapterConfig
from salad_train.speech.interleave import InterleaveSpec
from salad_train.training.batches import BatchLimits
from salad_train.training.checkpoints import checkpoint_fingerprint
from salad_train.training.plan import TrainPlan

PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """The causal adapter; the paper's by default (as digested).

    Attributes:
        hidden_size: width of its layers.
        intermediate_size: width inside its feed-forward parts.
        layers: how many layers.
        heads: attention heads a layer.
        kv_heads: heads of keys and values, each shared by ``heads / kv_heads`` of the others.
    """

    hidden_size: int = 960
    intermediate_size: int = 2560
    layers: int = 12
    heads: int = 15
    kv_heads: int = 5

    def config(self) -> SaladAdapterConfig:
        return SaladAdapterConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What both stages depend on, besides the documents and the way of speaking.

    Attributes:
        train: how weights are trained.
        voices: each document is read in one of them, drawn anew in each cut.
        interleave: how documents are cut into spans of text and speech.
        cuts: in how many different ways each document is cut and spoken; epochs go through them all.
        frame_jitter: by how many of the encoder's frames a recording is moved at most, drawn anew in each batch (``FrameJitter``).
        append_eos: whether documents end with the end-of-text token, as in the base LLM's own training.
        limits: how large a batch of interleaved documents is.
        replay_share: share of the batches that are plain text.
        replay_limits: how large a batch of plain text is; ``None``: as ``limits``.
        teacher_cache: how many of the teacher's likeliest tokens are kept on disk for each position, so that it reads every text but
            once; what that leaves out, ``teacher_cache`` says. 0 keeps none, and the teacher reads with the student.
        teacher_states: keep the teacher's last hidden states on disk instead, which leave nothing out.
        device: where speech is encoded, the teacher reads and all is trained: cpu, auto or an accelerator's kind (cuda); of several
            processes each works on its own.
        attention: transformers' attention implementation in training. On a CPU "eager" is the faster one for short sequences.
        save_dtype: the type that weights are stored in.
    """

    train: TrainPlan
    voices: tuple[str, ...] = ()
    interleave: InterleaveSpec = field(default_factory=InterleaveSpec)
    cuts: int = 1
    frame_jitter: int = 0
    append_eos: bool = True
    limits: BatchLimits = BatchLimits(tokens=16_384, sequences=64)
    replay_share: float = 1 / 3
    replay_limits: BatchLimits | None = None
    teacher_cache: int = 0
    teacher_states: bool = False
    device: str = "cpu"
    attention: str = "sdpa"
    save_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.cuts < 1:
            raise UserInputError(f"cuts is {self.cuts}; expected at least 1.")
        if self.frame_jitter < 0:
            raise UserInputError(f"frame_jitter is {self.frame_jitter}; expected a number of frames from 0.")
        if not self.voices:
            raise UserInputError("voices is empty; name at least one.")
        if self.teacher_states and self.teacher_cache:
            raise UserInputError(
                f"teacher_cache is {self.teacher_cache} and teacher_states is true; expected one of them."
            )
        if not 0 <= self.replay_share < 1:
            raise UserInputError(f"replay_share is {self.replay_share}; expected a share in [0, 1).")

    def models(self) -> dict[str, str]:
        """The fingerprints of the models that a training begins with, by what they are for."""
        return {}

    @property
    def replays(self) -> bool:
        """Whether plain text is read in between: it moves the LM only, and would be idle steps while that is frozen."""
        return self.replay_share > 0 and self.train.trains_lm


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartPlan:
    """A warm start of the adapter before Stage I, by CTC against the base LLM's embeddings (``warm_start``). Ours; the paper has none.

    Attributes:
        steps: updates of the adapter.
        lr: of AdamW, constant after the warm-up.
        warmup_steps: linear from 0 to the rate.
        weight_decay: of the adapter's matrices.
        limits: how large a batch of spoken spans is, in positions of the adapter.
        held_out: spans that are not trained on, by which ``missed`` in the log is measured; nor is what says the same.
        held_out_voices: who says those spans; empty: ``voices``.
        readout: what the LM reads from then on: "all", the adapter's output at every position, or "ctc", what CTC writes of it, which
            leaves blank positions and repeats out (``CtcReadout``).
        writes: the tokens that can be written: those of what is "heard", or also those of all that is "read" (the recipe's ``text``), so
            that a later training can teach words which nobody has said yet.
        log_every: steps between lines of the log.
        checkpoint_every: steps between resumable checkpoints; 0 keeps only the last.
    """

    steps: int
    lr: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    limits: BatchLimits = BatchLimits(tokens=2048, sequences=32)
    held_out: int = 200
    held_out_voices: tuple[str, ...] = ()
    readout: Literal["all", "ctc"] = "all"
    writes: Literal["heard", "read"] = "heard"
    log_every: int = 50
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "held_out", "log_every"):
            if getattr(self, name) < 1:
                raise UserInputError(f"warm_start.{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("warmup_steps", "checkpoint_every", "weight_decay"):
            if getattr(self, name) < 0:
                raise UserInputError(f"warm_start.{name} is {getattr(self, name)}; expected 0 or more.")
        if self.lr <= 0:
            raise UserInputError(f"warm_start.lr is {self.lr}; expected a rate above 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage1Plan(StagePlan):
    """Stage I: a base LLM learns to hear.

    Attributes:
        base: the text LLM, which also teaches: ``nano/…``, a folder or a hub id.
        encoder: the frozen audio encoder: the same.
        adapter: the size of what stands between the two.
        stack_frames: frames of the encoder that become one position.
        mimi_quantizers, mimi_latents: see ``SaladConfig``; read only by a Mimi encoder.
        encoder_windows, encoder_dtype: see ``SaladConfig``; windows are read only by a Whisper encoder. On a CPU that multiplies in
            bfloat16 (AMX, AVX-512 BF16) that is several times faster, on others slower.
        warm_start: how the adapter learns to write the LLM's embeddings first; ``None``: it begins fresh, as in the paper.
    """

    base: str
    encoder: str
    adapter: AdapterSize = field(default_factory=AdapterSize)
    stack_frames: int = 1
    mimi_latents: str = "quantized"
    mimi_quantizers: int | None = None
    encoder_windows: tuple[float, ...] = ()
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    warm_start: WarmStartPlan | None = None

    def models(self) -> dict[str, str]:
        return {"base LLM": model_identity(self.base), "encoder": model_identity(self.encoder)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2Plan(StagePlan):
    """Stage II: the speech LLM goes on with speech made for it, beside what it heard in Stage I and plain text.

    Attributes:
        init: the speech LLM to go on from: ``nano/…``, a folder or a hub id.
        base: the text LLM that teaches it: the same.
        checkpoint: a checkpoint of Stage I (``…/checkpoints/step-…``), whose weights and moments are then taken: the paper goes on
            from before Stage I's decay. ``None`` takes the weights of ``init`` and fresh moments.
        selected_share, natural_share, replay_share: shares of the batches, brought to a sum of 1; the paper's are equal.
        natural_documents: how many of Stage I's documents are heard again, drawn by the seed; ``None`` takes them all.
    """

    init: str
    base: str
    checkpoint: str | None = None
    selected_share: float = 1 / 3
    natural_share: float = 1 / 3
    natural_documents: int | None = None

    def models(self) -> dict[str, str]:
        before_decay = {} if self.checkpoint is None else {"checkpoint": checkpoint_fingerprint(Path(self.checkpoint))}
        return {"speech LLM": model_identity(self.init), "base LLM": model_identity(self.base), **before_decay}

    def __post_init__(self) -> None:
        StagePlan.__post_init__(self)
        if self.selected_share <= 0 or self.natural_share < 0:
            raise UserInputError(
                f"selected_share is {self.selected_share}, natural_share is {self.natural_share}; expected shares above 0 and "
                "from 0."
            )
        if self.natural_documents is not None and self.natural_documents < 1:
            raise UserInputError(
                f"natural_documents is {self.natural_documents}; expected at least 1, or none for all."
            )


def claim(out: Path, plan: StagePlan, made_of: Mapping[str, str]) -> None:
    """Write down what a training in ``out`` is made of: its plan, and the fingerprints of models and data.

    Raises ``UserInputError`` naming what is another where a training of something else was begun there: it would go on from that one's
    checkpoint.
    """
    stated = json.loads(dumps(plan))
    file = out / PLAN_FILE
    if file.exists() and _read(file) != stated:
        raise UserInputError(
            f"{file} states another plan than this run's. Give another folder, or remove {file.parent}."
        )
    RunFolder(out).claim("training", {"plan": digest(plan), **made_of})
    write_json(file, stated)


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
