"""L = α·L_DIST + (1 − α)·L_NLL at text positions, without ever holding positions × vocabulary.

L_DIST = KL(Q(·|pure text) ‖ P(·|interleaved)) with Q a frozen copy of the base LLM (Cuervo et al., arXiv 2510.13632);
L_NLL is the
next token's negative log-likelihood under P. Both are in nats. The gradient with respect to the logits has a closed
form,

    ∂L/∂z = (P − (α·Q + (1 − α)·onehot)) / n,

so a chunk of positions is brought to the vocabulary, scored, differentiated and folded into the gradients of hidden
states and
head in the forward pass, and forgotten. The backward pass multiplies by the incoming scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd.function import once_differentiable

from salad_eval.errors import MissingExtraError, ModelError, UnknownNameError

Backend = Literal["torch", "liger"]
CHUNK_LOGITS = 1 << 22  # logits of one model held at a time (16 MiB in float32): stays near the processor's caches
CHUNK_ROWS = 192  # but no fewer positions: each chunk reads the whole head, and adds to its whole gradient


@dataclass(frozen=True, eq=False)
class LogitHead:
    """How a causal LM makes logits of its last hidden states: z = s·(W·h + b), then c·tanh(z / c) where ``softcap`` c
    is set.

    Attributes:
        weight: (vocabulary, width). bias: (vocabulary,) or ``None``.
        scale: Granite divides its logits, Cohere multiplies them.
        softcap: Gemma bends them.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, lm: Any) -> LogitHead:
        """The head of a causal LM. ``check_head`` proves that nothing was overlooked."""
        head = lm.get_output_embeddings()
        config = lm.config.get_text_config(decoder=True)
        scale = 1.0
        if getattr(config, "logits_scaling", None):
            scale = 1.0 / float(config.logits_scaling)
        elif getattr(config, "logit_scale", None):
            scale = float(config.logit_scale)
        softcap = getattr(config, "final_logit_softcapping", None)
        return cls(head.weight, getattr(head, "bias", None), scale, None if softcap is None else float(softcap))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, width) → (n, vocabulary), in at least float32."""
        raw = torch.nn.functional.linear(
            hidden, self.weight.to(hidden.dtype), None if self.bias is None else self.bias.to(hidden.dtype)
        )
        raw = raw if raw.dtype == torch.float64 else raw.float()
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)


@torch.no_grad()
def check_head(lm: Any) -> None:
    """Raise ``ModelError`` unless ``LogitHead.of(lm)`` reproduces the LM's own logits on a few tokens."""
    ids = (
        torch.arange(4, device=lm.get_input_embeddings().weight.device)[None]
        % lm.config.get_text_config(decoder=True).vocab_size
    )
    hidden = lm.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    expected, ours = lm(input_ids=ids, use_cache=False).logits[0].float(), LogitHead.of(lm).logits(hidden)
    if expected.shape != ours.shape or not torch.allclose(expected, ours, rtol=1e-2, atol=1e-2):
        raise ModelError(
            f"{type(lm).__name__} makes its logits in a way this objective does not know (not W·h + b with a scale or a soft cap)."
        )


@dataclass(frozen=True, eq=False)
class Objective:
    """What a batch was scored: ``loss`` carries gradients; the sums (nats over ``n`` positions, of CTC over ``n_said`` tokens) are for the
    log."""

    loss: torch.Tensor
    kl_sum: float
    nll_sum: float
    n: int
    ctc_sum: float = 0.0
    n_said: int = 0


