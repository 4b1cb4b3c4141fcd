"""A run small enough for a browser and rich enough for every part of a page: four domains of two tasks, two voices in two conditions,
with sound. ``text`` dresses every text that somebody else wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.gap.controls import ControlScores
from salad_eval.gap.items import RunRecords
from salad_eval.types import (
    CLEAN,
    COLUMN_FORM,
    COLUMNS,
    Audio,
    ColumnName,
    ControlName,
    Divergence,
    GapReport,
    Item,
    Rendering,
    Response,
    RunNames,
    Score,
    ShownPrompt,
    SpokenPart,
    Transcript,
)
from tests.helpers.gap_world import PROTOCOL, report, specs

VOICES, CONDITIONS = ("ann", "bob"), (CLEAN, "telephone")
DOMAINS = (("quiz", "stars"), ("quiz", "metals"), ("trivia", "rivers"), ("trivia", "songs"))
ITEMS_A_DOMAIN = 12
HEARD = {"stars": 0.2, "metals": 0.4, "rivers": 0.9, "songs": 0.8}  # chance of a right answer by ear
RATE = 8000


@dataclass(frozen=True)
class PageWorld:
    report: GapReport
    records: RunRecords
    store: AudioStore


def plain(text: str) -> str:
    return text


def page_world(folder: Path, text: Callable[[str], str] = plain, seed: int = 0) -> PageWorld:
    """The same for equal arguments. ``folder`` gets the audio store."""
    rng = np.random.default_rng(seed)
    store = AudioStore(folder / "audio")
    items, scores, renderings, transcripts, responses, divergences = [], [], [], [], [], []
    for task, domain in DOMAINS:
        for n in range(ITEMS_A_DOMAIN):
            item = _item(text, task, domain, n)
            items.append(item)
            right = {"base_text": rng.random() < 0.9, "adapted_text": rng.random() < 0.85}
            keys = [("base_text", None, None), ("adapted_text", None, None)]
            for voice in VOICES:
                for condition in CONDITIONS:
                    said = item.part_text(item.spoken_parts[0])
                    sound = _tone(rng.uniform(200, 400), 0.4)
                    renderings.append(
                        Rendering(
                            item.id,
                            "context",
                            text(voice),
                            text(condition),
                            said,
                            store.put(sound),
                            RATE,
                            len(sound.samples),
                        )
                    )
                    wrong = condition != CLEAN and n % 3 == 0
                    heard = said.replace("item", "eye tom") if wrong else said
                    transcripts.append(
                        Transcript(item.id, "context", text(voice), text(condition), "toy", heard, 2 * wrong, 7, 0, 30)
                    )
                    hears = HEARD[domain] * (1.0 if condition == CLEAN else 0.7)
                    right |= {
                        f"base_transcript{voice}{condition}": rng.random() < 0.85,
                        f"adapted_speech{voice}{condition}": rng.random() < hears,
                    }
                    keys += [("base_transcript", voice, condition), ("adapted_speech", voice, condition)]
                    divergences.append(
                        Divergence(item.id, text(voice), text(condition), 2, 0.1, float(rng.uniform(0, 6)), 0.3)
                    )
            for column, voice_, condition_ in keys:
                answer = bool(right[column if voice_ is None else f"{column}{voice_}{condition_}"])
                chosen = item.gold if answer else (item.gold + 1) % 4
                spoken = (None, None) if voice_ is None else (text(voice_), text(str(condition_)))
                logprobs = [-5.0, -5.5, -6.0, -6.5]
                logprobs[chosen] = -float(rng.uniform(0.1, 4.0))
                responses.append(
                    Response(item.id, column, COLUMN_FORM[column], *spoken, choice_logprobs=tuple(logprobs))
                )
                scores.append(Score(item.id, column, *spoken, value=float(answer), predicted=chosen))
    guess = np.random.default_rng([seed, 1])
    asked: tuple[tuple[ControlName, ColumnName], ...] = (
        ("floor", "base_text"), ("floor", "adapted_speech"), ("silent", "adapted_speech"), ("swapped", "adapted_speech"),
    )  # fmt: skip
    controls = [
        ControlScores(name, column, [Score(one.id, column, None, None, float(guess.random() < 0.25)) for one in items])
        for name, column in asked
    ]
    records = RunRecords(items, scores, renderings, transcripts, responses, divergences)
    made = report(
        items,
        scores,
        transcripts=transcripts,
        divergences=divergences,
        protocols=tuple(replace(PROTOCOL, task=text(task), n_items=2 * ITEMS_A_DOMAIN) for task in ("quiz", "trivia")),
        columns=tuple(replace(spec, system=text("toy-system"), fingerprint=text("print")) for spec in specs()),
        controls=controls,
        slice_fields=("voice", "condition", "task", text("kind")),
        signature=text("quiz|n:24"),
        notes=(text("a note"),),
        names=RunNames(text("toy run"), text("tiny-llm"), text("tiny-ears"), text("tiny-asr")),
        prompts=tuple(ShownPrompt(column, items[0].id, text("Question: …"), (text("one"),)) for column in COLUMNS),
    )
    return PageWorld(made, records, store)


def _item(text: Callable[[str], str], task: str, domain: str, n: int) -> Item:
    question = text(f"Which {domain} go with item {n}?")
    context = f"Question: {question} Answer:"
    return Item(
        id=text(f"{domain}-{n}"),
        task=text(task),
        split="test",
        domain=text(domain),
        context=context,
        choices=tuple(text(f"{domain} answer {k}") for k in range(4)),
        gold=n % 4,
        group=f"{domain}-{n}",
        spoken_parts=(SpokenPart("context", len("Question: "), len("Question: ") + len(question)),),
        fields={text("kind"): text(f"kind {n % 6}")},
    )


def _tone(hertz: float, seconds: float) -> Audio:
    times = np.arange(int(seconds * RATE)) / RATE
    return Audio((0.2 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), RATE)
