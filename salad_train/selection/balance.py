"""Assignments of equal size: prices that even clusters out, and exchanges that settle the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

FIRST_SAMPLE = 2048  # points the starts are tried on, where the corpus has more
LARGE = 1 << 13  # points beyond which one exact assignment, after a nearly exact one, has to do
MANY_ASTRAY, FEW_ASTRAY = 0.3, 0.005  # shares of the points: prices are far off, prices are nearly right
NEWTON_RATIO = 4.0  # |ln(size / target)| from which on Newton's step is not worth trying
RIDGE = 1e-3  # keeps the Hessian regular where no point lies between two clusters
COSTS_AT_ONCE = 1 << 20  # costs (points × clusters) a block holds: they stay in cache
NEAR_SHARE = 0.3  # of the points, those nearest a border, tell how fast sizes follow prices
SAME_COST = 4 * float(np.finfo(np.float32).eps)  # costs nearer than this, at data of unit scale, are equal


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points made fit for float32: mean zero, largest absolute coordinate one.

    ``rows`` (n, d) and ``columns`` (d + 1, n), its transpose with a row of ones, so that one matrix product adds
    offsets too.
    """

    rows: np.ndarray
    columns: np.ndarray
    n_threads: int

    @property
    def n(self) -> int:
        return len(self.rows)

    def blocks(self, k: int) -> list[slice]:
        size = max(256, COSTS_AT_ONCE // k)
        return [slice(start, min(start + size, self.n)) for start in range(0, self.n, size)]

    def head(self, n: int) -> Points:
        return self if n >= self.n else Points(self.rows[:n], self.columns[:, :n], self.n_threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """What one reading of all points at given centroids and prices tells.

    ``labels`` and ``second`` (n,): the cheapest cluster and the next; ``margin`` (n,) ≥ 0: how much dearer the next is;
    ``cost``: the sum of the cheapest |c|² − 2·x·c + price.
    """

    labels: np.ndarray
    second: np.ndarray
    margin: np.ndarray
    counts: np.ndarray
    cost: float


def each_block(points: Points, work: Callable[[slice], Any], k: int) -> list[Any]:
    """``work`` of every block, in order; numpy lets go of the interpreter, so threads are enough."""
    blocks = points.blocks(k)
    if points.n_threads == 1 or len(blocks) == 1:
        return [work(part) for part in blocks]
    with ThreadPoolExecutor(points.n_threads) as pool:
        return list(pool.map(work, blocks))


def mean_margin(points: Points, centroids: np.ndarray, prices: np.ndarray) -> float:
    """The scale of temperatures: how much dearer the second cluster is, over the first points."""
    return max(float(scan_points(points.head(FIRST_SAMPLE), centroids, prices).margin.mean()), SAME_COST)


def _weights(centroids: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """(K, d + 1) float32, which times ``Points.columns`` is |c|² − 2·x·c + price: squared distance plus price, less
    |x|².
    """
    offsets = np.einsum("kd,kd->k", centroids, centroids) + prices
    return np.concatenate([-2 * centroids, offsets[:, None]], axis=1).astype(np.float32)


def scan_points(points: Points, centroids: np.ndarray, prices: np.ndarray) -> _Scan:
    """Read all points once."""
    k = len(centroids)
    weights = _weights(centroids, prices)
    kind = np.min_scalar_type(k)
    names = np.arange(1, k + 1, dtype=kind)[:, None]

    def name(costs: np.ndarray, least: np.ndarray) -> np.ndarray:
        # The largest index at the minimum; several times faster than argmin along the first axis.
        return ((costs == least) * names).max(axis=0) - 1

    def read(part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        costs = weights @ points.columns[:, part]
        least = costs.min(axis=0)
        labels = name(costs, least)
        if k == 1:
            return labels, labels, np.full(len(labels), np.inf, np.float32), float(least.sum(dtype=np.float64))
        costs[labels, np.arange(len(labels))] = np.inf
        next_least = costs.min(axis=0)
        return labels, name(costs, next_least), next_least - least, float(least.sum(dtype=np.float64))

    labels, second, margin, cost = zip(*each_block(points, read, k), strict=True)
    merged = np.concatenate(labels)
    return _Scan(
        merged.astype(np.int32),
        np.concatenate(second),
        np.concatenate(margin),
        np.bincount(merged, minlength=k),
        sum(cost),
    )


@dataclass(frozen=True, slots=True, eq=False)
class SoftScan:
    """Soft sizes (K,), sums (K, d) and overlaps (K, K) at a temperature; ``value`` is the smoothed dual."""

    mass: np.ndarray
    sums: np.ndarray
    overlap: np.ndarray
    value: float


def _soft_scan(
    points: Points,
    centroids: np.ndarray,
    prices: np.ndarray,
    temperature: float,
    *,
    with_sums: bool,
    distances: np.ndarray | None = None,
) -> SoftScan:
    """Every point shared out over the clusters by the softmax of −(squared distance + price) / ``temperature``.

    ``distances`` (K, n): ``_weights`` times the points at prices of 0, where they are known already.
    """
    weights = _weights(centroids, prices) / np.float32(temperature) if distances is None else None

    def read(part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        if distances is None:
            costs = weights @ points.columns[:, part]
        else:
            costs = distances[:, part] + prices[:, None].astype(np.float32)
            costs *= np.float32(1 / temperature)
        least = costs.min(axis=0)
        share = np.exp(np.subtract(least, costs, out=costs), out=costs)
        total = share.sum(axis=0)
        share /= total
        value = float((least - np.log(total)).sum(dtype=np.float64)) * temperature
        sums = share @ points.rows[part] if with_sums else np.zeros(0)
        return share.sum(axis=1), sums, share @ share.T, value

    mass, sums, overlap, value = zip(*each_block(points, read, len(centroids)), strict=True)
    return SoftScan(
        mass=np.stack(mass).sum(axis=0, dtype=np.float64),
        sums=np.stack(sums).sum(axis=0, dtype=np.float64),
        overlap=np.stack(overlap).sum(axis=0, dtype=np.float64),
        value=sum(value) - float(prices.sum()) * points.n / len(prices),
    )


def even_prices(
    points: Points,
    centroids: np.ndarray,
    prices: np.ndarray,
    temperature: float,
    *,
    n_steps: int,
    tolerance: float,
    with_sums: bool,
) -> tuple[np.ndarray, SoftScan]:
    """Up to ``n_steps`` steps towards prices at which soft sizes are even, and the scan at them.

    Far from them the step is Sinkhorn's, which always raises the dual; near them Newton's, where it does.
    """
    target = points.n / len(prices)
    # Prices change and centroids do not: half of each scan's time is saved where the distances are few enough to keep.
    few = points.n * len(prices) <= COSTS_AT_ONCE
    distances = _weights(centroids, np.zeros(len(prices))) @ points.columns if few and n_steps > 1 else None
    scan = partial(_soft_scan, points, centroids, temperature=temperature, with_sums=with_sums, distances=distances)
    soft = scan(prices)
    for _ in range(n_steps):
        if np.abs(soft.mass - target).sum() <= tolerance * points.n:
            break
        ratio = np.log(np.maximum(soft.mass, 1e-9 * target) / target)
        step, trial = temperature * ratio, None
        if np.abs(ratio).max() < NEWTON_RATIO:
            hessian = np.diag(soft.mass * (1 + RIDGE)) - soft.overlap + RIDGE * target
            newton = temperature * np.linalg.solve(hessian, soft.mass - target)
            for most in (24 * temperature, 4 * temperature):
                step = newton * min(1.0, most / max(float(np.abs(newton).max()), 1e-30))
                trial = scan(prices + step)
                if trial.value > soft.value:
                    break
            else:
                step, trial = temperature * ratio, None
        if trial is None:
            trial = scan(prices + step)
        prices, soft = prices + step, trial
    return prices, soft


def annealed_prices(points: Points, centroids: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Nearly even prices from any: at high temperature first, where points that are far from every border count as
    well.
    """
    if len(prices) == 1:
        return prices
    margin = mean_margin(points, centroids, prices)
    for share in (1.0, 0.3):
        prices, _ = even_prices(points, centroids, prices, margin * share, n_steps=6, tolerance=0.1, with_sums=False)
    return prices


def _newton_step(scan: _Scan, target: float, reach: float | None = None) -> np.ndarray:
    """The change of prices (K,) that would even the sizes out, if sizes followed prices linearly.

    The points within ``reach`` of the border between two clusters say how many points cross it for a unit of the
    difference of their prices. The step is cut to ``reach``: beyond it nothing is known.
    """
    k = len(scan.counts)
    if k == 1:
        return np.zeros(1)
    if reach is None:
        sample = scan.margin[: 1 << 12]
        reach = float(np.partition(sample, int(NEAR_SHARE * (len(sample) - 1)))[int(NEAR_SHARE * (len(sample) - 1))])
    reach = max(reach, SAME_COST)
    near = np.flatnonzero(scan.margin <= reach)
    pairs = scan.labels[near].astype(np.int64) * k + scan.second[near]
    flow = np.bincount(pairs, minlength=k * k).reshape(k, k) / (2 * reach)
    flow = flow + flow.T
    # Clusters that no border joins would be left out: every pair gets a thousandth of the mean flow.
    flow += 1e-3 * (flow.sum() + 1 / reach) / (k * k)
    np.fill_diagonal(flow, 0)
    laplacian = np.diag(flow.sum(axis=1)) - flow + np.full((k, k), flow.mean())
    step = np.linalg.solve(laplacian, scan.counts - target)
    step -= step.mean()
    return step * min(1.0, reach / max(float(np.ptp(step)), 1e-30))


def assign_evenly(points: Points, centroids: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact balanced assignment at fixed centroids: labels (n,) int32; and prices (K,) that nearly bring it about."""
    low, high = points.n // len(centroids), -(-points.n // len(centroids))
    scan, prices = _nearly_even(points, centroids, prices)
    return _settle(points, centroids, scan, prices, low, high), prices


def _nearly_even(points: Points, centroids: np.ndarray, prices: np.ndarray) -> tuple[_Scan, np.ndarray]:
    """A scan at prices (K,) that bring about sizes even but for a few points, and those prices."""
    k, n = len(centroids), points.n
    low, high = n // k, -(-n // k)
    scan = scan_points(points, centroids, prices)
    reach: float | None = None
    if _astray(scan, low, high) > MANY_ASTRAY * n:
        prices = annealed_prices(points, centroids, prices)
    margin = float(scan.margin[:FIRST_SAMPLE].mean())
    for share in (0.1, 0.03, 0.01):
        if k == 1 or _astray(scan, low, high) <= FEW_ASTRAY * n:
            break
        prices, _ = even_prices(
            points, centroids, prices, max(margin * share, SAME_COST), n_steps=3, tolerance=0.01, with_sums=False
        )
        scan = scan_points(points, centroids, prices)
    for _ in range(6):
        if _astray(scan, low, high) <= max(k // 4, n // 20_000):
            break
        step = _newton_step(scan, n / k, reach)
        trial = scan_points(points, centroids, prices + step)
        reach = 2 * float(np.ptp(step))
        if _astray(trial, low, high) > 0.8 * _astray(scan, low, high):
            break
        prices, scan = prices + step, trial
    return scan, prices


def _astray(scan: _Scan, low: int, high: int) -> int:
    """How many points are too many or too few."""
    return int(np.maximum(scan.counts - high, 0).sum() + np.maximum(low - scan.counts, 0).sum())


def _settle(points: Points, centroids: np.ndarray, scan: _Scan, prices: np.ndarray, low: int, high: int) -> np.ndarray:
    """Move points until all sizes are in [low, high], at least cost.

    Only points near a border can be worth moving: those within ``reach`` are looked at, and more as soon as a move
    costs more than what the others would.
    """
    labels, counts = scan.labels.copy(), scan.counts.copy()
    astray = int(np.maximum(counts - high, 0).sum() + np.maximum(low - counts, 0).sum())
    size = max(4096, 16 * len(centroids), 16 * astray)
    while True:
        size = min(size, points.n)
        reach = np.inf if size == points.n else float(np.partition(scan.margin, size)[size])
        near = np.flatnonzero(scan.margin <= reach)
        rows = points.rows[near]
        costs = rows @ (-2 * centroids.T).astype(np.float32)
        costs += np.einsum("kd,kd->k", centroids, centroids).astype(np.float32)
        graph = _Exchange(costs, labels[near], len(centroids))
        done = _even_out(graph, counts, prices, low, high, reach)
        labels[near] = graph.labels
        if done:
            return labels
        size *= 8


class _Exchange:
    """The residual graph of an assignment: an arc j → k costs what the cheapest point to move from cluster j to k
    costs.
    """

    def __init__(self, costs: np.ndarray, labels: np.ndarray, k: int) -> None:
        self.costs, self.labels = costs, labels
        order = np.argsort(labels, kind="stable")
        self.members = np.split(order, np.searchsorted(labels[order], np.arange(1, k)))
        self.arcs = np.full((k, k), np.inf)
        for cluster in range(k):
            self._renew(cluster)

    def _renew(self, cluster: int) -> None:
        mine = self.costs[self.members[cluster]]
        if len(mine):
            self.arcs[cluster] = (mine - mine[:, cluster : cluster + 1]).min(axis=0)
        else:
            self.arcs[cluster] = np.inf
        self.arcs[cluster, cluster] = np.inf

    def shortest_path(self, sources: np.ndarray, sinks: np.ndarray) -> tuple[float, list[int]]:
        """Cost and clusters of the cheapest path from any source to any sink (masks (K,)), by Bellman and Ford."""
        k = len(self.arcs)
        distance = np.where(sources, 0.0, np.inf)
        previous = np.full(k, -1)
        for _ in range(k - 1):
            through = distance[:, None] + self.arcs
            origin = through.argmin(axis=0)
            length = through[origin, np.arange(k)]
            shorter = length < distance - SAME_COST
            if not shorter.any():
                break
            distance = np.where(shorter, length, distance)
            previous = np.where(shorter, origin, previous)
        reached = np.where(sinks & (previous >= 0), distance, np.inf)
        end = int(np.argmin(reached))
        path = [end]
        while previous[path[-1]] >= 0:
            before = int(previous[path[-1]])
            if before in path:  # a cycle that pays, out of points whose costs float32 can hardly tell apart
                return -np.inf, [*path[path.index(before) :], before][::-1]
            path.append(before)
        return float(reached[end]), path[::-1]

    def push(self, path: Sequence[int], most: int) -> int:
        """Move up to ``most`` points along every arc of a path: as many as cost the same as the cheapest. Returns how
        many.
        """
        ready = []
        for start, end in pairwise(path):
            mine = self.costs[self.members[start]]
            extra = mine[:, end] - mine[:, start]
            same = np.flatnonzero(extra <= self.arcs[start, end] + SAME_COST)
            ready.append(same[np.argsort(extra[same], kind="stable")])
        many = min(most, *(len(places) for places in ready))
        moved = [self.members[start][places[:many]] for start, places in zip(path[:-1], ready, strict=True)]
        for start, places in zip(path[:-1], ready, strict=True):
            self.members[start] = np.delete(self.members[start], places[:many])
        for end, who in zip(path[1:], moved, strict=True):
            self.members[end] = np.concatenate([self.members[end], who])
            self.labels[who] = end
        for cluster in path:
            self._renew(cluster)
        return many


def _even_out(graph: _Exchange, counts: np.ndarray, prices: np.ndarray, low: int, high: int, reach: float) -> bool:
    """Successive shortest paths, then whatever still pays within the freedom of one. Changes ``graph`` and ``counts``.

    Returns whether it came to an end; not so where a move costs more than ``reach`` above the prices' differences,
    when points that were not looked at might be cheaper.
    """
    while True:
        over, under = counts > high, counts < low
        if over.any():
            sources, sinks = over, counts < high
        elif under.any():
            sources, sinks = counts > low, under
        else:
            sources, sinks = counts > low, counts < high
        if not (sources.any() and sinks.any()):
            return True
        settled = not (over.any() or under.any())
        cost, path = graph.shortest_path(sources, sinks)
        if path[0] == path[-1] and len(path) > 1:
            graph.push(path, 1)
            continue
        if settled and cost >= -len(path) * SAME_COST:
            return True
        if not np.isfinite(cost) or cost - prices[path[0]] + prices[path[-1]] > reach:
            return False
        first, last = path[0], path[-1]
        room_out = counts[first] - (high if over.any() else low)
        room_in = (low if under.any() and not over.any() else high) - counts[last]
        many = graph.push(path, int(min(room_out, room_in)))
        counts[first] -= many
        counts[last] += many
