"""A small run in a process of its own that is killed at its n-th touch of the disk.

A touch is anything that can leave a half-made state behind: opening a file to write, a write of our own log, a rename, a removal, a new
folder. Python tells of them by its audit events, so that the code under test knows nothing of it. The process is forked from one that has
imported everything, which makes a kill cost a second.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval import records, report
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.testing.installed import installed
from tests.conftest import TASK, rows, write_rows

TARGETS: Any = {
    "salad.tts": {"tones": "salad_eval.testing.voices:ToneTTS"},
    "salad.asr": {"tones": "salad_eval.testing.recognisers:ToneASR"},
    "salad.systems": {"hashed": "salad_eval.testing.systems:HashedSystem"},
}
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
KEPT = ("gap_report.json",)


@dataclass(frozen=True, slots=True)
class End:
    """How a victim ended: its exit status (negative: the signal), and how often it had touched the disk by then."""

    status: int
    touches: int


def written_task(folder: Path) -> str:
    """The path of a task of eight questions."""
    for split in ("test", "validation"):
        write_rows(folder / f"{split}.jsonl", rows(split))
    (folder / "tiny.yaml").write_text(TASK.format(folder=folder), encoding="utf-8")
    return str(folder / "tiny.yaml")


@contextmanager
def world(folder: Path) -> Iterator[Callable[[Path], None]]:
    """What runs eight items in two voices and two conditions in a folder; its plug-ins are installed for the time."""
    task = written_task(folder)
    (folder / "plugins").mkdir()
    with installed(folder / "plugins", TARGETS):
        plan = {
            "name": "tiny", "tasks": [task], "voices": ["low", "high"], "conditions": ["clean", "gain,db=-6"],
            "tts": {"name": "tones"}, "asr": {"name": "tones"}, "base": {"system": "hashed"},
            "adapted": {"system": "hashed", "options": {"name": "other"}}, "n_resamples": 200, "workers": 1,
            "created": "2025-01-01T00:00:00+00:00",
        }  # fmt: skip
        yield lambda out: run(Plan.from_mapping({**plan, "out": str(out), "audio_store": str(out.parent / "store")}))


def ended(act: Callable[[Path], None], out: Path, kill_at: int | None = None) -> End:
    """Do it in a folder and in a forked process, killed before touch ``kill_at`` (from 1), or to its end."""
    counted, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counted)
        _be_the_victim(act, out, says, kill_at)
    os.close(says)
    with os.fdopen(counted, "rb") as told:
        touches = len(told.read())
    _, status = os.waitpid(child, 0)
    return End(os.waitstatus_to_exitcode(status), touches)


def _be_the_victim(act: Callable[[Path], None], out: Path, says: int, kill_at: int | None) -> None:
    status, below = 1, out.parent
    try:
        n = 0

        def touched() -> None:
            nonlocal n
            n += 1
            if n == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(says, b".")

        write_all = records.write_all

        def half_first(file: int, data: bytes) -> None:  # a kill between two halves of a line leaves a torn one
            write_all(file, data[: len(data) // 2])
            touched()
            write_all(file, data[len(data) // 2 :])

        records.write_all = half_first
        # The views are made of the report's JSON, and take most of a small run's time.
        report.write_report = lambda found, folder, *_, **__: report.save_report(found, folder / report.REPORT_FILE)  # type: ignore[assignment]
        place = str(below)

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            if (event in CHANGES or (event == "open" and _writes(arguments))) and str(arguments[0]).startswith(place):
                touched()

        sys.addaudithook(heard)
        sys.stderr = open(below / "victim.log", "a", encoding="utf-8")  # noqa: SIM115
        act(out)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not str(arguments[0]).endswith("victim.log")


def left_over(folder: Path) -> list[str]:
    """Names of what a run under way writes and a finished run folder may not hold."""
    return sorted(path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".partial", ".sums")))
