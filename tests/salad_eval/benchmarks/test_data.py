"""Rows from a local mirror: every layout it may have, every file it may hold, and what is said where something is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from salad_eval.benchmarks import data as task_data
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError
from tests.conftest import rows
from tests.salad_eval.benchmarks.test_items import make_task

Rows = Sequence[Mapping[str, Any]]


def write(path: Path, table: Rows) -> Path:
    """Rows in the format that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(table), indent=1), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([dict(row) for row in table]), path)
    return path


def mirrored(folder: Path, mirror: Path, **keys: Any) -> TaskSpec:
    """The small benchmark as a data set of a hub, read from a mirror."""
    keys = {"dataset_path": "org/name", "dataset_kwargs": None, **keys}
    return load_task(str(make_task(folder, **keys)), data_dir=mirror)


LAYOUTS = [
    ("org__name/test.jsonl", None),
    ("org__name/test.json", None),
    ("org__name/test.parquet", None),
    ("org/name/test.jsonl", None),
    ("org__name/data/test.parquet", None),
    ("org__name/main/test.jsonl", "main"),
    ("org/name/main/test.parquet", "main"),
    ("org/name/main/data/test.json", "main"),
]


@pytest.mark.parametrize(("place", "config"), LAYOUTS)
def test_every_layout_gives_the_same_items(place: str, config: str | None, tmp_path: Path) -> None:
    expected, _, _ = load_items(load_task(str(make_task(tmp_path))), "test")
    mirror = tmp_path / "mirror"
    write(mirror / place, rows())
    items, rejects, protocol = load_items(mirrored(tmp_path, mirror, dataset_name=config), "test")
    assert (items, rejects) == (expected, [])
    assert protocol.data_revision.startswith("sha256:")


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    for n in range(3):
        write(mirror / f"org/name/test-0000{n}-of-00003.parquet", rows()[n * 3 : n * 3 + 3])
    items, _, _ = load_items(mirrored(tmp_path, mirror), "test")
    assert [item.id for item in items] == [f"made:test-{n}" for n in range(8)]
    (mirror / "org/name/test-00001-of-00003.parquet").unlink()
    with pytest.raises(TaskError, match="some are missing"):
        load_items(mirrored(tmp_path, mirror), "test")


def test_cells_of_a_csv_stand_as_they_are(tmp_path: Path) -> None:
    """A reader that guesses types would lose the answers None, NA and 007, and make a date or a truth value of a word."""
    mirror = tmp_path / "mirror"
    path = mirror / "org__name" / "test.csv"
    path.parent.mkdir(parents=True)
    path.write_text(
        'id,domain,question,a,b,answer\r\n1,d,"Which, then?",None,NA,0\r\n2,d,"Two\nlines ""here""?",007,true,1\r\n',
        encoding="utf-8-sig",
    )
    task = mirrored(tmp_path, mirror, doc_to_choice="{{[a, b]}}", fewshot_split=None)
    items, rejects, _ = load_items(task, "test")
    assert rejects == []
    assert [(item.id, item.choices, item.gold) for item in items] == [
        ("made:1", ("None", "NA"), 0),
        ("made:2", ("007", "true"), 1),
    ]
    assert items[1].context == 'Question: Two\nlines "here"?\nAnswer:'


