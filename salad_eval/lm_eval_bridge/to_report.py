"""From lm-eval's samples of two or more runs to a gap report: the same statistics on results that were made elsewhere.

Runs are paired document by document. Rows of our own tasks know what they are: their id, domain, group, voice, and a digest of the
question as written, by which reading and hearing the same question are known as such. Documents of any other task are paired by
task and number, and must have the same content (lm-eval's ``doc_hash``), or by a field of theirs that the user names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from salad_eval.answers.score import score_response
from salad_eval.errors import DataError, UserInputError, did_you_mean
from salad_eval.gap import report as gap
from salad_eval.gap.pair import REQUIRED_COLUMNS
from salad_eval.gap.signature import RunProtocol
from salad_eval.lm_eval_bridge.rows import GENERATED_METRIC, METRICS, item_of
from salad_eval.lm_eval_bridge.samples import LmEvalRun, Sample
from salad_eval.types import (
    CLEAN,
    COLUMN_FORM,
    COLUMNS,
    ColumnName,
    ColumnSpec,
    GapReport,
    Item,
    Response,
    Score,
    ScoreKind,
    TaskProtocol,
)

SPLIT = "lm-eval"  # foreign documents do not say which split they are of
UNKNOWN_VOICE = "unspecified"
UNKNOWN = "unknown"
_ROW_KEYS = frozenset(("id", "task", "split", "form", "domain", "group", "question_sha256", "score", "context"))
_KIND_OF: Mapping[str, ScoreKind] = {"acc": "ll", "acc_norm": "ll_norm"}
_USUAL_METRICS = ("acc", "exact_match")


@dataclass(frozen=True, slots=True)
class Reading:
    """How foreign documents are read. Each is a field of theirs, or ``None``.

    ``pair_by``: what names the same question in all runs; by default task and number. ``domain``: by default the task.
    ``group``: the resampling unit; by default the document. ``metric``: which of lm-eval's per-document metrics counts.
    """

    pair_by: str | None = None
    domain: str | None = None
    group: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """A gap report with the items and scores it was made from, as a run folder holds them."""

    report: GapReport
    items: tuple[Item, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class _Document:
    """A sample as one item with one score. ``identity`` must be the same wherever the item's id is."""

    item: Item
    score: Score
    identity: str
    protocol: TaskProtocol


def report_from_lm_eval(
    runs: Mapping[ColumnName, Sequence[LmEvalRun]],
    *,
    reading: Reading | None = None,
    slice_fields: Sequence[str] = (),
    seed: int = 0,
    n_resamples: int = 10_000,
    created: str,
) -> Converted:
    """The gap report of lm-eval runs by column. ``base_text`` and ``adapted_speech`` are needed; the others add their measures.

    A text column takes one run; a spoken one takes several where they differ in voice or perturbation. Documents that are not in
    every column are left out of all and counted. Raises ``UserInputError`` for missing or doubled columns and for fields and metrics
    that are not there, ``DataError`` where runs do not belong together: a document that is another one in another run, one form
    where the other is expected, two runs in one voice, no document in common.
    """
    how = reading or Reading()
    _check_columns(runs)
    items: dict[str, Item] = {}
    identities: dict[str, tuple[str, str]] = {}
    scores: dict[tuple[str, ColumnName, str | None, str | None], Score] = {}
    protocols: dict[str, TaskProtocol] = {}
    for column in COLUMNS:
        several = len(runs.get(column, ())) > 1
        for number, run in enumerate(runs.get(column, ()), start=1):
            fallback = f"{UNKNOWN_VOICE} {number}" if several else UNKNOWN_VOICE
            for sample in _of_form(run, column):
                found = _document(sample, column, fallback, how, str(run.path))
                id_ = found.item.id
                _check_same(id_, found.identity, str(run.path), identities)
                key = (id_, column, found.score.voice, found.score.perturbation)
                if key in scores:
                    raise DataError(
                        f"{run.path}: document {id_!r} has a second answer in {column}"
                        + (f", voice {found.score.voice}" if found.score.voice else "")
                        + ". Give each run once, one a voice."
                        + ("" if how.pair_by is None else f" Is {how.pair_by!r} unique within a run?")
                    )
                items.setdefault(id_, found.item)
                scores[key] = found.score
                protocols.setdefault(found.protocol.task, found.protocol)
    _check_overlap(runs, scores)
    listed = list(items.values())
    counted = tuple(_counted(protocol, listed) for protocol in protocols.values())
    said = list(scores.values())
    asked = _asked(runs, counted, said, slice_fields, seed=seed, n_resamples=n_resamples, created=created)
    report = gap.build_report(asked, listed, said, notes=_notes(runs))
    return Converted(report, tuple(listed), tuple(said))


