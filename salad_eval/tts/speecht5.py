"""TTS plug-in ``speecht5``: SpeechT5 of transformers with a HiFi-GAN vocoder, in the voices of speaker embeddings (x-vectors)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.checkpoints import LIBRARIES, Weights, explained, library_versions, resolve_device
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError, UserInputError
from salad_eval.resources import resolve_path, resolve_pretrained
from salad_eval.tts.checkpoint import config_of, identity, load_model, own_noise, refuse_unspoken, to_audio
from salad_eval.tts.voice import check_text, parse_settings
from salad_eval.types import Audio

VOCODER = "microsoft/speecht5_hifigan"
ENDINGS = (".npy", ".safetensors")
MAX_FRAMES_PER_TOKEN = 20.0  # a model that does not find its end is stopped; transformers' own default


class SpeechT5TTS:
    """Speech by a SpeechT5 model (architecture ``SpeechT5ForTextToSpeech``), the same for the same text, voice and ``seed``.

    ``pretrained`` and ``vocoder`` are folders or hub ids; ``dtype``, ``device`` and ``weights`` are those of the text systems.
    ``speakers`` is a folder of speaker embeddings, one a file, or a mapping of names to such files: ``NAME.npy`` or
    ``NAME.safetensors`` (one tensor), as many numbers as the model has speaker dimensions (512). Voices are their names.

    Raises ``ModelError``, naming what is missing, for a checkpoint of another class, without its tokenizer, or a vocoder for other
    spectrograms; for incomplete weights when it first speaks. ``UserInputError`` for embeddings that cannot be read.
    """

    def __init__(
        self,
        pretrained: str,
        speakers: str | Mapping[str, str],
        vocoder: str = VOCODER,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "auto",
        revision: str | None = None,
        weights: Weights = "safetensors",
    ) -> None:
        from transformers import SpeechT5Config, SpeechT5HifiGanConfig

        self._pretrained, self._vocoder_name, self._seed = pretrained, vocoder, seed
        self._source = resolve_pretrained(pretrained)
        self._config = config_of(
            pretrained, SpeechT5Config, "a SpeechT5 text-to-speech model", weights=weights, revision=revision
        )
        architectures = list(self._config.architectures or [])
        if architectures and "SpeechT5ForTextToSpeech" not in architectures:
            raise ModelError(f"{self._source} is a {', '.join(architectures)}, not a SpeechT5 text-to-speech model.")
        self._vocoder_config = config_of(
            vocoder, SpeechT5HifiGanConfig, "a SpeechT5 vocoder (HiFi-GAN)", weights=weights, revision=None
        )
        if self._vocoder_config.model_in_dim != self._config.num_mel_bins:
            raise ModelError(
                f"{vocoder} turns {self._vocoder_config.model_in_dim} mel bands into sound and {self._source} makes "
                f"{self._config.num_mel_bins}: not a pair."
            )
        self._tokenizer = _tokenizer(self._source, revision, self._config.vocab_size)
        self._speakers = {
            name: _embedding(name, path, self._config.speaker_embedding_dim)
            for name, path in _speaker_files(speakers).items()
        }
        self._loading: dict[str, Any] = {"dtype": dtype, "device": resolve_device(device), "weights": weights}
        self._revision = revision
        self.sample_rate_hz = int(self._vocoder_config.sampling_rate)
        self._fingerprint = (
            f"speecht5({identity(pretrained, self._config)},vocoder={identity(vocoder, self._vocoder_config)},dtype={dtype},"
            f"tokenizer={_digest(self._tokenizer)},speakers={_digest_of_speakers(self._speakers)},seed={seed},"
            f"{library_versions(*LIBRARIES)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def voices(self) -> list[str]:
        return sorted(self._speakers)

    @cached_property
    def _models(self) -> tuple[Any, Any]:
        """The model and its vocoder."""
        from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan

        model = load_model(
            self._pretrained, SpeechT5ForTextToSpeech, self._config, revision=self._revision, **self._loading
        )
        vocoder = load_model(self._vocoder_name, SpeechT5HifiGan, self._vocoder_config, revision=None, **self._loading)
        return model, vocoder

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, at the vocoder's sample rate.

        Raises ``UnknownNameError`` for a speaker that was not given and ``AudioError`` where there is nothing to say, a letter the model
        has no sound for, or more text than it can take.
        """
        import torch

        check_text(text)
        name, _ = parse_settings(voice, {}, self.voices()[0])
        if name not in self._speakers:
            raise UnknownNameError("SpeechT5 speaker", name, self._speakers)
        ids = self._ids(text)
        model, vocoder = self._models
        embedding = torch.from_numpy(self._speakers[name]).to(model.device, model.dtype)[None]
        # Its decoder drops half of what it reads at random, when speaking as in training.
        with torch.inference_mode(), own_noise(self._loading["device"], self._seed, voice, text):
            waveform = model.generate_speech(
                ids.to(model.device), embedding, vocoder=vocoder, maxlenratio=MAX_FRAMES_PER_TOKEN
            )
        return to_audio(waveform, self.sample_rate_hz, text)

    def _ids(self, text: str) -> Any:
        """Token ids, shape (1, n). What would become the unknown token is refused where it would be heard."""
        tokenizer = self._tokenizer
        pieces = tokenizer.tokenize(text)
        unknown = [one for one in pieces if tokenizer.convert_tokens_to_ids(one) == tokenizer.unk_token_id]
        refuse_unspoken(text, "".join(unknown), self._source)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        most = int(self._config.max_text_positions)
        if ids.shape[-1] > most:
            raise AudioError(f"{self._source} takes {most} tokens and {text!r:.80} has {ids.shape[-1]}")
        return ids


