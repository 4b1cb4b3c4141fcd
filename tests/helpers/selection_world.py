"""Clusters, probes, reports and corpora with planted answers, for the tests of the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from salad_eval.types import Estimate, GapReport, GapRow
from salad_train.types import Cluster, ClusterProbe, Corpus, TextDocument
from tests.helpers.gap_world import ITEMS, SCORES
from tests.helpers.gap_world import report as built_report


def cluster(id_: int, n_characters: int = 1000, **changes: Any) -> Cluster:
    fields = {"n_documents": 10, "terms": (f"term{id_}",), "domains": {}}
    return Cluster(id=id_, n_characters=n_characters, **{**fields, **changes})


def clusters(*n_characters: int) -> tuple[Cluster, ...]:
    return tuple(cluster(place, n) for place, n in enumerate(n_characters))


def probe(id_: int, **changes: Any) -> ClusterProbe:
    """A probe on which nothing stands out: hearing costs 0.3 nats beside the base LLM's own 1 nat."""
    fields: dict[str, Any] = {
        "n_documents": 8,
        "n_failed": 0,
        "n_positions": 400,
        "forgetting": 0.05,
        "misalignment": 0.28,
        "distillation": 0.3,
        "after_speech": 0.5,
        "inside_text": 0.29,
        "teacher_entropy": 1.0,
        "cer": 0.05,
        "seconds": 30.0,
        "n_characters": 1000,
    }
    fields |= changes
    in_nats = ("forgetting", "misalignment", "distillation", "after_speech", "inside_text", "teacher_entropy")
    return ClusterProbe(cluster=id_, **{k: nats(v) if k in in_nats else v for k, v in fields.items()})


def nats(value: float | None) -> Estimate | None:
    """A measure without an interval."""
    return None if value is None else Estimate(value, None, None, 8)


def gap_report(gaps: Mapping[str, float], *, shrunk: bool = True, split: str = "validation") -> GapReport:
    """A report whose domains have these gaps and nothing else of interest."""
    template = built_report(ITEMS, SCORES, split=split)
    return GapReport(
        **{
            **{name: getattr(template, name) for name in GapReport.__slots__},
            "domains": tuple(_row(template.overall, name, gap, shrunk) for name, gap in gaps.items()),
        }
    )


def _row(template: GapRow, name: str, gap: float, shrunk: bool) -> GapRow:
    fields = {field: getattr(template, field) for field in GapRow.__slots__}
    estimate = Estimate(gap, gap - 0.05, gap + 0.05, 60)
    return GapRow(**{**fields, "name": name, "gap": estimate, "shrunk_gap": gap if shrunk else None})


def corpus(sizes: Sequence[int], lengths: Sequence[int], fingerprint: str = "toy") -> tuple[Corpus, np.ndarray]:
    """``sizes[c]`` documents of ``lengths[c]`` characters in cluster ``c``, one after another, with their labels."""
    documents, labels = [], []
    for place, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        for number in range(size):
            documents.append(TextDocument(f"c{place}-{number}", "x" * length, f"domain{place}"))
            labels.append(place)
    return Corpus(tuple(documents), (), fingerprint), np.array(labels)
