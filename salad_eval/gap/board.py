"""Many runs on one board: those that ask the same stand together, each held against one of them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.errors import UserInputError
from salad_eval.gap.compare import Against, against, compare, names_of
from salad_eval.types import GapReport

if TYPE_CHECKING:
    from salad_eval.pipeline.finished import FinishedRun


@dataclass(frozen=True, slots=True)
class BoardLine:
    """A run, by its own name, or by its folder's where another run of the group has the same.

    ``against``: held against its group's baseline; ``None`` for the baseline itself and where ``why_not`` says why."""

    path: Path
    name: str
    report: GapReport
    is_baseline: bool
    against: Against | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class BoardGroup:
    """Runs on the same tasks and split, the oldest first."""

    tasks: tuple[str, ...]
    split: str
    lines: tuple[BoardLine, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """``left_out``: what was no run, and why."""

    groups: tuple[BoardGroup, ...]
    left_out: Mapping[str, str]

    @property
    def lines(self) -> list[BoardLine]:
        return [line for group in self.groups for line in group.lines]


def board(
    runs: Sequence[FinishedRun], baseline: Path | None = None, left_out: Mapping[str, str] | None = None
) -> Board:
    """The runs by what they ask. ``baseline``: which run its group is held against; the oldest of each group if not given.

    A run without items and scores (a lone report) has no difference: nothing can be paired. q-values are over a group's runs.
    Raises ``UserInputError`` for a baseline that is none of the runs, and where there is no run at all.
    """
    if not runs:
        raise UserInputError(f"no finished run among {len(left_out or {})} paths: {_listed(left_out or {})}")
    if baseline is not None and all(run.path != baseline for run in runs):
        raise UserInputError(f"--baseline {baseline} is none of the runs.")
    name_of = dict(zip(map(id, runs), names_of(runs), strict=True))
    by_question: dict[tuple[tuple[str, ...], str], list[FinishedRun]] = {}
    for run in runs:
        tasks = tuple(sorted(protocol.task for protocol in run.report.protocols))
        by_question.setdefault((tasks, run.report.split), []).append(run)
    groups = [
        _group(*question, found, baseline, name_of)
        for question, found in sorted(by_question.items(), key=lambda one: one[0])
    ]
    return Board(tuple(groups), left_out or {})


def _group(
    tasks: tuple[str, ...],
    split: str,
    runs: Sequence[FinishedRun],
    baseline: Path | None,
    name_of: Mapping[int, str],
) -> BoardGroup:
    ordered = sorted(runs, key=lambda run: (run.report.created, str(run.path)))
    first = next((run for run in ordered if run.path == baseline), ordered[0])
    found, why_not = {}, {}
    for run in ordered:
        if run is first:
            continue
        if not (run.scores and first.scores):
            why_not[id(run)] = "a report without its run"
            continue
        try:
            found[id(run)] = compare(first, run)
        except UserInputError:
            why_not[id(run)] = "shares no question with the baseline"
    held = dict(zip(found, against(list(found.values())), strict=True))
    lines = [
        BoardLine(run.path, name_of[id(run)], run.report, run is first, held.get(id(run)), why_not.get(id(run), ""))
        for run in ordered
    ]
    return BoardGroup(tasks, split, tuple(lines))


def _listed(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{path}: {why}" for path, why in list(left_out.items())[:3]) or "none was given."
