"""How far nearest topics can be trusted: ``python -m tests.speed.bench_topics`` (needs the development rows).

No benchmark that needs topics has labels for them, so three things near to that are measured. MMLU's science questions have
a subject, and so a field (life, physics, chemistry or space), which most topics have, too. A question of OpenBookQA and the fact
it was made from are two texts about one thing, and so are a goal of PIQA and the way that reaches it: how often they have one
topic, against how often they would by chance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from salad_eval import resources
from salad_eval.benchmarks.topics import Topics, load_topics
from tests.helpers.benchmark_rows import Row, shared_data

LIFE, PHYSICS, CHEMISTRY, SPACE = "life", "physics", "chemistry", "space"
FIELD = {  # of a subject of MMLU
    "astronomy": SPACE,
    "high_school_biology": LIFE,
    "college_biology": LIFE,
    "anatomy": LIFE,
    "nutrition": LIFE,
    "clinical_knowledge": LIFE,
    "virology": LIFE,
    "medical_genetics": LIFE,
    "high_school_chemistry": CHEMISTRY,
    "college_chemistry": CHEMISTRY,
    "conceptual_physics": PHYSICS,
    "high_school_physics": PHYSICS,
    "electrical_engineering": PHYSICS,
}
FIELD_OF_TOPIC = {  # the others are of none
    "animals": LIFE,
    "plants": LIFE,
    "ecology and environment": LIFE,
    "human body and health": LIFE,
    "cells and heredity": LIFE,
    "matter and chemistry": CHEMISTRY,
    "forces and motion": PHYSICS,
    "energy, heat and electricity": PHYSICS,
    "light and sound": PHYSICS,
    "space": SPACE,
}


def rows(folder: str, file: str) -> list[Row]:
    text = (shared_data(folder) / file).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def agreement(one: Sequence[str | None], other: Sequence[str | None]) -> tuple[float, float, float]:
    """Share of pairs that agree, the share expected by chance, and Cohen's kappa."""
    n = len(one)
    agree = sum(a == b for a, b in zip(one, other, strict=True)) / n
    counts = Counter(one), Counter(other)
    chance = sum(counts[0][topic] * counts[1][topic] for topic in counts[0]) / n**2
    return agree, chance, (agree - chance) / (1 - chance)


def report(what: str, topics: Topics, one: Sequence[str], other: Sequence[str]) -> None:
    agree, chance, kappa = agreement([topics.nearest(text) for text in one], [topics.nearest(text) for text in other])
    print(f"{what}: one topic in {agree:.0%} of {len(one)}, by chance {chance:.0%}, kappa {kappa:.2f}")


def main() -> None:
    science = load_topics(resources.tasks_dir() / "arc" / "topics.json")
    household = load_topics(resources.tasks_dir() / "piqa" / "topics.json")

    labelled = [row for row in rows("mmlu", "mmlu_test_stride2.jsonl") if row["subject"] in FIELD]
    found = [
        FIELD_OF_TOPIC.get(science.nearest(f"{row['question']} {' '.join(row['choices'])}") or "") for row in labelled
    ]
    agree, chance, kappa = agreement(found, [FIELD[row["subject"]] for row in labelled])
    print(
        f"MMLU, field of a science question: right for {agree:.0%} of {len(found)}, by chance {chance:.0%}, kappa {kappa:.2f}"
    )

    facts = rows("openbookqa", "test_complete.jsonl")
    report(
        "OpenBookQA, stem and its fact",
        science,
        [row["question"]["stem"] for row in facts],
        [row["fact1"] for row in facts],
    )
    ways = rows("piqa", "piqa_valid.jsonl")
    report(
        "PIQA, goal and the right way",
        household,
        [row["goal"] for row in ways],
        [row[("sol1", "sol2")[row["label"]]] for row in ways],
    )

    for name, topics, asked in (
        (
            "OpenBookQA",
            science,
            [f"{row['question']['stem']} {' '.join(c['text'] for c in row['question']['choices'])}" for row in facts],
        ),
        (
            "ARC-Challenge",
            science,
            [
                f"{row['query'].removeprefix('Question: ')} {' '.join(row['choices'])}"
                for row in rows("arc", "arc_challenge.jsonl")
            ],
        ),
        ("PIQA", household, [f"{row['goal']} {row['sol1']} {row['sol2']}" for row in ways]),
    ):
        none = sum(topics.nearest(text) is None for text in asked)
        print(f"{name}: {none} of {len(asked)} items share no word with any topic")


if __name__ == "__main__":
    main()
