"""Responses to scores: right, wrong or missing, for every response."""

from __future__ import annotations

from collections.abc import Sequence

from salad_eval.identity import digest
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.items import items_digest
from salad_eval.pipeline.session import Session
from salad_eval.types import Item, Response, Score

STEP = Step("score", Score, version="2", chunk=256)


def score_responses(session: Session, items: Sequence[Item], responses: Sequence[Response]) -> list[Score]:
    """The scores of all columns. No plug-in takes part, and a task's own code is run in no other process than this one."""
    score = session.benchmark.scorer()
    return session.folder.run(
        STEP,
        responses,
        lambda chunks: (list(map(score, chunk)) for chunk in chunks),
        depends_on={
            "responses": digest(*responses),
            "items": items_digest(items),
            "scoring": session.benchmark.scoring,
        },
    )
