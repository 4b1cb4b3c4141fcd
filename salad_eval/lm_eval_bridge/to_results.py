"""From a finished run to lm-eval's results: one folder a column (and rendering), each with ``results_*.json`` and ``samples_*.jsonl``.

The tasks are called as those of ``tasks/lm_eval/``, the documents are the same rows, and the measures are lm-eval's own of the same
log-probabilities, so that what reads lm-eval's results (leaderboards, plots, ``salad from-lm-eval``) reads these. What lm-eval
writes of its own run and machine (versions, git hash, wall time) is left out: it did not run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from salad_eval.answers.score import score_response
from salad_eval.audio.store import AudioStore
from salad_eval.lm_eval_bridge.rows import GENERATED_METRIC, METRICS, Form, Row, as_doc, spoken_row, text_row
from salad_eval.lm_eval_bridge.task_files import subtask_names
from salad_eval.pipeline.finished import FinishedRun, read_run
from salad_eval.records import write_atomic
from salad_eval.types import (
    COLUMN_FORM,
    LOGPROB_SCORES,
    ColumnSpec,
    GapReport,
    InputForm,
    Item,
    Rendering,
    Response,
    TaskProtocol,
)

FORM_OF: Mapping[InputForm, Form] = {"text": "text", "transcript": "cascade", "speech": "speech"}
_FILTER = "none"  # lm-eval's name of the filter that changes nothing


@dataclass(frozen=True, slots=True)
class _Document:
    """A row, what was answered to it, and lm-eval's measures of the answer."""

    row: Row
    item: Item
    response: Response
    metrics: Mapping[str, float]


def results_from_run(run: Path, out: Path) -> list[Path]:
    """Write a finished run as lm-eval's results below ``out``, and return the results files.

    Raises ``DataError`` for a folder that is not a finished run's.
    """
    finished = read_run(run)
    plan = finished.plan
    items = {item.id: item for item in finished.items}
    protocols = {protocol.task: protocol for protocol in finished.report.protocols}
    renderings = _renderings(finished)
    store = AudioStore(plan.audio_store)
    date = datetime.fromisoformat(finished.report.created)
    written = []
    for column in finished.report.columns:
        responses = finished.responses(column.name)
        for rendered in dict.fromkeys((response.voice, response.perturbation) for response in responses):
            documents = [
                _document(response, items[response.item_id], protocols, renderings, store)
                for response in responses
                if (response.voice, response.perturbation) == rendered and _usable(response)
            ]
            folder = out / _folder_name(column.name, *rendered)
            written.append(_write(folder, date, column, finished.report, documents, protocols))
    return written


def _usable(response: Response) -> bool:
    return response.choice_logprobs is not None or response.text is not None


def _renderings(run: FinishedRun) -> dict[tuple[str, str, str], dict[str, Rendering]]:
    """Renderings by item, voice and perturbation, then by part."""
    found: dict[tuple[str, str, str], dict[str, Rendering]] = {}
    for r in run.renderings():
        found.setdefault((r.item_id, r.voice, r.perturbation), {})[r.part] = r
    return found


def _document(
    response: Response,
    item: Item,
    protocols: Mapping[str, TaskProtocol],
    renderings: Mapping[tuple[str, str, str], Mapping[str, Rendering]],
    store: AudioStore,
) -> _Document:
    protocol = protocols[item.task]
    if response.voice is None or response.perturbation is None:
        row = text_row(item, protocol)
    else:
        parts = renderings[item.id, response.voice, response.perturbation]
        row = spoken_row(item, protocol, FORM_OF[response.input_form], parts, store)
    return _Document(row, item, response, _metrics(item, response, protocol))


def _metrics(item: Item, response: Response, protocol: TaskProtocol) -> dict[str, float]:
    if protocol.score in LOGPROB_SCORES:
        scored = {"acc": score_response(item, response, "ll"), "acc_norm": score_response(item, response, "ll_norm")}
        return {name: score.value for name, score in scored.items() if score.value is not None}
    score = score_response(item, response, protocol.score)
    metric = METRICS.get(protocol.score, GENERATED_METRIC)
    return {} if score.value is None else {metric: score.value, "unparsed": float(not score.parsed)}


# --- files -----------------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    date: datetime,
    column: ColumnSpec,
    report: GapReport,
    documents: Sequence[_Document],
    protocols: Mapping[str, TaskProtocol],
) -> Path:
    stamp = date.replace(tzinfo=None).isoformat().replace(":", "-")
    by_subtask: dict[str, list[_Document]] = {}
    groups: dict[str, list[str]] = {}
    form = FORM_OF[COLUMN_FORM[column.name]]
    for task in protocols:
        own = [document for document in documents if document.row.task == task]
        names = subtask_names(sorted({document.row.domain for document in own}))
        groups[f"{task}_{form}"] = [f"{task}_{form}_{name}" for name in names.values()]
        for domain, name in names.items():
            by_subtask[f"{task}_{form}_{name}"] = [document for document in own if document.row.domain == domain]
    samples = {name: [_sample(n, d) for n, d in enumerate(of_task)] for name, of_task in by_subtask.items()}
    for name, listed in samples.items():
        lines = "".join(json.dumps(sample, ensure_ascii=False, allow_nan=False) + "\n" for sample in listed)
        write_atomic(folder / f"samples_{name}_{stamp}.jsonl", lines)
    results = _results(column, report, date, by_subtask, groups, samples, protocols)
    file = folder / f"results_{stamp}.json"
    write_atomic(file, json.dumps(results, ensure_ascii=False, allow_nan=False, indent=2) + "\n")
    return file


