"""F, M and D of any checkpoint: how far the adapted LLM has moved from the base LLM, and how far its hearing is from its reading.

With Q the base text LLM, P the speech LLM, w a document and c the same document with some spans spoken,

    F (forgetting)   = KL( Q(·|w≤i) ‖ P(·|w≤i) )
    M (misalignment) = KL( P(·|w≤i) ‖ P(·|c≤i) )
    D (distillation) = KL( Q(·|w≤i) ‖ P(·|c≤i) )

(Cuervo et al., arXiv 2510.13632), in nats, averaged over the scored positions: every text token of c that something precedes.
All three are taken at the same positions from three readings (Q of w, P of w, P of c), and the logits of a few positions are held
at a time. The first text token after speech is also reported apart: the LLM must there find out from sound alone where
the text goes on, and its divergence is usually many times that inside a text span.

Intervals rest on documents, since positions of one document rise and fall together. The standard error of the mean per position
(a ratio of sums) is the delete-one-document jackknife's (Efron & Stein 1981, *The jackknife estimate of variance*), and the 95%
interval is Student's t on the logarithm, which keeps it above 0 and follows the skew that divergences have: where documents'
rates are spread as a Gamma law of shape 0.5 to 4, it covers in 90 to 95% of simulations from 4 documents up (Student's t on the
mean itself in 82 to 94%).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from salad_eval.errors import ModelError, UserInputError
from salad_eval.progress import track
from salad_eval.types import Estimate
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.training.batches import Batch, BatchLimits, Example, Frames, collate
from salad_train.training.objective import (
    CachedPositions,
    LogitHead,
    cached_divergences,
    check_head,
    position_chunks,
    position_divergences,
)
from salad_train.training.precision import autocast
from salad_train.training.teacher_cache import TeacherCache
from salad_train.types import Divergences

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class PositionDivergences:
    """Nats at each scored position of a batch, each (n,) float64 on the CPU; ``after_speech`` (n,) bool."""

    forgetting: torch.Tensor
    misalignment: torch.Tensor
    distillation: torch.Tensor
    teacher_entropy: torch.Tensor
    after_speech: torch.Tensor


@dataclass(frozen=True, slots=True)
class DocumentDivergence:
    """Sums in nats over ``n_positions`` scored positions of a document (over all its cuts, where it was cut several ways).

    ``after_speech`` is the part of ``distillation`` at the ``n_after_speech`` first text positions after speech.
    """

    document_id: str
    domain: str
    n_positions: int
    n_after_speech: int
    forgetting: float
    misalignment: float
    distillation: float
    after_speech: float
    teacher_entropy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDivergence(Divergences):
    """A domain's or a cluster's divergences; ``after_speech`` is over ``n_after_speech`` positions."""

    group: str
    n_after_speech: int


def measure(
    model: SaladForConditionalGeneration,
    teacher: Any,
    examples: Sequence[Example],
    store: Frames | None,
    *,
    groups: Mapping[str, str] | None = None,
    limits: BatchLimits = BatchLimits(tokens=4096, sequences=64),
    bf16: bool = False,
    chunk_logits: int | None = None,
) -> tuple[GroupDivergence, ...]:
    """F, M and D of ``model`` against ``teacher``, by group, in the order of the groups' names.

    Args:
        teacher: the base LLM (``frozen_copy`` of it, or loaded anew), or a ``TeacherCache`` of it that holds the texts: F and D are
            then as far as the cache knows Q (see ``salad_train.training.teacher_cache``), M and the entropy are exact. No model is changed;
            training mode is restored.
        examples: cut documents as ``stages.speak_documents`` makes them (or pure text, for F alone: M is then 0).
        store: the encoder's output for their recordings.
        groups: document id → group; ``None`` takes each example's domain.
        bf16: run the models under bfloat16 autocast, where the device multiplies it. Logits and divergences stay in float32;
            expect differences of some 1e-3 nats.
    """
    documents = measure_documents(model, teacher, examples, store, limits=limits, bf16=bf16, chunk_logits=chunk_logits)
    return summarise(documents, groups)


def measure_documents(
    model: SaladForConditionalGeneration,
    teacher: Any,
    examples: Sequence[Example],
    store: Frames | None,
    *,
    limits: BatchLimits = BatchLimits(tokens=4096, sequences=64),
    bf16: bool = False,
    chunk_logits: int | None = None,
) -> tuple[DocumentDivergence, ...]:
    """As ``measure``, by document, in the order in which they first come. Records to keep: any grouping can be made of them.

    Raises ``UserInputError`` where nothing is to be measured; ``ModelError`` for models of different vocabularies and for a
    divergence that is not finite, with the documents named.
    """
    scored = [k for k, example in enumerate(examples) if len(example.layout.targets)]
    if not scored:
        raise UserInputError(
            f"{len(examples)} examples, none with a scored position; expected documents of at least two tokens that are not all speech."
        )
    cache = teacher if isinstance(teacher, TeacherCache) else None
    readers = [model] if cache is not None else [model, teacher]
    for lm in (model.language_model, *readers[1:]):
        check_head(lm)
    lengths = [max(example.length, len(example.teacher_ids)) for example in examples]
    batches = limits.batches(lengths, scored)
    of_example: dict[int, DocumentDivergence] = {}
    with evaluating(*readers):
        for batch in track(batches, "measuring divergence"):
            chosen = [examples[k] for k in batch]
            base = teacher if cache is None else cache.positions(chosen)
            found = position_measures(model, base, collate(chosen, store), bf16=bf16, chunk_logits=chunk_logits)
            of_example.update(zip(batch, _by_example(chosen, found), strict=True))
    by_document: dict[str, list[DocumentDivergence]] = {}
    for k in scored:
        by_document.setdefault(examples[k].document_id, []).append(of_example[k])
    return tuple(map(_joined, by_document.values()))


@torch.no_grad()
def position_measures(
    model: SaladForConditionalGeneration,
    teacher: Any,
    batch: Batch,
    *,
    bf16: bool = False,
    chunk_logits: int | None = None,
) -> PositionDivergences:
    """F, M, D and the teacher's entropy at every scored position of a batch, from one reading of each of Q(w), P(w) and P(c).

    ``teacher`` is the base LLM, or what a cache holds of it at the batch's positions. The models are taken as they stand: put
    them in eval mode first (``evaluating``).
    """
    device = model.get_input_embeddings().weight.device
    batch = batch.to(device)
    with autocast(device, bf16=bf16):
        pure = model.hidden_states(model.embed(batch.teacher_ids)).flatten(0, 1)[batch.teacher]
        if batch.encoder_lengths is None and torch.equal(batch.input_ids, batch.teacher_ids):
            mixed = pure  # a batch of text: c is w
        else:
            placed = model.embed(
                batch.input_ids,
                encoder_hidden_states=batch.encoder_hidden_states,
                encoder_lengths=batch.encoder_lengths,
            )
            mixed = model.hidden_states(placed).flatten(0, 1)[batch.student]
        if not isinstance(teacher, CachedPositions):
            base = teacher.base_model(input_ids=batch.teacher_ids, use_cache=False).last_hidden_state
            base = base.flatten(0, 1)[batch.teacher]
    head = LogitHead.of(model.language_model)
    if isinstance(teacher, CachedPositions):
        values = _by_cache(pure, mixed, head, teacher.to(device), chunk_logits)
    else:
        values = _by_teacher(pure, mixed, head, base, LogitHead.of(teacher), chunk_logits)
    if not bool(torch.isfinite(values).all()):
        shown = ", ".join(batch.document_ids[:8]) + (", …" if len(batch.document_ids) > 8 else "")
        raise ModelError(f"a divergence is not finite in the batch of documents {shown}: look at the checkpoint.")
    forgetting, misalignment, distillation, entropy = values.cpu()
    return PositionDivergences(forgetting, misalignment, distillation, entropy, batch.after_speech.cpu())


@contextmanager
def evaluating(*models: torch.nn.Module) -> Iterator[None]:
    """Every module in eval mode, and afterwards each as it was (some may be frozen in eval mode amid a training model)."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def summarise(
    documents: Sequence[DocumentDivergence], groups: Mapping[str, str] | None = None
) -> tuple[GroupDivergence, ...]:
    """Means per scored position by group, in the order of their names. See ``measure``."""
    of_group: dict[str, list[DocumentDivergence]] = {}
    for document in documents:
        if groups is not None and document.document_id not in groups:
            raise UserInputError(
                f"groups holds no group for document {document.document_id!r}; give one for every document measured."
            )
        name = document.domain if groups is None else groups[document.document_id]
        of_group.setdefault(name, []).append(document)
    return tuple(pooled(of_group[name], name) for name in sorted(of_group))


