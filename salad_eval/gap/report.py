"""From scores to the gap report: the same items in every column, paired, per domain and slice. Pure functions.

Definitions (PAPER: Cuervo et al. 2025, arXiv 2510.13632; positive is worse):

- gap = base_text - adapted_speech
- forgetting = base_text - adapted_text
- misalignment = adapted_text - adapted_speech, so that gap = forgetting + misalignment on every row
- cascade_loss = base_text - base_transcript

Without the column adapted_text (results made elsewhere may lack it) the gap is not split: forgetting and misalignment are
``None``, and the two causes of the taxonomy that it tells apart are one.

An item's value in a spoken column is its mean over renderings (voice x perturbation); every item weighs the same in a
row. ``overall`` is over all items (micro average), not the mean of the domains.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version

import numpy as np

from salad_eval.errors import DataError, SaladError, UserInputError, did_you_mean
from salad_eval.gap.stats import (
    Measure,
    Resampled,
    benjamini_hochberg,
    cluster_sums,
    resample,
    row_seed,
    shrink,
    sign_flip_p_value,
)
from salad_eval.types import (
    COLUMN_FORM,
    COLUMNS,
    LOGPROB_SCORES,
    ColumnName,
    ColumnSpec,
    Divergence,
    DivergenceRates,
    Estimate,
    GapReport,
    GapRow,
    Item,
    Reject,
    RejectCount,
    Score,
    SliceRow,
    TaskProtocol,
    Transcript,
)

SCHEMA_VERSION = "1.0"
REQUIRED_COLUMNS: tuple[ColumnName, ...] = ("base_text", "adapted_speech")
OVERALL = "overall"
PAIR_STEP = "pair"  # the step named in rejects that this module makes
UNKNOWN_DOMAIN = "(unknown)"  # rejects of rows that never became items
NO_VALUE = "(none)"  # slice of the items that lack the field
MAX_REJECT_EXAMPLES = 5

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


# --- pairing ---------------------------------------------------------------------------------------------------------


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


Rendered = tuple[str, str]  # voice, perturbation


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
    text_columns = [column for column in columns if COLUMN_FORM[column] == "text"]
    spoken_columns = [column for column in columns if COLUMN_FORM[column] != "text"]
    index = _index_scores(scores, by_id)

    kept: list[Item] = []
    rejects: list[Reject] = []
    rows: list[tuple[int, Rendered]] = []
    values: dict[ColumnName, list[float]] = {column: [] for column in columns}
    for item in sorted(items, key=lambda item: item.id):
        scored = index.get(item.id, {})
        lacking = [(column, "") for column in text_columns if not _has_value(scored.get(column, {}).get(None))]
        renderings = sorted({key for column in spoken_columns for key in scored.get(column, {}) if key is not None})
        complete: list[tuple[Rendered, list[ColumnName]]] = []
        incomplete: list[tuple[Rendered, list[ColumnName]]] = []
        for key in renderings:
            gaps = [column for column in spoken_columns if not _has_value(scored.get(column, {}).get(key))]
            (incomplete if gaps else complete).append((key, gaps))
        if not lacking and not complete:
            lacking = [(column, "") for column in spoken_columns if not scored.get(column)] or [
                (column, "") for _, gaps in incomplete for column in gaps
            ]
        if lacking:
            if item.id not in already_rejected:
                column = lacking[0][0]
                rejects.append(_missing(item.id, column, scored.get(column, {})))
            continue
        for key, gaps in incomplete:
            if item.id not in already_rejected:
                score = scored.get(gaps[0], {}).get(key)
                reason = (score.reason if score else "") or f"no score in {gaps[0]}"
                rejects.append(Reject(item.id, PAIR_STEP, reason, f"voice {key[0]}, {key[1]}: this rendering only"))
        for column in text_columns:
            values[column].append(_value(scored[column][None]))
        for key, _ in complete:
            rows.append((len(kept), key))
            for column in spoken_columns:
                values[column].append(_value(scored[column][key]))
        kept.append(item)

    heard = _errors_by_rendering(transcripts)
    spread = _nats_by_rendering(divergences)
    keys = [(kept[position].id, *key) for position, key in rows]
    errors = np.array([heard.get(key, (0, 0)) for key in keys], dtype=np.float64).reshape(-1, 2)
    nats = np.array([spread.get(key, (0.0, 0.0, 0.0, 0)) for key in keys], dtype=np.float64).reshape(-1, 4)
    paired = Paired(
        items=tuple(kept),
        text={column: np.array(values[column]) for column in text_columns},
        spoken={column: np.array(values[column]) for column in spoken_columns},
        item_of=np.array([position for position, _ in rows], dtype=np.intp),
        voices=np.array([voice for _, (voice, _) in rows], dtype=object),
        perturbations=np.array([perturbation for _, (_, perturbation) in rows], dtype=object),
        word_errors=errors[:, 0],
        n_words=errors[:, 1],
        nats=nats[:, :3],
        positions=nats[:, 3],
    )
    return paired, tuple(rejects)


ScoreIndex = dict[str, dict[ColumnName, dict[Rendered | None, Score]]]


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


# --- one row ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the report, and the error of its gap, which shrinkage needs and the report does not show."""

    row: GapRow
    gap_error: float


