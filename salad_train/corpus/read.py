"""A corpus of texts that could be spoken: read row by row, filtered for reasons that are counted, and kept free of the
benchmark.

    rows → documents → filters, in the order of ``REASONS`` → ``Corpus``

Rows are read and judged one at a time. What stays in memory are, for each document that came as far as the search for
duplicates, two digests of 16 bytes, and the documents that are kept, unless these go to a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from salad_eval.errors import DataError, UserInputError, did_you_mean
from salad_eval.pipeline.executor import Executor, InProcess, Work
from salad_eval.progress import track
from salad_eval.records import is_text
from salad_eval.types import Item
from salad_train.corpus.documents import write_documents
from salad_train.corpus.filters import (
    REASONS,
    CorpusPlan,
    Drop,
    Dropped,
    Filter,
    Form,
    Reason,
    company_filters,
    corpus_fingerprint,
    judge_form,
)
from salad_train.corpus.rows import DatasetSource, Row, dataset_rows, file_rows, find_files, is_dataset
from salad_train.types import Corpus, CorpusReject, TextDocument

N_EXAMPLES = 5
CHUNK = 256  # texts that are judged together
MOST_AHEAD = 16_384  # texts that are read before they are judged
_FIELDLESS_ROWS = 10_000  # after so many rows without the text field the plan is wrong, however long the corpus is


def read_corpus(
    plan: CorpusPlan, *, against: Sequence[Item] = (), kept_in: Path | None = None, hands: Executor | None = None
) -> Corpus:
    """The documents of a source that pass all filters, in its order; time is linear in rows and items.

    ``against`` are the items of the benchmark (of every split that will ever be reported) whose questions no document
    may hold. ``kept_in`` names a file for the documents, which are in memory without it. ``hands`` judge the texts, by default here.

    Raises ``DataError`` where the source cannot be read, no row has a field that the plan names, or nothing is left;
    and ``UserInputError`` for a plan that cannot be followed."""
    where = ", ".join(plan.sources)
    documents = well_formed(_documents(track(_rows(plan), "reading corpus"), plan, where), Form.of(plan), hands)
    filters = company_filters(plan, against)
    return build_corpus(documents, filters, max_documents=plan.max_documents, where=where, kept_in=kept_in)


def well_formed(
    candidates: Iterable[TextDocument | Dropped], form: Form, hands: Executor | None = None
) -> Iterator[TextDocument | Dropped]:
    """Candidates in their order, with what is not of the form dropped. At most as many are read ahead as were read before."""
    hands, left, n_read = hands or InProcess(), iter(candidates), 0
    while block := list(itertools.islice(left, min(max(n_read, CHUNK), MOST_AHEAD))):
        n_read += len(block)
        texts = [one.text for one in block if isinstance(one, TextDocument)]
        chunks = [texts[at : at + CHUNK] for at in range(0, len(texts), CHUNK)]
        drops = itertools.chain.from_iterable(hands.map(Work(judge_form, form, "the filters of a corpus"), chunks))
        for one in block:
            drop = next(drops) if isinstance(one, TextDocument) else None
            yield one if drop is None else Dropped(one.id, drop)


def build_corpus(
    candidates: Iterable[TextDocument | Dropped],
    filters: Sequence[Filter],
    *,
    max_documents: int | None = None,
    where: str = "the corpus",
    kept_in: Path | None = None,
) -> Corpus:
    """Keep what every filter keeps, in memory or in the file ``kept_in``, and count the rest by reason. Raises ``DataError``
    listing the counts where nothing is left."""
    tally = _Tally()
    passed = itertools.islice(_passed(candidates, filters, tally), max_documents)
    kept = tuple(passed) if kept_in is None else write_documents(kept_in, passed)
    rejects = tally.rejects()
    if not kept:
        n_read = sum(reject.n for reject in rejects)
        if not n_read:
            raise DataError(f"{where} holds no documents.")
        counts = "; ".join(f"{reject.n} {reject.reason} (such as {reject.examples[0]})" for reject in rejects)
        raise DataError(
            f"{where}: none of {n_read} documents is left: {counts}. Loosen these filters or change the source."
        )
    return Corpus(kept, rejects, corpus_fingerprint(kept))


def _passed(
    candidates: Iterable[TextDocument | Dropped], filters: Sequence[Filter], tally: _Tally
) -> Iterator[TextDocument]:
    for candidate in candidates:
        if isinstance(candidate, Dropped):
            tally.add(candidate.id, candidate.drop)
        elif drop := next((found for judge in filters if (found := judge(candidate))), None):
            tally.add(candidate.id, drop)
        else:
            yield candidate


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


def _documents(rows: Iterable[Row], plan: CorpusPlan, where: str) -> Iterator[TextDocument | Dropped]:
    """Rows as documents. Raises ``DataError`` where a field that the plan names is in no row: a slip of the plan, not
    of the rows."""
    fields: dict[str, None] = {}
    n_readable = 0
    for row in rows:
        if row.fault:
            yield Dropped(row.id, Drop("malformed", row.fault))
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


def _document(row: Row, plan: CorpusPlan) -> TextDocument | Dropped:
    document_id = row.id
    try:
        if plan.id_field is not None:
            document_id = _label(row.values, plan.id_field) or row.id
        text = row.values.get(plan.text_field)
        if text is None:
            text = ""  # columns have nulls where lines leave a field out; both become a document without words
        if not isinstance(text, str):
            raise ValueError(f"{plan.text_field} is no text: {text!r:.40}")
        if not is_text(text):
            raise ValueError(f"{plan.text_field} holds half a surrogate pair")
        domain = _label(row.values, plan.domain_field) if plan.domain_field is not None else ""
        borders = _borders(row.values.get(plan.borders_field), len(text)) if plan.borders_field is not None else ()
    except ValueError as cause:
        return Dropped(row.id, Drop("malformed", str(cause)))
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
