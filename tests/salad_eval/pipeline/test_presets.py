"""The presets: plans that name what exists, and reported figures that stand beside ours and are never ours."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import salad_eval
from salad_eval import plugins
from salad_eval.benchmarks.catalogue import find_tasks
from salad_eval.errors import DataError, UnknownNameError
from salad_eval.pipeline.plan import Plan
from salad_eval.report.published import GAP, MEAN, Reported, _check, reported_beside, reported_sources
from salad_eval.types import COLUMNS, GapReport
from tests.helpers import gap_world
from tests.helpers.places import SHARED

PRESETS_DIR = Path(salad_eval.__file__).parent / "presets"
PRESETS = sorted(path.stem for path in (PRESETS_DIR).glob("*.yaml"))
PAPER = [name for name in PRESETS if name not in ("nano", "smollm2")]  # these two are on our own questions
PAPER_MD = SHARED / "PAPER.md"
BENCHMARKS = ("StoryCloze", "MMSU", "OBQA", "HellaSwag", "ARC-C", "PIQA")


def test_the_presets_are_these():
    assert set(PRESETS) >= {
        "nano", "qwen2.5-omni-vs-cascade", "qwen2-audio", "salad-3b-paper", "salad-3b-uniform-paper", "salad-7b-paper", "whisper-cascade",
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="salad-3b-paper"):
        Plan.preset("salad-3b-papr")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_plan_of_its_own_name(name: str):
    plan = Plan.preset(name)
    assert plan.name == name
    assert set(plan.tasks) <= set(find_tasks())


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_asks_each_benchmark_of_the_comparison_once(name: str):
    (source,) = reported_sources()
    asked = {task: [b for b, tasks in source.benchmarks.items() if task in tasks] for task in Plan.preset(name).tasks}
    assert sorted(b for found in asked.values() for b in found) == sorted(BENCHMARKS)
    assert all(len(found) == 1 for found in asked.values())


def chosen(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    plan = Plan.preset(name)
    found = [
        ("salad.asr", plan.asr.name, plan.asr.options),
        ("salad.systems", plan.base.system, plan.base.options),
        ("salad.systems", plan.adapted.system, plan.adapted.options),
    ]
    if plan.tts is not None:
        found.append(("salad.tts", plan.tts.name, plan.tts.options))
    if plan.adapted.system == "cascade":
        asr, text = (plan.adapted.options[key] for key in ("asr", "text"))
        found += [("salad.asr", asr["name"], asr["options"]), ("salad.systems", text["name"], text["options"])]  # type: ignore[index,call-overload]
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_plug_ins_and_options_that_exist(name: str):
    for group, plugin, options in chosen(name):
        if plugin not in {point.name for point in entry_points(group=group)}:
            pytest.skip(f"{group} {plugin} is not installed here: reinstall the package")
        known = inspect.signature(plugins.load(group, plugin).__init__).parameters  # type: ignore[arg-type,misc]
        takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
        assert takes_any or set(options) <= set(known), f"{plugin}: {sorted(set(options) - set(known))}"


# --- reported figures ------------------------------------------------------------------------------------------------


def table_of_the_paper() -> dict[str, list[str]]:
    """The result table of PAPER.md: first cell to the others."""
    rows = [line for line in PAPER_MD.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    head = next(number for number, row in enumerate(cells) if row[:2] == ["system", "StoryCloze"])
    return {row[0]: row[1:] for row in cells[head + 2 :]}


def in_words(figures: dict[str, float], keys: tuple[str, ...]) -> list[float | None]:
    return [figures.get(key) for key in keys]


@pytest.mark.skipif(not PAPER_MD.is_file(), reason="PAPER.md is not beside the checkout")
def test_the_reported_figures_are_those_of_the_paper_s_table():
    (source,) = reported_sources()
    keys = (*BENCHMARKS, MEAN, GAP)
    seen = set()
    for name, cells in table_of_the_paper().items():
        if name == "Qwen2.5-3B / 7B text":
            pairs = [cell.split(" / ") for cell in cells[:-1]]
            for place, system in enumerate(("Qwen2.5-3B text", "Qwen2.5-7B text")):
                assert in_words(source.systems[system], keys) == [
                    *(float(pair[place]) for pair in pairs),
                    float(cells[-1]),
                ]
                seen.add(system)
        elif "→" in name:
            for place, system in enumerate(("SALAD-3B uniform", "SALAD-3B")):
                found = {b: float(c.split(" → ")[place]) for b, c in zip(keys, cells, strict=True) if c}
                assert {b: source.systems[system][b] for b in found} == found
                seen.add(system)
        else:
            assert in_words(source.systems[name], keys) == [float(cell) for cell in cells]
            seen.add(name)
    assert seen == set(source.systems)


def test_the_figures_carry_their_source():
    (source,) = reported_sources()
    assert "2510.13632" in source.source
    assert "digest" in source.taken_from
    assert tuple(source.benchmarks) == BENCHMARKS
    assert set(source.presets) == set(PAPER)
    assert all(set(columns) <= set(COLUMNS) for columns in source.presets.values())


def test_a_table_that_contradicts_itself_is_refused():
    (source,) = reported_sources()
    for change, message in (
        ({"systems": {**source.systems, "X": {"MMLU": 1.0}}}, "'MMLU'"),
        ({"presets": {"p": {"base_text": "nobody"}}}, "'nobody'"),
    ):
        with pytest.raises(DataError, match=message):
            _check(Reported.model_validate({**source.model_dump(), **change}), Path("made.yaml"))


def report_of(*tasks: str) -> GapReport:
    """The small world of the gap tests as a report that asked ``tasks``, each item of it in turn."""
    items = [replace(item, task=tasks[n % len(tasks)]) for n, item in enumerate(gap_world.ITEMS)]
    protocols = [replace(gap_world.PROTOCOL, task=task) for task in tasks]
    fields = ("task",) if len(tasks) > 1 else ("voice",)
    return gap_world.report(items, gap_world.SCORES, protocols=protocols, slice_fields=fields, n_resamples=100)


def test_ours_and_theirs_stand_side_by_side():
    report = report_of("salad_piqa", "openbookqa_voicebench")
    table = reported_beside(report, "salad-3b-paper")
    assert table is not None
    rows = {row.benchmark: row for row in table.rows}
    assert list(rows) == [*BENCHMARKS, MEAN]
    ours = {part.row.name: part.row for part in report.slices}
    assert rows["PIQA"].task == "salad_piqa"
    assert rows["PIQA"].columns["base_text"].ours == ours["salad_piqa"].accuracy["base_text"]
    assert rows["PIQA"].columns["base_text"].reported == pytest.approx(0.786)
    assert rows["PIQA"].gap.ours == ours["salad_piqa"].gap
    assert rows["PIQA"].gap.reported == pytest.approx(0.005)
    assert rows["OBQA"].task == "openbookqa_voicebench"
    assert rows["MMSU"].task is None
    assert rows["MMSU"].columns["adapted_speech"].ours is None
    assert rows["MMSU"].columns["adapted_speech"].reported == pytest.approx(0.525)
    assert rows[MEAN].columns["adapted_speech"].ours is None  # four benchmarks were not asked
    assert rows[MEAN].columns["adapted_speech"].reported == pytest.approx(0.72)
    assert rows[MEAN].gap.reported == pytest.approx(0.044)


def test_one_task_s_report_is_its_overall_row():
    report = report_of("salad_piqa")
    table = reported_beside(report, "qwen2-audio")
    assert table is not None
    piqa = next(row for row in table.rows if row.benchmark == "PIQA")
    assert piqa.columns["adapted_speech"].ours == report.overall.accuracy["adapted_speech"]
    assert piqa.gap.reported is None  # of its text LLM nothing is reported


def test_the_terminal_says_which_figures_are_not_ours():
    table = reported_beside(report_of("salad_piqa"), "qwen2.5-omni-vs-cascade")
    assert table is not None
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert "reported" in text
    assert "Reported, not ours" in text
    assert "digests of the paper" in text
    assert "Qwen2.5-Omni-7B" in text


def test_nothing_is_reported_for_another_plan():
    assert reported_beside(report_of("salad_piqa"), "nano") is None


def test_the_file_holds_percent_as_it_was_printed():
    path = PRESETS_DIR / "reported" / "cuervo2025.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert raw["systems"]["SALAD-7B"]["StoryCloze"] == 81.5
