"""Ready sound as items: where it is found, what of it cannot be used and why, and that such items are never read aloud by a TTS."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from salad_eval import plugins, records
from salad_eval.audio.perturb import perturbation
from salad_eval.audio.sound import PCM_SCALE, SAMPLE_RATE_HZ, sha256_of, to_pcm16, write_audio
from salad_eval.audio.store import AudioStore
from salad_eval.audio.tables import AudioCell, CellReader, parquet_rows
from salad_eval.benchmarks import recordings as recorded
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.coverage import coverage
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.recordings import decode, recorded_jobs, recording_problem, render_recorded, unheard, within
from salad_eval.cli.main import main
from salad_eval.errors import AudioError, SaladError, TaskError, UserInputError
from salad_eval.pipeline.items import Benchmark, slice_fields, voices_heard
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import RenderOutcome
from salad_eval.pipeline.run import run
from salad_eval.pipeline.transcribe import TranscribeOutcome
from salad_eval.types import COLUMNS, Audio, GapReport, Item, Recording, Rendering, Response, SpokenPart
from tests.conftest import rows, write_rows
from tests.helpers.places import SHARED_DATA
from tests.salad_eval.benchmarks.test_items import make_task

pytestmark = pytest.mark.usefixtures("only_json")


def voice_of(seed: int, seconds: float = 1.5, rate: int = SAMPLE_RATE_HZ, level: float = 0.3) -> Audio:
    """A sound that is audible from its beginning to shortly before its end."""
    rng = np.random.default_rng(seed)
    samples = level * np.sin(np.cumsum(rng.uniform(0.02, 0.2, int(seconds * rate))))
    samples[-int(0.05 * rate) :] = 0
    return Audio(samples.astype(np.float32), rate)


def wav_bytes(audio: Audio, format: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(audio.samples), audio.sample_rate_hz, format=format, subtype="PCM_16")
    return buffer.getvalue()


def write_parquet(path: Path, table: Sequence[Mapping[str, Any]], rows_a_group: int = 3) -> Path:
    """Rows whose ``audio`` is ``{bytes, path}``, as the datasets library writes it."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[type, Any] = {str: datasets.Value("string"), int: datasets.Value("int64")}
    features = datasets.Features(
        {
            name: datasets.Audio(decode=False)
            if name == "audio"
            else (datasets.List(datasets.Value("string")) if isinstance(value, list) else kinds[type(value)])
            for name, value in table[0].items()
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, features.arrow_schema) as writer:
        for start in range(0, len(table), rows_a_group):
            writer.write_table(pa.Table.from_pylist(list(table[start : start + rows_a_group]), features.arrow_schema))
    return path


def recorded_task(folder: Path, table: list[dict[str, Any]], audio: Any, **salad: Any) -> Path:
    """The small benchmark with ready sound, its rows in a JSONL."""
    return make_task(folder, table, salad={"audio": audio, **salad})


def parquet_task(folder: Path, table: list[dict[str, Any]], audio: Any = None, **salad: Any) -> Path:
    file = write_parquet(folder / "data" / "test.parquet", table)
    return make_task(
        folder, salad={"audio": audio or {"column": "audio"}, **salad}, task="spoken", dataset_path="parquet",
        dataset_kwargs={"data_files": {"test": str(file)}}, validation_split=None, fewshot_split=None,
    )  # fmt: skip


def with_audio(n: int = 8, **columns: Any) -> list[dict[str, Any]]:
    return [
        {**row, **columns, "audio": {"bytes": wav_bytes(voice_of(i)), "path": None}} for i, row in enumerate(rows()[:n])
    ]


# --- where a row's sound lies ----------------------------------------------------------------------------------------


def test_a_parquet_column_is_located_and_not_read(tmp_path: Path) -> None:
    items, rejects, protocol = load_items(load_task(str(parquet_task(tmp_path, with_audio()))), "test")
    file = str(tmp_path / "data" / "test.parquet")
    assert [item.recordings for item in items] == [
        (Recording("context", "recorded", "clean", None, file, "audio", row),) for row in range(8)
    ]
    assert rejects == []
    assert protocol.data_revision.startswith("sha256:")
    reader = CellReader()
    for row in (7, 0, 3, 4):  # across row groups and back
        cell = reader.read(file, "audio", row)
        assert cell.data == wav_bytes(voice_of(row))


def test_rows_of_a_parquet_file_hold_no_sound(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", with_audio(5))
    table, columns = parquet_rows([file, file])
    assert len(table) == 10
    assert "audio" in columns
    assert [row["audio"] for row in table] == [AudioCell(str(file), "audio", number % 5) for number in range(10)]
    assert [row["question"] for row in table[5:]] == [row["question"] for row in rows()[:5]]


def test_the_datasets_library_is_never_asked_to_decode(tmp_path: Path) -> None:
    write_parquet(tmp_path / "here" / "test-00000-of-00001.parquet", with_audio())
    path = make_task(
        tmp_path, salad={"audio": {"column": "audio"}}, dataset_path="here", dataset_kwargs=None, validation_split=None, fewshot_split=None,
    )  # fmt: skip
    items, rejects, _ = load_items(load_task(str(path)), "test")
    assert rejects == []
    store = AudioStore(tmp_path / "store")
    jobs, dead = recorded_jobs(items, ["clean"])
    assert dead == []
    heard = [outcome for outcome in render_recorded(jobs, store) if isinstance(outcome, Rendering)]
    assert [rendering.sha256 for rendering in heard] == [sha256_of(voice_of(n)) for n in range(8)]


def test_a_folder_of_files_with_a_table_beside_them_is_read(tmp_path: Path) -> None:
    """The layout that the datasets library calls an audiofolder; that library itself needs FFmpeg to read it."""
    (tmp_path / "here").mkdir()
    lines = ["file_name,question,answer,domain"]
    for n, row in enumerate(rows()[:3]):
        write_audio(tmp_path / "here" / f"{n}.wav", voice_of(n))
        lines.append(f"{n}.wav,{row['question']},{row['answer']},{row['domain']}")
    (tmp_path / "here" / "metadata.csv").write_text("\n".join(lines) + "\n")
    path = make_task(
        tmp_path, salad={"audio": {"file": "file_name", "folder": "here"}}, dataset_path="csv",
        dataset_kwargs={"data_files": {"test": "here/metadata.csv"}}, validation_split=None, fewshot_split=None,
        doc_to_choice=["a", "b", "c"],
    )  # fmt: skip
    items, rejects, _ = load_items(load_task(str(path)), "test")
    assert rejects == []
    jobs, dead = recorded_jobs(items, ["clean"])
    heard = [o for o in render_recorded(jobs, AudioStore(tmp_path / "store")) if isinstance(o, Rendering)]
    assert [rendering.sha256 for rendering in heard] == [sha256_of(voice_of(n)) for n in range(3)]
    assert dead == []


def test_a_cell_that_only_names_a_file_is_held_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_audio(tmp_path / "here" / "x.wav", voice_of(5))
    table: list[dict[str, Any]] = with_audio(3)
    table[0]["audio"] = {"bytes": None, "path": str(tmp_path / "here" / "x.wav")}
    table[1]["audio"] = {"bytes": None, "path": "/etc/passwd"}
    write_parquet(tmp_path / "here" / "test-00000-of-00001.parquet", table)
    path = make_task(
        tmp_path, salad={"audio": {"column": "audio"}}, dataset_path="here", dataset_kwargs=None, validation_split=None, fewshot_split=None,
    )  # fmt: skip
    items, rejects, _ = load_items(load_task(str(path)), "test")
    assert [(reject.item_id, reject.reason) for reject in rejects] == [
        ("made:test-1", "audio file outside of the data's folder")
    ]
    jobs, dead = recorded_jobs(items, ["clean"])
    heard = [o for o in render_recorded(jobs, AudioStore(tmp_path / "store")) if isinstance(o, Rendering)]
    assert [rendering.sha256 for rendering in heard] == [sha256_of(voice_of(5)), sha256_of(voice_of(2))]
    assert dead == []


def test_files_are_named_by_a_field_or_a_template(tmp_path: Path) -> None:
    for n, row in enumerate(rows()):
        write_audio(tmp_path / f"{row['id']}.flac", voice_of(n))
    table = [{**row, "path": f"{row['id']}.flac"} for row in rows()]
    table = [
        {**row, "dict": {"path": row["path"], "bytes": None}, "absolute": str(tmp_path / str(row["path"]))}
        for row in table
    ]
    sources: list[dict[str, str]] = [
        {"file": "path"}, {"file": "{{id}}.flac"}, {"file": "{{path}}", "folder": str(tmp_path)}, {"file": "absolute"},
        {"column": "path"}, {"column": "dict"},
    ]  # fmt: skip
    for source in sources:
        items, rejects, _ = load_items(load_task(str(recorded_task(tmp_path, table, source))), "test")
        assert rejects == []
        assert [item.recordings[0].file for item in items] == [str(tmp_path / f"test-{n}.flac") for n in range(8)]


def test_a_manifest_lists_the_recordings_of_an_item(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    lines = [
        {"id": row["id"], "file": f"{row['id']}-{who}.wav", "speaker": who}
        for row in rows()[:6]
        for who in ("ann", "bob")
    ]
    (tmp_path / "speech" / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"manifest": "speech/list.jsonl", "key": "id", "voice": "speaker"}
    items, rejects, _ = load_items(load_task(str(recorded_task(tmp_path, rows(), source))), "test")
    assert len(items) == 6
    assert [recording.voice for recording in items[0].recordings] == ["ann", "bob"]
    assert items[0].recordings[1].file == str(tmp_path / "speech" / "test-0-bob.wav")
    assert Counter(reject.reason for reject in rejects) == {"not in the manifest": 2}


def manifest_task(
    folder: Path, lines: list[dict[str, Any]], source: dict[str, Any] | None = None, **salad: Any
) -> Path:
    """The small benchmark with a manifest beside its data."""
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return recorded_task(folder, rows(), {"manifest": "list.jsonl", "key": "id", **(source or {})}, **salad)


def test_the_pages_manifest_works_as_written(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (task,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.S) if "my_quiz.jsonl" in block]
    (source,) = re.findall(r"`(\{manifest: [^`]*\})`", page)
    (line,) = re.findall(r"```json\n(.*?)\n```", page, re.S)
    fields = yaml.safe_load(task)
    fields["metadata"]["salad"]["audio"] = yaml.safe_load(source)
    (tmp_path / "my_quiz.yaml").write_text(yaml.safe_dump(fields))
    table = [
        {"id": f"q{n}", "question": f"What is {n}?", "choices": ["a", "b"], "answer": 0, "subject": "x"} for n in (6, 7)
    ]
    (tmp_path / "my_quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    (tmp_path / "list.jsonl").write_text(line + "\n" + line.replace("anna", "ben") + "\n")
    items, rejects, _ = load_items(load_task(str(tmp_path / "my_quiz.yaml")), "test")
    assert [[recording.voice for recording in item.recordings] for item in items] == [["anna", "ben"]]
    assert items[0].recordings[0].file == str(tmp_path / "q7-anna.wav")
    assert [reject.reason for reject in rejects] == ["not in the manifest"]


@pytest.mark.parametrize("voice", ["voice", "speaker", "speaker_id"])
@pytest.mark.parametrize("file", ["file", "audio", "audio_path", "audio_filepath", "wav", "path"])
def test_a_manifest_by_the_usual_names_says_file_and_speaker(tmp_path: Path, file: str, voice: str) -> None:
    lines = [{"id": row["id"], file: f"{row['id']}-{who}.wav", voice: who} for row in rows() for who in ("ann", "bob")]
    items, rejects, _ = load_items(load_task(str(manifest_task(tmp_path, lines))), "test")
    assert (len(items), rejects) == (8, [])
    assert [(one.voice, one.file) for one in items[0].recordings] == [
        ("ann", str(tmp_path / "test-0-ann.wav")),
        ("bob", str(tmp_path / "test-0-bob.wav")),
    ]


@pytest.mark.parametrize(
    ("lines", "source", "voices", "reasons"),
    [
        ([{"file": "a.wav"}], {}, ["recorded"], {}),
        ([{"file": "a.wav", "speaker": "ann"}], {"voice": "somebody"}, ["somebody"], {}),
        ([{"file": "a.wav", "speaker": "ann"}, {"file": "b.wav", "speaker": "bob"}], {}, ["ann", "bob"], {}),
        ([{"file": "a.wav"}, {"file": "a.wav"}], {}, ["recorded"], {}),  # the same sound twice is one recording
        ([{"file": "a.wav"}, {"file": "b.wav"}], {}, None, {"several recordings in one voice": 1}),
        ([{"file": "a.wav", "speaker": "ann"}, {"file": "b.wav", "speaker": "ann"}], {}, None,
         {"several recordings in one voice": 1}),
        ([{"file": "a.wav", "speaker": "ann"}, {"file": "b.wav"}], {}, None, {"missing field": 1}),
        ([{"file": "a.wav", "take": 1}, {"file": "b.wav", "take": 2}], {"voice": "take {{take}}"}, ["take 1", "take 2"], {}),
        ([{"file": "a.wav", "done": "clean"}, {"file": "b.wav", "done": "noise,snr=10"}], {"perturbation": "done"},
         ["recorded", "recorded"], {}),
    ],
)  # fmt: skip
def test_several_rows_of_a_key_are_speakers_or_a_counted_reject(
    tmp_path: Path,
    lines: list[dict[str, Any]],
    source: dict[str, Any],
    voices: list[str] | None,
    reasons: dict[str, int],
) -> None:
    """40 recordings in 20 questions must never become 20 in silence."""
    listed = [{"id": "test-0", **line} for line in lines] + [{"id": "test-1", **lines[0]}]
    items, rejects, _ = load_items(load_task(str(manifest_task(tmp_path, listed, source))), "test")
    counted = Counter(reject.reason for reject in rejects if reject.reason != "not in the manifest")
    assert counted == reasons
    found = {item.id: [recording.voice for recording in item.recordings] for item in items}
    assert found.get("made:test-0") == voices
    assert "made:test-1" in found


def test_a_manifest_may_hold_every_part_of_a_question(tmp_path: Path) -> None:
    parts = {"question": "{{question}}", "passage": "{{passage}}"}
    lines = [
        {"id": f"q{n}", "part": part, "file": f"q{n}-{part}-{who}.wav", "voice": who}
        for n in range(3)
        for who in ("ann", "bob")
        for part in (*parts, "choices")
    ]
    del lines[3 * 6 - 5 :]  # the last question's recordings but for one part of one speaker
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = [{**row, "id": f"q{n}", "passage": f"This is passage number {n}."} for n, row in enumerate(rows()[:3])]
    task = load_task(
        str(
            make_task(
                tmp_path, table, doc_to_text="{{passage}} Question: {{question}}\nAnswer:",
                salad={"audio": {"manifest": "list.jsonl"}, "spoken_text": parts},
            )
        )
    )  # fmt: skip
    items, rejects, _ = load_items(task, "test")
    assert [(one.part, one.voice, Path(one.file).name) for one in items[1].recordings] == [
        ("passage", "ann", "q1-passage-ann.wav"), ("question", "ann", "q1-question-ann.wav"),
        ("passage", "bob", "q1-passage-bob.wav"), ("question", "bob", "q1-question-bob.wav"),
    ]  # fmt: skip
    assert [(reject.item_id, reject.detail) for reject in rejects] == [
        ("made:q2", "a recording of the spoken part 'passage'")
    ]


def test_rows_of_one_id_are_speakers_of_one_item(tmp_path: Path) -> None:
    table = [{**row, "who": who, "path": "x.wav"} for row in rows()[:3] for who in ("ann", "bob", "cyd")]
    table += [{**table[0]}, {**table[0], "who": "dan", "question": "Which planet has no rings?"}]
    items, rejects, _ = load_items(
        load_task(str(recorded_task(tmp_path, table, {"file": "path", "voice": "who"}))), "test", limit=3
    )
    assert [[recording.voice for recording in item.recordings] for item in items] == [["ann", "bob", "cyd"]] * 3
    assert [(reject.item_id, reject.reason) for reject in rejects] == [("made:test-0", "duplicate id")] * 2


def test_voicebenchs_form_can_be_said(tmp_path: Path) -> None:
    """Columns audio, prompt, reference, domain; the options are part of what is said."""
    prompt = "What is the capital of France? A. Rome. B. Paris."
    table = [
        {"audio": {"bytes": wav_bytes(voice_of(n, 3.5)), "path": f"{n}.wav"}, "prompt": prompt.replace("France", land),
         "reference": "B", "domain": "geography"}
        for n, land in enumerate(("France", "Gaul"))
    ]  # fmt: skip
    file = write_parquet(tmp_path / "test.parquet", table)
    path = tmp_path / "vb.yaml"
    task = {
        "task": "vb", "dataset_path": "parquet", "dataset_kwargs": {"data_files": {"test": file.name}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{prompt}}\nAnswer:", "doc_to_choice": ["A", "B"], "doc_to_target": "reference",
        "metadata": {"salad": {"speak": "context", "spoken_text": "{{prompt}}", "domain": "domain", "audio": {"column": "audio"}}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(task))
    items, rejects, _ = load_items(load_task(str(path)), "test")
    assert rejects == []
    assert [(item.gold, item.domain) for item in items] == [(1, "geography")] * 2
    jobs, dead = recorded_jobs(items, ["clean"])
    assert dead == []
    assert jobs[0].spoken_text.startswith("What is the capital of France?")


def test_voicebenchs_openbookqa_is_read_from_a_mirror(tmp_path: Path) -> None:
    """The task that ships with the package, on invented rows in the data set's own columns."""
    table = [
        {"audio": {"bytes": wav_bytes(voice_of(n, 4.5)), "path": f"{n}.wav"}, "prompt": f"{text} A. Ice. B. Steam. C. Sand. D. Iron.",
         "reference": "A", "question_id": f"q{n}"}
        for n, text in enumerate(("What does water become in the cold?", "Which of these melts first in the sun?"))
    ]  # fmt: skip
    write_parquet(tmp_path / "hlt-lab__voicebench" / "openbookqa" / "test-00000-of-00001.parquet", table)
    items, rejects, _ = load_items(load_task("openbookqa_voicebench", data_dir=tmp_path), "test")
    assert rejects == []
    assert [item.gold for item in items] == [0, 0]
    jobs, dead = recorded_jobs(items, ["clean"])
    assert dead == []
    outcomes = list(render_recorded(jobs, AudioStore(tmp_path / "store")))
    assert [type(outcome) for outcome in outcomes] == [Rendering, Rendering]
    assert jobs[0].spoken_text.startswith("What does water become in the cold?")


OUTSIDE = ("../secret.wav", "/etc/passwd", "a/../../b.wav", "..", "a\0b.wav")


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_row_cannot_name_a_file_outside_of_its_folder(path: str, tmp_path: Path) -> None:
    assert within(tmp_path, path) is None
    table = [{**row, "path": path if n == 0 else "x.wav"} for n, row in enumerate(rows())]
    items, rejects, _ = load_items(load_task(str(recorded_task(tmp_path, table, {"file": "path"}))), "test")
    assert len(items) == 7
    assert [reject.reason for reject in rejects] == ["audio file outside of the data's folder"]


@given(path=st.text(alphabet=st.sampled_from("./ab\0~é"), max_size=20))
def test_a_path_leads_nowhere_but_into_the_folder(path: str) -> None:
    found = within(Path("/data/set"), path)
    assert found is None or os.path.normpath(found).startswith("/data/set/")


def test_what_a_task_gets_wrong_is_named(tmp_path: Path) -> None:
    cases = {
        "audio.column is 'audoi', which is no column of the data; did you mean 'audio'": {"column": "audoi"},
        "audio.file is 'wav', which is neither a field": {"file": "wav"},
        "audio.manifest is 'none.jsonl', and there is no such file": {"manifest": "none.jsonl"},
        "audio.folder is 'nowhere', and there is no folder": {"file": "{{id}}.wav", "folder": "nowhere"},
        "audio.part is 'contxt'; did you mean 'context'": {"column": "audio", "part": "contxt"},
        "expected either column, or file, or manifest": {"column": "audio", "file": "x"},
        "unknown key 'audio.colum'": {"colum": "audio"},
    }
    for message, source in cases.items():
        with pytest.raises(TaskError, match=message):
            load_items(load_task(str(parquet_task(tmp_path, with_audio(), source))), "test")
    (tmp_path / "list.jsonl").write_text('{"id": "test-0", "file": "a.wav"}\n{"file": "b.wav"}\n')
    with pytest.raises(TaskError, match=r"list.jsonl, line 2: has no 'id'"):
        load_items(load_task(str(recorded_task(tmp_path, rows(), {"manifest": "list.jsonl"}))), "test")
    both = {"question": "{{question}}", "frame": "Question:"}
    with pytest.raises(TaskError, match=r"audio.part is not given; the spoken parts are question, frame"):
        load_items(load_task(str(parquet_task(tmp_path, with_audio(), spoken_text=both))), "test")
    with pytest.raises(TaskError, match=r"the spoken part 'frame' has no recording"):
        load_items(
            load_task(str(parquet_task(tmp_path, with_audio(), {"column": "audio", "part": "question"}, spoken_text=both))), "test"
        )  # fmt: skip


def test_rows_that_name_no_recording_are_rejects_and_never_spoken(tmp_path: Path) -> None:
    table: list[dict[str, Any]] = [{**row, "path": "x.wav", "who": "ann", "done": "clean"} for row in rows()]
    table[0]["path"] = None
    table[1]["who"] = " "
    table[2]["done"] = "underwater"
    table[3]["path"] = ""
    source = {"file": "{{path}}", "voice": "who", "perturbation": "done"}
    items, rejects, _ = load_items(load_task(str(recorded_task(tmp_path, table, source))), "test")
    assert all(item.recordings for item in items)
    assert [reject.reason for reject in rejects] == [
        "missing field",
        "missing field",
        "unknown perturbation",
        "no audio",
    ]


# --- what a recording has to be --------------------------------------------------------------------------------------


def item_of(recordings: Sequence[Recording], text: str = "What is tin?", name: str = "t:1") -> Item:
    parts = tuple(dict.fromkeys(recording.part for recording in recordings))
    assert parts == ("context",)
    return Item(
        name, "t", "test", "d", text, ("a", "b"), 0, name, (SpokenPart("context", 0, len(text)),), recordings=tuple(recordings)
    )  # fmt: skip


def outcome_of(folder: Path, data: bytes | None, text: str = "What is tin?", ending: str = ".wav") -> str:
    """``ok``, or the reason for which a file with these bytes is rejected."""
    file = folder / f"sound{ending}"
    if data is not None:
        file.write_bytes(data)
    jobs, dead = recorded_jobs([item_of([Recording("context", "ann", "clean", None, str(file))], text)], ["clean"])
    if dead:
        assert not jobs
        return dead[0].reason
    (outcome,) = render_recorded(jobs, AudioStore(folder / "store"))
    return "ok" if isinstance(outcome, Rendering) else outcome.reason


def noise(seconds: float, level: float) -> Audio:
    n = int(seconds * SAMPLE_RATE_HZ)
    return Audio((level * np.random.default_rng(0).standard_normal(n)).astype(np.float32), SAMPLE_RATE_HZ)


def square(seconds: float) -> Audio:
    return Audio(
        np.where(np.arange(int(seconds * SAMPLE_RATE_HZ)) // 40 % 2, 1.0, -1.0).astype(np.float32), SAMPLE_RATE_HZ
    )


BROKEN: dict[str, tuple[bytes | None, str, str]] = {
    "a WAV": (wav_bytes(voice_of(0)), "What is tin?", "ok"),
    "a FLAC under the name of a WAV": (wav_bytes(voice_of(0), "FLAC"), "What is tin?", "ok"),
    "speech that ends in noise": (wav_bytes(noise(1.5, 0.2)), "What is tin?", "ok"),
    "a dead path": (None, "What is tin?", "no audio file"),
    "no bytes": (b"", "What is tin?", "empty"),
    "a header and no samples": (wav_bytes(Audio(np.zeros(0, np.float32), 16_000)), "What is tin?", "empty"),
    "a text": (b"this is not sound at all" * 50, "What is tin?", "undecodable audio"),
    "a torn FLAC": (wav_bytes(voice_of(0), "FLAC")[:60], "What is tin?", "undecodable audio"),
    "silence": (wav_bytes(Audio(np.zeros(16_000, np.float32), 16_000)), "What is tin?", "silent"),
    "clipped to a square wave": (wav_bytes(square(1.5)), "What is tin?", "clipped"),
    "too short for its text": (wav_bytes(voice_of(0, 0.3)), "What is tin, and which of its oxides did they know?", "too_short"),
    "a minute for four words": (wav_bytes(voice_of(0, 60)), "What is tin?", "too_long"),
    "a text without a spoken form by rule": (wav_bytes(voice_of(0)), "What is \u4e00\u4e01?", "ok"),
    "a minute for such a text": (wav_bytes(voice_of(0, 60)), "What is \u4e00\u4e01?", "too_long"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_heard_is_a_reject_of_the_render_step(case: str, tmp_path: Path) -> None:
    data, text, expected = BROKEN[case]
    assert outcome_of(tmp_path, data, text) == expected


@pytest.mark.parametrize("case", BROKEN)
def test_validation_sees_what_a_run_rejects(case: str, tmp_path: Path) -> None:
    data, text, expected = BROKEN[case]
    file = tmp_path / "sound.wav"
    if data is not None:
        file.write_bytes(data)
    found = unheard([item_of([Recording("context", "ann", "clean", None, str(file))], text)])
    assert [reject.reason for reject in found] == ([] if expected == "ok" else [expected])
    assert not [path for path in tmp_path.iterdir() if path != file], "nothing is kept"


def test_validate_and_coverage_count_missing_and_junk_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2, 8):
        (tmp_path / f"{number}.wav").write_bytes(wav_bytes(voice_of(number)))
    (tmp_path / "1.wav").write_bytes(b"this is not sound at all" * 50)
    table = [{**row, "path": f"{number}.wav"} for number, row in enumerate(rows())]
    task = recorded_task(tmp_path, table, {"file": "{{path}}"})
    write_rows(tmp_path / "validation.jsonl", [{**row, "id": f"v{row['id']}"} for row in table[2:]])
    found = coverage(load_task(str(task)), "test")
    assert (found.n_items, found.n_spoken, found.n_recorded) == (8, 6, 6)
    assert {count.reason: count.n for count in found.rejects} == {"no audio file": 1, "undecodable audio": 1}
    with pytest.raises(SystemExit) as ended:
        main(["tasks", "validate", str(task)])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "1 rejected: no audio file" in told
    assert "1 rejected: undecodable audio" in told


def test_a_file_too_large_to_be_a_question_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MAX_BYTES", 1000)
    assert outcome_of(tmp_path, wav_bytes(voice_of(0))) == "too_long"
    (tmp_path / "folder.wav").mkdir()
    _, dead = recorded_jobs(
        [item_of([Recording("context", "a", "clean", None, str(tmp_path / "folder.wav"))])], ["clean"]
    )
    assert [reject.reason for reject in dead] == ["no audio file"]


def test_days_of_silence_in_a_small_file_are_not_decoded() -> None:
    data = wav_bytes(Audio(np.zeros(8_000 * 120, np.float32), 8_000), "FLAC")
    assert len(data) < 40_000
    decoded = decode(data, max_seconds=2.0)
    assert decoded.seconds == 3.0
    assert recording_problem(Audio(np.full(8_000 * 601, 0.1, np.float32), 8_000), "word " * 10_000) == "too_long"
    with pytest.raises(AudioError):
        decode(b"RIFF\x24\x00\x00\x00WAVEfmt ")


def test_channels_are_averaged_and_rates_brought_to_one(tmp_path: Path) -> None:
    tone = voice_of(1, 1.5, 44_100).samples
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone, np.zeros_like(tone)], axis=1), 44_100, format="WAV", subtype="FLOAT")
    decoded = decode(buffer.getvalue())
    assert decoded.samples == pytest.approx(tone / 2, abs=1e-6)
    (tmp_path / "a.wav").write_bytes(buffer.getvalue())
    store = AudioStore(tmp_path / "store")
    jobs, _ = recorded_jobs([item_of([Recording("context", "ann", "clean", None, str(tmp_path / "a.wav"))])], ["clean"])
    (outcome,) = render_recorded(jobs, store)
    assert isinstance(outcome, Rendering)
    assert (outcome.sample_rate_hz, outcome.n_samples) == (SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 3 // 2)


@given(st.lists(st.integers(-PCM_SCALE, PCM_SCALE - 1), min_size=1, max_size=200), st.sampled_from(["WAV", "FLAC"]))
def test_sixteen_bit_files_come_back_to_the_sample(values: list[int], format: str) -> None:
    audio = Audio(np.array(values, np.float32) / PCM_SCALE, SAMPLE_RATE_HZ)
    assert sha256_of(decode(wav_bytes(audio, format))) == sha256_of(audio)


# --- perturbations ---------------------------------------------------------------------------------------------------


def test_a_recording_made_under_a_perturbation_stands_for_it(tmp_path: Path) -> None:
    clean, noisy = voice_of(1), voice_of(2)
    for name, audio in (("clean", clean), ("noisy", noisy)):
        write_audio(tmp_path / f"{name}.wav", audio)
    item = item_of(
        [
            Recording("context", "ann", "clean", None, str(tmp_path / "clean.wav")),
            Recording("context", "ann", "noise,snr=10", None, str(tmp_path / "noisy.wav")),
        ]
    )
    jobs, dead = recorded_jobs([item], ["clean", "noise,snr=10", "telephone"])
    assert dead == []
    made = {
        r.perturbation: r.sha256 for r in render_recorded(jobs, AudioStore(tmp_path / "s")) if isinstance(r, Rendering)
    }
    assert made["clean"] == sha256_of(clean)
    assert made["noise,snr=10"] == sha256_of(noisy)
    stored = AudioStore(tmp_path / "s").get(made["clean"])
    assert made["telephone"] == sha256_of(perturbation("telephone")(stored))
    only_noisy = dataclasses.replace(item, recordings=item.recordings[1:])
    jobs, dead = recorded_jobs([only_noisy], ["clean"])
    assert (jobs, [reject.reason for reject in dead]) == ([], ["no recording"])


# --- in a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_tts(monkeypatch: pytest.MonkeyPatch) -> None:
    load = plugins.load

    def without(group: plugins.Group, name: str) -> Any:
        assert group != "salad.tts", "a TTS was asked for"
        return load(group, name)

    monkeypatch.setattr(plugins, "load", without)


def ran(plan: Mapping[str, Any], **changes: Any) -> GapReport:
    table = {key: value for key, value in {**plan, **changes}.items() if value is not None}
    return run(Plan.from_mapping(table))


@pytest.mark.usefixtures("no_tts")
def test_a_run_of_recordings_needs_no_voice_and_no_tts(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    table = with_audio(6, who="ann")
    table += [
        {**row, "who": "bob", "audio": {"bytes": wav_bytes(voice_of(50 + n)), "path": None}}
        for n, row in enumerate(table[:2])
    ]
    path = parquet_task(tmp_path, table, {"column": "audio", "voice": "who"})
    found = ran(tiny_plan, tasks=[str(path)], voices=None, tts=None)
    folder = Path(tiny_plan["out"])
    assert found.overall.n_items == 6
    assert "|voices:ann+bob|" in found.signature
    assert "|tts:recorded|" in found.signature
    outcomes = records.read_jsonl(folder / "render.jsonl", RenderOutcome)
    heard = [outcome.rendering for outcome in outcomes if outcome.rendering]
    assert Counter(rendering.voice for rendering in heard) == {"ann": 6, "bob": 2}
    assert {r.sha256 for r in heard} == {sha256_of(voice_of(n)) for n in (*range(6), 50, 51)}
    speech = records.read_jsonl(folder / "respond.adapted_speech.jsonl", Response)
    assert Counter(response.item_id for response in speech) == {f"spoken:test-{n}": 2 if n < 2 else 1 for n in range(6)}
    assert found.overall.divergence_nats is not None
    assert {(part.field, part.row.name, part.row.n_items) for part in found.slices} == {
        ("voice", "ann", 6),
        ("voice", "bob", 2),
    }
    before = {name: (folder / name).read_bytes() for name in ("score.jsonl", "divergence.jsonl", "render.jsonl")}
    assert ran(tiny_plan, tasks=[str(path)], voices=None, tts=None) == found
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_recorded_and_spoken_tasks_stand_in_one_run(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    path = parquet_task(tmp_path, with_audio(4))
    found = ran(tiny_plan, tasks=[*tiny_plan["tasks"], str(path)], limit=4)
    folder = Path(tiny_plan["out"])
    assert found.overall.n_items == 8
    assert "|voices:en-us+f3+en-us+m7+recorded|" in found.signature
    speech = records.read_jsonl(folder / "respond.adapted_speech.jsonl", Response)
    voices = {task: {r.voice for r in speech if r.item_id.startswith(f"{task}:")} for task in ("tiny", "spoken")}
    assert voices == {"tiny": {"en-us+f3", "en-us+m7"}, "spoken": {"recorded"}}
    assert len(speech) == 4 * 2 + 4


def test_a_recording_that_fails_takes_its_item_out_of_all_columns(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    table = with_audio(8)
    table[0]["audio"] = {"bytes": b"no sound", "path": None}
    table[1]["audio"] = {"bytes": None, "path": "gone.wav"}
    table[2]["audio"] = {"bytes": None, "path": None}
    table[3]["audio"] = {"bytes": None, "path": "../../etc/passwd"}
    path = parquet_task(tmp_path, table)
    found = ran(tiny_plan, tasks=[str(path)], voices=None, tts=None)
    assert found.overall.n_items == 4
    assert {(count.step, count.reason): count.n for count in found.rejects} == {
        ("render", "undecodable audio"): 1,
        ("render", "no audio file"): 1,
        ("render", "no audio"): 1,
        ("render", "audio file outside of the data's folder"): 1,
    }
    for column in COLUMNS:
        answers = records.read_jsonl(Path(tiny_plan["out"]) / f"respond.{column}.jsonl", Response)
        assert {answer.item_id for answer in answers} == {f"spoken:test-{n}" for n in range(4, 8)}
    for row in table:
        row["audio"] = {"bytes": b"no sound", "path": None}
    with pytest.raises(SaladError, match="no item is left after rendering: all 8 were rejected"):
        ran(tiny_plan, tasks=[str(parquet_task(tmp_path, table))], voices=None, tts=None)


def test_what_has_no_spoken_form_is_heard_and_has_no_word_errors(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    table = with_audio(4)
    table[0]["question"] = "What is \u4e00\u4e01?"
    path = parquet_task(tmp_path, table)
    found = ran(tiny_plan, tasks=[str(path)], voices=None, tts=None)
    assert found.overall.n_items == 4
    assert found.notes == ("recordings of a text that has no spoken form by rule: 1; they are not part of the WER.",)
    transcripts = [
        o.transcript for o in records.read_jsonl(Path(tiny_plan["out"]) / "transcribe.jsonl", TranscribeOutcome)
    ]
    counted = {t.item_id: (t.n_words, t.wer is None) for t in transcripts if t}
    assert counted["spoken:test-0"] == (0, True)
    assert all(n > 0 for name, (n, _) in counted.items() if name != "spoken:test-0")
    domains = {row.name: row.wer for row in found.domains}
    assert all(wer is not None for wer in domains.values())


def test_a_file_that_changes_under_its_name_is_another_sound(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    for n, row in enumerate(rows()):
        write_audio(tmp_path / f"{row['id']}.wav", voice_of(n))
    path = recorded_task(tmp_path, rows(), {"file": "{{id}}.wav"})
    plan = {**tiny_plan, "tasks": [str(path)]}
    ran(plan)
    write_audio(tmp_path / "test-0.wav", voice_of(77))
    ran(plan)
    outcomes = records.read_jsonl(Path(plan["out"]) / "render.jsonl", RenderOutcome)
    assert outcomes[0].rendering is not None
    assert outcomes[0].rendering.sha256 == sha256_of(voice_of(77))


def test_spoken_tasks_still_need_a_voice_and_a_tts(tiny_plan: dict[str, Any]) -> None:
    for key in ("voices", "tts"):
        with pytest.raises(UserInputError, match=f"the key '{key}' is missing, and task tiny is spoken"):
            ran(tiny_plan, **{key: None})


def test_spoken_examples_are_recordings_too(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    test = write_parquet(tmp_path / "test.parquet", with_audio(4, who="ann"))
    shots = [
        {**row, "who": "bob", "audio": {"bytes": wav_bytes(voice_of(90)), "path": None}} for row in rows("validation")
    ]
    validation = write_parquet(tmp_path / "validation.parquet", shots)
    path = make_task(
        tmp_path, salad={"audio": {"column": "audio", "voice": "who"}}, task="spoken", dataset_path="parquet",
        dataset_kwargs={"data_files": {"test": str(test), "validation": str(validation)}},
    )  # fmt: skip
    items, _, _ = load_items(load_task(str(path)), "test", shots=1, spoken_shots=True)
    assert [(r.part, r.voice, Path(r.file).name) for r in items[0].recordings] == [
        ("shot1.context", "ann", "validation.parquet"), ("context", "ann", "test.parquet"),
    ]  # fmt: skip
    found = ran(tiny_plan, tasks=[str(path)], shots=1, spoken_shots=True, voices=None, tts=None)
    assert found.overall.n_items == 4


def test_ready_sound_is_not_spoken_by_salad_render(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from salad_eval.cli.main import app

    result = CliRunner().invoke(app, ["render", "--task", str(parquet_task(tmp_path, with_audio(2)))])
    assert isinstance(result.exception, UserInputError)
    assert "nothing of it is spoken" in str(result.exception)


def test_many_speakers_are_counted_and_not_listed() -> None:
    items = [item_of([Recording("context", f"s{n}", "clean", None, "x")], name=f"t:{n}") for n in range(30)]
    plan = Plan.from_mapping(
        {"tasks": "t", "asr": {"name": "a"}, "base": {"system": "b"}, "adapted": {"system": "c"}, "voices": ["en-us"]}
    )
    assert voices_heard(plan, items) == ("recorded(30)",)
    assert voices_heard(plan, items[:2]) == ("s0", "s1")
    spoken = dataclasses.replace(items[0], id="t:x", recordings=())
    assert voices_heard(plan, [*items[:2], spoken]) == ("en-us", "s0", "s1")
    assert slice_fields(plan, Benchmark(tuple(items), (), (), {})) == ()
    assert slice_fields(plan, Benchmark(tuple(items[:24]), (), (), {})) == ("voice",)


# --- real human speech -----------------------------------------------------------------------------------------------


def shared_data(name: str) -> Path:
    """A folder of the shared rows; skips the test, by name, where it is absent."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"no {name} among the shared data (SALAD_SHARED_DATA)")
    return folder


def test_a_human_voice_is_transcribed(tmp_path: Path) -> None:
    from salad_eval.pipeline.transcribe import transcribe
    from salad_eval.resources import resolve_pretrained
    from salad_eval.types import Transcript

    folder = shared_data("speech_kathleen")
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()][:12]
    table = [{**row, **line} for row, line in zip([*rows(), *rows()], lines, strict=False)]
    for n, row in enumerate(table):
        row["id"] = f"k{n}"
    path = make_task(
        tmp_path, table, salad={"audio": {"file": "file", "folder": str(folder), "voice": "speaker"}, "spoken_text": "{{text}}"},
        doc_to_text="{{text}}\nAnswer:",
    )  # fmt: skip
    items, rejects, _ = load_items(load_task(str(path)), "test")
    assert rejects == []
    store = AudioStore(tmp_path / "store")
    jobs, dead = recorded_jobs(items, ["clean"])
    renderings = [outcome for outcome in render_recorded(jobs, store) if isinstance(outcome, Rendering)]
    assert (len(renderings), dead) == (12, [])
    assert {rendering.voice for rendering in renderings} == {"kathleen"}
    assert [r.seconds for r in renderings] == pytest.approx([line["duration"] for line in lines], abs=0.01)
    asr = plugins.create("salad.asr", "transformers-ctc", {"pretrained": resolve_pretrained("nano/asr")})
    heard = [t for t in transcribe(renderings, asr, store, answers={}) if isinstance(t, Transcript)]
    assert len(heard) == 12
    assert all(transcript.n_words > 0 and transcript.text for transcript in heard)
