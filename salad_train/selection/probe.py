"""Probes: a few documents of every cluster, spoken and read by teacher and student, to see where speech is worth having.

Everything is kept under a key of all it depends on, so that a killed run goes on: sound in the audio store, the encoder's
output in the frame store, and measures as lines of ``probe.jsonl``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salad_eval.errors import AudioError, DataError, PluginError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.folder import RunFolder, Step
from salad_eval.types import ASR, Audio
from salad_train.selection.weigh import SpokenLength
from salad_train.types import ClusterProbe, TextDocument

if TYPE_CHECKING:
    from salad_train.measure import GroupDivergence
    from salad_train.model import SaladForConditionalGeneration, SaladProcessor
    from salad_train.speech.utterances import Speaker, Utterance
    from salad_train.training.batches import Example
    from salad_train.training.frames import FrameStore
    from salad_train.training.stage_plan import StagePlan

FRAMES = "frames"
RATE_DOCUMENTS = 64  # of the whole corpus, where only the speaking rate is asked for


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How much is looked at.

    Attributes:
        documents_per_cluster: drawn without replacement, but never more than half of a cluster (and at least one).
        bf16: whether the models are read under bfloat16 autocast, where the device multiplies it.
    """

    documents_per_cluster: int = 16
    seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.documents_per_cluster < 1:
            raise UserInputError(f"probe_documents is {self.documents_per_cluster}; expected at least 1 a cluster.")


@dataclass(frozen=True, slots=True)
class ProbeDraw:
    """The documents that stand for a cluster."""

    cluster: int
    documents: tuple[TextDocument, ...]


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """A line of ``probe.jsonl``: what was measured, or why nothing could be."""

    cluster: int
    probe: ClusterProbe | None = None
    failure: str | None = None


STEP = Step("probe", ProbeOutcome, version="1", chunk=8)


@dataclass(frozen=True, slots=True)
class Probes:
    """What is known of the clusters; ``failed`` says why of those that could not be probed at all."""

    probes: tuple[ClusterProbe, ...]
    failed: Mapping[int, str]

    @property
    def lengths(self) -> tuple[SpokenLength, ...]:
        """How much sound came of how many characters."""
        return tuple(SpokenLength(probe.cluster, probe.seconds, probe.n_characters) for probe in self.probes)


@dataclass(frozen=True, slots=True, eq=False)
class Readers:
    """The speech LLM with its processor, the text LLM that teaches it, and what identifies both."""

    model: SaladForConditionalGeneration
    processor: SaladProcessor
    teacher: Any
    fingerprint: str


