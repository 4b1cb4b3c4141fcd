"""When each word of a known text is said: CTC forced alignment (Kürzinger et al., "CTC-Segmentation of large corpora",
arXiv 2007.09127), exact, in bounded memory.

A CTC model gives each frame a distribution over its tokens and the blank; the best path through the text's tokens in order
says in which frames each token stands. Models place a token in a frame or two somewhere within its sound, and not from its
beginning to its end, so the borders of words are then looked for between the tokens of neighbours: at the pause, or else
where it is quietest.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from salad_eval.asr.transformers_ctc import MIN_SECONDS, TransformersCTC
from salad_eval.audio.sound import FRAME_SECONDS, SILENCE_RMS, frame_rms
from salad_eval.errors import UserInputError
from salad_eval.identity import digest
from salad_eval.progress import track
from salad_eval.records import JsonlLog
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import Audio
from salad_train.speech.manifests import Reason, Recording, RecordingReject, TimedWord
from salad_train.speech.natural import read_stretch

WINDOW_SECONDS, CONTEXT_SECONDS = 30.0, 3.0  # a model's pass over long sound, and what it hears beyond each end of it
# A frame so far below the loud ones (their 95th percentile) is a pause.
PAUSE_DROP = 10 ** (-30 / 20)
SMOOTHING_FRAMES = 3
BLOCK = 32  # recordings that are heard together

_WORD = re.compile(r"\S+")
_SOUNDS = (
    "'’▁"  # marks that are part of a word's spelling in sound: apostrophes, and what sentencepiece puts for a space
)
_NO_SOUND = re.compile(r"[^\w']+|_")


@dataclass(frozen=True, slots=True)
class AlignerPlan:
    """Which CTC model times the words, and what of its findings counts.

    Attributes:
        pretrained: ``nano/asr``, a folder or a hub id of a transformers model …ForCTC.
        min_confidence: a recording whose tokens have a lower mean probability (geometric, see ``Alignment``) is left out: its
            text is another than what is said.
        min_word_confidence: a word below gets no times, and no span with it is heard.
        device: where the model runs; "auto": a GPU where there is one.
        dtype: the type it computes in.
        batch_seconds: sound in one pass of the model, which bounds its memory.
    """

    pretrained: str
    min_confidence: float = 0.1
    min_word_confidence: float = 0.01
    device: str = "auto"
    dtype: str = "float32"
    batch_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("min_confidence", "min_word_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserInputError(f"{name} is {getattr(self, name)}; expected a probability in [0, 1].")

    def load(self) -> CTCAligner:
        return CTCAligner(self.pretrained, dtype=self.dtype, device=self.device, batch_seconds=self.batch_seconds)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Words in time.

    Attributes:
        words: those with at least one token the model knows.
        scores: of each, the geometric mean over its tokens of their probability in the frame of theirs that has most of it.
        confidence: the same over all tokens of the text.
    """

    words: tuple[TimedWord, ...]
    scores: tuple[float, ...]
    confidence: float


# --- the best path ---------------------------------------------------------------------------------------------------


