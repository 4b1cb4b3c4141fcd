"""What a speed benchmark found, for people in its own words and for ``tests.speed.collect`` as a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

MARK = "measured: "


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of a benchmark.

    Attributes:
        what: what was measured, with the sizes it was measured at.
        unit: "×" for a ratio, else a unit.
        bar: what it should be, if anything was promised; ``better`` says on which side of it.
        against: beside what it was measured, in the same run.
    """

    what: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["more", "less"] = "more"
    against: str = ""

    @property
    def of_bar(self) -> float | None:
        """How many times as good as promised: 1 is the bar, above is better. ``None`` without a bar, or for a value of 0."""
        if self.bar is None or self.value <= 0 or self.bar <= 0:
            return None
        return self.value / self.bar if self.better == "more" else self.bar / self.value

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "more" else self.value <= self.bar


def tell(*found: Measured) -> None:
    """Print figures where ``collect`` finds them."""
    for one in found:
        print(MARK + json.dumps(asdict(one), ensure_ascii=False), flush=True)


def told(text: str) -> Iterator[Measured]:
    """The figures in what a benchmark printed."""
    for line in text.splitlines():
        if line.startswith(MARK):
            yield Measured(**json.loads(line.removeprefix(MARK)))
