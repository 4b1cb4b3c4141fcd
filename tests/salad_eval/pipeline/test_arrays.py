"""An array comes back from another process as it went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from salad_eval import records
from salad_eval.pipeline.arrays import Packed

NUMBERS = st.sampled_from(["<f2", "<f4", ">f8", "<i8", "|u1", "|b1"]).map(np.dtype)


@given(arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
def test_an_array_is_the_same_to_the_bit(array: np.ndarray) -> None:
    found = records.loads(Packed, records.dumps(Packed.of(array))).array()
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert found.flags.writeable


def test_only_parts_of_an_array_are_taken_where_they_are_asked_for() -> None:
    rows = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(Packed.of(rows[:, 1]).array(), [1.0, 5.0, 9.0])


@pytest.mark.parametrize("dtype", [object, [("a", "<f4")]])
def test_what_is_more_than_numbers_is_refused(dtype: object) -> None:
    with pytest.raises(TypeError, match="expected plain numbers"):
        Packed.of(np.zeros(2, dtype=dtype))  # type: ignore[call-overload]
