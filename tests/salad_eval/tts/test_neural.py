"""VITS, SpeechT5 and Kokoro on tiny random models, saved and loaded in the format of real ones, also in the render step's workers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, VitsModel, VitsTokenizer

from salad_eval.audio import sound as audio
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError, UserInputError
from salad_eval.pipeline import executor, render
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.pipeline.render import RenderJob
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.tts import checkpoint
from salad_eval.tts.kokoro import KokoroTTS
from salad_eval.tts.speecht5 import SpeechT5TTS
from salad_eval.tts.transformers_vits import TransformersVits
from salad_eval.types import TTS, Audio, Rendering
from tests.helpers.tiny_voices import ALPHABET, save_hifigan, save_speakers, save_speecht5, save_vits

TEXT = "hello there my friend"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voices")
    save_vits(root / "vits", deterministic_durations=True)
    save_vits(root / "vits-3", n_speakers=3)
    return root


@pytest.fixture(scope="module")
def vits(folders: Path) -> TransformersVits:
    return TransformersVits(str(folders / "vits"))


@pytest.fixture
def copy_of(folders: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folders / name, tmp_path / name))


def same(a: Audio, b: Audio) -> bool:
    return a.sample_rate_hz == b.sample_rate_hz and np.array_equal(a.samples, b.samples)


# --- noise -----------------------------------------------------------------------------------------------------------


def test_noise_depends_on_what_it_is_named_by_and_disturbs_nobody() -> None:
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    with checkpoint.own_noise("cpu", 0, "a text"):
        first = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with checkpoint.own_noise("cpu", 0, "a text"):
        assert torch.equal(torch.rand(4), first)
    with checkpoint.own_noise("cpu", 1, "a text"):
        assert not torch.equal(torch.rand(4), first)


# --- VITS ------------------------------------------------------------------------------------------------------------


def test_vits_says_what_the_model_says(folders: Path, vits: TransformersVits) -> None:
    """Against the model itself, asked as its own documentation does, with the same noise."""
    tokenizer, model = (one.from_pretrained(folders / "vits") for one in (VitsTokenizer, VitsModel))
    with torch.no_grad(), checkpoint.own_noise("cpu", 0, "default", TEXT):
        expected = model.eval()(**tokenizer(TEXT, return_tensors="pt")).waveform[0].numpy()
    sound = vits.speak(TEXT, "default")
    assert sound.sample_rate_hz == model.config.sampling_rate == 16_000
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, expected, atol=1e-6)
    assert audio.problem(sound, TEXT) is None


def test_vits_says_the_same_text_in_the_same_way(folders: Path, vits: TransformersVits) -> None:
    assert isinstance(vits, TTS)
    first = vits.speak(TEXT, "default")
    torch.rand(7)
    other = vits.speak("something else", "default")
    assert same(vits.speak(TEXT, "default"), first)
    assert same(TransformersVits(str(folders / "vits")).speak(TEXT, "default"), first)
    assert not same(first, other)
    assert not same(TransformersVits(str(folders / "vits"), seed=1).speak(TEXT, "default"), first)


def test_vits_speakers_and_settings_act(folders: Path) -> None:
    tts = TransformersVits(str(folders / "vits-3"))
    assert tts.voices() == ["0", "1", "2"]
    sounds = [tts.speak(TEXT, voice) for voice in ("0", "1", "2", "0,noise=0", "0,duration_noise=2")]
    assert all(not same(a, b) for k, a in enumerate(sounds) for b in sounds[:k])
    slow, fast = (tts.speak(TEXT, f"0,rate={rate},duration_noise=0").seconds for rate in (0.25, 2))
    assert slow > 1.5 * fast
    assert same(tts.speak(TEXT, "0"), sounds[0])  # settings of another utterance are forgotten


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("half\0half", "NUL"),
        ("room 101", r"no sound for '0' \(U\+0030\), '1' \(U\+0031\) in 'room 101'"),
        ("caf\u00e9", r"no sound for 'é' \(U\+00E9\)"),
        ("\u65e5\u672c", "no sound for"),
        ("...", "nothing to say"),
    ],
)
def test_vits_refuses_what_it_would_leave_out(text: str, told: str, vits: TransformersVits) -> None:
    with pytest.raises(AudioError, match=told):
        vits.speak(text, "default")


def test_marks_that_make_no_sound_may_go(vits: TransformersVits) -> None:
    assert (
        vits.speak("Hello, there! (My friend.)", "default").seconds
        == vits.speak("hello there my friend", "default").seconds
    )


@pytest.mark.parametrize(
    ("voice", "told"),
    [
        ("3", r"unknown VITS speaker '3'.*Known: 0, 1, 2"),
        ("default", "unknown VITS speaker"),
        ("0,rate=9", "rate is '9', expected a number from 0.25 to 4"),
        ("0,speed=1", "unknown setting"),
    ],
)
def test_vits_voices_that_are_not_there(voice: str, told: str, folders: Path) -> None:
    with pytest.raises(UserInputError, match=told):
        TransformersVits(str(folders / "vits-3")).speak(TEXT, voice)


def test_vits_is_known_without_its_weights_being_loaded(
    copy_of: Callable[[str], Path], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of("vits")
    base = TransformersVits(str(folder)).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(VitsModel, "from_pretrained", None)
        assert TransformersVits(str(folders / "vits")).fingerprint() == base
    others = [TransformersVits(str(folder), seed=1), TransformersVits(str(folder), dtype="bfloat16")]
    assert len({base, *(one.fingerprint() for one in others)}) == 3


def test_each_file_of_vits_and_none_beside_it_is_in_the_fingerprint(folders: Path, tmp_path: Path) -> None:
    def fingerprint(path: str) -> str:
        return TransformersVits(path).fingerprint()

    assert unseen(folders / "vits", tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(folders / "vits", tmp_path))) == fingerprint(str(folders / "vits"))


def test_vits_checkpoints_that_are_not_whole(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelError, match="is a LlamaForCausalLM, not a VITS"):
        TransformersVits(str(tmp_path / "llama"))
    folder = copy_of("vits")
    weights = load_file(folder / "model.safetensors")
    del weights["text_encoder.project.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing keys: text_encoder\.project\.weight"):
        TransformersVits(str(folder)).speak(TEXT, "default")
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelError, match="cannot load the tokenizer"):
        TransformersVits(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        TransformersVits(str(folder))


def test_a_vits_that_reads_phonemes_says_what_it_needs(
    copy_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of("vits")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "phonemize": True}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(MissingExtraError, match="pip install phonemizer"):
        TransformersVits(str(folder))


# --- in the render step ----------------------------------------------------------------------------------------------

# The real plug-in, which also notes where it was built and where its weights were loaded.
COUNTED = """
import os
from salad_eval.tts.transformers_vits import TransformersVits
class Counted(TransformersVits):
    def __init__(self, pretrained, log):
        super().__init__(pretrained)
        self.log = log
    @property
    def _model(self):
        if "kept" not in self.__dict__:
            import torch
            with open(self.log, "a") as file: file.write(f"{os.getpid()} {torch.get_num_threads()}\\n")
            self.__dict__["kept"] = TransformersVits._model.func(self)
        return self.__dict__["kept"]
