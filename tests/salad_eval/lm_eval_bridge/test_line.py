"""lm-eval and ``salad run`` on the same items and weights: one set of numbers, whichever way round it is asked for and converted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import typer

from salad_eval import evaluate, records, resources
from salad_eval.cli.lm_eval import LM_EVAL_CONTEXT, from_lm_eval_command, lm_eval_command, to_lm_eval_command
from salad_eval.errors import DataError, SaladError, UserInputError
from salad_eval.gap.compare import compare
from salad_eval.gap.pair import TAXONOMY_UNSPLIT
from salad_eval.lm_eval_bridge.rows import item_of
from salad_eval.lm_eval_bridge.samples import LmEvalRun, Sample, read_lm_eval
from salad_eval.lm_eval_bridge.to_report import Converted, Reading, report_from_lm_eval, save
from salad_eval.lm_eval_bridge.to_results import results_from_run
from salad_eval.lm_eval_bridge.wrapper import run_lm_eval
from salad_eval.pipeline.finished import read_run
from salad_eval.report import load_report
from salad_eval.types import ColumnName, GapReport, Response
from tests.conftest import json_alone

LIMIT = 28  # two items of each of the fourteen domains
VOICE = "en-us+f3"
CREATED = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class World:
    """A finished run of ours, and lm-eval's output of the same items: by stock lm-eval (base), and by ours (the other three)."""

    run: Path
    report: GapReport
    outputs: Mapping[ColumnName, Path]

    def samples(self, column: ColumnName) -> LmEvalRun:
        """A column's samples: where two columns share a run, those of its form."""
        run = read_lm_eval(self.outputs[column])
        form = {"base_transcript": "cascade", "adapted_speech": "speech"}.get(column, "text")
        return replace(run, samples=tuple(sample for sample in run.samples if sample.doc["form"] == form))

    def results(self, column: ColumnName) -> dict[str, Any]:
        (file,) = self.outputs[column].glob("**/results_*.json")
        return json.loads(file.read_text(encoding="utf-8"))

    def converted(self, *columns: ColumnName, **settings: Any) -> Converted:
        runs = {column: [read_lm_eval(self.outputs[column])] for column in columns}
        return report_from_lm_eval(runs, created=CREATED, n_resamples=200, **settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("salad_eval.report.write_report", json_alone)
        only_our_tasks(patch)
        report = evaluate(
            "nano",
            limit=LIMIT,
            voices=[VOICE],
            n_resamples=200,
            out=folder / "run",
            audio_store=folder / "audio",
            workers=1,
        )
        ours = [f"limit={LIMIT}", f"voice={VOICE}", f"audio_store={folder / 'audio'}", "workers=1"]
        outputs: dict[ColumnName, Path] = {
            "base_text": folder / "base",
            "base_transcript": folder / "cascade",
            "adapted_text": folder / "adapted",
            "adapted_speech": folder / "adapted",
        }
        for model, tasks, output in (
            ("salad-cascade", "salad_nano_cascade", folder / "cascade"),
            ("salad-speech", "salad_nano_text,salad_nano_speech", folder / "adapted"),
        ):
            run_lm_eval([
                "run", "--model", model, "--model_args", "pretrained=nano", "--tasks", tasks,
                "--log_samples", "--output_path", str(output), "--metadata", *ours,
            ])  # fmt: skip
        weights = resources.models_dir() / "nano" / "base"
        stock_lm_eval(
            [
                "--include_path", str(resources.tasks_dir()), "--model", "hf", "--device", "cpu", "--batch_size", "8",
                "--model_args", f"pretrained={weights},dtype=float32", "--tasks", "salad_nano_text",
                "--metadata", f"limit={LIMIT}", "--log_samples", "--output_path", str(outputs["base_text"]),
            ],
            patch,
        )  # fmt: skip
    return World(folder / "run", report, outputs)


def only_our_tasks(patch: pytest.MonkeyPatch) -> None:
    """lm-eval without reading the thousands of tasks of its own, which takes most of a short run's time."""
    from lm_eval.tasks import TaskManager

    patch.setattr(TaskManager, "__init__", partialmethod(TaskManager.__init__, include_defaults=False))


def stock_lm_eval(argv: list[str], patch: pytest.MonkeyPatch) -> None:
    """The command ``lm_eval``, in this process."""
    from lm_eval.__main__ import cli_evaluate

    patch.setattr(sys, "argv", ["lm_eval", *argv])
    cli_evaluate()


def responses(world: World, column: ColumnName) -> dict[str, Response]:
    return {r.item_id: r for r in records.read_jsonl(world.run / f"respond.{column}.jsonl", Response)}


# --- what lm-eval finds is what we find ------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["base_text", "base_transcript", "adapted_text", "adapted_speech"])
def test_log_probabilities_are_those_of_the_run(world: World, column: ColumnName) -> None:
    ours = responses(world, column)
    samples = world.samples(column).samples
    assert {str(sample.doc["id"]) for sample in samples} == set(ours)
    assert len(samples) == LIMIT
    for sample in samples:
        found = ours[str(sample.doc["id"])]
        assert list(sample.logprobs or ()) == pytest.approx(list(found.choice_logprobs or ()), abs=1e-4)


@pytest.mark.parametrize(
    ("column", "group"),
    [
        ("base_text", "salad_nano_text"),
        ("base_transcript", "salad_nano_cascade"),
        ("adapted_text", "salad_nano_text"),
        ("adapted_speech", "salad_nano_speech"),
    ],
)
def test_domain_rows_are_those_of_the_gap_report(world: World, column: ColumnName, group: str) -> None:
    results = world.results(column)
    assert results["groups"][group]["acc,none"] == pytest.approx(world.report.overall.accuracy[column].value)
    assert len(results["group_subtasks"][group]) == len(world.report.domains) == 14
    for row in world.report.domains:
        assert results["results"][f"{group}_{row.name}"]["acc,none"] == pytest.approx(row.accuracy[column].value)


def test_the_text_prompt_is_the_written_context(world: World) -> None:
    items = {item.id: item for item in read_run(world.run).items}
    for sample in read_lm_eval(world.outputs["base_text"]).samples:
        item = items[str(sample.doc["id"])]
        assert (sample.prompt, sample.continuations) == (item.context, item.continuations)


def test_results_name_the_model_by_its_weights(world: World) -> None:
    fingerprints = {column.name: column.fingerprint for column in world.report.columns}
    for column in ("base_transcript", "adapted_text", "adapted_speech"):
        config = world.results(column)["config"]  # type: ignore[arg-type]
        expected = fingerprints[column]  # type: ignore[index]
        found = config["model_fingerprint"]
        assert expected in found if column == "base_transcript" else found == expected


# --- from lm-eval to a gap report ------------------------------------------------------------------------------------


def test_four_runs_make_the_gap_report_of_our_own_run(world: World) -> None:
    found = world.converted("base_text", "base_transcript", "adapted_text", "adapted_speech").report
    ours = world.report
    for theirs, own in zip((found.overall, *found.domains), (ours.overall, *ours.domains), strict=True):
        assert (theirs.name, theirs.n_items, theirs.n_groups) == (own.name, own.n_items, own.n_groups)
        assert theirs.accuracy == own.accuracy, "the same items, groups and seed: the same intervals"
        assert theirs.taxonomy == pytest.approx(own.taxonomy)
        assert (theirs.gap, theirs.forgetting, theirs.p_value) == (own.gap, own.forgetting, own.p_value)
    assert [row.row.name for row in found.slices] == [VOICE]
    (protocol,) = found.protocols
    assert protocol == replace(ours.protocols[0], n_rows=0)  # how many rows the data has is not in lm-eval's results


def test_two_runs_make_a_gap_that_is_not_split(world: World, tmp_path: Path) -> None:
    converted = world.converted("base_text", "adapted_speech")
    row = converted.report.overall
    assert (row.forgetting, row.misalignment, row.cascade_loss) == (None, None, None)
    assert row.gap.value == pytest.approx(world.report.overall.gap.value)
    assert tuple(row.taxonomy) == TAXONOMY_UNSPLIT
    assert sum(row.taxonomy.values()) == pytest.approx(1)
    notes = " ".join(converted.report.notes)
    assert "Without adapted_text" in notes
    assert "Without base_transcript" in notes
    save(converted, tmp_path)  # with the views as they are
    assert load_report(tmp_path) == converted.report
    assert "lost in adaptation" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_converted_report_can_be_compared_with_a_run(world: World, tmp_path: Path, only_json: None) -> None:
    save(world.converted("base_text", "adapted_text", "adapted_speech"), tmp_path)
    found = compare(read_run(world.run), read_run(tmp_path))
    # Converted items hold the prompt as it was read or heard; the text columns' items are the run's.
    assert found.n_shared == LIMIT
    assert found.overall.gap.difference.value == pytest.approx(0)


# --- and back --------------------------------------------------------------------------------------------------------


def test_a_run_as_lm_eval_results_and_back_is_the_same_report(world: World, tmp_path: Path) -> None:
    files = results_from_run(world.run, tmp_path)
    folders = {file.parent.name: file.parent for file in files}
    assert set(folders) == {
        "base_text", "adapted_text", f"base_transcript.{VOICE}.clean", f"adapted_speech.{VOICE}.clean"
    }  # fmt: skip
    runs: dict[ColumnName, list[LmEvalRun]] = {
        "base_text": [read_lm_eval(folders["base_text"])],
        "base_transcript": [read_lm_eval(folders[f"base_transcript.{VOICE}.clean"])],
        "adapted_text": [read_lm_eval(folders["adapted_text"])],
        "adapted_speech": [read_lm_eval(folders[f"adapted_speech.{VOICE}.clean"])],
    }
    found = report_from_lm_eval(runs, created=CREATED, n_resamples=200).report
    for theirs, own in zip(found.domains, world.report.domains, strict=True):
        assert (theirs.accuracy, theirs.gap, theirs.taxonomy) == (own.accuracy, own.gap, own.taxonomy)
    assert [spec.fingerprint for spec in found.columns] == [spec.fingerprint for spec in world.report.columns]


def test_our_results_have_the_numbers_and_the_shape_of_lm_evals(world: World, tmp_path: Path) -> None:
    from lm_eval.utils import make_table

    results_from_run(world.run, tmp_path)
    (file,) = (tmp_path / f"adapted_speech.{VOICE}.clean").glob("results_*.json")
    made, theirs = json.loads(file.read_text(encoding="utf-8")), world.results("adapted_speech")
    for name in made["results"]:
        row = theirs["results"][name]
        for key, value in row.items():
            if key.endswith(",none"):
                assert made["results"][name][key] == pytest.approx(value), (name, key)
        assert made["results"][name]["alias"] == row["alias"]
    assert made["group_subtasks"]["salad_nano_speech"] == theirs["group_subtasks"]["salad_nano_speech"]
    assert "salad_nano_speech" in make_table(made)
    assert "salad_nano_speech" in make_table(made, "groups")
    one = next((tmp_path / f"adapted_speech.{VOICE}.clean").glob("samples_salad_nano_speech_music_*.jsonl"))
    keys = set(json.loads(one.read_text(encoding="utf-8").splitlines()[0]))
    (other,) = world.outputs["adapted_speech"].glob("**/samples_salad_nano_speech_music_*.jsonl")
    assert keys == set(json.loads(other.read_text(encoding="utf-8").splitlines()[0]))


def test_only_a_finished_run_is_converted(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not finished"):
        results_from_run(tmp_path, tmp_path / "out")


# --- runs that do not belong together --------------------------------------------------------------------------------


def changed(run: LmEvalRun, **changes: Any) -> LmEvalRun:
    first, *rest = run.samples
    return replace(run, samples=(replace(first, **changes), *rest))


def test_exchanged_folders_are_found_out(world: World) -> None:
    text, speech = world.samples("base_text"), world.samples("adapted_speech")
    with pytest.raises(DataError, match=r"base_text is read, and the documents .* are spoken .*exchanged"):
        report_from_lm_eval({"base_text": [speech], "adapted_speech": [text]}, created=CREATED)


def test_another_question_under_the_same_id_is_found_out(world: World) -> None:
    text, speech = world.samples("base_text"), world.samples("adapted_speech")
    other = changed(speech, doc={**speech.samples[0].doc, "question_sha256": "0" * 64})
    with pytest.raises(DataError, match=r"is one in .* and another one in"):
        report_from_lm_eval({"base_text": [text], "adapted_speech": [other]}, created=CREATED)


def test_documents_of_one_run_only_are_counted(world: World) -> None:
    text, speech = world.samples("base_text"), world.samples("adapted_speech")
    part = replace(speech, samples=speech.samples[3:])
    report = report_from_lm_eval(
        {"base_text": [text], "adapted_speech": [part]}, created=CREATED, n_resamples=200
    ).report
    assert report.overall.n_items == LIMIT - 3
    (reject,) = report.rejects
    assert (reject.step, reject.n, reject.reason) == ("pair", 3, "no score in adapted_speech")


def test_two_runs_in_one_voice_are_refused_and_in_two_are_averaged(world: World) -> None:
    text, speech = world.samples("base_text"), world.samples("adapted_speech")
    with pytest.raises(DataError, match="second answer in adapted_speech, voice en-us"):
        report_from_lm_eval({"base_text": [text], "adapted_speech": [speech, speech]}, created=CREATED)
    wrong = replace(
        speech,
        samples=tuple(
            replace(sample, doc={**sample.doc, "voice": "other"}, metrics={"acc": 0.0}) for sample in speech.samples
        ),
    )
    report = report_from_lm_eval(
        {"base_text": [text], "adapted_speech": [speech, wrong]}, created=CREATED, n_resamples=200
    ).report
    half = world.report.overall.accuracy["adapted_speech"].value / 2
    assert report.overall.accuracy["adapted_speech"].value == pytest.approx(half)
    assert [row.row.name for row in report.slices] == [VOICE, "other"]


def test_predict_only_runs_are_scored_from_their_answers(world: World) -> None:
    text, speech = world.samples("base_text"), world.samples("adapted_speech")
    bare = replace(speech, samples=tuple(replace(sample, metrics={}) for sample in speech.samples))
    report = report_from_lm_eval(
        {"base_text": [text], "adapted_speech": [bare]}, created=CREATED, n_resamples=200
    ).report
    assert report.overall.gap.value == pytest.approx(world.report.overall.gap.value)


def test_both_ends_of_a_gap_are_needed(world: World) -> None:
    text = read_lm_eval(world.outputs["base_text"])
    with pytest.raises(UserInputError, match="adapted_speech missing"):
        report_from_lm_eval({"base_text": [text]}, created=CREATED)
    with pytest.raises(UserInputError, match="base_text is given 2 times"):
        report_from_lm_eval({"base_text": [text, text]}, created=CREATED)


# --- documents of other tasks ----------------------------------------------------------------------------------------


def foreign(task: str, n: int, right: list[int], *, sound: bool = False, **more: Any) -> Sample:
    doc = {"qid": f"q{n}", "topic": "ab"[n % 2], **({"audio": "x.wav"} if sound else {})}
    return Sample(
        task=task,
        doc_id=n,
        doc_hash=f"{task[:3]}{n}{'s' if sound else ''}",
        filter="none",
        doc=doc,
        target="1",
        prompt=f"question {n}",
        continuations=(" yes", " no"),
        logprobs=(-1.0, -2.0),
        answer=None,
        metrics={"acc": float(n in right), "acc_norm": 1.0, "perplexity": 7.5},
        **more,
    )


def foreign_run(task: str, right: list[int], *, n: int = 6, sound: bool = False) -> LmEvalRun:
    samples = tuple(foreign(task, k, right, sound=sound) for k in range(n))
    return LmEvalRun(Path(task), "hf", f"hf({task})", "0.4.13", ("2026",), samples)


def test_foreign_documents_pair_by_task_and_number() -> None:
    runs: dict[ColumnName, list[LmEvalRun]] = {
        "base_text": [foreign_run("arc", [0, 1, 2, 3])],
        "adapted_speech": [foreign_run("arc", [0, 1])],
    }
    report = report_from_lm_eval(runs, reading=Reading(domain="topic"), created=CREATED, n_resamples=200).report
    assert report.overall.gap.value == pytest.approx(2 / 6)
    assert [(row.name, row.n_items, row.gap.value) for row in report.domains] == [
        ("a", 3, pytest.approx(1 / 3)),
        ("b", 3, pytest.approx(1 / 3)),
    ]
    assert report.protocols[0].data_revision.startswith("docs:")
    other = report_from_lm_eval(runs, reading=Reading(metric="acc_norm"), created=CREATED, n_resamples=200).report
    assert other.overall.gap.value == 0.0
    assert other.protocols[0].score == "ll_norm"
    assert [row.name for row in other.domains] == ["arc"]


def test_foreign_documents_with_other_content_or_names_need_a_field() -> None:
    text, sound = foreign_run("arc", [0, 1, 2]), foreign_run("arc", [0], sound=True)
    with pytest.raises(DataError, match="--pair-by FIELD"):
        report_from_lm_eval({"base_text": [text], "adapted_speech": [sound]}, created=CREATED)
    spoken = foreign_run("arc_spoken", [0], sound=True)
    with pytest.raises(DataError, match=r"share no document .*--pair-by FIELD"):
        report_from_lm_eval({"base_text": [text], "adapted_speech": [spoken]}, created=CREATED)
    report = report_from_lm_eval(
        {"base_text": [text], "adapted_speech": [spoken]},
        reading=Reading(pair_by="qid", group="topic"),
        created=CREATED,
        n_resamples=200,
    ).report
    assert (report.overall.gap.value, report.overall.n_groups) == (pytest.approx(2 / 6), 2)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(metric="f1"), "has no metric 'f1'"),
        (Reading(metric="perplexity"), "perplexity of arc, document 0, is 7.5; expected 0 to 1"),
        (Reading(domain="topics"), "did you mean 'topic'"),
        (Reading(pair_by="topic"), "second answer in base_text.*unique"),
    ],
)
def test_wrong_fields_and_metrics_are_named(reading: Reading, message: str) -> None:
    runs: dict[ColumnName, list[LmEvalRun]] = {
        "base_text": [foreign_run("arc", [0])],
        "adapted_speech": [foreign_run("arc", [0])],
    }
    with pytest.raises(SaladError, match=message):
        report_from_lm_eval(runs, reading=reading, created=CREATED)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_folder_without_samples_says_which_flags_make_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--log_samples --output_path"):
        read_lm_eval(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_lm_eval(tmp_path / "nothing")


def test_the_newest_run_of_a_task_counts_and_two_models_are_refused(world: World, tmp_path: Path) -> None:
    (file,) = world.outputs["base_text"].glob("**/samples_salad_nano_text_music_*.jsonl")
    lines = file.read_text(encoding="utf-8")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "samples_t_2026-01-01T00-00-00.1.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "m" / "samples_t_2026-01-02T00-00-00.1.jsonl").write_text(
        lines.splitlines()[0] + "\n", encoding="utf-8"
    )
    run = read_lm_eval(tmp_path)
    assert len(run.samples) == 1
    assert run.notes == ("t was run 2 times; the run of 2026-01-02T00-00-00.1 counts.",)
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "samples_t_2026-01-02T00-00-00.1.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match="several models"):
        read_lm_eval(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: a sample is an object"),
        ('{"arguments": {}}', "line 2: its arguments hold no prompt"),
        ('{"arguments": {"gen_args_0": {"arg_0": "q"}}}', "line 2: filtered_resps is None"),
        (
            '{"arguments": {"gen_args_0": {"arg_0": "q", "arg_1": " a"}}, "filtered_resps": [["nan", "False"]]}',
            "line 2: a log-probability is nan",
        ),
        (
            '{"arguments": {"gen_args_0": {"arg_0": "q", "arg_1": " a"}}, "filtered_resps": [["x", "False"]]}',
            "line 2: a response is",
        ),
    ],
)
def test_a_damaged_line_is_named(world: World, tmp_path: Path, line: str, message: str) -> None:
    (file,) = world.outputs["base_text"].glob("**/samples_salad_nano_text_music_*.jsonl")
    first = file.read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "samples_t_2026-01-01T00-00-00.1.jsonl").write_text(f"{first}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_lm_eval(tmp_path)


def older(sample: dict[str, Any], **metrics: object) -> str:
    """The sample as lm-eval 0.4.3 to 0.4.6 wrote it: nothing says of which filter it is, or which of its keys are metrics."""
    kept = {key: value for key, value in sample.items() if key not in ("filter", "metrics", *sample["metrics"])}
    return json.dumps({**kept, **metrics}) + "\n"


def test_samples_of_older_releases_are_read(world: World, tmp_path: Path) -> None:
    (file,) = world.outputs["base_text"].glob("**/samples_salad_nano_text_music_*.jsonl")
    first, second = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:2]]
    target = tmp_path / "samples_t_2024-07-01T00-00-00.1.jsonl"
    target.write_text(
        older(first, acc=1.0, mcc=[1, 1], f1=[1, 0]) + older(second, acc=False, rouge=[0.1, 0.2]), encoding="utf-8"
    )
    samples = read_lm_eval(tmp_path).samples
    assert [sample.filter for sample in samples] == ["none", "none"]
    assert [sample.metrics for sample in samples] == [{"acc": 1.0, "mcc": 1.0, "f1": 0.0}, {"acc": 0.0}]
    target.write_text(
        "".join(older(one, exact_match=n) for n in (0.0, 1.0) for one in (first, second)), encoding="utf-8"
    )
    with pytest.raises(DataError, match="several filters: 1, 2"):
        read_lm_eval(tmp_path)
    assert [sample.metrics for sample in read_lm_eval(tmp_path, "2").samples] == [{"exact_match": 1.0}] * 2


