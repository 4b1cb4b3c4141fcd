"""A benchmark's YAML: a task of lm-eval 0.4.x, with our fields under ``metadata: {salad: {…}}``.

The same file is read by lm-eval and by us, so keys keep lm-eval's meaning; what we cannot read the way lm-eval does is
refused by name, never guessed.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jinja2
import jinja2.sandbox
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator

from salad_eval import resources
from salad_eval.benchmarks.topics import Topics, load_topics, topics_of
from salad_eval.errors import TaskError, UnknownNameError, did_you_mean
from salad_eval.pipeline.respond import GenerationProtocol
from salad_eval.types import CLEAN, LOGPROB_SCORES, ScoreKind
from salad_eval.validation import parse

Speak = Literal["context", "context+choices", "none"]
OptionList = Literal["none", "lettered"]  # whether we list the options in a prompt that does not (see ``lettered``)
OutputType = Literal["multiple_choice", "generate_until"]
DEFAULT_MAX_NEW_TOKENS = 256  # lm-eval's, where generation_kwargs names none
_MOST_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's order

# The keys of lm-eval's TaskConfig and of its YAML loader: a key outside them is a typing error, which lm-eval hides.
_LM_EVAL_KEYS = (
    "task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split",
    "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_image",
    "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results", "use_prompt", "description", "target_delimiter",
    "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list", "output_type", "generation_kwargs", "repeats",
    "filter_list", "should_decontaminate", "doc_to_decontamination_query", "gen_prefix", "metadata", "include",
)  # fmt: skip
_UNREADABLE = {
    "use_prompt": "write the prompt as doc_to_text",
    "doc_to_image": "images are not part of a speech benchmark",
    "doc_to_audio": "audio is rendered from the text, or named by metadata.salad.audio",
    "unsafe_code": "generated code is never run",
}
_SHOT_KEYS = (
    "sampler", "split", "process_docs", "samples", "doc_to_text", "doc_to_target", "doc_to_choice", "gen_prefix", "fewshot_delimiter",
    "target_delimiter",
)  # fmt: skip


# Every function of ours that a task's YAML may name: those that shipped tasks name, each marked by ``task_function`` where it is defined.
# A YAML comes from strangers, so whatever else our packages can do is out of its reach.
_OWN_FUNCTIONS = (
    "salad_eval.benchmarks.packaged_dataset",
    "salad_eval.lm_eval_bridge.rows.dataset",
    "salad_eval.lm_eval_bridge.rows.doc_to_audio",
    "salad_eval.lm_eval_bridge.rows.process_answer",
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def task_function(*, refuses: tuple[str, ...] = ()) -> Callable[[_Function], _Function]:
    """Mark a function that a task's YAML may name; it has to stand in ``_OWN_FUNCTIONS`` as well.

    ``refuses``: arguments that a YAML does not get to choose, since they name programs, or files that are no data of its own.
    """

    def mark(function: _Function) -> _Function:
        function.__salad_refuses__ = refuses  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """``!function module.name`` in a YAML: one of the few functions of ours that it may name, or one of an lm-eval task's own.

    ``file`` is the Python file beside a YAML of the installed lm-eval. No other code is ever imported for a task.
    """

    name: str
    file: Path | None = None

    def resolve(self) -> Callable[..., Any]:
        """The function itself. Raises ``TaskError`` where there is none, or its module cannot be imported."""
        module, _, attribute = self.name.rpartition(".")
        try:
            found = getattr(_beside_yaml(self.file) if self.file else importlib.import_module(module), attribute)
        except ModuleNotFoundError as cause:
            if cause.name and not module.startswith(cause.name):
                raise TaskError(
                    f"!function {self.name}: its code needs the Python module {cause.name!r}, which is not installed. Install the "
                    "package that provides it, or ask a task that does without."
                ) from None
            raise TaskError(f"!function {self.name}: there is no such function ({cause}).") from None
        except (ImportError, AttributeError) as cause:
            raise TaskError(f"!function {self.name}: there is no such function ({cause}).") from None
        except Exception as cause:  # a module of lm-eval's may fail in any way when it is imported
            raise TaskError(
                f"!function {self.name}: its module cannot be imported: {type(cause).__name__}: {cause}."
            ) from None
        if not callable(found):
            raise TaskError(f"!function {self.name}: is a {type(found).__name__}, not a function.")
        return found

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with what the YAML says. Raises ``TaskError`` for an argument that a YAML does not get to choose."""
        function = self.resolve()
        for key in getattr(function, "__salad_refuses__", ()):
            if key in arguments:
                raise TaskError(
                    f"!function {self.name}: {key} is not for a task's YAML to say. Take it out of metadata and dataset_kwargs; who runs "
                    f"lm-eval says it as --metadata {key}=…"
                )
        return function(**arguments)