def item_values(paired: Paired, renderings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Item-level values under a mask of renderings: positions of the items left, int (n,), and their values, (n,
    n_columns)."""
    weight = np.bincount(paired.item_of[renderings], minlength=len(paired.items))
    left = np.flatnonzero(weight)
    columns = []
    for column in paired.columns:
        if column in paired.text:
            columns.append(paired.text[column][left])
        else:
            total = np.bincount(
                paired.item_of[renderings], weights=paired.spoken[column][renderings], minlength=len(paired.items)
            )
            columns.append(total[left] / weight[left])
    return left, np.column_stack(columns)


def measures_for(columns: Sequence[ColumnName]) -> tuple[Measure, ...]:
    """The columns themselves, then the gap, with adapted_text forgetting and misalignment, with a cascade cascade_loss."""

    def difference(name: str, first: ColumnName, second: ColumnName) -> Measure:
        weights = tuple(float(column == first) - float(column == second) for column in columns)
        return Measure(name, weights)

    plain = [Measure(column, tuple(float(other == column) for other in columns)) for column in columns]
    differences = [difference("gap", "base_text", "adapted_speech")]
    if "adapted_text" in columns:
        differences.append(difference("forgetting", "base_text", "adapted_text"))
        differences.append(difference("misalignment", "adapted_text", "adapted_speech"))
    if "base_transcript" in columns:
        differences.append(difference("cascade_loss", "base_text", "base_transcript"))
    return (*plain, *differences)


def _row(paired: Paired, name: str, renderings: np.ndarray, *, seed: np.random.SeedSequence, n_resamples: int) -> _Row:
    """All measures of the items that have a rendering under the mask ``renderings``, bool (n_renderings,)."""
    left, values = item_values(paired, renderings)
    columns = paired.columns
    clusters = cluster_sums(values, [paired.items[position].group for position in left])
    interval_seed, flip_seed = seed.spawn(2)
    measures = measures_for(columns)
    found = {
        measure.name: result
        for measure, result in zip(
            measures, resample(clusters, measures, seed=interval_seed, n_resamples=n_resamples), strict=True
        )
    }
    accuracy = {column: found[column].estimate for column in columns}
    text, speech = accuracy["base_text"].value, accuracy["adapted_speech"].value
    forgetting = misalignment = None
    whole = text - speech
    if "adapted_text" in columns:
        adapted = accuracy["adapted_text"].value
        forgetting = _with_value(found["forgetting"], text - adapted)
        misalignment = _with_value(found["misalignment"], adapted - speech)
        whole = forgetting.value + misalignment.value  # the identity holds as written, not up to rounding
    gap = _with_value(found["gap"], whole)
    loss = None
    if "base_transcript" in columns:
        loss = _with_value(found["cascade_loss"], text - accuracy["base_transcript"].value)
    flips = clusters.sums[:, columns.index("base_text")] - clusters.sums[:, columns.index("adapted_speech")]
    row = GapRow(
        name=name,
        n_items=clusters.n_items,
        n_groups=clusters.n_groups,
        accuracy=accuracy,
        gap=gap,
        forgetting=forgetting,
        misalignment=misalignment,
        cascade_loss=loss,
        p_value=sign_flip_p_value(flips, seed=flip_seed, n_resamples=n_resamples),
        q_value=None,
        shrunk_gap=None,
        wer=_word_error_rate(paired, renderings),
        divergence_nats=_divergence_rates(paired, renderings),
        taxonomy=_taxonomy(paired, renderings),
    )
    return _Row(row, found["gap"].standard_error)


def _with_value(resampled: Resampled, value: float) -> Estimate:
    """The interval around ``value``, which differs from the resampled estimate by rounding only."""
    estimate = resampled.estimate
    assert estimate.low is not None  # for the type checker: resample() gives both bounds
    assert estimate.high is not None
    return Estimate(value, min(estimate.low, value), max(estimate.high, value), estimate.n)


def _word_error_rate(paired: Paired, renderings: np.ndarray) -> float | None:
    words = paired.n_words[renderings].sum()
    return float(paired.word_errors[renderings].sum() / words) if words else None


def _divergence_rates(paired: Paired, renderings: np.ndarray) -> DivergenceRates | None:
    positions = paired.positions[renderings].sum()
    if not positions:
        return None
    forgetting, misalignment, distillation = (float(nats) for nats in paired.nats[renderings].sum(axis=0) / positions)
    return DivergenceRates(forgetting, misalignment, distillation, int(positions))


def _taxonomy(paired: Paired, renderings: np.ndarray) -> dict[str, float]:
    """Share of items by cause; an item with several renderings is split evenly over them. The shares sum to 1."""
    item = paired.item_of[renderings]
    weight = 1.0 / np.bincount(item)[item]
    text, speech = paired.text["base_text"][item], paired.spoken["adapted_speech"][renderings]
    # Levels at which a column is right are those below its value: "t and s" is min(t, s), "t, not s" what t exceeds s by.
    lost = np.maximum(text - speech, 0.0)
    # Without a cascade nothing says whether the recording could be understood, and nothing is put down to the
    # rendering.
    cascade = paired.spoken["base_transcript"][renderings] if "base_transcript" in paired.spoken else text
    heard = np.maximum(np.minimum(text, cascade) - speech, 0.0)
    shares = {
        CORRECT: np.minimum(text, speech),
        WRONG_IN_TEXT: 1.0 - np.maximum(text, speech),
        SPEECH_ONLY: np.maximum(speech - text, 0.0),
        LOST_IN_RENDERING: lost - heard,
    }
    causes = TAXONOMY_UNSPLIT
    if "adapted_text" in paired.text:
        adapted = np.minimum(np.minimum(text, cascade), paired.text["adapted_text"][item])
        aligned = np.maximum(adapted - speech, 0.0)
        shares |= {FORGOTTEN: heard - aligned, LOST_IN_ALIGNMENT: aligned}
        causes = TAXONOMY
    else:
        shares |= {LOST_IN_ADAPTATION: heard}
    # weight @ share rounds; a share is never below 0 or above 1 for that
    return {cause: float(np.clip((weight * shares[cause]).sum() / weight.sum(), 0.0, 1.0)) for cause in causes}


# --- the report ------------------------------------------------------------------------------------------------------


def build_report(
    *,
    items: Sequence[Item],
    scores: Sequence[Score],
    transcripts: Sequence[Transcript] = (),
    divergences: Sequence[Divergence] = (),
    rejects: Sequence[Reject] = (),
    protocols: Sequence[TaskProtocol],
    columns: Sequence[ColumnSpec],
    signature: str,
    split: str,
    seed: int,
    n_resamples: int,
    slice_fields: Sequence[str] = ("voice",),
    created: str,
    notes: Sequence[str] = (),
) -> GapReport:
    """The gap report of one run: ``overall`` (all items), ``domains`` (sorted by name) and ``slices``, on paired items.

    ``slice_fields`` are ``voice``, ``perturbation``, ``task``, or a key of ``Item.fields``; a voice's slice takes the
    spoken columns in that voice and the same items' text columns. ``base_text`` and ``adapted_speech`` are what a gap is made
    of; the other two may be absent from ``columns``, and what they would tell is then ``None``. q-values
    (Benjamini-Hochberg) and shrunken gaps are over the domains only. ``created`` is a time stamp that the caller makes.

    Raises ``UserInputError`` for missing or repeated columns and unknown slice fields, ``DataError`` for unusable
    records (see ``pair``), and ``SaladError`` where no item has a value in every column.
    """
    names = _checked_columns(columns)
    _check_slice_fields(slice_fields, items)
    paired, unpaired = pair(
        items,
        [score for score in scores if score.column in names],
        names,
        transcripts=transcripts,
        divergences=divergences,
        already_rejected=frozenset(reject.item_id for reject in rejects),
    )
    reject_counts = count_rejects((*rejects, *unpaired), items)
    if not paired.items:
        reasons = "; ".join(
            f"{count.step}: {count.reason} ({count.n})" for count in reject_counts[:MAX_REJECT_EXAMPLES]
        )
        raise SaladError(
            f"no item of {len(items)} has a value in every column ({', '.join(names)}). "
            f"Rejects: {reasons or 'none recorded'}."
        )

    def row(kind: str, name: str, renderings: np.ndarray) -> _Row:
        return _row(paired, name, renderings, seed=row_seed(seed, kind, name), n_resamples=n_resamples)

    everything = np.ones(len(paired.item_of), dtype=bool)
    domain_of = np.array([paired.items[position].domain for position in paired.item_of], dtype=object)
    domains = [row("domain", domain, domain_of == domain) for domain in sorted(set(domain_of))]
    q_values = benjamini_hochberg([domain.row.p_value for domain in domains])
    shrunk = shrink([domain.row.gap.value for domain in domains], [domain.gap_error for domain in domains])
    slices = []
    for field in slice_fields:
        labels = _labels(paired, field)
        slices += [SliceRow(field, row(f"slice {field}", label, labels == label).row) for label in sorted(set(labels))]
    return GapReport(
        schema_version=SCHEMA_VERSION,
        signature=signature,
        created=created,
        split=split,
        seed=seed,
        n_resamples=n_resamples,
        protocols=tuple(protocols),
        columns=tuple(sorted(columns, key=lambda column: COLUMNS.index(column.name))),
        overall=row("overall", OVERALL, everything).row,
        domains=tuple(
            replace(domain.row, q_value=q, shrunk_gap=gap)
            for domain, q, gap in zip(domains, q_values, shrunk, strict=True)
        ),
        slices=tuple(slices),
        rejects=reject_counts,
        unparsed={column: sum(not score.parsed for score in scores if score.column == column) for column in names},
        notes=tuple(notes),
        generated=_generated(items, scores, protocols, names),
    )


def _generated(
    items: Sequence[Item], scores: Sequence[Score], protocols: Sequence[TaskProtocol], columns: Sequence[ColumnName]
) -> dict[ColumnName, int]:
    """Scored answers that were read from a text, by column; empty where options were compared throughout."""
    generating = {protocol.task for protocol in protocols if protocol.score not in LOGPROB_SCORES}
    asked = {item.id for item in items if item.task in generating}
    counts = Counter(score.column for score in scores if score.item_id in asked and score.value is not None)
    return {column: counts[column] for column in columns if counts[column]}


def _checked_columns(columns: Sequence[ColumnSpec]) -> tuple[ColumnName, ...]:
    given = [column.name for column in columns]
    for name in given:
        if name not in COLUMNS:
            raise UserInputError(
                f"columns: unknown column {name!r}{did_you_mean(name, COLUMNS)}. Known: {', '.join(COLUMNS)}."
            )
        if given.count(name) > 1:
            raise UserInputError(f"columns: {name!r} is given {given.count(name)} times; expected once.")
    missing = [name for name in REQUIRED_COLUMNS if name not in given]
    if missing:
        raise UserInputError(
            f"columns: {', '.join(missing)} missing; a gap needs {', '.join(REQUIRED_COLUMNS)} "
            "(base_transcript and adapted_text may be left out)."
        )
    return tuple(name for name in COLUMNS if name in given)


def _check_slice_fields(slice_fields: Sequence[str], items: Sequence[Item]) -> None:
    known = {"voice", "perturbation", "task", *(key for item in items for key in item.fields)}
    for field in slice_fields:
        if field not in known:
            raise UserInputError(
                f"slice_fields: no item has the field {field!r}{did_you_mean(field, known)}. "
                f"Known: {', '.join(sorted(known))}."
            )


def _labels(paired: Paired, field: str) -> np.ndarray:
    """The value of a slice field for every rendering, object (n_renderings,)."""
    if field == "voice":
        return paired.voices
    if field == "perturbation":
        return paired.perturbations
    by_item = [item.task if field == "task" else item.fields.get(field, NO_VALUE) for item in paired.items]
    return np.array([by_item[position] for position in paired.item_of], dtype=object)


def count_rejects(rejects: Sequence[Reject], items: Sequence[Item]) -> tuple[RejectCount, ...]:
    """Rejects by step and reason, the most frequent first, with their domains and a few item ids."""
    domain_of = {item.id: item.domain for item in items}
    by_cause: dict[tuple[str, str], list[Reject]] = defaultdict(list)
    for reject in rejects:
        by_cause[reject.step, reject.reason].append(reject)
    counts = []
    for (step, reason), found in by_cause.items():
        domains = Counter(domain_of.get(reject.item_id, UNKNOWN_DOMAIN) for reject in found)
        examples = tuple(sorted({reject.item_id for reject in found})[:MAX_REJECT_EXAMPLES])
        counts.append(RejectCount(step, reason, len(found), dict(sorted(domains.items())), examples))
    return tuple(sorted(counts, key=lambda count: (-count.n, count.step, count.reason)))


# --- signature -------------------------------------------------------------------------------------------------------

_SHORT = 24  # characters of a fingerprint that still fit under a figure


def short_fingerprint(fingerprint: str) -> str:
    """A fingerprint on one line of at most 24 characters: as it is, or its beginning and 8 digits of its sha256."""
    text = "".join(fingerprint.split())
    if len(text) <= _SHORT:
        return text
    return f"{text[: _SHORT - 9]}~{hashlib.sha256(fingerprint.encode()).hexdigest()[:8]}"


def signature(
    *,
    protocols: Sequence[TaskProtocol],
    columns: Sequence[ColumnSpec],
    voices: Sequence[str],
    perturbations: Sequence[str],
    tts: str,
    asr: str,
    seed: int,
    n_resamples: int,
    version: str | None = None,
) -> str:
    """One line that says how a report's numbers were made, in the manner of sacrebleu: ``key:value`` joined by ``|``.

    ``tts`` and ``asr`` are fingerprints; ``version`` is this package's unless given.
    """
    parts = [
        f"{protocol.task}@{short_fingerprint(protocol.data_revision)}|split:{protocol.split}|n:{protocol.n_items}|speak:{protocol.speak}"
        f"|shots:{protocol.shots}{'s' if protocol.spoken_shots else ''}|score:{protocol.score}"
        f"{'|options:lettered' if protocol.options == 'lettered' else ''}"
        for protocol in sorted(protocols, key=lambda protocol: protocol.task)
    ]
    parts.append("voices:" + "+".join(sorted(voices)))
    parts.append("pert:" + "+".join(sorted(perturbations)))
    parts += [f"tts:{short_fingerprint(tts)}", f"asr:{short_fingerprint(asr)}"]
    for column in sorted(columns, key=lambda column: COLUMNS.index(column.name)):
        parts.append(f"{column.name}:{column.system}#{short_fingerprint(column.fingerprint)}")
    parts += [f"seed:{seed}", f"boot:{n_resamples}", f"salad-gap:{version or package_version('salad-gap')}"]
    return "|".join(" ".join(part.split()) for part in parts)
