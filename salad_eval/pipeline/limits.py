"""Recordings that the speech system cannot hear whole: left out and counted before anything is asked.

A system says what it hears at most as ``max_audio_seconds``; one without it, or with ``None``, hears recordings of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from salad_eval.identity import digest
from salad_eval.pipeline.executor import Work
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.render import left, of_items
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.pipeline.transcribe import Heard
from salad_eval.types import Reject, Rendering

TOO_LONG = "recording_too_long"


@dataclass(frozen=True, slots=True)
class LimitOutcome:
    """A line of ``limits.jsonl``."""

    reject: Reject | None = None


STEP = Step("limits", LimitOutcome, version="1", chunk=4096)


def check_lengths(tools: Tools, system: PluginRef, chunk: Sequence[Rendering]) -> list[LimitOutcome]:
    """Whether the system hears each recording whole."""
    limit = getattr(tools.plugin(system), "max_audio_seconds", None)
    return [LimitOutcome(_too_long(rendering, system.name, limit)) for rendering in chunk]


def _too_long(rendering: Rendering, system: str, limit: float | None) -> Reject | None:
    if limit is None or rendering.seconds <= limit:
        return None
    detail = f"its recording takes {rendering.seconds:.1f} s, and the system {system} hears {limit:g} s at most"
    return Reject(rendering.item_id, STEP.name, TOO_LONG, detail)


def audible_items(session: Session, heard: Heard) -> Heard:
    """The items whose recordings the adapted system hears whole."""
    system = session.ref("adapted")
    outcomes = session.folder.run(
        STEP,
        heard.renderings,
        lambda chunks: session.models.map(Work(check_lengths, system), chunks),
        depends_on={"system": session.fingerprint("adapted"), "renderings": digest(*heard.renderings)},
    )
    lost = [outcome.reject for outcome in outcomes if outcome.reject is not None]
    kept = left(heard.items, lost, "a look at what the speech system hears")
    return replace(
        heard,
        items=tuple(kept),
        renderings=tuple(of_items(kept, heard.renderings)),
        transcripts=tuple(of_items(kept, heard.transcripts)),
        rejects=(*heard.rejects, *lost),
    )
