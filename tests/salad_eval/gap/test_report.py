"""From scores to the gap report: hand-computed worlds, identities, pairing, rejects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError, SaladError, UserInputError
from salad_eval.gap import build_report
from salad_eval.gap.pair import TAXONOMY, TAXONOMY_UNSPLIT
from salad_eval.gap.signature import short_fingerprint, signature
from salad_eval.types import CLEAN, COLUMNS, ColumnName, GapReport, GapRow, Reject, Score
from tests.helpers.gap_world import (
    DIVERGENCES,
    ITEMS,
    SCORES,
    TRANSCRIPTS,
    VOICES,
    item,
    protocol,
    random_world,
    report,
    scores,
    specs,
)


def rows_of(found: GapReport) -> list[GapRow]:
    return [found.overall, *found.domains, *(part.row for part in found.slices)]


# --- a world worked out by hand --------------------------------------------------------------------------------------


HAND = report(
    ITEMS,
    SCORES,
    transcripts=TRANSCRIPTS,
    divergences=DIVERGENCES,
    slice_fields=("voice", "kind"),
    seed=0,
    n_resamples=2000,
)
HAND_ROWS = {row.name: row for row in rows_of(HAND)}


@pytest.mark.parametrize(
    ("name", "n", "accuracies", "gap", "forgetting", "misalignment", "cascade_loss", "p_value", "wer"),
    [
        # name     n  text  casc.  ad.t. speech  gap    forg.  misal. c.loss   p     WER
        ("overall", 4, (0.75, 0.625, 0.5, 0.5), 0.25, 0.25, 0.0, 0.125, 0.75, 5 / 50),
        ("A", 2, (1.0, 0.75, 0.5, 0.25), 0.75, 0.5, 0.25, 0.25, 0.5, 4 / 20),
        ("B", 2, (0.5, 0.5, 0.5, 0.75), -0.25, 0.0, -0.25, 0.0, 1.0, 1 / 30),
        ("ann", 4, (0.75, 0.5, 0.5, 0.5), 0.25, 0.25, 0.0, 0.25, 1.0, 4 / 25),
        ("bob", 4, (0.75, 0.75, 0.5, 0.5), 0.25, 0.25, 0.0, 0.0, 1.0, 1 / 25),
        ("k", 1, (1.0, 1.0, 1.0, 0.5), 0.5, 0.0, 0.5, 0.0, 1.0, 1 / 8),
        ("l", 1, (1.0, 0.5, 0.0, 0.0), 1.0, 1.0, 0.0, 0.5, 1.0, 3 / 12),
        ("(none)", 2, (0.5, 0.5, 0.5, 0.75), -0.25, 0.0, -0.25, 0.0, 1.0, 1 / 30),
    ],
)
def test_every_measure_by_hand(
    name: str,
    n: int,
    accuracies: tuple[float, ...],
    gap: float,
    forgetting: float,
    misalignment: float,
    cascade_loss: float,
    p_value: float,
    wer: float,
) -> None:
    row = HAND_ROWS[name]
    assert (row.n_items, row.n_groups) == (n, n)
    assert tuple(row.accuracy[column].value for column in COLUMNS) == accuracies
    assert (row.gap.value, row.forgetting.value, row.misalignment.value) == (gap, forgetting, misalignment)
    assert row.cascade_loss is not None
    assert row.cascade_loss.value == cascade_loss
    assert row.p_value == pytest.approx(p_value)
    assert row.wer == pytest.approx(wer)
    for estimate in (*row.accuracy.values(), row.gap, row.forgetting, row.misalignment, row.cascade_loss):
        assert estimate.n == n
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low < estimate.high


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        #            correct align. forgot. render. text  ear only
        ("A", (0.25, 0.25, 0.25, 0.25, 0.0, 0.0)),
        ("B", (0.5, 0.0, 0.0, 0.0, 0.25, 0.25)),
        ("overall", (0.375, 0.125, 0.125, 0.125, 0.125, 0.125)),
        ("ann", (0.5, 0.0, 0.0, 0.25, 0.25, 0.0)),
        ("bob", (0.25, 0.25, 0.25, 0.0, 0.0, 0.25)),
    ],
)
def test_taxonomy_by_hand(name: str, shares: Sequence[float]) -> None:
    assert HAND_ROWS[name].taxonomy == dict(zip(TAXONOMY, shares, strict=True))


@pytest.mark.parametrize(
    ("name", "nats", "n_positions"),
    [
        ("A", (0.8 / 5, 7.0 / 5, 8.0 / 5), 5),
        ("B", (0.0, 0.1, 0.2), 4),
        ("overall", (0.8 / 9, 7.4 / 9, 8.8 / 9), 9),
        ("bob", (0.1, 2.0, 2.1), 2),
    ],
)
def test_divergence_is_nats_over_positions(name: str, nats: Sequence[float], n_positions: int) -> None:
    rates = HAND_ROWS[name].divergence_nats
    assert rates is not None
    assert (rates.forgetting, rates.misalignment, rates.distillation) == pytest.approx(nats)
    assert rates.n_positions == n_positions


def test_order_of_rows_and_where_q_and_shrinkage_stand() -> None:
    assert [row.name for row in HAND.domains] == ["A", "B"]
    assert [(part.field, part.row.name) for part in HAND.slices] == [
        ("voice", "ann"),
        ("voice", "bob"),
        ("kind", "(none)"),
        ("kind", "k"),
        ("kind", "l"),
    ]
    assert [row.q_value for row in HAND.domains] == [1.0, 1.0]  # of p = 0.5 and 1
    for row in (HAND.overall, *(part.row for part in HAND.slices)):
        assert row.q_value is None
        assert row.shrunk_gap is None
    low, high = sorted(row.shrunk_gap for row in HAND.domains)  # type: ignore[type-var]
    assert -0.25 <= low <= high <= 0.75  # type: ignore[operator]
    assert HAND.domains[1].divergence_nats is not None
    assert HAND.unparsed == dict.fromkeys(COLUMNS, 0)


def test_a_measure_that_was_not_taken_is_none() -> None:
    found = report(ITEMS, SCORES)
    assert found.overall.wer is None
    assert found.overall.divergence_nats is None


# --- identities ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 30))
def test_identities_hold_on_every_row(seed: int, n_voices: int, n_items: int) -> None:
    voices = [f"voice{place}" for place in range(n_voices)]
    items, found_scores = random_world(seed, n_items=n_items, voices=voices)
    for row in rows_of(report(items, found_scores, n_resamples=20)):
        accuracy = {column: row.accuracy[column].value for column in COLUMNS}
        assert row.gap.value == row.forgetting.value + row.misalignment.value
        assert row.gap.value == pytest.approx(accuracy["base_text"] - accuracy["adapted_speech"], abs=1e-12)
        assert row.forgetting.value == accuracy["base_text"] - accuracy["adapted_text"]
        assert row.misalignment.value == accuracy["adapted_text"] - accuracy["adapted_speech"]
        assert row.cascade_loss is not None
        assert row.cascade_loss.value == accuracy["base_text"] - accuracy["base_transcript"]
        assert math.fsum(row.taxonomy.values()) == pytest.approx(1.0, abs=1e-12)
        assert set(row.taxonomy) == set(TAXONOMY)
        lost = sum(row.taxonomy[cause] for cause in ("lost_in_rendering", "forgotten", "lost_in_alignment"))
        assert lost - row.taxonomy["speech_only"] == pytest.approx(row.gap.value, abs=1e-12)


def test_overall_is_over_items_not_over_domains() -> None:
    items = [item(f"a{place}", "A") for place in range(9)] + [item("b", "B")]
    found = [score for one in items for score in scores(one.id, 1.0, (1.0, 1.0), 1.0, (float(one.domain == "A"),) * 2)]
    assert report(items, found).overall.gap.value == pytest.approx(0.1)  # the domains' mean would be 0.5


def test_report_does_not_depend_on_the_order_of_its_input() -> None:
    items, found = random_world(1)
    rng = np.random.default_rng(0)
    shuffled = report([items[i] for i in rng.permutation(len(items))], [found[i] for i in rng.permutation(len(found))])
    assert shuffled == report(items, found)


def test_a_domain_row_does_not_depend_on_the_other_domains() -> None:
    items, found = random_world(2)
    only = [one for one in items if one.domain == "A"]
    ids = {one.id for one in only}
    alone = report(only, [score for score in found if score.item_id in ids]).domains[0]
    among = next(row for row in report(items, found).domains if row.name == "A")
    assert replace(among, q_value=None, shrunk_gap=None) == replace(alone, q_value=None, shrunk_gap=None)


def test_planted_gaps_are_recovered() -> None:
    """Two domains of 600 items, one with a gap of 30 points (all misalignment) and one without any."""
    rng = np.random.default_rng(4)
    items, found = [], []
    for place in range(1200):
        domain = "deaf" if place % 2 else "fine"
        items.append(item(f"i{place}", domain))
        text = float(rng.random() < 0.9)
        hears = 0.9 if domain == "fine" else 0.6
        speech = tuple(float(rng.random() < hears) for _ in VOICES)
        found += scores(f"i{place}", text, (text, text), text, speech)
    deaf, fine = report(items, found, n_resamples=4000).domains
    for row, planted in ((deaf, 0.3), (fine, 0.0)):
        assert row.gap.low <= planted <= row.gap.high  # type: ignore[operator]
        assert row.gap.high - row.gap.low < 0.09  # type: ignore[operator]
        assert row.forgetting.value == 0.0
    assert deaf.q_value is not None
    assert fine.q_value is not None
    assert deaf.q_value < 1e-6 < 0.01 < fine.q_value


# --- pairing and rejects ---------------------------------------------------------------------------------------------


def without(id_: str, column: ColumnName, reason: str | None, voice: str | None = None) -> list[Score]:
    """SCORES with one item's value in a column missing: no score at all, or one with a reason."""
    kept = []
    for score in SCORES:
        if score.item_id == id_ and score.column == column and (voice is None or score.voice == voice):
            if reason is not None:
                kept.append(replace(score, value=None, reason=reason))
        else:
            kept.append(score)
    return kept


