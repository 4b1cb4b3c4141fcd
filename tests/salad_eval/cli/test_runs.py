"""What can be done with finished runs: shown again, compared, put on a board, listed, scored otherwise."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from salad_eval.cli.report import FailIf, _between
from salad_eval.errors import SaladError, UserInputError
from salad_eval.gap.compare import ColumnChange, ComparisonRow
from salad_eval.pipeline import engines
from salad_eval.pipeline.engines import EngineChoice
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run
from salad_eval.report import load_report
from salad_eval.types import COLUMNS, Estimate
from tests.salad_eval.cli.conftest import Salad, plan_of


def test_a_run_lists_its_items_and_names_its_models(runs: Path) -> None:
    page = (runs / "monday" / "report.html").read_text(encoding="utf-8")
    assert 'id="item-data"' in page
    assert "base → ears-monday" in page
    assert 'id="controls"' in page
    assert any((runs / "monday" / "sound").iterdir())


def test_a_report_is_made_again_elsewhere_with_its_items(salad: Salad, runs: Path, tmp_path: Path) -> None:
    shown = salad("report", runs / "monday", "--format", "html", "--out", tmp_path / "there", "--embed-audio", 2)
    assert shown.code == 0, shown.err
    page = (tmp_path / "there" / "report.html").read_text(encoding="utf-8")
    assert 'id="sound-data"' in page
    assert f"--plan {runs / 'monday' / 'plan.json'}" in page, "what next names the run, not the copy"
    assert salad("report", runs / "monday", "--format", "html", "--out", tmp_path / "bare", "--no-items").code == 0
    assert 'id="item-data"' not in (tmp_path / "bare" / "report.html").read_text(encoding="utf-8")


def test_a_moved_run_is_shown_and_compared_from_any_folder(
    salad: Salad, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs / "monday", tmp_path / "elsewhere" / "monday")
    monkeypatch.chdir(tmp_path)
    assert salad("report", "elsewhere/monday").code == 0
    assert salad("report", "elsewhere/monday/gap_report.json", "--format", "html").code == 0
    shown = salad("compare", "elsewhere/monday/gap_report.json", runs / "tuesday", "--out", "compared")
    assert shown.code == 0, shown.err
    page = (tmp_path / "compared" / "comparison.html").read_text(encoding="utf-8")
    assert 'id="item-data"' in page
    assert "monday → tuesday" in page


def test_several_runs_are_compared_with_the_first(salad: Salad, runs: Path, tmp_path: Path) -> None:
    shown = salad("compare", *(runs / day for day in ("monday", "tuesday", "wednesday")), "--out", tmp_path)
    assert shown.code == 0, shown.err
    assert "Against monday" in shown.out
    assert {path.name for path in tmp_path.iterdir()} == {"1-tuesday", "2-wednesday"}
    assert "Another system answers in adapted_text, adapted_speech." in " ".join(shown.out.split())


def test_conditions_of_a_run_are_compared(salad: Salad, runs: Path) -> None:
    shown = salad("compare", runs / "monday", "--between", "condition=clean,telephone")
    assert shown.code == 0, shown.err
    refused = salad("compare", runs / "monday", "--between", "condition=clean,phone")
    assert refused.code == 2
    assert "did you mean 'telephone'" in refused.err
    assert salad("compare", runs / "monday").code == 2
    assert salad("compare", runs / "monday", runs / "tuesday", "--between", "voice=high,low").code == 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("condition=clean,telephone", ("condition", "clean", "telephone")),
        ("condition=noise,snr=10,telephone", ("condition", "noise,snr=10", "telephone")),
        ("condition=clean,noise,snr=10", ("condition", "clean", "noise,snr=10")),
        ("voice=en-us+f3,en-us+m7", ("voice", "en-us+f3", "en-us+m7")),
        ("voice=en-us+f3,rate=150,en-us+m7", ("voice", "en-us+f3,rate=150", "en-us+m7")),
    ],
)
def test_between_takes_names_with_settings(text: str, parts: tuple[str, str, str]) -> None:
    assert _between(text) == parts


@pytest.mark.parametrize("text", ["clean,telephone", "condition=clean", "domain=a,b", "condition=", "condition=a,b,c"])
def test_between_says_what_it_expects(text: str) -> None:
    with pytest.raises(UserInputError, match="expected condition=A,B or voice=A,B"):
        _between(text)


def row(low: float, high: float) -> ComparisonRow:
    change = ColumnChange(0.4, 0.45, Estimate(0.05, low, high, 100), 0.01)
    return ComparisonRow("overall", 100, 100, dict.fromkeys(COLUMNS, change), change, None)


@pytest.mark.parametrize(
    ("limit", "low", "high", "holds"),
    [
        ("gap > +2", 0.021, 0.08, True),
        ("gap > 2", 0.019, 0.08, False),
        ("gap>+2", 0.02, 0.08, False),  # above, not at
        ("gap > -1", -0.005, 0.08, True),
        ("hears < −3", -0.08, -0.031, True),
        ("hears < -3", -0.08, -0.029, False),
        ("reads > 0.5", 0.006, 0.01, True),
    ],
)
def test_a_limit_holds_by_the_nearer_end_of_the_interval(limit: str, low: float, high: float, holds: bool) -> None:
    assert FailIf.parse(limit).holds(row(low, high)) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [("gap", "expected a measure"), ("gap = 2", "expected a measure"), ("gup > 2", "did you mean 'gap'")],
)
def test_a_limit_that_is_none_is_refused(salad: Salad, runs: Path, text: str, message: str) -> None:
    shown = salad("compare", runs / "monday", runs / "tuesday", "--fail-if", text)
    assert shown.code == 2
    assert message in shown.err


def test_a_limit_that_holds_ends_with_3(salad: Salad, runs: Path) -> None:
    two = (runs / "monday", runs / "tuesday")
    failed = salad("compare", *two, "--fail-if", "gap > -200")
    assert failed.code == 3
    assert "failed by tuesday: gap > -200" in failed.err
    assert salad("compare", *two, "--fail-if", "gap > +200", "--fail-if", "hears < -200").code == 0


def test_a_board_has_a_line_a_run(salad: Salad, runs: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.copy(runs / "tuesday" / "gap_report.json", lone)
    (tmp_path / "empty").mkdir()
    every = [runs / day for day in ("wednesday", "monday", "tuesday")]
    shown = salad("board", *every, lone / "gap_report.json", tmp_path / "empty", "--out", tmp_path / "index.html")
    assert shown.code == 0, shown.err
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count('<th class="name" scope="row">') == 4
    assert "a report without its run" in page
    assert f"left out: {tmp_path / 'empty'}" in shown.out
    assert page.index(">monday<") < page.index(">tuesday<") < page.index(">wednesday<"), "the oldest first"
    assert ">lone</th>" in page, "of two runs of one name each goes by its folder's"
    assert 'class="trend"' in page
    links = [part.partition('"')[0] for part in page.split('<a href="')[1:]]
    assert all((tmp_path / link).resolve().is_file() for link in links)
    assert len(links) == 3


def test_a_board_takes_another_baseline(salad: Salad, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "index.html"
    assert salad("board", runs / "monday", runs / "tuesday", "--baseline", runs / "tuesday", "--out", out).code == 0
    page = out.read_text(encoding="utf-8")
    assert page.index(">monday<") < page.index(">tuesday<") < page.index("baseline</td>")
    assert salad("board", tmp_path / "nothing").code == 2


def test_items_are_filtered_listed_and_written(salad: Salad, runs: Path, tmp_path: Path) -> None:
    report = load_report(runs / "monday")
    every = salad("items", runs / "monday", "--limit", 1000)
    assert every.code == 0, every.err
    n = 4 * report.overall.n_items
    assert f"{n} of {n} renderings" in every.out
    wrong = tmp_path / "wrong.csv"
    assert salad("items", runs / "monday", "--wrong", "adapted_speech", "--csv", wrong).code == 0
    with wrong.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == round((1 - report.overall.accuracy["adapted_speech"].value) * n)
    assert {row["adapted_speech.value"] for row in rows} == {"0.0"}
    by_cause = sum(
        len(list(csv.DictReader(_written(salad, runs, tmp_path, cause).open(encoding="utf-8", newline=""))))
        for cause in report.overall.taxonomy
    )
    assert by_cause == n
    one = salad("items", runs / "monday", "--voice", "low", "--condition", "telephone", "--limit", 1000)
    assert f"{report.overall.n_items} of {report.overall.n_items} renderings" in one.out
    parquet = tmp_path / "all.parquet"
    assert salad("items", runs / "monday", "--parquet", parquet).code == 0
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(parquet).num_rows == n


def _written(salad: Salad, runs: Path, tmp_path: Path, cause: str) -> Path:
    file = tmp_path / f"{cause}.csv"
    assert salad("items", runs / "monday", "--cause", cause, "--csv", file).code == 0
    if not file.read_text().strip():
        file.write_text("id\n")
    return file


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cause", "lost"], "unknown cause 'lost'"),
        (["--domain", "nowhere"], "unknown domain 'nowhere'"),
        (["--wrong", "hears"], "unknown column 'hears'"),
        (["--sort", "size"], "unknown order 'size'"),
    ],
)
def test_what_no_item_has_is_refused_with_what_there_is(
    salad: Salad, runs: Path, options: list[str], message: str
) -> None:
    shown = salad("items", runs / "monday", *options)
    assert shown.code == 2
    assert message in shown.err
    assert "Known: " in shown.err


def test_answers_are_scored_again_without_a_model(salad: Salad, runs: Path, tmp_path: Path) -> None:
    shown = salad("rescore", runs / "monday", "--score", "ll", "--out", tmp_path / "summed")
    assert shown.code == 0, shown.err
    before, after = load_report(runs / "monday"), load_report(tmp_path / "summed")
    assert {protocol.score for protocol in after.protocols} == {"ll"}
    assert before.overall.n_items == after.overall.n_items
    assert salad("compare", runs / "monday", tmp_path / "summed").code == 0
    same = salad("rescore", runs / "monday", "--score", "ll_norm", "--out", tmp_path / "same")
    assert same.code == 0
    again = load_report(tmp_path / "same")
    assert again.overall == before.overall
    assert again.domains == before.domains
    lines = (tmp_path / "summed" / "score.jsonl").read_text().splitlines()
    responses = {}
    for column in COLUMNS:
        for line in (runs / "monday" / f"respond.{column}.jsonl").read_text().splitlines():
            said = json.loads(line)
            responses[said["item_id"], column, said["voice"], said["perturbation"]] = said["choice_logprobs"]
    for score in map(json.loads, lines):
        logprobs = responses[score["item_id"], score["column"], score["voice"], score["perturbation"]]
        assert score["predicted"] == logprobs.index(max(logprobs))


@pytest.mark.parametrize("score", ["numeric", "ll_mutual_info", "nonsense"])
def test_a_score_that_reads_other_answers_is_refused(salad: Salad, runs: Path, tmp_path: Path, score: str) -> None:
    shown = salad("rescore", runs / "monday", "--score", score, "--out", tmp_path / "x")
    assert shown.code == 2
    assert "score" in shown.err
    assert not (tmp_path / "x").exists()
    assert "holds a run already" in salad("rescore", runs / "monday", "--score", "ll", "--out", runs / "monday").err


def test_a_report_of_a_run_gives_its_items(runs: Path) -> None:
    report = load_report(runs / "monday")
    assert len(report.items) == 4 * report.overall.n_items
    assert {heard.cause for heard in report.items} <= set(report.overall.taxonomy)


def test_a_run_says_what_each_column_cost(salad: Salad, runs: Path) -> None:
    costs = load_report(runs / "monday").costs
    assert costs is not None
    took = {cost.column: cost.seconds for cost in costs.columns}
    assert set(took) == {"base_text", "base_transcript", "adapted_text", "adapted_speech"}
    assert all(seconds is not None and 0 < seconds < 60 for seconds in took.values())
    assert took["base_transcript"] == pytest.approx(
        sum(_unit(runs / "monday", s) for s in ("respond.base_transcript", "transcribe"))
    )
    assert "Seconds a question" in salad("card", runs / "monday", "--model-name", "m").out
    assert "Sound heard" in (runs / "monday" / "report.md").read_text()


def _unit(folder: Path, step: str) -> float:
    return float(json.loads((folder / "steps.json").read_text())["steps"][step]["seconds_a_unit"])


def test_a_cluster_is_asked_for_by_name_and_address(
    salad: Salad, tmp_path: Path, stand_ins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EngineChoice] = []

    def refuse(choice: EngineChoice, *_: object) -> None:
        asked.append(choice)
        raise SaladError("no cluster today")

    monkeypatch.setattr(engines, "open_engine", refuse)
    (tmp_path / "plan.json").write_text(json.dumps(plan_of(tmp_path, "here", limit=4)))
    shown = salad(
        "run", "--plan", tmp_path / "plan.json", "--engine", "ray", "--address", "head:6379", "--set", "engine.gpus=0.5"
    )
    assert (shown.code, asked) == (1, [EngineChoice(name="ray", address="head:6379", gpus=0.5)])
    shown = salad("run", "--plan", tmp_path / "plan.json", "--address", "head:6379")
    assert shown.code == 2
    assert "say --engine ray" in shown.err


def test_what_a_plan_named_from_its_folder_is_found_from_another(
    salad: Salad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: None
) -> None:
    plan = plan_of(tmp_path, "here", limit=4)
    monkeypatch.chdir(tmp_path)
    relative = {
        **plan,
        "tasks": [str(Path(plan["tasks"][0]).relative_to(tmp_path))],
        "audio_store": "audio",
        "out": "here",
    }
    run(Plan.from_mapping(relative))
    (tmp_path / "away").mkdir()
    shutil.move(tmp_path / "here", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "away")
    for command in (
        ["export", "../moved", "--out", "shared"],
        ["report", "../moved", "--format", "html"],
        ["compare", "../moved", "../moved"],
        ["items", "../moved"],
    ):
        shown = salad(*command)
        assert shown.code == 0, shown.err
