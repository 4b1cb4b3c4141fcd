"""The CTC plug-in on tiny random models, saved and loaded in the format of real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, AutoProcessor, LlamaConfig, LlamaForCausalLM

from salad_eval import plugins
from salad_eval.asr import transformers_ctc
from salad_eval.asr.transformers_ctc import TransformersCTC
from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.pipeline.transcribe import count_errors
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.tts.espeak import Pyttsx3TTS
from salad_eval.types import ASR, Audio
from tests.helpers.tiny_recognisers import ALPHABET, RATE_HZ, save_hubert, save_parakeet, save_wav2vec2, sounds

SAVERS: dict[str, Callable[[Path], None]] = {
    "parakeet": save_parakeet,
    "wav2vec2-layer": lambda folder: save_wav2vec2(folder, "layer"),
    "wav2vec2-group": lambda folder: save_wav2vec2(folder, "group"),
    "hubert-layer": lambda folder: save_hubert(folder, "layer"),
    "hubert-group": lambda folder: save_hubert(folder, "group"),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("ctc")
    for name, save in SAVERS.items():
        save(root / name)
    return {name: root / name for name in SAVERS}


@pytest.fixture
def copy_of(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoints[name], tmp_path / name))


# --- what it hears ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAVERS)
def test_it_hears_what_the_model_says(name: str, checkpoints: dict[str, Path]) -> None:
    """Against transformers' own greedy decoding of one recording."""
    asr = TransformersCTC(str(checkpoints[name]))
    processor, model = (
        AutoProcessor.from_pretrained(checkpoints[name]),
        AutoModelForCTC.from_pretrained(checkpoints[name]),
    )
    expected = []
    for audio in sounds():
        inputs = processor(audio=audio.samples, sampling_rate=RATE_HZ, return_tensors="pt")
        with torch.inference_mode():
            ids = model(**inputs).logits.argmax(-1)
        if name == "parakeet":  # its processor gives one frame more than is real, and a mask that says so
            ids = model.generate(**inputs)
        expected.append(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
    found = asr.transcribe(sounds())
    assert found == [" ".join(text.split()) for text in expected]
    assert len(set(found)) > 3, "the random model must tell sounds apart for this test to mean something"


@pytest.mark.parametrize("name", SAVERS)
def test_a_batch_equals_its_members_alone_whatever_its_order(name: str, checkpoints: dict[str, Path]) -> None:
    asr = TransformersCTC(str(checkpoints[name]))
    audios = sounds()
    alone = [asr.transcribe([audio])[0] for audio in audios]
    assert asr.transcribe(audios) == alone
    assert asr.transcribe(audios[::-1]) == alone[::-1]
    small = TransformersCTC(str(checkpoints[name]), batch_seconds=2.0)
    assert small.transcribe(audios) == alone


def test_batches_keep_within_their_seconds(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asr = TransformersCTC(str(checkpoints["parakeet"]), batch_seconds=2.0)
    sizes: list[tuple[int, float]] = []
    inner = asr._ids

    def watched(waves: list[np.ndarray]) -> list[list[int]]:
        sizes.append((len(waves), len(waves) * max(map(len, waves)) / RATE_HZ))
        return inner(waves)

    monkeypatch.setattr(asr, "_ids", watched)
    asr.transcribe(sounds((0.5, 0.5, 0.5, 0.5, 0.5, 3.0)))
    assert sorted(n for n, _ in sizes) == [1, 1, 4]
    assert all(n == 1 or seconds <= 2.0 for n, seconds in sizes)


def test_other_rates_are_resampled(checkpoints: dict[str, Path]) -> None:
    asr = TransformersCTC(str(checkpoints["parakeet"]))
    at_22k = [resample(audio, 22_050) for audio in sounds()]
    assert asr.transcribe(at_22k) == asr.transcribe([resample(audio, RATE_HZ) for audio in at_22k])


def test_nothing_to_hear(checkpoints: dict[str, Path]) -> None:
    assert TransformersCTC(str(checkpoints["parakeet"])).transcribe([]) == []


@pytest.mark.parametrize("name", SAVERS)
def test_silence_is_heard_without_failing(name: str, checkpoints: dict[str, Path]) -> None:
    texts = TransformersCTC(str(checkpoints[name])).transcribe([Audio(np.zeros(RATE_HZ, np.float32), RATE_HZ)])
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, np.float32), "recording 1 is 0.000 s long"),
        (np.zeros(400, np.float32), "recording 1 is 0.025 s long"),
        (np.full(RATE_HZ, np.nan, np.float32), "recording 1 holds samples that are not finite"),
    ],
)
def test_unusable_sound_is_an_error_that_names_it(
    samples: np.ndarray, message: str, checkpoints: dict[str, Path]
) -> None:
    asr = TransformersCTC(str(checkpoints["parakeet"]))
    with pytest.raises(AudioError, match=message):
        asr.transcribe([sounds()[0], Audio(samples, RATE_HZ)])


