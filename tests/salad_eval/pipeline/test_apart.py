"""Voices that end their process while they are built: the run ends in a sentence, and nothing here is taken along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salad_eval.audio.store import AudioStore
from salad_eval.errors import PluginError, UserInputError
from salad_eval.pipeline.apart import is_strange, opened
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import RenderJob, render
from salad_eval.pipeline.run import run
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.testing.installed import installed
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.utterances import Utterance

VOICES = """
import os, signal, sys
from salad_eval.testing.voices import ToneTTS

class Dying(ToneTTS):
    def __init__(self, how=""):
        super().__init__()
        if how == "exit": sys.stderr.write("no licence\\n"); os._exit(3)
        if how == "signal": os.kill(os.getpid(), signal.SIGSEGV)
        if how == "sys.exit": sys.exit("no model")
        if how == "raises": raise ZeroDivisionError("a bug")
        self.how = how
    def fingerprint(self):
        if self.how == "fingerprint": os._exit(4)
        return "dying"
"""
DYING = {
    "exit": r"exit code 3: no licence\.",
    "signal": r"signal 11",
    "sys.exit": r"exit code 1: no model\.",
    "fingerprint": r"exit code 4\.",
    "raises": r"exit code 1: ZeroDivisionError: a bug\.",
}


@pytest.fixture(scope="module", autouse=True)
def _dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    targets = {"salad.tts": {"dying": "dying_voices:Dying", "unborn": "unborn_voices:Unborn"}}
    modules = {"dying_voices": VOICES, "unborn_voices": "import os\nos._exit(5)\n"}
    with installed(tmp_path_factory.mktemp("dying"), targets, modules):  # type: ignore[arg-type]
        yield


def ref(name: str = "dying", **options: Any) -> PluginRef:
    return PluginRef("salad.tts", name, options)


@pytest.mark.parametrize("how", DYING)
def test_a_voice_that_dies_while_it_is_built_is_named(how: str) -> None:
    with pytest.raises(
        PluginError, match=rf"the TTS plug-in 'dying' cannot be built: its worker process ended with {DYING[how]}"
    ):
        opened(Tools(), ref(how=how))


def test_a_voice_that_dies_when_it_is_imported_is_named() -> None:
    with pytest.raises(
        PluginError, match=r"plug-in 'unborn' cannot be built: its worker process ended with exit code 5"
    ):
        opened(Tools(), ref("unborn"))


def test_a_sound_one_is_opened_here_and_wrong_options_are_the_users() -> None:
    tools = Tools()
    assert opened(tools, ref()) is opened(tools, ref())
    with pytest.raises(UserInputError, match="has no option 'hwo'; did you mean 'how'"):
        opened(Tools(), ref(hwo="exit"))


def test_who_is_strange() -> None:
    assert is_strange(ref())
    assert is_strange(ref("several", engines={"a": {"name": "pyttsx3"}, "b": {"name": "dying"}}))
    assert not is_strange(ref("several", engines={"a": {"name": "pyttsx3"}, "b": 3}))
    assert not is_strange(ref("pyttsx3"))
    assert not is_strange(PluginRef("salad.asr", "dying", {}))


def test_a_run_ends_in_a_sentence(fake_plan: dict[str, Any]) -> None:
    plan = Plan.from_mapping({**fake_plan, "tts": {"name": "dying", "options": {"how": "exit"}}})
    with pytest.raises(PluginError, match=r"the TTS plug-in 'dying' cannot be built: .* no licence"):
        run(plan)
    assert not (Path(fake_plan["out"]) / "DONE").exists()


def test_so_does_training_on_it(tmp_path: Path) -> None:
    speaker = TTSSpeaker(AudioStore(tmp_path), "dying", {"how": "signal"})
    with pytest.raises(PluginError, match="signal 11"):
        list(speaker.render([Utterance("d", "a few words", "low", 0, 11)]))


def test_so_does_rendering_by_itself(tmp_path: Path) -> None:
    """As ``salad render`` and lm-eval's rows do it."""
    job = RenderJob("a", "question", "low", "clean", "a few words")
    with pytest.raises(PluginError, match="signal 11"):
        list(render([job], tts="dying", tts_options={"how": "signal"}, store=AudioStore(tmp_path)))
