"""GapSampler: who is drawn how often, in which order, and how a stopped run goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from torch.utils.data import DataLoader

from salad_eval.errors import DataError, UserInputError
from salad_eval.report.json import save_report
from salad_train.selection.files import write_selection
from salad_train.steering.sampler import GapSampler, WeightUpdate
from salad_train.steering.weights import domain_weights
from tests.helpers.steering_world import report_of, selection_of

REPORT = report_of({"music": 0.4, "sport": 0.1, "words": -0.05})
DOMAINS = ["music"] * 20 + ["sport"] * 30 + ["words"] * 50


def sampler(**changes: Any) -> GapSampler:
    return GapSampler(REPORT, **{"domains": DOMAINS, **changes})


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gamma", "floor", "expected"),
    [
        (1.0, 0.05, {"music": 1.0, "sport": 0.25, "words": 0.05}),
        (2.0, 0.05, {"music": 1.0, "sport": 0.0625, "words": 0.05}),
        (0.0, 0.05, {"music": 1.0, "sport": 1.0, "words": 1.0}),
        (5.0, 0.01, {"music": 1.0, "sport": 0.01, "words": 0.01}),
        (1.0, 1.0, {"music": 1.0, "sport": 1.0, "words": 1.0}),
    ],
)
def test_weights_follow_the_shrunken_gap(gamma: float, floor: float, expected: dict[str, float]) -> None:
    assert domain_weights(REPORT, gamma=gamma, floor=floor) == pytest.approx(expected)


def test_where_gaps_were_not_shrunk_the_plain_gap_counts() -> None:
    plain = dataclasses.replace(
        REPORT, domains=tuple(dataclasses.replace(row, shrunk_gap=None) for row in REPORT.domains)
    )
    assert domain_weights(plain) == domain_weights(REPORT)


def test_each_domain_is_drawn_in_its_share() -> None:
    """20 · 1, 30 · 0.25 and 50 · 0.05 of 30: exact binomial bounds at 1e-6, and the seed is fixed."""
    expected = {"music": 20 / 30, "sport": 7.5 / 30, "words": 2.5 / 30}
    many = sampler(num_samples=30_000, seed=3)
    assert many.shares == pytest.approx(expected)
    drawn = list(many)
    counts = Counter(DOMAINS[index] for index in drawn)
    for name, share in expected.items():
        low, high = binom.interval(1 - 1e-6, 30_000, share)
        assert low <= counts[name] <= high
    within = Counter(index for index in drawn if DOMAINS[index] == "music")  # alike within a domain
    low, high = binom.interval(1 - 1e-6, 30_000, expected["music"] / 20)
    assert set(within) == set(range(20))
    assert all(low <= n <= high for n in within.values())


def test_clusters_of_a_selection_are_drawn_in_their_target_shares_whatever_was_drawn_of_them() -> None:
    chosen = selection_of({0: (0.75, 5), 1: (0.25, 15)})
    ids = [chosen.document.id for chosen in chosen.documents]
    made = GapSampler(chosen, ids=ids, num_samples=20_000)
    assert made.shares == pytest.approx({"cluster 0": 0.75, "cluster 1": 0.25})
    low, high = binom.interval(1 - 1e-6, 20_000, 0.75)
    assert low <= sum(index < 5 for index in made) <= high


def test_examples_outside_a_selection_are_left_out_or_weighed_by_name() -> None:
    chosen = selection_of({0: (0.5, 4), 1: (0.5, 4)})
    ids = ["web-1", *(one.document.id for one in chosen.documents), "web-2"]
    assert set(GapSampler(chosen, ids=ids, others=0, num_samples=500)) == set(range(1, 9))
    assert GapSampler(chosen, ids=ids, others=1.0).shares["(others)"] == pytest.approx(0.2)
    with pytest.raises(UserInputError, match="2 of 10 examples are not in the selection: 'web-1', 'web-2'"):
        GapSampler(chosen, ids=ids)
    with pytest.raises(UserInputError, match="none of 2 examples is in the selection"):
        GapSampler(chosen, ids=["x", "y"], others=0)


def test_a_report_is_read_from_its_file_or_its_runs_folder(tmp_path: Path) -> None:
    save_report(REPORT, tmp_path / "gap_report.json")
    for source in (tmp_path, tmp_path / "gap_report.json", str(tmp_path)):
        assert list(GapSampler(source, domains=DOMAINS)) == list(sampler())


def test_a_selection_is_read_from_its_folder(tmp_path: Path) -> None:
    chosen = selection_of({0: (0.75, 2), 1: (0.25, 3)})
    write_selection(chosen, tmp_path)
    ids = [one.document.id for one in chosen.documents]
    assert list(GapSampler(tmp_path, ids=ids, num_samples=50)) == list(GapSampler(chosen, ids=ids, num_samples=50))


# --- bad input -------------------------------------------------------------------------------------------------------

NAN = dataclasses.replace(REPORT, domains=(dataclasses.replace(REPORT.domains[0], shrunk_gap=math.nan),))


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (report_of({"music": 0.4}, split="test"), {"domains": ["music"]}, "the report is of the test split"),
        (report_of({"music": -0.1, "sport": 0.0}), {"domains": ["music", "sport"]}, "no domain has a gap above 0"),
        (report_of({"music": -0.1}), {"domains": ["music"]}, "largest is 'music' with -10.0 points"),
        (report_of({}), {"domains": ["music"]}, "the report has no gaps by domain"),
        (NAN, {"domains": ["music"]}, "gap of domain 'music' is nan"),
        (REPORT, {"domains": [*DOMAINS, "muzic"]}, "1 domains that the report lacks: 'muzic'; did you mean 'music'"),
        (REPORT, {"domains": ["x", "y"], "others": 1.0}, "no example is of a domain of the report"),
        (REPORT, {"domains": []}, "domains is empty"),
        (REPORT, {}, "give domains"),
        (REPORT, {"ids": ["a"]}, "give domains"),
        (selection_of({0: (1.0, 2)}), {"domains": ["a"]}, "give ids"),
        (selection_of({}), {"ids": ["a"]}, "the selection has no documents"),
        (REPORT, {"domains": DOMAINS, "gamma": -1}, "gamma is -1"),
        (REPORT, {"domains": DOMAINS, "floor": 0}, "floor is 0"),
        (REPORT, {"domains": DOMAINS, "others": math.nan}, "others is nan"),
        (REPORT, {"domains": DOMAINS, "rank": 2, "num_replicas": 2}, "rank is 2 of num_replicas 2"),
        (REPORT, {"domains": DOMAINS, "num_samples": 0}, "num_samples is 0"),
        (REPORT, {"domains": DOMAINS, "num_samples": 101, "replacement": False}, "there are 100 examples to draw"),
        ("nowhere", {"domains": DOMAINS}, "nowhere: no such file"),
    ],
)
def test_what_cannot_steer_says_why(source: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as caught:
        GapSampler(source, **changes)
    assert message in str(caught.value)


def test_a_test_report_steers_only_by_name() -> None:
    looked = report_of({"music": 0.4}, split="test")
    assert len(GapSampler(looked, domains=["music"], allow_test_split=True)) == 1


def test_a_domain_that_the_data_lacks_is_said() -> None:
    with pytest.warns(
        UserWarning, match="no example of 2 domains of the report, whose gaps it cannot close: 'sport', 'words'"
    ):
        made = GapSampler(REPORT, domains=["music"] * 3)
    assert made.shares == {"music": 1.0}


def test_domains_the_report_lacks_weigh_what_is_said() -> None:
    made = GapSampler(REPORT, domains=[*DOMAINS, "web", "books"], others=2.0)
    mean = (20 * 1.0 + 30 * 0.25 + 50 * 0.05) / 100
    assert made.weights["(others)"] == pytest.approx(2 * mean)
    made.update(report_of({"music": 0.1, "sport": 0.1, "words": 0.1}))
    assert made.weights["(others)"] == pytest.approx(2.0)


# --- order -----------------------------------------------------------------------------------------------------------


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first, again, other = sampler(seed=1), sampler(seed=1), sampler(seed=2)
    assert list(first) == list(first) == list(again) != list(other)
    epoch0 = list(first)
    first.set_epoch(1)
    assert list(first) != epoch0
    first.set_epoch(0)
    assert list(first) == epoch0


worlds = st.fixed_dictionaries(
    {
        "domains": st.lists(st.sampled_from(["music", "sport", "words"]), min_size=8, max_size=60),
        "seed": st.integers(0, 5),
        "gamma": st.sampled_from([0.0, 1.0, 5.0]),
        "num_replicas": st.integers(1, 4),
        "replacement": st.booleans(),
    }
)


@pytest.mark.filterwarnings("ignore:the data has no example")
@settings(max_examples=60, deadline=None)
@given(worlds)
def test_ranks_take_turns_in_one_order_of_valid_indices(world: dict[str, Any]) -> None:
    if set(world["domains"]) == {"words"}:  # no gap to steer by
        world["domains"][0] = "music"
    n, replicas = len(world["domains"]), world.pop("num_replicas")
    ranks = [GapSampler(REPORT, **world, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    taken = [list(one) for one in ranks]
    assert {len(part) for part in taken} == {len(ranks[0])} == {n // replicas}
    together = [index for turn in zip(*taken, strict=True) for index in turn]
    whole = list(GapSampler(REPORT, **world))
    if world["replacement"]:
        assert all(0 <= index < n for index in together)
    else:
        assert sorted(whole) == list(range(n))  # a permutation
        assert len(set(together)) == len(together)  # ranks are disjoint
    assert together == ranks[0].order(0).tolist()
    if n % replicas == 0:
        assert together == whole


def test_without_replacement_the_widest_gap_tends_to_come_first() -> None:
    """In a full permutation by successive draws, P(i before j) = w_i / (w_i + w_j): 0.8 for weights 1 and 0.25."""
    made = GapSampler(report_of({"music": 0.4, "sport": 0.1}), domains=["sport", "music"], replacement=False)
    n = 4_000
    first = sum(int(made.order(epoch)[0]) == 1 for epoch in range(n))
    low, high = binom.interval(1 - 1e-6, n, 0.8)
    assert low <= first <= high


# --- new reports -----------------------------------------------------------------------------------------------------

LATER = report_of({"music": 0.0, "sport": 0.0, "words": 0.3})


def test_an_update_counts_from_the_next_index_on() -> None:
    made, old = sampler(num_samples=4_000), list(sampler(num_samples=4_000))
    drawn = []
    for place, index in enumerate(made):
        drawn.append(index)
        if place == 999:
            made.update(LATER)
    assert drawn[:1_000] == old[:1_000]
    assert made.updates[1:] == (WeightUpdate(0, 1_000, {"music": 0.05, "sport": 0.05, "words": 1.0}),)
    words = sum(DOMAINS[index] == "words" for index in drawn[1_000:])
    low, high = binom.interval(1 - 1e-6, 3_000, 50 / 52.5)
    assert low <= words <= high
    assert list(made) == drawn  # and the epoch can be gone through again


def test_an_update_without_replacement_draws_among_what_is_left() -> None:
    made = sampler(replacement=False)
    drawn = []
    for index in made:
        drawn.append(index)
        if len(drawn) == 40:
            made.update(LATER)
    assert sorted(drawn) == list(range(100))


def test_where_no_gap_is_left_domains_weigh_the_same() -> None:
    made = sampler()
    assert made.update(report_of({"music": -0.1, "sport": 0.0, "words": -0.2})).weights == dict.fromkeys(
        made.weights, 1.0
    )


def test_updates_that_do_not_fit_are_refused() -> None:
    made = sampler()
    with pytest.raises(UserInputError, match="the new report lacks 1 domains of the data: 'words'"):
        made.update(report_of({"music": 0.1, "sport": 0.1}))
    with pytest.raises(UserInputError, match="test split"):
        made.update(report_of({"music": 0.1, "sport": 0.1, "words": 0.1}, split="test"))
    with pytest.raises(UserInputError, match="made from a selection"):
        GapSampler(selection_of({0: (1.0, 2)}), ids=["c0-0", "c0-1"]).update(REPORT)
    assert len(made.updates) == 1


# --- resuming --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    stop=st.integers(0, 50),
    update_at=st.integers(0, 50),
    replacement=st.booleans(),
    epoch=st.integers(0, 2),
    rank=st.integers(0, 1),
)
def test_a_stopped_epoch_goes_on_with_exactly_what_was_left(
    stop: int, update_at: int, replacement: bool, epoch: int, rank: int
) -> None:
    options = {"replacement": replacement, "seed": 5, "num_replicas": 2, "rank": rank}
    whole = sampler(**options)
    whole.set_epoch(epoch)
    expected, state = [], None
    for place, index in enumerate(whole):
        if place == update_at:
            whole.update(LATER)  # counts from the index after this one
        expected.append(index)
        if place + 1 == stop:
            state = json.loads(json.dumps(whole.state_dict()))  # what a checkpoint would hold
    resumed = sampler(**options)
    if state is None:
        state = {**whole.state_dict(), "position": 0} if stop == 0 else whole.state_dict()
    resumed.load_state_dict(state)
    resumed.set_epoch(epoch)  # what a loop does in any case
    left = []
    for index in resumed:
        left.append(index)
        if stop + len(left) == update_at + 1 and len(resumed.updates) == 1:
            resumed.update(LATER)
    assert left == expected[stop:]
    resumed.set_epoch(epoch + 1)
    assert len(list(resumed)) == 50


def test_a_loader_that_reads_ahead_says_how_much_was_used() -> None:
    made = sampler(seed=9)
    whole = list(made)
    iterator = iter(DataLoader(range(100), batch_size=10, sampler=made))  # type: ignore[arg-type]
    assert next(iterator).tolist() == whole[:10]
    next(iterator)
    resumed = sampler(seed=9)
    resumed.load_state_dict(made.state_dict(consumed=10))  # one batch trained on, one only read
    batches = [batch.tolist() for batch in DataLoader(range(100), batch_size=10, sampler=resumed)]  # type: ignore[arg-type]
    assert [index for batch in batches for index in batch] == whole[10:]
    with pytest.raises(UserInputError, match="consumed is 101"):
        made.state_dict(consumed=101)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed 0, this one has 1"),
        ({"domains": DOMAINS[:99]}, "n_examples 100, this one has 99"),
        ({"replacement": False}, "replacement True, this one has False"),
        ({"num_samples": 50}, "num_samples 100, this one has 50"),
    ],
)
def test_the_state_of_another_sampler_is_refused(changes: dict[str, Any], message: str) -> None:
    state = sampler().state_dict()
    with pytest.raises(DataError) as caught:
        sampler(**changes).load_state_dict(state)
    assert message in str(caught.value)


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="not a SamplerState"):
        sampler().load_state_dict({"epoch": 3})
