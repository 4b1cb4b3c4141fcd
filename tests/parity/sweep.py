"""Every task of the installed lm-eval against ours, on rows made from its YAML: one line of JSON a task, so that it can be cut and go on.

    python -m tests.parity.sweep parity.jsonl                 # all of them, a task of each family after the other
    python -m tests.parity.sweep parity.jsonl --table         # what it found, as a table
    python -m tests.parity.sweep parity.jsonl --again differs # those that differed, once more

A task that is made a second time replaces its first line when the file is read.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.functions import FunctionRef, lm_eval_tasks_dir
from salad_eval.benchmarks.reader import read_yaml
from salad_eval.errors import SaladError
from tests.parity.columns import made_of
from tests.parity.compare import Verdict, compared, unsettled
from tests.parity.families import fixed_of
from tests.parity.search import Schema, Search, same_rows, schema_json

_SECONDS = 5.0
_NAMES = ("task", "task_alias", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "metadata")
_MOST_KNOWN = 12
_MOST_COMPARED = 25


@dataclass(frozen=True)
class Named:
    """A task by lm-eval's index; ``path`` is below its task folder. ``python``: written as a class."""

    name: str
    path: str
    python: bool = False

    @property
    def family(self) -> str:
        return self.path.partition("/")[0]


class _TimeIsUp(BaseException):
    pass


# --- one task --------------------------------------------------------------------------------------------------------


def verdict_of(
    task: Named, known: Sequence[Schema] = (), twins: Mapping[str, Schema] | None = None
) -> tuple[Verdict, Schema | None]:
    """What comes of one task, and what its rows were made of.

    ``known``: what rows of its kin were made of, tried first. ``twins``: of tasks that were equal, by ``body_of``: a task that says the
    same of other data is equal on the same rows, which is tried on one in ten.
    """
    if task.python:
        return Verdict("refused", "it is written in Python, not as a YAML"), None
    path = tasks_dir() / task.path
    try:
        table = read_yaml(path)
        twin = (twins or {}).get(body_of(table))
        if twin is not None and not _in_sample(task.name):
            return Verdict("equal", quick=True), twin
        if twin is not None and (quick := _quickly(path, table, twin)) is not None:
            return quick, twin
        load_task(str(path), speak="context")
    except SaladError as cause:
        return Verdict("refused", str(cause)[:400]), None
    best: tuple[Verdict, Schema | None] = Verdict("no rows", ""), None
    search = Search(path, table, fixed_of(task.path))
    try:
        for tries, found in enumerate(search.run(known), start=1):
            verdict = compared(path, found.splits)
            if verdict.status == "differs":
                again = compared(path, found.splits, on_disk=True)
                verdict = again if again.status != "differs" else verdict
            if verdict.status == "differs" and unsettled(path, found.splits):
                verdict.status = "unsettled"
            if verdict.status != "vacuous" and not verdict.unshot:
                return verdict, found.schema
            if best[1] is None or (verdict.status == "equal", verdict.n_items) > (
                best[0].status == "equal",
                best[0].n_items,
            ):
                best = verdict, found.schema
            if tries >= _MOST_COMPARED:
                break
    except _TimeIsUp:
        pass
    if best[1] is not None:
        return best
    missing = search.best[1].startswith(
        ("ModuleNotFoundError", "ImportError", "RuntimeError: Error loading evaluation metrics", "SystemExit")
    )
    return Verdict("does not load" if missing else "no rows", search.best[1][:400]), None


def body_of(table: Mapping[str, Any]) -> str:
    """All that a YAML and the code that it names say, but for its name, which data it reads and which rows of it.

    Of a description that is plain text: how it begins and ends. Of a function that others are made of: that one.
    """
    said = {key: _said(value) for key, value in table.items() if key not in _NAMES}
    text, rows = table.get("description"), table.get("process_docs")
    if isinstance(text, str) and text.strip() and "{" not in text:
        said["description"] = f"text {text[0].isspace()} {text[-1].isspace()}"
    if isinstance(rows, FunctionRef) and rows.file is not None:
        said["process_docs"] = f"{made_of(rows)[0] or rows.name} {_digest(rows.file)}"
    return repr(sorted(said.items()))


def _said(value: object) -> str:
    if isinstance(value, FunctionRef):
        return f"{value.name} {_digest(value.file) if value.file else ''}"
    if isinstance(value, dict):
        return repr([(key, _said(one)) for key, one in value.items()])
    return repr([_said(one) for one in value]) if isinstance(value, list) else repr(value)


@cache
def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _in_sample(name: str) -> bool:
    """One in ten, by name."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


def _quickly(path: Path, table: Mapping[str, Any], schema: Schema) -> Verdict | None:
    """The verdict on the rows of a twin; ``None`` where it is not equal, and has to be looked at in full."""
    rows = same_rows(table, schema)
    verdict = compared(path, rows, quick=True)
    if verdict.status != "equal":
        return None
    verdict.quick = True
    return verdict


def tasks_dir() -> Path:
    folder = lm_eval_tasks_dir()
    if folder is None:
        raise SystemExit("lm-eval is not installed")
    return folder


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``_TimeIsUp`` after so many seconds of CPU time, or ten times as many by the clock; again each second where it is swallowed."""

    def stop(*_: object) -> None:
        raise _TimeIsUp

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit, 1.0)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


# --- all of them -----------------------------------------------------------------------------------------------------


