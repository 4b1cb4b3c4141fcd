"""Freed memory that stays with the process: what glibc does with large arrays is made for programs that free them once."""

from __future__ import annotations

import ctypes
import os

_SAID_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them in malloc.h
_LARGEST_KEPT, _KEPT_IN_ALL = 64 << 20, 128 << 20


def keep_freed_memory() -> None:
    """From here on arrays under 64 MiB are taken from memory that was freed before, up to 128 MiB of it; where the C library is not
    glibc, or the user has set its thresholds, nothing happens.

    Left alone, glibc gives an array of a few MiB back to the system when it is freed, and the next one is zeroed page by page:
    models make such arrays in every layer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not any(name in os.environ for name in _SAID_BY_USER):
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT_IN_ALL)
