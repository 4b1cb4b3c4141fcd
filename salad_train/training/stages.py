"""Stages I and II, as the paper's method section reads: interleave, speak, encode once, distil, keep the state before the
decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from salad_eval.errors import DataError, ModelError
from salad_eval.formats.parts import split
from salad_eval.identity import digest
from salad_eval.pipeline.engines import Workshop
from salad_eval.progress import tell
from salad_eval.records import whole_folder, write_json
from salad_train.model import SaladForConditionalGeneration, SaladProcessor
from salad_train.speech.interleave import DocumentLike, Interleaved, as_text, interleave
from salad_train.speech.utterances import Speaker, utterances_of, voice_for
from salad_train.training.batches import Batch, BatchLimits, BatchOrder, Example, collate, make_example
from salad_train.training.checkpoints import teacher_fingerprint, whole_state_dict
from salad_train.training.distillation import frozen_copy
from salad_train.training.frames import FrameJitter, FrameStore, fill_store
from salad_train.training.hearing import encoder_frames
from salad_train.training.mixture import Mixture
from salad_train.training.processes import first_process_first, is_first, own_device, wait_for_all
from salad_train.training.saving import as_stored
from salad_train.training.train import train
from salad_train.training.warm_start import HeardSpan, heard_spans, warm_start

if TYPE_CHECKING:
    from salad_train.training.teacher_cache import TeacherCache, TeacherStates
from salad_train.training.stage_plan import Stage1Plan, Stage2Plan, StagePlan, WarmStartPlan, claim


@dataclass(frozen=True, slots=True, eq=False)
class SpeechSource:
    """Documents that are heard, and whose voice reads them. ``preferred``: where each would like to be cut; ``None`` for one
    leaves it to its sentences. ``borders_of`` is the usual choice."""

    documents: Sequence[DocumentLike]
    speaker: Speaker
    preferred: Callable[[Any], Sequence[int] | None] | None = None

    def fingerprint(self) -> str:
        """Of what is heard: the documents, where each would like to be cut, and whose voice reads them."""
        return digest(documents_fingerprint(self.documents, self.preferred), self.speaker.fingerprint())


@dataclass(frozen=True, slots=True, eq=False)
class Stage2Data:
    """What Stage II reads: selected documents, Stage I's kind of speech (or none), and plain text.

    ``frames`` is the store of encoded speech, which runs on one encoder may share; a run keeps its own if it is ``None``. ``shop``: where
    the teacher reads what is kept of it.
    """

    selected: SpeechSource
    natural: SpeechSource | None
    replay: Sequence[DocumentLike]
    frames: Path | None = None
    shop: Workshop = field(default_factory=Workshop)

    def fingerprints(self) -> dict[str, str]:
        """Of each part."""
        return {
            "selected speech": self.selected.fingerprint(),
            "natural speech": self.natural.fingerprint() if self.natural is not None else "none",
            "replay text": documents_fingerprint(self.replay),
        }


def documents_fingerprint(
    documents: Sequence[DocumentLike], preferred: Callable[[Any], Sequence[int] | None] | None = None
) -> str:
    """Of what training makes of documents: their texts and domains in their order, and where each would like to be cut."""
    return digest(
        *(
            [one.id, one.domain, one.text, list(preferred(one) or ()) if preferred is not None else []]
            for one in documents
        )
    )


def borders_of(document: Any) -> Sequence[int] | None:
    """The borders a ``TextDocument`` states, if any."""
    return document.borders or None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of speaking a set of cut documents: examples to train on, how many cuts were left out by reason, and the seconds of
    distinct sound they hold."""

    examples: tuple[Example, ...]
    left_out: dict[str, int]
    seconds: float


