"""``report.html`` as a text: complete, closed to the outside, every name in it shown and nothing more. In a browser: test_browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from salad_eval.report.charts import domain_line, loss_bar, scatter
from salad_eval.report.listing import page_items
from salad_eval.report.page import groups, html_page, items_hash, next_steps, slices, spread
from salad_eval.report.wording import by_gap, headline, shown
from salad_eval.types import Estimate, GapReport, GapRow, Power
from tests.helpers.gap_world import DIVERGENCES, ITEMS, SCORES, TRANSCRIPTS, report
from tests.helpers.page_world import page_world
from tests.salad_eval.gap.test_conditions import TWO
from tests.salad_eval.report.test_report import full_report, hostile_report, unsplit_report


class Page(HTMLParser):
    """What a browser would see: tags, what they load, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.styles += [value or "" for name, value in attrs if name == "style"]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("make", [full_report, unsplit_report, hostile_report, lambda: TWO])
def test_the_policy_names_style_and_script_by_hash(make: object) -> None:
    source = html_page(make())  # type: ignore[operator]
    page = Page(source)
    assert not page.styles
    assert not page.handlers
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert all(load.startswith("#") for load in page.loads)
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "unsafe" not in page.policy
    assert "media-src" not in page.policy  # there is no sound


def test_a_page_says_all_that_the_report_holds() -> None:
    text = Page(html_page(full_report())).text
    title = headline(full_report())[0].removesuffix(".")
    for wanted in (title, "toy|split:test|n:4", "base_text-fingerprint", "no samples", "a note", "lost in alignment", "How to read it",
                   "Misalignment", "By kind", "rev1", "What next", "salad select", "all columns", "Consistency"):  # fmt: skip
        assert wanted in text, wanted


def test_untrusted_text_is_shown_as_text() -> None:
    source = html_page(hostile_report())
    page = Page(source)
    assert page.tags.count("script") == 1  # ours
    assert "<script>alert" not in source
    assert sum("<script>alert('1')</script>" in text for text in page.texts) >= 8


def test_domains_come_by_gap() -> None:
    source = html_page(full_report())
    table = source[source.index('id="domains"') :]
    assert table.index('scope="row">A<') < table.index('scope="row">B<') < table.index('scope="row">overall<')


def test_without_items_nothing_links_to_them() -> None:
    assert "#items" not in html_page(full_report())


def test_with_items_every_figure_of_a_table_links_to_its_own(tmp_path: Path) -> None:
    made = page_world(tmp_path)
    page = Page(html_page(made.report, page_items(made.report, made.records, made.store, tmp_path), tmp_path))
    links = set(page.loads)
    for wanted in ("#items?domain=stars", "#items?domain=stars&wrong=adapted_speech", "#items?domain=songs&cause=lost_in_alignment",
                   "#items?voice=bob&condition=telephone", "#items?task=trivia", "#items?field.kind=kind+3", "#items"):  # fmt: skip
        assert wanted in links, wanted
    assert "media-src 'self' file: data:" in page.policy


def test_a_hostile_name_stays_within_its_link() -> None:
    assert items_hash({"domain": "a&b=c #d"}) == "#items?domain=a%26b%3Dc+%23d"


# --- what is folded, grouped, said ----------------------------------------------------------------------------------------


def test_domains_of_several_tasks_are_grouped_by_task(tmp_path: Path) -> None:
    made = page_world(tmp_path).report
    found = groups(made, by_gap(shown(made).domains))
    assert {group.name: {row.name for row in group.domains} for group in found} == {
        "quiz": {"stars", "metals"},
        "trivia": {"rivers", "songs"},
    }
    assert [group.name for group in found] == ["quiz", "trivia"]  # the larger gap first
    assert all(group.row is not None and not group.folded for group in found)
    for group in found:  # what stands above domains of the clean condition is of the clean condition
        assert group.row is not None
        for column, estimate in group.row.accuracy.items():
            of_domains = [row.accuracy[column].value for row in group.domains]  # of as many items each
            assert estimate.value == pytest.approx(sum(of_domains) / len(of_domains))
    shared = [replace(row, tasks=("quiz", "trivia")) if row.name == "songs" else row for row in shown(made).domains]
    assert [group.name for group in groups(made, shared)][-1] == "several tasks"


def test_many_small_domains_are_folded() -> None:
    row = full_report().domains[0]
    rows = [replace(row, name=f"d{n}", n_items=4, tasks=("toy",)) for n in range(30)]
    made = replace(full_report(), protocols=full_report().protocols * 2)
    assert [group.folded for group in groups(made, rows)] == [True]
    assert [group.folded for group in groups(made, [replace(row, n_items=40) for row in rows])] == [False]


