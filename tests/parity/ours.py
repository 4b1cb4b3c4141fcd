"""Our side: the same task and rows as items and requests, in the same shape as lm-eval's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.requests import build_requests, unconditional
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.systems.chat import ChatStyle, conversation, text_of
from salad_eval.types import LOGPROB_SCORES, Item, Reject, Request
from tests.parity.oracle import Pair, Splits, rendered


@dataclass(frozen=True)
class OurSide:
    """A task read by us, with its items by the number of their rows."""

    task: TaskSpec
    items: Mapping[int, Item]
    rejects: Sequence[Reject]

    def asked(self, form: str) -> dict[int, list[Pair]]:
        """What a system is asked of each item."""
        return {number: self._asked(item, form) for number, item in self.items.items()}

    def _asked(self, item: Item, form: str) -> list[Pair]:
        requests = build_requests(item, "text")
        pairs: list[Pair] = []
        for request in requests:
            scored = request.continuations if form == "plain" else request.chat_continuations
            if self.task.score not in LOGPROB_SCORES:
                return [Pair(prompt(request, form), None)]
            pairs += [Pair(prompt(request, form), text) for text in scored]
        if self.task.score == "ll_mutual_info":
            alone = unconditional(requests[0])
            pairs += [Pair("", text) for text in (alone.continuations if form == "plain" else alone.chat_continuations)]
        return pairs


def prompt(request: Request, form: str) -> str:
    if form == "plain":
        return request.text
    messages = conversation(request, ChatStyle(multiturn=form == "chat"))
    turns = [{"role": message.role, "content": text_of(message.content)} for message in messages]
    return rendered(turns, add_generation_prompt=messages[-1].role != "assistant")


def write_mirror(root: Path, task: TaskSpec, splits: Splits) -> None:
    """The rows where a local mirror of the task's data has them."""
    name = (
        task.dataset_path.strip("/")
        if task.dataset_path not in ("json", "csv", "parquet", "text", "arrow", "")
        else task.name
    )
    below = [part for part in (task.dataset_name, task.dataset_kwargs.get("data_dir")) if isinstance(part, str)]
    folder = root.joinpath(name.replace("/", "__"), *below)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def read(task: TaskSpec, mirror: Path, shots: int) -> OurSide:
    task = replace(task, data_dir=mirror)
    items, rejects, _ = load_items(task, "test", shots=shots)
    return OurSide(task, {int(item.id.rpartition(":")[2]): item for item in items}, rejects)
