"""The pages of several runs in a real browser: the board and the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salad_eval.gap.board import board
from salad_eval.gap.compare import compare
from salad_eval.gap.items import heard_items
from salad_eval.pipeline.finished import FinishedRun
from salad_eval.report.board import write_board
from salad_eval.report.comparison import flipped, write_comparison
from salad_eval.report.listing import listed_items
from salad_eval.types import RunNames
from tests.helpers.browser import axe, browser, needs_browser, wait
from tests.helpers.page_world import page_world
from tests.salad_eval.report.test_browser import HOSTILE, detail, js, n_shown, opened, press, setting

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

N_RUNS = 4


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    needs_browser()
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of four runs, one with a hostile name, and a comparison of the first two."""
    needs_browser()
    folder = tmp_path_factory.mktemp("runs")
    runs = []
    for seed in range(N_RUNS):
        home = folder / f"run-{seed}"
        home.mkdir()
        made = page_world(home, seed=seed)
        name = HOSTILE[0] if seed == 3 else f"run-{seed}"
        report = replace(
            made.report, names=RunNames(name, "llm", "ears"), created=f"2026-01-0{seed + 1}T00:00:00+00:00"
        )
        (home / "report.html").write_text("<title>there</title>", encoding="utf-8")
        runs.append((FinishedRun(made.records.items, made.records.scores, report, home), made))
    write_board(board([run for run, _ in runs]), folder / "index.html")
    (first, _), (second, made) = runs[0], runs[1]
    comparison = compare(first, second)
    out = folder / "compared"
    heard = heard_items(made.records, second.report)
    items = listed_items(second.report, flipped(comparison, heard), made.store, out)
    write_comparison(comparison, out, items=items)
    return folder


def test_a_line_of_the_board_leads_to_its_run_and_sorts_by_keyboard(chrome: Chrome, pages: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    chrome.get((pages / "index.html").as_uri())
    gaps = "return [...document.querySelectorAll('tbody td.gap')].map(cell => Number(cell.dataset.value))"
    before = js(chrome, gaps)
    assert len(before) == N_RUNS
    head = chrome.find_element(By.XPATH, "//th[button[contains(., 'Gap')]]/button")
    head.send_keys(Keys.ENTER)
    assert js(chrome, gaps) == sorted(before, reverse=True)
    head.send_keys(Keys.SPACE)
    assert js(chrome, gaps) == sorted(before)
    assert js(chrome, "return window.ran === undefined")
    assert js(chrome, "return document.querySelectorAll('svg.trend circle').length") == N_RUNS
    chrome.find_element(By.LINK_TEXT, "run-1").click()
    wait("the run's own page", lambda: chrome.title == "there")


def test_what_was_lost_and_won_is_listed_and_can_be_heard(chrome: Chrome, pages: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(chrome, (pages / "compared" / "comparison.html").as_uri())
    both = n_shown(chrome)
    setting(chrome, "f-cause", "lost")
    lost = n_shown(chrome)
    assert "the first run understood it" in detail(chrome) or lost == 0
    setting(chrome, "f-cause", "won")
    assert both == lost + n_shown(chrome)
    said = js(chrome, "return document.querySelector('main').innerText")
    assert f"By ear {lost} renderings were lost and {both - lost} won." in said
    js(chrome, "document.getElementById('list').focus()")
    press(chrome, "#list", Keys.HOME, Keys.SPACE)
    played = "const a = document.querySelector('#detail audio'); return a && (a.currentTime > 0 || a.ended)"
    wait("its sound", lambda: js(chrome, played))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["index.html", "compared/comparison.html"])
def test_axe_finds_nothing_and_nothing_is_cut_off(pages: Path, name: str, width: int, dark: bool) -> None:
    package = pytest.importorskip("axe_core_python", reason="no axe: pip install 'salad-gap[test]'")
    with browser(width, dark=dark) as chrome:
        chrome.get((pages / name).as_uri())
        assert not axe(chrome, Path(package.__file__).parent / "axe.min.js")
        assert js(chrome, "return document.documentElement.scrollWidth") <= width
