"""``salad lm-eval``, ``from-lm-eval``, ``to-lm-eval``: lm-eval with our models and tasks, and results from there and to there."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from salad_eval.types import ColumnName

# For ``app.command("lm-eval", context_settings=…, add_help_option=False)``: every argument is lm-eval's, --help too.
LM_EVAL_CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def lm_eval_command(context: typer.Context) -> None:
    """lm-eval's own command line, with our models (salad-text, salad-cascade, salad-speech) and tasks known to it.

    Example:

    salad lm-eval --model salad-text --model_args pretrained=nano --tasks piqa
    """
    from salad_eval.lm_eval_bridge.wrapper import run_lm_eval

    run_lm_eval(context.args)


def from_lm_eval_command(
    base_text: Annotated[Path, typer.Option(help="The text LLM's samples: lm-eval's --output_path, or a file.")],
    adapted_speech: Annotated[
        list[Path], typer.Option(help="The speech LLM's, hearing the questions; repeat for more voices.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    base_transcript: Annotated[
        list[Path] | None, typer.Option(help="The cascade's (ASR, then the text LLM); repeat for more voices.")
    ] = None,
    adapted_text: Annotated[
        Path | None, typer.Option(help="The speech LLM's, reading the questions; splits the gap.")
    ] = None,
    pair_by: Annotated[
        str | None, typer.Option(help="A field of the documents that names the same question in all runs.")
    ] = None,
    domain_field: Annotated[
        str | None, typer.Option(help="The field or column that names a domain; the task if not given.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="A field that documents of one passage share.")] = None,
    metric: Annotated[str | None, typer.Option(help="acc, acc_norm, exact_match, … (1 or 0 a document).")] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="lm-eval's filter, where there are several.")
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="A further field of our rows to slice by.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    n_resamples: Annotated[int, typer.Option(help="Resamples of the intervals.", min=100)] = 10_000,
) -> None:
    """A gap report from lm-eval runs made with --log_samples, paired document by document.

    Example:

    salad from-lm-eval --base-text text/ --adapted-speech speech/ --out gap/
    """
    from rich.console import Console

    from salad_eval.lm_eval_bridge.samples import read_lm_eval
    from salad_eval.lm_eval_bridge.to_report import Reading, report_from_lm_eval, save
    from salad_eval.report import terminal_table

    folders: dict[ColumnName, list[Path]] = {
        "base_text": [base_text],
        "base_transcript": base_transcript or [],
        "adapted_text": [adapted_text] if adapted_text is not None else [],
        "adapted_speech": adapted_speech,
    }
    converted = report_from_lm_eval(
        {column: [read_lm_eval(path, filter_name) for path in paths] for column, paths in folders.items()},
        reading=Reading(pair_by, domain_field, group, metric),
        slice_fields=slices or (),
        seed=seed,
        n_resamples=n_resamples,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    save(converted, out)
    Console().print(terminal_table(converted.report), crop=False)
    print(f"\nreport: {out / 'report.html'}")


def to_lm_eval_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="A folder; each column and voice gets one of its own in it.")],
) -> None:
    """A finished run as lm-eval's results: results_*.json and samples_*.jsonl, one folder a column and voice.

    Example:

    salad to-lm-eval runs/mine --out results/
    """
    from salad_eval.lm_eval_bridge.to_results import results_from_run

    for file in results_from_run(run, out):
        print(file)