def stage1(
    plan: Stage1Plan,
    heard: SpeechSource,
    replay: Sequence[DocumentLike],
    out: Path,
    shop: Workshop | None = None,
) -> Path:
    """Train a speech-adapted LLM from a base LLM and a frozen audio encoder; returns the folder of the finished model.

    Args:
        heard: what may be heard; replay: what is read as plain text.
        out: gets ``plan.json``, ``frames/``, ``warm_start/`` where the plan has one, ``train.jsonl``, ``checkpoints/`` and ``model/``,
            and where nothing but the adapter was trained ``adapter/``, some megabytes that name the models they stand between (see
            ``formats.parts``). A killed run goes on from there.
        shop: where the teacher reads what is kept of it; by default here.
    """
    out, shop = Path(out), shop or Workshop()
    model, processor, teacher = build(plan)
    writes_read = plan.warm_start is not None and plan.warm_start.writes == "read"
    read = replay if plan.replays or writes_read else ()
    made_of = {**plan.models(), "speech": heard.fingerprint(), "replay text": documents_fingerprint(read)}
    with first_process_first(plan.device):
        claim(out, plan, made_of)
        store = open_store(out / "frames", model)
        spoken = speak_documents(heard, plan, model, processor, store)
        texts = texts_of(read, processor, plan)
        if plan.warm_start is not None:
            cut = cut_documents(heard.documents, processor.tokenizer, plan, heard.preferred)
            spans = heard_spans(cut, heard.speaker, plan.voices, plan, store)
            held_out = held_out_spans(cut, heard.speaker, plan, plan.warm_start, model, processor, store)
            more = {token for text in texts for token in text.teacher_ids.tolist()} if writes_read else ()
            warm_start(model, spans, held_out, store, plan, out / "warm_start", more)
        texts = texts if plan.replays else []
        taught = kept_teacher(teacher, [*spoken.examples, *texts], processor, plan, out / "teacher", shop)
    batches = mixed_batches([Heard(spoken.examples, store)], texts, plan, taught)
    train(model, teacher, batches, plan.train, out, device=plan.device)
    _note_speech(out / "speech.json", heard=spoken)
    folder = save(model, processor, out / "model", plan)
    if plan.train.tune == "adapter" and is_first():
        _save_adapter(folder, plan, out / "adapter")
    return folder


def _save_adapter(model: Path, plan: Stage1Plan, out: Path) -> None:
    try:
        split(model, {"language_model.": plan.base, "encoder.": plan.encoder}, out)
    except ModelError as cause:  # the model is there, and all that was computed
        tell(f"no {out.name}/ by itself: {cause}")


def stage2(plan: Stage2Plan, data: Stage2Data, out: Path) -> Path:
    """Train a speech-adapted LLM on: selected speech, what Stage I heard and plain text take turns; returns the new model's
    folder. A killed run goes on from there."""
    out = Path(out)
    model, processor, teacher = open_models(plan)
    natural = None
    with first_process_first(plan.device):
        claim(out, plan, {**plan.models(), **data.fingerprints()})
        store = open_store(data.frames or out / "frames", model)
        selected = speak_documents(data.selected, plan, model, processor, store)
        if data.natural is not None and plan.natural_share > 0:
            again = heard_again(data.natural, plan)
            natural = speak_documents(again, plan, model, processor, store)
        texts = texts_of(data.replay if plan.replays else (), processor, plan)
        everything = [*selected.examples, *(natural.examples if natural is not None else ()), *texts]
        taught = kept_teacher(teacher, everything, processor, plan, out / "teacher", data.shop)
    heard = [Heard(selected.examples, store, plan.selected_share)]
    if natural is not None:
        heard.append(Heard(natural.examples, store, plan.natural_share))
    batches = mixed_batches(heard, texts, plan, taught)
    before_decay = None if plan.checkpoint is None else Path(plan.checkpoint)
    train(model, teacher, batches, plan.train, out, device=plan.device, init_from=before_decay)
    _note_speech(out / "speech.json", selected=selected, natural=natural)
    return save(model, processor, out / "model", plan)


def heard_again(source: SpeechSource, plan: Stage2Plan) -> SpeechSource:
    """The documents of Stage I's kind that Stage II hears: ``plan.natural_documents`` of them, drawn without replacement."""
    n = plan.natural_documents
    if n is None or n >= len(source.documents):
        return source
    chosen = np.random.default_rng([plan.train.seed, 3]).choice(len(source.documents), size=n, replace=False)
    return replace(source, documents=[source.documents[i] for i in sorted(chosen.tolist())])


def build(plan: Stage1Plan) -> tuple[SaladForConditionalGeneration, SaladProcessor, Any]:
    """Student, processor and teacher: the base LLM with a fresh adapter and a frozen encoder, and a frozen copy of
    the base LLM."""
    from salad_eval.checkpoints import load_causal_lm
    from salad_train.model.loading import load_encoder

    base, tokenizer = load_causal_lm(plan.base, dtype="float32", device="cpu")
    encoder, extractor = load_encoder(plan.encoder)
    encoder.to(own_device(plan.device))
    base.set_attn_implementation(plan.attention)
    teacher = frozen_copy(base)
    model = SaladForConditionalGeneration.from_parts(
        encoder,
        base,
        plan.adapter.config(),
        stack_frames=plan.stack_frames,
        seed=plan.train.seed,
        mimi_latents=plan.mimi_latents,
        mimi_quantizers=plan.mimi_quantizers,
        encoder_windows=list(plan.encoder_windows) or None,
        encoder_dtype=plan.encoder_dtype,
    )
    model.adapter.transformer.set_attn_implementation(plan.attention)
    return model, SaladProcessor.from_parts(extractor, tokenizer, model.config), teacher


