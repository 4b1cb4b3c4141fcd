"""The sound of a page: beside it as files named by the sound's hash, or some of it inside."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from salad_eval.audio.sound import SoundForm, encoded
from salad_eval.audio.store import AudioStore
from salad_eval.errors import DataError
from salad_eval.gap.items import HeardItem
from salad_eval.progress import track
from salad_eval.records import write_atomic

SOUND_DIR = "sound"
FEWEST_DIGITS = 12  # of a sha256 in a file's name; more where two sounds share them


@dataclass(frozen=True, slots=True)
class PageSound:
    """Where a page finds its sound, by the first ``digits`` hexadecimal digits of its sha256: ``inside`` it (in base64, by these
    digits), or in a file beside it, for the sha256s in ``beside``; both in ``form``."""

    digits: int
    form: SoundForm = "wav"
    inside: Mapping[str, str] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()

    def key(self, sha256: str) -> bytes:
        """What names a sound in the page's data: the digits as bytes, all 0 where the page has not got it."""
        there = sha256 in self.beside or sha256[: self.digits] in self.inside
        return bytes.fromhex(sha256[: self.digits]) if there else bytes(self.digits // 2)


def digits_that_differ(sha256s: Iterable[str]) -> int:
    """How many hexadecimal digits tell the sounds apart, an even number from ``FEWEST_DIGITS`` on."""
    whole = set(sha256s)
    return next(n for n in range(FEWEST_DIGITS, 66, 2) if n >= 64 or len({name[:n] for name in whole}) == len(whole))


def lay_beside(
    sha256s: Iterable[str], digits: int, store: AudioStore, folder: Path, form: SoundForm | None = None
) -> PageSound:
    """Put the sounds into ``folder``: WAV as hard links to the store's files, or copies where these cannot be made; the others encoded.
    Of no ``form`` links, and where these cannot be made FLAC, which takes half the space. What is not in the store is left out.
    Raises ``DataError`` where the folder cannot be written."""
    there = [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 in store]
    if not there:
        return PageSound(digits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        linked = form in (None, "wav") and _can_link(store.path(there[0]), folder / f"{there[0][:digits]}.wav")
        form = form or ("wav" if linked else "flac")
        files = {sha256: folder / f"{sha256[:digits]}.{form}" for sha256 in there}
        if linked:
            for sha256 in track(there, "sound"):
                _link(store.path(sha256), files[sha256])
        else:
            missing = [sha256 for sha256 in there if not files[sha256].exists()]
            for sha256, content in _encoded(missing, store, form):
                write_atomic(files[sha256], content)
    except OSError as cause:
        raise DataError(f"cannot put sound into {folder}: {cause.strerror or cause}.") from None
    return PageSound(digits, form, beside=frozenset(there))


def worst(items: Sequence[HeardItem], n: int) -> list[str]:
    """The sounds of the ``n`` renderings that were answered most surely wrong by ear, the worst first; those with no margin last."""

    def badness(heard: HeardItem) -> tuple[float, float]:
        answer = heard.answers["adapted_speech"]
        return (answer.value, answer.margin if answer.margin is not None else float("inf"))

    return list(dict.fromkeys(part.sha256 for heard in sorted(items, key=badness)[:n] for part in heard.parts))


def embedded(sha256s: Iterable[str], digits: int, store: AudioStore, form: SoundForm | None = None) -> PageSound:
    """The sounds inside the page, as FLAC if no ``form`` is asked for; what is not in the store is left out."""
    form = form or "flac"
    there = [sha256 for sha256 in sha256s if sha256 in store]
    inside = {
        sha256[:digits]: base64.b64encode(content).decode("ascii") for sha256, content in _encoded(there, store, form)
    }
    return PageSound(digits, form, inside)


def _encoded(sha256s: Sequence[str], store: AudioStore, form: SoundForm) -> Iterator[tuple[str, bytes]]:
    """Each sound as a file. The encoders run outside Python's lock, so that as many work as there are processors."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        contents = pool.map(lambda sha256: encoded(store.get(sha256), form), sha256s)
        yield from zip(sha256s, track(contents, "sound", len(sha256s)), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _can_link(source: Path, target: Path) -> bool:
    try:
        _link(source, target)
    except OSError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(source, target)
