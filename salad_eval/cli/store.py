"""``salad store``: what the audio store holds, whether it is whole, and room in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from salad_eval.errors import SaladError, UserInputError

store_app = typer.Typer(help="The audio store that runs share: list, check, make room.", no_args_is_help=True)

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="The store's folder, a plan's audio_store; the one that all runs share if not given."),
]


@store_app.command("ls")
def ls_command(store: StoreOption = None) -> None:
    """How many sounds there are, how large, and which engine said how much in which voice."""
    from salad_eval.audio.store import AudioStore
    from salad_eval.audio.upkeep import contents
    from salad_eval.cli.listing import print_list

    opened = AudioStore(store)
    found = contents(opened)
    print(f"{opened.root}: {found.n_sounds:,} sounds, {found.n_bytes / 1e9:,.2f} GB")
    if not found.voices:
        return
    print_list(
        ("requests", "gone", "hours", "voice", "engine"),
        [
            (f"{one.n_requests:,}", f"{one.n_missing:,}", f"{one.seconds / 3600:,.2f}", one.voice, one.engine)
            for one in found.voices
        ],
    )


@store_app.command("gc")
def gc_command(
    max_size: Annotated[str, typer.Option(help="How much may stay, such as 20GB or 500MB; 0 removes all.")],
    keep_runs: Annotated[
        list[Path] | None, typer.Option("--keep-run", help="The folder of a run whose sounds stay; repeat for more.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove the sounds that were longest unused, down to a size. What a run needs of them is spoken again.

    Sounds of the last hour stay. Reports and answers of finished runs stand by themselves; their pages lose the sound they link to.

    Example:

    salad store gc --max-size 20GB --keep-run runs/mine --dry-run
    """
    from salad_eval.audio.store import AudioStore
    from salad_eval.audio.upkeep import collect_garbage, parse_size

    opened = AudioStore(store)
    found = collect_garbage(opened, parse_size(max_size), keep=frozenset(_sounds_of(keep_runs or ())), dry_run=dry_run)
    verb = "would be removed" if dry_run else "removed"
    print(f"{opened.root}: {found.n_sounds:,} sounds, {found.n_bytes / 1e9:,.2f} GB {verb}")
    print(f"left: {found.n_left:,} sounds, {found.bytes_left / 1e9:,.2f} GB")
    if found.n_spared:
        print(
            f"that is more than {max_size}: {found.n_spared:,} sounds were used within the hour, or are those of a run to keep"
        )


def _sounds_of(runs: Sequence[Path]) -> Iterator[str]:
    from salad_eval import records
    from salad_eval.pipeline.render import RenderOutcome

    for run in runs:
        file = run / "render.jsonl"
        if not file.is_file():
            raise UserInputError(f"--keep-run {run}: no run is there that has rendered (no {file}).")
        for outcome in records.read_jsonl(file, RenderOutcome):
            if outcome.rendering is not None:
                yield outcome.rendering.sha256


@store_app.command("verify")
def verify_command(
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove damaged sounds, so that they are spoken again.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Read every sound, and name those that are not what they were written as. Exits with 1 where some are left."""
    from salad_eval.audio.store import AudioStore
    from salad_eval.audio.upkeep import verify

    opened = AudioStore(store)
    found = verify(opened, remove=remove)
    for name in found.damaged:
        print(f"{'removed' if remove else 'damaged'}: {opened.path(name)}")
    print(f"{opened.root}: {found.n_sounds:,} sounds read, {len(found.damaged):,} damaged")
    if found.damaged and not remove:
        raise SaladError("the sounds above are damaged. Remove them: salad store verify --remove.")
