"""``salad plugins``: what is registered."""

from __future__ import annotations

from typing import Annotated

import typer

from salad_eval import plugins
from salad_eval.errors import SaladError

plugins_app = typer.Typer(help="What is registered: voices, recognisers, systems and commands.", no_args_is_help=True)


@plugins_app.command("list")
def list_plugins(
    load: Annotated[bool, typer.Option("--load", help="Import each one, and say which ones fail.")] = False,
) -> None:
    """Everything that is registered, by group."""
    from salad_eval.cli.listing import print_list

    rows, broken = [], 0
    for group in plugins.GROUPS:
        for info in plugins.available(group):
            row = [group, info.name, f"{info.package} {info.version}", info.target]
            if load:
                problem = load_problem(info)
                broken += problem is not None
                row.append(problem or "yes")
            rows.append(row)
    print_list(("group", "name", "package", "target", *(["loads"] if load else [])), rows, prose=("loads",))
    if broken:
        raise typer.Exit(1)


def load_problem(info: plugins.PluginInfo) -> str | None:
    """Why a plug-in cannot be loaded, or ``None``."""
    try:
        plugins.load(info.group, info.name)
    except SaladError as cause:
        return str(cause)
    return None
