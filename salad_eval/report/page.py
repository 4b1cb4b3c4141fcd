"""``report.html``: one file that opens from disk, with no network, on a phone, in light and dark, on paper. Only sound lies beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup

from salad_eval.gap.grid import clean_first
from salad_eval.gap.items import HeardItem
from salad_eval.progress import duration
from salad_eval.report import charts, controls, wording
from salad_eval.report.pack import names_of, packed
from salad_eval.report.parts import PAGE_SCRIPT, data_block, page_parts
from salad_eval.report.sound import SOUND_DIR, PageSound
from salad_eval.report.templates import context, environment
from salad_eval.types import COLUMNS, ColumnName, Estimate, GapReport, GapRow, GridCell

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_LEADING = 18  # domains beside the bar; the others are in the table
FEW = 20  # items: a row of fewer says little, and a list of such rows is folded
MOST_UNFOLDED = 24  # domains of small tasks that are shown at once
ITEM_SCRIPT = "items.js"
FIELD_FILTER = "field."  # before the name of an item's field that items are filtered by
_FILTERS = {"voice": "voice", "condition": "condition", "task": "task"}  # of the slices that every item has


@dataclass(frozen=True, slots=True)
class PageItems:
    """What a page lists below its figures. ``held_back``: why something is not there, as a sentence; empty where all is."""

    rows: Sequence[HeardItem]
    sound: PageSound | None = None
    held_back: str = ""


def html_page(report: GapReport, items: PageItems | None = None, folder: Path | None = None) -> str:
    """The page. ``folder`` is where the run lies, as the page names it in commands.

    Every name and text is untrusted: in the page it is escaped, among the items it is data that becomes text nodes.
    """
    templates = _templates()
    listed = items is not None and bool(items.rows)
    rows = wording.shown(report)
    domains = wording.by_gap(rows.domains)
    leading = [*domains[:MOST_LEADING], rows.overall]
    templates.tests["rowset"] = lambda row, _: row is rows.overall
    scripts = [PAGE_SCRIPT, ITEM_SCRIPT] if listed else [PAGE_SCRIPT]
    sound = items.sound if items is not None else None
    return templates.get_template("report.html.j2").render(
        {
            **context(report, ()),
            "parts": page_parts(scripts, sound=sound is not None),
            **listing(items),
            "cause_label": "Cause",
            "models": wording.models(report),
            "found": wording.found(report),
            "meta": meta(report),
            "other_conditions": wording.other_conditions(report),
            "findings": wording.findings(report),
            "verdicts": controls.verdicts(report),
            "shown": rows,
            "domains": domains,
            "leading": leading,
            "n_hidden": len(domains) - MOST_LEADING if len(domains) > MOST_LEADING else 0,
            "least": charts.least_shown(leading),
            "reach": _reach(report, domains),
            "groups": groups(report, domains),
            "marks": _marks([*domains, rows.overall]),
            "column_words": wording.COLUMN_WORDS,
            "column_meanings": wording.COLUMN_MEANINGS,
            "floor": controls.floor_of(report),
            "controls": controls.control_table(report),
            "control_meanings": controls.CONTROL_MEANINGS,
            "scatters": scatters(report, domains),
            "heat": heat(report.grid),
            "several": len(report.conditions) > 1,
            "spread": spread(report.grid),
            "slices": slices(report),
            "next_steps": next_steps(report, folder),
            "data_blocks": _item_blocks(report, items) if items is not None and listed else "",
        }
    )


def _templates() -> Environment:
    templates = environment(autoescape=True)
    templates.filters.update(
        items_hash=items_hash,
        plus=lambda filters, key, value: {**filters, key: value},
        loss_bar=charts.loss_bar,
        domain_line=charts.domain_line,
        scale=charts.scale,
        column_key=charts.column_key,
        gap_bar=charts.gap_bar,
        cause_bar=charts.cause_bar,
        disagreement=wording.disagreement,
        sizes=_sizes,
        less=lambda change: wording.negated(change) if change is not None else None,
        shade=shade,
        thousands=lambda n: f"{n:,}",
        duration=duration,
        surely_above=controls.surely_above,
        signed=wording.signed,
        tojson_text=lambda text: json.dumps(text, ensure_ascii=False),
    )
    return templates


# --- words of the page -----------------------------------------------------------------------------------------------


def meta(report: GapReport) -> str:
    """The line above the title: what was run, on what, when."""
    tasks = ", ".join(protocol.task for protocol in report.protocols[:4]) + (" …" if len(report.protocols) > 4 else "")
    voices = f"{len(report.voices)} voices" if len(report.voices) > 4 else ", ".join(report.voices)
    many = len(report.conditions) > 4
    conditions = f"{len(report.conditions)} conditions" if many else ", ".join(report.conditions)
    asr = f"cascade's ASR {report.names.asr}" if report.names.asr else ""
    said = (report.names.run, f"{tasks}, {report.split}", f"{report.overall.n_items:,} items", voices, conditions, asr)
    return " · ".join(part for part in (*said, report.created.replace("T", " ").removesuffix("+00:00")) if part)


def items_hash(filters: Mapping[str, str]) -> str:
    """The address of the items that a figure rests on."""
    return "#items" + (f"?{urlencode(filters)}" if filters else "")


def _sizes(estimate: Estimate) -> str:
    """The interval of a part's size: of a gain, of how much was won."""
    return wording.interval(estimate if estimate.value >= 0 else wording.negated(estimate))


