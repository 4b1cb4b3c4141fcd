"""Rows of a corpus, one at a time: JSONL, gzipped JSONL, Parquet, Arrow, or anything the ``datasets`` library reads.

What is wrong with one row is the row's ``fault`` and goes on being counted; what is wrong with a file is a
``DataError``."""

from __future__ import annotations

import glob
import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.errors import DataError, UserInputError, did_you_mean
from salad_eval.records import parse_json
from salad_eval.resources import resolve_path

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")
_BATCH_ROWS = 1_000
_ARROW_FILE = b"ARROW1"  # what Arrow's file format begins with, and its stream format does not
# A folder with one of these was made for the datasets library: it knows which of its files belong to which split.
_DATASET_MARKS = ("README.md", "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
_SAVED_MARKS = ("dataset_dict.json", "state.json")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read.

    Attributes:
        id: ``<file>:<row>``, rows counted from 1 and empty lines not at all.
        values: its fields; none where ``fault`` says why it could not be read.
        fields: the names of all fields it has, where ``values`` holds only those that were asked for.
    """

    id: str
    values: Mapping[str, object]
    fields: Collection[str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file and the name its rows' ids begin with."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """What ``datasets.load_dataset`` is asked for: a hub id or a local folder."""

    source: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class _Sources:
    """The files a pattern or folder stands for, and what their labels are relative to."""

    root: Path
    paths: tuple[Path, ...]


# --- where the rows are ----------------------------------------------------------------------------------------------


def is_dataset(source: str) -> bool:
    """Whether a source is the datasets library's: a folder marked as such, or an id like ``owner/name`` that is no path
    here."""
    path = resolve_path(source)
    if path.is_dir():
        return any((path / mark).exists() for mark in _DATASET_MARKS)
    return not path.exists() and _HUB_ID.fullmatch(source) is not None and _suffix(path) is None and not path.suffix


def find_files(sources: Sequence[str]) -> list[CorpusFile]:
    """The files that paths, folders and glob patterns stand for, each once, folders and patterns in the order of names.

    A file's label is its name without the suffix; under a folder or a pattern, its path from there. Where two would
    have the same one, their names are kept whole. Raises ``DataError`` for what is not there, holds no such file, or
    has a suffix nobody reads."""
    found: dict[Path, str] = {}
    for source in sources:
        group = _expand(source)
        for path in group.paths:
            found.setdefault(path, path.relative_to(group.root).as_posix())
    short = Counter(_stem(name) for name in found.values())
    labels = {path: _stem(name) if short[_stem(name)] == 1 else name for path, name in found.items()}
    shared = Counter(labels.values())
    return [
        CorpusFile(path, label if shared[label] == 1 else _stem(path.as_posix()) + (_suffix(path) or ""))
        for path, label in labels.items()
    ]


def _expand(source: str) -> _Sources:
    path = resolve_path(source)
    if path.is_dir():
        paths = sorted(
            inner
            for inner in path.rglob("*")
            if inner.is_file()
            and _suffix(inner)
            and not any(step.startswith(".") for step in inner.relative_to(path).parts)
        )
        if not paths:
            raise DataError(f"corpus source {source!r} is a folder without a file that ends in {', '.join(SUFFIXES)}.")
        return _Sources(path, tuple(paths))
    if path.is_file():
        if _suffix(path) is None:
            raise DataError(f"corpus source {source!r}: expected a file that ends in {', '.join(SUFFIXES)}.")
        return _Sources(path.parent, (path,))
    if glob.has_magic(source):
        pattern = str(path)
        matched = tuple(Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(name))
        paths_read = tuple(name for name in matched if _suffix(name))
        if not paths_read:
            what = (
                f"matches {len(matched)} file(s), none of which ends in" if matched else "matches no file that ends in"
            )
            raise DataError(f"corpus source {source!r} {what} {', '.join(SUFFIXES)}.")
        parts = path.parts
        fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
        return _Sources(Path(*parts[:fixed]), paths_read)
    siblings = sorted(inner.name for inner in path.parent.iterdir()) if path.parent.is_dir() else []
    raise DataError(
        f"corpus source {source!r} does not exist{did_you_mean(path.name, siblings)}. Expected a file that ends in "
        f"{', '.join(SUFFIXES)}, a folder or pattern of such files, or the id of a dataset "
        "(with reader: datasets where it is not taken for one)."
    )


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _stem(name: str) -> str:
    suffix = _suffix(Path(name))
    return name[: -len(suffix)] if suffix else name


# --- files -----------------------------------------------------------------------------------------------------------


def file_rows(files: Sequence[CorpusFile], wanted: Collection[str]) -> Iterator[Row]:
    """The rows of files, in order; ``wanted`` are the fields that are needed (Parquet reads no other)."""
    for file in files:
        yield from _READERS[_suffix(file.path) or SUFFIXES[0]](file, wanted)


def _jsonl_rows(file: CorpusFile, wanted: Collection[str]) -> Iterator[Row]:
    del wanted  # a line is parsed as a whole
    opened = gzip.open if file.path.name.lower().endswith(".gz") else open
    number = 0
    try:
        with opened(file.path, "rb") as lines:
            for line in lines:
                if number == 0:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    number += 1
                    yield _json_row(f"{file.label}:{number}", line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise DataError(f"{file.path} is damaged after row {number}: {cause}. Fetch or compress it again.") from None
    except OSError as cause:
        raise DataError(f"cannot read {file.path}: {cause.strerror or cause}.") from None


def _json_row(row_id: str, line: bytes) -> Row:
    try:
        values = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as cause:
        return Row(row_id, {}, (), f"not UTF-8: {cause.reason}")
    except ValueError as cause:
        return Row(row_id, {}, (), f"not JSON: {cause}")
    if not isinstance(values, dict):
        return Row(row_id, {}, (), f"not an object of fields: {values!r:.40}")
    return Row(row_id, values, values.keys())


def _parquet_rows(file: CorpusFile, wanted: Collection[str]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(file.path) as table:
            names = table.schema_arrow.names
            columns = [name for name in names if name in wanted]
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield names, batch

    return _table_rows(file, batches())


def _arrow_rows(file: CorpusFile, wanted: Collection[str]) -> Iterator[Row]:
    """Arrow's file format, and its stream format, which the datasets library writes; both mapped into memory."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file.path)) as source:
            is_file = source.read(len(_ARROW_FILE)) == _ARROW_FILE
            source.seek(0)
            opened = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            names = opened.schema.names
            columns = [name for name in names if name in wanted]
            for whole in (opened.get_batch(n) for n in range(opened.num_record_batches)) if is_file else opened:
                for start in range(0, whole.num_rows, _BATCH_ROWS):
                    yield names, whole.slice(start, _BATCH_ROWS).select(columns)

    return _table_rows(file, batches())


def _table_rows(file: CorpusFile, batches: Iterator[Any]) -> Iterator[Row]:
    """The rows of record batches, each with the names of all columns of the file."""
    import pyarrow as pa

    number = 0
    try:
        for names, batch in batches:
            # A batch without columns still knows how many rows it has, and each must be counted.
            rows = batch.to_pylist() if batch.num_columns else [{}] * batch.num_rows
            for values in rows:
                number += 1
                yield Row(f"{file.label}:{number}", values, tuple(names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as cause:
        raise DataError(f"cannot read {file.path} after row {number}: {type(cause).__name__}: {cause}.") from None


_READERS: Mapping[str, Callable[[CorpusFile, Collection[str]], Iterator[Row]]] = {
    ".jsonl": _jsonl_rows,
    ".jsonl.gz": _jsonl_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}


# --- the datasets library --------------------------------------------------------------------------------------------


def dataset_rows(wanted_from: DatasetSource, wanted: Collection[str]) -> Iterator[Row]:
    """The rows of a dataset's split. Columns that are not ``wanted`` are left out before anything in them is decoded;
    code that a dataset brings along is never run."""
    label = Path(wanted_from.source).name
    number = 0
    try:
        data = _load(wanted_from)
        names = tuple(data.column_names or ())  # a stream may not know them before its first row
        if any(name in wanted for name in names):
            data = data.select_columns([name for name in names if name in wanted])
        for columns in data.iter(batch_size=_BATCH_ROWS):
            fields = names or tuple(columns)
            for values in zip(*columns.values(), strict=True):
                number += 1
                yield Row(f"{label}:{number}", dict(zip(columns, values, strict=True)), fields)
    except UserInputError:
        raise
    except Exception as cause:  # whatever a loader, a codec or the network may raise
        name = f" ({wanted_from.name})" if wanted_from.name else ""
        done = f" after row {number}" if number else ""
        raise DataError(
            f"dataset {wanted_from.source!r}{name}, split {wanted_from.split!r}, cannot be read{done}: "
            f"{type(cause).__name__}: {cause}. "
            "Check id, name, split and network, or give a local folder or files."
        ) from None


def _load(wanted: DatasetSource) -> Any:
    import datasets

    folder = resolve_path(wanted.source)
    if folder.is_dir() and any((folder / mark).exists() for mark in _SAVED_MARKS):
        data = datasets.load_from_disk(str(folder))
        if not isinstance(data, datasets.DatasetDict):
            return data
        if wanted.split not in data:
            raise DataError(
                f"dataset {wanted.source!r} has no split {wanted.split!r}{did_you_mean(wanted.split, data)}; "
                f"it has {', '.join(data)}."
            )
        return data[wanted.split]
    return datasets.load_dataset(
        str(folder) if folder.is_dir() else wanted.source,
        wanted.name,
        split=wanted.split,
        revision=None if folder.is_dir() else wanted.revision,
        streaming=wanted.streaming,
    )