@cache
def _beside_yaml(file: Path) -> Any:
    """The Python file beside a YAML of lm-eval, as a module; it is not left in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(f"lm_eval.tasks.{file.parent.name}.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def lm_eval_tasks_dir() -> Path | None:
    """The task folder of the installed lm-eval; finding it imports nothing."""
    spec = importlib.util.find_spec("lm_eval")
    places = spec.submodule_search_locations if spec is not None else None
    return (Path(next(iter(places))) / "tasks").resolve() if places else None


TextSource = str | FunctionRef
TargetSource = str | int | tuple[str | int, ...] | FunctionRef
ChoiceSource = str | tuple[str, ...] | FunctionRef | None


# --- our fields ------------------------------------------------------------------------------------------------------


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
    belong to the data's rows with the same ``key``; its fields are then known to the templates, its paths relative to it.
    ``voice``: field, template or literal that names the speaker; several recordings of an item differ in it. ``part``: which spoken part
    it says (default: the only one). ``text``: field or template of what is said, where the written form does not tell; empty: unknown,
    and no part of the WER.
    ``perturbation``: field, template or literal that names what was done to the sound already.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    column: str | None = None
    file: str | None = None
    manifest: str | None = None
    key: str = "id"
    folder: str | None = None
    voice: str = "recorded"
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
    field, a template or a ``DomainMap``. ``audio``: ready sound (one ``AudioSource``, or a list with one a part) instead of a TTS.
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
    options: OptionList = "none"
    splits: dict[str, str] | None = None
    revision: str | None = None
    audio: Annotated[list[AudioSource], BeforeValidator(_listed)] = []

    @field_validator("spoken_text", "spoken_choices")
    @classmethod
    def _named(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if value == {} or value == "":
            raise ValueError("expected a template, or several by name")
        return value


# --- the task --------------------------------------------------------------------------------------------------------


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
    revision: str | None = None
    audio: tuple[AudioSource, ...] = ()  # empty: spoken by a TTS
    shots_by: str | None = None
    spoken_printed: tuple[str, ...] = ()
    data_dir: Path | None = None
    options: OptionList = "none"

    @property
    def functions(self) -> tuple[FunctionRef, ...]:
        """The functions that the YAML names and that reading or asking the task would call."""
        stated = [getattr(part, one.name) for part in (self, self.shots) for one in dataclasses.fields(part)]
        return tuple(dict.fromkeys(value for value in stated if isinstance(value, FunctionRef)))


def find_tasks(folder: Path | None = None) -> dict[str, Path]:
    """Task names and their YAMLs under ``folder`` (default: the package's own tasks), sorted.

    A file that cannot be read is left out, and so is one without ``metadata.salad``: a task for lm-eval alone.
    """
    found: dict[str, Path] = {}
    root = folder or resources.tasks_dir()
    for path in sorted(root.glob("**/*.yaml")):
        if path.relative_to(root).parts[0] == "lm_eval":
            continue  # the same tasks as lm-eval groups, generated from these (lm_eval_bridge.task_files)
        try:
            table = read_yaml(path)
        except TaskError:
            continue
        name, metadata = table.get("task"), table.get("metadata")
        if isinstance(name, str) and isinstance(metadata, dict) and "salad" in metadata:
            found.setdefault(name, path)
    return found


def load_task(
    name_or_path: str,
    *,
    speak: Speak | None = None,
    score: ScoreKind | None = None,
    data_dir: Path | None = None,
    options: OptionList | None = None,
) -> TaskSpec:
    """The one task of that name or at that path; see ``load_tasks``, which takes groups of lm-eval as well."""
    found = load_tasks([name_or_path], speak=speak, score=score, data_dir=data_dir, options=options)
    if len(found) > 1:
        raise TaskError(
            f"{name_or_path!r} is a group of {len(found)} tasks; name one of them, for example {found[0].name}."
        )
    return found[0]


def load_tasks(
    names: Sequence[str],
    *,
    speak: Speak | None = None,
    score: ScoreKind | None = None,
    data_dir: Path | None = None,
    options: OptionList | None = None,
) -> list[TaskSpec]:
    """The tasks with those names or at those paths: the package's own, or under ``speak`` any task or group of the installed lm-eval.

    ``speak``, ``score`` and ``options`` override what the tasks say; a task without ``metadata.salad`` needs ``speak`` and gets our
    fields by default (see ``lm_eval_index``). ``data_dir`` is a local mirror of the data sets (see ``data``). Raises
    ``UnknownNameError`` for an unknown name and ``TaskError`` for a task that cannot be used, saying why.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise TaskError(f"the data folder {str(data_dir)!r} does not exist. Give a folder of data sets to --data-dir.")
    specs = [spec for name in names for spec in _named(name, speak, score, options)]
    return [dataclasses.replace(spec, score=score or spec.score, data_dir=data_dir) for spec in specs]


def _named(
    name_or_path: str, speak: Speak | None, score: ScoreKind | None, options: OptionList | None
) -> list[TaskSpec]:
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise TaskError(
                f"no task file at {name_or_path!r}. Give a path to a YAML, or one of: {', '.join(find_tasks())}."
            )
        path = path.resolve()
        table = read_yaml(path)
    else:
        known = find_tasks()
        if name_or_path not in known:
            return _of_lm_eval(name_or_path, known, speak, score, options)
        path = known[name_or_path]
        table = read_yaml(path)
    metadata = table.get("metadata")
    if speak is not None and not (isinstance(metadata, dict) and "salad" in metadata):
        from salad_eval.benchmarks.lm_eval_index import spoken_fields

        return [_spec(table, path, spoken_fields(table, path, speak, score, options))]
    return [_spec(table, path, speak=speak, options=options)]


def _of_lm_eval(
    name: str, known: Mapping[str, Path], speak: Speak | None, score: ScoreKind | None, options: OptionList | None
) -> list[TaskSpec]:
    from salad_eval.benchmarks.lm_eval_index import lm_eval_index, spoken_fields

    index = lm_eval_index()
    if index is None or not index.has(name):
        raise UnknownNameError("task", name, [*known, *(index.like(name) if index is not None else [])])
    if speak is None:
        raise TaskError(
            f"{name!r} is a task of lm-eval's, which does not say what of it is spoken. Say it: --speak context (in a plan, "
            "speak: context)."
        )
    found = index.expand(name)
    return [_spec(one.table, one.path, spoken_fields(one.table, one.path, speak, score, options)) for one in found]


def read_yaml(path: Path, _including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task's YAML with its ``include`` files merged below it, ``!function`` values as ``FunctionRef``."""
    path = path.resolve()
    if path in _including:
        raise TaskError(f"{path}: includes itself, by way of {', '.join(map(str, _including))}.")
    try:
        table = _parsed(path)
    except OSError as cause:
        raise TaskError(f"cannot read the task file {path}: {cause.strerror or cause}.") from None
    except UnicodeDecodeError as cause:
        raise TaskError(f"{path}: is not UTF-8 text ({cause.reason} at byte {cause.start}).") from None
    except yaml.YAMLError as cause:
        raise TaskError(f"{path}: is not valid YAML: {' '.join(str(cause).split())}.") from None
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise TaskError(f"{path}: a task is a mapping of keys to values, this file holds {type(table).__name__}.")
    included = table.pop("include", [])
    merged: dict[str, Any] = {}
    for other in included if isinstance(included, list) else [included]:
        if not isinstance(other, str):
            raise TaskError(f"{path}: include is {other!r}; expected the path of a YAML, or a list of them.")
        merged.update(read_yaml(path.parent / other, (*_including, path)))
    merged.update(table)
    return merged


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, in C where it was built so, which knows the file it reads."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.path = path


def _parsed(path: Path) -> Any:
    loader = _Loader(path.read_text(encoding="utf-8"), path)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _function(loader: _Loader, node: yaml.Node) -> FunctionRef:
    name = str(node.value)
    named = all(part.isidentifier() for part in name.split("."))
    if name in _OWN_FUNCTIONS:
        return FunctionRef(name)
    installed = lm_eval_tasks_dir()
    if named and installed is not None and loader.path.is_relative_to(installed):
        # Code that the user installed with lm-eval; lm-eval, too, looks beside the YAML first.
        beside = loader.path.parent / Path(*name.split(".")[:-1]).with_suffix(".py")
        if beside.is_file() and beside.resolve().is_relative_to(installed):
            return FunctionRef(name, beside.resolve())
        if name.startswith("lm_eval."):
            return FunctionRef(name)
        raise TaskError(f"{loader.path}: !function {name} is code of another package, which is not called.")
    raise TaskError(
        f"{loader.path}: !function {name} would run code that the YAML names. Only a few functions are called for a task "
        f"({', '.join(_OWN_FUNCTIONS)}), and those of the installed lm-eval's own tasks; write the prompt as a Jinja template instead."
    )


_Loader.add_constructor("!function", _function)


# --- from YAML to TaskSpec -------------------------------------------------------------------------------------------


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
    audio: tuple[AudioSource, ...] = ()
    options: OptionList = "none"


def _stated(table: Mapping[str, Any], path: Path, speak: Speak | None, options: OptionList | None) -> Asked:
    """``metadata.salad``; ``speak`` and ``options`` override its own."""
    metadata = _Reader(table, path).mapping("metadata")
    if "salad" not in metadata:
        raise TaskError(
            f"{path}: has no metadata.salad, which says what is spoken and what a row's domain is. Ask with --speak context, or add, "
            "for example: metadata: {salad: {speak: context, spoken_text: '{{question}}', domain: subject}}."
        )
    ours = parse(SaladFields, metadata["salad"], f"{path}, metadata.salad", TaskError)
    # A task that names its spoken options has them in its prompt.
    listed: OptionList = "none" if ours.spoken_choices else options or ours.options
    return Asked(
        speak=speak or ours.speak,
        splits={**data_splits(table), **(ours.splits or {})},
        score=ours.score,
        score_stated="score" in ours.model_fields_set,
        domain=_domain(ours.domain, path),
        id=ours.id,
        spoken=_spoken(ours, speak or ours.speak, listed, path),
        spoken_shots=ours.spoken_shots,
        shots_by=ours.shots_by,
        group=ours.group,
        slices=tuple(ours.slices),
        slice_rules=_slice_rules(ours, path),
        revision=ours.revision,
        audio=tuple(ours.audio),
        options=listed,
    )


def _spec(
    table: Mapping[str, Any],
    path: Path,
    asked: Asked | None = None,
    *,
    speak: Speak | None = None,
    options: OptionList | None = None,
) -> TaskSpec:
    read = _Reader(table, path)
    read.known_keys()
    asked = asked or _stated(table, path, speak, options)
    if table.get("process_results") is not None and not asked.score_stated:
        raise TaskError(
            f"{path}: process_results scores answers by code of its own, which is not called here. Say how they are scored: "
            "metadata.salad.score, or --set score=…"
        )
    output_type = read.one_of("output_type", ("multiple_choice", "generate_until"), "generate_until")
    choices = read.choices()
    if output_type == "multiple_choice" and choices is None:
        raise TaskError(f"{path}: output_type is multiple_choice, but there is no doc_to_choice.")
    if output_type == "generate_until" and asked.score in LOGPROB_SCORES:
        raise TaskError(
            f"{path}: metadata.salad.score is {asked.score!r}, but output_type is generate_until, which has no options to weigh; "
            "expected 'generate' or another that reads an answer (exact_match, f1, numeric, numeric_last, yes_no)."
        )
    if asked.options == "lettered" and choices is None and options is None:
        raise TaskError(f"{path}: metadata.salad.options is 'lettered', and the task has no options (doc_to_choice).")
    metadata = table.get("metadata")
    spec = TaskSpec(
        name=read.required("task"),
        path=path,
        output_type=output_type,  # type: ignore[arg-type]
        dataset_path=read.text("dataset_path", "") or "",
        dataset_name=read.text("dataset_name", None),
        dataset_kwargs=read.mapping("dataset_kwargs"),
        custom_dataset=read.function("custom_dataset"),
        process_docs=read.function("process_docs"),
        splits=asked.splits,
        doc_to_text=read.source("doc_to_text"),
        doc_to_target=read.target(),
        doc_to_choice=choices,
        description=read.text("description", "") or "",
        target_delimiter=read.text("target_delimiter", " ") or "",
        gen_prefix=read.text("gen_prefix", None),
        num_fewshot=read.count("num_fewshot", 0),
        shots=_shots(read, choices),
        generation=_generation(read, output_type),
        metadata=metadata if isinstance(metadata, dict) else {},
        speak=asked.speak,
        spoken=asked.spoken,
        spoken_shots=asked.spoken_shots,
        domain=asked.domain,
        group=asked.group,
        id=asked.id,
        slices=asked.slices,
        slice_rules=asked.slice_rules,
        score=asked.score,
        revision=asked.revision,
        audio=asked.audio,
        shots_by=asked.shots_by,
        spoken_printed=asked.spoken_printed,
        options=asked.options if choices is not None else "none",
    )
    if not spec.dataset_path and spec.custom_dataset is None:
        raise TaskError(
            f"{path}: has no dataset_path. Give a hub dataset id, a folder, or 'json' with dataset_kwargs.data_files."
        )
    if not spec.splits:
        raise TaskError(f"{path}: names no split. Give test_split, validation_split or training_split.")
    _check_templates(spec)
    return spec


@dataclass(frozen=True, slots=True)
class _Reader:
    """Typed look-ups in a task's table, with errors that name file and key."""

    table: Mapping[str, Any]
    path: Path

    def known_keys(self) -> None:
        for key, value in self.table.items():
            if key not in _LM_EVAL_KEYS:
                raise TaskError(
                    f"{self.path}: unknown key {key!r}{did_you_mean(key, _LM_EVAL_KEYS)}; lm-eval has no such task key."
                )
            if key in _UNREADABLE and value is not None and value is not False:
                raise TaskError(f"{self.path}: {key} is not supported: {_UNREADABLE[key]}.")

    def wrong(self, key: str, expected: str) -> TaskError:
        return TaskError(f"{self.path}: {key} is {self.table.get(key)!r:.80}; expected {expected}.")

    def required(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value:
            raise (
                self.wrong(key, "a text")
                if key in self.table
                else TaskError(f"{self.path}: the key {key!r} is missing.")
            )
        return value

    def text(self, key: str, default: str | None) -> str | None:
        value = self.table.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def one_of(self, key: str, known: tuple[str, ...], default: str) -> str:
        value = self.text(key, default)
        if value not in known:
            raise self.wrong(key, " or ".join(known))
        return value or default

    def count(self, key: str, default: int) -> int:
        value = self.table.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, "a whole number, 0 or more")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.table.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return value

    def function(self, key: str) -> FunctionRef | None:
        value = self.table.get(key)
        if value is not None and not isinstance(value, FunctionRef):
            raise self.wrong(key, "!function and one of the functions that a task may name")
        return value

    def source(self, key: str) -> TextSource:
        value = self.table.get(key)
        if isinstance(value, FunctionRef):
            return value
        if isinstance(value, int):
            raise self.wrong(
                key, "a field name or a template (a number asks for one context per option, which is not supported)"
            )
        return self.required(key)

    def target(self, key: str = "doc_to_target") -> TargetSource:
        value = self.table.get(key)
        if isinstance(value, FunctionRef) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, list):
            if not value or not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in value):
                raise self.wrong(key, "a field name, a template, a number, or a list of texts or numbers")
            return tuple(value)
        return self.required(key)

    def choices(self, key: str = "doc_to_choice") -> ChoiceSource:
        value = self.table.get(key)
        if value is None or isinstance(value, (str, FunctionRef)):
            return value
        if isinstance(value, dict):
            value = list(value.values())
        if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
            raise self.wrong(key, "a field name, a template or a list of texts (quote yes, no, on, off and numbers)")
        return tuple(value)


