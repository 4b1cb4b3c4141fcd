"""A selection as people read it: by domain and by cluster, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salad_eval.report.markdown import escape_markdown
from salad_eval.report.terminal import FirstThatFits, narrow_table, to_copy
from salad_eval.report.wording import MISSING, one_line, percent
from salad_train.types import Cluster, ClusterProbe, ClusterWeight, Selection

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MOST_CLUSTERS = 20  # lines of the tables; the rest is one line
WHY_WIDTH = 32  # what is left of 100 columns
UNLABELLED = "(no label)"


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain's share of the corpus and of the target (by the labels of the clusters' documents), and what was drawn of it."""

    name: str
    web: float
    target: float
    n_documents: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster, why it gets its share, and what was drawn of it within the budget."""

    cluster: Cluster
    weight: ClusterWeight
    probe: ClusterProbe | None
    n_documents: int
    seconds: float


def domain_rows(selection: Selection) -> list[DomainRow]:
    """Largest share of the drawn sound first; empty where no document has a label."""
    web: dict[str, float] = defaultdict(float)
    target: dict[str, float] = defaultdict(float)
    for cluster, weight in zip(selection.clusters, selection.weights, strict=True):
        for domain, share in cluster.domains.items():
            web[domain] += share * weight.web
            target[domain] += share * weight.target
        if unlabelled := max(0.0, 1.0 - math.fsum(cluster.domains.values())):
            web[""] += unlabelled * weight.web
            target[""] += unlabelled * weight.target
    counts: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for chosen in selection.documents:
        if not chosen.reserve:
            counts[chosen.document.domain] += 1
            seconds[chosen.document.domain] += chosen.seconds
    named = [name for name in web if name and web[name] > 0]
    if not named:
        return []
    # Shares add up to 1 but for rounding; a share of 1e-15 without a label is none.
    names = named + ([""] if web[""] > 1e-9 or counts[""] else [])
    rows = [DomainRow(name or UNLABELLED, web[name], target[name], counts[name], seconds[name]) for name in names]
    return sorted(rows, key=lambda row: (-row.seconds, -row.target, row.name))


def cluster_rows(selection: Selection) -> list[ClusterRow]:
    """Largest target first, excluded ones last."""
    probes = {probe.cluster: probe for probe in selection.probes}
    counts: dict[int, int] = defaultdict(int)
    seconds: dict[int, float] = defaultdict(float)
    for chosen in selection.documents:
        if not chosen.reserve:
            counts[chosen.cluster] += 1
            seconds[chosen.cluster] += chosen.seconds
    rows = [
        ClusterRow(cluster, weight, probes.get(cluster.id), counts[cluster.id], seconds[cluster.id])
        for cluster, weight in zip(selection.clusters, selection.weights, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.weight.excluded is not None, -row.weight.target, row.cluster.id))


def headline(selection: Selection) -> str:
    """What was chosen, in two sentences."""
    chosen = [one for one in selection.documents if not one.reserve]
    seconds = math.fsum(one.seconds for one in chosen)
    reserve = len(selection.documents) - len(chosen)
    return (
        f"{len(chosen)} documents of about {seconds:.0f} s of speech for a budget of {selection.budget_seconds:g} s, by signal "
        f"{selection.signal!r} at gamma {selection.gamma:g} over {len(selection.clusters)} clusters; {reserve} more in reserve. "
        f"{concentration(selection)}"
    )


def concentration(selection: Selection) -> str:
    """How far the target is from the corpus: in how many clusters most of it lies."""
    targets = sorted((weight.target for weight in selection.weights), reverse=True)
    n, total = 0, 0.0
    while total < 0.5 and n < len(targets):
        total += targets[n]
        n += 1
    where = "1 cluster" if n == 1 else f"{n} clusters"
    return f"Half of the target lies in {where}."


def why(row: ClusterRow) -> str:
    """The reason of a cluster's share."""
    if row.weight.excluded:
        return row.weight.excluded
    ratio = row.weight.target / row.weight.web if row.weight.web else 0.0
    terms = ", ".join(row.cluster.terms[:4])
    times = f"{ratio:.2g}x" if ratio >= 0.01 or ratio == 0 else "<0.01x"
    return f"{times}: {terms}" if terms else times


def main_domain(cluster: Cluster) -> str:
    """The label most of its documents bear, with its share."""
    named = {name: share for name, share in cluster.domains.items() if name}
    if not named:
        return MISSING
    name = max(named, key=lambda key: (named[key], key))
    return f"{one_line(name, 14)} {percent(named[name], 0)}"


