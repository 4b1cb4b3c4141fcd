"""The pyttsx3 plug-in on espeak-ng: voices that are really taken, settings that really act, and clear refusals."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from salad_eval import plugins
from salad_eval.audio import sound as audio
from salad_eval.errors import AudioError, UnknownNameError, UserInputError
from salad_eval.tts import espeak
from salad_eval.tts.espeak import Pyttsx3TTS, VoiceSpec, parse_voice
from salad_eval.types import TTS, Audio

TEXT = "The capital of France is Paris."


@pytest.fixture(scope="module")
def tts() -> Pyttsx3TTS:
    return Pyttsx3TTS()


def pitch_hz(sound: Audio) -> float:
    """Median fundamental frequency of the louder frames of 50 ms, by autocorrelation between 60 and 400 Hz."""
    size, found = sound.sample_rate_hz // 20, []
    for start in range(0, len(sound.samples) - size, size):
        frame = sound.samples[start : start + size]
        if np.sqrt(np.mean(frame**2)) > 0.05:
            correlation = np.correlate(frame, frame, "full")[size - 1 :]
            low, high = sound.sample_rate_hz // 400, sound.sample_rate_hz // 60
            found.append(sound.sample_rate_hz / (low + int(np.argmax(correlation[low:high]))))
    return float(np.median(found))


# --- the voice grammar


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("en-us", VoiceSpec("en-us")),
        ("en-us+f3", VoiceSpec("en-us", "f3")),
        ("en-us+f3,rate=150,pitch=60", VoiceSpec("en-us", "f3", 150, 60)),
        (" en-gb , pitch = 0 ", VoiceSpec("en-gb", "", None, 0)),
        ("en-us+Mr serious,rate=450", VoiceSpec("en-us", "Mr serious", 450)),
    ],
)
def test_voices_are_parsed(written: str, spec: VoiceSpec) -> None:
    assert parse_voice(written) == spec


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "expected a voice name"),
        ("+f3", "expected a voice name"),
        ("en-us+", "expected a voice name"),
        ("en-us,rat=150", "did you mean 'rate'"),
        ("en-us,rate", "unknown setting 'rate'"),
        ("en-us,", "unknown setting"),
        ("en-us,rate=fast", "whole number from 80 to 450"),
        ("en-us,rate=79", "whole number from 80 to 450"),
        ("en-us,pitch=100", "whole number from 0 to 99"),
        ("en-us,pitch=-1", "whole number from 0 to 99"),
        ("en-us,rate=1.5", "whole number"),
        ("en-us,rate=٣٠٠", "whole number"),
        ("en-us,rate=100,rate=200", "given twice"),
    ],
)
def test_a_malformed_voice_is_the_users_error(written: str, told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        parse_voice(written)


def test_unknown_voices_name_the_nearest(tts: Pyttsx3TTS) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'en-us'"):
        tts.speak(TEXT, "en-uss")
    with pytest.raises(UnknownNameError, match="did you mean 'belinda'"):
        tts.speak(TEXT, "en-us+belind")
    with pytest.raises(UnknownNameError):  # espeak-ng knows this as a file; we know one name a voice
        tts.speak(TEXT, "gmw/en-US")


def test_voices_are_listed_with_their_variants(tts: Pyttsx3TTS) -> None:
    voices = tts.voices()
    assert {"en-us", "en-gb", "en-us+f3", "en-gb+m1"} <= set(voices)
    assert len(voices) == len(set(voices)) > 100
    assert all(voice.startswith("en") for voice in voices)
    assert set(Pyttsx3TTS(language="de").voices()) >= {"de", "de+f1"}
    for voice in voices:
        tts.check_voice(voice)


# --- speech


def test_it_is_a_tts_plug_in(tts: Pyttsx3TTS) -> None:
    assert isinstance(tts, TTS)
    assert plugins.load("salad.tts", "pyttsx3") is Pyttsx3TTS


@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "en-gb+m2", "en-gb-scotland+f2,rate=120", "en-029", "de"])
def test_speech_is_sound(tts: Pyttsx3TTS, voice: str) -> None:
    sound = tts.speak(TEXT, voice)
    assert sound.sample_rate_hz == audio.SAMPLE_RATE_HZ
    assert sound.samples.dtype == np.float32
    assert 1.0 < sound.seconds < 4.0
    assert audio.problem(sound, TEXT) is None


@pytest.mark.parametrize(
    "text", ["B, C, D.", "Is it B or D.", "at five p.m.", "the U.S.", "They met Mr.", "A", "No.", "a. b."]
)
@pytest.mark.parametrize("voice", ["en-us+adam", "en-us", "en-gb+f3"])
def test_the_end_is_not_cut_off(tts: Pyttsx3TTS, text: str, voice: str) -> None:
    """espeak-ng takes a stop after a letter for an abbreviation's and swallows the end of the sound with the pause."""
    sound = tts.speak(text, voice)
    assert audio.problem(sound, text) is None
    assert audio.frame_rms(sound.samples, sound.sample_rate_hz)[-5:].max() < audio.SILENCE_RMS * 3


