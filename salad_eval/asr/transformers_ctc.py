"""ASR plug-in ``transformers-ctc``: any CTC model of transformers (Parakeet, wav2vec 2.0, HuBERT, WavLM and others)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCTC, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

from salad_eval.audio import resample
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.resources import resolve_pretrained
from salad_eval.systems.loading import (
    Weights,
    check_complete,
    check_folder,
    explained,
    resolve_device,
    torch_dtype,
    weights_fingerprint,
)
from salad_eval.types import Audio

MIN_SECONDS = 0.05  # a shorter sound holds no word, and an encoder's first convolutions may not fit into it
_TRAINING_ONLY = ("masked_spec_embed",)  # wav2vec 2.0 weights that only training reads; many checkpoints lack them


class TransformersCTC:
    """Greedy CTC transcription, in batches whose results are those of each recording alone.

    ``pretrained`` is ``nano/asr``, a folder or a hub id. ``dtype``, ``device`` and ``weights`` are those of the text
    systems. ``batch_seconds`` bounds a batch, padding included, in seconds of sound, and with it memory.

    Raises ``ModelError``, naming what is missing, for a checkpoint that is no CTC model, lacks weights, its feature
    extractor or its tokenizer.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_seconds: float = 60.0,
        revision: str | None = None,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
    ) -> None:
        if not batch_seconds > 0:
            raise UserInputError(f"batch_seconds is {batch_seconds}; expected more than 0.")
        source = resolve_pretrained(pretrained)
        check_folder(source, weights=weights)
        hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        with explained(source, "configuration"):
            config = AutoConfig.from_pretrained(source, **hub)
        _check_ctc(source, config)
        self._extractor, self._tokenizer = _load_processor(source, hub)
        with explained(source, "model"):
            model, info = AutoModelForCTC.from_pretrained(
                source,
                config=config,
                dtype=torch_dtype(dtype),
                use_safetensors=weights == "safetensors",
                output_loading_info=True,
                **hub,
            )
        check_complete(
            source, {**info, "missing_keys": [k for k in info["missing_keys"] if not k.endswith(_TRAINING_ONLY)]}
        )
        if len(self._tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"{source}: the tokenizer has {len(self._tokenizer)} tokens and the model {model.config.vocab_size} outputs; "
                "they do not belong together."
            )
        self._model = model.to(resolve_device(device)).eval()
        self._output_lengths = _output_lengths(model)
        self.sample_rate_hz = int(self._extractor.sampling_rate)
        self.batch_seconds = batch_seconds
        self._fingerprint = (
            f"transformers-ctc({weights_fingerprint(pretrained, model)},dtype={dtype},"
            f"processor={_processor_digest(self._extractor, self._tokenizer)},transformers={transformers.__version__})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order. An empty string: sound in which nothing was recognised.

        Raises ``AudioError``, naming the recording by its place, for one that is empty, too short, or not finite.
        """
        waves = [self._waveform(place, audio) for place, audio in enumerate(audios)]
        texts = [""] * len(waves)
        for batch in self._batches([len(wave) for wave in waves]):
            for place, text in zip(batch, self._transcribe([waves[place] for place in batch]), strict=True):
                texts[place] = text
        return texts

    def _waveform(self, place: int, audio: Audio) -> np.ndarray:
        if audio.seconds < MIN_SECONDS:
            raise AudioError(
                f"recording {place} is {audio.seconds:.3f} s long; an ASR needs at least {MIN_SECONDS} s. Leave it out."
            )
        if not np.isfinite(audio.samples).all():
            raise AudioError(
                f"recording {place} holds samples that are not finite numbers. Leave it out or make it again."
            )
        return np.ascontiguousarray(resample(audio, self.sample_rate_hz).samples, np.float32)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of recordings of similar length; of equal length where the model does not mask what padding adds."""
        limit = int(self.batch_seconds * self.sample_rate_hz)
        batch: list[int] = []
        for place in sorted(range(len(lengths)), key=lengths.__getitem__):
            mixed = bool(batch) and self._output_lengths is None and lengths[batch[0]] != lengths[place]
            if batch and (mixed or lengths[place] * (len(batch) + 1) > limit):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def _logits(self, waves: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, frames, vocabulary), and the mask over the model's own input (n, samples or frames)."""
        name = self._model.main_input_name
        inputs = self._extractor(
            list(waves),
            sampling_rate=self.sample_rate_hz,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._model.device)
        mask = inputs.get("attention_mask")
        features = inputs[name].to(self._model.dtype)
        return self._model(**{name: features}, attention_mask=mask).logits, mask

    def _transcribe(self, waves: Sequence[np.ndarray]) -> list[str]:
        logits, mask = self._logits(waves)
        ids = logits.argmax(-1)
        if self._output_lengths is not None:
            ends = self._output_lengths(mask.sum(-1))
            beyond = torch.arange(ids.shape[1], device=ids.device) >= ends[:, None]
            ids = ids.masked_fill(beyond, self._tokenizer.pad_token_id)  # the blank
        texts: list[str] = self._tokenizer.batch_decode(ids.cpu(), skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


# --- loading ---------------------------------------------------------------------------------------------------------


def _check_ctc(source: str, config: Any) -> None:
    architectures = list(getattr(config, "architectures", None) or [])
    if type(config) in MODEL_FOR_CTC_MAPPING and (not architectures or any("CTC" in name for name in architectures)):
        return
    what = ", ".join(architectures) or type(config).__name__
    raise ModelError(
        f"{source} is a {what}, not a CTC speech recogniser. Give a model of an architecture …ForCTC to transformers-ctc."
    )


def _load_processor(source: str, hub: dict[str, Any]) -> tuple[Any, Any]:
    """Feature extractor and tokenizer of a CTC checkpoint."""
    with explained(source, "processor (feature extractor and tokenizer)"):
        processor = AutoProcessor.from_pretrained(source, **hub)
    extractor, tokenizer = getattr(processor, "feature_extractor", None), getattr(processor, "tokenizer", None)
    for part, what, file in (
        (extractor, "feature extractor", "processor_config.json or preprocessor_config.json"),
        (tokenizer, "tokenizer", "tokenizer.json or vocab.json with tokenizer_config.json"),
    ):
        if part is None:
            raise ModelError(f"{source} lacks its {what} ({file}). Copy what it was trained with into that folder.")
    return extractor, tokenizer


def _output_lengths(model: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """How many output frames a number of input frames or samples gives, or ``None`` where padding is not masked.

    wav2vec 2.0 models with group normalisation normalise over time, padding included; of other models it is not known.
    """
    if getattr(model.config, "feat_extract_norm", "layer") == "group":
        return None
    for name in ("_get_subsampling_output_length", "_get_feat_extract_output_lengths"):
        if (lengths := getattr(model, name, None)) is not None:
            return lengths
    return None


def _processor_digest(extractor: Any, tokenizer: Any) -> str:
    """A hash of what turns sound into features and ids into text."""
    settings = {"extractor": extractor.to_dict(), "vocabulary": tokenizer.get_vocab()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
