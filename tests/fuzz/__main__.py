"""Many inputs to every target, with counts.

    python -m tests.fuzz --inputs 1000000 --seed 0 --out docs/evidence/fuzz.md

An input that took more than ``SLOW_SECONDS`` is a fault as well. Ends with 1 where anything was uncaught, wrong or slow.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

from salad_eval.errors import SaladError
from tests.fuzz.targets import Target, targets

SLOW_SECONDS = 2.0
# Shares of the inputs; what reads no file is asked more often.
SHARES = {"readers": 5.0, "plain words": 3.0, "conditions": 3.0}
MIN_INPUTS = 20_000


@dataclass
class Outcome:
    """What became of a target's inputs; the first few faults in words."""

    name: str
    n: int = 0
    refused: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, what: str) -> None:
        self.kinds[kind] += 1
        if len(self.faults) < 5:
            self.faults.append(f"{kind}: {what}")


def share(target: Target) -> float:
    return SHARES.get(target.name.split(":")[0], 1.0)


def asked(target: Target, n: int, seed: int, tick: object = None) -> Outcome:
    """``n`` inputs, each drawn by the seed, the target's name and its number."""
    outcome = Outcome(target.name)
    for number in range(-(-n // target.inputs)):
        draw = random.Random(f"{seed} {target.name} {number}")
        given = target.make(draw)
        began = time.perf_counter()
        try:
            if wrong := target.try_it(given):
                outcome.fault("wrong", wrong)
        except SaladError:
            outcome.refused += target.inputs
        except BaseException as cause:
            if isinstance(cause, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(cause.__traceback__)[-1]
            outcome.fault("uncaught", f"{type(cause).__name__}: {cause} ({last.name}:{last.lineno}) for {given!r:.300}")
        took = time.perf_counter() - began
        outcome.seconds += took
        outcome.slowest_s = max(outcome.slowest_s, took)
        if took > SLOW_SECONDS:
            outcome.fault("slow", f"{took:.1f} s for {given!r:.200}")
        outcome.n += target.inputs
        if callable(tick):
            tick()
    return outcome


TABLE = "| given to | inputs | refused | uncaught | wrong | slow | slowest |\n|---|---|---|---|---|---|---|\n"
EXPLAINED = """*Refused*: one of our own errors, which says what is wrong; *wrong*: an oracle contradicts the value;
*slow*: more than two seconds."""


def row(one: Outcome) -> str:
    kinds = " | ".join(str(one.kinds[kind]) for kind in ("uncaught", "wrong", "slow"))
    return f"| {one.name} | {one.n:,} | {one.refused:,} | {kinds} | {one.slowest_s * 1000:.0f} ms |"


def page(outcomes: Sequence[Outcome], command: str) -> str:
    when = f"{datetime.date.today()}, Python {platform.python_version()}"
    counted = f"{sum(one.n for one in outcomes):,} inputs on {when}: `{command}`. {EXPLAINED}"
    return f"# Damaged and random input\n\n{counted}\n\n{TABLE}" + "".join(f"{row(one)}\n" for one in outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a target's name, or its beginning")
    parser.add_argument("--out", type=Path, help="write the table here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        chosen = [one for one in targets(Path(folder)) if one.name.startswith(arguments.only or "")]
        unit = arguments.inputs / sum(share(one) for one in chosen)
        outcomes = []
        for target in chosen:
            n = max(min(MIN_INPUTS, arguments.inputs), round(unit * share(target)))
            bar = progress.add_task(target.name, total=-(-n // target.inputs))
            outcome = asked(target, n, arguments.seed, lambda bar=bar: progress.advance(bar))
            outcomes.append(outcome)
            counts = f"{outcome.n:,} inputs, {outcome.refused:,} refused, {dict(outcome.kinds) or 'no fault'}"
            print(f"{outcome.name}: {counts}, {outcome.seconds:.0f} s")
            print("".join(f"  {fault}\n" for fault in outcome.faults), end="", flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        command = f"python -m tests.fuzz --inputs {arguments.inputs} --seed {arguments.seed}"
        arguments.out.write_text(page(outcomes, command), encoding="utf-8")
    return int(any(one.kinds for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
