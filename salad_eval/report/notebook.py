"""A report in a notebook: a line, a table, a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from salad_eval.report.wording import by_gap, found, interval, models, one_line, percent, shown
from salad_eval.types import Estimate, GapReport, GapRow

if TYPE_CHECKING:
    from pandas import DataFrame

_PLAIN = ("n_items", "n_groups", "p_value", "q_value", "shrunk_gap", "wer")


def summary(report: GapReport) -> str:
    """What stands for a report where it is printed."""
    tasks = ", ".join(protocol.task for protocol in report.protocols[:3]) + (" …" if len(report.protocols) > 3 else "")
    rows = f"{report.overall.n_items} items in {len(report.domains)} domains of {one_line(tasks, 80)}, {one_line(report.split)}"
    return f"<GapReport {one_line(models(report), 80)}: {found(report)}; {rows}>"


def html(report: GapReport) -> str:
    """The table of domains; every name is escaped."""
    rows = shown(report)
    head = Markup("<tr>{}</tr>").format(
        Markup("").join(
            Markup("<th>{}</th>").format(title) for title in ("domain", "n", "reads", "hears", "gap", "95%")
        )
    )
    body = Markup("").join(_html_row(row) for row in [*by_gap(rows.domains), rows.overall])
    title = Markup("<p>{}: {}</p>").format(models(report), found(report))
    return str(Markup("{}<table><thead>{}</thead><tbody>{}</tbody></table>").format(title, head, body))


def _html_row(row: GapRow) -> Markup:
    cells = (
        row.name, row.n_items, percent(row.accuracy["base_text"].value), percent(row.accuracy["adapted_speech"].value),
        percent(row.gap.value), interval(row.gap),
    )  # fmt: skip
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))


def frame(report: GapReport) -> DataFrame:
    """A row a domain, then one of all items; of several conditions, over all of them."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in (*report.domains, report.overall)]).set_index("domain")


def _flat(row: GapRow) -> dict[str, Any]:
    flat: dict[str, Any] = {"domain": row.name, **{key: getattr(row, key) for key in _PLAIN}}
    estimates: dict[str, Estimate | None] = {
        **{str(column): estimate for column, estimate in row.accuracy.items()}, "gap": row.gap,
        "forgetting": row.forgetting, "misalignment": row.misalignment,
        "cascade_loss": row.cascade_loss, "consistency": row.consistency,
    }  # fmt: skip
    for name, estimate in estimates.items():
        if estimate is not None:
            flat |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
    if row.divergence_nats is not None:
        kl = row.divergence_nats
        flat |= {"F": kl.forgetting, "M": kl.misalignment, "D": kl.distillation}
    return flat | {f"cause.{cause}": share for cause, share in row.taxonomy.items()}
