"""The stored answers of a finished run, scored in another way. No model is loaded and no data is read but the run's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from salad_eval import records
from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.scoring import own_metric
from salad_eval.errors import UserInputError
from salad_eval.gap.report import build_report
from salad_eval.gap.signature import RunProtocol
from salad_eval.pipeline.finished import FinishedRun, read_run
from salad_eval.pipeline.folder import DONE_FILE, ITEMS, REJECTS, RunFolder
from salad_eval.pipeline.items import Benchmark, tasks_of
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.pipeline.render import STEP as RENDER
from salad_eval.pipeline.score import STEP as SCORE
from salad_eval.pipeline.transcribe import STEP as TRANSCRIBE
from salad_eval.report import write_report
from salad_eval.types import LOGPROB_SCORES, OWN_SCORES, GapReport, Reject, TaskProtocol

ALONE = "ll_mutual_info"  # needs log-probabilities that other scores do not ask for


def rescore(path: Path, out: Path, changes: Mapping[str, Any]) -> GapReport:
    """The run at ``path`` under a plan with ``changes`` (``score``, ``metric``), written to ``out`` as a run of its own.

    Its controls are left out: their answers are not scored again. Raises ``UserInputError`` where ``out`` holds a run, or the answers
    that were stored are not of the kind that the score reads.
    """
    run = read_run(path)
    if (out / DONE_FILE).is_file() or out.resolve() == path.resolve():
        raise UserInputError(f"{out} holds a run already. Give another --out.")
    plan = Plan.of(run.plan, {**changes, "out": str(out)})
    _check(run, plan)
    tasks = {task.name: task for task in tasks_of(plan).tasks}
    found = run.records()
    scores = list(map(Benchmark(tuple(run.items), (), run.report.protocols, tasks).scorer(), found.responses))
    rejects = records.read_jsonl(RunFolder(path).file(REJECTS), Reject)
    protocols = tuple(
        dataclasses.replace(
            protocol,
            score=tasks[protocol.task].score,
            metric=own_metric(tasks[protocol.task]) if tasks[protocol.task].score in OWN_SCORES else "",
        )
        for protocol in run.report.protocols
    )
    report = build_report(
        _asked(run, protocols),
        run.items,
        scores,
        transcripts=found.transcripts,
        divergences=found.divergences,
        rejects=rejects,
        notes=[*run.report.notes, f"answers of {path.name}, scored again."],
        prompts=run.report.prompts,
    )
    report = dataclasses.replace(report, costs=run.report.costs)
    with RunFolder(out) as folder:
        records.write_json(out / PLAN_FILE, plan.model_dump(mode="json"))
        records.write_jsonl(folder.file(ITEMS), run.items)
        records.write_jsonl(folder.file(REJECTS), rejects)
        records.write_jsonl(folder.file(SCORE.name), scores)
        write_report(report, out, dataclasses.replace(found, scores=scores), store=AudioStore(plan.audio_store))
        records.write_atomic(out / DONE_FILE, report.signature + "\n")
    return report


def _asked(run: FinishedRun, protocols: tuple[TaskProtocol, ...]) -> RunProtocol:
    report = run.report
    return RunProtocol(
        protocols=protocols,
        columns=report.columns,
        split=report.split,
        voices=report.voices,
        conditions=report.conditions,
        tts=run.fingerprint(RENDER.name, "tts"),
        asr=run.fingerprint(TRANSCRIBE.name, "asr"),
        seed=report.seed,
        n_resamples=report.n_resamples,
        slice_fields=tuple(dict.fromkeys(part.field for part in report.slices)),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        names=report.names,
        most_rejected=run.plan.most_rejected,
    )


def _check(run: FinishedRun, plan: Plan) -> None:
    """Raise ``UserInputError`` where a task's answers were asked for in another form than the new score reads."""
    for protocol in run.report.protocols:
        compared = protocol.score in LOGPROB_SCORES
        if plan.score is not None and (plan.score in LOGPROB_SCORES) != compared:
            held = "log-probabilities of the options" if compared else "generated texts"
            raise UserInputError(
                f"--score {plan.score}: the stored answers of {protocol.task} are {held}, which it does not read. Run it anew."
            )
        if plan.score != protocol.score and ALONE in (plan.score, protocol.score):
            raise UserInputError(
                f"--score {plan.score}: {ALONE} and the others ask for different log-probabilities. Run it anew."
            )
