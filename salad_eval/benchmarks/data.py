"""A task's rows: from files beside its YAML, from the package, from a local mirror, or through the datasets library.

A mirror (``--data-dir DIR``) holds a data set ``org/name`` in the folder ``DIR/org__name`` or ``DIR/org/name``, its configuration in a
folder below where it has one, and each split as ``<split>.jsonl``, ``.json``, ``.parquet`` or ``.csv``, or as the shards
``<split>-00000-of-00002.parquet`` of a hub clone, there or in ``data/`` below. With a mirror nothing is fetched from a hub.
"""

from __future__ import annotations

import csv
import hashlib
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from salad_eval import resources
from salad_eval.audio.tables import dataset_rows, parquet_rows
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError, UnknownNameError
from salad_eval.records import parse_json

_PACKAGED = "salad_eval.benchmarks.packaged_dataset"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a split; ``revision`` identifies their content. ``folder``: where its files lie, which may name others beside them.

    A cell with sound in it is an ``tables.AudioCell``: where the sound lies. ``data``: the ``datasets.Dataset`` that the rows
    were read from, where there was one.
    """

    rows: Sequence[Row]
    columns: frozenset[str]
    revision: str
    folder: Path | None = None
    data: Any = None


def read_split(task: TaskSpec, split: str, *, own_name: bool = False) -> Table:
    """The rows of a split by the plan's name for it, or (``own_name``) by the data's, which may join several: ``biology+law``."""
    if not own_name and split not in task.splits:
        if split == "validation" and task.id is None and "test" in task.splits:
            raise TaskError(
                f"task {task.name} has no test rows: lm-eval scores its {task.splits['test']} rows, and here they are the split 'test', so "
                "that nothing is chosen on what is reported. Ask for the split test."
            )
        raise UnknownNameError(f"split of task {task.name}", split, task.splits)
    source = split if own_name else task.splits[split]
    tables = [_read_part(task, part.strip()) for part in source.split("+")]
    return tables[0] if len(tables) == 1 else _one_after_another(tables)


def _one_after_another(tables: Sequence[Table]) -> Table:
    columns = dict.fromkeys(column for table in tables for column in sorted(table.columns))
    revisions = list(dict.fromkeys(table.revision for table in tables))
    joined = hashlib.sha256("\n".join(revisions).encode()).hexdigest()[:12]
    return Table(
        [{**dict.fromkeys(columns), **row} for table in tables for row in table.rows],
        frozenset(columns),
        revisions[0] if len(revisions) == 1 else f"sha256:{joined}",
        tables[0].folder,
    )


def names_files(task: TaskSpec) -> bool:
    """Whether a task names its data files itself, in this package or beside its YAML, so that nothing has to be fetched."""
    if task.custom_dataset is not None:
        return task.custom_dataset.name == _PACKAGED
    return task.dataset_name is None and task.dataset_path in ("json", "parquet")


def _read_part(task: TaskSpec, source: str) -> Table:
    if names_files(task):
        files = _data_files(task, source)
        if all("://" not in file for file in files):
            local = [_local(task, file) for file in files]
            return _read_parquet(task, local) if task.dataset_path == "parquet" else _read_json(local)
    beside = bool(task.dataset_path) and (task.path.parent / task.dataset_path).is_dir()
    if task.data_dir is not None and not beside:
        return _read_files(task, _mirrored(task, task.data_dir, source))
    return _read_dataset(task, source)


# --- a local mirror --------------------------------------------------------------------------------------------------

# Of the datasets library: the data is in data_files, not under this name.
_LOADERS = ("json", "csv", "parquet", "text", "arrow", "")
_REMOTE = ("hf://", "https://", "http://", "s3://", "gs://")
_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
_SHARD = re.compile(r".*-(\d{5})-of-(\d{5})\.parquet")


def _mirrored(task: TaskSpec, root: Path, split: str) -> list[Path]:
    """The file of a split in a mirror, or its shards. Raises ``TaskError`` naming every place where it might have been."""
    name = task.name if task.dataset_path in _LOADERS else task.dataset_path.strip("/")
    below = [part for part in (task.dataset_name, task.dataset_kwargs.get("data_dir")) if isinstance(part, str)]
    homes = [root.joinpath(folder, *below) for folder in dict.fromkeys((name.replace("/", "__"), name))]
    stated = task.dataset_kwargs.get("data_files")
    looked: list[str] = []
    if stated is not None and task.dataset_path not in _LOADERS:
        for home in homes:
            paths = [home / file for file in _data_files(task, split)]
            looked += map(str, paths)
            if all(path.is_file() for path in paths):
                return paths
    for home in homes:
        for folder in (home, home / "data"):
            single = [path for suffix in _SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
            shards = sorted(folder.glob(f"{split}-?????-of-?????.parquet"))
            if len(single) + bool(shards) > 1:
                both = ", ".join(path.name for path in [*single, *shards[:1]])
                raise TaskError(
                    f"task {task.name}: {folder} holds the split {split!r} more than once ({both}); keep one."
                )
            if single:
                return single
            if shards:
                return _all_shards(shards)
            looked.append(f"{folder / split}{{{','.join(_SUFFIXES)}}}")
            looked.append(str(folder / f"{split}-*-of-*.parquet"))
    raise TaskError(
        f"task {task.name}: the split {split!r} of its data {name!r} is not under {root}. Looked for: {'; '.join(looked)}."
    )


def _all_shards(paths: list[Path]) -> list[Path]:
    numbers = [tuple(map(int, match.groups())) for path in paths if (match := _SHARD.fullmatch(path.name))]
    if numbers != [(n, len(paths)) for n in range(len(paths))]:
        raise TaskError(
            f"{paths[0].parent}: of the shards {paths[0].name}, … there are {len(paths)}, and some are missing or doubled."
        )
    return paths


def _read_files(task: TaskSpec, paths: Sequence[Path]) -> Table:
    """Files of one kind, told by their names."""
    suffixes = {path.suffix for path in paths}
    if suffixes == {".parquet"}:
        return _read_parquet(task, paths)
    if suffixes == {".csv"}:
        return _one_after_another([_read_csv(path) for path in paths]) if len(paths) > 1 else _read_csv(paths[0])
    if suffixes <= {".json", ".jsonl"}:
        return _read_json(paths)
    raise TaskError(
        f"task {task.name}: cannot read {', '.join(map(str, paths))}; expected one of {', '.join(_SUFFIXES)}."
    )


def read_table_file(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a CSV, JSON or JSONL file by itself, and the names of its columns in their order. Raises ``TaskError``."""
    read = {".csv": _read_csv, ".json": lambda file: _read_json([file]), ".jsonl": lambda file: _read_json([file])}
    if path.suffix not in read:
        raise TaskError(f"{path}: expected a .csv, .json or .jsonl file.")
    rows = [dict(row) for row in read[path.suffix](path).rows]
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def _read_csv(path: Path) -> Table:
    """A CSV with a header. Cells are text as it stands (no word is taken for a null), whole columns of whole numbers are numbers."""
    try:
        data = path.read_bytes()
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(keepends=True), strict=True))
    except OSError as cause:
        raise TaskError(f"cannot read {path}: {cause.strerror or cause}.") from None
    except (UnicodeDecodeError, csv.Error) as cause:
        raise TaskError(f"{path}: is not CSV in UTF-8: {cause}.") from None
    header, cells = (lines[0], lines[1:]) if lines else ([], [])
    if not header or len(set(header)) != len(header) or not all(name.strip() for name in header):
        raise TaskError(f"{path}: its first line is {header!r:.80}; expected the names of the columns, each once.")
    for number, line in enumerate(cells, start=1):
        if len(line) != len(header):
            raise TaskError(f"{path}: row {number} has {len(line)} cells, and the header names {len(header)} columns.")
    values = {name: _numbers([line[place] for line in cells]) for place, name in enumerate(header)}
    rows = [{name: values[name][number] for name in header} for number in range(len(cells))]
    return Table(rows, frozenset(header), f"sha256:{hashlib.sha256(data).hexdigest()[:12]}", path.parent)


