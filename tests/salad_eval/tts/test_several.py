"""Voices of several engines in one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from salad_eval import plugins
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.tts.espeak import Pyttsx3TTS
from salad_eval.tts.several import SeveralTTS
from salad_eval.types import TTS

ENGINES: dict[str, Any] = {"slow": {"name": "pyttsx3", "options": {"rate": 100}}, "fast": {"name": "pyttsx3"}}


def test_each_voice_is_its_engines() -> None:
    tts = SeveralTTS(ENGINES)
    assert isinstance(tts, TTS)
    assert plugins.load("salad.tts", "several") is SeveralTTS
    text = "The capital of France is Paris."
    fast, slow = (tts.speak(text, f"{engine}/en-us+f3") for engine in ("fast", "slow"))
    assert slow.seconds > 1.3 * fast.seconds
    assert np.isclose(fast.seconds, Pyttsx3TTS().speak(text, "en-us+f3").seconds, atol=0.02)
    assert {"slow/en-us+f3", "fast/en-gb"} <= set(tts.voices())
    assert SeveralTTS(dict(reversed(ENGINES.items()))).fingerprint() == tts.fingerprint()
    assert SeveralTTS({"slow": ENGINES["slow"]}).fingerprint() != tts.fingerprint()


@pytest.mark.parametrize(
    ("voice", "error", "told"),
    [
        ("en-us+f3", UserInputError, "expected ENGINE/VOICE, ENGINE one of slow, fast"),
        ("fast/", UserInputError, "expected ENGINE/VOICE"),
        ("fats/en-us", UnknownNameError, "did you mean 'fast'"),
        ("fast/en-uss", UnknownNameError, "did you mean 'en-us'"),
    ],
)
def test_voices_that_are_not_there(voice: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        SeveralTTS(ENGINES).speak("hello", voice)


@pytest.mark.parametrize(
    ("engines", "told"),
    [
        ({}, "engines is {}"),
        ({"a": "pyttsx3"}, "the engine 'a' is 'pyttsx3'; expected a name without a slash"),
        ({"a/b": {"name": "pyttsx3"}}, "the engine 'a/b'"),
        ({"a": {"name": "pyttsx3", "option": {}}}, "the engine 'a'"),
        ({"a": {"name": "several"}}, "cannot be 'several' again"),
        ({"a": {"name": "pytsx3"}}, "did you mean 'pyttsx3'"),
    ],
)
def test_engines_that_are_not_written_so(engines: dict[str, Any], told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        SeveralTTS(engines)
