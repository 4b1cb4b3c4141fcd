"""Programs as voices: a script that the test writes stands for any of them; espeak-ng, flite and Piper are tried where they are."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.audio import sound as audio
from salad_eval.errors import AudioError, MissingExtraError, PluginError, UnknownNameError, UserInputError
from salad_eval.tts.command import PROGRAMS, CommandTTS, EspeakNgTTS, FliteTTS, PiperCliTTS
from salad_eval.types import TTS

TEXT = "The capital of France is Paris."

# A program that turns the letters of a text into tones, notes how it was started, and misbehaves on request.
SCRIPT = """
import json, os, struct, subprocess, sys, time, wave, math
if "--version" in sys.argv: print("tones 3.14 (test)"); raise SystemExit(1)
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--in" in options:
    text = open(options["--in"], encoding="utf-8").read()
else:
    text = sys.stdin.buffer.read().decode()
with open(__file__ + ".log", "a") as log: log.write(json.dumps([sys.argv[1:], text, os.path.exists("pwned")]) + "\\n")
text = text.strip()
if "fail" in text: sys.stderr.write("first line\\nno such phoneme\\n"); raise SystemExit(3)
if "die" in text: os.kill(os.getpid(), 11)
if "sleep" in text:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(__file__ + ".child", "w").write(str(child.pid)); time.sleep(60)
if "nothing" in text: raise SystemExit(0)
out = open(options["--out"], "wb") if "--out" in options else sys.stdout.buffer
if "garbage" in text: out.write(b"<html>not a sound</html>" * 9); raise SystemExit(0)
rate = 8000 if options.get("--voice") == "low" else 22050
n = 0 if "silent file" in text else int(rate * 0.06 * len(text))
with wave.open(out, "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(rate)
    file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(k * 0.1) * (1 - k / n))) for k in range(n)))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "tones.py"
    path.write_text(SCRIPT)
    return path


def tones(script: Path, *arguments: str, **options: Any) -> CommandTTS:
    argv = [sys.executable, str(script), "--voice", "{voice}", *(arguments or ("--in", "{text}", "--out", "{output}"))]
    return CommandTTS(argv=argv, **{"voices": ["low", "high"], "version": "3.14", **options})


def started(script: Path) -> list[Any]:
    return [json.loads(line) for line in Path(f"{script}.log").read_text().splitlines()]


# --- any program -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--in", "{text}", "--out", "{output}"),
        ("--out", "{output}"),  # the text by standard input
        ("--in", "{text}"),  # the sound by standard output
        ("--rate", "7"),  # both
    ],
)
def test_text_and_sound_go_by_files_or_by_standard_streams(script: Path, arguments: tuple[str, ...]) -> None:
    tts = tones(script, *arguments)
    sound = tts.speak(TEXT, "high")
    assert sound.sample_rate_hz == 22_050
    assert sound.samples.dtype == np.float32
    assert sound.seconds == pytest.approx(0.06 * len(TEXT), abs=0.01)
    assert audio.problem(sound, TEXT) is None
    ((argv, text, _),) = started(script)
    assert argv[:2] == ["--voice", "high"]
    assert text.strip() == TEXT
    assert TEXT not in argv


def test_the_voice_is_passed_and_its_rate_is_kept(script: Path) -> None:
    tts = tones(script)
    assert isinstance(tts, TTS)
    assert tts.voices() == ["high", "low"]
    assert tts.speak(TEXT, "low").sample_rate_hz == 8_000


