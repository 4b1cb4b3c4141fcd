"""Right and wrong answers as bits, so that a record of a thousand answers stays a line."""

from __future__ import annotations

import numpy as np


def as_hex(right: np.ndarray) -> str:
    """(items, voices) bool as hexadecimal digits, item by item and voice by voice, padded with zeros to a whole byte."""
    return np.packbits(np.asarray(right, dtype=bool).reshape(-1)).tobytes().hex()


def from_hex(text: str, n_items: int) -> np.ndarray:
    """(items, voices) bool. The number of voices is what the bits have room for."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)).astype(bool)
    return bits[: len(bits) // n_items * n_items].reshape(n_items, -1)
