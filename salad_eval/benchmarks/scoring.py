"""How a task's answers become scores: by a kind of ours, or by the task's own filters and metrics, which lm-eval runs.

For the latter lm-eval's own task object is made of the YAML's scoring keys and asked to filter and measure each answer, so that an
item's score is lm-eval's to the last digit. It gets the item's row, which the item carries. What its code cannot score is a
missing score with a reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from salad_eval.answers.score import NO_LOGPROBS, NO_TEXT, UNPARSED, score_response
from salad_eval.benchmarks.functions import FunctionRef, lm_eval_version
from salad_eval.benchmarks.measures import OPTION_METRICS
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError, UserInputError, did_you_mean
from salad_eval.types import LOGPROB_SCORES, OWN_SCORES, Item, Response, Score, ScoreKind, TaskProtocol

Scorer = Callable[[Item, Response], Score]
_FALLBACK = "[invalid]"  # what lm-eval's filters read where they find nothing, unless told otherwise
_FILTERS_WITH_FALLBACK = ("regex", "multi_choice_regex")
_MOST_PROBES, _LONGEST_PROBE = 4, 200
_UNFILTERED = "none"  # lm-eval's name of the filter that changes nothing


def scorer_of(task: TaskSpec) -> Scorer:
    """What scores the answers to a task's items."""
    if task.score in OWN_SCORES:
        return OwnScoring(task)
    if task.score not in LOGPROB_SCORES:
        return partial(score_response, kind=task.score)
    others = [
        (name, kind) for name, kind in OPTION_METRICS.items() if name in task.measures.names and kind != task.score
    ]
    return partial(_with_others, task.score, [one for one in others if one[1] != "ll_mutual_info"])


def _with_others(kind: ScoreKind, others: Sequence[tuple[str, ScoreKind]], item: Item, response: Response) -> Score:
    """The score of one kind, with the task's other measures of the same log-probabilities beside it."""
    score = score_response(item, response, kind)
    logprobs = response.choice_logprobs
    if score.value is None or logprobs is None or not others:
        return score
    after = replace(response, choice_logprobs=logprobs[: len(item.choices)])
    measured = {name: score_response(item, after, other).value for name, other in others}
    return replace(score, metrics={name: value for name, value in measured.items() if value is not None})


class NotAsked(Exception):
    """The task's own code asks for something that no system here says."""


class _Unknown:
    """Whether a model would have written an option of its own accord: not asked, and so neither true nor false."""

    def __bool__(self) -> bool:
        raise NotAsked(
            "it asks whether the model would write an option of its own accord (is_greedy), which is not measured here"
        )

    __int__ = __float__ = __index__ = __bool__


