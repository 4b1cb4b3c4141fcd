"""Peak memory and time of select, report, render and respond at 1×, 3× and 10× of a size: memory should be flat, time linear.

    python -m tests.speed.bench_memory [--steps select report render respond evaluate] [--scale 1.0]
    python -m tests.speed.bench_memory --alone select 1000000 --texts gutenberg_domains.jsonl world_factbook.jsonl

Each step and size is a process of its own. **Memory** is the most that it and its children held for themselves (RssAnon, looked at
every 10 ms), libraries and models included; pages of a file that is mapped count for nobody, since the system takes them back.
**Time** is processor time of the step. **Slope** is that of log time over log size between 3× and 10×, after the fixed cost, which is
what a tenth of the size takes: 1 is linear. A report holds a line of every item (the others do not).

``--alone`` takes one step at one size, as large as you please, against a bar of 2 GiB.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.types import Audio, AudioSegment, Request
from tests.speed.measured import Measured, tell

SIZES: Mapping[str, int] = {
    "select": 2_000,
    "report": 1_000,
    "render": 100,
    "respond": 200,
    "evaluate": 2_000,
}  # documents, items, …: 1×
FACTORS = (0.1, 1.0, 3.0, 10.0)
SLOPE_BAR, MEMORY_BAR = 1.1, 1.15
LARGE_BAR = 2.0  # GiB that a million of anything may take
MIB = 2**20
MODULE = "tests.speed.bench_memory"


# --- the steps, each at a size ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """What a step is given: how much of it, a folder of its own, and files of real texts (JSONL), if any."""

    n: int
    folder: Path
    texts: tuple[Path, ...] = ()


def sentences(n: int) -> Iterator[str]:
    """Different ones, of 12 to 24 words over a vocabulary of 3,000."""
    rng = np.random.default_rng(0)
    syllables = ("ka", "lo", "mi", "ter", "sun", "bra", "ve", "non", "dor", "pel")
    words = np.array(["".join(rng.choice(syllables, int(rng.integers(1, 4)))) for _ in range(3_000)])
    for number in range(n):
        yield f"The {number} " + " ".join(rng.choice(words, int(rng.integers(12, 25)))) + "."


def windows(files: Sequence[Path]) -> Iterator[str]:
    """Of every 16, then every 12 words that stand together in the files' texts, and so on: some millions of some megabytes."""
    texts = [json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    for width in (16, 12, 20, 14, 18):
        for words in map(str.split, texts):
            yield from (" ".join(words[at : at + width]) for at in range(len(words) - width + 1))


def select(world: World) -> Callable[[], object]:
    from salad_train.recipe import load_recipe
    from salad_train.selection.files import SelectPlan, write_selection
    from salad_train.selection.select import select_from_run

    corpus, out = world.folder / "corpus.jsonl", world.folder / "selection"
    n_written = 2 * world.n if world.texts else world.n  # some real texts cannot be spoken, or are there twice
    written = windows(world.texts) if world.texts else sentences(world.n)
    with corpus.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in itertools.islice(written, n_written))
    language = "en" if world.texts else None
    settings = {
        "corpus": {"source": str(corpus), "language": language, "max_documents": world.n},
        "audio_store": str(world.folder / "audio"),
        "voice.workers": 1,
    }
    plan = SelectPlan(budget_seconds=max(60.0, world.n / 10), signal="uniform", clusters=128 if world.texts else 8)

    def work() -> object:
        found = select_from_run(plan, load_recipe("nano", settings), out)
        n_found = sum(cluster.n_documents for cluster in found.clusters)
        if n_found != world.n:
            raise SystemExit(f"{n_found:,} of {world.n:,} documents are left: give more texts.")
        return write_selection(found, out)

    return work


def report(world: World) -> Callable[[], object]:
    from tests.helpers.gap_world import item, scores
    from tests.helpers.gap_world import report as gap_report

    rng = np.random.default_rng(0)
    items, found = [], []
    for number in range(world.n):
        right = (rng.random(6) < 0.7).astype(float)
        items.append(item(f"q{number}", f"domain {number % 20}"))
        found += scores(f"q{number}", right[0], right[1:3], right[3], right[4:6])
    return lambda: gap_report(items, found, n_resamples=1_000)


