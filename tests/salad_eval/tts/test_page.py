"""The page on adding a voice: its example is installed as it says, and speaks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import salad_eval.tts
from salad_eval import plugins
from salad_eval.audio import sound as audio
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, UserInputError
from salad_eval.pipeline import render
from salad_eval.pipeline.plan import PluginChoice
from salad_eval.pipeline.render import RenderJob
from salad_eval.tts import checkpoint
from salad_eval.tts.command import PROGRAMS, CommandTTS
from salad_eval.types import TTS, Rendering

PAGE = Path(salad_eval.tts.__file__).with_name("ADDING_A_VOICE.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)
    return str(found)


@pytest.fixture(scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example where a package manager would have put it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tone_voice.py").write_text(block("python"))
    info = folder / "tone_voice-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tone-voice\nVersion: 1.0\n")
    # Written by hand, as Python 3.10 has no reader of TOML: the one line of the table is the one of the installed file.
    heading, line = block("toml").strip().splitlines()
    assert heading == '[project.entry-points."salad.tts"]'
    (info / "entry_points.txt").write_text("[salad.tts]\n" + line.replace('"', "") + "\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.usefixtures("_installed")
def test_the_example_speaks(tmp_path: Path) -> None:
    tts = plugins.create("salad.tts", "letter-tones", {"seconds": 0.1})
    assert isinstance(tts, TTS)
    text = "what is the capital of france"
    for voice in (*tts.voices(), "high,rate=1.5"):
        assert audio.problem(tts.speak(text, voice), text) is None
    jobs = [RenderJob("q1", "context", voice, "clean", text) for voice in tts.voices()]
    store = AudioStore(tmp_path)
    found = list(render.render(jobs, tts="letter-tones", tts_options={"seconds": 0.1}, store=store))
    assert all(isinstance(one, Rendering) for one in found), found
    assert len({one.sha256 for one in found if isinstance(one, Rendering)}) == 2
    with pytest.raises(AudioError, match="empty"):
        tts.speak(" ", "high")
    for voice, told in (("hihg", "did you mean 'high'"), ("high,rate=9", "from 0.5 to 2")):
        with pytest.raises(UserInputError, match=told):
            tts.speak(text, voice)
    with pytest.raises(UserInputError, match="no option 'second'; did you mean 'seconds'"):
        plugins.create("salad.tts", "letter-tones", {"second": 1})


def test_the_plan_without_code_is_one() -> None:
    plan = yaml.safe_load(block("yaml"))
    choice = PluginChoice.model_validate(plan["tts"])
    choice.options["argv"][0] = sys.executable  # type: ignore[index, call-overload]
    assert CommandTTS(**choice.options).voices() == plan["voices"]  # type: ignore[arg-type]


def test_what_the_page_names_is_there() -> None:
    assert {"espeak-ng", "flite", "piper"} == set(PROGRAMS)
    assert callable(checkpoint.refuse_unspoken)
    assert callable(checkpoint.own_noise)
    assert callable(audio.problem)