def _numbers(cells: list[str]) -> Sequence[str | int]:
    whole = bool(cells) and all(re.fullmatch(r"0|-?[1-9]\d*", cell) for cell in cells)
    return [int(cell) for cell in cells] if whole else cells


# --- process_docs ----------------------------------------------------------------------------------------------------


def processed(task: TaskSpec, table: Table, function: FunctionRef | None) -> Table:
    """The rows as a task's ``process_docs`` makes them of the data, which it gets as lm-eval gives it: as a ``datasets.Dataset``.

    Raises ``TaskError`` where the function fails on the data.
    """
    if function is None or not table.rows:
        return table
    process = function.resolve()
    import datasets

    where = f"task {task.name}: its process_docs ({function.name})"
    try:
        data = table.data if table.data is not None else datasets.Dataset.from_list([dict(row) for row in table.rows])
        with _quiet(datasets):
            made = process(data)
            rows = [dict(row) for row in made]
    except TaskError:
        raise
    except ModuleNotFoundError as cause:
        raise TaskError(f"{where} needs the Python module {cause.name!r}, which is not installed.") from None
    except (Exception, SystemExit) as cause:
        raise TaskError(
            f"{where} fails on the data: {type(cause).__name__}: {' '.join(str(cause).split())}. Is it the right data? Its columns are "
            f"{', '.join(sorted(table.columns))}."
        ) from None
    columns = made.column_names if isinstance(made, datasets.Dataset) else dict.fromkeys(c for row in rows for c in row)
    return replace(table, rows=rows, columns=frozenset(columns), data=None)


