"""The records that cross the seams of the selection: corpus → clusters → probes → weights → selection.

Frozen and plain. Shares are fractions that add up to 1; divergences are in nats per scored position; what is missing is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from salad_eval.types import Estimate, GapReport

if TYPE_CHECKING:
    from salad_train.training.stage_plan import Stage2Plan
    from salad_train.training.stages import Stage2Data

# --- corpus ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextDocument:
    """A text that could be spoken and trained on.

    Attributes:
        id: unique in its corpus.
        domain: a label for tables and pictures only; no step of the selection reads it. Empty where unknown.
        borders: character positions the document would like to be cut at when it is interleaved; empty leaves it to ends of
            sentences and lines.
    """

    id: str
    text: str
    domain: str = ""
    borders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CorpusReject:
    """How many documents a filter left out for a reason, with the ids of the first few."""

    reason: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was read and kept, in the order of the source, and what was not. Documents are a tuple, or lie on disk
    (``corpus.documents``)."""

    documents: Sequence[TextDocument]
    rejects: tuple[CorpusReject, ...]
    fingerprint: str


# --- clusters --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors. ``fit`` sees the corpus once; equal corpus, texts and options give equal vectors."""

    def fingerprint(self) -> str: ...

    def fit(self, texts: Sequence[str]) -> None:
        """Learn what must be learnt from the corpus (a vocabulary, a projection); a pre-trained embedder does nothing."""
        ...

    def learnt(self) -> Mapping[str, np.ndarray]:
        """What ``fit`` learnt, as arrays of numbers by name."""
        ...

    def recall(self, learnt: Mapping[str, np.ndarray]) -> None:
        """Take what another one of the same options learnt, in place of ``fit``: from then on both give the same vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, rows of unit length (a row of zeros where a text has nothing that is known); for as many texts as one
        pass holds."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """A balanced partition: ``labels`` (n,) int64 in [0, K), ``centroids`` (K, width) float32, ``inertia`` the sum of squared
    distances to them."""

    labels: np.ndarray
    centroids: np.ndarray
    inertia: float

    @property
    def k(self) -> int:
        return len(self.centroids)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as people read it.

    Attributes:
        n_documents, n_characters: its size; ``n_characters`` over the corpus is its share P_web.
        terms: the words that set it apart, most telling first.
        domains: share of its documents by domain label, where there are labels. For reading only.
    """

    id: int
    n_documents: int
    n_characters: int
    terms: tuple[str, ...]
    domains: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    """Means in nats per scored position over documents, with intervals; each ``Estimate.n`` is the number of documents.

    Attributes:
        forgetting, misalignment, distillation: F, M and D.
        after_speech: D at the first text position after a speech span alone; ``inside_text``: at all other positions. ``None`` where
            there is no such position. Weighted by their numbers they make ``distillation``.
        teacher_entropy: mean entropy of Q's next-token distribution: how open the text is, whoever reads it.
    """

    n_documents: int
    n_positions: int
    forgetting: Estimate
    misalignment: Estimate
    distillation: Estimate
    after_speech: Estimate | None
    inside_text: Estimate | None
    teacher_entropy: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterProbe(Divergences):
    """What was measured on a cluster's probe: a few of its documents, interleaved, spoken and read by teacher and student.

    Attributes:
        cer: character error rate of an ASR on the spoken spans; ``None`` without an ASR.
        n_failed: probe documents whose speech could not be made.
        seconds, n_characters: sound in the probe, and the length of the documents it came from: their ratio says how much sound
            a document will take.
    """

    cluster: int
    n_failed: int
    cer: float | None
    seconds: float
    n_characters: int


# --- signals and selection -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SignalContext:
    """All a signal may look at; what it needs and does not find is a ``UserInputError`` that says how to get it.

    Attributes:
        affinity: (K, n_domains), rows add up to 1: how much each cluster is like each of ``report.domains``, in their order;
            ``None`` without a report.
    """

    clusters: tuple[Cluster, ...]
    probes: tuple[ClusterProbe, ...] | None
    report: GapReport | None
    affinity: np.ndarray | None


@runtime_checkable
class Signal(Protocol):
    """How much a cluster is worth speaking."""

    def fingerprint(self) -> str: ...

    def score(self, context: SignalContext) -> np.ndarray:
        """(K,) finite and ≥ 0, one a cluster."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterWeight:
    """Why a cluster gets its share. ``excluded`` names the reason where ``target`` is 0 by exclusion."""

    cluster: int
    web: float
    signal: float
    target: float
    excluded: str | None = None


@dataclass(frozen=True, slots=True)
class SelectedDocument:
    """A line of ``selection.jsonl``, in the order of drawing.

    Attributes:
        weight: its cluster's target share. reason: one line for people.
        seconds: the sound it is expected to take, by the speaking rate of the probes.
        reserve: drawn beyond the budget, to be spoken only where documents before it turn out shorter or fail.
    """

    document: TextDocument
    cluster: int
    weight: float
    reason: str
    seconds: float
    reserve: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What to speak next, and why.

    Attributes:
        probes: what was measured on the clusters, where it was. notes: what a reader should know besides.
    """

    signal: str
    gamma: float
    budget_seconds: float
    seed: int
    clusters: tuple[Cluster, ...]
    weights: tuple[ClusterWeight, ...]
    documents: tuple[SelectedDocument, ...]
    signature: str
    probes: tuple[ClusterProbe, ...] = ()
    notes: tuple[str, ...] = ()


# --- synthesis -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpokenSpan:
    """A span of an interleaved document: read as text, or heard (then ``sha256`` names its sound in the audio store)."""

    text: str
    sha256: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SpokenDocument:
    """A line of ``synthesis.jsonl``: a selected document as it is trained on."""

    document_id: str
    domain: str
    cluster: int
    weight: float
    voice: str
    spans: tuple[SpokenSpan, ...]

    @property
    def seconds(self) -> float:
        """Sound in it."""
        return sum(span.seconds for span in self.spans)


# --- trainers --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Trainer(Protocol):
    """Stage II by any means."""

    def fingerprint(self) -> str: ...

    def fit(self, plan: Stage2Plan, selection: Selection, data: Stage2Data, out: Path) -> Path:
        """Train and return the folder of the adapted checkpoint (or of what would be trained on).

        ``selection`` says what was chosen and why; ``data`` holds its documents that were spoken, with the voice that reads them
        (asking it again speaks nothing twice), and what else is read.
        """
        ...