def viterbi(log_probs: np.ndarray, tokens: Sequence[int], blank: int) -> np.ndarray | None:
    """The most probable CTC path of ``tokens``: (T,) int64, frame t stands in state s; state 2i + 1 is token i, even ones blank.

    ``log_probs`` is (T, V), in nats. Of T·S scores only those of every √T-th frame are kept, and the frames between are
    computed a second time on the way back: memory grows with √T. ``None`` where the tokens do not fit into the frames.
    """
    n_frames, n_states = len(log_probs), 2 * len(tokens) + 1
    if not n_frames:
        return None
    labels = np.full(n_states, blank, dtype=np.int64)
    labels[1::2] = tokens
    may_skip = np.zeros(n_states, dtype=bool)  # from a token to the next, past the blank between: unless they are equal
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    block = max(1, math.isqrt(n_frames))
    scores = np.full(n_states, -np.inf)
    scores[:2] = log_probs[0, labels[:2]]
    kept = [scores]  # after frame 0, block, 2·block, …
    for t in range(1, n_frames):
        scores = _step(scores, may_skip)[0] + log_probs[t, labels]
        if t % block == 0:
            kept.append(scores)
    last = n_states - 1 if n_states == 1 or scores[-1] >= scores[-2] else n_states - 2
    if scores[last] == -np.inf:
        return None
    path = np.empty(n_frames, dtype=np.int64)
    path[-1], state = last, last
    for start in reversed(range(0, n_frames, block)):
        scores, moves = kept.pop(), []
        for t in range(start + 1, min(start + block, n_frames - 1) + 1):
            best, move = _step(scores, may_skip)
            scores = best + log_probs[t, labels]
            moves.append(move)
        for k in reversed(range(len(moves))):
            state -= int(moves[k][state])
            path[start + k] = state
    return path


def _step(scores: np.ndarray, may_skip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each state the best score it can be reached with, and from how many states before; of equals the nearest."""
    best, move = scores.copy(), np.zeros(len(scores), dtype=np.int8)
    from_one = scores[:-1] > best[1:]
    best[1:][from_one], move[1:][from_one] = scores[:-1][from_one], 1
    from_two = (scores[:-2] > best[2:]) & may_skip[2:]
    best[2:][from_two], move[2:][from_two] = scores[:-2][from_two], 2
    return best, move


# --- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SoundClasses:
    """Tokens that sound alike as one: a model may put "On", "on" or "on:" for a word, and nobody hears the difference.

    ``of_token`` (V,) int64 numbers the classes; marks, which have no sound, are with the blank in class 0.
    """

    of_token: np.ndarray

    def merged(self, log_probs: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """(T, V) log-probabilities of tokens to (T, n) of ``classes``."""
        columns = [np.logaddexp.reduce(log_probs[:, self.of_token == one], axis=1) for one in classes]
        return np.stack(columns, axis=1)


def sound_classes(tokenizer: Any, blank: int, n_outputs: int) -> SoundClasses:
    """The classes of a CTC tokenizer's vocabulary; outputs beyond it and special tokens stand alone."""
    # What character models put between words is no sound, though it is called special.
    special = set(tokenizer.all_special_ids) - {blank, getattr(tokenizer, "word_delimiter_token_id", None)}
    numbers: dict[str, int] = {"": 0}
    of_token = np.zeros(n_outputs, dtype=np.int64)
    known = min(n_outputs, len(tokenizer))
    for token, written in enumerate(tokenizer.convert_ids_to_tokens(list(range(known)))):
        plain = f"\0{token}" if token in special else "".join(c for c in written if c.isalnum() or c in _SOUNDS).lower()
        if token != blank:
            of_token[token] = numbers.setdefault(plain, len(numbers))
    of_token[known:] = np.arange(len(numbers), len(numbers) + n_outputs - known)
    return SoundClasses(of_token)


# --- words -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpelledWord:
    """A written word, ``text[start:end]``, and the tokens a model would hear it as."""

    start: int
    end: int
    tokens: tuple[int, ...]


def spell(text: str, tokenizer: Any, blank: int) -> list[SpelledWord]:
    """The words of a text in the spelling that a CTC tokenizer knows best: as written, as said in lower case without marks
    ("5" is "five"), or that in upper case. Tokens it does not know are left out."""
    unknown = {blank, tokenizer.unk_token_id}
    spellings: list[list[tuple[int, ...]]] = [[], [], []]
    found = list(_WORD.finditer(text))
    for match in found:
        said = _as_said(match.group())
        for words, spelling in zip(spellings, (match.group(), said, said.upper()), strict=True):
            ids = tokenizer(spelling, add_special_tokens=False).input_ids if spelling else ()
            words.append(tuple(int(token) for token in ids))
    best = min(spellings, key=lambda words: sum(token in unknown for ids in words for token in ids))
    return [
        SpelledWord(match.start(), match.end(), tuple(token for token in ids if token not in unknown))
        for match, ids in zip(found, best, strict=True)
    ]


def _as_said(word: str) -> str:
    try:
        said = to_spoken(word)
    except Unspeakable:
        return ""
    return " ".join(_NO_SOUND.sub(" ", said.replace("’", "'")).lower().split())


@dataclass(frozen=True, slots=True)
class WordPeaks:
    """When the first and the last token of a word are surest, in seconds."""

    first_s: float
    last_s: float


def word_edges(peaks: Sequence[WordPeaks], audio: Audio) -> list[tuple[float, float]]:
    """Start and end of each word in seconds, from where its tokens are surest and how loud the sound is.

    Between neighbours: both ends of the longest pause, or else where it is quietest, which then is the end of the one and
    the start of the other. Before the first and after the last: the nearest pause, or the end of the sound.
    """
    loudness = frame_rms(audio.samples, audio.sample_rate_hz)
    frame_seconds = max(1, int(audio.sample_rate_hz * FRAME_SECONDS)) / audio.sample_rate_hz  # of whole samples
    loudness = np.convolve(loudness, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), mode="same")
    quiet = loudness < max(SILENCE_RMS, PAUSE_DROP * float(np.quantile(loudness, 0.95)))
    n = len(loudness)

    def frame(seconds: float) -> int:
        return min(n - 1, max(0, int(seconds / frame_seconds)))

    # A token may be surest in the pause beside its word: the word then begins after that pause, or ends before it.
    firsts, lasts = [frame(peak.first_s) for peak in peaks], [frame(peak.last_s) for peak in peaks]
    begins = [_leave(quiet, at, 1, end) for at, end in zip(firsts, [*firsts[1:], n - 1], strict=True)]
    finishes = [_leave(quiet, at, -1, end) for at, end in zip(lasts, [0, *lasts[:-1]], strict=True)]
    earlier = np.flatnonzero(quiet[: begins[0]])
    starts, ends = [int(earlier[-1]) + 1 if len(earlier) else 0], []
    for low, following in zip(finishes, begins[1:], strict=False):
        high = max(low + 1, following)
        pause = _longest_run(quiet[low:high])
        if pause is not None:
            end, start = low + pause[0], low + pause[1]
        else:
            end = start = low + int(np.argmin(loudness[low:high]))
        ends.append(end)
        starts.append(min(start, n - 1))  # a pause may reach to the end of the sound, and a word takes some of it
    later = np.flatnonzero(quiet[finishes[-1] :])
    ends.append(finishes[-1] + int(later[0]) if len(later) else n)
    return [
        (start * frame_seconds, min(max(start + 1, end) * frame_seconds, audio.seconds))
        for start, end in zip(starts, ends, strict=True)
    ]


