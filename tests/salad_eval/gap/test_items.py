"""The items behind a report: what each said, heard and answered, and that they add up to the report's figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from salad_eval.gap.items import RunRecords, heard_items, margin
from salad_eval.types import CLEAN, Item
from tests.helpers.gap_world import ITEMS, SCORES, item, report
from tests.helpers.page_world import page_world

FOUR = replace(item("x", "A"), choices=("a", "bb", "cccc", "d"), gold=1)


@pytest.mark.parametrize(
    ("logprobs", "kind", "also", "wanted"),
    [
        ((-3.0, -1.0, -2.0, -9.0), "ll", (), 1.0),
        ((-1.0, -3.0, -2.0, -9.0), "ll", (), -2.0),
        ((-1.0, -3.0, -2.0, -9.0), "ll", (0,), 1.0),  # another right option
        ((-3.0, -1.0, -2.0, -9.0), "ll_norm", (), 0.0),  # -1/2 and -2/4
        ((-3.0, -1.0, -2.0, -9.0), "generate", (), None),
        (None, "ll", (), None),
        ((-3.0, -1.0), "ll", (), None),
    ],
)
def test_margin(logprobs: tuple[float, ...] | None, kind: str, also: tuple[int, ...], wanted: float | None) -> None:
    found = margin(replace(FOUR, also_gold=also), logprobs, kind)  # type: ignore[arg-type]
    assert found == (pytest.approx(wanted) if wanted is not None else None)


def test_an_item_without_a_wrong_or_a_right_option_has_no_margin() -> None:
    assert margin(replace(FOUR, also_gold=(0, 2, 3)), (-1.0, -2.0, -3.0, -4.0), "ll") is None
    assert margin(replace(FOUR, gold=None), (-1.0, -2.0, -3.0, -4.0), "ll") is None


def test_rows_add_up_to_the_report(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    rows = heard_items(made.records, made.report)
    for condition in made.report.by_condition:
        for domain in condition.domains:
            here = [row for row in rows if row.item.domain == domain.name and row.condition == condition.condition]
            assert len({row.item.id for row in here}) == domain.n_items
            for column, estimate in domain.accuracy.items():
                assert sum(row.answers[column].value for row in here) / len(here) == pytest.approx(estimate.value)
            for cause, share in domain.taxonomy.items():
                assert sum(row.cause == cause for row in here) / len(here) == pytest.approx(share)
            assert sum(row.word_errors for row in here) / sum(row.n_words for row in here) == pytest.approx(domain.wer)


def test_a_row_holds_what_was_said_heard_and_chosen(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    rows = heard_items(made.records, made.report)
    (row,) = [one for one in rows if (one.item.id, one.voice, one.condition) == ("stars-0", "bob", "telephone")]
    (part,) = row.parts
    assert (part.said, part.heard) == ("Which stars go with item 0?", "Which stars go with eye tom 0?")
    assert part.sha256 in made.store
    assert row.wer == pytest.approx(2 / 7)
    for answer in row.answers.values():
        assert (
            (answer.chosen == row.item.gold)
            == (answer.value == 1.0)
            == (answer.margin is not None and answer.margin > 0)
        )
    assert row.misalignment is not None


def test_scores_alone_are_enough() -> None:
    rows = heard_items(RunRecords(ITEMS, SCORES), report(ITEMS, SCORES))
    assert len(rows) == 8
    assert {row.condition for row in rows} == {CLEAN}
    assert all(row.parts == () and row.wer is None and row.misalignment is None for row in rows)


def test_what_the_report_left_out_is_no_row() -> None:
    lost = [score for score in SCORES if (score.item_id, score.column) != ("b1", "adapted_text")]
    rows = heard_items(RunRecords(ITEMS, lost), report(ITEMS, lost))
    assert {row.item.id for row in rows} == {"a1", "a2", "b2"}
    assert isinstance(rows[0].item, Item)
