"""Sharing the sound of a run: a rendered benchmark as a data set that others evaluate on, and read back as recorded items.

    DIR/README.md                      the card: what it is, how it was made, how to load it, WER by voice
    DIR/<task>.yaml                    the task that reads it back (``metadata.salad.audio``), equal to the one exported
    DIR/data/<task>/<split>-00000.parquet, …

One row is one item in one rendering (voice and perturbation). The Parquet files carry the feature types of the datasets
library, so that ``datasets.load_dataset(DIR)`` knows what is sound. They are written a row group at a time: the memory it
takes does not grow with the benchmark. No file is named after anything that a row says.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from salad_eval import records
from salad_eval.audio.sound import sha256_of, to_pcm16
from salad_eval.audio.store import AudioStore
from salad_eval.audio.tables import AudioCell, CellReader, parquet_rows
from salad_eval.errors import AudioError, DataError, TaskError, UserInputError
from salad_eval.pipeline.folder import DONE_FILE, RunFolder
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.progress import track
from salad_eval.report.json import load_report
from salad_eval.types import (
    CLEAN,
    LOGPROB_SCORES,
    Audio,
    GapReport,
    Item,
    Rendering,
    SpokenPart,
    TaskProtocol,
    Transcript,
)

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from salad_eval.benchmarks.reader import TaskSpec

AudioFormat = Literal["flac", "wav"]
CARD_FILE = "README.md"
ROWS_A_GROUP = 100  # what the hub's viewer reads at once; also what is held in memory
GROUP_BYTES = 32 << 20
SHARD_BYTES = 400 << 20
SUFFIX = "_shared"  # of the name of the task that reads an export back, so that both can stand in one run
_LM_EVAL_SPLITS = {"test": "test_split", "validation": "validation_split", "train": "training_split"}


# --- a finished run --------------------------------------------------------------------------------------------------


Rendered = tuple[str, str]  # voice, perturbation


@dataclass(frozen=True, slots=True)
class RenderedRun:
    """What a finished run rendered. ``heard[item]``: its renderings by voice and perturbation, each by part."""

    plan: Plan
    report: GapReport
    tasks: Mapping[str, TaskSpec]
    items: Sequence[Item]
    heard: Mapping[str, Mapping[Rendered, Mapping[str, Rendering]]]
    transcripts: Mapping[tuple[str, str, str, str], Transcript]
    tts: str
    asr: str
    store: AudioStore


def read_rendered(path: Path) -> RenderedRun:
    """The renderings of a finished run. Raises ``DataError`` where the folder holds none and ``TaskError`` where its tasks are gone."""
    from salad_eval.pipeline.run import RenderOutcome, TranscribeOutcome, tasks_of

    if not (path / DONE_FILE).is_file():
        raise DataError(f"{path}: expected the folder of a finished run (it has no {DONE_FILE}).")
    folder = RunFolder(path)
    plan = Plan.from_yaml(path / PLAN_FILE)
    heard: dict[str, dict[Rendered, dict[str, Rendering]]] = defaultdict(lambda: defaultdict(dict))
    for outcome in records.iter_jsonl(folder.file("render"), RenderOutcome):
        if (r := outcome.rendering) is not None:
            heard[r.item_id][r.voice, r.perturbation][r.part] = r
    found = (o.transcript for o in records.iter_jsonl(folder.file("transcribe"), TranscribeOutcome))
    transcripts = {(t.item_id, t.part, t.voice, t.perturbation): t for t in found if t is not None}
    steps = folder.state.steps
    return RenderedRun(
        plan=plan,
        report=load_report(path),
        tasks={task.name: task for task in tasks_of(plan)},
        items=records.read_jsonl(folder.file("items"), Item),
        heard=heard,
        transcripts=transcripts,
        tts=steps["render"].depends_on.get("tts", "") if "render" in steps else "",
        asr=steps["transcribe"].depends_on.get("asr", "") if "transcribe" in steps else "",
        store=AudioStore(plan.audio_store),
    )


# --- columns ---------------------------------------------------------------------------------------------------------


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


def _distinct(names: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
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
    names = [tuple(part.name for part in _ordered(item)) for item in items]
    if len(set(names)) != 1:
        raise DataError(
            f"task {task}: its items do not have the same spoken parts in one order; they cannot be one table."
        )
    parts = _distinct(names[0])
    columns = tuple(PartColumns(name, f"_{parts[name]}" if len(parts) > 1 else "") for name in names[0])
    taken = [*_ITEM_COLUMNS, *(one.of(name) for one in columns for name in _PART_COLUMNS)]
    keys = list(dict.fromkeys(key for item in items for key in item.fields))
    return Layout(task, task_slug, columns, _distinct(keys, taken))


def _ordered(item: Item) -> list[SpokenPart]:
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


# --- rows ------------------------------------------------------------------------------------------------------------


def unshareable(item: Item, heard: Mapping[Rendered, Mapping[str, Rendering]]) -> str | None:
    """Why an item cannot be a row, or ``None``."""
    wanted = {part.name for part in item.spoken_parts}
    if not heard or any(set(parts) != wanted for parts in heard.values()):
        return "not rendered in every voice"
    spoken = _ordered(item)
    rest = item.context[spoken[0].start :]
    if any(rest.count(item.part_text(part)) != 1 for part in spoken):
        return "its prompt holds a spoken part more than once"
    return None


def rows_of(run: RenderedRun, layout: Layout, items: Sequence[Item], format: AudioFormat) -> Iterator[dict[str, Any]]:
    """The rows of a task, one a rendering of an item; sound is read and encoded as they are taken."""
    for item in items:
        for (voice, perturbation), parts in run.heard[item.id].items():
            row: dict[str, Any] = {
                "id": item.id.removeprefix(f"{item.task}:"),
                "task": item.task,
                "split": item.split,
                "domain": item.domain,
                "group": item.group.removeprefix(f"{item.task}:"),
                "voice": voice,
                "perturbation": perturbation,
                "prompt": item.context,
                "choices": list(item.choices),
                "answer": item.gold,
                "right": list(item.golds),
                "answers": list(item.answers),
                **{column: item.fields.get(key) for key, column in layout.fields.items()},
            }
            spans = {part.name: part for part in item.spoken_parts}
            for one in layout.parts:
                heard = run.transcripts.get((item.id, one.part, voice, perturbation))
                row |= _part_row(one, item, spans[one.part], parts[one.part], heard, run.store, format)
            yield row


def _part_row(
    one: PartColumns,
    item: Item,
    part: SpokenPart,
    rendering: Rendering,
    heard: Transcript | None,
    store: AudioStore,
    format: AudioFormat,
) -> dict[str, Any]:
    sound = encode(store.get(rendering.sha256), format)
    return {
        # Named after the sound: the name is shown by viewers and written by tools that unpack a data set.
        one.of("audio"): {"bytes": sound, "path": f"{rendering.sha256[:20]}.{format}"},
        one.of("text"): item.part_text(part),
        one.of("spoken_text"): rendering.spoken_text,
        one.of("speech_start"): part.start,
        one.of("speech_end"): part.end,
        one.of("transcript"): heard.text if heard else None,
        one.of("word_errors"): heard.word_errors if heard else None,
        one.of("n_words"): heard.n_words if heard else None,
        one.of("wer"): heard.wer if heard else None,
        one.of("sha256"): rendering.sha256,
    }


def encode(audio: Audio, format: AudioFormat) -> bytes:
    """A sound as a FLAC or WAV file of 16-bit samples; both give the same samples back."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(audio.samples), audio.sample_rate_hz, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def write_shards(rows: Iterator[dict[str, Any]], schema: pa.Schema, folder: Path, split: str) -> list[Path]:
    """Write the rows to ``<folder>/<split>-00000.parquet`` and on, a row group at a time; an empty table has one file too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    writer: pq.ParquetWriter | None = None
    held: list[dict[str, Any]] = []
    bytes_held = bytes_written = 0
    sounds = [name for name in schema.names if name == "audio" or name.startswith("audio_")]

    def flush() -> None:
        nonlocal writer, held, bytes_held, bytes_written
        if writer is None:
            shards.append(folder / f"{split}-{len(shards):05d}.parquet")
            writer = pq.ParquetWriter(shards[-1], schema)
        writer.write_table(pa.Table.from_pylist(held, schema))
        bytes_written += bytes_held
        held, bytes_held = [], 0
        if bytes_written >= SHARD_BYTES:
            writer.close()
            writer, bytes_written = None, 0

    try:
        for row in rows:
            held.append(row)
            bytes_held += sum(len(row[name]["bytes"]) for name in sounds if isinstance(row[name], dict))
            if len(held) >= ROWS_A_GROUP or bytes_held >= GROUP_BYTES:
                flush()
        if held or not shards:
            flush()
    finally:
        if writer is not None:
            writer.close()
    return shards


# --- the task that reads it back -------------------------------------------------------------------------------------


def task_table(
    layout: Layout, items: Sequence[Item], protocol: TaskProtocol, spec: TaskSpec, split: str, files: Sequence[str]
) -> dict[str, Any]:
    """The YAML (as values) of the task that asks an export's items as the run asked them.

    The prompt before the first spoken part (description, examples) is the task's ``description``, so that the spoken parts are
    looked for behind it.
    """
    first = layout.first.of("speech_start")
    spoken = {
        one.part: "{{prompt[%s:%s]}}" % (one.of("speech_start"), one.of("speech_end"))  # noqa: UP031 (braces)
        for one in layout.parts
    }
    options = all(item.choices for item in items)
    several = any(item.also_gold for item in items)
    ours: dict[str, Any] = {
        "speak": "context",
        "spoken_text": spoken,
        "domain": "domain",
        "group": "group",
        "id": "id",
        "slices": list(layout.fields.values()),
        "score": protocol.score,
        "splits": {protocol.split: split},
        "audio": [
            {
                "column": one.of("audio"),
                "part": one.part,
                "voice": "voice",
                "text": one.of("spoken_text"),
                "perturbation": "perturbation",
            }
            for one in layout.parts
        ],
    }
    table: dict[str, Any] = {
        "task": layout.task + SUFFIX,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {split: list(files)}},
        _LM_EVAL_SPLITS.get(protocol.split, "test_split"): split,
        "output_type": spec.output_type if options else "generate_until",
        "description": "{{prompt[:%s]}}" % first,  # noqa: UP031
        "doc_to_text": "{{prompt[%s:]}}" % first,  # noqa: UP031
        "doc_to_target": ("right" if several else "answer") if options else "answers",
        "target_delimiter": items[0].target_delimiter,
        "num_fewshot": 0,
    }
    if options:
        table["doc_to_choice"] = "choices"
    if table["output_type"] == "multiple_choice":
        table["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    if protocol.score not in LOGPROB_SCORES:
        table["generation_kwargs"] = {
            "until": list(spec.generation.stop),
            "max_gen_toks": spec.generation.max_new_tokens,
        }
    return {**table, "metadata": {"version": 1.0, "salad": ours}}


# --- export ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SharedTask:
    """One task of an export: its files, and what is in them. ``left_out``: items by the reason for which they are not.

    ``source``: the hub's id of the data set that the text is from; ``None`` for files of one's own, whose paths are nobody's business.
    """

    name: str
    source: str | None
    slug: str
    split: str
    yaml: str
    files: tuple[str, ...]
    audio_columns: tuple[str, ...]
    n_items: int
    n_rows: int
    seconds: float
    errors: Mapping[str, tuple[int, int]]  # voice -> word errors, words
    protocol: TaskProtocol
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    folder: Path
    tasks: tuple[SharedTask, ...]
    perturbations: tuple[str, ...]


def export(
    run_folder: Path, out: Path, *, license: str = "unknown", language: str = "en", format: AudioFormat = "flac"
) -> Export:
    """Write what a finished run rendered as a data set into ``out``, which must not be there yet (or be empty).

    ``license`` is an identifier of the hub (``cc-by-4.0``); nobody but the user knows it. Raises ``UserInputError`` for a folder that
    holds something, ``DataError`` for a run that is not finished, ``AudioError`` where the store has lost a sound.
    """
    from salad_eval.sharing.dataset_card import card_page

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserInputError(f"--out {out}: is there already and not empty. Give a new folder.")
    run = read_rendered(run_folder)
    work = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        work.mkdir(parents=True)
        slugs = _distinct([protocol.task for protocol in run.report.protocols])
        tasks = tuple(
            _export_task(run, protocol, slugs[protocol.task], work, format) for protocol in run.report.protocols
        )
        (work / CARD_FILE).write_text(card_page(run, tasks, license=license, language=language), encoding="utf-8")
        if out.exists():
            out.rmdir()
        os.replace(work, out)
    except OSError as cause:
        raise UserInputError(f"cannot write the export to {out}: {cause.strerror or cause}.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Export(out, tasks, run.plan.perturbations)


def _export_task(
    run: RenderedRun, protocol: TaskProtocol, task_slug: str, out: Path, format: AudioFormat
) -> SharedTask:
    left_out: Counter[str] = Counter()
    items = []
    for item in run.items:
        if item.task == protocol.task:
            reason = unshareable(item, run.heard.get(item.id, {}))
            if reason is None:
                items.append(item)
            else:
                left_out[reason] += 1
    if not items:
        raise DataError(
            f"task {protocol.task}: none of its items can be exported ({', '.join(left_out) or 'it has none'})."
        )
    if protocol.task not in run.tasks:
        raise TaskError(f"the run's task {protocol.task!r} is not among the tasks of its plan any more.")
    layout = layout_of(protocol.task, task_slug, items)
    split = slug(protocol.split)
    n_rows, seconds = 0, 0.0
    errors: dict[str, tuple[int, int]] = {}
    for item in items:
        for (voice, _), parts in run.heard[item.id].items():
            n_rows += 1
            seconds += sum(rendering.seconds for rendering in parts.values())
            for r in parts.values():
                t = run.transcripts.get((r.item_id, r.part, r.voice, r.perturbation))
                wrong, words = errors.get(voice, (0, 0))
                errors[voice] = (wrong + t.word_errors, words + t.n_words) if t else (wrong, words)
    rows = track(rows_of(run, layout, items, format), f"export {task_slug}", n_rows)
    shards = write_shards(rows, features_of(layout).arrow_schema, out / "data" / task_slug, split)
    files = [str(shard.relative_to(out)) for shard in shards]
    table = task_table(layout, items, protocol, run.tasks[protocol.task], split, files)
    name = f"{task_slug}.yaml"
    text = yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=1000)
    (out / name).write_text(f"# Reads this data set back: salad run --tasks {name}\n{text}", encoding="utf-8")
    return SharedTask(
        name=protocol.task,
        source=hub_id(run.tasks[protocol.task]),
        slug=task_slug,
        split=split,
        yaml=name,
        files=tuple(files),
        audio_columns=tuple(one.of("audio") for one in layout.parts),
        n_items=len(items),
        n_rows=n_rows,
        seconds=seconds,
        errors=errors,
        protocol=protocol,
        left_out=dict(left_out),
    )


_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")


def hub_id(spec: TaskSpec) -> str | None:
    """The hub's id of a task's data set, where it is one and not a folder here."""
    local = (spec.path.parent / spec.dataset_path).exists() or Path(spec.dataset_path).exists()
    return spec.dataset_path if _HUB_ID.fullmatch(spec.dataset_path) and not local else None


def run_command(yaml_file: str, perturbations: Sequence[str]) -> str:
    """The command that evaluates on a shared task; its recordings under perturbations are used where the plan names these."""
    named = (
        ""
        if tuple(perturbations) == (CLEAN,)
        else f""" --set "perturbations=[{", ".join(map(repr, perturbations))}]\""""
    )
    return f"salad run --preset nano --tasks {shlex.quote(yaml_file)}{named}"


