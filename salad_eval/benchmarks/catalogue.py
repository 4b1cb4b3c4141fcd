"""Tasks by name or path: the package's own, a YAML of one's own, and any of the installed lm-eval's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from salad_eval import resources
from salad_eval.benchmarks.reader import read_yaml, task_spec
from salad_eval.benchmarks.spec import OptionList, Speak, TaskSpec
from salad_eval.errors import TaskError, UnknownNameError
from salad_eval.types import ScoreKind


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

    ``speak``, ``score``, ``options`` and ``metric`` override what the tasks say; a task without ``metadata.salad`` needs ``speak`` and
    gets our fields by default (see ``lm_eval_fields``). ``data_dir`` is a local mirror of the data sets (see ``data``). Raises
    ``UnknownNameError`` for an unknown name and ``TaskError`` for a task that cannot be used, saying why.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise TaskError(f"the data folder {str(data_dir)!r} does not exist. Give a folder of data sets to --data-dir.")
    specs = [spec for name in names for spec in _named(str(name), speak, score, options)]
    return [
        dataclasses.replace(spec, score=score or spec.score, metric=metric or spec.metric, data_dir=data_dir)
        for spec in specs
    ]


def _named(
    name_or_path: str, speak: Speak | None, score: ScoreKind | None, options: OptionList | None
) -> list[TaskSpec]:
    path = resources.resolve_path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise TaskError(
                f"no task file at {name_or_path!r}. Give a path to a YAML, or one of: {', '.join(find_tasks())}."
            )
        path = path.resolve()
        table = read_yaml(path)
    else:
        known = find_tasks()
        if name_or_path not in known:
            return _of_lm_eval(name_or_path, known, speak, score, options)
        path = known[name_or_path]
        table = read_yaml(path)
    metadata = table.get("metadata")
    if speak is not None and not (isinstance(metadata, dict) and "salad" in metadata):
        from salad_eval.benchmarks.lm_eval_fields import spoken_fields

        return [task_spec(table, path, spoken_fields(table, path, speak, score, options))]
    return [task_spec(table, path, speak=speak, options=options)]


def _of_lm_eval(
    name: str, known: Mapping[str, Path], speak: Speak | None, score: ScoreKind | None, options: OptionList | None
) -> list[TaskSpec]:
    from salad_eval.benchmarks.lm_eval_fields import spoken_fields
    from salad_eval.benchmarks.lm_eval_index import lm_eval_index

    index = lm_eval_index()
    if index is None or not index.has(name):
        raise UnknownNameError("task", name, [*known, *(index.like(name) if index is not None else [])])
    if speak is None:
        raise TaskError(
            f"{name!r} is a task of lm-eval's, which does not say what of it is spoken. Say it: --speak context (in a plan, "
            "speak: context)."
        )
    found = index.expand(name)
    return [task_spec(one.table, one.path, spoken_fields(one.table, one.path, speak, score, options)) for one in found]
