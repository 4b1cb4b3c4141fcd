"""The columns of a shared benchmark, and what each of them means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from salad_eval.errors import DataError
from salad_eval.types import (
    Item,
    SpokenPart,
)

if TYPE_CHECKING:
    import datasets


AudioFormat = Literal["flac", "wav"]
CARD_FILE = "README.md"
SUFFIX = "_shared"  # of the name of the task that reads an export back, so that both can stand in one run


@dataclass(frozen=True, slots=True)
class PartColumns:
    """The columns of one spoken part; with several parts each column's name ends in the part's."""

    part: str
    suffix: str

    def of(self, name: str) -> str:
        return name + self.suffix


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a task's rows. ``fields`` are the items' further fields and the columns they stand in."""

    task: str
    slug: str
    parts: tuple[PartColumns, ...]
    fields: Mapping[str, str]

    @property
    def first(self) -> PartColumns:
        return self.parts[0]


_ITEM_COLUMNS = (
    "id", "task", "split", "domain", "group", "voice", "perturbation", "prompt", "choices", "answer", "right", "answers",
)  # fmt: skip
_PART_COLUMNS = (
    "audio", "text", "spoken_text", "speech_start", "speech_end", "transcript", "word_errors", "n_words", "wer", "sha256",
)  # fmt: skip
COLUMN_MEANING: Mapping[str, str] = {
    "id": "the question; equal for all recordings of it",
    "task, split, domain, group": "where it comes from, what it is about, and what it is resampled with",
    "voice, perturbation": "who speaks, and what was done to the sound",
    "audio": "16 kHz mono, 16 bit",
    "text, spoken_text": "the part of the prompt that is heard, as written and as it is said",
    "prompt, speech_start, speech_end": "the whole prompt as written, and the characters of it that the audio replaces",
    "choices, answer": "the options and the index of the right one",
    "right, answers": "every option that counts as right; accepted texts where there are no options",
    "transcript, word_errors, n_words, wer": "what the ASR of this export heard",
    "sha256": "of the sample rate and the 16-bit samples: names the sound in every report",
}


def slug(text: str) -> str:
    """A name for files and columns: letters, digits and underscores of ``text``, never empty, at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "unnamed"


def distinct_slugs(names: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """A slug for each name, numbered where two would be equal."""
    made: dict[str, str] = {}
    for name in names:
        plain = unique = slug(name)
        number = 2
        while unique in made.values() or unique in taken:
            unique = f"{plain}_{number}"
            number += 1
        made[name] = unique
    return made


def layout_of(task: str, task_slug: str, items: Sequence[Item]) -> Layout:
    """The columns that the items of a task need. Raises ``DataError`` where the items do not have the same spoken parts."""
    names = [tuple(part.name for part in parts_in_order(item)) for item in items]
    if len(set(names)) != 1:
        raise DataError(
            f"task {task}: its items do not have the same spoken parts in one order; they cannot be one table."
        )
    parts = distinct_slugs(names[0])
    columns = tuple(PartColumns(name, f"_{parts[name]}" if len(parts) > 1 else "") for name in names[0])
    taken = [*_ITEM_COLUMNS, *(one.of(name) for one in columns for name in _PART_COLUMNS)]
    keys = list(dict.fromkeys(key for item in items for key in item.fields))
    return Layout(task, task_slug, columns, distinct_slugs(keys, taken))


def parts_in_order(item: Item) -> list[SpokenPart]:
    return sorted(item.spoken_parts, key=lambda part: part.start)


def features_of(layout: Layout) -> datasets.Features:
    """The feature types of the datasets library; sound stays encoded (``decode=False``), so that no FFmpeg is needed."""
    from datasets import Audio as AudioFeature
    from datasets import Features, List, Value

    text, whole = Value("string"), Value("int64")
    kinds: dict[str, Any] = dict.fromkeys(_ITEM_COLUMNS, text)
    kinds |= {"choices": List(text), "answer": whole, "right": List(whole), "answers": List(text)}
    for one in layout.parts:
        kinds |= {one.of(name): text for name in _PART_COLUMNS}
        kinds |= {one.of(name): whole for name in ("speech_start", "speech_end", "word_errors", "n_words")}
        kinds |= {one.of("audio"): AudioFeature(decode=False), one.of("wer"): Value("float64")}
    return Features({**kinds, **dict.fromkeys(layout.fields.values(), text)})
