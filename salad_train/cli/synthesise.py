"""``salad synthesise``: a selection, spoken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salad_train.cli.options import Address, EngineName, engine_keys

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Speak a selection within its budget.")


@app.command()
def synthesise(
    selection: Annotated[Path, typer.Option(help="The folder that `salad select` wrote.")],
    recipe: Annotated[
        str, typer.Option(help="A recipe's name or file: how documents are cut, and whose voices read them.")
    ],
    out: Annotated[Path, typer.Option(help="Gets synthesis.jsonl and synthesis.json.")],
    engine: EngineName = None,
    address: Address = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the recipe, for example stage2.train.seed=1; repeat for more."),
    ] = None,
) -> None:
    """Speak a selection's documents as Stage II will read them, in the order in which they were drawn, until the budget is met.

    Sound goes to the recipe's audio store; synthesis.jsonl names it by its sha256, span by span.

    Example:

    salad synthesise --selection chosen/ --recipe nano --out spoken/
    """
    from salad_eval.validation import parse_setting
    from salad_train.recipe import load_recipe, voice_of, workshop_of
    from salad_train.selection.files import read_selection
    from salad_train.speech.synthesise import synthesise as speak
    from salad_train.speech.synthesise import tokenizer_of, write_synthesis

    plan = load_recipe(recipe, {**engine_keys(engine, address), **dict(parse_setting(text) for text in settings or ())})
    chosen = read_selection(selection)
    with workshop_of(plan) as shop:
        voice = voice_of(plan, shop=shop)
        found = speak(chosen, plan.stage2, tokenizer_of(plan.stage2), voice)
        write_synthesis(found, chosen, plan.stage2, voice.fingerprint(), out)
    left_out = ", ".join(f"{n} {reason}" for reason, n in found.left_out.items()) or "none"
    typer.echo(
        f"{len(found.documents):,} documents, {found.seconds:,.1f} s of the {found.budget_seconds:,.0f} s asked for."
    )
    typer.echo(f"Left out: {left_out}. Sound: {voice.store.root}")
    if not found.is_met:
        typer.echo(
            "The budget is not met within 1%: the selection and its reserve hold no more. Select again with a larger reserve."
        )
    typer.echo(f"Written to {out / 'synthesis.jsonl'}")
