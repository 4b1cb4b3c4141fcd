"""Our balanced k-means against ``k-means-constrained``, side by side in one run; and its own time and memory as points
grow.

    pip install k-means-constrained        # the oracle; nothing else needs it
    OMP_NUM_THREADS=1 python tests/speed/bench_clusters.py [--points 20000] [--clusters 32] [--width 64] [--oracle-starts 4]
    OMP_NUM_THREADS=1 python tests/speed/bench_clusters.py --scaling 100000 200000 1000000 [--threads 1]

Both get one core, one seed, exact sizes (⌊n/K⌋ to ⌈n/K⌉) and as many starts, unless ``--oracle-starts`` says otherwise (the oracle's
own default is 10). Data: a Gaussian without any structure, and 48 blobs of unequal size and spread, which 32 clusters of equal size
cannot follow.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from salad_train.selection.kmeans import balanced_kmeans
from tests.speed.measured import Measured, tell


def gaussian(n: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)


def blobs(n: int, width: int, seed: int, n_blobs: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_blobs, width)).astype(np.float32)
    blob = rng.choice(n_blobs, n, p=rng.dirichlet(np.full(n_blobs, 4.0)))
    spread = rng.uniform(0.4, 0.9, n_blobs).astype(np.float32)
    return centres[blob] + spread[blob][:, None] * rng.standard_normal((n, width), dtype=np.float32)


def ours(points: np.ndarray, k: int, seed: int, n_threads: int = 1) -> tuple[float, float, int]:
    """Seconds, inertia, and largest size less smallest."""
    started = time.perf_counter()
    found = balanced_kmeans(points, k, seed=seed, n_threads=n_threads)
    seconds = time.perf_counter() - started
    return seconds, found.inertia, int(np.ptp(np.bincount(found.labels, minlength=k)))


def oracle(points: np.ndarray, k: int, seed: int, n_init: int) -> tuple[float, float, int]:
    try:
        from k_means_constrained import KMeansConstrained
    except ImportError:
        raise SystemExit("the oracle is not installed: pip install k-means-constrained") from None
    n = len(points)
    started = time.perf_counter()
    found = KMeansConstrained(k, size_min=n // k, size_max=-(-n // k), n_init=n_init, random_state=seed).fit(points)
    seconds = time.perf_counter() - started
    return seconds, float(found.inertia_), int(np.ptp(np.bincount(found.labels_, minlength=k)))


def against_oracle(options: argparse.Namespace) -> None:
    ours(gaussian(4000, options.width, 0), options.clusters, 0)  # imports
    print(f"{options.points:,} points × {options.width}, K = {options.clusters}")
    for name, make in (("gaussian", gaussian), ("blobs", blobs)):
        points = make(options.points, options.width, options.seed)
        runs = [ours(points, options.clusters, options.seed + i) for i in range(options.repeats)]
        theirs = oracle(points, options.clusters, options.seed, options.oracle_starts)
        seconds = float(np.median([run[0] for run in runs]))
        worst = max(run[1] for run in runs) / theirs[1]
        print(
            f"{name:>9}: oracle {theirs[0]:.2f} s, ours {seconds:.3f} s (median of {len(runs)} seeds): "
            f"{theirs[0] / seconds:.0f}× faster; "
            f"inertia {np.median([run[1] for run in runs]) / theirs[1]:.4f}× (worst seed {worst:.4f}×); "
            f"sizes within {max(run[2] for run in runs)} (oracle {theirs[2]})",
            flush=True,
        )
        what, against = f"{options.points:,} × {options.width}, K = {options.clusters}, {name}", "k-means-constrained"
        tell(
            Measured(what, theirs[0] / seconds, "×", 100, against=against),
            Measured(f"{what}: inertia, worst seed", worst, "×", 1.01, "less", against),
        )


def scaling(options: argparse.Namespace) -> None:
    for n in options.scaling:
        points = gaussian(n, options.width, options.seed)
        seconds, inertia, spread = ours(points, options.clusters, options.seed, options.threads)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{n:>9,} points: {seconds:6.2f} s, {1e6 * seconds / n:.2f} µs a point, "
            f"inertia {inertia / points.size:.4f} a coordinate, "
            f"sizes within {spread}, peak memory of the process {peak:.2f} GiB "
            f"(points themselves {points.nbytes / 2**30:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--clusters", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--oracle-starts", type=int, default=4, help="the oracle's n_init")
    parser.add_argument("--repeats", type=int, default=3, help="seeds of ours")
    parser.add_argument("--threads", type=int, default=1, help="threads of ours under --scaling")
    parser.add_argument("--scaling", type=int, nargs="*", help="numbers of points to time ours at, without the oracle")
    options = parser.parse_args()
    scaling(options) if options.scaling else against_oracle(options)


if __name__ == "__main__":
    main()
