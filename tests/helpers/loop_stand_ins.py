"""Steps of the loop as they are without models, for tests of what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from salad_eval import records
from salad_train.types import Selection


def _write_selection(selection: Selection, out: Path) -> None:
    records.write_json(out / "selection.json", selection)


def _read_selection(out: Path) -> Selection:
    return records.loads(Selection, (out / "selection.json").read_bytes())


WITHOUT_MODELS: Mapping[str, Callable[..., Any]] = {
    "readers_of": lambda stage: None,
    "tokenizer_of": lambda stage: None,
    "write_selection": _write_selection,
    "read_selection": _read_selection,
}
"""By their names in ``salad_train.loop``."""
