"""What a task measures: lm-eval's metrics, the filters that read an answer before they do, and code of the task's own.

A report takes the mean of a score of each item. A metric counts where lm-eval takes that mean too; one of all answers together
(bleu, an F1 over classes) is none of an item, and is named in the report as not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.benchmarks.functions import FunctionRef, lm_eval_tasks_dir
from salad_eval.errors import TaskError, did_you_mean
from salad_eval.types import ScoreKind

# Which of our scores is the mean that lm-eval calls by that name, for tasks whose options are compared; the first that a task names counts.
OPTION_METRICS: Mapping[str, ScoreKind] = {
    "acc": "ll", "acc_norm": "ll_norm", "acc_bytes": "ll_bytes", "acc_mutual_info": "ll_mutual_info",
}  # fmt: skip
# lm-eval has these of all items together; which option was chosen of which, item by item, is what acc is made of.
_OF_CHOSEN_OPTIONS = ("f1", "mcc", "brier_score", "likelihood")
_DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
_MEANS = ("mean", "nanmean")
_MEANS_OF = (*OPTION_METRICS, "exact_match")  # where a task does not say how it is taken together
# lm-eval looks any other name up on a hub, and runs what it finds there.
_FILTERS = (
    "take_first", "take_first_k", "majority_vote", "regex", "regex_pos", "multi_choice_regex", "remove_whitespace", "lowercase",
    "uppercase", "map", "format_span",
)  # fmt: skip
_RUN_PROGRAMS = ("cruxeval", "humaneval", "humaneval_infilling", "longproc", "mbpp", "noreval/ask_gec")
_SEND_ANSWERS = ("realtoxicityprompts",)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its name; ``function``: of the task's own. ``of_items``: lm-eval takes its mean over the items."""

    name: str
    of_items: bool
    function: FunctionRef | None = None
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FilterStep:
    function: str | FunctionRef
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerFilter:
    """A way to read an answer out of a generated text, in steps; each metric is taken of what each filter reads."""

    name: str
    steps: tuple[FilterStep, ...]


@dataclass(frozen=True, slots=True)
class Measures:
    """``process_results``: the task's own code, which then gives all metrics. Without filters the text counts as it is.

    ``named``: the task says which metrics it has; else they are lm-eval's for its kind.
    """

    metrics: tuple[Metric, ...]
    filters: tuple[AnswerFilter, ...] = ()
    process_results: FunctionRef | None = None
    named: bool = True

    @property
    def of_items(self) -> tuple[str, ...]:
        """Names of the metrics that score each item by itself."""
        return tuple(metric.name for metric in self.metrics if metric.of_items)

    @property
    def functions(self) -> tuple[FunctionRef, ...]:
        """The task's own functions that scoring would call."""
        steps = [step for one in self.filters for step in one.steps]
        named: list[object] = [self.process_results, *(metric.function for metric in self.metrics if metric.of_items)]
        named += [value for step in steps for value in (step.function, *(option for _, option in step.options))]
        return tuple(dict.fromkeys(value for value in named if isinstance(value, FunctionRef)))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self.metrics)


def measures_of(table: Mapping[str, Any], path: Path) -> Measures:
    """What the task in ``table`` measures. Raises ``TaskError`` naming the key that is not as lm-eval has it."""
    output_type = str(table.get("output_type") or "generate_until")
    own = table.get("process_results")
    if own is not None and not isinstance(own, FunctionRef):
        raise TaskError(f"{path}: process_results is {own!r:.80}; expected !function and a function beside the YAML.")
    stated = table.get("metric_list")
    if stated is None:
        metrics = tuple(Metric(name, _known(name, output_type)) for name in _DEFAULT_METRICS.get(output_type, ()))
    else:
        metrics = tuple(
            _metric(one, output_type, own is not None, path) for one in _entries(stated, "metric_list", path)
        )
    filters = table.get("filter_list")
    read = () if filters is None else tuple(_filter(one, path) for one in _entries(filters, "filter_list", path))
    return Measures(metrics, read, own, named=stated is not None)


