"""Two runs compared on the items they share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from salad_eval.errors import UserInputError
from salad_eval.gap.board import board
from salad_eval.gap.compare import BOTH, Comparison, Flip, between, compare, compare_all, names_of
from salad_eval.pipeline.finished import FinishedRun
from salad_eval.report.comparison import comparison_headline, comparison_markdown, comparison_terminal
from salad_eval.report.wording import signed
from salad_eval.types import COLUMNS, Item, Score
from tests.helpers.gap_world import ITEMS, SCORES, item, random_world, report, scores, specs


def compared(
    first: tuple[Sequence[Item], Sequence[Score]], second: tuple[Sequence[Item], Sequence[Score]], seed: int = 0
) -> Comparison:
    (items_a, scores_a), (items_b, scores_b) = first, second
    settings = {"seed": seed, "n_resamples": 300}
    return compare(
        FinishedRun(items_a, scores_a, report(items_a, scores_a, **settings)),
        FinishedRun(items_b, scores_b, report(items_b, scores_b, **settings)),
    )


# The hand world after an adaptation that mends a1 by ear for bob and a2 for both: speech 1, 1, 0.5, 1 instead of 0.5,
# 0, 0.5, 1.
BETTER = tuple(
    replace(score, value=1.0) if score.column == "adapted_speech" and score.item_id in ("a1", "a2") else score
    for score in SCORES
)


def test_differences_by_hand() -> None:
    found = compared((ITEMS, SCORES), (ITEMS, BETTER))
    assert (found.n_shared, found.n_only_a, found.n_only_b, found.n_changed, found.n_unscored) == (4, 0, 0, 0, 0)
    gap = found.overall.gap
    assert (gap.first, gap.second, gap.difference.value) == (0.25, -0.125, -0.375)
    assert gap.p_value == pytest.approx(0.5)  # item differences -0.5 and -1: of four sign patterns two are as large
    speech = found.overall.columns["adapted_speech"]
    assert (speech.first, speech.second, speech.difference.value) == (0.5, 0.875, 0.375)
    for column in ("base_text", "base_transcript", "adapted_text"):
        assert found.overall.columns[column].difference.value == 0.0
        assert found.overall.columns[column].p_value == 1.0
    assert [(row.name, row.gap.difference.value) for row in found.domains] == [("A", -0.75), ("B", 0.0)]
    assert [row.q_value for row in found.domains] == [1.0, 1.0]
    assert found.overall.q_value is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_identities(seed_a: int, seed_b: int) -> None:
    items, scores_a = random_world(seed_a)
    by_id = {one.id: one for one in items}
    _, scores_b = random_world(seed_b)
    found = compared((items, scores_a), (list(by_id.values()), scores_b))
    for row in (found.overall, *found.domains):
        for change in (*row.columns.values(), row.gap):
            assert change.difference.value == pytest.approx(change.second - change.first, abs=1e-12)
            assert change.difference.low <= change.difference.value <= change.difference.high  # type: ignore[operator]
        text, speech = row.columns["base_text"], row.columns["adapted_speech"]
        assert row.gap.difference.value == pytest.approx(text.difference.value - speech.difference.value, abs=1e-12)


def test_a_run_does_not_differ_from_itself_and_swapping_turns_the_sign() -> None:
    items, found = random_world(0)
    same = compared((items, found), (items, found))
    assert same.overall.gap.difference.value == 0.0
    assert same.overall.gap.p_value == 1.0
    _, others = random_world(1)
    forth, back = compared((items, found), (items, others)), compared((items, others), (items, found))
    assert forth.overall.gap.difference.value == -back.overall.gap.difference.value
    assert forth.overall.gap.p_value == back.overall.gap.p_value


def test_pairing_finds_what_unpaired_intervals_would_miss() -> None:
    """Hard and easy items: the second run is right on 10 more of 400; the columns' own intervals overlap widely."""
    rng = np.random.default_rng(0)
    items = [item(f"i{place}", "A") for place in range(400)]
    right = rng.random(400) < 0.6
    mended = set(np.flatnonzero(~right)[:10].tolist())
    first, second = [], []
    for place, one in enumerate(items):
        heard = float(right[place])
        first += scores(one.id, 1.0, (1.0, 1.0), 1.0, (heard, heard))
        now = 1.0 if place in mended else heard
        second += scores(one.id, 1.0, (1.0, 1.0), 1.0, (now, now))
    found = compared((items, first), (items, second))
    gap = found.overall.gap
    assert gap.difference.value == pytest.approx(-0.025)
    assert gap.difference.high < 0  # type: ignore[operator]
    assert gap.p_value == pytest.approx(2 / 2**10)
    assert "the second run's gap is smaller" in comparison_headline(found)[0]


