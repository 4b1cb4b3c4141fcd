"""Signals: how much each cluster of the corpus is worth speaking (entry-point group ``salad.signals``).

A signal reads what was measured on the clusters' probes, or the gap report, and gives every cluster a score ≥ 0. ``select``
turns scores into shares, ∝ P_web · score^γ. A cluster without a probe scores 0 where a probe is read: ``select`` has excluded
it by then and says why.

One that is written elsewhere implements ``salad_train.types.Signal``. It may set ``needs_probes = False``, and is then
not refused where there is no model to probe with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from salad_eval.errors import DataError, UserInputError
from salad_eval.types import GapReport
from salad_train.steering.gaps import domain_gaps, largest_gap
from salad_train.types import ClusterProbe, SignalContext

CHARACTERS_A_WORD = 5.0  # of English; a word is intact where all its characters are


class Uniform:
    """Every cluster alike: shares are those of the corpus, whatever γ. The control that every other signal must beat."""

    needs_probes = False

    def fingerprint(self) -> str:
        return "uniform"

    def score(self, context: SignalContext) -> np.ndarray:
        return np.ones(len(context.clusters))


class Misalignment:
    """M(c): how far the speech LLM's hearing is from its own reading, in nats a position.

    PAPER.md, Stage II, step 3 (Cuervo et al., arXiv 2510.13632).
    """

    needs_probes = True

    def fingerprint(self) -> str:
        return "misalignment"

    def score(self, context: SignalContext) -> np.ndarray:
        return _of_probes(context, "misalignment", lambda probe: probe.misalignment.value)


class Distillation:
    """D(c): how far the speech LLM's hearing is from the base LLM's reading, in nats a position: what training minimises."""

    needs_probes = True

    def fingerprint(self) -> str:
        return "distillation"

    def score(self, context: SignalContext) -> np.ndarray:
        return _of_probes(context, "distillation", lambda probe: probe.distillation.value)


class Gap:
    """The report's gaps by domain, carried to the clusters by how much each is like each domain:
    s(c) = Σ_d affinity(c, d) · max(gap(d), 0).

    Gaps are those of ``domain_gaps``.
    """

    needs_probes = False

    def fingerprint(self) -> str:
        return "gap"

    def score(self, context: SignalContext) -> np.ndarray:
        affinity = context.affinity
        gaps = self.check(context.report, has_items=affinity is not None)
        shape = (len(context.clusters), len(gaps))
        if affinity is None or affinity.shape != shape:
            found = None if affinity is None else affinity.shape
            raise DataError(f"affinity has shape {found}; expected {shape}: (clusters, domains).")
        return affinity @ np.maximum(gaps, 0.0)

    @staticmethod
    def check(report: GapReport | None, *, has_items: bool) -> np.ndarray:
        """(n_domains,) the report's gaps (``domain_gaps``); raises ``UserInputError`` where there is no report, or none to carry
        over."""
        if report is None:
            raise UserInputError(
                "signal 'gap' carries a report's gaps to the clusters, and there is no report. Give the folder of a "
                "finished `salad run` (--report), or another signal."
            )
        gaps = domain_gaps(report)
        largest_gap(gaps, "To speak more of the corpus nevertheless, say so with signal 'uniform'.")
        if not has_items:
            raise UserInputError(
                "signal 'gap' needs the benchmark's items to tell which clusters are like which domain, and a gap_report.json "
                "by itself has none. Give the run's whole folder (with items.jsonl beside the report), or another signal."
            )
        return np.array(list(gaps.values()))


class Learnability:
    """How much of what the base LLM knows is lost in hearing, and could be won back by hearing more of the cluster.

        s(c) = (1 − exp(−X)) · X / (X + H) · I        in [0, 1)
        X = max(D′ − F, 0)        nats a position that hearing adds to the distance from the base LLM
        I = min(1, (1 − CER) / (1 − CER₀)) ^ 5        words of the probe's speech that are intact, against the usual

    The first factor is the size of the loss. The mean of log p/q under the base LLM's q is −KL, so exp(−X) is the (geometric) mean
    share of its probability that the student keeps, and 1 − exp(−X) the share that is lost. It is bounded as accuracy is: an answer
    cannot be lost more than wholly, whereas nats grow without end, and raised to γ would pour the budget into one cluster.

    A large D(c) has four causes, and speech of the cluster is the remedy for one of them alone, the *missing domain*: words that
    the adapter has not heard enough of. What is left of s(c) takes out the others.

    *What is no matter of hearing.* Where the speech LLM has forgotten a domain, it is as far from the base LLM when it reads
    (F) as when it hears: X subtracts F. D′ is D inside text spans, where it was measured apart: the first position after a speech
    span also pays for the change of modality and for where the span's sound ends, in every domain alike, whereas a word that
    was not understood is missed in all that follows.

    *Hard content.* The base LLM's cross-entropy under the speech LLM is H + D, with H the base LLM's own entropy: the part that
    no student can remove. X / (X + H) is the share that one can. Where the base LLM itself is unsure, a divergence is spread
    over many continuations of which none is right or wrong: it moves no answer, and its gradient is mostly noise; where
    the base LLM is sure (a name, a number, an answer) every nat of X is a nat of lost certainty. With H = 0 the factor is 1.

    *A TTS artefact.* Speech that does not hold the words cannot teach them. A character error rate e leaves about (1 − e)^5 of
    the words of five characters intact. Recognisers err everywhere, and more on rare names, so only errors in
    excess of the corpus count: CER₀ is the median over the probes, and I ≤ 1. Without an ASR (``cer`` is ``None``), I = 1.
    """

    needs_probes = True

    def fingerprint(self) -> str:
        return "learnability"

    def score(self, context: SignalContext) -> np.ndarray:
        rates = [probe.cer for probe in context.probes or () if probe.cer is not None]
        usual = float(np.median(rates)) if rates else 0.0
        return _of_probes(context, "learnability", lambda probe: learnability(probe, usual))


def learnability(probe: ClusterProbe, usual_cer: float) -> float:
    """s(c) of ``Learnability``, in [0, 1]; ``usual_cer`` is CER₀."""
    heard = (probe.distillation if probe.inside_text is None else probe.inside_text).value
    excess = max(heard - max(probe.forgetting.value, 0.0), 0.0)
    if excess == 0.0:
        return 0.0
    lost = -math.expm1(-excess)
    removable = excess / (excess + max(probe.teacher_entropy.value, 0.0))
    return lost * removable * intact_words(probe.cer, usual_cer)


def intact_words(cer: float | None, usual_cer: float) -> float:
    """Share of words that survive a character error rate, relative to the usual one: in [0, 1], and 1 where unmeasured."""
    if cer is None:
        return 1.0
    kept, usually = 1.0 - min(max(cer, 0.0), 1.0), 1.0 - min(max(usual_cer, 0.0), 1.0)
    return min(1.0, kept / usually) ** CHARACTERS_A_WORD if usually > 0.0 else 1.0


def probes_by_cluster(context: SignalContext) -> Mapping[int, ClusterProbe]:
    """The probes by cluster. Raises ``DataError`` for one of a cluster that is not there."""
    found = {probe.cluster: probe for probe in context.probes or ()}
    unknown = set(found) - {cluster.id for cluster in context.clusters}
    if unknown:
        raise DataError(
            f"probes of clusters {sorted(unknown)}, of which there are none: they are of another clustering."
        )
    return found


def _of_probes(context: SignalContext, name: str, value: Callable[[ClusterProbe], float]) -> np.ndarray:
    """A measure of every probe by cluster, floored at 0; 0 where there is no probe."""
    if not context.probes:
        raise UserInputError(
            f"signal {name!r} is measured on probes of the clusters, and there are none. Give the speech LLM and the text LLM "
            "that it came from (--model, --base), or take signal 'gap' or 'uniform'."
        )
    found = probes_by_cluster(context)
    scores = np.zeros(len(context.clusters))
    for place, cluster in enumerate(context.clusters):
        if cluster.id in found:
            scores[place] = max(value(found[cluster.id]), 0.0)
            if not math.isfinite(scores[place]):
                raise DataError(
                    f"signal {name!r} of cluster {cluster.id} is {scores[place]}; expected a finite number of nats. "
                    "Look at the checkpoint."
                )
    if not scores.any():
        raise UserInputError(
            f"signal {name!r} is 0 in all {len(found)} probed clusters: the speech LLM hears them as the text is read, and "
            "there is nothing to close. To speak more of the corpus nevertheless, say so with signal 'uniform'."
        )
    return scores
