"""What a task states: lm-eval's keys and our fields under ``metadata: {salad: {…}}``, as typed records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator

from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.measures import Measures
from salad_eval.benchmarks.requests import GenerationProtocol
from salad_eval.benchmarks.topics import Topics
from salad_eval.errors import UnknownNameError
from salad_eval.types import CLEAN, OWN_SCORES, ScoreKind

Speak = Literal["context", "context+choices", "none"]


def speak_of(value: str | None) -> Speak | None:
    """What a user asks to be spoken. Raises ``UnknownNameError`` for another word."""
    known: dict[str, Speak] = {name: name for name in get_args(Speak) if name != "none"}
    if value is not None and value not in known:
        raise UnknownNameError("way to speak a task", value, known)
    return known[value] if value is not None else None


OptionList = Literal["none", "lettered"]  # whether we list the options in a prompt that does not (see ``lettered``)
OutputType = Literal["multiple_choice", "generate_until"]


TextSource = str | int | FunctionRef  # a number: the item has one prompt for each option, and that one is right
TargetSource = str | int | tuple[str | int, ...] | FunctionRef
ChoiceSource = str | tuple[str, ...] | FunctionRef | None


class DomainMap(BaseModel):
    """Domains by the value of a field: ``{field: subject, map: {algebra: mathematics, …}, default: other}``.

    ``map`` may also name a YAML or JSON file, relative to the task's. A value that is in neither map nor default is a reject.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    field: str
    map: dict[str, str] | str
    default: str | None = None


class NearestTopic(BaseModel):
    """Domains for data that has none: ``{text: "{{goal}}", topics: {cooking: "oven pan …", garden: …}, default: other}``.

    ``topics`` may also name a JSON file, relative to the task's; ``text`` is a field or template. An item belongs to the topic nearest to
    its text (``topics.Topics.nearest``); one that shares no word with any is of the domain ``default``, or a reject.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    text: str
    topics: dict[str, str] | str
    default: str | None = None


class AudioSource(BaseModel):
    """Ready sound instead of a TTS: a column of audio (``column``), files (``file``), or files listed in a JSONL (``manifest``).

    ``column``: a column that holds audio as ``{bytes, path}``, bytes or a path; it is never decoded on reading. ``file``: the field or
    template that gives a file's path, relative to ``folder`` (default: beside the data or the YAML). ``manifest``: a JSONL whose rows
    belong to the data's rows with the same ``key``; its fields are then known to the templates, its paths (``file``, or another usual
    name) relative to it. A field ``part`` says which spoken part a row says.
    ``voice``: field, template or literal that names the speaker; several recordings of an item differ in it. By default the field
    ``voice``, ``speaker`` or ``speaker_id`` of a manifest, else "recorded". ``part``: which spoken part it says (default: the only one).
    ``text``: field or template of what is said, where the written form does not tell; empty: unknown, and no part of the WER.
    ``perturbation``: field, template or literal that names what was done to the sound already.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    column: str | None = None
    file: str | None = None
    manifest: str | None = None
    key: str = "id"
    folder: str | None = None
    voice: str | None = None
    part: str | None = None
    text: str | None = None
    perturbation: str = CLEAN

    @model_validator(mode="after")
    def _one_place(self) -> AudioSource:
        if (self.column is None) == (self.file is None and self.manifest is None):
            raise ValueError("expected either column, or file, or manifest (with file as the name of its field)")
        return self


