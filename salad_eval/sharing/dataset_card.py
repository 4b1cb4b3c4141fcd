"""The card of a shared benchmark (``README.md`` of an export): metadata that the hub reads, and a page that people read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from salad_eval.audio.sound import SAMPLE_RATE_HZ
from salad_eval.report.markdown import escape_markdown
from salad_eval.report.wording import percent
from salad_eval.sharing.layout import COLUMN_MEANING
from salad_eval.sharing.rendered import RenderedRun
from salad_eval.sharing.shared_task import SharedTask, run_command

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

    from salad_eval.pipeline.plan import Plan

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"
MOST_VOICES = 40  # rows of the table of voices; the others are summed up


def card_page(run: RenderedRun, tasks: Sequence[SharedTask], *, license: str, language: str) -> str:
    """The whole page: a YAML block between ``---`` lines, then Markdown. Names from data are escaped."""
    return f"---\n{card_data(tasks, license=license, language=language).to_yaml()}\n---\n\n{_body(run, tasks, license)}"


def card_data(tasks: Sequence[SharedTask], *, license: str, language: str) -> DatasetCardData:
    """What the hub reads: licence, language, size, and where each task's files lie."""
    from huggingface_hub import DatasetCardData

    names = ["default"] if len(tasks) == 1 else [task.slug for task in tasks]
    configs = [
        {"config_name": name, "data_files": [{"split": task.split, "path": list(task.files)}]}
        for name, task in zip(names, tasks, strict=True)
    ]
    return DatasetCardData(
        license=license,
        language=[language],
        pretty_name=", ".join(task.name for task in tasks) + ", spoken",
        source_datasets=sorted({task.source for task in tasks if task.source is not None}) or None,
        size_categories=[size_category(sum(task.n_rows for task in tasks))],
        task_categories=["question-answering"],
        tags=["audio", "speech", "spoken-question-answering", "salad-gap"],
        configs=configs,
    )


def size_category(n_rows: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for most, name in _SIZES if n_rows < most), _LARGEST)


def _body(run: RenderedRun, tasks: Sequence[SharedTask], license: str) -> str:
    title = ", ".join(escape_markdown(task.name) for task in tasks)
    return "\n".join(
        [
            f"# {title}, spoken",
            "",
            f"A benchmark of text, spoken: each row is one question in one recording ({SAMPLE_RATE_HZ // 1000} kHz mono). Who evaluates on "
            "it hears the very same sound. The text around the recording, the options and the right answer are columns.",
            "",
            *_tasks(tasks),
            *_how(run, license),
            *_voices(run, tasks),
            *_loading(run.plan, tasks),
            *_columns(),
        ]
    )


def _tasks(tasks: Sequence[SharedTask]) -> list[str]:
    lines = [
        "| task | source | revision | split | questions | recordings | hours | spoken | shots | score |",
        "|---|---|---|---|---:|---:|---:|---|---:|---|",
    ]
    for task in tasks:
        p = task.protocol
        shots = f"{p.shots}{' (spoken)' if p.spoken_shots else ''}"
        counts = (task.n_items, task.n_rows, f"{task.seconds / 3600:.2f}")
        cells = (task.name, task.source or "own files", p.data_revision, p.split, *counts, p.speak, shots, p.score)
        lines.append(f"| {' | '.join(escape_markdown(str(cell)) for cell in cells)} |")
    lost = [
        f"Left out of {escape_markdown(task.name)}: {n} ({escape_markdown(reason)})."
        for task in tasks
        for reason, n in task.left_out.items()
    ]
    return [*lines, "", *lost, *([""] if lost else [])]


def _how(run: RenderedRun, license: str) -> list[str]:
    plan = run.plan
    given = "; nobody stated one" if license == "unknown" else ""
    facts = {
        "Made by": f"salad-gap {version('salad-gap')}, run {plan.name}, {run.report.created}",
        "Voice": run.tts or "unknown",
        "Conditions": ", ".join(plan.conditions),
        "ASR (for WER)": run.asr or "unknown",
        "Signature": run.report.signature,
        "Licence": f"{license}{given}. The text keeps the licence of its source, and the sound follows text and voice.",
    }
    return ["## How it was made", "", *(f"- {name}: {escape_markdown(what)}" for name, what in facts.items()), ""]


def _voices(run: RenderedRun, tasks: Sequence[SharedTask]) -> list[str]:
    lines = ["## Word error rate by voice", "", "| task | voice | WER | words |", "|---|---|---:|---:|"]
    rows = [(task.name, voice, wrong, words) for task in tasks for voice, (wrong, words) in sorted(task.errors.items())]
    for name, voice, wrong, words in rows[:MOST_VOICES]:
        rate = percent(wrong / words) + " %" if words else "–"
        lines.append(f"| {escape_markdown(name)} | {escape_markdown(voice)} | {rate} | {words} |")
    if more := rows[MOST_VOICES:]:
        wrong, words = sum(row[2] for row in more), sum(row[3] for row in more)
        lines.append(f"| | {len(more)} more | {percent(wrong / words) + ' %' if words else '–'} | {words} |")
    return [*lines, ""]


def _loading(plan: Plan, tasks: Sequence[SharedTask]) -> list[str]:
    audio = tasks[0].audio_columns[-1]
    config = "" if len(tasks) == 1 else f', "{tasks[0].slug}"'
    return [
        "## How to use it",
        "",
        "A gap report of your own models on this sound, in a folder that holds these files:",
        "",
        "```",
        *(run_command(task.yaml, plan.conditions) for task in tasks),
        "```",
        "",
        "The rows by themselves (the sound stays encoded, so that no FFmpeg is needed):",
        "",
        "```python",
        "import datasets, io, soundfile",
        f'rows = datasets.load_dataset("."{config}, split="{tasks[0].split}")',
        f'rows = rows.cast_column("{audio}", datasets.Audio(decode=False))',
        f'samples, rate = soundfile.read(io.BytesIO(rows[0]["{audio}"]["bytes"]))',
        "```",
        "",
    ]


def _columns() -> list[str]:
    lines = ["## Columns", "", "| column | what |", "|---|---|"]
    lines += [f"| {escape_markdown(names)} | {escape_markdown(what)} |" for names, what in COLUMN_MEANING.items()]
    return [
        *lines,
        "",
        "A question with several spoken parts has one set of the columns of a part for each, named after it.",
        "",
    ]
