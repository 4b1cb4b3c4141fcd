"""A gap report as the hub's ``.eval_results/*.yaml``: what the speech LLM reads and hears right of each benchmark that is a data set there.

The format (huggingface_hub's ``EvalResultEntry``; hub-docs' ``eval_results.yaml``) is about one model: the text LLM, the cascade and
differences of two models stay in ``model_card``'s block. Values are fractions in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from salad_eval.benchmarks.catalogue import find_tasks, load_tasks
from salad_eval.errors import UserInputError
from salad_eval.records import write_atomic
from salad_eval.types import ColumnName, GapReport, GapRow, TaskProtocol

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

_NO_SUBSET = "default"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_GIT_SHA = re.compile(r"[0-9a-f]{40}")
_READ_AS: Mapping[ColumnName, str] = {"adapted_speech": "questions heard, spoken", "adapted_text": "questions read"}


@dataclass(frozen=True, slots=True)
class OnHub:
    """The data set of a task as the hub names it; ``task_id``: its subset."""

    dataset_id: str
    task_id: str


def on_hub(task: str) -> OnHub | None:
    """Where the rows of one of the package's tasks lie; ``None`` for other tasks and for rows that are no data set of the hub."""
    if task not in find_tasks():
        return None
    (spec,) = load_tasks([task])
    if not _HUB_ID.fullmatch(spec.dataset_path) or Path(spec.dataset_path).exists():
        return None
    return OnHub(spec.dataset_path, spec.dataset_name or _NO_SUBSET)


def entries(report: GapReport, source_url: str | None = None) -> dict[str, list[EvalResultEntry]]:
    """The entries by task, what is heard first. A task whose rows are not on the hub has none."""
    found = {
        protocol.task: list(_entries(report, protocol, row, place, source_url))
        for protocol, row in _rows(report)
        if (place := on_hub(protocol.task)) is not None
    }
    return {task: made for task, made in found.items() if made}


def write_eval_results(report: GapReport, folder: Path, source_url: str | None = None) -> list[Path]:
    """One file a task, as a model's repository holds them. Raises ``UserInputError`` where there is nothing to write."""
    found = entries(report, source_url)
    if not found:
        tasks = ", ".join(protocol.task for protocol in report.protocols)
        raise UserInputError(
            f"of {tasks} no rows are a data set of the hub, so there is nothing for .eval_results. Leave --eval-results out; the block "
            "for the model card holds every task."
        )
    from huggingface_hub import eval_result_entries_to_yaml  # there where its entries are

    files = []
    for task, made in found.items():
        text = yaml.safe_dump(eval_result_entries_to_yaml(made), sort_keys=False, allow_unicode=True)
        files.append(folder / f"{task}.yaml")
        write_atomic(files[-1], text)
    return files


def _rows(report: GapReport) -> Iterator[tuple[TaskProtocol, GapRow]]:
    if len(report.protocols) == 1:
        yield report.protocols[0], report.overall
        return
    by_task = {part.row.name: part.row for part in report.slices if part.field == "task"}
    yield from ((protocol, by_task[protocol.task]) for protocol in report.protocols if protocol.task in by_task)


def _entries(
    report: GapReport, protocol: TaskProtocol, row: GapRow, place: OnHub, source_url: str | None
) -> Iterator[EvalResultEntry]:
    try:
        from huggingface_hub import EvalResultEntry
    except ImportError:
        raise UserInputError(
            f"huggingface_hub {version('huggingface_hub')} knows no .eval_results. Get a newer one: pip install -U huggingface_hub"
        ) from None
    for column, how in _READ_AS.items():
        if (estimate := row.accuracy.get(column)) is None:
            continue
        known = estimate.low is not None and estimate.high is not None
        interval = f"95% interval {estimate.low:.4f} to {estimate.high:.4f}; " if known else ""
        yield EvalResultEntry(
            dataset_id=place.dataset_id,
            task_id=place.task_id,
            value=estimate.value,
            dataset_revision=protocol.data_revision if _GIT_SHA.fullmatch(protocol.data_revision) else None,
            source_url=source_url,
            notes=f"{how}; split {protocol.split}, {protocol.shots} shots, score {protocol.score}; n = {estimate.n}; "
            f"{interval}salad-gap {version('salad-gap')}, task {protocol.task}",
        )
