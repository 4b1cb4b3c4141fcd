"""The report's views: JSON and its schema, terminal, Markdown, HTML, figures. Names in a report are untrusted text."""

from __future__ import annotations

import copy
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from salad_eval.errors import DataError
from salad_eval.gap.pair import TAXONOMY, TAXONOMY_UNSPLIT
from salad_eval.report import load_report, save_report, terminal_table, write_report
from salad_eval.report.figures import RenderedFigure, render_figures
from salad_eval.report.json import SCHEMA_FILE, report_from_json, report_to_json
from salad_eval.report.markdown import escape_markdown, markdown_page
from salad_eval.report.wording import (
    GLOSSARY,
    MISSING,
    TAXONOMY_TITLES,
    disagreement,
    found,
    headline,
    percent,
    probability,
    taxonomy_titles,
)
from salad_eval.resources import reports_dir
from salad_eval.types import Estimate, GapReport, LeftOut, Reject, RunNames
from tests.helpers.gap_world import DIVERGENCES, ITEMS, SCORES, TRANSCRIPTS, item, report, scores, specs
from tests.salad_eval.gap.test_conditions import TWO

HOSTILE = "<script>alert('1')</script> | $x_{ \"`[bold]*evil*[/bold]` & ü\n漢字"


def full_report() -> GapReport:
    return report(
        ITEMS,
        SCORES,
        transcripts=TRANSCRIPTS,
        divergences=DIVERGENCES,
        rejects=(Reject("b1x", "render", "no samples"),),
        slice_fields=("voice", "kind"),
        notes=("a note",),
    )


def unsplit_report() -> GapReport:
    """Of two columns: the gap, and nothing that divides it."""
    return report(ITEMS, SCORES, columns=(specs()[0], specs()[3]), transcripts=TRANSCRIPTS)


@cache
def drawn_figures() -> tuple[RenderedFigure, ...]:
    """The full report's figures, drawn once for the tests that look at them."""
    return render_figures(full_report())


