"""What a run would take, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salad_eval.progress import duration
from salad_eval.report.terminal import narrow_table
from salad_eval.report.wording import MISSING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from salad_eval.pipeline.estimate import Estimated


def estimate_terminal(found: Estimated) -> RenderableType:
    """Counts first, then a line a step."""
    from rich.console import Group
    from rich.text import Text

    table = narrow_table("step", ("units", "calls", "time"))
    for step in found.steps:
        time = MISSING if step.seconds is None else duration(step.seconds)
        table.add_row(step.name, f"{step.units:,}", f"{step.calls:,}" if step.calls else MISSING, time)
    head = (
        f"{found.n_items:,} items ({found.n_rejects:,} rejected), {found.n_recordings:,} recordings, "
        f"{duration(found.seconds_of_sound)} of sound, {found.disk_bytes / 1e6:,.1f} MB on disk, "
        f"about {found.tokens:,} tokens read, {found.calls:,} calls to served models."
    )
    if found.seconds is None:
        foot = "Not timed: a served model takes part, and each question to it is paid for."
    else:
        foot = (
            f"About {duration(found.seconds)} in all; from three small runs of {found.measured_on} items together. Sound that the store "
            "holds already, and steps that are done, take none."
        )
    return Group(Text(head), Text(), table, Text(foot, style="dim"))
