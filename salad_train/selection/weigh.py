"""From scores to shares, and from shares to documents: pure functions of numbers and a seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salad_eval.errors import DataError, UserInputError
from salad_train.types import Cluster, ClusterProbe, ClusterWeight, SelectedDocument, TextDocument

CER_AT_LEAST, CER_TIMES_USUAL = 0.2, 3.0
RESERVE = 0.1
TOLERANCE = 0.01  # of the budget
MOST_PASSED_OVER = 64  # documents that are too long for the rest of a budget, before the fitting ones are looked for
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_BLOCK = 4096  # clusters drawn at a time

# --- shares ----------------------------------------------------------------------------------------------------------


def weigh(
    clusters: Sequence[Cluster],
    scores: Sequence[float] | np.ndarray,
    *,
    gamma: float,
    floor: float = 0.0,
    cap: float | None = None,
    excluded: Mapping[int, str] | None = None,
) -> tuple[ClusterWeight, ...]:
    """Shares of the budget: target(c) ∝ P_web(c) · s(c)^γ (Cuervo et al., arXiv 2510.13632), within bounds, adding up to 1.

    P_web(c) is a cluster's share of the corpus' characters. γ = 0 gives P_web itself. The bounds are on how far a target may be
    from it: floor · P_web ≤ target ≤ cap · P_web, both times with P_web over the clusters that are not excluded. What a
    bound takes or gives, all others share in proportion (water-filling), so the order of target / P_web is that of the scores
    always. Clusters that score 0 get their floor, and what is left where all others are at their cap.

    Args:
        scores: (K,) finite and ≥ 0, in the order of ``clusters``. Only their ratios matter.
        gamma: ≥ 0. Computed in logarithms, so that a large one is safe: the best cluster then takes all.
        floor: in [0, 1]; cap: ≥ 1, or ``None`` for none. So P_web itself is always within the bounds.
        excluded: cluster → reason; these get 0.

    Raises ``UserInputError`` for arguments outside these ranges, where every cluster is excluded, and where all scores are 0.
    """
    excluded = excluded or {}
    s = np.asarray(scores, dtype=np.float64)
    if not clusters:
        raise UserInputError("there are no clusters to weigh.")
    if s.shape != (len(clusters),) or not np.isfinite(s).all() or (s < 0).any():
        raise UserInputError(f"scores are {s.tolist()}; expected {len(clusters)} finite numbers ≥ 0, one a cluster.")
    if not (math.isfinite(gamma) and gamma >= 0):
        raise UserInputError(f"gamma is {gamma}; expected a finite number ≥ 0 (0: shares as in the corpus).")
    if not 0 <= floor <= 1:
        raise UserInputError(f"floor is {floor}; expected a ratio to the cluster's share of the corpus, in [0, 1].")
    if cap is not None and not cap >= 1:
        raise UserInputError(f"cap is {cap}; expected a ratio to the cluster's share of the corpus, at least 1.")
    characters = np.array([cluster.n_characters for cluster in clusters], dtype=np.float64)
    if characters.sum() <= 0:
        raise UserInputError("the clusters hold no text.")
    web = characters / characters.sum()
    taken = np.array([cluster.id not in excluded for cluster in clusters]) & (web > 0)
    if not taken.any():
        reasons = "; ".join(sorted(set(excluded.values())))
        raise UserInputError(f"all {len(clusters)} clusters are excluded ({reasons}); nothing is left to select from.")
    target = np.zeros(len(clusters))
    target[taken] = _shares(web[taken] / web[taken].sum(), s[taken], gamma, floor, math.inf if cap is None else cap)
    return tuple(
        ClusterWeight(cluster.id, float(w), float(score), float(t), excluded.get(cluster.id))
        for cluster, w, score, t in zip(clusters, web, s, target, strict=True)
    )


def _shares(web: np.ndarray, scores: np.ndarray, gamma: float, floor: float, cap: float) -> np.ndarray:
    if gamma == 0:
        return web
    if not scores.any():
        raise UserInputError("the signal is 0 in every cluster that is not excluded; there is nothing to weigh by.")
    some = scores > 0
    high = np.minimum(cap, 1 / web)  # no share is above 1
    ratio = np.full(len(web), floor)
    for_zeros = floor * float(web[~some].sum())
    if float((web * high)[some].sum()) <= 1 - for_zeros:  # all are at their cap; the others share what is left
        ratio[some] = high[some]
        if (~some).any():
            ratio[~some] = max(1 - float((web * high)[some].sum()), 0.0) / float(web[~some].sum())
    else:
        ratio[some] = _water_fill(web[some], gamma * np.log(scores[some]), floor, high[some], 1 - for_zeros)
    target = web * ratio
    return target / target.sum()


def _water_fill(web: np.ndarray, height: np.ndarray, floor: float, high: np.ndarray, total: float) -> np.ndarray:
    """Ratios clip(exp(level + height), floor, high) at the level where Σ web · ratio is ``total``."""
    height = height - height.max()
    log_high = np.log(high)

    def ratios(level: float) -> np.ndarray:
        return np.clip(np.exp(np.minimum(level + height, log_high)), floor, high)

    # At level 0 no ratio is above 1, nor the sum above ``total``; at the upper end all are at their cap.
    low, top = 0.0, float((log_high - height).max())
    for _ in range(200):
        middle = (low + top) / 2
        if not low < middle < top:
            break
        low, top = (middle, top) if float(web @ ratios(middle)) < total else (low, middle)
    return ratios(top)  # off by the rounding of the level alone; the caller scales the sum to 1


# --- exclusions ------------------------------------------------------------------------------------------------------


def highest_cer(probes: Sequence[ClusterProbe], max_cer: float | None = None) -> float | None:
    """The character error rate above which a cluster is left out; ``None`` where none was measured.

    By default 3 times the median of the clusters, and at least 0.2. The first is for recognisers that err everywhere; the
    second keeps good clusters where a recogniser hardly errs at all: at 0.2 about (1 − 0.2)^5, a third, of the words of five
    characters are still intact.
    """
    rates = [probe.cer for probe in probes if probe.cer is not None]
    if not rates:
        return None
    return max(CER_AT_LEAST, CER_TIMES_USUAL * float(np.median(rates))) if max_cer is None else max_cer


def exclusions(
    probes: Sequence[ClusterProbe], failed: Mapping[int, str], max_cer: float | None = None
) -> dict[int, str]:
    """Clusters that are not to be spoken, with the reason: those whose probe failed as a whole (``failed``: cluster → why), and
    those whose synthesis cannot be recognised."""
    reasons = dict(failed)
    highest = highest_cer(probes, max_cer)
    if highest is not None:
        reasons.update(
            (probe.cluster, f"character error rate {probe.cer:.2f} of its probe is above {highest:.2f}")
            for probe in probes
            if probe.cer is not None and probe.cer > highest
        )
    return reasons


# --- speaking rate ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpokenLength:
    """How much sound came of documents of so many characters. ``cluster`` is ``None`` for documents of the whole corpus."""

    cluster: int | None
    seconds: float
    n_characters: int


def seconds_per_character(k: int, lengths: Sequence[SpokenLength]) -> np.ndarray:
    """(k,) expected seconds of sound per character of a document, by cluster.

    Each cluster's own rate is drawn to that of all as if it had spoken once more as many characters as the mean probe, at the
    rate of all: a probe of few or short documents says little. Clusters without a probe get the rate of all.

    Raises ``DataError`` where nothing was spoken.
    """
    seconds = math.fsum(length.seconds for length in lengths)
    characters = sum(length.n_characters for length in lengths)
    if seconds <= 0 or characters <= 0:
        raise DataError(
            f"{len(lengths)} probes hold {seconds} s of sound of {characters} characters, so nothing is known of how long a "
            "document takes to say. Look at the voice, and at the lengths of the spans."
        )
    overall, prior = seconds / characters, characters / len(lengths)
    rates = np.full(k, overall)
    for length in lengths:
        if length.cluster is not None:
            rates[length.cluster] = (length.seconds + overall * prior) / (length.n_characters + prior)
    return rates


# --- documents -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn, and what a reader should know of it: clusters that ran out, a reserve that could not be had."""

    documents: tuple[SelectedDocument, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Expected sound of what is within the budget."""
        return math.fsum(chosen.seconds for chosen in self.documents if not chosen.reserve)


def draw(
    documents: Sequence[TextDocument],
    labels: Sequence[int] | np.ndarray,
    weights: Sequence[ClusterWeight],
    budget_seconds: float,
    rates: np.ndarray,
    seed: int,
    *,
    reasons: Mapping[int, str] | None = None,
    held_out: frozenset[str] = frozenset(),
    reserve: float = RESERVE,
) -> Drawn:
    """Draw a cluster, then a document in it, without replacement, until the expected sound reaches the budget.

    A cluster is drawn ∝ target / (mean seconds of its documents), so that its share *of the sound* is its target, however long its
    documents are. Draws follow a Kronecker sequence (multiples of the golden ratio modulo 1, from a random start): each one is
    ∝ target by itself, and together they are spread more evenly than independent ones, so that a small budget is shared as it
    should be and not by chance. A cluster that runs out passes its share on to the others in proportion to theirs.

    Near the end, documents that would lead more than 1% beyond the budget are passed over for shorter ones, and come first in the
    reserve, which is then drawn in the same way. The sum is within 1% of the budget, or no other last document is nearer.

    Which documents of a cluster come first depends on the seed and the cluster alone, not on the weights: two selections of one
    clustering by different signals share as many documents as their shares allow.

    Args:
        labels: (n,) cluster of each document. weights: one a cluster; their ``cluster`` is the label.
        rates: (K,) expected seconds of sound per character of a document.
        reasons: cluster → the line for people that its documents carry.
        held_out: ids of documents that are not drawn.
        reserve: share of the budget to be drawn beyond it.

    Raises ``UserInputError`` for a budget of zero or less, and for one beyond the speech that there is.
    """
    _check_amounts(budget_seconds, reserve)
    labels = np.asarray(labels, dtype=np.int64)
    if labels.shape != (len(documents),):
        raise DataError(f"{labels.shape} labels for {len(documents)} documents; expected one each.")
    pools = _Pools(documents, labels, weights, rates, seed, held_out)
    _check_budget(pools, budget_seconds, documents, labels, rates)
    draws = pools.draws()
    chosen, passed_over = _fill_budget(pools, draws, budget_seconds)
    if not chosen:
        raise UserInputError(
            f"budget_seconds is {budget_seconds:g}, and no document is short enough for it: the shortest takes "
            f"{pools.shortest_seconds:.1f} s. Give a larger budget."
        )
    wanted, weight_of = reserve * budget_seconds, {weight.cluster: weight.target for weight in weights}
    kept_back = _fill_reserve(pools, itertools.chain(passed_over, draws), wanted)

    def selected(index: int, reserve: bool) -> SelectedDocument:
        reason = (reasons or {}).get(label := int(labels[index]), f"cluster {label}")
        return SelectedDocument(
            documents[index], label, weight_of[label], reason, float(pools.seconds[index]), reserve=reserve
        )

    return Drawn(
        (*(selected(index, False) for index in chosen), *(selected(index, True) for index in kept_back)),
        (*_reserve_notes(pools, kept_back, wanted), *_exhausted_notes(sorted(pools.exhausted), weight_of)),
    )


def _check_amounts(budget_seconds: float, reserve: float) -> None:
    if not (math.isfinite(budget_seconds) and budget_seconds > 0):
        raise UserInputError(f"budget_seconds is {budget_seconds}; expected seconds of sound, more than 0.")
    if not reserve >= 0:
        raise UserInputError(f"reserve is {reserve}; expected a share of the budget, 0 or more.")


def _fill_reserve(pools: _Pools, candidates: Iterator[int], wanted: float) -> list[int]:
    """Documents in the order of ``candidates`` until their sound is as long as ``wanted``."""
    chosen: list[int] = []
    beyond = 0.0
    while beyond < wanted and (index := next(candidates, None)) is not None:
        pools.take(index)
        chosen.append(index)
        beyond += float(pools.seconds[index])
    return chosen


def _reserve_notes(pools: _Pools, kept_back: Sequence[int], wanted: float) -> Iterator[str]:
    beyond = sum(float(pools.seconds[index]) for index in kept_back)
    if beyond < wanted:
        yield f"the reserve is {beyond:.0f} s of the {wanted:.0f} s asked for: no more documents are left."


def _exhausted_notes(exhausted: Sequence[int], weight_of: Mapping[int, float]) -> Iterator[str]:
    if exhausted:
        share = math.fsum(weight_of[cluster] for cluster in exhausted)
        yield (
            f"{len(exhausted)} cluster(s) with {share:.1%} of the target ran out of documents, and the others took their share: "
            + ", ".join(map(str, exhausted[:12]))
            + ("…" if len(exhausted) > 12 else "")
        )


def _fill_budget(pools: _Pools, draws: Iterator[int], budget_seconds: float) -> tuple[list[int], list[int]]:
    """Documents up to the budget, and those that came up near its end and were too long for what was missing."""
    chosen: list[int] = []
    passed_over: list[int] = []
    missing, tolerance = budget_seconds, TOLERANCE * budget_seconds
    for index in draws:
        length = float(pools.seconds[index])
        if length >= 2 * missing and missing <= tolerance:  # it is near enough, and farther with this one
            return chosen, passed_over
        pools.take(index)
        if length > missing + tolerance:
            passed_over.append(index)
            if len(passed_over) == MOST_PASSED_OVER:
                break
            continue
        chosen.append(index)
        missing -= length
        if missing <= 0:
            return chosen, passed_over
    # What is missing is less than usual documents are long: first the longest that fit, then one more, or another in the
    # place of the last, wherever that brings the sum nearer.
    while missing > tolerance:
        fitting = pools.nearest(missing, passed_over, most=missing + tolerance)
        if fitting is None:
            break
        _choose(fitting, pools, chosen, passed_over)
        missing -= float(pools.seconds[fitting])
    while abs(missing) > tolerance:
        more = pools.nearest(missing, passed_over)
        other = pools.nearest(missing + float(pools.seconds[chosen[-1]]), passed_over) if chosen else None
        after_more = math.inf if more is None else missing - float(pools.seconds[more])
        after_other = math.inf if other is None else missing + float(pools.seconds[chosen[-1]] - pools.seconds[other])
        if more is not None and abs(after_more) <= abs(after_other) and abs(after_more) < abs(missing):
            _choose(more, pools, chosen, passed_over)
            missing = after_more
        elif other is not None and abs(after_other) < abs(missing):
            passed_over.append(chosen.pop())
            _choose(other, pools, chosen, passed_over)
            missing = after_other
        else:
            break
    return chosen, passed_over


def _choose(index: int, pools: _Pools, chosen: list[int], passed_over: list[int]) -> None:
    pools.take(index)
    if index in passed_over:
        passed_over.remove(index)
    chosen.append(index)


class _Pools:
    """The documents that may be drawn, by cluster, each cluster in an order of its own."""

    def __init__(
        self,
        documents: Sequence[TextDocument],
        labels: np.ndarray,
        weights: Sequence[ClusterWeight],
        rates: np.ndarray,
        seed: int,
        held_out: frozenset[str],
    ) -> None:
        self.seconds = np.array([len(document.text) for document in documents], dtype=np.float64) * rates[labels]
        self._seed = seed
        self._orders: dict[int, list[int]] = {}
        self._taken = np.zeros(len(documents), dtype=bool)
        self._clusters = [weight.cluster for weight in weights if weight.target > 0]
        self._targets = np.array([weight.target for weight in weights if weight.target > 0])
        free = np.array([document.id not in held_out for document in documents], dtype=bool)
        by_label = np.argsort(labels, kind="stable")
        edges: Any = np.searchsorted(labels[by_label], [[c, c + 1] for c in self._clusters]) if self._clusters else []
        means = []
        for cluster, (start, end) in zip(self._clusters, edges, strict=True):
            members = by_label[start:end]
            members = members[free[members]]
            # In reverse, since documents are taken from the end.
            self._orders[cluster] = np.random.default_rng([seed, 0, cluster]).permutation(members)[::-1].tolist()
            means.append(float(self.seconds[members].mean()) if len(members) else math.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = self._targets / np.array(means)
        self._rate = np.where(np.isfinite(rate) & (rate > 0), rate, 0.0)
        self.exhausted: set[int] = {c for c in self._clusters if not self._orders[c]}

    @property
    def available_seconds(self) -> float:
        return math.fsum(float(self.seconds[order].sum()) for order in self._orders.values() if order)

    @property
    def shortest_seconds(self) -> float:
        return min(float(self.seconds[order].min()) for order in self._orders.values() if order)

    def draws(self) -> Iterator[int]:
        """Documents in the order of drawing, until there are no more. ``take`` what is kept; what is not may come again."""
        start, n = float(np.random.default_rng([self._seed, 1]).random()), 0
        rate = self._rate.copy()
        while True:
            for place, cluster in enumerate(self._clusters):
                if not self._open(cluster):
                    rate[place] = 0.0
            if not rate.sum() > 0:
                return
            edges = np.cumsum(rate / rate.sum())
            edges[np.flatnonzero(rate)[-1] :] = 1.0  # whatever the sum was rounded to
            points = (start + (n + np.arange(_BLOCK)) * GOLDEN_RATIO) % 1.0
            for place in np.searchsorted(edges, points, side="right").tolist():
                if not self._open(self._clusters[place]):
                    break  # it ran out: the others' shares are larger from here on
                n += 1
                yield self._orders[self._clusters[place]][-1]

    def _open(self, cluster: int) -> bool:
        """Whether a cluster has a document left; drops what was taken from its end."""
        order = self._orders[cluster]
        while order and self._taken[order[-1]]:
            order.pop()
        if not order:
            self.exhausted.add(cluster)
        return bool(order)

    def take(self, index: int) -> None:
        self._taken[index] = True

    def nearest(self, wanted: float, also: Sequence[int], most: float = math.inf) -> int | None:
        """The document nearest to ``wanted`` seconds, of at most ``most``, among those not taken and ``also`` those."""
        left = self._left(also)
        left = left[self.seconds[left] <= most]
        return int(left[np.abs(self.seconds[left] - wanted).argmin()]) if len(left) else None

    def _left(self, also: Sequence[int]) -> np.ndarray:
        orders = [np.asarray(order, dtype=np.int64) for order in self._orders.values()]
        left = np.concatenate(orders) if orders else np.zeros(0, dtype=np.int64)
        return np.concatenate([left[~self._taken[left]], np.asarray(also, dtype=np.int64)])


def _check_budget(
    pools: _Pools,
    budget_seconds: float,
    documents: Sequence[TextDocument],
    labels: np.ndarray,
    rates: np.ndarray,
) -> None:
    available = pools.available_seconds
    if budget_seconds <= available:
        return
    everything = float(np.array([len(document.text) for document in documents]) @ rates[labels])
    rest = ""
    if available < everything - 0.5:
        rest = f" (the whole corpus: {everything:.0f} s; the rest is excluded, has no weight or is held out for the probes)"
    raise UserInputError(
        f"budget_seconds is {budget_seconds:g}, and the documents to choose from hold about {available:.0f} s of speech{rest}. "
        "Give a smaller budget or a larger corpus."
    )
