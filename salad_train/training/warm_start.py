"""A warm start of the adapter, before Stage I: it learns to write what is said in the base LLM's own input embeddings.

The adapter alone is trained, by CTC (Graves et al., 2006), whose scores are products of its output with the LLM's embeddings
(``CtcReadout``). No forward pass of the LLM is needed, so a step costs what the adapter costs. **This is ours**: the paper
(arXiv 2510.13632) begins Stage I with a fresh adapter.

At the end the adapter's output is brought to the size of the LLM's embeddings by one factor, which its last layer takes in. The LLM
then reads that output at every position, or what CTC writes of it (``readout: ctc``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import torch
from torch import nn

from salad_eval.errors import DataError, ModelError
from salad_eval.progress import track
from salad_eval.records import JsonlLog, remove_unfinished, write_jsonl
from salad_train.model import SaladForConditionalGeneration
from salad_train.model.audio_encoders import first_places
from salad_train.model.readout import CtcReadout, fits
from salad_train.speech.interleave import Interleaved
from salad_train.speech.utterances import Speaker, utterances_of, voice_for
from salad_train.training.batches import BatchOrder
from salad_train.training.checkpoints import (
    CheckpointState,
    load_moments,
    load_weights,
    newest_checkpoint,
    read_state,
    save_checkpoint,
    teacher_fingerprint,
)
from salad_train.training.frames import FrameStore, pad_frames
from salad_train.training.optim import ParameterGroup, RateSchedule, make_optimizer
from salad_train.training.precision import autocast
from salad_train.training.processes import own_device
from salad_train.training.stage_plan import Stage1Plan, WarmStartPlan


@dataclass(frozen=True, slots=True)
class HeardSpan:
    """A spoken span: its frames by their key in the store, its tokens in the document, and the positions that the adapter gives."""

    key: str
    ids: tuple[int, ...]
    positions: int

    @property
    def fits(self) -> bool:
        """Whether CTC can write it."""
        return fits(self.ids, self.positions)


@dataclass(frozen=True, slots=True)
class WarmStartLog:
    """A line of ``log.jsonl``: ``loss`` in nats a token, mean over the steps since the line before; ``missed``: edit distance over tokens
    of the spans that are held out, greedily read."""

    step: int
    seconds: float
    loss: float
    missed: float


def heard_spans(
    cut: Sequence[tuple[int, Interleaved]], speaker: Speaker, voices: Sequence[str], plan: Stage1Plan, store: FrameStore
) -> list[HeardSpan]:
    """The spans of cut documents as ``voices`` say them, each once; those whose sound is not in ``store`` are left out."""
    found: dict[HeardSpan, None] = {}
    for epoch, document in cut:
        voice = voice_for(document.document_id, epoch, voices, plan.train.seed)
        for span, utterance in zip(document.speech, utterances_of(document, voice), strict=True):
            key = speaker.key(utterance)
            if key in store:
                ids = document.ids[span.token_start : span.token_end]
                found[HeardSpan(key, ids, -(-store.n_frames(key) // plan.stack_frames))] = None
    return list(found)


def warm_start(
    model: SaladForConditionalGeneration,
    spans: Sequence[HeardSpan],
    held_out: Sequence[HeardSpan],
    store: FrameStore,
    plan: Stage1Plan,
    out: Path,
    more: Iterable[int] = (),
) -> None:
    """Train ``model``'s adapter in place, or on from the last checkpoint in ``out``; one that is finished is taken as it is.

    ``held_out``: spans by which it is measured; what says the same is not trained on. ``more``: tokens that can be written, besides those
    of ``spans``.
    Writes ``out/log.jsonl`` and ``out/step-…``. Raises ``DataError`` where there are too few spans, and ``ModelError`` where the loss is
    not finite.
    """
    asked = plan.warm_start
    if asked is None:
        return
    training = _Training(model, spans, held_out, store, plan, asked, more)
    out.mkdir(parents=True, exist_ok=True)
    remove_unfinished(out)
    first = training.resume(out)
    log = out / "log.jsonl"
    write_jsonl(log, [line for line in JsonlLog(log, WarmStartLog).read() if line.step <= first])
    if first < asked.steps:
        with JsonlLog(log, WarmStartLog) as file:
            for line in training.run(first, out):
                file.append(line)
        training.bring_to_size()
        training.save(out, asked.steps)
    if asked.readout == "ctc":
        model.read_by(training.scores)


class _Training:
    """The adapter, what scores its output, their optimiser, and the spans in the order of the seed."""

    def __init__(
        self,
        model: SaladForConditionalGeneration,
        spans: Sequence[HeardSpan],
        held_out: Sequence[HeardSpan],
        store: FrameStore,
        plan: Stage1Plan,
        asked: WarmStartPlan,
        more: Iterable[int] = (),
    ) -> None:
        self.held_out = [span for span in held_out if span.fits][: asked.held_out]
        kept = {span.ids for span in self.held_out}
        fitting = [span for span in spans if span.fits]
        self.spans = [span for span in fitting if span.ids not in kept]
        if not self.spans or not self.held_out:
            raise DataError(
                f"warm_start: {len(fitting)} of {len(spans)} spoken spans have a position for each of their tokens, and "
                f"{len(self.held_out)} of {asked.held_out} are held out; expected more. Lower stage1.stack_frames or "
                "warm_start.held_out, or give more documents."
            )
        self.model, self.store, self.plan, self.asked = model, store, plan, asked
        self.device = own_device(plan.device)
        model.adapter.to(self.device).requires_grad_(True)
        self.embeddings = model.get_input_embeddings().weight.detach().to(self.device)
        self.ids = sorted({token for span in self.spans for token in span.ids}.union(more))
        self.scores = CtcReadout.fresh(self.embeddings, self.ids, plan.train.seed)
        self.teacher = teacher_fingerprint(model.language_model)
        self.order = BatchOrder([span.positions for span in self.spans], asked.limits, seed=plan.train.seed)
        self.parameters = dict(nn.ModuleDict({"adapter": model.adapter, "scores": self.scores}).named_parameters())
        matrices = [one for one in self.parameters.values() if one.ndim > 1]
        vectors = [one for one in self.parameters.values() if one.ndim < 2]
        groups = [ParameterGroup(matrices, asked.lr, asked.weight_decay), ParameterGroup(vectors, asked.lr)]
        self.optimizer = make_optimizer(groups, betas=plan.train.betas)
        self.schedule = RateSchedule(self.optimizer, lambda step: min(1.0, (step + 1) / (asked.warmup_steps + 1)))

    def resume(self, out: Path) -> int:
        """The steps that are done."""
        checkpoint = newest_checkpoint(out)
        if checkpoint is None:
            return 0
        load_weights(checkpoint, self.parameters)
        load_moments(checkpoint, self.parameters, self.optimizer)
        step = read_state(checkpoint).step
        self.schedule.go_to(step)
        return step

    def save(self, out: Path, step: int) -> None:
        save_checkpoint(out, CheckpointState(step, keep=False, teacher=self.teacher), self.parameters, self.optimizer)

    def run(self, first: int, out: Path) -> Iterator[WarmStartLog]:
        """The steps from ``first`` on; a line as often as the plan says."""
        began, losses = time.monotonic(), [0.0, 0.0]
        for step in track(range(first + 1, self.asked.steps + 1), "warm start"):
            loss, n_tokens = self._step([self.spans[k] for k in self.order.batch(step - 1)], step)
            losses = [losses[0] + loss, losses[1] + n_tokens]
            if step % self.asked.log_every == 0 or step == self.asked.steps:
                yield WarmStartLog(step, time.monotonic() - began, losses[0] / losses[1], self.missed())
                losses = [0.0, 0.0]
            if self.asked.checkpoint_every and step % self.asked.checkpoint_every == 0 and step < self.asked.steps:
                self.save(out, step)

    def _step(self, spans: Sequence[HeardSpan], step: int) -> tuple[float, int]:
        """One update; the summed loss in nats, and the tokens it is of."""
        loss, n_tokens = self.scores.nll(*self._heard(spans), self.embeddings, [span.ids for span in spans])
        if not math.isfinite(value := float(loss.detach())):
            raise ModelError(
                f"warm_start: the loss is {value} at step {step}. The last checkpoint stands; lower warm_start.lr."
            )
        self.optimizer.zero_grad()
        (loss / n_tokens).backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), self.plan.train.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        return value, n_tokens

    def _logprobs(self, spans: Sequence[HeardSpan]) -> tuple[torch.Tensor, torch.Tensor]:
        heard, lengths = self._heard(spans)
        return self.scores.scores(heard, self.embeddings), lengths.cpu()

    def _heard(self, spans: Sequence[HeardSpan]) -> tuple[torch.Tensor, torch.Tensor]:
        frames, n_frames = pad_frames([self.store.get(span.key) for span in spans])
        with autocast(self.device, bf16=self.plan.train.bf16):
            return self.model.adapted(
                encoder_hidden_states=frames.to(self.device), encoder_lengths=n_frames.to(self.device)
            )

    @torch.no_grad()
    def missed(self) -> float:
        """Edit distance over tokens of the spans that are held out."""
        said, heard = [], []
        for batch in self.asked.limits.batches([span.positions for span in self.held_out]):
            spans = [self.held_out[k] for k in batch]
            logprobs, lengths = self._logprobs(spans)
            for span, row, n in zip(spans, logprobs.argmax(-1).tolist(), lengths.tolist(), strict=True):
                said.append(" ".join(map(str, span.ids)))
                heard.append(" ".join(str(self.ids[place - 1]) for place in collapsed(row[:n])))
        return float(jiwer.wer(said, heard))

    @torch.no_grad()
    def bring_to_size(self) -> None:
        """Scale the adapter's output so that, where a token is written, it is as large as the LLM's embeddings are on average."""
        sizes = []
        for batch in self.asked.limits.batches([span.positions for span in self.held_out]):
            heard, lengths = self._heard([self.held_out[k] for k in batch])
            best = self.scores.scores(heard, self.embeddings).argmax(-1)
            real = first_places(lengths, heard.shape[1])
            sizes.append(heard.float().norm(dim=-1)[real & (best > 0)])
        written: Any = torch.cat(sizes)
        if not len(written):
            return
        factor = self.scores.size(self.embeddings) / float(written.mean())
        self.model.adapter.output_projection.weight.mul_(factor)
        self.model.adapter.output_projection.bias.mul_(factor)
        self.scores.log_scale.sub_(math.log(factor))


def collapsed(row: Sequence[int]) -> list[int]:
    """What CTC reads of the best symbols of each position: repeats are one, blanks (0) none.

    >>> collapsed([0, 3, 3, 0, 3, 5])
    [3, 3, 5]
    """
    return [one for k, one in enumerate(row) if one and (k == 0 or row[k - 1] != one)]