def test_slices_of_few_items_are_folded_and_sorted_by_gap() -> None:
    (kind,) = [one for one in slices(full_report()) if one.field == "kind"]
    assert kind.folded
    assert [row.gap.value for row in kind.rows] == sorted((row.gap.value for row in kind.rows), reverse=True)
    large = replace(
        full_report(), slices=tuple(replace(one, row=replace(one.row, n_items=20)) for one in full_report().slices)
    )
    assert not any(one.folded for one in slices(large))


def test_the_worst_voice_and_how_far_apart_voices_are() -> None:
    said = spread(TWO.grid)
    assert "noise,snr=0: worst voice bob, hears 0.0; best ann, 25.0; 25.0 points apart." in said


def steps(made: GapReport) -> str:
    return " ".join(f"{step.words} {step.command}" for step in next_steps(made, Path("runs/my run")))


def test_what_next_asks_for_the_validation_split_then_for_speech() -> None:
    text = steps(full_report())
    assert "salad run --plan 'runs/my run/plan.json' --split validation --out 'runs/my run-validation'" in text
    assert "salad select --report 'runs/my run-validation' --corpus CORPUS --signal gap" in text
    assert "no domain stands out yet" in text
    made = replace(full_report(), split="validation")
    assert "validation --out" not in steps(made)
    sure = replace(made, domains=tuple(replace(row, q_value=0.01) for row in made.domains))
    assert "toward the domains that stand out: A (75.0):" in steps(sure)


def test_what_next_names_a_larger_n_where_the_interval_is_wide() -> None:
    made = full_report()
    assert "--limit" in steps(made)
    wide = replace(made, overall=replace(made.overall, power=Power(0.3, 900)))
    assert "With 900 items" in steps(wide)
    assert "--limit 900 --out 'runs/my run-larger'" in steps(wide)
    assert "--limit" not in steps(replace(made, overall=replace(made.overall, power=Power(0.01, 4))))


# --- pictures --------------------------------------------------------------------------------------------------------


def row_with(reads: float, cascade: float, adapted: float, hears: float) -> GapRow:
    values = {"base_text": reads, "base_transcript": cascade, "adapted_text": adapted, "adapted_speech": hears}
    return replace(
        full_report().overall,
        accuracy={column: Estimate(value, value - 0.05, value + 0.05, 100) for column, value in values.items()},
        gap=Estimate(reads - hears, None, None, 100),
        forgetting=Estimate(reads - adapted, None, None, 100),
        misalignment=Estimate(adapted - hears, None, None, 100),
    )


def spans(picture: str) -> dict[str, tuple[float, float]]:
    """Where the bars of a picture begin and end, in percent, by class."""
    found = re.findall(r'<rect x="([\d.]+)%" y="\d+" width="([\d.]+)%" height="\d+" class="([a-z -]+)"', picture)
    return {class_: (float(x), round(float(x) + float(width), 2)) for x, width, class_ in found}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((0.9, 0.84, 0.86, 0.5), {"heard": (0, 50), "misaligned": (50, 86), "forgotten": (86, 90)}),
        ((0.86, 0.84, 0.9, 0.5), {"heard": (0, 50), "misaligned": (50, 90), "forgotten won": (86, 90)}),
        ((0.5, 0.4, 0.5, 0.6), {"heard": (0, 60), "misaligned won": (50, 60), "forgotten": (50, 50)}),
    ],
)
def test_the_bar_splits_the_loss(
    values: tuple[float, float, float, float], wanted: dict[str, tuple[float, float]]
) -> None:
    picture = str(loss_bar(row_with(*values), floor=0.3))
    assert {key: span for key, span in spans(picture).items() if key != "track"} == wanted
    assert f"hears {100 * values[3]:.1f}" in picture
    assert "cascade" in picture
    assert "floor 30.0" in picture


def test_pictures_are_text_in_the_ink_of_the_page() -> None:
    made = report(ITEMS, SCORES, transcripts=TRANSCRIPTS, divergences=DIVERGENCES)
    for picture in (loss_bar(made.overall), domain_line(made.overall, 0.0)):
        assert "style=" not in picture
        assert "#" not in picture
        assert 'role="img"' in picture
        assert "aria-label=" in picture


def test_a_scatter_names_its_points_and_nothing_runs_in_it() -> None:
    from salad_eval.report.charts import Point

    rows = [replace(full_report().domains[0], name=name) for name in ("plain", "<script>x</script>", "third")]
    points = [Point(0.1 * n, Estimate(0.1 * n, 0.0, 0.3, 9), row) for n, row in enumerate(rows)]
    picture = str(scatter(points, "WER", "gap", "words"))
    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture
    assert picture.count("<circle") == 3
