"""ASR plug-in ``transformers-ctc``: any CTC model of transformers (Parakeet, wav2vec 2.0, HuBERT, WavLM and others)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoModelForCTC
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

from salad_eval.asr import pieces as sound
from salad_eval.asr.checkpoint import open_checkpoint, processor_digest
from salad_eval.asr.pieces import MIN_SECONDS as MIN_SECONDS
from salad_eval.audio.features import quick
from salad_eval.batches import in_batches
from salad_eval.checkpoints import LIBRARIES, Part, Weights, library_versions, model_identity, resolve_device
from salad_eval.errors import UserInputError
from salad_eval.types import Audio

T = TypeVar("T")
LONGEST_SECONDS = 30.0
CONTEXT_SECONDS = 3.0  # what a piece of long sound hears beyond each of its ends; what is said there is its neighbour's
_PARTS: tuple[Part, ...] = ("weights", "tokenizer", "processor")  # nothing is generated
_TRAINING_ONLY = ("masked_spec_embed",)  # wav2vec 2.0 weights that only training reads; many checkpoints lack them


class TransformersCTC:
    """Greedy CTC transcription, in batches whose results are those of each recording alone.

    ``pretrained`` is ``nano/asr``, a folder or a hub id. ``dtype``, ``device`` and ``weights`` are those of the text
    systems. ``batch_seconds`` bounds a batch, padding included, in seconds of sound, and with it memory. Longer sound than
    ``longest_seconds`` is cut at pauses (``sound.pieces``); each piece is heard with ``CONTEXT_SECONDS`` of its neighbours, and
    of what it hears only its own frames count.

    Raises ``ModelError``, naming what is missing, for a checkpoint that is no CTC model, lacks weights, its feature
    extractor or its tokenizer.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_seconds: float = 60.0,
        longest_seconds: float = LONGEST_SECONDS,
        revision: str | None = None,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
    ) -> None:
        if not batch_seconds > 0:
            raise UserInputError(f"batch_seconds is {batch_seconds}; expected more than 0.")
        sound.check_longest(longest_seconds)
        opened = open_checkpoint(
            pretrained, lambda config: AutoModelForCTC, kinds=MODEL_FOR_CTC_MAPPING, names=("CTC",), role="a CTC speech recogniser",
            dtype=dtype, weights=weights, revision=revision, trust_remote_code=trust_remote_code, optional=_TRAINING_ONLY,
        )  # fmt: skip
        model, self._extractor, self._tokenizer = opened.model, opened.extractor, opened.tokenizer
        self._model = model.to(resolve_device(device)).eval()
        self._output_lengths = _output_lengths(model)
        self.sample_rate_hz = int(self._extractor.sampling_rate)
        self.batch_seconds, self.longest_seconds = batch_seconds, longest_seconds
        self._fingerprint = (
            f"transformers-ctc({model_identity(pretrained, model, parts=_PARTS, weights=weights)},dtype={dtype},"
            f"processor={processor_digest(self._extractor, self._tokenizer)},longest={longest_seconds:g}s,"
            f"{library_versions(*LIBRARIES)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order. An empty string: sound in which nothing was recognised.

        Raises ``AudioError``, naming the recording by its place, for one that is empty, too short, or not finite.
        """
        if not audios:
            return []
        waves = [self._waveform(place, audio) for place, audio in enumerate(audios)]
        windows = [window for place, wave in enumerate(waves) for window in self._heard_in(place, wave)]

        def heard(batch: list[int]) -> list[list[int]]:
            parts = [waves[windows[k].place][windows[k].begin : windows[k].end] for k in batch]
            return [windows[k].own(row) for k, row in zip(batch, self._ids(parts), strict=True)]

        ids = self._in_batches([window.end - window.begin for window in windows], heard)
        whole: list[list[int]] = [[] for _ in waves]
        for window, own in zip(windows, ids, strict=True):
            whole[window.place] += own
        texts = self._tokenizer.batch_decode(whole, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _waveform(self, place: int, audio: Audio) -> np.ndarray:
        return sound.waveform(place, audio, self.sample_rate_hz)

    def _heard_in(self, place: int, wave: np.ndarray) -> Iterator[_Window]:
        context = int(CONTEXT_SECONDS * self.sample_rate_hz)
        for first, last in sound.pieces(wave, self.sample_rate_hz, self.longest_seconds):
            yield _Window(place, first, last, max(0, first - context), min(len(wave), last + context))

    def _in_batches(self, n_samples: Sequence[int], heard: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """What ``heard`` makes of recordings of these lengths, those of similar length together; of equal length alone where the model
        does not mask what padding adds.
        """
        seconds = [n / self.sample_rate_hz for n in n_samples]
        equal = self._output_lengths is None
        found, self.batch_seconds = in_batches(seconds, self.batch_seconds, heard, equal=equal)
        return found

    @torch.inference_mode()
    def _logits(self, waves: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, frames, vocabulary), and the mask over the model's own input (n, samples or frames)."""
        name = self._model.main_input_name
        inputs = quick(self._extractor)(
            list(waves),
            sampling_rate=self.sample_rate_hz,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._model.device)
        mask = inputs.get("attention_mask")
        features = inputs[name].to(self._model.dtype)
        return self._model(**{name: features}, attention_mask=mask).logits, mask

    def _ids(self, waves: Sequence[np.ndarray]) -> list[list[int]]:
        """The likeliest token of each frame, one list a wave; frames that are padding left out."""
        logits, mask = self._logits(waves)
        rows: list[list[int]] = logits.argmax(-1).tolist()
        if self._output_lengths is None:
            return rows
        ends = self._output_lengths(mask.sum(-1)).tolist()
        return [row[:end] for row, end in zip(rows, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class _Window:
    """A piece of a recording in samples: it speaks for ``first`` to ``last`` and hears ``begin`` to ``end``."""

    place: int
    first: int
    last: int
    begin: int
    end: int

    def own(self, frames: list[int]) -> list[int]:
        """Of the frames heard, evenly spaced, those whose middle lies in what the window speaks for."""
        step = (self.end - self.begin) / max(1, len(frames))
        middles = (self.begin + (k + 0.5) * step for k in range(len(frames)))
        return [one for one, middle in zip(frames, middles, strict=True) if self.first <= middle < self.last]


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
