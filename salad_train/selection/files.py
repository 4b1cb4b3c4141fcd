"""What ``salad select`` writes, and how it is read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salad_eval import records
from salad_eval.errors import DataError, UserInputError
from salad_eval.identity import file_sha256
from salad_train.selection.probe import ProbePlan
from salad_train.selection.weigh import RESERVE
from salad_train.types import (
    Cluster,
    ClusterProbe,
    ClusterWeight,
    SelectedDocument,
    Selection,
)

DOCUMENTS, HEAD, PAGE, PICTURE, PLAN = (
    "selection.jsonl", "selection.json", "selection.md", "selection.png", "plan.json",
)  # fmt: skip
ITEMS = "items.jsonl"
TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectPlan:
    """What a selection depends on, besides corpus, models and report.

    Attributes:
        budget_seconds: sound to be made, in seconds.
        signal: a plug-in of ``salad.signals``: how much a cluster is worth speaking.
        signal_options: what it is built with.
        gamma: the exponent γ of the signal in a cluster's share P_web · s^γ.
        floor: the least that a cluster gets, as a multiple of P_web in [0, 1]; 0 is the paper's.
        cap: the most that a cluster gets, as a multiple of P_web; ``None`` is the paper's.
        clusters: K, how many.
        embedder: a plug-in of ``salad.embedders``.
        embedder_options: what it is built with.
        probe_documents: spoken and measured in each cluster.
        max_cer: character error rate of a probe above which its cluster is left out; ``None``: see ``weigh.highest_cer``.
        hold_out_probes: whether probe documents are never selected, so that probing again after training measures what was
            learnt of the cluster and not what was learnt of the probe.
        reserve: share of the budget that is drawn beyond it, for documents that fail or turn out shorter.
        seed: of clusters, probes and draws. An embedder has a seed of its own among its options.
        allow_test_split: whether a report on the test split may steer the selection. What is selected by it must not be
            evaluated on that split.
    """

    budget_seconds: float
    signal: str = "misalignment"
    signal_options: Mapping[str, Any] = field(default_factory=dict)
    gamma: float = 5.0
    clusters: int = 128
    embedder: str = "tfidf"
    embedder_options: Mapping[str, Any] = field(default_factory=dict)
    probe_documents: int = 16
    floor: float = 0.0
    cap: float | None = None
    max_cer: float | None = None
    hold_out_probes: bool = True
    reserve: float = RESERVE
    seed: int = 0
    allow_test_split: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.budget_seconds) and self.budget_seconds > 0):
            raise UserInputError(
                f"budget_seconds is {self.budget_seconds}; expected seconds of sound to be made, more than 0."
            )
        if self.clusters < 1:
            raise UserInputError(f"clusters is {self.clusters}; expected at least 1.")
        if self.max_cer is not None and self.max_cer < 0:
            raise UserInputError(f"max_cer is {self.max_cer}; expected a character error rate, 0 or more.")
        if self.seed < 0:
            raise UserInputError(f"seed is {self.seed}; expected 0 or more.")
        ProbePlan(self.probe_documents)


@dataclass(frozen=True, slots=True)
class SelectionHead:
    """``selection.json``: a selection without its documents, and what tells that ``selection.jsonl`` is its own."""

    signature: str
    signal: str
    gamma: float
    budget_seconds: float
    seed: int
    n_documents: int
    documents_sha256: str
    clusters: tuple[Cluster, ...]
    weights: tuple[ClusterWeight, ...]
    probes: tuple[ClusterProbe, ...]
    notes: tuple[str, ...]


def write_selection(selection: Selection, folder: Path) -> Path:
    """``selection.jsonl``, ``.md``, ``.png`` and, last, ``.json``; returns the folder. Loads matplotlib."""
    from salad_train.selection.figure import selection_picture
    from salad_train.selection.views import markdown

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEAD).unlink(missing_ok=True)  # while files change there is no selection here
    records.write_jsonl(folder / DOCUMENTS, selection.documents)
    picture = selection_picture(selection)
    records.write_atomic(folder / PICTURE, picture.png)
    records.write_atomic(folder / PAGE, markdown(selection, picture.alt, PICTURE))
    head = SelectionHead(
        signature=selection.signature,
        signal=selection.signal,
        gamma=selection.gamma,
        budget_seconds=selection.budget_seconds,
        seed=selection.seed,
        n_documents=len(selection.documents),
        documents_sha256=file_sha256(folder / DOCUMENTS),
        clusters=selection.clusters,
        weights=selection.weights,
        probes=selection.probes,
        notes=selection.notes,
    )
    records.write_json(folder / HEAD, head)
    return folder


def read_selection(folder: Path) -> Selection:
    """The selection in a folder. Raises ``DataError`` where there is none, or its files do not belong together."""
    folder = Path(folder)
    try:
        head = records.loads(SelectionHead, (folder / HEAD).read_bytes(), where=str(folder / HEAD))
    except OSError as cause:
        raise DataError(
            f"{folder} holds no finished selection ({HEAD}: {cause.strerror or cause}). Make one with `salad select --out {folder}`."
        ) from None
    documents = records.read_jsonl(folder / DOCUMENTS, SelectedDocument)
    if len(documents) != head.n_documents or file_sha256(folder / DOCUMENTS) != head.documents_sha256:
        raise DataError(f"{folder / DOCUMENTS} is not the file that {HEAD} was written with. Run `salad select` again.")
    return Selection(
        signal=head.signal,
        gamma=head.gamma,
        budget_seconds=head.budget_seconds,
        seed=head.seed,
        clusters=head.clusters,
        weights=head.weights,
        documents=tuple(documents),
        signature=head.signature,
        probes=head.probes,
        notes=head.notes,
    )