def render(world: World) -> Callable[[], object]:
    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.render import RenderJob
    from salad_eval.pipeline.render import render as rendered

    jobs = (RenderJob(f"q{k}", "context", "en-us", "clean", text) for k, text in enumerate(sentences(world.n)))
    store = AudioStore(world.folder)
    return lambda: sum(1 for _ in rendered(jobs, tts="pyttsx3", tts_options={}, store=store))


def respond(world: World) -> Callable[[], object]:
    from salad_eval.pipeline.respond import Query
    from salad_eval.pipeline.respond import respond as responses
    from salad_eval.resources import locate_pretrained
    from salad_eval.systems.hf_text import HFTextSystem
    from salad_eval.types import Request, TextSegment

    system = HFTextSystem(locate_pretrained("nano/base"), device="cpu")
    queries = (
        Query((Request(f"q{k}", (TextSegment(f"Question: {text}\nAnswer:"),), (" gold", " tin", " iron", " neon")),))
        for k, text in enumerate(sentences(world.n))
    )
    return lambda: sum(1 for _ in responses(system, queries, "base_text"))


def evaluate(world: World) -> Callable[[], object]:
    """A whole run of ``n`` recordings, in ten voices and five conditions; all plug-ins are this module's."""
    from salad_eval.pipeline.plan import Plan
    from salad_eval.pipeline.run import run
    from salad_eval.testing.installed import installed

    conditions = ("clean", *(f"gain,db=-{n}" for n in (1, 2, 3, 4)))
    questions = world.folder / "questions.jsonl"
    with questions.open("w", encoding="utf-8") as file:
        for number in range(-(-world.n // (len(conditions) * len(Clicks.NAMES)))):
            options = [f"{name} {number % 7}" for name in ("gold", "tin", "iron", "neon")]
            row = {
                "name": short_name(number),
                "choices": options,
                "answer": number % 4,
                "domain": f"domain {number % 20}",
            }
            file.write(json.dumps(row) + "\n")
    task = {
        "task": "large", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions)}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "What is {{name}}?\nAnswer:", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "salad": {"speak": "context", "spoken_text": "{{name}}", "domain": "domain"}},
    }  # fmt: skip
    (world.folder / "large.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML, too
    plan = Plan.from_mapping(
        {
            "tasks": [str(world.folder / "large.yaml")], "voices": list(Clicks.NAMES), "perturbations": list(conditions),
            "tts": {"name": "clicks"}, "asr": {"name": "clicks"}, "base": {"system": "digests", "options": {"name": "base"}},
            "adapted": {"system": "digests", "options": {"name": "adapted"}}, "n_resamples": 1_000, "workers": 1,
            "out": str(world.folder / "run"), "audio_store": str(world.folder / "audio"),
        }
    )  # fmt: skip
    names = {
        "salad.tts": {"clicks": "Clicks"},
        "salad.asr": {"clicks": "ClicksHeard"},
        "salad.systems": {"digests": "Digests"},
    }
    targets: Any = {group: {k: f"{MODULE}:{v}" for k, v in of.items()} for group, of in names.items()}
    (world.folder / "plug-ins").mkdir()

    def work() -> object:
        with installed(world.folder / "plug-ins", targets):
            return run(plan)

    return work


def short_name(number: int) -> str:
    """Five letters, as many as can be said in 0.1 s: others for each number below 50,000."""
    return (
        "".join("bcdfghjklmnprstvwxyz"[n // 5] + "aeiou"[n % 5] for n in (number // 100 % 100, number % 100))
        + "aeiou"[number // 10_000]
    )


class Clicks:
    """A TTS whose sounds are 0.1 s of whole numbers, another for each text and voice."""

    NAMES = tuple(f"voice{n}" for n in range(10))

    def fingerprint(self) -> str:
        return "clicks 1"

    def voices(self) -> list[str]:
        return list(self.NAMES)

    def check_voice(self, voice: str) -> None:
        """There are no others."""

    def speak(self, text: str, voice: str) -> Audio:
        rng = np.random.default_rng(list(hashlib.sha256(f"{voice} {text}".encode()).digest()[:8]))
        samples = rng.integers(-9_000, 9_000, 1_600)
        samples[-160:] //= 30  # it dies away, as speech does
        return Audio((samples / 32_768).astype(np.float32), 16_000)


class ClicksHeard:
    """An ASR that writes a sentence a sound, by its digest."""

    def fingerprint(self) -> str:
        return "clicks heard 1"

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        return [f"The sound is {hashlib.sha256(audio.samples).hexdigest()[:8]} and no other" for audio in audios]


class Digests:
    """An LLM whose scores are a digest of what is read and heard; it tells no distributions."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fingerprint(self) -> str:
        return f"digests 1({self.name})"

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        found = []
        for request in requests:
            read = "|".join(one.sha256 if isinstance(one, AudioSegment) else one.text for one in request.prompt)
            rows = [
                hashlib.sha256(f"{self.name}|{read}|{option}".encode()).digest()[0] for option in request.continuations
            ]
            found.append(tuple(-row / 16 for row in rows))
        return found

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        return ["nothing"] * len(requests)


STEPS: Mapping[str, Callable[[World], Callable[[], object]]] = {
    "select": select, "report": report, "render": render, "respond": respond, "evaluate": evaluate,
}  # fmt: skip


# --- one of them in a process of its own -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds, and bytes at the peak."""

    seconds: float
    peak: int


class Peak:
    """The most memory that this process and its children have held for themselves since it was asked to look."""

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
            self.bytes = max(self.bytes, held("self"))
            if self._ended.wait(0.01):
                return


def held(process: str) -> int:
    """Bytes that a process and its descendants hold for themselves; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        children = [
            one for file in Path(f"/proc/{process}/task").glob("*/children") for one in file.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return own + sum(map(held, children))


def processor_seconds() -> float:
    """Of this process and of those children that have ended."""
    return sum(os.times()[:4])


def measure_here(step: str, n: int, texts: Sequence[Path]) -> Used:
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[step](World(n, Path(folder), tuple(texts)))
        with Peak() as peak:
            began = processor_seconds()
            work()
            return Used(processor_seconds() - began, peak.bytes)


def measure(step: str, n: int, texts: Sequence[Path]) -> Used:
    command = [sys.executable, "-m", "tests.speed.bench_memory", "--one", step, str(n), "--texts", *map(str, texts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes")
    parser.add_argument("--alone", nargs=2, metavar=("STEP", "SIZE"), help="this step at this size, and nothing else")
    parser.add_argument("--texts", nargs="*", type=Path, default=(), help="JSONL files whose texts a corpus is made of")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory is read from /proc/self/status, which Linux alone has.")
    if options.one:
        used = measure_here(options.one[0], int(options.one[1]), options.texts)
        print(json.dumps({"seconds": used.seconds, "peak": used.peak}))
    elif options.alone:
        alone(options.alone[0], int(options.alone[1]), options.texts)
    else:
        for step in options.steps:
            compare(step, SIZES[step] * options.scale, options.texts)


def alone(step: str, n: int, texts: Sequence[Path]) -> None:
    used = measure(step, n, texts)
    print(f"{step:8s} {n:,}: {used.seconds:,.0f} s of processor, peak {used.peak / MIB:,.0f} MiB", flush=True)
    tell(
        Measured(f"{step}, {n:,}: peak memory", used.peak / 2**30, "GiB", LARGE_BAR, "less"),
        Measured(f"{step}, {n:,}: processor time", used.seconds, "s"),
    )


def compare(step: str, size: float, texts: Sequence[Path]) -> None:
    """A step at 1×, 3× and 10× of a size."""
    fixed, one, three, ten = (measure(step, max(1, round(size * factor)), texts) for factor in FACTORS)
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
