"""What lm-eval leaves of a run (``results_*.json`` and, with ``--log_samples``, ``samples_*.jsonl``), read with every field checked."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from salad_eval.errors import DataError
from salad_eval.records import Json, parse_json

_DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
_SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<date>{_DATE})\.jsonl")
_ONLY_FILTER = "none"  # as lm-eval calls it where a task has none
_KEYS = (
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash",
)  # fmt: skip
_NOT_MEASURED = "bypass"  # the metric of --predict_only
_RESULTS = re.compile(rf"(?:.+_)?(?P<date>{_DATE})\.json")


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of one task: what was asked, what came back, and how lm-eval scored it.

    ``doc`` is the row as the task reads it. ``continuations`` are the scored strings, delimiter included (empty for a generation).
    ``logprobs`` are theirs in nats, ``answer`` is a generation after lm-eval's filter; what does not apply is ``None``.
    """

    task: str
    doc_id: int
    doc_hash: str
    filter: str
    doc: Mapping[str, Json]
    target: str
    prompt: str
    continuations: tuple[str, ...]
    logprobs: tuple[float, ...] | None
    answer: str | None
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LmEvalRun:
    """The samples of one model, each task's newest. ``model`` and ``fingerprint`` say which; ``notes`` what a reader should know."""

    path: Path
    model: str
    fingerprint: str
    lm_eval_version: str
    dates: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def read_lm_eval(path: Path, filter_name: str | None = None) -> LmEvalRun:
    """The samples in a file or anywhere below a folder (lm-eval's ``--output_path``), of one model and one filter a task.

    Where a task was run several times the newest counts, and a note says so. Raises ``DataError`` for a path without samples, for
    samples of several models or filters among which nothing chooses, and for a line that is not a sample, naming file and line.
    """
    files = _sample_files(path)
    folders = sorted({file.parent for files_of_task in files.values() for file in files_of_task.values()})
    if len(folders) > 1:
        raise DataError(
            f"{path}: holds samples of several models: {', '.join(str(folder) for folder in folders[:4])}. Give the folder of one of them."
        )
    notes = []
    samples: list[Sample] = []
    dates: set[str] = set()
    for task, by_date in sorted(files.items()):
        newest = max(by_date)
        dates.add(newest)
        if len(by_date) > 1:
            notes.append(f"{task} was run {len(by_date)} times; the run of {newest} counts.")
        samples += _of_one_filter(
            list(_filters_named(_iter_samples(by_date[newest], task))), filter_name, by_date[newest]
        )
    if not samples:
        raise DataError(f"{path}: its samples files are empty; was the run stopped?")
    config, version = _model_config(folders[0], max(dates))
    model = str(config.get("model") or "unknown")
    return LmEvalRun(path, model, _fingerprint(config), version, tuple(sorted(dates)), tuple(samples), tuple(notes))


def _sample_files(path: Path) -> dict[str, dict[str, Path]]:
    """Files by task and date."""
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = sorted(path.glob("**/samples_*.jsonl"))
    else:
        raise DataError(f"{path}: there is no such file or folder; expected what lm-eval was given as --output_path.")
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in found:
        if match := _SAMPLES.fullmatch(file.name):
            files[match["task"]].setdefault(match["date"], file)
            if files[match["task"]][match["date"]] != file:
                files[f"{match['task']} "][match["date"]] = (
                    file  # the same name in another folder: seen as a second model
                )
    if not files:
        raise DataError(
            f"{path}: holds no samples_<task>_<date>.jsonl. Run lm-eval with --log_samples --output_path, which write them."
        )
    return files


def _iter_samples(file: Path, task: str) -> Iterator[Sample]:
    try:
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _sample(line, task, f"{file}, line {number}")
    except OSError as cause:
        raise DataError(f"cannot read {file}: {cause.strerror or cause}.") from None


