"""What a finished run rendered, read back from its folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.audio.store import AudioStore
from salad_eval.pipeline.plan import Plan
from salad_eval.types import (
    GapReport,
    Item,
    Rendered,
    Rendering,
    Transcript,
)

if TYPE_CHECKING:
    from salad_eval.benchmarks.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class RenderedRun:
    """What a finished run rendered. ``heard[item]``: its renderings by voice and perturbation, each by part."""

    plan: Plan
    report: GapReport
    tasks: Mapping[str, TaskSpec]
    items: Sequence[Item]
    heard: Mapping[str, Mapping[Rendered, Mapping[str, Rendering]]]
    transcripts: Mapping[tuple[str, str, str, str], Transcript]
    tts: str
    asr: str
    store: AudioStore


def read_rendered(path: Path) -> RenderedRun:
    """The renderings of a finished run. Raises ``DataError`` where the folder holds none and ``TaskError`` where its tasks are gone."""
    from salad_eval.pipeline.finished import read_run
    from salad_eval.pipeline.items import tasks_of

    run = read_run(path)
    plan = run.plan
    heard: dict[str, dict[Rendered, dict[str, Rendering]]] = defaultdict(lambda: defaultdict(dict))
    for r in run.renderings():
        heard[r.item_id][r.voice, r.perturbation][r.part] = r
    return RenderedRun(
        plan=plan,
        report=run.report,
        tasks={task.name: task for task in tasks_of(plan).tasks},
        items=run.items,
        heard=heard,
        transcripts={(t.item_id, t.part, t.voice, t.perturbation): t for t in run.transcripts()},
        tts=run.fingerprint("render", "tts"),
        asr=run.fingerprint("transcribe", "asr"),
        store=AudioStore(plan.audio_store),
    )
