"""ASR plug-in ``transformers-transducer``: transducers of transformers (Parakeet RNN-T and Parakeet TDT), decoded greedily.

A transducer emits several tokens a frame, or none, and stops when its sound is used up; it has no length of its own to cut
transcripts at. A model that never moves on is stopped at its own ``max_symbols_per_step`` tokens a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForRNNT, AutoModelForTDT
from transformers.models.auto.modeling_auto import MODEL_FOR_RNNT_MAPPING, MODEL_FOR_TDT_MAPPING

from salad_eval.asr import pieces as sound
from salad_eval.asr.checkpoint import open_checkpoint, processor_digest
from salad_eval.audio.features import quick
from salad_eval.batches import in_batches
from salad_eval.checkpoints import LIBRARIES, Weights, library_versions, model_identity, resolve_device
from salad_eval.errors import UserInputError
from salad_eval.types import Audio

LONGEST_SECONDS = 60.0


class TransformersTransducer:
    """Greedy transducer transcription, in batches whose results are those of each recording alone.

    ``pretrained`` is a folder or a hub id. ``dtype``, ``device`` and ``weights`` are those of the text systems.
    ``batch_seconds`` bounds a batch, padding included, in seconds of sound, and with it memory. Longer sound than
    ``longest_seconds`` is cut at pauses (``sound.pieces``) into pieces that are heard one by one.

    Raises ``ModelError``, naming what is missing, for a checkpoint that is no transducer, lacks weights, its feature extractor or
    its tokenizer.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_seconds: float = 120.0,
        longest_seconds: float = LONGEST_SECONDS,
        revision: str | None = None,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
    ) -> None:
        if not batch_seconds > 0:
            raise UserInputError(f"batch_seconds is {batch_seconds}; expected more than 0.")
        sound.check_longest(longest_seconds)
        opened = open_checkpoint(
            pretrained,
            lambda config: AutoModelForTDT if type(config) in MODEL_FOR_TDT_MAPPING else AutoModelForRNNT,
            kinds=(*MODEL_FOR_RNNT_MAPPING, *MODEL_FOR_TDT_MAPPING), names=("RNNT", "TDT"), role="a transducer",
            dtype=dtype, weights=weights, revision=revision, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        model, self._extractor, self._tokenizer = opened.model, opened.extractor, opened.tokenizer
        # A TDT model's last outputs are durations. generate looks for the likeliest token among all outputs, and takes a sure
        # duration for a token; some checkpoints say in their generation settings that it must not, and some do not.
        durations = getattr(model.config, "durations", ())
        self._durations = [model.config.vocab_size + k for k in range(len(durations))] or None
        self._model = model.to(resolve_device(device)).eval()
        self.sample_rate_hz = int(self._extractor.sampling_rate)
        self.batch_seconds, self.longest_seconds = batch_seconds, longest_seconds
        self._fingerprint = (
            f"transformers-transducer({model_identity(pretrained, model, weights=weights)},dtype={dtype},"
            f"processor={processor_digest(self._extractor, self._tokenizer)},longest={longest_seconds:g}s,"
            f"{library_versions(*LIBRARIES)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order; the pieces of a long one joined by spaces.

        Raises ``AudioError``, naming the recording by its place, for one that is empty, too short, or not finite.
        """
        return sound.heard_in_pieces(audios, self.sample_rate_hz, self.longest_seconds, self._heard)

    def _heard(self, waves: Sequence[np.ndarray]) -> list[str]:
        seconds = [len(wave) / self.sample_rate_hz for wave in waves]
        texts, self.batch_seconds = in_batches(
            seconds, self.batch_seconds, lambda batch: self._texts([waves[k] for k in batch])
        )
        return texts

    @torch.inference_mode()
    def _texts(self, waves: Sequence[np.ndarray]) -> list[str]:
        inputs = quick(self._extractor)(
            list(waves),
            sampling_rate=self.sample_rate_hz,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._model.device)
        mask = inputs["attention_mask"]
        n_frames = self._model.encoder._get_subsampling_output_length(mask.sum(-1))
        most = n_frames * self._model.config.max_symbols_per_step
        out = self._model.generate(
            input_features=inputs["input_features"].to(self._model.dtype),
            attention_mask=mask,
            decoder_start_token_id=self._model.config.blank_token_id,
            suppress_tokens=self._durations,
            max_new_tokens=int(most.max()),
            do_sample=False,
            num_beams=1,
        )
        rows = self._own_tokens(out.sequences, out.durations, n_frames, most.tolist())
        texts: list[str] = self._tokenizer.batch_decode(rows, skip_special_tokens=True, group_tokens=False)
        return texts

    def _own_tokens(
        self, sequences: torch.Tensor, durations: torch.Tensor, n_frames: torch.Tensor, most: list[int]
    ) -> list[list[int]]:
        """Each sound's own tokens: without the start, without blanks, without what came after its last frame.

        The others of its batch go on, and a padded batch has room for more tokens than a short sound has by itself (``most``).
        """
        at_frame = durations.cumsum(-1) - durations  # where the model stood when it emitted the token
        real = (at_frame < n_frames[:, None]) & (sequences != self._model.config.blank_token_id)
        return [
            [token for token, keep in zip(row[1 : 1 + end], own[1 : 1 + end], strict=True) if keep]
            for row, own, end in zip(sequences.tolist(), real.tolist(), most, strict=True)
        ]
