"""The speech-adapted LLM as a system: text as its own LM answers it, speech only where it was heard."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from salad_eval import plugins
from salad_eval.audio.sound import sha256_of
from salad_eval.checkpoints import load_tokenizer
from salad_eval.errors import AudioError, ModelError, RoomError
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import Audio, AudioSegment, Distributional, Request, System, TextSegment
from salad_train.model.system import SaladSystem
from salad_train.training import hearing
from tests.helpers import speech_llm_world as world

OPTIONS = (" H", " Au by chemists", " Paris")


def heard(text: str, voice: str = "a", rate: int = 16_000) -> AudioSegment:
    audio = world.sound(text, voice, rate)
    return AudioSegment(audio, sha256_of(audio))


def spoken(item: str, *prompt: str | AudioSegment, options: tuple[str, ...] = OPTIONS) -> Request:
    segments = tuple(TextSegment(part) if isinstance(part, str) else part for part in prompt)
    return Request(item, segments, options)


@pytest.fixture(scope="module", params=world.PAIRS, ids=lambda pair: "+".join(map(str, pair[:2])))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, processor = world.speech_llm(*request.param)
    path = tmp_path_factory.mktemp("speech")
    model.language_model.save_pretrained(path / "own-lm")
    world.tokenizer().save_pretrained(path / "own-lm")
    processor.tokenizer = load_tokenizer(str(path / "own-lm"))  # beside a Qwen2 LM it becomes a Qwen2Tokenizer
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def system(folder: Path) -> SaladSystem:
    return SaladSystem(str(folder), device="cpu", batch_seconds=60)  # two of Whisper's windows


def test_it_comes_through_the_registry(folder: Path) -> None:
    made = plugins.create("salad.systems", "salad", {"pretrained": str(folder), "device": "cpu"})
    assert isinstance(made, SaladSystem)
    assert isinstance(made, System)
    assert isinstance(made, Distributional)


def test_text_is_answered_as_by_its_own_lm(folder: Path, system: SaladSystem) -> None:
    own = HFTextSystem(str(folder / "own-lm"), device="cpu")
    requests = [
        spoken("a", "The capital of France is"),
        spoken("b", "Question: What is the symbol for gold? <|audio|>\nAnswer:"),
        spoken("c", ""),
    ]
    np.testing.assert_allclose(system.loglikelihoods(requests), own.loglikelihoods(requests), atol=1e-5)
    assert system.tokenizer_fingerprint() == own.tokenizer_fingerprint()
    options = {"max_new_tokens": 5, "stop": ("\n",)}
    assert system.generate(requests[:2], **options) == own.generate(requests[:2], **options)
    for ours, theirs in zip(system.distributions(requests), own.distributions(requests), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_speech_is_scored_as_the_model_scores_it(system: SaladSystem) -> None:
    """Against one plain forward pass a continuation, inputs built by the processor."""
    request = spoken("a", "Question: ", heard("What is the symbol for gold?"), "\nAnswer:")
    found = system.loglikelihoods([request])[0]
    model, processor = system.model, system.llm.processor
    samples = hearing.resample(world.sound("What is the symbol for gold?"), processor.sampling_rate).samples
    for option, value in zip(OPTIONS, found, strict=True):
        batch = processor(text="Question: <|audio|>\nAnswer:" + option, audio=samples)
        n = len(processor.tokenizer(option)["input_ids"])
        with torch.no_grad():
            logprobs = model(**batch).logits[0, -n - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(-1, batch["input_ids"][0, -n:, None]).sum()
        assert value == pytest.approx(float(expected), abs=1e-3)


def test_the_distributions_hold_the_log_probabilities(system: SaladSystem) -> None:
    request = spoken("a", heard("gold"), " is")
    values = system.loglikelihoods([request])[0]
    for option, value, rows in zip(OPTIONS, values, system.distributions([request])[0], strict=True):
        ids = system.tokenizer(option)["input_ids"]
        assert rows.dtype == np.float32
        assert rows.shape == (len(ids), system.model.config.text_config.vocab_size)
        assert float(rows[np.arange(len(ids)), ids].sum()) == pytest.approx(value, abs=1e-3)
        np.testing.assert_allclose(np.exp(rows).sum(-1), 1.0, atol=1e-3)


def test_another_waveform_another_answer_the_same_one_the_same(system: SaladSystem) -> None:
    prompts = [("Q:", heard("gold", voice), "A:") for voice in ("a", "b", "a")]
    one, two, three = system.loglikelihoods([spoken(str(i), *p) for i, p in enumerate(prompts)])
    assert one == three
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 1e-4


def test_a_batch_is_its_members_alone_and_order_does_not_matter(system: SaladSystem) -> None:
    requests = [
        spoken("a", "Q: ", heard("What is the symbol for gold?"), "\nA:"),
        spoken("b", "The capital of France is"),
        spoken("c", heard("a"), " and ", heard("a river in the rain"), "."),
        spoken("d", heard("gold", "b"), options=(" H",)),
    ]
    together = system.loglikelihoods(requests)
    system._heard.clear()
    backwards = system.loglikelihoods(requests[::-1])[::-1]
    for request, row, other in zip(requests, together, backwards, strict=True):
        system._heard.clear()
        np.testing.assert_allclose(system.loglikelihoods([request])[0], row, atol=1e-4)
        np.testing.assert_allclose(other, row, atol=1e-4)


def test_sound_of_another_rate_is_resampled(folder: Path) -> None:
    system = SaladSystem(str(folder), device="cpu")
    at_rate = system.loglikelihoods([spoken("a", heard("gold", rate=system.llm.processor.sampling_rate), " is")])[0]
    higher = system.loglikelihoods([spoken("a", heard("gold", rate=48_000), " is")])[0]
    assert np.isfinite(higher).all()
    assert max(abs(a - b) for a, b in zip(at_rate, higher, strict=True)) < 1.0


def test_equal_sound_is_encoded_once(system: SaladSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    original = system.llm.hear

    def counted(recordings: list[AudioSegment]) -> list[torch.Tensor]:
        encoded.append(len(recordings))
        return original(recordings)

    monkeypatch.setattr(system.llm, "hear", counted)
    system._heard.clear()
    requests = [spoken(str(i), heard("gold"), f" is {i}") for i in range(4)] + [spoken("x", heard("rain"), " is")]
    system.loglikelihoods(requests)
    assert encoded == [2]
    system.distributions(requests)
    assert encoded == [2]


def test_recordings_that_memory_does_not_hold_together_are_encoded_apart(
    folder: Path, system: SaladSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SaladSystem(str(folder), device="cpu", batch_seconds=60)
    hear, asked = small.llm.hear, []

    def limited(recordings: list[AudioSegment]) -> list[torch.Tensor]:
        asked.append(len(recordings))
        if len(recordings) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hear(recordings)

    monkeypatch.setattr(small.llm, "hear", limited)
    requests = [spoken(str(n), heard(text), " is") for n, text in enumerate(("gold", "goat"))]
    np.testing.assert_allclose(small.loglikelihoods(requests), system.loglikelihoods(requests), atol=1e-4)
    assert asked[0] == 2
    assert asked[-2:] == [1, 1]


def test_kept_frames_answer_alike_and_are_encoded_once_for_all_checkpoints(
    folder: Path, system: SaladSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [spoken("1", "Say ", heard("gold"), " is"), spoken("2", heard("a long river", "b"), " is")]
    plain = system.loglikelihoods(requests)
    kept = SaladSystem(str(folder), frames=str(tmp_path / "frames")).loglikelihoods(requests)
    assert np.allclose(kept, plain, atol=2e-2)  # float16
    assert kept != plain
    monkeypatch.setattr(type(system.model), "encode_audio", None)  # nothing is encoded any more
    live = SaladSystem.live(system.model, system.llm.processor, frames=str(tmp_path / "frames"))
    assert live.loglikelihoods(requests) == kept


def test_the_memory_for_sounds_is_bounded(folder: Path) -> None:
    system = SaladSystem(str(folder), device="cpu", cache_mb=0)
    assert np.isfinite(system.loglikelihoods([spoken("a", heard("gold"), " is")])[0]).all()
    assert not system._heard


def test_what_was_heard_first_is_kept_for_the_next_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SaladSystem(str(folder), device="cpu")
    requests = [spoken(text, heard(text), " is") for text in ("gold", "goat", "a long river")]
    first = system.llm.hear([heard("gold")])[0]
    system._cache_left = first.numel() * first.element_size()
    once = system.loglikelihoods(requests)
    hear, encoded = system.llm.hear, []
    monkeypatch.setattr(system.llm, "hear", lambda recordings: encoded.append(len(recordings)) or hear(recordings))
    np.testing.assert_allclose(system.loglikelihoods(requests), once, atol=1e-4)
    assert sum(encoded) == 2


def test_generation_from_speech_is_the_models_own(system: SaladSystem) -> None:
    request = spoken("a", "Say ", heard("gold"), " again:", options=())
    samples = hearing.resample(world.sound("gold"), system.llm.processor.sampling_rate).samples
    batch = system.llm.processor(text="Say <|audio|> again:", audio=samples)
    ids = system.model.generate(**batch, max_new_tokens=6, do_sample=False)[0, batch["input_ids"].shape[1] :].tolist()
    eos = system.tokenizer.eos_token_id
    expected = ids[: ids.index(eos)] if eos in ids else ids
    assert system.generate([request], max_new_tokens=6, stop=()) == [
        system.tokenizer.decode(expected, skip_special_tokens=True)
    ]


def test_empty_sound_is_refused(system: SaladSystem) -> None:
    silence = AudioSegment(Audio(np.zeros(0, np.float32), 16_000), "0" * 64)
    with pytest.raises(AudioError, match="'a'"):
        system.loglikelihoods([spoken("a", "Q: ", silence, "A:")])


def test_a_prompt_that_does_not_fit_is_refused(folder: Path) -> None:
    system = SaladSystem(str(folder), device="cpu", max_length=8)
    with pytest.raises(RoomError, match="room for"):
        system.loglikelihoods([spoken("a", "Q: ", heard("What is the symbol for gold?"), "A:")])
    assert len(system.loglikelihoods([spoken("b", "a long text " * 20)])[0]) == len(OPTIONS)


def test_the_fingerprint_tells_checkpoints_and_settings_apart(folder: Path, tmp_path: Path) -> None:
    model, processor = world.speech_llm("llama", "parakeet", 2, seed=9)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    prints = {
        SaladSystem(str(folder), device="cpu").fingerprint(),
        SaladSystem(str(folder), device="cpu", dtype="bfloat16").fingerprint(),
        SaladSystem(str(tmp_path), device="cpu").fingerprint(),
    }
    assert len(prints) == 3
    assert SaladSystem(str(folder), device="cpu").fingerprint() in prints


def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
    folder: Path, system: SaladSystem, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(folder, tmp_path / "whole", ignore=shutil.ignore_patterns("own-lm")))

    def fingerprint(path: str) -> str:
        return SaladSystem(path, device="cpu").fingerprint()

    assert unseen(whole, tmp_path, fingerprint) == []
    assert fingerprint(str(with_beside(whole, tmp_path))) == system.fingerprint()


def test_a_text_ends_where_its_own_lm_would_end_it(folder: Path, tmp_path: Path) -> None:
    """The LM's generation settings are the whole model's."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [3, 5]}))
    system = SaladSystem(str(copy), device="cpu")
    assert system.llm.ends == {3, 5, system.tokenizer.eos_token_id}


