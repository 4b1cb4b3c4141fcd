"""What ``salad run --dry-run`` says of the embedded run beside what the run then takes: seconds in all and by step, sound, tokens, disk.

    python -m tests.speed.bench_dry_run [--limit 280] [--voices en-us+f3 en-us+m7] [--conditions clean]

Each in a fresh process, as the command line has it, with a folder and audio store of its own, one after the other. The bar is 30% to
either side for time, 5% for what is counted.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from salad_eval import progress
from salad_eval.pipeline.estimate import REPORT, Estimated, estimate
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run, steps_of
from tests.speed.measured import Measured, tell

BAR, COUNTED_BAR = 1.3, 1.05  # times too much or too little


@dataclass(frozen=True, slots=True)
class Ran:
    """A whole run: ``took`` by step, the report among them."""

    took: dict[str, float]
    n_items: int
    n_recordings: int
    sound: float
    disk: int
    read: int

    @property
    def seconds(self) -> float:
        return sum(self.took.values())


def told(plan: Plan) -> tuple[Estimated, float]:
    began = time.perf_counter()
    return estimate(plan), time.perf_counter() - began


def ran(plan: Plan) -> Ran:
    began = time.perf_counter()
    with progress.timed() as by_step:
        report = run(plan)
    real = time.perf_counter() - began
    took = {name: by_step.get(name, 0.0) for name in steps_of(plan)}
    renderings = read_run(Path(plan.folder)).renderings()
    return Ran(
        took={**took, REPORT: real - sum(took.values())},
        n_items=report.overall.n_items,
        n_recordings=len(renderings),
        sound=sum(one.seconds for one in renderings),
        disk=sum(2 * one.n_samples for one in renderings),
        read=sum(cost.tokens.read for cost in report.costs.columns if cost.tokens) if report.costs else 0,
    )


def off(told: float, real: float) -> float:
    """How many times too much or too little: 1 is right."""
    return math.exp(abs(math.log(told / real)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=280)
    parser.add_argument("--voices", nargs="+", default=["en-us+f3", "en-us+m7"])
    parser.add_argument("--conditions", nargs="+", default=["clean"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="salad-bench-") as place:
        settings = {
            "limit": options.limit, "voices": options.voices, "conditions": options.conditions, "out": f"{place}/run",
            "audio_store": f"{place}/audio",
        }  # fmt: skip
        plan = Plan.preset("nano", settings)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
            said, asking = fresh.submit(told, plan).result()
            made = fresh.submit(ran, plan).result()
    print(f"the dry run took {asking:.1f} s; said {said.seconds or 0:.1f} s of a run that took {made.seconds:.1f} s")
    for step in said.steps:
        print(f"  {step.name:28} said {step.seconds or 0:7.2f} s, took {made.took[step.name]:7.2f} s")
    what = f"{made.n_items} items, {made.n_recordings} recordings"
    tell(
        Measured(f"seconds said of the run, {what}: off by", off(said.seconds or 1e-9, made.seconds), "×", BAR, "less"),
        Measured(
            f"seconds of sound said, {what}: off by", off(said.seconds_of_sound, made.sound), "×", COUNTED_BAR, "less"
        ),
        Measured(f"disk said, {what}: off by", off(said.disk_bytes, made.disk), "×", COUNTED_BAR, "less"),
        Measured(f"tokens said, {what}: off by", off(said.tokens, made.read), "×", COUNTED_BAR, "less"),
        Measured(f"the dry run itself, {what}", asking, "s"),
    )


if __name__ == "__main__":
    main()
