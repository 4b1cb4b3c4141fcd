"""What the columns cost, in every view."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from salad_eval import load_report
from salad_eval.errors import DataError
from salad_eval.report.costs import cost_table
from salad_eval.report.json import save_report
from salad_eval.report.markdown import markdown_page
from salad_eval.report.page import html_page
from salad_eval.report.terminal import terminal_table
from salad_eval.sharing.model_card import results_table
from salad_eval.types import ColumnCost, Costs, GapReport, Tokens
from tests.helpers.gap_world import ITEMS, SCORES, report

COSTS = Costs(
    (
        ColumnCost("base_text", 1200, 0.25, 0.0, Tokens(48_000, 0), 0.0144),
        ColumnCost("adapted_speech", 2400, None, 7200.0, None, 12.5),
    ),
    "EUR",
)


@pytest.fixture
def priced() -> GapReport:
    return replace(report(ITEMS, SCORES), costs=COSTS)


def test_a_cell_for_each_cost_and_a_dash_where_it_is_not_known(priced: GapReport) -> None:
    table = cost_table(priced)
    assert table is not None
    assert table.heads[-2:] == ("EUR", "EUR a 1,000")
    assert table.titled() == [
        ("Reads", ("1,200", "0.250", "–", "48,000", "0", "0.014", "0.012")),
        ("Hears", ("2,400", "–", "2 h 00 min", "–", "–", "12.50", "5.21")),
    ]


def test_money_has_no_column_without_prices(priced: GapReport) -> None:
    table = cost_table(replace(priced, costs=replace(COSTS, currency="")))
    assert table is not None
    assert table.heads == ("Questions", "Seconds a question", "Sound heard", "Tokens read", "Tokens written")
    assert {len(cells) for _, cells in table.rows} == {5}


def test_every_view_shows_them(priced: GapReport) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(terminal_table(priced), crop=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown[: shown.index(priced.signature[:20])].splitlines())) <= 80
    for text in (shown, html_page(priced), markdown_page(priced, ()), results_table(priced)):
        for cell in ("48,000", "0.250", "2 h 00 min", "12.50"):
            assert cell in text


def test_they_lie_in_a_file_of_their_own_beside_the_report(priced: GapReport, tmp_path: Path) -> None:
    save_report(priced, tmp_path / "gap_report.json")
    assert load_report(tmp_path).costs == load_report(tmp_path / "gap_report.json").costs == COSTS
    assert "costs" not in json.loads((tmp_path / "gap_report.json").read_text())


def test_a_report_of_before_they_were_noted_has_none(tmp_path: Path) -> None:
    old = report(ITEMS, SCORES)
    save_report(old, tmp_path / "gap_report.json")
    assert not (tmp_path / "costs.json").exists()
    found = load_report(tmp_path)
    assert found.costs is None
    assert 'id="costs"' not in html_page(found)
    assert "## Cost" not in markdown_page(found, ())


def test_a_damaged_file_of_costs_is_named(priced: GapReport, tmp_path: Path) -> None:
    save_report(priced, tmp_path / "gap_report.json")
    (tmp_path / "costs.json").write_text('{"columns": [{"column": "ears"}]}')
    with pytest.raises(DataError, match=r"costs.json.*columns"):
        load_report(tmp_path)


def test_a_currency_is_text_and_no_markup(priced: GapReport) -> None:
    page = html_page(replace(priced, costs=replace(COSTS, currency="<script>alert(1)</script>")))
    assert "<script>alert(1)" not in page
