"""What share of real benchmark rows can be spoken, why the rest cannot, and what it costs.

    python -m tests.speed.bench_speakable [--data ../shared/data] [--sources mmlu arc …] [--spans] [--show 20]

A row counts as spoken if its question and every option are. ``--spans`` also checks, of every text, that each character is
accounted for; ``--show`` prints that many random texts with signs or digits as written and as spoken.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.progress import track
from salad_eval.speakable import Unspeakable, spoken_spans, to_spoken
from tests.helpers.places import SHARED_DATA

DATA = SHARED_DATA


@dataclass(frozen=True, slots=True)
class Row:
    """The texts of one row that a listener would hear: a question and its options, or a paragraph."""

    domain: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Files under the data folder and how one of their lines becomes a row."""

    files: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Row]


SOURCES: dict[str, Source] = {
    "mmlu": Source(
        ("mmlu/mmlu_dev.jsonl", "mmlu/mmlu_val.jsonl", "mmlu/mmlu_test_stride2.jsonl"),
        lambda r: Row(r["subject"], (r["question"], *map(str, r["choices"]))),
    ),
    "arc": Source(
        ("arc/arc_challenge.jsonl", "arc/arc_easy.jsonl"), lambda r: Row("science", (r["query"], *r["choices"]))
    ),
    "hellaswag": Source(
        ("hellaswag/hellaswag_val_stride2.jsonl",), lambda r: Row(r["activity_label"], (r["ctx"], *r["endings"]))
    ),
    "openbookqa": Source(
        ("openbookqa/train.jsonl", "openbookqa/dev.jsonl", "openbookqa/test.jsonl"),
        lambda r: Row("science", (r["question"]["stem"], *(c["text"] for c in r["question"]["choices"]))),
    ),
    "piqa": Source(("piqa/piqa_valid.jsonl",), lambda r: Row("physical", (r["goal"], r["sol1"], r["sol2"]))),
    "gutenberg": Source(("gutenberg_domains/gutenberg_domains.jsonl",), lambda r: Row(r["domain"], (r["text"],))),
    "factbook": Source(("world_factbook/world_factbook.jsonl",), lambda r: Row(r["domain"], (r["text"],))),
    "kathleen": Source(("speech_kathleen/manifest.jsonl",), lambda r: Row("arctic", (r["text"],))),
}


def rows(data: Path, source: str) -> Iterator[Row]:
    """The rows of a source; none of a file that is not there."""
    for name in SOURCES[source].files:
        if (data / name).exists():
            for line in (
                (data / name).read_text("utf-8").strip("\n").split("\n")
            ):  # not splitlines: a text may hold U+0085
                yield SOURCES[source].read(json.loads(line))


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the rows of one source. ``refused`` counts rows by kind and reason, ``domains`` by domain."""

    source: str
    n_rows: int
    n_texts: int
    n_characters: int
    seconds: float
    refused: Counter[tuple[str, str]]
    domains: Counter[str]
    lost: tuple[str, ...]

    @property
    def n_refused(self) -> int:
        return sum(self.refused.values())


def tally(source: str, rows: Sequence[Row], spans: bool = False) -> Tally:
    """Speak all texts of all rows; a row with one that is refused counts once, for the first."""
    refused: Counter[tuple[str, str]] = Counter()
    domains: Counter[str] = Counter()
    lost: list[str] = []
    seconds = 0.0
    for row in track(rows, source, total=len(rows)):
        cause: Unspeakable | None = None
        for text in row.texts:
            began = time.process_time()
            try:
                to_spoken(text)
            except Unspeakable as error:
                cause = cause or error
                continue
            finally:
                seconds += time.process_time() - began
            if spans:
                lost += [f"{span.written!r} in {text[:60]!r}" for span in spoken_spans(text) if span.silent == "lost"]
        if cause is not None:
            refused[cause.kind, re.sub(r"['\"].*", "…", cause.reason)] += 1
            domains[row.domain] += 1
    texts = [text for row in rows for text in row.texts]
    return Tally(source, len(rows), len(texts), sum(map(len, texts)), seconds, refused, domains, tuple(lost))


def as_text(t: Tally) -> str:
    lines = [
        f"{t.source}: {t.n_rows} rows, {t.n_texts} texts; spoken {1 - t.n_refused / t.n_rows:.2%}, refused {t.n_refused}; "
        f"{t.seconds / t.n_texts * 1e6:.0f} µs a text ({t.seconds / t.n_characters * 1e6:.2f} µs a character)"
    ]
    lines += [f"    {n:4d}  {kind}: {reason}" for (kind, reason), n in t.refused.most_common()]
    if len(t.domains) > 1:
        lines.append("    by domain: " + ", ".join(f"{name} {n}" for name, n in t.domains.most_common(8)))
    lines += [f"    LOST {what}" for what in t.lost]
    return "\n".join(lines)


def show(source: str, rows: Sequence[Row], count: int, seed: int) -> None:
    """Random texts with something in them that is not read as it is written."""
    texts = sorted({text for row in rows for text in row.texts if re.search(r"[^A-Za-z\s.,;:?!'\"()-]", text)})
    for text in random.Random(seed).sample(texts, min(count, len(texts))):
        try:
            spoken = to_spoken(text)
        except Unspeakable as cause:
            spoken = f"REFUSED ({cause.kind}) {cause.reason}"
        print(f"[{source}] {text!r}\n     -> {spoken}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sources", nargs="*", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--spans", action="store_true", help="check that nothing is lost (several times slower)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N random texts of each source")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for source in arguments.sources:
        found = list(rows(arguments.data, source))
        if not found:
            print(f"{source}: no rows under {arguments.data}")
            continue
        if arguments.show:
            show(source, found, arguments.show, arguments.seed)
        else:
            print(as_text(tally(source, found, arguments.spans)))


if __name__ == "__main__":
    main()
