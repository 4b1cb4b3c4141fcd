"""Natural speech by manifest: which stretch of which file says which text, and when each word is said.

Read are Lhotse's cuts and supervisions (LibriHeavy's among them), and plain rows (JSONL, Parquet) with the path of a sound
and its text, as Emilia, NeMo and many others have them. ``NaturalSpeaker`` then gives the sound of any span of a text.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from salad_eval.errors import DataError, UserInputError
from salad_eval.identity import digest
from salad_eval.progress import track
from salad_eval.records import is_text
from salad_eval.resources import resolve_path
from salad_train.corpus.rows import Row, file_rows, find_files
from salad_train.types import CorpusReject

Reason = Literal[
    "malformed",
    "unsupported",
    "no_text",
    "dead_path",
    "unreadable_audio",
    "beyond_audio",
    "duration_differs",
    "too_long",
    "times_go_backwards",
    "shorter_than_words",
    "words_do_not_match",
    "duplicate_id",
    "no_word_times",
    "low_confidence",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
N_EXAMPLES = 5
# Times in manifests are rounded, and files end a codec frame early or late.
TOLERANCE_SECONDS = 0.1
MIN_SPAN_SECONDS = 0.05  # less holds no word, and does not fit into an encoder's first convolutions
PAUSE_SECONDS = 0.15  # a silence that is heard as a pause and not as the closure of a stop

AUDIO_FIELDS = ("audio", "audio_path", "audio_filepath", "wav", "path", "file")
TEXT_FIELDS = ("text", "transcript", "transcription", "sentence", "normalized_text")
ID_FIELDS = (
    "utt_id",
    "segment_id",
    "id",
)  # what is an utterance's own before what its text may be called, whoever reads it
START_FIELDS = ("start", "start_s", "offset")
DURATION_FIELDS = ("duration", "duration_s")
WORDS_FIELDS = ("words", "alignment")
_FIELDS = (
    *AUDIO_FIELDS, *TEXT_FIELDS, *ID_FIELDS, *START_FIELDS, *DURATION_FIELDS, *WORDS_FIELDS,
    "channel", "supervisions", "recording", "recording_id", "tracks", "custom",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimedWord:
    """``text[start_char:end_char]`` is said from ``start_s`` to ``end_s``, in seconds from the beginning of its recording."""

    start_char: int
    end_char: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A stretch of a sound file and what is said in it.

    Attributes:
        audio: path of the file; ``channel``: the one to hear, from 0; ``None`` averages them all.
        start_s, duration_s: the stretch, in seconds of the file.
        words: in the order of the text; ``None`` where no times are known. A word may be missing: it then has no times.
    """

    id: str
    domain: str
    text: str
    audio: str
    start_s: float
    duration_s: float
    words: tuple[TimedWord, ...] | None = None
    channel: int | None = None

    @property
    def borders(self) -> tuple[int, ...]:
        """Where the text would like to be cut: after words that a pause follows. There nothing of the one is heard in the
        next."""
        words = self.words or ()
        return tuple(
            _end_of_written_word(self.text, word.end_char)
            for word, following in itertools.pairwise(words)
            if following.start_s - word.end_s >= PAUSE_SECONDS
        )


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """Where a manifest is and how to read it.

    Attributes:
        source: a .jsonl, .jsonl.gz or .parquet file, a folder of them or a glob pattern. Cuts, supervisions and plain rows are
            told apart by their fields.
        recordings: Lhotse's recordings manifest, which supervisions refer to; cuts hold their own.
        audio_root: relative paths of sounds begin here; by default in the manifest's folder.
        text_field, audio_field: of plain rows, where they are not among ``TEXT_FIELDS`` and ``AUDIO_FIELDS``.
        domain: a label for tables; ``domain_field``: a field of plain rows that holds it.
        max_recordings: reading stops when so many are kept. max_seconds: longer ones are left out.
    """

    source: str | None = None
    recordings: str | None = None
    audio_root: str | None = None
    text_field: str | None = None
    audio_field: str | None = None
    domain: str = ""
    domain_field: str | None = None
    max_recordings: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_recordings is not None and self.max_recordings < 1:
            raise UserInputError(f"max_recordings is {self.max_recordings}; expected at least 1, or nothing for all.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UserInputError(f"max_seconds is {self.max_seconds}; expected more than 0, or nothing for any length.")


@dataclass(frozen=True, slots=True)
class RecordingReject:
    """A row that is no usable recording, and why."""

    id: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Recordings:
    """What was read and kept, in the order of the source, and what was not."""

    recordings: tuple[Recording, ...]
    rejects: tuple[CorpusReject, ...]
    fingerprint: str

    @property
    def seconds(self) -> float:
        return math.fsum(recording.duration_s for recording in self.recordings)


def read_recordings(plan: ManifestPlan, key: str = "manifest") -> Recordings:
    """The recordings of a manifest whose sound is there; ``key`` names the plan in errors.

    Raises ``UserInputError`` where no source is stated and ``DataError``, with the counts, where nothing is left.
    """
    return collect(track(iter_recordings(plan, key), "reading manifest"), f"{key} ({plan.source})", plan.max_recordings)


def iter_recordings(plan: ManifestPlan, key: str = "manifest") -> Iterator[Recording | RecordingReject]:
    """The rows of a manifest one at a time, as recordings or with the reason why not; memory stays flat but for the ids."""
    if not plan.source or not plan.source.strip():
        raise UserInputError(
            f"{key}.source is not set: this recipe needs a manifest of recordings of your own. Give its path: "
            f"--set {key}.source=/path/to/manifest.jsonl.gz, or leave this part out: --set {key}=null."
        )
    files = _found(plan.source, f"{key}.source")
    known = _lhotse_recordings(plan.recordings, f"{key}.recordings") if plan.recordings else {}
    own = (plan.text_field, plan.audio_field, plan.domain_field)
    wanted = frozenset((*_FIELDS, *(name for name in own if name)))
    seen: set[bytes] = set()
    for file in files:
        root = resolve_path(plan.audio_root) if plan.audio_root else file.path.parent
        for row in file_rows([file], wanted):
            for found in _recordings_of(row, plan, root, known):
                if isinstance(found, Recording):
                    mark = hashlib.blake2b(found.id.encode(), digest_size=16).digest()
                    if mark in seen:
                        found = RecordingReject(found.id, "duplicate_id")
                    seen.add(mark)
                yield found


def collect(
    candidates: Iterable[Recording | RecordingReject], where: str, max_recordings: int | None = None
) -> Recordings:
    """Keep the recordings, count the rest by reason. Raises ``DataError`` listing the counts where nothing is left."""
    kept: list[Recording] = []
    counts: dict[Reason, int] = {}
    examples: dict[Reason, list[str]] = {}
    for candidate in candidates:
        if isinstance(candidate, Recording):
            kept.append(candidate)
            if len(kept) == max_recordings:
                break
            continue
        counts[candidate.reason] = counts.get(candidate.reason, 0) + 1
        shown = examples.setdefault(candidate.reason, [])
        if len(shown) < N_EXAMPLES:
            shown.append(f"{candidate.id} ({candidate.detail:.120})" if candidate.detail else candidate.id)
    rejects = tuple(CorpusReject(r, counts[r], tuple(examples[r])) for r in REASONS if r in counts)
    if not kept:
        if not rejects:
            raise DataError(f"{where} holds no recordings.")
        listing = "; ".join(f"{reject.n} {reject.reason} (such as {reject.examples[0]})" for reject in rejects)
        raise DataError(f"{where}: none of {sum(counts.values())} recordings can be used: {listing}.")
    return Recordings(tuple(kept), rejects, digest(*kept))


def _found(source: str, key: str) -> list[Any]:
    try:
        return find_files([source])
    except DataError as cause:
        raise DataError(f"{key}: {str(cause).removeprefix('corpus ')}") from None


class _Reject(Exception):
    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


_Words: TypeAlias = Sequence[tuple[str, float, float]]  # word, start and end in seconds of the recording


@dataclass(frozen=True, slots=True)
class _File:
    """A sound file, and how long it is said to be, where that is said."""

    path: Path
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a row says, before it is checked against the file."""

    id: str
    domain: str
    text: object
    file: _File
    start_s: float
    duration_s: float | None
    words: _Words | None
    channel: int | None


def _recordings_of(
    row: Row, plan: ManifestPlan, root: Path, known: Mapping[str, _File | _Reject]
) -> Iterator[Recording | RecordingReject]:
    if row.fault:
        yield RecordingReject(row.id, "malformed", row.fault)
        return
    values = row.values
    name = str(_first(values, ID_FIELDS) or row.id)
    try:
        _check_text(name)
        if values.get("tracks") is not None:
            raise _Reject("unsupported", "a mixed cut")
        if values.get("supervisions") is not None:
            parts: list[Callable[[], _Stated]] = _cut_parts(name, values, plan, root)
        elif values.get("recording_id") is not None:
            parts = [lambda: _supervision(name, values, plan, root, known)]
        else:
            parts = [lambda: _plain(name, values, plan, root)]
    except _Reject as cause:
        yield RecordingReject(_shown(name), cause.reason, cause.detail)
        return
    for part in parts:
        try:
            yield _checked(part(), plan)
        except _Reject as cause:
            yield RecordingReject(name, cause.reason, cause.detail)


def _cut_parts(name: str, cut: Mapping[str, Any], plan: ManifestPlan, root: Path) -> list[Callable[[], _Stated]]:
    """Lhotse's ``MonoCut``: a stretch of a recording and the supervisions in it, whose times count from the cut's start."""
    supervisions = cut["supervisions"]
    if not isinstance(supervisions, list) or not all(isinstance(one, Mapping) for one in supervisions):
        raise _Reject("malformed", "supervisions are no list of objects")
    if not supervisions:
        raise _Reject("no_text", "no supervision")
    file = _file_of(_mapping(cut, "recording"), root)
    begin = _number(cut, ("start",), 0.0)

    def stated(one: Mapping[str, Any]) -> _Stated:
        offset = _number(one, ("start",), 0.0)
        return _Stated(
            id=name if len(supervisions) == 1 else str(one.get("id") or name),
            domain=plan.domain,
            text=_lhotse_text(one),
            file=file,
            start_s=begin + offset,
            duration_s=_number(one, DURATION_FIELDS, None),
            words=_lhotse_words(one, offset),
            channel=_channel(cut.get("channel")),
        )

    return [lambda one=one: stated(one) for one in supervisions]  # type: ignore[misc]


def _supervision(
    name: str, one: Mapping[str, Any], plan: ManifestPlan, root: Path, known: Mapping[str, _File | _Reject]
) -> _Stated:
    recording = str(one["recording_id"])
    if recording not in known:
        hint = "" if known else ": state the manifest of recordings"
        raise _Reject("dead_path", f"recording {recording!r} is unknown{hint}")
    file = known[recording]
    if isinstance(file, _Reject):
        raise file
    offset = _number(one, ("start",), 0.0)
    return _Stated(
        id=name,
        domain=plan.domain,
        text=_lhotse_text(one),
        file=replace(file, path=_below(root, file.path)),
        start_s=offset,
        duration_s=_number(one, DURATION_FIELDS, None),
        words=_lhotse_words(one, offset),
        channel=_channel(one.get("channel")),
    )


def _plain(name: str, values: Mapping[str, Any], plan: ManifestPlan, root: Path) -> _Stated:
    audio = _first(values, (plan.audio_field,) if plan.audio_field else AUDIO_FIELDS)
    if isinstance(audio, Mapping):  # as the datasets library stores it
        audio = audio.get("path")
    if not isinstance(audio, str) or not audio:
        raise _Reject("dead_path", f"no path of a sound in the fields {', '.join(values) or 'of this row'}")
    domain = values.get(plan.domain_field) if plan.domain_field else None
    duration = _number(values, DURATION_FIELDS, None)
    # Without a beginning a duration is the file's; with one it is that of a stretch of it.
    whole = duration if _first(values, START_FIELDS) is None else None
    return _Stated(
        id=name,
        domain=plan.domain if domain is None else str(domain),
        text=_first(values, (plan.text_field,) if plan.text_field else TEXT_FIELDS),
        file=_File(_below(root, Path(audio)), whole),
        start_s=_number(values, START_FIELDS, 0.0),
        duration_s=duration,
        words=_plain_words(_first(values, WORDS_FIELDS)),
        channel=_channel(values.get("channel")),
    )


def _check_text(text: str) -> None:
    if not is_text(text):
        raise _Reject("malformed", f"{_shown(text):.40} is no text: it holds half a surrogate pair")


def _shown(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _is_file(path: Path) -> bool:
    """Also of a name that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _checked(stated: _Stated, plan: ManifestPlan) -> Recording:
    """The recording, once its file has been looked at and its words have been found in its text."""
    if not isinstance(stated.text, str) or not any(map(str.isalnum, stated.text)):
        raise _Reject("no_text")
    _check_text(stated.text)
    path, declared = stated.file.path, stated.file.duration_s
    if not _is_file(path):
        raise _Reject("dead_path", str(path))
    length = _audio_seconds(str(path))
    if length is None:
        raise _Reject("unreadable_audio", str(path))
    start = stated.start_s
    duration = length - start if stated.duration_s is None else stated.duration_s
    if start < 0 or duration <= 0 or start + duration > length + TOLERANCE_SECONDS:
        raise _Reject("beyond_audio", f"{start:.2f} s and {duration:.2f} s on, of {length:.2f} s")
    if declared is not None and abs(declared - length) > TOLERANCE_SECONDS:
        # Another file than the one that the times were taken in, or a part of it: they name no known stretch of this one.
        raise _Reject("duration_differs", f"{declared:.2f} s by the manifest, {length:.2f} s in {path}")
    if plan.max_seconds is not None and duration > plan.max_seconds:
        raise _Reject("too_long", f"{duration:.2f} s")
    duration = min(duration, length - start)
    words = None if stated.words is None else _timed(stated.text, stated.words, duration)
    return Recording(
        stated.id, stated.domain, stated.text, str(path), start, duration, words, stated.channel
    )  # fmt: skip


def _timed(text: str, words: _Words, duration: float) -> tuple[TimedWord, ...]:
    before = 0.0
    for word, start, end in words:
        if end < start or start < before:
            raise _Reject("times_go_backwards", f"{word!r} from {start:.2f} to {end:.2f} s, after {before:.2f} s")
        before = start
    last = max((end for _, _, end in words), default=0.0)
    if last > duration + TOLERANCE_SECONDS:
        raise _Reject("shorter_than_words", f"{duration:.2f} s of sound, words until {last:.2f} s")
    found = match_words(text, [word for word, _, _ in words])
    if found is None:
        raise _Reject("words_do_not_match", f"{' '.join(word for word, _, _ in words):.60} / {text:.50}")
    return tuple(
        TimedWord(span[0], span[1], min(start, duration), min(end, duration))
        for span, (_, start, end) in zip(found, words, strict=True)
        if span is not None
    )


def match_words(text: str, words: Sequence[str]) -> list[tuple[int, int] | None] | None:
    """Which characters of ``text`` each word of a transcript covers; ``None`` for one without letters and digits (a pause),
    and ``None`` altogether where the two do not say the same.

    Compared are letters and digits alone, in plain lower case, so that "WELL", "KNOWN" is found in "Well-known,".
    """
    written = [(plain, at) for at, character in enumerate(text) for plain in _plain_letters(character)]
    spans: list[tuple[int, int] | None] = []
    done = 0
    for word in words:
        letters = "" if _is_mark(word) else "".join(p for character in word for p in _plain_letters(character))
        here = written[done : done + len(letters)]
        if "".join(plain for plain, _ in here) != letters:
            return None
        spans.append((here[0][1], here[-1][1] + 1) if here else None)
        done += len(letters)
    return spans if done == len(written) else None


def _is_mark(word: str) -> bool:
    """Whether a transcript's entry is no word: "<eps>", "[noise]"."""
    stripped = word.strip()
    return stripped[:1] + stripped[-1:] in ("<>", "[]")


@lru_cache(maxsize=4096)
def _plain_letters(character: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", character).casefold() if c.isalnum())


def _end_of_written_word(text: str, at: int) -> int:
    while at < len(text) and not text[at].isspace():
        at += 1
    return at


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    if not isinstance(found, Mapping):
        raise _Reject("malformed", f"{name} is {found!r:.40}; expected an object")
    return found


def _number(values: Mapping[str, Any], names: Sequence[str], default: Any) -> Any:
    """A finite number, or ``default`` (a number, or ``None``) where there is none."""
    found = _first(values, names)
    return default if found is None else _finite(found, names[0])


def _finite(value: object, name: str) -> float:
    with contextlib.suppress(OverflowError):  # an integer of four hundred digits
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    raise _Reject("malformed", f"{name} is {value!r:.40}; expected a number of seconds")


def _channel(value: object) -> int | None:
    """One channel; a list of several is averaged as a file without a stated one is."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _below(root: Path, path: Path) -> Path:
    path = path.expanduser()
    return path if path.is_absolute() else root / path


def _file_of(recording: Mapping[str, Any], root: Path) -> _File:
    """The one file of a Lhotse recording that is heard as it is."""
    if transforms := recording.get("transforms"):
        # Its times are those of the transformed sound, of which there is no file: at 1.1 times the speed they name other words.
        names = (
            [str(one.get("name")) for one in transforms if isinstance(one, Mapping)]
            if isinstance(transforms, list)
            else []
        )
        raise _Reject(
            "unsupported", f"a recording that is transformed on reading ({', '.join(names) or transforms!r:.40})"
        )
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], Mapping):
        raise _Reject("unsupported", "a recording of several files, or of none")
    if sources[0].get("type") != "file":
        raise _Reject("unsupported", f"a source of type {sources[0].get('type')!r}; expected 'file'")
    return _File(_below(root, Path(str(sources[0].get("source")))), _number(recording, ("duration",), None))


def _lhotse_text(supervision: Mapping[str, Any]) -> object:
    """Its text, or the first of LibriHeavy's ``custom.texts``, which has case and punctuation."""
    text, custom = supervision.get("text"), supervision.get("custom")
    texts = custom.get("texts") if isinstance(custom, Mapping) else None
    if not text and isinstance(texts, list) and texts:
        return texts[0]
    return text


def _lhotse_words(supervision: Mapping[str, Any], offset: float) -> _Words | None:
    """``alignment.word``: [symbol, start, duration, …] or an object with these; times count as the supervision's start does."""
    alignment = supervision.get("alignment")
    items = alignment.get("word") if isinstance(alignment, Mapping) else None
    if items is None:
        return None
    words = []
    for item in _entries(items, ("symbol", "start", "duration")):
        start = _finite(item[1], "alignment") - offset
        words.append((str(item[0]), start, start + _finite(item[2], "alignment")))
    return words


def _plain_words(items: object) -> _Words | None:
    """[word, start, end] each, or an object with these; in seconds from the beginning of the recording."""
    if items is None:
        return None
    entries = _entries(items, ("word", "start", "end"))
    return [(str(word), _finite(start, "words"), _finite(end, "words")) for word, start, end, *_ in entries]


def _entries(items: object, names: Sequence[str]) -> list[list[Any]]:
    if not isinstance(items, list):
        raise _Reject("malformed", f"words are {items!r:.40}; expected a list")
    entries = []
    for item in items:
        entry = [item.get(name) for name in names] if isinstance(item, Mapping) else item
        if not isinstance(entry, (list, tuple)) or len(entry) < len(names):
            raise _Reject("malformed", f"a word is {item!r:.60}; expected {', '.join(names)}")
        entries.append(list(entry))
    return entries


def _lhotse_recordings(source: str, key: str) -> dict[str, _File | _Reject]:
    """Id → file of a Lhotse recordings manifest, or why none of it can be used."""
    found: dict[str, _File | _Reject] = {}
    for file in _found(source, key):
        for row in file_rows([file], frozenset(("id", "sources", "duration", "transforms"))):
            name = str(row.values.get("id"))
            try:
                found[name] = _file_of(row.values, Path())
            except _Reject as cause:
                found[name] = cause
    return found


@lru_cache(maxsize=4096)  # many cuts share a file
def _audio_seconds(path: str) -> float | None:
    import soundfile

    try:
        info = soundfile.info(path)
    except (OSError, RuntimeError, TypeError):  # soundfile's errors are RuntimeErrors
        return None
    return info.frames / info.samplerate if info.frames else None
