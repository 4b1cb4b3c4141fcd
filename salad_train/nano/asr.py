"""The ASR of the `nano` world: a small Fast Conformer with a CTC head, trained from nothing on synthesised speech.

Its target is the sentence as written, with capitals, punctuation and digits, so that a cascade hands the language model
text of the kind it was trained on. Its encoder, frozen, is also what the speech LLM of this world hears with.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    ParakeetTokenizer,
    get_scheduler,
)

from salad_eval.asr.transformers_ctc import TransformersCTC
from salad_eval.audio.sound import SAMPLE_RATE_HZ
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.pipeline.render import RenderJob, render
from salad_eval.pipeline.transcribe import transcribe
from salad_eval.progress import track
from salad_eval.speakable import to_spoken
from salad_eval.tts.espeak import parse_voice
from salad_eval.types import CLEAN, Rendering, Transcript
from salad_train.model.audio_encoders import first_places
from salad_train.nano.base import batches
from salad_train.nano.world import EVALUATION_VOICES, TRAINING_VOICES, Document, Question
from salad_train.training.optim import CombinedOptimizer, ParameterGroup, make_optimizer
from salad_train.training.precision import autocast
from salad_train.training.saving import save_float16

BLANK, UNKNOWN = "<pad>", "<unk>"  # the CTC blank is the padding token, as in every transformers CTC model
TTS = "pyttsx3"
USUAL_RATE, USUAL_PITCH = 175, 50  # of a voice that states none; the plug-in's defaults


@dataclass(frozen=True, slots=True)
class AsrPlan:
    """What the ASR hears, its size and its training."""

    seed: int = 0
    # What it hears.
    n_sentences: int = 15_000
    max_words: int = 16
    mentions: int = 6  # every word of the corpus is heard in so many sentences, where it stands in so many
    voices: tuple[str, ...] = TRAINING_VOICES
    rates: tuple[int, ...] = (0, -15, 15)  # each voice also speaks this much faster or slower, in words a minute
    pitches: tuple[int, ...] = (0, 8, -8)  # and higher or lower, on espeak-ng's scale; paired with ``rates``
    # Its size.
    vocab_size: int = 384
    mel_bins: int = 64
    hidden_size: int = 144
    intermediate_size: int = 432
    layers: int = 4
    heads: int = 4
    subsampling_factor: int = 4  # 100 mel frames a second become 25 encoder frames
    subsampling_channels: int = 16
    conv_kernel_size: int = 9
    # Its training.
    epochs: int = 3
    seconds_per_batch: float = 40.0  # of speech, padding included
    muon_lr: float = 0.02
    adamw_lr: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.08  # share of the steps
    dropout: float = 0.0
    middle_loss: float = 0.5  # share of the loss that is taken at the middle layer
    middle_vocab_size: int = 80  # there, hardly more than the characters: CTC aligns these sooner than longer pieces
    time_masks: int = 1  # a sentence, each up to ``time_mask_frames`` mel frames of 10 ms
    time_mask_frames: int = 8
    mel_masks: int = 1
    mel_mask_bins: int = 6


# --- what it hears ---------------------------------------------------------------------------------------------------


def sentences_of(document: Document) -> list[str]:
    """The sentences of a document as they would be said: the statements of prose, or the question of a question and answer."""
    question, found, _ = document.text.removeprefix("Question: ").partition("\nAnswer: ")
    if found:
        return [question]
    return re.split(r"(?<=[.?!]) (?=[A-Z0-9])", document.text)


def choose(sentences: Iterable[str], n: int, mentions: int, rng: np.random.Generator) -> list[str]:
    """``n`` distinct sentences, drawn so that rare words are heard.

    In a random order, a sentence is taken first if it holds a word that the ones taken so far hold fewer than ``mentions``
    times; what room is left is filled in the same order.
    """
    distinct = list(dict.fromkeys(sentences))
    shuffled = [distinct[i] for i in rng.permutation(len(distinct))]
    heard: Counter[str] = Counter()
    needed, others = [], []
    for sentence in shuffled:
        words = set(re.findall(r"\w+", sentence.lower()))
        if min((heard[word] for word in words), default=mentions) < mentions:
            heard.update(words)
            needed.append(sentence)
        else:
            others.append(sentence)
    return (needed + others)[:n]


def cast(sentences: Sequence[str], plan: AsrPlan, rng: np.random.Generator) -> list[RenderJob]:
    """Who says what: each sentence once, by a voice drawn at random in one of its rates and pitches.

    Jobs are sorted by voice, which a synthesiser is slow to change.
    """
    speakers = [
        _shifted(voice, rate, pitch)
        for voice in plan.voices
        for rate, pitch in zip(plan.rates, plan.pitches, strict=True)
    ]
    drawn = rng.integers(len(speakers), size=len(sentences))
    jobs = [
        RenderJob(str(k), "sentence", speakers[who], CLEAN, to_spoken(sentence))
        for k, (sentence, who) in enumerate(zip(sentences, drawn, strict=True))
    ]
    return sorted(jobs, key=lambda job: job.voice)


def _shifted(voice: str, rate: int, pitch: int) -> str:
    """A voice that speaks ``rate`` words a minute faster and ``pitch`` steps higher than it does by itself."""
    if not rate and not pitch:
        return voice
    spec = parse_voice(voice)
    name = f"{spec.base}+{spec.variant}" if spec.variant else spec.base
    own_rate = USUAL_RATE if spec.rate is None else spec.rate
    own_pitch = USUAL_PITCH if spec.pitch is None else spec.pitch
    return f"{name},rate={own_rate + rate},pitch={own_pitch + pitch}"


def hear(
    jobs: Sequence[RenderJob], store: AudioStore, extractor: ParakeetFeatureExtractor, workers: int
) -> dict[int, torch.Tensor]:
    """Log-mel features of the rendered jobs by their number: float16, shape (frames, mel bins). What failed is left out."""
    features: dict[int, torch.Tensor] = {}
    ready: list[Rendering] = []

    def extract() -> None:
        ready.sort(key=lambda rendering: rendering.n_samples)
        for k in range(0, len(ready), 16):
            group = ready[k : k + 16]
            inputs = extractor(
                [store.get(rendering.sha256).samples for rendering in group],
                sampling_rate=SAMPLE_RATE_HZ,
                return_tensors="pt",
            )
            lengths = inputs["attention_mask"].sum(-1).tolist()
            for rendering, mel, n in zip(group, inputs["input_features"], lengths, strict=True):
                features[int(rendering.item_id)] = mel[:n].to(torch.float16)
        ready.clear()

    spoken = render(jobs, tts=TTS, tts_options={}, store=store, executor=WorkerProcesses(workers))
    for outcome in track(spoken, "speech for the ASR", total=len(jobs)):
        if isinstance(outcome, Rendering):
            ready.append(outcome)
        if len(ready) == 512:
            extract()
    extract()
    return features


# --- the model -------------------------------------------------------------------------------------------------------


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> ParakeetTokenizer:
    """BPE over the written sentences; the blank has id 0. No piece goes across a space."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BLANK, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return ParakeetTokenizer(tokenizer_object=tokenizer, pad_token=BLANK, unk_token=UNKNOWN)


