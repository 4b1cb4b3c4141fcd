"""ASR plug-in ``whisper``: Whisper and its relatives (Distil-Whisper, fine-tuned ones) by transformers.

It decodes as ``whisper_decoding`` says: greedily, and where a transcript is not to be trusted again with sampling, which is seeded.
Every piece of sound is heard in a window of its own, 30 s in all released models, and without the text of the piece before it, so
that a transcript depends on the recording alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, WhisperConfig, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from salad_eval.asr import pieces as sound
from salad_eval.asr.checkpoint import open_checkpoint, processor_digest
from salad_eval.asr.whisper_decoding import TEMPERATURES, Attempt, Noise, decode, decoding_rules
from salad_eval.asr.whisper_options import AUTO, Task, check_task, language_code, new_tokens
from salad_eval.batches import in_batches
from salad_eval.checkpoints import LIBRARIES, Weights, library_versions, model_identity, resolve_device
from salad_eval.errors import ModelError, UserInputError
from salad_eval.types import Audio

FRAMES_PER_POSITION = 2  # the encoder's second convolution halves the number of mel frames


class Whisper:
    """Transcripts by Whisper, in batches whose results are those of each recording alone.

    ``pretrained`` is a folder or a hub id; ``dtype``, ``device`` and ``weights`` are those of the text systems.
    ``language`` (``en``, ``english``, or ``auto`` to have it found) and ``task`` (``transcribe``, or ``translate`` into English)
    are asked of multilingual checkpoints; English-only ones know only ``en`` and ``transcribe``. ``timestamps`` lets the model
    write times between its words, as it was mostly trained to; they are not part of the transcript. ``max_new_tokens``: of a piece;
    by default half of the decoder's positions, as in OpenAI's program. ``temperatures``, the three thresholds and ``seed`` are those of
    ``DecodingRules``; attempts above temperature 0 are made without timestamps. ``longest_seconds``: longer sound is cut at pauses
    (``sound.pieces``) into pieces that are heard one by one; by default, and at most, the model's own window. ``batch_size``: pieces
    in one pass, each padded to the whole window.

    Raises ``ModelError``, naming what is missing, for a checkpoint of another class, or without weights, feature extractor,
    tokenizer or generation settings.
    """

    def __init__(
        self,
        pretrained: str,
        language: str = "en",
        task: Task = "transcribe",
        timestamps: bool = False,
        max_new_tokens: int | None = None,
        temperatures: Sequence[float] | float = TEMPERATURES,
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        seed: int = 0,
        longest_seconds: float | None = None,
        batch_size: int = 8,
        dtype: str = "float32",
        device: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        weights: Weights = "safetensors",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserInputError(f"batch_size is {batch_size!r}; expected a whole number from 1 up.")
        check_task(task)
        self._rules = decoding_rules(
            temperatures, compression_ratio_threshold, logprob_threshold, no_speech_threshold, seed
        )
        opened = open_checkpoint(
            pretrained, lambda config: WhisperForConditionalGeneration,
            kinds=(WhisperConfig,), names=("WhisperForConditionalGeneration",), role="a Whisper speech recogniser",
            dtype=dtype, weights=weights, revision=revision, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        source, model = opened.source, opened.model
        self._extractor, self._tokenizer = opened.extractor, opened.tokenizer
        _check_window(source, self._extractor, model.config)
        window = float(self._extractor.chunk_length)
        self.longest_seconds = window if longest_seconds is None else longest_seconds
        sound.check_longest(self.longest_seconds, window, source)
        self.max_new_tokens = new_tokens(max_new_tokens, model.config.max_target_positions)
        settings = copy.deepcopy(model.generation_config)
        languages = _languages(source, settings)
        _check_tokens(source, self._tokenizer, settings)
        self._language = language_code(source, language, task, languages)
        self._asked: dict[str, str] = {} if languages is None else {"task": task}
        if languages is not None and self._language != AUTO:
            self._asked["language"] = self._language
        _by_our_rules(settings, self.max_new_tokens)
        self._model = model.to(resolve_device(device)).eval()
        self._model.generation_config = settings  # given to generate, it would be filled up from the checkpoint's own
        self.timestamps, self.batch_size = timestamps, batch_size
        self.sample_rate_hz = int(self._extractor.sampling_rate)
        self._fingerprint = (
            f"whisper({model_identity(pretrained, model, weights=weights)},dtype={dtype},"
            f"processor={processor_digest(self._extractor, self._tokenizer, settings.to_diff_dict())},"
            f"language={self._language},task={task},timestamps={timestamps},"
            f"max_new_tokens={self.max_new_tokens},longest={self.longest_seconds:g}s,{self._rules},{library_versions(*LIBRARIES)})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order; the pieces of a long one joined by spaces.

        Raises ``AudioError``, naming the recording by its place, for one that is empty, too short, or not finite.
        """
        return sound.heard_in_pieces(audios, self.sample_rate_hz, self.longest_seconds, self._heard)

    def _heard(self, waves: Sequence[np.ndarray]) -> list[str]:
        windows = [1] * len(waves)  # each is padded to the whole window, whatever its length
        texts, self.batch_size = in_batches(
            windows, self.batch_size, lambda batch: self._texts([waves[k] for k in batch])
        )
        return texts

    @torch.inference_mode()
    def _texts(self, waves: Sequence[np.ndarray]) -> list[str]:
        features = self._extractor(list(waves), sampling_rate=self.sample_rate_hz, return_tensors="pt").input_features
        hidden = self._model.get_encoder()(features.to(self._model.device, self._model.dtype)).last_hidden_state
        no_speech = self._no_speech_probs(hidden)

        def attempt(places: Sequence[int], temperature: float) -> list[Attempt]:
            rows = hidden[list(places)]
            noise = [Noise(self._rules, temperature, waves[place]) for place in places] if temperature > 0 else None
            texts, logprobs = self._decoded(rows, noise)
            return [
                Attempt(text, logprob, no_speech[place])
                for place, text, logprob in zip(places, texts, logprobs, strict=True)
            ]

        return decode(len(waves), attempt, self._rules)

    def _no_speech_probs(self, hidden: torch.Tensor) -> list[float]:
        """The probability of the token for no speech, right after the start: (n, positions, width) → n."""
        settings = self._model.generation_config
        start = torch.full((len(hidden), 1), settings.decoder_start_token_id, device=hidden.device)
        logits = self._model(encoder_outputs=BaseModelOutput(hidden), decoder_input_ids=start).logits[:, 0].float()
        # The token stands right before the one for no timestamps, in all of Whisper's vocabularies.
        found: list[float] = logits.softmax(-1)[:, settings.no_timestamps_token_id - 1].tolist()
        return found

    def _decoded(self, hidden: torch.Tensor, noise: Sequence[Noise] | None) -> tuple[list[str], list[float]]:
        """Texts and average log-probabilities of windows, from what the encoder made of them; without ``noise`` greedily."""
        chooser = _Chooser(self._model.generation_config.eos_token_id, noise)
        ids = self._model.generate(
            encoder_outputs=BaseModelOutput(hidden),
            attention_mask=torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device),
            return_timestamps=self.timestamps and noise is None,
            condition_on_prev_tokens=False,
            force_unique_generate_call=True,  # one pass a window: with timestamps it would go on into the padding
            logits_processor=LogitsProcessorList([chooser]),
            **self._asked,
        )
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts, chooser.avg_logprobs