def _asked(
    runs: Mapping[ColumnName, Sequence[LmEvalRun]],
    protocols: tuple[TaskProtocol, ...],
    scores: Sequence[Score],
    slice_fields: Sequence[str],
    *,
    seed: int,
    n_resamples: int,
    created: str,
) -> RunProtocol:
    """What was asked of whom, as far as the runs say it."""
    voices = sorted({score.voice for score in scores if score.voice is not None})
    perturbations = sorted({score.perturbation for score in scores if score.perturbation is not None})
    return RunProtocol(
        protocols=protocols,
        columns=_column_specs(runs),
        split="+".join(sorted({protocol.split for protocol in protocols})),
        voices=tuple(voices),
        conditions=tuple(perturbations),
        tts=UNKNOWN,
        asr=UNKNOWN,
        seed=seed,
        n_resamples=n_resamples,
        slice_fields=tuple(dict.fromkeys([*_usual_slices(perturbations, protocols), *slice_fields])),
        created=created,
    )


# --- documents -------------------------------------------------------------------------------------------------------


def _of_form(run: LmEvalRun, column: ColumnName) -> list[Sample]:
    """The run's samples for a column: of our tasks those in its form, since one run may hold a model reading and hearing.

    Raises ``DataError`` where only the other form is there.
    """
    read = COLUMN_FORM[column] == "text"
    fitting = [sample for sample in run.samples if not _is_ours(sample) or (sample.doc["form"] == "text") == read]
    if not fitting:
        example = run.samples[0]
        raise DataError(
            f"{run.path}: {column} is {'read' if read else 'heard'}, and the documents of {example.task} are "
            f"{'spoken' if read else 'text'} (form {example.doc['form']}). Are two of the folders exchanged?"
        )
    return fitting


def _is_ours(sample: Sample) -> bool:
    return sample.doc.keys() >= _ROW_KEYS


def _document(sample: Sample, column: ColumnName, voice: str, how: Reading, where: str) -> _Document:
    return (
        _our_document(sample, column, how, where)
        if _is_ours(sample)
        else _foreign_document(sample, column, voice, how, where)
    )


def _our_document(sample: Sample, column: ColumnName, how: Reading, where: str) -> _Document:
    doc = sample.doc
    item = item_of(doc)
    kind = _score_kind(str(doc["score"]), where)
    read = COLUMN_FORM[column] == "text"
    spoken = {} if read else {"voice": str(doc["voice"]), "perturbation": str(doc["perturbation"])}
    score = _our_score(sample, item, column, kind, how, where, **spoken)
    protocol = TaskProtocol(
        task=item.task,
        split=item.split,
        data_revision=str(doc.get("data_revision") or UNKNOWN),
        speak=str(doc.get("speak") or UNKNOWN),
        shots=int(cast(int, doc.get("shots") or 0)),
        spoken_shots=bool(doc.get("spoken_shots")),
        score=kind,
        domain_field="domain",
        n_items=0,
        options="lettered" if doc.get("options") == "lettered" else "none",
    )
    return _Document(item, score, str(doc["question_sha256"]), protocol)


