"""What of a benchmark is asked aloud: every row is an item or a counted reject, every item spoken or a counted reject."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from salad_eval.benchmarks.catalogue import load_tasks
from salad_eval.benchmarks.coverage import Coverage, coverage, coverage_command
from salad_eval.errors import TaskError
from tests.helpers import benchmark_rows as rows
from tests.helpers.benchmark_rows import REAL_ROWS, Row, write_mirror

CODE = "for (int i = 0; i < n; i++) {\n  total += a[i];\n  count = count + 1;\n}\nreturn total;\nWhat does it return?"
TABLE: list[Row] = [
    {**rows.ARC[0], "id": "fine"},
    {**rows.ARC[1], "id": "fine too"},
    {**rows.ARC[0], "id": "no such key", "answerKey": "E"},
    {**rows.ARC[0], "id": "fine"},
    {**rows.ARC[0], "id": "damaged", "question": "Why is the sky \x9d blue?"},
    {**rows.ARC[0], "id": "code", "question": CODE},
]


def small(folder: Path, table: list[Row] = TABLE) -> Coverage:
    write_mirror(folder, "allenai/ai2_arc", "ARC-Easy", {"test": table, "train": rows.ARC})
    (task,) = load_tasks(["salad_arc_easy"], data_dir=folder)
    return coverage(task, "test")


def test_every_row_is_spoken_or_counted_with_its_reason(tmp_path: Path) -> None:
    found = small(tmp_path)
    assert (found.task, found.split) == ("salad_arc_easy", "test")
    assert (found.n_rows, found.n_items, found.n_spoken, found.n_recorded) == (6, 4, 2, 0)
    assert found.share_spoken == pytest.approx(2 / 6)
    counted = {(reject.step, reject.reason): reject.n for reject in found.rejects}
    assert counted[("items", "template failed")] == 1
    assert counted[("items", "duplicate id")] == 1
    assert {step for step, _ in counted} == {"items", "render"}
    assert found.n_rows == found.n_spoken + sum(counted.values())
    assert sum(found.domains.values()) == found.n_spoken


def test_reasons_are_kinds_and_quote_no_text(tmp_path: Path) -> None:
    damaged = [
        {**rows.ARC[0], "id": f"{n}", "question": f"Why is it {mark} blue?"} for n, mark in enumerate("\x80\x81\x9d")
    ]
    found = small(tmp_path, [*TABLE[:2], *damaged])
    (reject,) = found.rejects
    assert (reject.step, reject.n) == ("render", 3)
    assert reject.reason.startswith("unspeakable: ")
    assert "\\x" not in reject.reason


def test_the_printed_form_shows_markup_as_it_is(tmp_path: Path) -> None:
    table = [{**row, "id": f"[bold]{row['id']}[/bold]"} for row in TABLE]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(small(tmp_path, table))
    text = console.export_text()
    assert "6 rows, 4 items" in text
    assert "2 spoken (33.3%)" in text
    assert "[bold]" in text


def test_the_command_prints_each_task_and_its_domains(tmp_path: Path) -> None:
    small(tmp_path)
    app = typer.Typer()
    app.command()(coverage_command)
    result = CliRunner().invoke(app, ["salad_arc_easy", "--data-dir", str(tmp_path), "--by-domain"])
    assert result.exit_code == 0, result.output
    assert "salad_arc_easy test: 6 rows" in result.output
    assert "1 space" in " ".join(result.output.split())


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    (task,) = load_tasks(["salad_piqa"], data_dir=tmp_path)
    with pytest.raises(TaskError, match="baber__piqa"):
        coverage(task, "test")


@pytest.mark.parametrize(
    "name", [name for name in REAL_ROWS if name != "salad_hellaswag"]
)  # as short as a test should be
def test_nearly_all_real_rows_are_spoken(name: str, tmp_path: Path) -> None:
    splits = {split: table[:: max(1, len(table) // 400)] for split, table in REAL_ROWS[name]().items()}
    (task,) = load_tasks([name])
    write_mirror(tmp_path, task.dataset_path, task.dataset_name, splits)
    (task,) = load_tasks([name], data_dir=tmp_path)
    assert coverage(task, "test").share_spoken >= 0.97