def default_score(measures: Measures, output_type: str, name: str) -> ScoreKind:
    """How lm-eval scores a task's items. Raises ``TaskError`` where none of its metrics is one of an item."""
    if measures.process_results is None and output_type == "multiple_choice":
        known = [kind for metric, kind in OPTION_METRICS.items() if metric in measures.names]
        if known:
            return known[0]
        if any(metric in _OF_CHOSEN_OPTIONS for metric in measures.names):
            return "ll"
    elif measures.of_items:
        return "lm_eval_ll" if output_type == "multiple_choice" else "lm_eval"
    raise TaskError(
        f"task {name}: what it measures ({', '.join(measures.names) or 'nothing'}) is no score of each item by itself, which a gap is "
        "made of. Say how answers are scored here, --set score=…, or ask another task."
    )


def not_computed(measures: Measures, score: ScoreKind) -> tuple[str, ...]:
    """The metrics that a task names and that are not taken under ``score``."""
    if not measures.named:
        return ()
    if score in ("lm_eval", "lm_eval_ll"):
        taken: Sequence[str] = measures.of_items
    else:
        of_options = [metric for metric, kind in OPTION_METRICS.items() if kind != "ll_mutual_info" or kind == score]
        taken = of_options if score in OPTION_METRICS.values() else ()
    return tuple(name for name in measures.names if name not in taken)


def refuse_programs(measures: Measures, name: str, path: Path) -> None:
    """Refuse to score by code that runs what a model wrote, or sends it elsewhere."""
    installed = lm_eval_tasks_dir()
    if installed is None or not path.is_relative_to(installed):
        return
    folder = path.relative_to(installed).as_posix() + "/"
    if any(folder.startswith(f"{one}/") for one in _RUN_PROGRAMS):
        raise TaskError(f"task {name}: its scoring runs programs on what a model writes, which is never done here.")
    judged = measures.process_results is not None and "llm_judge" in measures.process_results.name
    if judged or any(folder.startswith(f"{one}/") for one in _SEND_ANSWERS):
        raise TaskError(
            f"task {name}: its scoring sends what a model writes to another service, which is not done here."
        )


def _entries(value: object, key: str, path: Path) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise TaskError(f"{path}: {key} is {value!r:.80}; expected a list of mappings.")
    return value


def _metric(entry: Mapping[str, Any], output_type: str, own: bool, path: Path) -> Metric:
    stated, aggregation = entry.get("metric"), entry.get("aggregation")
    if not isinstance(stated, (str, FunctionRef)):
        raise TaskError(f"{path}: metric_list names the metric {stated!r:.80}; expected a name.")
    options = tuple(
        (key, value)
        for key, value in entry.items()
        if key not in ("metric", "aggregation", "higher_is_better", "hf_evaluate")
    )
    mean = aggregation in _MEANS if aggregation is not None else stated in _MEANS_OF
    if isinstance(stated, FunctionRef):
        return Metric(stated.name.rpartition(".")[2], mean, stated, options)
    known = own or (_known(stated, output_type) and not entry.get("hf_evaluate"))
    return Metric(stated, mean and known, None, options)


def _known(name: str, output_type: str) -> bool:
    """Whether lm-eval's own metric of that name scores an item by itself."""
    return name in OPTION_METRICS if output_type == "multiple_choice" else name == "exact_match"


def _filter(entry: Mapping[str, Any], path: Path) -> AnswerFilter:
    name, steps = entry.get("name"), entry.get("filter")
    if not isinstance(name, str) or not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise TaskError(f"{path}: filter_list holds {entry!r:.80}; expected a name, and a filter of one or more steps.")
    return AnswerFilter(name, tuple(_step(step, path) for step in steps))


def _step(step: Mapping[str, Any], path: Path) -> FilterStep:
    function = step.get("function")
    options = tuple((key, value) for key, value in step.items() if key != "function")
    installed = lm_eval_tasks_dir()
    trusted = installed is not None and path.is_relative_to(installed)  # its code registers filters of its own
    if isinstance(function, FunctionRef) or function in _FILTERS or (isinstance(function, str) and trusted):
        return FilterStep(function, options)
    raise TaskError(
        f"{path}: filter_list names the function {function!r:.80}{did_you_mean(str(function), _FILTERS)}; expected one of "
        f"{', '.join(_FILTERS)}."
    )
