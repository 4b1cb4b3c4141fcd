"""The packed items, read back in Python as the page reads them in JavaScript."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.gap.items import heard_items
from salad_eval.gap.pair import TAXONOMY
from salad_eval.report.pack import NONE, VALUE_STEPS, names_of, packed
from salad_eval.report.sound import PageSound
from salad_eval.types import COLUMN_FORM, COLUMNS
from tests.helpers.page_world import page_world

DTYPES = {"Uint8Array": "u1", "Uint16Array": "<u2", "Int16Array": "<i2", "Uint32Array": "<u4", "Float32Array": "<f4"}


def unpacked(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray], list[str]]:
    """Header, arrays, texts."""
    data = zlib.decompress(base64.b64decode(text))
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    at = -(-(4 + length) // 8) * 8
    arrays = {}
    for name, kind, n in header["arrays"]:
        arrays[name] = np.frombuffer(data, dtype=DTYPES[kind], count=n, offset=at)
        at += -(-arrays[name].nbytes // 8) * 8
    return header, arrays, data[at:].decode().split("\0")


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    rows = heard_items(made.records, made.report)
    sound = PageSound(12, form="wav", beside=frozenset(part.sha256 for row in rows for part in row.parts))
    header, arrays, texts = unpacked(
        packed(rows, COLUMNS, names_of(rows, TAXONOMY, ["kind"]), sound=sound, facts={"a": "fact"})
    )
    assert (header["rows"], header["items"], header["a"], header["sound_bytes"]) == (len(rows), 48, "fact", 6)
    names = header["names"]
    for place in (0, 17, len(rows) - 1):
        row, item = rows[place], arrays["row.item"][place]
        assert texts[arrays["item.text"][3 * item]] == row.item.id
        assert texts[arrays["item.text"][3 * item + 1]] == row.item.context
        assert names["domain"][arrays["item.domain"][item]] == row.item.domain
        assert header["fields"][0][1][arrays["field.kind"][item]] == row.item.fields["kind"]
        assert names["voice"][arrays["row.voice"][place]] == row.voice
        assert names["condition"][arrays["row.condition"][place]] == row.condition
        assert names["cause"][arrays["row.cause"][place]] == row.cause
        assert (arrays["row.errors"][place], arrays["row.words"][place]) == (row.word_errors, row.n_words)
        assert arrays["row.m"][place] == pytest.approx(row.misalignment, rel=1e-3)
        options = arrays["option.text"][arrays["option.start"][item] : arrays["option.start"][item + 1]]
        assert tuple(texts[option] for option in options) == row.item.choices
        assert list(arrays["gold.option"][arrays["gold.start"][item] : arrays["gold.start"][item + 1]]) == list(
            row.item.golds
        )
        part = arrays["part.start"][place]
        assert texts[arrays["part.text"][3 * part + 1]] == row.parts[0].said
        assert texts[arrays["part.text"][3 * part + 2]] == row.parts[0].heard
        assert bytes(arrays["part.sound"][6 * part : 6 * part + 6]).hex() == row.parts[0].sha256[:12]
        for column in COLUMNS:
            at = item if COLUMN_FORM[column] == "text" else place
            answer = row.answers[column]
            assert arrays[f"{column}.value"][at] == round(answer.value * VALUE_STEPS)
            assert arrays[f"{column}.choice"][at] == answer.chosen
            assert arrays[f"{column}.margin"][at] == pytest.approx(answer.margin, rel=1e-3)


def test_texts_are_kept_once_and_stay_apart(tmp_path: Path) -> None:
    made = page_world(tmp_path, lambda text: text.replace("item", "zero\0byte lone\ud800surrogate é漢"))
    rows = heard_items(made.records, made.report)
    _, arrays, texts = unpacked(packed(rows, COLUMNS, names_of(rows, TAXONOMY, []), sound=None, facts={}))
    assert len(texts) == len(set(texts))
    assert texts[arrays["item.text"][1]].startswith("Question: Which ")
    assert "zero�byte lone?surrogate é漢" in texts[arrays["item.text"][1]]
    assert len(arrays["part.sound"]) == 0


def test_what_is_missing_is_marked(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    rows = [
        replace(
            row,
            misalignment=None,
            parts=tuple(replace(part, heard=None) for part in row.parts),
            answers={column: replace(answer, chosen=None, margin=None) for column, answer in row.answers.items()},
        )
        for row in heard_items(made.records, made.report)
    ]
    _, arrays, _ = unpacked(packed(rows, COLUMNS, names_of(rows, TAXONOMY, []), sound=PageSound(12), facts={}))
    assert np.isnan(arrays["row.m"]).all()
    assert np.isnan(arrays["adapted_speech.margin"]).all()
    assert set(arrays["adapted_speech.choice"]) == {-1}
    assert set(arrays["part.text"][2::3]) == {NONE}
    assert not arrays["part.sound"].any()  # no sound is there
