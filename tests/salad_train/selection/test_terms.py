"""The words that say what clusters and domains are about."""

from __future__ import annotations

import json

import numpy as np
import pytest

from salad_train.selection.terms import Unknown, cluster_terms, telling_words, unknown_words
from tests.helpers.places import SHARED_DATA

WORDS = (
    ("The whale isn't in the sea; it's the whale's sea.", ["whale", "sea", "whale", "sea"]),
    ("Don’t say they've seen 1984, or 2 of O'Brien’s dogs.", ["seen", "o'brien", "dogs"]),
    ("What is the capital of Côte d'Ivoire?", ["capital", "côte", "d'ivoire"]),
    ("A bill in the computer system of the fire mill", ["bill", "computer", "system", "fire", "mill"]),
    ("Was ist die Hauptstadt?", ["ist", "die", "hauptstadt"]),
    ("... 5 + 5 = 10 a b c", []),
)


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words_that_tell(text: str, words: list[str]) -> None:
    assert [word.replace("’", "'") for word in telling_words(text)] == words


def texts(*kinds: str, n: int = 20) -> tuple[list[str], np.ndarray]:
    """``n`` documents a kind, each with a number that is no word."""
    made = [f"{kind} ({k})" for kind in kinds for k in range(n)]
    return made, np.repeat(np.arange(len(kinds)), n)


def test_a_label_has_no_function_word_and_none_that_all_documents_share() -> None:
    documents, labels = texts(
        "Question: what is the mass of a star? Answer: it is the mass of a star",
        "Question: who did write the sonata, and would you play it? Answer: he did",
        "Question: when were the treaties signed? Answer: they were signed then",
    )
    found = cluster_terms(documents, labels, 3, 6)
    assert [set(terms) for terms in found] == [{"mass", "star"}, {"write", "sonata", "play"}, {"treaties", "signed"}]


def test_twins_are_told_apart_and_their_subject_is_named() -> None:
    subject = "element with the symbol and the atomic number"
    documents, labels = texts(
        f"{subject}, a metal such as iron", f"{subject}, a gas such as neon", "the violin and the sonata of an orchestra",
        "the river and the delta of a country",
    )  # fmt: skip
    metal, gas, *_ = cluster_terms(documents, labels, 4, 6)
    assert {*metal[:2]} == {"metal", "iron"}
    assert {*gas[:2]} == {"gas", "neon"}
    assert {"element", "symbol", "atomic", "number"} & set(metal) & set(gas)


def test_after_a_word_that_twins_share_comes_one_that_parts_them() -> None:
    """Half of the documents of each are told by a word of its own: the subject's, in all of them, comes first."""
    documents, labels = texts(
        "the element iron", "the element neon", "the river flows", "the violin plays", "the dog barks"
    )
    for k in range(0, 40, 2):
        documents[k] = "the element here"
    iron, neon, *_ = cluster_terms(documents, labels, 5, 2)
    assert (iron, neon) == (("element", "iron"), ("element", "neon"))


def test_a_name_in_one_text_labels_no_cluster_however_often_it_is_said() -> None:
    documents, labels = texts("the cook needs a pan", "the coach needs a team")
    documents[3] += " Zanzibar" * 50
    cook, _ = cluster_terms(documents, labels, 2, 6)
    assert "zanzibar" not in cook


def test_clusters_without_words_have_no_label() -> None:
    assert cluster_terms(["1 + 1", "2", "the"], np.array([0, 0, 1]), 2, 3) == [(), ()]
    assert cluster_terms([], np.zeros(0, np.int64), 1, 3) == [()]


def test_labels_of_real_texts_are_words_and_differ() -> None:
    file = SHARED_DATA / "gutenberg_domains" / "gutenberg_domains.jsonl"
    if not file.is_file():
        pytest.skip("no gutenberg_domains among the shared data (SALAD_SHARED_DATA)")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    names = sorted({row["domain"] for row in rows})
    labels = np.array([names.index(row["domain"]) for row in rows])
    found = dict(zip(names, cluster_terms([row["text"] for row in rows], labels, len(names), 6), strict=True))
    assert {"candle", "combustion"} & set(found["chemistry"])
    assert {"dream", "dreams"} & set(found["psychology"])
    assert {"alice"} & set(found["children"])
    assert len({terms[:3] for terms in found.values()}) == len(names)
    assert not {"the", "and", "thou", "said", "did", "mr"} & {word for terms in found.values() for word in terms}


# --- what a corpus lacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_words", "n_unknown", "most"),
    [(0, 0, False), (1, 1, False), (4, 4, False), (5, 5, True), (20, 12, False), (20, 15, True), (100, 59, True), (100, 50, False)],
)  # fmt: skip
def test_most_words_are_unknown_only_where_it_is_no_chance(n_words: int, n_unknown: int, most: bool) -> None:
    assert Unknown(n_words, n_unknown).is_most is most


def test_words_of_a_domain_are_looked_for_in_all_documents() -> None:
    asked = {"sea": ["The whale sings.", "A grey shark swims."], "sky": ["A new comet shines.", "The star glows."]}
    corpus = ["The sharks are grey, and the whale is blue.", "A whale and a shark.", "It swims and sings to a star."]
    found = unknown_words(asked, corpus)
    assert found == {"sea": Unknown(5, 0), "sky": Unknown(5, 4)}


def test_reading_stops_where_nothing_can_be_lacking() -> None:
    read: list[str] = []

    def corpus() -> object:
        for number in range(5000):
            read.append(f"whale {number}")
            yield read[-1]

    unknown_words({"sea": ["whale"]}, corpus())  # type: ignore[arg-type]
    assert len(read) == 1
