"""Domains for a benchmark that has none: the topic whose description is nearest to the item's text, by TF-IDF.

A topic file names topics and describes each with a handful of words (or with texts: those of a corpus cluster, say), and
an item belongs to the topic with the greatest cosine. Items that share no word with any topic belong to none. It is a plain rule
that anybody can check, not a label: a benchmark's card says how far it can be trusted.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from salad_eval.errors import TaskError
from salad_eval.records import parse_json

_WORD = re.compile(r"[^\W\d_]{3,}(?:'[a-z]+)?")


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics by name, and for each term the topics it speaks for.

    ``weights[term][topic]``: the term's share of the topic's unit TF-IDF vector (logarithmic term frequency). ``idf[term]``, over the
    topics: ``ln((1 + N) / (1 + n)) + 1`` for a term of ``n`` of ``N`` topics, scikit-learn's smoothed form.
    """

    names: tuple[str, ...]
    idf: Mapping[str, float]
    weights: Mapping[str, Mapping[str, float]]

    def similarities(self, text: str) -> dict[str, float]:
        """Cosine in [0, 1] of ``text`` with every topic that shares a term with it; words no topic knows are left out of both."""
        counts = Counter(term for term in terms(text) if term in self.idf)
        vector = {term: (1 + math.log(n)) * self.idf[term] for term, n in counts.items()}
        norm = math.sqrt(sum(weight * weight for weight in vector.values()))
        cosines: dict[str, float] = defaultdict(float)
        for term, weight in vector.items():
            for topic, share in self.weights[term].items():
                cosines[topic] += weight * share / norm
        return dict(cosines)

    def nearest(self, text: str) -> str | None:
        """The topic nearest to ``text`` (the first in the file where several are), or ``None`` where no topic shares a word with it."""
        cosines = self.similarities(text)
        return max(
            (name for name in self.names if name in cosines), key=lambda name: round(cosines[name], 12), default=None
        )


def terms(text: str) -> Iterator[str]:
    """The words of a text that can tell topics apart: lower case, of three letters or more, without common inflections."""
    for match in _WORD.finditer(text.lower()):
        yield _stem(match.group().removesuffix("'s"))


_ENDINGS = ("ies", "ing", "ed", "es", "s", "e", "y")
_STEM_LETTERS = 3  # what an ending may be taken from


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """The word without the first of the common endings it has: a dozen of Porter's rules, and as good here as all of them."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_LETTERS and not word.endswith(("ss", "us", "is")):
            word = word[: -len(ending)]
            break
    doubled = (
        len(word) > _STEM_LETTERS and word[-1] == word[-2] and word[-1] not in "ls"
    )  # "plan-n(ing)", not "roll-(ing)"
    return word[:-1] if doubled else word


def topics_of(descriptions: Mapping[str, str]) -> Topics:
    """Topics from their names and descriptions. Raises ``TaskError`` where fewer than two have a word."""
    counts = {name: Counter(terms(f"{name} {text}")) for name, text in descriptions.items()}
    counts = {name: found for name, found in counts.items() if found}
    if len(counts) < 2:
        raise TaskError(
            f"topics need two descriptions or more with words in them, got {len(counts)} of {len(descriptions)}."
        )
    containing = Counter(term for found in counts.values() for term in found)
    idf = {term: math.log((1 + len(counts)) / (1 + n)) + 1 for term, n in containing.items()}
    weights: dict[str, dict[str, float]] = defaultdict(dict)
    for name, found in counts.items():
        vector = {term: (1 + math.log(n)) * idf[term] for term, n in found.items()}
        norm = math.sqrt(sum(weight * weight for weight in vector.values()))
        for term, weight in vector.items():
            weights[term][name] = weight / norm
    return Topics(tuple(counts), idf, dict(weights))


def load_topics(path: Path) -> Topics:
    """The topics in a JSON file of names and descriptions. Raises ``TaskError`` naming the file."""
    try:
        table = parse_json(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise TaskError(f"cannot read the topics {path}: {cause.strerror or cause}.") from None
    except ValueError as cause:
        raise TaskError(f"{path}: is not JSON: {cause}.") from None
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise TaskError(f"{path}: expected a mapping of topic names to descriptions, both texts.")
    try:
        return topics_of(table)
    except TaskError as cause:
        raise TaskError(f"{path}: {cause}") from None
