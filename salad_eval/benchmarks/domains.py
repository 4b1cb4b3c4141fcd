"""The domain and the slices that a row belongs to, by the task's rules."""

from __future__ import annotations

from dataclasses import replace

from salad_eval.benchmarks.data import Row, Table
from salad_eval.benchmarks.row_values import Unusable, text_of
from salad_eval.benchmarks.spec import DomainRule, TaskSpec

# Columns by which the rows of a task that names no domain may be told apart.
_DOMAIN_COLUMNS = ("subject", "category", "domain", "activity_label")


def with_domain(task: TaskSpec, table: Table) -> TaskSpec:
    """The task with a column as its domain, where it names none and a usual one says something of every row."""
    if task.domain.source is not None:
        return task
    for column in _DOMAIN_COLUMNS:
        values = [row.get(column) for row in table.rows]
        if values and all(isinstance(value, str) and value.strip() for value in values):
            return replace(task, domain=DomainRule(column))
    return task


def domain_of(task: TaskSpec, row: Row, columns: frozenset[str]) -> str:
    rule = task.domain
    return task.name if rule.source is None else _by_rule(rule, rule.source, row, columns, "domain")


def slice_of(task: TaskSpec, name: str, row: Row, columns: frozenset[str]) -> str:
    rule, what = task.slice_rules.get(name), f"slice {name}"
    return (
        text_of(name, row, columns, what) if rule is None else _by_rule(rule, rule.source or name, row, columns, what)
    )


def _by_rule(rule: DomainRule, source: str, row: Row, columns: frozenset[str], what: str) -> str:
    value = text_of(source, row, columns, what).strip()
    if rule.topics is not None:
        nearest = rule.topics.nearest(value) or rule.default
        if nearest is None:
            raise Unusable("no topic shares a word with it", f"{value!r:.80}")
        return nearest
    if rule.names is None:
        if not value:
            raise Unusable(f"empty {what}")
        return value
    named = rule.names.get(value, rule.default)
    if named is None:
        raise Unusable(f"{what} not in the map", f"{value!r:.80}")
    return named
