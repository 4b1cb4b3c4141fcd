"""The `nano` world: a closed set of true facts, the corpus that tells them, the benchmark that asks for them.

Everything is generated from the tables in ``facts/`` and ``everyday.yaml`` by pure functions of a seed. Domain labels in the corpus are
for analysis only: no training step reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from salad_eval.errors import DataError

# The five domains Stage I may hear: everyday talk and narrative, as in read and conversational speech.
HEARD_DOMAINS = ("animals", "food", "home", "stories", "words")
# espeak-ng speakers. Training and evaluation share none; the second pair of numbers varies rate (words a minute) and pitch.
TRAINING_VOICES = (
    "en-us+m1", "en-us+m2,rate=160", "en-us+m3,rate=190", "en-us+m4,pitch=60", "en-us+m6", "en-us+m8,rate=185",
    "en-us+f1", "en-us+f2,rate=165", "en-us+f4,rate=185", "en-us+f5,pitch=45",
)  # fmt: skip
EVALUATION_VOICES = ("en-us+f3", "en-us+m7")
N_OPTIONS = 4
ITEMS_PER_DOMAIN = 60
NARRATIVE_DOMAIN = "stories"  # the everyday sentences belong to the narrative domain

Split = Literal["validation", "test"]
Kind = Literal["statements", "question", "narrative"]
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of a domain with its phrasings; ``{s}`` is the subject, ``{o}`` the object."""

    domain: str
    name: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    held_out: Mapping[Split, tuple[str, ...]]
    facts: tuple[tuple[str, str], ...]
    also_true: Mapping[str, tuple[str, ...]]

    @property
    def objects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(obj for _, obj in self.facts))


@dataclass(frozen=True, slots=True)
class Fact:
    domain: str
    relation: str
    subject: str
    object: str

    @property
    def id(self) -> str:
        return f"{self.domain}.{self.relation}.{_slug(self.subject)}"


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the corpus. ``domain`` is a label for analysis, not an input to training.

    ``kind`` is how it came about: statements of facts, a question and its answer, or everyday narrative.
    """

    id: str
    domain: str
    text: str
    kind: Kind = "statements"


@dataclass(frozen=True, slots=True)
class Question:
    """A row of the benchmark, as it stands in the task's JSONL."""

    id: str
    domain: str
    relation: str
    fact: str
    question: str
    choices: tuple[str, ...]
    answer: int


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def say(template: str, subject: str, obj: str = "") -> str:
    """Fill a phrasing and begin it with a capital letter."""
    text = template.replace("{s}", subject).replace("{o}", obj)
    return text[:1].upper() + text[1:]


@cache
def relations() -> tuple[Relation, ...]:
    """Every relation of the world, by domain name and then in the order of its file."""
    found = []
    for path in sorted((_HERE / "facts").glob("*.yaml")):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        for row in table["relations"]:
            also = {s: tuple(o) for s, o in (row.get("also_true") or {}).items()}
            relation = Relation(
                domain=table["domain"],
                name=row["name"],
                statements=tuple(row["statements"]),
                questions=tuple(row["questions"]),
                held_out={"validation": tuple(row["validation"]), "test": tuple(row["test"])},
                facts=tuple(row["facts"].items()),
                also_true=also,
            )
            if not all(isinstance(text, str) for fact in relation.facts for text in fact):
                raise DataError(f"{path}: relation {relation.name!r} has a fact that is not text; quote it.")
            found.append(relation)
    return tuple(found)


def domains() -> tuple[str, ...]:
    return tuple(dict.fromkeys(relation.domain for relation in relations()))


def unheard_domains() -> tuple[str, ...]:
    """Those that Stage I may not hear."""
    return tuple(name for name in domains() if name not in HEARD_DOMAINS)


def facts() -> tuple[Fact, ...]:
    return tuple(Fact(r.domain, r.name, s, o) for r in relations() for s, o in r.facts)


# --- corpus ----------------------------------------------------------------------------------------------------------


def statements_of(relation: Relation) -> list[str]:
    """Every corpus statement of a relation's facts."""
    return [say(template, s, o) for s, o in relation.facts for template in relation.statements]


def questions_of(relation: Relation) -> list[str]:
    """Every corpus question of a relation's facts, with its answer, in the form the benchmark's prompt has."""
    return [f"Question: {say(t, s)}\nAnswer: {o}" for s, o in relation.facts for t in relation.questions]


def everyday_sentences(n: int, seed: int) -> list[str]:
    """``n`` distinct everyday sentences from the grammar in ``everyday.yaml``."""
    grammar = yaml.safe_load((_HERE / "everyday.yaml").read_text(encoding="utf-8"))
    slots: dict[str, list[str]] = grammar["slots"]
    templates: list[str] = grammar["sentences"]
    rng = np.random.default_rng([seed, 11])
    seen: dict[str, None] = dict.fromkeys(t for t in templates if "{" not in t)
    for _ in range(50 * n):
        if len(seen) >= n:
            break
        template = templates[rng.integers(len(templates))]
        seen.setdefault(_fill(template, slots, rng))
    return list(seen)[:n]