def draw_probes(
    documents: Sequence[TextDocument], labels: Sequence[int] | np.ndarray, k: int, plan: ProbePlan
) -> tuple[ProbeDraw, ...]:
    """A few documents of each of ``k`` clusters: a function of (seed, cluster, its documents)."""
    labels = np.asarray(labels)
    by_label = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[by_label], np.arange(k + 1))
    draws = []
    for cluster, (start, end) in enumerate(itertools.pairwise(edges)):
        members = by_label[start:end]
        n = min(plan.documents_per_cluster, max(1, len(members) // 2), len(members))
        chosen = np.random.default_rng([plan.seed, 2, cluster]).choice(members, size=n, replace=False)
        draws.append(ProbeDraw(cluster, tuple(documents[index] for index in sorted(chosen.tolist()))))
    return tuple(draws)


def measure_probes(
    draws: Sequence[ProbeDraw],
    plan: ProbePlan,
    stage: StagePlan,
    readers: Readers,
    speaker: Speaker,
    folder: RunFolder,
    *,
    asr: ASR | None = None,
) -> Probes:
    """Speak the documents as training would, and measure F, M and D on each cluster, and what an ASR makes of its sound.

    Args:
        stage: how documents are cut and in which voices they are read.
        folder: where measures and the encoder's output are kept. What is there under an equal key is not made again.

    Raises ``DataError`` where no document of any cluster could be cut, or none spoken.
    """
    from salad_train.training.stages import SpeechSource, borders_of, open_store, speak_documents

    drawn = [draw for draw in draws if draw.documents]
    documents = [document for draw in drawn for document in draw.documents]
    spans = spans_of(documents, readers.processor.tokenizer, stage)
    with closing(open_store(folder.path / FRAMES, readers.model)) as store:
        source = SpeechSource(documents, speaker, borders_of)
        spoken = speak_documents(source, stage, readers.model, readers.processor, store)
        examples: dict[str, list[Example]] = {}
        for example in spoken.examples:
            examples.setdefault(example.document_id, []).append(example)
        speech = _ProbeSpeech(spans, examples, store, speaker)
        depends_on = {
            "readers": readers.fingerprint,
            "documents": digest(*drawn),
            "sound": digest([[speaker.key(one) for one in spans.get(document.id, ())] for document in documents]),
            "spoken": digest(sorted(examples)),
            "asr": asr.fingerprint() if asr is not None else "none",
            "bf16": str(plan.bf16),
        }

        def make(chunks: Sequence[Sequence[ProbeDraw]]) -> Iterator[list[ProbeOutcome]]:
            for part in chunks:
                yield list(_outcomes(part, speech, readers, asr, bf16=plan.bf16))

        outcomes = folder.run(STEP, drawn, make, depends_on=depends_on)
    failed = {outcome.cluster: outcome.failure or "" for outcome in outcomes if outcome.probe is None}
    return Probes(tuple(outcome.probe for outcome in outcomes if outcome.probe is not None), failed)


def spans_of(documents: Sequence[TextDocument], tokenizer: Any, stage: StagePlan) -> dict[str, list[Utterance]]:
    """Document id → what is to be heard of it, over all its cuts. Documents in which nothing can be spoken are not there."""
    from salad_train.speech.utterances import utterances_of, voice_for
    from salad_train.training.stages import borders_of, cut_documents

    found: dict[str, list[Utterance]] = {}
    for epoch, cut in cut_documents(documents, tokenizer, stage, borders_of):
        voice = voice_for(cut.document_id, epoch, stage.voices, stage.train.seed)
        found.setdefault(cut.document_id, []).extend(utterances_of(cut, voice))
    return found


def spoken_length(
    documents: Sequence[TextDocument], tokenizer: Any, stage: StagePlan, speaker: Speaker, plan: ProbePlan
) -> SpokenLength:
    """How much sound documents take, from ``RATE_DOCUMENTS`` of the corpus and a voice alone, where no model is at hand."""
    n = min(RATE_DOCUMENTS, len(documents))
    chosen = np.random.default_rng([plan.seed, 3]).choice(len(documents), size=n, replace=False)
    sample = [documents[index] for index in sorted(chosen.tolist())]
    spans = spans_of(sample, tokenizer, stage)
    sounds = iter(list(speaker.speak([utterance for document in sample for utterance in spans.get(document.id, ())])))
    seconds, characters = 0.0, 0
    for document in sample:
        heard = [next(sounds) for _ in spans.get(document.id, ())]
        if all(sound is not None for sound in heard):
            seconds += math.fsum(sound.seconds for sound in heard if sound is not None)
            characters += len(document.text)
    if not seconds:
        raise DataError(
            f"none of {len(sample)} documents could be spoken, so nothing is known of how long one takes. Look at the voices "
            f"({', '.join(stage.voices)})."
        )
    return SpokenLength(None, seconds, characters)


# --- one cluster -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _ProbeSpeech:
    """What was to be heard of the probe documents, and what came of it; both by document id.

    Attributes:
        spans: nothing of a document that could not be cut. examples: nothing of one that could not be spoken.
    """

    spans: Mapping[str, Sequence[Utterance]]
    examples: Mapping[str, Sequence[Example]]
    store: FrameStore
    speaker: Speaker

    def is_heard(self, document: TextDocument) -> bool:
        return document.id in self.examples

    def is_cut(self, document: TextDocument) -> bool:
        return document.id in self.spans

    def seconds(self, documents: Sequence[TextDocument]) -> float:
        keys = (key for document in documents for example in self.examples[document.id] for key in example.recordings)
        return math.fsum(self.store.seconds(key) for key in keys)


def _outcomes(
    draws: Sequence[ProbeDraw], speech: _ProbeSpeech, readers: Readers, asr: ASR | None, *, bf16: bool
) -> Iterator[ProbeOutcome]:
    from salad_train.measure import measure

    cluster_of = {document.id: str(draw.cluster) for draw in draws for document in draw.documents}
    scored = [one for id_ in cluster_of for one in speech.examples.get(id_, ()) if len(one.layout.targets)]
    rows = measure(readers.model, readers.teacher, scored, speech.store, groups=cluster_of, bf16=bf16) if scored else ()
    measured = {row.group: row for row in rows}
    for draw in draws:
        row = measured.get(str(draw.cluster))
        yield _unmeasured(draw, speech) if row is None else _probed(draw, row, speech, asr)


def _unmeasured(draw: ProbeDraw, speech: _ProbeSpeech) -> ProbeOutcome:
    n = len(draw.documents)
    n_uncut = sum(not speech.is_cut(document) for document in draw.documents)
    n_failed = sum(speech.is_cut(document) and not speech.is_heard(document) for document in draw.documents)
    return ProbeOutcome(
        draw.cluster,
        failure=f"nothing to measure in its {n} probe documents: {n_failed} could not be spoken, {n_uncut} not be cut into "
        "text and speech",
    )


def _probed(draw: ProbeDraw, row: GroupDivergence, speech: _ProbeSpeech, asr: ASR | None) -> ProbeOutcome:
    heard = [document for document in draw.documents if speech.is_heard(document)]
    # Documents that cannot be cut give no sound, and count: as many will come up among the selected ones.
    counted = [document for document in draw.documents if speech.is_heard(document) or not speech.is_cut(document)]
    said = [utterance for document in heard for utterance in speech.spans[document.id]]
    probe = ClusterProbe(
        cluster=draw.cluster,
        n_documents=len(draw.documents),
        n_failed=len(draw.documents) - len(counted),
        n_positions=row.n_positions,
        forgetting=row.forgetting,
        misalignment=row.misalignment,
        distillation=row.distillation,
        after_speech=row.after_speech,
        inside_text=row.inside_text,
        teacher_entropy=row.teacher_entropy,
        cer=None if asr is None else character_error_rate(said, speech.speaker, asr),
        seconds=speech.seconds(heard),
        n_characters=sum(len(document.text) for document in counted),
    )
    return ProbeOutcome(draw.cluster, probe=probe)


def character_error_rate(utterances: Sequence[Utterance], speaker: Speaker, asr: ASR) -> float | None:
    """Character errors of an ASR over characters said, both normalised (``salad_eval.speakable.normalise``); ``None`` where nothing that
    was said could be transcribed. Sound that the ASR refuses as unusable counts as wholly misheard."""
    from salad_eval.pipeline.transcribe import count_errors

    said = [
        (u.text, sound) for u, sound in zip(utterances, speaker.speak(utterances), strict=True) if sound is not None
    ]
    texts = _transcripts(asr, [sound for _, sound in said])
    counts = [count_errors(text, heard or "") for (text, _), heard in zip(said, texts, strict=True)]
    n_chars = sum(count.n_chars for count in counts)
    if not n_chars or all(heard is None for heard in texts):
        return None
    return sum(count.char_errors for count in counts) / n_chars


def _transcripts(asr: ASR, sounds: list[Audio]) -> list[str | None]:
    """What was heard; ``None`` for sound that the ASR refuses."""
    try:
        texts: list[str | None] = list(asr.transcribe(sounds)) if sounds else []
    except AudioError:  # one of them; by itself each is either transcribed or refused
        if len(sounds) == 1:
            return [None]
        return [text for sound in sounds for text in _transcripts(asr, [sound])]
    if len(texts) != len(sounds):
        raise PluginError(f"the ASR {asr.fingerprint()} gave {len(texts)} transcripts for {len(sounds)} recordings.")
    return texts