# --- speakers --------------------------------------------------------------------------------------------------------


def _speaker_files(speakers: str | Mapping[str, str]) -> dict[str, Path]:
    if isinstance(speakers, Mapping):
        files = {str(name): resolve_path(str(path)) for name, path in speakers.items()}
    else:
        folder = resolve_path(speakers)
        if not folder.is_dir():
            raise UserInputError(
                f"tts 'speecht5': speakers is {speakers!r}; expected a folder of embeddings (NAME.npy or NAME.safetensors), or a "
                "mapping of names to such files."
            )
        files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in ENDINGS}
    if not files:
        raise UserInputError(
            f"tts 'speecht5': there are no embeddings (NAME.npy or NAME.safetensors) in speakers {speakers!r}."
        )
    return files


def _embedding(name: str, path: Path, n_dimensions: int) -> np.ndarray:
    """The embedding in a file, float32, shape (n_dimensions,). Pickled arrays are refused."""
    readers = {".npy": _read_npy, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise UserInputError(f"speaker {name!r}: {path} is no {' or '.join(ENDINGS)} file.")
    try:
        found = readers[path.suffix](path)
    except FileNotFoundError:
        raise UserInputError(f"speaker {name!r}: there is no file {path}.") from None
    except Exception as cause:  # numpy and safetensors have no error in common for a file that is not one of theirs
        raise UserInputError(f"speaker {name!r}: cannot read {path}: {cause}.") from None
    embedding = np.asarray(found, np.float32).reshape(-1)
    if len(embedding) != n_dimensions or not np.isfinite(embedding).all():
        raise UserInputError(
            f"speaker {name!r}: {path} holds {len(embedding)} numbers; expected {n_dimensions} finite ones."
        )
    return embedding


def _read_npy(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path, allow_pickle=False)
    return found


def _read_safetensors(path: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    tensors = load_file(path)
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, expected one")
    found: np.ndarray = next(iter(tensors.values()))
    return found


def _digest_of_speakers(speakers: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(speakers):
        digest.update(name.encode() + b"\0" + speakers[name].tobytes())
    return digest.hexdigest()[:12]


# --- the tokenizer ---------------------------------------------------------------------------------------------------


def _tokenizer(source: str, revision: str | None, n_embeddings: int) -> Any:
    import importlib.util

    from transformers import SpeechT5Tokenizer

    if importlib.util.find_spec("sentencepiece") is None:
        raise MissingExtraError("tts 'speecht5'", "sentencepiece", "pip install 'salad-gap[speecht5]'")
    with explained(source, "tokenizer"):
        tokenizer = SpeechT5Tokenizer.from_pretrained(source, revision=revision or "main")
    if len(tokenizer) > n_embeddings:
        raise ModelError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens and the model {n_embeddings}: not a pair."
        )
    return tokenizer


def _digest(tokenizer: Any) -> str:
    vocabulary = json.dumps([tokenizer.get_vocab(), bool(tokenizer.normalize)], sort_keys=True)
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:12]
