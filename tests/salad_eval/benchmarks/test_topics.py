"""Nearest topics: a rule that anybody can check by hand, equal to scikit-learn's TF-IDF on the same terms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval import resources
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.benchmarks.topics import load_topics, terms, topics_of
from salad_eval.errors import TaskError
from tests.conftest import write_rows

SMALL = {"cooking": "boil pan oven salt", "garden": "plant soil water seed", "cars": "engine wheel oil water"}


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("How do you boil an egg?", "cooking"),
        ("Boiling salted eggs in a PAN", "cooking"),  # inflections and case
        ("Put the seeds into the soil.", "garden"),
        ("The wheels of the car", "cars"),  # the topic's own name counts
        ("water", "garden"),  # both have it, once, in equally long descriptions: the first in the file
        ("water the engine", "cars"),
        ("oven oven oven soil plant seed", "garden"),  # three words outweigh one said three times
        ("quantum chromodynamics", None),
        ("", None),
        ("?! 42 %", None),
    ],
)
def test_the_nearest_topic_of_small_descriptions(text: str, topic: str | None) -> None:
    assert topics_of(SMALL).nearest(text) == topic


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("plant", "plants"), ("plant", "planted"), ("plant", "planting"), ("battery", "batteries"), ("bake", "baking"),
        ("plan", "planning"), ("roll", "rolling"), ("gas", "gases"), ("wash", "washes"), ("dog", "dog's"), ("Sun", "sun"),
    ],
)  # fmt: skip
def test_inflections_are_one_term(one: str, other: str) -> None:
    assert list(terms(one)) == list(terms(other))


@pytest.mark.parametrize(("one", "other"), [("glass", "gas"), ("sing", "ring"), ("moon", "mood"), ("virus", "viral")])
def test_words_that_only_look_alike_stay_apart(one: str, other: str) -> None:
    (first,), (second,) = terms(one), terms(other)
    assert first != second


VOCABULARY = (
    "boil",
    "pan",
    "oven",
    "salt",
    "plant",
    "soil",
    "water",
    "seed",
    "engine",
    "wheel",
    "oil",
    "nothing",
    "else",
)
words = st.lists(st.sampled_from(VOCABULARY), max_size=12)


@settings(deadline=None)  # the first example waits for scikit-learn to load
@given(words)
def test_cosines_equal_scikit_learns(text: list[str]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=lambda document: list(terms(document)), sublinear_tf=True)
    known = vectorizer.fit_transform([f"{name} {description}" for name, description in SMALL.items()])
    theirs = (vectorizer.transform([" ".join(text)]) @ known.T).toarray()[0]
    ours = topics_of(SMALL).similarities(" ".join(text))
    assert [ours.get(name, 0.0) for name in SMALL] == pytest.approx(list(theirs), abs=1e-12)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_of_a_known_topic_or_none_whatever_the_order_of_its_words(one: str, other: str) -> None:
    topics = topics_of(SMALL)
    found = topics.nearest(f"{one} {other}")
    assert found in (*SMALL, None)
    assert found == topics.nearest(f"{other} {one}")
    assert all(0 <= cosine <= 1 + 1e-12 for cosine in topics.similarities(one).values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a mapping of topic names to descriptions"),
        ('{"a": ["list"]}', "expected a mapping of topic names to descriptions"),
        ('{"cooking": "pan"}', "two descriptions or more"),
        ('{"1": "2", "cooking": "pan"}', "two descriptions or more"),
    ],
)
def test_a_topic_file_that_cannot_be_used_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "topics.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=message) as raised:
        load_topics(path)
    assert str(path) in str(raised.value)


def test_a_topic_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nowhere\.json"):
        load_topics(tmp_path / "nowhere.json")


@pytest.mark.parametrize("file", sorted(resources.tasks_dir().glob("*/topics.json")), ids=lambda path: path.parent.name)
def test_every_packaged_topic_is_nearest_to_its_own_description(file: Path) -> None:
    descriptions = json.loads(file.read_text(encoding="utf-8"))
    topics = load_topics(file)
    assert topics.names == tuple(descriptions)
    assert {name: topics.nearest(text) for name, text in descriptions.items()} == {name: name for name in descriptions}


# --- as a task's domain ----------------------------------------------------------------------------------------------


def small_task(folder: Path, domain: object) -> TaskSpec:
    write_rows(
        folder / "test.jsonl",
        [
            {"question": "Boil it in a pan?", "choices": ["a", "b"], "answer": 0},
            {"question": "Why?", "choices": ["a", "b"], "answer": 1},
        ],
    )
    task = {
        "task": "made",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metadata": {"salad": {"speak": "context", "spoken_text": "{{question}}", "domain": domain}},
    }
    (folder / "made.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return load_task(str(folder / "made.yaml"))


@pytest.mark.parametrize("where", ["inline", "file"])
def test_items_belong_to_their_nearest_topic_and_others_to_the_default(tmp_path: Path, where: str) -> None:
    (tmp_path / "topics.json").write_text(json.dumps(SMALL), encoding="utf-8")
    topics = SMALL if where == "inline" else "topics.json"
    task = small_task(tmp_path, {"text": "question", "topics": topics, "default": "other"})
    items, rejects, _ = load_items(task, "test")
    assert [item.domain for item in items] == ["cooking", "other"]
    assert rejects == []
    assert task.domain.declared == ("cars", "cooking", "garden", "other")


def test_without_a_default_an_item_of_no_topic_is_a_reject(tmp_path: Path) -> None:
    items, rejects, _ = load_items(small_task(tmp_path, {"text": "question", "topics": SMALL}), "test")
    assert [item.domain for item in items] == ["cooking"]
    assert [(reject.reason, reject.detail) for reject in rejects] == [("no topic shares a word with it", "'Why?'")]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({"text": "question", "topics": "nowhere.json"}, "nowhere.json"),
        ({"text": "question", "topics": {"cooking": "pan"}}, "two descriptions or more"),
        ({"text": "{{question", "topics": SMALL}, "not a Jinja template"),
        ({"topics": SMALL}, "domain"),
        ({"text": "question", "topics": SMALL, "fallback": "other"}, "fallback"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named(tmp_path: Path, domain: object, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        small_task(tmp_path, domain)


def test_a_text_that_is_no_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="neither a column of the data"):
        load_items(small_task(tmp_path, {"text": "qestion", "topics": SMALL}), "test")
