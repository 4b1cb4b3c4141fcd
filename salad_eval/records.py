"""Frozen dataclasses to JSON and back, one a line, with every type checked on the way in.

A line is what survives a kill: a record is written with its newline in one call, so the only damage a killed process
can leave is an unfinished last line, which is dropped on reading and cut off before the next append. Anything else that
does not read as the record it should be is a ``DataError`` that names file, line and field.

Floats round-trip exactly (shortest representation). NaN and infinities are refused: what is missing is ``None``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeAlias, TypeVar, cast

from salad_eval.errors import DataError

if TYPE_CHECKING:  # pydantic is only loaded by who reads: a process that only writes starts sooner
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
UNFINISHED = ".tmp"  # ends the name of what is being written; a dot begins it
_NAME = 40  # characters of a name that its temporary one keeps: file systems allow 255 bytes
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


# --- one record ------------------------------------------------------------------------------------------------------


def to_json(obj: object) -> Json:
    """``obj`` (a dataclass, or anything made of dataclasses, tuples, lists, mappings and plain values) as JSON values.

    Raises ``TypeError`` for a value that JSON cannot hold exactly (an array, NaN, an object that is not a dataclass):
    that is a mistake in the caller, and it is better found here than by the reader.
    """
    if obj is None or isinstance(obj, (bool, str)):
        return obj
    if isinstance(obj, int):
        return int(obj)
    if isinstance(obj, float):
        if obj != obj or obj in (float("inf"), float("-inf")):
            raise TypeError(f"a record cannot hold {obj!r}: what is missing is None, with a reason beside it")
        return float(obj)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {name: to_json(getattr(obj, name)) for name in _field_names(type(obj))}
    if isinstance(obj, (tuple, list)):
        return [to_json(value) for value in obj]
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"a record's mapping has the key {key!r}: keys must be strings")
        return {str(key): to_json(value) for key, value in obj.items()}
    raise TypeError(f"a record cannot hold a {type(obj).__name__}: {obj!r:.80}")


def from_json(cls: type[T], data: object) -> T:
    """The record of class ``cls`` that ``data`` (parsed JSON) describes; lists become tuples where the class says so.

    Raises ``DataError`` naming the field for a wrong type, a missing field or an unknown one.
    """
    return loads(cls, json.dumps(data, allow_nan=False))


def dumps(obj: object) -> str:
    """One line of JSON without its newline. Raises ``TypeError`` as ``to_json`` does."""
    return json.dumps(to_json(obj), ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def parse_json(text: str | bytes, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Plain values of JSON that somebody else wrote. Raises ``ValueError`` for what is none, too deep a nesting among it."""
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_text(value: str) -> bool:
    """Whether a file can hold it: half a surrogate pair, which an escape in JSON makes, is in no encoding."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def loads(cls: type[T], line: str | bytes, where: str = "record") -> T:
    """The record that one line of JSON describes; ``where`` names its origin in the ``DataError``."""
    from pydantic import ValidationError

    _refuse_not_a_number(line, where)
    try:
        record: T = _adapter(cast(Hashable, cls)).validate_json(line, strict=True, extra="forbid")
    except ValidationError as cause:
        raise DataError(f"{where}: not a {cls.__name__}: {_explain(cause)}") from None
    return record


def _refuse_not_a_number(line: str | bytes, where: str) -> None:
    """JSON has no NaN and no infinity; readers of JSON mostly take them, and what is computed from them is wrong without a word."""
    text = line if isinstance(line, bytes) else line.encode()
    if b"NaN" not in text and b"Infinity" not in text:
        return

    def refuse(name: str) -> None:
        raise DataError(f"{where}: holds {name}, which no record can: what is missing is null.")

    with contextlib.suppress(ValueError):  # not JSON at all: what reads it says so
        json.loads(line, parse_constant=refuse)


def loads_list(cls: type[T], line: str | bytes, where: str = "records") -> list[T]:
    """The records that one line of JSON, a list, holds."""
    from pydantic import ValidationError

    try:
        found: list[T] = _list_adapter(cast(Hashable, cls)).validate_json(line, strict=True, extra="forbid")
    except ValidationError as cause:
        raise DataError(f"{where}: not a list of {cls.__name__}: {_explain(cause)}") from None
    return found


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _adapter(cls: Hashable) -> TypeAdapter[Any]:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter

    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"records are dataclasses, and {cls!r} is none")
    try:
        return TypeAdapter(cls)
    except PydanticSchemaGenerationError as cause:
        raise TypeError(f"{cls.__name__} cannot be kept as JSON: {cause}") from cause


@cache
def _list_adapter(cls: Hashable) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[cls])  # type: ignore[valid-type]


def _explain(error: ValidationError, most: int = 3) -> str:
    """``field: what is wrong (got …)`` for the first few faults."""
    faults = error.errors(include_url=False)
    parts = []
    for fault in faults[:most]:
        field = ".".join(str(step) for step in fault["loc"]) or "the line"
        got = "" if fault["type"] in ("missing", "json_invalid") else f" (got {fault['input']!r:.60})"
        parts.append(f"{field}: {fault['msg']}{got}")
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    return "; ".join(parts) + more


# --- files of records ------------------------------------------------------------------------------------------------


def read_jsonl(path: str | os.PathLike[str], cls: type[T]) -> list[T]:
    """All records of a file, in order. See ``iter_jsonl``."""
    return list(iter_jsonl(path, cls))


def iter_jsonl(path: str | os.PathLike[str], cls: type[T]) -> Iterator[T]:
    """The records of a JSONL file, one at a time; memory stays flat.

    A last line without a newline is kept if it is whole JSON and dropped if it is not (a writer was killed). Raises
    ``DataError`` naming file and line for anything else that is not a ``cls``, and where there is no such file.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and _is_torn(line):
                    return
                yield loads(cls, line, where=f"{os.fspath(path)}, line {number}")
    except OSError as cause:
        raise DataError(f"cannot read {os.fspath(path)}: {cause.strerror or cause}") from None


