"""Names as they are given on the command line: repeated, or in one text with commas."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NEXT = re.compile(r",(?!\s*[a-z_]+=)")  # a comma that no setting follows: noise,snr=10 is one name


def names_in(texts: Iterable[str] | None) -> list[str]:
    """``["a,b", "noise,snr=10"]`` as ``a``, ``b`` and ``noise,snr=10``; a setting stays with its name."""
    return [name.strip() for text in texts or () for name in _NEXT.split(text) if name.strip()]
