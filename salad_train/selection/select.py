"""Stage II's choice of what to speak: embed, cluster, probe, score, weigh, draw (Cuervo et al., arXiv 2510.13632, Stage II)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salad_eval import plugins, records
from salad_eval.errors import UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.folder import RunFolder
from salad_eval.pipeline.tools import PluginRef
from salad_eval.report.json import load_report
from salad_eval.types import GapReport, Item
from salad_train.corpus.documents import Texts, file_in_use
from salad_train.selection.embed import Fitted, embed, fit
from salad_train.selection.probe import ProbePlan, Probes, ReadersRef, draw_probes, measure_probes, spoken_length
from salad_train.selection.signals import Gap
from salad_train.selection.terms import unknown_words
from salad_train.selection.weigh import SpokenLength, draw, exclusions, seconds_per_character, weigh
from salad_train.steering.gaps import domain_gaps
from salad_train.types import (
    Cluster,
    Clustering,
    ClusterWeight,
    Corpus,
    Selection,
    Signal,
    SignalContext,
)

if TYPE_CHECKING:
    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.plan import PluginChoice
    from salad_train.recipe import Recipe
    from salad_train.speech.utterances import StoringSpeaker
    from salad_train.training.stage_plan import Stage2Plan, StagePlan
from salad_train.selection.files import ITEMS, PLAN, TEST, SelectPlan

CORPUS = "corpus.arrow"  # in a selection's folder while it is made
MOST_NAMED = 8  # clusters or the like that a note names


@dataclass(frozen=True, slots=True)
class Steering:
    """The report that steers a selection, and the benchmark's items, where they lie beside it."""

    report: GapReport
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """How documents will be cut and spoken: ``stage`` as training will, ``tokenizer`` the speech LLM's."""

    stage: StagePlan
    speaker: StoringSpeaker
    tokenizer: Any


def read_steering(path: Path) -> Steering:
    """The report in the folder of a ``salad run``, or a gap_report.json by itself (then without items)."""
    report = load_report(path)
    if not path.is_dir() or not (path / ITEMS).is_file():
        return Steering(report, ())
    return Steering(report, tuple(read_items(path)))


def read_items(run: Path) -> list[Item]:
    """The benchmark's items of a run. Raises ``DataError`` for a folder without them."""
    return records.read_jsonl(run / ITEMS, Item)


def select_from_run(
    plan: SelectPlan,
    recipe: Recipe,
    out: Path,
    *,
    run: Path | None = None,
    avoid: Sequence[Path] = (),
    asr: PluginChoice | None = None,
    audio: AudioStore | None = None,
) -> Selection:
    """``select`` with everything that a recipe and the folder of an evaluation name: the corpus, the voice, both models.

    Documents that hold an item of the run are left out of the corpus, which lies on disk while this runs. Models are loaded only
    where the signal, or ``asr``, asks for probes.

    Args:
        recipe: ``corpus`` is selected from; ``stage2`` says how documents are cut and spoken, and names both models.
        run: the folder of a finished ``salad run``, or a gap_report.json.
        avoid: folders of further runs whose items no document may hold: those that the result will be measured on.
        asr: transcribes the probes, so that clusters with bad synthesis can be told.
        audio: where sound is kept; by default the recipe's store.
    """
    from salad_train.corpus.sources import documents_of
    from salad_train.recipe import voice_of, workshop_of
    from salad_train.speech.synthesise import tokenizer_of

    steering = read_steering(run) if run is not None else None
    signal = plugins.create("salad.signals", plan.signal, plan.signal_options)
    check_steering(plan, signal, steering)
    items = [*(steering.items if steering is not None else ()), *(item for path in avoid for item in read_items(path))]
    stage = recipe.stage2
    with workshop_of(recipe) as shop:
        with file_in_use(out / CORPUS) as kept:
            corpus = documents_of(recipe.corpus, against=items, kept_in=kept, hands=shop.voices(apart=False))
        check_corpus(plan, corpus)
        readers = readers_of(stage) if needs_probes(signal) or asr is not None else None
        recogniser = PluginRef("salad.asr", asr.name, asr.options) if asr is not None else None
        voice = Voice(stage, voice_of(recipe, audio, shop), tokenizer_of(stage))
        return select(plan, corpus, voice, out, readers=readers, asr=recogniser, steering=steering, shop=shop)