def _generation(read: _Reader, output_type: str) -> GenerationProtocol:
    """lm-eval's generation settings; options that are asked for by generation have ours, since lm-eval has none for them."""
    settings = read.mapping("generation_kwargs")
    if output_type == "multiple_choice" and not settings:
        return GenerationProtocol()
    if settings.get("do_sample") or float(settings.get("temperature") or 0) > 0:
        raise TaskError(f"{read.path}: generation_kwargs ask for sampling; answers are generated greedily here.")
    until = settings.get("until", [read.text("fewshot_delimiter", "\n\n")])
    stop = [until] if isinstance(until, str) else until
    named = (settings[key] for key in _MOST_TOKENS if settings.get(key) is not None)
    most = next(named, DEFAULT_MAX_NEW_TOKENS)
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise TaskError(f"{read.path}: generation_kwargs.until is {until!r:.80}; expected a list of texts.")
    if not isinstance(most, int) or most < 1:
        raise TaskError(
            f"{read.path}: generation_kwargs.max_gen_toks is {most!r:.80}; expected a whole number, 1 or more."
        )
    return GenerationProtocol(most, tuple(stop))


def data_splits(table: Mapping[str, Any]) -> dict[str, str]:
    """What the data calls its test, validation and train split, as far as a task names them."""
    keys = {"test": "test_split", "validation": "validation_split", "train": "training_split"}
    return {name: table[key] for name, key in keys.items() if isinstance(table.get(key), str)}


