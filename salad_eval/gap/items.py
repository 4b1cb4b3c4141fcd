"""The items behind a report's figures: each in every rendering it counts in, with what was said, heard and answered. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salad_eval.gap.pair import pair
from salad_eval.gap.row import main_causes
from salad_eval.types import (
    LOGPROB_SCORES,
    ColumnName,
    Divergence,
    GapReport,
    Item,
    Rendering,
    Response,
    Score,
    ScoreKind,
    Transcript,
)


@dataclass(frozen=True, slots=True)
class RunRecords:
    """What the steps of a run left, as far as they are at hand: items and scores always are."""

    items: Sequence[Item]
    scores: Sequence[Score]
    renderings: Sequence[Rendering] = ()
    transcripts: Sequence[Transcript] = ()
    responses: Sequence[Response] = ()
    divergences: Sequence[Divergence] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one column answered. ``value``: how right, in [0, 1]; ``chosen``: the option, ``None`` where none was or could be read.

    ``margin``: log-probability (nats; per character under ``ll_norm``) of the best right option less that of the best wrong one:
    below 0 it is wrong, the further the surer. ``None`` where options were not compared. ``text``: what was generated.
    """

    value: float
    chosen: int | None
    margin: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class HeardPart:
    """A spoken part of an item in one rendering: what was said, what the ASR heard (``None``: no cascade), and the sound."""

    name: str
    said: str
    heard: str | None
    sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class HeardItem:
    """An item in one rendering. ``cause``: see ``gap.pair``'s taxonomy; ``word_errors`` of ``n_words`` over its parts;
    ``misalignment``: M in nats per scored position, ``None`` where it was not measured."""

    item: Item
    voice: str
    condition: str
    cause: str
    answers: Mapping[ColumnName, Answer]
    parts: tuple[HeardPart, ...]
    word_errors: int
    n_words: int
    misalignment: float | None

    def __repr__(self) -> str:
        return f"<HeardItem {self.item.id} by {self.voice}, {self.condition}: {self.cause}>"

    @property
    def wer(self) -> float | None:
        return self.word_errors / self.n_words if self.n_words else None


def heard_items(records: RunRecords, report: GapReport) -> list[HeardItem]:
    """The renderings that the report's figures rest on, by item, voice and condition."""
    names = [column.name for column in report.columns]
    scores = [score for score in records.scores if score.column in names]
    paired, _ = pair(records.items, scores, names, transcripts=records.transcripts, divergences=records.divergences)
    causes = main_causes(paired)
    answers = _answers(records, scores, {protocol.task: protocol.score for protocol in report.protocols})
    parts = _parts(records)
    found = []
    for place, position in enumerate(paired.item_of):
        item, voice, condition = paired.items[position], str(paired.voices[place]), str(paired.perturbations[place])
        read, heard = answers[item.id, None, None], answers[item.id, voice, condition]
        n_positions = paired.positions[place]
        found.append(
            HeardItem(
                item=item,
                voice=voice,
                condition=condition,
                cause=causes[place],
                answers={name: {**read, **heard}[name] for name in names},
                parts=tuple(parts[item.id, voice, condition]),
                word_errors=int(paired.word_errors[place]),
                n_words=int(paired.n_words[place]),
                misalignment=float(paired.nats[place, 1] / n_positions) if n_positions else None,
            )
        )
    return found


_Key = tuple[str, str | None, str | None]  # item, voice, condition


def _answers(
    records: RunRecords, scores: Sequence[Score], kinds: Mapping[str, ScoreKind]
) -> Mapping[_Key, dict[ColumnName, Answer]]:
    by_id = {item.id: item for item in records.items}
    said = {(r.item_id, r.column, r.voice, r.perturbation): r for r in records.responses}
    answers: defaultdict[_Key, dict[ColumnName, Answer]] = defaultdict(dict)
    for score in scores:
        if score.value is None:
            continue
        item = by_id[score.item_id]
        response = said.get((score.item_id, score.column, score.voice, score.perturbation))
        answers[score.item_id, score.voice, score.perturbation][score.column] = Answer(
            value=score.value,
            chosen=score.predicted,
            margin=margin(item, response.choice_logprobs, kinds.get(item.task, "ll")) if response is not None else None,
            text=response.text if response is not None else None,
        )
    return answers


def margin(item: Item, logprobs: Sequence[float] | None, kind: ScoreKind) -> float | None:
    """The best right option's log-probability less the best wrong one's, as ``kind`` compares them; ``None`` where it does not."""
    if logprobs is None or kind not in LOGPROB_SCORES or len(logprobs) != len(item.choices):
        return None
    if kind == "ll_norm":
        if not all(item.choices):
            return None
        logprobs = [value / len(choice) for value, choice in zip(logprobs, item.choices, strict=True)]
    right = [value for place, value in enumerate(logprobs) if place in item.golds]
    wrong = [value for place, value in enumerate(logprobs) if place not in item.golds]
    return max(right) - max(wrong) if right and wrong else None


def _parts(records: RunRecords) -> Mapping[tuple[str, str, str], list[HeardPart]]:
    heard = {(t.item_id, t.part, t.voice, t.perturbation): t.text for t in records.transcripts}
    parts: defaultdict[tuple[str, str, str], list[HeardPart]] = defaultdict(list)
    for r in records.renderings:
        text = heard.get((r.item_id, r.part, r.voice, r.perturbation))
        parts[r.item_id, r.voice, r.perturbation].append(HeardPart(r.part, r.spoken_text, text, r.sha256, r.seconds))
    return parts
