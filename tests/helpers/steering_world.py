"""Gap reports and selections with stated gaps and weights, for the tests of what they steer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from salad_eval.types import Estimate, GapReport
from salad_train.types import Cluster, ClusterWeight, SelectedDocument, Selection, TextDocument
from tests.helpers import gap_world


def report_of(gaps: Mapping[str, float], split: str = "validation") -> GapReport:
    """A report with one row a domain, whose shrunken gap is as stated."""
    made = gap_world.report(gap_world.ITEMS, gap_world.SCORES, split=split, n_resamples=100)
    row = made.domains[0]
    rows = [
        dataclasses.replace(row, name=name, gap=Estimate(gap, None, None, row.n_items), shrunk_gap=gap)
        for name, gap in gaps.items()
    ]
    overall = dataclasses.replace(
        made.overall, gap=Estimate(sum(gaps.values()) / max(len(gaps), 1), None, None, made.overall.n_items)
    )
    return dataclasses.replace(made, overall=overall, domains=tuple(rows))


def selection_of(clusters: Mapping[int, tuple[float, int]], seconds: float = 10.0) -> Selection:
    """A selection of ``{cluster: (target share, documents)}``; documents are called ``c<cluster>-<number>``."""
    documents = tuple(
        SelectedDocument(
            TextDocument(f"c{cluster}-{k}", f"text {k}", f"domain {cluster}"), cluster, share, "drawn", seconds
        )
        for cluster, (share, n) in clusters.items()
        for k in range(n)
    )
    return Selection(
        signal="gap",
        gamma=1.0,
        budget_seconds=seconds * len(documents),
        seed=0,
        clusters=tuple(Cluster(cluster, n, 10 * n, (), {}) for cluster, (_, n) in clusters.items()),
        weights=tuple(ClusterWeight(cluster, share, 1.0, share) for cluster, (share, _) in clusters.items()),
        documents=documents,
        signature="toy selection",
    )