class OwnScoring:
    """Scores as the task's own filters and metrics have them; ``metric`` names the one that counts (``exact_match,strict-match``).

    Raises ``TaskError`` on first use for code that cannot be run.
    """

    def __init__(self, task: TaskSpec) -> None:
        self.task, self.measures = task, task.measures
        self._made: dict[bool, Any] = {}

    @property
    def metric(self) -> str:
        return own_metric(self.task)

    def __call__(self, item: Item, response: Response) -> Score:
        score = Score(item.id, response.column, response.voice, response.perturbation, None)
        if self.task.score == "lm_eval_ll":
            if response.choice_logprobs is None:
                return replace(score, reason=NO_LOGPROBS)
            answers: list[Any] = [(value, _Unknown()) for value in response.choice_logprobs]
        elif response.text is None:
            return replace(score, reason=NO_TEXT)
        else:
            answers = [response.text]
        try:
            found, read = self.measured(json.loads(item.row), answers)
        except (
            Exception,
            SystemExit,
        ) as cause:  # code of the task's own may fail in any way an answer makes it, or exit
            return replace(score, reason=f"the task's own scoring failed: {type(cause).__name__}: {cause}"[:300])
        value = found.get(self.metric)
        if value is None:
            return replace(score, reason=f"the task's own scoring gives no {self.metric} of it", metrics=found)
        if not 0.0 <= value <= 1.0:
            return replace(score, reason=f"{self.metric} is {value:g}; a score lies between 0 and 1", metrics=found)
        others = {name: other for name, other in found.items() if name != self.metric}
        parsed = self.task.score == "lm_eval_ll" or read not in self._fallbacks
        return replace(score, value=value, metrics=others, parsed=parsed, reason="" if parsed else UNPARSED)

    def measured(self, doc: Mapping[str, Any], answers: Sequence[Any]) -> tuple[dict[str, float], object]:
        """Every metric that is a number, as ``name,filter``, and what the first filter read. ``answers``: of each request of a row."""
        from lm_eval.api.instance import Instance

        kind = "loglikelihood" if self.task.score == "lm_eval_ll" else "generate_until"
        found: dict[str, float] = {}
        with _quiet():
            task = self._task(doc)
            instances = [
                Instance(
                    request_type=kind,
                    doc=dict(doc),
                    arguments=("", ""),
                    idx=n,
                    metadata=(self.task.name, 0, 1),
                    resps=[answer],
                )
                for n, answer in enumerate(answers)
            ]
            for one in task._filters:
                one.apply(instances)
            for name in instances[0].filtered_resps:
                results = [instance.filtered_resps[name] for instance in instances]
                for metric, value in task.process_results(dict(doc), results).items():
                    if isinstance(value, numbers.Real) and math.isfinite(value):
                        found[_named(metric, name)] = float(value)
        return found, next(iter(instances[0].filtered_resps.values()), None)

    @cached_property
    def _fallbacks(self) -> tuple[object, ...]:
        """What stands for an answer that the first filter does not find."""
        steps = self.measures.filters[0].steps if self.measures.filters else ()
        named = [dict(step.options).get("fallback") for step in steps]
        usual = any(step.function in _FILTERS_WITH_FALLBACK and "fallback" not in dict(step.options) for step in steps)
        return (*(value for value in named if value is not None), *((_FALLBACK,) if usual else ()), "")

    def _task(self, doc: Mapping[str, Any]) -> Any:
        """lm-eval's task object, which takes from its first row whether answers have several targets."""
        if not self._made:
            made = _lm_eval_task(self.task, doc)
            self._made[bool(made.multiple_target)] = made
        known = next(iter(self._made.values()))
        several = isinstance(known.doc_to_target(dict(doc)), list) if self.measures.process_results is None else False
        if self.measures.process_results is not None:
            return known
        if several not in self._made:
            self._made[several] = _lm_eval_task(self.task, doc)
        return self._made[several]


def check_scoring(task: TaskSpec, item: Item) -> None:
    """Score one right answer by the task's own measures, so that what cannot be scored is refused before anything is made.

    Raises ``TaskError`` for code that cannot be run, and where the measure that counts is none of an item, or none between 0 and 1.
    """
    if task.score not in OWN_SCORES:
        return
    own = OwnScoring(task)
    if task.score == "lm_eval_ll":
        n = len(item.continuations)
        answers: list[Any] = [(-1.0 if place == item.gold else -2.0 - place, _Unknown()) for place in range(n)]
    else:
        answers = [item.answers[0] if item.answers else ""]
    try:
        found, _ = own.measured(json.loads(item.row), answers)
    except TaskError:
        raise
    except (Exception, SystemExit) as cause:
        raise TaskError(
            f"task {task.name}: its own scoring fails on item {item.id!r}: {type(cause).__name__}: {' '.join(str(cause).split())[:300]}. "
            "Say how answers are scored here: --set score=…"
        ) from None
    beyond = _beyond(own, item) if task.measures.process_results is not None and task.score == "lm_eval" else None
    if beyond is not None:
        found = {**found, own.metric: beyond}
    usable = [name for name, value in found.items() if 0.0 <= value <= 1.0 and name in own_metrics(task)]
    if own.metric not in usable:
        got = (
            f"is {found[own.metric]:g} for {'an answer' if beyond is not None else 'a right answer'}"
            if own.metric in found
            else "is not measured of each item"
        )
        others = (
            f"Choose another: --set metric={usable[0]}" if usable else "Say how answers are scored here: --set score=…"
        )
        raise TaskError(f"task {task.name}: its measure {own.metric} {got}; expected a number from 0 to 1. {others}")


def _beyond(own: OwnScoring, item: Item) -> float | None:
    """The first value of the measure that counts which is no score, of the row's own short texts as answers; ``None`` where all are.

    A target that is no right answer to the task's own code (a line of a list, an empty text) shows no scale.
    """
    row = json.loads(item.row)
    for text in _short_texts(row)[:_MOST_PROBES]:
        with contextlib.suppress(Exception, SystemExit):  # of its own code's, on what is no answer
            value = own.measured(row, [text])[0].get(own.metric)
            if value is not None and not 0.0 <= value <= 1.0:
                return value
    return None


