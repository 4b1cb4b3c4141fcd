"""A benchmark's YAML: a task of lm-eval 0.4.x, with our fields under ``metadata: {salad: {…}}``.

The same file is read by lm-eval and by us, so keys keep lm-eval's meaning; what we cannot read the way lm-eval does is
refused by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import yaml

from salad_eval.benchmarks.functions import OWN_FUNCTIONS, FunctionRef, lm_eval_tasks_dir
from salad_eval.benchmarks.measures import default_score, measures_of, refuse_programs
from salad_eval.benchmarks.requests import GenerationProtocol
from salad_eval.benchmarks.spec import (
    Asked,
    ChoiceSource,
    DomainMap,
    DomainRule,
    NearestTopic,
    OptionList,
    SaladFields,
    ShotSpec,
    Speak,
    TargetSource,
    TaskSpec,
    TextSource,
)
from salad_eval.benchmarks.templates import template
from salad_eval.benchmarks.topics import load_topics, topics_of
from salad_eval.errors import TaskError, did_you_mean
from salad_eval.types import LOGPROB_SCORES, OWN_SCORES
from salad_eval.validation import parse

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
    if name in OWN_FUNCTIONS:
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
        f"({', '.join(OWN_FUNCTIONS)}), and those of the installed lm-eval's own tasks; write the prompt as a Jinja template instead."
    )


_Loader.add_constructor("!function", _function)


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
        gated=ours.gated,
        audio=tuple(ours.audio),
        options=listed,
        metric=ours.metric,
    )


def task_spec(
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
    name, choices = read.required("task"), read.choices()
    output_type = read.one_of("output_type", ("multiple_choice", "generate_until"), "generate_until")
    _check_score(asked, output_type, choices is not None, table.get("process_results") is not None, path)
    measures = measures_of(table, path)
    if asked.score in OWN_SCORES:
        default_score(measures, output_type, name)
        refuse_programs(measures, name, path)
    if asked.options == "lettered" and choices is None and options is None:
        raise TaskError(f"{path}: metadata.salad.options is 'lettered', and the task has no options (doc_to_choice).")
    spec = TaskSpec(
        name=name,
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
        metadata=stated if isinstance(stated := table.get("metadata"), dict) else {},
        speak=asked.speak,
        spoken=asked.spoken,
        spoken_shots=asked.spoken_shots,
        domain=asked.domain,
        group=asked.group,
        id=asked.id,
        slices=asked.slices,
        slice_rules=asked.slice_rules,
        score=asked.score,
        measures=measures,
        metric=asked.metric,
        revision=asked.revision,
        gated=asked.gated,
        audio=asked.audio,
        shots_by=asked.shots_by,
        spoken_printed=asked.spoken_printed,
        options=asked.options if choices is not None else "none",
        fewshot_delimiter=read.text("fewshot_delimiter", "\n\n") or "",
    )
    return _checked(spec)


def _checked(spec: TaskSpec) -> TaskSpec:
    if not spec.dataset_path and spec.custom_dataset is None:
        raise TaskError(
            f"{spec.path}: has no dataset_path. Give a hub dataset id, a folder, or 'json' with dataset_kwargs.data_files."
        )
    if not spec.splits:
        raise TaskError(f"{spec.path}: names no split. Give test_split, validation_split or training_split.")
    _check_templates(spec)
    return spec


def _check_score(asked: Asked, output_type: str, has_choices: bool, has_own_code: bool, path: Path) -> None:
    """Raises ``TaskError`` where what a task asks for cannot be scored so."""
    score = asked.score
    if has_own_code and not asked.score_stated and score not in OWN_SCORES:
        raise TaskError(
            f"{path}: process_results scores answers by code of its own, which metadata.salad does not ask for. Say how they are scored: "
            "metadata.salad.score, or --set score=…"
        )
    if output_type == "multiple_choice" and not has_choices:
        raise TaskError(f"{path}: output_type is multiple_choice, but there is no doc_to_choice.")
    if output_type == "generate_until" and score in LOGPROB_SCORES:
        raise TaskError(
            f"{path}: metadata.salad.score is {score!r}, but output_type is generate_until, which has no options to weigh; "
            "expected 'generate' or another that reads an answer (exact_match, f1, numeric, numeric_last, yes_no, lm_eval)."
        )
    if output_type == "multiple_choice" and score == "lm_eval":
        raise TaskError(
            f"{path}: score is 'lm_eval', which reads a generated answer, and the task's own measures are of its options."
        )


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
        if isinstance(value, int) and not isinstance(value, bool):
            return value
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

    def shot_target(self) -> TargetSource:
        """As ``target``; an empty text says that ``doc_to_text`` gives a shot with its answer."""
        return "" if self.table.get("doc_to_target") == "" else self.target()

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
    unless_named = [] if output_type == "multiple_choice" else [read.text("fewshot_delimiter", "\n\n")]
    until = settings.get("until", unless_named)
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
        doc_to_target=own.shot_target() if "doc_to_target" in own.table else read.target(),
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
