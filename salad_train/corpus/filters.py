"""Which texts of a corpus are left out, each for a reason that is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from salad_eval.errors import MissingExtraError, UnknownNameError, UserInputError
from salad_eval.pipeline.tools import Tools
from salad_eval.records import dumps
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import Item
from salad_train.corpus.decontaminate import NGRAM_WORDS, ItemNgrams, plain_words
from salad_train.types import TextDocument

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


Reason = Literal[
    "malformed",
    "empty",
    "too_short",
    "too_long",
    "language",
    "not_speakable",
    "duplicate_id",
    "duplicate",
    "contaminated",
]
# The order in which a document is judged; it is counted under the first reason that holds.
REASONS: tuple[Reason, ...] = get_args(Reason)
LANGUAGE_CHARACTERS = 4_000  # from the beginning; more does not change which language a text is in
# How much more probable another language must be than the one that is asked for. Foreign sentences of five words have
# 0.4 and more; at 0.3 one English document of the nano corpus in 3,000 is lost (mostly four words, two of them foreign
# names), at 0 one in 400.
LANGUAGE_MARGIN = 0.3


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """Where a corpus is and which of its texts are wanted.

    Attributes:
        source: a file that ends in .jsonl, .jsonl.gz, .parquet or .arrow, a folder or a glob pattern of such files, several of
            these, or a hub id or local folder for the ``datasets`` library.
        reader: ``auto`` gives a source to ``datasets`` if it is a hub id or a folder with a dataset card or saved by
            ``datasets``, or if ``dataset_name`` or another ``split`` than train is set; all else is read here.
        text_field: the field that holds the text.
        id_field: the field that names a document; without it, or where a row has none, it is called ``<file>:<row>``.
        domain_field: the field with a label, which tables and pictures show.
        borders_field: the field with character positions at which a document would like to be cut.
        dataset_name: the configuration, as in ``datasets.load_dataset``.
        split, revision, streaming: as in ``datasets.load_dataset``.
        max_documents: reading stops when so many are kept.
        min_words: shorter texts are left out; words as blanks separate them.
        max_words: longer texts are left out.
        language: ISO 639 code, or ``None`` for any. A text is left out where another language is clearly more probable.
        min_speakable: share of the written characters that must have a spoken form, in [0, 1]: see ``speakable_share``.
        ngram_words: length of the runs of words by which a text is seen to hold an item of the benchmark.
        ngram_threshold: share of an item's runs above which it does: see ``decontaminate.ItemNgrams``.
    """

    source: str | tuple[str, ...]
    reader: Literal["auto", "files", "datasets"] = "auto"
    text_field: str = "text"
    id_field: str | None = None
    domain_field: str | None = None
    borders_field: str | None = None
    dataset_name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False
    max_documents: int | None = None
    min_words: int = 3
    max_words: int | None = None
    language: str | None = "en"
    min_speakable: float = 1.0
    ngram_words: int = NGRAM_WORDS
    ngram_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.sources or not all(isinstance(source, str) and source.strip() for source in self.sources):
            raise UserInputError(f"source is {self.source!r}; expected a path, a pattern or a dataset id, or several.")
        if self.reader not in ("auto", "files", "datasets"):
            raise UserInputError(f"reader is {self.reader!r}; expected auto, files or datasets.")
        if not self.text_field:
            raise UserInputError("text_field is empty; name the field that holds the text.")
        if self.max_documents is not None and self.max_documents < 1:
            raise UserInputError(f"max_documents is {self.max_documents}; expected at least 1, or nothing for all.")
        if self.min_words < 0:
            raise UserInputError(f"min_words is {self.min_words}; expected 0 or more.")
        if self.max_words is not None and self.max_words < max(1, self.min_words):
            raise UserInputError(
                f"max_words is {self.max_words} and min_words is {self.min_words}; no text could be kept."
            )
        if not 0 <= self.min_speakable <= 1:
            raise UserInputError(f"min_speakable is {self.min_speakable}; expected a share in [0, 1].")
        if self.ngram_words < 1:
            raise UserInputError(f"ngram_words is {self.ngram_words}; expected at least 1.")
        if not 0 <= self.ngram_threshold <= 1:
            raise UserInputError(f"ngram_threshold is {self.ngram_threshold}; expected a share in [0, 1].")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a document is left out; ``detail`` goes to the examples."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document that is left out, or a row that is none."""

    id: str
    drop: Drop


Filter: TypeAlias = Callable[[TextDocument], Drop | None]
TextFilter: TypeAlias = Callable[[str], Drop | None]


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must be like, whatever else the corpus holds; fields as ``CorpusPlan``'s."""

    min_words: int
    max_words: int | None
    language: str | None
    min_speakable: float

    @classmethod
    def of(cls, plan: CorpusPlan) -> Form:
        """Raises as ``in_language`` does, before a text is read."""
        form = cls(plan.min_words, plan.max_words, plan.language, plan.min_speakable)
        _filters(form)
        return form


@cache
def _filters(form: Form) -> tuple[TextFilter, ...]:
    filters: list[TextFilter] = [has_words, long_enough(form.min_words)]
    if form.max_words is not None:
        filters.append(short_enough(form.max_words))
    if form.language is not None:
        filters.append(in_language(form.language))
    if form.min_speakable > 0:
        filters.append(speakable(form.min_speakable))
    return tuple(filters)


