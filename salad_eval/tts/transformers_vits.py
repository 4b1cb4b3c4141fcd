"""TTS plug-in ``transformers-vits``: VITS models of transformers, such as those of MMS-TTS (one a language) and VCTK (109 speakers)."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from salad_eval.checkpoints import LIBRARIES, Weights, explained, library_versions, resolve_device
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError
from salad_eval.resources import resolve_pretrained
from salad_eval.tts.checkpoint import config_of, identity, load_model, own_noise, refuse_unspoken, to_audio
from salad_eval.tts.voice import Setting, check_text, parse_settings
from salad_eval.types import Audio

SETTINGS = {"rate": Setting(0.25, 4.0), "noise": Setting(0.0, 2.0), "duration_noise": Setting(0.0, 2.0)}
ONLY_VOICE = "default"  # of a model with one speaker


class TransformersVits:
    """Speech by a VITS model (architecture ``VitsModel``), the same for the same text, voice and ``seed``.

    ``pretrained`` is a folder or a hub id; ``dtype``, ``device`` and ``weights`` are those of the text systems. Voices are the numbers of
    the model's speakers, ``0`` to n-1, or ``default`` where it has one; with settings: ``7,rate=1.2,noise=0.5,duration_noise=0.6``
    (speaking rate, and how much the sound and the rhythm vary; the model's own where not given).

    Raises ``ModelError``, naming what is missing, for a checkpoint of another class, or without its tokenizer; for incomplete weights
    when it first speaks.
    """

    def __init__(
        self,
        pretrained: str,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "auto",
        revision: str | None = None,
        weights: Weights = "safetensors",
    ) -> None:
        from transformers import VitsConfig

        self._source, self._pretrained, self._seed = resolve_pretrained(pretrained), pretrained, seed
        self._config = config_of(
            pretrained, VitsConfig, "a VITS text-to-speech model", weights=weights, revision=revision
        )
        self._tokenizer = _tokenizer(self._source, revision, self._config.vocab_size)
        self._loading: dict[str, Any] = {
            "dtype": dtype,
            "device": resolve_device(device),
            "weights": weights,
            "revision": revision,
        }
        self.sample_rate_hz = int(self._config.sampling_rate)
        self._fingerprint = (
            f"transformers-vits({identity(pretrained, self._config)},dtype={dtype},tokenizer={_digest(self._tokenizer)},"
            f"seed={seed},{library_versions(*LIBRARIES)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def voices(self) -> list[str]:
        n = int(self._config.num_speakers)
        return [str(speaker) for speaker in range(n)] if n > 1 else [ONLY_VOICE]

    @cached_property
    def _model(self) -> Any:
        from transformers import VitsModel

        return load_model(self._pretrained, VitsModel, self._config, **self._loading)

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, at the model's sample rate.

        Raises ``UnknownNameError`` for a speaker the model does not have and ``AudioError`` where there is nothing to say or a letter the
        model has no sound for.
        """
        import torch

        check_text(text)
        name, values = parse_settings(voice, SETTINGS, self.voices()[0])
        if name not in self.voices():
            raise UnknownNameError("VITS speaker", name, self.voices())
        ids = self._ids(text)
        model = self._model
        # These are read from the model at each call; it has no arguments for two of them.
        model.speaking_rate = values.get("rate", self._config.speaking_rate)
        model.noise_scale = values.get("noise", self._config.noise_scale)
        model.noise_scale_duration = values.get("duration_noise", self._config.noise_scale_duration)
        speaker = None if name == ONLY_VOICE else int(name)
        with torch.inference_mode(), own_noise(self._loading["device"], self._seed, voice, text):
            out = model(input_ids=ids.to(model.device), speaker_id=speaker)
        return to_audio(out.waveform[0], self.sample_rate_hz, text)

    def _ids(self, text: str) -> Any:
        """Token ids, shape (1, n). What the tokenizer would drop without a word is refused where it would be heard."""
        tokenizer = self._tokenizer
        if not tokenizer.phonemize:
            known = tokenizer.get_vocab()
            written = tokenizer.normalize_text(text) if tokenizer.normalize else text
            refuse_unspoken(text, "".join(one for one in written if one not in known), self._source)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if ids.shape[-1] <= 1:  # one blank
            raise AudioError(f"{self._source} has nothing to say for {text!r:.80}")
        return ids


def _tokenizer(source: str, revision: str | None, n_embeddings: int) -> Any:
    import importlib.util

    from transformers import VitsTokenizer

    with explained(source, "tokenizer"):
        tokenizer = VitsTokenizer.from_pretrained(source, revision=revision or "main")
    if tokenizer.phonemize and importlib.util.find_spec("phonemizer") is None:
        raise MissingExtraError(
            f"the VITS model {source}, which reads phonemes,", "phonemizer", "pip install phonemizer"
        )
    if tokenizer.vocab_size > n_embeddings:
        raise ModelError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens and the model {n_embeddings} embeddings: not a pair."
        )
    return tokenizer


def _digest(tokenizer: Any) -> str:
    """A hash of what turns text into ids."""
    settings = [
        tokenizer.get_vocab(),
        tokenizer.add_blank,
        tokenizer.normalize,
        tokenizer.phonemize,
        tokenizer.language,
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
