"""``salad voices``: the voices of a TTS, searched and heard."""

from __future__ import annotations

from typing import Annotated

import typer

from salad_eval.cli.speech import TtsOption, TtsSettings, plugin_options
from salad_eval.errors import SaladError

SENTENCE = "The quick brown fox jumps over the lazy dog."


def voices_command(
    search: Annotated[str, typer.Argument(help="A part of the name; all voices if not given.")] = "",
    tts: TtsOption = "pyttsx3",
    settings: TtsSettings = None,
    play: Annotated[bool, typer.Option("--play", help="Let each of the first voices say a sentence.")] = False,
    sentence: Annotated[str, typer.Option(help="What they say.")] = SENTENCE,
    limit: Annotated[int, typer.Option(help="How many are played.", min=1)] = 5,
) -> None:
    """The voices of a TTS by the names that a plan takes.

    Examples:

    salad voices en-us

    salad voices f3 --play --limit 2
    """
    from salad_eval.audio.store import AudioStore
    from salad_eval.cli.items import play_sounds
    from salad_eval.pipeline.apart import opened
    from salad_eval.pipeline.tools import PluginRef, Tools
    from salad_eval.report.wording import printable

    engine = opened(Tools(), PluginRef("salad.tts", tts, plugin_options(settings)))
    names = engine.voices()
    found = [name for name in names if search.casefold() in name.casefold()]
    if not found:
        raise SaladError(
            f"{tts} has no voice with {search!r} in its name; it has {len(names)}: salad voices lists them."
        )
    for name in found:
        print(printable(name))
    if play:
        store = AudioStore()
        play_sounds([store.put(engine.speak(sentence, name)) for name in found[:limit]], store)
