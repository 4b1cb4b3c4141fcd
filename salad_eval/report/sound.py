"""The sound of a page: beside it as files named by the sound's hash, or some of it inside."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, DataError
from salad_eval.gap.items import HeardItem
from salad_eval.progress import track

SOUND_DIR = "sound"
FEWEST_DIGITS = 12  # of a sha256 in a file's name; more where two sounds share them
SoundForm = Literal["wav", "flac"]


@dataclass(frozen=True, slots=True)
class PageSound:
    """Where a page finds its sound, by the first ``digits`` hexadecimal digits of its sha256: ``inside`` it (FLAC in base64, by these
    digits), or in a file of ``form`` beside it, for the sha256s in ``beside``."""

    digits: int
    inside: Mapping[str, str] = field(default_factory=dict)
    form: SoundForm | None = None
    beside: frozenset[str] = frozenset()

    def key(self, sha256: str) -> bytes:
        """What names a sound in the page's data: the digits as bytes, all 0 where the page has not got it."""
        there = sha256 in self.beside or sha256[: self.digits] in self.inside
        return bytes.fromhex(sha256[: self.digits]) if there else bytes(self.digits // 2)


def digits_that_differ(sha256s: Iterable[str]) -> int:
    """How many hexadecimal digits tell the sounds apart, an even number from ``FEWEST_DIGITS`` on."""
    whole = set(sha256s)
    return next(n for n in range(FEWEST_DIGITS, 66, 2) if n >= 64 or len({name[:n] for name in whole}) == len(whole))


def lay_beside(sha256s: Iterable[str], digits: int, store: AudioStore, folder: Path) -> PageSound:
    """Put the sounds into ``folder`` as hard links to the store's files, or where these cannot be made as FLAC, which takes half the
    space. What is not in the store is left out. Raises ``DataError`` where the folder cannot be written."""
    there = [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 in store]
    if not there:
        return PageSound(digits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        form: SoundForm = "wav" if _can_link(store.path(there[0]), folder / f"{there[0][:digits]}.wav") else "flac"
        for sha256 in track(there, "sound"):
            target = folder / f"{sha256[:digits]}.{form}"
            if form == "wav":
                _link(store.path(sha256), target)
            elif not target.exists():
                target.write_bytes(flac(store, sha256))
    except OSError as cause:
        raise DataError(f"cannot put sound into {folder}: {cause.strerror or cause}.") from None
    return PageSound(digits, form=form, beside=frozenset(there))


def worst(items: Sequence[HeardItem], n: int) -> list[str]:
    """The sounds of the ``n`` renderings that were answered most surely wrong by ear, the worst first; those with no margin last."""

    def badness(heard: HeardItem) -> tuple[float, float]:
        answer = heard.answers["adapted_speech"]
        return (answer.value, answer.margin if answer.margin is not None else float("inf"))

    return list(dict.fromkeys(part.sha256 for heard in sorted(items, key=badness)[:n] for part in heard.parts))


def embedded(sha256s: Iterable[str], digits: int, store: AudioStore) -> dict[str, str]:
    """FLAC in base64 by the beginning of the sound's hash; what is not in the store is left out."""
    return {
        sha256[:digits]: base64.b64encode(flac(store, sha256)).decode("ascii") for sha256 in sha256s if sha256 in store
    }


def flac(store: AudioStore, sha256: str) -> bytes:
    """A stored sound as FLAC, sample for sample."""
    import soundfile

    audio = store.get(sha256)
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, audio.samples, audio.sample_rate_hz, format="FLAC", subtype="PCM_16")
    except (RuntimeError, ValueError) as cause:  # a rate that FLAC does not know
        raise AudioError(f"{store.path(sha256)} cannot be written as FLAC: {cause}") from None
    return buffer.getvalue()


def _can_link(source: Path, target: Path) -> bool:
    try:
        _link(source, target)
    except OSError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(source, target)
