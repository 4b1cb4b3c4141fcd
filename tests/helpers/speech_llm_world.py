"""Tiny random encoders, LMs and tokenizers of real classes, and a voice whose sound is a function of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    EncodecFeatureExtractor,
    LlamaConfig,
    LlamaForCausalLM,
    MimiConfig,
    MimiModel,
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from salad_eval.testing.speech_checks import sound
from salad_eval.types import Audio
from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration, SaladProcessor
from salad_train.speech.utterances import Utterance, span_key

EOS, PAD = "<|endoftext|>", "<|pad|>"
SENTENCES = (
    "The symbol for hydrogen is H.",
    "Gold is written as Au by chemists.",
    "The capital of France is Paris, a city on a river.",
    "A dog barked at the old man, and he laughed.",
    "She walked home in the rain without a coat.",
    "Seven plus four makes eleven.",
)


@dataclass(frozen=True)
class Doc:
    id: str
    domain: str
    text: str


def documents(n: int = 24) -> list[Doc]:
    rng = np.random.default_rng(5)
    docs = []
    for k in range(n):
        picks = rng.choice(len(SENTENCES), size=3, replace=False)
        docs.append(Doc(f"doc-{k}", "any", " ".join(SENTENCES[i] for i in picks)))
    return docs


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, pre-tokenised as Qwen2's, which is what transformers makes of any tokenizer beside a Qwen2 LM;
    no BOS."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=PAD, model_max_length=512)


def language_model(kind: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config_class, model_class = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[
        kind
    ]
    config = config_class(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=kind == "qwen2",
        bos_token_id=None,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
        initializer_range=0.2,
    )
    return model_class(config).eval()


def encoder(kind: str, seed: int = 0) -> tuple[Any, Any]:
    """An encoder (inside its usual model, where there is one) and its feature extractor."""
    torch.manual_seed(seed)
    if kind == "parakeet":
        inner = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "subsampling_factor": 4,
            "subsampling_conv_channels": 8,
            "num_mel_bins": 80,
        }
        model: Any = ParakeetForCTC(ParakeetCTCConfig(vocab_size=10, pad_token_id=9, encoder_config=inner))
        extractor: Any = ParakeetFeatureExtractor()
    elif kind == "mimi":
        model = MimiModel(
            MimiConfig(
                hidden_size=32, num_filters=4, codebook_size=16, codebook_dim=8, num_quantizers=4, num_hidden_layers=2,
                vector_quantization_hidden_dimension=8, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4,
                upsample_groups=32,
            )
        )  # fmt: skip
        with torch.no_grad():  # a random codebook: an untrained one is all zeros
            for module in model.quantizer.modules():
                if hasattr(module, "embed_sum"):
                    module.embed_sum.normal_()
        extractor = EncodecFeatureExtractor(sampling_rate=24_000)
    elif kind == "whisper":
        model = WhisperModel(
            WhisperConfig(
                d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
                decoder_ffn_dim=64, vocab_size=20, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
            )
        )  # fmt: skip
        extractor = WhisperFeatureExtractor()
    elif kind in ("wav2vec2", "wav2vec2-group-norm"):
        model = Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=[8] * 7,
                num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
                feat_extract_norm="group" if kind.endswith("group-norm") else "layer",
            )
        )  # fmt: skip
        extractor = Wav2Vec2FeatureExtractor()
    else:
        raise ValueError(kind)
    return model.eval(), extractor


def adapter_config(**changes: int) -> SaladAdapterConfig:
    sizes = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
    }
    return SaladAdapterConfig(**{**sizes, **changes})


PAIRS = (("qwen2", "mimi", 1), ("llama", "parakeet", 2), ("qwen2", "whisper", 4))  # LM, encoder, frames stacked


def speech_llm(lm: str, audio: str, stack: int, seed: int = 0) -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    inner, extractor = encoder(audio, seed)
    model = SaladForConditionalGeneration.from_parts(
        inner, language_model(lm, seed), adapter_config(), stack_frames=stack, seed=seed
    )
    return model, SaladProcessor.from_parts(extractor, tokenizer(), model.config)


def save_parts(folder: Path, lm: str, audio: str) -> tuple[Path, Path]:
    """Base LM with its tokenizer and audio encoder with its extractor, each in its own folder."""
    language_model(lm).save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    model, extractor = encoder(audio)
    model.save_pretrained(folder / "encoder")
    extractor.save_pretrained(folder / "encoder")
    return folder / "base", folder / "encoder"


class Voice:
    """Says everything but spans that hold ``mute_on``."""

    def __init__(self, mute_on: str | None = None) -> None:
        self.mute_on = mute_on
        self.said: list[Utterance] = []

    def fingerprint(self) -> str:
        return f"tones, mute on {self.mute_on}"

    def key(self, utterance: Utterance) -> str:
        return span_key(utterance.text, utterance.voice)

    def speak(self, utterances: Sequence[Utterance]) -> Iterator[Audio | None]:
        for utterance in utterances:
            self.said.append(utterance)
            mute = self.mute_on is not None and self.mute_on in utterance.text
            yield None if mute else sound(utterance.text, utterance.voice)
