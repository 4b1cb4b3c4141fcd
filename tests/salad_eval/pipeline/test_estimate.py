"""What a run would take, against what it took: counts to the item, and the way from small runs to a whole one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from salad_eval import load_report
from salad_eval.pipeline.estimate import REPORT, Estimated, _Mean, _Runs, _seconds, _Timed, counted, estimate
from salad_eval.pipeline.executor import WORKER_START_SECONDS
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run, steps_of
from salad_eval.report.estimate import estimate_terminal
from tests.helpers.places import CHECKOUT


def printed(told: Estimated) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(estimate_terminal(told))
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_counts_are_those_of_the_run(fake_plan: dict[str, Any], tmp_path: Path) -> None:
    plan = Plan.from_mapping({**fake_plan, "conditions": ["clean", "telephone"]})
    told = estimate(plan)
    assert not plan.folder.exists(), "nothing is left behind"
    assert not Path(fake_plan["audio_store"]).exists()
    report = run(plan)
    made = read_run(plan.folder)
    assert told.n_items == report.overall.n_items
    assert told.n_recordings == len(made.renderings())
    assert [step.name for step in told.steps] == [*steps_of(plan), REPORT]
    assert all(step.seconds is not None for step in told.steps)
    for step in told.steps[:-1]:
        file = plan.folder / f"{step.name}.jsonl"
        # Divergences are taken of items with options alone; an estimate may be above that.
        assert step.units == len(file.read_text().splitlines()) or step.name == "divergence", step.name
        assert step.calls == 0
    sound = sum(one.seconds for one in made.renderings())
    assert told.seconds_of_sound == pytest.approx(sound, rel=0.3)
    assert told.disk_bytes == pytest.approx(sum(2 * one.n_samples for one in made.renderings()), rel=0.3)
    assert "calls to served models" in printed(told)


def test_a_served_model_is_counted_and_not_asked(fake_plan: dict[str, Any]) -> None:
    served = {"system": "openai-audio", "options": {"model": "m", "base_url": "http://localhost:9/v1"}}
    told = estimate(Plan.from_mapping({**fake_plan, "adapted": served, "tasks": fake_plan["tasks"][:1]}))
    assert isinstance(told, Estimated)
    assert told.measured_on == 0
    assert told.seconds is None
    by_name = {step.name: step for step in told.steps}
    assert by_name["respond.base_text"].calls == 0
    assert by_name["respond.adapted_speech"].calls == 3 * by_name["respond.adapted_speech"].units  # one an option
    assert "Not timed" in printed(told)


def test_a_report_is_counted_by_its_rows(fake_plan: dict[str, Any]) -> None:
    plan = Plan.from_mapping({**fake_plan, "conditions": ["clean", "telephone"]})
    report = run(plan)
    by_condition = sum(1 + len(one.domains) + len(one.tasks) for one in report.by_condition)
    rows = 1 + len(report.domains) + len(report.slices) + by_condition + len(report.grid)
    assert {step.name: step.units for step in counted(plan).steps}[REPORT] == rows


def test_what_was_seen_of_short_questions_is_more_of_longer_ones() -> None:
    seen = _Mean(30.0, letters=80.0)
    assert seen.at(80.0, 0.25) == 30.0
    assert seen.at(100.0, 0.25) == 35.0


@pytest.mark.parametrize(
    ("first", "few", "more", "units", "seconds"),
    [
        ((1, 3.5), (4, 5.0), (12, 9.0), 100, 53.0),  # 3 s to begin, half a second each
        ((1, 9.5), (4, 5.0), (12, 9.0), 100, 59.0),  # what the first run opened is opened by the run too
        ((1, 5.0), (4, 5.0), (12, 4.0), 100, 5.0),  # nothing a unit: it is all beginning
        ((4, 2.0), (4, 2.0), (4, 2.0), 8, 4.0),
        ((1, 0.0), (4, 0.0), (12, 0.0), 1000, 0.0),
    ],
)
def test_times_lie_on_a_line_through_small_runs(
    first: tuple[int, float], few: tuple[int, float], more: tuple[int, float], units: int, seconds: float
) -> None:
    runs = _Runs(_Timed(*first), _Timed(*few), _Timed(*more))
    assert _seconds(units, runs) == pytest.approx(seconds)
    assert _seconds(units, None) is None


def test_rendering_is_shared_by_workers_as_the_executor_does() -> None:
    runs = _Runs(
        _Timed(1, 1.01), _Timed(4, 0.04), _Timed(12, 0.12)
    )  # 10 ms each, and 1 s to begin, here and in each worker
    assert _seconds(1000, runs, workers=4) == pytest.approx(1.0 + WORKER_START_SECONDS + 1.0 + 10 / 4)
    assert _seconds(20, runs, workers=4) == pytest.approx(1.2)


def test_the_embedded_benchmark_is_counted_as_its_run_counts_it() -> None:
    """Against the report of a run of it that is kept in the repository."""
    reference = load_report(CHECKOUT / "reports" / "nano")
    plan = Plan.preset("nano", {"voices": ["en-us+f3", "en-us+m7"]})
    told = counted(plan)
    n = reference.overall.n_items
    assert (told.n_items, told.n_rejects) == (n, sum(count.n for count in reference.rejects))
    assert told.n_recordings == 2 * n
    units = {step.name: step.units for step in told.steps}
    assert units["respond.base_text"] == units["control.adapted_swapped"] == n
    assert units["transcribe"] == units["respond.adapted_speech"] == units["divergence"] == 2 * n
    assert units["score"] == 6 * n
