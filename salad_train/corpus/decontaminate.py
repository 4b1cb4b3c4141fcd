"""Which texts of a corpus hold a benchmark's questions: overlap of word n-grams, in time linear in corpus and
benchmark.

Texts are compared as plain words (``plain_words``), so that case, punctuation, accents and line breaks make no
difference. Numbers stay as written: both sides are written text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from salad_eval.errors import UserInputError
from salad_eval.types import Item

NGRAM_WORDS = 8
SHORTEST = 5
MOST_GROUPS = 5

_APOSTROPHES = re.compile("['\u2018\u2019\u201b\u02bc\u2032`\u00b4]")
_WORD = re.compile(r"[^\W_]+")


def plain_words(text: str) -> list[str]:
    """The words of a text in plain lower case: no accents, no apostrophes; everything else that is no letter or digit
    parts words."""
    text = _APOSTROPHES.sub("", text)  # first: decomposed, an acute accent alone would become a blank
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return _WORD.findall(_APOSTROPHES.sub("", text.casefold()))


@dataclass(frozen=True, slots=True)
class Overlap:
    """An item found in a text: how many of a passage's n-grams stand in it, out of how many, and the first of them."""

    item_id: str
    n_shared: int
    n_ngrams: int
    ngram: str


@dataclass(frozen=True, slots=True)
class _Passage:
    item_id: str
    n_ngrams: int
    needed: int


