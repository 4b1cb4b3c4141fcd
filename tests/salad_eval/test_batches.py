"""Batches of like length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salad_eval import batches
from salad_eval.batches import in_batches, of_like_length


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


# --- memory ----------------------------------------------------------------------------------------------------------


class Memory:
    """Room for so much padded length at a time; what does not fit ends as ``says``."""

    def __init__(self, lengths: list[int], room: int, says: Exception) -> None:
        self.lengths, self.room, self.says = lengths, room, says
        self.asked: list[list[int]] = []

    def __call__(self, batch: list[int]) -> list[str]:
        self.asked.append(batch)
        if len(batch) * max(self.lengths[place] for place in batch) > self.room:
            raise self.says
        return [f"answer {place}" for place in batch]


def test_a_batch_that_memory_does_not_hold_is_halved_and_what_was_done_is_kept() -> None:
    lengths = [1, 1, 1, 1, 5, 5, 5, 5]
    memory = Memory(lengths, 10, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    found, limit = in_batches(lengths, 20, memory)
    assert found == [f"answer {place}" for place in range(8)]
    assert limit == 10
    assert memory.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7]]
    assert in_batches(lengths, limit, memory)[1] == 10


@pytest.mark.parametrize(
    "says",
    [
        MemoryError(),
        torch.OutOfMemoryError("HIP out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_one_that_does_not_fit_alone_is_an_error(says: Exception) -> None:
    memory = Memory([3, 9], 4, says)
    with pytest.raises(MemoryError, match="with one recording or prompt at a time"):
        in_batches([3, 9], 100, memory)
    assert memory.asked[-1] == [1]
    assert memory.asked.count([0]) == 1


@pytest.mark.parametrize("says", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_pass(says: Exception) -> None:
    memory = Memory([3, 3], 3, says)
    with pytest.raises(type(says)):
        in_batches([3, 3], 100, memory)
    assert memory.asked == [[0, 1]]


@given(lengths=st.lists(st.integers(1, 20), max_size=20), limit=st.integers(1, 200), room=st.integers(20, 60))
def test_everything_is_answered_whatever_memory_holds(lengths: list[int], limit: int, room: int) -> None:
    memory = Memory(lengths, room, MemoryError())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "free_memory", lambda: None)  # collects garbage, which a whole suite has much of
        answers, _ = in_batches(lengths, limit, memory)
    assert answers == [f"answer {place}" for place in range(len(lengths))]
