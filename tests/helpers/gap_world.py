"""Small worlds of items and scores with known answers, shared by the tests of the gap report and its views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salad_eval.gap import RunProtocol, build_report
from salad_eval.types import (
    CLEAN,
    COLUMN_FORM,
    COLUMNS,
    ColumnName,
    ColumnSpec,
    Divergence,
    GapReport,
    Item,
    Score,
    SpokenPart,
    TaskProtocol,
    Transcript,
)

VOICES = ("ann", "bob")


def item(id_: str, domain: str, *, group: str | None = None, fields: Mapping[str, str] | None = None) -> Item:
    context = f"What about {id_}? Answer:"
    return Item(
        id=id_,
        task="toy",
        split="test",
        domain=domain,
        context=context,
        choices=("a", "b", "c", "d"),
        gold=0,
        group=group or id_,
        spoken_parts=(SpokenPart("context", 0, len(context)),),
        fields=fields or {},
    )


def scores(
    id_: str,
    text: float,
    cascade: Sequence[float],
    adapted: float,
    speech: Sequence[float],
    voices: Sequence[str] = VOICES,
) -> list[Score]:
    """One item's scores: text columns once, spoken columns once a voice."""
    found = [Score(id_, "base_text", None, None, text), Score(id_, "adapted_text", None, None, adapted)]
    found += [Score(id_, "base_transcript", voice, CLEAN, value) for voice, value in zip(voices, cascade, strict=True)]
    found += [Score(id_, "adapted_speech", voice, CLEAN, value) for voice, value in zip(voices, speech, strict=True)]
    return found


def specs(columns: Sequence[ColumnName] = COLUMNS) -> tuple[ColumnSpec, ...]:
    return tuple(ColumnSpec(column, "toy-system", COLUMN_FORM[column], f"{column}-fingerprint") for column in columns)


PROTOCOL = TaskProtocol("toy", "test", "rev1", "context", 0, False, "ll", "domain", 4)


def report(items: Sequence[Item], found: Sequence[Score], **changes: Any) -> GapReport:
    """``build_report`` with everything that a test does not care about filled in, and a short signature."""
    short = changes.pop("signature", "toy|split:test|n:4")
    asked = {key: changes.pop(key) for key in RunProtocol.__slots__ if key in changes}
    return replace(build_report(protocol(**asked), items, found, **changes), signature=short)


def protocol(**changes: Any) -> RunProtocol:
    """What was asked in the toy world, with ``changes``."""
    settings: dict[str, Any] = {
        "protocols": (PROTOCOL,),
        "columns": specs(),
        "split": "test",
        "voices": VOICES,
        "conditions": (CLEAN,),
        "tts": "toy-tts",
        "asr": "toy-asr",
        "seed": 7,
        "n_resamples": 500,
        "created": "2026-01-01T00:00:00+00:00",
        "most_rejected": 1.0,  # one of so few is more than any plan allows
    }
    return RunProtocol(**{**settings, **changes})


# Four items in two domains, two voices; every number below is worked out by hand in test_gap.py.
ITEMS = (item("a1", "A", fields={"kind": "k"}), item("a2", "A", fields={"kind": "l"}), item("b1", "B"), item("b2", "B"))
SCORES = (
    *scores("a1", 1.0, (1.0, 1.0), 1.0, (1.0, 0.0)),  # bob: only the speech LLM fails
    *scores("a2", 1.0, (0.0, 1.0), 0.0, (0.0, 0.0)),  # ann: the cascade fails too; bob: forgotten
    *scores("b1", 0.0, (0.0, 0.0), 0.0, (0.0, 1.0)),  # ann: wrong in text; bob: right by ear only
    *scores("b2", 1.0, (1.0, 1.0), 1.0, (1.0, 1.0)),  # right everywhere
)
TRANSCRIPTS = tuple(
    Transcript(id_, "context", voice, CLEAN, "toy-asr", "words", errors, words, 0, 20)
    for id_, voice, errors, words in (
        ("a1", "ann", 0, 4),
        ("a1", "bob", 1, 4),
        ("a2", "ann", 3, 6),
        ("a2", "bob", 0, 6),
        ("b1", "ann", 1, 5),
        ("b1", "bob", 0, 5),
        ("b2", "ann", 0, 10),
        ("b2", "bob", 0, 10),
    )
)
DIVERGENCES = tuple(
    Divergence(id_, voice, CLEAN, positions, *nats)
    for id_, voice, positions, nats in (
        ("a1", "ann", 2, (0.2, 2.0, 2.2)),
        ("a1", "bob", 2, (0.2, 4.0, 4.2)),
        ("a2", "ann", 1, (0.4, 1.0, 1.6)),
        ("b1", "ann", 4, (0.0, 0.4, 0.8)),
    )
)


def random_world(
    seed: int, n_items: int = 24, domains: Sequence[str] = ("A", "B", "C"), voices: Sequence[str] = VOICES
) -> tuple[list[Item], list[Score]]:
    """Items with random right and wrong answers, some sharing a passage."""
    rng = np.random.default_rng(seed)
    items, found = [], []
    for place in range(n_items):
        id_ = f"item{place:03d}"
        group = f"passage{place // 2}" if place % 3 else id_
        items.append(item(id_, domains[int(rng.integers(len(domains)))], group=group))
        right = (rng.random(2 + 2 * len(voices)) < rng.uniform(0.2, 0.95)).astype(float).tolist()
        half = 2 + len(voices)
        found += scores(id_, right[0], right[2:half], right[1], right[half:], voices)
    return items, found
