"""Statistics of paired columns over clustered items: intervals, p-values, false discovery rate, shrinkage. numpy and
scipy only; scipy's larger parts are imported where they are used, since every worker and command imports this module and few use them.

The resampling unit is the *group* (a passage, or one item over all its voices). Every function takes its seed; none
reads a global one.

The 95% interval is a **paired Bayesian cluster bootstrap with half a pseudo-observation at each end of the scale**:
each group gets an independent Exp(1) weight (Rubin 1981, *The Bayesian bootstrap*), all columns and their differences
share these weights, and each measure is joined by two pseudo-observations at its least and its greatest possible
value, with Gamma(1/2) weights (the informative form of Muliere & Secchi 1996, *Bayesian nonparametric predictive
inference and bootstrap techniques*). For one column of right and wrong answers this *is* Jeffreys' interval Beta(x +
1/2, n - x + 1/2), the one that Brown, Cai & DasGupta (2001, *Interval estimation for a binomial proportion*) recommend
for small n; for a paired difference the two pseudo-observations are the discordant cells of Jeffreys' Dirichlet(1/2,
..., 1/2) prior (Agresti & Min 2005, *Frequentist performance of Bayesian confidence intervals for comparing
proportions in 2 x 2 contingency tables*). Percentile, basic, BCa and bootstrap-t intervals all fall short at
accuracies near 1, where a resample of a domain that is all right can only be all right again: see
``reports/interval_coverage.md``.

Cost. Groups that carry the same numbers are exchangeable, and a sum of c Exp(1) weights is one Gamma(c) weight: so one
weight is drawn for each *distinct* row of group sums and not for each item. The law of the result is the same; with
right-or-wrong columns the cost of a resample does not grow with the number of items.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from salad_eval.errors import UserInputError
from salad_eval.types import Estimate

CONFIDENCE = 0.95
PSEUDO_WEIGHT = 0.5  # mean (and Gamma shape) of the weight of each of a measure's two pseudo-observations
BLOCK_ELEMENTS = 1 << 20  # weights held at once: 8 MiB of float64
SUM_DECIMALS = 9  # group sums that agree to this many decimals are the same (means over voices are not exact in binary)
MAX_DENOMINATOR = 1000  # largest number of renderings of one item for which the sign-flip law is still computed exactly
MAX_CONVOLUTION = 200_000_000  # multiply-adds spent on an exact sign-flip law before falling back to sampling


# --- records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measure:
    """A linear combination of the means of columns whose values lie in [0, 1].

    ``weights`` has one entry a column: ``(1, 0, 0, -1)`` is the first column minus the last.
    """

    name: str
    weights: tuple[float, ...]

    @property
    def least(self) -> float:
        """The smallest value there can be."""
        return float(sum(weight for weight in self.weights if weight < 0))

    @property
    def greatest(self) -> float:
        """The largest value there can be."""
        return float(sum(weight for weight in self.weights if weight > 0))

    @property
    def is_difference(self) -> bool:
        return self.least < 0

    @property
    def pseudo_values(self) -> tuple[float, float]:
        """Where the two pseudo-observations lie: the ends of the scale, but of a difference of differences one answer
        either way."""
        return max(self.least, -1.0), min(self.greatest, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterSums:
    """Sums of the column values over each group. ``sums``: float64 (n_groups, n_columns); ``sizes``: items a group,
    (n_groups,)."""

    sums: np.ndarray
    sizes: np.ndarray

    @property
    def n_groups(self) -> int:
        return len(self.sizes)

    @property
    def n_items(self) -> int:
        return int(self.sizes.sum())

    @property
    def means(self) -> np.ndarray:
        """Column means over items, (n_columns,)."""
        return self.sums.sum(axis=0) / self.sizes.sum()


@dataclass(frozen=True, slots=True)
class Resampled:
    """A measure's estimate and its bootstrap standard error (never 0: the pseudo-observations see to that)."""

    estimate: Estimate
    standard_error: float


