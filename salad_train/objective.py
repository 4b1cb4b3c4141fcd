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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from salad_eval.errors import ModelError

DEFAULT_CHUNK_LOGITS = 1 << 22  # logits of one model held at a time: 16 MiB in float32


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
    """What a batch was scored: ``loss`` carries gradients; the sums (nats over ``n`` positions) are for the log."""

    loss: torch.Tensor
    kl_sum: float
    nll_sum: float
    n: int


def objective(
    student_hidden: torch.Tensor,
    student_head: LogitHead,
    teacher_hidden: torch.Tensor,
    teacher_head: LogitHead,
    targets: torch.Tensor,
    *,
    alpha: float,
    denominator: float | None = None,
    chunk_logits: int = DEFAULT_CHUNK_LOGITS,
) -> Objective:
    """The training loss of one batch of scored positions.

    Args:
        student_hidden: (n, student width), with gradients. teacher_hidden: (n, teacher width), taken as constants.
        targets: (n,) ids of the tokens that come next.
        alpha: weight of the distillation in [0, 1].
        denominator: scored tokens of the *whole* optimiser step, over all micro-batches and processes; ``None``: of
            this batch.
        chunk_logits: at most this many logits of a model are held at a time (at least one position's).

    Raises ``ModelError`` for vocabularies of different sizes and where no position is scored.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ModelError(f"alpha is {alpha}; expected a weight in [0, 1].")
    n = len(targets)
    if not n or len(student_hidden) != n or len(teacher_hidden) != n:
        raise ModelError(
            f"{n} targets, {len(student_hidden)} student and {len(teacher_hidden)} teacher positions; expected equal and positive numbers."
        )
    if student_head.weight.shape[0] != teacher_head.weight.shape[0]:
        raise ModelError(
            f"the student's vocabulary has {student_head.weight.shape[0]} entries, the teacher's {teacher_head.weight.shape[0]}; "
            "distillation needs the same tokenizer."
        )
    loss, sums = _ChunkedObjective.apply(
        student_hidden,
        student_head.weight,
        student_head.bias,
        teacher_hidden.detach(),
        student_head,
        teacher_head,
        targets,
        float(alpha),
        float(n if denominator is None else denominator),
        chunk_logits,
    )
    kl_sum, nll_sum = sums.tolist()
    return Objective(loss, kl_sum, nll_sum, n)


def position_divergences(
    p_hidden: torch.Tensor,
    p_head: LogitHead,
    q_hidden: torch.Tensor,
    q_head: LogitHead,
    chunk_logits: int = DEFAULT_CHUNK_LOGITS,
) -> torch.Tensor:
    """KL(Q ‖ P) in nats at each position, shape (n,), without gradients: the measure behind F, M and D."""
    values = []
    with torch.no_grad():
        for rows in _chunks(len(p_hidden), p_head.weight.shape[0], chunk_logits):
            log_p = p_head.logits(p_hidden[rows]).log_softmax(-1)
            log_q = q_head.logits(q_hidden[rows]).log_softmax(-1)
            values.append((log_q.exp() * (log_q - log_p)).sum(-1))
    return torch.cat(values) if values else torch.zeros(0)


def _chunks(n: int, vocabulary: int, chunk_logits: int) -> Iterator[slice]:
    size = max(1, chunk_logits // vocabulary)
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


class _ChunkedObjective(torch.autograd.Function):
    """See the module: value and gradients together, one chunk of positions at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        teacher_hidden: torch.Tensor,
        head: LogitHead,
        teacher_head: LogitHead,
        targets: torch.Tensor,
        alpha: float,
        denominator: float,
        chunk_logits: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        compute = hidden.dtype
        matrix = weight.to(compute)
        exact = torch.float64 if compute == torch.float64 else torch.float32
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=exact) if wants_bias and bias is not None else None
        totals = torch.zeros(2, dtype=torch.float64, device=hidden.device)
        for rows in _chunks(len(hidden), weight.shape[0], chunk_logits):
            h = hidden[rows]
            z = head.logits(h)
            # d logits / d (W·h + b), before z is overwritten
            slope = None if head.softcap is None else (1.0 - (z / head.softcap).square())
            log_p = z.sub_(z.logsumexp(-1, keepdim=True))
            picked = log_p.gather(-1, targets[rows, None])
            totals[1] -= picked.sum(dtype=torch.float64)
            log_q = teacher_head.logits(teacher_hidden[rows].to(teacher_head.weight.dtype))
            log_q.sub_(log_q.logsumexp(-1, keepdim=True))
            q = log_q.exp()
            totals[0] += torch.einsum("nv,nv->n", q, log_q.sub_(log_p)).sum(dtype=torch.float64)
            if not (wants_hidden or wants_weight or wants_bias):
                continue
            grad = log_p.exp_().sub_(q, alpha=alpha) if alpha else log_p.exp_()
            if alpha < 1.0:
                grad.scatter_add_(-1, targets[rows, None], grad.new_full((len(h), 1), alpha - 1.0))
            grad.mul_(head.scale / denominator)
            if slope is not None:
                grad.mul_(slope)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(compute)
            if grad_hidden is not None:
                torch.mm(grad, matrix, out=grad_hidden[rows])
            if grad_weight is not None:
                if compute == exact:
                    grad_weight.addmm_(grad.t(), h)
                else:
                    grad_weight += grad.t() @ h
        loss = (alpha * totals[0] + (1.0 - alpha) * totals[1]) / denominator
        ctx.save_for_backward(
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
        )
        ctx.mark_non_differentiable(totals)
        return loss.to(exact), totals

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> tuple[Any, ...]:
        grads = [None if g is None else g * grad_loss.to(g.dtype) for g in ctx.saved_tensors]
        return (*grads, None, None, None, None, None, None, None)
