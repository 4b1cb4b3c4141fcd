"""A report as the hub's ``.eval_results`` files, read back by the hub's own library."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from salad_eval.errors import UserInputError
from salad_eval.sharing.eval_results import OnHub, entries, on_hub, write_eval_results
from salad_eval.types import SliceRow
from tests.salad_eval.sharing.test_sharing import gap_report, row


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ("salad_arc_easy", OnHub("allenai/ai2_arc", "ARC-Easy")),
        ("salad_piqa", OnHub("baber/piqa", "default")),
        ("salad_nano", None),  # rows of the package
        ("somebodys_task", None),
    ],
)
def test_where_the_rows_of_a_task_lie(task: str, place: OnHub | None) -> None:
    assert on_hub(task) == place


def test_the_files_are_what_the_hubs_library_reads(tmp_path: Path) -> None:
    from huggingface_hub import parse_eval_result_entries

    found = gap_report(row("overall", 0.7), "salad_arc_easy")
    (path,) = write_eval_results(found, tmp_path / ".eval_results", "https://example.org/run")
    assert path == tmp_path / ".eval_results" / "salad_arc_easy.yaml"
    read = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert read == entries(found, "https://example.org/run")["salad_arc_easy"]
    heard, seen = read
    assert (heard.dataset_id, heard.task_id, heard.source_url) == (
        "allenai/ai2_arc",
        "ARC-Easy",
        "https://example.org/run",
    )
    assert (heard.value, seen.value) == pytest.approx((0.7, 0.85))
    assert heard.notes.startswith(
        "questions heard, spoken; split test, 5 shots, score ll; n = 50; 95% interval 0.6000 to 0.8000;"
    )
    assert seen.notes.startswith("questions read; ")
    assert heard.dataset_revision is None, "rev1 is no commit"


def test_of_several_tasks_each_has_a_file_and_one_that_is_not_on_the_hub_has_none(tmp_path: Path) -> None:
    slices = (SliceRow("task", row("salad_piqa", 0.6)), SliceRow("task", row("salad_nano", 0.8)))
    found = gap_report(row("overall", 0.7), "salad_piqa", "salad_nano", slices=slices)
    (path,) = write_eval_results(found, tmp_path)
    assert [one["value"] for one in yaml.safe_load(path.read_text(encoding="utf-8"))] == pytest.approx([0.6, 0.85])


def test_nothing_to_write_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="of salad_nano no rows are a data set of the hub"):
        write_eval_results(gap_report(row("overall", 0.7), "salad_nano"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_was_not_measured_is_not_there() -> None:
    found = gap_report(row("overall", 0.7, adapted_text=False), "salad_piqa")
    assert [one.value for one in entries(found)["salad_piqa"]] == pytest.approx([0.7])
