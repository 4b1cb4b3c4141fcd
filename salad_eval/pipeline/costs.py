"""What each column took, and what that costs at the plan's prices: how people choose between a cascade and a speech LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from salad_eval.pipeline.columns import COLUMNS, Column
from salad_eval.pipeline.folder import StepState
from salad_eval.pipeline.plan import Price, Prices
from salad_eval.pipeline.respond import STEP as RESPOND
from salad_eval.pipeline.transcribe import STEP as TRANSCRIBE
from salad_eval.types import ColumnCost, Costs, Rendering, Tokens


@dataclass(frozen=True, slots=True)
class _Part:
    """A model's share in a column: ``seconds`` of the machine and ``tokens`` in all; ``None`` where not noted."""

    price: Price | None
    seconds: float | None
    sound_seconds: float
    tokens: Tokens | None

    @property
    def money(self) -> float | None:
        """``None`` where no price is stated, or one for what was not noted."""
        if self.price is None:
            return None
        tokens = self.tokens
        shares = (
            (self.price.million_read, tokens.read / 1e6 if tokens is not None else None),
            (self.price.million_written, tokens.written / 1e6 if tokens is not None else None),
            (self.price.sound_minute, self.sound_seconds / 60),
            (self.price.machine_hour, self.seconds / 3600 if self.seconds is not None else None),
        )
        return _sum(price * amount if amount is not None else None for price, amount in shares if price)


def column_costs(steps: Mapping[str, StepState], renderings: Iterable[Rendering], prices: Prices) -> Costs:
    """Of each column whose answers a run holds. ``steps``: as the run noted them; ``renderings``: those that were asked."""
    sound = sum(rendering.seconds for rendering in renderings)
    stated = any((prices.asr, prices.base, prices.adapted))
    found = (_column(column, steps, sound, prices) for column in COLUMNS)
    return Costs(tuple(cost for cost in found if cost is not None), prices.currency if stated else "")


def _column(column: Column, steps: Mapping[str, StepState], sound: float, prices: Prices) -> ColumnCost | None:
    asked = steps.get(f"{RESPOND.name}.{column.name}")
    if asked is None or not asked.n_lines:
        return None
    price = prices.base if column.role == "base" else prices.adapted
    parts = [_part(asked, price, sound if column.form == "speech" else 0.0)]
    if column.form == "transcript":
        parts.append(_part(steps.get(TRANSCRIBE.name), prices.asr, sound))
    seconds = _sum(part.seconds for part in parts)
    paid = [part.money for part in parts if part.price is not None]
    return ColumnCost(
        column=column.name,
        n_questions=asked.n_lines,
        seconds=seconds / asked.n_lines if seconds is not None else None,
        sound_seconds=0.0 if column.form == "text" else sound,
        tokens=parts[0].tokens,
        money=_sum(paid) if paid else None,
    )


def _part(state: StepState | None, price: Price | None, sound: float) -> _Part:
    n, took, tokens = 0, None, None
    if state is not None:
        n, took, tokens = state.n_lines or 0, state.seconds_a_unit, state.tokens_a_unit
    return _Part(
        price,
        took * n if took is not None else None,
        sound,
        Tokens(round(tokens.read * n), round(tokens.written * n)) if tokens is not None else None,
    )


def _sum(parts: Iterable[float | None]) -> float | None:
    """``None`` where any of them is."""
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)
