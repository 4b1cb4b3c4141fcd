"""What is said where there is no terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from salad_eval import progress
from salad_eval.progress import _log, _status, duration, steps, track


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_silent", False)
    monkeypatch.setattr(progress, "_line", progress._Line(()))


@pytest.mark.parametrize(
    ("n", "total", "seconds", "line"),
    [
        (3, 8, 30, "respond: 3 of 8, 0.1 a second, about 50 s left"),
        (6_000, None, 30, "respond: 6,000, 200 a second"),
        (0, 100, 30, "respond: 0 of 100 after 30 s"),
        (0, None, 90, "respond: 0 after 1 min 30 s"),
    ],
)
def test_what_a_line_says(n: int, total: int | None, seconds: float, line: str) -> None:
    assert _status("respond", n, total, seconds) == line


def test_a_log_has_a_line_at_either_end_and_more_while_an_item_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    told = threading.Condition()

    def tell(line: str) -> None:
        with told:
            lines.append(line)
            told.notify_all()

    def slow() -> Iterator[int]:
        for item in range(3):
            with told:
                assert told.wait_for(lambda n=len(lines): len(lines) > n, timeout=60)
            yield item

    monkeypatch.setattr(progress, "tell", tell)
    assert list(_log(slow(), "step 2 of 3, respond", 3, every=0.01)) == [0, 1, 2]
    assert lines[0] == "step 2 of 3, respond: 3 to do"
    assert lines[1].startswith("step 2 of 3, respond: 0 of 3 after ")
    assert lines[-1].startswith("step 2 of 3, respond: 3 done in ")
    assert all(line.startswith("step 2 of 3, respond: ") and " of 3" in line for line in lines[1:-1])


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


def test_the_times_of_the_end_add_up_to_the_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds)
    with steps(["render", "score"]):
        for _ in track(range(3), "render"):
            seconds += 2
        seconds += 7
    assert capsys.readouterr().err.splitlines()[-1] == "· all done in 13 s: render 6.0 s, between and after them 7.0 s"


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
