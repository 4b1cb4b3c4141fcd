"""Documents by the name of where they are: the embedded world's, or anything that the corpus reader reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.pipeline.executor import Executor
from salad_eval.types import Item
from salad_train.corpus.decontaminate import ItemNgrams
from salad_train.corpus.filters import CorpusPlan, not_in
from salad_train.corpus.read import build_corpus, read_corpus
from salad_train.nano import data as embedded
from salad_train.types import Corpus


def documents_of(
    source: CorpusPlan | str,
    *,
    against: Sequence[Item] = (),
    kept_in: Path | None = None,
    hands: Executor | None = None,
) -> Corpus:
    """The texts of a plan, or of a source by its name; ``against`` are items of a benchmark that none of them may hold.

    ``nano/corpus`` and ``nano/narrow_speech`` name the embedded world's corpus and what its Stage I hears of it;
    ``nano/questions`` and ``nano/narrow_questions`` the questions with answers among them. They are taken as they are: a plan
    may limit how many documents, and decides what counts as holding an item; other filters are refused.
    Everything else is ``read_corpus``'s, and so are ``kept_in`` and ``hands``.
    """
    plan = CorpusPlan(source=source) if isinstance(source, str) else source
    name = plan.source
    if not isinstance(name, str) or not name.startswith("nano/") or Path(name).exists():
        return read_corpus(plan, against=against, kept_in=kept_in, hands=hands)
    if name not in embedded.NAMES:
        raise UnknownNameError("embedded data", name, embedded.NAMES)
    counts = {key: getattr(plan, key) for key in ("max_documents", "ngram_words", "ngram_threshold")}
    if plan != CorpusPlan(source=name, **counts):
        raise UserInputError(
            f"{name} is taken as it is: of its plan only max_documents, ngram_words and ngram_threshold can be set."
        )
    filters = [not_in(ItemNgrams(against, n=plan.ngram_words, threshold=plan.ngram_threshold))] if against else []
    documents = embedded.embedded_documents(name)
    return build_corpus(documents, filters, max_documents=plan.max_documents, where=name, kept_in=kept_in)
