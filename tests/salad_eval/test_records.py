"""Records to JSON lines and back: exact, checked, and safe against a kill in the middle of a line."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval import records
from salad_eval.errors import DataError
from salad_eval.types import DivergenceRates, Estimate, GapRow, Item, Response, Score, SpokenPart

ITEM = Item(
    "q1",
    "nano",
    "test",
    "chemistry",
    "Which é?\n",
    ("H", "He"),
    1,
    "g1",
    (SpokenPart("context", 0, 8),),
    fields={"k": "v"},
)
ESTIMATE = Estimate(0.1, None, 0.2, 3)
ROW = GapRow(
    name="all",
    n_items=3,
    n_groups=2,
    accuracy={"base_text": ESTIMATE},
    gap=ESTIMATE,
    forgetting=ESTIMATE,
    misalignment=ESTIMATE,
    cascade_loss=None,
    p_value=0.5,
    q_value=None,
    shrunk_gap=None,
    wer=0.25,
    divergence_nats=DivergenceRates(1.0, 2.0, 3.0, 4),
    taxonomy={"right": 1.0},
)
SCORES = [Score(f"q{i}", "base_text", None, None, 1.0) for i in range(5)]


@pytest.mark.parametrize("record", [ITEM, ROW, SCORES[0]], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal(record: object) -> None:
    assert records.from_json(type(record), records.to_json(record)) == record
    assert records.loads(type(record), records.dumps(record)) == record


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_come_back_to_the_last_bit(values: list[float]) -> None:
    response = Response("q", "base_text", "text", None, None, tuple(values))
    back = records.loads(Response, records.dumps(response)).choice_logprobs
    assert back is not None
    assert [value.hex() for value in back] == [value.hex() for value in values]


@given(st.text())
def test_any_text_comes_back_on_one_line(text: str) -> None:
    line = records.dumps(Score(text, "base_text", None, None, None, reason=text))
    assert "\n" not in line
    assert records.loads(Score, line).reason == text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"item_id": 1}, "item_id: Input should be a valid string"),
        ({"column": "bogus"}, "column: .*base_text.*got 'bogus'"),
        ({"value": "1.0"}, "value: Input should be a valid number"),
        ({"parsed": 1}, "parsed: Input should be a valid boolean"),
        ({"predicted": 1.5}, "predicted: .*integer"),
        ({"extra": 1}, "extra: Unexpected"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], told: str) -> None:
    data = records.to_json(SCORES[0])
    assert isinstance(data, dict)
    with pytest.raises(DataError, match=told):
        records.from_json(Score, {**data, **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DataError, match=r"Estimate: .*n: Field required"):
        records.from_json(Estimate, {"value": 0.1, "low": None, "high": None})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.zeros(2), np.float32(1), object(), {1: "a"}, b"x"])
def test_what_json_cannot_hold_is_refused_when_written(value: object) -> None:
    with pytest.raises(TypeError):
        records.dumps(Score("q", "base_text", None, None, value))  # type: ignore[arg-type]


def test_numpy_floats_of_double_precision_are_floats() -> None:
    assert records.to_json(np.float64(0.5)) == 0.5
    assert type(records.to_json(np.float64(0.5))) is float


def test_write_read_append(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.jsonl"
    assert records.write_jsonl(path, SCORES[:2]) == 2
    assert records.append_jsonl(path, SCORES[2:]) == 3
    assert records.read_jsonl(path, Score) == SCORES
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    records.write_jsonl(path, SCORES)
    with pytest.raises(TypeError):
        records.write_jsonl(path, [SCORES[0], object()])
    assert records.read_jsonl(path, Score) == SCORES
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_at_any_byte_loses_at_most_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    parts = [SpokenPart("a", 0, 1), SpokenPart("é", 2, 3)]
    records.write_jsonl(path, parts)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        # A record counts as written once its last brace is there; the newline adds nothing to read.
        kept = parts[: sum(end - 1 <= cut for end in ends)]
        assert records.read_jsonl(path, SpokenPart) == kept
        with records.JsonlLog(path, SpokenPart) as log:
            assert log.append(parts[0]) == 1
            assert log.read() == [*kept, parts[0]]


def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    records.write_jsonl(path, SCORES[:1])
    with open(path, "ab") as file:
        file.write(b'{"item_id": \n' + records.dumps(SCORES[1]).encode() + b"\n")
    with pytest.raises(DataError, match=r"scores\.jsonl, line 2: not a Score"):
        records.read_jsonl(path, Score)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'{"item_id": 1}', b"\xff\xfe\n", b"null\n"])
def test_other_lines_than_records_are_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(line)
    with pytest.raises(DataError, match="line 1"):
        records.read_jsonl(path, Score)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        records.read_jsonl(tmp_path / "none.jsonl", Score)
    assert records.JsonlLog(tmp_path / "none.jsonl", Score).read() == []


def test_a_log_opens_no_file_before_its_first_record(tmp_path: Path) -> None:
    with records.JsonlLog(tmp_path / "scores.jsonl", Score):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_dataclasses_are_records() -> None:
    with pytest.raises(TypeError, match="dataclasses"):
        records.loads(dict, "{}")


# --- whole files -----------------------------------------------------------------------------------------------------


def test_a_whole_file_has_the_mode_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "opened").write_text("x")
    records.write_atomic(tmp_path / "text", "x")
    records.write_jsonl(tmp_path / "lines", SCORES)
    with records.whole_folder(tmp_path / "folder") as folder:
        (folder / "private").touch(0o600)
        (folder / "deep").mkdir(0o700)
    expected = (tmp_path / "opened").stat().st_mode
    assert {(tmp_path / name).stat().st_mode for name in ("text", "lines", "folder/private")} == {expected}
    (tmp_path / "made").mkdir()
    assert {(tmp_path / name).stat().st_mode for name in ("folder", "folder/deep")} == {
        (tmp_path / "made").stat().st_mode
    }


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "\N{GRINNING FACE}" * 63])
def test_any_name_that_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    records.write_atomic(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "file" / "inside", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match=r"cannot write .*: "):
            records.write_atomic(target, "x")
    with pytest.raises(DataError, match="cannot write"), records.whole_folder(tmp_path / "file" / "inside"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with contextlib.suppress(ValueError), records.whole_folder(target) as folder:
        (folder / "new").touch()
        raise ValueError
    assert [path.name for path in target.iterdir()] == ["old"]
    with records.whole_folder(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_process_was_writing_can_be_removed(tmp_path: Path) -> None:
    left: list[Path] = []
    with contextlib.suppress(ValueError), records.whole_file(tmp_path / "a"):
        left += tmp_path.iterdir()
        raise ValueError
    assert not list(tmp_path.iterdir())
    for path in left:
        path.touch()  # as a kill would have left it
    (tmp_path / f".b.x{records.UNFINISHED}").mkdir()
    (tmp_path / ".kept").touch()
    records.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".kept"]


@pytest.mark.parametrize("text", ["[" * 100_000, b"[" * 100_000, '{"a": 1', b"\xff"])
def test_json_of_others_is_read_or_a_value_error(text: str | bytes) -> None:
    assert records.parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting|codec"):
        records.parse_json(text)
