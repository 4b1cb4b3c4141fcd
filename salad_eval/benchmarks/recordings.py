"""Ready sound as items: natural recordings, or a rendered benchmark that somebody shared, in place of a TTS.

A task names where its sound lies (``metadata.salad.audio``, ``reader.AudioSource``). Reading the items finds each
recording without opening it; the render step reads, checks and keeps it. What is dead, undecodable, empty or absurdly long
is a counted reject of that step: an item of such a task is never spoken by a TTS and never asked from its text alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np

from salad_eval.audio import sound
from salad_eval.audio.perturb import canonical, perturbation
from salad_eval.audio.store import AudioStore, SpeechRequest
from salad_eval.audio.tables import AudioCell, CellReader, EncodedAudio, encoded
from salad_eval.benchmarks.spec import AudioSource
from salad_eval.benchmarks.templates import MissingField, template
from salad_eval.errors import AudioError, SaladError, TaskError, UserInputError, did_you_mean
from salad_eval.progress import track
from salad_eval.records import parse_json
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import CLEAN, Audio, Item, Recording, Reject, Rendering

STEP = "render"
VERSION = "1"  # raised whenever equal files come to give another sound
MAX_SECONDS = 600.0  # no spoken question is longer; more is another text, or a file made to fill the memory
MAX_BYTES = 512 << 20  # of a file: ten minutes of two channels at 96 kHz and 32 bit
# People pause and breathe, and recordings begin and end in silence: more room than what a synthesiser is given.
MAX_SECONDS_EXTRA = 30.0
# Of a recording driven into the ceiling speech is still understood at some per cent; a tenth is a square wave.
MAX_CLIPPED_SHARE = 0.1
# What manifests call the file, its speaker and the spoken part that it says; ``salad render`` writes the first of each.
FILE_FIELDS = ("file", "audio", "audio_path", "audio_filepath", "wav", "path")
VOICE_FIELDS = ("voice", "speaker", "speaker_id")
PART_FIELD = "part"
UNNAMED_VOICE = "recorded"

Problem = Literal["empty", "nan", "clipped", "silent", "too_short", "too_long"]
Row = Mapping[str, Any]


class NoRecording(Exception):
    """A row for which no recording can be named; becomes a reject with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


# --- where a row's sound lies ----------------------------------------------------------------------------------------


class RecordingFinder:
    """The recordings of a task's rows. Raises ``TaskError`` on being made where a source names no column or no manifest.

    ``folders``: where files that a row names are looked for, in order; a file outside of them is not read, since rows come
    from strangers. ``where`` names the task in errors.
    """

    def __init__(
        self, sources: Sequence[AudioSource], columns: frozenset[str], folders: Sequence[Path], where: str
    ) -> None:
        self._sources = [_Source(source, columns, folders, f"{where}, metadata.salad.audio") for source in sources]

    def find(self, row: Row, parts: Sequence[str]) -> tuple[Recording, ...]:
        """The recordings of the spoken ``parts`` of a row's question, for each at least one.

        Raises ``NoRecording`` where a value is missing, or recordings cannot be told apart, and ``TaskError`` where it is not clear
        which part is recorded.
        """
        found = list(dict.fromkeys(one for source in self._sources for one in source.find(row, parts)))
        if silent := [part for part in parts if part not in {recording.part for recording in found}]:
            if any(source.says_part for source in self._sources):
                raise NoRecording("not in the manifest", f"a recording of the spoken part {silent[0]!r}")
            raise TaskError(
                f"{self._sources[0].where}: the spoken part {silent[0]!r} has no recording; an item is recorded whole or spoken whole. "
                f"Give a list with one source a part, or leave {silent[0]!r} out of spoken_text and spoken_choices."
            )
        said = Counter((recording.part, recording.voice, recording.perturbation) for recording in found)
        (part, voice, _), n = said.most_common(1)[0]
        if n > 1:
            raise NoRecording(
                "several recordings in one voice",
                f"{n} of {part!r} by {voice!r}: name the field that tells their speakers apart as audio.voice",
            )
        return tuple(found)


def _part(source: AudioSource, parts: Sequence[str], where: str) -> str:
    if source.part is None and len(parts) == 1:
        return parts[0]
    if source.part is None or source.part not in parts:
        problem = "is not given" if source.part is None else f"is {source.part!r}{did_you_mean(source.part, parts)}"
        raise TaskError(f"{where}.part {problem}; the spoken parts are {', '.join(parts)}.")
    return source.part


