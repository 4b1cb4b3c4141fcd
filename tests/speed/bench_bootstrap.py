"""Our paired cluster bootstrap against ``scipy.stats.bootstrap(paired=True)``, side by side in one run.

    python tests/speed/bench_bootstrap.py [--items 100000] [--domains 60] [--resamples 10000] [--scipy-resamples
    200]

Both give 95% intervals of four accuracies and four differences for every domain. scipy is asked in the ways that are
fast for it: percentile method, vectorised, in batches that fit the cache. Its time is measured on ``--scipy-domains``
domains at ``--scipy-resamples`` resamples and extrapolated linearly, which its cost is in both; the whole would take
minutes.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from salad_eval.gap.row import measures_for
from salad_eval.gap.stats import cluster_sums, resample, row_seed
from salad_eval.types import COLUMNS
from tests.speed.measured import Measured, tell

SCIPY_BATCH = 100
ACCURACIES = (0.92, 0.88, 0.89, 0.75)


def data(n_items: int, n_domains: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Item values (n_items, 4): correlated columns, two voices in the spoken ones; and each item's domain."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n_items, 1))
    columns = []
    for column, accuracy in enumerate(ACCURACIES):
        voices = 2 if column in (1, 3) else 1
        latent = np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.standard_normal((n_items, voices))
        columns.append((latent < stats.norm.ppf(accuracy)).mean(axis=1))
    return np.stack(columns, axis=1), np.arange(n_items) % n_domains


def ours(values: np.ndarray, domains: np.ndarray, n_resamples: int, groups: np.ndarray | None = None) -> float:
    """Seconds, from item values to intervals; grouping is part of it. Without ``groups`` every item is its own."""
    measures = measures_for(COLUMNS)
    groups = np.arange(len(values)) if groups is None else groups
    started = time.perf_counter()
    for domain in np.unique(domains):
        members = domains == domain
        clusters = cluster_sums(values[members], groups[members])
        resample(clusters, measures, seed=row_seed(0, str(domain)), n_resamples=n_resamples)
    return time.perf_counter() - started


def scipys(values: np.ndarray, domains: np.ndarray, n_resamples: int, n_domains_timed: int, *, shared: bool) -> float:
    """Seconds for all domains, from timing the first few (domains are of equal size).

    ``shared``: one call a domain, whose statistic returns all eight measures of one resample, the kindest use; else
    one call a measure, each with the columns it needs, the usual one.
    """
    timed = np.unique(domains)[:n_domains_timed]
    pairs = [(0,), (1,), (2,), (3,), (0, 3), (0, 2), (2, 3), (0, 1)]
    started = time.perf_counter()
    for domain in timed:
        columns = tuple(values[domains == domain].T)
        if shared:
            bootstrap(columns, all_measures, n_resamples)
            continue
        for pair in pairs:
            bootstrap(tuple(columns[place] for place in pair), mean_or_difference, n_resamples)
    return (time.perf_counter() - started) * len(np.unique(domains)) / len(timed)


def bootstrap(columns: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], n_resamples: int) -> None:
    stats.bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=n_resamples,
        method="percentile",
        batch=SCIPY_BATCH,
        rng=np.random.default_rng(0),
    )


def mean_or_difference(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    first, *rest = columns
    return (first - rest[0] if rest else first).mean(axis=axis)


def all_measures(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    text, cascade, adapted, speech = (column.mean(axis=axis) for column in columns)
    return np.stack([text, cascade, adapted, speech, text - speech, text - adapted, adapted - speech, text - cascade])


def peak_mib(work: Callable[[], object]) -> float:
    """Most memory that numpy held at once during ``work``, MiB (traced, so slower: not to be timed)."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--domains", type=int, default=60)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--scipy-resamples", type=int, default=200)
    parser.add_argument("--scipy-domains", type=int, default=10)
    arguments = parser.parse_args()

    values, domains = data(arguments.items, arguments.domains, seed=0)
    tenth = slice(0, arguments.items // 10)
    passages = np.random.default_rng(0).permutation(arguments.items) // 5
    resamples, n_passages = arguments.resamples, arguments.items // 5
    seconds = ours(values, domains, resamples)
    print(f"ours, {len(values)} items, {arguments.domains} domains, {resamples} resamples, 8 measures: {seconds:.2f} s")
    print(f"ours, a tenth of the items: {ours(values[tenth], domains[tenth], resamples):.2f} s")
    print(f"ours, one row of {n_passages} passages of 5: {ours(values, domains * 0, resamples, passages):.2f} s")
    by_domain = peak_mib(lambda: ours(values, domains, resamples))
    by_passage = peak_mib(lambda: ours(values, domains * 0, resamples, passages))
    print(f"ours, peak memory: {by_domain:.0f} MiB by domain, {by_passage:.0f} MiB over passages")
    tell(
        Measured(f"peak memory, {len(values):,} items, {resamples:,} resamples", by_domain, "MiB", better="less"),
    )
    for shared, name in ((False, "one call a measure"), (True, "one call for all measures")):
        few = scipys(values, domains, arguments.scipy_resamples, arguments.scipy_domains, shared=shared)
        scaled = few * arguments.resamples / arguments.scipy_resamples
        print(
            f"scipy, {name}: {few:.2f} s at {arguments.scipy_resamples} resamples, extrapolated linearly to "
            f"{arguments.resamples}: {scaled:.0f} s; ratio {scaled / seconds:.0f}x"
        )
        what = f"{len(values):,} items, {arguments.domains} domains, {resamples:,} resamples"
        tell(Measured(what, scaled / seconds, "×", 20, against=f"scipy.stats.bootstrap, {name}"))


if __name__ == "__main__":
    main()