def _shots(read: _Reader, choices: ChoiceSource) -> ShotSpec:
    own = _Reader(read.mapping("fewshot_config"), read.path)
    for key in own.table:
        if key not in _SHOT_KEYS:
            raise TaskError(f"{read.path}: fewshot_config.{key} is not supported{did_you_mean(key, _SHOT_KEYS)}.")
    samples = own.table.get("samples")
    if not isinstance(samples, (FunctionRef, type(None))):
        samples = rows_of_samples(samples, str(read.path))
    named = own.text("split", None) if "split" in own.table else read.text("fewshot_split", None)
    process_docs = own.function("process_docs") if "process_docs" in own.table else read.function("process_docs")
    split = named
    if split is None and samples is None:  # lm-eval's own order
        split = next(
            (s for key in ("training_split", "validation_split", "test_split") if (s := read.text(key, None))), None
        )
    return ShotSpec(
        split=split,
        without_self=named == read.text("test_split", None),
        process_docs=process_docs,
        samples=samples if split is None else None,
        sampler=own.text("sampler", "default") or "default",
        doc_to_text=own.source("doc_to_text") if "doc_to_text" in own.table else read.source("doc_to_text"),
        doc_to_target=own.target() if "doc_to_target" in own.table else read.target(),
        doc_to_choice=own.choices() if "doc_to_choice" in own.table else choices,
        gen_prefix=own.text("gen_prefix", read.text("gen_prefix", None)),
        fewshot_delimiter=own.text("fewshot_delimiter", read.text("fewshot_delimiter", "\n\n")) or "",
        target_delimiter=own.text("target_delimiter", read.text("target_delimiter", " ")) or "",
    )


