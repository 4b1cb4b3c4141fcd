"""Tiny recognisers of the real classes with random weights, saved in the format of real ones, and sounds for them to hear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    HubertConfig,
    HubertForCTC,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    ParakeetTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from salad_eval.types import Audio

RATE_HZ = 16_000
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def talkative(model: Any, head: torch.nn.Module | None = None, seed: int = 5) -> None:
    """Random weights large enough that different sounds give different texts."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    if head is not None:
        torch.nn.init.normal_(head.weight, std=3.0)  # type: ignore[arg-type]


# --- CTC -------------------------------------------------------------------------------------------------------------


def _parakeet_encoder() -> ParakeetEncoderConfig:
    return ParakeetEncoderConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_mel_bins=32,
        subsampling_conv_channels=4,
        subsampling_factor=4,
    )


def _parakeet_tokenizer(tokens: list[str]) -> ParakeetTokenizer:
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return ParakeetTokenizer(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def save_parakeet(folder: Path, letters: str = ALPHABET) -> None:
    fast = _parakeet_tokenizer(["<pad>", "<unk>", "\u2581", *letters])
    config = ParakeetCTCConfig(vocab_size=len(ALPHABET) + 3, pad_token_id=0, encoder_config=_parakeet_encoder())
    model = ParakeetForCTC(config)
    talkative(model, model.ctc_head)
    model.save_pretrained(folder)
    ParakeetProcessor(ParakeetFeatureExtractor(feature_size=32), fast, decoder_type="ctc").save_pretrained(folder)


def _save_waveform_ctc(folder: Path, config_class: Any, model_class: Any, norm: str) -> None:
    folder.mkdir(parents=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *ALPHABET.upper()]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    config = config_class(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(40, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        pad_token_id=0,
    )
    model = model_class(config)
    talkative(model, model.lm_head)
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(vocabulary))).save_pretrained(folder)


def save_wav2vec2(folder: Path, norm: str = "layer") -> None:
    _save_waveform_ctc(folder, Wav2Vec2Config, Wav2Vec2ForCTC, norm)


def save_hubert(folder: Path, norm: str = "layer") -> None:
    _save_waveform_ctc(folder, HubertConfig, HubertForCTC, norm)


# --- transducers -----------------------------------------------------------------------------------------------------


def save_transducer(folder: Path, kind: str) -> None:
    """``kind``: ``rnnt`` or ``tdt``."""
    tokens = ["<pad>", "<unk>", "\u2581", *ALPHABET, "<blank>"]
    config_class, model_class = {
        "rnnt": (ParakeetRNNTConfig, ParakeetForRNNT),
        "tdt": (ParakeetTDTConfig, ParakeetForTDT),
    }[kind]
    config = config_class(
        vocab_size=len(tokens),
        decoder_hidden_size=16,
        num_decoder_layers=1,
        max_symbols_per_step=4,
        pad_token_id=0,
        blank_token_id=len(tokens) - 1,
        encoder_config=_parakeet_encoder(),
    )
    model = model_class(config)
    talkative(model, seed=6)
    model.save_pretrained(folder)
    extractor = ParakeetFeatureExtractor(feature_size=32)
    ParakeetProcessor(extractor, _parakeet_tokenizer(tokens), decoder_type=kind).save_pretrained(folder)


# --- Whisper ---------------------------------------------------------------------------------------------------------

WHISPER_SECONDS = 2  # the window of the tiny one; released ones hear 30 s
WHISPER_LANGUAGES = ("en", "de", "fr")


def save_whisper(
    folder: Path, *, multilingual: bool = True, seconds: int = WHISPER_SECONDS, n_mels: int = 16, n_positions: int = 40
) -> None:
    """A Whisper whose tokenizer spells in bytes; the special tokens stand in the order of the released ones.

    As in those, a multilingual one has an empty token; it is what CTranslate2 tells it by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *([""] if multilingual else []), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    specials = [
        "<|startoftranscript|>", *(f"<|{code}|>" for code in WHISPER_LANGUAGES), "<|translate|>", "<|transcribe|>",
        "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
    ]  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    times = [f"<|{0.02 * step:.2f}|>" for step in range(seconds * 50 + 1)]
    tokenizer.add_tokens(times)
    ids = tokenizer.get_vocab()
    end = ids["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=n_mels,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=seconds * 50,
        max_target_positions=n_positions,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    talkative(model)
    silent = [ids[token] for token in letters if token not in (*ALPHABET, "\u0120")]
    with torch.no_grad():  # bytes that are no letters would mostly spell nothing that can be shown
        model.model.decoder.embed_tokens.weight[silent] = 0.0
        model.model.decoder.embed_tokens.weight[ids["<|startoftranscript|>"] :] *= 0.3
    settings: dict[str, Any] = {
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": end,
        "pad_token_id": end,
        "bos_token_id": end,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "is_multilingual": multilingual,
        "suppress_tokens": [ids[token] for token in specials],
        "begin_suppress_tokens": [end],
        "return_timestamps": False,
        "max_length": n_positions,
    }
    if multilingual:
        settings["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in WHISPER_LANGUAGES}
        settings["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.generation_config = GenerationConfig(**settings)
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=n_mels, chunk_length=seconds)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)


# --- sounds ----------------------------------------------------------------------------------------------------------


def sounds(seconds: tuple[float, ...] = (0.9, 0.3, 1.7, 0.3, 0.61, 1.2)) -> list[Audio]:
    """Sweeps in noise, all different."""
    rng = np.random.default_rng(0)
    found = []
    for duration in seconds:
        time = np.arange(int(duration * RATE_HZ)) / RATE_HZ
        sweep = np.sin(2 * np.pi * rng.uniform(200, 3000) * time * (1 + rng.uniform(0, 2) * time))
        noise = rng.normal(0, 0.1, len(time))
        found.append(Audio((0.3 * sweep * np.sin(9 * time) + noise).clip(-1, 1).astype(np.float32), RATE_HZ))
    return found
