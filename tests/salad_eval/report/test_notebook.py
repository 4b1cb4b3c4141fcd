"""A report in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

import salad_eval
from salad_eval.errors import DataError
from salad_eval.report import load_report, save_report
from tests.helpers.gap_world import ITEMS, SCORES, report
from tests.salad_eval.report.test_report import hostile_report


def test_it_prints_as_one_line() -> None:
    line = repr(report(ITEMS, SCORES))
    assert line.startswith("<GapReport text LLM → speech LLM: no clear gap (reads 75.0, hears 50.0")
    assert line.endswith("4 items in 2 domains of toy, test>")
    assert len(line) < 200
    assert "\n" not in repr(hostile_report())


def test_its_table_is_html_in_which_no_name_runs() -> None:
    page = hostile_report()._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<td>A</td><td>2</td>" in report(ITEMS, SCORES)._repr_html_()


def test_it_is_a_frame_with_a_row_a_domain() -> None:
    made = report(ITEMS, SCORES)
    frame = made.to_pandas()
    assert list(frame.index) == ["A", "B", "overall"]
    assert frame.loc["overall", "gap"] == made.overall.gap.value
    assert frame.loc["A", "adapted_speech.low"] == made.domains[0].accuracy["adapted_speech"].low
    assert frame.filter(like="cause.").sum(axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_a_report_knows_its_folder_and_says_where_it_has_no_items(tmp_path: Path) -> None:
    made = report(ITEMS, SCORES)
    with pytest.raises(DataError, match="of no run folder"):
        _ = made.items
    save_report(made, tmp_path / "gap_report.json")
    read = load_report(tmp_path)
    assert read == made, "the folder is no part of what was found"
    assert read.folder == str(tmp_path)
    with pytest.raises(DataError, match="expected the folder of a finished run"):
        _ = read.items


def test_dir_shows_what_the_pages_name() -> None:
    assert {name for name in dir(salad_eval) if not name.startswith("_")} == {"evaluate", "load_report"}
