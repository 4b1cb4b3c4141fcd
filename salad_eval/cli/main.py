"""The command ``salad``. Exit codes: 0 done, 1 the run failed, 2 what the user wrote is wrong."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from salad_eval import plugins
from salad_eval.cli.lm_eval import LM_EVAL_CONTEXT, from_lm_eval_command, lm_eval_command, to_lm_eval_command
from salad_eval.cli.share import card_command, export_command, import_command
from salad_eval.cli.speech import render_command, transcribe_command
from salad_eval.cli.tasks import tasks_app
from salad_eval.errors import SaladError, UserInputError

if TYPE_CHECKING:
    from salad_eval.pipeline.plan import Plan
    from salad_eval.types import GapReport

# --- commands of plug-ins --------------------------------------------------------------------------------------------


class PluginCommand(TyperCommand):
    """A command of the group ``salad.commands``, imported when it is called and not before: a broken one breaks only itself."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        app = plugins.load("salad.commands", str(self.name))
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


class PluginGroup(TyperGroup):
    """The commands of this package and then those of plug-ins."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(info.name for info in plugins.available("salad.commands") if info.name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for info in plugins.available("salad.commands"):
            if info.name == cmd_name:
                return PluginCommand(cmd_name, help=f"Commands of {info.package} ({info.target.partition(':')[0]}).")
        return None


app = typer.Typer(
    name="salad",
    cls=PluginGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Where, why and by how much a speech LLM understands less than the text LLM it came from.",
)
plugins_app = typer.Typer(help="What is registered: voices, recognisers, systems and commands.", no_args_is_help=True)
app.add_typer(tasks_app, name="tasks")
app.add_typer(plugins_app, name="plugins")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``salad``: errors that we explain are printed as one message, without a traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args  # looked for here too, so that it may stand behind the command
    args = [arg for arg in args if arg != "--debug"]
    try:
        app(args=args, prog_name="salad")
    except SaladError as error:
        if debug:
            raise
        print(f"salad: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    # Any step may be the one that fills the disk, and libraries say so in classes of their own.
    except Exception as error:
        if debug or not _is_full_disk(error):
            raise
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        print(
            f"salad: no space left on the disk{where}. What was finished before stands: make room, and the same command goes on "
            "from there.",
            file=sys.stderr,
        )
        sys.exit(1)


_FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL_DISK:
            return True
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors' own class, for one
            return True
        error = error.__cause__ or error.__context__
    return False


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"salad-gap {version('salad-gap')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Where, why and by how much a speech LLM understands less than the text LLM it came from."""


# --- run -------------------------------------------------------------------------------------------------------------


@app.command("run")
def run_command(
    preset: Annotated[
        str | None, typer.Option(help="A plan that ships with the package; nano where no plan is given.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan of your own (YAML), or the plan.json of a run.")] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            help="Task names or YAML paths, comma-separated or repeated; with --speak any task or group of lm-eval's, too."
        ),
    ] = None,
    speak: Annotated[
        str | None, typer.Option(help="What is spoken: context, or context+choices; overrides the tasks' own.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="A local mirror of data sets: DIR/org__name/[config/]split.jsonl; no hub is asked."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="test, validation or train.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items a task, spread over its domains.")] = None,
    voices: Annotated[
        list[str] | None, typer.Option(help="A voice such as en-us+f3 or en-us+m1,rate=150; repeat for more.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the items drawn by --limit and of the resampling.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME if not given.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the plan, for example base.options.dtype=bfloat16; repeat for more."),
    ] = None,
) -> None:
    """Evaluate: from a text benchmark to a gap report. Started again, a run goes on where it was stopped."""
    from salad_eval.pipeline.run import run

    overrides = {
        "tasks": [name for names in tasks or () for name in names.split(",") if name] or None,
        "speak": speak,
        "data_dir": str(data_dir) if data_dir is not None else None,
        "split": split,
        "limit": limit,
        "voices": voices or None,
        "seed": seed,
        "out": str(out) if out is not None else None,
    }
    resolved = _plan(
        preset, plan, {key: value for key, value in overrides.items() if value is not None}, settings or ()
    )
    report = run(resolved)
    _print_table(report)
    if preset is not None:
        _print_reported(report, preset)
    print(f"\nreport: {resolved.folder / 'report.html'}")


def _print_reported(report: GapReport, preset: str) -> None:
    """What others report for the systems of a preset, beside this report."""
    from rich.console import Console

    from salad_eval.report.published import reported_beside

    if (table := reported_beside(report, preset)) is not None:
        Console().print(table)


def _plan(preset: str | None, plan: Path | None, overrides: dict[str, Any], settings: Sequence[str]) -> Plan:
    from salad_eval.pipeline.plan import Plan, parse_setting

    if preset is not None and plan is not None:
        raise UserInputError("give either --preset NAME or --plan FILE, not both.")
    changes = {**overrides, **dict(parse_setting(text) for text in settings)}
    return Plan.from_yaml(str(plan), changes) if plan is not None else Plan.preset(preset or "nano", changes)


def _print_table(report: GapReport) -> None:
    from rich.console import Console

    from salad_eval.report import terminal_table

    Console().print(terminal_table(report))


# --- report, compare -------------------------------------------------------------------------------------------------


class ReportFormat(str, Enum):
    table = "table"
    html = "html"
    md = "md"
    json = "json"


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a gap_report.json.")],
    format: Annotated[
        ReportFormat, typer.Option(help="What to show, or which files to write again.")
    ] = ReportFormat.table,
) -> None:
    """Show a report, or make its views again from gap_report.json."""
    import json

    from salad_eval.report import load_report, write_report
    from salad_eval.report.json import report_to_json

    report = load_report(folder)
    if format is ReportFormat.table:
        _print_table(report)
    elif format is ReportFormat.json:
        print(json.dumps(report_to_json(report), ensure_ascii=False, indent=1))
    else:
        files = write_report(report, folder if folder.is_dir() else folder.parent)
        print(files.html if format is ReportFormat.html else files.markdown)


