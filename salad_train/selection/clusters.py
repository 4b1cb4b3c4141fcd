"""Cutting a corpus into clusters of equal size, saying what they are about, and which benchmark domains they are like.

Balanced k-means minimises the sum of squared distances to K centroids with every cluster of ⌊n/K⌋ or ⌈n/K⌉ points.
Given centroids, the best such assignment is a transportation problem with a price for each cluster: at the right
prices every point simply takes the cluster where squared distance plus price is least. Prices are found by damped
Newton steps on the concave dual (Kitagawa, Mérigot and Thibert 2016, "Convergence of a Newton algorithm for
semi-discrete optimal transport"), smoothed by a falling temperature (Cuturi 2013, "Sinkhorn distances"), since
clusters may lie far apart. What is left to move after that, a handful of points, is moved along shortest paths over
the graph of K clusters (Ahuja, Magnanti and Orlin 1993, chapter 9), which is exact.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from salad_eval.errors import UserInputError
from salad_train.types import Cluster, Clustering, TextDocument

FIRST_SAMPLE = 2048  # points the starts are tried on, where the corpus has more
POINTS_A_CLUSTER = 256  # of the last sample, unless ``batch_size`` says otherwise
SAMPLE_GROWTH = 8
FINALISTS = 2  # starts that go on to larger samples: the best on a small one is sometimes a poor one on a large one
START_ITERATIONS = 8
START_TEMPERATURE = 0.3  # of the mean margin
LARGE = 1 << 13  # points beyond which one exact assignment, after a nearly exact one, has to do
MANY_ASTRAY, FEW_ASTRAY = 0.3, 0.005  # shares of the points: prices are far off, prices are nearly right
LEAST_GAIN = 1e-3  # of the inertia, for which another exact assignment is made
NEWTON_RATIO = 4.0  # |ln(size / target)| from which on Newton's step is not worth trying
RIDGE = 1e-3  # keeps the Hessian regular where no point lies between two clusters
COSTS_AT_ONCE = 1 << 20  # costs (points × clusters) a block holds: they stay in cache
NEAR_SHARE = 0.3  # of the points, those nearest a border, tell how fast sizes follow prices
WORD = re.compile(r"\w\w+")
SAME_COST = 4 * float(np.finfo(np.float32).eps)  # costs nearer than this, at data of unit scale, are equal


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
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

    def head(self, n: int) -> _Points:
        return self if n >= self.n else _Points(self.rows[:n], self.columns[:, :n], self.n_threads)


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


# --- balanced k-means ------------------------------------------------------------------------------------------------


def balanced_kmeans(
    points: np.ndarray,
    k: int,
    *,
    seed: int,
    n_init: int = 4,
    max_iter: int = 50,
    batch_size: int | None = None,
    n_threads: int = 1,
) -> Clustering:
    """Partition ``points`` (n, d) into ``k`` clusters whose sizes differ by at most one.

    ``n_init`` starts (greedy k-means++) are tried on a small sample, and the best two go on over samples that grow to
    ``batch_size`` points, where one is chosen: that is the mini-batch, nested as in Newling and Fleuret 2016. The last
    assignments, with centroids made anew in between, are of all points. ``max_iter`` bounds the iterations at each size of sample. Equal
    arguments give equal labels, whatever ``n_threads``. By default that is 256 points a cluster; centroids are known
    well enough from so many, and are then made exact over all. Memory: about 3 × the points, and some (n,) vectors.

    Raises ``UserInputError`` for no points, points that are not finite or not two-dimensional, ``k`` outside [1, n],
    and ``n_init``, ``max_iter``, ``batch_size`` or ``n_threads`` below 1.
    """
    _check(
        points,
        k,
        n_init=n_init,
        max_iter=max_iter,
        batch_size=1 if batch_size is None else batch_size,
        n_threads=n_threads,
    )
    rng = np.random.default_rng([seed, 31])
    order = rng.permutation(len(points))
    with _single_threaded_blas():
        world, mean, scale = _prepare(points, order, n_threads)
        sizes = _sample_sizes(len(points), k, batch_size)
        starts = _starts(world.head(sizes[0]), k, rng, n_init, max_iter)[:FINALISTS]
        for size in sizes[1:]:
            starts = [_lloyd(world.head(size), *start, max_iter, tolerance=1e-3) for start in starts]
        state = min(starts, key=lambda start: _dual(world.head(sizes[-1]), *start))
        state = _cool(world.head(sizes[-1]), *state, rng)
        labels, centroids = _polish(world, *state, max_iter=min(max_iter, 20))
    restored = np.empty(len(points), dtype=np.int64)
    restored[order] = labels
    return Clustering(
        labels=restored,
        centroids=(centroids * scale + mean).astype(np.float32),
        inertia=_inertia(world.rows, labels, centroids) * scale**2,
    )


def balanced_assignment(points: np.ndarray, centroids: np.ndarray, *, n_threads: int = 1) -> np.ndarray:
    """Labels (n,) int64 of least total squared distance to ``centroids`` (K, d) among those with sizes within one.

    Exact up to float32: the transportation problem is solved, not approximated. Raises ``UserInputError`` as
    ``balanced_kmeans``.
    """
    _check(points, len(centroids), n_threads=n_threads)
    if centroids.ndim != 2 or centroids.shape[1] != points.shape[1] or not np.isfinite(centroids).all():
        raise UserInputError(
            f"centroids have shape {centroids.shape} for points of shape {points.shape}; "
            f"expected (K, {points.shape[1]}), finite."
        )
    with _single_threaded_blas():
        world, mean, scale = _prepare(points, np.arange(len(points)), n_threads)
        return _assign(world, (centroids - mean) / scale, np.zeros(len(centroids)))[0].astype(np.int64)


def _check(points: np.ndarray, k: int, **at_least_one: int) -> None:
    if points.ndim != 2 or points.shape[1] == 0:
        raise UserInputError(f"points have shape {points.shape}; expected (n, width) with width at least 1.")
    if len(points) == 0:
        raise UserInputError("there are no points to cluster: the corpus is empty after its filters.")
    if not 1 <= k <= len(points):
        raise UserInputError(
            f"clusters is {k}; expected 1 to {len(points)}, the number of documents. "
            "Ask for fewer or bring a larger corpus."
        )
    for name, value in at_least_one.items():
        if value < 1:
            raise UserInputError(f"{name} is {value}; expected at least 1.")
    for start in range(0, len(points), 1 << 16):
        finite = np.isfinite(points[start : start + (1 << 16)]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UserInputError(
                f"point {row} holds a NaN or an infinity; expected finite embeddings. Check the embedder."
            )


def _single_threaded_blas() -> Any:
    """Blocks are what runs side by side; threads within BLAS on top of that would only wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _prepare(points: np.ndarray, order: np.ndarray, n_threads: int) -> tuple[_Points, np.ndarray, float]:
    """The points in ``order``, centred and scaled; with the mean (d,) and the scale that undo it."""
    points = np.asarray(points)
    mean = points.mean(axis=0, dtype=np.float64)
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    scale = float(np.maximum(high - mean, mean - low).max()) or 1.0
    # float32 is enough to subtract a mean that is not far outside the spread of the points.
    near = points.dtype == np.float32 and np.abs(mean).max() < 8 * scale and 1e-30 < scale < 1e30
    shift, factor = mean.astype(np.float32), np.float32(1 / scale) if near else np.float32(1)
    rows = np.empty(points.shape, dtype=np.float32)
    columns = np.ones((points.shape[1] + 1, len(points)), dtype=np.float32)

    def fill(part: slice) -> None:
        chosen = points[order[part]]
        if near:
            np.multiply(chosen - shift, factor, out=rows[part])
        else:
            rows[part] = (chosen - mean) / scale
        columns[:-1, part] = rows[part].T

    world = _Points(rows, columns, n_threads)
    _each(world, fill, k=512)  # small blocks: transposing is kind to the cache
    return world, mean, scale


