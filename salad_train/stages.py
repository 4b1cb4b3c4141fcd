"""Stage I, as the paper's method section reads: interleave, speak, encode once, distil, keep the state before the
decay."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from salad_eval.errors import DataError, UserInputError
from salad_eval.records import to_json
from salad_train.data import (
    Batch,
    BatchLimits,
    BatchOrder,
    Example,
    FrameStore,
    Mixture,
    Speak,
    collate,
    fill_store,
    make_example,
    span_key,
    voice_for,
)
from salad_train.hearing import encoder_frames
from salad_train.interleave import DocumentLike, Interleaved, InterleaveSpec, as_text, interleave
from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration, SaladProcessor
from salad_train.saving import as_stored
from salad_train.trainer import TrainPlan, frozen_copy, train


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """The causal adapter; the paper's by default (as digested)."""

    hidden_size: int = 960
    intermediate_size: int = 2560
    layers: int = 12
    heads: int = 15
    kv_heads: int = 5

    def config(self) -> SaladAdapterConfig:
        return SaladAdapterConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
        )


@dataclass(frozen=True, slots=True)
class Stage1Plan:
    """Everything Stage I depends on, besides the documents and the way of speaking.

    Attributes:
        base, encoder: ``nano/…``, folders or hub ids.
        voices: each document is read in one of them, drawn anew in each cut.
        cuts: in how many different ways each document is cut and spoken; epochs go through them all.
        append_eos: whether documents end with the end-of-text token, as in the base LLM's own training.
        replay_share: share of the batches that are plain text.
        attention: transformers' attention implementation in training. On a CPU "eager" is the faster one for short sequences.
        mimi_quantizers, mimi_latents: see ``SaladConfig``; read only by a Mimi encoder.
    """

    base: str
    encoder: str
    voices: tuple[str, ...]
    train: TrainPlan
    adapter: AdapterSize = field(default_factory=AdapterSize)
    stack_frames: int = 1
    interleave: InterleaveSpec = field(default_factory=InterleaveSpec)
    cuts: int = 1
    append_eos: bool = True
    limits: BatchLimits = BatchLimits(tokens=16_384, sequences=64)
    replay_share: float = 1 / 3
    replay_limits: BatchLimits | None = None
    mimi_latents: str = "quantized"
    mimi_quantizers: int | None = None
    device: str = "cpu"
    attention: str = "sdpa"
    save_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.cuts < 1:
            raise UserInputError(f"cuts is {self.cuts}; expected at least 1.")
        if not self.voices:
            raise UserInputError("voices is empty; name at least one.")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of speaking a set of cut documents: examples to train on, how many cuts were left out by reason, and
    the
    seconds of distinct sound they hold."""

    examples: tuple[Example, ...]
    left_out: dict[str, int]
    seconds: float


def stage1(
    plan: Stage1Plan,
    documents: Sequence[DocumentLike],
    replay: Sequence[DocumentLike],
    speak: Speak,
    out: Path,
    *,
    preferred: Callable[[Any], Sequence[int] | None] | None = None,
) -> Path:
    """Train a speech-adapted LLM from a base LLM and a frozen audio encoder; returns the folder of the finished model.

    Args:
        documents: what may be heard; replay: what is read as plain text.
        speak: says (text, voice) pairs.
        out: gets ``plan.json``, ``frames/``, ``train.jsonl``, ``checkpoints/`` and ``model/``. A killed run goes on
            from there.
        preferred: where each document would like to be cut; ``None`` for one leaves it to its sentences.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _same_plan(plan, out / "plan.json")
    model, processor, teacher = build(plan)
    cut = cut_documents(documents, processor.tokenizer, plan, preferred)
    store = open_store(out / "frames", model)
    spoken = speak_documents(cut, plan, model, processor, store, speak)
    texts = text_examples(replay, processor.tokenizer, plan)
    batches = mixed_batches(spoken.examples, texts, store, plan)
    train(model, teacher, batches, plan.train, out, device=plan.device)
    (out / "speech.json").write_text(
        json.dumps({"examples": len(spoken.examples), "left_out": spoken.left_out, "seconds": spoken.seconds}) + "\n",
        encoding="utf-8",
    )
    return save(model, processor, out / "model", plan.save_dtype)


# --- steps -----------------------------------------------------------------------------------------------------------


