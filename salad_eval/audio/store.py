"""Sound kept once, under the hash of its samples, and remembered by what was asked for.

    root/pcm/a/abcdef….wav              16-bit mono WAV; the name is the sha256 of rate and samples
    root/requests/<engine>/<voice>.jsonl  which request gave which sound, one line each, only ever appended to

Speech synthesis is not exact from call to call, so a sound's identity is its hash and a request is only remembered. Any
number of processes may use a store at once and may be killed at any moment: a sound is written under a temporary name
and renamed, a request is noted in one call after its sound is there, and a line that a kill left unfinished is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from salad_eval import records
from salad_eval.audio.sound import BYTES_PER_SAMPLE, WAV_HEADER_BYTES, from_pcm16, pcm_digest, to_pcm16, wav_header
from salad_eval.errors import AudioError, DataError
from salad_eval.formats.cache import cache_root
from salad_eval.types import Audio

_SHA256 = re.compile(r"[0-9a-f]{64}")
_serial = (
    itertools.count()
)  # makes temporary names differ within a process; process and machine make them differ between
_MACHINE = re.sub(r"[^\w-]", "_", socket.gethostname())


def default_root() -> Path:
    """``$SALAD_CACHE/audio`` where the variable is set, else ``~/.cache/salad-gap/audio``."""
    return cache_root() / "audio"


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What was asked of a synthesiser: everything that its sound depends on."""

    tts_fingerprint: str
    voice: str
    spoken_text: str
    perturbation: str

    @property
    def key(self) -> str:
        """128 bits of a hash over the text and the perturbation (hex); engine and voice choose the file."""
        return hashlib.blake2b(f"{self.perturbation}\0{self.spoken_text}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredSound:
    """A sound in the store, without its samples."""

    sha256: str
    sample_rate_hz: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """One line of a request file."""

    key: str
    sha256: str
    sample_rate_hz: int
    n_samples: int


class AudioStore:
    """Sound by hash, and sound by request, under one folder. Opening it writes nothing."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root).expanduser() if root is not None else default_root()
        self._answers: dict[Path, dict[str, StoredSound]] = {}

    # --- by hash

    def path(self, sha256: str) -> Path:
        """Where the sound with this hash lies or would lie. Raises ``AudioError`` for what is not a sha256."""
        if not _SHA256.fullmatch(sha256):
            raise AudioError(f"{sha256!r} is not the sha256 of a sound: expected 64 hexadecimal digits")
        return self.root / "pcm" / sha256[:1] / f"{sha256}.wav"

    def __contains__(self, sha256: object) -> bool:
        return isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None and self.path(sha256).is_file()

    def put(self, audio: Audio) -> str:
        """Keep a sound as 16-bit PCM and return its sha256; one that is there already is not written again."""
        return self.put_sound(audio).sha256

    def put_sound(self, audio: Audio) -> StoredSound:
        """As ``put``, with the length beside the hash."""
        pcm = to_pcm16(audio.samples).tobytes()
        sound = StoredSound(pcm_digest(pcm, audio.sample_rate_hz), audio.sample_rate_hz, len(audio.samples))
        if not self._is_whole(sound):
            self._write(self.path(sound.sha256), wav_header(sound.n_samples, sound.sample_rate_hz) + pcm)
        return sound

    def get(self, sha256: str) -> Audio:
        """The sound with this hash, float32.

        Raises ``AudioError`` where it is missing or no longer what its name says.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except OSError as cause:
            raise AudioError(f"the store at {self.root} has no sound {sha256}: {cause.strerror or cause}") from None
        pcm = data[WAV_HEADER_BYTES:]
        sample_rate_hz = int.from_bytes(data[24:28], "little")
        if len(pcm) % BYTES_PER_SAMPLE or pcm_digest(pcm, sample_rate_hz) != sha256:
            raise AudioError(
                f"{path} is damaged: its samples are not those it is named after. Delete it and render again."
            )
        return Audio(from_pcm16(pcm), sample_rate_hz)

    def _is_whole(self, sound: StoredSound) -> bool:
        """Whether the file is there with the length it should have (a crash of the machine may leave a shorter one)."""
        try:
            size = os.stat(self.path(sound.sha256)).st_size
        except OSError:
            return False
        return size == WAV_HEADER_BYTES + BYTES_PER_SAMPLE * sound.n_samples

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{_MACHINE}-{os.getpid()}-{next(_serial)}.tmp")
        try:
            try:
                _write_file(temporary, data)
            except FileNotFoundError:  # the first sound of its shard
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_file(temporary, data)
            os.replace(temporary, path)
        except OSError as cause:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise AudioError(f"cannot write {path}: {cause.strerror or cause}") from None

    # --- by request

    def find(self, request: SpeechRequest) -> StoredSound | None:
        """The sound that an equal request gave before, if it is still there, whole."""
        sound = self._load(self._request_file(request)).get(request.key)
        return sound if sound is not None and self._is_whole(sound) else None

    def remember(self, answers: Mapping[SpeechRequest, StoredSound]) -> None:
        """Note which sounds answered which requests. Call it after ``put``; the last note for a request counts."""
        lines: dict[Path, list[str]] = {}
        for request, sound in answers.items():
            file = self._request_file(request)
            self._load(file)[request.key] = sound
            answer = _Answer(request.key, sound.sha256, sound.sample_rate_hz, sound.n_samples)
            lines.setdefault(file, []).append(records.dumps(answer))
        for file, new in lines.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            # A newline comes first as well: a line that another process left unfinished must not swallow this one.
            data = "\n".join(["", *new, ""]).encode()
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)

    def _request_file(self, request: SpeechRequest) -> Path:
        return self.root / "requests" / _short(request.tts_fingerprint) / f"{_short(request.voice)}.jsonl"

    def _load(self, file: Path) -> dict[str, StoredSound]:
        """The notes of one engine and voice, read once."""
        if file not in self._answers:
            self._answers[file] = self.notes(file)
        return self._answers[file]

    # --- for upkeep

    def request_files(self) -> Iterator[Path]:
        """The files of notes, one an engine and voice."""
        yield from sorted((self.root / "requests").glob("*/*.jsonl"))

    def notes(self, file: Path) -> dict[str, StoredSound]:
        """The notes in a file by the request's key, the last for each; an unfinished line is skipped."""
        answers: dict[str, StoredSound] = {}
        for line in file.read_bytes().splitlines() if file.exists() else ():
            try:
                answer = records.loads(_Answer, line)
            except DataError:
                continue
            answers[answer.key] = StoredSound(answer.sha256, answer.sample_rate_hz, answer.n_samples)
        return answers

    def write_notes(self, file: Path, notes: Mapping[str, StoredSound]) -> None:
        """Put these notes in the place of a file's."""
        lines = [
            records.dumps(_Answer(key, sound.sha256, sound.sample_rate_hz, sound.n_samples)) + "\n"
            for key, sound in notes.items()
        ]
        self._write(file, "".join(lines).encode())


def _write_file(path: Path, data: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        rest = memoryview(data)
        while rest:  # one call may write less than it was given
            rest = rest[file.write(rest) :]


@lru_cache(maxsize=1024)
def _short(text: str) -> str:
    """A readable file name for any string: its plain beginning and a hash."""
    plain = re.sub(r"[^A-Za-z0-9.=-]+", "_", text)[:40].strip("_.")
    return f"{plain}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