def _by_our_rules(settings: Any, max_new_tokens: int) -> None:
    """Take out of a checkpoint's generation settings what they say of beams, sampling and thresholds: ``_Chooser`` takes every token,
    and the rules are ours."""
    settings.update(
        do_sample=False, num_beams=1, temperature=None, top_k=None, top_p=None, return_dict_in_generate=False,
        compression_ratio_threshold=None, logprob_threshold=None, no_speech_threshold=None, forced_decoder_ids=None,
        max_length=max_new_tokens,  # of the new tokens alone: Whisper's generate adds the prompt to it
        max_new_tokens=None,
    )  # fmt: skip
    settings.language = settings.task = None  # set by some fine-tuned checkpoints; what is asked holds


class _Chooser(LogitsProcessor):
    """The last of generate's processors: it takes each token itself, greedily or with noise, and keeps count of its log-probability."""

    def __init__(self, end: int | Sequence[int], noise: Sequence[Noise] | None) -> None:
        self._ends = {end} if isinstance(end, int) else set(end)
        self._noise = noise
        self._sums: list[float] = []
        self._sizes: list[int] = []
        self._ended: list[bool] = []

    @property
    def avg_logprobs(self) -> list[float]:
        """Of each window's tokens, with its end counted as one of them whether it came or not, as Whisper's program does."""
        return [total / (size + 1) for total, size in zip(self._sums, self._sizes, strict=True)]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if not self._sums:
            n = len(scores)
            self._sums, self._sizes, self._ended = [0.0] * n, [0] * n, [False] * n
        logprobs = scores.float().log_softmax(-1)
        if self._noise is None:
            chosen = logprobs.argmax(-1).tolist()
        else:
            table = logprobs.cpu().numpy()
            chosen = [noise.choose(row) for noise, row in zip(self._noise, table, strict=True)]
        only = torch.full_like(scores, -torch.inf)
        for row, token in enumerate(chosen):
            only[row, token] = 0.0
            if self._ended[row]:
                continue
            self._sums[row] += float(logprobs[row, token])
            self._ended[row] = token in self._ends
            self._sizes[row] += not self._ended[row]
        return only  # type: ignore[return-value]


