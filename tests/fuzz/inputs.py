"""Valid values, damaged in one or a few places. Everything is drawn from the generator that is handed in."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

STRINGS = (
    "", " ", "²", "½", "\ud800", "\x00", "\x1b[31m", "{{", "{{x}}", "{% for %}", "..", "/", "a" * 300, "1e999", "nan", "0b_", "2024-13-01",
    "!!bool x", "<script>", "\u202e", "ﬁ", "١٢", "\n", "null", "-", "…", "é" * 40, "[1]: 2",
)  # fmt: skip
VALUES: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: 0, lambda: -1, lambda: 10**400, lambda: 1e308, lambda: float("nan"), lambda: float("inf"),
    lambda: 0.5,    list, dict, lambda: [[]], lambda: {"": None}, lambda: {"a": {"b": [1]}}, lambda: _nested(60), lambda: ["x"] * 50,
)  # fmt: skip


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def anything(draw: random.Random) -> Any:
    """A value that nobody expects."""
    return draw.choice(STRINGS) if draw.random() < 0.5 else draw.choice(VALUES)()


def damaged(value: Any, draw: random.Random) -> Any:
    """A copy of lists, mappings and plain values with one to three changes: replaced, taken away, doubled, renamed, swapped."""
    root = [copy.deepcopy(value)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        holders = [holder for holder in _holders(root) if len(holder)]
        if not holders:
            break
        _change(draw.choice(holders), draw)
    return root[0] if root else None


def _holders(value: Any) -> list[Any]:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, (dict, list)) else []) + [one for inner in below for one in _holders(inner)]


def _change(holder: Any, draw: random.Random) -> None:
    key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    kind = draw.randrange(6)
    if kind == 0 and isinstance(holder, dict):
        holder[f"{draw.choice(STRINGS)}{key}"[:40]] = holder.pop(key)
    elif kind == 1:
        del holder[key]
    elif kind == 2 and isinstance(holder[key], str):
        holder[key] = damaged_text(holder[key], draw)
    elif kind == 3 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 4:
        holder[key] = [holder[key]]
    else:
        holder[key] = anything(draw)


def damaged_text(text: str, draw: random.Random) -> str:
    """A text with a piece taken out, doubled, or something put in."""
    start, end = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
    letter = chr(draw.choice((draw.randrange(32, 127), draw.randrange(160, 0x2FFF))))
    put = draw.choice(("", text[start:end] * 2, draw.choice(STRINGS), letter))
    return text[:start] + put + text[end if draw.random() < 0.3 else start :]


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """A file that was cut, has a bit turned over, a line doubled or a piece of something else in it."""
    if not data:
        return draw.randbytes(4)
    at = draw.randrange(len(data))
    kind = draw.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    if kind == 2:
        lines = data.splitlines(keepends=True)
        lines.insert(draw.randrange(len(lines)), draw.choice(lines))
        return b"".join(lines)
    if kind == 3:
        return (
            data[:at]
            + draw.choice((b"\x00", b"\xff\xfe", b"{" * 8, b"[" * 1000, b"&a *a ", b"\t", b'"', b"\xed\xa0\x80"))
            + data[at:]
        )
    return draw.randbytes(draw.randrange(1, 40)) + data