# --- import ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """One task of an exported folder, checked. ``damaged``: what of its sound is not what its row says, at most a few."""

    yaml: Path
    task: str
    n_items: int
    n_rows: int
    seconds: float
    voices: tuple[str, ...]
    perturbations: tuple[str, ...]
    word_errors: int
    n_words: int
    rejects: Mapping[str, int]
    n_damaged: int
    damaged: tuple[str, ...]


def check_import(folder: Path) -> list[Imported]:
    """Read every task of an exported folder, decode all of its sound and compare it with the hashes in its rows.

    No function that a task of the folder names is called. Raises ``DataError`` where one names any, and where the folder holds no task
    that reads it back.
    """
    from salad_eval.benchmarks.items import load_task

    found = []
    for file in sorted(folder.glob("*.yaml")):
        task = load_task(str(file))
        if task.functions:
            raise DataError(
                f"{file}: names the function {task.functions[0].name} (!function), and an export names none. This is not what salad export "
                "wrote; nothing of it was run."
            )
        if task.audio and task.dataset_path == "parquet":
            found.append(_imported(task, file))
    if not found:
        raise DataError(f"{folder}: holds no task of an export (a YAML with metadata.salad.audio over Parquet files).")
    return found


MOST_DAMAGED = 5


def _imported(task: TaskSpec, file: Path) -> Imported:
    from salad_eval.benchmarks.items import load_items
    from salad_eval.benchmarks.recordings import decode

    (split,) = task.splits or ("test",)
    items, rejects, _ = load_items(task, split)
    paths = [file.parent / name for names in task.dataset_kwargs["data_files"].values() for name in names]
    rows, _ = parquet_rows(paths)
    reader = CellReader()
    damaged: list[str] = []
    seconds, wrong, words = 0.0, 0, 0
    for row in track(rows, f"check {file.stem}"):
        for source in task.audio:
            suffix = (source.column or "audio").removeprefix("audio")
            cell = row.get(source.column or "")
            wrong += row.get(f"word_errors{suffix}") or 0
            words += row.get(f"n_words{suffix}") or 0
            try:
                if not isinstance(cell, AudioCell):
                    raise AudioError(f"column {source.column} holds no audio")
                audio = decode(reader.read(cell.table, cell.column, cell.row).data or b"")
                seconds += audio.seconds
                if sha256_of(audio) != row.get(f"sha256{suffix}"):
                    raise AudioError(f"{cell.table}, row {cell.row}: is not the sound that sha256{suffix} names")
            except AudioError as cause:
                damaged.append(str(cause))
    return Imported(
        yaml=file,
        task=task.name,
        n_items=len(items),
        n_rows=len(rows),
        seconds=seconds,
        voices=tuple(sorted({str(row.get("voice")) for row in rows})),
        perturbations=tuple(sorted({str(row.get("perturbation")) for row in rows})),
        word_errors=wrong,
        n_words=words,
        rejects=dict(Counter(reject.reason for reject in rejects)),
        n_damaged=len(damaged),
        damaged=tuple(damaged[:MOST_DAMAGED]),
    )
