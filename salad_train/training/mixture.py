"""How sources of documents are mixed into batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

from salad_eval.errors import UserInputError


@dataclass(frozen=True, slots=True)
class Mixture:
    """Which source each batch is drawn from: sources take turns in proportion to ``weights``, as evenly as can be."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or not 0 < math.fsum(self.weights) < math.inf:
            raise UserInputError(f"weights of the mixture are {self.weights}; expected shares ≥ 0, not all of them 0.")

    def source(self, index: int) -> tuple[int, int]:
        """(the source of batch ``index``, the batch's number among those of its source)."""
        before, after = self._counts(index), self._counts(index + 1)
        which = next(j for j, (a, b) in enumerate(zip(before, after, strict=True)) if b > a)
        return which, before[which]

    def _counts(self, index: int) -> list[int]:
        """How many of the first ``index`` batches each source has; adding one to ``index`` adds one to exactly one of them."""
        total = math.fsum(self.weights)
        counts, left, rest = [], index, total
        for weight in self.weights[:0:-1]:  # the last sources take their share of what the later ones left
            taken = math.floor(left * weight / rest + 1e-9) if rest > 0 else 0  # 3 · (1/3) must reach 1
            counts.append(taken)
            left, rest = left - taken, rest - weight
        return [left, *reversed(counts)]
