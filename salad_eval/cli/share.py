"""``salad export``, ``salad import`` and ``salad card``: a run's sound and its results, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salad_eval.cli.report import SoundFormat
from salad_eval.errors import SaladError, UserInputError


def export_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="A new folder for the data set.")],
    license: Annotated[
        str, typer.Option(help="Licence of the data set, as the hub names it: cc-by-4.0, mit, …")
    ] = "unknown",
    language: Annotated[str, typer.Option(help="Language of what is said, as the hub names it.")] = "en",
    audio_format: Annotated[
        SoundFormat, typer.Option(help="How sound is kept: flac or wav, which are exact.")
    ] = SoundFormat.flac,
) -> None:
    """Write what a run rendered as a data set (Parquet and a card), so that others evaluate on the same sound.

    Example:

    salad export runs/mine --out shared/ --license cc-by-4.0
    """
    from salad_eval.sharing.export import export
    from salad_eval.sharing.shared_task import run_command

    if audio_format is SoundFormat.opus:
        raise UserInputError(
            "--audio-format opus: a data set holds the samples that were answered, and opus changes them; expected flac or wav."
        )
    made = export(run, out, license=license, language=language, format=audio_format.value)
    for task in made.tasks:
        print(
            f"{task.name}: {task.n_items} items, {task.n_rows} recordings, {task.seconds / 3600:.2f} h, {len(task.files)} file(s)"
        )
        for reason, n in task.left_out.items():
            print(f"  {n} left out: {reason}")
    print(f"card: {made.folder / 'README.md'}")
    for task in made.tasks:
        print(f"evaluate on it: {run_command(str(made.folder / task.yaml), made.perturbations)}")


def import_command(
    folder: Annotated[Path, typer.Argument(help="The folder that salad export wrote (or a copy of it).")],
) -> None:
    """Check a shared data set, sound by sound, and say how to evaluate on it.

    Example:

    salad import shared/
    """
    from salad_eval.sharing.importing import check_import
    from salad_eval.sharing.shared_task import run_command

    if not folder.is_dir():
        raise UserInputError(f"no folder at {str(folder)!r}.")
    damaged = 0
    for task in check_import(folder):
        wer = f", WER {100 * task.word_errors / task.n_words:.1f}%" if task.n_words else ""
        print(f"{task.task}: {task.n_items} items, {task.n_rows} recordings, {task.seconds / 3600:.2f} h{wer}")
        print(f"  voices: {', '.join(task.voices[:20])}{' …' if len(task.voices) > 20 else ''}")
        print(f"  conditions: {', '.join(task.perturbations)}")
        for reason, n in task.rejects.items():
            print(f"  {n} rows rejected: {reason}")
        for one in task.damaged:
            print(f"  damaged: {one}")
        damaged += task.n_damaged
        print(f"  evaluate on it: {run_command(str(task.yaml), task.perturbations)}")
    if damaged:
        raise SaladError(f"{damaged} recordings are not what their rows say. Fetch the data set again.")


def card_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or a gap_report.json.")],
    model_name: Annotated[
        str | None, typer.Option(help="The model's name on the hub; the report's own name for it if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file to write to instead of printing.")] = None,
    eval_results: Annotated[
        Path | None,
        typer.Option(help="Write the hub's .eval_results files into this folder of a model's repository as well."),
    ] = None,
    source_url: Annotated[str | None, typer.Option(help="Where the run can be looked at, for those files.")] = None,
) -> None:
    """Print a results block for a model card: model-index (YAML) and a table (Markdown).

    Example:

    salad card runs/mine
    """
    from salad_eval.records import write_atomic
    from salad_eval.report import load_report
    from salad_eval.sharing.eval_results import write_eval_results
    from salad_eval.sharing.model_card import card_block

    report = load_report(run)
    if eval_results is not None:
        for path in write_eval_results(report, eval_results, source_url):
            typer.echo(path, err=True)
    named = model_name or next(column.system for column in report.columns if column.name == "adapted_speech")
    block = card_block(report, named)
    if out is None:
        print(block)
        return
    write_atomic(out, block)
    print(out)
