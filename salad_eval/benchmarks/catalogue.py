"""Tasks by name or path: the package's own, a YAML of one's own, and any of the installed lm-eval's."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from salad_eval import resources
from salad_eval.benchmarks.reader import read_yaml, task_spec
from salad_eval.benchmarks.spec import OptionList, Speak, StatedTask, TaskSpec
from salad_eval.errors import TaskError, UnknownNameError
from salad_eval.types import ScoreKind

logger = logging.getLogger(__name__)


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
    name_or_path: str | Path,
    *,
    speak: Speak | None = None,
    score: ScoreKind | None = None,
    data_dir: Path | None = None,
    options: OptionList | None = None,
    metric: str | None = None,
) -> TaskSpec:
    """The one task of that name or at that path; see ``load_tasks``, which takes groups of lm-eval as well."""
    found = load_tasks([name_or_path], speak=speak, score=score, data_dir=data_dir, options=options, metric=metric)
    if len(found) > 1:
        raise TaskError(
            f"{str(name_or_path)!r} is a group of {len(found)} tasks; name one of them, for example {found[0].name}."
        )
    return found[0]


def load_tasks(
    names: Sequence[str | Path],
    *,
    speak: Speak | None = None,
    score: ScoreKind | None = None,
    data_dir: Path | None = None,
    options: OptionList | None = None,
    metric: str | None = None,
) -> list[TaskSpec]:
    """The tasks with those names or at those paths: the package's own, or under ``speak`` any task or group of the installed lm-eval.

    A path may be a folder of YAMLs, or a group. Of several tasks those that cannot be used are left out with a warning (see
    ``choose_tasks``). ``speak``, ``score``, ``options`` and ``metric`` override what the tasks say; a task without ``metadata.salad``
    needs ``speak`` and gets our fields by default (see ``lm_eval_fields``). ``data_dir`` is a local mirror of the data sets (see
    ``data``). Raises ``UnknownNameError`` for an unknown name and ``TaskError`` where no task can be used, saying why.
    """
    chosen = choose_tasks(names, speak=speak, score=score, data_dir=data_dir, options=options, metric=metric)
    return list(chosen.tasks)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tasks that some names stand for, and of those among them that cannot be used why."""

    tasks: tuple[TaskSpec, ...]
    refused: tuple[str, ...] = ()


def choose_tasks(
    names: Sequence[str | Path],
    *,
    speak: Speak | None = None,
    score: ScoreKind | None = None,
    data_dir: Path | None = None,
    options: OptionList | None = None,
    metric: str | None = None,
) -> Chosen:
    """As ``load_tasks``: of several tasks those that can be used, and why the others cannot. Raises where none can."""
    if data_dir is not None and not data_dir.is_dir():
        raise TaskError(f"the data folder {str(data_dir)!r} does not exist. Give a folder of data sets to --data-dir.")
    tasks: list[TaskSpec] = []
    refused: list[TaskError] = []
    for stated in [one for name in names for one in _stated(str(name), speak)]:
        try:
            spec = _spec(stated, speak, score, options)
        except TaskError as cause:
            refused.append(cause)
            continue
        score_of, metric_of = score or spec.score, metric or spec.metric
        tasks.append(dataclasses.replace(spec, score=score_of, metric=metric_of, data_dir=data_dir))
    if not tasks and refused:
        raise refused[0]
    for problem in refused:
        logger.warning("Left out, the others go on: %s", problem)
    return Chosen(tuple(tasks), tuple(map(str, refused)))


def _spec(stated: StatedTask, speak: Speak | None, score: ScoreKind | None, options: OptionList | None) -> TaskSpec:
    if stated.problem:
        raise TaskError(stated.problem)
    metadata = stated.table.get("metadata")
    if speak is not None and not (isinstance(metadata, dict) and "salad" in metadata):
        from salad_eval.benchmarks.lm_eval_fields import spoken_fields

        asked = spoken_fields(stated.table, stated.path, speak, score, options)
        return task_spec(stated.table, stated.path, asked)
    return task_spec(stated.table, stated.path, speak=speak, options=options)