# --- seeds -----------------------------------------------------------------------------------------------------------


def row_seed(seed: int, *names: str) -> np.random.SeedSequence:
    """The seed of one row of a report: a function of the report's seed and the row's name, so that rows do not depend
    on each other."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest[:8], "little")])


# --- paired cluster bootstrap ----------------------------------------------------------------------------------------


def cluster_sums(values: np.ndarray, groups: Sequence[str] | np.ndarray) -> ClusterSums:
    """Sum item-level ``values`` (n_items, n_columns) over ``groups`` (n_items,); groups come out in sorted order.

    Raises ``UserInputError`` where there is no item or a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0 or len(values) != len(groups):
        raise UserInputError(
            f"cluster_sums: values has shape {values.shape} for {len(groups)} groups; "
            "expected (n_items, n_columns), n_items >= 1."
        )
    if not np.isfinite(values).all():
        raise UserInputError("cluster_sums: values holds NaN or infinity; leave out items with a missing value first.")
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(index.max()) + 1
    sums = np.stack([np.bincount(index, weights=column, minlength=n_groups) for column in values.T], axis=1)
    return ClusterSums(sums, np.bincount(index, minlength=n_groups))


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of a table (n, k), sorted, and how often each occurs. ``np.unique(axis=0)``, several times
    faster."""
    codes = np.zeros(len(rows), dtype=np.intp)
    for column in rows.T:
        values, places = np.unique(column, return_inverse=True)
        _, codes = np.unique(codes * len(values) + places, return_inverse=True)  # again 0, 1, ...: no overflow
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return rows[first], counts


def bootstrap_draws(
    clusters: ClusterSums,
    measures: Sequence[Measure],
    *,
    seed: np.random.SeedSequence,
    n_resamples: int,
    block_elements: int = BLOCK_ELEMENTS,
) -> np.ndarray:
    """Draws of every measure under shared group weights: float64 (n_resamples, n_measures).

    Memory: at most ``block_elements`` weights at once, and those of one pattern at the least. The block size changes
    the numbers by rounding only. Raises ``UserInputError`` for ``n_resamples`` < 1.
    """
    if n_resamples < 1:
        raise UserInputError(f"n_resamples = {n_resamples}; expected at least 1 (10000 is usual).")
    patterns, counts = distinct_rows(np.column_stack([np.round(clusters.sums, SUM_DECIMALS), clusters.sizes]))
    weight_seed, pseudo_seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(2)

    weight_rng = np.random.default_rng(weight_seed)
    totals = np.zeros((n_resamples, patterns.shape[1]))  # weighted column sums, then the weighted number of items
    block = max(1, block_elements // n_resamples)
    for start in range(0, len(patterns), block):
        some = slice(start, start + block)
        # One call a pattern: numpy draws a Gamma of one shape faster than of many. 24 bits a weight are plenty.
        weights = [weight_rng.standard_gamma(count, size=n_resamples, dtype=np.float32) for count in counts[some]]
        totals += np.stack(weights, axis=1, dtype=np.float64) @ patterns[some]

    # A Gamma(1/2) weight is half the square of a standard normal. Measures share the two weights as they share the
    # groups'.
    pseudo = PSEUDO_WEIGHT * np.random.default_rng(pseudo_seed).standard_normal((n_resamples, 2)) ** 2
    # Within a passage answers rise and fall together, so a column's pseudo-observation is a whole (mean) group. The
    # passage's part cancels in a paired difference, so there it is one item; a whole group would make small gaps look
    # far less certain than they are.
    sizes = np.array([1.0 if measure.is_difference else clusters.n_items / clusters.n_groups for measure in measures])
    ends = np.array([measure.pseudo_values for measure in measures]).T  # (2, n_measures)
    contrasts = np.array([measure.weights for measure in measures], dtype=np.float64)
    numerator = totals[:, :-1] @ contrasts.T + sizes * (pseudo @ ends)
    return numerator / (totals[:, -1:] + sizes * pseudo.sum(axis=1, keepdims=True))


def resample(
    clusters: ClusterSums, measures: Sequence[Measure], *, seed: np.random.SeedSequence, n_resamples: int
) -> tuple[Resampled, ...]:
    """Every measure's value, 95% interval and standard error, in the order given. The interval always holds the value.

    ``value`` is the plain mean over items (no pseudo-observation enters it); one bound of an accuracy of 0 or 1 is
    that accuracy.
    """
    draws = bootstrap_draws(clusters, measures, seed=seed, n_resamples=n_resamples)
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(draws, [tail, 1 - tail], axis=0)
    means = clusters.means
    resampled = []
    for measure, low, high, error in zip(measures, lows, highs, draws.std(axis=0), strict=True):
        value = float(np.dot(measure.weights, means))
        factor = small_sample_factor(clusters) if measure.is_difference else 1.0
        low = min(value, max(measure.least, value - factor * (value - float(low)))) if low < value else value
        high = max(value, min(measure.greatest, value + factor * (float(high) - value))) if high > value else value
        # With one passage the factor is infinite: the interval is then all that is possible, and the error its
        # half-width.
        error = min(float(error) * factor, (measure.greatest - measure.least) / 2)
        resampled.append(Resampled(Estimate(value, low, high, clusters.n_items), error))
    return tuple(resampled)


def small_sample_factor(clusters: ClusterSums) -> float:
    """How much wider a paired difference's interval is drawn for the spread *between groups* being estimated from few
    of them.

    Exp(1) weights give a variance smaller by (G - 1) / (G + 1) than the unbiased one, and Student's t takes the normal
    quantile's place: sqrt((G + 1) / (G - 1)) * t(G - 1) / z. Where every group is one item there is nothing to
    correct: the cells' law is then multinomial, and Jeffreys' prior is calibrated as it stands. One group of several
    items: infinite.
    """
    n_groups = clusters.n_groups
    if clusters.n_items == n_groups:
        return 1.0
    if n_groups == 1:
        return math.inf
    from scipy import stats

    level = (1 + CONFIDENCE) / 2
    ratio = stats.t.ppf(level, n_groups - 1) / stats.norm.ppf(level)
    return float(math.sqrt((n_groups + 1) / (n_groups - 1)) * ratio)


# --- paired permutation ----------------------------------------------------------------------------------------------


def sign_flip_p_value(differences: np.ndarray, *, seed: np.random.SeedSequence, n_resamples: int) -> float:
    """Two-sided paired permutation p-value: the sign of each group's summed difference (n_groups,) is flipped at
    random.

    Under the null the two columns are exchangeable within a group. The law of the flipped sum is computed exactly, as
    a convolution of binomials over the distinct sizes of the differences, wherever these are fractions of a small
    denominator (with one voice and one item a group this is McNemar's exact test); else it is sampled, and p = (1 +
    hits) / (1 + n_resamples) (Phipson & Smyth 2010). No difference anywhere: p = 1.
    """
    differences = np.round(np.asarray(differences, dtype=np.float64), SUM_DECIMALS)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    observed = float(abs(differences.sum()))
    whole = _as_integers(sizes)
    if whole is not None:
        steps, denominator = whole
        law = _flip_law(steps, counts)
        if law is not None:
            total = int((steps * counts).sum())
            sums = np.abs(2 * np.arange(len(law)) - total)  # |flipped sum| in units of 1 / denominator
            return float(min(1.0, law[sums >= round(observed * denominator)].sum()))
    rng = np.random.default_rng(seed)
    hits = np.zeros(n_resamples)
    for size, count in zip(sizes, counts, strict=True):
        hits += size * (2.0 * rng.binomial(count, 0.5, size=n_resamples) - count)
    slack = 1e-9 * max(1.0, observed)  # a tie in exact arithmetic is a hit
    return float((1 + np.count_nonzero(np.abs(hits) >= observed - slack)) / (1 + n_resamples))


def _as_integers(sizes: np.ndarray) -> tuple[np.ndarray, int] | None:
    """``sizes`` as integers over one common denominator, or ``None`` where that denominator would be large."""
    fractions = [Fraction(float(size)).limit_denominator(MAX_DENOMINATOR) for size in sizes[: MAX_DENOMINATOR + 1]]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    if denominator > MAX_DENOMINATOR or len(sizes) > MAX_DENOMINATOR:
        return None
    steps = np.array([int(fraction * denominator) for fraction in fractions])
    # sums were rounded to SUM_DECIMALS, and a group of many items adds as many rounding errors
    return (steps, denominator) if np.allclose(steps / denominator, sizes, rtol=0, atol=1e-7) else None


def _flip_law(steps: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
    """Probabilities of each value of the sum of the positive signs' steps, 0 .. sum(steps * counts); ``None`` where
    too costly."""
    reach = np.cumsum(steps * counts)
    if float((reach[:-1] * counts[1:]).sum()) > MAX_CONVOLUTION or reach[-1] > MAX_CONVOLUTION // 10:
        return None
    from scipy import stats

    law = np.ones(1)
    for step, count in zip(steps, counts, strict=True):
        binomial = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        wider = np.zeros(len(law) + int(step * count))
        for residue in range(min(int(step), len(law))):  # only every step-th place of the second law is filled
            part = law[residue::step]
            wider[residue :: int(step)][: len(part) + int(count)] += np.convolve(part, binomial)
        law = wider
    return law


# --- many domains ----------------------------------------------------------------------------------------------------


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Benjamini & Hochberg (1995) adjusted p-values; ``None`` stays ``None`` and does not count as a test."""
    from scipy import stats

    taken = [p for p in p_values if p is not None]
    if not taken:
        return tuple(None for _ in p_values)
    adjusted = iter(stats.false_discovery_control(taken, method="bh"))
    return tuple(None if p is None else float(next(adjusted)) for p in p_values)