class _Source:
    """One ``AudioSource`` over the rows of a table."""

    def __init__(self, source: AudioSource, columns: frozenset[str], folders: Sequence[Path], where: str) -> None:
        self.source, self.where = source, where
        self._folders = [_folder(source.folder, folders[0], where)] if source.folder is not None else list(folders)
        self._listed: Mapping[str, Sequence[Row]] | None = None
        if source.column is not None and source.column not in columns:
            raise TaskError(
                f"{where}.column is {source.column!r}, which is no column of the data{did_you_mean(source.column, columns)}. "
                f"Columns: {', '.join(sorted(columns))}."
            )
        if source.manifest is not None:
            if source.key not in columns:
                raise TaskError(
                    f"{where}.key is {source.key!r}, which is no column of the data{did_you_mean(source.key, columns)}. "
                    f"Columns: {', '.join(sorted(columns))}."
                )
            manifest = _existing(source.manifest, self._folders, where)
            self._listed = _manifest(manifest, source.key)
            self._folders = [manifest.parent]
        listed = {name for rows in (self._listed or {}).values() for one in rows for name in one}
        self._columns = columns | listed
        self._file = source.file if source.file is not None else _named(listed, FILE_FIELDS) or FILE_FIELDS[0]
        self._voice = source.voice if source.voice is not None else _named(listed, VOICE_FIELDS) or UNNAMED_VOICE
        self.says_part = PART_FIELD in listed
        if source.column is None and self._file not in self._columns and "{" not in self._file:
            raise TaskError(
                f"{where}.file is {self._file!r}, which is neither a field{did_you_mean(self._file, self._columns)} nor a template. "
                f"Fields: {', '.join(sorted(self._columns))}."
            )

    def find(self, row: Row, parts: Sequence[str]) -> list[Recording]:
        """The recordings that this source has of a row's spoken ``parts``."""
        if self._listed is None:
            return [self._recording(row, _part(self.source, parts, self.where))]
        key = row.get(self.source.key)
        listed = self._listed.get(str(key), ())
        if not listed:
            raise NoRecording("not in the manifest", f"{self.source.key} {key!r:.80}")
        found = []
        for one in listed:
            if not self.says_part:
                part = _part(self.source, parts, self.where)
            else:  # one manifest may hold several parts: those that are not asked for, and other sources', are passed over
                part = str(one.get(PART_FIELD))
                if part not in parts or self.source.part not in (None, part):
                    continue
            found.append(self._recording({**row, **one}, part))
        return found

    def _recording(self, row: Row, part: str) -> Recording:
        voice = self._value(self._voice, row, "voice").strip()
        if not voice:
            raise NoRecording("missing field", "audio.voice is empty")
        try:
            done = canonical(self._value(self.source.perturbation, row, "perturbation"))
        except UserInputError as cause:
            raise NoRecording("unknown perturbation", str(cause)) from None
        text = None if self.source.text is None else self._value(self.source.text, row, "text").strip()
        file, cell = self._place(row)
        return Recording(part, voice, done, text, file, cell.column if cell else None, cell.row if cell else None)

    def _place(self, row: Row) -> tuple[str, AudioCell | None]:
        if self.source.column is None:
            return self._path(self._value(self._file, row, "file").strip()), None
        value = row.get(self.source.column)
        if isinstance(value, AudioCell):
            return value.table, value
        if value is None:
            raise NoRecording("no audio", f"column {self.source.column} is null")
        try:
            path = encoded(value, f"column {self.source.column}").path
        except AudioError as cause:
            raise NoRecording("no audio", str(cause)) from None
        if path is None:
            raise NoRecording("no audio", f"column {self.source.column} holds bytes outside of a Parquet file")
        return self._path(path), None

    def _path(self, path: str) -> str:
        """The file in the first folder that has it (the first folder where none does: the render step then counts it)."""
        if not path:
            raise NoRecording("no audio", "the path is empty")
        inside = [found for folder in self._folders if (found := within(folder, path)) is not None]
        if not inside and os.path.isabs(path):  # what the datasets library has unpacked from a hub
            inside = [found for folder in _caches() if (found := within(folder, path)) is not None]
        if not inside:
            raise NoRecording(
                "audio file outside of the data's folder",
                f"{path!r:.120} is not in {self._folders[0]}; where that is meant, name its folder as audio.folder",
            )
        return str(next((file for file in inside if file.is_file()), inside[0]))

    def _value(self, source: str, row: Row, what: str) -> str:
        if source in self._columns:
            if row.get(source) is None:
                raise NoRecording("missing field", f"audio.{what}: {source}")
            return str(row[source])
        if "{" not in source:
            return source
        try:
            return template(source).render(**row)
        except (jinja2.UndefinedError, MissingField) as cause:
            raise NoRecording("missing field", f"audio.{what}: {cause}") from None
        except Exception as cause:  # a template may fail in any way a row makes it
            raise NoRecording("template failed", f"audio.{what}: {type(cause).__name__}: {cause}") from None


