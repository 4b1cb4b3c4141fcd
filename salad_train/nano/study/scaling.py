"""What the scaling study fits: M = E + B·x^(−β) against the amount of data, and how much of an accuracy a divergence explains.

Cuervo et al. (arXiv 2510.13632) fit misalignment against data by M = E + B·D^(−β), where E is what no amount of data removes,
and report leave-one-out and partial R² of accuracies on M and F. Intervals come of a bootstrap over *units*: all points of one
run (one seed) come or go together, since they share their initialisation and their data. With 5 runs of 6 points and planted
parameters they cover in 93 to 95% of simulations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salad_eval.errors import UserInputError
from salad_eval.types import Estimate

CONFIDENCE = 0.95
BETA_BOUNDS = (1e-3, 10.0)  # beyond these a curve over a few decades of data is a straight line or a step
TIGHT = 1e-6  # how near to a bound, in units of what is fitted, counts as on it


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """value = e + b·(x / scale)^(−beta), with e, b ≥ 0 and beta > 0.

    Attributes:
        scale: the geometric mean of the data the law was fitted to: ``b`` is then the removable part there, in the unit of the
            value, and hardly depends on ``beta``. ``coefficient`` is the B of the plain form.
    """

    e: float
    b: float
    beta: float
    scale: float

    @property
    def coefficient(self) -> float:
        """B of value = E + B·x^(−β)."""
        return self.b * self.scale**self.beta

    def __call__(self, x: Any) -> np.ndarray:
        return np.asarray(self.e + self.b * (np.asarray(x, dtype=np.float64) / self.scale) ** (-self.beta))


@dataclass(frozen=True, slots=True)
class PowerLawFit:
    """A fitted law with 95% intervals; each ``Estimate.n`` is the number of units (runs) resampled.

    Attributes:
        at_bound: parameters that ran to the end of what is allowed, in words. Where not empty, the data do not determine the
            law: "e = 0" (still falling: no floor in sight), "b = 0" (no fall), "beta = …" (a step or a straight line).
        r2: share of the values' variance that the law explains.
        n_failed: resamples that could not be fitted (fewer than 3 distinct x); intervals leave them out.
    """

    law: PowerLaw
    e: Estimate
    b: Estimate
    beta: Estimate
    at_bound: tuple[str, ...]
    r2: float
    n_points: int
    n_failed: int


def fit_power_law(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    *,
    units: Sequence[str] | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> PowerLawFit:
    """Least squares fit of y = E + B·x^(−β), E ≥ 0, B ≥ 0, β > 0.

    Args:
        x: amount of data, > 0, in any unit; at least 3 distinct values. y: divergences in nats, of the same length.
        units: which run each point belongs to; ``None``: each point is one of its own.

    For a given β the law is linear in (E, B): the fit is variable projection (Golub & Pereyra 1973), a search over β alone with
    the other two solved exactly, so it cannot stop in a local minimum of three parameters. Raises ``UserInputError`` for too
    few points, for values that are not finite, and where all y are the same.
    """
    xs, ys = _columns(x, y)
    names, of_point = _units(units, len(xs))
    if (xs <= 0).any():
        raise UserInputError(f"x holds {float(xs.min())}; a power law needs amounts of data above 0.")
    if len(np.unique(xs)) < 3:
        raise UserInputError(
            f"{len(xs)} points at {len(np.unique(xs))} distinct amounts of data; a law of three parameters needs at least 3."
        )
    if np.ptp(ys) == 0:
        raise UserInputError(f"all {len(ys)} values are {float(ys[0])}: there is no fall to fit a law to.")
    scale = float(np.exp(np.log(xs).mean()))
    e, b, beta = _fit(xs / scale, ys)
    law = PowerLaw(e, b, beta, scale)
    draws, n_failed = [], 0
    if len(names) > 1:
        rng = np.random.default_rng(seed)
        points = [np.flatnonzero(of_point == k) for k in range(len(names))]
        for _ in range(n_resamples):
            rows = np.concatenate([points[k] for k in rng.integers(len(names), size=len(names))])
            if len(np.unique(xs[rows])) < 3:
                n_failed += 1
                continue
            draws.append(_fit(xs[rows] / scale, ys[rows]))
    es, bs, betas = np.array(draws).T if draws else (np.empty(0),) * 3
    residual = float(np.square(ys - law(xs)).sum())
    return PowerLawFit(
        law=law,
        e=_interval(e, es, len(names), 0.0, math.inf),
        b=_interval(b, bs, len(names), 0.0, math.inf),
        beta=_interval(beta, betas, len(names), *BETA_BOUNDS),
        at_bound=_at_bound(e, b, beta, float(np.ptp(ys))),
        r2=1.0 - residual / float(np.square(ys - ys.mean()).sum()),
        n_points=len(xs),
        n_failed=n_failed,
    )


def leave_one_out_r2(y: Sequence[float] | np.ndarray, columns: Sequence[Sequence[float]] | np.ndarray) -> float:
    """1 − Σ(yᵢ − ŷ₋ᵢ)² / Σ(yᵢ − ȳ)², where ŷ₋ᵢ is the prediction for point i of a linear fit (with intercept) to all others: the R²
    of left-out predictions. Below 0 where they are worse than the mean of all.

    Args:
        y: (n,). columns: (n,) or (n, k) predictors.

    Residuals come from the hat matrix, eᵢ / (1 − hᵢᵢ), not from n fits. Raises ``UserInputError`` for fewer than k + 3 points,
    values that are not finite, constant y, and predictors that are constant or linearly dependent, also without one point.
    """
    ys, matrix = _design(y, columns)
    if np.ptp(ys) == 0:
        raise UserInputError(f"all {len(ys)} values of y are {float(ys[0])}: there is no variance to explain.")
    return float(1.0 - np.square(_left_out_residuals(ys, matrix)).sum() / np.square(ys - ys.mean()).sum())


def partial_r2(
    y: Sequence[float] | np.ndarray,
    columns: Sequence[Sequence[float]] | np.ndarray,
    given: Sequence[Sequence[float]] | np.ndarray,
) -> float:
    """Share of the variance of ``y`` left unexplained by ``given`` that ``columns`` explain beside it: (SSE_given − SSE_both) /
    SSE_given of linear fits with intercept, in [0, 1].

    Args:
        y: (n,). columns, given: (n,) or (n, k). Raises ``UserInputError`` as ``leave_one_out_r2``, and where ``given`` explains y
            wholly.
    """
    ys, reduced = _design(y, given)
    _, full = _design(y, np.column_stack([_as_columns(given), _as_columns(columns)]))
    before, after = _sse(ys, reduced), _sse(ys, full)
    if before <= 1e-20 * float(np.square(ys).sum()) or np.ptp(ys) == 0:
        raise UserInputError("the given columns explain y wholly: nothing is left for others to explain.")
    return float(min(1.0, max(0.0, (before - after) / before)))


def bootstrap_r2(
    y: Sequence[float] | np.ndarray,
    columns: Sequence[Sequence[float]] | np.ndarray,
    *,
    given: Sequence[Sequence[float]] | np.ndarray | None = None,
    units: Sequence[str] | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> Estimate:
    """``partial_r2`` beside ``given``, or ``leave_one_out_r2`` without, with a 95% bootstrap interval over ``units``.

    In a resample of whole units the same point may come several times; "one out" then leaves out all of its copies, or the
    fit would have seen the point it predicts. ``Estimate.n`` is the number of units; no interval from fewer than 2 of them.
    """
    ys, xs = np.asarray(y, dtype=np.float64), _as_columns(columns)
    beside = None if given is None else _as_columns(given)
    value = leave_one_out_r2(ys, xs) if beside is None else partial_r2(ys, xs, beside)
    names, of_point = _units(units, len(ys))
    if len(names) < 2:
        return Estimate(value, None, None, len(names))
    rng = np.random.default_rng(seed)
    points = [np.flatnonzero(of_point == k) for k in range(len(names))]
    draws = []
    for _ in range(n_resamples):
        rows = np.concatenate([points[k] for k in rng.integers(len(names), size=len(names))])
        distinct, counts = np.unique(rows, return_counts=True)
        try:
            if beside is None:
                draws.append(_weighted_leave_one_out_r2(ys[distinct], xs[distinct], counts))
            else:
                draws.append(partial_r2(ys[rows], xs[rows], beside[rows]))
        except UserInputError:  # a resample of too few distinct points says nothing
            continue
    return _interval(value, np.array(draws), len(names), -math.inf if beside is None else 0.0, 1.0)


# --- fits ------------------------------------------------------------------------------------------------------------


def _fit(u: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """(e, b, beta) of y = e + b·u^(−beta): a grid over log beta, then a bounded search in the best cell."""
    from scipy.optimize import minimize_scalar

    log_u = np.log(u)

    def error(log_beta: float) -> float:
        return _line(np.exp(-math.exp(log_beta) * log_u), y)[2]

    grid = np.linspace(math.log(BETA_BOUNDS[0]), math.log(BETA_BOUNDS[1]), 41)
    best = int(np.argmin([error(g) for g in grid]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    found = minimize_scalar(error, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    log_beta = float(found.x) if found.fun <= error(grid[best]) else float(grid[best])
    e, b, _ = _line(np.exp(-math.exp(log_beta) * log_u), y)
    return e, b, math.exp(log_beta)


def _line(v: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """(e, b, Σ residual²) of the least squares fit y = e + b·v with e, b ≥ 0. A convex problem of two parameters: where the free
    solution is not allowed, the best of the two edges."""
    dv, dy = v - v.mean(), y - y.mean()
    spread = float(dv @ dv)
    b = float(dv @ dy) / spread if spread > 0 else 0.0
    e = float(y.mean() - b * v.mean())
    candidates = [(e, b)] if e >= 0 and b >= 0 else []
    if not candidates:
        candidates = [(0.0, max(0.0, float(v @ y) / float(v @ v))), (max(0.0, float(y.mean())), 0.0)]
    scored = [(e, b, float(np.square(y - e - b * v).sum())) for e, b in candidates]
    return min(scored, key=lambda one: one[2])


def _at_bound(e: float, b: float, beta: float, spread: float) -> tuple[str, ...]:
    found = []
    if e <= TIGHT * spread:
        found.append("e = 0")
    if b <= TIGHT * spread:
        found.append("b = 0")
    for bound in BETA_BOUNDS:
        if abs(math.log(beta / bound)) < 1e-3:
            found.append(f"beta = {bound:g}")
    return tuple(found)


def _sse(y: np.ndarray, matrix: np.ndarray) -> float:
    solution = np.linalg.lstsq(matrix, y, rcond=None)[0]
    return float(np.square(y - matrix @ solution).sum())


def _left_out_residuals(y: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """yᵢ − ŷ₋ᵢ for every i."""
    q, _ = np.linalg.qr(matrix)
    leverage = np.square(q).sum(axis=1)
    if (leverage > 1 - 1e-9).any():
        point = int(np.argmax(leverage))
        raise UserInputError(
            f"point {point} alone determines a coefficient: without it the predictors are constant or dependent."
        )
    return np.asarray((y - q @ (q.T @ y)) / (1 - leverage))


def _weighted_leave_one_out_r2(y: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> float:
    """``leave_one_out_r2`` of a resample that holds point i ``counts[i]`` times, all copies of a point left out together.

    Weighted least squares without point i predicts with the residual eᵢ / (1 − hᵢᵢ), h the leverage in the weighted metric.
    """
    ys, matrix = _design(y, columns)
    if np.ptp(ys) == 0:
        raise UserInputError("all y are the same")
    root = np.sqrt(counts)
    press = np.square(_left_out_residuals(root * ys, root[:, None] * matrix)).sum()
    return float(1.0 - press / (counts @ np.square(ys - np.average(ys, weights=counts))))


# --- input -----------------------------------------------------------------------------------------------------------


def _columns(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise UserInputError(f"x has shape {xs.shape}, y {ys.shape}; expected two columns of one length.")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise UserInputError("x or y holds NaN or infinity; leave out points that were not measured.")
    return xs, ys


def _as_columns(values: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    columns = np.asarray(values, dtype=np.float64)
    return columns[:, None] if columns.ndim == 1 else columns


def _design(
    y: Sequence[float] | np.ndarray, columns: Sequence[Sequence[float]] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """y and the predictors with an intercept, checked. Predictors are brought to unit size: rank is then no matter of units."""
    ys, xs = np.asarray(y, dtype=np.float64), _as_columns(columns)
    if ys.ndim != 1 or xs.ndim != 2 or len(xs) != len(ys):
        raise UserInputError(f"y has shape {ys.shape}, the predictors {xs.shape}; expected (n,) and (n,) or (n, k).")
    if not (np.isfinite(ys).all() and np.isfinite(xs).all()):
        raise UserInputError("y or a predictor holds NaN or infinity; leave out points that were not measured.")
    if len(ys) < xs.shape[1] + 3:
        raise UserInputError(f"{len(ys)} points for {xs.shape[1]} predictors; expected at least {xs.shape[1] + 3}.")
    centred = xs - xs.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    if (size <= 1e-12 * (1 + np.abs(xs).max(axis=0))).any():
        raise UserInputError(
            f"predictor {int(np.argmin(size))} is constant over the {len(ys)} points: it can explain nothing."
        )
    matrix = np.column_stack([np.full(len(ys), 1 / math.sqrt(len(ys))), centred / size])
    if np.linalg.matrix_rank(matrix, tol=1e-9) < matrix.shape[1]:
        raise UserInputError("the predictors are linearly dependent: their parts in y cannot be told apart.")
    return ys, matrix


def _units(units: Sequence[str] | None, n: int) -> tuple[list[str], np.ndarray]:
    """The units in sorted order, and the number of each point's."""
    if units is None:
        return [str(k) for k in range(n)], np.arange(n)
    if len(units) != n:
        raise UserInputError(f"{len(units)} units for {n} points; expected one each.")
    names, of_point = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    return names.tolist(), of_point


def _interval(value: float, draws: np.ndarray, n: int, least: float, greatest: float) -> Estimate:
    """The bootstrap's 95% percentiles, drawn wider for their being estimated from few units; always holds the value.

    Resampling G units gives a variance smaller by (G − 1) / G than the unbiased one, and Student's t takes the normal quantile's
    place: √(G / (G − 1)) · t(G − 1) / z, which is 1.58 for five seeds and 1.02 for a hundred. None where nothing could be drawn.
    """
    from scipy import stats

    if len(draws) == 0 or n < 2:
        return Estimate(value, None, None, n)
    level = (1 + CONFIDENCE) / 2
    factor = math.sqrt(n / (n - 1)) * float(stats.t.ppf(level, n - 1) / stats.norm.ppf(level))
    low, high = np.quantile(draws, [1 - level, level])
    low, high = value - factor * (value - float(low)), value + factor * (float(high) - value)
    return Estimate(value, min(value, max(least, low)), max(value, min(greatest, high)), n)