def judge_form(tools: Tools, setup: Form, chunk: Sequence[str]) -> list[Drop | None]:
    """For each text the first filter's word, in the order of ``REASONS``."""
    del tools
    return [next((drop for judge in _filters(setup) if (drop := judge(text))), None) for text in chunk]


def company_filters(plan: CorpusPlan, against: Sequence[Item] = ()) -> tuple[Filter, ...]:
    """The filters of a plan that look at what else there is, in the order of ``REASONS``, which comes after the form's. They remember what
    they have seen: make them anew for each reading."""
    filters: list[Filter] = [new_id(), new_text()]
    if against:
        filters.append(not_in(ItemNgrams(against, n=plan.ngram_words, threshold=plan.ngram_threshold)))
    return tuple(filters)


def corpus_fingerprint(documents: Iterable[TextDocument]) -> str:
    """A digest of what the documents hold and their order; where they were read from is no part of it."""
    hasher = hashlib.sha256()
    for document in documents:  # one at a time: they may lie on disk
        hasher.update(f"{dumps(document)}\n".encode())
    return hasher.hexdigest()[:32]


def has_words(text: str) -> Drop | None:
    """``empty``: no letter and no digit."""
    return None if any(map(str.isalnum, text)) else Drop("empty")


def long_enough(min_words: int) -> TextFilter:
    """``too_short``: fewer than ``min_words`` words."""

    def judge(text: str) -> Drop | None:
        n = len(text.split())
        return Drop("too_short", f"{n} words") if n < min_words else None

    return judge


def short_enough(max_words: int) -> TextFilter:
    """``too_long``: more than ``max_words`` words."""

    def judge(text: str) -> Drop | None:
        n = len(text.split())
        return Drop("too_long", f"{n} words") if n > max_words else None

    return judge


def in_language(language: str) -> TextFilter:
    """``language``: another language is more probable than ``language`` by more than ``LANGUAGE_MARGIN``.

    Probabilities are py3langid's (naive Bayes over byte n-grams, 139 languages, its model inside the package, nothing
    is downloaded). What it cannot tell, a formula or four words of Latin names, stays: a technical text must not be
    lost for being terse. Raises ``UnknownNameError`` for a language it does not know."""
    identifier = _language_identifier()
    if language not in identifier.labels:
        raise UnknownNameError("language", language, identifier.labels)

    def judge(text: str) -> Drop | None:
        beginning = text[:LANGUAGE_CHARACTERS]
        best, probability = identifier.classify(beginning)
        if best == language or probability <= LANGUAGE_MARGIN:
            return None
        margin = probability - dict(identifier.rank(beginning))[language]
        return Drop("language", best) if margin > LANGUAGE_MARGIN else None

    return judge


@cache
def _language_identifier() -> LanguageIdentifier:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError("The language filter of a corpus", "py3langid", "pip install py3langid") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def speakable(min_share: float) -> TextFilter:
    """``not_speakable``: less than ``min_share`` of the text has a spoken form; at 1, the text as a whole has none."""

    def judge(text: str) -> Drop | None:
        try:
            to_spoken(text)
        except Unspeakable as cause:
            if min_share < 1 and speakable_share(text) >= min_share:
                return None
            return Drop("not_speakable", cause.reason)
        return None

    return judge


def speakable_share(text: str) -> float:
    """Share of a text's characters, blanks aside, that have a spoken form: 1 if ``to_spoken`` takes the text, otherwise
    the share of those in words that it takes one by one. 0 for a text of blanks."""
    words = text.split()
    n_characters = sum(map(len, words))
    if not n_characters:
        return 0.0
    if _can_be_said(text):
        return 1.0
    n_spoken = sum(len(word) for word in words if _can_be_said(word))
    return min(n_spoken, n_characters - 1) / n_characters  # mark-up may span words that are harmless alone


def _can_be_said(text: str) -> bool:
    try:
        to_spoken(text)
    except Unspeakable:
        return False
    return True


def new_id() -> Filter:
    """``duplicate_id``: a document that came this far before has the same id. The first one stays; a report that names
    a document by its id must mean one."""
    return _first_of(lambda document: document.id, "duplicate_id")


def new_text() -> Filter:
    """``duplicate``: the same plain words in the same order (``plain_words``) as a document that came this far
    before."""
    return _first_of(lambda document: " ".join(plain_words(document.text)), "duplicate")


def _first_of(key: Callable[[TextDocument], str], reason: Reason) -> Filter:
    seen: set[bytes] = set()

    def judge(document: TextDocument) -> Drop | None:
        mark = hashlib.blake2b(key(document).encode("utf-8"), digest_size=16).digest()
        if mark in seen:
            return Drop(reason)
        seen.add(mark)
        return None

    return judge


def not_in(items: ItemNgrams) -> Filter:
    """``contaminated``: the document holds an item's question or option; the example names the item."""

    def judge(document: TextDocument) -> Drop | None:
        overlap = items.find(document.text)
        return Drop("contaminated", overlap.item_id) if overlap else None

    return judge
