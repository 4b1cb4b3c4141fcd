"""The records that cross the seams between steps. Frozen, plain, and without anything that can be derived.

Accuracies and gaps are fractions in [0, 1]. What is missing is ``None`` with a reason beside it, never 0, -1 or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

    from salad_eval.gap.items import HeardItem

InputForm = Literal["text", "transcript", "speech"]
ColumnName = Literal["base_text", "base_transcript", "adapted_text", "adapted_speech"]
COLUMNS: tuple[ColumnName, ...] = ("base_text", "base_transcript", "adapted_text", "adapted_speech")
COLUMN_FORM: Mapping[ColumnName, InputForm] = {
    "base_text": "text",
    "base_transcript": "transcript",
    "adapted_text": "text",
    "adapted_speech": "speech",
}
CLEAN = "clean"  # the perturbation that changes nothing
Rendered: TypeAlias = tuple[str, str]  # voice, perturbation
# How answers are asked for and scored; ``score`` says what each is.
ScoreKind = Literal[
    "ll", "ll_norm", "ll_bytes", "ll_mutual_info", "lm_eval_ll",
    "generate", "exact_match", "f1", "numeric", "numeric_last", "yes_no", "lm_eval",
]  # fmt: skip
# Options are compared; under the others an answer is generated.
LOGPROB_SCORES: tuple[ScoreKind, ...] = ("ll", "ll_norm", "ll_bytes", "ll_mutual_info", "lm_eval_ll")
OWN_SCORES: tuple[ScoreKind, ...] = (
    "lm_eval",
    "lm_eval_ll",
)  # by the task's own filters and metrics, which lm-eval runs


# --- items -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpokenPart:
    """A span of ``Item.context`` that is spoken under speech input: ``context[start:end]`` in characters."""

    name: str
    start: int
    end: int


Role = Literal["system", "user", "assistant"]  # of a message in a chat


@dataclass(frozen=True, slots=True)
class Turn:
    """A span of ``Item.context`` that is one message of a chat: ``context[start:end]`` in characters.

    What stands between two turns (a delimiter) is written in plain form and left out of a chat, as in lm-eval.
    """

    role: Role
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """A span of ``Item.context`` that is one of several endings of the prompt: ``context[start:end]`` in characters."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Ready sound of a spoken part of an item: where it lies, who speaks, and what was done to it already.

    ``file`` is an audio file, or a Parquet or Arrow table that holds one in ``column`` of row ``row`` (from 0).
    ``spoken_text`` is what is said in it; ``None``: the written form made speakable; empty: not known in words.
    """

    part: str
    voice: str
    perturbation: str
    spoken_text: str | None
    file: str
    column: str | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark question, as lm-eval would score it, plus which spans of its context can be spoken.

    ``choices`` are the options without ``target_delimiter`` (empty under ``generate``); ``gold`` indexes them, and so do further
    options that count as right as well (``also_gold``).
    ``answers`` are the accepted strings under ``generate``. ``group`` is the resampling unit (a passage, or the item itself).
    ``fields`` are further columns of the row that a report may slice by. ``recordings``: ready sound of every spoken part; an
    item that has any is never spoken by a TTS.

    ``turns``: the messages of the context where it is asked in a chat; none: all of it is one of the user's. There
    ``chat_delimiter`` stands before an option, and ``system_delimiter`` between a system's own instruction and the task's description.
    ``alternatives``: the item has one prompt for each option and one ``ending`` after all of them (WinoGrande): prompt ``k`` is the
    context up to the first alternative, and alternative ``k``. ``row``: the row as JSON where the task's own scoring reads it.
    """

    id: str
    task: str
    split: str
    domain: str
    context: str
    choices: tuple[str, ...]
    gold: int | None
    group: str
    spoken_parts: tuple[SpokenPart, ...]
    target_delimiter: str = " "
    answers: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    recordings: tuple[Recording, ...] = ()
    also_gold: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    ending: str | None = None
    row: str = ""
    chat_delimiter: str = ""
    system_delimiter: str = "\n\n"

    @property
    def golds(self) -> tuple[int, ...]:
        """Every option that counts as right."""
        return () if self.gold is None else (self.gold, *self.also_gold)

    @property
    def continuations(self) -> tuple[str, ...]:
        """The option strings that are scored after a prompt, delimiter included."""
        endings = self.choices if self.ending is None else (self.ending,)
        return tuple(self.target_delimiter + ending for ending in endings)

    def part_text(self, part: SpokenPart) -> str:
        """The written form of a spoken part."""
        return self.context[part.start : part.end]