def test_rate_acts(tts: Pyttsx3TTS) -> None:
    slow, normal, fast = (tts.speak(TEXT, f"en-us,rate={rate}").seconds for rate in (100, 175, 350))
    assert slow > 1.4 * normal > 1.4 * 1.4 * fast
    assert Pyttsx3TTS(rate=350).speak(TEXT, "en-us").seconds == pytest.approx(
        fast, abs=0.03
    )  # a buffer of the engine is 0.022 s


def test_pitch_acts(tts: Pyttsx3TTS) -> None:
    low, normal, high = (pitch_hz(tts.speak(TEXT, f"en-us,pitch={pitch}")) for pitch in (10, 50, 90))
    assert low < 0.9 * normal < 0.9 * 0.9 * high
    assert pitch_hz(Pyttsx3TTS(pitch=90).speak(TEXT, "en-us")) == pytest.approx(high, rel=0.05)


def test_variants_act(tts: Pyttsx3TTS) -> None:
    assert pitch_hz(tts.speak(TEXT, "en-us+f3")) > 1.3 * pitch_hz(tts.speak(TEXT, "en-us+m3"))
    # A variant acts on every base voice, also on those whose file has another name than their language.
    assert pitch_hz(tts.speak(TEXT, "en-gb+f3")) > 1.3 * pitch_hz(tts.speak(TEXT, "en-gb+m3"))


def test_settings_do_not_leak_into_the_next_utterance(tts: Pyttsx3TTS) -> None:
    before = tts.speak(TEXT, "en-us")
    tts.speak(TEXT, "en-us+f3,rate=300,pitch=90")
    after = tts.speak(TEXT, "en-us")
    assert after.seconds == pytest.approx(before.seconds, rel=0.01)
    assert pitch_hz(after) == pytest.approx(pitch_hz(before), rel=0.05)
    Pyttsx3TTS(rate=300).speak(TEXT, "en-us")
    assert tts.speak(TEXT, "en-us").seconds == pytest.approx(before.seconds, rel=0.01)


def test_the_rate_of_the_samples_is_an_option() -> None:
    sound = Pyttsx3TTS(sample_rate_hz=8_000).speak(TEXT, "en-us")
    assert sound.sample_rate_hz == 8_000
    assert 1.0 < sound.seconds < 4.0


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_to_say_is_refused(tts: Pyttsx3TTS, text: str) -> None:
    with pytest.raises(AudioError, match="empty"):
        tts.speak(text, "en-us")


def test_a_text_that_c_would_cut_off_is_refused(tts: Pyttsx3TTS) -> None:
    with pytest.raises(AudioError, match="NUL"):
        tts.speak("half\0half", "en-us")