def objective(
    student_hidden: torch.Tensor,
    student_head: LogitHead,
    teacher_hidden: torch.Tensor,
    teacher_head: LogitHead,
    targets: torch.Tensor,
    *,
    alpha: float,
    denominator: float | None = None,
    chunk_logits: int | None = None,
    backend: Backend = "torch",
) -> Objective:
    """The training loss of one batch of scored positions.

    Args:
        student_hidden: (n, student width), with gradients. teacher_hidden: (n, teacher width), taken as constants.
        targets: (n,) ids of the tokens that come next.
        alpha: weight of the distillation in [0, 1].
        denominator: scored tokens of the *whole* optimiser step, over all micro-batches and processes; ``None``: of
            this batch.
        chunk_logits: at most this many logits of a model are held at a time (at least one position's); ``None``: see
            ``position_chunks``.
        backend: ``"torch"`` is this module's own. ``"liger"`` is liger-kernel's ``LigerFusedLinearJSDLoss``, which for beta = 0 is
            this KL; it knows no scale and no soft cap, and takes its logarithms in the dtype of the hidden states.

    Raises ``ModelError`` for vocabularies of different sizes and where no position is scored.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ModelError(f"alpha is {alpha}; expected a weight in [0, 1].")
    n = len(targets)
    _check_positions(n, len(student_hidden), len(teacher_hidden))
    _check_vocabularies(student_head.weight.shape[0], teacher_head.weight.shape[0])
    if backend == "liger":
        return _liger_objective(
            student_hidden,
            student_head,
            teacher_hidden.detach(),
            teacher_head,
            targets,
            alpha=alpha,
            denominator=float(n if denominator is None else denominator),
            chunk_logits=chunk_logits,
        )
    if backend != "torch":
        raise UnknownNameError("objective backend", backend, ("torch", "liger"))
    loss, sums = _ChunkedObjective.apply(
        student_hidden,
        student_head.weight,
        student_head.bias,
        student_head,
        _against_teacher(teacher_hidden.detach(), teacher_head, targets, float(alpha)),
        float(alpha),
        float(n if denominator is None else denominator),
        chunk_logits,
    )
    kl_sum, nll_sum = sums.tolist()
    return Objective(loss, kl_sum, nll_sum, n)


def _check_positions(n_targets: int, n_student: int, n_teacher: int) -> None:
    if not n_targets or n_student != n_targets or n_teacher != n_targets:
        raise ModelError(
            f"{n_targets} targets, {n_student} student and {n_teacher} teacher positions; expected equal and positive numbers."
        )


def _check_vocabularies(student: int, teacher: int) -> None:
    if student != teacher:
        raise ModelError(
            f"the student's vocabulary has {student} entries, the teacher's {teacher}; distillation needs the same tokenizer."
        )


@dataclass(frozen=True, eq=False)
class CachedPositions:
    """Of a teacher at n positions, what was kept: KL(Q ‖ P) is then ``constant`` − Σ weights·log P(ids) − tail·log P(all others).

    Attributes:
        ids, weights: (n, k) tokens and the mass they stand for. tail: (n,) mass of all other tokens, or ``None`` where the tokens
            were drawn (an id may then come several times) and stand for all of it. weights and tail add up to 1.
        constant: (n,) the part that does not depend on P. entropy: (n,) H(Q) in nats, of the whole distribution.
        vocabulary: how many tokens Q knows.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    tail: torch.Tensor | None
    constant: torch.Tensor
    entropy: torch.Tensor
    vocabulary: int

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> CachedPositions:
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return CachedPositions(**{**vars(self), **moved})


