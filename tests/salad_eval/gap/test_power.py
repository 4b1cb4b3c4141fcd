"""What a row could have shown: against simulation with the very test that the report makes, and McNemar's smallest tables by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from salad_eval.gap.power import (
    LEVEL,
    POWER,
    Discordance,
    _greatest_rejected,
    effective_number,
    items_needed,
    power_of,
    sign_test_power,
    visible_gap,
)
from salad_eval.gap.stats import sign_flip_p_value
from salad_eval.types import Estimate


@pytest.mark.parametrize("n", [1, 2, 5])
def test_five_questions_show_no_gap_at_all(n: int) -> None:
    assert visible_gap(n, 0.0) is None  # 2 · (1/2)^5 = 0.0625


def test_six_questions_show_one_that_hardly_leaves_a_question_out() -> None:
    gap = visible_gap(6, 0.0)
    assert gap is not None
    assert gap**6 == pytest.approx(POWER, abs=1e-3)  # all six must be lost: 2 · (1/2)^6 = 0.031


def test_critical_counts_are_those_of_the_binomial_law() -> None:
    trials = np.arange(1, 400)
    wanted = [next((k for k in range(n, -1, -1) if stats.binom.cdf(k, n, 0.5) <= LEVEL / 2), -1) for n in trials]
    assert _greatest_rejected(trials).tolist() == wanted


@pytest.mark.parametrize(("n", "rarer"), [(20, 0.05), (60, 0.02), (280, 0.04)])
def test_a_planted_gap_of_the_size_named_is_found_four_times_in_five(n: int, rarer: float) -> None:
    gap = visible_gap(n, rarer)
    assert gap is not None
    rng = np.random.default_rng(n)
    draws = rng.random((600, n))
    answers = (draws < rarer + gap).astype(float) - ((draws >= rarer + gap) & (draws < 2 * rarer + gap))
    seed = np.random.SeedSequence(0)
    found = [sign_flip_p_value(row, seed=seed, n_resamples=100) <= LEVEL for row in answers]
    assert np.mean(found) == pytest.approx(POWER, abs=0.05)  # 3 standard errors


def test_power_of_no_gap_is_below_the_level() -> None:
    assert 0 < sign_test_power(200, 0.1, 0.0) <= LEVEL


@pytest.mark.parametrize("n", [40, 400])
def test_independent_questions_count_one_each(n: int) -> None:
    # the variance that two half pseudo-observations at the ends leave, over n + 2
    share, mean = (n * 0.2 + 1) / (n + 1), n * 0.1 / (n + 1)
    error = np.sqrt((share - mean**2) / (n + 2))
    assert effective_number(n, float(error), Discordance(0.2, 0.1)) == n + 2


def test_passages_of_like_answers_count_less() -> None:
    gap = Estimate(0.1, 0.02, 0.18, 400)
    alone, together = (power_of(gap, error, Discordance(0.2, 0.1)).visible_gap for error in (0.02, 0.04))
    assert alone is not None
    assert together is not None
    assert together > alone


@pytest.mark.parametrize(
    ("low", "high", "n", "wanted"),
    [(0.0, 0.1, 100, 100), (0.0, 0.2, 100, 400), (0.025, 0.075, 100, 25), (None, None, 7, 7)],
)
def test_a_width_halved_takes_four_times_the_items(low: float | None, high: float | None, n: int, wanted: int) -> None:
    assert items_needed(Estimate(0.05, low, high, n)) == wanted
