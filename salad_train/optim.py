"""Muon and AdamW over disjoint parameters, as the one optimiser that trainers and schedulers expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch


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


_MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.Muon: ("momentum_buffer",),
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

    ``betas`` and ``fused`` are AdamW's; ``muon_steps`` are Newton–Schulz iterations. Raises ``ValueError`` where nothing is left to train.
    """
    by_method: dict[str, list[dict[str, Any]]] = {"muon": [], "adamw": []}
    for group in groups:
        if group.parameters:
            by_method[group.method].append(
                {"params": list(group.parameters), "lr": group.lr, "weight_decay": group.weight_decay}
            )
    parts: list[torch.optim.Optimizer] = []
    if by_method["muon"]:
        muon = torch.optim.Muon(by_method["muon"], momentum=0.95, adjust_lr_fn="original", ns_steps=muon_steps)
        parts.append(muon)
    if by_method["adamw"]:
        parts.append(torch.optim.AdamW(by_method["adamw"], betas=betas, fused=fused))
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
