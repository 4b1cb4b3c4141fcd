"""What ``salad run --dry-run`` says of the embedded run beside what the run then takes: seconds in all and by step, sound, tokens, disk.

    python -m tests.speed.bench_dry_run [--limit 280] [--voices en-us+f3 en-us+m7] [--conditions clean]

Both in one process, with a fresh folder and audio store, one after the other. The bar is 30% to either side.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

from salad_eval import progress
from salad_eval.pipeline.estimate import estimate
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from tests.speed.measured import Measured, tell

BAR = 1.3  # times too much or too little


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
        began = time.perf_counter()
        told = estimate(plan)
        asking = time.perf_counter() - began
        began = time.perf_counter()
        with progress.timed() as took:
            report = run(plan)
        real = time.perf_counter() - began
        made = read_run(Path(plan.folder))
        renderings = made.renderings()
        sound = sum(one.seconds for one in renderings)
        disk = sum(2 * one.n_samples for one in renderings)
        read = sum(cost.tokens.read for cost in report.costs.columns if cost.tokens) if report.costs else 0
    print(f"the dry run took {asking:.1f} s; said {told.seconds or 0:.1f} s of a run that took {real:.1f} s")
    for step in told.steps:
        print(f"  {step.name:28} said {step.seconds or 0:7.2f} s, took {took.get(step.name, 0):7.2f} s")
    what = f"{report.overall.n_items} items, {len(renderings)} recordings"
    tell(
        Measured(f"seconds said of the run, {what}: off by", off(told.seconds or 1e-9, real), "×", BAR, "less"),
        Measured(f"seconds of sound said, {what}: off by", off(told.seconds_of_sound, sound), "×", BAR, "less"),
        Measured(f"disk said, {what}: off by", off(told.disk_bytes, disk), "×", BAR, "less"),
        Measured(f"tokens said, {what}: off by", off(told.tokens, read), "×", BAR, "less"),
        Measured(f"the dry run itself, {what}", asking, "s"),
    )


if __name__ == "__main__":
    main()