def _check_window(source: str, extractor: Any, config: Any) -> None:
    """The feature extractor's window must be what the encoder has positions for."""
    frames, positions = int(extractor.nb_max_frames), int(config.max_source_positions)
    if frames != positions * FRAMES_PER_POSITION or int(extractor.feature_size) != int(config.num_mel_bins):
        raise ModelError(
            f"{source}: the feature extractor makes {extractor.feature_size} x {frames} features and the model takes "
            f"{config.num_mel_bins} x {positions * FRAMES_PER_POSITION}; they do not belong together."
        )


def _check_tokens(source: str, tokenizer: Any, settings: Any) -> None:
    """The tokenizer must know Whisper's special tokens by the ids the model has for them.

    Where its files are missing, transformers makes a tokenizer without words and says nothing.
    """
    for token, wanted in (
        ("<|startoftranscript|>", settings.decoder_start_token_id),
        ("<|notimestamps|>", settings.no_timestamps_token_id),
    ):
        if tokenizer.get_vocab().get(token) != wanted:
            raise ModelError(
                f"{source}: its tokenizer has no {token} with the id {wanted} that the model has for it; its files (tokenizer.json, or "
                "vocab.json with merges.txt) are missing or another model's. Copy them from the checkpoint it was trained from."
            )


def _languages(source: str, settings: Any) -> frozenset[str] | None:
    """The languages of a multilingual checkpoint, ``None`` for one that knows English alone.

    Raises ``ModelError`` for generation settings that do not say.
    """
    if getattr(settings, "no_timestamps_token_id", None) is None:
        raise ModelError(
            f"{source} lacks Whisper's generation settings (generation_config.json with no_timestamps_token_id). "
            "Copy that file from the checkpoint it was fine-tuned from."
        )
    if not getattr(settings, "is_multilingual", True):
        return None
    languages, tasks = (getattr(settings, name, None) for name in ("lang_to_id", "task_to_id"))
    if not languages or not tasks:
        raise ModelError(
            f"{source} is multilingual and its generation_config.json lacks lang_to_id or task_to_id. "
            "Copy that file from the checkpoint it was fine-tuned from."
        )
    return frozenset(token.strip("<|>") for token in languages)