@pytest.mark.parametrize(
    "text",
    ["; touch pwned", "$(touch pwned) `touch pwned`", "--voice low", "-f /etc/passwd", "a 'b' \"c\" \\ | > pwned"],
)
def test_a_text_is_never_an_argument_nor_a_command(
    script: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tones(script).speak(text, "high")
    ((argv, said, pwned),) = started(script)
    assert said.strip() == text
    assert not any(text in argument for argument in argv)
    assert not pwned
    assert not Path("pwned").exists()


def test_a_text_is_one_line(script: Path) -> None:
    tones(script).speak("one\ntwo \r\n\n three", "high")
    assert started(script)[0][1] == "one two three\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fail now", r"ended with exit code 3 on 'fail now': no such phoneme"),
        ("die now", r"ended with signal 11 on 'die now'"),
        ("nothing", r"wrote no sound for 'nothing'"),
        ("garbage", r"wrote no usable sound for 'garbage'"),
        ("silent file", r"holds no samples"),
        ("", "cannot speak an empty text"),
        (" \n", "cannot speak an empty text"),
        ("half\0half", "NUL"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--rate", "7")])
def test_what_went_wrong_is_told(script: Path, text: str, told: str, arguments: tuple[str, ...]) -> None:
    tts = tones(script, *arguments)
    with pytest.raises(AudioError, match=told):
        tts.speak(text, "high")
    assert tts.speak(TEXT, "high").seconds > 1  # the next one is not harmed


def test_a_program_that_hangs_is_ended_with_what_it_started(script: Path) -> None:
    began = time.monotonic()
    with pytest.raises(AudioError, match=r"given up after 1 s \(timeout_seconds\) on 'sleep'"):
        tones(script, timeout_seconds=1).speak("sleep", "high")
    assert time.monotonic() - began < 20
    child = int(Path(f"{script}.child").read_text())
    if hasattr(os, "pidfd_open"):  # Linux: readable once the process has ended, which a signal takes its time for
        with contextlib.suppress(ProcessLookupError):  # ended and reaped
            handle = os.pidfd_open(child)
            assert select.select([handle], [], [], 20)[0], "what the program started outlived it"
            os.close(handle)


@pytest.mark.parametrize(
    ("voice", "kind", "told"),
    [
        ("hihg", UnknownNameError, "did you mean 'high'"),
        ("--in", UnknownNameError, "unknown python"),
        ("", UserInputError, "expected a voice name first"),
        ("high,rate=3", UserInputError, r"unknown setting 'rate=3'. Settings: none"),
    ],
)
def test_unknown_voices_are_the_users_error(script: Path, voice: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        tones(script).speak(TEXT, voice)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"either engine \(espeak-ng, flite, piper\) or argv"),
        ({"engine": "flite", "argv": ["x"]}, "either engine"),
        ({"engine": "espek"}, "did you mean 'espeak-ng'"),
        ({"engine": "flite", "voices": ["x"]}, "voices goes with argv"),
        ({"argv": "espeak-ng {text}", "voices": ["x"]}, "expected a list of strings"),
        ({"argv": [], "voices": ["x"]}, "expected a list of strings"),
        ({"argv": ["cat"]}, "voices is None; expected a list of the names"),
        ({"argv": ["no-such-program-at-all"], "voices": ["x"]}, "no program 'no-such-program-at-all'"),
        ({"argv": ["cat"], "voices": ["x"], "timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"argv": ["cat"], "voices": ["x"], "voices_dir": "/nowhere/at/all"}, "no folder voices_dir"),
    ],
)
def test_wrong_options_name_what_is_right(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        CommandTTS(**options)


def test_the_fingerprint_says_program_version_and_arguments(script: Path) -> None:
    base = tones(script).fingerprint()
    assert base == tones(script, timeout_seconds=9, voices=["low"]).fingerprint()
    assert "3.14" in base
    other = tones(script, "--rate", "8", "--in", "{text}", "--out", "{output}").fingerprint()
    assert len({base, other, tones(script, version="3.15").fingerprint()}) == 3
    script.chmod(0o755)
    script.write_text(f"#!{sys.executable}\n{SCRIPT}")
    asked = CommandTTS(argv=[str(script), "--voice", "{voice}"], voices=["low"]).fingerprint()
    assert "tones.py 3.14" in asked  # told by --version, though it ends with an error after it


def test_a_program_that_tells_no_version_is_known_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mute"
    found = []
    for text in ("#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 0 # another\n"):
        path.write_text(text)
        path.chmod(0o755)
        found.append(CommandTTS(argv=[str(path)], voices=["v"]).fingerprint())
    assert "mute sha256:" in found[0]
    assert found[0] != found[1]


def test_a_program_that_cannot_be_started_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(PluginError, match="could not be started"):
        CommandTTS(argv=[str(path)], voices=["v"], version="1").speak(TEXT, "v")


# --- the known ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", PROGRAMS)
def test_a_program_that_is_not_there_can_be_had(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"Install it with: (apt-get install|pip install)"):
        CommandTTS(engine)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_espeak_ng() -> None:
    tts = EspeakNgTTS()
    assert isinstance(tts, TTS)
    assert {"en-us", "en-gb", "en-us+f3", "de"} <= set(tts.voices())
    assert tts.fingerprint().startswith("command(espeak-ng 1.")
    for voice in ("en-us", "en-gb+f3,rate=120", "de+m1,pitch=80"):
        for text in (TEXT, "Is it B or D.", "[[what]] is \u03c0?"):
            assert audio.problem(tts.speak(text, voice), text) is None
    assert tts.speak(TEXT, "en-us,rate=100").seconds > 1.5 * tts.speak(TEXT, "en-us,rate=300").seconds
    for voice, told in (("en-us,rate=7", "from 80 to 450"), ("en-uss", "did you mean"), ("en-us+f33", "did you mean")):
        with pytest.raises(UserInputError, match=told):
            tts.speak(TEXT, voice)


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs the program flite")
def test_flite() -> None:
    tts = FliteTTS()
    assert isinstance(tts, TTS)
    assert "slt" in tts.voices()
    assert tts.fingerprint().startswith("command(flite 2.")
    for voice in ("slt", "rms,stretch=1.3", "slt,f0=120"):
        assert audio.problem(tts.speak(TEXT, voice), TEXT) is None
    assert tts.speak(TEXT, "slt,stretch=2").seconds > 1.5 * tts.speak(TEXT, "slt").seconds
    with pytest.raises(UnknownNameError, match="did you mean 'slt'"):
        tts.speak(TEXT, "stl")


def test_piper_wants_its_voices(tmp_path: Path) -> None:
    program = tmp_path / "piper"
    program.write_text("#!/bin/sh\nexit 2\n")
    program.chmod(0o755)
    (tmp_path / "anna.onnx").write_bytes(b"not a model")
    with pytest.raises(UserInputError, match=r"anna.onnx lacks its settings .*anna.onnx.json"):
        PiperCliTTS(str(tmp_path), executable=str(program))
    (tmp_path / "anna.onnx.json").write_text("{}")
    tts = PiperCliTTS(str(tmp_path), executable=str(program))
    assert tts.voices() == ["anna"]
    before = tts.fingerprint()
    (tmp_path / "anna.onnx").write_bytes(b"another model")
    assert PiperCliTTS(str(tmp_path), executable=str(program)).fingerprint() != before
    with pytest.raises(AudioError, match="piper ended with exit code 2"):
        tts.speak(TEXT, "anna,length_scale=1.2,speaker=3")
    with pytest.raises(UserInputError, match="whole number"):
        tts.speak(TEXT, "anna,speaker=1.5")
    with pytest.raises(UserInputError, match="voices_dir is missing"):
        CommandTTS("piper", executable=str(program))
