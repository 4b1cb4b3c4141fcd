"""``salad loop``: evaluate, select, synthesise, train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salad_train.cli.options import Address, EngineName, engine_keys

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Turn the loop: evaluate → select → synthesise → train → evaluate.",
)


@app.command()
def loop(
    preset: Annotated[
        str | None, typer.Option(help="A loop that ships with the package; nano where no plan is given.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="A loop of your own (YAML).")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often; by default as the preset says.")] = None,
    out: Annotated[Path | None, typer.Option(help="The loop's folder; runs/loop-NAME if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of selection and training.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default one a core.")] = None,
    engine: EngineName = None,
    address: Address = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any key of the loop, or of its recipe: select.gamma=2, settings.stage2.train.steps=50."
        ),
    ] = None,
) -> None:
    """Evaluate, select what to speak by the gap, speak it, train on it, and evaluate again; ends in a before/after report.

    Steered by the validation split, measured on the test split. Started again, it goes on where it was stopped.

    Examples:

    salad loop --preset nano --rounds 2

    salad loop --plan loop.yaml --out runs/loop
    """
    import os

    import torch
    from rich.console import Console

    from salad_eval.errors import UserInputError
    from salad_eval.report.comparison import comparison_terminal
    from salad_eval.validation import parse_setting
    from salad_train.loop import load_loop
    from salad_train.loop import loop as run

    if preset is not None and plan is not None:
        raise UserInputError("give either --preset NAME or --plan FILE, not both.")
    name = str(plan) if plan is not None else preset or "nano"
    torch.set_num_threads(threads or os.cpu_count() or 1)
    changes: dict[str, object] = {f"settings.{key}": value for key, value in engine_keys(engine, address).items()}
    changes |= dict(parse_setting(text) for text in settings or ())
    if rounds is not None:
        changes["rounds"] = rounds
    if seed is not None:
        changes |= {"select.seed": seed, "settings.stage2.train.seed": seed}
    steps = load_loop(name, changes)
    console = Console()
    result = run(
        steps,
        out or Path("runs") / f"loop-{Path(name).stem}",
        lambda line: console.print(f"· {line}", highlight=False),
    )
    console.print()
    console.print(comparison_terminal(result.comparison))
    typer.echo(f"\nmodel: {result.model}\nreport: {result.files.html}")
