"""Intervals, permutation p-values, false discovery rate and shrinkage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from salad_eval.errors import UserInputError
from salad_eval.gap import stats
from salad_eval.gap.stats import (
    ClusterSums,
    Measure,
    benjamini_hochberg,
    between_variance,
    bootstrap_draws,
    cluster_sums,
    distinct_rows,
    resample,
    row_seed,
    shrink,
    sign_flip_p_value,
    small_sample_factor,
)
from salad_eval.types import Estimate

ONE = (Measure("accuracy", (1.0,)),)
PAIR = (Measure("first", (1.0, 0.0)), Measure("second", (0.0, 1.0)), Measure("difference", (1.0, -1.0)))


def items_of(*columns: list[float]) -> ClusterSums:
    """Each item its own group."""
    values = np.array(columns, dtype=float).T
    return cluster_sums(values, np.arange(len(values)))


def estimate_of(clusters: ClusterSums, measure: Measure, n_resamples: int = 4000) -> Estimate:
    return resample(clusters, [measure], seed=row_seed(0), n_resamples=n_resamples)[0].estimate


# --- bootstrap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 5), (5, 10), (10, 10), (45, 50), (49, 50), (50, 50), (120, 200)])
def test_interval_of_an_accuracy_is_jeffreys(right: int, n: int) -> None:
    found = estimate_of(items_of([1.0] * right + [0.0] * (n - right)), ONE[0], n_resamples=40_000)
    law = scipy_stats.beta(right + 0.5, n - right + 0.5)
    low, high = (0.0 if right == 0 else law.ppf(0.025)), (1.0 if right == n else law.ppf(0.975))
    assert found.value == right / n
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 20])
def test_all_equal_data_have_an_honest_interval(value: float, n: int) -> None:
    found = estimate_of(items_of([value] * n), ONE[0])
    assert found.value == value
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 1 / (2 * n)
    assert value in (found.low, found.high)


def test_equal_columns_differ_by_zero_within_an_interval_that_is_not_zero_wide() -> None:
    found = estimate_of(items_of([1.0] * 30, [1.0] * 30), PAIR[2])
    assert found.value == 0.0
    assert found.low is not None
    assert found.high is not None
    assert -0.12 < found.low < -0.02
    assert 0.02 < found.high < 0.12


def test_pairing_makes_a_difference_sharper_than_its_columns() -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(300) < 0.7).astype(float)
    second = first.copy()
    second[:12] = 0.0
    clusters = items_of(first.tolist(), second.tolist())
    accuracy, _, difference = (
        result.standard_error for result in resample(clusters, PAIR, seed=row_seed(0), n_resamples=2000)
    )
    assert difference < 0.6 * accuracy


def test_clustered_items_have_wider_intervals_than_independent_ones() -> None:
    values = np.repeat([1.0, 0.0] * 20, 5)[:, None]
    alone = cluster_sums(values, np.arange(200))
    passages = cluster_sums(values, np.repeat(np.arange(40), 5))
    assert passages.n_groups == 40
    assert passages.n_items == 200
    narrow, wide = estimate_of(alone, ONE[0]), estimate_of(passages, ONE[0])
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_one_passage_says_nothing_of_differences_between_passages() -> None:
    clusters = ClusterSums(np.array([[30.0, 20.0]]), np.array([50]))
    assert small_sample_factor(clusters) == math.inf
    difference = estimate_of(clusters, PAIR[2])
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == (-1.0, 1.0)
    accuracy = estimate_of(clusters, PAIR[0])
    assert accuracy.high - accuracy.low > 0.6  # type: ignore[operator]


def test_small_sample_factor_is_one_without_passages_and_falls_with_their_number() -> None:
    sizes = [small_sample_factor(ClusterSums(np.ones((n, 1)), np.full(n, 2))) for n in (2, 10, 100, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(1.0, abs=0.01)
    assert small_sample_factor(ClusterSums(np.ones((10, 1)), np.ones(10, dtype=int))) == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30))
def test_intervals_hold_their_value_and_stay_in_range(rows: list[tuple[float, float]]) -> None:
    values = np.array(rows)
    clusters = cluster_sums(values, np.arange(len(values)) // 2)
    for measure, result in zip(PAIR, resample(clusters, PAIR, seed=row_seed(1), n_resamples=50), strict=True):
        found = result.estimate
        assert found.low is not None
        assert found.high is not None
        assert measure.least <= found.low <= found.value <= found.high <= measure.greatest
        assert result.standard_error > 0
        assert found.n == len(rows)


def test_numbers_depend_on_the_seed_and_on_nothing_else() -> None:
    rng = np.random.default_rng(3)
    values, groups = rng.integers(0, 2, (200, 2)).astype(float), rng.integers(0, 60, 200)
    order = rng.permutation(200)

    def draws(values: np.ndarray, groups: np.ndarray, seed: int, block_elements: int = 1 << 20) -> np.ndarray:
        return bootstrap_draws(
            cluster_sums(values, groups), PAIR, seed=row_seed(seed, "x"), n_resamples=300, block_elements=block_elements
        )

    first = draws(values, groups, 0)
    np.testing.assert_array_equal(first, draws(values, groups, 0))
    np.testing.assert_array_equal(first, draws(values[order], groups[order], 0))
    np.testing.assert_allclose(first, draws(values, groups, 0, block_elements=1000), rtol=1e-12)
    assert not np.array_equal(first, draws(values, groups, 1))


def test_rows_have_seeds_of_their_own() -> None:
    states = {
        tuple(row_seed(*names).generate_state(2)) for names in ((0, "a"), (0, "b"), (1, "a"), (0, "a", "b"), (0, "ab"))
    }
    assert len(states) == 5


def test_distinct_rows_are_numpys() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (300, 4)) / 2
    expected, counts = np.unique(rows, axis=0, return_counts=True)
    found, found_counts = distinct_rows(rows)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_counts, counts)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(UserInputError, match="n_items >= 1"):
        cluster_sums(np.empty((0, 2)), [])
    with pytest.raises(UserInputError, match="NaN"):
        cluster_sums(np.array([[np.nan]]), ["g"])
    with pytest.raises(UserInputError, match="n_resamples = 0"):
        bootstrap_draws(items_of([1.0]), ONE, seed=row_seed(0), n_resamples=0)


@pytest.mark.parametrize(("accuracies", "n"), [((0.92, 0.80), 50), ((0.9, 0.9), 50), ((0.97, 0.9), 200)])
def test_intervals_cover_planted_gaps(accuracies: tuple[float, float], n: int) -> None:
    """A small version of tests/speed/bench_intervals.py: 500 data sets, three standard errors of room."""
    rng = np.random.default_rng(11)
    quantiles = scipy_stats.norm.ppf(accuracies)
    covered, found_gap, simulations = np.zeros(3), 0.0, 500
    for seed in range(simulations):
        latent = 0.7 * rng.standard_normal((n, 1)) + math.sqrt(0.51) * rng.standard_normal((n, 2))
        clusters = cluster_sums((latent < quantiles).astype(float), np.arange(n))
        results = resample(clusters, PAIR, seed=row_seed(seed), n_resamples=400)
        truths = (*accuracies, accuracies[0] - accuracies[1])
        covered += [r.estimate.low <= t <= r.estimate.high for r, t in zip(results, truths, strict=True)]  # type: ignore[operator]
        found_gap += results[2].estimate.value / simulations
    assert found_gap == pytest.approx(accuracies[0] - accuracies[1], abs=0.01)
    assert (covered / simulations > 0.95 - 0.035).all(), covered / simulations


# --- permutation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([1.0], 1.0),
        ([1.0, -1.0], 1.0),
        ([1.0] * 5, 2 / 2**5),
        ([-1.0] * 8, 2 / 2**8),
        ([1.0] * 5 + [-1.0], 14 / 2**6),  # McNemar with 5 and 1: 2 * (1 + 6) / 64
        ([0.5] * 4, 2 / 2**4),
        ([1.0, 0.5, 0.5], 2 / 2**3),  # |sum| = 2 only with all signs alike
        ([0.5, 1.0, -0.5], 6 / 2**3),  # |sum| is 2, 1, 1, 0, 0, 1, 1, 2
    ],
)
def test_sign_flip_p_value_in_small_cases(differences: list[float], p_value: float) -> None:
    assert sign_flip_p_value(np.array(differences), seed=row_seed(0), n_resamples=10) == pytest.approx(
        p_value, rel=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, -2 / 3, -0.5, 0.0, 1 / 3, 0.5, 1.0, 1.5]), max_size=10))
def test_sign_flip_p_value_is_the_enumerated_one(differences: list[float]) -> None:
    observed = abs(sum(differences))
    signs = itertools.product((1, -1), repeat=len(differences))
    expected = np.mean(
        [abs(sum(s * d for s, d in zip(sign, differences, strict=True))) >= observed - 1e-9 for sign in signs]
    )
    assert sign_flip_p_value(np.array(differences), seed=row_seed(0), n_resamples=10) == pytest.approx(
        expected, rel=1e-9
    )


def test_sign_flip_p_value_of_many_groups_is_mcnemars() -> None:
    differences = np.array([1.0] * 70 + [-1.0] * 40 + [0.0] * 5000)
    expected = scipy_stats.binomtest(70, 110, 0.5).pvalue
    assert sign_flip_p_value(differences, seed=row_seed(0), n_resamples=10) == pytest.approx(expected, rel=1e-9)


def test_sampled_p_value_is_near_the_exact_one_and_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.array([1.0] * 20 + [-1.0] * 9 + [0.5] * 7)
    exact = sign_flip_p_value(differences, seed=row_seed(0), n_resamples=10)
    monkeypatch.setattr(stats, "MAX_CONVOLUTION", 0)
    sampled = sign_flip_p_value(differences, seed=row_seed(0), n_resamples=20_000)
    assert sampled == pytest.approx(exact, abs=0.005)
    assert sign_flip_p_value(np.ones(60), seed=row_seed(0), n_resamples=99) == 1 / 100


def test_differences_without_a_common_denominator_are_sampled() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, 80)
    p_value = sign_flip_p_value(differences, seed=row_seed(0), n_resamples=5000)
    assert p_value == pytest.approx(scipy_stats.ttest_1samp(differences, 0.0).pvalue, abs=0.02)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(5)
    found = [sign_flip_p_value(rng.choice([-1.0, 0.0, 1.0], 200), seed=row_seed(0), n_resamples=10) for _ in range(400)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 400)


# --- many domains ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.02, 0.04, 0.04, 0.02]),
        (
            [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205],
            [0.008, 0.032, 0.0672, 0.0672, 0.0672, 0.08, 0.0845714, 0.205],
        ),
        ([1.0, 1.0, 0.9], [1.0, 1.0, 1.0]),
        ([None, 0.01, None, 0.04], [None, 0.02, None, 0.04]),
        ([None, None], [None, None]),
    ],
)
def test_benjamini_hochberg(p_values: list[float | None], expected: list[float | None]) -> None:
    found = benjamini_hochberg(p_values)
    assert [None if q is None else round(q, 7) for q in found] == expected


def test_shrinkage_limits() -> None:
    values = (0.0, 0.1, 0.5)
    assert shrink(values, (1e-6,) * 3) == pytest.approx(values, abs=1e-6)  # no noise: as they are
    assert shrink(values, (10.0,) * 3) == pytest.approx((0.2,) * 3)  # all noise: the mean
    assert shrink((0.3,), (0.1,)) == (0.3,)
    assert shrink((), ()) == ()
    precise, noisy = shrink((0.0, 0.4, 0.4), (0.05, 0.05, 0.3))[1:]
    assert noisy < precise < 0.4  # the noisier estimate of the same value is drawn further


def test_between_variance_is_paule_and_mandels_root() -> None:
    values, errors = (0.1, 0.2, 0.5, 0.35), (0.05, 0.08, 0.06, 0.1)
    tau_squared = between_variance(values, errors)
    weights = 1 / (np.square(errors) + tau_squared)
    mean = np.average(values, weights=weights)
    assert (weights * (np.array(values) - mean) ** 2).sum() == pytest.approx(3.0, rel=1e-6)
    assert between_variance((0.1, 0.11), (0.5, 0.5)) == 0.0
    assert between_variance((0.0, 1.0), (1e-5, 1e-5)) == pytest.approx(0.5, rel=1e-3)  # their sample variance
    with pytest.raises(UserInputError, match="not positive"):
        between_variance((0.1, 0.2), (0.0, 0.1))


def test_shrinkage_comes_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0.2, 0.05, 60)
    errors = rng.uniform(0.03, 0.12, 60)
    seen = truth + errors * rng.standard_normal(60)
    shrunk = np.array(shrink(seen.tolist(), errors.tolist()))
    assert np.mean((shrunk - truth) ** 2) < 0.6 * np.mean((seen - truth) ** 2)
