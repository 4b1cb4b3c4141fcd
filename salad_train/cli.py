"""The commands this package adds to ``salad``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded world: its data and its models.", no_args_is_help=True)


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