@dataclass(frozen=True, slots=True)
class Reject:
    """Something that was left out, by which step and why. Counted in every report."""

    item_id: str
    step: str
    reason: str
    detail: str = ""


# --- speech ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound: float32 samples in [-1, 1], shape (n_samples,)."""

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Rendering:
    """A spoken part of an item in one voice: what was said, and the sha256 under which the store keeps the sound.

    ``spoken_text`` is empty where a recording's words are not known; it then has no word errors.
    """

    item_id: str
    part: str
    voice: str
    perturbation: str
    spoken_text: str
    sha256: str
    sample_rate_hz: int
    n_samples: int

    @property
    def seconds(self) -> float:
        return self.n_samples / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an ASR heard in one rendering, with raw error counts against the spoken text (both normalised)."""

    item_id: str
    part: str
    voice: str
    perturbation: str
    asr: str
    text: str
    word_errors: int
    n_words: int
    char_errors: int
    n_chars: int
    answer_word_heard: bool | None = None  # None: no answer-bearing word in this part

    @property
    def wer(self) -> float | None:
        return self.word_errors / self.n_words if self.n_words else None

    @property
    def cer(self) -> float | None:
        return self.char_errors / self.n_chars if self.n_chars else None


# --- systems ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Text in a prompt. ``role``: whose message it belongs to in a chat; ``None``: a delimiter, which plain form alone has."""

    text: str
    role: Role | None = "user"


@dataclass(frozen=True, slots=True)
class AudioSegment:
    """Sound in a prompt. ``sha256`` names the waveform, so that equal audio is encoded once."""

    audio: Audio
    sha256: str


Segment = TextSegment | AudioSegment


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt of text and audio segments in order, and the continuations whose log-probabilities are asked for.

    Each continuation begins with ``target_delimiter``, which plain form has between prompt and option and a chat has not; it has
    ``chat_delimiter``. For ``system_delimiter`` see ``Item``. A request without any prompt asks for the continuations by themselves,
    after no chat template either.
    """

    item_id: str
    prompt: tuple[Segment, ...]
    continuations: tuple[str, ...] = ()
    target_delimiter: str = ""
    chat_delimiter: str = ""
    system_delimiter: str = "\n\n"

    @property
    def chat_continuations(self) -> tuple[str, ...]:
        """The continuations as they stand after a chat template."""
        n = len(self.target_delimiter)
        return tuple(self.chat_delimiter + continuation[n:] for continuation in self.continuations)

    @property
    def has_audio(self) -> bool:
        return any(isinstance(segment, AudioSegment) for segment in self.prompt)

    @property
    def text(self) -> str:
        """The text segments joined; what a text-only model would read."""
        return "".join(segment.text for segment in self.prompt if isinstance(segment, TextSegment))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a plug-in gave nothing for what it was asked: a reason that can be counted, and what happened."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What a system said of one item in one input form: either option log-probabilities (nats, summed over tokens) or a text.

    Under ``ll_mutual_info`` the options' log-probabilities by themselves follow those after the prompt.

    ``voice`` and ``perturbation`` are ``None`` where the item was read as written. ``failure``: why there is neither.
    """

    item_id: str
    column: ColumnName
    input_form: InputForm
    voice: str | None
    perturbation: str | None
    choice_logprobs: tuple[float, ...] | None = None
    text: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """1.0 right, 0.0 wrong, between them partly right (``f1``), or ``None`` with a reason.

    ``predicted`` is the chosen option; ``parsed`` is false where a generation held no answer. ``metrics``: what else the task's own
    scoring measured of the answer, by name.
    """

    item_id: str
    column: ColumnName
    voice: str | None
    perturbation: str | None
    value: float | None
    reason: str = ""
    predicted: int | None = None
    parsed: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL divergences in nats, summed over ``n_positions`` scored text positions of one item in one rendering (PAPER: F, M, D)."""

    item_id: str
    voice: str
    perturbation: str
    n_positions: int
    forgetting: float
    misalignment: float
    distillation: float


# --- the gap report --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval; ``n`` is the number of items it rests on."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class DivergenceRates:
    """Mean KL in nats per scored text position."""

    forgetting: float
    misalignment: float
    distillation: float
    n_positions: int


@dataclass(frozen=True, slots=True)
class Power:
    """What a row could have shown. ``visible_gap``: the smallest gap, a fraction, that its test finds four times in five (``None``: not
    even one of 1); ``n_items_needed``: items for an interval of 5 points to either side.
    """

    visible_gap: float | None
    n_items_needed: int


@dataclass(frozen=True, slots=True)
class GapRow:
    """One row of the report: a domain, a slice, or everything. ``None`` where a measure was not taken: forgetting and
    misalignment without the column adapted_text, cascade_loss without base_transcript.

    ``consistency``: how often the adapted model chooses by ear what it chooses in reading. ``tasks``: whose items it holds.
    """

    name: str
    n_items: int
    n_groups: int
    accuracy: Mapping[ColumnName, Estimate]
    gap: Estimate
    forgetting: Estimate | None
    misalignment: Estimate | None
    cascade_loss: Estimate | None
    p_value: float | None
    q_value: float | None
    shrunk_gap: float | None
    wer: float | None
    divergence_nats: DivergenceRates | None
    taxonomy: Mapping[str, float]  # share of items by cause: see gap.TAXONOMY
    consistency: Estimate | None = None
    power: Power | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The same measures over a part of the data: ``field`` is ``voice``, ``condition`` or an item field."""

    field: str
    row: GapRow