def _results(
    column: ColumnSpec,
    report: GapReport,
    date: datetime,
    by_subtask: Mapping[str, Sequence[_Document]],
    groups: Mapping[str, Sequence[str]],
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    protocols: Mapping[str, TaskProtocol],
) -> dict[str, Any]:
    """The table that lm-eval writes as ``results_*.json``."""
    rows: dict[str, dict[str, Any]] = {}
    for name, of_task in by_subtask.items():
        rows[name] = {"name": name, "alias": of_task[0].row.domain, "sample_len": len(of_task)} | _measured(of_task)
    groups = {name: subtasks for name, subtasks in groups.items() if subtasks}
    group_rows = {name: _pooled(name, [rows[subtask] for subtask in subtasks]) for name, subtasks in groups.items()}
    task_of = {name: of_task[0].row.task for name, of_task in by_subtask.items()}
    task_of |= {name: task_of[subtasks[0]] for name, subtasks in groups.items()}
    shots = {name: protocols[task].shots for name, task in task_of.items()}
    better = {
        name: {metric: metric != "unparsed" for metric in _metric_names(protocols[t])} for name, t in task_of.items()
    }
    return {
        "results": {**group_rows, **rows},
        "groups": group_rows,
        "group_subtasks": {name: list(subtasks) for name, subtasks in groups.items()},
        "configs": {name: _config(name, protocols[task_of[name]]) for name in by_subtask},
        "versions": dict.fromkeys([*groups, *by_subtask], "N/A"),
        "n-shot": shots,
        "higher_is_better": better,
        "n-samples": {
            name: {"original": len(of_task), "effective": len(of_task)} for name, of_task in by_subtask.items()
        },
        "config": {
            "model": column.system,
            "model_args": {},
            "model_fingerprint": column.fingerprint,
            "salad_gap_version": version("salad-gap"),
            "limit": None,
            "bootstrap_iters": 0,
        },
        "date": date.timestamp(),
        "task_hashes": {name: _task_hash(listed) for name, listed in samples.items()},
        "model_source": "salad-gap",
        "model_name": column.system,
        "model_name_sanitized": _plain(column.system),
        "salad_gap_signature": report.signature,
    }


def _measured(documents: Sequence[_Document]) -> dict[str, Any]:
    """Means of a subtask's measures, with lm-eval's standard error of a mean."""
    from lm_eval.api.metrics import mean_stderr

    found: dict[str, Any] = {}
    for metric in dict.fromkeys(name for document in documents for name in document.metrics):
        values = [document.metrics[metric] for document in documents if metric in document.metrics]
        found[f"{metric},{_FILTER}"] = sum(values) / len(values)
        found[f"{metric}_stderr,{_FILTER}"] = mean_stderr(values) if len(values) > 1 else "N/A"
    return found


def _pooled(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A group's row: means weighted by size, and lm-eval's pooled standard error."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr

    found: dict[str, Any] = {"name": name, "alias": name, "sample_len": sum(row["sample_len"] for row in rows)}
    for key in dict.fromkeys(
        key for row in rows for key in row if key.endswith(f",{_FILTER}") and "_stderr" not in key
    ):
        metric = key.removesuffix(f",{_FILTER}")
        measured = [row for row in rows if key in row]
        sizes = [row["sample_len"] for row in measured]
        errors = [row[f"{metric}_stderr,{_FILTER}"] for row in measured]
        found[key] = aggregate_subtask_metrics([row[key] for row in measured], sizes, True)
        found[f"{metric}_stderr,{_FILTER}"] = "N/A" if "N/A" in errors else pooled_sample_stderr(errors, sizes)
    return found


def _config(name: str, protocol: TaskProtocol) -> dict[str, Any]:
    kind = "multiple_choice" if protocol.score in LOGPROB_SCORES else "generate_until"
    return {
        "task": name,
        "output_type": kind,
        "num_fewshot": protocol.shots,
        "metadata": {
            "salad_task": protocol.task,
            "split": protocol.split,
            "data_revision": protocol.data_revision,
            "speak": protocol.speak,
            "spoken_shots": protocol.spoken_shots,
            "score": protocol.score,
        },
    }


def _metric_names(protocol: TaskProtocol) -> tuple[str, ...]:
    if protocol.score in LOGPROB_SCORES:
        return ("acc", "acc_norm")
    return (METRICS.get(protocol.score, GENERATED_METRIC), "unparsed")


def _sample(doc_id: int, document: _Document) -> dict[str, Any]:
    """A document as lm-eval logs it; numbers in responses are text there, and is_greedy, which a run does not ask, is None."""
    doc = as_doc(document.row)
    doc["audio"] = list(doc["audio"])
    heard: dict[str, Any] = {"arg_2": {"audio": doc["audio"]}} if doc["audio"] else {}
    logprobs = document.response.choice_logprobs
    if logprobs is not None:
        arguments = [{"arg_0": document.row.context, "arg_1": text, **heard} for text in document.item.continuations]
        answers: list[Any] = [[str(value), "None"] for value in logprobs]
    else:
        arguments = [{"arg_0": document.row.context, "arg_1": {"do_sample": False}, **heard}]
        answers = [document.response.text]
    target = str(doc["golds"]) if logprobs is not None else str(doc["answers"])
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": target,
        "arguments": {f"gen_args_{n}": argument for n, argument in enumerate(arguments)},
        "resps": [[answer] for answer in answers],
        "filtered_resps": answers,
        "filter": _FILTER,
        "metrics": list(document.metrics),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(document.row.context),
        "target_hash": _hash(target),
        **document.metrics,
    }


def _task_hash(samples: Iterable[Mapping[str, Any]]) -> str:
    return _hash("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _folder_name(column: str, voice: str | None, perturbation: str | None) -> str:
    return _plain(".".join(part for part in (column, voice, perturbation) if part))


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", text).strip("_.") or "model"
