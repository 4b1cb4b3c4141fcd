"""Few-shot rows are those that lm-eval's own samplers draw, row after row, and errors say how many there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.benchmarks.shots import LM_EVAL_SEED, SAMPLERS, TooFewShots, picker
from salad_eval.errors import TaskError

numbered = st.lists(st.integers(0, 30), min_size=0, max_size=8)  # equal numbers are equal rows


def rows(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"n": number} for number in numbers]


@settings(max_examples=300, deadline=None)
@given(
    sampler=st.sampled_from(sorted(SAMPLERS)),
    pool=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    asked=numbered,
    n=st.integers(1, 6),
    without_self=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_sampler_draws_what_lm_evals_draws(
    sampler: str, pool: list[int], asked: list[int], n: int, without_self: bool, seed: int
) -> None:
    from lm_eval.api.samplers import get_sampler

    theirs = get_sampler(sampler)(rows(pool), rnd=None).set_rnd(seed)
    ours = picker(sampler, rows(pool), n, without_self, seed)
    for row in rows(asked):
        try:
            expected = list(theirs.sample(n, eval_doc=row if without_self else None))
        except (AssertionError, ValueError):
            with pytest.raises(TooFewShots):
                ours(row)
            return
        assert [rows(pool)[place] for place in ours(row)] == expected


def test_lm_evals_seed() -> None:
    from inspect import signature

    from lm_eval import simple_evaluate

    assert signature(simple_evaluate).parameters["fewshot_random_seed"].default == LM_EVAL_SEED


def test_first_rows_by_hand() -> None:
    pick = picker("first_n", rows([5, 6, 5, 7]), 2, without_self=True, seed=0)
    assert [pick(row) for row in rows([1, 5, 6])] == [[0, 1], [1, 3], [0, 2]]


def test_other_seeds_draw_other_rows() -> None:
    drawn = {tuple(picker("default", rows(list(range(9))), 4, False, seed)({})) for seed in range(20)}
    assert len(drawn) > 10


def test_too_few_rows_say_how_many() -> None:
    with pytest.raises(TooFewShots) as caught:
        picker("default", rows([1, 2, 3]), 3, True, 0)({"n": 9})  # one more is drawn than is shown
    assert (caught.value.needs, caught.value.has) == (4, 3)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(
        TaskError, match=r"sampler is 'first'; did you mean 'first_n'\?; expected one of: default, first_n"
    ):
        picker("first", rows([1]), 1, False, 0)
