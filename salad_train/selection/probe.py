"""Probes: a few documents of every cluster, spoken and read by teacher and student, to see where speech is worth having.

They are cut and spoken where the command runs; what is made of the sound is measured wherever the engine works. All is kept under a
key of what it depends on, so that a killed run goes on: sound in the audio store, and measures as lines of ``probe.jsonl``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, DataError, PluginError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.folder import RunFolder, Step
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.progress import track
from salad_eval.types import ASR, Audio
from salad_train.selection.weigh import SpokenLength
from salad_train.speech.interleave import Interleaved
from salad_train.speech.utterances import Speaker, StoringSpeaker, Utterance, utterances_of, voice_for
from salad_train.types import ClusterProbe, TextDocument

if TYPE_CHECKING:
    from salad_train.measure import GroupDivergence
    from salad_train.model import SaladForConditionalGeneration, SaladProcessor
    from salad_train.training.batches import Example
    from salad_train.training.stage_plan import StagePlan

RATE_DOCUMENTS = 64  # of the whole corpus, where only the speaking rate is asked for
BLOCK = 256  # sounds that are in memory while they are encoded


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


STEP = Step("probe", ProbeOutcome, version="2", chunk=8)


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
    """The speech LLM with its processor, and the text LLM that teaches it."""

    model: SaladForConditionalGeneration
    processor: SaladProcessor
    teacher: Any


@dataclass(frozen=True, slots=True)
class ReadersRef:
    """Readers by what they are loaded from.

    Attributes:
        init, base: the speech LLM and its teacher: ``nano/…``, a folder or a hub id. attention: transformers' implementation.
        device: where both are read.
        fingerprint: identifies their weights.
    """

    init: str
    base: str
    attention: str
    device: str
    fingerprint: str

    def __str__(self) -> str:
        return f"the speech LLM {self.init} beside {self.base}"

    def key(self) -> str:
        return digest(self)

    def open(self) -> Readers:
        from salad_eval.checkpoints import resolve_device
        from salad_train.training.stages import open_models

        model, processor, teacher = open_models(self)
        models: list[Any] = [model, teacher]  # transformers' types know no ``to`` by name
        for one in models:
            one.to(resolve_device(self.device))
        return Readers(model, processor, teacher)


@dataclass(frozen=True, slots=True)
class SpokenCut:
    """A cut document, the sounds of its spans that are heard, in their order, by sha256, and how long they are together."""

    interleaved: Interleaved
    sounds: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class ProbeDocument:
    """A probe's document: how many cuts there were of it (none, where it is too short), and those that could be spoken."""

    id: str
    n_characters: int
    n_cuts: int
    spoken: tuple[SpokenCut, ...]


@dataclass(frozen=True, slots=True)
class SpokenDraw:
    """All that is to be known of a cluster's probe to measure it."""

    cluster: int
    documents: tuple[ProbeDocument, ...]


@dataclass(frozen=True, slots=True)
class ProbeSetup:
    """Who reads and who transcribes, where the sound is, and whether models are read in bfloat16."""

    readers: ReadersRef
    asr: PluginRef | None
    store: str
    bf16: bool


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
    readers: ReadersRef,
    tokenizer: Any,
    speaker: StoringSpeaker,
    folder: RunFolder,
    shop: Workshop,
    *,
    asr: PluginRef | None = None,
) -> Probes:
    """Speak the documents as training would, and measure F, M and D on each cluster, and what an ASR makes of its sound.

    Args:
        stage: how documents are cut and in which voices they are read; by ``tokenizer``, the speech LLM's.
        folder: where measures are kept. What is there under an equal key is not made again.
        shop: where models work.

    Raises ``DataError`` where no document of any cluster could be cut, or none spoken.
    """
    drawn = [draw for draw in draws if draw.documents]
    cuts = cuts_of([document for draw in drawn for document in draw.documents], tokenizer, stage)
    units = speak_draws(drawn, cuts, speaker)
    depends_on = {
        "readers": readers.fingerprint,
        "documents": digest(*drawn),
        "sound": digest(*units),
        "asr": shop.tools.open(asr).fingerprint() if asr is not None else "none",
        "bf16": str(plan.bf16),
    }
    setup = ProbeSetup(readers, asr, str(speaker.store.root), plan.bf16)
    work = Work(probe, setup, str(readers), parts=plan.documents_per_cluster * stage.cuts)
    outcomes = folder.run(STEP, units, lambda chunks: shop.models.map(work, chunks), depends_on=depends_on)
    failed = {outcome.cluster: outcome.failure or "" for outcome in outcomes if outcome.probe is None}
    return Probes(tuple(outcome.probe for outcome in outcomes if outcome.probe is not None), failed)


def cuts_of(
    documents: Sequence[TextDocument], tokenizer: Any, stage: StagePlan
) -> dict[str, list[tuple[Interleaved, list[Utterance]]]]:
    """Document id → its cuts, each with what is to be heard of it. Documents in which nothing can be spoken are not there."""
    from salad_train.training.stages import borders_of, cut_documents

    found: dict[str, list[tuple[Interleaved, list[Utterance]]]] = {}
    for epoch, cut in cut_documents(documents, tokenizer, stage, borders_of):
        voice = voice_for(cut.document_id, epoch, stage.voices, stage.train.seed)
        found.setdefault(cut.document_id, []).append((cut, utterances_of(cut, voice)))
    return found


