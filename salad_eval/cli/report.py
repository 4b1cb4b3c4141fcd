"""``salad report``, ``salad compare`` and ``salad board``: what was found, shown again and beside other runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from salad_eval import progress
from salad_eval.cli.names import names_in
from salad_eval.errors import SaladError, UnknownNameError, UserInputError

if TYPE_CHECKING:
    from salad_eval.gap.compare import Comparison, ComparisonRow
    from salad_eval.pipeline.finished import FinishedRun
    from salad_eval.report.listing import PageOptions
    from salad_eval.report.page import PageItems
    from salad_eval.types import ColumnName, GapReport

FAILED_IF = 3  # exit code where --fail-if holds

ItemsOption = Annotated[
    bool | None,
    typer.Option(
        "--items/--no-items", help="List the items on the page; by default those of every task but gated ones."
    ),
]
AudioOption = Annotated[
    bool | None,
    typer.Option("--audio/--no-audio", help="Lay their sound beside it; by default what a TTS made, not recordings."),
]
EmbedOption = Annotated[
    int, typer.Option("--embed-audio", help="Put the sound of so many of the worst renderings into the page.", min=0)
]


class SoundFormat(str, Enum):
    wav = "wav"
    flac = "flac"
    opus = "opus"


SoundOption = Annotated[
    SoundFormat | None,
    typer.Option(
        "--audio-format",
        help="How the page's sound is kept: wav (links to the store, which take no space), flac (exact) or opus (a ninth of wav, "
        "not exact, slow to write); links where they can be made, and flac elsewhere, if not given.",
    ),
]


class ReportFormat(str, Enum):
    table = "table"
    html = "html"
    md = "md"
    json = "json"


def page_options(
    items: bool | None, audio: bool | None, embed_audio: int, audio_format: SoundFormat | None
) -> PageOptions:
    from salad_eval.report.listing import PageOptions

    return PageOptions(items, audio, embed_audio, audio_format.value if audio_format is not None else None)


def report_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a gap_report.json.")],
    format: Annotated[
        ReportFormat, typer.Option(help="What to show, or which files to write again.")
    ] = ReportFormat.table,
    out: Annotated[Path | None, typer.Option(help="A folder for the files; the run's own if not given.")] = None,
    items: ItemsOption = None,
    audio: AudioOption = None,
    embed_audio: EmbedOption = 0,
    audio_format: SoundOption = None,
) -> None:
    """Show a report, or make its views again.

    Examples:

    salad report runs/mine

    salad report runs/mine --format html --out shared/ --embed-audio 100
    """
    import json

    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.finished import read_run
    from salad_eval.pipeline.folder import DONE_FILE
    from salad_eval.report import load_report, write_report
    from salad_eval.report.json import report_to_json

    report = load_report(folder)
    if format is ReportFormat.table:
        print_table(report)
    elif format is ReportFormat.json:
        print(json.dumps(report_to_json(report), ensure_ascii=False, indent=1))
    else:
        place = folder if folder.is_dir() else folder.parent
        records = store = None
        if (place / DONE_FILE).is_file():
            run = read_run(place)
            records, store = run.records(), AudioStore(run.plan.audio_store) if run.has_plan else None
            report = report if report.costs is not None else replace(report, costs=run.costs())
        files = write_report(
            report,
            out or place,
            records,
            store=store,
            options=page_options(items, audio, embed_audio, audio_format),
            home=place,
        )
        print(files.html if format is ReportFormat.html else files.markdown)


# --- comparing -------------------------------------------------------------------------------------------------------

Measured = Literal["gap", "reads", "cascade", "adapted", "hears"]
_COLUMN: Mapping[str, ColumnName] = {
    "reads": "base_text",
    "cascade": "base_transcript",
    "adapted": "adapted_text",
    "hears": "adapted_speech",
}
_CONDITION = re.compile(r"\s*([a-z]+)\s*([<>])\s*([+−-]?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class FailIf:
    """``gap > +2``: the change, in points, is surely beyond a limit: by the end of its 95% interval that lies nearer."""

    measure: Measured
    above: bool
    points: float

    @classmethod
    def parse(cls, text: str) -> FailIf:
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise UserInputError(
                f'--fail-if {text!r}: expected a measure, < or >, and points of change, for example "gap > +2".'
            )
        names = {name: name for name in get_args(Measured)}
        if found[1] not in names:
            raise UnknownNameError("measure of --fail-if", found[1], names)
        return cls(names[found[1]], found[2] == ">", float(found[3].replace("−", "-")))

    def holds(self, row: ComparisonRow) -> bool:
        changes = {name: row.columns[column] for name, column in _COLUMN.items() if column in row.columns}
        change = row.gap if self.measure == "gap" else changes.get(self.measure)
        if change is None:
            raise UserInputError(f"--fail-if: {self.measure} is not in both runs.")
        low, high = change.difference.low, change.difference.high
        if self.above:
            return low is not None and 100 * low > self.points
        return high is not None and 100 * high < self.points

    def __str__(self) -> str:
        return f"{self.measure} {'>' if self.above else '<'} {self.points:+g}"


def compare_command(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or their gap_report.json; the first is the baseline.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for comparison.html, comparison.md and the figure; of several runs one folder each."
        ),
    ] = None,
    between: Annotated[str | None, typer.Option(help="Within one run: condition=clean,telephone or voice=a,b.")] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help='Exit with 3 where the change is surely beyond a limit: "gap > +2" where the lower end of its interval is above 2 '
            "points. gap, reads, cascade, adapted, hears; repeat for more."
        ),
    ] = None,
    items: ItemsOption = None,
    audio: AudioOption = None,
    embed_audio: EmbedOption = 0,
    audio_format: SoundOption = None,
) -> None:
    """Compare runs with the first of them, paired on the items and renderings they share; differences are the other less the first.

    Examples:

    salad compare runs/before runs/after --out runs/compared

    salad compare runs/main runs/a runs/b --fail-if "gap > +2"

    salad compare runs/mine --between condition=clean,telephone
    """
    from salad_eval.pipeline.finished import read_run

    limits = [FailIf.parse(text) for text in fail_if or ()]
    found = _compared([read_run(path) for path in runs], between)
    if out is not None:
        _write(found, out, page_options(items, audio, embed_audio, audio_format))
    failed = [
        f"{comparison.name_b}: {limit}"
        for comparison, _ in found
        for limit in limits
        if limit.holds(comparison.overall)
    ]
    if failed:
        typer.echo(f"salad compare: failed by {'; '.join(failed)}.", err=True)
        raise typer.Exit(FAILED_IF)


def _compared(read: Sequence[FinishedRun], between: str | None) -> list[tuple[Comparison, FinishedRun]]:
    """The comparisons, printed, each with the run that is compared with the first (or within itself)."""
    from rich.console import Console

    from salad_eval.gap import compare as gap
    from salad_eval.report.comparison import against_terminal, comparison_terminal

    if between is not None:
        if len(read) != 1:
            raise UserInputError(f"--between compares within one run; {len(read)} are given.")
        found = [(gap.between(read[0], *_between(between)), read[0])]
    elif len(read) < 2:
        raise UserInputError("give two runs or more, or one with --between condition=A,B.")
    elif len(read) == 2:
        found = [(gap.compare(*read), read[1])]
    else:
        against = gap.compare_all(read[0], read[1:])
        Console().print(against_terminal(against), crop=False)
        return [(one.comparison, run) for one, run in zip(against, read[1:], strict=True)]
    Console().print(comparison_terminal(found[0][0]), crop=False)
    return found


def _between(text: str) -> tuple[Literal["condition", "voice"], str, str]:
    field, _, values = text.partition("=")
    parts = names_in([values])
    if field not in ("condition", "voice") or len(parts) != 2:
        raise UserInputError(f"--between {text!r}: expected condition=A,B or voice=A,B.")
    return ("condition" if field == "condition" else "voice"), parts[0], parts[1]


def _write(found: Sequence[tuple[Comparison, FinishedRun]], out: Path, options: PageOptions) -> None:
    from salad_eval.report.comparison import write_comparison

    several = len(found) > 1
    for number, (comparison, run) in enumerate(found, start=1):
        folder = out / f"{number}-{run.path.name}" if several else out
        items = _flipped_items(comparison, run, folder, options)
        print(f"\npage: {write_comparison(comparison, folder, items=items).html}")


def _flipped_items(comparison: Comparison, run: FinishedRun, folder: Path, options: PageOptions) -> PageItems | None:
    """What flipped, as the second run has it, with its sound laid beside the page."""
    from salad_eval.audio.store import AudioStore
    from salad_eval.gap.items import heard_items
    from salad_eval.report.comparison import flipped
    from salad_eval.report.listing import listed_items

    rows = flipped(comparison, heard_items(run.records(), run.report))
    store = AudioStore(run.plan.audio_store) if run.has_plan else None
    return listed_items(run.report, rows, store, folder, options)


# --- many runs -------------------------------------------------------------------------------------------------------


def board_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or gap_report.json files.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("index.html"),
    baseline: Annotated[
        Path | None,
        typer.Option(help="The run that the others are held against; the oldest of the same items if not given."),
    ] = None,
) -> None:
    """One page of many runs: a line a run, its gap with interval, the difference to a baseline with q, the trend, a link.

    Examples:

    salad board runs/*

    salad board runs/* --baseline runs/release-1 --out runs/index.html
    """
    from rich.console import Console

    from salad_eval.gap.board import board
    from salad_eval.report.board import board_terminal, write_board

    found, left_out = _read_all(runs if baseline is None else [baseline, *(run for run in runs if run != baseline)])
    made = board(found, _folder(baseline) if baseline is not None else None, left_out)
    Console().print(board_terminal(made))
    print(f"\npage: {write_board(made, out)}")


def _read_all(paths: Sequence[Path]) -> tuple[list[FinishedRun], dict[str, str]]:
    """The runs and lone reports, and why the other paths are none."""
    from salad_eval.pipeline.finished import FinishedRun, read_run
    from salad_eval.pipeline.folder import DONE_FILE
    from salad_eval.report import load_report

    found, left_out = [], {}
    for path in progress.track(paths, "runs"):
        folder = _folder(path)
        try:
            whole = (folder / DONE_FILE).is_file()
            found.append(read_run(folder) if whole else FinishedRun([], [], load_report(path), folder))
        except SaladError as cause:
            left_out[str(path)] = str(cause).removeprefix(f"{path}: ")
    return found, left_out


def _folder(path: Path) -> Path:
    return path.parent if path.is_file() else path


def print_table(report: GapReport) -> None:
    from rich.console import Console

    from salad_eval.report import terminal_table

    Console().print(terminal_table(report), crop=False)
