"""What ``tests.study.checkpoints`` found, as a table: answers and D of each checkpoint, and both less those of one of them.

    python -m tests.study.table FILE.jsonl [--against NAME] [--part LABEL=DOMAIN,DOMAIN…] [--mean LABEL=NAME,NAME…]

Intervals are 95%, by resampling questions (10,000 times, seed 0), and paired where one is less another. ``--part``: a row for these domains
by themselves. ``--mean``: the mean of several checkpoints, such as seeds, as if it were one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salad_eval.records import read_jsonl
from tests.study.checkpoints import CONTROLS, Asked

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of each question: ``right`` (share of the checkpoints that answer it right), ``nats`` summed over ``positions``; (n,) each."""

    right: np.ndarray
    nats: np.ndarray
    positions: np.ndarray

    def of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Percent right and D, of each row of places."""
        nats, positions = self.nats[places].sum(-1), self.positions[places].sum(-1)
        return 100 * self.right[places].mean(-1), nats / positions


def answers(lines: Sequence[Asked]) -> Answers:
    return Answers(
        np.mean([[digit == "1" for digit in line.heard] for line in lines], axis=0),
        np.mean([line.distillation for line in lines], axis=0),
        np.array(lines[0].positions),
    )


def interval(values: np.ndarray, digits: int) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.{digits}f} to {high:.{digits}f}"


def row(one: Answers, other: Answers | None, places: np.ndarray) -> str:
    """The cells of one checkpoint in one part of the questions."""
    drawn = np.random.default_rng(0).choice(places, (RESAMPLES, len(places)))
    cells = []
    for kind, digits in ((0, 1), (1, 2)):
        here, resampled = one.of(places)[kind], one.of(drawn)[kind]
        cells.append(f"{here:.{digits}f} ({interval(resampled, digits)})")
        if other is not None:
            less = resampled - other.of(drawn)[kind]
            cells.append(
                "" if one is other else f"{here - other.of(places)[kind]:+.{digits}f} ({interval(less, digits)})"
            )
    return " | ".join(cells)


def named(text: str) -> tuple[str, tuple[str, ...]]:
    label, _, names = text.partition("=")
    return label, tuple(names.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--against")
    parser.add_argument("--part", type=named, action="append", default=[])
    parser.add_argument("--mean", type=named, action="append", default=[])
    options = parser.parse_args()
    lines = {line.name: line for line in read_jsonl(options.file, Asked)}
    found = {name: answers([line]) for name, line in lines.items()}
    found |= {label: answers([lines[name] for name in names]) for label, names in options.mean}
    domains = np.array(next(iter(lines.values())).domains)
    parts = [("all", tuple(sorted(set(domains)))), *options.part]
    other = found[options.against] if options.against else None
    for label, names in parts:
        places = np.flatnonzero(np.isin(domains, names))
        print(f"\n{label}, {len(places)} questions\n")
        for name, one in found.items():
            controls = {c: getattr(lines[name], c) for c in CONTROLS if name in lines and getattr(lines[name], c)}
            told = ", ".join(f"{c} {np.mean([text[k] == '1' for k in places]):.1%}" for c, text in controls.items())
            print(f"| {name} | {row(one, other, places)} |{' ' + told if told else ''}")


if __name__ == "__main__":
    main()
