"""The Whisper plug-in on tiny random models, saved and loaded in the format of real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperModel, WhisperProcessor

from salad_eval.asr import pieces as sound
from salad_eval.asr.transformers_ctc import TransformersCTC
from salad_eval.asr.whisper import Whisper
from salad_eval.audio.sound import resample
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import ASR, Audio
from tests.helpers.tiny_recognisers import RATE_HZ, WHISPER_SECONDS, save_parakeet, save_whisper, sounds

KINDS = ("multilingual", "english")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("whisper")
    for kind in KINDS:
        save_whisper(root / kind, multilingual=kind == "multilingual")
    return {kind: root / kind for kind in KINDS}


@pytest.fixture(scope="module")
def multilingual(checkpoints: dict[str, Path]) -> Whisper:
    return Whisper(str(checkpoints["multilingual"]), language="de")


@pytest.fixture
def copy_of(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoints[name], tmp_path / name))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def greedy(processor: Any, model: Any, audio: Audio, prompt: list[str], n_tokens: int) -> str:
    """A transcript by the forward pass alone: the likeliest allowed token, again and again."""
    features = processor(audio=audio.samples, sampling_rate=RATE_HZ, return_tensors="pt").input_features
    ids = processor.tokenizer.convert_tokens_to_ids(prompt)
    settings = model.generation_config
    for step in range(n_tokens):
        with torch.no_grad():
            logits = model(input_features=features, decoder_input_ids=torch.tensor([ids])).logits[0, -1].clone()
        logits[settings.suppress_tokens] = -torch.inf
        if step == 0:
            logits[settings.begin_suppress_tokens] = -torch.inf
        ids = [*ids, int(logits.argmax())]
        if ids[-1] == settings.eos_token_id:
            break
    return " ".join(processor.tokenizer.decode(ids, skip_special_tokens=True).split())


# --- what it hears ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "prompt"),
    [
        ("multilingual", {}, ["<|en|>", "<|transcribe|>", "<|notimestamps|>"]),
        ("multilingual", {"language": "German"}, ["<|de|>", "<|transcribe|>", "<|notimestamps|>"]),
        ("multilingual", {"language": "<|fr|>", "task": "translate"}, ["<|fr|>", "<|translate|>", "<|notimestamps|>"]),
        ("english", {}, ["<|notimestamps|>"]),
        ("english", {"language": "auto"}, ["<|notimestamps|>"]),
    ],
)
def test_it_hears_what_the_model_says(
    kind: str, options: dict[str, Any], prompt: list[str], checkpoints: dict[str, Path]
) -> None:
    asr = Whisper(str(checkpoints[kind]), max_new_tokens=12, temperatures=0, **options)
    prompt = ["<|startoftranscript|>", *prompt]
    processor = WhisperProcessor.from_pretrained(checkpoints[kind])
    model = WhisperForConditionalGeneration.from_pretrained(checkpoints[kind]).eval()
    expected = [greedy(processor, model, audio, prompt, 12) for audio in sounds()]
    assert asr.transcribe(sounds()) == expected
    assert len(set(expected)) > 2, "the random model must tell sounds apart for this test to mean something"


@pytest.mark.parametrize("options", [{}, {"language": "auto"}, {"language": "de", "timestamps": True}])
def test_a_batch_equals_its_members_alone_whatever_its_order(
    options: dict[str, Any], checkpoints: dict[str, Path]
) -> None:
    options = {**options, "max_new_tokens": 10}
    asr = Whisper(str(checkpoints["multilingual"]), batch_size=4, **options)
    audios = sounds()
    alone = [asr.transcribe([audio])[0] for audio in audios]
    assert asr.transcribe(audios) == alone
    assert asr.transcribe(audios[::-1]) == alone[::-1]
    assert asr.transcribe(audios) == alone, "the same again"
    small = Whisper(str(checkpoints["multilingual"]), batch_size=1, **options)
    assert small.transcribe(audios) == alone


def test_times_are_no_words(checkpoints: dict[str, Path]) -> None:
    asr = Whisper(str(checkpoints["multilingual"]), timestamps=True)
    heard = asr.transcribe(sounds())
    assert any(heard)
    assert not any(character in text for text in heard for character in "<|>.0123456789")
    assert heard != Whisper(str(checkpoints["multilingual"])).transcribe(sounds())


def test_language_task_and_times_are_asked_of_the_model(checkpoints: dict[str, Path]) -> None:
    folder = str(checkpoints["multilingual"])
    asked = [{}, {"language": "de"}, {"task": "translate"}, {"timestamps": True}]
    heard = [tuple(Whisper(folder, **one).transcribe(sounds())) for one in asked]  # type: ignore[arg-type]
    assert len(set(heard)) >= 3


def test_a_transcript_ends_after_so_many_tokens(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("multilingual")
    edit(folder / "generation_config.json", lambda t: t["suppress_tokens"].append(t["eos_token_id"]))  # it never ends
    for timestamps in (False, True):
        for n_tokens in (1, 7, 36):
            asr = Whisper(str(folder), max_new_tokens=n_tokens, timestamps=timestamps, temperatures=0)
            sizes: list[int] = []
            decode = asr._tokenizer.batch_decode
            prompt = 3 if timestamps else 4
            asr._tokenizer.batch_decode = lambda ids, decode=decode, sizes=sizes, **more: (
                sizes.extend(len(row) for row in ids) or decode(ids, **more)
            )
            asr.transcribe(sounds((0.5, 1.0)))
            assert sizes == [prompt + n_tokens] * 2
    assert Whisper(str(folder)).max_new_tokens == 20  # half of the decoder's 40 positions


def test_what_a_checkpoint_says_of_sampling_does_not_count(
    checkpoints: dict[str, Path], copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("multilingual")
    others = {
        "do_sample": True, "temperature": 3.0, "num_beams": 3, "no_speech_threshold": 0.0, "logprob_threshold": 10.0,
        "language": "<|fr|>", "task": "translate", "return_timestamps": True,
    }  # fmt: skip
    edit(folder / "generation_config.json", lambda table: table.update(others))
    expected = Whisper(str(checkpoints["multilingual"])).transcribe(sounds())
    assert Whisper(str(folder)).transcribe(sounds()) == expected


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_other_rates_are_resampled(rate_hz: int, multilingual: Whisper) -> None:
    other = [resample(audio, rate_hz) for audio in sounds()]
    assert multilingual.transcribe(other) == multilingual.transcribe([resample(audio, RATE_HZ) for audio in other])


# --- long sound ------------------------------------------------------------------------------------------------------


def test_long_sound_is_heard_piece_by_piece(multilingual: Whisper) -> None:
    (long,) = sounds((7.0,))
    cuts = sound.pieces(long.samples, RATE_HZ, WHISPER_SECONDS)
    assert len(cuts) > 3
    alone = [multilingual.transcribe([Audio(long.samples[first:last], RATE_HZ)])[0] for first, last in cuts]
    short = sounds((0.5,))[0]
    expected = " ".join(" ".join(alone).split())
    assert multilingual.transcribe([short, long])[1] == expected
    assert multilingual.transcribe([long, short])[0] == expected


def test_pieces_may_be_shorter_than_the_window(checkpoints: dict[str, Path]) -> None:
    folder = str(checkpoints["multilingual"])
    assert Whisper(folder).longest_seconds == WHISPER_SECONDS
    (audio,) = sounds((1.8,))
    assert Whisper(folder, longest_seconds=1.0).transcribe([audio]) != Whisper(folder).transcribe([audio])
    with pytest.raises(UserInputError, match=r"longest_seconds is 3; .* hears 2 s at most"):
        Whisper(folder, longest_seconds=3)


# --- sound that is hard to hear --------------------------------------------------------------------------------------


def test_nothing_to_hear(multilingual: Whisper) -> None:
    assert multilingual.transcribe([]) == []


def test_silence_has_no_words_and_the_shortest_sound_is_heard_without_failing(multilingual: Whisper) -> None:
    silence = Audio(np.zeros(RATE_HZ, np.float32), RATE_HZ)
    shortest = Audio(np.full(800, 0.1, np.float32), RATE_HZ)
    assert multilingual.transcribe([silence, shortest]) == ["", *multilingual.transcribe([shortest])]


def test_a_doubtful_transcript_is_made_again_by_the_seed(checkpoints: dict[str, Path]) -> None:
    folder = str(checkpoints["multilingual"])

    def heard(**options: Any) -> list[str]:
        return Whisper(folder, **options).transcribe(sounds())

    greedy_texts = heard(temperatures=0)
    assert heard(logprob_threshold=-1e9, compression_ratio_threshold=None) == greedy_texts, "all are believed"
    unlikely = {"logprob_threshold": 0.0, "temperatures": [0, 1.5], "no_speech_threshold": None}
    tried = [heard(**unlikely, seed=seed) for seed in (0, 0, 1)]
    assert tried[0] == tried[1]
    sampled = [heard(temperatures=1.5, no_speech_threshold=None, seed=seed) for seed in (0, 1)]
    assert sampled[0] != sampled[1]
    for texts, drawn in zip(tried[1:], sampled, strict=True):
        assert all(text in (first, second) for text, first, second in zip(texts, greedy_texts, drawn, strict=True))
    assert heard(logprob_threshold=0.0, no_speech_threshold=-1.0) == [""] * len(sounds()), "no speech expected anywhere"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (np.zeros(0, np.float32), "recording 1 is 0.000 s long"),
        (np.zeros(400, np.float32), "recording 1 is 0.025 s long"),
        (np.full(RATE_HZ, np.nan, np.float32), "recording 1 holds samples that are not finite"),
    ],
)
def test_unusable_sound_is_an_error_that_names_it(samples: np.ndarray, told: str, multilingual: Whisper) -> None:
    with pytest.raises(AudioError, match=told):
        multilingual.transcribe([sounds()[0], Audio(samples, RATE_HZ)])


# --- loading ---------------------------------------------------------------------------------------------------------


def test_a_batch_that_memory_does_not_hold_is_halved(
    checkpoints: dict[str, Path], multilingual: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    asr = Whisper(str(checkpoints["multilingual"]), language="de", batch_size=4)
    texts, asked = asr._texts, []

    def limited(waves: list[np.ndarray]) -> list[str]:
        asked.append(len(waves))
        if len(waves) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return texts(waves)

    monkeypatch.setattr(asr, "_texts", limited)
    assert asr.transcribe(sounds()) == multilingual.transcribe(sounds())
    assert asked[:3] == [4, 2, 1]


def test_it_is_an_asr_plug_in(multilingual: Whisper) -> None:
    assert isinstance(multilingual, ASR)


def test_the_fingerprint_is_that_of_weights_processor_and_settings(
    checkpoints: dict[str, Path], copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("multilingual")
    base = Whisper(str(folder)).fingerprint()
    assert Whisper(str(checkpoints["multilingual"])).fingerprint() == base
    assert Whisper(str(folder), batch_size=1).fingerprint() == base  # changes no transcript
    options: list[dict[str, Any]] = [
        {"language": "de"}, {"language": "auto"}, {"task": "translate"}, {"timestamps": True}, {"max_new_tokens": 5},
        {"longest_seconds": 1.5}, {"dtype": "bfloat16"}, {"temperatures": 0}, {"seed": 1}, {"compression_ratio_threshold": None},
        {"logprob_threshold": -2}, {"no_speech_threshold": 0.5},
    ]  # fmt: skip
    found = {base, *(Whisper(str(folder), **one).fingerprint() for one in options)}
    assert len(found) == len(options) + 1


def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(path: str) -> str:
        return Whisper(path).fingerprint()

    assert unseen(checkpoints["multilingual"], tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(checkpoints["multilingual"], tmp_path))) == fingerprint(
        str(checkpoints["multilingual"])
    )


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("multilingual", {"language": "klingon"}, r"language 'klingon' is not one of .*Known: de, en, fr, auto"),
        ("multilingual", {"language": "es"}, "language 'es' is not one of"),
        ("multilingual", {"task": "transcript"}, "task is 'transcript'; did you mean 'transcribe'"),
        ("english", {"language": "de"}, "knows English alone; language is 'de'"),
        ("english", {"task": "translate"}, "knows English alone"),
        ("multilingual", {"max_new_tokens": 0}, "max_new_tokens is 0; expected a whole number from 1 to 36"),
        ("multilingual", {"max_new_tokens": 37}, "max_new_tokens is 37; expected a whole number from 1 to 36"),
        ("multilingual", {"batch_size": 0}, "batch_size is 0"),
        ("multilingual", {"batch_size": 1.5}, "batch_size is 1.5"),
        ("multilingual", {"longest_seconds": 0.1}, "longest_seconds is 0.1"),
        ("multilingual", {"dtype": "float31"}, "did you mean 'float32'"),
        ("multilingual", {"device": "gpu9"}, "gpu9"),
    ],
)
def test_wrong_options_name_what_is_right(
    kind: str, options: dict[str, Any], told: str, checkpoints: dict[str, Path]
) -> None:
    with pytest.raises(UserInputError, match=told):
        Whisper(str(checkpoints[kind]), **options)


def test_another_kind_of_recogniser_is_sent_to_its_plug_in(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    save_parakeet(tmp_path)
    with pytest.raises(ModelError, match=r"is a ParakeetForCTC, not a Whisper .*ASR plug-in 'transformers-ctc'"):
        Whisper(str(tmp_path))
    with pytest.raises(ModelError, match=r"is a WhisperForConditionalGeneration, not a CTC .*ASR plug-in 'whisper'"):
        TransformersCTC(str(checkpoints["english"]))


def test_a_whisper_that_writes_no_text_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("english")
    WhisperModel.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ModelError, match="is a WhisperModel, not a Whisper speech recogniser"):
        Whisper(str(folder))


PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")


@pytest.mark.parametrize("missing", [PROCESSOR_FILES, TOKENIZER_FILES, (*PROCESSOR_FILES, *TOKENIZER_FILES)])
def test_a_checkpoint_without_its_processor_is_refused(
    missing: tuple[str, ...], copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("multilingual")
    for file in missing:
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"processor|tokenizer|feature extractor") as raised:
        Whisper(str(folder))
    assert str(folder) in str(raised.value)


def test_generation_settings_that_are_not_whispers_are_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("multilingual")
    settings = folder / "generation_config.json"
    edit(settings, lambda table: table.pop("lang_to_id"))
    with pytest.raises(ModelError, match=r"generation_config.json lacks lang_to_id or task_to_id\. Copy that file"):
        Whisper(str(folder))
    settings.unlink()
    with pytest.raises(ModelError, match="lacks Whisper's generation settings"):
        Whisper(str(folder))


def test_a_feature_extractor_of_another_whisper_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("multilingual")
    (path,) = [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]
    edit(path, lambda table: table["feature_extractor"].update(chunk_length=30, nb_max_frames=3000, n_samples=480_000))
    with pytest.raises(ModelError, match="16 x 3000 features and the model takes 16 x 200"):
        Whisper(str(folder))


def test_weights_that_are_missing_or_cut_short_are_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("english")
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.embed_positions.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing keys: model\.decoder\.embed_positions\.weight"):
        Whisper(str(folder))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelError, match="corrupt or cut short"):
        Whisper(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        Whisper(str(folder))
