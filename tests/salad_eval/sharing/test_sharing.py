"""A run's sound as a data set: what is written is what was heard, others load it, and a run on it ends in the same numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from salad_eval import records, report
from salad_eval.audio.sound import sha256_of
from salad_eval.audio.store import AudioStore
from salad_eval.audio.tables import CellReader, parquet_rows
from salad_eval.benchmarks.recordings import decode
from salad_eval.cli.share import card_command, export_command, import_command
from salad_eval.errors import AudioError, DataError, SaladError, UserInputError
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.sharing import export as sharing
from salad_eval.sharing import model_card
from salad_eval.sharing.dataset_card import size_category
from salad_eval.sharing.export import export
from salad_eval.sharing.importing import check_import
from salad_eval.sharing.layout import distinct_slugs
from salad_eval.types import ColumnSpec, Estimate, GapReport, GapRow, Response, Score, SliceRow, TaskProtocol
from tests.conftest import TASK, json_alone, rows, write_rows
from tests.salad_eval.benchmarks.test_items import make_task
from tests.salad_eval.benchmarks.test_recordings import parquet_task, with_audio


@pytest.fixture(autouse=True, scope="module")
def only_json() -> Any:
    """Without the views of a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", json_alone)
        yield


@pytest.fixture(scope="module")
def plan(tiny_models: dict[str, Path], audio_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small benchmark in two voices; everything but ``out``."""
    folder = tmp_path_factory.mktemp("task")
    for split in ("test", "validation"):
        write_rows(folder / f"{split}.jsonl", rows(split))
    (folder / "tiny.yaml").write_text(TASK.format(folder=folder))
    return {
        "name": "tiny", "tasks": [str(folder / "tiny.yaml")], "voices": ["en-us+f3", "en-us+m7"], "tts": {"name": "pyttsx3"},
        "asr": {"name": "transformers-ctc", "options": {"pretrained": str(tiny_models["asr"])}},
        "base": {"system": "hf-text", "options": {"pretrained": str(tiny_models["base"])}},
        "adapted": {"system": "salad", "options": {"pretrained": str(tiny_models["speech"])}},
        "n_resamples": 200, "workers": 1, "audio_store": str(audio_store), "created": "2025-01-01T00:00:00+00:00",
    }  # fmt: skip


def ran(plan: Mapping[str, Any], out: Path, **changes: Any) -> GapReport:
    table = {key: value for key, value in {**plan, "out": str(out), **changes}.items() if value is not None}
    return run(Plan.from_mapping(table))


@pytest.fixture(scope="module")
def finished(plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on four items, in two voices, clean and in noise."""
    out = tmp_path_factory.mktemp("runs") / "run"
    ran(plan, out, limit=4, conditions=["clean", "noise,snr=10"])
    return out


@pytest.fixture(scope="module")
def shared(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "set"
    export(finished, folder, license="cc0-1.0")
    return folder


def scores(folder: Path) -> list[tuple[Any, ...]]:
    """Everything of a run's scores but the tasks' names."""
    found = records.read_jsonl(folder / "score.jsonl", Score)
    return [
        (s.item_id.partition(":")[2], s.column, s.voice, s.perturbation, s.value, s.predicted, s.parsed) for s in found
    ]


def rows_of(found: GapReport) -> list[tuple[str, GapRow]]:
    """Everything of a report's rows but the tasks' names."""
    every = [
        ("", found.overall),
        *(("", row) for row in found.domains),
        *((part.field, part.row) for part in found.slices),
    ]
    return [(field, dataclasses.replace(row, tasks=())) for field, row in every]


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_run_on_the_import_ends_in_the_same_numbers(
    plan: dict[str, Any], finished: Path, shared: Path, tmp_path: Path
) -> None:
    first = report.load_report(finished)
    again = ran(
        plan, tmp_path / "run", tasks=[str(shared / "tiny.yaml")], voices=None, tts=None, conditions=["clean", "noise,snr=10"],
        audio_store=str(tmp_path / "empty"),
    )  # fmt: skip
    assert scores(tmp_path / "run") == scores(finished)
    assert rows_of(again) == rows_of(first)
    assert again.overall.wer == first.overall.wer is not None
    assert "|tts:recorded|" in again.signature


def test_the_embedded_world_comes_back_to_the_last_digit(audio_store: Path, tmp_path: Path) -> None:
    plan = {
        **Plan.preset("nano").model_dump(mode="json"),
        "limit": 3,
        "voices": ["en-us+f3"],
        "n_resamples": 200,
        "workers": 1,
    }
    first = ran(plan, tmp_path / "a", audio_store=str(audio_store))
    export(tmp_path / "a", tmp_path / "set")
    again = ran(
        plan, tmp_path / "b", tasks=[str(tmp_path / "set" / "salad_nano.yaml")], audio_store=str(tmp_path / "empty")
    )
    for column in ("base_transcript", "adapted_speech"):
        ours, theirs = (
            [
                response.choice_logprobs
                for response in records.read_jsonl(tmp_path / run / f"respond.{column}.jsonl", Response)
            ]
            for run in ("a", "b")
        )
        assert ours == theirs
        assert len(ours) == 3
    assert rows_of(again) == rows_of(first)


VARIANTS: dict[str, dict[str, Any]] = {
    "spoken examples are parts of their own": {"shots": 2, "spoken_shots": True, "limit": 3, "voices": ["en-us+f3"]},
    "written examples stand before the part": {"shots": 2, "limit": 3, "voices": ["en-us+f3"]},
    "options that are asked for by generation": {"score": "generate", "limit": 3, "voices": ["en-us+f3"]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_protocol_comes_back(variant: str, plan: dict[str, Any], tmp_path: Path) -> None:
    first = ran(plan, tmp_path / "a", **VARIANTS[variant])
    export(tmp_path / "a", tmp_path / "set", format="wav")
    (imported,) = check_import(tmp_path / "set")
    assert (imported.n_items, imported.n_damaged, imported.rejects) == (3, 0, {})
    again = ran(plan, tmp_path / "b", tasks=[str(tmp_path / "set" / "tiny.yaml")], voices=None, tts=None)
    assert scores(tmp_path / "b") == scores(tmp_path / "a")
    assert rows_of(again) == rows_of(first)
    assert again.protocols[0].score == first.protocols[0].score


def test_free_answers_come_back(plan: dict[str, Any], tmp_path: Path) -> None:
    path = make_task(
        tmp_path, salad={"score": "generate", "slices": ["topic"]}, output_type="generate_until", doc_to_choice=None,
        doc_to_target="{{choices[answer]}}", generation_kwargs={"until": ["\n"], "max_gen_toks": 7}, metric_list=None,
    )  # fmt: skip
    first = ran(plan, tmp_path / "a", tasks=[str(path)], voices=["en-us+f3"], limit=3)
    export(tmp_path / "a", tmp_path / "set")
    table = yaml.safe_load((tmp_path / "set" / "made.yaml").read_text())
    assert table["generation_kwargs"] == {"until": ["\n"], "max_gen_toks": 7}
    again = ran(plan, tmp_path / "b", tasks=[str(tmp_path / "set" / "made.yaml")])
    assert scores(tmp_path / "b") == scores(tmp_path / "a")
    assert rows_of(again) == rows_of(first)
    assert {part.field for part in again.slices} == {"voice", "topic"}


# --- the data set ----------------------------------------------------------------------------------------------------


def test_the_datasets_library_loads_it(shared: Path, tmp_path: Path) -> None:
    import datasets

    data = datasets.load_dataset(str(shared), split="test", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 4 * 2 * 2
    assert data.features["audio"] == datasets.Audio(decode=False)
    row = data[0]
    assert sha256_of(decode(row["audio"]["bytes"])) == row["sha256"]
    assert row["prompt"][row["speech_start"] : row["speech_end"]] == row["text"]
    assert row["choices"][row["answer"]] in ("Saturn", "the sun", "the moon")
    assert {(one["voice"], one["perturbation"]) for one in data.remove_columns("audio")} == {
        (voice, name) for voice in ("en-us+f3", "en-us+m7") for name in ("clean", "noise,snr=10")
    }


def test_every_task_of_a_run_is_a_configuration(plan: dict[str, Any], tmp_path: Path) -> None:
    import datasets

    recorded = parquet_task(tmp_path, with_audio(2), {"column": "audio", "voice": "ann"})
    first = ran(plan, tmp_path / "a", tasks=[*plan["tasks"], str(recorded)], limit=2, voices=["en-us+f3"])
    made = export(tmp_path / "a", tmp_path / "set")
    assert [(task.name, task.n_rows) for task in made.tasks] == [("tiny", 2), ("spoken", 2)]
    for name, voice in (("tiny", "en-us+f3"), ("spoken", "ann")):
        data = datasets.load_dataset(str(tmp_path / "set"), name, split="test", cache_dir=str(tmp_path / "cache"))
        assert data["voice"][:] == [voice, voice]
    again = ran(plan, tmp_path / "b", tasks=[str(tmp_path / "set" / f"{name}.yaml") for name in ("tiny", "spoken")])
    assert [row for field, row in rows_of(again) if not field] == [row for field, row in rows_of(first) if not field]


def test_the_rows_hold_what_the_run_heard(shared: Path, finished: Path, audio_store: Path) -> None:
    table, columns = parquet_rows([shared / "data" / "tiny" / "test-00000.parquet"])
    assert {
        "id",
        "task",
        "domain",
        "choices",
        "answer",
        "voice",
        "perturbation",
        "spoken_text",
        "transcript",
        "wer",
    } <= columns
    renderings = [json.loads(line)["rendering"] for line in (finished / "render.jsonl").read_text().splitlines()]
    assert {row["sha256"] for row in table} == {rendering["sha256"] for rendering in renderings}
    transcripts = [json.loads(line)["transcript"] for line in (finished / "transcribe.jsonl").read_text().splitlines()]
    assert sum(row["word_errors"] for row in table) == sum(transcript["word_errors"] for transcript in transcripts)
    for row in table:
        assert row["wer"] == pytest.approx(row["word_errors"] / row["n_words"])
        cell = CellReader().read(row["audio"].table, "audio", row["audio"].row)
        assert cell.path == f"{row['sha256'][:20]}.flac"
        assert cell.data is not None
        assert AudioStore(audio_store).get(row["sha256"]).samples == pytest.approx(decode(cell.data).samples, abs=0)


def test_the_card_says_how_it_was_made(shared: Path, finished: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(shared / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.language == ["en"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["configs"][0]["data_files"] == [
        {"split": "test", "path": ["data/tiny/test-00000.parquet"]}
    ]
    text = card.text
    found = report.load_report(finished)
    assert "espeak-ng" in text
    assert found.protocols[0].data_revision in text
    by_voice = {part.row.name: part.row for part in found.slices if part.field == "voice"}
    for voice in ("en-us+f3", "en-us+m7"):
        wer = by_voice[voice].wer
        assert wer is not None
        assert re.search(rf"\| tiny \| {re.escape(voice)} \| {100 * wer:.1f} % \|", text)
    assert """salad run --preset nano --tasks tiny.yaml --set "conditions=['clean', 'noise,snr=10']\"""" in text


@pytest.mark.parametrize(
    ("n", "name"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (1_000_000, "n>1M")]
)
def test_sizes_have_the_hubs_names(n: int, name: str) -> None:
    assert size_category(n) == name


def test_long_tables_are_cut_into_row_groups_and_files(
    finished: Path, plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    taken: list[int] = []
    held = 0

    def counted(*args: Any) -> Any:
        nonlocal held
        for row in rows_of(*args):
            held += 1
            taken.append(held)
            yield row

    rows_of = sharing.rows_of
    write_table = pq.ParquetWriter.write_table

    def written(self: Any, table: Any) -> None:
        nonlocal held
        held -= table.num_rows
        write_table(self, table)

    monkeypatch.setattr(sharing, "rows_of", counted)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", written)
    monkeypatch.setattr(sharing, "ROWS_A_GROUP", 3)
    monkeypatch.setattr(sharing, "SHARD_BYTES", 1)
    made = export(finished, tmp_path / "set")
    assert made.tasks[0].files == tuple(f"data/tiny/test-{n:05d}.parquet" for n in range(6))
    assert max(taken) == 3  # rows in memory at once
    (imported,) = check_import(tmp_path / "set")
    assert (imported.n_items, imported.n_rows, imported.n_damaged) == (4, 16, 0)


def test_a_sound_that_was_exchanged_is_found(shared: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(shared, tmp_path / "set")
    file = tmp_path / "set" / "data" / "tiny" / "test-00000.parquet"
    table = pq.read_table(file)
    values = table.to_pylist()
    values[0]["audio"], values[1]["audio"] = values[1]["audio"], values[0]["audio"]
    values[2]["audio"]["bytes"] = b"torn"
    pq.write_table(pa.Table.from_pylist(values, table.schema), file)
    (imported,) = check_import(tmp_path / "set")
    assert imported.n_damaged == 3
    assert "row 0: is not the sound that sha256 names" in imported.damaged[0]
    result = CliRunner().invoke(cli(), ["import", str(tmp_path / "set")])
    assert isinstance(result.exception, SaladError)
    assert "3 recordings are not what their rows say" in str(result.exception)


# --- untrusted text --------------------------------------------------------------------------------------------------

HOSTILE = "../../<script>alert(1)</script> | `x` $(id) [a](b)\n# big"


def test_nothing_that_a_row_says_names_a_file_or_becomes_markup(plan: dict[str, Any], tmp_path: Path) -> None:
    table = with_audio(3, who=f"ann {HOSTILE}", note=HOSTILE)
    for n, row in enumerate(table):
        row["id"] = f"{HOSTILE} {n}"
        row["domain"] = f"{HOSTILE} d"
    path = parquet_task(tmp_path, table, {"column": "audio", "voice": "who"}, slices=["note"])
    first = ran(plan, tmp_path / "a", tasks=[str(path)], voices=None, tts=None)
    export(tmp_path / "a", tmp_path / "set", license=HOSTILE)
    files = [str(file.relative_to(tmp_path / "set")) for file in (tmp_path / "set").rglob("*") if file.is_file()]
    assert sorted(files) == ["README.md", "data/spoken/test-00000.parquet", "spoken.yaml"]
    page = (tmp_path / "set" / "README.md").read_text()
    body = page.partition("\n---\n")[2]
    assert "<script>" not in body
    assert "\n# big" not in body
    assert "[a](b)" not in body
    assert yaml.safe_load(page.split("---\n")[1])["license"] == HOSTILE
    again = ran(plan, tmp_path / "b", tasks=[str(tmp_path / "set" / "spoken.yaml")], voices=None, tts=None)
    assert rows_of(again) == rows_of(first)
    block = model_card.card_block(again, HOSTILE)
    assert "<script>" not in block.partition("\n---\n")[2]


def test_what_has_no_spoken_form_is_shared_too(plan: dict[str, Any], tmp_path: Path) -> None:
    table = with_audio(3)
    table[0]["question"] = "What is \u4e00\u4e01?"
    first = ran(plan, tmp_path / "a", tasks=[str(parquet_task(tmp_path, table))], voices=None, tts=None)
    export(tmp_path / "a", tmp_path / "set")
    again = ran(plan, tmp_path / "b", tasks=[str(tmp_path / "set" / "spoken.yaml")], voices=None, tts=None)
    assert (rows_of(again), again.notes) == (rows_of(first), first.notes)
    assert len(again.notes) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("", "unnamed"),
        ("é€", "unnamed"),
        ("mmlu:law", "mmlu_law"),
        ("a" * 99, "a" * 60),
    ],
)
def test_names_of_files_are_plain(name: str, expected: str) -> None:
    assert sharing.slug(name) == expected


SOURCES = {
    "allenai/openbookqa": "allenai/openbookqa",
    "json": None,
    "/data/private/set": None,
    "here/data": None,
    "../up": None,
}


@pytest.mark.parametrize("path", SOURCES)
def test_the_card_names_public_sources_and_no_paths(path: str, tmp_path: Path) -> None:
    from salad_eval.benchmarks.catalogue import load_task

    (tmp_path / "here" / "data").mkdir(parents=True)
    spec = load_task(str(make_task(tmp_path, dataset_path=path)))
    assert sharing.hub_id(spec) == SOURCES[path]


def test_tasks_whose_plain_names_are_equal_have_files_of_their_own() -> None:
    assert distinct_slugs(["a b", "a_b", "a-b"]) == {"a b": "a_b", "a_b": "a_b_2", "a-b": "a_b_3"}


# --- what cannot be exported -----------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_explained_and_leaves_nothing(
    finished: Path, audio_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UserInputError, match="is there already and not empty"):
        export(finished, tmp_path / "full")
    with pytest.raises(DataError, match="expected the folder of a finished run"):
        export(tmp_path / "full", tmp_path / "set")
    with pytest.raises(DataError, match="holds no task of an export"):
        check_import(tmp_path / "full")
    lost = shutil.copytree(finished, tmp_path / "lost")
    plan_file = lost / "plan.json"
    table = json.loads(plan_file.read_text())
    plan_file.write_text(json.dumps({**table, "audio_store": str(tmp_path / "nowhere")}))
    with pytest.raises(AudioError, match="has no sound"):
        export(lost, tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "lost"]


def test_items_without_all_of_their_sound_are_left_out_and_counted(finished: Path, tmp_path: Path) -> None:
    cut = shutil.copytree(finished, tmp_path / "cut")
    lines = (cut / "render.jsonl").read_text().splitlines(keepends=True)
    gone = json.loads(lines[0])["rendering"]["item_id"]
    (cut / "render.jsonl").write_text(
        "".join(line for line in lines if json.loads(line)["rendering"]["item_id"] != gone)
    )
    kept = (cut / "render.jsonl").read_bytes()
    steps = json.loads((cut / "steps.json").read_text())
    steps["steps"]["render"] |= {"n_lines": len(kept.splitlines()), "sha256": hashlib.sha256(kept).hexdigest()}
    (cut / "steps.json").write_text(json.dumps(steps))
    made = export(cut, tmp_path / "set")
    assert made.tasks[0].n_items == 3
    assert made.tasks[0].left_out == {"not rendered in every voice": 1}
    assert "Left out of tiny: 1 (not rendered in every voice)." in (tmp_path / "set" / "README.md").read_text()


# --- model card ------------------------------------------------------------------------------------------------------


def row(name: str, speech: float, *, adapted_text: bool = True) -> GapRow:
    def estimate(value: float) -> Estimate:
        return Estimate(value, value - 0.1, value + 0.1, 50)

    accuracy = {"base_text": estimate(0.9), "adapted_speech": estimate(speech)}
    if adapted_text:
        accuracy["adapted_text"] = estimate(0.85)
    return GapRow(
        name=name, n_items=50, n_groups=50, accuracy=accuracy, gap=estimate(0.9 - speech),  # type: ignore[arg-type]
        forgetting=estimate(0.05) if adapted_text else None, misalignment=estimate(0.85 - speech) if adapted_text else None,
        cascade_loss=None, p_value=None, q_value=None, shrunk_gap=None, wer=None, divergence_nats=None, taxonomy={},
    )  # fmt: skip


def gap_report(overall: GapRow, *tasks: str, slices: tuple[SliceRow, ...] = ()) -> GapReport:
    protocols = tuple(TaskProtocol(task, "test", "rev1", "context", 5, False, "ll", "domain", 50) for task in tasks)
    columns = tuple(
        ColumnSpec(name, "s", form, "f")  # type: ignore[arg-type]
        for name, form in (("base_text", "text"), ("adapted_text", "text"), ("adapted_speech", "speech"))
    )
    return GapReport(
        schema_version="1.0", signature="a|b", created="", split="test", seed=0, n_resamples=200, protocols=protocols, columns=columns,
        overall=overall, domains=(), slices=slices, rejects=(), unparsed={}, notes=(),
    )  # fmt: skip


def test_a_results_block_is_what_the_hub_reads() -> None:
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import model_index_to_eval_results

    found = gap_report(row("overall", 0.7), "mmlu")
    card = ModelCard(model_card.card_block(found, "me/model"))
    results = card.data.eval_results
    assert results is not None
    values = {result.metric_name.split(" (")[0]: result.metric_value for result in results}  # type: ignore[union-attr]
    assert values == pytest.approx({
        "accuracy of the text LLM, reading": 0.9, "accuracy, reading": 0.85, "accuracy, hearing": 0.7, "text-speech gap": 0.2,
        "forgetting": 0.05, "misalignment": 0.15,
    })  # fmt: skip
    gap = next(result for result in results if result.metric_type == "gap")
    assert gap.metric_args == pytest.approx({"low": 0.1, "high": 0.3, "confidence": 0.95, "n": 50})
    assert (gap.dataset_type, gap.dataset_split, gap.dataset_revision) == ("mmlu", "test", "rev1")
    name, again = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "me/model"
    assert {(one.metric_name, one.metric_value) for one in again} == {
        (one.metric_name, one.metric_value) for one in results
    }
    assert "| mmlu | 50 | 90.0 [80.0, 100.0] | 85.0 [75.0, 95.0] | 70.0 [60.0, 80.0] | 20.0 [10.0, 30.0]" in card.text


def test_every_task_of_a_run_has_its_results() -> None:
    slices = (SliceRow("task", row("mmlu", 0.6)), SliceRow("task", row("arc", 0.8)), SliceRow("voice", row("f3", 0.1)))
    results = model_card.eval_results(gap_report(row("overall", 0.7), "mmlu", "arc", slices=slices))
    speech = {r.dataset_type: r.metric_value for r in results if r.metric_name == "accuracy, hearing"}
    assert speech == {"mmlu": 0.6, "arc": 0.8, "mmlu + arc": 0.7}


def test_what_was_not_measured_is_not_in_the_block() -> None:
    found = gap_report(row("overall", 0.7, adapted_text=False), "mmlu")
    kinds = [result.metric_type for result in model_card.eval_results(found)]
    assert kinds == ["accuracy", "accuracy", "gap"]
    assert "| 20.0 [10.0, 30.0] | – | – |" in model_card.results_table(found)


# --- commands --------------------------------------------------------------------------------------------------------


def cli() -> Any:
    import typer

    app = typer.Typer()
    for name, command in (("export", export_command), ("import", import_command), ("card", card_command)):
        app.command(name)(command)
    return app


def test_the_commands_say_what_they_did(finished: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(cli(), ["export", str(finished), "--out", str(tmp_path / "set")], catch_exceptions=False)
    assert made.exit_code == 0
    assert "tiny: 4 items, 16 recordings" in made.stdout
    checked = runner.invoke(cli(), ["import", str(tmp_path / "set")], catch_exceptions=False)
    assert "tiny_shared: 4 items, 16 recordings" in checked.stdout
    assert f"--tasks {tmp_path / 'set' / 'tiny.yaml'}" in checked.stdout
    printed = runner.invoke(cli(), ["card", str(finished), "--model-name", "me/it"], catch_exceptions=False)
    assert printed.stdout.startswith("---\n")
    assert "name: me/it" in printed.stdout
    runner.invoke(cli(), ["card", str(finished), "--out", str(tmp_path / "card.md")], catch_exceptions=False)
    assert "model-index:" in (tmp_path / "card.md").read_text()
    for bad in (["import", "nowhere"], ["card", str(finished), "--out", str(tmp_path / "card.md" / "inside")]):
        assert isinstance(runner.invoke(cli(), bad).exception, UserInputError)
