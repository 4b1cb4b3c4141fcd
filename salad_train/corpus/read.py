"""A corpus of texts that could be spoken: read row by row, filtered for reasons that are counted, and kept free of the
benchmark.

    rows → documents → filters, in the order of ``REASONS`` → ``Corpus``

Rows are read and judged one at a time. What stays in memory are the documents that are kept and, for each that came as
far as the search for duplicates, two digests of 16 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from salad_eval.errors import DataError, MissingExtraError, UnknownNameError, UserInputError, did_you_mean
from salad_eval.pipeline.folder import digest
from salad_eval.progress import track
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import Item
from salad_train.corpus.decontaminate import NGRAM_WORDS, ItemNgrams, plain_words
from salad_train.corpus.rows import DatasetSource, Row, dataset_rows, file_rows, find_files, is_dataset
from salad_train.types import Corpus, CorpusReject, TextDocument

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
N_EXAMPLES = 5
LANGUAGE_CHARACTERS = 4_000  # from the beginning; more does not change which language a text is in
# How much more probable another language must be than the one that is asked for. Foreign sentences of five words have
# 0.4 and more; at 0.3 one English document of the nano corpus in 3,000 is lost (mostly four words, two of them foreign
# names), at 0 one in 400.
LANGUAGE_MARGIN = 0.3
_FIELDLESS_ROWS = 10_000  # after so many rows without the text field the plan is wrong, however long the corpus is


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """Where a corpus is and which of its texts are wanted.

    Attributes:
        source: a file that ends in .jsonl, .jsonl.gz or .parquet, a folder or a glob pattern of such files, several of
            these, or a hub id or local folder for the ``datasets`` library.
        reader: ``auto`` gives a source to ``datasets`` if it is a hub id or a folder with a dataset card or saved by
            ``datasets``, or if ``dataset_name`` or another ``split`` than train is set; all else is read here.
        text_field, id_field, domain_field, borders_field: names of fields. Without ``id_field``, or where a row has
            none, a document is called ``<file>:<row>``. ``borders_field`` holds character positions.
        dataset_name, split, revision, streaming: as in ``datasets.load_dataset``.
        max_documents: reading stops when so many are kept.
        min_words, max_words: words as blanks separate them, both inclusive.
        language: ISO 639 code, or ``None`` for any. A text is left out where another language is clearly more probable.
        min_speakable: share of the written characters that must have a spoken form, in [0, 1]: see ``speakable_share``.
        ngram_words, ngram_threshold: what counts as holding an item of the benchmark: see ``decontaminate.ItemNgrams``.
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
class Unreadable:
    """A row that is no document."""

    id: str
    detail: str


Filter: TypeAlias = Callable[[TextDocument], Drop | None]


# --- the corpus ------------------------------------------------------------------------------------------------------


def read_corpus(plan: CorpusPlan, *, against: Sequence[Item] = ()) -> Corpus:
    """The documents of a source that pass all filters, in its order; time is linear in rows and items.

    ``against`` are the items of the benchmark (of every split that will ever be reported) whose questions no document
    may hold.

    Raises ``DataError`` where the source cannot be read, no row has a field that the plan names, or nothing is left;
    and ``UserInputError`` for a plan that cannot be followed."""
    where = ", ".join(plan.sources)
    documents = _documents(track(_rows(plan), "reading corpus"), plan, where)
    return build_corpus(documents, filters_for(plan, against), max_documents=plan.max_documents, where=where)