def within(folder: Path, path: str) -> Path | None:
    """``path`` under ``folder`` (or absolute and inside it); ``None`` where it leads out of it or is no path.

    By its name alone: a link inside the folder was put there by who owns the folder.
    """
    if "\0" in path:
        return None
    root = os.path.abspath(folder)
    found = os.path.normpath(os.path.join(root, path))
    return Path(found) if found.startswith(root.rstrip(os.sep) + os.sep) else None


@cache
def _caches() -> tuple[Path, ...]:
    """Where public data sets are kept once they were fetched."""
    from datasets import config
    from huggingface_hub import constants

    return Path(config.HF_DATASETS_CACHE), Path(config.DOWNLOADED_DATASETS_PATH), Path(constants.HF_HUB_CACHE)


def _folder(written: str, beside: Path, where: str) -> Path:
    folder = beside / Path(written).expanduser()
    if not folder.is_dir():
        raise TaskError(f"{where}.folder is {written!r}, and there is no folder {folder}.")
    return folder


def _existing(written: str, folders: Sequence[Path], where: str) -> Path:
    candidates = [folder / Path(written).expanduser() for folder in folders]
    for file in candidates:
        if file.is_file():
            return file.absolute()
    looked = " and ".join(map(str, dict.fromkeys(candidates)))
    raise TaskError(f"{where}.manifest is {written!r}, and there is no such file (looked at {looked}).")


def _named(fields: set[str], names: Sequence[str]) -> str | None:
    """The first of ``names`` that is among the fields."""
    return next((name for name in names if name in fields), None)