def _leave(quiet: np.ndarray, at: int, step: int, limit: int) -> int:
    """The nearest frame with sound from ``at`` on in one direction; ``at`` itself where there is none before ``limit``."""
    found = at
    while quiet[found] and found != limit:
        found += step
    return at if quiet[found] else found


def _longest_run(quiet: np.ndarray) -> tuple[int, int] | None:
    """First frame of the longest pause, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    if not len(runs):
        return None
    start, end = runs[int(np.argmax(runs[:, 1] - runs[:, 0]))]
    return int(start), int(end)


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Emissions:
    """Log-probabilities (T, V) in nats, and the middle of each frame in seconds, (T,)."""

    log_probs: np.ndarray
    times: np.ndarray


class CTCAligner(TransformersCTC):
    """Times the words of texts by any CTC model of transformers; see ``TransformersCTC`` for the options."""

    def align(self, audios: Sequence[Audio], texts: Sequence[str]) -> list[Alignment | None]:
        """One alignment each; ``None`` where a text has no token the model knows, or more than fit into the sound.

        Raises ``AudioError`` for a sound that is shorter than ``MIN_SECONDS`` or not finite.
        """
        classes = sound_classes(self._tokenizer, self.blank, self._model.config.vocab_size)
        return [
            align_words(found, audio, text, self._tokenizer, self.blank, classes)
            for found, audio, text in zip(self.emissions(audios), audios, texts, strict=True)
        ]

    @property
    def blank(self) -> int:
        return int(self._tokenizer.pad_token_id)

    def emissions(self, audios: Sequence[Audio]) -> list[Emissions]:
        """What the model says of each recording; long ones are heard in overlapping windows."""
        waves = [self._waveform(place, audio) for place, audio in enumerate(audios)]
        cut = [(place, *window) for place, wave in enumerate(waves) for window in self._windows(len(wave))]

        def log_probs(batch: list[int]) -> Sequence[np.ndarray]:
            return self._log_probs([waves[cut[k][0]][cut[k][3] : cut[k][4]] for k in batch])

        heard = self._in_batches([end - begin for _, _, _, begin, end in cut], log_probs)
        out: list[tuple[list[np.ndarray], list[np.ndarray]]] = [([], []) for _ in waves]
        for (place, first, last, begin, end), rows in zip(cut, heard, strict=True):
            times = (begin + (np.arange(len(rows)) + 0.5) * ((end - begin) / len(rows))) / self.sample_rate_hz
            own = (times >= first / self.sample_rate_hz) & (times < last / self.sample_rate_hz)
            out[place][0].append(rows[own])
            out[place][1].append(times[own])
        return [Emissions(np.concatenate(rows), np.concatenate(times)) for rows, times in out]

    def _windows(self, n_samples: int) -> Iterator[tuple[int, int, int, int]]:
        """(first, last) of the samples a window speaks for, and (begin, end) of those it hears."""
        core, context = (int(seconds * self.sample_rate_hz) for seconds in (WINDOW_SECONDS, CONTEXT_SECONDS))
        n_windows = 1 if n_samples <= core + 2 * context else -(-n_samples // core)
        edges = np.linspace(0, n_samples, n_windows + 1).astype(int).tolist()
        for first, last in itertools.pairwise(edges):
            yield first, last, max(0, first - context), min(n_samples, last + context)

    def _log_probs(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        logits, mask = self._logits(waves)
        rows = logits.float().log_softmax(-1).cpu().numpy()
        ends = (
            [len(row) for row in rows] if self._output_lengths is None else self._output_lengths(mask.sum(-1)).tolist()
        )
        return [row[:end] for row, end in zip(rows, ends, strict=True)]


def align_words(
    emissions: Emissions, audio: Audio, text: str, tokenizer: Any, blank: int, classes: SoundClasses
) -> Alignment | None:
    """Words in time, from what a CTC model says of the sound; see ``CTCAligner.align``."""
    sounds = [
        (word, [one for one in classes.of_token[list(word.tokens)].tolist() if one])
        for word in spell(text, tokenizer, blank)
    ]
    spoken = [(word, own) for word, own in sounds if own]
    if not spoken:
        return None
    chosen, tokens = np.unique([0, *(one for _, own in spoken for one in own)], return_inverse=True)
    tokens = tokens[1:]  # columns of what follows; the blank's is 0
    log_probs = classes.merged(emissions.log_probs, chosen.tolist())
    path = viterbi(log_probs, tokens.tolist(), 0)
    if path is None:
        return None
    sure_at, sure = _surest(path, log_probs, tokens, emissions.times)
    ends = np.cumsum([len(own) for _, own in spoken])
    of_word = [slice(int(end) - len(own), int(end)) for end, (_, own) in zip(ends, spoken, strict=True)]
    edges = word_edges([WordPeaks(float(sure_at[own][0]), float(sure_at[own][-1])) for own in of_word], audio)
    return Alignment(
        words=tuple(TimedWord(word.start, word.end, *edge) for (word, _), edge in zip(spoken, edges, strict=True)),
        scores=tuple(math.exp(float(sure[own].mean())) for own in of_word),
        confidence=math.exp(float(sure.mean())),
    )


def _surest(
    path: np.ndarray, log_probs: np.ndarray, tokens: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each token the time of the frame of its own in which it is most probable, and its log-probability there."""
    at, best = np.zeros(len(tokens)), np.full(len(tokens), -np.inf)
    for t in np.flatnonzero(path % 2):
        token = path[t] // 2
        value = log_probs[t, tokens[token]]
        if value > best[token]:
            at[token], best[token] = times[t], value
    return at, best


