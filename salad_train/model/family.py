"""The speech-adapted LLM as a family like any other (see ``salad_eval.systems.speech.family``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from salad_eval.checkpoints import explained
from salad_eval.systems.speech.family import SpeechFamily
from salad_eval.types import AudioSegment
from salad_train.model.modeling_salad import SaladForConditionalGeneration
from salad_train.model.processing_salad import SaladProcessor
from salad_train.training.frames import FrameStore


class SaladFamily(SpeechFamily):
    """``SaladForConditionalGeneration``. Its tokenizer is the text LLM's own and knows no placeholder, so that texts around a
    recording are tokenised piece by piece.

    With ``frames`` (see ``keep_frames``) the frozen encoder's output is kept on disk.
    """

    model_types = ("salad",)
    architecture = "SaladForConditionalGeneration"
    plain_turns = True
    placeholder_is_token: ClassVar[bool] = False

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model, processor)
        self._frames: FrameStore | None = None

    def keep_frames(self, folder: str | None) -> None:
        """Keep the encoder's output (as float16) in ``folder``, and read from there what another checkpoint with the same encoder kept."""
        from salad_train.training.stages import open_store

        self._frames = None if folder is None else open_store(Path(folder), self.model)

    # --- 1: loading --------------------------------------------------------------------------------------------------

    @classmethod
    def load_processor(cls, source: str, **kwargs: Any) -> Any:
        with explained(source, "processor"):
            return SaladProcessor.from_pretrained(source, revision=kwargs.get("revision") or "main")

    @classmethod
    def load_model(cls, source: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        named = {**kwargs, "revision": kwargs.get("revision") or "main"}
        with explained(source, "model"):
            loaded: Any = SaladForConditionalGeneration.from_pretrained(source, output_loading_info=True, **named)
        model, info = loaded
        model.freeze_encoder()
        return model, info

    # --- what the model is -------------------------------------------------------------------------------------------

    @property
    def sampling_rate_hz(self) -> int:
        return int(self.processor.sampling_rate)

    @property
    def max_audio_seconds(self) -> float | None:
        """An encoder with a fixed window hears no more than that."""
        return float(self.processor.window_seconds) if self.processor.fixed_window else None

    def padded_seconds(self, seconds: float) -> float:
        return float(self.processor.padded_seconds(seconds))

    @property
    def audio_token_id(self) -> int:
        """Beyond the tokenizer's ids."""
        return int(self.processor.audio_token_id)

    @property
    def audio_markup(self) -> str:  # type: ignore[override]
        return self.audio_token

    def language_model(self, *, has_audio: bool) -> Any:
        return self.model.language_model

    # --- 2: recordings -----------------------------------------------------------------------------------------------

    def hear(self, recordings: Sequence[AudioSegment]) -> list[torch.Tensor]:
        """What the LM reads for each recording, by way of the kept frames where there is a store of them."""
        from salad_train.training.hearing import encoder_frames, stored_embeddings

        if self._frames is None:
            return super().hear(recordings)
        new = [recording for recording in recordings if recording.sha256 not in self._frames]
        if new:
            rows = encoder_frames(self.model, self.processor, [recording.audio for recording in new])
            self._frames.add([one.sha256 for one in new], rows, [one.audio.seconds for one in new])
        return stored_embeddings(self.model, [self._frames.get(recording.sha256) for recording in recordings])

    @torch.no_grad()
    def audio_rows(self, recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
        embeds, lengths = self.model.get_audio_features(**self.processor.extract(recordings))
        return [rows[:n].clone() for rows, n in zip(embeds, lengths.tolist(), strict=True)]
