"""What each signal reads, and that `learnability` tells a missing domain from what looks like one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.errors import DataError, UserInputError
from salad_train.selection.signals import (
    Distillation,
    Gap,
    Learnability,
    Misalignment,
    Uniform,
    intact_words,
    learnability,
)
from salad_train.types import Signal, SignalContext
from tests.helpers.selection_world import clusters, gap_report, nats, probe

THREE = clusters(100, 200, 300)
AFFINITY = np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]])
SIGNALS = (Uniform, Misalignment, Distillation, Gap, Learnability)


def context(**changes: Any) -> SignalContext:
    fields: dict[str, Any] = {"clusters": THREE, "probes": None, "report": None, "affinity": None}
    return SignalContext(**{**fields, **changes})


def everything() -> SignalContext:
    probes = tuple(
        probe(c, misalignment=m, distillation=d) for c, m, d in ((0, 0.1, 0.4), (1, 0.2, 0.2), (2, 0.3, 0.6))
    )
    return context(probes=probes, report=gap_report({"A": 0.4, "B": 0.1}), affinity=AFFINITY)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (Uniform(), [1.0, 1.0, 1.0]),
        (Misalignment(), [0.1, 0.2, 0.3]),
        (Distillation(), [0.4, 0.2, 0.6]),
        (Gap(), [0.4, 0.25, 0.16]),
    ],
)
def test_scores(signal: Signal, expected: list[float]) -> None:
    assert signal.score(everything()) == pytest.approx(expected)


def test_every_signal_keeps_the_protocol() -> None:
    for cls in SIGNALS:
        signal = cls()
        scores = signal.score(everything())
        assert isinstance(signal, Signal)
        assert scores.shape == (3,)
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
    assert len({cls().fingerprint() for cls in SIGNALS}) == len(SIGNALS)


def test_a_cluster_without_a_probe_scores_zero() -> None:
    found = everything()
    assert Misalignment().score(replace(found, probes=found.probes[1:] if found.probes else None))[0] == 0


# --- gap -------------------------------------------------------------------------------------------------------------


def test_gap_floors_negative_gaps_at_zero() -> None:
    scores = Gap().score(context(report=gap_report({"A": 0.4, "B": -0.9}), affinity=AFFINITY))
    assert scores == pytest.approx([0.4, 0.2, 0.08])


def test_gap_takes_the_plain_gap_where_none_was_shrunk() -> None:
    scores = Gap().score(context(report=gap_report({"A": 0.4, "B": 0.1}, shrunk=False), affinity=AFFINITY))
    assert scores == pytest.approx([0.4, 0.25, 0.16])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "there is no report"),
        ({"report": gap_report({"A": 0.4, "B": 0.1})}, "needs the benchmark's items"),
        ({"report": gap_report({}), "affinity": np.ones((3, 0))}, "no gaps by domain"),
        ({"report": gap_report({"A": -0.02, "B": -0.1}), "affinity": AFFINITY}, "the largest is 'A' with -2.0 points"),
        ({"report": gap_report({"A": 0.0, "B": 0.0}), "affinity": AFFINITY}, "nothing to close"),
    ],
)
def test_gap_says_what_it_lacks(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserInputError, match=says):
        Gap().score(context(**changes))


def test_gap_refuses_an_affinity_of_other_domains() -> None:
    with pytest.raises(DataError, match=r"expected \(3, 1\)"):
        Gap().score(context(report=gap_report({"A": 0.4}), affinity=AFFINITY))


# --- probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Misalignment, Distillation, Learnability])
def test_signals_of_probes_say_what_they_lack(cls: type[Any]) -> None:
    with pytest.raises(UserInputError, match=r"there are none.*--model, --base"):
        cls().score(context())
    still = tuple(probe(c, misalignment=0.0, distillation=-1e-9, inside_text=0.0) for c in range(3))
    with pytest.raises(UserInputError, match=r"is 0 in all 3 probed clusters.*nothing to close"):
        cls().score(context(probes=still))
    with pytest.raises(DataError, match=r"probes of clusters \[7\]"):
        cls().score(context(probes=(probe(7),)))


# --- learnability ----------------------------------------------------------------------------------------------------

ORDINARY = probe(0)
MISSING_DOMAIN = probe(1, distillation=1.2, misalignment=1.15, inside_text=1.15, after_speech=1.6)
HARD_CONTENT = probe(2, distillation=1.2, misalignment=1.15, inside_text=1.15, after_speech=1.6, teacher_entropy=5.0)
TTS_ARTEFACT = probe(3, distillation=1.2, misalignment=1.15, inside_text=1.15, after_speech=1.6, cer=0.35)
FORGOTTEN = probe(4, distillation=1.2, misalignment=1.15, inside_text=1.15, after_speech=1.6, forgetting=1.0)
SWITCH_ONLY = probe(5, distillation=0.9, misalignment=0.85, inside_text=0.3, after_speech=9.0)
PLANTED = (ORDINARY, MISSING_DOMAIN, HARD_CONTENT, TTS_ARTEFACT, FORGOTTEN, SWITCH_ONLY)


def test_a_missing_domain_comes_before_all_that_looks_like_one() -> None:
    world = context(clusters=clusters(*[100] * len(PLANTED)), probes=PLANTED)
    ordinary, missing, *alike = Learnability().score(world)
    assert missing > 2 * max(alike)
    assert missing > 8 * ordinary
    # D takes four of the five for one and the same, which is what the reviewers of the paper held against it.
    assert len(set(Distillation().score(world)[1:5])) == 1


def test_learnability_worked_out_by_hand() -> None:
    # X = 1.15 - 0.05, X / (X + H) = 1.1 / 2.1; the usual CER costs nothing.
    lost = 1 - math.exp(-1.1)
    assert learnability(MISSING_DOMAIN, 0.05) == pytest.approx(lost * 1.1 / 2.1)
    assert learnability(TTS_ARTEFACT, 0.05) == pytest.approx(lost * 1.1 / 2.1 * (0.65 / 0.95) ** 5)
    assert learnability(replace(MISSING_DOMAIN, teacher_entropy=nats(0.0)), 0.05) == pytest.approx(lost)
    # Without after_speech and inside_text apart, D is taken: X = 1.2 - 0.05.
    whole = learnability(replace(MISSING_DOMAIN, inside_text=None), 0.05)
    assert whole == pytest.approx((1 - math.exp(-1.15)) * 1.15 / 2.15)


@pytest.mark.parametrize(
    ("cer", "usual", "expected"),
    [
        (None, 0.1, 1.0),
        (0.1, 0.1, 1.0),
        (0.02, 0.1, 1.0),
        (0.55, 0.1, 0.5**5),
        (1.0, 0.1, 0.0),
        (1.7, 0.1, 0.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_intact_words(cer: float | None, usual: float, expected: float) -> None:
    assert intact_words(cer, usual) == pytest.approx(expected)


rates = st.floats(0, 20, allow_nan=False)


@given(d=rates, f=rates, h=rates, cer=st.floats(0, 2), usual=st.floats(0, 1), more=st.floats(0.01, 5))
def test_learnability_is_a_share_and_falls_with_all_that_speech_cannot_mend(
    d: float, f: float, h: float, cer: float, usual: float, more: float
) -> None:
    base = probe(0, distillation=d, inside_text=None, forgetting=f, teacher_entropy=h, cer=cer)
    score = learnability(base, usual)
    assert 0 <= score <= -math.expm1(-d)
    assert learnability(replace(base, forgetting=nats(f + more)), usual) <= score
    assert learnability(replace(base, teacher_entropy=nats(h + more)), usual) <= score
    assert learnability(replace(base, cer=cer + more), usual) <= score
    assert learnability(replace(base, distillation=nats(d + more)), usual) >= score
