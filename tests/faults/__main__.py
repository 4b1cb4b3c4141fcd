"""Kills at places spread evenly over a run, each followed by the same command again.

    python -m tests.faults --kills 200 --seed 0 --out docs/evidence/faults.md

A kill is a fault where the run that goes on does not end in the same report to the byte, or leaves unfinished files.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from tests.faults.victim import KEPT, ended, left_over, world


@dataclass(frozen=True, slots=True)
class Kill:
    """``at``: the touches of the disk before which the process was killed, one after another, of ``of`` in an undisturbed run."""

    at: tuple[int, ...]
    of: int
    fault: str


def places(n: int, touches: int, seed: int) -> list[tuple[int, ...]]:
    """Where to kill: spread evenly over the touches, moved at random between neighbours; every fourth is killed a second time."""
    draw = random.Random(seed)
    step = touches / n
    first = [min(touches, 1 + int((k + draw.random()) * step)) for k in range(n)]
    return [(at, draw.randint(1, max(1, touches - at))) if k % 4 == 3 else (at,) for k, at in enumerate(first)]


def tried(plan: dict[str, Any], folder: Path, at: tuple[int, ...], touches: int, whole: dict[str, bytes]) -> Kill:
    """Kill at each place in turn, then let it run to its end, and compare."""
    out = folder / "run"
    for place in at:
        end = ended(plan, out, place)
        if end.status not in (-9, 0):
            return Kill(at, touches, f"ended with {end.status} instead of being killed: {_log(folder)}")
    end = ended(plan, out)
    if end.status != 0:
        return Kill(at, touches, f"does not go on: {_log(folder)}")
    if other := [name for name, data in whole.items() if (out / name).read_bytes() != data]:
        return Kill(at, touches, f"another {', '.join(other)}")
    return Kill(at, touches, f"leaves {', '.join(left)}" if (left := left_over(out)) else "")


def _log(folder: Path) -> str:
    return (folder / "victim.log").read_text(encoding="utf-8").strip().rsplit("\n", 1)[-1][:300]


def kills(n: int, seed: int, home: Path) -> list[Kill]:
    """``n`` kills in folders below ``home``."""
    with world(home) as plan:
        (home / "whole").mkdir()
        undisturbed = ended(plan, home / "whole" / "run")
        if undisturbed.status != 0:
            raise SystemExit(f"the undisturbed run fails: {_log(home / 'whole')}")
        whole = {name: (home / "whole" / "run" / name).read_bytes() for name in KEPT}
        found = []
        for number, at in enumerate(track(places(n, undisturbed.touches, seed), "kills")):
            folder = home / f"kill{number}"
            folder.mkdir()
            found.append(tried(plan, folder, at, undisturbed.touches, whole))
    return found


def page(found: list[Kill], command: str) -> str:
    lost = [kill for kill in found if kill.fault]
    again = sum(len(kill.at) > 1 for kill in found)
    when = f"{datetime.date.today()}, Python {platform.python_version()}, {platform.system()}: `{command}`."
    asked = f"{len(found)} runs of eight items in two voices and two conditions, killed (SIGKILL) at places spread over their {found[0].of}"
    then = f"touches of the disk, {again} of them twice, then started again by the same command: {len(found) - len(lost)} ended in the same"
    end = f"report to the byte, with no unfinished file left; {len(lost)} did not. {when}"
    return f"# Kills\n\n{asked}\n{then}\n{end}\n" + "".join(
        f"\n- before touch {kill.at}: {kill.fault}" for kill in lost
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the page here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = kills(arguments.kills, arguments.seed, Path(home))
    for kill in found:
        if kill.fault:
            print(f"killed before touch {kill.at} of {kill.of}: {kill.fault}")
    print(
        f"{len(found)} kills, {sum(bool(kill.fault) for kill in found)} faults, {found[0].of} touches in an undisturbed run"
    )
    if arguments.out:
        command = f"python -m tests.faults --kills {arguments.kills} --seed {arguments.seed}"
        arguments.out.write_text(page(found, command) + "\n", encoding="utf-8")
    return int(any(kill.fault for kill in found))


if __name__ == "__main__":
    sys.exit(main())
