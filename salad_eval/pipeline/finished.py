"""A finished run, read back from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from salad_eval import records
from salad_eval.errors import DataError
from salad_eval.gap.compare import Comparison, compare
from salad_eval.gap.items import HeardItem, RunRecords, heard_items
from salad_eval.identity import file_sha256
from salad_eval.pipeline.costs import column_costs
from salad_eval.pipeline.divergence import STEP as DIVERGE
from salad_eval.pipeline.folder import DONE_FILE, ITEMS, RunFolder
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.pipeline.render import STEP as RENDER
from salad_eval.pipeline.respond import STEP as RESPOND
from salad_eval.pipeline.score import STEP as SCORE
from salad_eval.pipeline.transcribe import STEP as TRANSCRIBE
from salad_eval.report.json import REPORT_FILE, load_report
from salad_eval.types import ColumnName, Costs, Divergence, GapReport, Item, Rendering, Response, Score, Transcript

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run found, and the folder that holds the rest; every file is checked against the checksum that the run noted.

    A report that was converted from elsewhere has items and scores as well, and no plan, renderings or responses.
    """

    items: Sequence[Item]
    scores: Sequence[Score]
    report: GapReport
    path: Path = Path()

    @property
    def has_plan(self) -> bool:
        return (self.path / PLAN_FILE).is_file()

    @property
    def plan(self) -> Plan:
        """Raises ``DataError`` where there is none."""
        if not self.has_plan:
            raise DataError(
                f"{self.path}: has no {PLAN_FILE}; expected the folder of a run (not of a converted report)."
            )
        return Plan.from_yaml(self.path / PLAN_FILE)

    def renderings(self) -> list[Rendering]:
        outcomes = read_step(self.path, RENDER.name, RENDER.record)
        return [outcome.rendering for outcome in outcomes if outcome.rendering is not None]

    def transcripts(self) -> list[Transcript]:
        outcomes = read_step(self.path, TRANSCRIBE.name, TRANSCRIBE.record)
        return [outcome.transcript for outcome in outcomes if outcome.transcript is not None]

    def responses(self, column: ColumnName) -> list[Response]:
        return read_step(self.path, f"{RESPOND.name}.{column}", RESPOND.record)

    def divergences(self) -> list[Divergence]:
        """Empty where none were taken."""
        if not RunFolder(self.path).file(DIVERGE.name).is_file():
            return []
        outcomes = read_step(self.path, DIVERGE.name, DIVERGE.record)
        return [outcome.divergence for outcome in outcomes if outcome.divergence is not None]

    def records(self) -> RunRecords:
        """All that the run's items say; of a converted report its items and scores."""
        if not RunFolder(self.path).file(RENDER.name).is_file():
            return RunRecords(self.items, self.scores)
        responses = [r for column in self.report.columns for r in self.responses(column.name)]
        return RunRecords(self.items, self.scores, self.renderings(), self.transcripts(), responses, self.divergences())

    def costs(self) -> Costs | None:
        """What its columns cost by what it noted and its plan's prices; ``None`` where it has no plan."""
        if not self.has_plan:
            return None
        return column_costs(RunFolder(self.path).state.steps, self.renderings(), self.plan.prices)

    def fingerprint(self, step: str, name: str) -> str:
        """What a step noted of what it was made with, such as the TTS of ``render``; empty where it noted nothing."""
        state = RunFolder(self.path).state.steps.get(step)
        return state.depends_on.get(name, "") if state is not None else ""


def read_run(path: Path) -> FinishedRun:
    """The run of a folder, or of the ``gap_report.json`` in it.

    Raises ``DataError`` where the folder holds no run, or one that did not come to its end, or a file of it was changed since.
    """
    if path.is_file() and path.name == REPORT_FILE:
        path = path.parent
    if not (path / DONE_FILE).is_file():
        state = "is not finished; start it again" if path.is_dir() else "is not there"
        raise DataError(f"{path}: expected the folder of a finished run, and it {state}.")
    items = records.read_jsonl(RunFolder(path).file(ITEMS), Item)
    return FinishedRun(items, read_step(path, SCORE.name, SCORE.record), load_report(path), path)


def items_of(report: GapReport) -> list[HeardItem]:
    """The items behind a report that was read from a run's folder, or made in one."""
    if not report.folder:
        raise DataError("this report is of no run folder, so its items are not known. Read it by load_report(FOLDER).")
    run = read_run(Path(report.folder))
    return heard_items(run.records(), run.report)


def read_step(path: Path, step: str, cls: type[T]) -> list[T]:
    """A step's records. Raises ``DataError`` where they are not what was written."""
    folder = RunFolder(path)
    state, file = folder.state.steps.get(step), folder.file(step)
    if state is not None and file.is_file() and state.sha256 != file_sha256(file):
        raise DataError(f"{file} is not what the run wrote (its checksum is another one). Start the run again.")
    return records.read_jsonl(file, cls)


def compare_runs(first: Path, second: Path) -> Comparison:
    """The second finished run less the first, on the items they share."""
    return compare(read_run(first), read_run(second))
