"""Tiny text-to-speech models of the real classes with random weights, saved in the format of real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import (
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
)

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def save_vits(folder: Path, *, n_speakers: int = 1, deterministic_durations: bool = False) -> None:
    """A VITS whose letters sound, each in its way, and (with ``deterministic_durations``) whose blanks and ends are silent.

    The layers of its text encoder that mix letters are switched off, so that a blank stays a blank: zero in, zero out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(["k", *ALPHABET.replace("k", ""), " ", "'", "<unk>"])}
    vocabulary = {"\u2003": 0, **{token: i + 1 for token, i in vocabulary.items()}}  # 0 is the blank
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = VitsTokenizer(
        str(folder / "vocab.json"), pad_token="\u2003", language="eng", phonemize=False, is_uroman=False
    )
    config = VitsConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[8, 8, 4],
        upsample_kernel_sizes=[16, 16, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        depth_separable_num_layers=1,
        duration_predictor_flow_bins=4,
        duration_predictor_num_flows=1,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        wavenet_kernel_size=3,
        num_speakers=n_speakers,
        speaker_embedding_size=8 if n_speakers > 1 else 0,
        sampling_rate=16_000,
        use_stochastic_duration_prediction=not deterministic_durations,
    )
    torch.manual_seed(3)
    model = VitsModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "norm" not in name and "weight" not in name:
                parameter.zero_()
        encoder = model.text_encoder
        torch.nn.init.normal_(encoder.embed_tokens.weight)
        encoder.embed_tokens.weight[0] = 0.0
        for layer in encoder.encoder.layers:
            torch.nn.init.zeros_(layer.attention.out_proj.weight)
            torch.nn.init.zeros_(layer.feed_forward.conv_2.weight)
        torch.nn.init.normal_(encoder.project.weight, std=0.3)
        encoder.project.bias[config.flow_size :] = -12.0  # little noise on what is said
        if deterministic_durations:  # 5 frames of 16 ms for each letter and each blank, so that it ends in silence
            model.duration_predictor.proj.weight.zero_()
            model.duration_predictor.proj.bias.fill_(1.4)
        for parameter in model.decoder.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_speecht5(folder: Path, *, n_mels: int = 8) -> None:
    """A SpeechT5 with a tokenizer of letters. Needs the package sentencepiece."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(" ".join(ALPHABET[i:] + ALPHABET[:i]) + "'" for i in range(26)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm_char"), model_type="char", vocab_size=40, hard_vocab_limit=False,
        bos_id=0, pad_id=1, eos_id=2, unk_id=3, bos_piece="<s>", pad_piece="<pad>", eos_piece="</s>", minloglevel=2,
    )  # fmt: skip
    tokenizer = SpeechT5Tokenizer(str(folder / "spm_char.model"))
    config = SpeechT5Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_mel_bins=n_mels,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speech_decoder_postnet_layers=2,
        speaker_embedding_dim=12,
        max_text_positions=60,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    torch.manual_seed(3)
    model = SpeechT5ForTextToSpeech(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
        model.speech_decoder_postnet.prob_out.bias.fill_(-2.0)  # it does not stop at once
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_hifigan(folder: Path, *, n_mels: int = 8) -> None:
    config = SpeechT5HifiGanConfig(
        model_in_dim=n_mels,
        upsample_initial_channel=16,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        sampling_rate=16_000,
    )
    torch.manual_seed(4)
    model = SpeechT5HifiGan(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1 / parameter[0].numel() ** 0.5)
    model.save_pretrained(folder)


def save_speakers(folder: Path, n_dimensions: int = 12) -> None:
    """Two embeddings, one a format."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    np.save(folder / "anna.npy", rng.normal(size=n_dimensions).astype(np.float32))
    save_file({"xvector": rng.normal(size=(1, n_dimensions)).astype(np.float32)}, folder / "boris.safetensors")
