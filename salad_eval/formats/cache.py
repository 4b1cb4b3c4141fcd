"""Folders made once from something else, under a name that says from what; shared by runs and by processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """``$SALAD_CACHE`` where the variable is set, else ``~/.cache/salad-gap``."""
    cache = os.environ.get("SALAD_CACHE")
    return Path(cache).expanduser() if cache else Path.home() / ".cache" / "salad-gap"


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``models/<name>`` of the cache, which ``make`` fills (it is given an empty folder) if it is not there.

    ``name`` must hold a hash of everything that the contents depend on. The folder appears whole or not at all: it is made under
    another name and renamed; where two processes make it at once, the first one's stays.
    """
    final = cache_root() / "models" / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=final.parent))
    try:
        make(making)
        making.chmod(0o755)  # mkdtemp's folders are for their owner alone
        with contextlib.suppress(OSError):  # another process was faster
            making.rename(final)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return final