@pytest.mark.parametrize("name", SAVERS)
def test_the_shortest_sound_it_takes_can_be_heard(name: str, checkpoints: dict[str, Path]) -> None:
    TransformersCTC(str(checkpoints[name])).transcribe([Audio(np.full(800, 0.1, np.float32), RATE_HZ)])


# --- long sound ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parakeet", "hubert-group"])
def test_sound_that_fits_is_heard_whole(name: str, checkpoints: dict[str, Path]) -> None:
    whole = TransformersCTC(str(checkpoints[name]), longest_seconds=60).transcribe(sounds())
    assert TransformersCTC(str(checkpoints[name]), longest_seconds=1.7).transcribe(sounds()) == whole
    # Pieces of a second, each heard with 3 s beyond its ends: all of them hear everything, and share out its frames.
    assert TransformersCTC(str(checkpoints[name]), longest_seconds=1.0).transcribe(sounds()) == whole


def test_each_frame_of_long_sound_counts_once(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says where in the sound it is: its windows overlap, and what is kept of them goes on without a gap."""
    n_samples, step = 7 * RATE_HZ, 400
    place = Audio(np.linspace(0, 1, n_samples, endpoint=False, dtype=np.float32), RATE_HZ)
    asr = TransformersCTC(str(checkpoints["parakeet"]), longest_seconds=2.0)
    heard: list[tuple[int, int]] = []
    kept: list[list[int]] = []

    def where(waves: list[np.ndarray]) -> list[list[int]]:
        spans = [(round(float(wave[0]) * n_samples), len(wave)) for wave in waves]
        heard.extend(spans)
        return [[begin + step // 2 + step * k for k in range(n // step)] for begin, n in spans]

    monkeypatch.setattr(asr, "_ids", where)
    monkeypatch.setattr(transformers_ctc, "CONTEXT_SECONDS", 0.5)
    monkeypatch.setattr(
        asr._tokenizer, "batch_decode", lambda ids, **_: kept.extend(ids) or [""] * len(ids), raising=False
    )
    asr.transcribe([place])
    assert len(heard) > 3
    assert max(n for _, n in heard) <= 3.0 * RATE_HZ  # two seconds, and half a one beyond each end
    assert sum(n for _, n in heard) > n_samples + RATE_HZ
    gaps = np.diff(kept[0])
    assert kept[0][0] < step
    assert kept[0][-1] > n_samples - 2 * step
    assert gaps.min() > 0
    assert gaps.max() < 2 * step


def test_cutting_costs_few_words() -> None:
    """The embedded recogniser on 17 s of speech, cut at its pauses, against all of it in one piece."""
    tts = Pyttsx3TTS()
    sentences = [
        "The capital of France is Paris.", "Which planet has rings?", "The sun gives us light.", "Iron is a metal.",
        "How many strings has a violin?", "Water is made of hydrogen and oxygen.", "The moon goes around the earth.",
        "Which gas do we breathe?", "Gold is a yellow metal.", "A comet has a long tail.",
    ]  # fmt: skip
    spoken = np.concatenate([tts.speak(sentence, "en-us").samples for sentence in sentences])
    whole, cut = (
        TransformersCTC("nano/asr", longest_seconds=longest).transcribe([Audio(spoken, RATE_HZ)])[0]
        for longest in (60, 6)
    )
    of_whole, of_cut = (count_errors(" ".join(sentences), heard) for heard in (whole, cut))
    assert len(spoken) > 16 * RATE_HZ
    assert of_whole.word_errors < 0.25 * of_whole.n_words
    assert of_cut.word_errors <= of_whole.word_errors + 0.12 * of_whole.n_words


# --- loading ---------------------------------------------------------------------------------------------------------


def test_it_is_a_registered_plug_in(checkpoints: dict[str, Path]) -> None:
    asr = plugins.create("salad.asr", "transformers-ctc", {"pretrained": str(checkpoints["parakeet"])})
    assert isinstance(asr, ASR)
    with pytest.raises(UserInputError, match="did you mean 'batch_seconds'"):
        plugins.create("salad.asr", "transformers-ctc", {"pretrained": "x", "batch_second": 3})


def test_the_fingerprint_is_that_of_weights_processor_and_precision(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("parakeet")
    original = TransformersCTC(str(folder)).fingerprint()
    assert TransformersCTC(str(folder)).fingerprint() == original
    assert TransformersCTC(str(folder), dtype="bfloat16").fingerprint() != original


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2-layer"])
def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(path: str) -> str:
        return TransformersCTC(path).fingerprint()

    unread = [
        file for file in ("generation_config.json",) if (checkpoints[name] / file).exists()
    ]  # nothing is generated
    assert unseen(checkpoints[name], tmp_path, fingerprint) == unread
    assert fingerprint(str(with_beside(checkpoints[name], tmp_path))) == fingerprint(str(checkpoints[name]))


def test_weights_that_only_training_reads_may_be_missing(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("wav2vec2-layer")
    expected = TransformersCTC(str(folder)).transcribe(sounds())
    weights = load_file(folder / "model.safetensors")
    del weights["wav2vec2.masked_spec_embed"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert TransformersCTC(str(folder)).transcribe(sounds()) == expected


def test_a_head_that_was_never_trained_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("wav2vec2-layer")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if not name.startswith("lm_head")},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"missing keys: lm_head\.bias, lm_head\.weight"):
        TransformersCTC(str(folder))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a LlamaForCausalLM, not a CTC speech recogniser"):
        TransformersCTC(str(tmp_path))


def test_an_encoder_without_its_ctc_head_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("wav2vec2-layer")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Wav2Vec2ForPreTraining"]}))
    with pytest.raises(ModelError, match="Wav2Vec2ForPreTraining, not a CTC speech recogniser"):
        TransformersCTC(str(folder))


PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2-layer"])
@pytest.mark.parametrize("missing", [PROCESSOR_FILES, TOKENIZER_FILES, (*PROCESSOR_FILES, *TOKENIZER_FILES)])
def test_a_checkpoint_without_its_processor_is_refused(
    name: str, missing: tuple[str, ...], copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of(name)
    for file in missing:
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"processor|tokenizer|feature extractor") as raised:
        TransformersCTC(str(folder))
    assert str(folder) in str(raised.value)


def test_a_tokenizer_of_another_model_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    save_parakeet(tmp_path, letters=ALPHABET + ALPHABET.upper())
    with pytest.raises(ModelError, match="55 tokens and the model 29 outputs"):
        TransformersCTC(str(tmp_path))


def test_a_folder_without_weights_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("parakeet")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        TransformersCTC(str(folder))


def test_pickle_weights_are_read_only_when_asked_for(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("parakeet")
    expected = TransformersCTC(str(folder)).transcribe(sounds())
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="weights=pickle"):
        TransformersCTC(str(folder))
    assert TransformersCTC(str(folder), weights="pickle").transcribe(sounds()) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_seconds": 0}, "batch_seconds is 0"),
        ({"longest_seconds": 0.5}, "longest_seconds is 0.5; expected a number of seconds from 1 up"),
        ({"longest_seconds": float("inf")}, "longest_seconds is inf"),
        ({"dtype": "float31"}, "did you mean 'float32'"),
        ({"device": "gpu9"}, "gpu9"),
    ],
)
def test_wrong_options_name_what_is_right(
    options: dict[str, object], message: str, checkpoints: dict[str, Path]
) -> None:
    with pytest.raises(UserInputError, match=message):
        TransformersCTC(str(checkpoints["parakeet"]), **options)  # type: ignore[arg-type]


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(UserInputError, match=r"no model folder at '\./nowhere'"):
        TransformersCTC("./nowhere")
