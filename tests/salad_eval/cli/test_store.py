"""``salad store``: what it prints, which runs it spares, and with which code it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from salad_eval.cli.main import main
from salad_eval.errors import UserInputError
from salad_eval.pipeline.render import RenderOutcome
from salad_eval.records import write_jsonl
from salad_eval.types import CLEAN, Rendering
from tests.salad_eval.audio.test_upkeep import DAY, NOW, filled


def salad(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    try:
        main([str(arg) for arg in args])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_store_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    filled(tmp_path, [DAY, DAY], voice="[red]anna")
    code, out, _ = salad(capsys, "store", "ls", "--store", tmp_path)
    assert code == 0
    assert out.startswith(f"{tmp_path}: 2 sounds, 0.00 GB\n")
    assert "engine_1-" in out
    assert "red_anna-" in out


def test_garbage_is_removed_but_for_what_a_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, names = filled(tmp_path / "audio", [NOW, NOW])  # used when the clock began
    run = tmp_path / "run"
    run.mkdir()
    mine = Rendering("item", "text", "anna", CLEAN, "sentence 0", names[0], 16_000, 800)
    write_jsonl(run / "render.jsonl", [RenderOutcome(mine, None)])
    asked = ("store", "gc", "--max-size", "0", "--store", store.root, "--keep-run", run)
    code, out, _ = salad(capsys, *asked, "--dry-run")
    assert (code, "1 sounds, 0.00 GB would be removed" in out) == (0, True)
    assert all(name in store for name in names)
    code, out, _ = salad(capsys, *asked)
    assert (code, "1 sounds, 0.00 GB removed" in out, "those of a run to keep" in out) == (0, True, True)
    assert [name in store for name in names] == [True, False]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--max-size", "lots"), "'lots' is no size"),
        (("--max-size", "0", "--keep-run", "nowhere"), "no run is there that has rendered"),
    ],
)
def test_what_cannot_be_followed_is_said(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = salad(capsys, "store", "gc", "--store", tmp_path, *more)
    assert code == UserInputError.exit_code
    assert message in err


def test_a_damaged_sound_ends_in_an_error_until_it_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, names = filled(tmp_path, [DAY, DAY])
    store.path(names[0]).write_bytes(b"")
    code, out, err = salad(capsys, "store", "verify", "--store", tmp_path)
    assert (code, f"damaged: {store.path(names[0])}" in out) == (1, True)
    assert "salad store verify --remove" in err
    assert salad(capsys, "store", "verify", "--store", tmp_path, "--remove")[0] == 0
    code, out, _ = salad(capsys, "store", "verify", "--store", tmp_path)
    assert (code, "1 sounds read, 0 damaged" in out) == (0, True)