def rows_of_samples(samples: object, where: str) -> tuple[Mapping[str, Any], ...]:
    """``fewshot_config.samples``, or what the function that stands there gives. Raises ``TaskError`` for anything but rows."""
    if not isinstance(samples, list) or not all(isinstance(row, dict) for row in samples):
        raise TaskError(f"{where}: fewshot_config.samples is {samples!r:.80}; expected a list of rows.")
    return tuple(samples)


def _spoken(ours: SaladFields, speak: Speak, listed: OptionList, path: Path) -> dict[str, str | None]:
    if speak == "none":
        if ours.spoken_text or ours.spoken_choices:
            raise TaskError(f"{path}: metadata.salad.speak is 'none', but it says what is spoken. Use speak: context.")
        return {}
    spoken: dict[str, str | None] = dict(_by_name(ours.spoken_text, "context")) or {"context": None}
    choices = _by_name(ours.spoken_choices, "choices")
    if speak == "context+choices" and not choices and listed == "none":
        raise TaskError(
            f"{path}: speak is 'context+choices', and metadata.salad.spoken_choices is {ours.spoken_choices!r}; give a template for the "
            "options in the prompt, have them listed (options: lettered), or speak 'context' alone."
        )
    if twice := set(spoken) & set(choices):
        raise TaskError(f"{path}: metadata.salad names the spoken part {min(twice)!r} twice.")
    return {**spoken, **choices} if speak == "context+choices" else spoken


