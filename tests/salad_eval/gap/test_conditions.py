"""Several conditions and voices: rows by condition, the grid and its paired change, consistency; worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from salad_eval.gap.grid import clean_first
from salad_eval.gap.pair import FORGOTTEN, LOST_IN_ALIGNMENT, LOST_IN_RENDERING, SPEECH_ONLY, WRONG_IN_TEXT, pair
from salad_eval.gap.report import n_rows
from salad_eval.gap.row import main_causes
from salad_eval.types import CLEAN, COLUMNS, Score
from tests.helpers.gap_world import ITEMS, SCORES, VOICES, item, report, scores
from tests.helpers.page_world import page_world

LOUD = "noise,snr=0"


def in_noise(found: list[Score], values: dict[tuple[str, str], float]) -> list[Score]:
    """The spoken scores of ``found`` again, in noise, with ``values`` by item and voice for the speech LLM and no cascade right."""
    spoken = [score for score in found if score.voice is not None]
    return [
        replace(
            score,
            perturbation=LOUD,
            value=values[score.item_id, score.voice or ""] if score.column == "adapted_speech" else 0.0,
        )
        for score in spoken
    ]


NOISE = {(id_, voice): 0.0 for id_ in ("a1", "a2", "b1", "b2") for voice in VOICES} | {("b2", "ann"): 1.0}
TWO = report(ITEMS, [*SCORES, *in_noise(list(SCORES), NOISE)], n_resamples=500)


def test_clean_comes_first() -> None:
    assert clean_first([LOUD, "babble", CLEAN]) == (CLEAN, "babble", LOUD)
    assert TWO.conditions == (CLEAN, LOUD)
    assert TWO.voices == VOICES


def test_each_condition_has_its_own_rows() -> None:
    clean, loud = TWO.by_condition
    assert clean.overall.accuracy["adapted_speech"].value == 0.5
    assert loud.overall.accuracy["adapted_speech"].value == pytest.approx(1 / 8)
    assert loud.overall.accuracy["base_text"].value == clean.overall.accuracy["base_text"].value == 0.75
    assert [row.name for row in loud.domains] == ["A", "B"]
    assert [row.gap.value for row in loud.domains] == [1.0, 0.25]
    assert all(row.q_value is not None for row in loud.domains)
    # over both conditions: the mean of the two, item by item
    assert TWO.overall.accuracy["adapted_speech"].value == pytest.approx((0.5 + 1 / 8) / 2)


def test_rows_of_a_condition_are_those_of_a_report_of_it_alone() -> None:
    alone = report(ITEMS, SCORES, n_resamples=500)
    assert alone.by_condition == ()
    assert TWO.by_condition[0].overall.accuracy.keys() == alone.overall.accuracy.keys()
    for column in COLUMNS:
        assert TWO.by_condition[0].overall.accuracy[column].value == alone.overall.accuracy[column].value
    assert TWO.by_condition[0].overall.taxonomy == alone.overall.taxonomy


def test_the_grid_holds_each_voice_in_each_condition_and_what_the_condition_takes() -> None:
    cells = {(cell.voice, cell.condition): cell for cell in TWO.grid}
    assert set(cells) == {(voice, condition) for voice in VOICES for condition in (CLEAN, LOUD)}
    assert cells["ann", CLEAN].from_clean == {}
    assert cells["ann", CLEAN].row.accuracy["adapted_speech"].value == 0.5  # a1 and b2
    assert cells["ann", LOUD].row.accuracy["adapted_speech"].value == 0.25  # b2
    change = cells["ann", LOUD].from_clean["adapted_speech"]
    assert (change.value, change.n) == (-0.25, 4)
    assert change.low is not None
    assert change.low < -0.25
    assert cells["bob", LOUD].from_clean["base_transcript"].value == -0.75  # all three are lost


def test_one_voice_in_one_condition_is_no_grid() -> None:
    alone = [score for score in SCORES if score.voice in (None, "ann")]
    assert report(ITEMS, alone).grid == ()


def test_the_main_cause_of_each_rendering() -> None:
    paired, _ = pair(ITEMS, SCORES, COLUMNS)
    names = [paired.items[place].id for place in paired.item_of]
    found = dict(zip(zip(names, paired.voices, strict=True), main_causes(paired), strict=True))
    assert found["a1", "bob"] == LOST_IN_ALIGNMENT
    assert found["a2", "ann"] == LOST_IN_RENDERING
    assert found["a2", "bob"] == FORGOTTEN
    assert found["b1", "ann"] == WRONG_IN_TEXT
    assert found["b1", "bob"] == SPEECH_ONLY


def choosing(found: list[Score], chosen: dict[tuple[str, str | None], int | None]) -> list[Score]:
    return [replace(score, predicted=chosen.get((score.column, score.voice))) for score in found]


def test_consistency_is_equal_choice_right_or_wrong() -> None:
    # read: option 2. ann hears 2 as well, though both are wrong; bob hears 1. Another item was not parsed: it agrees with nothing.
    x = choosing(scores("x", 1.0, (1.0, 1.0), 0.0, (0.0, 0.0)), {("adapted_text", None): 2, ("adapted_speech", "ann"): 2,
                                                                  ("adapted_speech", "bob"): 1})  # fmt: skip
    y = choosing(scores("y", 1.0, (1.0, 1.0), 0.0, (0.0, 0.0)), {})
    found = report([item("x", "A"), item("y", "B")], [*x, *y])
    assert found.overall.consistency is not None
    assert (found.overall.consistency.value, found.overall.consistency.n) == (0.25, 2)
    assert [row.consistency.value for row in found.domains if row.consistency] == [0.5, 0.0]


def test_without_options_or_without_the_adapted_model_in_text_there_is_no_consistency() -> None:
    open_ = [replace(one, choices=()) for one in ITEMS]
    assert report(open_, SCORES).overall.consistency is None


def test_rows_are_as_many_as_a_dry_run_counts(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    found = made.report
    by_condition = sum(1 + len(rows.domains) + len(rows.tasks) for rows in found.by_condition)
    fields = ("voice", "condition", "task", "kind")
    assert n_rows(made.records.items, fields, found.voices, found.conditions) == (
        1 + len(found.domains) + len(found.slices) + by_condition + len(found.grid)
    )
