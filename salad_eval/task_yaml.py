"""A benchmark's YAML: a task of lm-eval 0.4.x, with our fields under ``metadata: {salad: {…}}``.

The same file is read by lm-eval and by us, so keys keep lm-eval's meaning; what we cannot read the way lm-eval does is
refused by name, never guessed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import jinja2.sandbox
import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from salad_eval import resources
from salad_eval.errors import TaskError, UnknownNameError, did_you_mean
from salad_eval.respond import GenerationProtocol
from salad_eval.types import ScoreKind
from salad_eval.validation import parse

Speak = Literal["context", "context+choices", "none"]
OutputType = Literal["multiple_choice", "generate_until"]
DEFAULT_MAX_NEW_TOKENS = 256  # lm-eval's, where generation_kwargs names none

# The keys of lm-eval's TaskConfig and of its YAML loader: a key outside them is a typing error, which lm-eval hides.
_LM_EVAL_KEYS = (
    "task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split",
    "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_image",
    "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results", "use_prompt", "description", "target_delimiter",
    "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list", "output_type", "generation_kwargs", "repeats",
    "filter_list", "should_decontaminate", "doc_to_decontamination_query", "gen_prefix", "metadata", "include",
)  # fmt: skip
_UNREADABLE = {
    "process_docs": "rows are read as they stand in the data",
    "use_prompt": "write the prompt as doc_to_text",
    "doc_to_image": "images are not part of a speech benchmark",
    "doc_to_audio": "audio is rendered from the text; see metadata.salad.spoken_text",
    "process_results": "scores are made by salad_eval (metadata.salad.score)",
}
_SHOT_KEYS = (
    "sampler", "split", "samples", "doc_to_text", "doc_to_target", "doc_to_choice", "gen_prefix", "fewshot_delimiter",
    "target_delimiter",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """``!function salad_eval.module.name`` in a YAML; nothing outside salad_eval is ever imported for a task."""

    name: str

    def resolve(self) -> Callable[..., Any]:
        module, _, attribute = self.name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as cause:
            raise TaskError(f"!function {self.name}: there is no such function ({cause}).") from None
        if not callable(found):
            raise TaskError(f"!function {self.name}: is a {type(found).__name__}, not a function.")
        return found


TextSource = str | FunctionRef
TargetSource = str | int | FunctionRef
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


class SaladFields(BaseModel):
    """``metadata: {salad: …}``: how a text benchmark is asked aloud and what its rows mean.

    ``spoken_text``: one Jinja template, or several by name, each of which renders to a span of the rendered ``doc_to_text`` that occurs
    there exactly once; by default all of it is spoken. ``spoken_choices``: the same for the options, where the prompt lists them; it is
    spoken as well under ``speak: context+choices``. ``domain``, ``group`` and ``id`` are field names or templates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    speak: Speak
    domain: str | DomainMap
    spoken_text: str | dict[str, str] | None = None
    spoken_choices: str | dict[str, str] | None = None
    spoken_shots: bool = False
    group: str | None = None
    id: str = "id"
    slices: list[str] = []
    score: ScoreKind = "ll"
    splits: dict[str, str] | None = None
    revision: str | None = None

    @field_validator("spoken_text", "spoken_choices")
    @classmethod
    def _named(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if value == {} or value == "":
            raise ValueError("expected a template, or several by name")
        return value


# --- the task --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShotSpec:
    """How few-shot examples are made; every field falls back on the task's own, as in lm-eval."""

    split: str | None
    samples: tuple[Mapping[str, Any], ...] | None
    sampler: str
    doc_to_text: TextSource
    doc_to_target: TargetSource
    doc_to_choice: ChoiceSource
    gen_prefix: str | None
    fewshot_delimiter: str
    target_delimiter: str


@dataclass(frozen=True, slots=True)
class DomainRule:
    """A field name or template, and what its values are called (``None``: themselves)."""

    source: str
    names: Mapping[str, str] | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as its YAML states it. ``splits`` maps what a plan calls a split to the data's own name for it."""

    name: str
    path: Path
    output_type: OutputType
    dataset_path: str
    dataset_name: str | None
    dataset_kwargs: Mapping[str, Any]
    custom_dataset: FunctionRef | None
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
    id: str
    slices: tuple[str, ...] = ()
    score: ScoreKind = "ll"
    revision: str | None = None


def find_tasks(folder: Path | None = None) -> dict[str, Path]:
    """Task names and their YAMLs under ``folder`` (default: the package's own tasks), sorted; a file that cannot be read is left out."""
    found: dict[str, Path] = {}
    for path in sorted((folder or resources.tasks_dir()).glob("**/*.yaml")):
        try:
            name = read_yaml(path).get("task")
        except TaskError:
            continue
        if isinstance(name, str):
            found.setdefault(name, path)
    return found


def load_task(name_or_path: str) -> TaskSpec:
    """The task with that name among the package's own, or at that path.

    Raises ``UnknownNameError`` for an unknown name and ``TaskError`` for a YAML that cannot be used, saying why.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise TaskError(
                f"no task file at {name_or_path!r}. Give a path to a YAML, or one of: {', '.join(find_tasks())}."
            )
        return _spec(read_yaml(path), path.resolve())
    known = find_tasks()
    if name_or_path not in known:
        raise UnknownNameError("task", name_or_path, known)
    return _spec(read_yaml(known[name_or_path]), known[name_or_path])


def read_yaml(path: Path, _including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task's YAML with its ``include`` files merged below it, ``!function`` values as ``FunctionRef``."""
    path = path.resolve()
    if path in _including:
        raise TaskError(f"{path}: includes itself, by way of {', '.join(map(str, _including))}.")
    try:
        table = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
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


class _Loader(yaml.SafeLoader):
    pass


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> FunctionRef:
    name = str(node.value)
    if not name.startswith("salad_eval.") or not all(part.isidentifier() for part in name.split(".")):
        raise TaskError(
            f"{node.start_mark.name}: !function {name} would run code that the YAML brings along. Only functions of salad_eval are "
            f"called (!function salad_eval.module.name); write the prompt as a Jinja template instead."
        )
    return FunctionRef(name)


_Loader.add_constructor("!function", _function)


# --- from YAML to TaskSpec -------------------------------------------------------------------------------------------


def _spec(table: Mapping[str, Any], path: Path) -> TaskSpec:
    read = _Reader(table, path)
    read.known_keys()
    metadata = read.mapping("metadata")
    if "salad" not in metadata:
        raise TaskError(
            f"{path}: has no metadata.salad, which says what is spoken and what a row's domain is. Add, for example: "
            "metadata: {salad: {speak: context, spoken_text: '{{question}}', domain: subject}}."
        )
    ours = parse(SaladFields, metadata["salad"], f"{path}, metadata.salad", TaskError)
    output_type = read.one_of("output_type", ("multiple_choice", "generate_until"), "generate_until")
    choices = read.choices()
    if output_type == "multiple_choice" and choices is None:
        raise TaskError(f"{path}: output_type is multiple_choice, but there is no doc_to_choice.")
    if output_type == "generate_until" and ours.score != "generate":
        raise TaskError(
            f"{path}: metadata.salad.score is {ours.score!r}, but output_type is generate_until; expected 'generate'."
        )
    spec = TaskSpec(
        name=read.required("task"),
        path=path,
        output_type=output_type,  # type: ignore[arg-type]
        dataset_path=read.text("dataset_path", "") or "",
        dataset_name=read.text("dataset_name", None),
        dataset_kwargs=read.mapping("dataset_kwargs"),
        custom_dataset=read.function("custom_dataset"),
        splits=_splits(table, ours),
        doc_to_text=read.source("doc_to_text"),
        doc_to_target=read.target(),
        doc_to_choice=choices,
        description=read.text("description", "") or "",
        target_delimiter=read.text("target_delimiter", " ") or "",
        gen_prefix=read.text("gen_prefix", None),
        num_fewshot=read.count("num_fewshot", 0),
        shots=_shots(read, choices),
        generation=_generation(read, output_type),
        metadata=metadata,
        speak=ours.speak,
        spoken=_spoken(ours, path),
        spoken_shots=ours.spoken_shots,
        domain=_domain(ours.domain, path),
        group=ours.group,
        id=ours.id,
        slices=tuple(ours.slices),
        score=ours.score,
        revision=ours.revision,
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
            if key in _UNREADABLE and value is not None:
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
            raise self.wrong(key, "!function salad_eval.module.name")
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
            raise self.wrong(key, "one field name, template or number")
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
    if settings.get("do_sample") or settings.get("temperature"):
        raise TaskError(f"{read.path}: generation_kwargs ask for sampling; answers are generated greedily here.")
    until = settings.get("until", [read.text("fewshot_delimiter", "\n\n")])
    stop = [until] if isinstance(until, str) else until
    most = settings.get("max_gen_toks", DEFAULT_MAX_NEW_TOKENS)
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise TaskError(f"{read.path}: generation_kwargs.until is {until!r:.80}; expected a list of texts.")
    if not isinstance(most, int) or most < 1:
        raise TaskError(
            f"{read.path}: generation_kwargs.max_gen_toks is {most!r:.80}; expected a whole number, 1 or more."
        )
    return GenerationProtocol(most, tuple(stop))


def _splits(table: Mapping[str, Any], ours: SaladFields) -> dict[str, str]:
    keys = {"test": "test_split", "validation": "validation_split", "train": "training_split"}
    named = {name: table[key] for name, key in keys.items() if isinstance(table.get(key), str)}
    return {**named, **(ours.splits or {})}


def _shots(read: _Reader, choices: ChoiceSource) -> ShotSpec:
    own = _Reader(read.mapping("fewshot_config"), read.path)
    for key in own.table:
        if key not in _SHOT_KEYS:
            raise TaskError(f"{read.path}: fewshot_config.{key} is not supported{did_you_mean(key, _SHOT_KEYS)}.")
    samples = own.table.get("samples")
    if samples is not None and not (isinstance(samples, list) and all(isinstance(row, dict) for row in samples)):
        raise TaskError(f"{read.path}: fewshot_config.samples is {samples!r:.80}; expected a list of rows.")
    split = own.text("split", read.text("fewshot_split", None))
    if split is None and samples is None:  # lm-eval's own order
        split = next(
            (s for key in ("training_split", "validation_split", "test_split") if (s := read.text(key, None))), None
        )
    return ShotSpec(
        split=split,
        samples=tuple(samples) if samples is not None and split is None else None,
        sampler=own.text("sampler", "default") or "default",
        doc_to_text=own.source("doc_to_text") if "doc_to_text" in own.table else read.source("doc_to_text"),
        doc_to_target=own.target() if "doc_to_target" in own.table else read.target(),
        doc_to_choice=own.choices() if "doc_to_choice" in own.table else choices,
        gen_prefix=own.text("gen_prefix", read.text("gen_prefix", None)),
        fewshot_delimiter=own.text("fewshot_delimiter", read.text("fewshot_delimiter", "\n\n")) or "",
        target_delimiter=own.text("target_delimiter", read.text("target_delimiter", " ")) or "",
    )


def _spoken(ours: SaladFields, path: Path) -> dict[str, str | None]:
    if ours.speak == "none":
        if ours.spoken_text or ours.spoken_choices:
            raise TaskError(f"{path}: metadata.salad.speak is 'none', but it says what is spoken. Use speak: context.")
        return {}
    spoken: dict[str, str | None] = dict(_by_name(ours.spoken_text, "context")) or {"context": None}
    choices = _by_name(ours.spoken_choices, "choices")
    if (ours.speak == "context+choices") != bool(choices):
        raise TaskError(
            f"{path}: metadata.salad.speak is {ours.speak!r}, and spoken_choices is {ours.spoken_choices!r}; give a template for the "
            "options in the prompt under 'context+choices', and none under 'context'."
        )
    if twice := set(spoken) & set(choices):
        raise TaskError(f"{path}: metadata.salad names the spoken part {min(twice)!r} twice.")
    return {**spoken, **choices}


def _by_name(templates: str | dict[str, str] | None, name: str) -> dict[str, str]:
    return {name: templates} if isinstance(templates, str) else dict(templates or {})


def _domain(rule: str | DomainMap, path: Path) -> DomainRule:
    if isinstance(rule, str):
        return DomainRule(rule)
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
def _environment() -> jinja2.Environment:
    environment = jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_present
    )
    environment.filters["regex_replace"] = _regex_replace
    return environment


@cache
def template(source: str) -> jinja2.Template:
    """``source`` compiled as lm-eval compiles it, in a sandbox; printing a null raises ``MissingField``."""
    return _environment().from_string(source)


def _check_templates(spec: TaskSpec) -> None:
    sources: dict[str, object] = {
        "doc_to_text": spec.doc_to_text, "doc_to_target": spec.doc_to_target, "doc_to_choice": spec.doc_to_choice,
        "description": spec.description, "gen_prefix": spec.gen_prefix, "fewshot_config.doc_to_text": spec.shots.doc_to_text,
        "fewshot_config.doc_to_target": spec.shots.doc_to_target, "fewshot_config.doc_to_choice": spec.shots.doc_to_choice,
        "metadata.salad.domain": spec.domain.source, "metadata.salad.group": spec.group, "metadata.salad.id": spec.id,
        **{f"metadata.salad.spoken_text ({name})": source for name, source in spec.spoken.items()},
    }  # fmt: skip
    for key, source in sources.items():
        if isinstance(source, str):
            try:
                template(source)
            except jinja2.TemplateSyntaxError as cause:
                raise TaskError(
                    f"{spec.path}: {key} is {source!r:.120}, which is not a Jinja template: {cause.message}."
                ) from None
