"""The line, from a plan to a gap report:

    items -> render -> transcribe -> respond (a column at a time) -> score -> divergence -> controls -> report

One file a step, each with what it does to a chunk, the key of its result, its version and chunk size. Each reads the records of the ones
before it and leaves one JSONL in the run folder (see ``folder``). An item that is rejected on the way is left out of all columns and
counted, so that the columns are always about the same items.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from salad_eval import progress
from salad_eval.gap.items import RunRecords
from salad_eval.gap.report import build_report
from salad_eval.pipeline.columns import COLUMNS
from salad_eval.pipeline.controls import CONTROLS, ask_controls
from salad_eval.pipeline.costs import column_costs
from salad_eval.pipeline.divergence import ASKED_BEFORE, diverge_items
from salad_eval.pipeline.divergence import STEP as DIVERGE
from salad_eval.pipeline.items import read_benchmark
from salad_eval.pipeline.limits import STEP as LIMIT
from salad_eval.pipeline.limits import audible_items
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import STEP as RENDER
from salad_eval.pipeline.render import render_items
from salad_eval.pipeline.respond import STEP as RESPOND
from salad_eval.pipeline.respond import respond_items
from salad_eval.pipeline.score import STEP as SCORE
from salad_eval.pipeline.score import score_responses
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.speech import Speech
from salad_eval.pipeline.transcribe import STEP as TRANSCRIBE
from salad_eval.pipeline.transcribe import transcribe_items
from salad_eval.report.listing import PageOptions
from salad_eval.types import GapReport


def evaluate(
    plan: Plan | str | os.PathLike[str] | Mapping[str, Any],
    /,
    *,
    again: bool = False,
    page: PageOptions = PageOptions(),
    **overrides: Any,
) -> GapReport:
    """Run a plan and return its gap report; the same as ``salad run``.

    ``plan`` is a preset's name (``"nano"``), the path of a YAML, a ``Plan``, or what a YAML would hold. ``overrides`` replace
    its keys: ``evaluate("nano", limit=100)``; nested ones by dotted name: ``**{"base.options.dtype": "bfloat16"}``.
    """
    changes = {key: str(value) if isinstance(value, os.PathLike) else value for key, value in overrides.items()}
    return run(Plan.of(plan, changes), again=again, page=page)


def run(plan: Plan, *, again: bool = False, page: PageOptions = PageOptions()) -> GapReport:
    """Run a plan to its end, or go on where an earlier run of it was stopped; the report lies in ``plan.folder``.

    ``again``: a finished run of another plan in that folder may be made anew. ``page``: what ``report.html`` holds besides its figures.
    Raises ``UserInputError`` for what the plan, the tasks or the names in them get wrong, before anything is touched, and other
    ``SaladError``s where a step fails or no item is left.
    """
    benchmark = read_benchmark(plan)
    with Session(plan, benchmark, again=again) as session, progress.steps(steps_of(plan)):
        spoken = render_items(session, benchmark.items)
        heard = audible_items(session, transcribe_items(session, spoken))
        speech = Speech(heard.renderings, heard.transcripts)
        answered = respond_items(session, heard.items, speech)
        scores = score_responses(session, answered.items, answered.responses)
        spread = diverge_items(session, answered.items, speech)
        controls = ask_controls(session, answered.items, speech)
        rejects = session.rejects(spoken.rejects, heard.rejects, answered.rejects, spread.rejects)
        progress.tell("the report: intervals, pictures, pages")
        report = build_report(
            session.protocol(),
            benchmark.items,
            scores,
            transcripts=heard.transcripts,
            divergences=spread.divergences,
            rejects=rejects,
            notes=[*spread.notes, *heard.notes, *benchmark.measure_notes(scores)],
            prompts=session.prompts(answered.items[0], speech),
            controls=controls,
        )
        report = replace(report, costs=column_costs(session.folder.state.steps, heard.renderings, plan.prices))
        found = RunRecords(
            benchmark.items, scores, heard.renderings, heard.transcripts, answered.responses, spread.divergences
        )
        session.finish(report, rejects, found, page)
    return replace(report, folder=str(plan.folder))


def steps_of(plan: Plan) -> list[str]:
    """The steps of a plan's line, in their order."""
    asked = [f"{RESPOND.name}.{column.name}" for column in COLUMNS]
    controls = [control.step for control in CONTROLS if control.name in plan.controls]
    heard = [RENDER.name, TRANSCRIBE.name, LIMIT.name]
    return [*heard, *asked, SCORE.name, ASKED_BEFORE.name, DIVERGE.name, *controls]
