"""Documents by name: the embedded world's as they are, the others by the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.types import Item
from salad_train.corpus.sources import documents_of
from salad_train.nano import world as nano_world
from salad_train.recipe import load_recipe


def test_the_embedded_corpus_is_taken_as_it_is() -> None:
    found = documents_of("nano/corpus")
    made = nano_world.corpus(0)
    assert [(d.id, d.domain, d.text) for d in found.documents] == [(d.id, d.domain, d.text) for d in made]
    assert found.rejects == ()
    question = next(d for d in found.documents if d.text.startswith("Question:"))
    end = question.text.index("\nAnswer:")
    assert question.borders == (len("Question:"), end)
    statements = next(d for d in found.documents if not d.text.startswith("Question:") and len(d.borders) > 2)
    assert statements.text[: statements.borders[1]].endswith(".")
    assert len(statements.text[statements.borders[0] : statements.borders[1]].split()) == 2
    limited = documents_of(load_recipe("nano", {"corpus.max_documents": 7}).corpus)
    assert limited.documents == found.documents[:7]


@pytest.mark.parametrize(("part", "whole"), [("questions", "corpus"), ("narrow_questions", "narrow_speech")])
def test_the_questions_among_the_embedded_data(part: str, whole: str) -> None:
    asked = [(d.id, d.text) for d in documents_of(f"nano/{part}").documents]
    among = [(d.id, d.text) for d in documents_of(f"nano/{whole}").documents if d.text.startswith("Question:")]
    assert asked == among
    assert asked


def test_the_embedded_corpus_can_be_decontaminated() -> None:
    first = documents_of(load_recipe("nano", {"corpus.max_documents": 1}).corpus).documents[0]
    item = Item("q1", "t", "test", "d", first.text, ("a", "b"), 0, "q1", ())
    found = documents_of("nano/corpus", against=[item])
    assert first.id not in {document.id for document in found.documents}
    assert [reject.reason for reject in found.rejects] == ["contaminated"]


def test_an_embedded_name_that_is_none_and_a_filter_it_does_not_take() -> None:
    with pytest.raises(UnknownNameError, match=r"'nano/corpora'; did you mean 'nano/corpus'\?"):
        documents_of("nano/corpora")
    with pytest.raises(UserInputError, match="only max_documents"):
        documents_of(load_recipe("nano", {"corpus.max_words": 5}).corpus)


def test_other_sources_go_to_the_corpus_reader(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "A dog barked at the old man."}\n{"text": "Ha."}\n')
    found = documents_of(str(texts))
    assert [document.text for document in found.documents] == ["A dog barked at the old man."]
    assert [reject.reason for reject in found.rejects] == ["too_short"]
