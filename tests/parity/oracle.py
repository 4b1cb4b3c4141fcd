"""lm-eval's side: its own task object on made-up rows, what it asks in every form, and what it measures of an answer."""

from __future__ import annotations

import itertools
import json
import logging
import random
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Splits = Mapping[str, Rows]
FORMS = ("plain", "chat", "chat in one turn")


@dataclass(frozen=True)
class Pair:
    """A prompt (in a chat its messages as JSON, with whether the model's turn is opened) and what is scored after it."""

    prompt: str
    continuation: str | None


def rendered(messages: list[dict[str, Any]], *, add_generation_prompt: bool = True, **_: Any) -> str:
    """A chat template that loses nothing."""
    return json.dumps([add_generation_prompt, [[one["role"], one["content"]] for one in messages]], ensure_ascii=False)


class LmEvalSide:
    """A task of lm-eval on ``splits``, made as its evaluator makes it: ``random``, numpy and torch are seeded first.

    ``on_disk``: its data lies in Arrow files, so that what ``process_docs`` makes is kept, as it is of a data set from a hub; a task that
    shuffles is asked in one order and scored in another without.
    """

    def __init__(self, path: Path, splits: Splits, *, on_disk: bool = False, **changes: Any) -> None:
        import numpy as np
        import torch
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks._yaml_loader import load_yaml

        logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
        _faster()
        _hash_code(on_disk)
        config = {key: value for key, value in load_yaml(path).items() if key not in ("tag", "group", "task_list")}
        self.data = _on_disk(splits) if on_disk else _in_memory(splits)
        config |= {"custom_dataset": lambda **_: self.data, "dataset_kwargs": None, **changes}
        random.seed(0)
        np.random.seed(1234)  # noqa: NPY002  as its evaluator does
        torch.manual_seed(1234)
        self.task = ConfigurableTask(config=config)

    @property
    def docs(self) -> list[dict[str, Any]]:
        return [dict(doc) for _, doc in self.task.doc_iterator()]

    def asked(self, shots: int, form: str) -> dict[int, list[Pair]]:
        """By the number of the document: what is asked of it, in lm-eval's order."""
        self.task.set_config("num_fewshot", shots)
        self.task.set_fewshot_seed(1234)
        chat = form != "plain"
        self.task.build_all_requests(
            apply_chat_template=chat, fewshot_as_multiturn=form == "chat", chat_template=rendered if chat else None
        )
        found: dict[int, list[Pair]] = {}
        for instance in sorted(self.task.instances, key=lambda one: (one.doc_id, one.idx)):
            scored = instance.args[1] if self.task.OUTPUT_TYPE == "multiple_choice" else None
            found.setdefault(instance.doc_id, []).append(Pair(instance.args[0], scored))
        return found

    def measured(self, doc: Mapping[str, Any], answers: Sequence[Any]) -> dict[str, Any]:
        """Every metric of a document by ``name,filter``, of what came back for each of its requests."""
        from lm_eval.api.instance import Instance

        instances = [
            Instance(
                request_type=self.task.OUTPUT_TYPE,
                doc=dict(doc),
                arguments=("", ""),
                idx=n,
                metadata=("t", 0, 1),
                resps=[answer],
            )
            for n, answer in enumerate(answers)
        ]
        for one in self.task._filters:
            one.apply(instances)
        found = {}
        for name in instances[0].filtered_resps:
            results = [instance.filtered_resps[name] for instance in instances]
            for metric, value in self.task.process_results(dict(doc), results).items():
                found[f"{metric},{name}"] = value
        return found


@cache
def _faster() -> None:
    """Compile a template once, and not once for each row; look for marks of punctuation once, and not once for each answer.

    The same texts and scores, in a tenth of the time.
    """
    from lm_eval import utils
    from lm_eval.filters import extraction

    utils.env.from_string = cache(utils.env.from_string)
    marks = tuple(n for n in range(sys.maxunicode) if unicodedata.category(chr(n)).startswith("P"))
    extraction.range = lambda *bounds: marks if bounds == (sys.maxunicode,) else range(*bounds)


def _hash_code(yes: bool, _before: list[Any] = []) -> None:  # noqa: B006  what it was
    """Whether what ``process_docs`` makes is named by its code, by which it is found again on a disk, or by a number, which is quicker."""
    from datasets import fingerprint

    _before or _before.append(fingerprint.update_fingerprint)
    fingerprint.update_fingerprint = _before[0] if yes else lambda *_: f"made{next(_MADE)}"


_MADE = itertools.count()


def _in_memory(splits: Splits) -> dict[str, Any]:
    import datasets
    import pyarrow

    def made(rows: Rows) -> Any:
        table = pyarrow.Table.from_pylist([dict(row) for row in rows])
        return datasets.Dataset(table, fingerprint=f"made{next(_MADE)}")  # which it would take long to compute

    return {split: made(rows) for split, rows in splits.items()}


def _on_disk(splits: Splits) -> dict[str, Any]:
    import datasets

    folder = Path(tempfile.mkdtemp())
    found = {}
    for split, data in _in_memory(splits).items():
        data.save_to_disk(str(folder / str(len(found))))
        found[split] = datasets.load_from_disk(str(folder / str(len(found))))
    return found
