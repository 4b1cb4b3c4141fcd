"""Text with audio placeholders and sound → model inputs. Nothing is dropped silently: every mismatch is an error."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from salad_eval.asr.whisper_options import window_of
from salad_eval.audio.features import quick
from salad_eval.errors import AudioError, UserInputError, did_you_mean
from salad_train.model.audio_encoders import encoder_config, output_length, spec_of
from salad_train.model.configuration_salad import SaladConfig

AUDIO_TOKEN = "<|audio|>"
_CALL_KEYWORDS = ("text", "audio", "sampling_rate", "padding", "padding_side", "add_special_tokens", "return_tensors")


class SaladProcessor(ProcessorMixin):
    """A feature extractor and a tokenizer, and the arithmetic that says how many positions a recording takes.

    The tokenizer is the LM's own, unchanged: the placeholder is cut out of a text before it is tokenised, so texts
    without one have
    exactly the LM's ids. Whitespace right before a placeholder is dropped, since the space before a spoken word is
    not text.

    Args:
        feature_extractor: the audio encoder's own.
        tokenizer: the LM's own.
        audio_token: what stands for one recording in a text.
        audio_token_id: the model's ``audio_token_id``, which fills the audio positions of ``input_ids``.
        length_geometry, stack_frames, sample_multiple, fixed_window, windows, margin: as in ``EncoderSpec`` and ``SaladConfig``;
            ``from_parts`` fills them in.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        audio_token: str = AUDIO_TOKEN,
        audio_token_id: int | None = None,
        length_geometry: Sequence[Sequence[int]] = (),
        stack_frames: int = 1,
        sample_multiple: int = 1,
        fixed_window: bool = False,
        windows: Sequence[int] = (),
        margin: int = 0,
        chat_template: str | None = None,
    ) -> None:
        self.audio_token = audio_token
        self.audio_token_id = len(tokenizer) if audio_token_id is None else audio_token_id
        self.length_geometry = [list(layer) for layer in length_geometry]
        self.stack_frames = stack_frames
        self.sample_multiple = sample_multiple
        self.fixed_window = fixed_window
        self.windows, self.margin = list(windows), margin
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_parts(
        cls, feature_extractor: Any, tokenizer: Any, config: SaladConfig, audio_token: str = AUDIO_TOKEN
    ) -> SaladProcessor:
        """The processor that fits a model configuration. The tokenizer is copied: saving marks it as this
        processor's."""
        spec = spec_of(
            encoder_config(config.audio_config), config.length_geometry, config.encoder_windows, config.encoder_dtype
        )
        return cls(
            feature_extractor,
            copy.deepcopy(tokenizer),
            audio_token=audio_token,
            audio_token_id=config.audio_token_id,
            length_geometry=spec.geometry,
            stack_frames=config.stack_frames,
            sample_multiple=spec.sample_multiple,
            fixed_window=spec.fixed_window,
            windows=spec.windows,
            margin=spec.margin,
        )

    @property
    def sampling_rate(self) -> int:
        """In Hz: what ``audio`` must have."""
        return int(self.feature_extractor.sampling_rate)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "input_features", "input_features_mask"]

    def n_positions(self, n_input_frames: int) -> int:
        """Audio positions for a recording of so many extractor frames (samples, where the encoder reads a waveform)."""
        return -(-output_length(n_input_frames, self.length_geometry) // self.stack_frames)

    def extract(self, audio: Sequence[np.ndarray]) -> BatchFeature:
        """``input_features`` and ``input_features_mask`` (n, frames or samples) of mono recordings, each of shape
        (n_samples,).

        Raises ``AudioError`` for a recording that is empty, not mono, not finite, or longer than a fixed window.
        """
        checked = [self._checked(samples) for samples in audio]
        if self.fixed_window:
            longest = max(len(samples) for samples in checked) / self.sampling_rate
            if longest > self.window_seconds:
                raise AudioError(
                    f"a recording of {longest:.1f} s is longer than this encoder's window of {self.window_seconds:.1f} s; cut it at a "
                    f"pause and pass the pieces."
                )
        output = quick(self.feature_extractor)(
            checked,
            sampling_rate=self.sampling_rate,
            padding="max_length" if self.fixed_window else True,
            return_tensors="pt",
            **self._window(checked),
            **self._asks_for_mask(),
        )
        names = list(self.feature_extractor.model_input_names)
        features = output[names[0]]
        mask = output["padding_mask"] if "padding_mask" in output else output["attention_mask"]
        if names[0] == "input_values" and features.ndim == 3:
            features = features[:, 0]  # (n, 1, samples) of codec extractors
        return BatchFeature({"input_features": features, "input_features_mask": mask.long()})

    @property
    def window_seconds(self) -> float:
        """The full window of an extractor that has one."""
        return float(self.feature_extractor.n_samples / self.sampling_rate)

    def padded_seconds(self, seconds: float) -> float:
        """How much sound the encoder computes for a recording: its window, where it has one."""
        if not self.fixed_window:
            return seconds
        samples = self._window_samples(math.ceil(seconds * self.sampling_rate)) if self.windows else None
        return self.window_seconds if samples is None else samples / self.sampling_rate

    def _window(self, recordings: Sequence[np.ndarray]) -> dict[str, int]:
        """The largest window that one of the recordings has; each is encoded in its own."""
        if not self.windows:
            return {}
        return {"max_length": self._window_samples(max(map(len, recordings)))}

    def _window_samples(self, n_samples: int) -> int:
        hop = int(self.feature_extractor.hop_length)
        return window_of(-(-n_samples // hop), self.windows, self.margin) * hop

    def _asks_for_mask(self) -> dict[str, bool]:
        import inspect

        takes = inspect.signature(type(self.feature_extractor).__call__).parameters
        return {"return_attention_mask": True} if "return_attention_mask" in takes else {}

    def _checked(self, samples: np.ndarray) -> np.ndarray:
        array = np.asarray(samples, dtype=np.float32)
        if array.ndim != 1:
            raise AudioError(f"a recording has shape {array.shape}; expected mono samples, shape (n_samples,).")
        if not len(array):
            raise AudioError("a recording is empty; render it again or leave it out.")
        if not np.isfinite(array).all():
            raise AudioError("a recording holds NaN or infinite samples; render it again or leave it out.")
        missing = -len(array) % self.sample_multiple
        return np.pad(array, (0, missing)) if missing else array

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: np.ndarray | Sequence[np.ndarray] | None = None,
        *,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        padding_side: str | None = None,
        add_special_tokens: bool = True,
        return_tensors: str = "pt",
        **unknown: Any,
    ) -> BatchFeature:
        """Model inputs of texts in which each ``audio_token`` stands for the next recording of ``audio``.

        Args:
            text: one text or several.
            audio: mono float recordings in the order of their placeholders over all texts, or one array.
            sampling_rate: of ``audio``, in Hz; checked against the extractor's.

        Raises ``UserInputError`` for an unknown keyword, for another sampling rate, and where placeholders and
        recordings differ in number.
        """
        if unknown:
            name = next(iter(unknown))
            raise UserInputError(
                f"SaladProcessor has no argument {name!r}{did_you_mean(name, _CALL_KEYWORDS)}. Arguments: {', '.join(_CALL_KEYWORDS)}."
            )
        if return_tensors != "pt":
            raise UserInputError(f"return_tensors is {return_tensors!r}; this processor gives 'pt' only.")
        if text is None:
            raise UserInputError("text is missing; pass text in which each recording is held by " + self.audio_token)
        texts = [text] if isinstance(text, str) else list(text)
        recordings = (
            [audio] if isinstance(audio, np.ndarray) and audio.ndim == 1 else list(audio if audio is not None else ())
        )
        if recordings and sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise UserInputError(
                f"audio has {sampling_rate} Hz, this model's extractor expects {self.sampling_rate} Hz; resample it first."
            )
        n_places = [one.count(self.audio_token) for one in texts]
        if sum(n_places) != len(recordings):
            raise UserInputError(
                f"the text holds {sum(n_places)} placeholders {self.audio_token!r}, but {len(recordings)} recordings came as audio=. "
                "There must be one of each."
            )
        data: dict[str, Any] = {}
        positions: list[int] = []
        if recordings:
            data = dict(self.extract(recordings))
            positions = [self.n_positions(int(n)) for n in data["input_features_mask"].sum(-1)]
        remaining = iter(positions)
        rows = [
            self._ids(one, [next(remaining) for _ in range(n)], add_special_tokens)
            for one, n in zip(texts, n_places, strict=True)
        ]
        return BatchFeature({**self._padded(rows, padding, padding_side), **data})

    def _ids(self, text: str, positions: Sequence[int], add_special_tokens: bool) -> list[int]:
        """Token ids of a text with each placeholder as its number of audio positions."""
        pieces = text.split(self.audio_token)
        pieces = [*(piece.rstrip() for piece in pieces[:-1]), pieces[-1]]
        ids: list[int] = list(self.tokenizer(pieces[0], add_special_tokens=add_special_tokens)["input_ids"])
        for n, piece in zip(positions, pieces[1:], strict=True):
            ids += [self.audio_token_id] * n
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
        return ids

    def _padded(self, rows: Sequence[Sequence[int]], padding: bool | str, side: str | None) -> dict[str, torch.Tensor]:
        width = max(map(len, rows))
        if not padding and any(len(row) != width for row in rows):
            raise UserInputError("texts of different lengths need padding=True to become one tensor.")
        fill = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        input_ids = torch.full((len(rows), width), fill if fill is not None else 0, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            place = (
                slice(width - len(row), width)
                if (side or self.tokenizer.padding_side) == "left"
                else slice(0, len(row))
            )
            input_ids[index, place] = torch.tensor(row, dtype=torch.long)
            mask[index, place] = 1
        return {"input_ids": input_ids, "attention_mask": mask}
