"""Kills at places spread evenly over a run, each followed by the same command again.

    python -m tests.faults --kills 200 --seed 0 --out docs/evidence/faults.md

Four in five are kills of a run, the rest of a loop of two rounds. A kill is a fault where what goes on does not end in the same report
to the byte, or leaves unfinished files.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from tests.faults import loop_world, victim
from tests.faults.victim import ended, left_over


@dataclass(frozen=True, slots=True)
class Kill:
    """``at``: the touches of the disk before which the process was killed, one after another, of ``of`` in an undisturbed ``what``."""

    what: str
    at: tuple[int, ...]
    of: int
    fault: str


def places(n: int, touches: int, seed: int) -> list[tuple[int, ...]]:
    """Where to kill: spread evenly over the touches, moved at random between neighbours; every fourth is killed a second time."""
    draw = random.Random(seed)
    step = touches / n
    first = [min(touches, 1 + int((k + draw.random()) * step)) for k in range(n)]
    return [(at, draw.randint(1, max(1, touches - at))) if k % 4 == 3 else (at,) for k, at in enumerate(first)]


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What is killed: how it is done, how often it touches the disk, and what it leaves of ``KEPT``."""

    what: str
    act: Callable[[Path], None]
    touches: int
    left: dict[str, bytes]


def tried(whole: Undisturbed, folder: Path, at: tuple[int, ...]) -> Kill:
    """Kill at each place in turn, then let it go on to its end, and compare."""
    out = folder / "run"
    for place in at:
        end = ended(whole.act, out, place)
        if end.status not in (-9, 0):
            return Kill(
                whole.what, at, whole.touches, f"ended with {end.status} instead of being killed: {_log(folder)}"
            )
    return Kill(whole.what, at, whole.touches, _fault(whole, folder, out))


def _fault(whole: Undisturbed, folder: Path, out: Path) -> str:
    if ended(whole.act, out).status != 0:
        return f"does not go on: {_log(folder)}"
    if other := [name for name, data in whole.left.items() if (out / name).read_bytes() != data]:
        return f"another {', '.join(other)}"
    return f"leaves {', '.join(left)}" if (left := left_over(out)) else ""


def _log(folder: Path) -> str:
    return (folder / "victim.log").read_text(encoding="utf-8").strip().rsplit("\n", 1)[-1][:300]


def kills(what: str, n: int, seed: int, home: Path) -> list[Kill]:
    """``n`` kills of a ``run`` or a ``loop`` in folders below ``home``."""
    made, kept = {"run": (victim.world, victim.KEPT), "loop": (loop_world.world, loop_world.KEPT)}[what]
    with made(home) as act:
        (home / "whole").mkdir()
        end = ended(act, home / "whole" / "run")
        if end.status != 0:
            raise SystemExit(f"the undisturbed {what} fails: {_log(home / 'whole')}")
        whole = Undisturbed(
            what, act, end.touches, {name: (home / "whole" / "run" / name).read_bytes() for name in kept}
        )
        found = []
        for number, at in enumerate(track(places(n, whole.touches, seed), f"kills of a {what}")):
            folder = home / f"kill{number}"
            folder.mkdir()
            found.append(tried(whole, folder, at))
            shutil.rmtree(folder)
    return found


SAID = {
    "run": "run of eight items in two voices and two conditions",
    "loop": "loop of two rounds (models stood in for)",
}


def page(found: list[Kill], command: str) -> str:
    when = f"{datetime.date.today()}, Python {platform.python_version()}, {platform.system()}: `{command}`."
    head = (
        "Killed (SIGKILL) at places spread over all touches of the disk, then started again by the same command. A fault: another report "
        "than the undisturbed one's, to the byte, or an unfinished file that is left."
    )
    table = "| what | touches | kills | of them twice | faults |\n|---|--:|--:|--:|--:|\n"
    for what in dict.fromkeys(kill.what for kill in found):
        mine = [kill for kill in found if kill.what == what]
        twice, faults = sum(len(kill.at) > 1 for kill in mine), sum(bool(kill.fault) for kill in mine)
        table += f"| {SAID[what]} | {mine[0].of:,} | {len(mine)} | {twice} | {faults} |\n"
    lost = "".join(f"- {kill.what}, before touch {kill.at}: {kill.fault}\n" for kill in found if kill.fault)
    return f"# Kills\n\n{when}\n\n{head}\n\n{table}" + (f"\n{lost}" if lost else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the page here")
    arguments = parser.parse_args()
    of_loop = arguments.kills // 5
    found = []
    for what, n in (("run", arguments.kills - of_loop), ("loop", of_loop)):
        with tempfile.TemporaryDirectory() as home:
            found += kills(what, n, arguments.seed, Path(home))
    for kill in found:
        if kill.fault:
            print(f"{kill.what} killed before touch {kill.at} of {kill.of}: {kill.fault}")
    print(f"{len(found)} kills, {sum(bool(kill.fault) for kill in found)} faults")
    if arguments.out:
        command = f"python -m tests.faults --kills {arguments.kills} --seed {arguments.seed}"
        arguments.out.write_text(page(found, command), encoding="utf-8")
    return int(any(kill.fault for kill in found))


if __name__ == "__main__":
    sys.exit(main())
