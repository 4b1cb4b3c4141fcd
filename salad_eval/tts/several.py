"""TTS plug-in ``several``: voices of several engines in one run, each written ENGINE/VOICE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salad_eval import plugins
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.types import TTS, Audio

_KEYS = ("name", "options")


class SeveralTTS:
    """``engines``: names of your own, each for a TTS plug-in as a plan writes it (``{name: pyttsx3}``, ``{name: piper, options: {…}}``).

    A voice is ``ENGINE/VOICE``, such as ``piper/en_US-joe-medium`` or ``espeak/en-us+f3,rate=150``. Raises ``UserInputError`` for an engine
    that is not written so, and whatever the engines raise.
    """

    def __init__(self, engines: Mapping[str, Mapping[str, Any]]) -> None:
        if not isinstance(engines, Mapping) or not engines:
            raise UserInputError(
                f"tts 'several': engines is {engines!r:.80}; expected names, each with {{name: PLUG-IN, options: {{…}}}}."
            )
        self._engines = {name: _built(name, engine) for name, engine in engines.items()}

    def fingerprint(self) -> str:
        return f"several({'; '.join(f'{name}: {one.fingerprint()}' for name, one in sorted(self._engines.items()))})"

    def voices(self) -> list[str]:
        return [f"{name}/{voice}" for name, engine in self._engines.items() for voice in engine.voices()]

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, as its engine speaks it; raises as that does, and ``UnknownNameError`` for an engine that is not there."""
        name, slash, inner = voice.partition("/")
        if not slash or not inner:
            raise UserInputError(f"voice {voice!r}: expected ENGINE/VOICE, ENGINE one of {', '.join(self._engines)}.")
        if name not in self._engines:
            raise UnknownNameError("engine of tts 'several'", name, self._engines)
        return self._engines[name].speak(text, inner)


def _built(name: str, engine: Any) -> TTS:
    if (
        "/" in name
        or not isinstance(engine, Mapping)
        or "name" not in engine
        or any(key not in _KEYS for key in engine)
    ):
        raise UserInputError(
            f"tts 'several': the engine {name!r} is {engine!r:.80}; expected a name without a slash, and {{name: PLUG-IN, options: {{…}}}}."
        )
    if engine["name"] == "several":
        raise UserInputError("tts 'several': an engine cannot be 'several' again; list them all at once.")
    made: TTS = plugins.create("salad.tts", engine["name"], engine.get("options") or {})
    return made
