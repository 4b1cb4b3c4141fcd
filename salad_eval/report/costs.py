"""What the columns cost, as cells that all views share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salad_eval.progress import duration
from salad_eval.report.wording import COLUMN_TITLES, MISSING
from salad_eval.types import ColumnCost, ColumnName, GapReport, Tokens

HOW_COUNTED = (
    "Seconds by the clock of the machine that ran it, several questions at a time, loading included; the cascade's with its ASR. Tokens of "
    "the LLM: read (prompts, sound's positions, options that were scored) and written, where its system counts them."
)


@dataclass(frozen=True, slots=True)
class CostTable:
    """``rows``: a column each, with a cell under each of ``heads``."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[ColumnName, tuple[str, ...]]]

    def titled(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(COLUMN_TITLES[column], cells) for column, cells in self.rows]


def cost_table(report: GapReport) -> CostTable | None:
    """``None`` where nothing was noted. Money has its column where prices were stated."""
    costs = report.costs
    if costs is None or not costs.columns:
        return None
    money = (costs.currency, f"{costs.currency} a 1,000") if costs.currency else ()
    return CostTable(
        ("Questions", "Seconds a question", "Sound heard", "Tokens read", "Tokens written", *money),
        [(cost.column, _cells(cost, priced=bool(money))) for cost in costs.columns],
    )


def _cells(cost: ColumnCost, *, priced: bool) -> tuple[str, ...]:
    a_thousand = None if cost.money is None else 1000 * cost.money / cost.n_questions
    return (
        f"{cost.n_questions:,}",
        MISSING if cost.seconds is None else f"{cost.seconds:.3f}",
        duration(cost.sound_seconds) if cost.sound_seconds else MISSING,
        *_of_tokens(cost.tokens),
        *((_amount(cost.money), _amount(a_thousand)) if priced else ()),
    )


def _of_tokens(tokens: Tokens | None) -> tuple[str, str]:
    return (MISSING, MISSING) if tokens is None else (f"{tokens.read:,.0f}", f"{tokens.written:,.0f}")


def _amount(money: float | None) -> str:
    """Two digits that say something: ``12.30``, ``0.0041``."""
    if money is None:
        return MISSING
    return f"{money:,.2f}" if money >= 1 or money == 0 else f"{money:.2g}"
