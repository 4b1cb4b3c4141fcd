"""Who is who: digests of records, files and models. What is kept under a key is found again by an equal one only.

A key is made of fingerprints alone, each of which its owner states: a source of its documents, a plug-in of its options, weights
and libraries. A path or a name is no fingerprint: what lies there may change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from salad_eval import records


def digest(*parts: object) -> str:
    """Sha256 (32 hex digits) over records, mappings and plain values, by their JSON form."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(records.dumps(part).encode())
        hasher.update(b"\n")
    return hasher.hexdigest()[:32]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Sha256 of a file's bytes, in hex. Kept for the process by path, size and time of change, so that asking again is free."""
    stat = os.stat(path)
    return _file_sha256(os.fspath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_sha256(path: str, size: int, mtime_ns: int) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def files_digest(paths: Iterable[str | os.PathLike[str]]) -> str:
    """``sha256:`` and 16 hex digits over the names and bytes of files, in their order."""
    hasher = hashlib.sha256()
    for path in paths:
        hasher.update(f"{Path(path).name}\0{file_sha256(path)}\n".encode())
    return f"sha256:{hasher.hexdigest()[:16]}"
