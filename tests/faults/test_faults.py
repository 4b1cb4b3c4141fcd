"""Twenty-five kills at places spread over a run; ``make faults`` does two hundred. The harness sees a run that ends otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import Kill, page, places
from tests.faults.victim import left_over
from tests.helpers.places import CHECKOUT

pytestmark = pytest.mark.skipif(not hasattr(sys, "addaudithook") or sys.platform == "win32", reason="needs fork")


def test_a_run_killed_anywhere_ends_in_the_same_report() -> None:
    """In a process of its own, which has no threads when it forks."""
    command = [sys.executable, "-m", "tests.faults", "--kills", "25", "--seed", "1"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "25 kills, 0 faults" in done.stdout


def test_places_are_spread_over_the_whole_run() -> None:
    found = places(20, 400, seed=0)
    assert [(at[0] - 1) // 20 for at in found] == list(range(20))
    assert sum(len(at) == 2 for at in found) == 5
    assert max(at[0] for at in found) > 370


def test_unfinished_files_are_seen(tmp_path: Path) -> None:
    (tmp_path / "render.jsonl.partial").touch()
    (tmp_path / "score.jsonl").touch()
    assert left_over(tmp_path) == ["render.jsonl.partial"]


def test_the_page_says_what_was_lost() -> None:
    text = page([Kill("run", (3,), 10, ""), Kill("run", (5, 2), 10, "another gap_report.json")], "c")
    assert "| 10 | 2 | 1 | 1 |" in text
    assert "- run, before touch (5, 2): another gap_report.json" in text
