"""From records to findings: pure functions. Every interval is a 95% one; what is random is drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.types import Estimate
from salad_train.nano import world
from salad_train.nano.study.answers import from_hex
from salad_train.nano.study.plan import BREADTHS, BUDGET, CLUSTERS, GAMMA, Breadth, Checkpoint, Record, Stage2Run
from salad_train.nano.study.scaling import PowerLawFit, bootstrap_r2, fit_power_law

CONFIDENCE = 0.95
RESAMPLES = 4000
Runs = Sequence[Record]


# --- means over seeds ------------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed, with Student's t interval; no interval from one seed."""
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    mean, n = float(x.mean()), len(x)
    if n < 2:
        return Estimate(mean, None, None, n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(x.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n)


def by_seed(records: Runs, wanted: Stage2Run) -> dict[int, Record]:
    """The records that state what ``wanted`` states, by seed (``wanted``'s own seed and way of listening do not matter)."""
    return {
        record.stage2.seed: record
        for record in records
        if record.stage2 is not None and _arm(record.stage2) == _arm(wanted)
    }


def stage1_by_seed(records: Runs, alpha: float, breadth: Breadth) -> dict[int, Record]:
    """The records of Stage I at one alpha and breadth, by seed."""
    return {
        record.stage1.seed: record
        for record in records
        if record.stage1 is not None and (record.stage1.alpha, record.stage1.breadth) == (alpha, breadth)
    }


def side(estimate: Estimate) -> int:
    """1 or −1 where the interval lies above or below 0; 0 where it holds 0, and where there is none."""
    if estimate.low is not None and estimate.low > 0:
        return 1
    return -1 if estimate.high is not None and estimate.high < 0 else 0


def _arm(run: Stage2Run) -> tuple[object, ...]:
    gamma = 0.0 if run.signal == "uniform" else run.gamma
    return (run.signal, gamma, run.clusters, run.budget_seconds, run.tune, run.replay, run.held_back)


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm less another on the test split, paired.

    Attributes:
        over_seeds: Student's t over the seeds' differences: other draws, cuts, voices and orders of the same questions.
        over_seeds_and_items: bootstrap over seeds and questions at once: other questions, too.
    """

    over_seeds: Estimate
    over_seeds_and_items: Estimate


def difference(first: Mapping[int, Record], second: Mapping[int, Record], seed: int = 0) -> Difference | None:
    """Speech accuracy of ``first`` less that of ``second`` on their common seeds; ``None`` without one."""
    return _mean_difference([(first, second)], seed)


def over_budgets(records: Runs, signal: str, budgets: Sequence[float], seed: int = 0) -> Difference | None:
    """``signal`` less uniform, as the mean over ``budgets`` of each seed that has all of them: one comparison instead of several;
    ``None`` without such a seed."""

    def arm(name: str, budget: float) -> dict[int, Record]:
        return by_seed(records, Stage2Run(name, 0, budget_seconds=budget))

    return _mean_difference([(arm(signal, budget), arm("uniform", budget)) for budget in budgets], seed)


def _by_item(record: Record) -> np.ndarray:
    """(items,) share of right answers by ear over the voices."""
    n_items = world.ITEMS_PER_DOMAIN * len(world.domains())
    return from_hex(record.last.right, n_items).mean(axis=1)


def _mean_difference(
    pairs: Sequence[tuple[Mapping[int, Record], Mapping[int, Record]]], seed: int
) -> Difference | None:
    """The mean over ``pairs`` of first less second, on the seeds that all have; ``None`` without one."""
    seeds = sorted(set.intersection(*(first.keys() & second.keys() for first, second in pairs)) if pairs else ())
    if not seeds:
        return None
    table = np.array(  # (seeds, items)
        [np.mean([_by_item(first[s]) - _by_item(second[s]) for first, second in pairs], axis=0) for s in seeds]
    )
    n_seeds, n_items = table.shape
    middle, by_one = float(table.mean()), over_seeds(table.mean(axis=1).tolist())
    if n_seeds < 2:
        return Difference(by_one, Estimate(middle, None, None, 1))
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        rows = rng.integers(n_seeds, size=n_seeds)
        columns = rng.integers(n_items, size=n_items)
        means[k] = table[rows].mean(axis=0)[columns].mean()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # Resampled means of n seeds vary as (n − 1) / n of what they estimate; as many items need no correction.
    widen = math.sqrt(n_seeds / (n_seeds - 1))
    return Difference(
        by_one,
        Estimate(middle, middle - widen * (middle - float(low)), middle + widen * (float(high) - middle), n_seeds),
    )


# --- 1: alpha, breadth and data --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """M and F of one (alpha, breadth) as data grows: a point each for ``hours`` of distinct speech heard (mean over seeds)."""

    alpha: float
    breadth: str
    hours: tuple[float, ...]
    misalignment: tuple[Estimate, ...]
    forgetting: tuple[Estimate, ...]
    speech: tuple[Estimate, ...]
    text: tuple[Estimate, ...]
    fit: PowerLawFit | None


def curves(records: Runs, seed: int = 0) -> tuple[Curve, ...]:
    """Stage I by alpha and breadth. The fit is of M = E + B · D^(−β), D in hours, with intervals over seeds."""
    alphas = sorted({record.stage1.alpha for record in records if record.stage1 is not None})
    found = []
    for breadth in BREADTHS:
        for alpha in alphas:
            mine = list(stage1_by_seed(records, alpha, breadth).values())
            if not mine:
                continue
            points = list(zip(*(record.checkpoints for record in mine), strict=True))

            def each(
                value: Callable[[Checkpoint], float], at: list[tuple[Checkpoint, ...]] = points
            ) -> tuple[Estimate, ...]:
                return tuple(over_seeds([value(checkpoint) for checkpoint in point]) for point in at)

            found.append(
                Curve(
                    alpha=alpha,
                    breadth=breadth,
                    hours=tuple(float(np.mean([c.heard_seconds for c in point])) / 3600 for point in points),
                    misalignment=each(lambda c: c.misalignment),
                    forgetting=each(lambda c: c.forgetting),
                    speech=each(lambda c: c.speech_accuracy),
                    text=each(lambda c: c.text_accuracy),
                    fit=_fit(mine, seed),
                )
            )
    return tuple(found)


def _fit(records: Runs, seed: int) -> PowerLawFit | None:
    data = [c.heard_seconds / 3600 for record in records for c in record.checkpoints]
    m = [c.misalignment for record in records for c in record.checkpoints]
    runs = [record.key for record in records for _ in record.checkpoints]
    return fit_power_law(data, m, units=runs, seed=seed)


# --- 2: what accuracy follows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explained:
    """How well a divergence tells an accuracy over checkpoints.

    Attributes:
        stage: whose checkpoints: "both", "I" or "II". Over both, most of what varies is which stage it was.
        partial: that of the named divergence given the other.
    """

    accuracy: str
    divergence: str
    stage: str
    n: int
    leave_one_out: Estimate
    partial: Estimate


def explained(records: Runs, seed: int = 0) -> tuple[Explained, ...]:
    """Speech accuracy by M and text accuracy by F, over all checkpoints of all runs (linear, as in the paper), and within a stage.
    Resampled by run.

    A stage is left out where one of the four never changes, as F in runs that train the adapter alone.
    """
    found: list[Explained] = []
    for stage, mine in (
        ("both", records),
        ("I", [record for record in records if record.stage1 is not None]),
        ("II", [record for record in records if record.stage2 is not None]),
    ):
        points = [(record.key, checkpoint) for record in mine for checkpoint in record.checkpoints]
        if len(points) < 8:
            continue
        runs = [key for key, _ in points]
        m = np.array([c.misalignment for _, c in points])
        f = np.array([c.forgetting for _, c in points])
        speech = np.array([c.speech_accuracy for _, c in points])
        text = np.array([c.text_accuracy for _, c in points])
        if min(np.ptp(f), np.ptp(text), np.ptp(m), np.ptp(speech)) < 1e-9:
            continue
        found += [
            Explained(
                accuracy,
                divergence,
                stage,
                len(points),
                bootstrap_r2(y, x, units=runs, seed=seed),
                bootstrap_r2(y, x, given=other, units=runs, seed=seed),
            )
            for accuracy, divergence, y, x, other in (
                ("speech accuracy", "M", speech, m, f),
                ("text accuracy", "F", text, f, m),
            )
        ]
    return tuple(sorted(found, key=lambda row: row.divergence, reverse=True))


# --- 3: signals ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm of Stage II on the test split.

    Attributes:
        speech, text: accuracy. gained: speech accuracy above the shipped model's. per_minute: the same a minute of made speech.
        gained_unheard, gained_heard: the same of domains that Stage I did not hear, and of those that it did.
        unheard_share: share of the selected sound that is of domains Stage I did not hear.
        against_uniform: difference in speech accuracy to uniform at the same budget and number of clusters.
    """

    run: Stage2Run
    n: int
    speech: Estimate
    text: Estimate
    gained: Estimate
    per_minute: Estimate
    gained_unheard: Estimate
    gained_heard: Estimate
    unheard_share: Estimate
    against_uniform: Difference | None


def arm_result(records: Runs, before: Checkpoint, wanted: Stage2Run) -> ArmResult | None:
    """``None`` where no run of this arm is there."""
    mine = by_seed(records, wanted)
    if not mine:
        return None
    control = by_seed(records, Stage2Run("uniform", 0, budget_seconds=wanted.budget_seconds))
    gains = [r.last.speech_accuracy - before.speech_accuracy for r in mine.values()]
    return ArmResult(
        run=wanted,
        n=len(mine),
        speech=over_seeds([r.last.speech_accuracy for r in mine.values()]),
        text=over_seeds([r.last.text_accuracy for r in mine.values()]),
        gained=over_seeds(gains),
        per_minute=over_seeds(
            [gain / (r.last.heard_seconds / 60) for gain, r in zip(gains, mine.values(), strict=True)]
        ),
        gained_unheard=over_seeds([change(r.last, before, world.unheard_domains()) for r in mine.values()]),
        gained_heard=over_seeds([change(r.last, before, world.HEARD_DOMAINS) for r in mine.values()]),
        unheard_share=over_seeds([_unheard_share(r.selected_seconds) for r in mine.values()]),
        against_uniform=None if wanted.signal == "uniform" else difference(mine, control),
    )


def change(after: Checkpoint, before: Checkpoint, domains: Sequence[str]) -> float:
    """Of speech accuracy, as the mean over ``domains``."""
    return float(np.mean([after.speech[name] - before.speech[name] for name in domains]))


def _unheard_share(seconds: Mapping[str, float]) -> float:
    return sum(s for name, s in seconds.items() if name not in world.HEARD_DOMAINS) / sum(seconds.values())


def arms(records: Runs, before: Checkpoint, chosen: Sequence[Stage2Run]) -> tuple[ArmResult, ...]:
    found = (arm_result(records, before, run) for run in chosen)
    return tuple(result for result in found if result is not None)


def varied(records: Runs, vary: str, signals: Sequence[str]) -> list[Stage2Run]:
    """The arms in which ``vary`` (gamma or clusters) takes other values than the usual one, and those with the usual one."""
    usual = {"gamma": GAMMA, "clusters": CLUSTERS, "budget_seconds": BUDGET}
    runs = {
        _arm(record.stage2): record.stage2
        for record in records
        if record.stage2 is not None
        and record.stage2.signal in signals
        and (record.stage2.tune, record.stage2.replay, record.stage2.held_back) == ("adapter", True, False)
        and all(getattr(record.stage2, name) == value for name, value in usual.items() if name != vary)
    }
    return sorted(runs.values(), key=lambda run: (signals.index(run.signal), getattr(run, vary)))


# --- 4: what the paper left open -------------------------------------------------------------------------------------


def conditions(records: Runs, shipped: Record) -> dict[str, dict[str, Estimate]]:
    """Way of listening → accuracy by ear of the shipped model, and after Stage II by uniform and by the gap."""
    found: dict[str, dict[str, Estimate]] = {}
    for name, value in shipped.conditions.items():
        found[name] = {"before": Estimate(value, None, None, 1)}
        for signal in ("uniform", "gap"):
            values = [
                r.conditions[name] for r in by_seed(records, Stage2Run(signal, 0)).values() if name in r.conditions
            ]
            if values:
                found[name][signal] = over_seeds(values)
    return found


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is trained beside the adapter, with text replay and without, by the gap at the usual budget."""

    tune: str
    replay: bool
    n: int
    speech: Estimate
    text: Estimate
    forgetting: Estimate


def tunings(records: Runs) -> tuple[Tuning, ...]:
    found = []
    for tune, replay in (("adapter", True), ("lora", True), ("lora", False), ("full", True), ("full", False)):
        mine = by_seed(records, Stage2Run("gap", 0, tune=tune, replay=replay)).values()  # type: ignore[arg-type]
        if mine:
            found.append(
                Tuning(
                    tune,
                    replay,
                    len(mine),
                    over_seeds([r.last.speech_accuracy for r in mine]),
                    over_seeds([r.last.text_accuracy for r in mine]),
                    over_seeds([r.last.forgetting for r in mine]),
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Change in speech accuracy when half of the unheard domains are kept out of the corpus: in those that were spoken, in those
    that were kept out, and in those that Stage I had heard."""

    n: int
    spoken: Estimate
    kept_out: Estimate
    heard: Estimate


def transfer(records: Runs, before: Checkpoint) -> Transfer | None:
    mine = by_seed(records, Stage2Run("gap", 0, held_back=True)).values()
    if not mine:
        return None

    def domains(record: Record, kind: str) -> Sequence[str]:
        if kind == "heard":
            return world.HEARD_DOMAINS
        return [name for name in world.unheard_domains() if (name in record.held_back) == (kind == "kept_out")]

    return Transfer(
        len(mine),
        *(
            over_seeds([change(r.last, before, domains(r, kind)) for r in mine])
            for kind in ("spoken", "kept_out", "heard")
        ),
    )
