"""Muon and AdamW over disjoint parameters, as the one optimiser that trainers and schedulers expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from salad_train.training.precision import multiplies_bfloat16


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that are trained alike. ``method`` "muon" takes matrices only. ``lr`` is the peak learning rate."""

    parameters: Sequence[torch.nn.Parameter]
    lr: float
    weight_decay: float = 0.0
    method: Literal["adamw", "muon"] = "adamw"


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimisers over disjoint parameters, used, saved and scheduled as one.

    Groups and state are shared with the parts, so that whoever changes a learning rate, swaps a parameter for its shard or
    loads a state through this one reaches them.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        for part in parts:
            part.state = self.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if hasattr(self, "_parts"):
            raise TypeError(
                "a CombinedOptimizer takes no further groups: it could not tell which part should train them"
            )
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)  # which makes new containers
        start = 0
        for part in self._parts:
            n = len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[start : start + n]
            start += n

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def moment_names(self) -> dict[torch.nn.Parameter, tuple[str, ...]]:
        """Names of the tensors that are kept for each parameter once it has been stepped."""
        return {
            parameter: _MOMENTS[type(part)]
            for part in self._parts
            for group in part.param_groups
            for parameter in group["params"]
        }


class StackedMuon(torch.optim.Muon):
    """``torch.optim.Muon``, taking all matrices of one shape through the Newton–Schulz iterations at once.

    The same updates but for the rounding of bfloat16 (to the bit on the CPU where it was tried). Adapters have dozens of matrices in a
    few shapes: on a CPU, many small products take longer one by one than together; on a GPU it is as many launches fewer. Matrices
    that are sharded go one by one. Nesterov's momentum; rates of tall matrices are raised as in Jordan's own ("original").
    """

    def __init__(self, parameters: Any, *, momentum: float = 0.95, ns_steps: int = 5) -> None:
        super().__init__(parameters, momentum=momentum, ns_steps=ns_steps, nesterov=True, adjust_lr_fn="original")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        from torch.distributed.tensor import DTensor

        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(isinstance(parameter, DTensor) for parameter in parameters):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[Any, ...], list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    key = (parameter.shape, parameter.dtype, parameter.device)
                    alike.setdefault(key, []).append(parameter)
            for matrices in alike.values():
                self._step_together(group, matrices)
        return loss

    def _step_together(self, group: dict[str, Any], matrices: list[torch.Tensor]) -> None:
        gradients: list[torch.Tensor] = [parameter.grad for parameter in matrices if parameter.grad is not None]
        for parameter, gradient in zip(matrices, gradients, strict=True):
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's
        steps = orthogonalised(
            torch.stack(directions), group["ns_coefficients"], n_iterations=group["ns_steps"], eps=group["eps"]
        )
        height, width = matrices[0].shape
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(
            matrices, list(steps.to(matrices[0].dtype)), alpha=-group["lr"] * max(1.0, height / width) ** 0.5
        )


def orthogonalised(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], *, n_iterations: int, eps: float
) -> torch.Tensor:
    """Matrices (n, h, w) with singular values brought near 1 by Newton–Schulz iterations in bfloat16 (Jordan et al., 2024).

    A processor without bfloat16 products of its own makes them ten times slower than float32's. There the same bfloat16 numbers are
    multiplied as float32, and each result is rounded to bfloat16: the same but for the order in which products are summed up.
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.stack([one.norm() for one in x]).clamp(min=eps)[:, None, None]  # so that no singular value is above 1
    carrier = x.dtype if multiplies_bfloat16(x.device) else torch.float32
    x = x.to(carrier)
    for _ in range(n_iterations):
        gram = _as_bfloat16(torch.bmm(x, x.mT))
        polynomial = _as_bfloat16(torch.baddbmm(gram, gram, gram, beta=b, alpha=c))
        x = _as_bfloat16(torch.baddbmm(x, polynomial, x, beta=a))
    x = x.bfloat16()
    return x.mT if tall else x


def _as_bfloat16(x: torch.Tensor) -> torch.Tensor:
    """Rounded to what bfloat16 can hold, in the dtype it has."""
    return x.bfloat16().to(x.dtype)


_MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    StackedMuon: ("momentum_buffer",),
}


def make_optimizer(
    groups: Iterable[ParameterGroup],
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool | None = None,
    muon_steps: int = 5,
) -> CombinedOptimizer:
    """Muon (Jordan et al., 2024; momentum 0.95) for the groups that ask for it, AdamW for the others; empty ones are left
    out.

    ``betas`` and ``fused`` are AdamW's; where ``fused`` is not said, it is so on devices that can: parameters and moments are then read
    once a step, and not once for each of its operations. ``muon_steps`` are Newton–Schulz iterations. Raises ``ValueError`` where
    nothing is left to train.
    """
    by_method: dict[str, list[dict[str, Any]]] = {"muon": [], "adamw": []}
    for group in groups:
        if group.parameters:
            by_method[group.method].append(
                {"params": list(group.parameters), "lr": group.lr, "weight_decay": group.weight_decay}
            )
    parts: list[torch.optim.Optimizer] = []
    if by_method["muon"]:
        muon = StackedMuon(by_method["muon"], momentum=0.95, ns_steps=muon_steps)
        parts.append(muon)
    if by_method["adamw"]:
        devices = {parameter.device.type for group in by_method["adamw"] for parameter in group["params"]}
        fuses = devices <= {"cpu", "cuda"} if fused is None else fused
        parts.append(torch.optim.AdamW(by_method["adamw"], betas=betas, fused=fuses))
    if not parts:
        raise ValueError("no parameters to train")
    return CombinedOptimizer(*parts)


class RateSchedule(torch.optim.lr_scheduler.LambdaLR):
    """Each group's peak learning rate times ``rate(step)``, a pure function of the step: it can be put at any step."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: Callable[[int], float]) -> None:
        self.rate = rate
        super().__init__(optimizer, rate)

    def go_to(self, step: int) -> None:
        """Be where ``step`` calls of ``step()`` from the beginning would have led."""
        self.last_epoch = step
        for group, peak in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = peak * self.rate(step)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