def _sample(line: bytes, task: str, where: str) -> Sample:
    try:
        table = parse_json(line)
    except ValueError as cause:
        raise DataError(
            f"{where}: is not JSON ({cause}); the file was cut short, or is not lm-eval's, which writes a sample a line from 0.4.3 on."
        ) from None
    if not isinstance(table, dict):
        raise DataError(f"{where}: a sample is an object, this is a {type(table).__name__}.")
    arguments = _field(table, "arguments", dict, where)
    pairs = [arguments[key] for key in sorted(arguments, key=_argument_number)]
    if not pairs or not all(isinstance(pair, dict) and isinstance(pair.get("arg_0"), str) for pair in pairs):
        raise DataError(f"{where}: its arguments hold no prompt (gen_args_0.arg_0).")
    continuations = tuple(pair["arg_1"] for pair in pairs if isinstance(pair.get("arg_1"), str))
    responses = _field(table, "filtered_resps", list, where)
    logprobs = _logprobs(responses, where) if continuations else None
    answer = responses[0] if not continuations and responses and isinstance(responses[0], str) else None
    named = table["metrics"] if isinstance(table.get("metrics"), list) else [key for key in table if key not in _KEYS]
    names = [name for name in named if isinstance(name, str) and name != _NOT_MEASURED]
    return Sample(
        task=task,
        doc_id=_field(table, "doc_id", int, where),
        doc_hash=_field(table, "doc_hash", str, where),
        filter=_field(table, "filter", str, where) if "filter" in table else "",
        doc=_field(table, "doc", dict, where),
        target=str(table.get("target")),
        prompt=pairs[0]["arg_0"],
        continuations=continuations,
        logprobs=logprobs,
        answer=answer,
        metrics={name: number for name in names if (number := _number(table.get(name))) is not None},
    )


def _argument_number(key: str) -> int:
    digits = re.search(r"\d+$", key)
    return int(digits[0]) if digits else 0


def _field(table: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = table.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(
            f"{where}: {name} is {value!r:.60}; expected {kind.__name__}. Is it a samples file of lm-eval 0.4.3 or later?"
        )
    return value


def _number(value: object) -> float | None:
    """A metric of a document. lm-eval has of some which option is right and which was chosen, from which it takes an F1 of all."""
    if isinstance(value, list):
        return float(value[0] == value[1]) if len(value) == 2 and all(isinstance(one, int) for one in value) else None
    if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:
        return float(value)  # a bool counts as 0 or 1
    return None


def _logprobs(responses: list[Any], where: str) -> tuple[float, ...]:
    """Of each response its first half: lm-eval writes [log-probability, is_greedy], both as text."""
    found = []
    for response in responses:
        first = response[0] if isinstance(response, list) and response else response
        try:
            value = float(first)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{where}: a response is {response!r:.60}; expected [log-probability, is_greedy]."
            ) from None
        found.append(value)
    if not all(map(math.isfinite, found)):
        raise DataError(
            f"{where}: a log-probability is {min(found)}, which is no measurement. Run it again in float32."
        )
    return tuple(found)


def _filters_named(samples: Iterable[Sample]) -> list[Sample]:
    """Until 0.4.6 lm-eval wrote all documents once a filter, one filter after the other, and not which: they are numbered."""
    seen: Counter[int] = Counter()
    named = []
    for sample in samples:
        seen[sample.doc_id] += 1
        named.append((sample, str(seen[sample.doc_id])))
    several = any(n > 1 for n in seen.values())
    return [sample if sample.filter else replace(sample, filter=n if several else _ONLY_FILTER) for sample, n in named]


def _of_one_filter(samples: list[Sample], wanted: str | None, file: Path) -> list[Sample]:
    names = list(dict.fromkeys(sample.filter for sample in samples))
    if wanted is None and len(names) > 1:
        raise DataError(
            f"{file}: its answers were read by several filters: {', '.join(names)}. Choose one: --filter {names[0]}."
        )
    if wanted is not None and samples and wanted not in names:
        raise DataError(f"{file}: has no filter {wanted!r}; it has {', '.join(names)}.")
    return [sample for sample in samples if wanted is None or sample.filter == wanted]


def _model_config(folder: Path, date: str) -> tuple[Mapping[str, Any], str]:
    """The model's part of the results file of that date, or of the newest there is; empty where there is none."""
    dated = {match["date"]: file for file in folder.glob("*.json") if (match := _RESULTS.fullmatch(file.name))}
    if not dated:
        return {}, "unknown"
    file = dated.get(date, dated[max(dated)])
    try:
        table = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise DataError(f"{file}: cannot be read as lm-eval's results: {cause}.") from None
    config = table.get("config") if isinstance(table, dict) else None
    if not isinstance(config, dict):
        raise DataError(f"{file}: has no config; it is not lm-eval's results file.")
    return config, str(table.get("lm_eval_version") or "unknown")


def _fingerprint(config: Mapping[str, Any]) -> str:
    """What the run says of its model: our models say it exactly; of others it is their name, arguments and revision."""
    if config.get("model_fingerprint"):
        return str(config["model_fingerprint"])
    arguments = config.get("model_args")
    if isinstance(arguments, Mapping):
        arguments = ",".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    revision = config.get("model_sha") or config.get("model_revision")
    return f"{config.get('model') or 'unknown'}({arguments or ''}{f'@{revision}' if revision else ''})"
