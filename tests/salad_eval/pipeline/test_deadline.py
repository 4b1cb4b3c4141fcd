"""Plug-ins that do not come back are given up, and nobody else's alarm is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from salad_eval.errors import SaladError
from salad_eval.pipeline import deadline
from salad_eval.pipeline.executor import InProcess, Work, WorkerProcesses
from salad_eval.pipeline.items import read_benchmark
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.session import Session
from salad_eval.pipeline.tools import Tools


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


def stall(tools: Tools, setup: Nothing, chunk: Sequence[Nothing]) -> list[Nothing]:
    try:
        time.sleep(600)
    except Exception:  # as plug-ins may do
        return list(chunk)
    return list(chunk)


def prompt(tools: Tools, setup: Nothing, chunk: Sequence[Nothing]) -> list[Nothing]:
    return list(chunk)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "START_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("crew", [InProcess(timeout=0.01), WorkerProcesses(1, timeout=0.01)])
def test_what_hangs_here_is_given_up_by_name(crew: Any) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(
        SaladError, match=r"the ASR plug-in 'x' has not answered within 0\.02 s on 2 units .* --set timeout="
    ) as caught:
        list(crew.map(Work(stall, Nothing(), "the ASR plug-in 'x'"), [[Nothing(), Nothing()]]))
    assert caught.value.exit_code == 1
    assert signal.getsignal(signal.SIGALRM) == before
    assert list(crew.map(Work(prompt, Nothing()), [[Nothing()]])) == [[Nothing()]]
    with pytest.raises(SaladError, match=r"within 0\.06 s on 2 units"):
        list(crew.map(Work(stall, Nothing(), parts=3), [[Nothing(), Nothing()]]))


@pytest.mark.usefixtures("at_once")
def test_what_hangs_over_there_is_given_up() -> None:
    with pytest.raises(SaladError, match="worker process ended with signal 9"):
        list(WorkerProcesses(1, timeout=0.01, apart=True).map(Work(stall, Nothing()), [[Nothing()]]))


@pytest.mark.usefixtures("at_once")
def test_the_alarm_of_others_goes_on() -> None:
    rung = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: rung.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with deadline.deadline("it", 60.0, 1):
            pass
        assert rung.wait(30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_process_that_hears_no_signal_is_ended_with_a_sentence() -> None:
    script = """
        import signal, threading
        from salad_eval.pipeline import deadline
        deadline.START_SECONDS, deadline.GRACE_SECONDS = 0.0, 0.1
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        with deadline.deadline("the system plug-in 'x'", 0.1, 1):
            threading.Event().wait()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("salad: the system plug-in 'x' has not answered within 0.1 s on 1 units of work")
    assert "Traceback" not in ended.stderr


def test_a_plan_says_how_long_and_where(fake_plan: dict[str, Any]) -> None:
    for table, seconds in (({}, 60.0), ({"timeout": 5}, 5.0)):
        plan = Plan.from_mapping({**fake_plan, **table})
        session = Session(plan, read_benchmark(plan))
        assert (session.models.timeout, session.voices.timeout) == (seconds, seconds)  # type: ignore[attr-defined]
        assert session.voices.apart is False  # type: ignore[attr-defined]
