"""A gap report as a block for a model card of the Hugging Face hub: ``model-index`` (YAML) and a short table (Markdown).

Results are those of the adapted speech LLM; the text LLM's and the cascade's stand beside them by name, since a gap is a
difference of two models. Values are fractions in [0, 1], as in the report; each has its 95% interval and its number of
questions under ``args``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from salad_eval.report.costs import HOW_COUNTED, cost_table
from salad_eval.report.markdown import escape_markdown
from salad_eval.report.wording import MISSING, interval, percent
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapReport, GapRow, TaskProtocol

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TASK_TYPE = "question-answering"
CONFIDENCE = 0.95
_COLUMN_NAMES: Mapping[ColumnName, str] = {
    "base_text": "accuracy of the text LLM, reading",
    "base_transcript": "accuracy of the cascade (ASR, then the text LLM)",
    "adapted_text": "accuracy, reading",
    "adapted_speech": "accuracy, hearing",
}
_DIFFERENCES: Mapping[str, str] = {
    "gap": "text-speech gap (text LLM reading - this model hearing; smaller is better)",
    "forgetting": "forgetting (text LLM reading - this model reading; smaller is better)",
    "misalignment": "misalignment (this model reading - this model hearing; smaller is better)",
    "cascade_loss": "cascade loss (text LLM reading - cascade; smaller is better)",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of a row: ``kind`` is ``accuracy`` or the name of a difference."""

    kind: str
    name: str
    estimate: Estimate


def measures_of(row: GapRow) -> Iterator[Measured]:
    """What was measured of a row, the columns first; what was not measured is not there."""
    for column in COLUMNS:
        if column in row.accuracy:
            yield Measured("accuracy", _COLUMN_NAMES[column], row.accuracy[column])
    for name, title in _DIFFERENCES.items():
        estimate: Estimate | None = getattr(row, name)
        if estimate is not None:
            yield Measured(name, title, estimate)


def eval_results(report: GapReport) -> list[EvalResult]:
    """The results of every task of a report (of a run on several tasks: by its slices by task) and of all of them together.

    ``metrics[].args`` holds the interval (``low``, ``high``, ``confidence``) and ``n``, the number of questions.
    """
    return [result for scope in _scopes(report) for result in _results(scope, report)]


@dataclass(frozen=True, slots=True)
class _Scope:
    """A row and the data set it is about."""

    row: GapRow
    protocols: Sequence[TaskProtocol]

    @property
    def name(self) -> str:
        return " + ".join(protocol.task for protocol in self.protocols)


def _scopes(report: GapReport) -> Iterator[_Scope]:
    by_task = {part.row.name: part.row for part in report.slices if part.field == "task"}
    if len(report.protocols) > 1:
        for protocol in report.protocols:
            if protocol.task in by_task:
                yield _Scope(by_task[protocol.task], (protocol,))
    yield _Scope(report.overall, report.protocols)


def _results(scope: _Scope, report: GapReport) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    protocol = scope.protocols[0]
    for measured in measures_of(scope.row):
        estimate = measured.estimate
        yield EvalResult(
            task_type=TASK_TYPE,
            task_name="Spoken question answering",
            dataset_type=scope.name,
            dataset_name=f"{scope.name}, spoken",
            dataset_split=report.split,
            dataset_revision=protocol.data_revision if len(scope.protocols) == 1 else None,
            dataset_args={"shots": protocol.shots, "speak": protocol.speak, "score": protocol.score},
            metric_type=measured.kind,
            metric_name=measured.name,
            metric_value=estimate.value,
            metric_args={"low": estimate.low, "high": estimate.high, "confidence": CONFIDENCE, "n": estimate.n},
        )


def card_data(report: GapReport, model_name: str) -> ModelCardData:
    """The metadata of a model card, built and checked by huggingface_hub."""
    from huggingface_hub import ModelCardData

    return ModelCardData(model_name=model_name, eval_results=eval_results(report), tags=["speech", "salad-gap"])


def results_table(report: GapReport) -> str:
    """A Markdown table of the results, in percent with 95% intervals, and how they were made."""
    scopes = list(_scopes(report))
    columns = [column for column in COLUMNS if any(column in scope.row.accuracy for scope in scopes)]
    titles = {
        "base_text": "text LLM",
        "base_transcript": "cascade",
        "adapted_text": "reading",
        "adapted_speech": "hearing",
    }
    heads = ["benchmark", "n", *(titles[column] for column in columns), "gap", "forgetting", "misalignment"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for scope in scopes:
        row = scope.row
        found = [row.accuracy.get(column) for column in columns] + [row.gap, row.forgetting, row.misalignment]
        lines.append(f"| {' | '.join([escape_markdown(scope.name), str(row.n_items), *map(_cell, found)])} |")
    return "\n".join(
        [
            *lines,
            "",
            "In percent, with 95 % intervals; gap = forgetting + misalignment, smaller is better.",
            "",
            *_costs(report),
            f"Made with salad-gap {version('salad-gap')}: {escape_markdown(report.signature)}",
            "",
        ]
    )


def _costs(report: GapReport) -> list[str]:
    costs = cost_table(report)
    if costs is None:
        return []
    heads = ["column", *(escape_markdown(head) for head in costs.heads)]
    rows = [f"| {' | '.join([title, *cells])} |" for title, cells in costs.titled()]
    return [f"| {' | '.join(heads)} |", "|---|" + "---:|" * len(costs.heads), *rows, "", HOW_COUNTED, ""]


def _cell(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else f"{percent(estimate.value)} {interval(estimate)}".strip()


def card_block(report: GapReport, model_name: str) -> str:
    """The block as a whole: the YAML between ``---`` lines and the table."""
    return f"---\n{card_data(report, model_name).to_yaml()}\n---\n\n{results_table(report)}"
