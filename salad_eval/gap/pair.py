"""The same items in every column: scores, word errors and divergences put together item by item, and what befell each item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.errors import DataError
from salad_eval.types import (
    COLUMN_FORM,
    COLUMNS,
    ColumnName,
    Divergence,
    Item,
    Reject,
    Rendered,
    Score,
    Transcript,
)

REQUIRED_COLUMNS: tuple[ColumnName, ...] = ("base_text", "adapted_speech")
PAIR_STEP = "pair"  # the step named in rejects that this module makes
UNKNOWN_DOMAIN = "(unknown)"  # rejects of rows that never became items
NO_VALUE = "(none)"  # slice of the items that lack the field

# The taxonomy: one cause a rendering, every item weighing the same. With t = base text right, c = cascade right, a =
# adapted model right on text, s = adapted model right on speech. lost_in_rendering + forgotten + lost_in_alignment -
# speech_only = gap, exactly. A partial score (token F1) is right at every level below it and wrong at those above: a
# cause's share is then the part of the levels at which it holds, and all of this stays true.
CORRECT = "correct"  # t and s
WRONG_IN_TEXT = "wrong_in_text"  # neither t nor s: the base model does not know it, the gap is not to blame
LOST_IN_RENDERING = "lost_in_rendering"  # t, not s, not c: the cascade fails on this recording too
FORGOTTEN = "forgotten"  # t, not s, c, not a: the adapted model has lost it in text as well
LOST_IN_ALIGNMENT = "lost_in_alignment"  # t, not s, c, a: only the speech LLM fails, and only by ear
LOST_IN_ADAPTATION = "lost_in_adaptation"  # t, not s, c, and no column says a: forgotten or lost in alignment
SPEECH_ONLY = "speech_only"  # s, not t: right by ear though the base model is wrong in text
TAXONOMY: tuple[str, ...] = (CORRECT, LOST_IN_ALIGNMENT, FORGOTTEN, LOST_IN_RENDERING, WRONG_IN_TEXT, SPEECH_ONLY)
TAXONOMY_UNSPLIT: tuple[str, ...] = (CORRECT, LOST_IN_ADAPTATION, LOST_IN_RENDERING, WRONG_IN_TEXT, SPEECH_ONLY)


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """The items that have a value in every column, and their renderings. All arrays are float64 unless said otherwise.

    ``text[column]``: (n_items,) in [0, 1]. ``spoken[column]``: (n_renderings,) in [0, 1]; ``item_of``: int
    (n_renderings,), the item of a rendering. ``word_errors``, ``n_words``, ``positions``: (n_renderings,); ``nats``:
    (n_renderings, 3), summed KL F, M, D.
    """

    items: tuple[Item, ...]
    text: Mapping[ColumnName, np.ndarray]
    spoken: Mapping[ColumnName, np.ndarray]
    item_of: np.ndarray
    voices: np.ndarray
    perturbations: np.ndarray
    word_errors: np.ndarray
    n_words: np.ndarray
    nats: np.ndarray
    positions: np.ndarray

    @property
    def columns(self) -> tuple[ColumnName, ...]:
        return tuple(column for column in COLUMNS if column in self.text or column in self.spoken)


def pair(
    items: Sequence[Item],
    scores: Sequence[Score],
    columns: Sequence[ColumnName],
    *,
    transcripts: Sequence[Transcript] = (),
    divergences: Sequence[Divergence] = (),
    already_rejected: frozenset[str] = frozenset(),
) -> tuple[Paired, tuple[Reject, ...]]:
    """Keep the items with a value in *every* column; count the others as rejects of step ``pair``, with the reason.

    A rendering (voice x perturbation) counts only where every spoken column has a value for it, so that the cascade
    and the speech LLM are judged on the same recordings; an item is kept while one rendering is left. Items in
    ``already_rejected`` are left out without a second reject. The order of ``items`` and ``scores`` does not matter.

    Raises ``DataError`` for duplicate items or scores, scores of unknown items, values outside [0, 1], and transcripts
    of two ASRs.
    """
    by_id = _unique_items(items)
    index = _index_scores(scores, by_id)
    forms = _Forms(
        text=tuple(column for column in columns if COLUMN_FORM[column] == "text"),
        spoken=tuple(column for column in columns if COLUMN_FORM[column] != "text"),
    )
    rejects: list[Reject] = []
    kept: list[tuple[Item, tuple[Rendered, ...]]] = []
    for item in sorted(items, key=lambda item: item.id):
        scored = index.get(item.id, {})
        found = _completeness(scored, forms)
        if item.id not in already_rejected:
            rejects += _lost(item.id, scored, found)
        if not found.lacking:
            kept.append((item, found.complete))
    return _paired(kept, index, forms, transcripts, divergences), tuple(rejects)


ScoreIndex = dict[str, dict[ColumnName, dict[Rendered | None, Score]]]


@dataclass(frozen=True, slots=True)
class _Forms:
    """The columns of a report: those read as written, and those heard."""

    text: tuple[ColumnName, ...]
    spoken: tuple[ColumnName, ...]


@dataclass(frozen=True, slots=True)
class _Completeness:
    """What an item has a value for. ``lacking``: columns without which it cannot be kept. ``incomplete``: renderings that some spoken
    column has no value for, with the first such column."""

    lacking: tuple[ColumnName, ...]
    complete: tuple[Rendered, ...]
    incomplete: tuple[tuple[Rendered, ColumnName], ...]


def _completeness(scored: Mapping[ColumnName, Mapping[Rendered | None, Score]], forms: _Forms) -> _Completeness:
    complete: list[Rendered] = []
    incomplete: list[tuple[Rendered, ColumnName]] = []
    for key in sorted({key for column in forms.spoken for key in scored.get(column, {}) if key is not None}):
        gaps = [column for column in forms.spoken if not _has_value(scored.get(column, {}).get(key))]
        if gaps:
            incomplete.append((key, gaps[0]))
        else:
            complete.append(key)
    lacking = [column for column in forms.text if not _has_value(scored.get(column, {}).get(None))]
    if not lacking and not complete:
        silent = [column for column in forms.spoken if not scored.get(column)]
        lacking = silent or [column for _, column in incomplete]
    return _Completeness(tuple(lacking), tuple(complete), tuple(incomplete))


def _lost(
    item_id: str, scored: Mapping[ColumnName, Mapping[Rendered | None, Score]], found: _Completeness
) -> Iterator[Reject]:
    """Why an item is left out, or else which of its renderings are."""
    if found.lacking:
        column = found.lacking[0]
        yield _missing(item_id, column, scored.get(column, {}))
        return
    for key, column in found.incomplete:
        score = scored.get(column, {}).get(key)
        reason = (score.reason if score else "") or f"no score in {column}"
        yield Reject(item_id, PAIR_STEP, reason, f"voice {key[0]}, {key[1]}: this rendering only")


def _paired(
    kept: Sequence[tuple[Item, Sequence[Rendered]]],
    index: ScoreIndex,
    forms: _Forms,
    transcripts: Sequence[Transcript],
    divergences: Sequence[Divergence],
) -> Paired:
    """The arrays of the items and of those of their renderings that are kept."""
    rows = [(position, key) for position, (_, renderings) in enumerate(kept) for key in renderings]
    keys = [(kept[position][0].id, *key) for position, key in rows]
    heard, spread = _errors_by_rendering(transcripts), _nats_by_rendering(divergences)
    errors = np.array([heard.get(key, (0, 0)) for key in keys], dtype=np.float64).reshape(-1, 2)
    nats = np.array([spread.get(key, (0.0, 0.0, 0.0, 0)) for key in keys], dtype=np.float64).reshape(-1, 4)
    return Paired(
        items=tuple(item for item, _ in kept),
        text={c: np.array([_value(index[item.id][c][None]) for item, _ in kept]) for c in forms.text},
        spoken={
            c: np.array([_value(index[kept[position][0].id][c][key]) for position, key in rows]) for c in forms.spoken
        },
        item_of=np.array([position for position, _ in rows], dtype=np.intp),
        voices=np.array([voice for _, (voice, _) in rows], dtype=object),
        perturbations=np.array([perturbation for _, (_, perturbation) in rows], dtype=object),
        word_errors=errors[:, 0],
        n_words=errors[:, 1],
        nats=nats[:, :3],
        positions=nats[:, 3],
    )


def _unique_items(items: Sequence[Item]) -> dict[str, Item]:
    by_id: dict[str, Item] = {}
    for item in items:
        if item.id in by_id:
            raise DataError(f"items: id {item.id!r} occurs twice; ids must be unique within a report.")
        by_id[item.id] = item
    return by_id


def _index_scores(scores: Sequence[Score], by_id: Mapping[str, Item]) -> ScoreIndex:
    index: ScoreIndex = {}
    for score in scores:
        if score.item_id not in by_id:
            raise DataError(f"scores: item_id {score.item_id!r} is not among the {len(by_id)} items of the report.")
        if score.column not in COLUMN_FORM:
            raise DataError(
                f"scores: column {score.column!r} of item {score.item_id!r}; expected one of {', '.join(COLUMNS)}."
            )
        if score.value is not None and not 0.0 <= score.value <= 1.0:
            raise DataError(
                f"scores: value {score.value!r} of item {score.item_id!r} in {score.column}; expected one from 0.0 to 1.0, or None."
            )
        key: Rendered | None = None
        if COLUMN_FORM[score.column] == "text":
            if score.voice is not None or score.perturbation is not None:
                raise DataError(
                    f"scores: item {score.item_id!r} in {score.column} has voice {score.voice!r}; expected None."
                )
        else:
            if score.voice is None or score.perturbation is None:
                raise DataError(
                    f"scores: item {score.item_id!r} in {score.column} has voice {score.voice!r} and perturbation "
                    f"{score.perturbation!r}; spoken columns need both."
                )
            key = (score.voice, score.perturbation)
        column = index.setdefault(score.item_id, {}).setdefault(score.column, {})
        if key in column:
            raise DataError(
                f"scores: item {score.item_id!r} has two scores in {score.column}, voice {score.voice!r}; expected one."
            )
        column[key] = score
    return index


def _has_value(score: Score | None) -> bool:
    return score is not None and score.value is not None


def _value(score: Score) -> float:
    assert score.value is not None  # for the type checker: pair() looked
    return score.value


def _missing(item_id: str, column: ColumnName, scored: Mapping[Rendered | None, Score]) -> Reject:
    reasons = sorted({score.reason for score in scored.values() if score.value is None and score.reason})
    return Reject(
        item_id,
        PAIR_STEP,
        reasons[0] if reasons else f"no score in {column}",
        f"no value in {column}: left out of every column",
    )


def _errors_by_rendering(transcripts: Sequence[Transcript]) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Word errors and words of each rendering, summed over its spoken parts."""
    asrs = sorted({transcript.asr for transcript in transcripts})
    if len(asrs) > 1:
        raise DataError(
            f"transcripts: made by {len(asrs)} ASRs ({', '.join(asrs)}); a report takes one, or its WER would mix them."
        )
    errors: dict[tuple[str, str, str], tuple[int, int]] = {}
    for transcript in transcripts:
        key = (transcript.item_id, transcript.voice, transcript.perturbation)
        wrong, words = errors.get(key, (0, 0))
        errors[key] = (wrong + transcript.word_errors, words + transcript.n_words)
    return errors


def _nats_by_rendering(
    divergences: Sequence[Divergence],
) -> dict[tuple[str, str, str], tuple[float, float, float, int]]:
    nats: dict[tuple[str, str, str], tuple[float, float, float, int]] = {}
    for divergence in divergences:
        key = (divergence.item_id, divergence.voice, divergence.perturbation)
        if key in nats:
            raise DataError(
                f"divergences: item {key[0]!r} has two records for voice {key[1]!r}, {key[2]!r}; expected one."
            )
        nats[key] = (divergence.forgetting, divergence.misalignment, divergence.distillation, divergence.n_positions)
    return nats