def readers_of(stage: Stage2Plan) -> ReadersRef:
    """The speech LLM that Stage II will start from and its teacher."""
    from salad_eval.checkpoints import model_identity

    fingerprint = f"{model_identity(stage.init)}+{model_identity(stage.base)}"
    return ReadersRef(stage.init, stage.base, stage.attention, stage.device, fingerprint)


def select(
    plan: SelectPlan,
    corpus: Corpus,
    voice: Voice,
    out: Path,
    *,
    readers: ReadersRef | None = None,
    asr: PluginRef | None = None,
    steering: Steering | None = None,
    shop: Workshop | None = None,
) -> Selection:
    """Choose what to speak next. ``out`` keeps what a killed run goes on from; ``write_selection`` puts the result there.

    Args:
        readers: the speech LLM and its teacher. Without them nothing is probed, and signals that need it say so.
        asr: tells clusters whose synthesis is bad, and is asked only where ``readers`` are there too.
        shop: where the work is done; by default in this process.

    Raises ``UserInputError`` for a test-split report that is not allowed by name, a corpus smaller than K, a budget beyond
    the corpus' speech, and a signal that finds nothing to close or not what it needs.
    """
    shop = shop or Workshop()
    signal: Signal = plugins.create("salad.signals", plan.signal, plan.signal_options)
    embedding = PluginRef("salad.embedders", plan.embedder, plan.embedder_options)
    plugins.check(embedding.group, embedding.name, embedding.options)
    check_steering(plan, signal, steering)
    check_corpus(plan, corpus)
    check_readers(plan, signal, readers)
    with RunFolder(out) as folder:
        records.write_json(folder.path / PLAN, plan)
        embedder = fit(embedding, Texts(corpus.documents), shop)
        clustering, clusters = cluster(plan, corpus, embedder, shop)
        affinity = domain_affinity(clustering, embedder, steering, shop)
        embedded_by = shop.tools.open(embedder).fingerprint()
        shop.tools.release(embedder)

        found, held_out = Probes((), {}), frozenset[str]()
        if readers is not None and (asr is not None or needs_probes(signal)):
            found, held_out = _probed(plan, corpus, clustering, voice, readers, folder, asr, shop)
            shop.tools.release(readers)
        heard_by = None if asr is None else shop.tools.open(asr).fingerprint()
        report = None if steering is None else steering.report
        scores = signal.score(SignalContext(clusters, found.probes or None, report, affinity))
        excluded = exclusions(found.probes, found.failed, plan.max_cer)
        weights = weigh(clusters, scores, gamma=plan.gamma, floor=plan.floor, cap=plan.cap, excluded=excluded)
        lengths = found.lengths or (_rate(plan, corpus, voice),)
        drawn = draw(
            corpus.documents,
            clustering.labels,
            weights,
            plan.budget_seconds,
            seconds_per_character(clustering.k, lengths),
            plan.seed,
            reasons=reasons(plan.signal, clusters, weights, report, affinity),
            held_out=held_out if plan.hold_out_probes else frozenset(),
            reserve=plan.reserve,
        )
        return Selection(
            signal=plan.signal,
            gamma=plan.gamma,
            budget_seconds=plan.budget_seconds,
            seed=plan.seed,
            clusters=clusters,
            weights=weights,
            documents=drawn.documents,
            signature=_signature(plan, corpus, voice, signal, embedded_by, readers, heard_by, report),
            probes=found.probes,
            notes=(*_notes(corpus, weights, steering, affinity, found), *drawn.notes),
        )


def check_readers(plan: SelectPlan, signal: Signal, readers: ReadersRef | None) -> None:
    """Refuse a signal that is measured on probes where there are no models to measure them by."""
    if needs_probes(signal) and readers is None:
        raise UserInputError(
            f"signal {plan.signal!r} is measured on probes: give the speech LLM and the text LLM it came from (--model, --base), "
            "or take signal 'gap' or 'uniform'."
        )


def _probed(
    plan: SelectPlan,
    corpus: Corpus,
    clustering: Clustering,
    voice: Voice,
    readers: ReadersRef,
    folder: RunFolder,
    asr: PluginRef | None,
    shop: Workshop,
) -> tuple[Probes, frozenset[str]]:
    """What a few documents of each cluster measure, and which documents those are."""
    probing = ProbePlan(plan.probe_documents, plan.seed)
    draws = draw_probes(corpus.documents, clustering.labels, clustering.k, probing)
    found = measure_probes(draws, probing, voice.stage, readers, voice.tokenizer, voice.speaker, folder, shop, asr=asr)
    return found, frozenset(document.id for one in draws for document in one.documents)