def _fill(template: str, slots: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    used: dict[str, str] = {}

    def draw(match: re.Match[str]) -> str:
        placeholder = match.group(1)
        if placeholder not in used:
            free = [word for word in slots[placeholder.split(".")[0]] if word not in used.values()]
            used[placeholder] = free[rng.integers(len(free))]
        return used[placeholder]

    text = re.sub(r"\{([\w.]+)\}", draw, template)
    return text[:1].upper() + text[1:]


def corpus(seed: int, n_everyday: int = 9000) -> list[Document]:
    """The "web" of this world, shuffled: prose of one to three statements, question-answer pairs, and everyday narrative.

    Every fact stands in it once in each of its corpus phrasings; none of the benchmark's phrasings do.
    """
    rng = np.random.default_rng([seed, 7])
    texts: list[tuple[str, str, Kind]] = []
    for domain in domains():
        mine = [relation for relation in relations() if relation.domain == domain]
        prose = [text for relation in mine for text in statements_of(relation)]
        texts += [(domain, " ".join(group), "statements") for group in _chunks(prose, rng, 1, 3)]
        texts += [(domain, text, "question") for relation in mine for text in questions_of(relation)]
    everyday = everyday_sentences(n_everyday, seed)
    texts += [(NARRATIVE_DOMAIN, " ".join(group), "narrative") for group in _chunks(everyday, rng, 2, 4)]
    order = rng.permutation(len(texts))
    return [Document(f"doc-{k:05d}", *texts[i]) for k, i in enumerate(order)]


def _chunks(sentences: Sequence[str], rng: np.random.Generator, low: int, high: int) -> Iterable[list[str]]:
    shuffled = [sentences[i] for i in rng.permutation(len(sentences))]
    start = 0
    while start < len(shuffled):
        size = int(rng.integers(low, high + 1))
        yield shuffled[start : start + size]
        start += size


def narrow_speech(documents: Sequence[Document]) -> list[Document]:
    """What plays the part of natural speech here: the documents of the heard domains. (It is synthesised too.)"""
    return [document for document in documents if document.domain in HEARD_DOMAINS]


# --- benchmark -------------------------------------------------------------------------------------------------------


def benchmark(split: Split, seed: int, per_domain: int = ITEMS_PER_DOMAIN) -> list[Question]:
    """Multiple-choice questions, ``per_domain`` a domain.

    Each split has phrasings of its own. The wrong options of a fact are drawn from two disjoint halves of its relation's objects, one a
    split. Facts of the two splits are disjoint as far as a domain has enough of them.
    """
    rows: list[Question] = []
    for index, domain in enumerate(domains()):
        rng = np.random.default_rng([seed, 23, index])
        pool = [
            (relation, subject, obj, wrong)
            for relation in relations()
            if relation.domain == domain
            for subject, obj in relation.facts
            if len(wrong := _wrong_options(relation, subject, obj)) >= 2 * (N_OPTIONS - 1)
        ]
        if len(pool) < per_domain:
            raise DataError(f"domain {domain!r} has {len(pool)} facts fit for a question; {per_domain} are asked for.")
        order = rng.permutation(len(pool))  # the same for both splits, as the shuffles of the wrong options are
        shuffled = {int(k): [pool[k][3][i] for i in rng.permutation(len(pool[k][3]))] for k in order}
        rng = np.random.default_rng([seed, 29, index, split == "test"])
        for k in order[:per_domain] if split == "validation" else order[-per_domain:]:
            relation, subject, obj, _ = pool[k]
            half = len(shuffled[int(k)]) // 2
            mine = shuffled[int(k)][:half] if split == "validation" else shuffled[int(k)][half:]
            wrong = [mine[i] for i in rng.permutation(len(mine))[: N_OPTIONS - 1]]
            place = int(rng.integers(N_OPTIONS))
            templates = relation.held_out[split]
            fact = Fact(domain, relation.name, subject, obj)
            rows.append(
                Question(
                    id=f"{split}.{fact.id}",
                    domain=domain,
                    relation=relation.name,
                    fact=fact.id,
                    question=say(templates[rng.integers(len(templates))], subject),
                    choices=(*wrong[:place], obj, *wrong[place:]),
                    answer=place,
                )
            )
    return rows


def to_jsonl(rows: Sequence[Question] | Sequence[Document]) -> str:
    """Rows as they stand in a data file, one JSON object a line."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def _wrong_options(relation: Relation, subject: str, obj: str) -> list[str]:
    right = {obj, *relation.also_true.get(subject, ())}
    return [other for other in relation.objects if other not in right]
