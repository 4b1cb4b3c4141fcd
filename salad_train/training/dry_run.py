"""The trainer ``dry_run``: what Stage II would read, for how long and at what price, without any weights.

Everything that does not depend on sound is exact: the documents, their cuts and voices, the shares of the sources. How long a span sounds
is not known before it is spoken; it is estimated from its length, and with it the number of audio positions, what goes
into a batch together, and the cost.

Cost in floating-point operations (one multiply-add counts as two):

- 2·N forward and 4·N backward for each position that N parameters read (Kaplan et al. 2020, *Scaling laws for neural language models*,
  arXiv 2001.08361, §2.1), embeddings left out; a frozen matrix costs 2·N backward, since gradients pass through it to the adapter, but
  none are formed for it;
- attention over T positions, in L layers of H heads of width Q, adds 4·L·H·Q·T a position forward and 8·L·H·Q·T backward
  (Chowdhery et al. 2022, *PaLM*, arXiv 2204.02311, appendix B);
- the output head is read at scored positions alone.

So a step of student (LM and adapter) and frozen teacher costs

    LM        (6 or 4)·N_lm + 12·A_lm·T       a padded position
    adapter   6·N_adapter + 12·A_adapter·T_a  a padded audio position
    teacher   2·N_base + 4·A_base·T_t         a padded position of the pure text
    heads     (6 or 4)·V·d + 2·V·d_base       a scored position

with A = L·H·Q, and the encoder 2·N_encoder a frame, once for each distinct second of sound. LoRA's own matrices are left out
(they are some thousandths of N). Padding is counted: it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from salad_eval.errors import ModelError, UserInputError
from salad_eval.progress import track
from salad_eval.records import write_atomic, write_json, write_jsonl
from salad_train.training.selected import check_selected
from salad_train.types import Selection

if TYPE_CHECKING:
    from salad_train.model import SaladConfig, SaladProcessor
    from salad_train.speech.interleave import DocumentLike, Interleaved
    from salad_train.training.batches import Batch, Example
    from salad_train.training.frames import FrameStore
    from salad_train.training.stage_plan import Stage2Plan
    from salad_train.training.stages import SpeechSource, Stage2Data
from salad_train.training.cost import (
    Cost,
    Flops,
    Reading,
    Sizes,
    frames_per_second,
    open_configuration,
    sizes_of,
    training_flops,
)

# Read-aloud English is about 150 to 180 words a minute, 5 to 6 characters a word with its space.
CHARACTERS_PER_SECOND = 15.0
DOCUMENTS_FILE, SUMMARY_JSON, SUMMARY_MD = "documents.jsonl", "summary.json", "summary.md"

Source = Literal["selected", "natural", "replay"]


@dataclass(frozen=True, slots=True)
class DryRunSpan:
    """``seconds``: estimated sound of a span that is heard; ``None`` for one that is read."""

    text: str
    modality: Literal["text", "speech"]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class DryRunDocument:
    """A line of ``documents.jsonl``: a selected document in one of its cuts, as it would be read.

    Attributes:
        text_tokens: of its text spans. scored: positions that the loss is taken at. audio_positions: estimated.
        times_read: how often the training would come to it.
    """

    document_id: str
    domain: str
    cluster: int
    weight: float
    cut: int
    voice: str
    spans: tuple[DryRunSpan, ...]
    seconds: float
    text_tokens: int
    audio_positions: int
    scored: int
    times_read: int


@dataclass(frozen=True, slots=True)
class Amount:
    """What is read of a domain in one source, repetitions included. ``documents``: there are; ``distinct_hours``: sound in them."""

    source: Source
    domain: str
    documents: int
    hours: float
    distinct_hours: float
    text_tokens: int
    scored: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``summary.json`` holds. ``positions``: the student's, padding included; ``text_tokens`` and ``scored`` without.
    ``left_out``: cuts of documents that are too short to hold text and speech."""

    selection: str
    init: str
    base: str
    steps: int
    micro_batches: int
    positions: int
    text_tokens: int
    scored: int
    hours: float
    amounts: tuple[Amount, ...]
    left_out: int
    flops: Flops
    total_flops: float
    cost: Cost
    assumptions: tuple[str, ...]


