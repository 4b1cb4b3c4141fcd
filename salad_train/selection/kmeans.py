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

from typing import Any

import numpy as np

from salad_eval.errors import UserInputError
from salad_train.selection.balance import (
    FIRST_SAMPLE,
    LARGE,
    SAME_COST,
    Points,
    SoftScan,
    annealed_prices,
    assign_evenly,
    each_block,
    even_prices,
    mean_margin,
    scan_points,
)
from salad_train.types import Clustering

POINTS_A_CLUSTER = 256  # of the last sample, unless ``batch_size`` says otherwise
SAMPLE_GROWTH = 8
FINALISTS = 2  # starts that go on to larger samples: the best on a small one is sometimes a poor one on a large one
START_ITERATIONS = 8
START_TEMPERATURE = 0.3  # of the mean margin
LEAST_GAIN = 1e-3  # of the inertia, for which another exact assignment is made


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
        return assign_evenly(world, (centroids - mean) / scale, np.zeros(len(centroids)))[0].astype(np.int64)


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


def _prepare(points: np.ndarray, order: np.ndarray, n_threads: int) -> tuple[Points, np.ndarray, float]:
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

    world = Points(rows, columns, n_threads)
    each_block(world, fill, k=512)  # small blocks: transposing is kind to the cache
    return world, mean, scale


def _sample_sizes(n: int, k: int, batch_size: int | None) -> list[int]:
    last = min(n, max(batch_size or POINTS_A_CLUSTER * k, 4 * k))
    sizes = [min(last, max(FIRST_SAMPLE, 32 * k))]
    while sizes[-1] * SAMPLE_GROWTH < last / 2:
        sizes.append(sizes[-1] * SAMPLE_GROWTH)
    return [*sizes, last] if sizes[-1] < last else sizes


def _starts(
    points: Points, k: int, rng: np.random.Generator, n_init: int, max_iter: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centroids (K, d) and prices (K,) of ``n_init`` starts, those that end with the least balanced cost first."""
    found = []
    for _ in range(n_init):
        centroids = _greedy_seeds(points, k, rng)
        prices = annealed_prices(points, centroids, np.zeros(k))
        found.append(_lloyd(points, centroids, prices, min(max_iter, START_ITERATIONS), tolerance=1e-3))
    return sorted(found, key=lambda start: _dual(points, *start))


def _dual(points: Points, centroids: np.ndarray, prices: np.ndarray) -> float:
    """The dual's value: the balanced cost, less the points' own squares, as far as these prices tell it from below."""
    return scan_points(points, centroids, prices).cost - float(prices.sum()) * points.n / len(prices)


def _greedy_seeds(points: Points, k: int, rng: np.random.Generator) -> np.ndarray:
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
    points: Points, centroids: np.ndarray, prices: np.ndarray, max_iter: int, *, tolerance: float
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
            temperature = START_TEMPERATURE * mean_margin(points, centroids, prices)
        prices, soft = even_prices(points, centroids, prices, temperature, n_steps=2, tolerance=0.05, with_sums=True)
        centroids, prices = _moved(centroids, _soft_means(soft, centroids), prices)
        cost = energy + soft.value
        if abs(before - cost) <= tolerance * abs(cost):
            break
        before = cost
    return centroids, prices


def _cool(
    points: Points, centroids: np.ndarray, prices: np.ndarray, rng: np.random.Generator, n_iter: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Part the centroids that were one at high temperature, and go on below the temperature at which they would melt
    again.

    A cluster of variance v in every direction holds two centroids apart below a temperature of 2·v (Rose 1998,
    "Deterministic annealing"). It is the inertia over points and dimensions that stands for v here.
    """
    k = len(centroids)
    if k == 1:
        return centroids, prices
    scan = scan_points(points, centroids, prices)
    variance = (_energy(points) + scan.cost - float(prices @ scan.counts)) / points.rows.size
    squares = (centroids**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * centroids @ centroids.T
    melted = np.flatnonzero((apart < variance).sum(axis=1) > 1)  # every centroid is near itself
    if len(melted):
        nearest = scan_points(points, centroids, np.zeros(k)).labels
        for cluster in melted:
            twins = np.flatnonzero(apart[cluster] < variance)
            mine = np.flatnonzero(np.isin(nearest, twins))
            if len(mine):
                centroids = centroids.copy()
                centroids[cluster] += 0.5 * (points.rows[mine[rng.integers(len(mine))]] - centroids[cluster])
        prices = annealed_prices(points, centroids, prices)
    margin = mean_margin(points, centroids, prices)
    temperature = max(variance, SAME_COST)
    for share in (0.1, 0.03):
        if share * margin > 2 * temperature:
            prices, _ = even_prices(
                points, centroids, prices, share * margin, n_steps=4, tolerance=0.05, with_sums=False
            )
    for _ in range(n_iter):
        prices, soft = even_prices(points, centroids, prices, temperature, n_steps=3, tolerance=0.02, with_sums=True)
        centroids, prices = _moved(centroids, _soft_means(soft, centroids), prices)
    return centroids, prices


def _soft_means(soft: SoftScan, before: np.ndarray) -> np.ndarray:
    filled = soft.mass[:, None] > 1e-6
    return np.where(filled, soft.sums / np.maximum(soft.mass, 1e-6)[:, None], before)


def _polish(
    points: Points, centroids: np.ndarray, prices: np.ndarray, *, max_iter: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact assignments and means in turn, until nothing is gained. Returns labels (n,) and their means (K, d)."""
    k = len(centroids)
    energy = _energy(points)
    if points.n > LARGE and max_iter > 1:  # sizes that are a little uneven hardly move the means of so many
        scan = scan_points(points, centroids, prices)
        centroids, prices = _moved(centroids, _means(points, scan.labels, scan.counts, centroids), prices)
        max_iter = 1
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(max_iter):
        labels, prices = assign_evenly(points, centroids, prices)
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


def _means(points: Points, labels: np.ndarray, counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The means (K, d) of the labelled points; a cluster without points keeps its centroid."""
    from scipy.sparse import csr_matrix

    k = len(before)

    def add(part: slice) -> np.ndarray:
        size = part.stop - part.start
        one_hot = csr_matrix((np.ones(size, np.float32), labels[part], np.arange(size + 1)), shape=(size, k))
        return np.asarray(one_hot.T @ points.rows[part], dtype=np.float64)

    sums = np.sum(each_block(points, add, k), axis=0)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], before)


def _energy(points: Points) -> float:
    """The sum of squares of all coordinates."""
    return float(np.einsum("nd,nd->n", points.rows, points.rows).sum(dtype=np.float64))


def _inertia(rows: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> float:
    total, centres = 0.0, centroids.astype(np.float32)
    for start in range(0, len(rows), 1 << 15):
        rest = rows[start : start + (1 << 15)] - centres[labels[start : start + (1 << 15)]]
        total += float(np.einsum("nd,nd->n", rest, rest).sum(dtype=np.float64))
    return total