def test_shots_come_from_the_mirror_too(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    write(mirror / "org__name/test.jsonl", rows())
    with pytest.raises(TaskError, match=r"the split 'validation' of its data 'org/name' is not under"):
        load_items(mirrored(tmp_path, mirror), "test", shots=1)
    write(mirror / "org__name/validation.jsonl", rows("validation"))
    items, _, _ = load_items(mirrored(tmp_path, mirror), "test", shots=1)
    assert items[0].context.startswith("Question: What comes as number 1 in astronomy?")


def test_files_that_a_task_names_itself_are_read_from_where_it_says(tmp_path: Path) -> None:
    """Local ones as ever; those of a hub data set by their path in it; those of the web only under the task's name."""
    (tmp_path / "mirror").mkdir()
    local = load_task(str(make_task(tmp_path)), data_dir=tmp_path / "mirror")
    assert len(load_items(local, "test")[0]) == 8
    write(tmp_path / "mirror/org__name/v2/asked.jsonl", rows())
    of_hub = mirrored(tmp_path, tmp_path / "mirror", dataset_kwargs={"data_files": {"test": "v2/asked.jsonl"}})
    assert len(load_items(of_hub, "test")[0]) == 8
    write(tmp_path / "mirror/made/test.jsonl", rows()[:3])
    of_web = mirrored(
        tmp_path,
        tmp_path / "mirror",
        dataset_path="json",
        dataset_kwargs={"data_files": {"test": "https://example.org/x.jsonl"}},
    )
    assert len(load_items(of_web, "test")[0]) == 3


def test_no_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object, **kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(task_data, "_read_dataset", asked)
    with pytest.raises(TaskError, match="is not under"):
        load_items(mirrored(tmp_path, tmp_path), "test")


def test_a_missing_split_names_every_place_that_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(TaskError) as caught:
        load_items(mirrored(tmp_path, tmp_path / "mirror", dataset_name="main"), "test")
    for folder in ("org__name/main", "org/name/main", "org__name/main/data", "org/name/main/data"):
        assert f"{tmp_path}/mirror/{folder}/test{{.jsonl,.json,.parquet,.csv}}" in str(caught.value)
        assert f"{tmp_path}/mirror/{folder}/test-*-of-*.parquet" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_configuration_is_never_read_from_another_ones_place(tmp_path: Path) -> None:
    """Rows above a configuration's folder may be those of all of them."""
    write(tmp_path / "mirror/org__name/test.jsonl", rows())
    with pytest.raises(TaskError, match="is not under"):
        load_items(mirrored(tmp_path, tmp_path / "mirror", dataset_name="hard"), "test")


def test_a_split_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for suffix in ("jsonl", "parquet"):
        write(tmp_path / f"mirror/org__name/test.{suffix}", rows())
    with pytest.raises(TaskError, match=r"more than once \(test.jsonl, test.parquet\); keep one"):
        load_items(mirrored(tmp_path, tmp_path / "mirror"), "test")


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"does not exist\. Give a folder of data sets to --data-dir"):
        load_task(str(make_task(tmp_path)), data_dir=tmp_path / "nowhere")


BAD_FILES = {
    "test.parquet": (b"PAR1 is what a Parquet begins with", "cannot be read as Parquet"),
    "test.jsonl": (b'{"id": 1}\n{"id"', "line 2: is not JSON"),
    "test.json": (b'[{"id": 1}, 3]', "row 2: a row is an object of columns"),
    "test.csv": (b"id,domain\n1,2,3\n", "row 1 has 3 cells, and the header names 2 columns"),
}
BAD_CSV = {
    "no header": (b"", "expected the names of the columns"),
    "a column twice": (b"id,id\n1,2\n", "each once"),
    "an open quote": (b'id,domain\n1,"x\n', "is not CSV in UTF-8"),
    "another encoding": ("id\ngrün\n".encode("latin-1"), "is not CSV in UTF-8"),
}


@pytest.mark.parametrize("file", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named(file: str, tmp_path: Path) -> None:
    data, message = BAD_FILES[file]
    path = tmp_path / "mirror/org__name" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(TaskError) as caught:
        load_items(mirrored(tmp_path, tmp_path / "mirror"), "test")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_csv_that_cannot_be_read_is_explained(case: str, tmp_path: Path) -> None:
    data, message = BAD_CSV[case]
    path = tmp_path / "mirror/org__name/test.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(TaskError, match=message):
        load_items(mirrored(tmp_path, tmp_path / "mirror"), "test")


def test_data_without_the_field_that_is_asked_for(tmp_path: Path) -> None:
    write(
        tmp_path / "mirror/org__name/test.jsonl", [{key: row[key] for key in row if key != "choices"} for row in rows()]
    )
    with pytest.raises(TaskError, match="doc_to_choice is 'choices', which is neither a column of the data"):
        load_items(mirrored(tmp_path, tmp_path / "mirror"), "test")


def test_an_answer_key_out_of_range_is_a_counted_reject(tmp_path: Path) -> None:
    table = [{**row, "answer": 9} if n == 2 else row for n, row in enumerate(rows())]
    write(tmp_path / "mirror/org__name/test.jsonl", table)
    items, rejects, _ = load_items(mirrored(tmp_path, tmp_path / "mirror"), "test")
    assert [(reject.item_id, reject.reason) for reject in rejects] == [("made:test-2", "gold out of range")]
    assert len(items) == 7


# --- process_docs ----------------------------------------------------------------------------------------------------


def of_lm_eval(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, function: str = "process_docs") -> TaskSpec:
    """The small benchmark as if it had been installed with lm-eval, with code beside its YAML."""
    monkeypatch.setattr("salad_eval.benchmarks.reader.lm_eval_tasks_dir", lambda: folder)
    (folder / "utils.py").write_text(code, encoding="utf-8")
    path = make_task(folder)
    path.write_text(path.read_text(encoding="utf-8") + f"process_docs: !function utils.{function}\n", encoding="utf-8")
    return load_task(str(path))


def test_rows_are_processed_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "def process_docs(dataset):\n"
        "    kept = dataset.filter(lambda row: row['domain'] != 'music')\n"
        "    return kept.map(lambda row: {'question': row['question'].upper(), 'extra': 1})\n"
    )
    items, rejects, _ = load_items(of_lm_eval(tmp_path, monkeypatch, code), "test", shots=1)
    assert rejects == []
    assert [item.id for item in items] == [f"made:test-{n}" for n in range(6)]
    assert "WHICH PLANET HAS RINGS?" in items[0].context
    assert "WHAT COMES AS NUMBER 1" in items[0].context  # the shots as well