@pytest.mark.parametrize(
    ("column", "reason", "expected"),
    [
        ("base_text", None, "no score in base_text"),
        ("adapted_text", "too long for the model", "too long for the model"),
        ("base_transcript", "transcript is empty", "transcript is empty"),
        ("adapted_speech", None, "no score in adapted_speech"),
    ],
)
def test_item_missing_in_one_column_is_left_out_of_all(column: ColumnName, reason: str | None, expected: str) -> None:
    found = report(ITEMS, without("a1", column, reason))
    assert found.overall.n_items == 3
    assert found.overall.accuracy["base_text"].value == pytest.approx(2 / 3)
    (count,) = found.rejects
    assert (count.step, count.reason, count.n, count.domains, count.examples) == (
        "pair",
        expected,
        1,
        {"A": 1},
        ("a1",),
    )


def test_rendering_missing_in_one_spoken_column_is_left_out_of_both() -> None:
    found = report(ITEMS, without("a1", "base_transcript", "transcript is empty", voice="bob"))
    assert found.overall.n_items == 4
    assert found.domains[0].accuracy["adapted_speech"].value == 0.5  # a1 is now ann's 1 alone; with bob it was 0.5
    assert [(count.reason, count.n) for count in found.rejects] == [("transcript is empty", 1)]
    bob = next(part.row for part in found.slices if part.row.name == "bob")
    assert bob.n_items == 3