@contextmanager
def lm_eval_seeds() -> Iterator[None]:
    """``random`` as lm-eval seeds it before it makes a task, and afterwards as it was: some of its tasks shuffle their options by it."""
    before = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(before)


def draws(function: FunctionRef | None) -> bool:
    """Whether the code of a ``process_docs`` speaks of chance at all."""
    return function is not None and function.file is not None and "random" in function.file.read_text(encoding="utf-8")


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """No progress bars of the datasets library where nobody watches."""
    silence = not sys.stderr.isatty() and datasets.is_progress_bar_enabled()
    if silence:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if silence:
            datasets.enable_progress_bars()


# --- files and data sets that a task names ---------------------------------------------------------------------------


def _data_files(task: TaskSpec, split: str) -> list[str]:
    files = task.dataset_kwargs.get("data_files")
    if isinstance(files, (str, list)):
        files = {"train": files}  # what the datasets library calls files without a split
    if not isinstance(files, dict) or not files:
        raise TaskError(
            f"{task.path}: dataset_path is 'json', and dataset_kwargs.data_files is {files!r:.80}; expected files by split."
        )
    if split not in files:
        raise TaskError(
            f"{task.path}: dataset_kwargs.data_files has no split {split!r}; it has {', '.join(map(str, files))}."
        )
    chosen = files[split] if isinstance(files[split], list) else [files[split]]
    if not chosen or not all(isinstance(file, str) for file in chosen):
        raise TaskError(
            f"{task.path}: dataset_kwargs.data_files.{split} is {files[split]!r:.80}; expected a path or a list of them."
        )
    return chosen


def _local(task: TaskSpec, file: str) -> Path:
    """A data file: as an absolute path, beside the YAML, or under the package's tasks."""
    candidates = [task.path.parent / file, resources.tasks_dir() / file]
    for path in candidates:
        if path.is_file():
            return path
    raise TaskError(
        f"{task.path}: the data file {file!r} is missing (looked at {' and '.join(map(str, dict.fromkeys(candidates)))})."
    )


def _read_json(paths: Sequence[Path]) -> Table:
    digest = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as cause:
            raise TaskError(f"cannot read {path}: {cause.strerror or cause}.") from None
        digest.update(data)
        rows.extend(_json_rows(path, data))
    columns = dict.fromkeys(column for row in rows for column in row)
    # As in a table: every row has every column, null where it had no value.
    return Table(
        [{**dict.fromkeys(columns), **row} for row in rows],
        frozenset(columns),
        f"sha256:{digest.hexdigest()[:12]}",
        paths[0].parent,
    )