def build_processor(texts: Sequence[str], plan: AsrPlan) -> ParakeetProcessor:
    """Feature extractor and tokenizer of the ASR."""
    extractor = ParakeetFeatureExtractor(feature_size=plan.mel_bins, sampling_rate=SAMPLE_RATE_HZ)
    return ParakeetProcessor(extractor, train_tokenizer(texts, plan.vocab_size), decoder_type="ctc")


def build_model(tokenizer: ParakeetTokenizer, plan: AsrPlan) -> ParakeetForCTC:
    """A randomly initialised model; its initial weights are a function of torch's generator, which the caller seeds."""
    encoder = ParakeetEncoderConfig(
        hidden_size=plan.hidden_size,
        intermediate_size=plan.intermediate_size,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_mel_bins=plan.mel_bins,
        subsampling_factor=plan.subsampling_factor,
        subsampling_conv_channels=plan.subsampling_channels,
        conv_kernel_size=plan.conv_kernel_size,
        dropout=plan.dropout,
        activation_dropout=plan.dropout,
        attention_dropout=plan.dropout,
        layerdrop=0.0,
        initializer_range=1 / math.sqrt(plan.hidden_size),
        scale_input=False,
    )
    config = ParakeetCTCConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, encoder_config=encoder)
    # The fused CPU kernel is slower in training, on sequences as short as these.
    model: ParakeetForCTC = ParakeetForCTC._from_config(config, attn_implementation="eager")
    return model