@app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="The folder of a run.")],
    b: Annotated[Path, typer.Argument(help="The folder of another run on the same items.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder for comparison.html, comparison.md and the figure.")
    ] = None,
) -> None:
    """Compare two runs, paired on the items they share; differences are the second less the first."""
    from rich.console import Console

    from salad_eval.pipeline.run import compare_runs
    from salad_eval.report.comparison import comparison_terminal, write_comparison

    found = compare_runs(a, b)
    Console().print(comparison_terminal(found))
    if out is not None:
        print(f"\npage: {write_comparison(found, out).html}")


# --- plugins, doctor -------------------------------------------------------------------------------------------------


@plugins_app.command("list")
def list_plugins(
    load: Annotated[bool, typer.Option("--load", help="Import each one, and say which ones fail.")] = False,
) -> None:
    """Everything that is registered, by group."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("group", "name", "target", "package", *(["loads"] if load else [])):
        table.add_column(heading, overflow="fold")
    broken = 0
    for group in plugins.GROUPS:
        for info in plugins.available(group):
            row = [group, info.name, info.target, f"{info.package} {info.version}"]
            if load:
                problem = load_problem(info)
                broken += problem is not None
                row.append(problem or "yes")
            table.add_row(*row)
    Console().print(table)
    if broken:
        raise typer.Exit(1)


def load_problem(info: plugins.PluginInfo) -> str | None:
    """Why a plug-in cannot be loaded, or ``None``."""
    try:
        plugins.load(info.group, info.name)
    except SaladError as cause:
        return str(cause)
    return None


@app.command("doctor")
def doctor_command(
    models: Annotated[
        bool,
        typer.Option("--models", help="List public checkpoints by loading path, and how to check each; loads nothing."),
    ] = False,
    check_model: Annotated[
        list[str] | None,
        typer.Option(help="Load a checkpoint of that list (downloading it where it must) and ask it; repeat for more."),
    ] = None,
) -> None:
    """Say what is there, and how to mend what is not."""
    from salad_eval.cli.doctor import examine, print_findings

    if models:
        from salad_eval.cli.model_checks import print_checks, read_checks

        print_checks(read_checks())
        return
    if check_model:
        from salad_eval.cli.model_checks import check_models, read_checks

        findings = list(check_models(check_model, read_checks()))
    else:
        findings = examine()
    print_findings(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


app.command("render")(render_command)
app.command("transcribe")(transcribe_command)
app.command("export")(export_command)
app.command("import")(import_command)
app.command("card")(card_command)
app.command("lm-eval", context_settings=LM_EVAL_CONTEXT, add_help_option=False)(lm_eval_command)
app.command("from-lm-eval")(from_lm_eval_command)
app.command("to-lm-eval")(to_lm_eval_command)

if __name__ == "__main__":
    main()