def shade(loss: float) -> str:
    """The class of a cell's tint by what is lost in it."""
    return f"l{min(5, int(loss / 0.12) + 1)}" if loss > 0.02 else "l0"


def _marks(rows: Sequence[GapRow]) -> dict[str, str]:
    """A footnote mark for each reason why an interval and a q disagree."""
    reasons = list(dict.fromkeys(reason for row in rows if (reason := wording.disagreement(row))))
    return dict(zip(reasons, "†‡", strict=False))


def _reach(report: GapReport, domains: Sequence[GapRow]) -> float:
    """The gap at which a table's bars end."""
    return max(0.1, *(row.gap.value for row in domains), report.overall.gap.value)


# --- parts of the page -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """The domains of one task, below its own row; one group without a name where there is one task."""

    name: str
    row: GapRow | None
    domains: list[GapRow]
    folded: bool


def groups(report: GapReport, domains: Sequence[GapRow]) -> list[Group]:
    """Domains by task, largest gap first; those that several tasks share stand in a group of their own."""
    if len(report.protocols) < 2:
        return [Group("", None, list(domains), False)]
    by_task: dict[str, list[GapRow]] = {}
    for row in domains:
        by_task.setdefault(row.tasks[0] if len(row.tasks) == 1 else "several tasks", []).append(row)
    of_task = {row.name: row for row in wording.shown(report).tasks}
    small = len(domains) > MOST_UNFOLDED
    made = [
        Group(task, of_task.get(task), rows, small and median(row.n_items for row in rows) < FEW)
        for task, rows in by_task.items()
    ]
    return sorted(made, key=lambda group: -(group.row.gap.value if group.row else -1.0))


@dataclass(frozen=True, slots=True)
class Slice:
    """A field that the report is sliced by, its rows by gap, and how a row's items are found."""

    field: str
    rows: list[GapRow]
    median_n: int
    folded: bool

    def filters(self, row: GapRow) -> dict[str, str]:
        return {_FILTERS.get(self.field, FIELD_FILTER + self.field): row.name}


def slices(report: GapReport) -> list[Slice]:
    """The report's slices by field, but for voices where the grid says the same of them."""
    made = []
    shown_by_grid = () if report.by_condition or not report.grid else ("voice", "condition")
    for field in dict.fromkeys(part.field for part in report.slices if part.field not in shown_by_grid):
        rows = wording.by_gap([part.row for part in report.slices if part.field == field])
        middle = int(median(row.n_items for row in rows))
        made.append(Slice(field, rows, middle, middle < FEW))
    return made


@dataclass(frozen=True, slots=True)
class Heat:
    voices: list[str]
    conditions: list[str]
    cells: Mapping[tuple[str, str], GridCell]


def heat(cells: Sequence[GridCell]) -> Heat:
    """The grid by voice and condition, in the order of the cells."""
    return Heat(
        list(dict.fromkeys(cell.voice for cell in cells)),
        list(clean_first(cell.condition for cell in cells)),
        {(cell.voice, cell.condition): cell for cell in cells},
    )


def spread(cells: Sequence[GridCell]) -> str:
    """The worst voice and how far apart voices are, condition by condition; the same of conditions where there is one voice."""
    by_condition: dict[str, list[GridCell]] = {}
    for cell in cells:
        by_condition.setdefault(cell.condition, []).append(cell)
    said = []
    for condition, here in by_condition.items():
        if len(here) < 2:
            continue
        ordered = sorted(here, key=lambda cell: cell.row.accuracy["adapted_speech"].value)
        worst, best = ordered[0], ordered[-1]
        low, high = (cell.row.accuracy["adapted_speech"].value for cell in (worst, best))
        said.append(
            f"{condition}: worst voice {worst.voice}, hears {wording.percent(low)}; best {best.voice}, {wording.percent(high)}; "
            f"{wording.percent(high - low)} points apart."
        )
    return " ".join(said)