def hostile_report() -> GapReport:
    """HOSTILE wherever somebody else's text comes into a report."""
    items = [item("x", HOSTILE, fields={HOSTILE: HOSTILE}), item("y", "plain")]
    found = [*scores("x", 1.0, (1.0,), 1.0, (0.0,), (HOSTILE,)), *scores("y", 1.0, (1.0,), 1.0, (1.0,), (HOSTILE,))]
    columns = [replace(spec, system=HOSTILE, fingerprint=HOSTILE) for spec in specs()]
    made = report(
        items,
        found,
        columns=columns,
        rejects=(Reject(HOSTILE, HOSTILE, HOSTILE),),
        slice_fields=("voice", HOSTILE),
        signature=HOSTILE,
        split=HOSTILE,
        created=HOSTILE,
        notes=(HOSTILE,),
    )
    protocol = made.protocols[0]
    return replace(made, protocols=(replace(protocol, task=HOSTILE, data_revision=HOSTILE, domain_field=HOSTILE),))


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_schema_is_a_valid_schema() -> None:
    schema = json.loads((reports_dir() / SCHEMA_FILE).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    causes = schema["$defs"]["row"]["properties"]["taxonomy"]
    assert set(causes["properties"]) == {*TAXONOMY, *TAXONOMY_UNSPLIT}
    assert [{*causes["required"], *either["required"]} for either in causes["oneOf"]] == [
        set(TAXONOMY),
        set(TAXONOMY_UNSPLIT),
    ]


@pytest.mark.parametrize(
    "make",
    [
        full_report,
        hostile_report,
        lambda: TWO,
        lambda: report(ITEMS, SCORES, columns=(specs()[0], *specs()[2:])),
        unsplit_report,
    ],
)
def test_json_round_trips_exactly(make: Callable[[], GapReport], tmp_path: Path) -> None:
    made = make()
    save_report(made, tmp_path / "gap_report.json")
    assert load_report(tmp_path) == made
    assert load_report(tmp_path / "gap_report.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["gap_report.json"]  # no temporary file is left


def test_a_report_of_the_first_schema_still_loads(tmp_path: Path) -> None:
    """Stored as salad-gap wrote it under schema 1.0."""
    stored = Path(__file__).parent / "data" / "gap_report-1.0.json"
    assert json.loads(stored.read_text(encoding="utf-8"))["schema_version"] == "1.0"
    made = load_report(stored)
    assert made.overall.n_items == 840
    assert made.overall.gap.value == pytest.approx(made.overall.forgetting.value + made.overall.misalignment.value)
    assert (made.overall.power, made.grid, made.conditions, made.names.adapted) == (None, (), (), "")
    write_report(made, tmp_path)
    assert load_report(tmp_path) == made


def test_json_has_the_shape_of_the_design() -> None:
    data: Any = report_to_json(full_report())
    assert next(iter(data["domains"][0])) == "domain"
    assert [row["domain"] for row in data["domains"]] == ["A", "B"]
    assert "name" not in data["overall"]
    assert "domain" not in data["overall"]
    assert data["domains"][0]["gap"]["value"] == 0.75
    assert set(data["domains"][0]["gap"]) == {"value", "low", "high", "n"}
    assert data["slices"][0]["field"] == "voice"
    assert data["slices"][0]["value"] == "ann"
    assert data["rejects"] == [
        {"step": "render", "reason": "no samples", "n": 1, "domains": {"(unknown)": 1}, "examples": ["b1x"]}
    ]


def _set(path: str, value: object) -> Callable[[Any], None]:
    *parents, last = path.split(".")

    def change(data: Any) -> None:
        for key in parents:
            data = data[int(key)] if key.isdigit() else data[key]
        data[last] = value

    return change


def _drop(path: str) -> Callable[[Any], None]:
    *parents, last = path.split(".")

    def change(data: Any) -> None:
        for key in parents:
            data = data[int(key)] if key.isdigit() else data[key]
        del data[last]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema_version", "0.1"), r"schema_version is '0\.1'; expected 1\.0 or 1\.1"),
        (_drop("schema_version"), "'schema_version' is a required property"),
        (_set("overall.gap.value", 75.0), r"overall\.gap\.value = 75\.0.*maximum of 1"),
        (_set("overall.accuracy.base_text.value", -0.1), r"overall\.accuracy\.base_text\.value = -0\.1.*minimum of 0"),
        (_set("domains.0.gap.low", "a lot"), r"domains\[0\]\.gap\.low = 'a lot'"),
        (_set("domains.1.n_items", 0), r"domains\[1\]\.n_items = 0"),
        (_drop("domains.0.domain"), r"domains\[0\].*'domain' is a required property"),
        (_set("domains.0.surprise", 1), r"domains\[0\].*surprise"),
        (_set("overall.name", "overall"), "overall.*name"),
        (_set("overall.taxonomy.correct", 1.5), r"taxonomy\.correct = 1\.5"),
        (_drop("overall.taxonomy.correct"), "'correct' is a required property"),
        (_set("overall.p_value", None), None),
        (_set("slices.0.field", 3), r"slices\[0\]\.field = 3"),
        (_set("rejects.0.n", -1), r"rejects\[0\]\.n = -1"),
        (_set("seed", 1.5), r"seed = 1\.5"),
        (_set("unparsed", {"base_txt": 1}), "base_txt"),
        (_set("columns.0.name", "base_txt"), r"columns\[0\]\.name = 'base_txt'"),
        (_set("domains", []), "domains"),
    ],
)
def test_malformed_reports_are_refused_by_field_and_value(change: Callable[[Any], None], message: str | None) -> None:
    data: Any = copy.deepcopy(report_to_json(full_report()))
    change(data)
    if message is None:
        assert report_from_json(data).overall.p_value is None
        return
    with pytest.raises(DataError, match=message):
        report_from_json(data, "gap_report.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"seed": NaN}', "NaN"),
        ('{"overall": [{"n": -1e999}]}', r"overall\[0\]\.n is not a finite number"),
        (f'{{"seed": 1{"0" * 400}}}', "seed is not a finite number"),
        ("[]", "the whole file"),
        ("\ud800", "not JSON|cannot be read"),
    ],
)
def test_files_that_are_no_report_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gap_report.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=message):
        load_report(path)


def test_missing_report_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file.*run directory"):
        load_report(tmp_path)