def write_jsonl(path: str | os.PathLike[str], records: Iterable[object]) -> int:
    """Write a whole file of records (see ``whole_file``). Returns the count."""
    count = 0
    with whole_file(path) as file:
        for record in records:
            file.write(dumps(record).encode() + b"\n")
            count += 1
    return count


def append_jsonl(path: str | os.PathLike[str], records: Iterable[object]) -> int:
    """Add records to the end of a file (made where missing), cutting off an unfinished last line. Returns the count."""
    with JsonlLog(path, object) as log:
        return log.append(*records)


class JsonlLog(Generic[T]):
    """A growing file of records of one class: read what is there, then append. One writer at a time.

    >>> with JsonlLog(path, Score) as log:          # doctest: +SKIP
    ...     done = {score.item_id for score in log.read()}
    ...     log.append(*new_scores)
    """

    def __init__(self, path: str | os.PathLike[str], cls: type[T]) -> None:
        self.path = Path(path)
        self.cls = cls
        self._file: int | None = None

    def read(self) -> list[T]:
        """What the file holds now; an empty list where there is no file."""
        return read_jsonl(self.path, self.cls) if self.path.exists() else []

    def append(self, *records: T) -> int:
        """Write records in one call to the system, each whole with its newline, and return how many."""
        lines = b"".join(dumps(record).encode() + b"\n" for record in records)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _mend_tail(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        write_all(self._file, lines)
        return len(records)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> JsonlLog[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of a record and not a record: a proper prefix of a JSON object is never JSON."""
    try:
        json.loads(line)
    except ValueError:  # JSONDecodeError and UnicodeDecodeError (cut within a character) alike
        return True
    return False


def _mend_tail(path: Path, block: int = 1 << 16) -> None:
    """Make a file end after a newline: finish a whole last line, cut off a torn one. Reads only the tail."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        tail, start = b"", end
        while start > 0 and b"\n" not in tail:
            step = min(block, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return
        if _is_torn(last):
            file.truncate(end - len(last))
        else:
            file.seek(end)
            file.write(b"\n")


def write_all(file: int, data: bytes) -> None:
    """Write to an open file, however many calls to the system it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


# --- whole files -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when it is whole and on the disk: a reader sees all of it or none.

    Raises ``DataError`` naming ``path`` where it cannot be written.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:_NAME]}.", suffix=UNFINISHED, dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as cause:
        raise DataError(f"cannot write {target}: {cause.strerror or cause}.") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file (see ``whole_file``)."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Write what ``to_json`` takes as a whole file of JSON for people."""
    write_atomic(path, json.dumps(to_json(obj), ensure_ascii=False, allow_nan=False, indent=1) + "\n")


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder to fill that takes the place of ``path``, whatever was there, when it is whole.

    Its files get the mode that ``open`` would have given them: some libraries write private ones. Raises ``DataError`` where it
    cannot be written.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:_NAME]}.", suffix=UNFINISHED, dir=target.parent))
        yield temporary
        mask = _umask()
        for inside in (temporary, *temporary.rglob("*")):
            inside.chmod((0o777 if inside.is_dir() else 0o666) & ~mask)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as cause:
        raise DataError(f"cannot write {target}: {cause}.") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes were writing into ``folder``. Only who alone writes there may ask for it."""
    for left in folder.glob(f".*{UNFINISHED}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _umask() -> int:
    # mkstemp makes private files; a shared run folder wants what open() would have given.
    mask = os.umask(0)
    os.umask(mask)
    return mask