def _each(points: _Points, work: Callable[[slice], Any], k: int) -> list[Any]:
    """``work`` of every block, in order; numpy lets go of the interpreter, so threads are enough."""
    blocks = points.blocks(k)
    if points.n_threads == 1 or len(blocks) == 1:
        return [work(part) for part in blocks]
    with ThreadPoolExecutor(points.n_threads) as pool:
        return list(pool.map(work, blocks))


def _sample_sizes(n: int, k: int, batch_size: int | None) -> list[int]:
    last = min(n, max(batch_size or POINTS_A_CLUSTER * k, 4 * k))
    sizes = [min(last, max(FIRST_SAMPLE, 32 * k))]
    while sizes[-1] * SAMPLE_GROWTH < last / 2:
        sizes.append(sizes[-1] * SAMPLE_GROWTH)
    return [*sizes, last] if sizes[-1] < last else sizes


# --- starts and iterations -------------------------------------------------------------------------------------------


def _starts(
    points: _Points, k: int, rng: np.random.Generator, n_init: int, max_iter: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centroids (K, d) and prices (K,) of ``n_init`` starts, those that end with the least balanced cost first."""
    found = []
    for _ in range(n_init):
        centroids = _greedy_seeds(points, k, rng)
        prices = _annealed_prices(points, centroids, np.zeros(k))
        found.append(_lloyd(points, centroids, prices, min(max_iter, START_ITERATIONS), tolerance=1e-3))
    return sorted(found, key=lambda start: _dual(points, *start))


def _dual(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> float:
    """The dual's value: the balanced cost, less the points' own squares, as far as these prices tell it from below."""
    return _scan(points, centroids, prices).cost - float(prices.sum()) * points.n / len(prices)


def _greedy_seeds(points: _Points, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007) that takes the best of 2 + ln K draws each time. (K, d)."""
    rows = points.rows
    squares = np.einsum("nd,nd->n", rows, rows)

    def distances(chosen: np.ndarray) -> np.ndarray:
        weights = np.concatenate([-2 * rows[chosen], squares[chosen, None]], axis=1)
        squared = weights @ points.columns + squares
        return np.maximum(squared, 0, out=squared)

    n_trials = 2 + int(np.log(k))
    chosen = [int(rng.integers(points.n))]
    nearest = distances(np.array(chosen))[0]
    for _ in range(k - 1):
        mass = np.cumsum(nearest, dtype=np.float64)
        if mass[-1] <= 0:  # fewer distinct points than clusters
            chosen.append(int(rng.integers(points.n)))
            continue
        candidates = np.minimum(np.searchsorted(mass, rng.random(n_trials) * mass[-1]), points.n - 1)
        left = np.minimum(distances(candidates), nearest)
        pick = int(np.argmin(left.sum(axis=1)))
        chosen.append(int(candidates[pick]))
        nearest = left[pick]
    return rows[chosen].astype(np.float64)


def _lloyd(
    points: _Points, centroids: np.ndarray, prices: np.ndarray, max_iter: int, *, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Alternate even prices and means at a temperature far below the margins, until the cost hardly moves.

    ``tolerance`` is the least change worth another iteration, as a fraction of the inertia.
    """
    if len(centroids) == 1:
        return points.rows.mean(axis=0, dtype=np.float64)[None], prices
    energy = _energy(points)
    before = np.inf
    for iteration in range(max_iter):
        if iteration < 4:
            temperature = START_TEMPERATURE * _mean_margin(points, centroids, prices)
        prices, soft = _even_prices(points, centroids, prices, temperature, n_steps=2, tolerance=0.05, with_sums=True)
        centroids, prices = _moved(centroids, _soft_means(soft, centroids), prices)
        cost = energy + soft.value
        if abs(before - cost) <= tolerance * abs(cost):
            break
        before = cost
    return centroids, prices


def _cool(
    points: _Points, centroids: np.ndarray, prices: np.ndarray, rng: np.random.Generator, n_iter: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Part the centroids that were one at high temperature, and go on below the temperature at which they would melt
    again.

    A cluster of variance v in every direction holds two centroids apart below a temperature of 2·v (Rose 1998,
    "Deterministic annealing"). It is the inertia over points and dimensions that stands for v here.
    """
    k = len(centroids)
    if k == 1:
        return centroids, prices
    scan = _scan(points, centroids, prices)
    variance = (_energy(points) + scan.cost - float(prices @ scan.counts)) / points.rows.size
    squares = (centroids**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * centroids @ centroids.T
    melted = np.flatnonzero((apart < variance).sum(axis=1) > 1)  # every centroid is near itself
    if len(melted):
        nearest = _scan(points, centroids, np.zeros(k)).labels
        for cluster in melted:
            twins = np.flatnonzero(apart[cluster] < variance)
            mine = np.flatnonzero(np.isin(nearest, twins))
            if len(mine):
                centroids = centroids.copy()
                centroids[cluster] += 0.5 * (points.rows[mine[rng.integers(len(mine))]] - centroids[cluster])
        prices = _annealed_prices(points, centroids, prices)
    margin = _mean_margin(points, centroids, prices)
    temperature = max(variance, SAME_COST)
    for share in (0.1, 0.03):
        if share * margin > 2 * temperature:
            prices, _ = _even_prices(
                points, centroids, prices, share * margin, n_steps=4, tolerance=0.05, with_sums=False
            )
    for _ in range(n_iter):
        prices, soft = _even_prices(points, centroids, prices, temperature, n_steps=3, tolerance=0.02, with_sums=True)
        centroids, prices = _moved(centroids, _soft_means(soft, centroids), prices)
    return centroids, prices


def _soft_means(soft: _SoftScan, before: np.ndarray) -> np.ndarray:
    filled = soft.mass[:, None] > 1e-6
    return np.where(filled, soft.sums / np.maximum(soft.mass, 1e-6)[:, None], before)


def _mean_margin(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> float:
    """The scale of temperatures: how much dearer the second cluster is, over the first points."""
    return max(float(_scan(points.head(FIRST_SAMPLE), centroids, prices).margin.mean()), SAME_COST)


def _polish(
    points: _Points, centroids: np.ndarray, prices: np.ndarray, *, max_iter: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact assignments and means in turn, until nothing is gained. Returns labels (n,) and their means (K, d)."""
    k = len(centroids)
    energy = _energy(points)
    if points.n > LARGE and max_iter > 1:  # sizes that are a little uneven hardly move the means of so many
        scan = _scan(points, centroids, prices)
        centroids, prices = _moved(centroids, _means(points, scan.labels, scan.counts, centroids), prices)
        max_iter = 1
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(max_iter):
        labels, prices = _assign(points, centroids, prices)
        counts = np.bincount(labels, minlength=k)
        centroids, prices = _moved(centroids, _means(points, labels, counts, centroids), prices)
        spread = -float(counts @ (centroids**2).sum(axis=1))  # the inertia, less the points' own squares
        if best is not None and best[0] - spread <= LEAST_GAIN * (energy + spread):
            break
        best = spread, labels, centroids
    if best is None:
        raise UserInputError(f"max_iter is {max_iter}; expected at least 1.")
    return best[1], best[2]


def _moved(before: np.ndarray, after: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new centroids, and prices under which the points of a cluster find it, on average, as dear as before it
    moved.
    """
    return after, prices + ((after - before) ** 2).sum(axis=1)


def _means(points: _Points, labels: np.ndarray, counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The means (K, d) of the labelled points; a cluster without points keeps its centroid."""
    from scipy.sparse import csr_matrix

    k = len(before)

    def add(part: slice) -> np.ndarray:
        size = part.stop - part.start
        one_hot = csr_matrix((np.ones(size, np.float32), labels[part], np.arange(size + 1)), shape=(size, k))
        return np.asarray(one_hot.T @ points.rows[part], dtype=np.float64)

    sums = np.sum(_each(points, add, k), axis=0)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], before)


def _energy(points: _Points) -> float:
    """The sum of squares of all coordinates."""
    return float(np.einsum("nd,nd->n", points.rows, points.rows).sum(dtype=np.float64))


def _inertia(rows: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> float:
    total, centres = 0.0, centroids.astype(np.float32)
    for start in range(0, len(rows), 1 << 15):
        rest = rows[start : start + (1 << 15)] - centres[labels[start : start + (1 << 15)]]
        total += float(np.einsum("nd,nd->n", rest, rest).sum(dtype=np.float64))
    return total


# --- prices ----------------------------------------------------------------------------------------------------------


def _weights(centroids: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """(K, d + 1) float32, which times ``_Points.columns`` is |c|² − 2·x·c + price: squared distance plus price, less
    |x|².
    """
    offsets = np.einsum("kd,kd->k", centroids, centroids) + prices
    return np.concatenate([-2 * centroids, offsets[:, None]], axis=1).astype(np.float32)


def _scan(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> _Scan:
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

    labels, second, margin, cost = zip(*_each(points, read, k), strict=True)
    merged = np.concatenate(labels)
    return _Scan(
        merged.astype(np.int32),
        np.concatenate(second),
        np.concatenate(margin),
        np.bincount(merged, minlength=k),
        sum(cost),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _SoftScan:
    """Soft sizes (K,), sums (K, d) and overlaps (K, K) at a temperature; ``value`` is the smoothed dual."""

    mass: np.ndarray
    sums: np.ndarray
    overlap: np.ndarray
    value: float


def _soft_scan(
    points: _Points,
    centroids: np.ndarray,
    prices: np.ndarray,
    temperature: float,
    *,
    with_sums: bool,
    distances: np.ndarray | None = None,
) -> _SoftScan:
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

    mass, sums, overlap, value = zip(*_each(points, read, len(centroids)), strict=True)
    return _SoftScan(
        mass=np.stack(mass).sum(axis=0, dtype=np.float64),
        sums=np.stack(sums).sum(axis=0, dtype=np.float64),
        overlap=np.stack(overlap).sum(axis=0, dtype=np.float64),
        value=sum(value) - float(prices.sum()) * points.n / len(prices),
    )


def _even_prices(
    points: _Points,
    centroids: np.ndarray,
    prices: np.ndarray,
    temperature: float,
    *,
    n_steps: int,
    tolerance: float,
    with_sums: bool,
) -> tuple[np.ndarray, _SoftScan]:
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


def _annealed_prices(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Nearly even prices from any: at high temperature first, where points that are far from every border count as
    well.
    """
    if len(prices) == 1:
        return prices
    margin = _mean_margin(points, centroids, prices)
    for share in (1.0, 0.3):
        prices, _ = _even_prices(points, centroids, prices, margin * share, n_steps=6, tolerance=0.1, with_sums=False)
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


def _assign(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact balanced assignment at fixed centroids: labels (n,) int32; and prices (K,) that nearly bring it about."""
    low, high = points.n // len(centroids), -(-points.n // len(centroids))
    scan, prices = _nearly_even(points, centroids, prices)
    return _settle(points, centroids, scan, prices, low, high), prices


def _nearly_even(points: _Points, centroids: np.ndarray, prices: np.ndarray) -> tuple[_Scan, np.ndarray]:
    """A scan at prices (K,) that bring about sizes even but for a few points, and those prices."""
    k, n = len(centroids), points.n
    low, high = n // k, -(-n // k)
    scan = _scan(points, centroids, prices)
    reach: float | None = None
    if _astray(scan, low, high) > MANY_ASTRAY * n:
        prices = _annealed_prices(points, centroids, prices)
    margin = float(scan.margin[:FIRST_SAMPLE].mean())
    for share in (0.1, 0.03, 0.01):
        if k == 1 or _astray(scan, low, high) <= FEW_ASTRAY * n:
            break
        prices, _ = _even_prices(
            points, centroids, prices, max(margin * share, SAME_COST), n_steps=3, tolerance=0.01, with_sums=False
        )
        scan = _scan(points, centroids, prices)
    for _ in range(6):
        if _astray(scan, low, high) <= max(k // 4, n // 20_000):
            break
        step = _newton_step(scan, n / k, reach)
        trial = _scan(points, centroids, prices + step)
        reach = 2 * float(np.ptp(step))
        if _astray(trial, low, high) > 0.8 * _astray(scan, low, high):
            break
        prices, scan = prices + step, trial
    return scan, prices


def _astray(scan: _Scan, low: int, high: int) -> int:
    """How many points are too many or too few."""
    return int(np.maximum(scan.counts - high, 0).sum() + np.maximum(low - scan.counts, 0).sum())


# --- the last points, exactly ----------------------------------------------------------------------------------------


def _settle(points: _Points, centroids: np.ndarray, scan: _Scan, prices: np.ndarray, low: int, high: int) -> np.ndarray:
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


# --- reading clusters ------------------------------------------------------------------------------------------------


def describe_clusters(
    documents: Sequence[TextDocument], clustering: Clustering, n_terms: int = 6
) -> tuple[Cluster, ...]:
    """Sizes, telling terms and domain shares of every cluster, in the order of their labels.

    A term's score is class-based TF-IDF (Grootendorst 2022) with the log ratio as its inverse frequency: p(t|c) ·
    log(p(t|c) / p(t)), a term's part in the divergence of the cluster's words from the corpus'. Words that are common
    everywhere score nothing.

    Raises ``UserInputError`` where documents and labels are not of one number.
    """
    if len(documents) != len(clustering.labels):
        raise UserInputError(
            f"there are {len(documents)} documents and {len(clustering.labels)} labels; expected one label a document."
        )
    k = clustering.k
    characters = np.bincount(clustering.labels, weights=[len(d.text) for d in documents], minlength=k)
    domains: list[Counter[str]] = [Counter() for _ in range(k)]
    for document, label in zip(documents, clustering.labels, strict=True):
        if document.domain:
            domains[label][document.domain] += 1
    terms = _telling_terms(documents, clustering.labels, k, n_terms)
    return tuple(
        Cluster(
            id=cluster,
            n_documents=int((clustering.labels == cluster).sum()),
            n_characters=int(characters[cluster]),
            terms=terms[cluster],
            domains={name: n / domains[cluster].total() for name, n in _by_count(domains[cluster])},
        )
        for cluster in range(k)
    )


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _telling_terms(
    documents: Sequence[TextDocument], labels: np.ndarray, k: int, n_terms: int
) -> list[tuple[str, ...]]:
    counts: list[Counter[str]] = [Counter() for _ in range(k)]
    for document, label in zip(documents, labels, strict=True):
        counts[label].update(WORD.findall(document.text.lower()))
    overall: Counter[str] = Counter()
    for of_cluster in counts:
        overall.update(of_cluster)
    total = overall.total()
    told = []
    for of_cluster in counts:
        size = of_cluster.total()
        scores = {term: n / size * float(np.log(n * total / (size * overall[term]))) for term, n in of_cluster.items()}
        best = sorted(scores, key=lambda term: (-scores[term], term))[:n_terms]
        told.append(tuple(term for term in best if scores[term] > 0))
    return told


# --- clusters and benchmark domains ----------------------------------------------------------------------------------


def affinity(
    centroids: np.ndarray,
    item_vectors: np.ndarray,
    item_domains: Sequence[str],
    domains: Sequence[str],
    *,
    temperature: float = 0.2,
) -> np.ndarray:
    """How much each cluster is like each benchmark domain: (K, n_domains), rows add up to 1.

    A domain's weight is the mean over its items of exp(cosine / temperature) with the cluster's centroid, an item's
    vote being the larger the nearer it is: a kernel classifier (Nadaraya and Watson) with equal prior weight for every
    domain, however many items it has. Low temperatures listen to the nearest items alone, high ones make all domains
    alike.

    ``centroids`` (K, d) and ``item_vectors`` (m, d) come from one embedder. Items of zeros and items of domains that
    are not among ``domains`` are left out; a domain without items has affinity 0.

    Raises ``UserInputError`` for shapes that do not fit, a temperature that is not positive, and no items to compare
    with.
    """
    if item_vectors.ndim != 2 or centroids.ndim != 2 or centroids.shape[1] != item_vectors.shape[1]:
        raise UserInputError(
            f"centroids {centroids.shape} and item vectors {item_vectors.shape} are not of one width. "
            "Embed both with one embedder."
        )
    if len(item_domains) != len(item_vectors):
        raise UserInputError(f"there are {len(item_vectors)} item vectors and {len(item_domains)} domains of items.")
    if not temperature > 0:
        raise UserInputError(f"temperature is {temperature}; expected more than 0.")
    column = {domain: place for place, domain in enumerate(domains)}
    place = np.array([column.get(domain, -1) for domain in item_domains], dtype=np.int64)
    kept = (place >= 0) & (np.linalg.norm(item_vectors, axis=1) > 0)
    if not kept.any():
        raise UserInputError(
            "no benchmark item of the report's domains has a word that the embedder knows. "
            "Is this the corpus' language?"
        )
    items, place = item_vectors[kept].astype(np.float64), place[kept]
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    cosine = (centroids / np.where(lengths > 0, lengths, 1)) @ items.T
    kernel = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    n_items = np.bincount(place, minlength=len(domains))
    member = np.zeros((len(items), len(domains)))
    member[np.arange(len(items)), place] = 1 / n_items[place]
    weights = kernel @ member
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
