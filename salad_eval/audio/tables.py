"""Tables with audio in them (Parquet, or what the datasets library caches), read without their audio.

A row that is read holds an ``AudioCell`` in place of the sound: where its bytes lie. They are read one at a time when they are
needed, so a benchmark of any length takes the memory of its texts and of one row group, and nothing is ever decoded by the
datasets library (which needs FFmpeg for it).
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad_eval.errors import AudioError, TaskError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

ROWS_AT_A_TIME = 4096
_HUGGINGFACE = b"huggingface"  # the key of a schema's metadata under which the datasets library keeps its feature types


@dataclass(frozen=True, slots=True)
class AudioCell:
    """Where the sound of a row lies: ``column`` of row ``row`` (from 0) of the Parquet or Arrow file ``table``."""

    table: str
    column: str
    row: int


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """What a cell holds: an encoded file's bytes, the path of a file, both or neither."""

    data: bytes | None
    path: str | None


# --- rows ------------------------------------------------------------------------------------------------------------


def parquet_rows(
    paths: Sequence[Path], audio_columns: Iterable[str] = ()
) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """The rows of Parquet files in their order, and their columns; cells of audio columns are ``AudioCell``s.

    Audio columns are those named and those that the datasets library wrote as ``Audio``. Raises ``TaskError`` naming the
    file for one that is no Parquet, or that has other columns than the first.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    columns: tuple[str, ...] | None = None
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                names = tuple(file.schema_arrow.names)
                if columns is not None and set(names) != set(columns):
                    differ = sorted(set(names) ^ set(columns))
                    raise TaskError(f"{path}: has other columns than {paths[0]} (they differ in {', '.join(differ)}).")
                columns = names
                audio = [name for name in names if name in {*audio_columns, *audio_features(file.schema_arrow)}]
                read = [name for name in names if name not in audio]
                begin, where = len(rows), str(path.absolute())
                for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=read):
                    rows.extend(batch.to_pylist() if read else ({} for _ in range(batch.num_rows)))
                for number, row in enumerate(itertools.islice(rows, begin, None)):
                    row.update((name, AudioCell(where, name, number)) for name in audio)
        except (pa.ArrowException, OSError) as cause:
            raise TaskError(f"{path}: cannot be read as Parquet: {' '.join(str(cause).split())}.") from None
    return rows, frozenset(columns or ())


def dataset_rows(data: datasets.Dataset, audio_columns: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The rows of a dataset of the datasets library; cells of audio columns are ``AudioCell``s into its cached files.

    A cell that holds no sound itself stays as it is, ``{bytes: None, path}``: whether its file may be read is the reader's to say.
    Raises ``TaskError`` where there is audio and the rows are not simply those of its files.
    """
    import datasets

    named = {*audio_columns, *(name for name, kind in data.features.items() if isinstance(kind, datasets.Audio))}
    audio = [name for name in data.column_names if name in named]
    if not audio:
        return list(data)
    files = [str(Path(entry["filename"]).absolute()) for entry in data.cache_files]
    lengths = [_arrow_table(file).num_rows for file in files]
    if sum(lengths) != len(data) or data._indices is not None:
        raise TaskError(
            f"the audio column {audio[0]!r} is in a dataset that was cut or shuffled in memory, so that its sound cannot be found again. "
            "Save it with Dataset.to_parquet and name the file in dataset_kwargs.data_files."
        )
    texts = data.remove_columns(audio)
    rows: list[dict[str, Any]] = list(texts) if texts.column_names else [{} for _ in range(len(data))]
    for name in audio:
        cells = (cell for file in files for cell in _cells(file, name))
        for values, cell in zip(rows, cells, strict=True):
            values[name] = cell
    return rows


def _cells(file: str, column: str) -> Iterator[AudioCell | dict[str, str | None]]:
    """The cells of an Arrow file's audio column, without reading the sound that is in them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = _arrow_table(file).column(column)
    paths: list[str | None] = [None] * len(values)
    if pa.types.is_struct(values.type) and values.type.get_field_index("path") >= 0:
        whole = pc.is_valid(pc.struct_field(values, "bytes")).to_pylist()
        names = pc.struct_field(values, "path").to_pylist()
        paths = [None if has_bytes else name for has_bytes, name in zip(whole, names, strict=True)]
    for row, path in enumerate(paths):
        yield AudioCell(file, column, row) if path is None else {"bytes": None, "path": path}


def audio_features(schema: pa.Schema) -> list[str]:
    """The columns that the datasets library wrote as ``Audio``, by the schema's metadata."""
    try:
        info = json.loads((schema.metadata or {})[_HUGGINGFACE])["info"]["features"]
        return [name for name, kind in info.items() if isinstance(kind, dict) and kind.get("_type") == "Audio"]
    except (KeyError, TypeError, ValueError):  # written by something else
        return []


# --- cells -----------------------------------------------------------------------------------------------------------


class CellReader:
    """Reads cells, one row group at a time; reading them in their order reads each row group once."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, int], pa.ChunkedArray] = {}
        self._borders: dict[str, list[int]] = {}
        self._tables: dict[str, pa.Table] = {}

    def read(self, table: str, column: str, row: int) -> EncodedAudio:
        """What the cell holds. Raises ``AudioError`` where it cannot be read or holds no audio."""
        import pyarrow as pa

        where = f"{table}, column {column}, row {row}"
        try:
            cells, place = (self._parquet if table.endswith(".parquet") else self._arrow)(table, column, row)
            value = cells[place].as_py()
        except (pa.ArrowException, OSError, KeyError, IndexError) as cause:
            raise AudioError(f"cannot read audio from {where}: {' '.join(str(cause).split())}") from None
        return encoded(value, where)

    def _parquet(self, table: str, column: str, row: int) -> tuple[Any, int]:
        import pyarrow.parquet as pq

        if table not in self._borders:
            meta = pq.read_metadata(table)
            sizes = (meta.row_group(group).num_rows for group in range(meta.num_row_groups))
            self._borders[table] = list(itertools.accumulate(sizes, initial=0))
        borders = self._borders[table]
        group = bisect.bisect_right(borders, row) - 1
        if not 0 <= group < len(borders) - 1:
            raise IndexError(f"the table has {borders[-1]} rows")
        key = (table, column, group)
        if key not in self._groups:
            # One group a column: an item's parts lie in several columns of one row.
            for old in [k for k in self._groups if k[:2] == key[:2]]:
                del self._groups[old]
            with pq.ParquetFile(table) as file:
                self._groups[key] = file.read_row_group(group, columns=[column]).column(column)
        return self._groups[key], row - borders[group]

    def _arrow(self, table: str, column: str, row: int) -> tuple[Any, int]:
        if table not in self._tables:
            self._tables[table] = _arrow_table(table)
        return self._tables[table].column(column), row


def _arrow_table(file: str) -> pa.Table:
    """A file that the datasets library cached, mapped into memory and not read."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(file)).read_all()


def encoded(value: object, where: str) -> EncodedAudio:
    """An audio value as the datasets library has it undecoded (``{bytes, path}``), or bytes, or a path.

    Raises ``AudioError`` for anything else, and where there is neither.
    """
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    else:
        data, path = (value, None) if isinstance(value, bytes) else (None, value)
    if not (data is None or isinstance(data, bytes)) or not (path is None or isinstance(path, str)):
        kinds = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise AudioError(f"{where}: holds {kinds}; expected audio as {{bytes, path}}, bytes or a path")
    if not data and not path:
        raise AudioError(f"{where}: holds no audio (null)")
    return EncodedAudio(data or None, path or None)