def build_corpus(
    candidates: Iterable[TextDocument | Unreadable],
    filters: Sequence[Filter],
    *,
    max_documents: int | None = None,
    where: str = "the corpus",
) -> Corpus:
    """Keep what every filter keeps, count the rest by reason. Raises ``DataError`` listing the counts where nothing is
    left."""
    kept: list[TextDocument] = []
    tally = _Tally()
    for candidate in candidates:
        if isinstance(candidate, Unreadable):
            tally.add(candidate.id, Drop("malformed", candidate.detail))
        elif drop := next((found for judge in filters if (found := judge(candidate))), None):
            tally.add(candidate.id, drop)
        else:
            kept.append(candidate)
            if len(kept) == max_documents:
                break
    rejects = tally.rejects()
    if not kept:
        n_read = sum(reject.n for reject in rejects)
        if not n_read:
            raise DataError(f"{where} holds no documents.")
        counts = "; ".join(f"{reject.n} {reject.reason} (such as {reject.examples[0]})" for reject in rejects)
        raise DataError(
            f"{where}: none of {n_read} documents is left: {counts}. Loosen these filters or change the source."
        )
    return Corpus(tuple(kept), rejects, corpus_fingerprint(kept))


def filters_for(plan: CorpusPlan, against: Sequence[Item] = ()) -> tuple[Filter, ...]:
    """The filters of a plan, in the order of ``REASONS``. Some remember what they have seen: make them anew for each
    reading."""
    filters: list[Filter] = [has_words, long_enough(plan.min_words)]
    if plan.max_words is not None:
        filters.append(short_enough(plan.max_words))
    if plan.language is not None:
        filters.append(in_language(plan.language))
    if plan.min_speakable > 0:
        filters.append(speakable(plan.min_speakable))
    filters += [new_id(), new_text()]
    if against:
        filters.append(not_in(ItemNgrams(against, n=plan.ngram_words, threshold=plan.ngram_threshold)))
    return tuple(filters)


def corpus_fingerprint(documents: Sequence[TextDocument]) -> str:
    """A digest of what the documents hold and their order; where they were read from is no part of it."""
    return digest(*documents)


class _Tally:
    def __init__(self) -> None:
        self._counts: dict[Reason, int] = {}
        self._examples: dict[Reason, list[str]] = {}

    def add(self, document_id: str, drop: Drop) -> None:
        self._counts[drop.reason] = self._counts.get(drop.reason, 0) + 1
        examples = self._examples.setdefault(drop.reason, [])
        if len(examples) < N_EXAMPLES:
            examples.append(f"{document_id} ({drop.detail:.120})" if drop.detail else document_id)

    def rejects(self) -> tuple[CorpusReject, ...]:
        return tuple(
            CorpusReject(reason, self._counts[reason], tuple(self._examples[reason]))
            for reason in REASONS
            if reason in self._counts
        )


# --- rows to documents -----------------------------------------------------------------------------------------------


def _rows(plan: CorpusPlan) -> Iterator[Row]:
    named = (plan.text_field, plan.id_field, plan.domain_field, plan.borders_field)
    wanted = frozenset(name for name in named if name)
    if not _by_datasets(plan):
        for name, value, usual in (
            ("dataset_name", plan.dataset_name, None),
            ("revision", plan.revision, None),
            ("split", plan.split, "train"),
        ):
            if value != usual:
                raise UserInputError(
                    f"{name} is {value!r}, but {', '.join(plan.sources)} is read as files, which have none."
                )
        return file_rows(find_files(plan.sources), wanted)
    if len(plan.sources) > 1:
        raise UserInputError(f"source names {len(plan.sources)} sources; the datasets library reads one at a time.")
    source = DatasetSource(plan.sources[0], plan.dataset_name, plan.split, plan.revision, plan.streaming)
    return dataset_rows(source, wanted)


def _by_datasets(plan: CorpusPlan) -> bool:
    if plan.reader != "auto":
        return plan.reader == "datasets"
    if len(plan.sources) > 1:
        return False
    return is_dataset(plan.sources[0]) or plan.dataset_name is not None or plan.split != "train"