BAD_CODE = {
    "def process_docs(dataset):\n    return dataset.map(lambda row: {'x': row['nothing']})\n": "fails on the data: KeyError",
    "def process_docs(dataset):\n    import no_such_module_here\n": "needs the Python module 'no_such_module_here'",
    "import no_such_module_here\n": "its code needs the Python module 'no_such_module_here'",
    "raise RuntimeError('broken')\n": "its module cannot be imported: RuntimeError: broken",
    "raise SystemExit('install SWI-Prolog')\n": "its module cannot be imported: SystemExit: install SWI-Prolog",
    "import sys\ndef process_docs(dataset):\n    sys.exit('no templates')\n": "fails on the data: SystemExit: no templates",
    "process_docs = 3\n": "is a int, not a function",
    "x = 1\n": "there is no such function",
}


@pytest.mark.parametrize("code", BAD_CODE)
def test_code_that_fails_is_explained(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError) as caught:
        load_items(of_lm_eval(tmp_path, monkeypatch, code), "test")
    assert BAD_CODE[code] in str(caught.value)


@pytest.mark.parametrize("given", ["[{'question': 'Q?', 'choices': ['a', 'b', 'c'], 'answer': 1}]", "3"])
def test_a_function_may_give_the_shots(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salad_eval.benchmarks.reader.lm_eval_tasks_dir", lambda: tmp_path)
    (tmp_path / "utils.py").write_text(f"def samples():\n    return {given}\n", encoding="utf-8")
    path = make_task(tmp_path, fewshot_split=None, fewshot_config=None)
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text + "fewshot_config:\n  sampler: first_n\n  samples: !function utils.samples\n", encoding="utf-8"
    )
    task = load_task(str(path))
    assert len(load_items(task, "test")[0]) == 8  # without shots nothing is called
    if given == "3":
        with pytest.raises(TaskError, match="samples is 3; expected a list of rows"):
            load_items(task, "test", shots=1)
    else:
        assert load_items(task, "test", shots=1)[0][0].context.startswith("Question: Q?\nAnswer: b\n\n")


def test_code_outside_of_lm_eval_is_never_imported(tmp_path: Path) -> None:
    path = make_task(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "process_docs: !function utils.process_docs\n", encoding="utf-8")
    (tmp_path / "utils.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    with pytest.raises(TaskError, match="would run code that the YAML names"):
        load_task(str(path))


def test_code_of_another_package_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = of_lm_eval(tmp_path, monkeypatch, "", "x")  # what is there is looked for when it is called
    (tmp_path / "utils.py").unlink()
    with pytest.raises(TaskError, match=r"utils\.x is code of another package"):
        load_task(str(task.path))


def test_data_dir_is_part_of_the_task(tmp_path: Path) -> None:
    task = load_task(str(make_task(tmp_path)), data_dir=tmp_path)
    assert task.data_dir == tmp_path
    assert dataclasses.replace(task, data_dir=None) == load_task(str(task.path))
