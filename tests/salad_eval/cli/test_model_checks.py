"""``salad doctor --models``: what is listed can be built by the plug-ins that are there, and a check tells a model that works from one
that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from salad_eval import plugins
from salad_eval.cli.main import main
from salad_eval.cli.model_checks import ModelCheck, check_models, command_for, read_checks
from salad_eval.errors import UnknownNameError, UserInputError


def a_check(kind: str, plugin: str, **options: str) -> ModelCheck:
    return ModelCheck(kind=kind, plugin=plugin, options=options, gigabytes=0.1, classes="-", here="-")  # type: ignore[arg-type]


NANO = {
    "text": a_check("text", "hf-text", pretrained="nano/base"),
    "speech": a_check("speech", "salad", pretrained="nano/speech"),
    "asr": a_check("asr", "transformers-ctc", pretrained="nano/asr"),
    "tts": a_check("tts", "pyttsx3"),
}


@pytest.mark.parametrize("name", read_checks())
def test_every_check_names_a_plugin_and_options_that_it_has(name: str) -> None:
    import inspect

    check = read_checks()[name]
    group = {"asr": "salad.asr", "tts": "salad.tts"}.get(check.kind, "salad.systems")
    factory = plugins.load(group, check.plugin)  # type: ignore[arg-type]
    inspect.signature(factory).bind(**check.options)


def test_models_that_work_are_ok() -> None:
    found = {finding.what: finding for finding in check_models(["text", "asr", "tts"], NANO)}
    assert "Paris" in found["text"].found
    assert "WER" in found["asr"].found
    assert found["tts"].state == "ok"
    assert "s of sound" in found["tts"].found


def test_a_speech_llm_is_asked_whether_it_hears() -> None:
    (finding,) = check_models(["speech"], NANO)
    assert "nats likelier after its question" in finding.found


def test_a_model_that_is_not_there_is_broken_and_the_others_are_still_checked() -> None:
    checks = {"gone": a_check("text", "hf-text", pretrained="/no/such/folder"), "tts": NANO["tts"]}
    gone, voice = check_models(["gone", "tts"], checks)
    assert (gone.state, voice.state) == ("broken", "ok")
    assert "/no/such/folder" in gone.found


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="qwen2-audio"):
        list(check_models(["qwen2audio"], read_checks()))


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(
        "checks: {a: {kind: video, plugin: x, options: {}, gigabytes: 1, classes: c, here: h}}", encoding="utf-8"
    )
    with pytest.raises(UserInputError, match=r"checks\.a\.kind"):
        read_checks(file)


def test_the_list_gives_the_command_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    main_exits_well("doctor", "--models")
    shown = capsys.readouterr().out
    assert all(command_for(name) in shown for name in read_checks())


def main_exits_well(*args: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert not stopped.value.code
