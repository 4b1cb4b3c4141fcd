"""What a question costs, column by column."""

from __future__ import annotations

from salad_eval.gap.items import RunRecords
from salad_eval.report.costs import column_costs
from salad_eval.report.page import html_page
from salad_eval.types import CLEAN, Rendering, Response
from tests.helpers.gap_world import ITEMS, SCORES, report


def test_costs_are_counted_by_column() -> None:
    renderings = [Rendering("a1", "context", voice, CLEAN, "what", voice * 64, 16_000, 8_000) for voice in "ab"]
    responses = [
        Response("a1", "base_text", "text", None, None, text="three"),
        *(Response("a1", "adapted_speech", "speech", voice, CLEAN, text="no") for voice in "ab"),
    ]
    found = column_costs(RunRecords(ITEMS, SCORES, renderings, responses=responses), {"base_text": 0.25})
    assert [(one.column, one.n_questions, one.seconds, one.sound_seconds, one.letters) for one in found] == [
        ("base_text", 1, 0.25, 0.0, 5),
        ("adapted_speech", 2, None, 1.0, 4),
    ]
    page = html_page(report(ITEMS, SCORES), costs=found)
    assert 'id="costs"' in page
    assert "0.250" in page
    assert column_costs(RunRecords(ITEMS, SCORES), {}) == ()