def build(plan: Stage1Plan) -> tuple[SaladForConditionalGeneration, SaladProcessor, Any]:
    """Student, processor and teacher: the base LLM with a fresh adapter and a frozen encoder, and a frozen copy of
    the base LLM."""
    from salad_eval.systems.loading import load_causal_lm
    from salad_train.model.loading import load_encoder

    base, tokenizer = load_causal_lm(plan.base, dtype="float32", device="cpu")
    encoder, extractor = load_encoder(plan.encoder)
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
    )
    return model, SaladProcessor.from_parts(extractor, tokenizer, model.config), teacher


def cut_documents(
    documents: Sequence[DocumentLike],
    tokenizer: Any,
    plan: Stage1Plan,
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

    digest = hashlib.sha256(f"{model.config.mimi_latents},{model.config.mimi_quantizers}".encode())
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def speak_documents(
    cut: Sequence[tuple[int, Interleaved]],
    plan: Stage1Plan,
    model: SaladForConditionalGeneration,
    processor: SaladProcessor,
    store: FrameStore,
    speak: Speak,
) -> Spoken:
    """Speak every speech span, encode it once, and lay the documents out. A document with a span that could not be
    spoken is left out."""
    voices = [voice_for(doc.document_id, epoch, plan.voices, plan.train.seed) for epoch, doc in cut]
    wanted = [(span.spoken_text, voice) for (_, doc), voice in zip(cut, voices, strict=True) for span in doc.speech]
    failures = fill_store(store, wanted, speak, lambda audios: encoder_frames(model, processor, audios))
    examples: list[Example] = []
    left_out: dict[str, int] = {}
    for (_, doc), voice in zip(cut, voices, strict=True):
        keys = [span_key(span.spoken_text, voice) for span in doc.speech]
        reason = next((failures[key] for key in keys if key in failures), None)
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        positions = [-(-store.n_frames(key) // plan.stack_frames) for key in keys]
        examples.append(make_example(doc, keys, positions, processor.audio_token_id))
    used = {key for example in examples for key in example.recordings}
    return Spoken(tuple(examples), left_out, math.fsum(store.seconds(key) for key in used))


def text_examples(documents: Sequence[DocumentLike], tokenizer: Any, plan: Stage1Plan) -> list[Example]:
    """Text replay: whole documents, every token but the first scored."""
    texts = [as_text(document, tokenizer, append_eos=plan.append_eos) for document in documents]
    return [make_example(text, (), (), audio_token_id=-1) for text in texts if len(text.ids) > 1]


def mixed_batches(
    spoken: Sequence[Example], texts: Sequence[Example], store: FrameStore, plan: Stage1Plan
) -> Callable[[int], Batch]:
    """Batch ``i`` of the mixture: a pure function of the plan's seed and ``i``."""
    # Text moves the LM only: replay would be idle steps while that is frozen.
    mixture = Mixture(plan.replay_share if texts and plan.train.lm_lr > 0 else 0.0)
    speech_order = BatchOrder([example.length for example in spoken], plan.limits, seed=plan.train.seed)
    text_order = (
        BatchOrder([example.length for example in texts], plan.replay_limits or plan.limits, seed=plan.train.seed + 1)
        if texts
        else None
    )

    def batch(index: int) -> Batch:
        is_replay, number = mixture.source(index)
        if is_replay and text_order is not None:
            return collate([texts[i] for i in text_order.batch(number)], None)
        return collate([spoken[i] for i in speech_order.batch(number)], store)

    return batch


def save(model: SaladForConditionalGeneration, processor: SaladProcessor, folder: Path, dtype: str = "float32") -> Path:
    """Model and processor in Hugging Face format, whole or not at all. ``dtype`` is that of the stored weights; they
    load as float32."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        model.config.text_config._name_or_path = ""  # a path on this machine says nothing on another
        model.save_pretrained(temporary, state_dict=as_stored(model.state_dict(), getattr(torch, dtype)))
        processor.save_pretrained(temporary)
        for path in temporary.iterdir():  # weights are written private
            path.chmod(0o666 & ~_umask())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _same_plan(plan: Stage1Plan, path: Path) -> None:
    """Write the plan, or refuse to go on with another one in the same folder."""
    text = json.dumps(to_json(plan), indent=2) + "\n"
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise UserInputError(
                f"{path} states another plan than this run's. Give another folder, or remove {path.parent}."
            )
        return
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