def cached_objective(
    student_hidden: torch.Tensor,
    student_head: LogitHead,
    teacher: CachedPositions,
    targets: torch.Tensor,
    *,
    alpha: float,
    denominator: float | None = None,
    chunk_logits: int | None = None,
) -> Objective:
    """``objective`` with the teacher's distributions from a cache (``salad_train.training.teacher_cache`` says what that leaves out).

    The gradient by the logits stays closed: P − w at the kept tokens, and P·(1 − τ / P_tail) at all others, where τ is the teacher's
    mass there and P_tail the student's: what is known of the tail, its mass, moves all of it in proportion to P.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ModelError(f"alpha is {alpha}; expected a weight in [0, 1].")
    n = len(targets)
    if not n or len(student_hidden) != n or len(teacher) != n:
        raise ModelError(
            f"{n} targets, {len(student_hidden)} student and {len(teacher)} cached positions; expected equal and positive numbers."
        )
    _same_vocabulary(student_head, teacher)
    loss, sums = _ChunkedObjective.apply(
        student_hidden,
        student_head.weight,
        student_head.bias,
        student_head,
        _against_cache(teacher, targets, float(alpha)),
        float(alpha),
        float(n if denominator is None else denominator),
        chunk_logits,
    )
    kl_sum, nll_sum = sums.tolist()
    return Objective(loss, kl_sum, nll_sum, n)


@torch.no_grad()
def cached_divergences(
    hidden: torch.Tensor, head: LogitHead, teacher: CachedPositions, chunk_logits: int | None = None
) -> torch.Tensor:
    """KL(Q ‖ P) in nats at each position as far as the cache knows Q, (n,) float64, without gradients."""
    _same_vocabulary(head, teacher)
    parts = []
    for rows in position_chunks(len(hidden), head.weight.shape[0], chunk_logits):
        z = head.logits(hidden[rows])
        parts.append(_cached_kl(z, *softmax_and_lse(z), teacher, rows))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _same_vocabulary(head: LogitHead, teacher: CachedPositions) -> None:
    if head.weight.shape[0] != teacher.vocabulary:
        raise ModelError(
            f"the student's vocabulary has {head.weight.shape[0]} entries, the cached teacher's {teacher.vocabulary}; distillation needs "
            "the same tokenizer."
        )


def position_divergences(
    p_hidden: torch.Tensor,
    p_head: LogitHead,
    q_hidden: torch.Tensor,
    q_head: LogitHead,
    chunk_logits: int | None = None,
) -> torch.Tensor:
    """KL(Q ‖ P) in nats at each position, shape (n,), without gradients: the measure behind F, M and D."""
    values = []
    with torch.no_grad():
        for rows in position_chunks(len(p_hidden), p_head.weight.shape[0], chunk_logits):
            log_p = p_head.logits(p_hidden[rows]).log_softmax(-1)
            log_q = q_head.logits(q_hidden[rows]).log_softmax(-1)
            values.append((log_q.exp() * (log_q - log_p)).sum(-1))
    return torch.cat(values) if values else torch.zeros(0)


def position_chunks(n: int, vocabulary: int, chunk_logits: int | None = None) -> Iterator[slice]:
    """Slices that cover ``n`` positions, each of at most ``chunk_logits`` logits (but at least one position).

    ``None`` takes ``CHUNK_LOGITS``, and no fewer than ``CHUNK_ROWS`` positions.
    """
    most = max(CHUNK_LOGITS, CHUNK_ROWS * vocabulary) if chunk_logits is None else chunk_logits
    size = max(1, most // vocabulary)
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


# How a chunk is scored: its logits (n, vocabulary), which are left as they are, and its rows → the sums of KL and NLL in nats, and the
# gradient of α·KL + (1 − α)·NLL by the logits, if it is wanted.
_ChunkLoss = Callable[[torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]


class _ChunkedObjective(torch.autograd.Function):
    """See the module: value and gradients together, one chunk of positions at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: LogitHead,
        chunk_loss: _ChunkLoss,
        alpha: float,
        denominator: float,
        chunk_logits: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gradients = _Gradients(ctx.needs_input_grad[:3], hidden, weight, bias)
        totals = torch.zeros(2, dtype=torch.float64, device=hidden.device)
        for rows in position_chunks(len(hidden), weight.shape[0], chunk_logits):
            z = head.logits(hidden[rows])
            kl, nll, grad = chunk_loss(z, rows, gradients.wanted)
            totals[0] += kl
            totals[1] += nll
            if grad is not None:
                gradients.add(rows, _through_head(grad, z, head).div_(denominator))
            del z, grad  # before the next chunk's are made
        loss = (alpha * totals[0] + (1.0 - alpha) * totals[1]) / denominator
        ctx.save_for_backward(*gradients.finished())
        ctx.mark_non_differentiable(totals)
        return loss.to(gradients.exact), totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> tuple[Any, ...]:
        return (*scaled_gradients(ctx.saved_tensors, grad_loss), None, None, None, None, None)


