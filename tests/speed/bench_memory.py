"""Peak memory and time of select, report, render and respond at 1×, 3× and 10× of a size: memory should be flat, time linear.

    python -m tests.speed.bench_memory [--steps select report render respond] [--scale 1.0]

Each step and size is a process of its own. **Memory** is the most that the process held for itself (RssAnon, looked at every 10 ms),
libraries and models included; pages of a file that is mapped count for nobody, since the system takes them back. **Time** is
processor time of the step. **Slope** is that of log time over log size between 3× and 10×, after the fixed cost, which is what a tenth
of the size takes: 1 is linear. A report holds a line of every item (the others do not).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.speed.measured import Measured, tell

SIZES: Mapping[str, int] = {"select": 2_000, "report": 1_000, "render": 100, "respond": 200}  # documents, items, …: 1×
FACTORS = (0.1, 1.0, 3.0, 10.0)
SLOPE_BAR, MEMORY_BAR = 1.1, 1.15
MIB = 2**20


# --- the steps, each at a size ---------------------------------------------------------------------------------------


def sentences(n: int) -> Iterator[str]:
    """Different ones, of 12 to 24 words over a vocabulary of 3,000."""
    rng = np.random.default_rng(0)
    syllables = ("ka", "lo", "mi", "ter", "sun", "bra", "ve", "non", "dor", "pel")
    words = np.array(["".join(rng.choice(syllables, int(rng.integers(1, 4)))) for _ in range(3_000)])
    for number in range(n):
        yield f"The {number} " + " ".join(rng.choice(words, int(rng.integers(12, 25)))) + "."


def select(n: int, folder: Path) -> Callable[[], object]:
    from salad_train.recipe import load_recipe
    from salad_train.selection.files import SelectPlan
    from salad_train.selection.select import select_from_run

    corpus = folder / "corpus.jsonl"
    with corpus.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in sentences(n))
    settings = {"corpus": {"source": str(corpus), "language": None}, "audio_store": str(folder / "audio")}
    plan = SelectPlan(budget_seconds=60.0, signal="uniform", clusters=8)
    return lambda: select_from_run(plan, load_recipe("nano", settings), folder / "selection")


def report(n: int, folder: Path) -> Callable[[], object]:
    from tests.helpers.gap_world import item, scores
    from tests.helpers.gap_world import report as gap_report

    del folder
    rng = np.random.default_rng(0)
    items, found = [], []
    for number in range(n):
        right = (rng.random(6) < 0.7).astype(float)
        items.append(item(f"q{number}", f"domain {number % 20}"))
        found += scores(f"q{number}", right[0], right[1:3], right[3], right[4:6])
    return lambda: gap_report(items, found, n_resamples=1_000)


def render(n: int, folder: Path) -> Callable[[], object]:
    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.render import RenderJob
    from salad_eval.pipeline.render import render as rendered

    jobs = (RenderJob(f"q{k}", "context", "en-us", "clean", text) for k, text in enumerate(sentences(n)))
    store = AudioStore(folder)
    return lambda: sum(1 for _ in rendered(jobs, tts="pyttsx3", tts_options={}, store=store))


def respond(n: int, folder: Path) -> Callable[[], object]:
    from salad_eval.pipeline.respond import Query
    from salad_eval.pipeline.respond import respond as responses
    from salad_eval.resources import locate_pretrained
    from salad_eval.systems.hf_text import HFTextSystem
    from salad_eval.types import Request, TextSegment

    del folder
    system = HFTextSystem(locate_pretrained("nano/base"), device="cpu")
    queries = (
        Query((Request(f"q{k}", (TextSegment(f"Question: {text}\nAnswer:"),), (" gold", " tin", " iron", " neon")),))
        for k, text in enumerate(sentences(n))
    )
    return lambda: sum(1 for _ in responses(system, queries, "base_text"))


STEPS: Mapping[str, Callable[[int, Path], Callable[[], object]]] = {
    "select": select, "report": report, "render": render, "respond": respond,
}  # fmt: skip


# --- one of them in a process of its own -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds, and bytes at the peak."""

    seconds: float
    peak: int


class Peak:
    """The most memory that this process has held for itself since it was asked to look."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.bytes = max(self.bytes, int(line.split()[1]) * 1024)
            if self._ended.wait(0.01):
                return


def measure_here(step: str, n: int) -> Used:
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[step](n, Path(folder))
        with Peak() as peak:
            began = time.process_time()
            work()
            return Used(time.process_time() - began, peak.bytes)


def measure(step: str, n: int) -> Used:
    command = [sys.executable, "-m", "tests.speed.bench_memory", "--one", step, str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory is read from /proc/self/status, which Linux alone has.")
    if options.one:
        used = measure_here(options.one[0], int(options.one[1]))
        print(json.dumps({"seconds": used.seconds, "peak": used.peak}))
        return
    for step in options.steps:
        size = SIZES[step] * options.scale
        fixed, one, three, ten = (measure(step, max(1, round(size * factor))) for factor in FACTORS)
        left = (three.seconds - fixed.seconds, ten.seconds - fixed.seconds)
        slope = math.log(left[1] / left[0]) / math.log(10 / 3) if min(left) > 0 else math.nan
        memory = ten.peak / one.peak
        print(
            f"{step:8s} {size:,.0f} at 1×: {one.seconds:.1f}, {three.seconds:.1f}, {ten.seconds:.1f} s of processor "
            f"(fixed {fixed.seconds:.1f}), slope {slope:.2f} (bar {SLOPE_BAR}); peak "
            f"{', '.join(f'{used.peak / MIB:,.0f}' for used in (one, three, ten))} MiB, {memory:.2f}× (bar {MEMORY_BAR}×)",
            flush=True,
        )
        what = f"{step}, {size:,.0f} to {10 * size:,.0f}"
        if math.isfinite(slope):
            tell(Measured(f"{what}: slope of time", slope, "", SLOPE_BAR, "less", "linear"))
        tell(Measured(f"{what}: peak memory", memory, "×", MEMORY_BAR, "less", f"{one.peak / MIB:,.0f} MiB at 1×"))


if __name__ == "__main__":
    main()
