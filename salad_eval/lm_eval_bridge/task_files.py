"""The files under ``tasks/lm_eval/``: each of the package's tasks as lm-eval groups ``<task>_text``, ``_cascade`` and ``_speech``.

They are generated, and a test says that they are up to date; after a change to a task YAML::

    python -m salad_eval.lm_eval_bridge.task_files

A domain becomes a subtask, and the group weighs subtasks by their size, so that its row is over all items. lm-eval cannot run a
subtask without documents, which a small ``--metadata limit`` may leave: ``<task>_<form>_all`` has all domains in one task. Where a
task's domains are not known without its data (a field of the rows, and no map), the three are single tasks. The domains of tasks
whose rows ship with the package are read from those rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from salad_eval import resources
from salad_eval.benchmarks.catalogue import find_tasks, load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.lm_eval_bridge.rows import FORMS, GENERATED_METRIC, METRICS, SPLIT, Form
from salad_eval.types import LOGPROB_SCORES

FOLDER = "lm_eval"  # under the tasks; the reader of our own tasks leaves it out
ALL = "all"  # the subtask with every domain in it, which is no part of the group
PACKAGED = "salad_eval.benchmarks.packaged_dataset"
_ROWS = "salad_eval.lm_eval_bridge.rows"
_HEADER = (
    "# Made from the task's own YAML by salad_eval.lm_eval_bridge.task_files; change that one and generate again.\n"
)


class _Function(str):
    """The name of a function, written with YAML's tag ``!function``."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def task_files(folder: Path | None = None) -> dict[str, str]:
    """Every generated file by its path under the tasks' folder, for all tasks in ``folder`` (default: the package's own)."""
    files: dict[str, str] = {}
    for path in find_tasks(folder).values():
        files |= files_of(load_task(str(path)))
    return files


def write_task_files(folder: Path | None = None) -> list[Path]:
    """Write the generated files under ``folder`` (default: the package's tasks), and remove those of tasks that are gone."""
    root = folder or resources.tasks_dir()
    files = task_files(folder)
    for path in sorted((root / FOLDER).glob("**/*.yaml")):
        if str(path.relative_to(root)) not in files:
            path.unlink()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return [root / name for name in files]


def files_of(spec: TaskSpec) -> dict[str, str]:
    """The files of one task: for each form a group and its subtasks, or one task where its domains are not known."""
    names = subtask_names(declared_domains(spec))
    files: dict[str, str] = {}
    for form in FORMS:
        if form != "text" and spec.speak == "none":
            continue
        group = f"{spec.name}_{form}"
        base = f"{FOLDER}/{spec.name}"
        if not names:
            files[f"{base}/{group}.yaml"] = _text({"task": group, **_task(spec, form, None)})
            continue
        subtasks = {f"{group}_{name}": domain for domain, name in names.items()}
        files[f"{base}/{group}.yaml"] = _text(_group(spec, group, list(subtasks)))
        files[f"{base}/{group}_{ALL}.yaml"] = _text({"task": f"{group}_{ALL}", **_task(spec, form, None)})
        for subtask, domain in subtasks.items():
            table = {"task": subtask, "task_alias": domain, **_task(spec, form, domain)}
            files[f"{base}/{form}/{subtask}.yaml"] = _text(table)
    return files


def declared_domains(spec: TaskSpec) -> tuple[str, ...]:
    """The domains a task can have, sorted: those of its map, or of its rows where these ship with the package; empty: not known."""
    if spec.domain.names is not None:
        default = [spec.domain.default] if spec.domain.default is not None else []
        return tuple(sorted({*spec.domain.names.values(), *default}))
    if spec.custom_dataset is not None and spec.custom_dataset.name == PACKAGED:
        return tuple(sorted({item.domain for split in spec.splits for item in load_items(spec, split)[0]}))
    return ()


def subtask_names(domains: Sequence[str]) -> dict[str, str]:
    """For each domain what its subtask is called after the group's name: letters, digits and underscores, all different."""
    names: dict[str, str] = {}
    taken = {ALL}
    for domain in domains:
        plain = re.sub(r"[^a-z0-9]+", "_", domain.lower()).strip("_") or "domain"
        name, n = plain, 1
        while name in taken:
            n += 1
            name = f"{plain}_{n}"
        names[domain] = name
        taken.add(name)
    return names


def _task(spec: TaskSpec, form: Form, domain: str | None) -> dict[str, Any]:
    kwargs = {"task": spec.name, "form": form, **({"domain": domain} if domain is not None else {})}
    table: dict[str, Any] = {
        "custom_dataset": _Function(f"{_ROWS}.dataset"),
        "dataset_kwargs": kwargs,
        "test_split": SPLIT,
        "output_type": "multiple_choice" if spec.score in LOGPROB_SCORES else "generate_until",
        "doc_to_text": "context",
    }
    if form != "text":
        table["doc_to_audio"] = _Function(f"{_ROWS}.doc_to_audio")
    if table["output_type"] == "multiple_choice":
        table |= {"doc_to_choice": "choices", "doc_to_target": "golds", "target_delimiter": spec.target_delimiter}
    else:
        table |= {
            "doc_to_target": "answers",
            "generation_kwargs": {
                "until": list(spec.generation.stop),
                "max_gen_toks": spec.generation.max_new_tokens,
                "do_sample": False,
            },
            "process_results": _Function(f"{_ROWS}.process_answer"),
        }
    # The context holds its few-shot examples; zero here, so that lm-eval adds none of its own.
    table |= {"num_fewshot": 0, "metric_list": _metrics(spec), "metadata": {"version": _version(spec)}}
    return table


def _group(spec: TaskSpec, name: str, subtasks: Sequence[str]) -> dict[str, Any]:
    return {
        "group": name,
        "task": list(subtasks),
        "aggregate_metric_list": [
            {"metric": metric["metric"], "aggregation": "mean", "weight_by_size": True} for metric in _metrics(spec)
        ],
        "metadata": {"version": _version(spec)},
    }


def _metrics(spec: TaskSpec) -> list[dict[str, Any]]:
    """The measure of the task's protocol first."""
    names = {METRICS.get(spec.score, GENERATED_METRIC): True}
    names |= {"acc": True, "acc_norm": True} if spec.score in LOGPROB_SCORES else {"unparsed": False}
    return [{"metric": name, "aggregation": "mean", "higher_is_better": better} for name, better in names.items()]


def _version(spec: TaskSpec) -> Any:
    return spec.metadata.get("version", 1.0)


def _text(table: Mapping[str, Any]) -> str:
    return _HEADER + yaml.dump(
        dict(table), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


if __name__ == "__main__":
    print(f"{len(write_task_files())} files under {resources.tasks_dir() / FOLDER}")
