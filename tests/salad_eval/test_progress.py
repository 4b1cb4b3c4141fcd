"""What is said where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salad_eval import progress
from salad_eval.progress import _log, duration, steps, track


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_silent", False)
    monkeypatch.setattr(progress, "_line", progress._Line(()))


def clock(step: float) -> Iterator[float]:
    seconds = 0.0
    while True:
        yield seconds
        seconds += step


def test_a_log_has_a_line_at_either_end_and_one_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    ticks = clock(10.0)
    assert list(_log(range(8), "step 2 of 3, respond", 8, now=lambda: next(ticks))) == list(range(8))
    assert capsys.readouterr().err.splitlines() == [
        "· step 2 of 3, respond: 8 to do",
        "· step 2 of 3, respond: 3 of 8, 0.1 a second, about 50 s left",
        "· step 2 of 3, respond: 6 of 8, 0.1 a second, about 20 s left",
        "· step 2 of 3, respond: 8 done in 1 min 30 s",
    ]


def test_short_work_that_is_no_step_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "sound")) == [1, 2]
    assert list(track([], "step")) == []
    assert capsys.readouterr().err == ""


def test_steps_are_announced_counted_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    with steps(["render", "score"]):
        list(track(range(3), "render"))
        list(track([], "score"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "· 2 steps: render, score"
    assert lines[1] == "· step 1 of 2, render: 3 to do"
    assert lines[2].startswith("· step 1 of 2, render: 3 done in ")
    assert lines[3].startswith("· all done in ")
    assert len(lines) == 4


def test_workers_say_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_silent", True)
    with steps(["render"]):
        list(track(range(3), "render"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7805, "2 h 10 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