def test_rejects_of_earlier_steps_are_counted_once_and_by_domain() -> None:
    earlier = [
        Reject("a1", "render", "no samples"),
        Reject("b1", "render", "no samples"),
        Reject("row 7", "items", "gold out of range"),
    ]
    kept = [score for score in SCORES if score.item_id not in ("a1", "b1")]
    found = report(ITEMS, kept, rejects=earlier)
    assert [(count.step, count.reason, count.n, dict(count.domains)) for count in found.rejects] == [
        ("render", "no samples", 2, {"A": 1, "B": 1}),
        ("items", "gold out of range", 1, {"(unknown)": 1}),
    ]
    assert [row.n_items for row in found.domains] == [1, 1]


def test_domain_without_any_item_left_has_no_row_but_its_rejects() -> None:
    found = report(ITEMS, [score for score in SCORES if not score.item_id.startswith("b")])
    assert [row.name for row in found.domains] == ["A"]
    assert found.rejects[0].domains == {"B": 2}


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(SaladError, match=r"no item of 4 has a value in every column.*no score in adapted_text \(4\)"):
        report(ITEMS, [score for score in SCORES if score.column != "adapted_text"])


def test_unparsed_generations_are_counted_by_column() -> None:
    found = report(ITEMS, [replace(score, parsed=score.voice != "ann") for score in SCORES])
    assert found.unparsed == {"base_text": 0, "base_transcript": 4, "adapted_text": 0, "adapted_speech": 4}