@cache
def _shipped() -> Mapping[str, Path]:
    """The package's own tasks; a name after the other is looked up in them, and the members of a group."""
    return find_tasks()


def _stated(name_or_path: str, speak: Speak | None) -> list[StatedTask]:
    """The tasks that one name stands for: a task, a group of lm-eval's or of one's own, or a folder of YAMLs."""
    path = resources.resolve_path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise TaskError(
                f"no task file at {name_or_path!r}. Give a path to a YAML, or one of: {', '.join(_shipped())}."
            )
        return _of_table(path.resolve(), read_yaml(path.resolve()), speak, ())
    known = _shipped()
    if name_or_path in known:
        return [StatedTask(name_or_path, known[name_or_path], read_yaml(known[name_or_path]))]
    if path.is_dir() and not _is_lm_evals(name_or_path):
        return _of_folder(path.resolve())
    return _of_lm_eval(name_or_path, known, speak)


def _of_folder(folder: Path) -> list[StatedTask]:
    """Each task of the YAMLs in a folder and below, once; groups among them say nothing more."""
    tables = [(path, read_yaml(path)) for path in sorted(folder.glob("**/*.yaml"))]
    found = [StatedTask(table["task"], path, table) for path, table in tables if isinstance(table.get("task"), str)]
    if not found:
        raise TaskError(f"{folder}: holds no YAML of a task. Give the path of one, or a folder of them.")
    return list({stated.name: stated for stated in reversed(found)}.values())[::-1]


def _of_table(path: Path, table: Mapping[str, Any], speak: Speak | None, inside: tuple[str, ...]) -> list[StatedTask]:
    """The task in a YAML, or the members of a group: names, or mappings that name a task and change some of its keys."""
    group, members = table.get("group"), table.get("task")
    if group is None or not isinstance(members, list):
        return [StatedTask(str(table.get("task", path.stem)), path, table)]
    if str(group) in inside:
        raise TaskError(f"{path}: the group {group!r} holds itself, by way of {', '.join(inside)}.")
    beside = {one.name: one for one in _beside(path)}
    found: list[StatedTask] = []
    for member in members:
        stated = {"task": member} if isinstance(member, str) else dict(member) if isinstance(member, dict) else {}
        if isinstance(stated.get("task"), list):
            found += _of_table(path, stated, speak, (*inside, str(group)))
            continue
        name = stated.get("task")
        if not isinstance(name, str):
            raise TaskError(f"{path}: the group {group!r} names {member!r:.80}; expected a task or a group.")
        own = {key: value for key, value in stated.items() if key != "task"}
        members_of = [beside[name]] if name in beside else _stated(name, speak)
        found += [dataclasses.replace(one, table={**one.table, **own}) for one in members_of]
    return found


def _beside(path: Path) -> Iterable[StatedTask]:
    for other in sorted(path.parent.glob("*.yaml")):
        if other != path:
            table = read_yaml(other)
            if isinstance(table.get("task"), str):
                yield StatedTask(table["task"], other, table)


def _is_lm_evals(name: str) -> bool:
    from salad_eval.benchmarks.lm_eval_index import lm_eval_index

    index = lm_eval_index()
    return index is not None and index.has(name)


def _of_lm_eval(name: str, known: Mapping[str, Path], speak: Speak | None) -> list[StatedTask]:
    from salad_eval.benchmarks.lm_eval_index import lm_eval_index

    index = lm_eval_index()
    if index is None or not index.has(name):
        raise UnknownNameError("task", name, [*known, *(index.like(name) if index is not None else [])])
    if speak is None:
        raise TaskError(
            f"{name!r} is a task of lm-eval's, which does not say what of it is spoken. Say it: --speak context (in a plan, "
            "speak: context)."
        )
    return index.expand(name)