def test_a_report_outside_the_schema_is_not_written(tmp_path: Path) -> None:
    made = full_report()
    wrong = replace(made, overall=replace(made.overall, gap=Estimate(40.0, None, None, 4)))
    with pytest.raises(DataError, match=r"overall\.gap\.value = 40\.0"):
        save_report(wrong, tmp_path / "gap_report.json")
    assert not list(tmp_path.iterdir())


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"), [(0.914, "91.4"), (-0.0512, "−5.1"), (-0.0001, "0.0"), (0.0, "0.0"), (None, "–"), (1.0, "100.0")]
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0004, "<0.001"), (0.0499, "0.050"), (1.0, "1.000"), (None, "–")])
def test_probability(value: float | None, text: str) -> None:
    assert probability(value) == text


def test_headline_says_what_the_hand_world_holds() -> None:
    text = " ".join(headline(full_report()))
    assert text.startswith("text LLM → speech LLM: no clear gap (reads 75.0, hears 50.0, gap 25.0 [")
    assert "No clear forgetting (+25.0 points [" in text
    assert "no clear misalignment (0.0 points [" in text
    assert "No domain of 2 stands out" in text
    assert "4 items show no gap at all four times in five" in text


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        # rows of the split, of which could not be items; items asked, of which were lost later
        (LeftOut(1000, 10, 990, 0, 0.05), 0.01),
        (LeftOut(1000, 100, 50, 0, 0.05), 0.1),  # 50 were drawn of 900
        (LeftOut(1000, 100, 50, 5, 0.05), 0.19),
        (LeftOut(0, 0, 0, 0, 0.05), 0.0),
    ],
)
def test_share_that_is_left_out(rows: LeftOut, share: float) -> None:
    assert rows.share == pytest.approx(share)


@pytest.mark.parametrize(
    ("n_lost", "most", "title", "said"),
    [
        (10, 0.05, "no clear gap (reads", ""),
        (11, 0.05, "no clear gap (reads", "1.1% of the questions are in no column, which can bias the gap: no samples (1)."),
        (50, 0.05, "no clear gap (reads", "5.0% of the questions are in no column"),
        (51, 0.05, "no headline, since 5.1% of the questions are in no column, more than the 5% that most_rejected allows: no", ""),
        (51, 0.2, "no clear gap (reads", "5.1% of the questions are in no column"),
    ],
)  # fmt: skip
def test_headline_says_what_is_left_out_or_is_not_given(n_lost: int, most: float, title: str, said: str) -> None:
    made = replace(full_report(), left_out=LeftOut(1000, 0, 1000, n_lost, most))
    first, *others = headline(made)
    assert title in first
    assert (said in " ".join(others)) if said else ("no column" not in " ".join(others))
    assert bool(others) == ("no headline" not in first)
    assert title.startswith("no headline") == found(made).startswith("no headline")
    assert report_from_json(report_to_json(made)) == made


def test_a_gap_that_is_not_split_is_shown_as_one(tmp_path: Path) -> None:
    made = unsplit_report()
    text = " ".join(headline(made))
    assert "gap 25.0 [" in text
    assert "is not known: the adapted model was not asked in text" in text
    files = write_report(made, tmp_path)
    assert load_report(tmp_path) == made
    for page in (files.html.read_text(encoding="utf-8"), files.markdown.read_text(encoding="utf-8")):
        assert "lost in adaptation" in page
        assert "forgotten |" not in page
    (domain,) = [line for line in printed(made, 80).splitlines() if line.startswith("A ")]
    assert domain.count(MISSING) == 3, "neither forgetting nor misalignment, nor M"
    titles = {figure.name: figure.title for figure in render_figures(made)}
    assert titles["decomposition"] == "Gap"


GAINS = Estimate(-0.05, -0.08, -0.02, 400)
LOSSES = Estimate(0.3, 0.25, 0.35, 400)
NEITHER = Estimate(-0.01, -0.04, 0.02, 400)