def pooled(documents: Sequence[DocumentDivergence], name: str = "all") -> GroupDivergence:
    """One group of all ``documents``."""
    if not documents:
        raise UserInputError(f"group {name!r} holds no measured documents.")
    n = np.array([d.n_positions for d in documents])
    after = np.array([d.n_after_speech for d in documents])
    sums = {
        field: np.array([getattr(d, field) for d in documents], dtype=np.float64)
        for field in ("forgetting", "misalignment", "distillation", "after_speech", "teacher_entropy")
    }
    return GroupDivergence(
        group=name,
        n_documents=len(documents),
        n_positions=int(n.sum()),
        n_after_speech=int(after.sum()),
        forgetting=mean_per_position(sums["forgetting"], n),
        misalignment=mean_per_position(sums["misalignment"], n),
        distillation=mean_per_position(sums["distillation"], n),
        after_speech=mean_per_position(sums["after_speech"], after) if after.sum() else None,
        inside_text=(
            mean_per_position(sums["distillation"] - sums["after_speech"], n - after) if (n - after).sum() else None
        ),
        teacher_entropy=mean_per_position(sums["teacher_entropy"], n),
    )


def mean_per_position(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """Σ sums / Σ counts over documents, (n,) each, with a 95% interval (see the module); no interval from one document.

    ``Estimate.n`` counts the documents that hold such a position at all.
    """
    from scipy import stats

    held = counts > 0
    sums, counts = np.asarray(sums, dtype=np.float64)[held], np.asarray(counts, dtype=np.float64)[held]
    n, total, positions = len(sums), float(sums.sum()), float(counts.sum())
    value = total / positions
    if n < 2:
        return Estimate(value, None, None, n)
    without = (total - sums) / (positions - counts)  # the mean with each document left out
    error = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    if value <= 0 or reach == 0 or reach / value > 50:  # beyond any use; and exp() would overflow
        return Estimate(value, min(value, max(0.0, value - reach)), value + reach, n)
    return Estimate(value, value * math.exp(-reach / value), value * math.exp(reach / value), n)


def _by_teacher(
    pure: torch.Tensor,
    mixed: torch.Tensor,
    head: LogitHead,
    base: torch.Tensor,
    base_head: LogitHead,
    chunk_logits: int | None,
) -> torch.Tensor:
    """F, M, D and H(Q), (4, n) float64, from last hidden states (n, width): P of w, P of c (the same tensor, where c is w), Q of w."""
    if head.weight.shape[0] != base_head.weight.shape[0]:
        raise ModelError(
            f"the speech LLM's vocabulary has {head.weight.shape[0]} entries, the base LLM's {base_head.weight.shape[0]}; "
            "measure against the text LLM it was made from."
        )
    parts = [
        _three_ways(
            base_head.logits(base[rows]).log_softmax(-1),
            head.logits(pure[rows]).log_softmax(-1),
            None if mixed is pure else head.logits(mixed[rows]).log_softmax(-1),
        )
        for rows in position_chunks(len(base), head.weight.shape[0], chunk_logits)
    ]
    return torch.cat(parts, dim=1) if parts else torch.zeros(4, 0, dtype=torch.float64)


def _by_cache(
    pure: torch.Tensor, mixed: torch.Tensor, head: LogitHead, teacher: CachedPositions, chunk_logits: int | None
) -> torch.Tensor:
    """As ``_by_teacher``, with what is kept of Q."""
    forgetting = cached_divergences(pure, head, teacher, chunk_logits)
    if mixed is pure:
        return torch.stack([forgetting, torch.zeros_like(forgetting), forgetting, teacher.entropy])
    misalignment = position_divergences(mixed, head, pure, head, chunk_logits).double()
    return torch.stack(
        [forgetting, misalignment, cached_divergences(mixed, head, teacher, chunk_logits), teacher.entropy]
    )


def _three_ways(log_q: torch.Tensor, log_p: torch.Tensor, log_c: torch.Tensor | None) -> torch.Tensor:
    """F, M, D and H(Q) of a chunk: (4, n) float64. ``log_c`` is ``None`` where it is ``log_p``."""
    q = log_q.exp()
    entropy = -torch.einsum("nv,nv->n", q, log_q)
    forgetting = torch.einsum("nv,nv->n", q, log_q - log_p)
    if log_c is None:
        misalignment, distillation = torch.zeros_like(forgetting), forgetting
    else:
        distillation = torch.einsum("nv,nv->n", q, log_q.sub_(log_c))
        misalignment = torch.einsum("nv,nv->n", log_p.exp(), log_p - log_c)
    return torch.stack([forgetting, misalignment, distillation, entropy]).double()


def _by_example(examples: Sequence[Example], found: PositionDivergences) -> Iterator[DocumentDivergence]:
    start = 0
    for example in examples:
        rows = slice(start, start := start + len(example.layout.targets))
        after = found.after_speech[rows]
        yield DocumentDivergence(
            document_id=example.document_id,
            domain=example.domain,
            n_positions=len(after),
            n_after_speech=int(after.sum()),
            forgetting=float(found.forgetting[rows].sum()),
            misalignment=float(found.misalignment[rows].sum()),
            distillation=float(found.distillation[rows].sum()),
            after_speech=float(found.distillation[rows][after].sum()),
            teacher_entropy=float(found.teacher_entropy[rows].sum()),
        )


def _joined(cuts: Sequence[DocumentDivergence]) -> DocumentDivergence:
    """One document's cuts as one: they are no independent evidence."""
    return DocumentDivergence(
        document_id=cuts[0].document_id,
        domain=cuts[0].domain,
        n_positions=sum(cut.n_positions for cut in cuts),
        n_after_speech=sum(cut.n_after_speech for cut in cuts),
        forgetting=math.fsum(cut.forgetting for cut in cuts),
        misalignment=math.fsum(cut.misalignment for cut in cuts),
        distillation=math.fsum(cut.distillation for cut in cuts),
        after_speech=math.fsum(cut.after_speech for cut in cuts),
        teacher_entropy=math.fsum(cut.teacher_entropy for cut in cuts),
    )
