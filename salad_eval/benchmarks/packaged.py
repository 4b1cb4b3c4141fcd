"""The embedded benchmark's rows as a data set for lm-eval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salad_eval import resources
from salad_eval.benchmarks.functions import task_function
from salad_eval.errors import TaskError


@task_function()
def packaged_dataset(*, data_files: Mapping[str, str], **_: object) -> dict[str, Any]:
    """For lm-eval (``custom_dataset: !function salad_eval.benchmarks.packaged_dataset``): JSONL files of this package as a dataset.

    With it a packaged task works from any working directory; lm-eval's own ``data_files`` are relative to that.
    """
    import datasets

    root = resources.tasks_dir().resolve()
    files = {split: (root / file).resolve() for split, file in data_files.items()}
    for split, path in files.items():
        if not path.is_relative_to(root):
            raise TaskError(
                f"packaged_dataset: data_files.{split} is {data_files[split]!r}, which is no file of this package."
            )
    return {split: datasets.Dataset.from_json(str(path)) for split, path in files.items()}
