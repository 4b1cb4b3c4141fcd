"""Arrays that cross to another process and back: to the bit, as text that JSON can hold."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Packed:
    """An array as a record. ``dtype`` as numpy writes it, with its byte order; ``data``: its bytes, row after row, in base64."""

    dtype: str
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, array: np.ndarray) -> Packed:
        """Raises ``TypeError`` for what is more than numbers: objects and records of fields."""
        if array.dtype.hasobject or array.dtype.fields:
            raise TypeError(f"an array of {array.dtype} cannot be packed; expected plain numbers")
        return cls(array.dtype.str, array.shape, base64.b64encode(np.ascontiguousarray(array).data).decode("ascii"))

    def array(self) -> np.ndarray:
        """A copy that can be written to."""
        return np.frombuffer(bytearray(base64.b64decode(self.data)), dtype=np.dtype(self.dtype)).reshape(self.shape)
