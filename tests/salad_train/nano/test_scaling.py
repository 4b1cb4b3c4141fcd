"""Planted laws are found again, R² are what their definitions say, and what cannot be fitted is refused or flagged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import UserInputError
from salad_eval.records import dumps, loads
from salad_train.nano.study.scaling import (
    BETA_BOUNDS,
    PowerLawFit,
    bootstrap_r2,
    fit_power_law,
    leave_one_out_r2,
    partial_r2,
)

X = np.array([60.0, 120, 240, 480, 960, 1920])


def planted(e: float, b: float, beta: float, x: np.ndarray = X) -> np.ndarray:
    return e + b * x ** (-beta)


# --- the law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("e", "b", "beta"), [(0.13, 20.0, 0.8), (0.04, 5.0, 0.5), (1.0, 300.0, 1.5), (0.2, 2.0, 0.25)])
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_exact_data_give_the_law_back_in_any_unit(e: float, b: float, beta: float, unit: float) -> None:
    found = fit_power_law(X * unit, planted(e, b, beta), n_resamples=1)
    assert found.law.e == pytest.approx(e, rel=1e-3)
    assert found.law.beta == pytest.approx(beta, rel=1e-3)
    assert found.law.coefficient == pytest.approx(b * unit**beta, rel=1e-2)
    np.testing.assert_allclose(found.law(X * unit), planted(e, b, beta), rtol=1e-5)
    assert found.r2 == pytest.approx(1.0)
    assert found.at_bound == ()


def test_planted_parameters_lie_inside_the_intervals_over_seeds() -> None:
    rng = np.random.default_rng(3)
    seeds = [str(seed) for seed in range(8)]
    x, units = np.tile(X, 8), np.repeat(seeds, len(X))
    runs = 1 + 0.03 * np.repeat(rng.standard_normal(8), len(X))  # a run is better or worse as a whole
    y = planted(0.3, 20.0, 0.7, x) * runs * (1 + 0.02 * rng.standard_normal(len(x)))
    found = fit_power_law(x, y, units=units, n_resamples=300)
    assert found.e.low <= 0.3 <= found.e.high
    assert found.beta.low <= 0.7 <= found.beta.high
    b = 20.0 * found.law.scale**-0.7
    assert found.b.low <= b <= found.b.high
    assert found.e.low < found.e.value < found.e.high
    assert found.e.n == 8
    assert found.n_points == 48
    assert found == fit_power_law(x, y, units=units, n_resamples=300)
    assert found != fit_power_law(x, y, units=units, n_resamples=300, seed=1)
    assert loads(PowerLawFit, dumps(found)) == found


def test_resampling_whole_runs_knows_that_a_runs_own_level_cancels_in_the_fall() -> None:
    rng = np.random.default_rng(0)
    x, units = np.tile(X, 6), np.repeat(list("abcdef"), len(X))
    y = planted(0.5, 20.0, 0.7, x) + 0.1 * np.repeat(rng.standard_normal(6), len(X))
    whole, single = fit_power_law(x, y, units=units, n_resamples=200), fit_power_law(x, y, n_resamples=200)
    assert whole.law == single.law
    assert (whole.b.high - whole.b.low) < 0.1 * (single.b.high - single.b.low)
    assert (whole.e.high - whole.e.low) > 0.05  # and that the floor itself is as uncertain as six levels are


@given(st.floats(0, 2), st.floats(0.01, 5), st.floats(0.05, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_fit_is_no_worse_than_the_planted_law(e: float, b: float, beta: float, seed: int) -> None:
    u = X / np.exp(np.log(X).mean())
    y = e + b * u ** (-beta) + 0.01 * np.random.default_rng(seed).standard_normal(len(X))
    found = fit_power_law(X, y, n_resamples=1)
    assert np.square(y - found.law(X)).sum() <= np.square(y - e - b * u ** (-beta)).sum() + 1e-9
    assert found.law.e >= 0
    assert found.law.b >= 0
    assert BETA_BOUNDS[0] <= found.law.beta <= BETA_BOUNDS[1] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (planted(0.0, 20.0, 0.5), ()),  # e = 0 is a law like others: only what runs beyond is flagged below
        (2.0 - 0.2 * np.log(X), ("e = 0",)),
        (np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]), ("b = 0",)),
        (np.array([9.0, 1, 1, 1, 1, 1]), ("beta = 10",)),
    ],
)
def test_a_fit_that_runs_to_a_bound_says_so(y: np.ndarray, said: tuple[str, ...]) -> None:
    found = fit_power_law(X, y, n_resamples=5)
    for one in said:
        assert one in found.at_bound
    if not said:
        assert found.law.e == pytest.approx(0.0, abs=1e-4)
        assert found.law.beta == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 2.0], [3.0, 2.0], "at least 3"),
        ([1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 2.0, 2.0], "2 distinct"),
        ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], "no fall"),
        ([1.0, 2.0, 4.0], [1.0, math.nan, 1.0], "NaN"),
        ([0.0, 2.0, 4.0], [3.0, 2.0, 1.0], "above 0"),
        ([1.0, 2.0, 4.0], [3.0, 2.0], "one length"),
        ([], [], "at least 3"),
    ],
)
def test_degenerate_data_are_refused(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        fit_power_law(x, y)


def test_resamples_without_three_amounts_of_data_are_counted() -> None:
    found = fit_power_law([1.0, 2.0, 4.0], [3.0, 2.0, 1.5], n_resamples=100)
    assert found.n_failed > 50
    one = fit_power_law([1.0, 2.0, 4.0], [3.0, 2.0, 1.5], units=["a", "a", "a"])
    assert (one.e.low, one.e.high, one.e.n) == (None, None, 1)


# --- R² --------------------------------------------------------------------------------------------------------------


def brute_force(y: np.ndarray, columns: np.ndarray) -> float:
    press = 0.0
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        design = np.column_stack([np.ones(len(y)), columns])
        solution = np.linalg.lstsq(design[rest], y[rest], rcond=None)[0]
        press += (y[i] - design[i] @ solution) ** 2
    return 1 - press / np.square(y - y.mean()).sum()


@given(st.integers(0, 9999), st.integers(1, 3), st.integers(6, 30), st.floats(0, 5))
@settings(max_examples=60, deadline=None)
def test_leave_one_out_is_the_brute_force_one(seed: int, k: int, n: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((n, k)) * 10 ** rng.uniform(-3, 3, k) + rng.standard_normal(k)
    y = columns @ rng.standard_normal(k) + noise * rng.standard_normal(n)
    assert leave_one_out_r2(y, columns) == pytest.approx(brute_force(y, columns), rel=1e-6, abs=1e-9)


def sse(y: np.ndarray, columns: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(y)), columns])
    return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())


@given(st.integers(0, 9999), st.integers(8, 30))
@settings(max_examples=60, deadline=None)
def test_partial_r2_is_the_nested_one_and_the_squared_partial_correlation(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    f, m = rng.standard_normal((2, n))
    m = m + 0.5 * f
    y = m + f + rng.standard_normal(n)
    found = partial_r2(y, m, f)
    assert found == pytest.approx(1 - sse(y, np.column_stack([f, m])) / sse(y, f[:, None]))
    design = np.column_stack([np.ones(n), f])
    left = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in (y, m)]
    assert found == pytest.approx(np.corrcoef(*left)[0, 1] ** 2)
    assert 0 <= found <= 1


def test_nothing_to_explain_gives_a_partial_r2_of_nothing() -> None:
    f, m = np.array([0.0, 0, 1, 1, 2, 2]), np.array([0.0, 1, 0, 1, 0, 1])
    y = f + np.array([0.1, 0.1, -0.2, -0.2, 0.1, 0.1])  # does not depend on m, which is orthogonal to f
    assert partial_r2(y, m, f) == pytest.approx(0.0, abs=1e-12)
    assert partial_r2(y + 3 * m, m, f) > 0.9


def test_bootstrap_intervals_by_runs() -> None:
    rng = np.random.default_rng(1)
    m, units = rng.uniform(0, 3, 40), np.repeat([f"seed-{k}" for k in range(10)], 4)
    y = 0.9 - 0.2 * m + 0.05 * rng.standard_normal(40)
    found = bootstrap_r2(y, m, units=units, n_resamples=300)
    assert found.value == leave_one_out_r2(y, m)
    assert 0.8 < found.low < found.value < found.high < 1
    assert found.n == 10
    beside = bootstrap_r2(y, rng.standard_normal(40), given=m, units=units, n_resamples=300)
    assert beside.low < 0.1
    assert bootstrap_r2(y, m, units=["one"] * 40).low is None


def test_copies_of_a_point_in_a_resample_are_left_out_together() -> None:
    """Noise explains nothing; were a copy left in, a resample would seem to predict it."""
    rng = np.random.default_rng(2)
    draws = [bootstrap_r2(rng.standard_normal(8), rng.standard_normal((8, 3)), n_resamples=40) for _ in range(20)]
    assert np.median([d.low for d in draws]) < np.median([d.value for d in draws]) < 0


@pytest.mark.parametrize(
    ("y", "columns", "message"),
    [
        ([1.0, 2, 3], [1.0, 2, 3], "at least 4"),
        ([1.0, 1, 1, 1, 1], [1.0, 2, 3, 4, 5], "no variance"),
        ([1.0, 2, 3, 4, 5], [7.0, 7, 7, 7, 7], "constant"),
        ([1.0, 2, 3, 4, 5], [[1.0, 2], [2, 4], [3, 6], [4, 8], [5, 10]], "dependent"),
        ([1.0, 2, 3, 4, 5], [1.0, 2, 3, 4, math.inf], "NaN or infinity"),
        ([1.0, 2, 3, 4, 5], [0.0, 0, 0, 0, 1], "alone determines"),
        ([1.0, 2, 3, 4, 5], [1.0, 2], r"expected \(n,\)"),
    ],
)
def test_r2_of_degenerate_data_is_refused(y: list[float], columns: list[float], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        leave_one_out_r2(y, columns)


def test_a_given_that_explains_all_is_refused() -> None:
    f = np.array([1.0, 2, 3, 4, 5, 6])
    with pytest.raises(UserInputError, match="wholly"):
        partial_r2(2 * f, np.array([1.0, 0, 1, 0, 0, 1]), f)
