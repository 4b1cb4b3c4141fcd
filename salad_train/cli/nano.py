"""The commands this package adds to ``salad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="The embedded world: its data and its models.",
    no_args_is_help=True,
)


@app.callback()
def nano() -> None:
    """The embedded world: its data and its models."""


@app.command("train")
def train_command(
    out: Annotated[Path | None, typer.Option(help="Where the models go; by default into the package.")] = None,
    work: Annotated[
        Path, typer.Option(help="Speech, checkpoints and evaluation runs; can be removed afterwards.")
    ] = Path("runs/nano-train"),
    seed: Annotated[int, typer.Option(min=0, help="Makes the world and reaches every training.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default one a core.")] = None,
) -> None:
    """Build base LLM, ASR and speech LLM from nothing, measure them, and write their card."""
    import os

    import torch

    from salad_eval import resources
    from salad_train.nano.train import NanoPlan, make

    torch.set_num_threads(threads or os.cpu_count() or 1)
    card = make(NanoPlan(seed=seed), out or resources.models_dir() / "nano", work)
    typer.echo(card.read_text(encoding="utf-8"))
    typer.echo(f"Written to {card.parent}")


@app.command("world")
def world_command(
    out: Annotated[
        Path, typer.Argument(help="A folder for corpus.jsonl, narrow_speech.jsonl, validation.jsonl and test.jsonl.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Makes the world.")] = 0,
) -> None:
    """Write the embedded world as data: its corpus, what Stage I may hear of it, and its benchmark."""
    from salad_train.nano import world

    out.mkdir(parents=True, exist_ok=True)
    documents = world.corpus(seed)
    tables = {
        "corpus": world.to_jsonl(documents),
        "narrow_speech": world.to_jsonl(world.narrow_speech(documents)),
        "validation": world.to_jsonl(world.benchmark("validation", seed)),
        "test": world.to_jsonl(world.benchmark("test", seed)),
    }
    for name, text in tables.items():
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        typer.echo(f"{out / f'{name}.jsonl'}: {text.count(chr(10)):,} lines")


@app.command("study")
def study_command(
    out: Annotated[Path, typer.Option(help="Gets runs.jsonl, findings.json, figures and the page.")] = Path(
        "reports/nano-study"
    ),
    work: Annotated[
        Path, typer.Option(help="Sound and encoded speech while it runs; can be removed afterwards.")
    ] = Path("runs/nano-study"),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2,3,4",
    parts: Annotated[
        str | None,
        typer.Option(
            help="Some of stage2, budgets, stage1, tuning, transfer, gamma, clusters, untrue; by default all."
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, of one thread each; by default one a core.")
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Make no runs; write the page of those that are there.")
    ] = False,
) -> None:
    """Reproduce the method in small: every run, the figures, and a page that says what was found. Stopped, it goes on where it was."""
    from salad_eval.errors import UserInputError
    from salad_train.nano.study.execute import execute, read_runs
    from salad_train.nano.study.page import write_page
    from salad_train.nano.study.plan import PARTS, StudyPlan

    try:
        numbers = tuple(int(seed) for seed in seeds.split(","))
    except ValueError:
        raise UserInputError(f"--seeds {seeds!r}: expected whole numbers separated by commas, such as 0,1,2.") from None
    chosen = PARTS if parts is None else tuple(parts.split(","))
    plan = StudyPlan(seeds=numbers, parts=chosen)  # type: ignore[arg-type]
    command = f"salad nano study --seeds {seeds}" + (f" --parts {parts}" if parts else "")
    records = read_runs(plan, out) if page_only else execute(plan, out, work, processes=processes)
    typer.echo(write_page(plan, records, out, command))
