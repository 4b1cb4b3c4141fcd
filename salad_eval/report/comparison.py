"""Views of a comparison of runs: for a terminal, as Markdown and as a page, with what was lost and won to hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.gap.compare import BOTH, Against, ColumnChange, Comparison, ComparisonRow, Flip
from salad_eval.gap.items import HeardItem
from salad_eval.report.markdown import escape_markdown
from salad_eval.report.terminal import SHORT_TITLES, FirstThatFits, narrow_table, to_copy, without_adapted_text
from salad_eval.report.wording import (
    COLUMN_TITLES,
    MISSING,
    clear,
    interval,
    one_line,
    p_words,
    percent,
    printable,
    probability,
    signed,
    stands_out,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from salad_eval.report.page import PageItems
    from salad_eval.types import ColumnName

LOST, WON = "lost", "won"
FLIP_TITLES = {LOST: "lost: the first run understood it", WON: "won: only the second run understands it"}


@dataclass(frozen=True, slots=True)
class ComparisonFiles:
    """Where ``write_comparison`` put things."""

    html: Path
    markdown: Path
    figure: Path


def write_comparison(
    comparison: Comparison,
    out: Path,
    *,
    title: str = "",
    story: Sequence[str] = (),
    items: PageItems | None = None,
) -> ComparisonFiles:
    """Write ``comparison.html``, ``comparison.md`` and ``comparison.png|svg`` into ``out``. ``story``: sentences that say what
    happened between the runs; ``items``: what flipped, as the second run has it (see ``flipped``). Loads matplotlib."""
    from salad_eval.records import write_atomic
    from salad_eval.report import charts
    from salad_eval.report.comparison_figure import comparison_figure
    from salad_eval.report.page import ITEM_SCRIPT, item_blocks, listing
    from salad_eval.report.parts import PAGE_SCRIPT, page_parts
    from salad_eval.report.templates import environment

    title = title or f"{comparison.name_a} → {comparison.name_b}"
    figure = comparison_figure(comparison)
    write_atomic(out / "comparison.png", figure.png)
    write_atomic(out / "comparison.svg", figure.svg)
    templates = environment(autoescape=True)
    templates.filters.update(
        signed=signed,
        change_line=charts.change_line,
        scale=charts.scale,
        column_key=charts.column_key,
        thousands=lambda n: f"{n:,}",
    )
    listed = items is not None and bool(items.rows)
    scripts = [PAGE_SCRIPT, ITEM_SCRIPT] if listed else [PAGE_SCRIPT]
    domains = sorted(comparison.domains, key=lambda row: (-row.gap.first, row.name))
    lines = [*domains, comparison.overall]
    page = templates.get_template("comparison.html.j2").render(
        parts=page_parts(scripts, sound=items is not None and items.sound is not None),
        **listing(items),
        cause_label="Flipped",
        data_blocks=item_blocks(items, list(comparison.overall.columns), FLIP_TITLES) if items and listed else "",
        title=title,
        story=story,
        comparison=comparison,
        headline=comparison_headline(comparison),
        columns=list(comparison.overall.columns),
        column_titles=COLUMN_TITLES,
        domains=domains,
        lines=lines,
        least=charts.least_compared(lines),
        missing=MISSING,
    )
    write_atomic(out / "comparison.html", page)
    told = "".join(f"{escape_markdown(sentence)}\n\n" for sentence in story)
    picture = f"![{escape_markdown(figure.alt)}](comparison.png)\n\n"
    body = comparison_markdown(comparison).partition("\n\n")[2]
    write_atomic(out / "comparison.md", f"# {escape_markdown(title)}\n\n{told}{picture}{body}")
    return ComparisonFiles(out / "comparison.html", out / "comparison.md", out / "comparison.png")


def flipped(comparison: Comparison, heard: Sequence[HeardItem]) -> list[HeardItem]:
    """The renderings of the second run that flipped, each with ``lost`` or ``won`` for its cause."""
    won: dict[tuple[str, str, str], Flip] = {
        (flip.item_id, flip.voice, flip.condition): flip for flip in comparison.flips
    }
    found = []
    for one in heard:
        id_ = one.item.id
        keys = ((id_, one.voice, one.condition), (id_, BOTH, one.condition), (id_, one.voice, BOTH))
        flip = next((won[key] for key in keys if key in won), None)
        if flip is not None:
            found.append(replace(one, cause=WON if flip.won else LOST))
    return found


def comparison_headline(comparison: Comparison) -> tuple[str, ...]:
    """What changed from the first run to the second, in plain sentences."""
    gap = comparison.overall.gap
    if not clear(gap.difference):
        verdict = "no clear difference in the gap"
    else:
        verdict = "the second run's gap is " + ("smaller" if gap.difference.value < 0 else "larger")
    return (
        *comparison.unlike,
        f"On {comparison.n_shared} shared items: {verdict}. Gap {percent(gap.first)} → {percent(gap.second)} points, "
        f"difference {signed(gap.difference.value)} {interval(gap.difference)}, {p_words(gap.p_value)}.",
        f"Not compared: {comparison.n_only_a} items only in the first run, {comparison.n_only_b} only in the second, "
        f"{comparison.n_changed} with the same id but another question, {comparison.n_unscored} without a score in "
        f"both.",
        f"By ear {comparison.n_lost:,} renderings were lost and {comparison.n_won:,} won.",
    )


def comparison_terminal(comparison: Comparison) -> RenderableType:
    """A rich renderable: differences (second minus first) of every column and of the gap, with the gap's interval
    and a star where q < 0.05."""
    from rich.console import Group
    from rich.text import Text

    columns = list(comparison.overall.columns)
    foot = [
        "Second minus first, in percentage points. Columns: above 0, the second answers more. Gap: below 0, the "
        "second's is smaller. * q < 0.05.",
    ]
    return Group(
        Text("\n".join(map(printable, comparison_headline(comparison)))),
        Text(),
        FirstThatFits([_differences(comparison, columns), _differences(comparison, without_adapted_text(columns))]),
        Text("\n".join(foot), style="dim"),
        to_copy(f"A: {comparison.signature_a}"),
        to_copy(f"B: {comparison.signature_b}"),
    )


def _differences(comparison: Comparison, columns: Sequence[ColumnName]) -> Table:
    from rich.text import Text

    titles = [SHORT_TITLES[column] for column in columns]
    table = narrow_table("\ndomain", ("\nn", *titles, "gap\nA → B", "\nchange", "\n95%"))

    def cells(row: ComparisonRow) -> list[Text]:
        texts = [
            printable(row.name),
            str(row.n_items),
            *(signed(row.columns[column].difference.value) for column in columns),
            f"{percent(row.gap.first)} → {percent(row.gap.second)}",
            signed(row.gap.difference.value) + ("*" if stands_out(row) else ""),
            interval(row.gap.difference),
        ]
        return [Text(text) for text in texts]

    for row in comparison.domains:
        table.add_row(*cells(row))
    table.add_section()
    table.add_row(*cells(comparison.overall), style="bold")
    return table


def against_terminal(found: Sequence[Against]) -> RenderableType:
    """Several runs against one baseline: a line a run, with a star where its q over the runs is below 0.05."""
    from rich.console import Group
    from rich.text import Text

    table = narrow_table("run", ("n", "gap", "change", "95%", "q", "hears", "lost", "won"))
    for one in found:
        row, compared = one.comparison.overall, one.comparison
        cells = (
            printable(compared.name_b), str(row.n_items), percent(row.gap.second),
            signed(row.gap.difference.value) + ("*" if stands_out(one) else ""), interval(row.gap.difference),
            probability(one.q_value), signed(row.columns["adapted_speech"].difference.value),
            str(compared.n_lost), str(compared.n_won),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    unlike = [f"{printable(one.comparison.name_b)}: {sentence}" for one in found for sentence in one.comparison.unlike]
    head = f"Against {printable(found[0].comparison.name_a)}, whose gap is {percent(found[0].comparison.overall.gap.first)} points."
    foot = "In percentage points, each run less the baseline, on the items that both have. * q < 0.05 over the runs."
    return Group(Text("\n".join([*unlike, head])), Text(), table, Text(foot, style="dim"))


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown, with the interval and p-value of every column."""
    columns = list(comparison.overall.columns)
    titles = ["domain", "n", *(COLUMN_TITLES[column] for column in columns), "gap", "p (gap)", "q (gap)"]
    lines = ["# Comparison of two runs", ""]
    lines += [f"- {escape_markdown(sentence)}" for sentence in comparison_headline(comparison)]
    lines += [
        "",
        "First → second, difference in percentage points [95% interval], p. Gap: below 0, the second's is smaller.",
        "",
    ]
    lines += [_table_row(titles), "|---|" + "--:|" * (len(titles) - 1)]
    for row in (*comparison.domains, comparison.overall):
        lines.append(
            _table_row(
                [
                    escape_markdown(one_line(row.name)),
                    str(row.n_items),
                    *(_change(row.columns[column]) for column in columns),
                    _change(row.gap, with_p=False),
                    escape_markdown(probability(row.gap.p_value)),
                    escape_markdown(probability(row.q_value)),
                ]
            )
        )
    lines += [
        "",
        f"A: {escape_markdown(comparison.signature_a)}",
        "",
        f"B: {escape_markdown(comparison.signature_b)}",
        "",
    ]
    lines += [f"Seed {comparison.seed}, {comparison.n_resamples} resamples.", ""]
    return "\n".join(lines)


def _change(change: ColumnChange, *, with_p: bool = True) -> str:
    values = f"{percent(change.first)} → {percent(change.second)}"
    text = f"{values}: {signed(change.difference.value)} {interval(change.difference)}"
    return escape_markdown(f"{text}, {probability(change.p_value)}" if with_p else text)


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
