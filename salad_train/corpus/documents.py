"""Documents that stay on disk: an Arrow file, mapped into memory, so that a corpus may be larger than the machine's memory."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from salad_eval.records import whole_file
from salad_train.types import TextDocument

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_DOCUMENTS = 1_000  # that are held until they are written


def write_documents(path: Path, documents: Iterable[TextDocument]) -> StoredDocuments:
    """Documents, taken one by one, into an Arrow file that is there once it is whole. Raises ``DataError`` where it cannot be written."""
    import pyarrow as pa

    left = iter(documents)
    with whole_file(path) as file, pa.ipc.new_file(file, _schema()) as writer:
        while batch := list(itertools.islice(left, BATCH_DOCUMENTS)):
            columns = {name: [getattr(one, name) for one in batch] for name in _schema().names}
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_schema()))
    return StoredDocuments(path)


@contextmanager
def file_in_use(path: Path) -> Iterator[Path]:
    """A name for a file that is written and opened in the block, and has none after it: what was opened stays readable until this
    process ends, however it ends."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema({"id": pa.string(), "text": pa.string(), "domain": pa.string(), "borders": pa.list_(pa.int64())})


class StoredDocuments(Sequence[TextDocument]):
    """The documents of an Arrow file, each made when it is asked for. The file may be unlinked while it is open.

    What is read lies in the system's page cache, which it takes back where memory is short; this process holds none of it.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._columns = [self._table.column(name) for name in _schema().names]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> TextDocument: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TextDocument, ...]: ...
    def __getitem__(self, index: int | slice) -> TextDocument | tuple[TextDocument, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        name, text, domain, borders = (column[place % len(self)].as_py() for column in self._columns)
        return TextDocument(name, text, domain, tuple(borders))

    def __iter__(self) -> Iterator[TextDocument]:
        for batch in self._table.to_batches(max_chunksize=BATCH_DOCUMENTS):
            for name, text, domain, borders in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield TextDocument(name, text, domain, tuple(borders))


class Texts(Sequence[str]):
    """The texts of documents, wherever those are, without a list of them."""

    def __init__(self, documents: Sequence[TextDocument]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [document.text for document in self._documents[index]]
        return self._documents[index].text

    def __iter__(self) -> Iterator[str]:
        return (document.text for document in self._documents)
