"""Do the 95% intervals cover? Simulation with planted accuracies and gaps, of our interval and of the usual bootstraps.

    python tests/speed/bench_intervals.py [--simulations 2000] [--resamples 1000] [--out
    reports/interval_coverage.md]

Latent difficulty is Gaussian, shared within an item over the columns and voices and within a passage over its items; a
column is right where it lies below the planted accuracy's quantile, so the accuracies (hence the gaps) are known
exactly. Each simulation draws its own truth within +-1 point of the case's accuracies: at one fixed truth the coverage
of *any* interval for counts jumps by several points with the lattice (Brown, Cai & DasGupta 2001), and no benchmark's
accuracy is one fixed number.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from salad_eval.gap.row import measures_for
from salad_eval.gap.stats import ClusterSums, Measure, cluster_sums, resample
from salad_eval.types import COLUMNS

Z = stats.norm.ppf(0.975)
ACCURACY_CASES: Mapping[str, tuple[float, float, float, float]] = {
    # text, cascade, adapted text, adapted speech
    "typical gap": (0.92, 0.88, 0.89, 0.80),
    "large gap": (0.90, 0.85, 0.85, 0.50),
    "middling, gap": (0.70, 0.66, 0.66, 0.55),
    "no gap, 0.90": (0.90, 0.90, 0.90, 0.90),
    "high text": (0.97, 0.95, 0.95, 0.90),
    "near 1, small gap": (0.98, 0.97, 0.97, 0.96),
}
JITTER = 0.01
ITEM_CORRELATION = 0.5  # of the latent difficulty of one item in two columns
VOICE_CORRELATION = 0.2  # added within a column over voices
PASSAGE_CORRELATION = 0.2
COMPARED = ("ours", "percentile", "basic", "BCa", "bootstrap-t", "t")
SHOWN = ("base_text", "adapted_speech", "gap", "misalignment", "forgetting")


@dataclass(frozen=True)
class Design:
    name: str
    n_groups: int
    group_size: int
    voices: int

    @property
    def n_items(self) -> int:
        return self.n_groups * self.group_size


DESIGNS = (
    Design("n = 50, one voice", 50, 1, 1),
    Design("n = 50, two voices", 50, 1, 2),
    Design("n = 50 in 10 passages, one voice", 10, 5, 1),
    Design("n = 200, one voice", 200, 1, 1),
    Design("n = 200, two voices", 200, 1, 2),
    Design("n = 200 in 40 passages, two voices", 40, 5, 2),
)


def simulate(rng: np.random.Generator, design: Design, truth: np.ndarray) -> ClusterSums:
    """One data set: item values (n_items, 4) summed over groups."""
    passage = PASSAGE_CORRELATION if design.group_size > 1 else 0.0
    shared = np.sqrt(passage) * np.repeat(rng.standard_normal(design.n_groups), design.group_size)
    shared = shared + np.sqrt(ITEM_CORRELATION) * rng.standard_normal(design.n_items)
    values = np.empty((design.n_items, len(truth)))
    for column, quantile in enumerate(stats.norm.ppf(truth)):
        voices = design.voices if column in (1, 3) else 1
        own = VOICE_CORRELATION if voices > 1 else 0.0
        rest = np.sqrt(1 - passage - ITEM_CORRELATION - own)
        latent = (
            shared[:, None]
            + np.sqrt(own) * rng.standard_normal((design.n_items, 1))
            + rest * rng.standard_normal((design.n_items, voices))
        )
        values[:, column] = (latent < quantile).mean(axis=1)
    groups = np.repeat(np.arange(design.n_groups), design.group_size)
    return cluster_sums(values, groups)


def usual_intervals(
    rng: np.random.Generator, clusters: ClusterSums, measures: Sequence[Measure], n_resamples: int
) -> dict[str, np.ndarray]:
    """Percentile, basic, BCa, bootstrap-t and Student's t over groups: (2, n_measures) each."""
    weights = np.array([measure.weights for measure in measures]).T
    rows = np.column_stack([np.round(clusters.sums, 9), clusters.sizes])
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    sums, sizes = patterns[:, :-1] @ weights, patterns[:, -1:]
    n_groups = clusters.n_groups
    value = (counts @ sums) / (counts @ sizes)
    drawn = rng.multinomial(n_groups, counts / n_groups, size=n_resamples).astype(float)
    total = drawn @ sizes
    draws = (drawn @ sums) / total
    # Standard error of each resample's ratio by linearisation: residual r_g = sum_g - draw * size_g.
    squares = drawn @ sums**2 - 2 * draws * (drawn @ (sums * sizes)) + draws**2 * (drawn @ sizes**2)
    errors = np.sqrt(np.maximum(squares, 0) * n_groups / (n_groups - 1)) / total
    error = np.sqrt(counts @ (sums - value * sizes) ** 2 * n_groups / (n_groups - 1)) / (counts @ sizes)
    percentile = np.quantile(draws, [0.025, 0.975], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = np.where(errors > 0, (draws - value) / errors, 0.0)
        left_out = (counts @ sums - sums) / (counts @ sizes - sizes)
        centred = np.average(left_out, axis=0, weights=counts) - left_out
        skew = (counts @ centred**3) / (6 * (counts @ centred**2) ** 1.5)
        below = ((draws < value).mean(axis=0) + (draws <= value).mean(axis=0)) / 2
        bias = stats.norm.ppf(np.clip(below, 1e-6, 1 - 1e-6))
        levels = [stats.norm.cdf(bias + (bias + side) / (1 - skew * (bias + side))) for side in (-Z, Z)]
    bca = np.array(
        [
            [np.quantile(draws[:, k], level[k]) if np.isfinite(level[k]) else value[k] for k in range(len(value))]
            for level in levels
        ]
    )
    t_low, t_high = np.quantile(studentised, [0.025, 0.975], axis=0)
    quantile = stats.t.ppf(0.975, n_groups - 1)
    return {
        "percentile": percentile,
        "basic": 2 * value - percentile[::-1],
        "BCa": bca,
        "bootstrap-t": np.array([value - t_high * error, value - t_low * error]),
        "t": np.array([value - quantile * error, value + quantile * error]),
    }


@dataclass
class Tally:
    covered: int = 0
    simulations: int = 0
    width: float = 0.0

    def add(self, low: float, high: float, truth: float) -> None:
        self.covered += low - 1e-9 <= truth <= high + 1e-9
        self.simulations += 1
        self.width += high - low

    @property
    def coverage(self) -> float:
        return 100 * self.covered / self.simulations


Key = tuple[str, str, str, str]  # design, case, method, measure


def run(simulations: int, n_resamples: int, seed: int) -> dict[Key, Tally]:
    tallies: dict[Key, Tally] = defaultdict(Tally)
    measures = [measure for measure in measures_for(COLUMNS) if measure.name in SHOWN]
    for design in DESIGNS:
        for case, accuracies in ACCURACY_CASES.items():
            entropy = [seed, DESIGNS.index(design), list(ACCURACY_CASES).index(case)]
            data_seed, usual_seed, ours_seed = np.random.SeedSequence(entropy).spawn(3)
            rng, usual_rng = np.random.default_rng(data_seed), np.random.default_rng(usual_seed)
            for place, own_seed in enumerate(ours_seed.spawn(simulations)):
                truth = np.clip(np.array(accuracies) + rng.uniform(-JITTER, JITTER, 4), 0.0, 0.999)
                clusters = simulate(rng, design, truth)
                ours = resample(clusters, measures, seed=own_seed, n_resamples=n_resamples)
                for measure, result in zip(measures, ours, strict=True):
                    tallies[design.name, case, "ours", measure.name].add(
                        result.estimate.low or 0.0, result.estimate.high or 0.0, float(np.dot(measure.weights, truth))
                    )
                if place % 4:  # the usual ones on every fourth data set: they need less precision and cost more
                    continue
                for method, (lows, highs) in usual_intervals(usual_rng, clusters, measures, n_resamples).items():
                    for measure, low, high in zip(measures, lows, highs, strict=True):
                        tallies[design.name, case, method, measure.name].add(
                            low, high, float(np.dot(measure.weights, truth))
                        )
    return tallies


def pooled(tallies: Mapping[Key, Tally], design: str, method: str, measure: str) -> Tally:
    total = Tally()
    for case in ACCURACY_CASES:
        tally = tallies[design, case, method, measure]
        total.covered += tally.covered
        total.simulations += tally.simulations
        total.width += tally.width
    return total


def table(tallies: Mapping[Key, Tally], command: str) -> str:
    sample = pooled(tallies, DESIGNS[0].name, "ours", "gap")
    other = pooled(tallies, DESIGNS[0].name, "percentile", "gap")
    lines = [
        "# Coverage of the 95% intervals in simulation",
        "",
        f"Made by `{command}`. Planted accuracies (text, cascade, adapted text, adapted speech): "
        + "; ".join(f"{case} {accuracies}" for case, accuracies in ACCURACY_CASES.items())
        + f"; each simulation's truth is drawn within ±{JITTER} of these. Latent correlation of an item over columns "
        f"{ITEM_CORRELATION}, over voices +{VOICE_CORRELATION}, within a passage {PASSAGE_CORRELATION}.",
        "",
        "“ours” is the interval of `salad_eval/gap/stats.py`: a paired Bayesian cluster bootstrap with half a "
        "pseudo-observation at each end of "
        "the scale. Bars: 95 ± 1% at n ≥ 200, 95 ± 2% at n = 50.",
        "",
        f"## All cases together ({sample.simulations} simulations a figure for ours, standard error {_error(sample)}; "
        f"{other.simulations} for the others, {_error(other)})",
        "",
        "Coverage in percent.",
        "",
        "| design | measure | " + " | ".join(COMPARED) + " | mean width, ours (points) |",
        "|---|---|" + "--:|" * (len(COMPARED) + 1),
    ]
    for design in DESIGNS:
        for measure in SHOWN:
            cells = [f"{pooled(tallies, design.name, method, measure).coverage:.1f}" for method in COMPARED]
            ours = pooled(tallies, design.name, "ours", measure)
            lines.append(
                f"| {design.name} | {measure} | {' | '.join(cells)} | {100 * ours.width / ours.simulations:.1f} |"
            )
    one = tallies[DESIGNS[0].name, next(iter(ACCURACY_CASES)), "ours", "gap"]
    lines += [
        "",
        f"## Ours, case by case ({one.simulations} simulations a figure, standard error {_error(one)})",
        "",
        "| design | measure | " + " | ".join(ACCURACY_CASES) + " |",
        "|---|---|" + "--:|" * len(ACCURACY_CASES),
    ]
    for design in DESIGNS:
        for measure in SHOWN:
            cells = [f"{tallies[design.name, case, 'ours', measure].coverage:.1f}" for case in ACCURACY_CASES]
            lines.append(f"| {design.name} | {measure} | {' | '.join(cells)} |")
    lines += [
        "",
        "Ours errs on the wide side in two places. Where only one or two items of a domain tell two columns "
        "apart (n = 50, accuracies near 1, small gaps) their number is a small count, and an interval that "
        "covered less at one truth would fall well below 95% at the next. And over ten passages the spread "
        "between passages is hardly known: there Student's factor and the pseudo-observations add up.",
        "",
    ]
    return "\n".join(lines)


def _error(tally: Tally) -> str:
    return f"{100 * np.sqrt(0.95 * 0.05 / tally.simulations):.2f}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="data sets per design and case")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the table as Markdown here too")
    arguments = parser.parse_args()
    started = time.perf_counter()
    tallies = run(arguments.simulations, arguments.resamples, arguments.seed)
    command = (
        f"python tests/speed/bench_intervals.py --simulations {arguments.simulations} --resamples "
        f"{arguments.resamples} "
        f"--seed {arguments.seed}"
    )
    text = table(tallies, command)
    print(text)
    print(f"{time.perf_counter() - started:.0f} s")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