def _against_teacher(
    teacher_hidden: torch.Tensor, teacher_head: LogitHead, targets: torch.Tensor, alpha: float
) -> _ChunkLoss:
    """Chunks scored against what the teacher's head makes of its hidden states."""

    def score(z: torch.Tensor, rows: slice, wants_grad: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        t = teacher_head.logits(teacher_hidden[rows].to(teacher_head.weight.dtype))
        q, mass_q, lse_q = softmax_and_lse(t)
        # KL = Σ q·(t − z) − (lse_q − lse_p): the large parts of t and z cancel before any of them is rounded.
        means = t.sub_(z).mul_(q).sum(-1).double() / mass_q
        del t  # before the next buffer is taken: three of them at a time are the most
        p, _, lse_p = softmax_and_lse(z)
        kl, nll = (means + lse_p - lse_q).sum(), _nll(z, lse_p, targets[rows]).sum()
        if not wants_grad:
            return kl, nll, None
        grad = p.sub_(q, alpha=alpha) if alpha else p
        return kl, nll, _less_targets(grad, targets[rows], alpha)

    return score


def _against_cache(teacher: CachedPositions, targets: torch.Tensor, alpha: float) -> _ChunkLoss:
    """Chunks scored against what is kept of the teacher."""

    def score(z: torch.Tensor, rows: slice, wants_grad: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        p, mass, lse = softmax_and_lse(z)
        kl, nll = _cached_kl(z, p, mass, lse, teacher, rows).sum(), _nll(z, lse, targets[rows]).sum()
        if not wants_grad:
            return kl, nll, None
        ids, kept = teacher.ids[rows], teacher.weights[rows].to(p.dtype)
        if teacher.tail is not None:
            p_kept = p.gather(-1, ids)
            p.scatter_(-1, ids, 0.0)
            ratio = teacher.tail[rows, None].to(p.dtype) / p.sum(-1, keepdim=True).clamp_min_(_least(p))
            p.mul_(ratio.mul_(-alpha).add_(1.0)).scatter_(-1, ids, p_kept)
        p.scatter_add_(-1, ids, kept * -alpha)
        return kl, nll, _less_targets(p, targets[rows], alpha)

    return score


def _nll(z: torch.Tensor, lse: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n,) float64."""
    return lse - z.gather(-1, targets[:, None])[:, 0].double()


def _less_targets(grad: torch.Tensor, targets: torch.Tensor, alpha: float) -> torch.Tensor:
    """``grad`` less the share of the targets that the NLL's part takes off, in place."""
    if alpha < 1.0:
        grad.scatter_add_(-1, targets[:, None], grad.new_full((len(grad), 1), alpha - 1.0))
    return grad


def _cached_kl(
    z: torch.Tensor, p: torch.Tensor, mass: torch.Tensor, lse: torch.Tensor, teacher: CachedPositions, rows: slice
) -> torch.Tensor:
    """KL of each position of a chunk, (n,) float64; z logits, the others of ``softmax_and_lse``."""
    ids = teacher.ids[rows]
    log_p = z.gather(-1, ids).double() - lse[:, None]
    kl = teacher.constant[rows].double() - (teacher.weights[rows].double() * log_p).sum(-1)
    if teacher.tail is not None:
        # The student's mass in the tail, by summing it: 1 − Σ of the kept would be all rounding where little is left.
        rest = p.scatter(-1, ids, 0.0).sum(-1).clamp_min_(_least(p)).double()
        kl -= teacher.tail[rows].double() * (rest / mass).log()
    return kl


def _least(p: torch.Tensor) -> float:
    return float(torch.finfo(p.dtype).tiny)


# --- Liger -----------------------------------------------------------------------------------------------------------


def _liger_objective(
    student_hidden: torch.Tensor,
    student_head: LogitHead,
    teacher_hidden: torch.Tensor,
    teacher_head: LogitHead,
    targets: torch.Tensor,
    *,
    alpha: float,
    denominator: float,
    chunk_logits: int | None,
) -> Objective:
    """The same loss by liger-kernel: it divides by its own count of positions, so the sums are multiplied out again."""
    try:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    except ImportError:
        raise MissingExtraError(
            "the objective's liger backend", "liger-kernel", "pip install 'salad-gap[liger]'"
        ) from None
    bent = [
        name
        for name, head in (("student", student_head), ("teacher", teacher_head))
        if head.softcap or head.scale != 1.0
    ]
    if bent:
        raise ModelError(
            f"the {bent[0]}'s head scales or caps its logits, which liger-kernel's loss does not; use the torch backend."
        )
    first = next(position_chunks(len(targets), student_head.weight.shape[0], chunk_logits))
    liger = LigerFusedLinearJSDLoss(
        weight_hard_loss=1.0 - alpha,
        weight_soft_loss=alpha,
        beta=0.0,  # its generalised Jensen–Shannon divergence is then KL(teacher ‖ student)
        compiled=student_hidden.is_cuda,  # compiling takes longer than it saves elsewhere
        chunk_size=first.stop,
        return_soft_hard_loss=True,
    )
    teacher_weight = teacher_head.weight.detach()
    dtype = student_hidden.dtype
    loss, soft, hard = liger(
        student_hidden,
        student_head.weight.to(dtype),
        teacher_hidden.to(teacher_weight.dtype).to(dtype),
        teacher_weight.to(dtype),
        targets,
        None if student_head.bias is None else student_head.bias.to(dtype),
        None if teacher_head.bias is None else teacher_head.bias.detach().to(dtype),
    )
    n = len(targets)
    return Objective(loss * (n / denominator), float(soft.detach()) * n, float(hard.detach()) * n, n)


# --- what every chunked loss is made of ------------------------------------------------------------------------------


def softmax_and_lse(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """softmax, (n, v), its sum, and logsumexp, (n,) float64 each.

    The softmax of 152k logits in float32 adds up to 1 within some 1e-5 only, and a log-softmax is off by as much. With m the
    place of the greatest logit, z_m − log(p_m / Σp) is good to the rounding of the logits themselves.
    """
    p = logits.softmax(-1)
    mass = p.sum(-1).double()
    return p, mass, logits.amax(-1).double() - (p.amax(-1).double() / mass).log()


def _through_head(grad: torch.Tensor, logits: torch.Tensor, head: LogitHead) -> torch.Tensor:
    """From the gradient by the logits to that by W·h + b, in place; ``logits`` are lost."""
    if head.scale != 1.0:
        grad.mul_(head.scale)
    if head.softcap is not None:
        grad.mul_(logits.div_(head.softcap).square_().neg_().add_(1.0))
    return grad


class _Gradients:
    """The gradients of hidden states, head and bias, gathered a chunk at a time in at least float32."""

    def __init__(
        self, wants: Sequence[bool], hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self.states, self.weight, self.bias = hidden, weight, bias
        self.exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.wanted = any(wants)
        self.matrix = weight.to(hidden.dtype) if wants[0] else weight
        self.of_hidden = torch.empty_like(hidden) if wants[0] else None
        self.of_weight = torch.zeros_like(weight, dtype=self.exact) if wants[1] else None
        self.of_bias = torch.zeros_like(bias, dtype=self.exact) if wants[2] and bias is not None else None

    def add(self, rows: slice, grad: torch.Tensor) -> None:
        """``grad``: (rows, vocabulary), by W·h + b."""
        if self.of_bias is not None:
            self.of_bias += grad.sum(0)
        grad, states = grad.to(self.states.dtype), self.states[rows]
        if self.of_hidden is not None:
            torch.mm(grad, self.matrix, out=self.of_hidden[rows])
        if self.of_weight is not None:
            if grad.dtype == self.exact:
                self.of_weight.addmm_(grad.t(), states)
            else:
                self.of_weight += grad.t() @ states

    def finished(self) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """In the dtypes of what they are the gradients of."""
        return (
            self.of_hidden,
            None if self.of_weight is None else self.of_weight.to(self.weight.dtype),
            None if self.of_bias is None or self.bias is None else self.of_bias.to(self.bias.dtype),
        )


def scaled_gradients(saved: Sequence[torch.Tensor | None], grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The saved gradients times the incoming one. In place where the graph is freed after this pass: the head's gradient is
    the largest tensor there is, and a copy of it would double what the loss takes."""
    if _keeps_graph():
        return tuple(None if g is None else g * grad_loss.to(g.dtype) for g in saved)
    return tuple(None if g is None else g.mul_(grad_loss.to(g.dtype)) for g in saved)


def _keeps_graph() -> bool:
    """Whether the running backward pass may be followed by another over the same graph (``retain_graph=True``). PyTorch has no
    public name for this; where its own is missing, assume so."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if ask is None else bool(ask())
