"""ASR plug-in ``faster-whisper`` (an extra): Whisper on CTranslate2, several times faster than torch on a CPU.

Asked in the same way as the plug-in ``whisper``: greedy unless ``beam_size`` says otherwise, no temperature fallback, nothing of one
piece of sound told to the next, no voice activity filter that would leave sound out. With ``timestamps`` the package hears a window
again from the last time it wrote, where sound is left after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.asr import pieces as sound
from salad_eval.asr.whisper_options import AUTO, Task, check_task, language_code, new_tokens
from salad_eval.checkpoints import explained, folder_identity
from salad_eval.errors import MissingExtraError, ModelError, UserInputError
from salad_eval.resources import locate_pretrained
from salad_eval.types import Audio

INSTALL = "pip install 'salad-gap[faster-whisper]'"
DECODER_POSITIONS = 448  # of every Whisper model; the package counts with it too
MOST_NEW_TOKENS = DECODER_POSITIONS // 2  # CTranslate2 gives a transcript half of the positions at most
_FILES = ("model.bin", "config.json", "tokenizer.json")


class FasterWhisper:
    """Transcripts by a Whisper model in CTranslate2's format.

    ``pretrained`` is a folder that ``ct2-transformers-converter`` made, a hub id, or a size such as ``small.en``. ``language``, ``task``,
    ``timestamps``, ``max_new_tokens`` and ``longest_seconds`` are those of the plug-in ``whisper``. ``compute_type`` is
    CTranslate2's (``default``: as the model was saved; ``int8``, ``float32``, …) and ``device`` ``auto``, ``cpu`` or ``cuda``.
    ``threads``: of a CPU; 0 leaves it to the library.

    Raises ``MissingExtraError`` where the package is not installed and ``ModelError`` for a folder of another format, or one that
    lacks a file.
    """

    def __init__(
        self,
        pretrained: str,
        language: str = "en",
        task: Task = "transcribe",
        timestamps: bool = False,
        beam_size: int = 1,
        max_new_tokens: int | None = None,
        longest_seconds: float | None = None,
        compute_type: str = "default",
        device: str = "auto",
        threads: int = 0,
        revision: str | None = None,
    ) -> None:
        check_task(task)
        if not isinstance(beam_size, int) or beam_size < 1:
            raise UserInputError(f"beam_size is {beam_size!r}; expected a whole number from 1 up.")
        if device not in ("auto", "cpu", "cuda"):
            raise UserInputError(f"device is {device!r}; expected auto, cpu or cuda.")
        source = locate_pretrained(pretrained)
        package = _package()
        folder = _folder(package, source, revision)
        with explained(source, "model"):
            self._model = package.WhisperModel(
                str(folder), device=device, compute_type=compute_type, cpu_threads=threads
            )
        extractor = self._model.feature_extractor
        if len(extractor.mel_filters) != self._model.model.n_mels:
            raise ModelError(
                f"{source} wants {self._model.model.n_mels} mel bands and its feature extractor makes "
                f"{len(extractor.mel_filters)}. Copy preprocessor_config.json of the model it was converted from into that folder."
            )
        self.sample_rate_hz = int(extractor.sampling_rate)
        window = float(extractor.chunk_length)
        self.longest_seconds = window if longest_seconds is None else longest_seconds
        sound.check_longest(self.longest_seconds, window, source)
        self.max_new_tokens = new_tokens(max_new_tokens, DECODER_POSITIONS, MOST_NEW_TOKENS)
        known = {str(code) for code in self._model.supported_languages}
        multilingual = bool(self._model.model.is_multilingual)
        self._language = language_code(source, language, task, known if multilingual else None)
        self._options: dict[str, Any] = {
            "language": None if self._language == AUTO else self._language,
            "task": task,
            "beam_size": beam_size,
            "without_timestamps": not timestamps,
            "max_new_tokens": _asked_tokens(self.max_new_tokens, (3 if multilingual else 1) + (not timestamps)),
            "temperature": 0.0,
            "compression_ratio_threshold": None,
            "log_prob_threshold": None,
            "no_speech_threshold": None,
            "condition_on_previous_text": False,
            "vad_filter": False,
        }
        weights = folder_identity(folder) if Path(source).is_dir() else f"hub:{source}@{folder.name}"
        tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:12]
        self._fingerprint = (
            f"faster-whisper({weights},compute_type={self._model.model.compute_type},tokenizer={tokenizer},"
            f"language={self._language},task={task},timestamps={timestamps},beam_size={beam_size},"
            f"max_new_tokens={self.max_new_tokens},longest={self.longest_seconds:g}s,"
            f"faster-whisper={version('faster-whisper')},ctranslate2={version('ctranslate2')})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, in order; the pieces of a long one joined by spaces.

        Raises ``AudioError``, naming the recording by its place, for one that is empty, too short, or not finite.
        """
        return sound.heard_in_pieces(
            audios,
            self.sample_rate_hz,
            self.longest_seconds,
            lambda waves: [self._text(wave) for wave in waves],
            lambda sizes: [[place] for place in range(len(sizes))],
        )

    def _text(self, wave: np.ndarray) -> str:
        segments, _ = self._model.transcribe(wave, **self._options)
        return " ".join(segment.text for segment in segments)


def _asked_tokens(n_new: int, n_prompt: int) -> int:
    """What the package must be asked for to get ``n_new`` tokens.

    It adds the prompt, and of the sum CTranslate2 gives half, or what the prompt (without its first token) leaves of it if that is
    less.
    """
    return max(2 * n_new, n_new + n_prompt - 1) - n_prompt


def _package() -> Any:
    try:
        import faster_whisper
    except ImportError as cause:
        if (cause.name or "").partition(".")[0] not in ("faster_whisper", "ctranslate2", "av"):
            raise
        raise MissingExtraError("the ASR plug-in 'faster-whisper'", "faster-whisper", INSTALL) from None
    return faster_whisper


def _folder(package: Any, source: str, revision: str | None) -> Path:
    """Where the model's files lie: the folder itself, or the local copy of what the hub has."""
    if not Path(source).is_dir():
        with explained(source, "model"):
            return Path(package.utils.download_model(source, revision=revision))
    folder = Path(source)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if "model.bin" in missing and any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{source} is a checkpoint of transformers, not of CTranslate2. Give it to the ASR plug-in 'whisper', or convert it: "
            f"ct2-transformers-converter --model {source} --output_dir DIR --copy_files tokenizer.json preprocessor_config.json"
        )
    if missing:
        # Without its own tokenizer.json the package would fetch another model's from the hub.
        raise ModelError(
            f"{source} lacks {', '.join(missing)} of a CTranslate2 Whisper model. Convert it again with "
            "--copy_files tokenizer.json preprocessor_config.json."
        )
    return folder
