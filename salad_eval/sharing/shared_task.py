"""One task of an export, and the command that evaluates on it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.types import (
    CLEAN,
    TaskProtocol,
)

if TYPE_CHECKING:
    from salad_eval.benchmarks.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class SharedTask:
    """One task of an export: its files, and what is in them. ``left_out``: items by the reason for which they are not.

    ``source``: the hub's id of the data set that the text is from; ``None`` for files of one's own, whose paths are nobody's business.
    """

    name: str
    source: str | None
    slug: str
    split: str
    yaml: str
    files: tuple[str, ...]
    audio_columns: tuple[str, ...]
    n_items: int
    n_rows: int
    seconds: float
    errors: Mapping[str, tuple[int, int]]  # voice -> word errors, words
    protocol: TaskProtocol
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    folder: Path
    tasks: tuple[SharedTask, ...]
    perturbations: tuple[str, ...]


_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")


def hub_id(spec: TaskSpec) -> str | None:
    """The hub's id of a task's data set, where it is one and not a folder here."""
    local = (spec.path.parent / spec.dataset_path).exists() or Path(spec.dataset_path).exists()
    return spec.dataset_path if _HUB_ID.fullmatch(spec.dataset_path) and not local else None


def run_command(yaml_file: str, perturbations: Sequence[str]) -> str:
    """The command that evaluates on a shared task; its recordings under perturbations are used where the plan names these."""
    named = (
        "" if tuple(perturbations) == (CLEAN,) else f""" --set "conditions=[{", ".join(map(repr, perturbations))}]\""""
    )
    return f"salad run --preset nano --tasks {shlex.quote(yaml_file)}{named}"