def between_variance(values: Sequence[float], standard_errors: Sequence[float]) -> float:
    """Variance of the true values behind noisy estimates, >= 0: Paule & Mandel (1982), the root of sum w (y -
    mean_w)^2 = k - 1.

    Where the estimates differ no more than their errors explain, it is 0. Needs two values or more; fewer give 0.
    """
    y, variance = np.asarray(values, dtype=np.float64), np.square(np.asarray(standard_errors, dtype=np.float64))
    if len(y) < 2:
        return 0.0
    if not (variance > 0).all():
        raise UserInputError(
            "between_variance: a standard error is not positive; use the bootstrap's, which never is 0."
        )

    def excess(tau_squared: float) -> float:
        weights = 1 / (variance + tau_squared)
        mean = np.average(y, weights=weights)
        return float((weights * (y - mean) ** 2).sum() - (len(y) - 1))

    if excess(0.0) <= 0:
        return 0.0
    from scipy import optimize

    upper = float(((y - y.mean()) ** 2).sum())  # there every weight is below 1 / upper, so the sum is below 1 <= k - 1
    return float(optimize.brentq(excess, 0.0, upper)) if excess(upper) < 0 else upper


def shrink(values: Sequence[float], standard_errors: Sequence[float]) -> tuple[float, ...]:
    """Empirical-Bayes means of a normal-normal model (Efron & Morris 1975; Morris 1983), each value drawn to the
    precision-weighted mean.

    shrunk = mean + tau^2 / (tau^2 + se^2) * (value - mean), tau^2 from ``between_variance``. One value comes back as
    it is.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) < 2:
        return tuple(float(value) for value in y)
    variance = np.square(np.asarray(standard_errors, dtype=np.float64))
    tau_squared = between_variance(values, standard_errors)
    mean = np.average(y, weights=1 / (variance + tau_squared))
    return tuple(float(value) for value in mean + tau_squared / (tau_squared + variance) * (y - mean))
