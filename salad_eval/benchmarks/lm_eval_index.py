"""Any task of the installed lm-eval, found by its name, group or tag.

What lm-eval's own index would hold for a name is found by looking only into the YAMLs that mention it; the 13,000 others are not
parsed. Its groups are taken apart as its task factory does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from salad_eval.benchmarks.functions import lm_eval_tasks_dir
from salad_eval.benchmarks.reader import read_yaml
from salad_eval.benchmarks.spec import StatedTask
from salad_eval.errors import TaskError

_GROUP_KEYS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata")  # those of lm-eval's GroupConfig
_NO_TASK_KEYS = ("tag", "group", "task_list")  # which lm-eval drops before it builds a task
_NOT_YAML = {".py", ".pyc", ".md", ".txt", ".json", ".jsonl", ".csv", ".tsv", ".sh", ".ipynb", ".pdf", ".png"}
_INCLUDE = r"^[\"']?include[\"']?[ \t]*:([^\n]*(?:\n\s*-[^\n]*)*)"
_KEY = r"^[\"']?(?:task|group)[\"']?[ \t]*:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*(?:#.*)?$"


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: Literal["task", "python", "group", "tag"]
    path: Path | None
    table: Mapping[str, Any]
    members: tuple[str, ...] = ()


@cache
def lm_eval_index() -> LmEvalIndex | None:
    """The tasks of the installed lm-eval; ``None`` where there is none."""
    folder = lm_eval_tasks_dir()
    return LmEvalIndex(folder) if folder is not None and folder.is_dir() else None


class LmEvalIndex:
    """The task folder of an lm-eval, by name. Its files are read at the first question and searched as text at every one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, _Entry | None] = {}

    @cached_property
    def _texts(self) -> dict[Path, str]:
        """YAMLs and the files that they include, which may be called anything, in lm-eval's order."""
        paths = (path for path in self.folder.glob("**/*") if path.suffix not in _NOT_YAML)
        files = sorted((path for path in paths if path.is_file()), key=lambda path: path.as_posix())
        return {path: path.read_text(encoding="utf-8", errors="replace") for path in files}

    @cached_property
    def _including(self) -> dict[str, set[Path]]:
        """For the name of an included file the files that include one of that name."""
        found: dict[str, set[Path]] = {}
        for path, text in self._texts.items():
            if "include" not in text:
                continue
            for stated in re.findall(_INCLUDE, text, re.MULTILINE):
                for name in re.findall(r"[^\s\"'\[\],/\\]+(?=[\s\"'\],]|$)", stated):
                    found.setdefault(name, set()).add(path)
        return found

    def has(self, name: str) -> bool:
        return self._entry(name) is not None

    def like(self, name: str) -> list[str]:
        """Names of tasks and groups that are close to ``name``."""
        names = {found for text in self._texts.values() for found in re.findall(_KEY, text, re.MULTILINE)}
        return difflib.get_close_matches(name, sorted(names), n=5, cutoff=0.7)

    def expand(self, name: str) -> list[StatedTask]:
        """The tasks that a name stands for, each once. Raises ``TaskError`` for a group without any, and for tasks written in Python."""
        entry = self._entry(name)
        if entry is None:
            raise TaskError(f"lm-eval has no task, group or tag {name!r}.")
        found = {task.name: task for task in self._expanded(name, entry, {}, ())}
        if not found:
            raise TaskError(f"the group {name!r} of lm-eval holds no task. Name tasks instead.")
        return list(found.values())

    def _entry(self, name: str) -> _Entry | None:
        if name not in self._entries:
            self._entries[name] = None  # while it is looked for: a task may carry a tag of its own name
            self._entries[name] = self._look_up(name)
        return self._entries[name]

    def _look_up(self, name: str) -> _Entry | None:
        """What lm-eval's index ends up with: the first YAML that defines the name, or the tasks that carry it as a tag."""
        tagged: list[str] = []
        for path in self._mentioning(name):
            try:
                table = read_yaml(path)
            except TaskError:
                continue  # as in lm-eval's index
            task, group = table.get("task"), table.get("group")
            if "class" in table:
                kind: Literal["task", "python", "group"] = "python"
            else:
                kind = "group" if group is not None else "task"
            named = group if kind == "group" else task
            if named == name and not tagged:  # a tag of that name would have taken it
                return _Entry(kind, path, table)
            if kind != "group" and isinstance(task, str) and name in _as_list(table.get("tag")):
                own = self._entry(task)
                if own is None or own.path == path:  # else another YAML defines that task, and this one is skipped
                    tagged.append(task)
        return _Entry("tag", None, {}, tuple(sorted(set(tagged)))) if tagged else None

    def _mentioning(self, name: str) -> list[Path]:
        """YAMLs in which ``name`` stands as a whole value, or that include such a file, directly or not."""
        value = re.compile(rf"(?<![^\s\"'\[,]){re.escape(name)}(?![^\s\"'\],])")
        found = {path for path, text in self._texts.items() if name in text and value.search(text)}
        todo = list(found)
        while todo:
            more = self._including.get(todo.pop().name, set()) - found
            found |= more
            todo += more
        return [path for path in self._texts if path in found and path.suffix == ".yaml"]

    def _expanded(
        self, name: str, entry: _Entry, overrides: Mapping[str, Any], inside: tuple[str, ...]
    ) -> Iterable[StatedTask]:
        if name in inside:
            raise TaskError(f"the group {name!r} of lm-eval holds itself, by way of {', '.join(inside)}.")
        if entry.kind == "python":
            problem = (
                f"the task {name!r} of lm-eval is written in Python, not as a YAML, and cannot be read. Ask another."
            )
            yield StatedTask(name, entry.path or self.folder, {}, problem)
            return
        if entry.kind == "group":
            yield from self._members(name, entry.path or self.folder, entry.table, overrides, (*inside, name))
        elif entry.kind == "tag":
            for member in entry.members:
                known = self._entry(member)
                if known is not None:
                    yield from self._expanded(member, known, {**overrides, "task": member}, (*inside, name))
        else:
            table = {key: value for key, value in {**entry.table, **overrides}.items() if key not in _NO_TASK_KEYS}
            yield StatedTask(str(table["task"]), entry.path or self.folder, table)

    def _members(
        self, group: str, path: Path, table: Mapping[str, Any], overrides: Mapping[str, Any], inside: tuple[str, ...]
    ) -> Iterable[StatedTask]:
        """The tasks of a group; what a group says beside its members overrides what they say, and what asks for the group both."""
        shared = {**{key: value for key, value in table.items() if key not in _GROUP_KEYS}, **overrides}
        shared.pop("task", None)
        members = table.get("task")
        for member in members if isinstance(members, list) else []:
            stated = {"task": member} if isinstance(member, str) else dict(member) if isinstance(member, dict) else {}
            name = stated.get("group", stated.get("task"))
            if not isinstance(name, str):
                raise TaskError(f"{path}: the group {group!r} names {member!r:.80}; expected a task or a group.")
            known = self._entry(name)
            if "group" in stated and known is None:
                yield from self._members(f"{group}::{name}", path, stated, shared, inside)
                continue
            own = {key: value for key, value in stated.items() if key not in ("group", "task")}
            if known is None:
                yield StatedTask(f"{group}::{name}", path, {**shared, **own, "task": f"{group}::{name}"})
            else:
                yield from self._expanded(name, known, {**shared, **own}, inside)


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