def _our_score(
    sample: Sample,
    item: Item,
    column: ColumnName,
    kind: ScoreKind,
    how: Reading,
    where: str,
    voice: str | None = None,
    perturbation: str | None = None,
) -> Score:
    metric = how.metric or METRICS.get(kind, GENERATED_METRIC)
    if metric in sample.metrics:
        parsed = sample.metrics.get("unparsed", 0.0) == 0.0
        value = _value_of(sample, metric, where)
        return Score(item.id, column, voice, perturbation, value, parsed=parsed)
    if how.metric is not None:
        raise _no_metric(sample, metric, where)
    # --predict_only: answers without a metric; the rows say how they are scored.
    response = Response(
        item.id,
        column,
        COLUMN_FORM[column],
        voice,
        perturbation,
        choice_logprobs=sample.logprobs,
        text=sample.answer,
    )
    return score_response(item, response, kind)


def _foreign_document(sample: Sample, column: ColumnName, voice: str, how: Reading, where: str) -> _Document:
    key = _text_field(sample, how.pair_by, "pair-by", where) if how.pair_by else f"{sample.task}:{sample.doc_id}"
    metric = how.metric or next((name for name in _USUAL_METRICS if name in sample.metrics), None)
    if metric is None and len(sample.metrics) == 1:
        metric = next(iter(sample.metrics))
    if metric is None or metric not in sample.metrics:
        raise _no_metric(sample, metric, where)
    choices = sample.continuations
    gold = int(sample.target) if sample.target.isdecimal() and int(sample.target) < len(choices) else None
    task = "lm-eval" if how.pair_by else sample.task
    item = Item(
        id=key,
        task=task,
        split=SPLIT,
        domain=_text_field(sample, how.domain, "domain", where) if how.domain else task,
        context=sample.prompt,
        choices=choices,
        gold=gold,
        group=_text_field(sample, how.group, "group", where) if how.group else key,
        spoken_parts=(),
        target_delimiter="",
        answers=() if choices else (sample.target,),
    )
    read = COLUMN_FORM[column] == "text"
    value = _value_of(sample, metric, where)
    score = Score(key, column, None if read else voice, None if read else CLEAN, value)
    # With a field that pairs, documents may differ (one has text, the other sound); what is right may not.
    identity = f"target {sample.target}" if how.pair_by else sample.doc_hash
    protocol = TaskProtocol(
        task, SPLIT, UNKNOWN, UNKNOWN, 0, False, _KIND_OF.get(metric, "generate"), how.domain or "task", 0
    )
    return _Document(item, score, identity, protocol)


def _value_of(sample: Sample, metric: str, where: str) -> float:
    value = sample.metrics[metric]
    if not 0.0 <= value <= 1.0:
        raise DataError(
            f"{where}: {metric} of {sample.task}, document {sample.doc_id}, is {value}; expected 0 to 1. Choose another --metric: "
            f"{', '.join(sample.metrics)}."
        )
    return value


def _no_metric(sample: Sample, metric: str | None, where: str) -> UserInputError:
    known = ", ".join(sample.metrics) or "none: was it run with --predict_only?"
    wanted = f"has no metric {metric!r}{did_you_mean(metric, sample.metrics)}" if metric else "has several metrics"
    return UserInputError(f"{where}: {sample.task} {wanted}. Give --metric; its documents have {known}")


def _text_field(sample: Sample, name: str, option: str, where: str) -> str:
    value = sample.doc.get(name)
    if value is None or isinstance(value, (list, dict)):
        fields = ", ".join(sample.doc)
        raise UserInputError(
            f"{where}: --{option} {name}: document {sample.doc_id} of {sample.task} has no such field, or no text in it"
            f"{did_you_mean(name, sample.doc)}. Fields: {fields}."
        )
    return str(value)


def _score_kind(text: str, where: str) -> ScoreKind:
    known = get_args(ScoreKind)
    if text not in known:
        raise DataError(f"{where}: its rows are scored by {text!r}; expected one of {', '.join(known)}.")
    return cast(ScoreKind, text)


# --- runs ------------------------------------------------------------------------------------------------------------