def test_only_the_same_question_counts_as_shared() -> None:
    changed = [
        replace(ITEMS[0], context=ITEMS[0].context + "?"),
        replace(ITEMS[1], gold=1),
        *ITEMS[2:],
        item("new", "B"),
    ]
    found_b = [*SCORES, *scores("new", 1.0, (1.0, 1.0), 1.0, (1.0, 1.0))]
    found = compared((ITEMS, SCORES), (changed, found_b))
    assert (found.n_shared, found.n_only_a, found.n_only_b, found.n_changed) == (2, 0, 1, 2)
    assert [row.name for row in found.domains] == ["B"]


def test_items_scored_in_one_run_only_are_counted() -> None:
    fewer = [score for score in SCORES if score.item_id != "b2"]
    found = compared((ITEMS, SCORES), (ITEMS, fewer))
    assert (found.n_shared, found.n_unscored) == (3, 1)


def test_nothing_shared_is_refused() -> None:
    others = [replace(one, id=f"other-{one.id}") for one in ITEMS]
    renamed = [replace(score, item_id=f"other-{score.item_id}") for score in SCORES]
    with pytest.raises(UserInputError, match=r"nothing to compare: of 4 items in the first run and 4 .* 0 share an id"):
        compared((ITEMS, SCORES), (others, renamed))
    half = {"a1", "a2"}
    with pytest.raises(UserInputError, match="none has a score in every column of both runs"):
        compared(
            (ITEMS, [score for score in SCORES if score.item_id in half]),
            (ITEMS, [score for score in SCORES if score.item_id not in half]),
        )


def test_runs_that_differ_in_voices_columns_or_split_say_so() -> None:
    only_ann = [score for score in SCORES if score.voice in (None, "ann")]
    columns = tuple(spec for spec in specs() if spec.name != "base_transcript")
    found = compare(
        FinishedRun(ITEMS, SCORES, report(ITEMS, SCORES, n_resamples=100)),
        FinishedRun(ITEMS, only_ann, report(ITEMS, only_ann, columns=columns, split="validation", n_resamples=100)),
    )
    assert tuple(found.overall.columns) == tuple(column for column in COLUMNS if column != "base_transcript")
    text = " ".join(found.unlike)
    assert comparison_headline(found)[: len(found.unlike)] == found.unlike, "what is unlike comes first"
    assert "The runs differ in their renderings: only the first has bob (clean). Spoken columns" in text
    assert "not compared: base_transcript" in text
    assert "test and validation" in text


def test_spoken_columns_are_means_over_what_both_runs_have() -> None:
    """Without bob the second run hears a1 and b2; so does the first one's ann: nothing has changed by ear."""
    only_ann = [score for score in SCORES if score.voice in (None, "ann")]
    found = compared((ITEMS, SCORES), (ITEMS, only_ann))
    assert found.renderings == (("ann", "clean"),)
    assert found.overall.columns["adapted_speech"].difference.value == 0.0
    others = [replace(score, voice="eve") if score.voice else score for score in only_ann]
    apart = compared((ITEMS, SCORES), (ITEMS, others))
    assert apart.renderings == ()
    assert "over each run's own" in apart.unlike[0]
    assert apart.overall.columns["adapted_speech"].second == 0.5