# --- recordings ------------------------------------------------------------------------------------------------------


class Aligner(Protocol):
    """What ``with_word_times`` needs of a ``CTCAligner``."""

    def fingerprint(self) -> str: ...

    def align(self, audios: Sequence[Audio], texts: Sequence[str]) -> list[Alignment | None]: ...


@dataclass(frozen=True, slots=True)
class _Timed:
    """A line of the log: what came of a recording under one aligner. ``alignment`` is missing where there is none."""

    key: str
    alignment: Alignment | None
    reason: str = ""


def with_word_times(
    recordings: Iterable[Recording], plan: AlignerPlan, log: Path | None = None, aligner: Aligner | None = None
) -> Iterator[Recording | RecordingReject]:
    """The recordings with times for their words, in order; those that have them already pass as they are.

    Left out are, with the reason, ``low_confidence`` ones, those whose sound cannot be read (``unreadable_audio``) and those whose
    text does not fit their sound (``words_do_not_match``). ``log`` (a JSONL file) keeps what was found, so that a killed run goes
    on and a second one aligns nothing.
    """
    every = list(recordings)
    if all(recording.words is not None for recording in every):
        yield from every
        return
    aligner = aligner or plan.load()
    fingerprint = aligner.fingerprint()
    with JsonlLog(log, _Timed) if log is not None else nullcontext() as file:
        known = {line.key: line for line in (file.read() if file else ())}
        for block in track([every[k : k + BLOCK] for k in range(0, len(every), BLOCK)], "aligning words"):
            keys = [digest(recording, fingerprint) if recording.words is None else None for recording in block]
            todo = [(key, one) for key, one in zip(keys, block, strict=True) if key is not None and key not in known]
            found = list(_align_block(todo, aligner))
            if file and found:
                file.append(*found)
            known.update((line.key, line) for line in found)
            for key, recording in zip(keys, block, strict=True):
                yield recording if key is None else _judged(recording, known[key], plan)