def all_tasks(cache: Path) -> list[Named]:
    """Every task name of lm-eval's own index; its index takes a minute, and is kept in ``cache``."""
    if not cache.is_file():
        from lm_eval.tasks import TaskManager

        lines = []
        for name, entry in TaskManager()._index.items():
            if "TASK" in entry.kind.name and entry.yaml_path is not None:
                path = Path(entry.yaml_path).resolve().relative_to(tasks_dir()).as_posix()
                lines.append(json.dumps([name, path, entry.kind.name != "TASK"]) + "\n")
        cache.write_text("".join(lines), encoding="utf-8")
    return [Named(*json.loads(line)) for line in cache.read_text(encoding="utf-8").splitlines()]


def in_turn(tasks: Sequence[Named]) -> list[Named]:
    """The first of each family, then the second of each, and so on; the family's own order is by file."""
    families: dict[str, list[Named]] = defaultdict(list)
    for task in sorted(tasks, key=lambda one: one.path):
        families[task.family].append(task)
    ranked = [(rank, family, task) for family, members in families.items() for rank, task in enumerate(members)]
    return [task for _, _, task in sorted(ranked, key=lambda one: one[:2])]


class Kin:
    """What rows of tasks were made of: those of the same family first, then any that read the same columns."""

    def __init__(self) -> None:
        self._by_family: dict[str, dict[str, Schema]] = defaultdict(dict)

    def add(self, family: str, schema: Schema) -> None:
        for place in (family, "/".join(sorted(schema.kinds))):
            kept = self._by_family[place]
            kept.pop(schema_json(schema), None)
            kept[schema_json(schema)] = schema
            if len(kept) > _MOST_KNOWN:
                del kept[next(iter(kept))]

    def of(self, family: str, columns: Sequence[str] = ()) -> list[Schema]:
        found = {**self._by_family["/".join(sorted(columns))], **self._by_family[family]}
        return list(found.values())[::-1]


def results(file: Path) -> dict[str, dict[str, Any]]:
    """The last line of each task."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def sweep(
    tasks: Sequence[Named], out: Path, seconds: float, done: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]
) -> None:
    """Add the verdict of each task to ``out``."""
    kin, twins = Kin(), dict[str, Schema]()
    schema: Schema | None
    for line in done.values():
        if line.get("schema"):
            schema = Schema(*json.loads(line["schema"]))
            kin.add(line["family"], schema)
            if line["status"] == "equal" and not line["quick"]:
                twins[body_of(read_yaml(tasks_dir() / line["path"]))] = schema
    started, counts = time.monotonic(), Counter[str]()
    with open(out, "a", encoding="utf-8") as file:
        for n, task in enumerate(tasks, start=1):
            began = time.monotonic()
            schema = None
            try:
                with time_limit(seconds):
                    verdict, schema = verdict_of(task, kin.of(task.family), twins)
            except _TimeIsUp:
                verdict = Verdict("no rows", f"none found in {seconds:g} s")
            except (Exception, SystemExit) as cause:
                verdict = Verdict("differs", f"falls over: {type(cause).__name__}: {cause}"[:400])
            if schema is not None:
                kin.add(task.family, schema)
            if schema is not None and verdict.status == "equal" and not verdict.quick:
                twins[body_of(read_yaml(tasks_dir() / task.path))] = schema
            line = {**asdict(verdict), "values": len(verdict.values), "family": task.family, "path": task.path}
            line |= {"schema": schema_json(schema) if schema else "", "seconds": round(time.monotonic() - began, 2)}
            file.write(json.dumps({"name": task.name, **line}, ensure_ascii=False) + "\n")
            file.flush()
            counts[verdict.status] += 1
            if n % 50 == 0 or n == len(tasks):
                counted = ", ".join(f"{status} {count}" for status, count in counts.most_common())
                say(f"{n} of {len(tasks)} in {time.monotonic() - started:.0f} s: {counted}")


def _import_slow_libraries() -> None:
    """What tasks import, before any time is limited: an import that is cut short leaves a broken module for every later task."""
    for name in (
        "torch._dynamo",
        "transformers.pipelines",
        "evaluate",
        "sympy.printing",
        "sklearn.metrics",
        "sacrebleu",
        "nltk",
        "pandas",
    ):
        importlib.import_module(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--family", action="append", default=[], help="only tasks of this folder; several are done one after the other"
    )
    parser.add_argument("--name", action="append", default=[])
    parser.add_argument("--per-family", type=int, help="at most so many of a family")
    parser.add_argument(
        "--again", action="append", default=[], metavar="STATUS", help="do tasks once more that ended so"
    )
    parser.add_argument(
        "--seconds", type=float, default=_SECONDS, help="of CPU time for one task (default: %(default)s)"
    )
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    _import_slow_libraries()
    everything = all_tasks(asked.out.with_suffix(".names"))
    done = results(asked.out)
    if asked.table:
        from tests.parity.table import table

        print(table(everything, done))
        return
    seen = Counter[str]()
    ordered = []
    turns = in_turn([task for task in everything if not asked.family or task.family in asked.family])
    for task in sorted(turns, key=lambda one: asked.family.index(one.family)) if asked.family else turns:
        seen[task.family] += 1
        wanted = task.name in asked.name if asked.name else not asked.family or task.family in asked.family
        undone = bool(asked.name) or task.name not in done or done[task.name]["status"] in asked.again
        if wanted and undone and seen[task.family] <= (asked.per_family or len(everything)):
            ordered.append(task)
    sweep(ordered, asked.out, asked.seconds, done, lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
