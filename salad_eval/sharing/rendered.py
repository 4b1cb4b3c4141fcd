"""What a finished run rendered, read back from its folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval import records
from salad_eval.audio.store import AudioStore
from salad_eval.errors import DataError
from salad_eval.pipeline.folder import DONE_FILE, RunFolder
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.report.json import load_report
from salad_eval.types import (
    GapReport,
    Item,
    Rendering,
    Transcript,
)

if TYPE_CHECKING:
    from salad_eval.benchmarks.spec import TaskSpec


Rendered = tuple[str, str]  # voice, perturbation


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
    from salad_eval.pipeline.run import RenderOutcome, TranscribeOutcome, tasks_of

    if not (path / DONE_FILE).is_file():
        raise DataError(f"{path}: expected the folder of a finished run (it has no {DONE_FILE}).")
    folder = RunFolder(path)
    plan = Plan.from_yaml(path / PLAN_FILE)
    heard: dict[str, dict[Rendered, dict[str, Rendering]]] = defaultdict(lambda: defaultdict(dict))
    for outcome in records.iter_jsonl(folder.file("render"), RenderOutcome):
        if (r := outcome.rendering) is not None:
            heard[r.item_id][r.voice, r.perturbation][r.part] = r
    found = (o.transcript for o in records.iter_jsonl(folder.file("transcribe"), TranscribeOutcome))
    transcripts = {(t.item_id, t.part, t.voice, t.perturbation): t for t in found if t is not None}
    steps = folder.state.steps
    return RenderedRun(
        plan=plan,
        report=load_report(path),
        tasks={task.name: task for task in tasks_of(plan)},
        items=records.read_jsonl(folder.file("items"), Item),
        heard=heard,
        transcripts=transcripts,
        tts=steps["render"].depends_on.get("tts", "") if "render" in steps else "",
        asr=steps["transcribe"].depends_on.get("asr", "") if "transcribe" in steps else "",
        store=AudioStore(plan.audio_store),
    )
