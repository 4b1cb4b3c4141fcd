"""Started again in the same folder: what is refused before anything is touched, what is named, and what simply goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval import records
from salad_eval.cli.main import main
from salad_eval.errors import DataError, MissingExtraError, UserInputError
from salad_eval.pipeline.finished import read_run
from salad_eval.pipeline.folder import DONE_FILE
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import evaluate, run
from salad_eval.testing.systems import HashedSystem
from salad_eval.types import Response
from salad_eval.validation import with_overrides
from tests.helpers.tiny_causal_lm import save_tiny_llama


def started(plan: Mapping[str, Any], again: bool = False, **changes: Any) -> None:
    run(Plan.from_mapping(with_overrides(plan, {k.replace("__", "."): v for k, v in changes.items()})), again=again)


@pytest.fixture
def folder(fake_plan: dict[str, Any]) -> Path:
    started(fake_plan)
    return Path(fake_plan["out"])


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a mistyped voice engine": ({"tts__name": "tonse"}, "did you mean 'tones'"),
    "a mistyped recogniser": ({"asr__name": "tone"}, "unknown asr plug-in 'tone'"),
    "a mistyped system": ({"base__system": "hash"}, "did you mean 'hashed'"),
    "a mistyped option": ({"adapted__options__nmae": "x"}, "no option 'nmae'; did you mean 'name'"),
    "a mistyped voice": ({"voices": ["hihg"]}, "unknown tone voice 'hihg'; did you mean 'high'"),
    "a mistyped split": ({"split": "tset"}, "did you mean 'test'"),
    "a task that is not there": ({"tasks": ["salad_nan"]}, "did you mean 'salad_nano'"),
    "a column that is not there": ({"slice_fields": ["topics"]}, "did you mean 'topic'"),
    "a model that is not there": ({"base": {"system": "hf-text", "options": {"pretrained": "./gone"}}}, "no model folder"),
    "fewer items": ({"limit": 3}, r"limit \(None, now 3\)"),
    "another system": ({"adapted__options__name": "other"}, r"adapted\.options\.name \('adapted', now 'other'\)"),
    "two things": ({"seed": 1, "n_resamples": 200}, r"seed \(0, now 1\), n_resamples \(100, now 200\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_touches_nothing(what: str, fake_plan: dict[str, Any], folder: Path) -> None:
    changes, told = REFUSED[what]
    before = files(folder)
    with pytest.raises(UserInputError, match=told) as caught:
        started(fake_plan, **changes)
    assert caught.value.exit_code == 2
    assert files(folder) == before


def test_a_package_that_is_not_there_is_missed_before_anything_is_spoken(
    fake_plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        started(fake_plan, asr={"name": "faster-whisper", "options": {"pretrained": str(tmp_path)}})
    assert not Path(fake_plan["out"]).exists()


def test_another_plan_proceeds_where_it_is_said(
    fake_plan: dict[str, Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**fake_plan, "limit": 3}))
    with pytest.raises(SystemExit) as caught:
        main(["run", "--plan", str(tmp_path / "plan.yaml")])
    assert caught.value.code == 2
    assert "or say --again to make this one in its place" in " ".join(capsys.readouterr().err.split())
    assert len(read_run(folder).items) == 16
    with pytest.raises(SystemExit) as caught:
        main(["run", "--plan", str(tmp_path / "plan.yaml"), "--again"])
    assert caught.value.code == 0
    assert len(read_run(folder).items) == 6
    evaluate(fake_plan, limit=2, again=True)
    assert len(read_run(folder).items) == 4


@pytest.mark.parametrize("changes", [{}, {"workers": 2}, {"name": "renamed"}, {"created": None}])
def test_an_equal_plan_is_the_same_report(
    changes: dict[str, Any], fake_plan: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(folder)
    started(fake_plan, **changes)
    steps = [name for name in before if name.endswith(".jsonl") and name not in ("items.jsonl", "rejects.jsonl")]
    assert len(steps) == 14
    assert {name: files(folder)[name] for name in steps} == {name: before[name] for name in steps}
    after, earlier = (json.loads(found["gap_report.json"][1]) for found in (files(folder), before))
    assert after.pop("names")["run"] == changes.get("name", earlier.pop("names")["run"])
    assert after == earlier
    assert (folder / DONE_FILE).is_file()
    assert "made again" not in capsys.readouterr().err


def test_a_changed_file_under_an_equal_plan_is_named_and_run_again(
    fake_plan: dict[str, Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "choice" / "test.jsonl"
    rows.write_text(rows.read_text().replace("Which planet has rings?", "Which planet has two moons?"))
    started(fake_plan)
    told = capsys.readouterr().err
    assert "· render is made again: other jobs\n" in told
    assert "· respond.base_text is made again: other items\n" in told
    assert any("two moons" in item.context for item in read_run(folder).items)


def test_a_changed_library_under_an_equal_plan_is_named_and_run_again(
    fake_plan: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HashedSystem, "fingerprint", lambda self: f"hashed 2({self.name})")
    started(fake_plan)
    told = capsys.readouterr().err
    for name, was in (("base_text", "hashed 1(base, deaf)"), ("adapted_speech", "hashed 1(adapted)")):
        system = "base" if name == "base_text" else "adapted"
        assert f"· respond.{name} is made again: other system (was {was}, is hashed 2({system}))\n" in told
    assert "render is made" not in told
    assert {column.fingerprint for column in read_run(folder).report.columns} == {"hashed 2(base)", "hashed 2(adapted)"}


def test_an_unfinished_folder_goes_on_by_any_plan(fake_plan: dict[str, Any], folder: Path) -> None:
    (folder / DONE_FILE).unlink()
    started(fake_plan, limit=3)
    assert len(read_run(folder).items) == 6


def test_a_folder_where_the_plan_belongs_is_said_in_a_sentence(fake_plan: dict[str, Any], folder: Path) -> None:
    (folder / "plan.json").unlink()
    (folder / "plan.json").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*plan\.json: Is a directory"):
        started(fake_plan)


@pytest.mark.parametrize("name", ["score.jsonl", "render.jsonl", "respond.adapted_text.jsonl"])
def test_a_finished_run_is_read_as_it_was_written(name: str, fake_plan: dict[str, Any], folder: Path) -> None:
    finished = read_run(folder)
    (folder / name).write_text((folder / name).read_text()[:-20])
    read = {"score": read_run, "render": lambda _: finished.renderings()}.get(
        name.partition(".")[0], lambda _: finished.responses("adapted_text")
    )
    with pytest.raises(DataError, match=rf"{name} is not what the run wrote"):
        read(folder)
    started(fake_plan)
    assert read_run(folder) == finished


def test_every_damaged_step_ends_in_the_same_report(
    fake_plan: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = (folder / "gap_report.json").read_bytes()
    steps = json.loads((folder / "steps.json").read_text())["steps"]
    for step in steps:
        (folder / f"{step}.jsonl").write_text("")
    started(fake_plan)
    assert (folder / "gap_report.json").read_bytes() == report
    assert capsys.readouterr().err.count("is not what was written") == len(steps) == 14


def test_a_model_with_an_edited_chat_template_is_asked_anew(fake_plan: dict[str, Any], tmp_path: Path) -> None:
    """Run again with the same folder, as somebody does who mends a template."""
    (tmp_path / "model").mkdir()
    folder = save_tiny_llama(tmp_path / "model")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    options = {"pretrained": str(folder), "device": "cpu", "chat_template": True}
    plan = Plan.from_mapping({**fake_plan, "base": {"system": "hf-text", "options": options}})
    answers = []
    for ending in ("", " It is"):
        (folder / "chat_template.jinja").write_text(template + ending)
        run(plan)
        answers.append(records.read_jsonl(plan.folder / "respond.base_text.jsonl", Response))
    before, after = ([one.choice_logprobs for one in found if one.choice_logprobs] for found in answers)
    assert len(before) == len(after) > 0
    assert all(one != other for one, other in zip(before, after, strict=True))
