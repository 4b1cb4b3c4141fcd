"""``salad synthesise``: a selection, spoken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Speak a selection within its budget.")


@app.command()
def synthesise(
    selection: Annotated[Path, typer.Option(help="The folder that `salad select` wrote.")],
    recipe: Annotated[
        str, typer.Option(help="A recipe's name or file: how documents are cut, and whose voices read them.")
    ],
    out: Annotated[Path, typer.Option(help="Gets synthesis.jsonl and synthesis.json.")],
    engine: Annotated[
        str | None,
        typer.Option(help="Where the work is done: local, or ray for a Ray cluster."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster: auto, or HOST:PORT; one for this call alone if not given.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the recipe, for example stage2.train.seed=1; repeat for more."),
    ] = None,
) -> None:
    """Speak a selection's documents as Stage II will read them, in the order in which they were drawn, until the budget is met.

    Sound goes to the recipe's audio store; synthesis.jsonl names it by its sha256, span by span.
    """
    from salad_eval.validation import parse_setting
    from salad_train.recipe import load_recipe, voice_of
    from salad_train.selection.files import read_selection
    from salad_train.speech.synthesise import synthesise as speak
    from salad_train.speech.synthesise import tokenizer_of, write_synthesis

    plan = load_recipe(recipe, {**_voices_on(engine, address), **dict(parse_setting(text) for text in settings or ())})
    chosen = read_selection(selection)
    voice = voice_of(plan)
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


def _voices_on(engine: str | None, address: str | None) -> dict[str, str | None]:
    """The recipe's keys for an engine that was named: as many voices as it has room for."""
    if engine is None and address is None:
        return {}
    named = {"voice.engine.name": engine, "voice.engine.address": address}
    return {"voice.workers": None, **{key: value for key, value in named.items() if value is not None}}
