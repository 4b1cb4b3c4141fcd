"""Every spoken form of real rows that differs from that of another checkout, by the rule that made it, to be read by a person.

    python -m tests.helpers.spoken_changes --against CHECKOUT [--data ../shared/data] [--read 50] [--rules year_by_itself …] [--seed 7]

Prints a table of rules and counts, then of each rule up to ``--read`` changes drawn by the seed: what is written (the changed part
between ⟦ and ⟧) and what was and is said. A text that one of the two refuses is a change too.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from salad_eval.progress import track
from salad_eval.speakable import SpokenSpan, Unspeakable, spoken_spans, to_spoken
from tests.helpers.places import SHARED_DATA
from tests.helpers.spoken_counts import texts_of

_OTHER = """
import json, sys
from salad_eval.speakable import Unspeakable, to_spoken
for line in sys.stdin:
    try:
        print(json.dumps(["", to_spoken(json.loads(line))]))
    except Unspeakable as cause:
        print(json.dumps([cause.kind, str(cause)]))
"""
_COMMON = frozenset({  # rules that finish what others began
    "plain_number", "one_blank", "blank_at_mark", "sign", "dash", "short_dash", "letter_form", "grouping_brackets",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One place where the two checkouts differ: the rules at work in it, what is written, what was said and what is."""

    rule: str
    written: str
    was: str
    now: str


def said_by(checkout: Path, texts: Sequence[str]) -> list[tuple[str, str]]:
    """For each text the kind of its reject, empty if it is spoken, and its spoken form or the reason."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    lines = "\n".join(map(json.dumps, texts))
    done = subprocess.run(
        [sys.executable, "-c", _OTHER],
        cwd=checkout,
        env=environment,
        input=lines,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [(kind, form) for kind, form in map(json.loads, done.stdout.splitlines())]


def changes(text: str, kind: str, was: str) -> Iterator[Change]:
    """What differs of one text; ``was`` is its spoken form in the other checkout or, with a ``kind``, why that refused it."""
    try:
        now = to_spoken(text)
    except Unspeakable as cause:
        if cause.kind != kind:
            yield Change(f"refused: {cause.kind}", text, was, str(cause))
        return
    if kind:
        yield Change(f"spoken: was {kind}", text, was, now)
    elif now != was:
        yield from _places(text, was.split(), now, spoken_spans(text))


def _places(text: str, was: Sequence[str], spoken: str, spans: Sequence[SpokenSpan]) -> Iterator[Change]:
    now, starts, at = spoken.split(), list[int](), 0
    for word in now:
        starts.append(spoken.index(word, at))
        at = starts[-1] + len(word)
    for tag, i, j, k, n in difflib.SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        first = starts[k] if k < len(now) else len(spoken)
        last = starts[n - 1] + len(now[n - 1]) if n > k else first + 1
        begin, end, rules = _written(spans, first, last)
        name = "+".join(dict.fromkeys([r for r in rules if r not in _COMMON] or rules)) or "none"
        context = f"{text[max(0, begin - 45) : begin]}⟦{text[begin:end]}⟧{text[end : end + 35]}"
        yield Change(name, context, " ".join(was[max(0, i - 2) : j + 1]), " ".join(now[max(0, k - 2) : n + 1]))


def _written(spans: Sequence[SpokenSpan], first: int, last: int) -> tuple[int, int, list[str]]:
    """Where the characters ``[first, last)`` of the spoken form stand in the written one, and the rules that made them."""
    begin = end = written = spoken = 0
    rules: list[str] = []
    for span in spans:
        if spoken < last and spoken + len(span.spoken) > first:
            begin, end = (begin if rules or end else written), written + len(span.written)
            rules += span.rules
        written, spoken = written + len(span.written), spoken + len(span.spoken)
    return begin, end, rules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--read", type=int, default=50)
    parser.add_argument("--rules", nargs="*")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    texts = list(texts_of(arguments.data))
    found: dict[str, list[Change]] = defaultdict(list)
    others = said_by(arguments.against, texts)
    for text, (kind, was) in track(list(zip(texts, others, strict=True)), "comparing", total=len(texts)):
        for change in changes(text, kind, was):
            found[change.rule].append(change)
    by_size = sorted(found.items(), key=lambda item: -len(item[1]))
    print(f"{len(texts)} texts\n| rule | changed |\n|---|---|")
    for rule, of_rule in by_size:
        print(f"| {rule} | {len(of_rule)} |")
    for rule, of_rule in by_size:
        if arguments.rules and rule not in arguments.rules:
            continue
        print(f"\n== {rule} ({len(of_rule)})")
        for change in random.Random(arguments.seed).sample(of_rule, min(arguments.read, len(of_rule))):
            print(f"{change.written!r}  was: {change.was}  is: {change.now}")


if __name__ == "__main__":
    main()
