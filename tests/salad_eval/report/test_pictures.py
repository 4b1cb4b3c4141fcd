"""The card, matplotlib's figures inside a page, and the comparison's page."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from salad_eval.gap.compare import ColumnChange, Comparison, ComparisonRow, Flip
from salad_eval.report.card import card_png
from salad_eval.report.comparison import write_comparison
from salad_eval.report.figures import render_figures
from salad_eval.report.inline import inline_svg
from salad_eval.types import COLUMNS, Estimate, GapReport, RunNames
from tests.salad_eval.gap.test_conditions import TWO
from tests.salad_eval.report.test_page import Page
from tests.salad_eval.report.test_report import HOSTILE, full_report, hostile_report, unsplit_report

LONG = "a model whose name goes on for ever and ever and does not end before the card does"


@pytest.mark.parametrize(
    "report",
    [full_report(), unsplit_report(), hostile_report(), TWO, replace(TWO, names=RunNames(base=LONG, adapted=LONG))],
    ids=["full", "unsplit", "hostile", "conditions", "long names"],
)
def test_a_card_is_a_picture_of_the_size_that_pages_show(report: GapReport) -> None:
    png = card_png(report)
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (1200, 630)


def test_the_same_report_gives_the_same_card() -> None:
    assert card_png(full_report()) == card_png(full_report())


def test_a_figure_in_a_page_has_text_as_text_and_no_style() -> None:
    figure = render_figures(full_report())[0]
    svg = str(inline_svg(figure.svg, "one", figure.alt))
    assert "style=" not in svg
    assert "<style" not in svg
    assert "metadata" not in svg
    assert "#222222" not in svg
    assert 'fill="currentColor"' in svg
    assert "accuracy by reading" in svg.lower()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert ids
    assert all(str(id_).startswith("one-") for id_ in ids)
    used = {*re.findall(r"url\(#([^)]+)\)", svg), *re.findall(r'href="#([^"]+)"', svg)}
    assert used <= set(ids)
    assert used


def test_names_in_a_figure_stay_text() -> None:
    svg = str(inline_svg(render_figures(hostile_report())[0].svg, "x", HOSTILE))
    assert "<script" not in svg


def comparison(name: str) -> Comparison:
    change = ColumnChange(0.5, 0.75, Estimate(0.25, 0.1, 0.4, 8), 0.01)
    row = ComparisonRow(name, 8, 8, dict.fromkeys(COLUMNS, change), change, 0.02)
    overall, flips = replace(row, name="overall", q_value=None), (Flip(name, name, name, won=True),)
    return Comparison(
        name, name, name, name, 0, 100, 8, 0, 0, 0, 0, overall, (row,), (name,), ((name, name),), flips
    )  # fmt: skip


def test_the_comparison_is_closed_to_the_outside_too(tmp_path: Path) -> None:
    files = write_comparison(comparison(HOSTILE), tmp_path, title=HOSTILE, story=[HOSTILE])
    page = Page(files.html.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert not page.handlers
    assert not page.styles
    assert "unsafe" not in page.policy
    assert "50.0 → 75.0" in page.text
    assert "+25.0 [10.0, 40.0]" in page.text
    assert sum("<script>alert('1')</script>" in text for text in page.texts) >= 5
