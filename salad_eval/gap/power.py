"""What a row could have shown: the smallest gap that its test would find, and the items that a narrower interval needs.

The test is the sign test of paired right and wrong answers (McNemar's, exact), as ``stats.sign_flip_p_value`` makes it. A gap of δ means
that δ more questions are lost by hearing than are won by it; the questions that go both ways by chance stay as many as they were
measured to be. So of n independent questions a share 2m + δ is discordant, where m is the rarer direction's share, and the power is
that of a sign test on a binomial number of them (Lachin 1992, *Power and sample size evaluation for the McNemar test*).

Passages and several voices make questions worth less or more than one each. n is then the number of independent questions whose mean
difference would have the standard error that the bootstrap found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from salad_eval.types import Estimate, Power

POWER = 0.8
LEVEL = 0.05  # two-sided
HALF_WIDTH = 0.05  # of the interval that ``n_items_needed`` is about: 5 points to either side
_STEPS = 16  # halvings: the gap is then known to 2e-5
_REACH = 7.0  # standard deviations of the number of discordant questions that are looked at


@dataclass(frozen=True, slots=True)
class Discordance:
    """Of paired answers: the share that differ, either way (mean of |difference|), and the mean difference. Fractions."""

    share: float
    difference: float


def power_of(gap: Estimate, standard_error: float, discordance: Discordance) -> Power:
    """The power of a row whose gap has this interval and bootstrap ``standard_error`` (above 0)."""
    n = effective_number(gap.n, standard_error, discordance)
    rarer = max(0.0, (discordance.share - abs(discordance.difference)) / 2)
    return Power(visible_gap(n, rarer), items_needed(gap))


def effective_number(n_items: int, standard_error: float, discordance: Discordance) -> int:
    """Independent questions, at least 1, that tell as much as ``n_items`` did.

    The bootstrap's two half pseudo-observations, which keep its error above 0, are part of the variance here as well.
    """
    share = (n_items * discordance.share + 1) / (n_items + 1)
    mean = n_items * discordance.difference / (n_items + 1)
    return max(1, round((share - mean**2) / standard_error**2))


def visible_gap(n: int, rarer: float) -> float | None:
    """The smallest gap that ``n`` independent questions show with ``POWER``, a fraction; ``None`` where they show none.

    ``rarer``: the share of questions that go against the gap by chance, in [0, 1/2].
    """
    low, high = 0.0, 1.0 - 2 * rarer
    if sign_test_power(n, rarer, high) < POWER:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if sign_test_power(n, rarer, middle) >= POWER else (middle, high)
    return high


def sign_test_power(n: int, rarer: float, gap: float) -> float:
    """The chance that a two-sided exact sign test at ``LEVEL`` finds ``gap``, either way, in ``n`` questions."""
    share = min(1.0, 2 * rarer + gap)
    if share <= 0:
        return 0.0
    reach = _REACH * math.sqrt(n * share * (1 - share)) + _REACH
    discordant = np.arange(max(1, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach)) + 1)
    lost = min(1.0, (rarer + gap) / share)
    most = _greatest_rejected(discordant)
    found = np.where(most >= 0, _tail(most, discordant, 1 - lost) + _tail(most, discordant, lost), 0.0)
    return float((_binomial(discordant, n, share) * found).sum())


def _greatest_rejected(trials: np.ndarray) -> np.ndarray:
    """The largest count of heads in fair ``trials`` whose lower tail is within half the level; -1 where even none is too likely."""
    from scipy import special  # a fifth of a second, which every worker and command would take

    most = np.floor(trials / 2 + special.ndtri(LEVEL / 2) * np.sqrt(trials) / 2)  # within 1 of it
    most = np.where(_tail(most + 1, trials, 0.5) <= LEVEL / 2, most + 1, most)
    for _ in range(2):
        most = np.where((most >= 0) & (_tail(most, trials, 0.5) > LEVEL / 2), most - 1, most)
    return np.maximum(most, -1.0)


def _tail(counts: np.ndarray, trials: np.ndarray, chance: float) -> np.ndarray:
    """The chance of at most ``counts`` successes."""
    from scipy import special

    tail: np.ndarray = special.bdtr(np.maximum(counts, 0.0), trials, chance)
    return tail


def _binomial(counts: np.ndarray, n: int, share: float) -> np.ndarray:
    """The binomial law at ``counts``."""
    from scipy import special

    ways = special.gammaln(n + 1) - special.gammaln(counts + 1) - special.gammaln(n - counts + 1)
    law: np.ndarray = np.exp(ways + special.xlogy(counts, share) + special.xlog1py(n - counts, -share))
    return law


def items_needed(gap: Estimate) -> int:
    """Items for an interval of ``HALF_WIDTH`` to either side, were the answers as varied as these: the width falls as 1 / √n."""
    if gap.low is None or gap.high is None:
        return gap.n
    return max(1, math.ceil(gap.n * ((gap.high - gap.low) / 2 / HALF_WIDTH) ** 2))