@dataclass(frozen=True, slots=True)
class Picture:
    title: str
    svg: Markup


def scatters(report: GapReport, domains: Sequence[GapRow]) -> list[Picture]:
    """WER against misalignment and M against the gap, over domains, where they were measured and there are three or more."""
    split = report.overall.misalignment is not None
    told = "misalignment" if split else "gap"
    by_wer = [charts.Point(row.wer, row.misalignment or row.gap, row) for row in domains if row.wer is not None]
    by_m = [charts.Point(row.divergence_nats.misalignment, row.gap, row) for row in domains if row.divergence_nats]
    wanted: list[tuple[str, list[charts.Point], str, str, float]] = [
        ("Is it the recognisability of the speech?", by_wer, "word error rate of the ASR, %", f"{told}, points", 100.0),
        ("Does the divergence M go with the gap?", by_m, "M, nats per scored position", "gap, points", 1.0),
    ]
    return [
        Picture(title, charts.scatter(points, x, y, f"Scatter over domains: {x} against {y}.", factor))
        for title, points, x, y, factor in wanted
        if len(points) >= 3
    ]


@dataclass(frozen=True, slots=True)
class NextStep:
    words: str
    command: str


def next_steps(report: GapReport, folder: Path | None) -> list[NextStep]:
    """What this report leads to: the selection of what to speak next, and more items where the power is short."""
    rows = wording.shown(report)
    where = folder if folder is not None else Path("runs") / (report.names.run or "mine")
    again, steps = f"salad run --plan {shlex.quote(str(where / 'plan.json'))}", []
    larger = shlex.quote(str(where.with_name(where.name + "-larger")))
    steer = where
    if report.split == "test":
        steer = where.with_name(where.name + "-validation")
        steps.append(
            NextStep(
                "This is the test split, which selection does not read. The same on the validation split:",
                f"{again} --split validation --out {shlex.quote(str(steer))}",
            )
        )
    worse = [row for row in wording.by_gap(rows.domains) if wording.stands_out(row) and row.gap.value > 0]
    toward = (
        f"toward the domains that stand out: {', '.join(f'{row.name} ({wording.percent(row.gap.value)})' for row in worse[:8])}"
        if worse
        else "though no domain stands out yet, so that it will be close to uniform"
    )
    steps.append(
        NextStep(
            f"Speak next what the gap asks for, {toward}:",
            f"salad select --report {shlex.quote(str(steer))} --corpus CORPUS --signal gap --budget-seconds 36000",
        )
    )
    power = rows.overall.power
    if power is not None and power.n_items_needed > rows.overall.n_items:
        steps.append(
            NextStep(
                f"The interval of the gap is wider than ±5 points. With {power.n_items_needed:,} items, if the split holds as many:",
                f"{again} --limit {-(-power.n_items_needed // len(report.protocols))} --out {larger}",
            )
        )
    return steps


# --- data ------------------------------------------------------------------------------------------------------------


def item_blocks(
    items: PageItems, columns: Sequence[ColumnName], titles: Mapping[str, str], fields: Sequence[str] = ()
) -> Markup:
    """The items as data of the page. ``titles``: of the causes that they are told apart by, in their order; ``fields``: of the items that
    a reader filters by as well."""
    facts = {
        "titles": dict(titles),
        "column_titles": dict(wording.COLUMN_TITLES),
        "sound_dir": SOUND_DIR,
        "sound_form": items.sound.form if items.sound is not None else None,
    }
    table = packed(items.rows, columns, names_of(items.rows, list(titles), fields), sound=items.sound, facts=facts)
    blocks = [data_block("item-data", "application/octet-stream;base64", table)]
    if items.sound is not None and items.sound.inside:
        blocks.append(data_block("sound-data", "application/json", json.dumps(dict(items.sound.inside))))
    return Markup("\n").join(blocks)


def _item_blocks(report: GapReport, items: PageItems) -> Markup:
    columns = [column for column in COLUMNS if column in report.overall.accuracy]
    fields = [field for field in dict.fromkeys(part.field for part in report.slices) if field not in _FILTERS]
    return item_blocks(items, columns, dict(wording.taxonomy_titles(report.overall)), fields)


def listing(items: PageItems | None) -> dict[str, object]:
    """What the template of the items is told."""
    rows = items.rows if items is not None else ()
    return {
        "items_link": bool(rows),
        "n_rows": len(rows),
        "n_listed": len({heard.item.id for heard in rows}),
        "held_back": items.held_back if items is not None else "",
    }
