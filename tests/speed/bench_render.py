"""Rendering against a plain pyttsx3 loop, on the same sentences, in one run.

    python tests/speed/bench_render.py [--sentences 1000] [--workers 2] [--rounds 3]

Ours is everything that ``render`` does: starting worker processes, synthesis, resampling to 16 kHz, validation,
hashing,
writing to the store and the index. The plain loop is ``save_to_file`` and ``runAndWait`` of one engine in one
process, its
start not counted. The last line of each round tells how near the limit is: the library's own synthesis times the
workers.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from salad_eval.audio.store import AudioStore
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.pipeline.render import RenderJob, render
from salad_eval.tts.espeak import Pyttsx3TTS
from salad_eval.types import Rendering
from tests.speed.measured import Measured, tell

VOICE = "en-us+f3"
PLAIN_LOOP = """
import contextlib, json, os, sys, time
from salad_eval.tts.espeak import load_binding
load_binding()  # finds the library; the engine below is pyttsx3's own
import pyttsx3
sentences, folder = json.loads(sys.stdin.read())
engine = pyttsx3.init("espeak")
engine.setProperty("voice", "gmw/en-US+f3")
engine.setProperty("rate", 175)
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    began = time.perf_counter()
    for i, sentence in enumerate(sentences):
        engine.save_to_file(sentence, os.path.join(folder, f"{i}.wav"))
        engine.runAndWait()
    seconds = time.perf_counter() - began
print(json.dumps([seconds, sum(os.path.getsize(os.path.join(folder, name)) > 44 for name in os.listdir(folder))]))
sys.stdout.flush()
os._exit(0)  # pyttsx3 raises on the way out
"""


def sentences(n: int) -> list[str]:
    """Different sentences of the length of a benchmark's questions: six to a dozen words."""
    subjects = [
        "hydrogen",
        "the heart",
        "a violin",
        "Norway",
        "the Moon",
        "granite",
        "a triangle",
        "bread",
        "the Nile",
        "tea",
    ]
    asked = ["symbol", "colour", "origin", "main use", "closest relative", "old name", "usual shape", "first owner"]
    frames = [
        "Which of these is the {a} of {s}?",
        "Do you know the {a} of {s}, as most textbooks give it?",
        "Somebody once asked me about the {a} of {s}.",
        "The {a} of {s} is found on the second page of the book.",
        "Is the {a} of {s} the same in every country of the world?",
    ]
    ends = ["", " Think about it for a moment.", " Say it aloud.", " It is in the list."]
    every = [f.format(a=a, s=s) + e for e, f, a, s in product(ends, frames, asked, subjects)]
    if n > len(every):
        raise SystemExit(f"at most {len(every)} sentences")
    return every[:n]


def plain_loop(texts: list[str]) -> float:
    import json

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", PLAIN_LOOP],
            input=json.dumps([texts, folder]),
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, n_files = json.loads(done.stdout.splitlines()[-1])
    if n_files < 0.99 * len(texts):
        raise SystemExit(f"the plain loop wrote {n_files} of {len(texts)} files")
    return float(seconds)


def ours(texts: list[str], workers: int) -> tuple[float, float]:
    """Seconds taken and seconds of speech made."""
    jobs = [RenderJob(f"q{i}", "context", VOICE, "clean", text) for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        results = list(
            render(
                jobs, tts="pyttsx3", tts_options={}, store=AudioStore(Path(folder)), executor=WorkerProcesses(workers)
            )
        )
        seconds = time.perf_counter() - began
    made = [result.seconds for result in results if isinstance(result, Rendering)]
    if len(made) != len(texts):
        raise SystemExit(f"only {len(made)} of {len(texts)} sentences were rendered")
    return seconds, sum(made)


def library_alone(texts: list[str]) -> float:
    """Seconds of bare synthesis on one core: no resampling, no checks, nothing kept."""
    library = Pyttsx3TTS()._library
    began = time.perf_counter()
    for text in texts:
        library.synthesise(text, "en-us", "f3", 175, 50)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = sentences(arguments.sentences)
    ratios, shares = [], []
    for round_number in range(1, arguments.rounds + 1):
        plain = plain_loop(texts)
        our_seconds, speech = ours(texts, arguments.workers)
        alone = library_alone(texts)
        limit = plain / (alone / arguments.workers)
        ratios.append(plain / our_seconds)
        shares.append(alone / arguments.workers / our_seconds)
        print(
            f"round {round_number}: {len(texts)} sentences, {speech:.0f} s of speech\n"
            f"  plain pyttsx3 loop   {plain:7.2f} s  {speech / plain:6.0f}x real time\n"
            f"  render, {arguments.workers} workers    {our_seconds:7.2f} s  {speech / our_seconds:6.0f}x real time\n"
            f"  ratio {plain / our_seconds:.1f}x   (limit: library alone {speech / alone:.0f}x on one core, "
            f"times {arguments.workers} = {limit:.1f}x)",
            flush=True,
        )
    what = f"{len(texts):,} sentences, {arguments.workers} workers, median of {arguments.rounds}"
    tell(
        Measured(what, statistics.median(ratios), "×", 7.5, against="a plain pyttsx3 loop"),
        Measured(what, statistics.median(shares), "×", 0.8, against=f"the library alone on {arguments.workers} cores"),
    )


if __name__ == "__main__":
    main()