def test_all_wrong_everywhere_is_zero_and_not_an_error() -> None:
    found = report(ITEMS, [replace(score, value=0.0, parsed=False) for score in SCORES])
    assert all(estimate.value == 0.0 for estimate in found.overall.accuracy.values())
    assert found.overall.taxonomy["wrong_in_text"] == 1.0
    assert found.overall.p_value == 1.0


def test_one_item_gives_a_report() -> None:
    found = report(ITEMS[:1], [score for score in SCORES if score.item_id == "a1"])
    assert found.overall.n_items == 1
    assert found.domains[0].shrunk_gap == pytest.approx(0.5)
    assert found.overall.gap.high - found.overall.gap.low > 1.0  # type: ignore[operator]


def test_items_of_one_passage_are_one_group() -> None:
    items = [replace(one, group="passage") for one in ITEMS]
    assert report(items, SCORES).overall.n_groups == 1
    assert (report(items, SCORES).overall.gap.low, report(items, SCORES).overall.gap.high) == (-1.0, 1.0)


def test_base_transcript_alone_may_be_absent() -> None:
    columns: tuple[ColumnName, ...] = ("base_text", "adapted_text", "adapted_speech")
    found = report(ITEMS, SCORES, columns=specs(columns))
    assert found.overall.cascade_loss is None
    assert tuple(found.overall.accuracy) == columns
    assert found.overall.taxonomy["lost_in_rendering"] == 0.0
    assert found.overall.gap.value == 0.25


