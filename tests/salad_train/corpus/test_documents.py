"""Documents on disk are those that were written, and take no memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError
from salad_train.corpus.documents import Texts, write_documents
from salad_train.corpus.filters import Form
from salad_train.corpus.read import build_corpus, well_formed
from salad_train.types import TextDocument

DOCUMENTS = st.builds(
    TextDocument,
    id=st.text(max_size=5),
    text=st.text(max_size=40),
    domain=st.text(max_size=3),
    borders=st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
)


WORDS = Form(min_words=0, max_words=None, language=None, min_speakable=0.0)


def numbered(n: int, length: int = 0) -> Iterator[TextDocument]:
    return (TextDocument(str(k), f"Sentence {k}. " + "x" * length, "d" * (k % 2), (k,)) for k in range(n))


@settings(max_examples=50, deadline=None)
@given(documents=st.lists(DOCUMENTS, max_size=5))
def test_what_was_written_is_read(documents: list[TextDocument], tmp_path_factory: pytest.TempPathFactory) -> None:
    found = write_documents(tmp_path_factory.mktemp("documents") / "c.arrow", documents)
    assert list(found) == documents
    assert [found[k] for k in range(len(found))] == documents
    assert list(Texts(found)) == [document.text for document in documents]


def test_documents_are_asked_for_in_any_order_and_outlive_their_file(tmp_path: Path) -> None:
    documents = list(numbered(2_500))
    found = write_documents(tmp_path / "a" / "c.arrow", documents)
    (tmp_path / "a" / "c.arrow").unlink()
    assert len(found) == 2_500
    assert found[np.int64(2_499)] == documents[-1] == found[-1]
    assert found[998:1_003] == tuple(documents[998:1_003])
    assert Texts(found)[998:1_003] == [document.text for document in documents[998:1_003]]
    for beyond in (2_500, -2_501):
        with pytest.raises(IndexError):
            found[beyond]


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    documents = (TextDocument(str(k), f"a {1 // (1500 - k)}") for k in range(2_000))
    with pytest.raises(ZeroDivisionError):
        build_corpus(documents, [], kept_in=tmp_path / "c.arrow")
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    candidates = [*numbered(1_200), TextDocument("none", "…"), *numbered(3)]
    here = build_corpus(well_formed(candidates, WORDS), [], max_documents=1_202)
    there = build_corpus(well_formed(candidates, WORDS), [], max_documents=1_202, kept_in=tmp_path / "c.arrow")
    assert tuple(there.documents) == here.documents
    assert (there.rejects, there.fingerprint) == (here.rejects, here.fingerprint)
    with pytest.raises(DataError, match="none of 1 documents is left"):
        build_corpus(well_formed([TextDocument("none", "…")], WORDS), [], kept_in=tmp_path / "d.arrow")


def test_ten_times_the_documents_take_no_more_memory(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        tracemalloc.start()
        arrow = pa.total_allocated_bytes()
        found = build_corpus(numbered(n, 1_000), [], kept_in=tmp_path / f"{n}.arrow")
        assert sum(len(text) > 1_000 for text in Texts(found.documents)) == n
        held = pa.total_allocated_bytes() - arrow
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest + held

    peak(100)
    assert peak(20_000) < 1.15 * peak(2_000)
