"""The keeper of results: what is used again, what is made again, what is said of it, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError, SaladError
from salad_eval.pipeline.folder import RunFolder, Step
from salad_eval.types import Score

STEP = Step("score", Score, version="1", chunk=3)
UNITS = list(range(8))


def score(unit: int) -> Score:
    return Score(str(unit), "base_text", None, None, 1.0)


class Maker:
    """Makes scores; knows which it made, and dies where it is told to."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.made: list[int] = []
        self.dies_at = dies_at

    def __call__(self, chunks: Sequence[Sequence[int]]) -> Iterator[list[Score]]:
        for chunk in chunks:
            if self.dies_at in chunk:
                raise KeyboardInterrupt
            self.made += chunk
            yield [score(unit) for unit in chunk]


def run(path: Path, maker: Maker, depends_on: dict[str, str] | None = None, step: Step[Score] = STEP) -> list[Score]:
    with RunFolder(path) as folder:
        return folder.run(step, UNITS, maker, depends_on=depends_on or {"items": "a"})


def remade(path: Path) -> list[int]:
    maker = Maker()
    assert run(path, maker) == [score(unit) for unit in UNITS]
    return maker.made


DAMAGES = {
    "nothing": lambda data: data,
    "last line cut": lambda data: data[:-9],
    "last line gone": lambda data: data[: data[:-1].rindex(b"\n") + 1],
    "a line doubled": lambda data: data[: data.index(b"\n") + 1] + data,
    "a value changed": lambda data: data.replace(b"1.0", b"0.0", 1),
    "not a number": lambda data: data.replace(b"1.0", b"NaN", 1),
    "emptied": lambda data: b"",
    "not UTF-8": lambda data: b"\xff" + data[1:],
    "lines in another order": lambda data: b"".join(reversed(data.splitlines(keepends=True))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_step_is_made_again_and_says_so(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, Maker())
    file = tmp_path / "score.jsonl"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    made = remade(tmp_path)
    told = capsys.readouterr().err
    if damage == "nothing":
        assert (made, told) == ([], "")
    else:
        assert made == UNITS
        assert told == f"· score is made again: {file} is not what was written (its checksum is another one)\n"
    assert remade(tmp_path) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_step_under_way_goes_on_from_its_undamaged_chunks(damage: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Maker(dies_at=7))
    file = tmp_path / "score.jsonl.partial"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    expected = {
        "nothing": UNITS[6:],
        "last line cut": UNITS[3:],
        "last line gone": UNITS[3:],
    }.get(damage, UNITS)
    assert remade(tmp_path) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "score.jsonl", "steps.json"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.integers(0, 600), sums=st.integers(0, 600))
def test_whatever_is_left_of_a_step_under_way_it_ends_alike(tmp_path: Path, lines: int, sums: int) -> None:
    folder = tmp_path / "cut"
    shutil.rmtree(folder, ignore_errors=True)
    with pytest.raises(KeyboardInterrupt):
        run(folder, Maker(dies_at=7))
    for name, size in (("score.jsonl.partial", lines), ("score.jsonl.sums", sums)):
        (folder / name).write_bytes((folder / name).read_bytes()[:size])
    assert remade(folder)[-2:] == [6, 7]


def test_a_kill_between_the_last_rename_and_the_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Maker())
    assert (tmp_path / "score.jsonl.sums").exists()
    assert remade(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "score.jsonl", "steps.json"]


def killed(path: Path, missing_ok: bool = False) -> None:
    if path.name.endswith(".sums") and path.with_suffix("").exists():
        raise KeyboardInterrupt


def test_a_step_under_way_that_was_cut_into_other_chunks_begins_where_both_agree(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Maker(dies_at=7), step=Step("score", Score, version="1", chunk=2))
    maker = Maker()
    run(tmp_path, maker, step=Step("score", Score, version="1", chunk=4))
    assert maker.made == UNITS[4:]


def test_what_was_made_of_something_else_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, Maker(), {"system": "llm 1", "items": "0" * 32})
    run(tmp_path, Maker(), {"system": "llm 2", "items": "1" * 32})
    assert capsys.readouterr().err == "· score is made again: other system (was llm 1, is llm 2); other items\n"
    run(tmp_path, Maker(), {"system": "llm 2", "items": "1" * 32}, Step("score", Score, version="2", chunk=3))
    assert capsys.readouterr().err == "· score is made again: other version (was 1, is 2)\n"


def test_steps_json_says_how_many_lines_and_their_checksum(tmp_path: Path) -> None:
    import hashlib

    run(tmp_path, Maker())
    state = json.loads((tmp_path / "steps.json").read_text())["steps"]["score"]
    assert state["n_lines"] == 8
    assert state["sha256"] == hashlib.sha256((tmp_path / "score.jsonl").read_bytes()).hexdigest()
    assert state["depends_on"] == {"version": "1", "items": "a"}


@pytest.mark.parametrize("state", ["{}garbage", "", "[]", '{"steps": {"score": {"key": 1}}}'])
def test_a_state_that_cannot_be_read_is_none(state: str, tmp_path: Path) -> None:
    run(tmp_path, Maker())
    (tmp_path / "steps.json").write_text(state)
    assert remade(tmp_path) == UNITS


# --- the folder itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["removed", "removed and made again"])
def test_a_folder_that_is_removed_in_mid_run_ends_the_run(again: str, tmp_path: Path) -> None:
    path = tmp_path / "run"

    def make(chunks: Sequence[Sequence[int]]) -> Iterator[list[Score]]:
        for chunk in chunks:
            if 3 in chunk:
                shutil.rmtree(path)
                if again != "removed":
                    path.mkdir()
            yield [score(unit) for unit in chunk]

    with (
        pytest.raises(SaladError, match="was removed or replaced while the run was writing to it"),
        RunFolder(path) as folder,
    ):
        folder.run(STEP, UNITS, make, depends_on={})
    assert not path.exists() or not list(path.iterdir())


def test_what_killed_runs_were_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for left in (".gap_report.json.abc.tmp", "figures/.gap.svg.abc.tmp"):
        (tmp_path / left).touch()
    (tmp_path / "mine.tmp").touch()
    with RunFolder(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "figures", "mine.tmp"]


def test_a_folder_in_the_way_of_a_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "steps.json").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*steps\.json: Is a directory"):
        run(tmp_path, Maker())