@dataclass(frozen=True, slots=True)
class ConditionRows:
    """Everything, each domain and, of several, each task in one acoustic condition alone."""

    condition: str
    overall: GapRow
    domains: tuple[GapRow, ...]
    tasks: tuple[GapRow, ...] = ()


@dataclass(frozen=True, slots=True)
class GridCell:
    """One voice in one condition. ``from_clean``: spoken columns less their own values in the clean condition, paired by item; empty
    in the clean condition and where there is none.
    """

    voice: str
    condition: str
    row: GapRow
    from_clean: Mapping[ColumnName, Estimate]


@dataclass(frozen=True, slots=True)
class RunNames:
    """What a run and its models are called by whoever ran it; empty where that is not known."""

    run: str = ""
    base: str = ""
    adapted: str = ""
    asr: str = ""


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """The prompt of one item in a column, as the system got it; sound stands in it as a mark of its length."""

    column: ColumnName
    item_id: str
    text: str
    continuations: tuple[str, ...]


ControlName = Literal["floor", "silent", "swapped"]


@dataclass(frozen=True, slots=True)
class ControlRow:
    """What a system answers that was never asked the question: with the spoken parts left out (``floor``), with as much silence in
    their place (``silent``), with the sound of another item (``swapped``).

    ``column``: which column it is held against; ``domain``: empty for all items. ``above``: that column less the control, on the items
    and in the condition of the control.
    """

    control: ControlName
    column: ColumnName
    domain: str
    accuracy: Estimate
    above: Estimate


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Which system stands in a column, reading what."""

    name: ColumnName
    system: str
    input_form: InputForm
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RejectCount:
    step: str
    reason: str
    n: int
    domains: Mapping[str, int]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskProtocol:
    """How a task was asked; printed in every report.

    ``metric``: which of lm-eval's measures counts, where the task's own scoring has several. ``not_computed``: measures that the task
    names and that are not taken here.
    """

    task: str
    split: str
    data_revision: str
    speak: str
    shots: int
    spoken_shots: bool
    score: ScoreKind
    domain_field: str
    n_items: int
    options: Literal["none", "lettered"] = "none"  # lettered: listed in the prompt by us, in every column
    metric: str = ""
    not_computed: tuple[str, ...] = ()
    n_rows: int = 0  # of the split, of which n_items were taken; 0 where it is not known
    gated: bool = False  # its rows are given to those alone who ask: no page shows them unless told to


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How much of what was to be asked is in no column.

    ``n_unusable`` of ``n_rows`` rows could not be items, and ``n_lost`` of ``n_items`` items, which may be a sample of the others, were
    rejected later. ``most``: the share, in [0, 1], above which the report has no headline, since what is left out can bias a gap.
    """

    n_rows: int
    n_unusable: int
    n_items: int
    n_lost: int
    most: float

    @property
    def share(self) -> float:
        """Of all that was to be asked, in [0, 1]."""
        unusable = self.n_unusable / self.n_rows if self.n_rows else 0.0
        lost = self.n_lost / self.n_items if self.n_items else 0.0
        return unusable + lost - unusable * lost


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of a model: those it was given (prompts, sound's positions among them, and options that were scored), and those it wrote."""

    read: float
    written: float


@dataclass(frozen=True, slots=True)
class ColumnCost:
    """What a column took; ``None`` where that was not noted.

    ``seconds``: a question, by the clock of the machine that ran it, several at a time, loading included; the cascade's with its ASR.
    ``sound_seconds``: heard in all, 0.0 where the column reads. ``tokens``: in all, where its system counts them. ``money``: for all of
    it, where the plan states prices and what they are for was counted.
    """

    column: ColumnName
    n_questions: int
    seconds: float | None
    sound_seconds: float
    tokens: Tokens | None
    money: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """``currency``: of the plan's prices; empty where it states none."""

    columns: tuple[ColumnCost, ...]
    currency: str = ""


@dataclass(frozen=True, slots=True)
class GapReport:
    schema_version: str
    signature: str
    created: str
    split: str
    seed: int
    n_resamples: int
    protocols: tuple[TaskProtocol, ...]
    columns: tuple[ColumnSpec, ...]
    overall: GapRow
    domains: tuple[GapRow, ...]
    slices: tuple[SliceRow, ...]
    rejects: tuple[RejectCount, ...]
    unparsed: Mapping[ColumnName, int]
    notes: tuple[str, ...]
    generated: Mapping[ColumnName, int] = field(
        default_factory=dict
    )  # answers that were read from a text; of these: unparsed
    names: RunNames = RunNames()
    voices: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()  # clean first
    by_condition: tuple[ConditionRows, ...] = ()  # where there are several
    grid: tuple[GridCell, ...] = ()  # where there are several voices or conditions
    prompts: tuple[ShownPrompt, ...] = ()
    left_out: LeftOut | None = None  # None in reports of before it was counted
    controls: tuple[ControlRow, ...] = ()  # all items first, then domains by name
    folder: str = field(default="", compare=False)  # of the run; where it is known, and in no file
    # In a file of their own: with the clock in them they are another at each run, and a report is the same to the byte.
    costs: Costs | None = field(default=None, compare=False)

    # What a notebook asks of a report; the views are imported when they are asked for.

    def __repr__(self) -> str:
        from salad_eval.report.notebook import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from salad_eval.report.notebook import html

        return html(self)

    def to_pandas(self) -> DataFrame:
        """A row a domain and one of all items, a column a measure; intervals are columns ``….low`` and ``….high``. In fractions."""
        from salad_eval.report.notebook import frame

        return frame(self)

    @property
    def items(self) -> list[HeardItem]:
        """The run's items, one entry a rendering. Raises ``DataError`` where the report is not that of a run folder."""
        from salad_eval.pipeline.finished import items_of

        return items_of(self)


# --- plug-in protocols -----------------------------------------------------------------------------------------------


@runtime_checkable
class TTS(Protocol):
    """Text to speech. ``voice`` is an engine's voice name, optionally with settings: ``en-us+f3,rate=150,pitch=60``."""

    def fingerprint(self) -> str: ...

    def voices(self) -> list[str]: ...

    def speak(self, text: str, voice: str) -> Audio: ...


@runtime_checkable
class ASR(Protocol):
    """Speech to text, one string a recording."""

    def fingerprint(self) -> str: ...

    def transcribe(self, audios: Sequence[Audio]) -> list[str]: ...


@runtime_checkable
class System(Protocol):
    """A language model that reads text or hears speech.

    Given audio it cannot hear, or asked to hear where no audio came, it raises ``ModelError`` rather than answer from text alone. One
    that hears recordings of a certain length at most says so as ``max_audio_seconds``; longer ones are then left out before it is asked.
    """

    def fingerprint(self) -> str: ...

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation of each request."""
        ...

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Greedy continuation of each prompt, cut before the first stop string."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A system with an ASR in it, which need not hear again what that ASR has heard."""

    def already_heard(self, asr: str, texts: Mapping[str, str]) -> None:
        """``texts`` (sha256 of the sound → text) are what the ASR of the fingerprint ``asr`` wrote; of no use where it is another."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A system that counts the tokens that its model reads and writes."""

    def tokens(self) -> Tokens | None:
        """All since it was built; ``None`` where what it asks does not say."""
        ...


@runtime_checkable
class Distributional(Protocol):
    """A system that also gives its next-token distributions, for the divergences F, M and D."""

    def tokenizer_fingerprint(self) -> str: ...

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """For each request and continuation: log-probabilities (nats), float32, shape (n_continuation_tokens, vocabulary).

        Row ``t`` is the distribution from which continuation token ``t`` is drawn.
        """
        ...
