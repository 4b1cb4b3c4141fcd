"""``salad import``: an exported folder, checked sound by sound. Nothing of it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.audio.sound import sha256_of
from salad_eval.audio.tables import AudioCell, CellReader, parquet_rows
from salad_eval.errors import AudioError, DataError
from salad_eval.progress import track

if TYPE_CHECKING:
    from salad_eval.benchmarks.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class Imported:
    """One task of an exported folder, checked. ``damaged``: what of its sound is not what its row says, at most a few."""

    yaml: Path
    task: str
    n_items: int
    n_rows: int
    seconds: float
    voices: tuple[str, ...]
    perturbations: tuple[str, ...]
    word_errors: int
    n_words: int
    rejects: Mapping[str, int]
    n_damaged: int
    damaged: tuple[str, ...]


def check_import(folder: Path) -> list[Imported]:
    """Read every task of an exported folder, decode all of its sound and compare it with the hashes in its rows.

    No function that a task of the folder names is called. Raises ``DataError`` where one names any, and where the folder holds no task
    that reads it back.
    """
    from salad_eval.benchmarks.catalogue import load_task

    found = []
    for file in sorted(folder.glob("*.yaml")):
        task = load_task(str(file))
        if task.functions:
            raise DataError(
                f"{file}: names the function {task.functions[0].name} (!function), and an export names none. This is not what salad export "
                "wrote; nothing of it was run."
            )
        if task.audio and task.dataset_path == "parquet":
            found.append(_imported(task, file))
    if not found:
        raise DataError(f"{folder}: holds no task of an export (a YAML with metadata.salad.audio over Parquet files).")
    return found


MOST_DAMAGED = 5


def _imported(task: TaskSpec, file: Path) -> Imported:
    from salad_eval.benchmarks.items import load_items
    from salad_eval.benchmarks.recordings import decode

    (split,) = task.splits or ("test",)
    items, rejects, _ = load_items(task, split)
    paths = [file.parent / name for names in task.dataset_kwargs["data_files"].values() for name in names]
    rows, _ = parquet_rows(paths)
    reader = CellReader()
    damaged: list[str] = []
    seconds, wrong, words = 0.0, 0, 0
    for row in track(rows, f"check {file.stem}"):
        for source in task.audio:
            suffix = (source.column or "audio").removeprefix("audio")
            cell = row.get(source.column or "")
            wrong += row.get(f"word_errors{suffix}") or 0
            words += row.get(f"n_words{suffix}") or 0
            try:
                if not isinstance(cell, AudioCell):
                    raise AudioError(f"column {source.column} holds no audio")
                audio = decode(reader.read(cell.table, cell.column, cell.row).data or b"")
                seconds += audio.seconds
                if sha256_of(audio) != row.get(f"sha256{suffix}"):
                    raise AudioError(f"{cell.table}, row {cell.row}: is not the sound that sha256{suffix} names")
            except AudioError as cause:
                damaged.append(str(cause))
    return Imported(
        yaml=file,
        task=task.name,
        n_items=len(items),
        n_rows=len(rows),
        seconds=seconds,
        voices=tuple(sorted({str(row.get("voice")) for row in rows})),
        perturbations=tuple(sorted({str(row.get("perturbation")) for row in rows})),
        word_errors=wrong,
        n_words=words,
        rejects=dict(Counter(reject.reason for reject in rejects)),
        n_damaged=len(damaged),
        damaged=tuple(damaged[:MOST_DAMAGED]),
    )