def test_without_adapted_text_the_gap_is_not_split() -> None:
    columns: tuple[ColumnName, ...] = ("base_text", "base_transcript", "adapted_speech")
    found, split = report(ITEMS, SCORES, columns=specs(columns)), report(ITEMS, SCORES)
    for row, whole in zip((found.overall, *found.domains), (split.overall, *split.domains), strict=True):
        assert (row.forgetting, row.misalignment) == (None, None)
        assert row.gap.value == pytest.approx(whole.gap.value)
        assert (row.p_value, row.cascade_loss.value) == (whole.p_value, whole.cascade_loss.value)  # type: ignore[union-attr]
        assert tuple(row.taxonomy) == TAXONOMY_UNSPLIT
        lost = whole.taxonomy["forgotten"] + whole.taxonomy["lost_in_alignment"]
        assert row.taxonomy["lost_in_adaptation"] == pytest.approx(lost)
        left = row.taxonomy["lost_in_rendering"] + row.taxonomy["lost_in_adaptation"] - row.taxonomy["speech_only"]
        assert left == pytest.approx(row.gap.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("base_text", "adapted_text"), "adapted_speech missing"),
        (("base_transcript", "adapted_text"), "base_text, adapted_speech missing"),
        ((*COLUMNS, "base_text"), "'base_text' is given 2 times"),
    ],
)
def test_columns_are_checked(columns: tuple[ColumnName, ...], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        report(ITEMS, SCORES, columns=specs(columns))


def test_unknown_column_names_the_nearest() -> None:
    wrong = replace(specs()[0], name="base_txt")  # type: ignore[arg-type]
    with pytest.raises(UserInputError, match="did you mean 'base_text'"):
        report(ITEMS, SCORES, columns=(wrong, *specs()[1:]))


def test_unknown_slice_field_names_the_nearest() -> None:
    with pytest.raises(UserInputError, match="did you mean 'kind'"):
        report(ITEMS, SCORES, slice_fields=("kinds",))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (Score("zz", "base_text", None, None, 1.0), "item_id 'zz' is not among"),
        (Score("a1", "base_text", None, None, 1.0), "two scores in base_text"),
        (Score("a1", "adapted_speech", "ann", CLEAN, 1.0), "two scores in adapted_speech"),
        (Score("a1", "adapted_speech", "cat", CLEAN, 1.5), "value 1.5"),
        (Score("a1", "adapted_speech", "cat", CLEAN, math.nan), "value nan"),
        (Score("a1", "adapted_speech", None, None, 1.0), "spoken columns need both"),
        (Score("a1", "base_text", "ann", CLEAN, 1.0), "expected None"),
    ],
)
def test_unusable_scores_are_refused(extra: Score, message: str) -> None:
    with pytest.raises(DataError, match=message):
        report(ITEMS, [*SCORES, extra])


def test_duplicate_items_and_two_asrs_are_refused() -> None:
    with pytest.raises(DataError, match="'a1' occurs twice"):
        report([*ITEMS, ITEMS[0]], SCORES)
    with pytest.raises(DataError, match="2 ASRs"):
        report(ITEMS, SCORES, transcripts=[*TRANSCRIPTS[1:], replace(TRANSCRIPTS[0], asr="another")])
    with pytest.raises(DataError, match="two records"):
        report(ITEMS, SCORES, divergences=[*DIVERGENCES, DIVERGENCES[0]])


def test_perturbations_are_renderings_and_a_slice() -> None:
    noisy = [replace(score, perturbation="babble", value=0.0) for score in SCORES if score.voice == "ann"]
    found = report(ITEMS, [*SCORES, *noisy], slice_fields=("perturbation", "task"))
    by_name = {part.row.name: part.row for part in found.slices}
    assert by_name["babble"].accuracy["adapted_speech"].value == 0.0
    assert by_name["clean"].accuracy["adapted_speech"].value == 0.5
    assert by_name["toy"].n_items == 4
    assert found.overall.accuracy["adapted_speech"].value == pytest.approx((1 / 3 + 0 + 1 / 3 + 2 / 3) / 4)


# --- signature -------------------------------------------------------------------------------------------------------


def test_signature_is_one_line_that_names_everything() -> None:
    asked = protocol(voices=("bob", "ann"), tts="tts 1\n22050 Hz", asr="asr" * 30, seed=3, n_resamples=10000)
    line = signature(asked, version="9.9")
    assert build_report(asked, ITEMS, SCORES).signature == signature(asked)
    assert "\n" not in line
    for part in (
        "toy@rev1",
        "split:test",
        "n:4",
        "speak:context",
        "shots:0",
        "score:ll",
        "voices:ann+bob",
        "conditions:clean",
        "tts:tts122050Hz",
        "asr:asrasr",
        "adapted_speech:toy-system#",
        "seed:3",
        "boot:10000",
        "salad-gap:9.9",
    ):
        assert part in line.split("|") or any(piece.startswith(part) for piece in line.split("|")), part


def test_short_fingerprints_stay_distinct() -> None:
    first, second = short_fingerprint("x" * 100 + "1"), short_fingerprint("x" * 100 + "2")
    assert first != second
    assert len(first) == len(second) == 24
    assert short_fingerprint("abc") == "abc"


def test_build_report_is_pure() -> None:
    items, found = random_world(3)
    before = list(found)
    first, second = report(items, found), report(items, found)
    assert first == second
    assert found == before
