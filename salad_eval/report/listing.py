"""Which of a run's items, and how much of their sound, a page holds: test sets and people's recordings are not to be published by
accident."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from salad_eval.audio.sound import SoundForm
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.gap.items import HeardItem, RunRecords, heard_items
from salad_eval.report import sound
from salad_eval.report.page import PageItems
from salad_eval.report.sound import PageSound
from salad_eval.types import GapReport


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What a page holds besides its figures.

    ``items``: the list of items; by default those of every task but the gated ones. ``audio``: their sound beside the page; by default
    where a TTS made it, and not where people were recorded. ``embed_audio``: so many of the worst renderings have it inside the page.
    ``audio_format``: as which files; by default links to the store's WAV files, FLAC where these cannot be made and inside the page.
    """

    items: bool | None = None
    audio: bool | None = None
    embed_audio: int = 0
    audio_format: SoundForm | None = None

    def __post_init__(self) -> None:
        if self.embed_audio < 0:
            raise UserInputError(f"embed_audio is {self.embed_audio}; expected a number of renderings, 0 or more.")
        if self.audio_format not in (None, *get_args(SoundForm)):
            raise UnknownNameError("audio format", str(self.audio_format), get_args(SoundForm))


def page_items(
    report: GapReport, records: RunRecords, store: AudioStore | None, folder: Path, options: PageOptions = PageOptions()
) -> PageItems | None:
    """The items that the page of ``report`` lists; their sound is laid into ``folder``. ``None`` where there are to be none."""
    if options.items is False:
        return None
    return listed_items(report, heard_items(records, report), store, folder, options)


def listed_items(
    report: GapReport,
    rows: list[HeardItem],
    store: AudioStore | None,
    folder: Path,
    options: PageOptions = PageOptions(),
) -> PageItems | None:
    """These renderings of a run, as far as a page may list them."""
    if options.items is False:
        return None
    gated = sorted(protocol.task for protocol in report.protocols if protocol.gated)
    said = []
    if options.items is None and gated:
        rows = [heard for heard in rows if heard.item.task not in gated]
        said.append(f"The items of {', '.join(gated)} are held back, for its card says gated (--items lists them).")
    if not rows:
        return PageItems((), held_back=" ".join(said))
    heard_sound = None
    if store is not None and options.audio is not False:
        heard_sound, held_back = _page_sound(rows, store, folder, options)
        said += [held_back] if held_back else []
    return PageItems(rows, heard_sound, " ".join(said))


def _page_sound(
    rows: list[HeardItem], store: AudioStore, folder: Path, options: PageOptions
) -> tuple[PageSound | None, str]:
    spoken = [heard for heard in rows if options.audio is True or not heard.item.recordings]
    held_back = (
        "" if len(spoken) == len(rows) else "The sound of recordings is held back (--audio lays it beside the page)."
    )
    sha256s = [part.sha256 for heard in spoken for part in heard.parts]
    if not sha256s:
        return None, held_back
    digits = sound.digits_that_differ(part.sha256 for heard in rows for part in heard.parts)
    if options.embed_audio:
        return sound.embedded(sound.worst(spoken, options.embed_audio), digits, store, options.audio_format), held_back
    return sound.lay_beside(sha256s, digits, store, folder / sound.SOUND_DIR, options.audio_format), held_back
