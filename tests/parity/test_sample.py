"""A fixed sample of lm-eval's tasks, of many families, compared with lm-eval's own task objects; the whole is ``tests.parity.sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.reader import read_yaml
from salad_eval.errors import TaskError
from tests.parity.compare import compared
from tests.parity.search import Schema, same_rows
from tests.parity.sweep import tasks_dir

_SAMPLE = [
    json.loads(line) for line in Path(__file__).with_name("sample.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("line", _SAMPLE, ids=lambda line: line["name"])
def test_task_is_asked_and_scored_as_lm_eval_does(line: dict[str, Any]) -> None:
    path = tasks_dir() / line["path"]
    splits = same_rows(read_yaml(path), Schema(*line["schema"]))
    verdict = compared(path, splits)
    if (
        verdict.status == "differs"
    ):  # a task that shuffles by itself is asked in one order and scored in another, unless it lies on disk
        verdict = compared(path, splits, on_disk=True)
    assert (verdict.status, verdict.detail) == ("equal", "")
    assert verdict.n_items >= 4


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("wmt2016/ro_en-t5_prompt.yaml", "what it measures (wer, bleu) is no score of each item"),
        ("webqs/webqs.yaml", "what it measures (exact_match) is no score of each item"),
        ("blimp/adjunct_island.yaml", "its context is empty"),
        ("lambada/lambada_openai.yaml", "its output_type is 'loglikelihood'"),
        ("humaneval/humaneval.yaml", "unsafe_code"),
        ("chartqa/chartqa.yaml", "it shows images"),
    ],
)
def test_task_that_cannot_be_asked_aloud_is_refused_saying_why(path: str, said: str) -> None:
    with pytest.raises(TaskError) as refused:
        load_task(str(tasks_dir() / path), speak="context")
    assert said in str(refused.value)