def spans_of(documents: Sequence[TextDocument], tokenizer: Any, stage: StagePlan) -> dict[str, list[Utterance]]:
    """Document id → what is to be heard of it, over all its cuts."""
    return {
        id_: [span for _, spans in cuts for span in spans] for id_, cuts in cuts_of(documents, tokenizer, stage).items()
    }


def speak_draws(
    draws: Sequence[ProbeDraw],
    cuts: Mapping[str, Sequence[tuple[Interleaved, Sequence[Utterance]]]],
    speaker: StoringSpeaker,
) -> list[SpokenDraw]:
    """Say what is to be heard of every cut, the same once. Raises ``DataError`` where no cut could be spoken whole."""
    wanted = {speaker.key(span): span for of_one in cuts.values() for _, spans in of_one for span in spans}
    rendered = track(speaker.render(list(wanted.values())), "speaking the probes", len(wanted))
    sounds = dict(zip(wanted, rendered, strict=True))

    def spoken(document: TextDocument) -> ProbeDocument:
        ours, whole = cuts.get(document.id, ()), []
        for cut, spans in ours:
            said = [one for one in (sounds[speaker.key(span)] for span in spans) if one is not None]
            if len(said) == len(spans):
                seconds = math.fsum(one.seconds for one in said)
                whole.append(SpokenCut(cut, tuple(one.sha256 for one in said), seconds))
        return ProbeDocument(document.id, len(document.text), len(ours), tuple(whole))

    found = [SpokenDraw(draw.cluster, tuple(map(spoken, draw.documents))) for draw in draws]
    if not any(document.spoken for draw in found for document in draw.documents):
        raise DataError(
            f"none of {sum(map(len, cuts.values()))} cut documents of the probes could be spoken. Look at the voice "
            f"({speaker.fingerprint()})."
        )
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


# --- a few clusters --------------------------------------------------------------------------------------------------


def probe(tools: Tools, setup: ProbeSetup, chunk: Sequence[SpokenDraw]) -> list[ProbeOutcome]:
    """F, M and D of each cluster's probe, and what an ASR makes of its sound."""
    from salad_train.measure import measure

    readers, store = tools.open(setup.readers), tools.store(setup.store)
    asr = tools.plugin(setup.asr) if setup.asr is not None else None
    cuts = [cut for draw in chunk for document in draw.documents for cut in document.spoken]
    heard = _encoded(dict.fromkeys(sound for cut in cuts for sound in cut.sounds), store, readers)
    scored = [one for one in (_example(cut, heard, readers) for cut in cuts) if len(one.layout.targets)]
    groups = {document.id: str(draw.cluster) for draw in chunk for document in draw.documents}
    rows = measure(readers.model, readers.teacher, scored, heard, groups=groups, bf16=setup.bf16) if scored else ()
    measured = {row.group: row for row in rows}
    return [
        _unmeasured(draw) if row is None else _probed(draw, row, store, asr)
        for draw in chunk
        for row in [measured.get(str(draw.cluster))]
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """The encoder's output of sounds by their sha256, in float16 as training keeps it."""

    frames: Mapping[str, np.ndarray]

    def get(self, sound: str, /) -> np.ndarray:
        return self.frames[sound]


def _encoded(sounds: Mapping[str, None], store: AudioStore, readers: Readers) -> _Heard:
    from salad_train.training.hearing import encoder_frames

    frames: dict[str, np.ndarray] = {}
    left = iter(sounds)
    while block := list(itertools.islice(left, BLOCK)):
        found = encoder_frames(readers.model, readers.processor, [store.get(sound) for sound in block])
        frames.update(zip(block, (one.astype(np.float16) for one in found), strict=True))
    return _Heard(frames)


def _example(cut: SpokenCut, heard: _Heard, readers: Readers) -> Example:
    from salad_train.training.batches import make_example

    positions = [-(-len(heard.get(sound)) // readers.model.config.stack_frames) for sound in cut.sounds]
    return make_example(cut.interleaved, cut.sounds, positions, readers.processor.audio_token_id)


def _unmeasured(draw: SpokenDraw) -> ProbeOutcome:
    n_uncut = sum(not document.n_cuts for document in draw.documents)
    n_failed = sum(bool(document.n_cuts) and not document.spoken for document in draw.documents)
    return ProbeOutcome(
        draw.cluster,
        failure=f"nothing to measure in its {len(draw.documents)} probe documents: {n_failed} could not be spoken, {n_uncut} not be "
        "cut into text and speech",
    )


def _probed(draw: SpokenDraw, row: GroupDivergence, store: AudioStore, asr: ASR | None) -> ProbeOutcome:
    # Documents that cannot be cut give no sound, and count: as many will come up among the selected ones.
    counted = [document for document in draw.documents if document.spoken or not document.n_cuts]
    cuts = [cut for document in draw.documents for cut in document.spoken]
    said = [
        (span.spoken_text, sound)
        for cut in cuts
        for span, sound in zip(cut.interleaved.speech, cut.sounds, strict=True)
    ]
    found = ClusterProbe(
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
        cer=None if asr is None else character_error_rate([(text, store.get(sound)) for text, sound in said], asr),
        seconds=math.fsum(cut.seconds for cut in cuts),
        n_characters=sum(document.n_characters for document in counted),
    )
    return ProbeOutcome(draw.cluster, probe=found)


def character_error_rate(said: Sequence[tuple[str, Audio]], asr: ASR) -> float | None:
    """Character errors of an ASR over characters said, both normalised (``salad_eval.speakable.normalise``); ``None`` where nothing that
    was said could be transcribed. Sound that the ASR refuses as unusable counts as wholly misheard."""
    from salad_eval.pipeline.transcribe import count_errors

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
