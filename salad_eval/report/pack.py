"""The items of a page, packed: columns of numbers and one pool of texts, deflated and in base64, so that ten thousand open in a blink.

Layout before deflation (little-endian): the length of the header (uint32), the header (JSON), the arrays in the header's order, each
beginning at a multiple of 8 bytes, then the texts (UTF-8, parted by a zero byte). A text is named by its place in the pool; place 0 is
the empty one, ``NONE`` no text at all. ``reports/templates/items.js`` reads it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.gap.grid import clean_first
from salad_eval.gap.items import Answer, HeardItem, HeardPart
from salad_eval.gap.pair import NO_VALUE
from salad_eval.report.sound import PageSound
from salad_eval.types import COLUMN_FORM, ColumnName, Item

NONE = 0xFFFFFFFF  # no text
NO_CHOICE = -1
VALUE_STEPS = 200  # how right an answer is, as a whole number of these
_LEVEL = 9
_KEPT_BITS = np.uint32(0xFFFFF000)  # of a float32: 3 significant digits, and bytes that deflate well


@dataclass(frozen=True, slots=True)
class Names:
    """The values that a reader filters by, in the order of their codes."""

    tasks: tuple[str, ...]
    domains: tuple[str, ...]
    voices: tuple[str, ...]
    conditions: tuple[str, ...]
    causes: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]  # values of the items' fields that a reader filters by as well


def names_of(items: Sequence[HeardItem], causes: Sequence[str], fields: Sequence[str]) -> Names:
    """The values that occur, sorted, clean first; ``causes`` in the order given; ``fields`` of the items."""
    return Names(
        tasks=_seen(heard.item.task for heard in items),
        domains=_seen(heard.item.domain for heard in items),
        voices=_seen(heard.voice for heard in items),
        conditions=clean_first(heard.condition for heard in items),
        causes=tuple(causes),
        fields={field: _seen(heard.item.fields.get(field, NO_VALUE) for heard in items) for field in fields},
    )


def _seen(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


class _Pool:
    """Texts, each once, numbered in the order of their first use."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {"": 0}

    def place(self, text: str | None) -> int:
        return NONE if text is None else self._places.setdefault(text, len(self._places))

    def encoded(self) -> bytes:
        # No byte of another character is zero; one that is becomes a mark of what cannot be shown, as do lone surrogates.
        return "\0".join(text.replace("\0", "�") for text in self._places).encode("utf-8", "replace")


def packed(
    items: Sequence[HeardItem],
    columns: Sequence[ColumnName],
    names: Names,
    *,
    sound: PageSound | None,
    facts: Mapping[str, object],
) -> str:
    """Base64 of the deflated table, a row a rendering. ``facts``: JSON values that go into the header as they are."""
    pool = _Pool()
    asked: dict[str, int] = {}  # item id -> place
    first: list[HeardItem] = []
    places = np.empty(len(items), dtype=np.uint32)
    for row, heard in enumerate(items):
        if heard.item.id not in asked:
            asked[heard.item.id] = len(first)
            first.append(heard)
        places[row] = asked[heard.item.id]
    arrays = {
        **_item_arrays([heard.item for heard in first], names, pool),
        **_part_arrays(items, pool, sound),
        "row.item": places,
        "row.voice": _codes([heard.voice for heard in items], names.voices),
        "row.condition": _codes([heard.condition for heard in items], names.conditions),
        "row.cause": _codes([heard.cause for heard in items], names.causes),
        "row.errors": np.array([heard.word_errors for heard in items], dtype=np.uint32),
        "row.words": np.array([heard.n_words for heard in items], dtype=np.uint32),
        "row.m": _floats([heard.misalignment for heard in items]),
    }
    for column in columns:
        of = first if COLUMN_FORM[column] == "text" else items
        arrays |= _answer_arrays(column, [heard.answers[column] for heard in of], pool)
    header = {
        **facts,
        "rows": len(items),
        "items": len(first),
        "columns": [[column, "item" if COLUMN_FORM[column] == "text" else "row"] for column in columns],
        "sound_bytes": sound.digits // 2 if sound is not None else 0,
        "names": {"task": names.tasks, "domain": names.domains, "voice": names.voices, "condition": names.conditions,
                  "cause": names.causes},
        "fields": [[field, values] for field, values in names.fields.items()],
        "arrays": [[name, _KINDS[array.dtype.str.lstrip("<|")], len(array)] for name, array in arrays.items()],
    }  # fmt: skip
    return base64.b64encode(zlib.compress(_joined(header, arrays, pool), _LEVEL)).decode("ascii")


_KINDS = {"u1": "Uint8Array", "u2": "Uint16Array", "i2": "Int16Array", "u4": "Uint32Array", "f4": "Float32Array"}


def _joined(header: Mapping[str, object], arrays: Mapping[str, np.ndarray], pool: _Pool) -> bytes:
    head = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode()
    blocks = [len(head).to_bytes(4, "little") + head, *(_little(array) for array in arrays.values())]
    return b"".join(block + bytes(-len(block) % 8) for block in blocks) + pool.encoded()


def _little(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _codes(values: Sequence[str], names: Sequence[str]) -> np.ndarray:
    code = {name: place for place, name in enumerate(names)}
    return np.array([code[value] for value in values], dtype=np.uint16)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    """NaN where there is none."""
    whole = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    return (whole.view(np.uint32) & _KEPT_BITS).view(np.float32)


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)


def _item_arrays(items: Sequence[Item], names: Names, pool: _Pool) -> dict[str, np.ndarray]:
    def texts(of: Callable[[Item], Sequence[str]]) -> np.ndarray:
        return np.array([pool.place(text) for item in items for text in of(item)], dtype=np.uint32)

    fields = {
        f"field.{field}": _codes([item.fields.get(field, NO_VALUE) for item in items], values)
        for field, values in names.fields.items()
    }
    return fields | {
        "item.task": _codes([item.task for item in items], names.tasks),
        "item.domain": _codes([item.domain for item in items], names.domains),
        "item.text": texts(lambda item: (item.id, item.context, "\n".join(item.answers))),  # three an item
        "option.start": _offsets([len(item.choices) for item in items]),
        "option.text": texts(lambda item: item.choices),
        "gold.start": _offsets([len(item.golds) for item in items]),
        "gold.option": np.array([gold for item in items for gold in item.golds], dtype=np.uint16),
    }


def _part_arrays(items: Sequence[HeardItem], pool: _Pool, sound: PageSound | None) -> dict[str, np.ndarray]:
    parts: list[HeardPart] = [part for heard in items for part in heard.parts]
    texts = [pool.place(text) for part in parts for text in (part.name, part.said, part.heard)]
    sounds = b"".join(sound.key(part.sha256) for part in parts) if sound is not None else b""
    return {
        "part.start": _offsets([len(heard.parts) for heard in items]),
        "part.text": np.array(texts, dtype=np.uint32),  # three a part
        "part.sound": np.frombuffer(sounds, dtype=np.uint8),
    }


def _answer_arrays(column: ColumnName, answers: Sequence[Answer], pool: _Pool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        f"{column}.value": np.array([round(answer.value * VALUE_STEPS) for answer in answers], dtype=np.uint8),
        f"{column}.choice": np.array(
            [NO_CHOICE if answer.chosen is None else answer.chosen for answer in answers], dtype=np.int16
        ),
        f"{column}.margin": _floats([answer.margin for answer in answers]),
    }
    if any(answer.text is not None for answer in answers):
        arrays[f"{column}.text"] = np.array([pool.place(answer.text) for answer in answers], dtype=np.uint32)
    return arrays
