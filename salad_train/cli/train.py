"""``salad train``: Stage I and Stage II by recipe, alone or under ``accelerate launch -m salad_train.cli_train`` and torchrun."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salad_eval.errors import SaladError, UserInputError
from salad_train.cli.options import Address, EngineName, engine_keys
from salad_train.training.processes import first_process_first, is_first

if TYPE_CHECKING:
    from salad_train.recipe import Recipe

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Train a speech LLM: Stage I (natural speech) or Stage II (what was selected).",
)


class Stage(str, Enum):
    one = "1"
    two = "2"


@app.command("train")
def train_command(
    stage: Annotated[Stage, typer.Option(help="1: a base LLM learns to hear. 2: it goes on with selected speech.")],
    recipe: Annotated[str, typer.Option(help="nano, qwen2.5-0.5b, qwen2.5-3b, qwen2.5-7b, or a YAML file of yours.")],
    selection: Annotated[
        Path | None, typer.Option(help="Stage 2: the folder of `salad select`, or a copy of it.")
    ] = None,
    synthesis: Annotated[
        Path | None, typer.Option(help="Stage 2: the folder of `salad synthesise`; the selection's if not given.")
    ] = None,
    stage1: Annotated[
        Path | None, typer.Option("--stage1", help="Stage 2: go on from the Stage I in this folder, before its decay.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the recipe, for example stage1.train.steps=100; repeat for more."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/RECIPE/stageN if not given.")] = None,
    trainer: Annotated[str, typer.Option(help="Stage 2: a plug-in of salad.trainers: hf, dry_run or another.")] = "hf",
    trainer_settings: Annotated[
        list[str] | None,
        typer.Option("--set-trainer", help="An option of the trainer as key=value; repeat for more."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto; the recipe's if not given.")] = None,
    engine: EngineName = None,
    address: Address = None,
) -> None:
    """Train by a recipe. Started again, a run goes on where it was stopped.

    Examples:

    salad train --stage 1 --recipe nano

    salad train --stage 2 --recipe nano --selection chosen/ --synthesis spoken/
    """
    from salad_eval.validation import parse_setting
    from salad_train.recipe import load_recipe

    loaded = load_recipe(
        recipe, {**engine_keys(engine, address), **dict(parse_setting(text) for text in settings or ())}
    )
    if device is not None:
        loaded = loaded.on_device(device)
    folder = out or loaded.folder(int(stage.value))
    if stage is Stage.one:
        for option, value in (("--selection", selection), ("--synthesis", synthesis), ("--stage1", stage1)):
            if value is not None:
                raise UserInputError(f"{option} belongs to --stage 2; Stage I reads no selection.")
        if trainer != "hf" or trainer_settings:
            raise UserInputError(f"--trainer {trainer} belongs to --stage 2; Stage I is trained by this package.")
        say(f"model: {train_stage1(loaded, folder)}")
        return
    if selection is None:
        raise UserInputError("--stage 2 needs --selection, the folder that `salad select` wrote.")
    if stage1 is not None:
        loaded = loaded.after(stage1)
    options = dict(parse_setting(text) for text in trainer_settings or ())
    say(f"{trainer}: {train_stage2(loaded, selection, synthesis or selection, folder, trainer, options)}")


def train_stage1(recipe: Recipe, out: Path) -> Path:
    """Stage I of a recipe; returns the folder of the model."""
    from salad_train.recipe import natural_source, replay_documents, workshop_of
    from salad_train.training import stages

    with workshop_of(recipe) as shop:
        with first_process_first(recipe.stage1.device):
            heard = natural_source(recipe, work=out, tell=say, shop=shop)
            replay = replay_documents(recipe)
        say(f"{len(heard.documents):,} documents to hear, {len(replay):,} to read; to {out}")
        return stages.stage1(recipe.stage1, heard, replay, out, shop)


def train_stage2(
    recipe: Recipe, selection: Path, synthesis: Path, out: Path, trainer: str, options: dict[str, Any]
) -> Path:
    """Stage II of a recipe on what was selected and spoken; returns what the trainer plug-in made."""
    from salad_eval import plugins
    from salad_train.recipe import stage2_data, voice_of, workshop_of
    from salad_train.selection.files import read_selection
    from salad_train.speech.synthesise import read_synthesis, spoken_documents

    # All that is cheap to find wrong is looked at before anything is read that takes long.
    fit = plugins.create("salad.trainers", trainer, options).fit
    plan = recipe.stage2
    chosen = read_selection(selection)
    with workshop_of(recipe) as shop:
        spoken = read_synthesis(synthesis, chosen, plan, voice_of(recipe, shop=shop).fingerprint())
        check_start(recipe)
        documents = spoken_documents(chosen, spoken)
        data = stage2_data(recipe, documents, work=out, tell=say, shop=shop)
        say(
            f"{len(documents):,} selected documents ({spoken.seconds / 3600:,.2f} hours), "
            f"{0 if data.natural is None else len(data.natural.documents):,} of Stage I's kind, {len(data.replay):,} to read; to {out}"
        )
        result: Path = fit(plan, chosen, data, out)
        return result


def check_start(recipe: Recipe) -> None:
    """What Stage II goes on from must be there: a checkpoint that is not would be passed over."""
    plan = recipe.stage2
    if plan.checkpoint is not None and not (Path(plan.checkpoint) / "state.json").is_file():
        raise UserInputError(
            f"stage2.checkpoint is {plan.checkpoint}, and no checkpoint is there. Run `salad train --stage 1` first, name its folder "
            "with --stage1, or begin with the finished model's weights: --set stage2.checkpoint=null."
        )
    if plan.init.startswith("runs/") and not Path(plan.init).is_dir():
        raise UserInputError(
            f"stage2.init is {plan.init}, and no model is there. Run `salad train --stage 1` first, or name its folder with --stage1."
        )


def say(text: str) -> None:
    """Print, once for all processes of a run."""
    if is_first():
        typer.echo(text)


def main() -> None:
    """As the command ``salad train``, for launchers that start a module."""
    try:
        app(prog_name="salad train")
    except SaladError as error:
        print(f"salad: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
