"""Natural speech as a ``Speaker``: the stretch of a recording that says a span."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np

from salad_eval.errors import DataError
from salad_eval.identity import digest
from salad_eval.types import Audio
from salad_train.speech.manifests import MIN_SPAN_SECONDS, Recording, TimedWord
from salad_train.speech.utterances import Utterance


class NaturalSpeaker:
    """``Speaker`` that says a span by playing the stretch of the recording in which it is said: from halfway into the pause
    before its first word to halfway into the one after its last. The voice asked for makes no difference."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self._recordings = {recording.id: recording for recording in recordings}

    @cached_property
    def _fingerprint(self) -> str:
        recordings = self._recordings.values()
        return digest([_file_state(recording.audio) for recording in recordings], *recordings)

    def fingerprint(self) -> str:
        """Of the recordings, and of the sizes and times of change of their files."""
        return self._fingerprint

    def key(self, utterance: Utterance) -> str:
        recording = self._recording(utterance)
        stretch = stretch_of(recording, utterance.start, utterance.end)
        times = "none" if stretch is None else f"{stretch[0]:.6f}:{stretch[1]:.6f}"
        stated = f"{recording.id}\0{recording.audio}\0{_file_state(recording.audio)}\0{recording.channel}\0{times}"
        if stretch is None:
            stated += f"\0{utterance.start}:{utterance.end}"
        return hashlib.sha256(stated.encode()).hexdigest()[:32]

    def speak(self, utterances: Sequence[Utterance]) -> Iterator[Audio | None]:
        """``None`` for a span with a word whose times are not known, and for one whose file cannot be read (any more)."""
        for utterance in utterances:
            recording = self._recording(utterance)
            stretch = stretch_of(recording, utterance.start, utterance.end)
            yield None if stretch is None else read_stretch(recording, *stretch)

    def _recording(self, utterance: Utterance) -> Recording:
        try:
            return self._recordings[utterance.document_id]
        except KeyError:
            raise DataError(
                f"no recording has the id {utterance.document_id!r}; the documents that are heard must be the speaker's recordings."
            ) from None


@lru_cache(maxsize=1 << 16)
def _file_state(path: str) -> str:
    """What changes when a file does, without reading it: its size and time of change; empty where it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def stretch_of(recording: Recording, start: int, end: int) -> tuple[float, float] | None:
    """When ``text[start:end]`` is said, in seconds of the file; ``None`` where a word in it has no times or reaches beyond it."""
    words = recording.words or ()
    inside = [k for k, word in enumerate(words) if word.start_char < end and word.end_char > start]
    if not inside or not _all_timed(recording.text, [words[k] for k in inside], start, end):
        return None
    begin = _pause_before(recording, words, inside[0])
    finish = _pause_after(recording, words, inside[-1], max(words[k].end_s for k in inside))
    if finish - begin < MIN_SPAN_SECONDS:
        return None
    return recording.start_s + begin, recording.start_s + finish


def _all_timed(text: str, words: Sequence[TimedWord], start: int, end: int) -> bool:
    """Whether ``words`` are all that is said in ``text[start:end]``, and none of them reaches beyond it."""
    if words[0].start_char < start or words[-1].end_char > end:
        return False
    edges = [start, *(edge for word in words for edge in (word.start_char, word.end_char)), end]
    return not any(_has_letters(text, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _pause_before(recording: Recording, words: Sequence[TimedWord], first: int) -> float:
    """The middle of the pause before a word, where it is known where that began: not after a word without times."""
    begin = words[first].start_s
    earlier = words[first - 1] if first else None
    if _has_letters(recording.text, earlier.end_char if earlier else 0, words[first].start_char):
        return begin
    return ((earlier.end_s if earlier else 0.0) + begin) / 2


def _pause_after(recording: Recording, words: Sequence[TimedWord], last: int, finish: float) -> float:
    """The middle of the pause that begins at ``finish``, after a word, where it is known where it ends."""
    later = words[last + 1] if last + 1 < len(words) else None
    if _has_letters(recording.text, words[last].end_char, later.start_char if later else len(recording.text)):
        return finish
    return (finish + (later.start_s if later else recording.duration_s)) / 2


def _has_letters(text: str, start: int, end: int) -> bool:
    return any(map(str.isalnum, text[start:end]))


def read_stretch(recording: Recording, start_s: float, end_s: float) -> Audio | None:
    """Mono sound between two times of the recording's file, at the file's own rate; nothing else of the file is decoded.

    ``None`` where it cannot be read.
    """
    import soundfile

    try:
        with soundfile.SoundFile(recording.audio) as file:
            rate, length = file.samplerate, file.frames
            first, last = round(start_s * rate), min(round(end_s * rate), length)
            if first >= last or not file.seekable():
                return None
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError):
        return None
    chosen = recording.channel if recording.channel is not None and recording.channel < samples.shape[1] else None
    mono = samples.mean(axis=1, dtype=np.float32) if chosen is None else samples[:, chosen]
    return Audio(np.ascontiguousarray(mono), int(rate)) if len(mono) else None