def _by_name(templates: str | dict[str, str] | None, name: str) -> dict[str, str]:
    return {name: templates} if isinstance(templates, str) else dict(templates or {})


def _slice_rules(ours: SaladFields, path: Path) -> dict[str, DomainRule]:
    stated = ours.slices if isinstance(ours.slices, dict) else {}
    return {name: _domain(rule, path) for name, rule in stated.items()}


def _domain(rule: str | DomainMap | NearestTopic, path: Path) -> DomainRule:
    if isinstance(rule, str):
        return DomainRule(rule)
    if isinstance(rule, NearestTopic):
        topics = load_topics(path.parent / rule.topics) if isinstance(rule.topics, str) else topics_of(rule.topics)
        return DomainRule(rule.text, default=rule.default, topics=topics)
    names: Any = rule.map
    if isinstance(names, str):
        file = path.parent / names
        try:
            names = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as cause:
            raise TaskError(
                f"{path}: metadata.salad.domain.map names {names!r}, and {file} cannot be read: {cause.strerror}."
            ) from None
        except yaml.YAMLError as cause:
            raise TaskError(f"{file}: is not valid YAML or JSON: {' '.join(str(cause).split())}.") from None
        if not isinstance(names, dict):
            raise TaskError(f"{file}: expected a mapping of values to domains, got {type(names).__name__}.")
    return DomainRule(rule.field, {str(value): str(domain) for value, domain in names.items()}, rule.default)


