"""``salad items`` and ``salad rescore``: a run's items, and its stored answers scored otherwise."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from salad_eval.errors import SaladError

if TYPE_CHECKING:
    from salad_eval.audio.store import AudioStore

PLAYERS = (
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet"),
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("play", "-q"),
)


def items_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    cause: Annotated[str, typer.Option(help="lost_in_alignment, forgotten, lost_in_rendering, wrong_in_text, …")] = "",
    domain: Annotated[str, typer.Option(help="One domain.")] = "",
    task: Annotated[str, typer.Option(help="One task.")] = "",
    voice: Annotated[str, typer.Option(help="One voice.")] = "",
    condition: Annotated[str, typer.Option(help="One acoustic condition.")] = "",
    wrong: Annotated[str, typer.Option(help="A column that is wrong: adapted_speech, base_text, …")] = "",
    search: Annotated[str, typer.Option(help="Words of the question, an option, the transcript or the id.")] = "",
    sort: Annotated[str, typer.Option(help="run, or the worst first by margin, m or wer.")] = "run",
    limit: Annotated[int, typer.Option(help="How many are shown or played; files hold all.", min=1)] = 10,
    play: Annotated[bool, typer.Option("--play", help="Play their sound, one after the other.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write them to a CSV file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write them to a Parquet file.")] = None,
) -> None:
    """The items of a run: what was said, heard and answered, rendering by rendering.

    Examples:

    salad items runs/mine --cause lost_in_alignment --domain history --play

    salad items runs/mine --wrong adapted_speech --csv wrong.csv
    """
    from rich.console import Console

    from salad_eval.audio.store import AudioStore
    from salad_eval.gap.items import heard_items
    from salad_eval.pipeline.finished import read_run
    from salad_eval.report.items import ItemFilter, Order, items_frame, items_terminal

    wanted = ItemFilter(cause, domain, task, voice, condition, wrong, search)
    finished = read_run(run)
    found = wanted.chosen(heard_items(finished.records(), finished.report), cast("Order", sort))
    for path in (csv, parquet):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if csv is not None:
        items_frame(found).to_csv(csv, index=False)
    if parquet is not None:
        items_frame(found).to_parquet(parquet, index=False)
    if csv or parquet:
        print(f"{len(found)} renderings: {', '.join(str(path) for path in (csv, parquet) if path)}")
        return
    shown = found[:limit]
    Console().print(items_terminal(shown))
    print(f"{len(shown)} of {len(found)} renderings")
    if play:
        store = AudioStore(finished.plan.audio_store)
        play_sounds([part.sha256 for heard in shown for part in heard.parts if part.sha256 in store], store)


def play_sounds(sha256s: Sequence[str], store: AudioStore) -> None:
    """Play sounds of the store, one after the other. Raises ``SaladError``, naming their files, where nothing can play them."""
    player = next((command for command in PLAYERS if shutil.which(command[0])), None)
    if player is None:
        places = "\n".join(str(store.path(sha256)) for sha256 in sha256s)
        raise SaladError(f"no player is installed ({', '.join(one[0] for one in PLAYERS)}). The sounds are:\n{places}")
    for sha256 in sha256s:
        subprocess.run([*player, str(store.path(sha256))], check=False, stdin=subprocess.DEVNULL)


def rescore_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    score: Annotated[
        str, typer.Option(help="ll, ll_norm, ll_bytes; of generated answers generate, exact_match, f1, numeric, …")
    ],
    metric: Annotated[str | None, typer.Option(help="Which of lm-eval's measures counts, under score lm_eval.")] = None,
    out: Annotated[Path | None, typer.Option(help="The new run's folder; RUN-SCORE beside it if not given.")] = None,
) -> None:
    """Score the stored answers of a run in another way, without any model.

    Example:

    salad rescore runs/mine --score ll_norm
    """
    from salad_eval.cli.report import print_table
    from salad_eval.pipeline.rescore import rescore

    folder = out or run.with_name(f"{run.name}-{score}")
    changes: dict[str, Any] = {"score": score, **({"metric": metric} if metric else {})}
    report = rescore(run, folder, changes)
    print_table(report)
    print(f"\nreport: {folder / 'report.html'}")