def needs_probes(signal: Signal) -> bool:
    """Whether a signal is to be given probes: all are, but for those that say they do not look at them."""
    return bool(getattr(signal, "needs_probes", True))


def check_steering(plan: SelectPlan, signal: Signal, steering: Steering | None) -> None:
    """Refuse a report on the test split, and one that cannot steer, before anything is read or computed."""
    if steering is not None and steering.report.split == TEST and not plan.allow_test_split:
        raise UserInputError(
            "the report was made on the test split. What is selected by it would be tuned on the very items that are to measure "
            "the result. Give a report on the validation split (salad run --split validation), or allow it by name "
            "(--allow-test-split) and evaluate on other items."
        )
    if isinstance(signal, Gap):
        signal.check(steering.report if steering is not None else None, has_items=bool(steering and steering.items))


def check_corpus(plan: SelectPlan, corpus: Corpus) -> None:
    """Refuse an empty corpus, and one with fewer documents than clusters."""
    if not len(corpus.documents):
        counts = "; ".join(f"{reject.n} {reject.reason}" for reject in corpus.rejects) or "none were there"
        raise UserInputError(f"the corpus is empty: no document is left ({counts}).")
    if plan.clusters > len(corpus.documents):
        raise UserInputError(
            f"clusters is {plan.clusters}, and the corpus has {len(corpus.documents)} document(s); expected at most as many "
            "clusters as documents, and better a tenth of that or less."
        )


def cluster(
    plan: SelectPlan, corpus: Corpus, embedder: Fitted, shop: Workshop
) -> tuple[Clustering, tuple[Cluster, ...]]:
    from salad_train.selection.clusters import describe_clusters
    from salad_train.selection.kmeans import balanced_kmeans

    clustering = balanced_kmeans(embed(embedder, Texts(corpus.documents), shop), plan.clusters, seed=plan.seed)
    return clustering, describe_clusters(corpus.documents, clustering)


def item_text(item: Item) -> str:
    """What a benchmark's item is about: what is spoken of it, and its options."""
    spoken = [item.part_text(part) for part in item.spoken_parts] or [item.context]
    return " ".join([*spoken, *item.choices])


def domain_affinity(
    clustering: Clustering, embedder: Fitted, steering: Steering | None, shop: Workshop
) -> np.ndarray | None:
    """(K, n_domains), how much each cluster is like each of the report's domains; ``None`` without items to tell by."""
    from salad_train.selection.clusters import affinity

    if steering is None or not steering.items or not steering.report.domains:
        return None
    domains = [row.name for row in steering.report.domains]
    items = [item for item in steering.items if item.domain in set(domains)]
    vectors = embed(embedder, [item_text(item) for item in items], shop)
    return affinity(clustering.centroids, vectors, [item.domain for item in items], domains)


def reasons(
    signal: str,
    clusters: Sequence[Cluster],
    weights: Sequence[ClusterWeight],
    report: GapReport | None,
    affinity: np.ndarray | None,
) -> dict[int, str]:
    """One line a cluster: ``signal gap 0.21, 3.4x its share of the corpus; like chemistry; about element, symbol, gold``."""
    lines = {}
    for place, (found, weight) in enumerate(zip(clusters, weights, strict=True)):
        parts = [f"signal {signal} {weight.signal:.3g}, {_ratio(weight):.2g}x its share of the corpus"]
        if report is not None and affinity is not None:
            parts.append(f"like {report.domains[int(affinity[place].argmax())].name}")
        if found.terms:
            parts.append("about " + ", ".join(found.terms[:3]))
        lines[found.id] = "; ".join(parts)
    return lines


def _ratio(weight: ClusterWeight) -> float:
    return weight.target / weight.web if weight.web else 0.0


def unlike_domains(report: GapReport, affinity: np.ndarray) -> tuple[str, ...]:
    """Domains with a gap that are the likest one of no cluster: the corpus lacks them, or its clusters are too few to tell them."""
    nearest = set(affinity.argmax(axis=1).tolist())
    gaps = domain_gaps(report)
    return tuple(name for place, (name, gap) in enumerate(gaps.items()) if gap > 0 and place not in nearest)


def _rate(plan: SelectPlan, corpus: Corpus, voice: Voice) -> SpokenLength:
    probing = ProbePlan(plan.probe_documents, plan.seed)
    return spoken_length(corpus.documents, voice.tokenizer, voice.stage, voice.speaker, probing)


