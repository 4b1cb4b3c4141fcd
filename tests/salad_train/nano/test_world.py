"""The embedded world: what the issue promises of it, checked on the tables themselves."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict

import pytest

from salad_eval import resources
from salad_train.nano import world

SPLITS = ("validation", "test")


@pytest.fixture(scope="module")
def documents() -> list[world.Document]:
    return world.corpus(0)


def test_it_has_at_least_twelve_domains_and_1200_facts() -> None:
    assert len(world.domains()) >= 12
    assert len(world.facts()) >= 1200
    assert len({fact.id for fact in world.facts()}) == len(world.facts())


def test_heard_domains_are_at_most_five_of_all() -> None:
    assert set(world.HEARD_DOMAINS) < set(world.domains())
    assert len(world.HEARD_DOMAINS) <= 5


@pytest.mark.parametrize("relation", world.relations(), ids=lambda r: f"{r.domain}.{r.name}")
def test_every_relation_keeps_the_rules(relation: world.Relation) -> None:
    assert len(relation.statements) + len(relation.questions) >= 6
    for template in relation.statements:
        assert template.count("{s}") == 1, template
        assert template.count("{o}") == 1, template
    asked = [*relation.questions, *relation.held_out["validation"], *relation.held_out["test"]]
    for template in asked:
        assert template.count("{s}") == 1, template
        assert "{o}" not in template
        assert template[-1] in "?.", template
    assert len(set(asked)) == len(asked), "a phrasing stands twice"
    for subject, obj in relation.facts:
        assert (subject + obj).isascii()
        assert obj not in relation.also_true.get(subject, ())
    subjects = [subject for subject, _ in relation.facts]
    assert len(set(subjects)) == len(subjects)


def test_names_take_part_in_several_relations() -> None:
    seen: dict[str, set[str]] = {}
    for fact in world.facts():
        for name in (fact.subject, fact.object):
            seen.setdefault(name, set()).add(f"{fact.domain}.{fact.relation}")
    shared = sum(len(seen[fact.subject] | seen[fact.object]) >= 2 for fact in world.facts())
    assert shared / len(world.facts()) > 0.75


def test_the_corpus_tells_every_fact_in_every_phrasing(documents: list[world.Document]) -> None:
    text = "\n".join(document.text for document in documents)
    for relation in world.relations()[::5]:
        for sentence in (*world.statements_of(relation), *world.questions_of(relation)):
            assert sentence in text


def test_the_heard_domains_are_most_of_the_corpus_and_rich_in_words(documents: list[world.Document]) -> None:
    heard = world.narrow_speech(documents)
    assert {document.domain for document in heard} == set(world.HEARD_DOMAINS)
    words = Counter(word for d in heard for word in re.findall(r"[a-z']+", d.text.lower()))
    assert sum(len(d.text) for d in heard) > 0.5 * sum(len(d.text) for d in documents)
    assert len(words) > 2000


def test_the_world_is_a_function_of_its_seed(documents: list[world.Document]) -> None:
    assert world.corpus(0) == documents
    assert world.corpus(1) != documents
    assert world.benchmark("test", 0) == world.benchmark("test", 0)
    assert world.benchmark("test", 0) != world.benchmark("test", 1)


@pytest.mark.parametrize("split", SPLITS)
def test_the_benchmark_is_right(split: world.Split) -> None:
    rows = world.benchmark(split, 0)
    assert Counter(row.domain for row in rows) == dict.fromkeys(world.domains(), world.ITEMS_PER_DOMAIN)
    assert len({row.id for row in rows}) == len(rows)
    facts = {fact.id: fact for fact in world.facts()}
    also = {(r.domain, r.name, s): set(o) for r in world.relations() for s, o in r.also_true.items()}
    for row in rows:
        fact = facts[row.fact]
        assert len(set(row.choices)) == world.N_OPTIONS
        assert row.choices[row.answer] == fact.object
        true_too = also.get((fact.domain, fact.relation, fact.subject), set())
        assert not true_too & set(row.choices)
        assert fact.subject.lower() in row.question.lower()
    places = Counter(row.answer for row in rows)
    assert min(places.values()) > len(rows) / world.N_OPTIONS * 0.8, "the right option has no favourite place"


def test_splits_and_corpus_share_no_phrasing_and_no_draw(documents: list[world.Document]) -> None:
    validation, test = (world.benchmark(split, 0) for split in SPLITS)
    text = "\n".join(document.text for document in documents)
    # not only the phrasings that were drawn: any phrasing of any fact of either split
    asked = {
        split: {world.say(t, s) for r in world.relations() for s, _ in r.facts for t in r.held_out[split]}
        for split in SPLITS
    }
    told = {world.say(t, s) for r in world.relations() for s, _ in r.facts for t in r.questions}
    assert not asked["validation"] & asked["test"]
    assert not (asked["validation"] | asked["test"]) & told
    assert not [row.question for row in (*validation, *test) if row.question in text]
    draws = {row.fact: set(row.choices) - {row.choices[row.answer]} for row in validation}
    for row in test:
        wrong = set(row.choices) - {row.choices[row.answer]}
        assert not wrong & draws.get(row.fact, set())


@pytest.mark.parametrize("split", SPLITS)
def test_the_rows_that_ship_are_the_rows_the_code_makes(split: world.Split) -> None:
    path = resources.tasks_dir() / "nano" / f"{split}.jsonl"
    assert path.read_text(encoding="utf-8") == world.to_jsonl(world.benchmark(split, 0))


def test_everyday_sentences_are_distinct_and_complete() -> None:
    sentences = world.everyday_sentences(2000, seed=3)
    assert len(set(sentences)) == len(sentences) == 2000
    assert not [s for s in sentences if "{" in s or not s[0].isupper() or s[-1] not in ".!?"]


def test_records_are_plain() -> None:
    row = world.benchmark("test", 0, per_domain=1)[0]
    assert set(asdict(row)) == {"id", "domain", "relation", "fact", "question", "choices", "answer"}