def _short_texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if 0 < len(value) <= _LONGEST_PROBE else []
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(text for one in below for text in _short_texts(one)))


def own_metrics(task: TaskSpec) -> list[str]:
    """The measures that score each item by themselves, filter by filter, as ``name,filter``."""
    filters = [one.name for one in task.measures.filters] or [_UNFILTERED]
    return [_named(metric, name) for name in filters for metric in task.measures.of_items]


def own_metric(task: TaskSpec) -> str:
    """The measure that counts: the one that was asked for, or the task's first of its first filter.

    Raises ``UserInputError`` for a measure that the task does not have.
    """
    known = own_metrics(task)
    if task.metric is None:
        return known[0]
    found = [name for name in known if task.metric in (name, name.partition(",")[0])]
    if not found:
        raise UserInputError(
            f"task {task.name}: it has no measure {task.metric!r}{did_you_mean(task.metric, known)}; it has {', '.join(known)}."
        )
    return found[0]


def measure_notes(protocols: Sequence[TaskProtocol], task_of: Mapping[str, str], scores: Sequence[Score]) -> list[str]:
    """What a report says of measures beside the one that counts: their means by column, and those that were not taken.

    ``task_of``: the task of each item.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for score in scores:
        for name, value in score.metrics.items():
            by_column = values.setdefault(task_of[score.item_id], {}).setdefault(name, {})
            by_column.setdefault(score.column, []).append(value)
    notes = []
    for protocol in protocols:
        for name, by_column in values.get(protocol.task, {}).items() if protocol.metric else ():
            means = ", ".join(f"{column} {math.fsum(found) / len(found):.3f}" for column, found in by_column.items())
            notes.append(f"{protocol.task}: scored by {protocol.metric}; also measured {name}: {means}.")
        if protocol.not_computed:
            named = ", ".join(protocol.not_computed)
            notes.append(
                f"{protocol.task}: scored by {protocol.score}; of the measures that it names, not computed: {named}."
            )
    return notes


def scoring_fingerprint(task: TaskSpec) -> str:
    """Identifies how a task's answers are scored: the kind, and of its own scoring the keys, the code and the lm-eval that runs it."""
    parts = [task.score, repr(task.metric)]
    if task.score in OWN_SCORES:
        files = {function.file for function in task.measures.functions if function.file is not None}
        keys = (task.measures, task.doc_to_text, task.doc_to_target, task.doc_to_choice)
        parts += [lm_eval_version(), json.dumps(_without_places(keys), default=str)]
        parts += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _without_places(value: object) -> object:
    """A part of a spec as plain values, functions by their names: where a package lies changes no score."""
    if isinstance(value, FunctionRef):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _without_places(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return [_without_places(one) for one in value] if isinstance(value, (tuple, list)) else value


def _named(metric: str, filter_name: str) -> str:
    return metric if filter_name == _UNFILTERED else f"{metric},{filter_name}"


def _lm_eval_task(task: TaskSpec, doc: Mapping[str, Any]) -> Any:
    """lm-eval's own task object of the keys that decide a score, on one row."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    measures = task.measures
    counted = [metric for metric in measures.metrics if metric.of_items]
    config: dict[str, Any] = {
        "task": task.name,
        "output_type": task.output_type,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list([dict(doc)])},
        "test_split": "test",
        "doc_to_text": _plain(task.doc_to_text),
        "doc_to_target": _plain(task.doc_to_target),
        "doc_to_choice": _plain(task.doc_to_choice),
        "process_results": _plain(measures.process_results),
        "metric_list": [
            {
                **dict(one.options),
                "metric": _plain(one.function or one.name),
                "aggregation": "mean",
                "higher_is_better": True,
            }
            for one in counted
        ],
        "filter_list": [
            {
                "name": one.name,
                "filter": [{**_options(step.options), "function": _plain(step.function)} for step in one.steps],
            }
            for one in measures.filters
        ]
        or None,
    }
    try:
        return ConfigurableTask(config=config)
    except Exception as cause:
        raise TaskError(
            f"task {task.name}: lm-eval cannot score it here: {type(cause).__name__}: {' '.join(str(cause).split())[:300]}."
        ) from None


def _plain(value: object) -> Any:
    """A value of a spec as lm-eval has it in a YAML: functions themselves, lists as lists."""
    if isinstance(value, FunctionRef):
        return value.resolve()
    return list(value) if isinstance(value, tuple) else value


def _options(options: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, FunctionRef) else value for key, value in options}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's notes on each task that it makes."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