class ItemNgrams:
    """The n-grams of a benchmark's items, to look for in texts.

    A text is contaminated by a passage of an item if it holds at least ``threshold`` of the passage's distinct n-grams,
    and at least one. With the defaults that is *any* run of eight words (the n of PaLM, arXiv 2204.02311, which asked
    for 70% of them; GPT-3, arXiv 2005.14165, took any run of 13): a document left out of a large corpus costs little, a
    test question that was trained on costs the measurement. Shorter runs meet phrasings more than questions: of the
    embedded corpus, which holds no question of its benchmark, eight words leave out 0.2%, seven 0.9%, five 11%. For
    benchmarks with long passages, where one run of eight words says less, raise ``n`` or ``threshold``.

    Passages of an item are its question (each spoken part of the context, and the context without the words that all
    contexts of its task begin and end with) and each of its options and accepted answers of ``n`` words or more. A
    question of ``shortest`` to n − 1 words counts where all of it stands in the text in one run. Shorter ones name too
    little to be told from ordinary text; they are not looked for, nor are options below ``n`` words ("a bird"): see
    ``unchecked``.

    An n-gram that belongs to more than ``most_groups`` groups of items is the benchmark's phrasing ("which of the
    following is an example of", the shots of a few-shot prompt) and does not count.

    Attributes:
        n_ngrams: how many distinct n-grams are looked for.
        unchecked: ids of the items of which nothing is.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        n: int = NGRAM_WORDS,
        threshold: float = 0.0,
        shortest: int = SHORTEST,
        most_groups: int = MOST_GROUPS,
    ) -> None:
        if n < 1:
            raise UserInputError(f"n is {n}; expected a number of words, at least 1.")
        if not 0 <= threshold <= 1:
            raise UserInputError(f"threshold is {threshold}; expected a share of n-grams in [0, 1].")
        if shortest < 1:
            raise UserInputError(f"shortest is {shortest}; expected a number of words, at least 1.")
        if most_groups < 1:
            raise UserInputError(f"most_groups is {most_groups}; expected at least 1.")
        found = [
            (item, ngrams)
            for item, passage in _passages(items, n, most_groups)
            if (ngrams := _ngrams_of(passage, n, shortest))
        ]
        groups: defaultdict[str, set[str]] = defaultdict(set)
        for item, ngrams in found:
            for ngram in ngrams:
                if len(groups[ngram]) <= most_groups:  # one more than allowed says enough
                    groups[ngram].add(item.group)
        passages: list[_Passage] = []
        where: defaultdict[str, list[int]] = defaultdict(list)
        for item, ngrams in found:
            telling = [ngram for ngram in ngrams if len(groups[ngram]) <= most_groups]
            if telling:
                for ngram in telling:
                    where[ngram].append(len(passages))
                passages.append(_Passage(item.id, len(telling), _n_needed(threshold, len(telling))))
        checked = {passage.item_id for passage in passages}
        self.unchecked: tuple[str, ...] = tuple(dict.fromkeys(item.id for item in items if item.id not in checked))
        self._passages = tuple(passages)
        self._where = {ngram: tuple(indices) for ngram, indices in where.items()}
        self._vocabulary = frozenset(word for ngram in self._where for word in ngram.split(" "))
        self._lengths = sorted({ngram.count(" ") + 1 for ngram in self._where})

    @property
    def n_ngrams(self) -> int:
        return len(self._where)

    def find(self, text: str) -> Overlap | None:
        """The first item that contaminates ``text``, or ``None``."""
        if not self._lengths:
            return None
        seen: set[str] = set()
        shared: Counter[int] = Counter()
        first: dict[int, str] = {}
        for run in _runs(plain_words(text), self._vocabulary, self._lengths[0]):
            for length in self._lengths:
                for start in range(len(run) - length + 1):
                    ngram = " ".join(run[start : start + length])
                    if ngram in seen or ngram not in self._where:
                        continue
                    seen.add(ngram)
                    for index in self._where[ngram]:
                        shared[index] += 1
                        first.setdefault(index, ngram)
                        passage = self._passages[index]
                        if shared[index] >= passage.needed:
                            return Overlap(passage.item_id, shared[index], passage.n_ngrams, first[index])
        return None


def _n_needed(threshold: float, n_ngrams: int) -> int:
    return max(1, math.ceil(threshold * n_ngrams - 1e-9))  # 0.7 of 10 is 7, whatever 0.7 * 10 is in binary


def _passages(items: Sequence[Item], n: int, most_groups: int) -> Iterator[tuple[Item, tuple[str, ...]]]:
    """Every item with each text of it that should not be trained on, as plain words; options only from ``n`` words
    on."""
    contexts = [plain_words(item.context) for item in items]
    by_task: defaultdict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_task[item.task].append(index)
    frames: dict[str, tuple[int, int]] = {}
    for task, indices in by_task.items():
        # Of a handful of items no one can tell what is frame and what is question: nothing is cut off then.
        many = len({items[index].group for index in indices}) > most_groups
        frames[task] = _frame([contexts[index] for index in indices]) if many else (0, 0)
    for item, context in zip(items, contexts, strict=True):
        before, after = frames[item.task]
        questions = [
            context[before : len(context) - after],
            *(plain_words(item.part_text(p)) for p in item.spoken_parts),
        ]
        options = [words for text in (*item.choices, *item.answers) if len(words := plain_words(text)) >= n]
        for passage in dict.fromkeys(tuple(words) for words in (*questions, *options)):
            yield item, passage


def _frame(texts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many words all texts begin with, and how many they end with; the two never overlap."""
    shortest = min(len(text) for text in texts)
    before = _n_equal(texts, shortest)
    return before, _n_equal([text[::-1] for text in texts], shortest - before)


def _n_equal(texts: Sequence[Sequence[str]], most: int) -> int:
    first = texts[0]
    return next((at for at in range(most) if any(text[at] != first[at] for text in texts)), most)


def _ngrams_of(words: Sequence[str], n: int, shortest: int) -> tuple[str, ...]:
    """The distinct n-grams of a passage, or all of it where it is shorter; nothing where it is shorter than
    ``shortest`` too."""
    if len(words) < min(n, shortest):
        return ()
    length = min(n, len(words))
    return tuple(dict.fromkeys(" ".join(words[at : at + length]) for at in range(len(words) - length + 1)))


def _runs(words: Iterable[str], vocabulary: frozenset[str], shortest: int) -> Iterator[list[str]]:
    """The longest runs of words that are all in ``vocabulary``, of at least ``shortest``: no n-gram can stand anywhere
    else."""
    run: list[str] = []
    for word in words:
        if word in vocabulary:
            run.append(word)
            continue
        if len(run) >= shortest:
            yield run
        run = []
    if len(run) >= shortest:
        yield run
