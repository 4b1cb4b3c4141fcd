"""Batches of like length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.batches import of_like_length


@pytest.mark.parametrize(
    ("lengths", "limit", "options", "expected"),
    [
        ([], 10, {}, []),
        ([5], 1, {}, [[0]]),  # one at least
        ([1, 1, 1], 3, {}, [[0, 1, 2]]),
        ([1, 1, 1], 2, {}, [[0, 1], [2]]),
        ([1, 4, 1, 4], 8, {}, [[0, 2], [1, 3]]),
        ([2, 1, 3], 100, {}, [[1, 0, 2]]),
        ([2, 1, 2], 100, {"equal": True}, [[1], [0, 2]]),
        ([2, 1, 3, 1], 100, {"most": 2}, [[1, 3], [0, 2]]),
        ([2, 1, 3, 1], 100, {"places": [3, 0, 1]}, [[1, 3, 0]]),
        ([0.5, 1.5, 0.5], 1.2, {}, [[0, 2], [1]]),
    ],
)
def test_what_comes_together(
    lengths: list[float], limit: float, options: dict[str, object], expected: list[list[int]]
) -> None:
    assert list(of_like_length(lengths, limit, **options)) == expected  # type: ignore[arg-type]


@given(
    lengths=st.lists(st.integers(1, 50), max_size=30),
    limit=st.integers(1, 200),
    equal=st.booleans(),
    most=st.none() | st.integers(1, 5),
)
def test_everything_once_and_no_more_than_the_limit(
    lengths: list[int], limit: int, equal: bool, most: int | None
) -> None:
    found = list(of_like_length(lengths, limit, equal=equal, most=most))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= limit
        assert not equal or len({lengths[place] for place in batch}) == 1
        assert most is None or len(batch) <= most
