"""ASR plug-in ``faster-whisper`` (an extra): Whisper on CTranslate2, several times faster than torch on a CPU.

It hears and decodes as the plug-in ``whisper`` does, by the same rules, and with the same seed makes the same draws; at temperature 0
``beam_size`` may widen the search. Of the package its loader, its feature extractor and its tokenizer are used. Its own loop is not: it
fills up a short recording with other numbers than Whisper saw in training, and its sampling cannot be seeded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.asr import pieces as sound
from salad_eval.asr.whisper_decoding import TEMPERATURES, Attempt, Noise, decode, decoding_rules
from salad_eval.asr.whisper_options import AUTO, Task, check_task, language_code, new_tokens, window_of
from salad_eval.checkpoints import explained, folder_identity
from salad_eval.errors import MissingExtraError, ModelError, UserInputError
from salad_eval.identity import file_sha256
from salad_eval.resources import locate_pretrained
from salad_eval.types import Audio

INSTALL = "pip install 'salad-gap[faster-whisper]'"
DECODER_POSITIONS = 448  # of every Whisper model; the package counts with it too
MOST_NEW_TOKENS = DECODER_POSITIONS // 2  # CTranslate2 gives a transcript half of the positions at most
LOOK_AHEAD = 8  # tokens that are asked for at first when sampling; then twice as many as the last call served for
SILENCE_AFTER = 1.0  # seconds that Whisper wants after what is said
MIN_WINDOW = 2.0
_FILES = ("model.bin", "config.json", "tokenizer.json")


class FasterWhisper:
    """Transcripts by a Whisper model in CTranslate2's format.

    ``pretrained`` is a folder that ``ct2-transformers-converter`` made, a hub id, or a size such as ``small.en``. ``language``, ``task``,
    ``timestamps``, ``max_new_tokens``, ``longest_seconds``, ``temperatures``, the three thresholds and ``seed`` are those of the plug-in
    ``whisper``. ``beam_size`` is that of the attempt at temperature 0. ``compute_type`` is
    CTranslate2's (``default``: as the model was saved; ``int8``, ``float32``, …) and ``device`` ``auto``, ``cpu`` or ``cuda``.
    ``threads``: of a CPU; 0 leaves it to the library. ``windows``: sizes in seconds, rising, the last the model's own: a piece of sound is
    heard in the smallest that leaves a second of silence after it, which takes a third of the time at 10 s and may change a word. By
    default every piece is heard in the model's own window.

    Raises ``MissingExtraError`` where the package is not installed and ``ModelError`` for a folder of another format, or one that
    lacks a file.
    """

    @staticmethod
    def check_installed() -> None:
        """Raises as the plug-in itself would."""
        _package()

    def __init__(
        self,
        pretrained: str,
        language: str = "en",
        task: Task = "transcribe",
        timestamps: bool = False,
        beam_size: int = 1,
        max_new_tokens: int | None = None,
        temperatures: Sequence[float] | float = TEMPERATURES,
        compression_ratio_threshold: float | None = 2.4,
        logprob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        seed: int = 0,
        longest_seconds: float | None = None,
        compute_type: str = "default",
        device: str = "auto",
        threads: int = 0,
        windows: Sequence[float] = (),
        revision: str | None = None,
    ) -> None:
        check_task(task)
        if not isinstance(beam_size, int) or beam_size < 1:
            raise UserInputError(f"beam_size is {beam_size!r}; expected a whole number from 1 up.")
        if device not in ("auto", "cpu", "cuda"):
            raise UserInputError(f"device is {device!r}; expected auto, cpu or cuda.")
        self._rules = decoding_rules(
            temperatures, compression_ratio_threshold, logprob_threshold, no_speech_threshold, seed
        )
        source = locate_pretrained(pretrained)
        package = _package()
        folder = _folder(package, source, revision)
        with explained(source, "model"):
            self._model = package.WhisperModel(
                str(folder), device=device, compute_type=compute_type, cpu_threads=threads
            )
        self._extractor = self._model.feature_extractor
        if len(self._extractor.mel_filters) != self._model.model.n_mels:
            raise ModelError(
                f"{source} wants {self._model.model.n_mels} mel bands and its feature extractor makes "
                f"{len(self._extractor.mel_filters)}. Copy preprocessor_config.json of the model it was converted from into that folder."
            )
        self.sample_rate_hz = int(self._extractor.sampling_rate)
        window = float(self._extractor.chunk_length)
        self.longest_seconds = window if longest_seconds is None else longest_seconds
        sound.check_longest(self.longest_seconds, window, source)
        self._windows = checked_windows(windows, window)
        self.max_new_tokens = new_tokens(max_new_tokens, DECODER_POSITIONS, MOST_NEW_TOKENS)
        known = {str(code) for code in self._model.supported_languages}
        self._multilingual = bool(self._model.model.is_multilingual)
        self._language = language_code(source, language, task, known if self._multilingual else None)
        self._task, self._timestamps, self._beam_size = task, timestamps, beam_size
        self._suppressed = _suppressed(folder)
        weights = folder_identity(folder) if Path(source).is_dir() else f"hub:{source}@{folder.name}"
        tokenizer = file_sha256(folder / "tokenizer.json")[:12]
        self._fingerprint = (
            f"faster-whisper({weights},compute_type={self._model.model.compute_type},tokenizer={tokenizer},"
            f"language={self._language},task={task},timestamps={timestamps},beam_size={beam_size},"
            f"max_new_tokens={self.max_new_tokens},longest={self.longest_seconds:g}s,{_stated(windows)}{self._rules},"
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
        )

    def _text(self, wave: np.ndarray) -> str:
        size = window_of(len(wave) / self.sample_rate_hz, self._windows, SILENCE_AFTER)
        window = np.zeros(round(size * self.sample_rate_hz), np.float32)  # silence is what fills it up in training too
        window[: len(wave)] = wave
        encoded = self._model.encode(self._extractor(window, padding=0))
        tokenizer = self._tokenizer(encoded)

        def attempt(places: Sequence[int], temperature: float) -> list[Attempt]:
            if temperature == 0:
                return [self._searched(encoded, tokenizer) for _ in places]
            return [self._sampled(encoded, tokenizer, Noise(self._rules, temperature, wave)) for _ in places]

        return decode(1, attempt, self._rules)[0]

    def _tokenizer(self, encoded: Any) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        language = self._language
        if language == AUTO:
            language = self._model.model.detect_language(encoded)[0][0][0].strip("<|>")
        return Tokenizer(self._model.hf_tokenizer, self._multilingual, task=self._task, language=language)

    def _searched(self, encoded: Any, tokenizer: Any) -> Attempt:
        prompt = [*tokenizer.sot_sequence, *([] if self._timestamps else [tokenizer.no_timestamps])]
        found = self._model.model.generate(
            encoded,
            [prompt],
            beam_size=self._beam_size,
            max_length=_asked_length(self.max_new_tokens, len(prompt)),
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = found.sequences_ids[0]
        # The score is of one token; the end counts among them on neither side of Whisper's own average but the divisor.
        average = found.scores[0] * len(tokens) / (len(tokens) + 1)
        return Attempt(tokenizer.decode(tokens), average, found.no_speech_prob)

    def _sampled(self, encoded: Any, tokenizer: Any, noise: Noise) -> Attempt:
        """Each token taken with ``noise`` from the scores that CTranslate2 gives after the tokens before it.

        It goes on greedily by itself, and as far as the draws agree with it, one call serves for many tokens.
        """
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        tokens: list[int] = []
        total, no_speech, ahead = 0.0, 0.0, LOOK_AHEAD
        while len(tokens) < self.max_new_tokens:
            n_given = len(tokens)
            found = self._model.model.generate(
                encoded,
                [[*prompt, *tokens]],
                beam_size=1,
                max_length=_asked_length(n_given + ahead, len(prompt) + n_given),
                return_logits_vocab=True,
                return_no_speech_prob=True,
                suppress_blank=False,
            )[0]
            no_speech = found.no_speech_prob
            for scores, expected in zip_longest(found.logits[0][n_given:], found.sequences_ids[0][n_given:]):
                chosen, logprob = self._drawn(np.array(scores, np.float32), noise, first=not tokens)
                total += logprob
                if chosen == tokenizer.eot:
                    return Attempt(tokenizer.decode(tokens), total / (len(tokens) + 1), no_speech)
                tokens.append(chosen)
                if chosen != expected or len(tokens) == self.max_new_tokens:
                    break
            ahead = 2 * (len(tokens) - n_given)
        return Attempt(tokenizer.decode(tokens), total / (len(tokens) + 1), no_speech)

    def _drawn(self, logits: np.ndarray, noise: Noise, *, first: bool) -> tuple[int, float]:
        """A token and its log-probability among those that are allowed."""
        logits[self._suppressed["always"]] = -np.inf
        if first:
            logits[self._suppressed["first"]] = -np.inf
        chosen = noise.choose(logits)
        return chosen, float(logits[chosen]) - float(np.logaddexp.reduce(logits, dtype=np.float64))


def _asked_length(n_new: int, n_prompt: int) -> int:
    """What CTranslate2 must be asked for to give ``n_new`` tokens: half of it, or what the prompt (without its first token) leaves of
    it if that is less, is what it gives."""
    return max(2 * n_new, n_new + n_prompt - 1)


def checked_windows(windows: Sequence[float], whole: float) -> tuple[float, ...]:
    """The windows as stated, or the model's ``whole`` one (both in seconds). Raises ``UserInputError`` for any that make no sense."""
    numbers = not isinstance(windows, str) and all(isinstance(one, (int, float)) for one in windows)
    stated = tuple(float(one) for one in windows) if numbers else ()
    if not numbers or (
        stated and (list(stated) != sorted(set(stated)) or stated[0] < MIN_WINDOW or stated[-1] != whole)
    ):
        raise UserInputError(
            f"windows is {windows!r}; expected seconds in rising order, from {MIN_WINDOW:g} up, the last {whole:g} (the model's own)."
        )
    return stated or (whole,)


def _stated(windows: Sequence[float]) -> str:
    return f"windows={'/'.join(f'{one:g}' for one in windows)}s," if windows else ""


def _suppressed(folder: Path) -> dict[str, list[int]]:
    """Tokens that no transcript has, and those that none begins with, as the model's own config.json lists them."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {"always": settings.get("suppress_ids", []), "first": settings.get("suppress_ids_begin", [])}


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
