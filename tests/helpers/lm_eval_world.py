"""Tasks of lm-eval on local rows: its own task object, and the same rows as a mirror for ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.benchmarks.lm_eval_index import lm_eval_index

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What lm-eval asks of a row: the context, the continuations (none under generate_until), and its doc_to_target."""

    context: str
    continuations: tuple[str, ...]
    target: Any


def write_mirror(root: Path, dataset: str, config: str | None, splits: Mapping[str, Rows]) -> Path:
    """Rows as ``root/org__name/[config/]split.jsonl``."""
    folder = root / dataset.replace("/", "__") / (config or "")
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


def asked_by_lm_eval(name: str, splits: Mapping[str, Rows], shots: int, **changes: Any) -> list[Asked]:
    """What the installed lm-eval's own task object makes of these rows, in their order, with its own seed."""
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    index = lm_eval_index()
    assert index is not None
    (found,) = index.expand(name)
    config = {key: value for key, value in load_yaml(found.path).items() if key not in ("tag", "group", "task_list")}
    data = {split: datasets.Dataset.from_list([dict(row) for row in rows]) for split, rows in splits.items()}
    task = ConfigurableTask(config={**config, "custom_dataset": lambda **_: data, "dataset_kwargs": None, **changes})
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    by_row: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_row.setdefault(instance.doc_id, []).append(instance)
    made = []
    for number in sorted(by_row):
        instances = sorted(by_row[number], key=lambda instance: instance.idx)
        scored = [instance.args[1] for instance in instances] if task.OUTPUT_TYPE == "multiple_choice" else []
        made.append(Asked(instances[0].args[0], tuple(scored), task.doc_to_target(instances[0].doc)))
    return made
