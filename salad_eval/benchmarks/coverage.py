"""How much of a benchmark can be asked aloud: of its rows, how many are items, how many of those are spoken, and why the others are not.

The same rules as a run's: ``load_items`` for what a row means, ``render.jobs_for`` for what has a spoken form. No sound is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from salad_eval.benchmarks.spec import TaskSpec
    from salad_eval.types import RejectCount


@dataclass(frozen=True, slots=True)
class Coverage:
    """The rows of a split: ``n_rows`` = ``n_items`` + rows that cannot be items; ``n_items`` = ``n_spoken`` + items that cannot be spoken.

    ``n_recorded`` of the spoken ones bring their own sound. ``domains``: spoken items by domain. ``rejects``: the rest by step and reason.
    """

    task: str
    split: str
    data_revision: str
    n_rows: int
    n_items: int
    n_spoken: int
    n_recorded: int
    domains: Mapping[str, int]
    rejects: tuple[RejectCount, ...]

    @property
    def share_spoken(self) -> float:
        """Of all rows, in [0, 1]."""
        return self.n_spoken / self.n_rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        # Text, not markup: names and reasons quote the data.
        yield Text(
            f"{self.task} {self.split}: {self.n_rows} rows, {self.n_items} items in {len(self.domains)} domains, "
            f"{self.n_spoken} spoken ({self.share_spoken:.1%}"
            + (f", {self.n_recorded} of them recorded" if self.n_recorded else "")
            + f"), data {self.data_revision}"
        )
        for reject in self.rejects:
            yield Text(
                f"  {reject.n} rejected ({reject.step}): {reject.reason}; first {', '.join(reject.examples[:1])}"
            )


def coverage(task: TaskSpec, split: str) -> Coverage:
    """Read a split, make its spoken forms and open its recordings.

    Raises ``TaskError`` where the data cannot be read or no row is an item.
    """
    from salad_eval.benchmarks.items import load_items
    from salad_eval.benchmarks.recordings import unheard
    from salad_eval.gap.report import count_rejects
    from salad_eval.pipeline.render import jobs_for

    items, unusable, protocol = load_items(task, split)
    recorded = {item.id for item in items if item.recordings}
    _, unspeakable = jobs_for([item for item in items if item.id not in recorded], voices=[""])
    dead = unheard(items)
    silent = {reject.item_id for reject in (*unspeakable, *dead)}
    return Coverage(
        task=task.name,
        split=split,
        data_revision=protocol.data_revision,
        n_rows=len(items) + len(unusable),
        n_items=len(items),
        n_spoken=len(items) - len(silent),
        n_recorded=len(recorded - silent),
        domains=dict(sorted(Counter(item.domain for item in items if item.id not in silent).items())),
        rejects=count_rejects([*unusable, *unspeakable, *dead], items),
    )


def coverage_command(
    tasks: Annotated[list[str], typer.Argument(help="Names or YAML paths.")],
    speak: Annotated[
        str | None,
        typer.Option(
            help="What is spoken: context, or context+choices. With it any task of lm-eval's can be named, too."
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="A local mirror of the data, a folder a dataset.")] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    by_domain: Annotated[bool, typer.Option(help="Also list the spoken items of each domain.")] = False,
) -> None:
    """Say how many rows of a benchmark are items, how many of those can be spoken, and why the others cannot.

    Example:

    salad tasks coverage salad_nano
    """
    from rich.console import Console
    from rich.text import Text

    from salad_eval.benchmarks.catalogue import load_tasks
    from salad_eval.benchmarks.hub import offline_if_unreachable
    from salad_eval.benchmarks.spec import speak_of

    offline_if_unreachable()
    console = Console(soft_wrap=True)
    for task in load_tasks(tasks, speak=speak_of(speak), data_dir=data_dir):
        found = coverage(task, split)
        console.print(found)
        if by_domain:
            for domain, n in sorted(found.domains.items(), key=lambda pair: (-pair[1], pair[0])):
                console.print(Text(f"  {n:6d} {domain}"))