def test_what_flipped_is_listed_rendering_by_rendering() -> None:
    worse = [
        replace(score, value=0.0)
        if (score.item_id, score.voice, score.column) == ("b2", "ann", "adapted_speech")
        else score
        for score in BETTER
    ]
    found = compared((ITEMS, SCORES), (ITEMS, worse))
    assert found.flips == (
        Flip("a1", "bob", "clean", won=True),
        Flip("a2", "ann", "clean", won=True),
        Flip("a2", "bob", "clean", won=True),
        Flip("b2", "ann", "clean", won=False),
    )
    assert (found.n_won, found.n_lost) == (3, 1)
    assert "1 renderings were lost and 3 won" in comparison_headline(found)[-1]


def run_of(found: Sequence[Score], **changes: object) -> FinishedRun:
    return FinishedRun(ITEMS, found, report(ITEMS, found, n_resamples=100, **changes))


def test_within_a_run_two_voices_are_compared() -> None:
    """By ear ann is right in a1 and b2, bob in b1 and b2."""
    found = between(run_of(SCORES), "voice", "ann", "bob")
    assert found.overall.columns["adapted_speech"].difference.value == 0.0
    assert {(flip.item_id, flip.won, flip.voice) for flip in found.flips} == {("a1", False, BOTH), ("b1", True, BOTH)}
    assert found.name_b.endswith("voice=bob")
    noisy = [*SCORES, *(replace(s, perturbation="telephone", value=0.0) for s in SCORES if s.voice)]
    by_condition = between(run_of(noisy), "condition", "clean", "telephone")
    assert by_condition.overall.columns["adapted_speech"].second == 0.0
    assert by_condition.overall.columns["base_text"].difference.value == 0.0
    with pytest.raises(UserInputError, match="no condition 'phone'; did you mean 'telephone'"):
        between(run_of(noisy), "condition", "clean", "phone")


def test_several_runs_are_held_against_the_first_with_q_over_them() -> None:
    items, first = random_world(0, n_items=60)
    runs = []
    for seed in range(3):
        _, found = random_world(seed, n_items=60)
        runs.append(FinishedRun(items, found, report(items, found, n_resamples=100)))
    found = compare_all(FinishedRun(items, first, report(items, first, n_resamples=100)), runs)
    assert found[0].comparison.overall.gap.difference.value == 0.0
    assert found[0].q_value == 1.0
    assert all(one.q_value >= one.comparison.overall.gap.p_value for one in found)


def test_views() -> None:
    found = compared((ITEMS, SCORES), (ITEMS, BETTER))
    hostile = replace(found, domains=(replace(found.domains[0], name="[red]<b>|x"), found.domains[1]))
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(comparison_terminal(hostile))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]<b>|x" in text
    assert "25.0 → −12.5" in text
    assert "no clear difference" in text
    markdown = comparison_markdown(hostile)
    assert r"\[red\]&lt;b&gt;\|x" in markdown
    assert r"25.0 → −12.5: −37.5 \[" in markdown
    assert [signed(value) for value in (0.031, -0.004, 0.0, -0.00001)] == ["+3.1", "−0.4", "0.0", "0.0"]


def test_runs_of_one_name_go_by_their_folders() -> None:
    def run(path: str, name: str) -> FinishedRun:
        made = report(ITEMS, SCORES, n_resamples=100)
        return FinishedRun(ITEMS, SCORES, replace(made, names=replace(made.names, run=name)), Path(path))

    runs = [run("runs/monday", "nano"), run("runs/tuesday/gap_report.json", "nano"), run("runs/x", "other")]
    assert names_of(runs) == ["monday", "tuesday", "other"]
    found = compare(*runs[:2])
    assert (found.name_a, found.name_b) == ("monday", "tuesday")
    assert [line.name for line in board(runs).lines] == ["monday", "tuesday", "other"]
