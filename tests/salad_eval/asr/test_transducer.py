"""The transducer plug-in on tiny random Parakeet RNN-T and TDT models, saved and loaded in the format of real ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from salad_eval.asr import pieces as sound
from salad_eval.asr.transformers_ctc import TransformersCTC
from salad_eval.asr.transformers_transducer import TransformersTransducer
from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import ASR, Audio
from tests.helpers.tiny_recognisers import RATE_HZ, save_parakeet, save_transducer, sounds

KINDS = ("rnnt", "tdt")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("transducer")
    for kind in KINDS:
        save_transducer(root / kind, kind)
    return {kind: root / kind for kind in KINDS}


@pytest.fixture(scope="module")
def recognisers(checkpoints: dict[str, Path]) -> dict[str, TransformersTransducer]:
    return {kind: TransformersTransducer(str(checkpoints[kind])) for kind in KINDS}


@pytest.fixture
def copy_of(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoints[name], tmp_path / name))


@torch.inference_mode()
def greedy(asr: TransformersTransducer, folder: Path, audio: Audio) -> str:
    """Transducer decoding by its definition, one step at a time, on the model's encoder, decoder and joint network."""
    model, processor = asr._model, AutoProcessor.from_pretrained(folder)
    inputs = processor(audio=audio.samples, sampling_rate=RATE_HZ)
    encoded = model.get_audio_features(**inputs)
    frames = encoded.pooler_output[0, : int(encoded.attention_mask.sum())]
    config = model.config
    durations = getattr(config, "durations", None)
    said: list[int] = []
    at, here = 0, 0
    while at < len(frames) and len(said) < 10_000:
        history = torch.tensor([[config.blank_token_id, *said]])
        decoded = model.decoder(history)[:, -1:]
        logits = model.joint(
            encoder_hidden_states=frames[None, at : at + 1, None], decoder_hidden_states=decoded[:, None]
        )
        logits = logits.reshape(-1)
        token = int(logits[: config.vocab_size].argmax())
        blank = token == config.blank_token_id
        if not blank:
            said.append(token)
        if durations is not None:
            step = durations[int(logits[config.vocab_size :].argmax())]
            at += max(step, 1) if blank else step
        else:
            here = 0 if blank else here + 1
            if blank or here >= config.max_symbols_per_step:
                at, here = at + 1, 0
    return " ".join(processor.tokenizer.decode(said, skip_special_tokens=True, group_tokens=False).split())


@pytest.mark.parametrize("kind", KINDS)
def test_it_hears_what_the_model_says(
    kind: str, checkpoints: dict[str, Path], recognisers: dict[str, TransformersTransducer]
) -> None:
    expected = [greedy(recognisers[kind], checkpoints[kind], audio) for audio in sounds()]
    assert recognisers[kind].transcribe(sounds()) == expected
    assert len(set(expected)) > 2, "the random model must tell sounds apart for this test to mean something"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_members_alone_whatever_its_order(
    kind: str, checkpoints: dict[str, Path], recognisers: dict[str, TransformersTransducer]
) -> None:
    asr, audios = recognisers[kind], sounds((0.9, 0.3, 1.2, 0.61))
    alone = [asr.transcribe([audio])[0] for audio in audios]
    assert asr.transcribe(audios) == alone
    assert asr.transcribe(audios[::-1]) == alone[::-1]
    assert TransformersTransducer(str(checkpoints[kind]), batch_seconds=1.5).transcribe(audios) == alone


@pytest.mark.parametrize("kind", KINDS)
def test_long_sound_is_heard_piece_by_piece(kind: str, checkpoints: dict[str, Path]) -> None:
    asr = TransformersTransducer(str(checkpoints[kind]), longest_seconds=1.0)
    (long,) = sounds((3.5,))
    cuts = sound.pieces(long.samples, RATE_HZ, 1.0)
    alone = [asr.transcribe([Audio(long.samples[first:last], RATE_HZ)])[0] for first, last in cuts]
    assert len(cuts) > 3
    assert asr.transcribe([sounds()[1], long])[1] == " ".join(" ".join(alone).split())


def test_other_rates_silence_and_nothing(recognisers: dict[str, TransformersTransducer]) -> None:
    asr = recognisers["tdt"]
    at_48k = [resample(audio, 48_000) for audio in sounds()]
    assert asr.transcribe(at_48k) == asr.transcribe([resample(audio, RATE_HZ) for audio in at_48k])
    assert asr.transcribe([]) == []
    shortest = Audio(np.full(800, 0.1, np.float32), RATE_HZ)
    assert len(asr.transcribe([Audio(np.zeros(RATE_HZ, np.float32), RATE_HZ), shortest])) == 2
    with pytest.raises(AudioError, match=r"recording 1 is 0\.000 s long"):
        asr.transcribe([sounds()[0], Audio(np.zeros(0, np.float32), RATE_HZ)])


def test_it_is_an_asr_plug_in_with_a_fingerprint(
    checkpoints: dict[str, Path], recognisers: dict[str, TransformersTransducer], copy_of: Callable[[str], Path]
) -> None:
    assert isinstance(recognisers["rnnt"], ASR)
    base = recognisers["tdt"].fingerprint()
    assert TransformersTransducer(str(copy_of("tdt"))).fingerprint() == base
    others = (
        recognisers["rnnt"],
        TransformersTransducer(str(checkpoints["tdt"]), dtype="bfloat16"),
        TransformersTransducer(str(checkpoints["tdt"]), longest_seconds=5),
    )
    assert len({base, *(other.fingerprint() for other in others)}) == 4


def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(path: str) -> str:
        return TransformersTransducer(path).fingerprint()

    assert unseen(checkpoints["tdt"], tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(checkpoints["tdt"], tmp_path))) == fingerprint(str(checkpoints["tdt"]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_seconds": 0}, "batch_seconds is 0"),
        ({"longest_seconds": 0}, "longest_seconds is 0"),
        ({"dtype": "float31"}, "did you mean 'float32'"),
    ],
)
def test_wrong_options_name_what_is_right(options: dict[str, Any], told: str, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserInputError, match=told):
        TransformersTransducer(str(checkpoints["tdt"]), **options)


def test_wrong_and_incomplete_checkpoints_are_refused(
    checkpoints: dict[str, Path], copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    save_parakeet(tmp_path / "ctc")
    with pytest.raises(ModelError, match=r"is a ParakeetForCTC, not a transducer.*plug-in 'transformers-ctc'"):
        TransformersTransducer(str(tmp_path / "ctc"))
    with pytest.raises(ModelError, match=r"is a ParakeetForTDT, not a CTC.*plug-in 'transformers-transducer'"):
        TransformersCTC(str(checkpoints["tdt"]))
    folder = copy_of("rnnt")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"tokenizer"):
        TransformersTransducer(str(folder))
    folder = copy_of("tdt")
    weights = load_file(folder / "model.safetensors")
    del weights["joint.head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing keys: joint\.head\.weight"):
        TransformersTransducer(str(folder))