"""


@pytest.fixture
def _counted(tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "plugin"
    info = folder / "counted_vits-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "counted_vits.py").write_text(COUNTED)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counted-vits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[salad.tts]\ncounted-vits = counted_vits:Counted\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.usefixtures("_counted")
def test_a_worker_loads_a_model_once_and_runs_it_on_one_thread(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vits: TransformersVits
) -> None:
    monkeypatch.setattr(executor, "WORKER_START_SECONDS", 0.0)
    monkeypatch.setattr(render, "REQUESTS_AT_A_TIME", 2)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    jobs = [RenderJob(word, "context", "default", "clean", f"this is number {word}") for word in words]
    store, log = AudioStore(tmp_path / "audio"), tmp_path / "log"
    options = {"pretrained": str(folders / "vits"), "log": str(log)}

    def run() -> list[Any]:
        return list(
            render.render(jobs, tts="counted-vits", tts_options=options, store=store, executor=WorkerProcesses(2))
        )

    results = run()
    assert all(isinstance(one, Rendering) for one in results), results
    loads = [line.split() for line in log.read_text().splitlines()]
    processes = [process for process, _ in loads]
    assert len(processes) == len(set(processes)) == 3  # this one for the first chunk, then two workers
    assert all(threads == "1" for _, threads in loads[1:])
    # What a worker says is what this process says.
    for job, one in zip(jobs, results, strict=True):
        assert one.sha256 == audio.sha256_of(audio.resample(vits.speak(job.spoken_text, "default"), 16_000))
    assert run() == results
    assert len(log.read_text().splitlines()) == 3  # all is known; nobody loads anything


# --- SpeechT5 --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speecht5(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
    root = tmp_path_factory.mktemp("speecht5")
    save_speecht5(root / "model")
    save_hifigan(root / "vocoder")
    save_speakers(root / "speakers")
    return {"pretrained": str(root / "model"), "vocoder": str(root / "vocoder"), "speakers": str(root / "speakers")}


def test_speecht5_says_the_same_text_in_the_same_way(speecht5: dict[str, str]) -> None:
    tts = SpeechT5TTS(**speecht5)
    assert isinstance(tts, TTS)
    assert tts.voices() == ["anna", "boris"]
    anna, boris = (tts.speak(TEXT, voice) for voice in tts.voices())
    assert anna.sample_rate_hz == 16_000
    assert anna.samples.dtype == np.float32
    assert 0 < np.abs(anna.samples).max() <= 1
    assert not same(anna, boris)
    torch.rand(3)
    assert same(SpeechT5TTS(**speecht5).speak(TEXT, "anna"), anna)
    assert not same(SpeechT5TTS(**speecht5, seed=1).speak(TEXT, "anna"), anna)  # type: ignore[arg-type]


def test_speecht5_embeddings_by_name(speecht5: dict[str, str]) -> None:
    files = {"first": f"{speecht5['speakers']}/boris.safetensors"}
    tts = SpeechT5TTS(**{**speecht5, "speakers": files})  # type: ignore[arg-type]
    assert tts.voices() == ["first"]
    with pytest.raises(UnknownNameError, match="unknown SpeechT5 speaker 'anna'"):
        tts.speak(TEXT, "anna")


@pytest.mark.parametrize(
    ("text", "told"), [("room 1", "no sound for '1'"), ("a" * 90, "takes 60 tokens"), (" ", "empty")]
)
def test_speecht5_refuses_what_it_cannot_say(text: str, told: str, speecht5: dict[str, str]) -> None:
    with pytest.raises(AudioError, match=told):
        SpeechT5TTS(**speecht5).speak(text, "anna")


def test_speecht5_embeddings_that_cannot_be_used(speecht5: dict[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros(5, np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "torn.safetensors").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    for speakers, told in (
        ({"v": str(tmp_path / "short.npy")}, "holds 5 numbers; expected 12"),
        ({"v": str(tmp_path / "pickled.npy")}, "allow_pickle=False"),
        ({"v": str(tmp_path / "torn.safetensors")}, "cannot read"),
        ({"v": str(tmp_path / "none.npy")}, "there is no file"),
        ({"v": str(tmp_path / "voice.pt")}, "is no .npy or .safetensors file"),
        (str(tmp_path / "empty"), "there are no embeddings"),
        (str(tmp_path / "nowhere"), "expected a folder of embeddings"),
    ):
        with pytest.raises(UserInputError, match=told):
            SpeechT5TTS(**{**speecht5, "speakers": speakers})  # type: ignore[arg-type]


def test_speecht5_checkpoints_that_do_not_fit(speecht5: dict[str, str], folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a VitsModel, not a SpeechT5"):
        SpeechT5TTS(**{**speecht5, "pretrained": str(folders / "vits")})
    with pytest.raises(ModelError, match="is a SpeechT5ForTextToSpeech, not a SpeechT5 vocoder"):
        SpeechT5TTS(**{**speecht5, "vocoder": speecht5["pretrained"]})
    save_hifigan(tmp_path / "wide", n_mels=16)
    with pytest.raises(ModelError, match=r"turns 16 mel bands into sound and .* makes 8"):
        SpeechT5TTS(**{**speecht5, "vocoder": str(tmp_path / "wide")})
    config = json.loads(Path(speecht5["pretrained"], "config.json").read_text())
    folder = Path(shutil.copytree(speecht5["pretrained"], tmp_path / "asr"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["SpeechT5ForSpeechToText"]}))
    with pytest.raises(ModelError, match="is a SpeechT5ForSpeechToText, not a SpeechT5 text-to-speech"):
        SpeechT5TTS(**{**speecht5, "pretrained": str(folder)})


def test_speecht5_fingerprints_its_parts(speecht5: dict[str, str], tmp_path: Path) -> None:
    base = SpeechT5TTS(**speecht5).fingerprint()
    assert SpeechT5TTS(**speecht5).fingerprint() == base
    np.save(tmp_path / "anna.npy", np.ones(12, np.float32))
    speakers = SpeechT5TTS(**{**speecht5, "speakers": str(tmp_path)}).fingerprint()
    vocoder = Path(shutil.copytree(speecht5["vocoder"], tmp_path / "vocoder"))
    weights = load_file(vocoder / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, vocoder / "model.safetensors", metadata={"format": "pt"})
    other = SpeechT5TTS(**{**speecht5, "vocoder": str(vocoder)}).fingerprint()
    assert len({base, speakers, other}) == 3


@pytest.mark.parametrize("part", ["pretrained", "vocoder"])
def test_each_file_of_speecht5_and_none_beside_it_is_in_the_fingerprint(
    part: str, speecht5: dict[str, str], tmp_path: Path
) -> None:
    def fingerprint(path: str) -> str:
        return SpeechT5TTS(**{**speecht5, part: path}).fingerprint()

    assert unseen(Path(speecht5[part]), tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(Path(speecht5[part]), tmp_path))) == fingerprint(speecht5[part])


# --- Kokoro ----------------------------------------------------------------------------------------------------------


def test_kokoro_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kokoro", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'salad-gap\[kokoro\]'"):
        KokoroTTS()


@pytest.mark.parametrize(
    ("options", "told"),
    [({"language": "en"}, "expected one of en-us, en-gb"), ({"g2p": "espeek"}, "did you mean 'espeak'")],
)
def test_kokoro_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        KokoroTTS(**options)


@pytest.fixture(scope="module")
def kokoro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Kokoro of the package's own class. What its decoder was built for cannot be made smaller."""
    kokoro = pytest.importorskip("kokoro", reason="needs the package kokoro")
    folder = tmp_path_factory.mktemp("kokoro")
    letters = (
        f"{ALPHABET} ,.?!\u0250\u0259\u025b\u026a\u0254\u028a\u028c\u00e6\u0251\u0279\u00f0\u03b8\u0283\u0292\u014b"
        "\u02c8\u02cc\u02d0\u025c\u0261\u027e\u1d7b"
    )
    config = {
        "vocab": {letter: k + 1 for k, letter in enumerate(dict.fromkeys(letters))},
        "n_token": 80, "hidden_dim": 512, "style_dim": 128, "n_layer": 1, "max_dur": 8, "dropout": 0.0, "n_mels": 80,
        "text_encoder_kernel_size": 3,
        "plbert": {
            "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 120,
            "num_hidden_layers": 1, "dropout": 0.0,
        },
        "istftnet": {
            "upsample_kernel_sizes": [20, 12], "upsample_rates": [10, 6], "gen_istft_hop_size": 5, "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]], "resblock_kernel_sizes": [3], "upsample_initial_channel": 512,
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    parts = ("bert", "bert_encoder", "predictor", "text_encoder", "decoder")
    empty = folder / "empty.bin"
    torch.save({}, empty)
    model = kokoro.KModel(repo_id="tiny", config=str(folder / "config.json"), model=str(empty))
    empty.unlink()
    torch.save({part: getattr(model, part).state_dict() for part in parts}, folder / "tiny.pth")
    (folder / "voices").mkdir()
    for name in ("af_one", "am_two"):
        torch.save(torch.randn(118, 1, 256), folder / "voices" / f"{name}.pt")
    return folder


def test_kokoro_says_the_same_text_in_the_same_way(kokoro_folder: Path) -> None:
    tts = KokoroTTS(str(kokoro_folder), g2p="espeak", device="cpu")
    assert isinstance(tts, TTS)
    assert tts.voices() == ["af_one", "am_two"]
    one, two = (tts.speak("the sun is a star", voice) for voice in tts.voices())
    assert one.sample_rate_hz == 24_000
    assert one.samples.dtype == np.float32
    assert one.seconds > 0.2
    assert not same(one, two)
    assert same(KokoroTTS(str(kokoro_folder), g2p="espeak").speak("the sun is a star", "af_one"), one)
    assert not same(KokoroTTS(str(kokoro_folder), g2p="espeak", seed=1).speak("the sun is a star", "af_one"), one)
    assert tts.speak("the sun is a star", "af_one,speed=2").seconds < one.seconds
    with pytest.raises(UnknownNameError, match="did you mean 'af_one'"):
        tts.speak("the sun", "af_on")
    with pytest.raises(AudioError, match="phonemes at a time"):
        tts.speak("the sun is a star " * 20, "af_one")


def test_kokoro_phonemes_that_cannot_be_had(kokoro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """spaCy ends the process where it cannot fetch its English model; a run must not end without a word."""

    def ended(**_: Any) -> None:
        raise SystemExit(1)

    monkeypatch.setattr("kokoro.KPipeline", ended)
    with pytest.raises(ModelError, match=r"cannot load the misaki phonemes.*SystemExit.*or set g2p=espeak"):
        KokoroTTS(str(kokoro_folder), device="cpu").speak("the sun is a star", "af_one")


def test_kokoro_folders_that_are_not_whole(kokoro_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(kokoro_folder, tmp_path / "kokoro"))
    base = KokoroTTS(str(folder)).fingerprint()
    assert base == KokoroTTS(str(kokoro_folder)).fingerprint()
    torch.save(torch.zeros(118, 1, 256), folder / "voices" / "af_one.pt")
    assert KokoroTTS(str(folder)).fingerprint() != base
    (folder / "tiny.pth").unlink()
    with pytest.raises(ModelError, match=r"one \.pth file \(0 are there\)"):
        KokoroTTS(str(folder))
