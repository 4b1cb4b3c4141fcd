"""The words that say what texts are about: labels of clusters, and what a benchmark's domain speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# What is left of "don't", "we'll" or "they've" says nothing either.
_CONTRACTED = re.compile(r"['’](?:t|ll|ve|re|d|m)$")
_POSSESSIVE = re.compile(r"['’]s?$")
_CONTENT_WORDS = frozenset({"bill", "computer", "fire", "mill", "system"})
_MORE_FUNCTION_WORDS = frozenset(
    {"did", "does", "doing", "said", "say", "says", "shall", "just", "oh", "mr", "mrs", "ms"}
    | {"thou", "thee", "thy", "thine", "unto", "hath", "doth"}
)
DOCUMENTS_A_CLUSTER = 512  # whose words are counted: a word of so many documents is known to some per cent
CANDIDATES = 64  # words of a cluster among which its label is looked for
# A word in more than a tenth of the documents of two thirds of the clusters is grammar, or the form that texts have.
COMMON_IN_DOCUMENTS, COMMON_IN_CLUSTERS = 0.1, 2 / 3
OTHERS_WEIGHT = 0.05  # of clusters that the words before have told apart already


def telling_words(text: str) -> Iterator[str]:
    """The words of a text in lower case, without English function words, numbers and single letters, as often as they come."""
    stop = _function_words()
    for found in _WORD.findall(text.lower()):
        if _CONTRACTED.search(found):
            continue
        word = _POSSESSIVE.sub("", found)
        if len(word) > 1 and word not in stop:
            yield word


@cache
def _function_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    # Some of the list's words are what a text may well be about, and others that say nothing are not in it.
    return (frozenset(ENGLISH_STOP_WORDS) - _CONTENT_WORDS) | _MORE_FUNCTION_WORDS


def cluster_terms(texts: Sequence[str], labels: np.ndarray, k: int, n_terms: int) -> list[tuple[str, ...]]:
    """For each of ``k`` clusters the words that set it apart, most telling first; none for a cluster without any.

    A word's score is p · log(p / q), with p the share of the cluster's documents that hold it: class-based TF-IDF (Grootendorst
    2022) over documents, so that a name repeated in one text counts once. q is its mean share in the clusters that are still to be
    told apart: all of them for the first word, and for each next one mostly those that share the words before it. So where two
    clusters share the name of their subject, a word follows that only one of them has.

    Args:
        texts, labels: (n,) of which ``DOCUMENTS_A_CLUSTER`` of each cluster, spread over it, are read.
    """
    counts, sizes, vocabulary = _document_counts(texts, labels, k)
    if not len(vocabulary):
        return [()] * k
    shares = counts.multiply(1 / np.maximum(sizes, 1)[:, None]).tocsc()
    usable = np.asarray((shares > COMMON_IN_DOCUMENTS).sum(axis=0)).ravel() <= COMMON_IN_CLUSTERS * k
    means = np.asarray(shares.mean(axis=0)).ravel()
    rows = shares.tocsr()
    return [
        _label(
            cluster, rows[[cluster]], counts[[cluster]], int(sizes[cluster]), means, usable, shares, vocabulary, n_terms
        )
        for cluster in range(k)
    ]


@dataclass(frozen=True, slots=True)
class Unknown:
    """How many of the ``n_words`` telling words of some texts stand in no document of a corpus."""

    n_words: int
    n_unknown: int

    @property
    def share(self) -> float:
        return self.n_unknown / self.n_words if self.n_words else 0.0

    @property
    def is_most(self) -> bool:
        """Whether more than half of such words are unknown, and not by the chance of which ones were asked for (5%, binomial)."""
        from scipy.stats import binom

        return bool(self.n_words) and float(binom.sf(self.n_unknown - 1, self.n_words, 0.5)) < 0.05


def unknown_words(asked: Mapping[str, Iterable[str]], texts: Iterable[str]) -> dict[str, Unknown]:
    """Of each group of texts, how many distinct telling words stand in none of ``texts``.

    Reading stops as soon as no group can have most of its words unknown, which in a large corpus is soon.
    """
    words = {name: {word for text in group for word in telling_words(text)} for name, group in asked.items()}
    missing = {name: set(of_group) for name, of_group in words.items()}

    def found() -> dict[str, Unknown]:
        return {name: Unknown(len(words[name]), len(missing[name])) for name in words}

    for number, text in enumerate(texts):
        known = set(telling_words(text))
        for of_group in missing.values():
            of_group -= known
        if number % 1024 == 0 and not any(one.is_most for one in found().values()):
            break
    return found()


def _label(
    cluster: int,
    row: Any,
    count: Any,
    size: int,
    means: np.ndarray,
    usable: np.ndarray,
    shares: Any,
    vocabulary: np.ndarray,
    n_terms: int,
) -> tuple[str, ...]:
    once = 1 if size < 10 else 2  # what stands in one document of many is that document's
    places = row.indices[(count.data >= once) & usable[row.indices]]
    p = np.asarray(row[:, places].todense()).ravel()
    score = p * np.log(p / means[places])
    best = np.lexsort((vocabulary[places], -score))[:CANDIDATES]
    places = places[best[score[best] > 0]]
    among = np.asarray(shares[:, places].todense())  # (K, candidates)
    weights = np.ones(len(among))
    chosen: list[int] = []
    while len(chosen) < min(n_terms, len(places)):
        left = np.maximum(weights, OTHERS_WEIGHT)
        q = left @ among / left.sum()
        gain = among[cluster] * np.log(among[cluster] / q)
        gain[chosen] = -np.inf
        word = int(gain.argmax())
        if gain[word] <= 0:
            break
        chosen.append(word)
        weights = weights * np.minimum(1.0, among[:, word] / among[cluster, word])
    return tuple(vocabulary[places[chosen]].tolist())


def _document_counts(texts: Sequence[str], labels: np.ndarray, k: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """In how many of its read documents each cluster holds each word, (K, words) sparse; how many were read, (K,); the words."""
    from scipy.sparse import csr_matrix

    by_label = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[by_label], np.arange(k + 1))
    place: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    sizes = np.zeros(k, dtype=np.int64)
    for cluster in range(k):
        members = by_label[edges[cluster] : edges[cluster + 1]]
        read = members[np.linspace(0, len(members) - 1, min(len(members), DOCUMENTS_A_CLUSTER)).astype(np.int64)]
        sizes[cluster] = len(read)
        for index in read.tolist():
            words = dict.fromkeys(telling_words(texts[index]))
            columns += [place.setdefault(word, len(place)) for word in words]
            rows += [cluster] * len(words)
    ones = np.ones(len(rows), dtype=np.float64)
    counts = csr_matrix((ones, (rows, columns)), shape=(k, len(place)))  # equal places are added up
    counts.sum_duplicates()
    return counts, sizes, np.array(list(place), dtype=object)