class DryRun:
    """Writes what would be trained on, and what it would cost; no weights are loaded and nothing is spoken.

    Args:
        tokens_per_second: positions (padded) that one GPU trains on in a second, as measured; decides the GPU-hours where given.
        peak_tflops: a GPU's peak in 10¹² operations a second (bf16, dense), which is reached to the share ``mfu``: decides otherwise.
        mfu: model FLOPs utilisation, in (0, 1].
        gpus: how many share the work.
        price_per_gpu_hour: in ``currency``.
    """

    def __init__(
        self,
        tokens_per_second: float | None = None,
        peak_tflops: float | None = None,
        mfu: float = 0.4,
        gpus: int = 1,
        price_per_gpu_hour: float | None = None,
        currency: str = "USD",
    ) -> None:
        for name, value in (("tokens_per_second", tokens_per_second), ("peak_tflops", peak_tflops)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserInputError(f"{name} is {value}; expected more than 0.")
        if not 0 < mfu <= 1 or gpus < 1:
            raise UserInputError(f"mfu is {mfu}, gpus is {gpus}; expected a share in (0, 1] and at least 1.")
        if price_per_gpu_hour is not None and not (math.isfinite(price_per_gpu_hour) and price_per_gpu_hour >= 0):
            raise UserInputError(f"price_per_gpu_hour is {price_per_gpu_hour}; expected 0 or more.")
        self.tokens_per_second, self.peak_tflops, self.mfu, self.gpus = tokens_per_second, peak_tflops, mfu, gpus
        self.price_per_gpu_hour, self.currency = price_per_gpu_hour, currency

    def fingerprint(self) -> str:
        return f"dry_run(salad-gap {version('salad-gap')})"

    def fit(self, plan: Stage2Plan, selection: Selection, data: Stage2Data, out: Path) -> Path:
        """Write ``documents.jsonl``, ``summary.json`` and ``summary.md`` to ``out``, and return it."""
        from salad_train.training.stages import heard_again, texts_of

        check_selected(selection, data)
        out = Path(out)
        config, processor = open_configuration(plan.init)
        sizes = sizes_of(config, plan.base)
        cut = _cut(data.selected, plan, processor)
        timing = _Timing.of(selection, data, cut, config, processor)
        selected = _laid_out("selected", cut, plan, processor, timing)
        natural: tuple[_Laid, ...] = ()
        n_natural = 0
        if data.natural is not None and plan.natural_share > 0:
            again = heard_again(data.natural, plan)
            n_natural = len(again.documents)
            natural = _laid_out("natural", _cut(again, plan, processor), plan, processor, timing)
        replay = [
            _Laid("replay", f"replay:{k}", document.domain, 0, "", None, example)
            for k, (document, example) in enumerate(_replayed(data.replay, texts_of, processor, plan))
        ]
        reading = read_through(selected, natural, replay, plan, config.stack_frames)
        chosen = {one.document.id: one for one in selection.documents}
        write_jsonl(
            out / DOCUMENTS_FILE,
            (_document(laid, chosen[laid.document_id], timing, reading) for laid in selected),
        )
        n_cuts = plan.cuts * (len(data.selected.documents) + n_natural)
        summary = self._summary(plan, selection, (*selected, *natural, *replay), reading, sizes, timing, n_cuts)
        write_json(out / SUMMARY_JSON, summary)
        write_atomic(out / SUMMARY_MD, summary_page(summary))
        return out

    def _summary(
        self,
        plan: Stage2Plan,
        selection: Selection,
        everything: Sequence[_Laid],
        reading: Reading,
        sizes: Sizes,
        timing: _Timing,
        n_cuts: int,
    ) -> Summary:
        amounts = amounts_of(everything, reading, timing)
        heard = math.fsum(amount.hours for amount in amounts)
        distinct = 3600 * math.fsum(amount.distinct_hours for amount in amounts)
        flops = training_flops(
            sizes, reading, trains_lm=plan.train.trains_lm and plan.train.tune == "full",
            encoder_frames=distinct * timing.frames_per_second,
        )  # fmt: skip
        return Summary(
            selection=selection.signature,
            init=plan.init,
            base=plan.base,
            steps=plan.train.steps,
            micro_batches=plan.train.micro_batches,
            positions=reading.positions,
            text_tokens=sum(amount.text_tokens for amount in amounts),
            scored=reading.scored,
            hours=heard,
            amounts=amounts,
            left_out=n_cuts - sum(laid.interleaved is not None for laid in everything),
            flops=flops,
            total_flops=flops.total,
            cost=self._cost(flops.total, reading.positions),
            assumptions=(*timing.assumptions, *self._assumptions(plan)),
        )

    def _cost(self, flops: float, positions: int) -> Cost:
        if self.tokens_per_second is not None:
            gpu_hours: float | None = positions / self.tokens_per_second / 3600
        elif self.peak_tflops is not None:
            gpu_hours = flops / (self.peak_tflops * 1e12 * self.mfu) / 3600
        else:
            gpu_hours = None
        price = None if gpu_hours is None or self.price_per_gpu_hour is None else gpu_hours * self.price_per_gpu_hour
        return Cost(gpu_hours, None if gpu_hours is None else gpu_hours / self.gpus, price, self.currency)

    def _assumptions(self, plan: Stage2Plan) -> Iterator[str]:
        yield (
            "Operations are 2·N forward and 4·N backward a position (2·N backward through what is frozen), plus attention; "
            "embeddings, optimiser, synthesis and saving are left out. One process with the plan's micro-batches."
        )
        if plan.train.gradient_checkpointing:
            yield "Gradient checkpointing computes the forward pass again (a third more): not counted in the operations."
        if self.tokens_per_second is not None:
            yield f"A GPU trains on {self.tokens_per_second:g} padded positions a second, as was stated."
        elif self.peak_tflops is not None:
            yield f"A GPU reaches {self.mfu:.0%} of {self.peak_tflops:g} TFLOP/s, as was stated."
        else:
            yield "GPU-hours are not estimated: give tokens_per_second, or peak_tflops and mfu."
        if self.gpus > 1:
            yield f"{self.gpus} GPUs share the work without loss."


_Cuts = list[tuple[int, "Interleaved"]]


@dataclass(frozen=True, slots=True, eq=False)
class _Laid:
    """A document as an example whose ``document_id`` is ``name``: one cut of one source, told from all others."""

    source: Source
    name: str
    domain: str
    cut: int
    voice: str
    interleaved: Interleaved | None
    example: Example

    @property
    def document_id(self) -> str:
        return self.interleaved.document_id if self.interleaved is not None else ""


@dataclass(frozen=True, slots=True)
class _Timing:
    """How long a text sounds, and how many positions that makes."""

    characters_per_second: float
    frames_per_second: float
    stack_frames: int
    assumptions: tuple[str, ...]

    @classmethod
    def of(
        cls, selection: Selection, data: Stage2Data, cut: _Cuts, config: SaladConfig, processor: SaladProcessor
    ) -> _Timing:
        spoken = sum(len(span.spoken_text) for _, document in cut for span in document.speech)
        ids = {document.id for document in data.selected.documents}
        seconds = math.fsum(chosen.seconds for chosen in selection.documents if chosen.document.id in ids)
        rate = spoken / seconds if seconds > 0 else CHARACTERS_PER_SECOND
        where = "the selection's own estimate" if seconds > 0 else "read-aloud English; the selection states no seconds"
        frames = frames_per_second(config, processor)
        return cls(
            rate,
            frames,
            config.stack_frames,
            (
                f"Speech runs at {rate:.1f} characters a second ({where}), in all sources.",
                f"A second of sound is {frames:g} encoder frames, {config.stack_frames} of which make an audio position.",
            ),
        )

    def seconds(self, text: str) -> float:
        return len(text) / self.characters_per_second

    def frames(self, text: str) -> int:
        return max(1, math.ceil(self.seconds(text) * self.frames_per_second))


def _cut(heard: SpeechSource, plan: Stage2Plan, processor: SaladProcessor) -> _Cuts:
    from salad_train.training.stages import cut_documents

    return cut_documents(heard.documents, processor.tokenizer, plan, heard.preferred)


def _laid_out(
    source: Source, cuts: _Cuts, plan: Stage2Plan, processor: SaladProcessor, timing: _Timing
) -> tuple[_Laid, ...]:
    """As ``stages.speak_documents`` lays documents out, with estimated sound in place of spoken sound."""
    from salad_train.speech.utterances import voice_for
    from salad_train.training.batches import make_example

    laid = []
    for k, (cut, one) in enumerate(cuts):
        frames = [timing.frames(span.spoken_text) for span in one.speech]
        positions = [-(-n // timing.stack_frames) for n in frames]
        # A key says how many frames the recording has: see _NoSound.
        example = make_example(one, [str(n) for n in frames], positions, processor.audio_token_id)
        voice = voice_for(one.document_id, cut, plan.voices, plan.train.seed)
        name = f"{source}:{k}"
        laid.append(_Laid(source, name, one.domain, cut, voice, one, replace(example, document_id=name)))
    return tuple(laid)


def _replayed(
    documents: Sequence[DocumentLike], texts_of: Any, processor: SaladProcessor, plan: Stage2Plan
) -> Iterator[tuple[DocumentLike, Example]]:
    for document in documents:
        for example in texts_of([document], processor, plan):
            yield document, example


class _NoSound:
    """Stands in for a frame store: of a recording, the right number of frames and nothing in them."""

    def get(self, key: str) -> np.ndarray:
        return np.zeros((int(key), 1), dtype=np.float16)


def read_through(
    selected: Sequence[_Laid], natural: Sequence[_Laid], replay: Sequence[_Laid], plan: Stage2Plan, stack_frames: int
) -> Reading:
    """Go through all batches of the training, as the training itself would ask for them."""
    from salad_train.training.stages import Heard, mixed_batches

    store = cast("FrameStore", _NoSound())
    heard = [Heard([one.example for one in selected], store, plan.selected_share)]
    if natural:
        heard.append(Heard([one.example for one in natural], store, plan.natural_share))
    replayed = [replace(one.example, document_id=one.name) for one in replay]
    batches = mixed_batches(heard, replayed, plan)
    sums = np.zeros(7, dtype=np.int64)
    times: dict[str, int] = {}
    for number in track(range(plan.train.steps * plan.train.micro_batches), "reading through"):
        batch = batches(number)
        sums += _counted(batch, stack_frames)
        for name in batch.document_ids:
            times[name] = times.get(name, 0) + 1
    n, squares, audio, audio_squares, teacher, teacher_squares, scored = (int(value) for value in sums)
    return Reading(n, squares, audio, audio_squares, teacher, teacher_squares, scored, times)


def _counted(batch: Batch, stack_frames: int) -> tuple[int, ...]:
    rows, width = batch.input_ids.shape
    texts, teacher_width = batch.teacher_ids.shape
    recordings = audio_width = 0
    if batch.encoder_hidden_states is not None:
        recordings, audio_width = (
            len(batch.encoder_hidden_states),
            -(-batch.encoder_hidden_states.shape[1] // stack_frames),
        )
    n, audio, teacher = rows * width, recordings * audio_width, texts * teacher_width
    return n, n * width, audio, audio * audio_width, teacher, teacher * teacher_width, len(batch.targets)


def _document(laid: _Laid, chosen: Any, timing: _Timing, reading: Reading) -> DryRunDocument:
    one = laid.interleaved
    if one is None:
        raise ModelError(f"{laid.name} was not cut.")
    spans = tuple(
        DryRunSpan(span.text, span.modality, timing.seconds(span.spoken_text) if span.modality == "speech" else None)
        for span in one.spans
    )
    return DryRunDocument(
        document_id=one.document_id,
        domain=one.domain,
        cluster=chosen.cluster,
        weight=chosen.weight,
        cut=laid.cut,
        voice=laid.voice,
        spans=spans,
        seconds=math.fsum(span.seconds or 0.0 for span in spans),
        text_tokens=_text_tokens(laid),
        audio_positions=laid.example.length - _text_tokens(laid),
        scored=len(laid.example.layout.targets),
        times_read=reading.times.get(laid.name, 0),
    )


def _text_tokens(laid: _Laid) -> int:
    if laid.interleaved is None:
        return laid.example.length
    return sum(span.token_end - span.token_start for span in laid.interleaved.spans if span.modality == "text")


def _seconds(laid: _Laid, timing: _Timing) -> float:
    spans = () if laid.interleaved is None else laid.interleaved.speech
    return math.fsum(timing.seconds(span.spoken_text) for span in spans)


def amounts_of(everything: Sequence[_Laid], reading: Reading, timing: _Timing) -> tuple[Amount, ...]:
    """What is read of each source and domain, the sources in their order, the most heard domain first."""
    groups: dict[tuple[Source, str], list[_Laid]] = {}
    replays = any(laid.name in reading.times for laid in everything if laid.source == "replay")
    for laid in everything:
        if laid.source == "replay" and not replays:
            continue  # with a frozen LM there is nothing to replay for
        groups.setdefault((laid.source, laid.domain), []).append(laid)
    found = []
    for (source, domain), members in groups.items():
        times = [reading.times.get(laid.name, 0) for laid in members]
        seconds = [_seconds(laid, timing) for laid in members]
        found.append(
            Amount(
                source,
                domain,
                documents=len({laid.document_id or laid.name for laid in members}),
                hours=math.fsum(n * s for n, s in zip(times, seconds, strict=True)) / 3600,
                distinct_hours=math.fsum(seconds) / 3600,
                text_tokens=sum(n * _text_tokens(laid) for n, laid in zip(times, members, strict=True)),
                scored=sum(n * len(laid.example.layout.targets) for n, laid in zip(times, members, strict=True)),
            )
        )
    order = ("selected", "natural", "replay")
    return tuple(sorted(found, key=lambda a: (order.index(a.source), -a.hours, -a.text_tokens, a.domain)))


def summary_page(summary: Summary) -> str:
    """``summary.md``."""
    cost = summary.cost
    lines = [
        "# Dry run of Stage II",
        "",
        "Nothing was trained or spoken. **Seconds, positions, operations, hours and money are estimates**; their assumptions stand below.",
        "",
        f"- {summary.init} goes on, taught by {summary.base}: {summary.steps} steps, batches a step: {summary.micro_batches}.",
        f"- It reads {summary.positions:,} positions (padding included), {summary.text_tokens:,} text tokens, {summary.scored:,} of them "
        f"scored, and hears {summary.hours:.2f} h of speech (repetitions included).",
        f"- {summary.total_flops:.3g} floating-point operations: "
        + ", ".join(f"{name} {value:.2g}" for name, value in _parts(summary.flops)) + ".",
        f"- {_said(cost.gpu_hours, 'GPU-hours')}, {_said(cost.wall_hours, 'hours')} on the clock, {_said(cost.price, cost.currency)}.",
        f"- {summary.left_out} cuts of documents are too short to hold text and speech, and are left out.",
        "",
        "| source | domain | documents | hours heard | distinct hours | text tokens | scored |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for a in summary.amounts:
        lines.append(
            f"| {a.source} | {a.domain or '–'} | {a.documents:,} | {a.hours:.3f} | {a.distinct_hours:.3f} "
            f"| {a.text_tokens:,} | {a.scored:,} |"
        )
    lines += [
        "",
        "Assumptions:",
        "",
        *(f"- {line}" for line in summary.assumptions),
        "",
        f"Selection: `{summary.selection}`",
        "",
    ]
    return "\n".join(lines)


def _parts(flops: Flops) -> list[tuple[str, float]]:
    return [
        ("LM", flops.lm), ("adapter", flops.adapter), ("teacher", flops.teacher), ("heads", flops.heads), ("encoder", flops.encoder),
    ]  # fmt: skip


def _said(value: float | None, unit: str) -> str:
    return f"{unit} not estimated" if value is None else f"{value:.4g} {unit}"