def _check_columns(runs: Mapping[ColumnName, Sequence[LmEvalRun]]) -> None:
    for column, given in runs.items():
        if COLUMN_FORM[column] == "text" and len(given) > 1:
            raise UserInputError(f"{column} is given {len(given)} times; text is read once.")
    missing = [column for column in REQUIRED_COLUMNS if not runs.get(column)]
    if missing:
        raise UserInputError(
            f"{', '.join(missing)} missing: a gap is what is lost from {' to '.join(REQUIRED_COLUMNS)}."
        )


def _check_same(id_: str, identity: str, where: str, identities: dict[str, tuple[str, str]]) -> None:
    known, first = identities.setdefault(id_, (identity, where))
    if known != identity:
        raise DataError(
            f"document {id_!r} is one in {first} and another one in {where}: the runs differ in data, in few-shot examples or in what "
            "counts as right. Compare runs of the same data; where the documents only look different (one has sound), name a field "
            "that they share: --pair-by FIELD."
        )


def _check_overlap(
    runs: Mapping[ColumnName, Sequence[LmEvalRun]],
    scores: Mapping[tuple[str, ColumnName, str | None, str | None], Score],
) -> None:
    ids = {column: {key[0] for key in scores if key[1] == column} for column in COLUMNS if runs.get(column)}
    if not set.intersection(*ids.values()):
        example = ", ".join(f"{column}: {min(found)}" for column, found in ids.items())
        raise DataError(
            f"the runs share no document ({example}). Were they made on the same task? Documents of differently named tasks are paired by "
            "a field that they share: --pair-by FIELD."
        )


def _column_specs(runs: Mapping[ColumnName, Sequence[LmEvalRun]]) -> tuple[ColumnSpec, ...]:
    specs = []
    for column in COLUMNS:
        if given := runs.get(column):
            names = list(dict.fromkeys(run.model for run in given))
            prints = list(dict.fromkeys(run.fingerprint for run in given))
            specs.append(ColumnSpec(column, " + ".join(names), COLUMN_FORM[column], " + ".join(prints)))
    return tuple(specs)


def _counted(protocol: TaskProtocol, items: Sequence[Item]) -> TaskProtocol:
    """With the number of items, and for foreign documents a digest of them in the place of a revision."""
    own = [item for item in items if item.task == protocol.task]
    revision = protocol.data_revision
    if revision == UNKNOWN:
        asked = sorted(json.dumps([item.id, list(item.choices), item.gold, list(item.answers)]) for item in own)
        revision = f"docs:{hashlib.sha256(chr(10).join(asked).encode()).hexdigest()[:12]}"
    return replace(protocol, n_items=len(own), data_revision=revision)


def _usual_slices(perturbations: Sequence[str], protocols: Sequence[TaskProtocol]) -> list[str]:
    several = (("condition", perturbations), ("task", protocols))
    return ["voice", *(name for name, values in several if len(values) > 1)]


def _notes(runs: Mapping[ColumnName, Sequence[LmEvalRun]]) -> list[str]:
    notes = ["Made from lm-eval's samples; how the speech was made and recognised is known from the runs alone."]
    for column in COLUMNS:
        for run in runs.get(column, ()):
            notes.append(f"{column}: lm_eval {run.lm_eval_version}, model {run.model}, {' and '.join(run.dates)}.")
            notes += [f"{column}: {note}" for note in run.notes]
    missing = [column for column in COLUMNS if not runs.get(column)]
    meaning = {
        "base_transcript": "no cascade: nothing is put down to the rendering",
        "adapted_text": "the adapted model was not asked in text: the gap is not split into forgetting and misalignment",
    }
    return notes + [f"Without {column}: {meaning[column]}." for column in missing if column in meaning]


def save(converted: Converted, out: Path) -> None:
    """Write the report with its views, and the records that ``salad compare`` reads, into a folder."""
    from salad_eval import records
    from salad_eval.pipeline.folder import DONE_FILE
    from salad_eval.report import write_report

    records.write_jsonl(out / "items.jsonl", converted.items)
    records.write_jsonl(out / "score.jsonl", converted.scores)
    write_report(converted.report, out)
    records.write_atomic(out / DONE_FILE, converted.report.signature + "\n")
