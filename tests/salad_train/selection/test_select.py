"""Shares, exclusions, the draw, and a selection's files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError, UserInputError
from salad_train.selection.figure import selection_picture
from salad_train.selection.files import SelectPlan, read_selection, write_selection
from salad_train.selection.select import Steering, check_corpus, check_steering, reasons, unlike_domains
from salad_train.selection.signals import Gap, Misalignment
from salad_train.selection.views import UNLABELLED, cluster_rows, domain_rows, headline, markdown, selection_terminal
from salad_train.selection.weigh import Drawn, SpokenLength, draw, exclusions, highest_cer, seconds_per_character, weigh
from salad_train.types import ClusterWeight, Corpus, CorpusReject, Selection
from tests.helpers.gap_world import ITEMS
from tests.helpers.selection_world import cluster, clusters, corpus, gap_report, probe

# --- weigh -----------------------------------------------------------------------------------------------------------


def targets(*args: Any, **kwargs: Any) -> list[float]:
    return [weight.target for weight in weigh(*args, **kwargs)]


@pytest.mark.parametrize(
    ("sizes", "scores", "options", "expected"),
    [
        ((1, 3), (5.0, 0.1), {"gamma": 0.0}, [0.25, 0.75]),
        ((1, 1), (1.0, 3.0), {"gamma": 1.0}, [0.25, 0.75]),
        ((1, 1), (1.0, 2.0), {"gamma": 5.0}, [1 / 33, 32 / 33]),
        ((3, 1), (1.0, 3.0), {"gamma": 1.0}, [0.5, 0.5]),
        ((1, 1, 2), (0.0, 1.0, 1.0), {"gamma": 1.0}, [0.0, 1 / 3, 2 / 3]),
        # a floor of a half of its share; the rest goes to the others in proportion
        ((1, 1, 2), (0.0, 1.0, 1.0), {"gamma": 1.0, "floor": 0.5}, [0.125, 0.875 / 3, 1.75 / 3]),
        # a cap of twice its share: 0.5 for the best; the others share what is left, 1 : 2
        ((1, 1, 2), (100.0, 1.0, 1.0), {"gamma": 1.0, "cap": 2.0}, [0.5, 0.5 / 3, 1 / 3]),
        # all but the zero are at their cap: the zero takes what is left
        ((1, 1), (1.0, 0.0), {"gamma": 5.0, "cap": 1.5}, [0.75, 0.25]),
        ((1, 1), (1.0, 2.0), {"gamma": 5.0, "cap": 1.0}, [0.5, 0.5]),
        ((1, 1), (1.0, 2.0), {"gamma": 5.0, "floor": 1.0}, [0.5, 0.5]),
        ((1, 1, 2), (1.0, 9.0, 1.0), {"gamma": 1.0, "excluded": {1: "bad"}}, [1 / 3, 0.0, 2 / 3]),
        ((1, 1, 2), (1.0, 9.0, 5.0), {"gamma": 0.0, "excluded": {1: "bad"}}, [1 / 3, 0.0, 2 / 3]),
        # γ = 0 does not look at scores, zeros included
        ((1, 3), (0.0, 1.0), {"gamma": 0.0}, [0.25, 0.75]),
        # 1e-200 to the 5th is no float
        ((1, 1), (1e-200, 2e-200), {"gamma": 5.0}, [1 / 33, 32 / 33]),
        ((1, 1, 1), (1.0, 1.0, 2.0), {"gamma": 1e6}, [0.0, 0.0, 1.0]),
    ],
)
def test_weigh(
    sizes: tuple[int, ...], scores: tuple[float, ...], options: dict[str, Any], expected: list[float]
) -> None:
    assert targets(clusters(*sizes), scores, **options) == pytest.approx(expected, abs=1e-12)


def test_weights_say_what_they_are_made_of() -> None:
    found = weigh(clusters(1, 3), (2.0, 1.0), gamma=1.0, excluded={1: "cannot be understood"})
    assert found == (ClusterWeight(0, 0.25, 2.0, 1.0), ClusterWeight(1, 0.75, 1.0, 0.0, "cannot be understood"))


@pytest.mark.parametrize(
    ("scores", "options", "says"),
    [
        ((1.0,), {"gamma": 1.0}, "expected 2 finite numbers"),
        ((1.0, -1.0), {"gamma": 1.0}, "expected 2 finite numbers"),
        ((1.0, math.nan), {"gamma": 1.0}, "expected 2 finite numbers"),
        ((1.0, 1.0), {"gamma": -1.0}, "gamma is -1.0"),
        ((1.0, 1.0), {"gamma": math.inf}, "gamma is inf"),
        ((1.0, 1.0), {"gamma": 1.0, "floor": 1.5}, "floor is 1.5"),
        ((1.0, 1.0), {"gamma": 1.0, "cap": 0.5}, "cap is 0.5"),
        ((1.0, 1.0), {"gamma": 1.0, "cap": math.nan}, "cap is nan"),
        ((0.0, 0.0), {"gamma": 1.0}, "signal is 0 in every cluster"),
        ((1.0, 1.0), {"gamma": 1.0, "excluded": {0: "deaf", 1: "mute"}}, r"all 2 clusters are excluded \(deaf; mute\)"),
    ],
)
def test_weigh_refuses(scores: tuple[float, ...], options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserInputError, match=says):
        weigh(clusters(1, 1), scores, **options)


@st.composite
def worlds(draw_: Any) -> dict[str, Any]:
    k = draw_(st.integers(1, 12))
    scores = draw_(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=k, max_size=k))
    excluded = draw_(st.sets(st.integers(0, k - 1), max_size=k - 1))
    assume(any(score > 0 for place, score in enumerate(scores) if place not in excluded))
    return {
        "clusters": clusters(*draw_(st.lists(st.integers(1, 10**6), min_size=k, max_size=k))),
        "scores": np.array(scores),
        "gamma": draw_(st.one_of(st.just(0.0), st.floats(0.01, 200))),
        "floor": draw_(st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))),
        "cap": draw_(st.one_of(st.none(), st.just(1.0), st.floats(1, 100))),
        "excluded": dict.fromkeys(excluded, "bad"),
    }


@given(world=worlds(), scale=st.floats(1e-3, 1e3))
@example(  # the lesser of two weights is so small that its product with the share of the corpus is 0
    world={
        "clusters": clusters(1, 12214),
        "scores": np.array([1e-6, 6.10351562e-05]),
        "gamma": 179.0,
        "floor": 0.0,
        "cap": None,
        "excluded": {},
    },
    scale=1.0,
)
@settings(max_examples=300, deadline=None)
def test_weigh_keeps_its_promises(world: dict[str, Any], scale: float) -> None:
    found = weigh(**world)
    target = np.array([weight.target for weight in found])
    web = np.array([0.0 if weight.excluded else weight.web for weight in found])
    web /= web.sum()
    assert target.sum() == pytest.approx(1, abs=1e-12)
    assert all(target[place] == 0 for place in world["excluded"])
    # bounds
    assert (target >= world["floor"] * web - 1e-9).all()
    if world["cap"] is not None:
        assert (target <= world["cap"] * web + 1e-9).all()
    # the order of target / P_web is that of the scores
    kept = [place for place in range(len(found)) if place not in world["excluded"]]
    ratio = target[kept] / web[kept]
    scores = world["scores"][kept]
    for a in range(len(kept)):
        for b in range(len(kept)):
            if scores[a] <= scores[b]:
                assert ratio[a] <= ratio[b] + 1e-9
    # only ratios of scores matter
    assert targets(**{**world, "scores": world["scores"] * scale}) == pytest.approx(target.tolist(), abs=1e-9)
    # γ = 0 and bounds of 1 give the corpus' own shares
    for changes in ({"gamma": 0.0}, {"cap": 1.0}, {"floor": 1.0}):
        assert targets(**{**world, **changes}) == pytest.approx(web.tolist(), abs=1e-9)


@given(world=worlds(), more=st.floats(1.01, 100), place=st.integers(0, 11))
@settings(max_examples=200, deadline=None)
def test_a_cluster_that_scores_more_gets_no_less(world: dict[str, Any], more: float, place: int) -> None:
    place %= len(world["clusters"])
    raised = world["scores"].copy()
    raised[place] *= more
    assert targets(**{**world, "scores": raised})[place] >= targets(**world)[place] - 1e-9


# --- exclusions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "given_", "expected"),
    [
        ([None, None], None, None),
        ([0.01, 0.02, 0.03], None, 0.2),
        ([0.1, 0.2, 0.3], None, pytest.approx(0.6)),
        ([0.1, 0.2, 0.3], 0.25, 0.25),
        ([None, 0.3], None, pytest.approx(0.9)),
    ],
)
def test_highest_cer(rates: list[float | None], given_: float | None, expected: float | None) -> None:
    assert highest_cer([probe(c, cer=rate) for c, rate in enumerate(rates)], given_) == expected


def test_exclusions_carry_their_reasons() -> None:
    probes = [probe(0, cer=0.05), probe(1, cer=0.5), probe(2, cer=0.2), probe(4, cer=None)]
    assert exclusions(probes, {3: "could not be spoken"}) == {3: "could not be spoken"}  # 3 times the median is 0.6
    assert exclusions(probes, {3: "could not be spoken"}, 0.3) == {
        1: "character error rate 0.50 of its probe is above 0.30",
        3: "could not be spoken",
    }


# --- speaking rate ---------------------------------------------------------------------------------------------------


def test_rates_are_drawn_to_that_of_all() -> None:
    # Overall 60 s / 1500 characters = 0.04; the prior is 750 characters at that rate, 30 s.
    rates = seconds_per_character(3, [SpokenLength(0, 50.0, 1000), SpokenLength(1, 10.0, 500)])
    assert rates.tolist() == pytest.approx([80 / 1750, 40 / 1250, 0.04])


def test_one_rate_of_the_whole_corpus_serves_every_cluster() -> None:
    assert seconds_per_character(2, [SpokenLength(None, 5.0, 100)]).tolist() == pytest.approx([0.05, 0.05])


def test_nothing_spoken_gives_no_rate() -> None:
    with pytest.raises(DataError, match="nothing is known of how long"):
        seconds_per_character(2, [SpokenLength(0, 0.0, 100)])


# --- draw ------------------------------------------------------------------------------------------------------------


def weights(*shares: float) -> tuple[ClusterWeight, ...]:
    return tuple(ClusterWeight(place, 1 / len(shares), 1.0, share) for place, share in enumerate(shares))


def drawn(
    sizes: tuple[int, ...], lengths: tuple[int, ...], shares: tuple[float, ...], budget: float, **options: Any
) -> Drawn:
    """A draw at a tenth of a second a character."""
    found, labels = corpus(sizes, lengths)
    settings_: dict[str, Any] = {"seed": 0, **options}
    return draw(found.documents, labels, weights(*shares), budget, np.full(len(sizes), 0.1), **settings_)


def test_a_budget_is_met_to_the_document() -> None:
    found = drawn((50, 50), (10, 10), (0.5, 0.5), 20.0)
    assert found.seconds == pytest.approx(20)
    assert [one.reserve for one in found.documents] == [False] * 20 + [True] * 2
    assert found.notes == ()
    assert len({one.document.id for one in found.documents}) == 22


@given(
    lengths=st.lists(st.integers(5, 60), min_size=1, max_size=5),
    share=st.floats(0.02, 0.9),
    seed=st.integers(0, 10**6),
    reserve=st.sampled_from([0.0, 0.1, 0.5]),
)
@settings(max_examples=100, deadline=None)
def test_every_budget_is_met_as_nearly_as_documents_allow(
    lengths: list[int], share: float, seed: int, reserve: float
) -> None:
    sizes = [40] * len(lengths)
    found, labels = corpus(sizes, lengths)
    rates = np.linspace(0.05, 0.1, len(lengths))
    total = float(sum(40 * n * rate for n, rate in zip(lengths, rates, strict=True)))
    equal = weights(*[1 / len(lengths)] * len(lengths))
    result = draw(found.documents, labels, equal, share * total, rates, seed, reserve=reserve)
    ids = [one.document.id for one in result.documents]
    assert len(set(ids)) == len(ids)
    flags = [one.reserve for one in result.documents]
    assert flags == sorted(flags)
    # Within 1%, or no document that is left would bring it nearer.
    missing = share * total - result.seconds
    left = [len(d.text) * rates[k] for d, k in zip(found.documents, labels, strict=True) if d.id not in ids]
    if abs(missing) > 0.01 * share * total:
        assert all(abs(missing - seconds) >= abs(missing) - 1e-9 for seconds in left)
    beyond = math.fsum(one.seconds for one in result.documents if one.reserve)
    assert beyond >= min(reserve * share * total, math.fsum(left)) - 1e-9 or not left


@pytest.mark.parametrize("budget", [40.0, 4000.0])
def test_shares_are_of_the_sound_however_long_documents_are(budget: float) -> None:
    found = drawn((5000, 5000, 5000), (10, 40, 20), (0.6, 0.3, 0.1), budget, reserve=0.0)
    seconds = [math.fsum(one.seconds for one in found.documents if one.cluster == c) / budget for c in range(3)]
    assert seconds == pytest.approx([0.6, 0.3, 0.1], abs=6 / budget)  # a document or two


def test_every_draw_is_by_the_target_over_seeds() -> None:
    first = [
        drawn((9, 9), (10, 10), (0.7, 0.3), 1.0, reserve=0.0, seed=seed).documents[0].cluster for seed in range(1000)
    ]
    assert sum(first) / 1000 == pytest.approx(0.3, abs=0.05)  # 3.5 standard errors


def test_a_cluster_that_runs_out_passes_its_share_on() -> None:
    found = drawn((5, 500, 500), (10, 10, 10), (0.8, 0.15, 0.05), 200.0, reserve=0.0)
    by_cluster = [sum(one.cluster == c for one in found.documents) for c in range(3)]
    assert by_cluster[0] == 5
    assert by_cluster[1] / by_cluster[2] == pytest.approx(3, rel=0.05)
    assert found.notes == (
        "1 cluster(s) with 80.0% of the target ran out of documents, and the others took their share: 0",
    )


def test_the_order_is_a_function_of_the_seed() -> None:
    def ids(seed: int) -> list[str]:
        return [one.document.id for one in drawn((100, 100), (10, 10), (0.5, 0.5), 50.0, seed=seed).documents]

    assert ids(3) == ids(3)
    assert ids(3) != ids(4)


def test_two_selections_share_the_documents_their_shares_allow() -> None:
    one, other = (drawn((200, 200), (10, 10), shares, 100.0, reserve=0.0) for shares in ((0.5, 0.5), (0.9, 0.1)))
    in_first = [[d.document.id for d in found.documents if d.cluster == 0] for found in (one, other)]
    shorter = min(map(len, in_first))
    assert in_first[0][:shorter] == in_first[1][:shorter]


def test_excluded_and_held_out_documents_are_not_drawn() -> None:
    held_out = frozenset(f"c0-{n}" for n in range(0, 50, 2))
    found = drawn((50, 50), (10, 10), (1.0, 0.0), 20.0, held_out=held_out)
    assert {one.cluster for one in found.documents} == {0}
    assert not held_out & {one.document.id for one in found.documents}


def test_the_last_document_is_the_one_that_fits() -> None:
    # Ten of 3 s make 30 s; then 2 s are missing, which the one of the second cluster takes.
    found_corpus, labels = corpus((10, 1), (30, 20))
    result = draw(found_corpus.documents, labels, weights(1 - 1e-9, 1e-9), 32.0, np.full(2, 0.1), 0, reserve=0.0)
    assert result.seconds == pytest.approx(32)
    assert result.documents[-1].document.id == "c1-0"


@pytest.mark.parametrize(
    ("budget", "options", "says"),
    [
        (0.0, {}, "budget_seconds is 0.0"),
        (-5.0, {}, "budget_seconds is -5.0"),
        (math.nan, {}, "budget_seconds is nan"),
        (101.0, {}, "budget_seconds is 101, .* hold about 100 s of speech. Give a smaller budget"),
        (0.1, {}, "no document is short enough for it: the shortest takes 1.0 s"),
        (
            90.0,
            {"held_out": frozenset(f"c0-{n}" for n in range(20))},
            r"about 80 s of speech \(the whole corpus: 100 s",
        ),
        (10.0, {"reserve": -0.1}, "reserve is -0.1"),
    ],
)
def test_draw_refuses(budget: float, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserInputError, match=says):
        drawn((50, 50), (10, 10), (0.5, 0.5), budget, **options)


def test_a_reserve_that_cannot_be_had_is_noted() -> None:
    found = drawn((50, 50), (10, 10), (0.5, 0.5), 95.0)
    assert sum(one.reserve for one in found.documents) == 5
    assert found.notes[0] == "the reserve is 5 s of the 10 s asked for: no more documents are left."


# --- inputs ----------------------------------------------------------------------------------------------------------

PLAN = SelectPlan(budget_seconds=10.0, clusters=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget_seconds": 0.0}, "budget_seconds is 0.0"),
        ({"budget_seconds": math.inf}, "budget_seconds is inf"),
        ({"clusters": 0}, "clusters is 0"),
        ({"probe_documents": 0}, "probe_documents is 0"),
        ({"max_cer": -0.1}, "max_cer is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_plan_says_what_is_wrong_with_it(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserInputError, match=says):
        replace(PLAN, **changes)


def test_a_test_split_report_must_be_allowed_by_name() -> None:
    steering = Steering(gap_report({"A": 0.1}, split="test"), ())
    with pytest.raises(UserInputError, match=r"made on the test split.*--allow-test-split"):
        check_steering(PLAN, Misalignment(), steering)
    check_steering(replace(PLAN, allow_test_split=True), Misalignment(), steering)
    check_steering(PLAN, Misalignment(), Steering(gap_report({"A": 0.1}, split="validation"), ()))


def test_a_report_that_cannot_steer_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UserInputError, match="there is no report"):
        check_steering(PLAN, Gap(), None)
    with pytest.raises(UserInputError, match="nothing to close"):
        check_steering(PLAN, Gap(), Steering(gap_report({"A": -0.1}), ITEMS))
    with pytest.raises(UserInputError, match="needs the benchmark's items"):
        check_steering(PLAN, Gap(), Steering(gap_report({"A": 0.1}), ()))


def test_an_empty_corpus_and_one_smaller_than_k_are_refused() -> None:
    with pytest.raises(UserInputError, match=r"no document is left \(4 too_short; 1 language\)"):
        check_corpus(PLAN, Corpus((), (CorpusReject("too_short", 4, ()), CorpusReject("language", 1, ())), "none"))
    with pytest.raises(UserInputError, match=r"clusters is 2, and the corpus has 1 document\(s\)"):
        check_corpus(PLAN, corpus((1,), (10,))[0])


def test_a_domain_the_corpus_lacks_is_the_likest_of_no_cluster() -> None:
    affinity = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    assert unlike_domains(gap_report({"A": 0.3, "B": 0.2, "C": -0.1}), affinity) == ("B",)


# --- views and files -------------------------------------------------------------------------------------------------


def selection(k: int = 3) -> Selection:
    sizes = [20] * k
    found, labels = corpus(sizes, [10 + place for place in range(k)])
    described = tuple(
        cluster(
            place,
            20 * (10 + place),
            n_documents=20,
            terms=("salt", "acid", f"term{place}"),
            domains={f"domain{place}": 0.75, "": 0.25},
        )
        for place in range(k)
    )
    shares = weigh(described, [1.0 + place for place in range(k)], gamma=2.0, excluded={0: "cannot be understood"})
    why = reasons("gap", described, shares, None, None)
    result = draw(found.documents, labels, shares, 15.0, np.full(k, 0.1), 0, reasons=why)
    return Selection(
        "gap", 2.0, 15.0, 0, described, shares, result.documents, "selection|signal:gap|seed:0",
        probes=tuple(probe(place) for place in range(k)), notes=("the corpus is small.", *result.notes),
    )  # fmt: skip


def test_a_selection_reads_back_as_it_was_written(tmp_path: Path) -> None:
    made = selection()
    assert read_selection(write_selection(made, tmp_path / "out")) == made
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "selection.json", "selection.jsonl", "selection.md", "selection.png",
    ]  # fmt: skip


def test_half_a_selection_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no finished selection.*salad select"):
        read_selection(tmp_path)
    folder = write_selection(selection(), tmp_path / "out")
    lines = (folder / "selection.jsonl").read_text().splitlines(keepends=True)
    (folder / "selection.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"is not the file that selection\.json was written with"):
        read_selection(folder)


def test_a_documents_line_carries_document_cluster_weight_and_reason() -> None:
    made = selection()
    for one in made.documents:
        weight = made.weights[one.cluster]
        assert one.weight == weight.target > 0
        assert one.reason.startswith(f"signal gap {weight.signal:.3g}, {weight.target / weight.web:.2g}x its share")
        assert "about salt, acid, term" in one.reason


def test_domains_are_summed_over_clusters() -> None:
    made = selection()
    rows = {row.name: row for row in domain_rows(made)}
    assert rows["domain1"].target == pytest.approx(0.75 * made.weights[1].target)
    assert rows[UNLABELLED].web == pytest.approx(0.25)
    assert math.fsum(row.target for row in rows.values()) == pytest.approx(1)
    within = [one for one in made.documents if not one.reserve]
    assert sum(row.n_documents for row in rows.values()) == len(within)
    assert math.fsum(row.seconds for row in rows.values()) == pytest.approx(math.fsum(one.seconds for one in within))


def test_a_corpus_without_labels_has_no_table_of_domains() -> None:
    made = selection()
    bare = tuple(replace(one, domains={}) for one in made.clusters)
    assert domain_rows(replace(made, clusters=bare)) == []


def test_clusters_are_listed_by_target_and_excluded_ones_last() -> None:
    rows = cluster_rows(selection(5))
    assert [row.cluster.id for row in rows] == [4, 3, 2, 1, 0]
    assert rows[-1].weight.excluded == "cannot be understood"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_terminal_view_fits_and_breaks_no_name(width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True)
    with console.capture() as capture:
        console.print(
            selection_terminal(replace(selection(30), signature="selection|signal:gap|seed:0" * 9)), crop=False
        )
    text = capture.get()
    tables, _, _ = text.partition("Note:")
    assert max(map(len, tables.splitlines())) <= width
    (heading,) = [line for line in text.splitlines() if "mostly" in line]
    assert "target %" in heading
    assert ("CER" in heading) == (width >= 100)
    assert "…" not in heading
    rows = [line.split()[0] for line in tables[tables.index(heading) :].splitlines()[2:] if line[:1].strip()]
    assert {"29", "10"} <= set(rows)
    assert "selection|signal:gap|seed:0" * 9 in text.splitlines()
    for expected in (
        "domain29 75",
        "more",
        "Note: the corpus is small.",
        "selection|signal:gap|seed:0",
        headline(selection(30))[:40],
    ):
        assert expected in text


def test_the_page_escapes_what_the_corpus_holds() -> None:
    made = selection()
    bad = (replace(made.clusters[0], terms=("<script>", "a|b")), *made.clusters[1:])
    page = markdown(replace(made, clusters=bad, notes=("a <b> | c",)), "alt", "selection.png")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "![alt](selection.png)" in page
    assert page.count("\n| ") == 1 + 4 + 1 + 3 - 0  # two heads, four domains, three clusters


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_picture_is_drawn_for_any_number_of_clusters(k: int) -> None:
    made = (
        selection(k)
        if k > 1
        else replace(selection(3), clusters=selection(3).clusters[:1], weights=selection(3).weights[1:2])
    )
    figure = selection_picture(made)
    assert figure.png.startswith(b"\x89PNG")
    assert "Half of the target lies in" in figure.alt
    assert selection_picture(made).svg == figure.svg
