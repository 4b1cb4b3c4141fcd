"""A run's items as rows of a table: what was said, heard and answered in each rendering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from salad_eval.errors import UnknownNameError
from salad_eval.gap.items import HeardItem
from salad_eval.report.wording import MISSING, TAXONOMY_TITLES, printable
from salad_eval.types import COLUMNS, ColumnName

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

Order = Literal["run", "margin", "m", "wer"]


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which renderings are wanted; what is empty is not asked for. ``wrong``: the column that is to be wrong; ``search``: a part of the
    question, an option, the transcript or the id, in any case."""

    cause: str = ""
    domain: str = ""
    task: str = ""
    voice: str = ""
    condition: str = ""
    wrong: str = ""
    search: str = ""

    def __post_init__(self) -> None:
        if self.cause and self.cause not in TAXONOMY_TITLES:
            raise UnknownNameError("cause", self.cause, TAXONOMY_TITLES)
        if self.wrong and self.wrong not in COLUMNS:
            raise UnknownNameError("column", self.wrong, COLUMNS)

    def chosen(self, items: Sequence[HeardItem], order: Order = "run") -> list[HeardItem]:
        """The renderings that fit, in the order of the run, or the worst first. Raises ``UnknownNameError`` for a domain, task, voice
        or condition that none has."""
        for name, asked, known in (
            ("domain", self.domain, {heard.item.domain for heard in items}),
            ("task", self.task, {heard.item.task for heard in items}),
            ("voice", self.voice, {heard.voice for heard in items}),
            ("condition", self.condition, {heard.condition for heard in items}),
        ):
            if asked and asked not in known:
                raise UnknownNameError(name, asked, known)
        if order not in get_args(Order):
            raise UnknownNameError("order", order, get_args(Order))
        return sorted(filter(self._fits, items), key=lambda heard: _badness(heard, order))

    def _fits(self, heard: HeardItem) -> bool:
        item = heard.item
        asked = (self.cause, self.domain, self.task, self.voice, self.condition)
        has = (heard.cause, item.domain, item.task, heard.voice, heard.condition)
        if any(wanted and wanted != value for wanted, value in zip(asked, has, strict=True)):
            return False
        if self.wrong:
            column: ColumnName = next(name for name in COLUMNS if name == self.wrong)
            if column not in heard.answers or heard.answers[column].value >= 1.0:
                return False
        words = self.search.casefold()
        texts = (item.id, item.context, *item.choices, *(t for p in heard.parts for t in (p.said, p.heard or "")))
        return not words or any(words in text.casefold() for text in texts)


def _badness(heard: HeardItem, order: Order) -> float:
    """What is sorted by; what was not measured comes last, and equal ones stay in their order."""
    value = {
        "run": 0.0,
        "margin": heard.answers["adapted_speech"].margin,
        "m": None if heard.misalignment is None else -heard.misalignment,
        "wer": None if heard.wer is None else -heard.wer,
    }[order]
    return float("inf") if value is None else value


def item_row(heard: HeardItem) -> dict[str, Any]:
    """One rendering as plain values, the same keys for all of a run. Choices are the texts of options."""
    item = heard.item
    row: dict[str, Any] = {
        "id": item.id, "task": item.task, "split": item.split, "domain": item.domain, "voice": heard.voice,
        "condition": heard.condition, "cause": heard.cause, "context": item.context, "choices": list(item.choices),
        "right": [item.choices[gold] for gold in item.golds if gold < len(item.choices)] or list(item.answers),
        "said": " ".join(part.said for part in heard.parts),
        "heard": None if any(p.heard is None for p in heard.parts) else " ".join(p.heard or "" for p in heard.parts),
        "seconds": sum(part.seconds for part in heard.parts), "wer": heard.wer, "m_nats": heard.misalignment,
        "sha256": [part.sha256 for part in heard.parts],
    }  # fmt: skip
    for column, answer in heard.answers.items():
        chosen = None if answer.chosen is None or answer.chosen >= len(item.choices) else item.choices[answer.chosen]
        row |= {
            f"{column}.value": answer.value, f"{column}.chosen": chosen, f"{column}.margin": answer.margin,
            f"{column}.text": answer.text,
        }  # fmt: skip
    return row


def items_frame(items: Iterable[HeardItem]) -> pd.DataFrame:
    """A row a rendering."""
    import pandas as pd

    return pd.DataFrame([item_row(heard) for heard in items])


def items_terminal(items: Sequence[HeardItem]) -> RenderableType:
    """Each rendering in some lines: what was said and heard, what each system chose."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for heard in items:
        row = item_row(heard)
        parts.append(Text(printable(f"{heard.item.id}  {heard.item.domain}"), style="bold"))
        about = [heard.voice, heard.condition, TAXONOMY_TITLES.get(heard.cause, heard.cause)]
        parts.append(Text(printable("  " + " · ".join(about)), style="dim"))
        parts.append(Text(printable(f"  said   {row['said'] or heard.item.context}")))
        if row["heard"] is not None:
            parts.append(Text(printable(f"  heard  {row['heard']}")))
        parts.append(Text(printable(f"  right  {' | '.join(row['right']) or MISSING}")))
        for column, answer in heard.answers.items():
            mark = "✓" if answer.value >= 1.0 else "✗" if answer.value <= 0.0 else f"{answer.value:.2f}"
            given = row[f"{column}.chosen"] if answer.text is None else answer.text
            margin = "" if answer.margin is None else f"  margin {answer.margin:+.2f}".replace("-", "−")
            parts.append(Text(printable(f"  {mark} {column:<16} {given if given is not None else MISSING}{margin}")))
        parts.append(Text())
    return Group(*parts)