def test_empty_sound_is_asked_for_again_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tts = Pyttsx3TTS(retries=2)
    real, calls = tts._library.synthesise, []

    def failing(times: int) -> Any:
        def synthesise(*args: Any) -> bytes:
            calls.append(args)
            return b"" if len(calls) <= times else real(*args)

        return synthesise

    monkeypatch.setattr(tts._library, "synthesise", failing(2))
    assert tts.speak(TEXT, "en-us").seconds > 1
    assert len(calls) == 3
    calls.clear()
    monkeypatch.setattr(tts._library, "synthesise", failing(99))
    with pytest.raises(AudioError, match=r"no sound.*asked 3 times"):
        tts.speak(TEXT, "en-us")
    assert len(calls) == 3


@pytest.mark.parametrize(
    "options", [{"rate": 10}, {"rate": "175"}, {"pitch": 100}, {"sample_rate_hz": 0}, {"retries": -1}, {"retries": 1.5}]
)
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserInputError, match=next(iter(options))):
        Pyttsx3TTS(**options)


def test_the_fingerprint_says_what_shapes_the_sound(tts: Pyttsx3TTS) -> None:
    assert tts.fingerprint() == Pyttsx3TTS().fingerprint()
    assert {"pyttsx3", "espeak-ng"} <= set(tts.fingerprint().split())
    variants = [Pyttsx3TTS(rate=150), Pyttsx3TTS(pitch=60), Pyttsx3TTS(sample_rate_hz=8_000), tts]
    assert len({engine.fingerprint() for engine in variants}) == 4
    # What only decides how hard it is tried, or what is listed, does not change the sound.
    assert Pyttsx3TTS(retries=9, language="de").fingerprint() == tts.fingerprint()


# --- the library


def _python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ESPEAK_DATA_PATH"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)


def test_speaking_prints_nothing_and_ends_cleanly() -> None:
    done = _python(
        "from salad_eval.tts.espeak import Pyttsx3TTS\nassert Pyttsx3TTS().speak('Hello there.', 'en-us').seconds > 0.3"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_the_shipped_library_the_system_is_asked_and_then_the_user() -> None:
    """Neither to be found: the message says how to get one."""
    done = _python(
        "import sys, ctypes\n"
        "sys.modules['espeakng_loader'] = None\n"
        "def none(name): raise OSError(f'{name}: not found')\n"
        "ctypes.cdll.LoadLibrary = none\n"
        "from salad_eval.errors import PluginError\n"
        "from salad_eval.tts.espeak import Pyttsx3TTS\n"
        "try: Pyttsx3TTS()\n"
        "except PluginError as error: print(error)\n"
    )
    assert "pip install espeakng-loader" in done.stdout, done.stderr
    assert "apt-get install espeak-ng" in done.stdout


def test_a_system_library_is_used_where_none_is_shipped() -> None:
    """The shipped file stands in for the system's: only pyttsx3's own search finds it."""
    pytest.importorskip("espeakng_loader")
    done = _python(
        "import sys, ctypes, os, espeakng_loader as el, pathlib\n"
        "library, data = el.get_library_path(), pathlib.Path(el.get_data_path()).parent\n"
        "sys.modules['espeakng_loader'] = None\n"
        "os.environ['ESPEAK_DATA_PATH'] = str(data)\n"
        "real = ctypes.CDLL(library)\n"
        "ctypes.cdll.LoadLibrary = lambda name: real\n"
        "from salad_eval.tts.espeak import Pyttsx3TTS\n"
        "print(Pyttsx3TTS().speak('Hello there.', 'en-us').seconds > 0.3)\n"
    )
    assert done.stdout == "True\n", done.stderr


def test_a_broken_shipped_library_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def unloadable(*args: Any, **kwargs: Any) -> Any:
        raise OSError("invalid ELF header")

    monkeypatch.setattr(espeak.ctypes, "CDLL", unloadable)
    assert espeak._shipped_library() is None


def test_a_missing_shipped_library_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert espeak._shipped_library() is None