@pytest.mark.parametrize(
    ("forgetting", "misalignment", "wanted"),
    [
        (LOSSES, LOSSES, "Forgetting takes 30.0 points [25.0, 35.0]: the adapted model reads less well than the text LLM; "
         "misalignment takes 30.0 points [25.0, 35.0]: it understands less by ear than by reading."),
        (GAINS, LOSSES, "Nothing is forgotten: the adapted model reads 5.0 points [2.0, 8.0] better than the text LLM; misalignment takes"),
        (LOSSES, GAINS, "; by ear it answers 5.0 points [2.0, 8.0] more than by reading."),
        (NEITHER, NEITHER, "No clear forgetting (−1.0 points [−4.0, 2.0], reading against reading); no clear misalignment (−1.0 points"),
    ],
)  # fmt: skip
def test_a_gain_is_not_called_a_loss_below_zero(forgetting: Estimate, misalignment: Estimate, wanted: str) -> None:
    made = full_report()
    row = replace(made.overall, forgetting=forgetting, misalignment=misalignment)
    assert wanted in " ".join(headline(replace(made, overall=row)))


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        (LOSSES, "A cascade of tiny-asr and the text LLM loses 30.0 points [25.0, 35.0] on the same recordings."),
        (NEITHER, "loses nothing clear on the same recordings (−1.0 points [−4.0, 2.0])."),
        (GAINS, "answers 5.0 points [2.0, 8.0] more than the text LLM on the same recordings."),
    ],
)
def test_a_cascade_that_gains(loss: Estimate, wanted: str) -> None:
    made = replace(full_report(), names=RunNames(asr="tiny-asr"))
    assert wanted in " ".join(headline(replace(made, overall=replace(made.overall, cascade_loss=loss))))


def test_the_title_says_clean_first_and_the_others_beside_it() -> None:
    title, beside, *_ = headline(replace(TWO, names=RunNames(base="Qwen2.5-3B", adapted="my-salad")))
    assert title.startswith("Qwen2.5-3B → my-salad: no clear gap (reads 75.0, hears 50.0, gap 25.0 [")
    assert title.endswith("; clean).")
    assert beside.startswith("noise,snr=0: hears 12.5 (gap 62.5 [")
    sure = replace(TWO.by_condition[0].overall, gap=Estimate(0.4, 0.365, 0.434, 4))
    made = replace(TWO, by_condition=(replace(TWO.by_condition[0], overall=sure), *TWO.by_condition[1:]))
    assert found(made) == "reads 75.0, hears 50.0 (gap 40.0 [36.5, 43.4]; clean)"


def test_an_interval_and_a_q_that_disagree_are_explained() -> None:
    row = replace(full_report().domains[0], gap=Estimate(0.2, 0.05, 0.3, 20), q_value=0.2)
    assert "some do so by chance" in disagreement(row)
    assert "still holds 0" in disagreement(replace(row, gap=Estimate(0.2, -0.01, 0.3, 20), q_value=0.04))
    assert disagreement(replace(row, q_value=0.01)) == disagreement(replace(row, q_value=None)) == ""


def test_headline_names_the_domains_that_stand_out() -> None:
    made = full_report()
    first, second = made.domains
    text = " ".join(headline(replace(made, domains=(replace(first, q_value=0.01), replace(second, q_value=0.02)))))
    assert "1 of 2 domains shows a gap at q < 0.05: A (75.0)." in text
    assert "Speech is better than text (q < 0.05) in B (−25.0)." in text


def test_every_cause_has_a_title_and_every_term_a_meaning() -> None:
    assert set(TAXONOMY_TITLES) == {*TAXONOMY, *TAXONOMY_UNSPLIT}
    assert taxonomy_titles(full_report().overall) == [(cause, TAXONOMY_TITLES[cause]) for cause in TAXONOMY]
    assert [cause for cause, _ in taxonomy_titles(unsplit_report().overall)] == list(TAXONOMY_UNSPLIT)
    assert len({term.name for term in GLOSSARY}) == len(GLOSSARY)


# --- terminal --------------------------------------------------------------------------------------------------------