# --- templates -------------------------------------------------------------------------------------------------------


class MissingField(Exception):
    """A template asked for a value that the row does not have."""


def _present(value: object) -> object:
    # Rows of a table have every column, with None where a row had no value; printed, it would read "None".
    if value is None:
        raise MissingField("a value that the template prints is missing (null)")
    return value


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """lm-eval's one filter of its own."""
    import re

    return re.sub(pattern, repl, string, count=count)


@cache
def environment() -> jinja2.Environment:
    """lm-eval's template language, in a sandbox; printing a null raises ``MissingField``."""
    made = jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_present
    )
    made.filters["regex_replace"] = _regex_replace
    return made


@cache
def template(source: str) -> jinja2.Template:
    """``source`` compiled as lm-eval compiles it; see ``environment``."""
    return environment().from_string(source)


def _check_templates(spec: TaskSpec) -> None:
    sources: dict[str, object] = {
        "doc_to_text": spec.doc_to_text, "doc_to_target": spec.doc_to_target, "doc_to_choice": spec.doc_to_choice,
        "description": spec.description, "gen_prefix": spec.gen_prefix, "fewshot_config.doc_to_text": spec.shots.doc_to_text,
        "fewshot_config.doc_to_target": spec.shots.doc_to_target, "fewshot_config.doc_to_choice": spec.shots.doc_to_choice,
        "metadata.salad.domain": spec.domain.source, "metadata.salad.group": spec.group, "metadata.salad.id": spec.id,
        "metadata.salad.shots_by": spec.shots_by,
        **{f"metadata.salad.spoken_text ({name})": source for name, source in spec.spoken.items()},
        **{f"metadata.salad.audio.{key}": getattr(one, key) for one in spec.audio for key in ("file", "voice", "text", "perturbation")},
    }  # fmt: skip
    for key, source in sources.items():
        if isinstance(source, str):
            try:
                template(source)
            except jinja2.TemplateSyntaxError as cause:
                raise TaskError(
                    f"{spec.path}: {key} is {source!r:.120}, which is not a Jinja template: {cause.message}."
                ) from None