# --- training --------------------------------------------------------------------------------------------------------


def train_asr(
    documents: Sequence[Document], out: Path, plan: AsrPlan, *, store: AudioStore, workers: int = 2
) -> dict[str, float]:
    """Train the ASR on sentences of ``documents`` and save it with its processor to ``out``. Returns what was measured.

    Speech comes from ``store`` where it was made before; ``workers`` processes make the rest.
    """
    began = time.monotonic()
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng([plan.seed, 31])
    every = [s for document in documents for s in sentences_of(document) if len(s.split()) <= plan.max_words]
    sentences = choose(every, plan.n_sentences, plan.mentions, rng)
    processor = build_processor(sentences, plan)
    features = hear(cast(sentences, plan, rng), store, processor.feature_extractor, workers)
    prepared = time.monotonic()
    model = build_model(processor.tokenizer, plan)
    steps, final_loss = _fit(model, processor.tokenizer, {sentences[k]: mel for k, mel in features.items()}, plan, rng)
    save_float16(model, processor, out)
    n_frames = sum(len(mel) for mel in features.values())
    return {
        "parameters": float(model.num_parameters()),
        "sentences": float(len(features)),
        "hours_of_speech": n_frames * processor.feature_extractor.hop_length / SAMPLE_RATE_HZ / 3600,
        "steps": float(steps),
        "final_loss_nats": final_loss,
        "seconds_of_synthesis": prepared - began,
        "seconds": time.monotonic() - began,
    }


def optimizer_for(model: ParakeetForCTC, middle_head: torch.nn.Linear, plan: AsrPlan) -> CombinedOptimizer:
    """Muon for the matrices of the Conformer blocks, AdamW for everything else."""
    layers = model.encoder.layers.named_parameters()
    matrices = [p for name, p in layers if p.ndim == 2 and "bias" not in name]
    taken = set(map(id, matrices))
    others = [p for p in (*model.parameters(), *middle_head.parameters()) if id(p) not in taken]
    return make_optimizer(
        [
            ParameterGroup(matrices, plan.muon_lr, plan.weight_decay, "muon"),
            ParameterGroup(others, plan.adamw_lr, plan.weight_decay),
        ],
        betas=(0.9, 0.98),
        fused=True,
    )


def _fit(
    model: ParakeetForCTC,
    tokenizer: ParakeetTokenizer,
    features: Mapping[str, torch.Tensor],
    plan: AsrPlan,
    rng: np.random.Generator,
) -> tuple[int, float]:
    """Train in place on features by sentence; the number of steps and the mean CTC loss of the last hundred (nats a token).

    Part of the loss is taken at the middle layer, on characters, through a head that only training has (hierarchical CTC,
    Sanabria and Metze 2018). It finds the alignment, on which the pieces of the last layer then build: alone they take
    several times as long, and characters alone misspell.
    """
    sentences, mels = list(features), list(features.values())
    characters = train_tokenizer(sentences, plan.middle_vocab_size)
    final_labels, middle_labels = (_Labels(of, sentences) for of in (tokenizer, characters))
    middle_head = torch.nn.Linear(plan.hidden_size, len(characters))
    optimizer = optimizer_for(model, middle_head, plan)
    frames_per_batch = int(plan.seconds_per_batch * 100)
    lengths = [len(mel) for mel in mels]
    schedule = [batch for _ in range(plan.epochs) for batch in batches(lengths, frames_per_batch, rng)]
    warmup = int(plan.warmup * len(schedule))
    scheduler = get_scheduler("cosine", optimizer, warmup, len(schedule))
    model.train()
    losses: list[float] = []
    for index in track(schedule, "ASR"):
        inputs, mask = _pad([mels[i] for i in index])
        _mask_spans(inputs, mask.sum(-1).tolist(), plan, rng)
        with autocast(model.device, bf16=True):
            encoded = model.encoder(inputs, attention_mask=mask, output_hidden_states=True)
            final_logits = model.ctc_head(encoded.last_hidden_state)
            middle_logits = middle_head(encoded.hidden_states[plan.layers // 2])
        n_frames = encoded.attention_mask.sum(-1)
        final = final_labels.loss(final_logits, n_frames, index)
        middle = middle_labels.loss(middle_logits, n_frames, index)
        ((1 - plan.middle_loss) * final + plan.middle_loss * middle).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(final.detach()))
    model.eval()
    return len(schedule), float(np.mean(losses[-100:]))


class _Labels:
    """Sentences as the ids of one tokenizer, and the CTC loss of logits against them."""

    def __init__(self, tokenizer: ParakeetTokenizer, sentences: Sequence[str]) -> None:
        self._ids = [torch.tensor(ids) for ids in tokenizer(list(sentences))["input_ids"]]
        self._blank = tokenizer.pad_token_id

    def loss(self, logits: torch.Tensor, n_frames: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        """Mean over sentences of the loss a token (nats). logits: (n, frames, vocabulary)."""
        ids = [self._ids[i] for i in index]
        return torch.nn.functional.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),
            torch.cat(ids),
            n_frames,
            torch.tensor([len(row) for row in ids]),
            blank=self._blank,
            zero_infinity=True,
        )


