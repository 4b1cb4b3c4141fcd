"""Every registered name loads; a broken or unknown one says what is wrong and spoils nothing else."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from salad_eval import plugins
from salad_eval.errors import PluginError, UnknownNameError, UserInputError

EVERY = [info for group in plugins.GROUPS for info in plugins.available(group)]
PROTOCOL = {
    "salad.tts": ("fingerprint", "voices", "speak"),
    "salad.asr": ("fingerprint", "transcribe"),
    "salad.systems": ("fingerprint", "loglikelihoods", "generate"),
}


@pytest.mark.parametrize("info", EVERY, ids=lambda info: f"{info.group}:{info.name}")
def test_every_registered_name_loads(info: plugins.PluginInfo) -> None:
    found = plugins.load(info.group, info.name)
    for method in PROTOCOL.get(info.group, ()):
        assert callable(getattr(found, method)), f"{info.target} has no {method}"


def test_the_names_a_run_needs_are_registered() -> None:
    names = {(info.group, info.name) for info in EVERY}
    assert {
        ("salad.tts", "pyttsx3"), ("salad.asr", "transformers-ctc"), ("salad.systems", "hf-text"), ("salad.systems", "cascade"),
        ("salad.systems", "salad"), ("salad.commands", "nano"),
    } <= names  # fmt: skip


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        ("salad.tts", "pyttsx", "unknown tts plug-in 'pyttsx'; did you mean 'pyttsx3'"),
        ("salad.asr", "whispr", "unknown asr plug-in 'whispr'; did you mean 'whisper'"),
        ("salad.systems", "hf_text", "did you mean 'hf-text'"),
    ],
)
def test_an_unknown_name_lists_what_there_is(group: plugins.Group, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        plugins.load(group, name)
    assert message in str(caught.value)
    assert "Known: " in str(caught.value)
    assert caught.value.exit_code == 2


def break_one(monkeypatch: pytest.MonkeyPatch, group: plugins.Group, name: str, target: str) -> None:
    """Register a plug-in whose module cannot be imported."""
    found = plugins._found
    broken = EntryPoint(name, target, group)
    monkeypatch.setattr(
        plugins, "_found", lambda wanted: {**found(wanted), **({name: broken} if wanted == group else {})}
    )


def test_a_broken_plugin_fails_by_name_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    break_one(monkeypatch, "salad.tts", "mute", "no_such_module:Mute")
    with pytest.raises(PluginError, match=r"'mute' \(salad.tts, no_such_module:Mute.*No module named 'no_such_module'"):
        plugins.load("salad.tts", "mute")
    assert plugins.load("salad.tts", "pyttsx3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretraned": "x"}, "has no option 'pretraned'; did you mean 'pretrained'"),
        ({}, "needs the option(s): pretrained"),
        ({"pretrained": "nano/nothing"}, "unknown embedded model 'nano/nothing'"),
        ({"pretrained": "./nowhere/at/all"}, "no model folder at './nowhere/at/all'"),
    ],
)
def test_wrong_options_are_the_users(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as caught:
        plugins.create("salad.systems", "hf-text", options)
    assert message in str(caught.value)
