"""The faster-whisper plug-in, on a tiny random Whisper that CTranslate2's own converter has converted."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.asr import pieces as sound
from salad_eval.asr.faster_whisper import FasterWhisper
from salad_eval.asr.whisper import Whisper
from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UserInputError
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import ASR, Audio
from tests.helpers.tiny_recognisers import RATE_HZ, save_whisper, sounds

KINDS = ("multilingual", "english")
AUDIOS = [Audio(audio.samples * level, RATE_HZ) for audio in sounds((30.0, 30.0, 30.0)) for level in (1.0, 0.1)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("faster_whisper", reason="needs the package faster-whisper")
    root = tmp_path_factory.mktemp("whisper")
    for kind in KINDS:
        save_whisper(root / kind, multilingual=kind == "multilingual", seconds=30, n_mels=80, n_positions=448)
    return {kind: root / kind for kind in KINDS}


@pytest.fixture(scope="module")
def checkpoints(originals: dict[str, Path]) -> dict[str, Path]:
    from ctranslate2.converters import TransformersConverter

    found = {kind: folder.with_name(f"{kind}-ct2") for kind, folder in originals.items()}
    for kind, folder in originals.items():
        TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(found[kind]))
    return found


@pytest.fixture(scope="module")
def recognisers(checkpoints: dict[str, Path]) -> dict[str, FasterWhisper]:
    return {kind: FasterWhisper(str(checkpoints[kind]), max_new_tokens=12) for kind in KINDS}


@pytest.fixture
def copy_of(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoints[name], tmp_path / name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"temperatures": 0},
        {"temperatures": [0, 0.7, 1.0], "logprob_threshold": 0.0},  # none is acceptable: all three are made
        {"temperatures": 0.7, "seed": 3},
    ],
)
def test_it_says_what_the_same_model_says_in_torch(
    kind: str, options: dict[str, Any], originals: dict[str, Path], checkpoints: dict[str, Path]
) -> None:
    audios = [*AUDIOS[:3], *sounds((12.0, 3.0, 0.4))]
    options = {**options, "max_new_tokens": 12}
    expected = Whisper(str(originals[kind]), **options).transcribe(audios)
    assert FasterWhisper(str(checkpoints[kind]), **options).transcribe(audios) == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_sound_gives_the_same_text_whatever_else_is_heard(
    kind: str, recognisers: dict[str, FasterWhisper]
) -> None:
    asr, audios = recognisers[kind], [*AUDIOS[:4], *sounds((12.0, 3.0))]
    alone = [asr.transcribe([audio])[0] for audio in audios]
    assert asr.transcribe(audios) == alone
    assert asr.transcribe(audios[::-1]) == alone[::-1]
    assert len(set(alone)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_transcript_may_have_so_many_tokens(kind: str, checkpoints: dict[str, Path]) -> None:
    """CTranslate2 gives half of what it is asked for; the plug-in asks for twice as many."""
    whole = FasterWhisper(str(checkpoints[kind]), temperatures=0)
    assert whole.max_new_tokens == 224
    long = max(AUDIOS, key=lambda audio: len(tokens_of(whole, audio)))
    expected = tokens_of(whole, long)
    assert len(expected) > 4
    for n_tokens in (1, 2, 3, 4):
        limited = FasterWhisper(str(checkpoints[kind]), temperatures=0, max_new_tokens=n_tokens)
        assert tokens_of(limited, long) == expected[:n_tokens]


def tokens_of(asr: FasterWhisper, audio: Audio) -> list[int]:
    """What CTranslate2 gives for a recording."""
    inner, given = asr._model.model, []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def generate(self, *args: Any, **options: Any) -> Any:
            results = inner.generate(*args, **options)
            given.extend(results[0].sequences_ids[0])
            return results

    asr._model.model = Watched()
    try:
        asr.transcribe([audio])
    finally:
        asr._model.model = inner
    return given


def test_long_sound_is_heard_piece_by_piece(recognisers: dict[str, FasterWhisper]) -> None:
    asr = recognisers["english"]
    (long,) = sounds((70.0,))
    cuts = sound.pieces(long.samples, RATE_HZ, 30.0)
    alone = [asr.transcribe([Audio(long.samples[first:last], RATE_HZ)])[0] for first, last in cuts]
    assert len(cuts) >= 3
    assert asr.transcribe([long]) == [" ".join(" ".join(alone).split())]


def test_a_piece_is_heard_in_the_smallest_window_that_leaves_a_second(checkpoints: dict[str, Path]) -> None:
    asr = FasterWhisper(str(checkpoints["english"]), windows=[4, 9.5, 30], max_new_tokens=4, temperatures=0)
    seen: list[tuple[int, ...]] = []
    encode = asr._model.encode
    asr._model.encode = lambda features: seen.append(features.shape) or encode(features)
    asr.transcribe([*sounds((2.9, 3.1, 8.5)), *sounds((8.6, 30.0))])
    assert [shape[-1] for shape in seen] == [400, 950, 950, 3000, 3000]


def test_rates_silence_and_nothing(recognisers: dict[str, FasterWhisper]) -> None:
    asr = recognisers["multilingual"]
    (other,) = (resample(audio, 48_000) for audio in sounds((8.0,)))
    assert asr.transcribe([other]) == asr.transcribe([resample(other, RATE_HZ)])
    assert asr.transcribe([]) == []
    shortest = Audio(np.full(800, 0.1, np.float32), RATE_HZ)
    silence = Audio(np.full(RATE_HZ, 1e-3, np.float32), RATE_HZ)
    assert asr.transcribe([silence, shortest]) == ["", *asr.transcribe([shortest])]
    with pytest.raises(AudioError, match=r"recording 0 is 0\.000 s long"):
        asr.transcribe([Audio(np.zeros(0, np.float32), RATE_HZ)])


def test_it_is_an_asr_plug_in_with_a_fingerprint(checkpoints: dict[str, Path], copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("multilingual")
    base = FasterWhisper(str(folder))
    assert isinstance(base, ASR)
    assert base.fingerprint() == FasterWhisper(str(checkpoints["multilingual"]), threads=1).fingerprint()
    options: list[dict[str, Any]] = [
        {"language": "German"}, {"language": "auto"}, {"task": "translate"}, {"timestamps": True}, {"beam_size": 2},
        {"max_new_tokens": 3}, {"longest_seconds": 9.0}, {"compute_type": "int8"}, {"temperatures": 0}, {"seed": 1},
        {"compression_ratio_threshold": None}, {"logprob_threshold": -2}, {"no_speech_threshold": 0.5},
        {"windows": [30]}, {"windows": [10, 30]},
    ]  # fmt: skip
    found = {base.fingerprint(), *(FasterWhisper(str(folder), **one).fingerprint() for one in options)}
    assert len(found) == len(options) + 1
    assert all(version in base.fingerprint() for version in ("faster-whisper=", "ctranslate2="))


def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(path: str) -> str:
        return FasterWhisper(path).fingerprint()

    assert unseen(checkpoints["multilingual"], tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(checkpoints["multilingual"], tmp_path))) == fingerprint(
        str(checkpoints["multilingual"])
    )


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("multilingual", {"language": "klingon"}, "language 'klingon' is not one of"),
        ("multilingual", {"task": "transcript"}, "did you mean 'transcribe'"),
        ("english", {"language": "de"}, "knows English alone"),
        ("english", {"task": "translate"}, "knows English alone"),
        ("english", {"beam_size": 0}, "beam_size is 0"),
        ("english", {"max_new_tokens": 225}, "from 1 to 224"),
        ("english", {"longest_seconds": 31}, "hears 30 s at most"),
        ("english", {"temperatures": "high"}, "temperatures is 'high'"),
        ("english", {"windows": [10]}, "windows is \\[10\\]; expected seconds in rising order, from 2 up, the last 30"),
        ("english", {"windows": [30, 10]}, "in rising order"),
        ("english", {"windows": "10"}, "windows is '10'"),
        ("english", {"device": "gpu"}, "device is 'gpu'; expected auto, cpu or cuda"),
    ],
)
def test_wrong_options_name_what_is_right(
    kind: str, options: dict[str, Any], told: str, checkpoints: dict[str, Path]
) -> None:
    with pytest.raises(UserInputError, match=told):
        FasterWhisper(str(checkpoints[kind]), **options)


def test_a_compute_type_that_is_none_is_named(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"cannot load the model of .*float31"):
        FasterWhisper(str(checkpoints["english"]), compute_type="float31")


def test_a_checkpoint_of_transformers_is_told_how_to_become_one(originals: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"checkpoint of transformers.*ct2-transformers-converter --model"):
        FasterWhisper(str(originals["english"]))


def test_a_folder_that_lacks_a_file_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("english")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json of a CTranslate2 Whisper"):
        FasterWhisper(str(folder))


def test_a_feature_extractor_of_another_whisper_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("english")
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
    with pytest.raises(ModelError, match=r"wants 80 mel bands and its feature extractor makes 128"):
        FasterWhisper(str(folder))


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'salad-gap\[faster-whisper\]'"):
        FasterWhisper(str(tmp_path))
