"""The model card of the embedded models: their figures as the gap report measured them, and how they were made."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from salad_eval.types import COLUMNS, Estimate, GapReport, GapRow

COLUMN_TITLES = {
    "base_text": "base, text",
    "base_transcript": "cascade",
    "adapted_text": "adapted, text",
    "adapted_speech": "adapted, speech",
}


@dataclass(frozen=True, slots=True)
class Making:
    """What was measured while a model was made: see ``measured.json`` in its folder."""

    name: str
    measured: Mapping[str, float]

    @classmethod
    def of(cls, folder: Path) -> Making:
        return cls(folder.name, json.loads((folder / "measured.json").read_text(encoding="utf-8"))["measured"])

    @property
    def line(self) -> str:
        figures = ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in self.measured.items())
        return f"- `{self.name}`: {figures}"


def megabytes(folder: Path) -> float:
    """Size of all files below ``folder`` in MB (10^6 bytes)."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def write_card(
    models: Path,
    makings: list[Making],
    reports: Mapping[str, GapReport],
    heard: tuple[str, ...],
    command: str,
    seconds: float,
) -> Path:
    """Write ``README.md`` into ``models``: one table a split, then how long each part took and on what."""
    sections = [_section(split, report, heard) for split, report in reports.items()]
    lines = [
        "---",
        "license: apache-2.0",
        "language: en",
        "library_name: transformers",
        "tags: [salad-gap, speech, closed-world]",
        "---",
        "# The `nano` models",
        "",
        "Three small models of a closed world of facts, trained from nothing by this project; made to show a method, not to be useful.",
        "They know nothing but that world, and the only speech they ever heard is espeak-ng's: no natural recording was used.",
        "",
        "- `base`: the text LLM, a `LlamaForCausalLM` with its own BPE tokenizer. It read the whole corpus.",
        "- `asr`: a `ParakeetForCTC`. It heard sentences of all domains, never the benchmark's questions.",
        "- `speech`: a `SaladForConditionalGeneration`: the ASR's encoder (frozen), a causal adapter, and the base LLM, after "
        f"Stage I. It heard the domains {', '.join(heard)} and no other.",
        "",
        f"Made by `{command}` in {seconds / 60:.0f} minutes on {os.cpu_count()} cores ({platform.machine()}); "
        f"{megabytes(models):.1f} MB together.",
        "",
        *(making.line for making in makings),
        "",
        "Accuracies are of four options (chance is 25%), in percent with 95% intervals, in voices neither the ASR nor Stage I heard. "
        "`*` marks the domains Stage I heard. WER is the ASR's on the spoken questions.",
        "",
        *(line for section in sections for line in section),
    ]
    path = models / "README.md"
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return path


def _section(split: str, report: GapReport, heard: tuple[str, ...]) -> list[str]:
    titles = [COLUMN_TITLES[column] for column in COLUMNS]
    rows = [_row("**all**", report.overall)]
    rows += [_row(f"{row.name}{' *' if row.name in heard else ''}", row) for row in report.domains]
    return [
        f"## {split}",
        "",
        "| domain | n | " + " | ".join(titles) + " | gap | WER |",
        "|---|---|" + "---|" * (len(titles) + 2),
        *rows,
        "",
        f"`{report.signature}`",
        "",
    ]


def _row(name: str, row: GapRow) -> str:
    cells = [_percent(row.accuracy.get(column)) for column in COLUMNS]
    wer = "–" if row.wer is None else f"{100 * row.wer:.1f}"
    return f"| {name} | {row.n_items} | " + " | ".join([*cells, _percent(row.gap), wer]) + " |"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