def _documents(rows: Iterable[Row], plan: CorpusPlan, where: str) -> Iterator[TextDocument | Unreadable]:
    """Rows as documents. Raises ``DataError`` where a field that the plan names is in no row: a slip of the plan, not
    of the rows."""
    fields: dict[str, None] = {}
    n_readable = 0
    for row in rows:
        if row.fault:
            yield Unreadable(row.id, row.fault)
            continue
        n_readable += 1
        if len(fields) < _FIELDLESS_ROWS:
            fields.update(dict.fromkeys(row.fields))
        if n_readable == _FIELDLESS_ROWS and plan.text_field not in fields:
            break
        yield _document(row, plan)
    if not n_readable:
        return
    for key in ("text_field", "id_field", "domain_field", "borders_field"):
        name = getattr(plan, key)
        if name is not None and name not in fields:
            listing = ", ".join(list(fields)[:20]) or "none"
            raise DataError(
                f"{where}: {key} is {name!r}, and none of {n_readable:,} rows has that field"
                f"{did_you_mean(name, fields)}. Fields: {listing}."
            )


def _document(row: Row, plan: CorpusPlan) -> TextDocument | Unreadable:
    document_id = row.id
    try:
        if plan.id_field is not None:
            document_id = _label(row.values, plan.id_field) or row.id
        text = row.values.get(plan.text_field)
        if text is None:
            text = ""  # columns have nulls where lines leave a field out; both become a document without words
        if not isinstance(text, str):
            raise ValueError(f"{plan.text_field} is no text: {text!r:.40}")
        text.encode("utf-8")  # half a surrogate pair can be written in JSON, and in nothing that comes after
        domain = _label(row.values, plan.domain_field) if plan.domain_field is not None else ""
        borders = _borders(row.values.get(plan.borders_field), len(text)) if plan.borders_field is not None else ()
    except UnicodeEncodeError:
        return Unreadable(row.id, f"{plan.text_field} holds half a surrogate pair")
    except ValueError as cause:
        return Unreadable(row.id, str(cause))
    return TextDocument(document_id, text, domain, borders)


def _label(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{name} is neither text nor a whole number: {value!r:.40}")
    label = str(value).strip()
    label.encode("utf-8")
    return label


def _borders(value: object, length: int) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"borders are no list of positions: {value!r:.40}")
    borders: set[int] = set()
    for border in value:
        if isinstance(border, bool) or not isinstance(border, int) or not 0 <= border <= length:
            raise ValueError(f"a border is {border!r:.40}; expected a position from 0 to {length}")
        borders.add(border)
    return tuple(sorted(borders))


# --- filters ---------------------------------------------------------------------------------------------------------


def has_words(document: TextDocument) -> Drop | None:
    """``empty``: no letter and no digit."""
    return None if any(map(str.isalnum, document.text)) else Drop("empty")


def long_enough(min_words: int) -> Filter:
    """``too_short``: fewer than ``min_words`` words."""

    def judge(document: TextDocument) -> Drop | None:
        n = len(document.text.split())
        return Drop("too_short", f"{n} words") if n < min_words else None

    return judge


def short_enough(max_words: int) -> Filter:
    """``too_long``: more than ``max_words`` words."""

    def judge(document: TextDocument) -> Drop | None:
        n = len(document.text.split())
        return Drop("too_long", f"{n} words") if n > max_words else None

    return judge


def in_language(language: str) -> Filter:
    """``language``: another language is more probable than ``language`` by more than ``LANGUAGE_MARGIN``.

    Probabilities are py3langid's (naive Bayes over byte n-grams, 139 languages, its model inside the package, nothing
    is downloaded). What it cannot tell, a formula or four words of Latin names, stays: a technical text must not be
    lost for being terse. Raises ``UnknownNameError`` for a language it does not know."""
    identifier = _language_identifier()
    if language not in identifier.labels:
        raise UnknownNameError("language", language, identifier.labels)

    def judge(document: TextDocument) -> Drop | None:
        beginning = document.text[:LANGUAGE_CHARACTERS]
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


def speakable(min_share: float) -> Filter:
    """``not_speakable``: less than ``min_share`` of the text has a spoken form; at 1, the text as a whole has none."""

    def judge(document: TextDocument) -> Drop | None:
        try:
            to_spoken(document.text)
        except Unspeakable as cause:
            if min_share < 1 and speakable_share(document.text) >= min_share:
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