def test_a_text_lm_is_no_speech_system(folder: Path) -> None:
    with pytest.raises(ModelError, match="SaladFamily reads salad"):
        SaladSystem(str(folder / "own-lm"), device="cpu")


def test_a_checkpoint_without_its_processor_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match="processor"):
        SaladSystem(str(tmp_path), device="cpu")


def test_a_checkpoint_with_weights_missing_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, processor = world.speech_llm("llama", "parakeet", 2)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["adapter.output_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="output_projection"):
        SaladSystem(str(tmp_path), device="cpu")


def test_a_processor_of_another_model_is_refused(tmp_path: Path) -> None:
    model, processor = world.speech_llm("llama", "parakeet", 2)
    model.save_pretrained(tmp_path)
    processor.audio_token_id += 1
    processor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not a pair"):
        SaladSystem(str(tmp_path), device="cpu")


def test_requests_are_left_as_they_were(system: SaladSystem) -> None:
    request = spoken("a", "Q: ", heard("gold"), "A:")
    copy = dataclasses.replace(request)
    samples = request.prompt[1].audio.samples.copy()  # type: ignore[union-attr]
    system.loglikelihoods([request])
    assert request == copy
    assert np.array_equal(request.prompt[1].audio.samples, samples)  # type: ignore[union-attr]
