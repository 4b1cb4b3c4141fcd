"""The line that says how the numbers were made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version as package_version

from salad_eval.types import (
    COLUMNS,
    ColumnSpec,
    RunNames,
    TaskProtocol,
)

_SHORT = 24  # characters of a fingerprint that still fit under a figure


def short_fingerprint(fingerprint: str) -> str:
    """A fingerprint on one line of at most 24 characters: as it is, or its beginning and 8 digits of its sha256."""
    text = "".join(fingerprint.split())
    if len(text) <= _SHORT:
        return text
    return f"{text[: _SHORT - 9]}~{hashlib.sha256(fingerprint.encode()).hexdigest()[:8]}"


MOST_REJECTED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProtocol:
    """What was asked of whom in a run, on one page.

    Attributes:
        protocols: how each task was asked. columns: who answered, reading or hearing what.
        tts, asr: fingerprints.
        slice_fields: ``voice``, ``condition``, ``task``, or a key of ``Item.fields``.
        created: time stamp of the report, made by the caller. names: what run and models are called by whoever ran them.
        most_rejected: the share of the questions that may be in no column before the report has no headline, in [0, 1].
    """

    protocols: tuple[TaskProtocol, ...]
    columns: tuple[ColumnSpec, ...]
    split: str
    voices: tuple[str, ...]
    conditions: tuple[str, ...]
    tts: str
    asr: str
    seed: int
    n_resamples: int
    slice_fields: tuple[str, ...] = ("voice",)
    created: str = ""
    names: RunNames = RunNames()
    most_rejected: float = MOST_REJECTED


def signature(asked: RunProtocol, version: str | None = None) -> str:
    """One line that says how a report's numbers were made, in the manner of sacrebleu: ``key:value`` joined by ``|``.

    ``version`` is this package's unless given.
    """
    parts = [
        f"{protocol.task}@{short_fingerprint(protocol.data_revision)}|split:{protocol.split}|n:{protocol.n_items}|speak:{protocol.speak}"
        f"|shots:{protocol.shots}{'s' if protocol.spoken_shots else ''}|score:{protocol.score}"
        f"{f'({protocol.metric})' if protocol.metric else ''}"
        f"{'|options:lettered' if protocol.options == 'lettered' else ''}"
        for protocol in sorted(asked.protocols, key=lambda protocol: protocol.task)
    ]
    parts.append("voices:" + "+".join(sorted(asked.voices)))
    parts.append("conditions:" + "+".join(sorted(asked.conditions)))
    parts += [f"tts:{short_fingerprint(asked.tts)}", f"asr:{short_fingerprint(asked.asr)}"]
    for column in sorted(asked.columns, key=lambda column: COLUMNS.index(column.name)):
        parts.append(f"{column.name}:{column.system}#{short_fingerprint(column.fingerprint)}")
    parts += [f"seed:{asked.seed}", f"boot:{asked.n_resamples}", f"salad-gap:{version or package_version('salad-gap')}"]
    return "|".join(" ".join(part.split()) for part in parts)