def _pad(features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features as float32, shape (n, longest, bins), zero beyond each end, and the mask of what is real."""
    inputs = torch.nn.utils.rnn.pad_sequence([mel.float() for mel in features], batch_first=True)
    lengths = torch.tensor([len(mel) for mel in features])
    return inputs, first_places(lengths, inputs.shape[1])


def _mask_spans(inputs: torch.Tensor, lengths: Sequence[int], plan: AsrPlan, rng: np.random.Generator) -> None:
    """SpecAugment (Park et al. 2019) in place: spans of time and of mel bins become zero, the mean of normalised features."""
    for row, n in zip(inputs, lengths, strict=True):
        for _ in range(plan.time_masks):
            width = int(rng.integers(plan.time_mask_frames + 1))
            start = int(rng.integers(max(1, n - width)))
            row[start : start + width] = 0.0
        for _ in range(plan.mel_masks):
            width = int(rng.integers(plan.mel_mask_bins + 1))
            start = int(rng.integers(row.shape[1] - width + 1))
            row[:, start : start + width] = 0.0


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AsrFigures:
    """Word error rates (fractions, over all words) on questions and in voices that were not heard in training."""

    wer: float
    wer_by_domain: dict[str, float]
    wer_by_voice: dict[str, float]
    n_words: int
    seconds_of_speech: float
    seconds: float  # of transcription, reading the sound included


def measure_asr(
    pretrained: str,
    questions: Sequence[Question],
    *,
    store: AudioStore,
    voices: Sequence[str] = EVALUATION_VOICES,
    workers: int = 2,
) -> AsrFigures:
    """Speak ``questions`` in ``voices`` and transcribe them, through the code that any user's benchmark goes through."""
    domains = {question.id: question.domain for question in questions}
    jobs = [RenderJob(q.id, "question", voice, CLEAN, to_spoken(q.question)) for voice in voices for q in questions]
    outcomes = render(jobs, tts=TTS, tts_options={}, store=store, executor=WorkerProcesses(workers))
    renderings = [outcome for outcome in outcomes if isinstance(outcome, Rendering)]
    asr = TransformersCTC(pretrained)
    began = time.monotonic()
    heard = [o for o in transcribe(renderings, asr, store, answers={}) if isinstance(o, Transcript)]
    seconds = time.monotonic() - began
    if not heard:
        raise AudioError(
            f"none of {len(jobs)} questions could be spoken and heard. To see what is missing: salad doctor"
        )
    return AsrFigures(
        wer=_wer(heard),
        wer_by_domain=_wer_by(heard, lambda transcript: domains[transcript.item_id]),
        wer_by_voice=_wer_by(heard, lambda transcript: transcript.voice),
        n_words=sum(transcript.n_words for transcript in heard),
        seconds_of_speech=sum(rendering.seconds for rendering in renderings),
        seconds=seconds,
    )


def _wer(heard: Iterable[Transcript]) -> float:
    counts = [(transcript.word_errors, transcript.n_words) for transcript in heard]
    return sum(errors for errors, _ in counts) / sum(words for _, words in counts)


def _wer_by(heard: Sequence[Transcript], name: Callable[[Transcript], str]) -> dict[str, float]:
    groups: dict[str, list[Transcript]] = defaultdict(list)
    for transcript in heard:
        groups[name(transcript)].append(transcript)
    return {group: _wer(groups[group]) for group in sorted(groups)}