class Pair(Protocol):
    """A speech LLM and the text LLM that teaches it: ``nano/…``, a folder or a hub id each."""

    @property
    def init(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def attention(self) -> str: ...
    @property
    def device(self) -> str: ...


def open_models(plan: Pair) -> tuple[SaladForConditionalGeneration, SaladProcessor, Any]:
    """Student, processor and teacher of Stage II. Raises ``ModelError`` where they do not read the same tokens."""
    from salad_eval.checkpoints import load_causal_lm
    from salad_eval.systems.prompts import tokenizer_fingerprint
    from salad_train.model.loading import load_salad

    model, processor = load_salad(plan.init, dtype="float32", device="cpu")
    base, tokenizer = load_causal_lm(plan.base, dtype="float32", device="cpu")
    if tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(processor.tokenizer):
        raise ModelError(
            f"{plan.init} and {plan.base} have different tokenizers; a teacher must read the student's tokens. "
            "Set base to the text LLM that the speech LLM was made from."
        )
    for part in (model.language_model, model.adapter.transformer, base):
        part.set_attn_implementation(plan.attention)
    encoder: Any = model.encoder  # transformers' types know no ``to`` of a device
    encoder.to(own_device(plan.device))
    return model, processor, base.eval().requires_grad_(False)


def cut_documents(
    documents: Sequence[DocumentLike],
    tokenizer: Any,
    plan: StagePlan,
    preferred: Callable[[Any], Sequence[int] | None] | None = None,
) -> list[tuple[int, Interleaved]]:
    """Every document in every cut, with the cut's number; cuts in which nothing is spoken are left out."""
    cut = [
        (
            epoch,
            interleave(
                document,
                tokenizer,
                plan.interleave,
                seed=plan.train.seed,
                epoch=epoch,
                preferred=None if preferred is None else preferred(document),
                append_eos=plan.append_eos,
            ),
        )
        for epoch in range(plan.cuts)
        for document in documents
    ]
    heard = [(epoch, interleaved) for epoch, interleaved in cut if interleaved.speech]
    if not heard:
        raise DataError(
            f"none of {len(documents)} documents could be cut into text and speech. They may be shorter than the spans asked for "
            f"({plan.interleave}), or the tokenizer's ids change at word borders."
        )
    return heard


def open_store(folder: Path, model: SaladForConditionalGeneration) -> FrameStore:
    """The store of this encoder's output; one made by another encoder is refused."""
    return FrameStore(folder, model.spec.hidden_size, encoder_fingerprint(model))


def encoder_fingerprint(model: SaladForConditionalGeneration) -> str:
    """16 hex digits over the encoder's weights and what is read from it."""
    import hashlib

    config = model.config
    settings: list[object] = [config.mimi_latents, config.mimi_quantizers]
    settings += (
        [config.encoder_windows, config.encoder_dtype] if model.spec.windows or model.spec.dtype != "float32" else []
    )
    digest = hashlib.sha256(",".join(map(str, settings)).encode())
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def speak_documents(
    source: SpeechSource,
    plan: StagePlan,
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    store: FrameStore,
) -> Spoken:
    """Cut every document, speak every speech span, encode it once, and lay the documents out. A document with a span that
    could not be spoken is left out."""
    cut = cut_documents(source.documents, processor.tokenizer, plan, source.preferred)
    spans = [utterances_of(doc, voice_for(doc.document_id, epoch, plan.voices, plan.train.seed)) for epoch, doc in cut]
    wanted = [utterance for of_one in spans for utterance in of_one]
    failures = fill_store(store, wanted, source.speaker, lambda audios: encoder_frames(model, processor, audios))
    examples: list[Example] = []
    left_out: dict[str, int] = {}
    for (_, doc), utterances in zip(cut, spans, strict=True):
        keys = [source.speaker.key(utterance) for utterance in utterances]
        reason = next((failures[key] for key in keys if key in failures), None)
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        positions = [-(-store.n_frames(key) // model.config.stack_frames) for key in keys]
        examples.append(make_example(doc, keys, positions, processor.audio_token_id))
    if not examples:
        raise DataError(f"none of {len(cut)} cut documents could be spoken ({left_out}).")
    used = {key for example in examples for key in example.recordings}
    return Spoken(tuple(examples), left_out, math.fsum(store.seconds(key) for key in used))


def held_out_spans(
    cut: Sequence[tuple[int, Interleaved]],
    speaker: Speaker,
    plan: Stage1Plan,
    warm: WarmStartPlan,
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    store: FrameStore,
) -> list[HeardSpan]:
    """What the warm start is measured by: the spans of the first documents, spoken and encoded in the voices that are held out."""
    first = cut[: warm.held_out]
    voices = warm.held_out_voices or plan.voices
    wanted = [
        utterance
        for epoch, document in first
        for utterance in utterances_of(document, voice_for(document.document_id, epoch, voices, plan.train.seed))
    ]
    fill_store(store, wanted, speaker, lambda audios: encoder_frames(model, processor, audios))
    return heard_spans(first, speaker, voices, plan, store)


def texts_of(documents: Sequence[DocumentLike], processor: SaladProcessor, plan: StagePlan) -> list[Example]:
    """Text replay: whole documents, every token but the first scored."""
    texts = [as_text(document, processor.tokenizer, append_eos=plan.append_eos) for document in documents]
    return [make_example(text, (), (), audio_token_id=-1) for text in texts if len(text.ids) > 1]


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Examples with speech, the store of their frames, and how often they are drawn beside other sources."""

    examples: Sequence[Example]
    store: FrameStore
    weight: float = 1.0


def kept_teacher(
    teacher: Any,
    examples: Sequence[Example],
    processor: SaladProcessor,
    plan: Stage1Plan | Stage2Plan,
    folder: Path,
    shop: Workshop,
) -> TeacherCache | TeacherStates | None:
    """What the teacher says of ``examples``, on disk; ``None`` where the plan keeps nothing. ``shop``: where it reads; its workers go when
    this is done."""
    if not plan.teacher_states and not plan.teacher_cache:
        return None
    from salad_train.training.teacher_cache import (
        FINGERPRINT_SAMPLES,
        Lesson,
        TeacherCache,
        TeacherRef,
        TeacherStates,
        fill_cache,
        spec_for,
    )

    texts = [example.teacher_ids for example in examples]
    teacher.to(own_device(plan.device))
    fingerprint = teacher_fingerprint(teacher, FINGERPRINT_SAMPLES)
    with Lesson.of(teacher, TeacherRef(plan.base, plan.attention, plan.device, fingerprint), shop) as lesson:
        if plan.teacher_states:
            states = TeacherStates(folder, teacher, bf16=plan.train.bf16)
            states.fill(texts, lesson=lesson)
            return states
        cache = TeacherCache(folder, spec_for(teacher, processor.tokenizer, k=plan.teacher_cache))
        fill_cache(cache, teacher, texts, lesson=lesson)
        return cache


def mixed_batches(
    heard: Sequence[Heard],
    texts: Sequence[Example],
    plan: StagePlan,
    taught: TeacherCache | TeacherStates | None = None,
) -> Callable[[int], Batch]:
    """Batch ``i`` of the mixture: a pure function of the plan's seed and ``i``. Text is drawn as often as ``replay_share`` says,
    the sources of speech share the rest by their weights. ``taught`` holds what the teacher says of all of them."""
    replays = bool(texts) and plan.replays
    total = math.fsum(source.weight for source in heard)
    speech_share = 1.0 - (plan.replay_share if replays else 0.0)
    weights = [source.weight / total * speech_share for source in heard] + ([plan.replay_share] if replays else [])
    mixture = Mixture(tuple(weights))
    pools: list[tuple[Sequence[Example], FrameStore | None, BatchLimits]] = [
        (source.examples, source.store, plan.limits) for source in heard
    ]
    if replays:
        pools.append((texts, None, plan.replay_limits or plan.limits))
    orders = [
        BatchOrder([example.length for example in examples], limits, seed=plan.train.seed + number)
        for number, (examples, _, limits) in enumerate(pools)
    ]

    def batch(index: int) -> Batch:
        which, number = mixture.source(index)
        examples, store, _ = pools[which]
        chosen = [examples[i] for i in orders[which].batch(number)]
        jitter = FrameJitter(plan.frame_jitter, np.random.default_rng([plan.train.seed, 53, index]))
        made = collate(chosen, store, moved=jitter)
        return made if taught is None else replace(made, taught=taught.positions(chosen))

    return batch


def _note_speech(path: Path, **sources: Spoken | None) -> None:
    """How much was heard of each source, and what was left out."""
    found = {
        name: {"examples": len(spoken.examples), "left_out": spoken.left_out, "seconds": spoken.seconds}
        for name, spoken in sources.items()
        if spoken is not None
    }
    if is_first():
        write_json(path, found)


def save(model: SaladForConditionalGeneration, processor: SaladProcessor, folder: Path, plan: StagePlan) -> Path:
    """Model and processor in Hugging Face format, whole or not at all, by the first process. ``plan.save_dtype`` is that of the
    stored weights; they load as float32."""
    weights = whole_state_dict(model)
    if is_first():
        _write_model(model, processor, folder, as_stored(weights, getattr(torch, plan.save_dtype)))
    wait_for_all(plan.device)
    return folder


def _write_model(
    model: SaladForConditionalGeneration, processor: SaladProcessor, folder: Path, weights: dict[str, torch.Tensor]
) -> None:
    for part in (model.config.text_config, model.config.audio_config):
        part._name_or_path = ""  # a path on this machine says nothing on another
    with whole_folder(folder) as unfinished:
        model.save_pretrained(unfinished, state_dict=weights)
        processor.save_pretrained(unfinished)
