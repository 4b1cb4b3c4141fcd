"""Lists of a command: what is to be copied from them is whole at 80 columns, and at 40."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text

from salad_eval import plugins
from salad_eval.audio.upkeep import contents
from salad_eval.benchmarks.catalogue import find_tasks
from salad_eval.cli.doctor import Finding, print_findings
from salad_eval.cli.listing import print_list
from salad_eval.cli.model_checks import print_checks, read_checks
from tests.salad_eval.audio.test_upkeep import DAY, filled
from tests.salad_eval.cli.conftest import Salad

SENTENCE = "a sentence of several words about what was found, with a /long/path/to/something"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_names_are_whole_and_no_word_of_prose_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "a-name-of-fifty-characters-[bold]-that-must-be-whole"
    print_list(("name", "found", "n"), [(name, SENTENCE, "1,234"), (Text("b"), "", "7")], prose=("found",))
    out = capsys.readouterr().out
    assert name in out
    assert set(SENTENCE.split()) <= set(out.split())
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    assert any(line.endswith("1,234") for line in out.splitlines())
    assert any(line.endswith("    7") for line in out.splitlines())


@pytest.mark.parametrize("width", [40, 80])
def test_every_list_has_its_names_whole(
    salad: Salad, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    infos = [info for group in plugins.GROUPS for info in plugins.available(group)]
    voices = contents(filled(tmp_path, [DAY])[0]).voices
    listed = {
        ("tasks", "list"): set(find_tasks()),
        ("plugins", "list"): {info.name for info in infos} | {info.target for info in infos},
        ("store", "ls", "--store", tmp_path): {name for one in voices for name in (one.voice, one.engine)},
    }
    for command, names in listed.items():
        assert names - set(salad(*command).out.split()) == set(), command
    print_findings([Finding("a-check", "broken", "x " * 90, "pip install 'salad-gap[kokoro]'")])
    print_checks(read_checks())
    words = set(capsys.readouterr().out.split())
    assert {"a-check", "'salad-gap[kokoro]'", *(check.pretrained for check in read_checks().values())} - words <= {""}