def _read_parquet(task: TaskSpec, paths: Sequence[Path]) -> Table:
    """Parquet files read as they are: the datasets library would copy them into its cache first, sound and all."""
    rows, columns = parquet_rows(paths, _audio_columns(task))
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return Table(rows, columns, f"sha256:{digest.hexdigest()[:12]}", paths[0].parent)


def _audio_columns(task: TaskSpec) -> list[str]:
    return [source.column for source in task.audio if source.column is not None]


def _json_rows(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, or of a JSON file that holds one list of them."""
    if data.lstrip()[:1] == b"[":
        for number, row in enumerate(_parsed(data, str(path)), start=1):
            yield _row(row, f"{path}, row {number}")
        return
    # Split at newlines only: JSON texts may hold other characters that str.splitlines would split at.
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _row(_parsed(line, where), where)


def _parsed(data: bytes, where: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as cause:  # not JSON, or not UTF-8
        raise TaskError(f"{where}: is not JSON: {cause}.") from None


def _row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TaskError(f"{where}: a row is an object of columns, this is {row!r:.60}.")
    return row


def _read_dataset(task: TaskSpec, split: str) -> Table:
    """A split through the datasets library: a hub id, a folder, or a loader such as ``parquet`` with ``data_files``."""
    import datasets

    kwargs = dict(task.dataset_kwargs)
    kwargs.pop("trust_remote_code", None)  # as lm-eval does; code that a dataset brings along is never run
    if "data_files" in kwargs:
        kwargs["data_files"] = _absolute(task, kwargs["data_files"])
    beside = task.path.parent / task.dataset_path
    path = str(beside) if task.dataset_path and beside.is_dir() else task.dataset_path
    if path in _other_loaders():
        raise TaskError(
            f"task {task.name}: dataset_path is {task.dataset_path!r}, a loader that is not for plain files and is not used "
            f"for a task. Give its data as {', '.join(loader for loader in _LOADERS if loader)}, or a hub id."
        )
    if task.revision is not None and not Path(path).exists():
        kwargs.setdefault("revision", task.revision)
    try:
        if task.custom_dataset is not None:
            found = task.custom_dataset.call({**task.metadata, **kwargs})
        else:
            found = datasets.load_dataset(path, task.dataset_name, **kwargs)
    except TaskError:
        raise
    except Exception as cause:
        name = f"{path} ({task.dataset_name})" if task.dataset_name else path
        root: BaseException = cause
        while root.__cause__ is not None:  # "an error occurred" says nothing; what it was raised from does
            root = root.__cause__
        raise TaskError(
            f"task {task.name}: its data {name!r} cannot be loaded: {type(root).__name__}: {root}. Check the id and the network, or give "
            "a local mirror (--data-dir), a local folder or JSONL files."
        ) from None
    if split not in found:
        raise TaskError(f"task {task.name}: its data has no split {split!r}; it has {', '.join(map(str, found))}.")
    data = found[split]
    revision = task.revision or f"fingerprint:{getattr(data, '_fingerprint', '?')}"
    return Table(dataset_rows(data, _audio_columns(task)), frozenset(data.column_names), revision, data=data)


def _other_loaders() -> set[str]:
    """Loaders that the datasets library knows by name and that are not for plain files: pandas unpickles."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return set(_PACKAGED_DATASETS_MODULES) - set(_LOADERS)


def _absolute(task: TaskSpec, files: Any) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(task, value) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(task, value) for value in files]
    file = str(files)
    if "://" not in file:
        return str(_local(task, file))
    if not file.startswith(_REMOTE) or "::" in file:  # others read archives, templates and machines of their own
        raise TaskError(
            f"task {task.name}: data_files names {file!r:.120}; expected a path, or an address of {', '.join(_REMOTE)}."
        )
    return file