def misalignment(row: ClusterRow) -> str:
    """M of the cluster's probe in nats, with its interval."""
    if row.probe is None:
        return MISSING
    found = row.probe.misalignment
    interval = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{interval}"


def cer(row: ClusterRow) -> str:
    return percent(row.probe.cer if row.probe is not None else None, 0)


# --- terminal --------------------------------------------------------------------------------------------------------


def selection_terminal(selection: Selection) -> RenderableType:
    """A rich renderable that fits 80 columns, by leaving out of the clusters what there is no room for: domains, clusters, notes and
    the signature (print it with ``crop=False``)."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(headline(selection) + "\n")]
    if domains := domain_rows(selection):
        by_domain = narrow_table("domain", ("corpus %", "target %", "documents", "seconds"))
        for row in domains[:MOST_CLUSTERS]:
            cells = (
                one_line(row.name, 24), percent(row.web), percent(row.target), str(row.n_documents), f"{row.seconds:.0f}",
            )  # fmt: skip
            by_domain.add_row(*map(Text, cells))
        parts += [by_domain, Text("")]
    parts.append(FirstThatFits([_by_cluster(selection, left_out) for left_out in ((), ("signal", "CER"), _SPARED)]))
    parts += [Text(), *(Text(f"Note: {note}", style="dim") for note in selection.notes), to_copy(selection.signature)]
    return Group(*parts)


_TITLES = ("#", "mostly", "corpus %", "signal", "target %", "docs", "seconds", "CER", "why")
_SPARED = ("signal", "CER", "corpus %", "seconds")  # where there is no room


def _by_cluster(selection: Selection, left_out: Collection[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in _TITLES:
        if title not in left_out:
            words = title in ("mostly", "why")
            table.add_column(title, justify="left" if words else "right", no_wrap=title != "why")

    def add(cells: Sequence[str], style: str | None = None) -> None:
        kept = (cell for title, cell in zip(_TITLES, cells, strict=True) if title not in left_out)
        table.add_row(*map(Text, kept), style=style)

    rows = cluster_rows(selection)
    for one in rows[:MOST_CLUSTERS]:
        line = (
            str(one.cluster.id), main_domain(one.cluster), percent(one.weight.web), f"{one.weight.signal:.3g}",
            percent(one.weight.target), str(one.n_documents), f"{one.seconds:.0f}", cer(one), one_line(why(one), WHY_WIDTH),
        )  # fmt: skip
        add(line, "dim" if one.weight.excluded else None)
    if rest := rows[MOST_CLUSTERS:]:
        line = (
            "…", f"{len(rest)} more", percent(math.fsum(one.weight.web for one in rest)), "",
            percent(math.fsum(one.weight.target for one in rest)), str(sum(one.n_documents for one in rest)),
            f"{math.fsum(one.seconds for one in rest):.0f}", "", "",
        )  # fmt: skip
        add(line)
    return table


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(selection: Selection, alt: str, picture: str) -> str:
    """``selection.md``: the tables with all clusters, and the picture beside it."""
    lines = [
        "# What to speak next",
        "",
        escape_markdown(headline(selection)),
        "",
        f"![{escape_markdown(alt)}]({picture})",
        "",
    ]
    if domains := domain_rows(selection):
        lines += ["## By domain", "", "| domain | corpus % | target % | documents | seconds |", "|---|--:|--:|--:|--:|"]
        lines += [
            f"| {escape_markdown(row.name)} | {percent(row.web)} | {percent(row.target)} | {row.n_documents} | {row.seconds:.0f} |"
            for row in domains
        ]
        lines += ["", "Labels are for reading: no step of the selection looks at them.", ""]
    lines += [
        "## By cluster",
        "",
        "| # | mostly | documents in it | corpus % | M, nats | signal | target % | drawn | seconds | CER % | why |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {one.cluster.id} | {escape_markdown(main_domain(one.cluster))} | {one.cluster.n_documents} | {percent(one.weight.web)} "
        f"| {misalignment(one)} | {one.weight.signal:.3g} | {percent(one.weight.target)} | {one.n_documents} "
        f"| {one.seconds:.0f} | {cer(one)} | {escape_markdown(why(one))} |"
        for one in cluster_rows(selection)
    ]
    if selection.notes:
        lines += ["", "## Notes", "", *(f"- {escape_markdown(note)}" for note in selection.notes)]
    lines += ["", f"`{selection.signature}`", ""]
    return "\n".join(lines)
