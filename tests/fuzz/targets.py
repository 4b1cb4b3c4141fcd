"""Who is given what. A target makes inputs, hands them over, and says what is wrong with what comes of it.

Anything but a value or one of our own errors is *uncaught*; a value that an oracle contradicts is *wrong*.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from num2words import num2words

from salad_eval.answers.choice import extract_choice
from salad_eval.answers.numeric import extract_number
from salad_eval.answers.yes_no import read_yes_no
from salad_eval.audio.perturb import canonical
from salad_eval.audio.sound import write_audio
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.lm_eval_bridge.samples import read_lm_eval
from salad_eval.pipeline.plan import Plan, with_overrides
from salad_eval.report.json import report_from_json, report_to_json
from salad_eval.speakable import spoken_spans, to_spoken
from salad_eval.speakable.normalise import normalise
from salad_eval.types import Audio
from salad_train.recipe import load_recipe
from salad_train.speech.manifests import ManifestPlan, read_recordings
from tests.conftest import TASK, rows
from tests.fuzz.inputs import anything, damaged, damaged_bytes, damaged_text
from tests.helpers.gap_world import random_world

Draw = random.Random


@dataclass(frozen=True, slots=True)
class Target:
    """``make`` draws one input; ``try_it`` hands it over and returns what is wrong with the outcome, or nothing. ``inputs`` in one call."""

    name: str
    make: Callable[[Draw], Any]
    try_it: Callable[[Any], str]
    inputs: int = 1


def targets(folder: Path) -> list[Target]:
    """All of them; files are written under ``folder``."""
    return [
        *_yaml(folder), *_rows(folder), *_plans(folder), *_manifests(folder), *_samples(folder), *_reports(), *_readers(), *_speakable(),
    ]  # fmt: skip


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _lines(table: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


# --- task files and rows ---------------------------------------------------------------------------------------------


def _yaml(folder: Path) -> Iterator[Target]:
    home = folder / "yaml"
    home.mkdir()
    _written(home / "test.jsonl", _lines(rows()))
    text = TASK.format(folder=home)
    table, path = yaml.safe_load(text), home / "task.yaml"

    def make(draw: Draw) -> bytes:
        if draw.random() < 0.5:
            return damaged_bytes(text.encode(), draw)
        return yaml.safe_dump(damaged(table, draw), allow_unicode=False).encode()

    def try_it(data: bytes) -> str:
        load_task(_written(path, data))
        return ""

    yield Target("YAML", make, try_it)


def _rows(folder: Path) -> Iterator[Target]:
    home = folder / "rows"
    home.mkdir()
    file = home / "test.jsonl"
    valid = [dict(row) for row in rows()]
    _written(file, _lines(valid))
    path = _written(home / "tiny.yaml", TASK.format(folder=home).encode())
    task = load_task(path)
    good = {item.id: item for item in load_items(task, "test")[0]}

    def make(draw: Draw) -> list[Any]:
        at = draw.randrange(len(valid))
        return [*valid[:at], damaged(valid[at], draw), *valid[at + 1 :]]

    def _task(data: bytes) -> TaskSpec:
        _written(file, data)
        return task

    def try_it(table: list[Any]) -> str:
        items, rejects, _ = load_items(_task(_lines(table)), "test")
        if len(items) + len(rejects) != len(table):
            return f"{len(table)} rows became {len(items)} items and {len(rejects)} rejects"
        made = {item.id: item for item in items}
        ids = [row.get("id") if isinstance(row, dict) else None for row in table]
        for row in table:
            if (
                any(row is one for one in valid)
                and ids.count(row["id"]) == 1
                and made.get(f"tiny:{row['id']}") != good[f"tiny:{row['id']}"]
            ):
                return f"an untouched row became another item: {row['id']}"
        return ""

    good_file = _lines(valid)
    yield Target("rows", make, try_it)
    yield Target(
        "rows, as files",
        lambda draw: damaged_bytes(good_file, draw),
        lambda data: (load_items(_task(data), "test"), "")[1],
    )


# --- plans, recipes --------------------------------------------------------------------------------------------------


def _plans(folder: Path) -> Iterator[Target]:
    plan = Plan.preset("nano").model_dump(mode="json")
    keys = [*plan, "base.options.dtype", "tts.name", "asr.options.x", "base.Foo", "Seed", "a.b.c", ".", "tasks.0"]
    plan_file = folder / "plan.yaml"

    def make_plan(draw: Draw) -> tuple[Any, dict[str, Any]]:
        return damaged(plan, draw), {draw.choice(keys): anything(draw)} if draw.random() < 0.3 else {}

    def try_plan(given: tuple[Any, dict[str, Any]]) -> str:
        table, changes = given
        read = Plan.from_mapping(with_overrides(table, changes) if changes and isinstance(table, dict) else table)
        again = Plan.from_mapping(read.model_dump(mode="json"))
        return _same(again, read)

    def try_file(data: bytes) -> str:
        Plan.from_yaml(_written(plan_file, data))
        return ""

    text = yaml.safe_dump(plan).encode()
    settings = [
        "stage1.train.steps",
        "stage2.limits.tokens",
        "voice.tts",
        "corpus.source",
        "stage1.adapter.layers",
        "name",
        "x",
        "stage1.interleave.text.low",
    ]
    yield Target("plans", make_plan, try_plan)
    yield Target("plans, as files", lambda draw: damaged_bytes(text, draw), try_file)
    yield Target(
        "recipes",
        lambda draw: {draw.choice(settings): anything(draw)},
        lambda changes: (load_recipe("nano", changes), "")[1],
    )
    kinds = ["noise,snr=10", "clean", "telephone", "gain,db=-6", "white,snr=0"]
    yield Target(
        "conditions",
        lambda draw: damaged_text(draw.choice(kinds), draw),
        lambda text: _same(canonical(canonical(text)), canonical(text)),
    )


def _same(first: object, second: object) -> str:
    return "" if first == second or repr(first) == repr(second) else f"{first!r} is not {second!r}"


# --- manifests of natural speech -------------------------------------------------------------------------------------


def _manifests(folder: Path) -> Iterator[Target]:
    home = folder / "manifests"
    home.mkdir()
    write_audio(home / "a.wav", Audio(np.zeros(16_000, dtype=np.float32) + 0.1, 8_000))
    words = [["one", 0.1, 0.3], ["two", 0.5, 0.7]]
    plain = {"id": "p", "audio": "a.wav", "text": "One two.", "duration": 2.0, "words": words}
    supervision = {"id": "s", "recording_id": "r", "start": 0.2, "duration": 1.0, "text": "One two.", "channel": 0}
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 8000, "num_samples": 16000, "duration": 2.0}
    cut = {
        "id": "c",
        "start": 0.1,
        "duration": 1.5,
        "channel": 0,
        "recording": recording,
        "supervisions": [supervision],
        "type": "MonoCut",
    }
    path = home / "list.jsonl"

    def make(draw: Draw) -> list[Any]:
        return [damaged(draw.choice((plain, cut)), draw) for _ in range(5)]

    def try_it(table: list[Any]) -> str:
        found = read_recordings(ManifestPlan(source=str(_written(path, _lines(table)))))
        for one in found.recordings:
            if not (one.start_s >= 0 and one.duration_s > 0 and one.start_s + one.duration_s <= 2.0 + 0.01):
                return f"a stretch outside its file: {one.start_s} s + {one.duration_s} s"
            for word in one.words or ():
                if not (0 <= word.start_char < word.end_char <= len(one.text) and word.start_s <= word.end_s):
                    return f"a word outside its text: {word}"
        return ""

    yield Target("manifests", make, try_it, inputs=5)


# --- lm-eval's samples, reports --------------------------------------------------------------------------------------


def _samples(folder: Path) -> Iterator[Target]:
    home = folder / "samples"
    home.mkdir()
    path = home / "samples_tiny_2025-01-01T00-00-00.000000.jsonl"
    options = ("Sn", "Ti", "Fe")
    sample = {
        "doc_id": 0, "doc": {"question": "What is tin?", "subject": "chemistry"}, "target": "0", "doc_hash": "d",
        "prompt_hash": "p", "target_hash": "t",
        "arguments": {f"gen_args_{n}": {"arg_0": "What is tin?", "arg_1": f" {option}"} for n, option in enumerate(options)},
        "resps": [[["-1.0", "False"]] for _ in options], "filtered_resps": [["-1.0", "True"], ["-2.0", "False"], ["-3.0", "False"]],
        "filter": "none", "metrics": ["acc", "acc_norm"], "acc": 1.0, "acc_norm": 1.0,
    }  # fmt: skip

    def make(draw: Draw) -> list[Any]:
        return [{**sample, "doc_id": 7}, *(damaged({**sample, "doc_id": n}, draw) for n in range(2))]

    def try_it(table: list[Any]) -> str:
        read = read_lm_eval(_written(path, _lines(table)))
        first = next((one for one in read.samples if one.doc_id == 7), None)
        return (
            ""
            if first is None or first.logprobs == (-1.0, -2.0, -3.0)
            else f"an untouched sample was read as {first.logprobs}"
        )

    yield Target("samples", make, try_it, inputs=2)
    good = _lines([sample])
    yield Target(
        "samples, as files",
        lambda draw: damaged_bytes(good, draw),
        lambda data: (read_lm_eval(_written(path, data)), "")[1],
    )


def _reports() -> Iterator[Target]:
    items, scores = random_world(np.random.default_rng(0), n_items=12)
    from tests.helpers.gap_world import report

    table = report_to_json(report(items, scores))

    def try_it(data: Any) -> str:
        read = report_from_json(data)
        return _same(report_from_json(report_to_json(read)), read)

    yield Target("reports", lambda draw: damaged(table, draw), try_it)


# --- answers ---------------------------------------------------------------------------------------------------------

OPTIONS = ("cat", "dog", "a small bird", "42")
LETTERED = (
    "{x}", "({x})", "{x}.", "Answer: {x}", "The answer is {x}.", "The correct answer is ({x})", "**{x}**", "It's {x}.",
    "Option {x}", "I think {x}.",
    "<think>maybe {y}</think>\n\n{x}",
)  # fmt: skip
DENIED = ("({x}) is wrong.", "Not {x}.", "It is not {x}", "{x} or {y}", "either {x} or {y}.")
NUMBERED = ("{n}", "The answer is {n}.", "#### {n}", "\\boxed{{{n}}}", "<think>it is 5</think> {n}", "Answer: {n}")
YES = ("{w}", "{w}.", "{w}, it does.", "The answer is {w}.", "**{w}**")


def _readers() -> Iterator[Target]:
    def choice(draw: Draw) -> tuple[str, int | None, bool]:
        k, other = draw.sample(range(len(OPTIONS)), 2)
        by_text = draw.random() < 0.4
        x, y = (OPTIONS[k], OPTIONS[other]) if by_text else ("ABCD"[k], "ABCD"[other])
        denied = draw.random() < 0.2
        return draw.choice(DENIED if denied else LETTERED).format(x=x, y=y), None if denied else k, True

    def number(draw: Draw) -> tuple[str, Fraction]:
        n = draw.choice((draw.randrange(-20, 100), draw.randrange(10**6)))
        shown = draw.choice((str(n), f"{n:,}", num2words(n)))
        return draw.choice(NUMBERED).format(n=shown), Fraction(n)

    def yes_no(draw: Draw) -> tuple[str, bool]:
        said = draw.random() < 0.5
        word = draw.choice(("yes", "Yes", "YES") if said else ("no", "No", "NO"))
        return draw.choice(YES).format(w=word), said

    def try_choice(case: tuple[str, int | None, bool]) -> str:
        read = extract_choice(case[0], OPTIONS)
        return "" if read in (None, case[1]) else f"{case[0]!r} was read as {read}"

    def try_number(case: tuple[str, Fraction]) -> str:
        read = extract_number(case[0])
        return "" if read in (None, case[1]) else f"{case[0]!r} was read as {read}"

    def try_yes_no(case: tuple[str, bool]) -> str:
        read = read_yes_no(case[0])
        return "" if read in (None, case[1]) else f"{case[0]!r} was read as {read}"

    def garbage(draw: Draw) -> str:
        return damaged_text(damaged_text(draw.choice(LETTERED + NUMBERED + YES), draw) * draw.randint(1, 4), draw)

    def try_all(text: str) -> str:
        extract_choice(text, OPTIONS), extract_number(text), extract_number(text, last=True), read_yes_no(text)
        return ""

    yield Target("readers: options", choice, try_choice)
    yield Target("readers: numbers", number, try_number)
    yield Target("readers: yes or no", yes_no, try_yes_no)
    yield Target("readers: anything", garbage, try_all)


# --- what is said ----------------------------------------------------------------------------------------------------

WRITTEN = (
    "9.8 m/s²", "$3.50", "5 °C", "x = -7", "7-3", "1/2", "H2O", "Ca2+", "\\frac{1}{2}", "e^-x", "1999-03-03", "24:00",
    "the 5 W's", "World War II",
    "50%", "1,000,000", "3:1", "Dr. Smith", "A. cat", "f(x)", "https://x.org/a", "±2", "√2", "10^-3", "µg", "№ 5",
    "12th", "1990s", "p.m.", "≤", "→",
)  # fmt: skip
PLAIN = ("the", "war", "of", "and", "energy", "between", "what", "is", "a", "cell")
HEARD = frozenset(".,;:?!'\"()- ")


def _speakable() -> Iterator[Target]:
    def make(draw: Draw) -> str:
        text = " ".join(draw.choice(WRITTEN if draw.random() < 0.5 else PLAIN) for _ in range(draw.randint(1, 6)))
        return text if draw.random() < 0.3 else damaged_text(text, draw)

    def try_it(text: str) -> str:
        said = to_spoken(text)
        if strange := {one for one in said if not (one.isalpha() or one in HEARD)}:
            return f"{text!r} → {said!r}: {sorted(strange)} has no sound"
        if to_spoken(said) != said:
            return f"{text!r} → {said!r} → {to_spoken(said)!r}"
        spans = spoken_spans(text)
        if "".join(span.written for span in spans) != text or "".join(span.spoken for span in spans) != said:
            return f"{text!r}: its spans do not add up"
        return next((f"{text!r}: lost {span.written!r}" for span in spans if span.silent == "lost"), "")

    def words(draw: Draw) -> str:
        return " ".join(draw.choice(PLAIN) for _ in range(draw.randint(2, 8)))

    yield Target("speakable text", make, try_it)
    yield Target("plain words", words, lambda text: _same(to_spoken(text), text))
    yield Target(
        "normaliser",
        lambda draw: damaged_text(make(draw), draw),
        lambda text: _same(normalise(normalise(text)), normalise(text)),
    )