def test_several_filters_need_a_choice(world: World, tmp_path: Path) -> None:
    (file,) = world.outputs["base_text"].glob("**/samples_salad_nano_text_music_*.jsonl")
    first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    rows = [{**first, "filter": name} for name in ("strict-match", "flexible-extract")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "samples_t_2026-01-01T00-00-00.1.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="--filter strict-match"):
        read_lm_eval(tmp_path)
    (sample,) = read_lm_eval(tmp_path, "flexible-extract").samples
    assert sample.filter == "flexible-extract"
    with pytest.raises(DataError, match="no filter 'loose'"):
        read_lm_eval(tmp_path, "loose")


def test_a_row_is_its_item_again(world: World) -> None:
    items = {item.id: item for item in read_run(world.run).items}
    for sample in read_lm_eval(world.outputs["base_text"]).samples:
        expected = items[str(sample.doc["id"])]
        assert replace(expected, spoken_parts=()) == item_of(sample.doc)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_wrapper_is_a_command_of_its_own_process(world: World, tmp_path: Path) -> None:
    """From its arguments to its files, with --predict_only: one domain, two documents. lm-eval's own tasks are left out, for time."""
    code = (
        "import sys; from functools import partialmethod; from lm_eval.tasks import TaskManager; "
        "TaskManager.__init__ = partialmethod(TaskManager.__init__, include_defaults=False); "
        "from salad_eval.lm_eval_bridge.wrapper import run_lm_eval; run_lm_eval(sys.argv[1:])"
    )
    argv = ["--model", "salad-speech", "--model_args", "pretrained=nano", "--tasks", "salad_nano_speech_music"]
    argv += ["--limit", "2", "--predict_only", "--output_path", str(tmp_path)]
    argv += ["--metadata", f"limit={LIMIT}", f"audio_store={world.run.parent / 'audio'}"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    samples = read_lm_eval(tmp_path).samples
    assert len(samples) == 2
    ours = responses(world, "adapted_speech")
    for sample in samples:
        expected = ours[str(sample.doc["id"])].choice_logprobs
        assert list(sample.logprobs or ()) == pytest.approx(list(expected or ()), abs=1e-4)


@pytest.fixture
def command() -> typer.Typer:
    """The commands as ``salad`` has them."""
    app = typer.Typer()
    app.command("lm-eval", context_settings=LM_EVAL_CONTEXT, add_help_option=False)(lm_eval_command)
    app.command("from-lm-eval")(from_lm_eval_command)
    app.command("to-lm-eval")(to_lm_eval_command)
    return app


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["run", "--help"],
        ["ls", "tasks"],
        ["--model", "salad-text", "-L", "2", "-s", "--tasks", "a,b", "c", "--model_args", "pretrained=nano", "-x"],
        ["--apply_chat_template", "--use_cache", "dir/x", "--gen_kwargs", 'stop=["\\n"]', "--limit=3"],
    ],
)
def test_every_argument_of_lm_eval_is_lm_evals(
    command: typer.Typer, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr("salad_eval.lm_eval_bridge.wrapper.run_lm_eval", given.append)
    command(["lm-eval", *argv], standalone_mode=False)
    assert given == [argv]


def test_reports_are_made_by_command(
    command: typer.Typer, world: World, tmp_path: Path, only_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["from-lm-eval", "--base-text", str(world.outputs["base_text"]), "--out", str(tmp_path / "report")]
    argv += ["--adapted-text", str(world.outputs["adapted_text"])]
    argv += ["--adapted-speech", str(world.outputs["adapted_speech"]), "--n-resamples", "200", "--slice", "relation"]
    command(argv, standalone_mode=False)
    made = load_report(tmp_path / "report")
    assert made.overall.gap.value == pytest.approx(world.report.overall.gap.value)
    assert {row.field for row in made.slices} == {"voice", "relation"}
    command(["to-lm-eval", str(world.run), "--out", str(tmp_path / "theirs")], standalone_mode=False)
    files = capsys.readouterr().out.splitlines()[-4:]
    assert all(Path(file).is_file() for file in files)