def _align_block(todo: Sequence[tuple[str, Recording]], aligner: Aligner) -> Iterator[_Timed]:
    heard: list[tuple[str, Recording, Audio]] = []
    for key, recording in todo:
        audio = read_stretch(recording, recording.start_s, recording.start_s + recording.duration_s)
        if audio is None or audio.seconds < MIN_SECONDS or not np.isfinite(audio.samples).all():
            yield _Timed(key, None, "unreadable_audio")
        else:
            heard.append((key, recording, audio))
    if not heard:
        return
    found = aligner.align([audio for _, _, audio in heard], [recording.text for _, recording, _ in heard])
    for (key, _, _), alignment in zip(heard, found, strict=True):
        yield _Timed(key, alignment, "" if alignment else "words_do_not_match")


def _judged(recording: Recording, found: _Timed, plan: AlignerPlan) -> Recording | RecordingReject:
    alignment = found.alignment
    if alignment is None:
        reason: Reason = "unreadable_audio" if found.reason == "unreadable_audio" else "words_do_not_match"
        return RecordingReject(recording.id, reason, "no path of its text through the sound")
    if alignment.confidence < plan.min_confidence:
        return RecordingReject(recording.id, "low_confidence", f"{alignment.confidence:.3f}")
    words = tuple(
        word for word, score in zip(alignment.words, alignment.scores, strict=True) if score >= plan.min_word_confidence
    )
    return replace(recording, words=words)