def _listed(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class SaladFields(BaseModel):
    """``metadata: {salad: …}``: how a text benchmark is asked aloud and what its rows mean.

    ``spoken_text``: one Jinja template, or several by name, each of which renders to a span of the rendered ``doc_to_text`` that occurs
    there exactly once; by default all of it is spoken. ``spoken_choices``: the same for the options, where the prompt lists them; it is
    spoken as well under ``speak: context+choices``. ``domain``, ``group`` and ``id`` are field names or templates. ``shots_by``: a field
    or template; a row's shots are of those rows that have its value. ``slices``: columns that a report may slice by; or names, each with a
    field, a template or a ``DomainMap``. ``metric``: which of the task's measures counts under ``score: lm_eval``
    (``exact_match,flexible-extract``). ``gated``: the rows are given to those alone who ask for them, so that no page shows them unless
    told to. ``audio``: ready sound (one ``AudioSource``, or a list with one a part) instead of a TTS.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    speak: Speak
    domain: str | DomainMap | NearestTopic
    spoken_text: str | dict[str, str] | None = None
    spoken_choices: str | dict[str, str] | None = None
    spoken_shots: bool = False
    shots_by: str | None = None
    group: str | None = None
    id: str = "id"
    slices: list[str] | dict[str, str | DomainMap] = []
    score: ScoreKind = "ll"
    metric: str | None = None
    options: OptionList = "none"
    splits: dict[str, str] | None = None
    revision: str | None = None
    gated: bool = False
    audio: Annotated[list[AudioSource], BeforeValidator(_listed)] = []

    @field_validator("spoken_text", "spoken_choices")
    @classmethod
    def _named(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if value == {} or value == "":
            raise ValueError("expected a template, or several by name")
        return value


@dataclass(frozen=True, slots=True)
class StatedTask:
    """A task as files state it: its name, its YAML, and what stands in it and in the files and groups above it.

    ``problem``: why it cannot be read, where it cannot.
    """

    name: str
    path: Path
    table: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ShotSpec:
    """How few-shot examples are made; every field falls back on the task's own, as in lm-eval.

    ``without_self``: lm-eval hands its sampler the row that is asked, so that it is left out: where the split that the task names for
    shots is the one it names for the test, or where it names neither.
    """

    split: str | None
    without_self: bool
    process_docs: FunctionRef | None
    samples: tuple[Mapping[str, Any], ...] | FunctionRef | None
    sampler: str
    doc_to_text: TextSource
    doc_to_target: TargetSource
    doc_to_choice: ChoiceSource
    gen_prefix: str | None
    fewshot_delimiter: str
    target_delimiter: str


@dataclass(frozen=True, slots=True)
class DomainRule:
    """A field name or template, and what its values are called (``None``: themselves) or the topics they are compared with.

    Without a source the domain is the first of the usual columns (``subject``, ``category`` and so on) that every row fills, or else
    the task's name.
    """

    source: str | None
    names: Mapping[str, str] | None = None
    default: str | None = None
    topics: Topics | None = None

    @property
    def declared(self) -> tuple[str, ...]:
        """The domains that a row can have, sorted; empty where that is not known without the rows."""
        named = self.topics.names if self.topics is not None else tuple((self.names or {}).values())
        return tuple(sorted({*named, *([self.default] if named and self.default is not None else [])}))


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as its YAML states it. ``splits`` maps what a plan calls a split to the data's own name for it.

    ``spoken_printed``: instead of ``spoken`` templates, what ``doc_to_text`` prints of the row is spoken and its fixed words are not:
    ``("context",)``, or with the options that it lists ``("context", "choices")``. ``id``: ``None`` numbers the rows.
    ``data_dir``: a local mirror of data sets, which are then read from there alone (see ``data``). ``options``: whether they are
    listed in the prompt; ``none`` where the task's own prompt does so.
    """

    name: str
    path: Path
    output_type: OutputType
    dataset_path: str
    dataset_name: str | None
    dataset_kwargs: Mapping[str, Any]
    custom_dataset: FunctionRef | None
    process_docs: FunctionRef | None
    splits: Mapping[str, str]
    doc_to_text: TextSource
    doc_to_target: TargetSource
    doc_to_choice: ChoiceSource
    description: str
    target_delimiter: str
    gen_prefix: str | None
    num_fewshot: int
    shots: ShotSpec
    generation: GenerationProtocol
    metadata: Mapping[str, Any]
    speak: Speak
    spoken: Mapping[str, str | None]  # part name -> template; None: the whole rendered doc_to_text
    spoken_shots: bool
    domain: DomainRule
    group: str | None
    id: str | None
    slices: tuple[str, ...] = ()
    slice_rules: Mapping[str, DomainRule] = field(default_factory=dict)  # of slices that are not columns, by name
    score: ScoreKind = "ll"
    measures: Measures = Measures(())
    metric: str | None = None
    revision: str | None = None
    gated: bool = False
    audio: tuple[AudioSource, ...] = ()  # empty: spoken by a TTS
    shots_by: str | None = None
    spoken_printed: tuple[str, ...] = ()
    data_dir: Path | None = None
    options: OptionList = "none"
    fewshot_delimiter: str = "\n\n"

    @property
    def chat_delimiter(self) -> str:
        """What stands before an option after a chat template: nothing, but for a ``gen_prefix`` (as the YAML has it) that does not end
        in whitespace.
        """
        return self.target_delimiter if self.gen_prefix and not self.gen_prefix[-1].isspace() else ""

    @property
    def functions(self) -> tuple[FunctionRef, ...]:
        """The functions that the YAML names and that reading, asking or scoring the task would call."""
        stated = [getattr(part, one.name) for part in (self, self.shots) for one in dataclasses.fields(part)]
        named = [value for value in stated if isinstance(value, FunctionRef)]
        return tuple(dict.fromkeys([*named, *(self.measures.functions if self.score in OWN_SCORES else ())]))


@dataclass(frozen=True, slots=True)
class Asked:
    """Our part of a task: as its ``metadata.salad`` states it, or as ``lm_eval_index`` derives it for a task that has none.

    ``score_stated``: somebody said how answers are scored; lm-eval's own way of it may then differ. For the rest see ``TaskSpec``.
    """

    speak: Speak
    splits: Mapping[str, str]
    score: ScoreKind
    score_stated: bool
    domain: DomainRule
    id: str | None
    spoken: Mapping[str, str | None]
    spoken_printed: tuple[str, ...] = ()
    spoken_shots: bool = False
    shots_by: str | None = None
    group: str | None = None
    slices: tuple[str, ...] = ()
    slice_rules: Mapping[str, DomainRule] = field(default_factory=dict)
    revision: str | None = None
    gated: bool = False
    audio: tuple[AudioSource, ...] = ()
    options: OptionList = "none"
    metric: str | None = None
