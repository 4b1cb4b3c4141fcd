"""``salad run``: evaluate by a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salad_eval.cli.names import names_in
from salad_eval.cli.report import AudioOption, EmbedOption, ItemsOption, SoundOption, page_options, print_table
from salad_eval.errors import UserInputError

if TYPE_CHECKING:
    from salad_eval.pipeline.plan import Plan
    from salad_eval.types import GapReport


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
        list[str] | None,
        typer.Option(
            help="Voices such as en-us+f3 or en-us+m1,rate=150; comma-separated or repeated. salad voices lists them."
        ),
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(help='Acoustic conditions: clean, telephone, "noise,snr=10"; comma-separated or repeated.'),
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Few-shot examples; the tasks' own number if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the items drawn by --limit and of the resampling.")] = None,
    name: Annotated[str | None, typer.Option(help="What the run is called, and its folder in runs/.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Where local models run: cpu, cuda, cuda:1, mps; the best there is if not given.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Where the work is done: local, or ray for a Ray cluster.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster: auto, or HOST:PORT; one for this call alone if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME if not given.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make this run in the place of a finished one of another plan.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Run nothing: say what it would take, timed on a few items of local models."),
    ] = False,
    items: ItemsOption = None,
    audio: AudioOption = None,
    embed_audio: EmbedOption = 0,
    audio_format: SoundOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the plan, for example base.options.dtype=bfloat16; repeat for more."),
    ] = None,
) -> None:
    """Evaluate: from a text benchmark to a gap report. Started again, a run goes on where it was stopped.

    Examples:

    salad run --preset nano --limit 70

    salad run --plan plan.yaml --split validation --voices en-us+f3,en-us+m7

    salad run --plan plan.yaml --conditions clean --conditions "noise,snr=10"

    salad run --plan plan.yaml --dry-run
    """
    from salad_eval.pipeline.run import run

    overrides = {
        "name": name,
        "tasks": names_in(tasks) or None,
        "speak": speak,
        "data_dir": str(data_dir) if data_dir is not None else None,
        "split": split,
        "limit": limit,
        "voices": names_in(voices) or None,
        "conditions": names_in(conditions) or None,
        "shots": shots,
        "seed": seed,
        "engine.name": engine,
        "engine.address": address,
        "out": str(out) if out is not None else None,
    }
    resolved = _plan(
        preset, plan, {key: value for key, value in overrides.items() if value is not None}, settings or ()
    )
    if device is not None:
        resolved = on_device(resolved, device)
    if dry_run:
        _print_estimate(resolved)
        return
    report = run(resolved, again=again, page=page_options(items, audio, embed_audio, audio_format))
    print_table(report)
    if preset is not None:
        _print_reported(report, preset)
    print(f"\nreport: {resolved.folder / 'report.html'}")


def on_device(plan: Plan, device: str) -> Plan:
    """The plan with its local models on a device; a plug-in that takes none (a server, a program) is left as it is."""
    import inspect

    from salad_eval import plugins

    changes: dict[str, Any] = {}
    chosen: tuple[tuple[str, plugins.Group, str], ...] = (
        ("base", "salad.systems", plan.base.system),
        ("adapted", "salad.systems", plan.adapted.system),
        ("asr", "salad.asr", plan.asr.name),
        *((("tts", "salad.tts", plan.tts.name),) if plan.tts is not None else ()),
    )
    for role, group, plugin in chosen:
        if "device" in inspect.signature(plugins.load(group, plugin)).parameters:
            changes[f"{role}.options.device"] = device
    if not changes:
        raise UserInputError(f"--device {device}: none of the plan's models takes a device.")
    return type(plan).of(plan, changes)


def _print_estimate(plan: Plan) -> None:
    from rich.console import Console

    from salad_eval.pipeline.estimate import estimate
    from salad_eval.report.estimate import estimate_terminal

    Console().print(estimate_terminal(estimate(plan)))


def _print_reported(report: GapReport, preset: str) -> None:
    """What others report for the systems of a preset, beside this report."""
    from rich.console import Console

    from salad_eval.report.published import reported_beside

    if (table := reported_beside(report, preset)) is not None:
        Console().print(table)


def _plan(preset: str | None, plan: Path | None, overrides: dict[str, Any], settings: Sequence[str]) -> Plan:
    from salad_eval.pipeline.plan import Plan
    from salad_eval.validation import parse_setting

    if preset is not None and plan is not None:
        raise UserInputError("give either --preset NAME or --plan FILE, not both.")
    changes = {**overrides, **dict(parse_setting(text) for text in settings)}
    return Plan.from_yaml(str(plan), changes) if plan is not None else Plan.preset(preset or "nano", changes)