def _notes(
    corpus: Corpus,
    weights: Sequence[ClusterWeight],
    steering: Steering | None,
    affinity: np.ndarray | None,
    found: Probes,
) -> list[str]:
    notes = []
    if corpus.rejects:
        left_out = ", ".join(f"{reject.n} {reject.reason}" for reject in corpus.rejects)
        notes.append(f"corpus: {len(corpus.documents)} documents; left out: {left_out}.")
    excluded = [weight for weight in weights if weight.excluded]
    if excluded:
        share = math.fsum(weight.web for weight in excluded)
        named = "; ".join(f"{weight.cluster}: {weight.excluded}" for weight in excluded[:MOST_NAMED])
        more = f"; and {len(excluded) - MOST_NAMED} more" if len(excluded) > MOST_NAMED else ""
        notes.append(f"{len(excluded)} cluster(s) with {share:.1%} of the corpus are excluded ({named}{more}).")
    if found.probes:
        n_failed = sum(probe.n_failed for probe in found.probes)
        n = sum(probe.n_documents for probe in found.probes)
        seconds = math.fsum(probe.seconds for probe in found.probes)
        failed = f"; {n_failed} of them could not be spoken" if n_failed else ""
        notes.append(f"probes: {n} documents, {seconds:.0f} s of sound{failed}.")
    if steering is not None:
        notes.append(f"report: {steering.report.signature}")
        if affinity is None:
            notes.append("the report came without items, so no cluster is told which domain it is like.")
        else:
            notes += _lacking(corpus, steering, affinity)
    return notes


def _lacking(corpus: Corpus, steering: Steering, affinity: np.ndarray) -> Iterator[str]:
    """What to know of the domains that no cluster is mostly like."""
    names = unlike_domains(steering.report, affinity)
    asked = {name: [item_text(item) for item in steering.items if item.domain == name] for name in names}
    unknown = unknown_words(asked, Texts(corpus.documents)) if names else {}
    for name in names:
        if unknown[name].is_most:
            yield (
                f"the corpus is likely to lack the domain {name!r}: {unknown[name].share:.0%} of the {unknown[name].n_words} telling words "
                "of its items stand in no document. Its gap is spread over clusters that are about something else."
            )
    if rest := [name for name in names if not unknown[name].is_most]:
        shown = ", ".join(
            f"{name} ({1 - unknown[name].share:.0%} of its words are there)" for name in rest[:MOST_NAMED]
        )
        more = f" and {len(rest) - MOST_NAMED} more" if len(rest) > MOST_NAMED else ""
        yield f"no cluster is mostly about {shown}{more}: the gap is spread over neighbours. More clusters would tell them apart."


def _signature(
    plan: SelectPlan,
    corpus: Corpus,
    voice: Voice,
    signal: Signal,
    embedded_by: str,
    readers: ReadersRef | None,
    heard_by: str | None,
    report: GapReport | None,
) -> str:
    stage = {"cut": records.to_json(voice.stage.interleave), "cuts": voice.stage.cuts, "eos": voice.stage.append_eos}
    bounds = f"{plan.floor:g}..{'inf' if plan.cap is None else format(plan.cap, 'g')}"
    parts = {
        "signal": signal.fingerprint(),
        "gamma": f"{plan.gamma:g}",
        "bounds": bounds,
        "K": str(plan.clusters),
        "embedder": embedded_by,
        "budget": f"{plan.budget_seconds:g}s",
        "probe": f"{plan.probe_documents}{'' if plan.hold_out_probes else '+'}" if readers is not None else "none",
        "max_cer": "default" if plan.max_cer is None else f"{plan.max_cer:g}",
        "seed": str(plan.seed),
        "corpus": corpus.fingerprint,
        "report": f"{report.split}@{digest(report.signature)[:8]}" if report is not None else "none",
        "models": digest(readers.fingerprint)[:12] if readers is not None else "none",
        "asr": digest(heard_by)[:8] if heard_by is not None else "none",
        "voices": "+".join(voice.stage.voices),
        "voice": digest(voice.speaker.fingerprint())[:8],
        "cut": digest(stage, voice.stage.train.seed)[:8],
    }
    return "|".join(
        ["selection", *(f"{name}:{value}" for name, value in parts.items()), f"salad-gap:{version('salad-gap')}"]
    )
