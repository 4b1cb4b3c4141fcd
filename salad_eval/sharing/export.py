"""Sharing the sound of a run: a rendered benchmark as a data set that others evaluate on, and read back as recorded items.

    DIR/README.md                      the card: what it is, how it was made, how to load it, WER by voice
    DIR/<task>.yaml                    the task that reads it back (``metadata.salad.audio``), equal to the one exported
    DIR/data/<task>/<split>-00000.parquet, …

One row is one item in one rendering (voice and perturbation). The Parquet files carry the feature types of the datasets
library, so that ``datasets.load_dataset(DIR)`` knows what is sound. They are written a row group at a time: the memory it
takes does not grow with the benchmark. No file is named after anything that a row says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from salad_eval.audio.sound import encoded
from salad_eval.audio.store import AudioStore
from salad_eval.errors import DataError, TaskError, UserInputError
from salad_eval.progress import track
from salad_eval.records import whole_folder
from salad_eval.types import (
    LOGPROB_SCORES,
    Item,
    Rendered,
    Rendering,
    SpokenPart,
    TaskProtocol,
    Transcript,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.sharing.layout import (
    CARD_FILE,
    SUFFIX,
    AudioFormat,
    Layout,
    PartColumns,
    distinct_slugs,
    features_of,
    layout_of,
    parts_in_order,
    slug,
)
from salad_eval.sharing.rendered import RenderedRun, read_rendered
from salad_eval.sharing.shared_task import Export, SharedTask, hub_id

ROWS_A_GROUP = 100  # what the hub's viewer reads at once; also what is held in memory
GROUP_BYTES = 32 << 20
SHARD_BYTES = 400 << 20
_LM_EVAL_SPLITS = {"test": "test_split", "validation": "validation_split", "train": "training_split"}


def unshareable(item: Item, heard: Mapping[Rendered, Mapping[str, Rendering]]) -> str | None:
    """Why an item cannot be a row, or ``None``."""
    wanted = {part.name for part in item.spoken_parts}
    if not heard or any(set(parts) != wanted for parts in heard.values()):
        return "not rendered in every voice"
    spoken = parts_in_order(item)
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
    sound = encoded(store.get(rendering.sha256), format)
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
    with whole_folder(out) as work:
        slugs = distinct_slugs([protocol.task for protocol in run.report.protocols])
        tasks = tuple(
            _export_task(run, protocol, slugs[protocol.task], work, format) for protocol in run.report.protocols
        )
        (work / CARD_FILE).write_text(card_page(run, tasks, license=license, language=language), encoding="utf-8")
    return Export(out, tasks, run.plan.conditions)


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