def printed(made: GapReport, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal_table(made))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal_table_fits_80_columns_uncut() -> None:
    names = ("everyday physics", "chemistry")
    made = full_report()
    made = replace(made, domains=tuple(replace(row, name=name) for row, name in zip(made.domains, names, strict=True)))
    for width, last in ((80, "q"), (100, "M")):
        text = printed(made, width)
        assert "…" not in text
        (heads,) = (line for line in text.splitlines() if line.startswith("domain"))
        assert heads.split()[-1] == last
        assert any(line.startswith("everyday physics  ") for line in text.splitlines()), "a name is whole"
    (row,) = (line for line in text.splitlines() if line.startswith("everyday physics"))
    row = row.replace("everyday physics", "A")
    assert row.split()[:6] == ["A", "2", "100.0", "75.0", "50.0", "25.0"]
    assert "75.0" in row.split()[6]
    assert "toy|split:test|n:4" in text
    assert "1 render: no samples" in text


def test_terminal_shows_markup_in_names_as_text() -> None:
    assert "[bold]*evil*[/bold]" in printed(hostile_report(), 200)


# --- Markdown -------------------------------------------------------------------------------------------------------


def test_markdown_tables_are_well_formed() -> None:
    for made in (full_report(), hostile_report()):
        lines = markdown_page(made, ()).splitlines()
        assert sum(line.startswith("|--") for line in lines) >= 6
        for place, line in enumerate(lines):
            if not line.startswith("|---"):
                continue
            width = line.count("|")
            table = [lines[place - 1]]
            for row in lines[place + 1 :]:
                if not row.startswith("|"):
                    break
                table.append(row)
            assert len(table) >= 2
            for row in table:
                assert len(re.findall(r"(?<!\\)\|", row)) == width, row


def test_markdown_escapes_untrusted_text() -> None:
    text = markdown_page(hostile_report(), ())
    assert "<script" not in text
    assert "漢字" in text
    assert escape_markdown("a|b\n[c](d) <e> `f` *g*") == r"a\|b \[c\](d) &lt;e&gt; \`f\` \*g\*"


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_drawn_for_what_was_measured() -> None:
    names = ["accuracy", "decomposition", "taxonomy", "wer_misalignment", "divergence_gap"]
    figures = drawn_figures()
    assert [figure.name for figure in figures] == names
    for figure in figures:
        assert figure.png.startswith(b"\x89PNG")
        assert b"<svg" in figure.svg[:600]
        assert figure.alt
    assert [figure.name for figure in render_figures(report(ITEMS, SCORES))] == names[:3]


def test_every_figure_carries_n_and_the_signature() -> None:
    from salad_eval.report import figures

    made = full_report()
    drawn = (
        figures.accuracy_figure(made),
        figures.decomposition_figure(made),
        figures.taxonomy_figure(made),
        figures.wer_figure(made),
        figures.divergence_figure(made),
    )
    for figure in drawn:
        small = " ".join(text.get_text() for text in figure.texts)
        assert "n = 4 items" in small
        assert "toy | split:test | n:4" in small


def test_figures_show_what_the_report_says() -> None:
    from salad_eval.report.figures import accuracy_figure

    axes = accuracy_figure(full_report()).axes[0]
    assert [label.get_text().split("  ")[0] for label in axes.get_yticklabels()] == ["A", "B", "overall"]
    circles = [np.asarray(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    drawn = {round(float(points[0]), 6) for points in circles if len(points)}
    assert drawn == {25.0, 75.0, 50.0}


def test_the_same_report_gives_the_same_figures() -> None:
    first, second = drawn_figures()[0], render_figures(full_report())[0]
    assert first.svg == second.svg
    assert first.png == second.png


def test_hostile_names_do_not_break_figures() -> None:
    assert len(render_figures(hostile_report())) == 3


# --- all together ----------------------------------------------------------------------------------------------------


def test_write_report_writes_everything(tmp_path: Path) -> None:
    made = full_report()
    files = write_report(made, tmp_path / "run")
    assert load_report(tmp_path / "run") == made
    assert files.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    markdown = files.markdown.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((figures/[^)]+)\)", markdown)
    assert len(linked) == 5
    assert all((tmp_path / "run" / link).is_file() for link in linked)
    assert all(path.with_suffix(".svg").is_file() for path in files.figures)
    assert files.card.is_file()


def test_importing_views_loads_neither_torch_nor_lm_eval_nor_matplotlib() -> None:
    code = (
        "import sys, salad_eval.report, salad_eval.report.page, salad_eval.report.figures, salad_eval.gap.compare\n"
        "print([name for name in ('torch', 'lm_eval', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