def _manifest(file: Path, key: str) -> dict[str, list[Row]]:
    """The rows of a JSONL by their ``key``."""
    listed: dict[str, list[Row]] = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as cause:
        raise TaskError(f"cannot read the manifest {file}: {cause.strerror or cause}.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as cause:
            raise TaskError(f"{file}, line {number}: is not JSON: {cause}.") from None
        if not isinstance(row, dict) or row.get(key) is None:
            raise TaskError(f"{file}, line {number}: has no {key!r}, which says whose sound it is (audio.key).")
        listed.setdefault(str(row[key]), []).append(row)
    return listed


# --- an item's recordings --------------------------------------------------------------------------------------------


def of_shot(recordings: Iterable[Recording], name: str) -> tuple[Recording, ...]:
    """The recordings of a row that is asked as an example: its parts are named after it."""
    return tuple(replace(recording, part=f"{name}.{recording.part}") for recording in recordings)


def arranged(recordings: Sequence[Recording], parts: Sequence[str]) -> tuple[Recording, ...]:
    """The recordings by voice, so that every voice has every part.

    The voices are those of the last part (the question, after its examples and its passage). Where another part was not recorded in
    a voice, its first recording stands for it: the examples may have been read by one speaker only. ``parts`` are in prompt order.
    """
    by_key = {(r.part, r.voice, r.perturbation): r for r in recordings}
    first: dict[tuple[str, str], Recording] = {}
    for recording in recordings:
        first.setdefault((recording.part, recording.perturbation), recording)
    made = []
    for voice, done in dict.fromkeys((r.voice, r.perturbation) for r in recordings if r.part == parts[-1]):
        for part in parts:
            found = by_key.get((part, voice, done)) or first.get((part, done)) or first.get((part, CLEAN))
            if found is not None:
                made.append(replace(found, voice=voice, perturbation=done))
    return tuple(made)


def joined(item: Item, other: Item) -> Item | None:
    """``item`` with the recordings of ``other`` as well; ``None`` where they differ in more, or one is there already."""
    if replace(item, recordings=()) != replace(other, recordings=()) or not other.recordings:
        return None
    there = {(r.part, r.voice, r.perturbation) for r in item.recordings}
    if any((r.part, r.voice, r.perturbation) in there for r in other.recordings):
        return None
    return replace(item, recordings=item.recordings + other.recordings)


def voices_of(items: Iterable[Item]) -> tuple[str, ...]:
    """The speakers of the items that are recorded, sorted."""
    return tuple(sorted({recording.voice for item in items for recording in item.recordings}))


# --- the render step -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """One recording of a spoken part under one perturbation.

    ``spoken_text`` is empty where it is not known in words what is said; ``written`` is the part as it is written. ``content``: sha256
    of the bytes as they are kept in the file.
    """

    item_id: str
    part: str
    voice: str
    perturbation: str
    spoken_text: str
    written: str
    recording: Recording
    content: str


def recorded_jobs(items: Iterable[Item], perturbations: Sequence[str]) -> tuple[list[RecordedJob], list[Reject]]:
    """The jobs that make every recording of the items usable under every perturbation, and the items that cannot be heard.

    Every file is read once here, for its hash: a file that changes under its name is another sound. An item with a recording that
    cannot be read, or with none under a perturbation, has one reject and no job. A recording that was made under a perturbation
    stands for it; the clean one is perturbed for the others.
    """
    jobs: list[RecordedJob] = []
    rejects: list[Reject] = []
    reader = SoundReader()
    recorded = [item for item in items if item.recordings]
    for item in track(recorded, "recordings"):
        try:
            jobs += _jobs_of(item, perturbations, reader)
        except NoRecording as cause:
            rejects.append(Reject(item.id, STEP, cause.reason, cause.detail))
    return jobs, rejects


def unheard(items: Iterable[Item]) -> list[Reject]:
    """The items with ready sound that a run would reject, one reject each: every file is read and decoded, and nothing is kept."""
    jobs, rejects = recorded_jobs(items, (CLEAN,))
    reader = SoundReader()
    found = {reject.item_id: reject for reject in rejects}
    for job in track(jobs, "sound"):
        if job.item_id not in found:
            try:
                _heard(job, reader)
            except NoRecording as cause:
                found[job.item_id] = Reject(job.item_id, STEP, cause.reason, cause.detail)
    return list(found.values())


def _jobs_of(item: Item, perturbations: Sequence[str], reader: SoundReader) -> list[RecordedJob]:
    by_key = {(r.voice, r.part, r.perturbation): r for r in item.recordings}
    content: dict[Recording, str] = {}
    jobs = []
    for voice in dict.fromkeys(r.voice for r in item.recordings):
        for name in perturbations:
            for part in item.spoken_parts:
                recording = by_key.get((voice, part.name, name)) or by_key.get((voice, part.name, CLEAN))
                if recording is None:
                    raise NoRecording(
                        "no recording", f"part {part.name!r} in voice {voice!r}, neither {name} nor clean"
                    )
                if recording not in content:
                    content[recording] = hashlib.sha256(reader.read(recording)).hexdigest()
                written = item.part_text(part)
                said = _said(written, recording)
                jobs.append(RecordedJob(item.id, part.name, voice, name, said, written, recording, content[recording]))
    return jobs


def _said(written: str, recording: Recording) -> str:
    """What is said in a recording, in words; empty where the written form has none (the speaker found some: it is heard all the same)."""
    if recording.spoken_text is not None:
        return recording.spoken_text
    try:
        return to_spoken(written)
    except Unspeakable:
        return ""


def render_recorded(jobs: Iterable[RecordedJob], store: AudioStore) -> Iterator[Rendering | Reject]:
    """Decode, check, perturb and keep the jobs' recordings; one ``Rendering`` or ``Reject`` each, in their order.

    A recording that the store remembers, by its content, is not decoded again. Raises ``SaladError`` where a file changes meanwhile.
    """
    reader = SoundReader()
    engine = f"recorded-{VERSION}|{sound.versions()}"
    for job in jobs:
        request = SpeechRequest(
            engine, "recorded", f"{job.content}\n{job.spoken_text or job.written}", job.perturbation
        )
        stored = store.find(request)
        if stored is None:
            try:
                heard = _heard(job, reader)
            except NoRecording as cause:
                yield Reject(job.item_id, STEP, cause.reason, cause.detail)
                continue
            done = job.recording.perturbation == job.perturbation
            stored = store.put_sound(heard if done else perturbation(job.perturbation)(heard))
            store.remember({request: stored})
        yield Rendering(
            job.item_id,
            job.part,
            job.voice,
            job.perturbation,
            job.spoken_text,
            stored.sha256,
            stored.sample_rate_hz,
            stored.n_samples,
        )


def _heard(job: RecordedJob, reader: SoundReader) -> Audio:
    data = reader.read(job.recording)
    if hashlib.sha256(data).hexdigest() != job.content:
        raise SaladError(f"{job.recording.file} changed while it was being read; start the run again.")
    try:
        decoded = decode(data)
    except AudioError as cause:
        raise NoRecording("undecodable audio", f"{place(job.recording)}: {cause}") from None
    text = job.spoken_text or job.written
    if (found := recording_problem(decoded, text)) is not None:
        raise NoRecording(found, f"{place(job.recording)}: {decoded.seconds:.2f} s for {text!r:.80} by {job.voice}")
    return sound.resample(decoded, sound.SAMPLE_RATE_HZ)


def place(recording: Recording) -> str:
    """Where a recording lies, for messages."""
    cell = f", column {recording.column}, row {recording.row}" if recording.column is not None else ""
    return recording.file + cell


class SoundReader:
    """The encoded bytes of recordings; those of a table are read a row group at a time."""

    def __init__(self) -> None:
        self._cells = CellReader()

    def read(self, recording: Recording) -> bytes:
        """Raises ``NoRecording`` where there is no such file, or nothing in it."""
        found = EncodedAudio(None, recording.file)
        if recording.column is not None and recording.row is not None:
            try:
                found = self._cells.read(recording.file, recording.column, recording.row)
            except AudioError as cause:
                raise NoRecording("no audio", str(cause)) from None
        if found.data is not None:
            return found.data
        file = _file_of(recording, found.path or "")
        try:
            state = file.stat()
            if not stat.S_ISREG(state.st_mode):
                raise NoRecording("no audio file", f"{file}: is not a file")
            if state.st_size > MAX_BYTES:
                raise NoRecording("too_long", f"{file}: {state.st_size >> 20} MB")
            data = file.read_bytes()
        except (OSError, ValueError) as cause:
            reason = getattr(cause, "strerror", None) or cause
            raise NoRecording("no audio file", f"{file}: {reason}") from None
        if not data:
            raise NoRecording("empty", f"{file}: the file has no bytes")
        return data


def _file_of(recording: Recording, path: str) -> Path:
    """The file that a recording names; a table names files in its own folder and no others."""
    if recording.column is None:
        return Path(path)
    file = within(Path(recording.file).parent, path)
    if file is None:
        raise NoRecording("audio file outside of the data's folder", f"{place(recording)} names {path!r:.120}")
    return file


# --- sound -----------------------------------------------------------------------------------------------------------


def decode(data: bytes, max_seconds: float = MAX_SECONDS) -> Audio:
    """Encoded audio (WAV, FLAC, OGG, MP3: what libsndfile reads) as mono float32 at its own rate; channels are averaged.

    At most a little more than ``max_seconds`` are decoded, whatever the header promises: a file of some kilobytes may hold days of
    silence. Raises ``AudioError`` where it cannot be decoded.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            most = int((max_seconds + 1) * file.samplerate)
            samples = file.read(most, dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as cause:
        raise AudioError(f"{type(cause).__name__}: {cause}") from None
    return Audio(np.ascontiguousarray(samples.mean(axis=1, dtype=np.float32)), rate)


def recording_problem(audio: Audio, spoken_text: str) -> Problem | None:
    """Why ``audio`` cannot be a recording of ``spoken_text``, or ``None``. Laxer than ``sound.problem``, which judges synthesis.

    - ``empty``, ``nan``, ``silent``: as there. ``clipped``: more than ``MAX_CLIPPED_SHARE`` of the samples at the ceiling.
    - ``too_short``: less audible sound than anybody can say the text in: words are missing, or it is another text.
    - ``too_long``: above ``MAX_SECONDS``, or above ``MAX_SECONDS_EXTRA`` plus ``sound.MAX_SECONDS_PER_CHAR`` a character.

    A recording may begin and end in noise, so that its end is not judged.
    """
    samples = audio.samples
    if len(samples) == 0:
        return "empty"
    if audio.seconds > min(MAX_SECONDS, MAX_SECONDS_EXTRA + sound.MAX_SECONDS_PER_CHAR * len(spoken_text)):
        return "too_long"
    peak = float(np.max(np.abs(samples)))
    if not np.isfinite(peak):
        return "nan"
    if np.count_nonzero(np.abs(samples) >= sound.CLIP_LEVEL) > MAX_CLIPPED_SHARE * len(samples):
        return "clipped"
    audible = np.flatnonzero(sound.frame_rms(samples, audio.sample_rate_hz) > sound.SILENCE_RMS)
    if len(audible) == 0:
        return "silent"
    n_chars = sum(character.isalnum() for character in spoken_text)
    if (audible[-1] + 1 - audible[0]) * sound.FRAME_SECONDS < sound.MIN_SECONDS_PER_CHAR * n_chars:
        return "too_short"
    return None
