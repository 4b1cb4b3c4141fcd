"""The speech-adapted LLM: what an audio's embedding may depend on, what is refused, and that nothing is lost by
saving."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor

from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_train.model import SaladConfig, SaladForConditionalGeneration, SaladProcessor
from salad_train.model.audio_encoders import output_length, spec_of, stack
from tests.helpers import speech_llm_world as world

ALL_PAIRS = (*world.PAIRS, ("llama", "wav2vec2", 4), ("llama", "wav2vec2-group-norm", 2))


def recordings(processor: SaladProcessor, seconds: tuple[float, ...] = (1.03, 2.5, 0.4)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(int(s * processor.sampling_rate))).astype(np.float32) for s in seconds]


@pytest.fixture(scope="module", params=ALL_PAIRS, ids=lambda pair: "+".join(map(str, pair[:2])))
def pair(request: pytest.FixtureRequest) -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    return world.speech_llm(*request.param)


# --- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("parakeet", 100),  # 100 mel frames a second, factor 4: 25 Hz
        ("mimi", 50),  # 12.5 Hz
        ("whisper", 200),  # 50 Hz
        ("wav2vec2", 199),  # 320 samples a frame, without padding at the edges
    ],
)
def test_frames_in_four_seconds(kind: str, expected: int) -> None:
    model, extractor = world.encoder(kind)
    config = getattr(model.config, "encoder_config", None) if kind == "parakeet" else model.config
    spec = spec_of(config)
    n = 4 * extractor.sampling_rate if spec.reads_waveform else 400
    assert output_length(n, spec.geometry) == expected


def test_an_unknown_encoder_is_refused_unless_its_geometry_is_stated() -> None:
    config = AutoConfig.for_model("clap_audio_model")
    with pytest.raises(ModelError, match="length_geometry"):
        spec_of(config)
    assert spec_of(config, [[1, 2, 0]]).geometry == ((1, 2, 0),)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 40))
def test_stacking_keeps_every_frame_and_invents_none(length: int, n: int, longest: int) -> None:
    length = min(length, longest)
    frames = torch.zeros(1, longest, 3)
    frames[0, :length] = torch.arange(1, 3 * length + 1, dtype=torch.float32).reshape(length, 3)
    stacked, lengths = stack(frames, torch.tensor([length]), n)
    assert int(lengths[0]) == -(-length // n)
    flat = stacked[0, : int(lengths[0])].reshape(-1, 3)
    assert torch.equal(flat[:length], frames[0, :length])
    assert not flat[length:].any()


# --- independence ----------------------------------------------------------------------------------------------------


def test_an_embedding_does_not_depend_on_what_it_is_batched_with(
    pair: tuple[SaladForConditionalGeneration, SaladProcessor],
) -> None:
    model, processor = pair
    sounds = recordings(processor)
    together, lengths = model.get_audio_features(**processor.extract(sounds))
    for index, samples in enumerate(sounds):
        features = processor.extract([samples])
        alone, length = model.get_audio_features(**features)
        assert int(length[0]) == int(lengths[index])
        assert int(length[0]) == processor.n_positions(int(features["input_features_mask"].sum()))
        torch.testing.assert_close(together[index, : length[0]], alone[0], atol=1e-4, rtol=1e-4)


def test_the_adapter_is_causal(pair: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    model, processor = pair
    frames, lengths = model.encode_audio(**processor.extract(recordings(processor)[:1]))
    whole, _ = model.get_audio_features(encoder_hidden_states=frames, encoder_lengths=lengths)
    changed = frames.clone()
    half = frames.shape[1] // 2 // model.config.stack_frames
    changed[:, half * model.config.stack_frames :] += 1.0
    other, _ = model.get_audio_features(encoder_hidden_states=changed, encoder_lengths=lengths)
    torch.testing.assert_close(other[:, :half], whole[:, :half], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(other[:, half:], whole[:, half:], atol=1e-3)


def test_mimi_is_causal_from_sound_to_embedding() -> None:
    model, processor = world.speech_llm("qwen2", "mimi", 1)
    samples = recordings(processor, (2.0,))[0]
    other = samples.copy()
    other[24_000:] = 0.0
    whole, _ = model.get_audio_features(**processor.extract([samples]))
    cut, _ = model.get_audio_features(**processor.extract([other]))
    torch.testing.assert_close(cut[:, :12], whole[:, :12], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(cut[:, 13:], whole[:, 13:], atol=1e-4)


def test_quantised_and_continuous_latents_of_mimi_differ() -> None:
    inner, extractor = world.encoder("mimi")
    quantised = SaladForConditionalGeneration.from_parts(inner, world.language_model("qwen2"), world.adapter_config())
    processor = SaladProcessor.from_parts(extractor, world.tokenizer(), quantised.config)
    continuous = SaladForConditionalGeneration.from_parts(
        inner, world.language_model("qwen2"), world.adapter_config(), mimi_latents="continuous"
    )
    features = processor.extract(recordings(processor)[:1])
    assert not torch.allclose(quantised.encode_audio(**features)[0], continuous.encode_audio(**features)[0], atol=1e-3)


def test_stored_encoder_output_equals_features(pair: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    model, processor = pair
    batch = processor(text=["a <|audio|> is", "<|audio|> b <|audio|>"], audio=recordings(processor))
    direct = model(**batch).logits
    frames, lengths = model.encode_audio(batch["input_features"], batch["input_features_mask"])
    stored = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        encoder_hidden_states=frames,
        encoder_lengths=lengths,
    ).logits
    torch.testing.assert_close(direct, stored)


# --- text is untouched -----------------------------------------------------------------------------------------------


def test_text_alone_is_exactly_the_lm(pair: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    model, processor = pair
    batch = processor(text="The capital of France is")
    expected = model.language_model(**batch).logits
    assert torch.equal(model(**batch).logits, expected)
    assert batch["input_ids"].tolist() == [world.tokenizer()("The capital of France is")["input_ids"]]


def test_two_sounds_two_answers_one_sound_one_answer(
    pair: tuple[SaladForConditionalGeneration, SaladProcessor],
) -> None:
    model, processor = pair
    first, second, _ = (samples[: processor.sampling_rate // 3] for samples in recordings(processor, (1.0, 1.0, 1.0)))
    logits = [model(**processor(text="x <|audio|> is", audio=one)).logits[:, -1] for one in (first, second, first)]
    assert torch.equal(logits[0], logits[2])
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parakeet() -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    return world.speech_llm("llama", "parakeet", 2)


@pytest.mark.parametrize(
    ("text", "n_audio"),
    [("no placeholder", 1), ("<|audio|> one", 0), ("<|audio|> and <|audio|>", 1), (["<|audio|>", "two"], 2)],
)
def test_placeholders_and_recordings_must_match(
    parakeet: tuple[SaladForConditionalGeneration, SaladProcessor], text: str | list[str], n_audio: int
) -> None:
    _, processor = parakeet
    with pytest.raises(UserInputError, match="placeholders"):
        processor(text=text, audio=recordings(processor)[:n_audio])


def test_the_old_keyword_is_an_error_and_names_the_new_one(
    parakeet: tuple[SaladForConditionalGeneration, SaladProcessor],
) -> None:
    _, processor = parakeet
    with pytest.raises(UserInputError, match="'audio'"):
        processor(text="<|audio|>", audios=recordings(processor)[:1])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((2, 100), np.float32), "mono"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
    ],
)
def test_unusable_sound_is_refused(
    parakeet: tuple[SaladForConditionalGeneration, SaladProcessor], samples: np.ndarray, message: str
) -> None:
    _, processor = parakeet
    with pytest.raises(AudioError, match=message):
        processor.extract([samples])


def test_sound_too_short_for_a_frame_is_refused(parakeet: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    model, _ = parakeet
    with pytest.raises(AudioError, match="too short"):
        model.encode_audio(torch.zeros(1, 4, 80), torch.zeros(1, 4, dtype=torch.long))


def test_another_sampling_rate_is_refused(parakeet: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    _, processor = parakeet
    with pytest.raises(UserInputError, match="8000 Hz"):
        processor(text="<|audio|>", audio=recordings(processor)[:1], sampling_rate=8_000)


def test_whisper_refuses_more_than_its_window() -> None:
    _, processor = world.speech_llm("qwen2", "whisper", 4)
    with pytest.raises(AudioError, match="30"):
        processor.extract([np.zeros(16_000 * 31, np.float32)])


def test_audio_positions_without_audio_are_an_error(
    parakeet: tuple[SaladForConditionalGeneration, SaladProcessor],
) -> None:
    model, processor = parakeet
    batch = processor(text="<|audio|> is", audio=recordings(processor)[:1])
    with pytest.raises(ModelError, match="no audio"):
        model(input_ids=batch["input_ids"])
    with pytest.raises(ModelError, match="audio positions"):
        model(**{**batch, "input_ids": batch["input_ids"][:, 1:]})


def test_labels_at_audio_positions_are_ignored(parakeet: tuple[SaladForConditionalGeneration, SaladProcessor]) -> None:
    model, processor = parakeet
    batch = processor(text="gold <|audio|> is Au", audio=recordings(processor)[:1])
    is_audio = batch["input_ids"] == processor.audio_token_id
    masked = batch["input_ids"].masked_fill(is_audio, -100)
    loss = model(**batch, labels=batch["input_ids"]).loss
    assert loss.isfinite()
    torch.testing.assert_close(loss, model(**batch, labels=masked).loss)


# --- saving ----------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_through_the_auto_classes(
    pair: tuple[SaladForConditionalGeneration, SaladProcessor], tmp_path: Path
) -> None:
    model, processor = pair
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    processor_again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), SaladConfig)
    assert isinstance(again, SaladForConditionalGeneration)
    assert isinstance(processor_again, SaladProcessor)
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == (
        model.config.text_config.tie_word_embeddings
    )
    texts = ["Say <|audio|> again", "<|audio|> and <|audio|>."]
    inputs = [p(text=texts, audio=recordings(p), padding_side="left") for p in (processor, processor_again)]
    for name in inputs[0]:
        assert torch.equal(inputs[0][name], inputs[1][name])
    logits = [m(**batch).logits for m, batch in zip((model, again), inputs, strict=True)]
    assert torch.equal(*logits)
    for beams in (1, 3):
        generated = [
            m.generate(**batch, max_new_tokens=6, do_sample=False, num_beams=beams)
            for m, batch in zip((model, again), inputs, strict=True)
        ]
        assert torch.equal(*generated)


def test_generating_in_a_batch_equals_generating_alone(
    parakeet: tuple[SaladForConditionalGeneration, SaladProcessor],
) -> None:
    model, processor = parakeet
    sounds = recordings(processor)
    texts = ["Say <|audio|> again", "<|audio|> and <|audio|>."]
    batch = processor(text=texts, audio=sounds, padding_side="left")
    together = model.generate(**batch, max_new_tokens=6, do_sample=False)[:, batch["input_ids"].shape[1] :]
    for row, (text, audio) in enumerate(zip(texts, (sounds[:1], sounds[1:]), strict=True)):
        single = processor(text=text, audio=audio)
        alone = model.generate(**single, max_new_tokens=6, do_sample=False)[:, single["input_ids"].shape[1] :]
        assert together[row, : alone.shape[1]].tolist() == alone[0].tolist()


def test_the_encoder_stays_frozen_while_training() -> None:
    model, _ = world.speech_llm("llama", "parakeet", 2)
    model.train()
    assert not any(module.training for module in model.encoder.modules())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert model.adapter.training
    assert model.language_model.training


def test_the_papers_adapter_has_about_122m_parameters() -> None:
    """12 layers, width 960, MLP 2560, 15 heads, 5 key-value heads; 122M as reported, projections to a 7B LM (width
    3584) included."""
    from salad_train.model import SaladAdapterConfig
    from salad_train.model.modeling_salad import SaladAdapter

    with torch.device("meta"):
        adapter = SaladAdapter(SaladAdapterConfig(), frame_size=512, output_size=3584)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == pytest.approx(122e6, rel=0.01)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, salad_train, salad_train.model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
