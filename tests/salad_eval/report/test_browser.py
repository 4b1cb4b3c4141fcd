"""The pages in a real browser: filter, links to items, sound, the address, keys, paper, access, and that no text of a report runs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from salad_eval.audio.sound import SoundForm
from salad_eval.report.listing import PageOptions, page_items
from salad_eval.report.page import html_page
from tests.helpers.browser import axe, browser, needs_browser, wait
from tests.helpers.page_world import PageWorld, page_world, plain

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

N_ROWS = 4 * 12 * 4
HOSTILE = (
    '<script>window.ran = "script"</script><img src=x onerror="window.ran = 1"><svg onload="window.ran = 2">',
    '"><script>window.ran = "attribute"</script>\' onmouseover="window.ran = 3" x="',
    "</script><script>window.ran = 'data'</script>",
    "javascript:window.ran=4 ${window.ran=5} {{ 7 * 7 }} <!-- ]]> \u2028\u0000 漢字",
)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    needs_browser()
    with browser() as driver:
        yield driver


def written(
    folder: Path, text: Callable[[str], str] = plain, options: PageOptions = PageOptions()
) -> tuple[str, PageWorld]:
    """The page of the small world, its sound beside it; its address."""
    made = page_world(folder, text)
    items = page_items(made.report, made.records, made.store, folder, options)
    page = folder / "report.html"
    page.write_text(html_page(made.report, items, folder), encoding="utf-8")
    return page.as_uri(), made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    needs_browser()
    return written(tmp_path_factory.mktemp("page"))[0]


def opened(chrome: Chrome, address: str) -> None:
    chrome.get("about:blank")  # an address that differs in its hash alone would not be loaded anew
    chrome.get(address)
    wait("the items are ready", lambda: js(chrome, "return document.documentElement.dataset.itemsReady"))


def js(chrome: Chrome, script: str, *arguments: object) -> Any:
    return chrome.execute_script(script, *arguments)  # type: ignore[no-untyped-call]


def n_shown(chrome: Chrome) -> int:
    return int(js(chrome, "return document.getElementById('count').textContent").split(" of ")[0].replace(",", ""))


def detail(chrome: Chrome) -> str:
    return str(js(chrome, "return document.getElementById('detail').innerText"))


def setting(chrome: Chrome, control: str, value: str) -> None:
    js(
        chrome,
        "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event(c.tagName === 'INPUT' ? 'input' : 'change', {bubbles: true}))",
        control,
        value,
    )


def press(chrome: Chrome, selector: str, *keys: str) -> None:
    from selenium.webdriver.common.by import By

    chrome.find_element(By.CSS_SELECTOR, selector).send_keys(*keys)


# --- items -----------------------------------------------------------------------------------------------------------


def test_filters_search_and_sort(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    assert n_shown(chrome) == N_ROWS
    setting(chrome, "f-domain", "stars")
    assert n_shown(chrome) == N_ROWS // 4
    setting(chrome, "f-voice", "ann")
    setting(chrome, "f-condition", "telephone")
    assert n_shown(chrome) == 12
    setting(chrome, "f-q", "EYE TOM 3?")  # in the transcript alone, of one item in three
    assert n_shown(chrome) == 1
    assert js(chrome, "return document.querySelector('#detail del, .row:not([hidden]) .said').textContent")
    js(chrome, "document.querySelector('#filters button[type=reset]').click()")
    assert n_shown(chrome) == N_ROWS
    setting(chrome, "f-sort", "margin")
    first = js(
        chrome,
        "return [...document.querySelectorAll('.row:not([hidden])')].map(r => [r.getAttribute('aria-posinset'), r.innerText])",
    )
    shown = [text for _, text in sorted(first, key=lambda row: int(row[0]))]
    margins = [float(re.search(r"margin ([−+])([\d.]+)", text)[0].split()[1].replace("−", "-")) for text in shown]  # type: ignore[index]
    assert margins == sorted(margins)
    assert margins[0] < 0


def test_list_shows_what_scrolls_into_view(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    assert js(chrome, "return document.querySelectorAll('.row').length") < 40
    js(chrome, "const l = document.getElementById('list'); l.scrollTop = l.scrollHeight")
    wait(
        "the last row",
        lambda: js(
            chrome, "return document.querySelector(`.row[aria-posinset='${arguments[0]}']:not([hidden])`)", N_ROWS
        ),
    )


def test_every_link_of_a_table_leads_to_as_many_items_as_it_says(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    links = js(
        chrome,
        "return [...document.querySelectorAll('#domains tbody tr')].map(r => [r.cells[0].innerText, r.cells[5]?.querySelector('a')])"
        ".filter(([name, a]) => a && name !== 'overall').map(([name, a]) => [name, a.getAttribute('href'), a.innerText])",
    )
    assert {"stars", "metals", "rivers", "songs"} <= {name for name, _, _ in links}
    for _, href, n in links:
        js(chrome, "document.querySelector(`#domains a[href='${arguments[0]}']`).click()", href)
        wait(href, lambda n=n: n_shown(chrome) == 4 * int(n))  # type: ignore[misc]  # two voices in two conditions


def test_a_cell_of_the_grid_leads_to_its_items(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    js(
        chrome,
        "[...document.querySelectorAll('.heat td a')].find(a => a.href.includes('bob') && a.href.includes('telephone')).click()",
    )
    wait("the cell's items", lambda: n_shown(chrome) == N_ROWS // 4)
    assert js(
        chrome, "return [document.getElementById('f-voice').value, document.getElementById('f-condition').value]"
    ) == ["bob", "telephone"]
    assert js(
        chrome,
        "const box = document.getElementById('items').getBoundingClientRect(); return box.top < innerHeight && box.bottom > 0",
    )
    where = js(
        chrome, "return [...document.querySelectorAll('.row:not([hidden]) .where')].map(node => node.textContent)"
    )
    assert where
    assert all("bob · telephone" in text for text in where)


def test_causes_in_the_list_are_those_of_the_table(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    rows = js(
        chrome,
        "return [...document.querySelectorAll('#causes tbody td a')].map(a => [a.getAttribute('href'), Number(a.innerText)])",
    )
    counted = [(href, share) for href, share in rows if "domain=songs" in href]
    assert len(counted) == 6
    for href, share in counted:
        js(chrome, "location.hash = arguments[0] + '&condition=clean'", href)
        wait(href, lambda href=href: js(chrome, "return location.hash").startswith(href))  # type: ignore[misc]
        assert n_shown(chrome) == pytest.approx(share / 100 * 24, abs=0.05)  # 12 items in two voices


@pytest.mark.parametrize("form", [None, "opus"])
def test_a_sound_plays(chrome: Chrome, page: str, tmp_path: Path, form: SoundForm | None) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(chrome, page if form is None else written(tmp_path, options=PageOptions(audio_format=form))[0])
    js(chrome, "document.getElementById('list').focus()")
    press(chrome, "#list", Keys.ARROW_DOWN, Keys.SPACE)
    played = "const a = document.querySelector('#detail audio'); return a && (a.currentTime > 0 || a.ended)"
    wait("sound beside the page", lambda: js(chrome, played))
    assert js(chrome, "return document.querySelector('#detail audio').src").endswith(f".{form or 'wav'}")
    assert js(chrome, "return document.querySelector('#detail audio').duration") == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(("form", "kind"), [(None, "flac"), ("opus", "ogg"), ("wav", "wav")])
def test_the_worst_can_carry_their_sound(chrome: Chrome, tmp_path: Path, form: SoundForm | None, kind: str) -> None:
    address, _ = written(tmp_path, options=PageOptions(embed_audio=3, audio_format=form))
    assert not (tmp_path / "sound").exists()
    opened(chrome, address + "#items?sort=margin")
    wait(
        "sound inside",
        lambda: js(
            chrome,
            "return document.querySelector('#detail audio')?.src.startsWith(`data:audio/${arguments[0]};`)",
            kind,
        ),
    )
    js(chrome, "document.querySelector('#detail audio').play()")
    wait(
        "it plays",
        lambda: js(chrome, "const a = document.querySelector('#detail audio'); return a.currentTime > 0 || a.ended"),
    )
    setting(chrome, "f-sort", "")
    js(chrome, "document.querySelectorAll('.row:not([hidden])')[5].click()")
    wait("none for the others", lambda: not js(chrome, "return document.querySelector('#detail audio')"))


def test_the_address_holds_the_state(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    setting(chrome, "f-domain", "metals")
    setting(chrome, "f-cause", "lost_in_alignment")
    js(chrome, "document.querySelectorAll('.row:not([hidden])')[2].click()")
    said, n, address = detail(chrome), n_shown(chrome), chrome.current_url
    assert "domain=metals" in address
    assert n < N_ROWS
    opened(chrome, address)
    assert (n_shown(chrome), detail(chrome)) == (n, said)
    assert js(chrome, "return document.getElementById('f-domain').value") == "metals"
    opened(chrome, page + "#items?domain=nowhere&sort=banana&voice=ann")  # what this page does not know is left out
    assert n_shown(chrome) == N_ROWS // 2


def test_fields_that_the_report_is_sliced_by_filter_too(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    js(
        chrome,
        "for (const d of document.querySelectorAll('details')) d.open = true;"
        "[...document.querySelectorAll('#slices a')].find(a => a.innerText === 'kind 3').click()",
    )
    wait("items of the kind", lambda: n_shown(chrome) == N_ROWS // 6)


def test_chosen_and_right_options_are_named(chrome: Chrome, page: str) -> None:
    opened(chrome, page + "#items?open=stars-1&in=ann%7Ctelephone")
    text = detail(chrome)
    assert "Which stars go with item 1?" in text
    assert "stars answer 1 (right)" in text
    assert text.count("✓") + text.count("✗") >= 4
    assert "Heard by the ASR: 0 of 7 words wrong" in text
    opened(chrome, page + "#items?open=stars-0&in=ann%7Ctelephone")
    assert js(chrome, "return [...document.querySelectorAll('#detail del')].map(n => n.textContent)") == ["item"]
    assert js(chrome, "return [...document.querySelectorAll('#detail ins')].map(n => n.textContent)") == ["eye", "tom"]


# --- keys, paper, access ---------------------------------------------------------------------------------------------


def test_tables_sort_by_keyboard(chrome: Chrome, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(chrome, page)
    gaps = "return [...document.querySelectorAll('#task-1 tr')].map(r => Number(r.cells[2].dataset.value))"
    press(chrome, "#domains thead th:nth-child(3) button", Keys.ENTER)
    falling = js(chrome, gaps)
    assert falling == sorted(falling, reverse=True)
    press(chrome, "#domains thead th:nth-child(3) button", Keys.SPACE)
    assert js(chrome, gaps) == sorted(falling)
    assert (
        js(chrome, "return document.querySelector('#domains thead th:nth-child(3)').getAttribute('aria-sort')")
        == "ascending"
    )
    press(chrome, "#domains button.fold", Keys.ENTER)
    assert js(
        chrome,
        "return [document.getElementById('task-1').hidden, document.querySelector('#domains button.fold').getAttribute('aria-expanded')]",
    ) == [True, "false"]


def test_arrow_keys_walk_the_list(chrome: Chrome, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(chrome, page)
    press(chrome, "#list", Keys.END)
    assert js(chrome, "return document.querySelector('.row[aria-selected=true]').getAttribute('aria-posinset')") == str(
        N_ROWS
    )
    press(chrome, "#list", Keys.ARROW_UP)
    active = js(
        chrome,
        "const id = document.getElementById('list').getAttribute('aria-activedescendant');"
        "return document.getElementById(id).getAttribute('aria-posinset')",
    )
    assert active == str(N_ROWS - 1)
    press(chrome, "#list", Keys.ENTER)
    assert js(chrome, "return document.activeElement.id") == "detail"


def test_paper_holds_every_column(chrome: Chrome, page: str) -> None:
    import pypdf

    opened(chrome, page)
    data = chrome.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})["data"]
    reader = pypdf.PdfReader(io.BytesIO(base64.b64decode(data)))
    width, height = (float(side) for side in reader.pages[0].mediabox[2:])
    assert (round(width), round(height)) == (842, 595)  # A4, landscape, in points
    places: list[tuple[str, float]] = []
    for sheet in reader.pages:
        sheet.extract_text(
            visitor_text=lambda text, cm, tm, *_: places.append((text.strip(), cm[0] * tm[4] + cm[2] * tm[5] + cm[4]))
        )
    assert all(0 <= x <= width - 10 for text, x in places if text)
    words = " ".join(" ".join(sheet.extract_text() for sheet in reader.pages).replace("\xad", "").split())
    for title in (
        "Gap",
        "Hears",
        "Reads",
        "Cascade",
        "Adapted reads",
        "Forgetting",
        "Cascade loss",
        "Shrunk gap",
        "Sees",
        "±5 needs",
        "WER",
    ):
        assert title in words, title
    heads = js(
        chrome,
        "return [...document.querySelectorAll('#domains thead th')].map(th => th.innerText.replace(/\\u00ad|\\n/g, '').trim())",
    )
    assert len(heads) == 20
    for domain in ("stars", "metals", "rivers", "songs"):
        assert domain in words
    assert "kind 3" in words  # folded slices are unfolded


@pytest.mark.parametrize("width", [1280, 1920, 390])
def test_nothing_is_cut_off(chrome: Chrome, page: str, width: int) -> None:
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    try:
        opened(chrome, page)
        assert js(chrome, "return document.documentElement.scrollWidth") <= width
        gap = js(
            chrome,
            "const c = document.querySelector('#task-1 td.gap'); c.scrollIntoView();"
            "const b = c.getBoundingClientRect(); return [b.left, b.right]",
        )
        assert 0 <= gap[0] < gap[1] <= width  # in view without scrolling sideways
        wider = js(
            chrome,
            "return [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth)"
            ".map(s => s.getAttribute('aria-label'))",
        )
        assert width < 1280 or not wider
        labels = js(
            chrome,
            "return [...document.querySelectorAll('svg.scatter text, svg.loss text')].map(text => {"
            "const a = text.getBoundingClientRect(), b = text.closest('svg').getBoundingClientRect();"
            "return [text.textContent, a.left - b.left, b.right - a.right, b.bottom - a.bottom] })",
        )
        assert labels
        assert not [label for label in labels if min(label[1:]) < -1]
    finally:
        chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(page: str, width: int, dark: bool) -> None:
    package = pytest.importorskip("axe_core_python", reason="no axe: pip install 'salad-gap[test]'")
    needs_browser()
    with browser(width, dark=dark) as chrome:
        opened(chrome, page)
        js(chrome, "document.getElementById('all-columns').click()")
        assert not axe(chrome, Path(package.__file__).parent / "axe.min.js")


# --- nothing of a report runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", HOSTILE, ids=["tags", "attributes", "data", "others"])
def test_no_text_of_a_report_runs(chrome: Chrome, evil: str, tmp_path: Path) -> None:
    address, made = written(tmp_path, lambda text: f"{text}{evil}")
    clean, _ = written(tmp_path / "clean")
    opened(chrome, clean)
    harmless = js(
        chrome,
        "return ['script', 'img', 'iframe', 'object', 'link', 'form'].map(n => document.querySelectorAll(n).length)",
    )
    chrome.get_log("browser")
    opened(chrome, address)
    assert n_shown(chrome) == N_ROWS
    for _ in range(6):
        js(
            chrome,
            "const rows = [...document.querySelectorAll('.row:not([hidden])')]; "
            "rows[Math.floor(rows.length / 2)].click(); document.getElementById('list').scrollTop += 700",
        )
    js(
        chrome,
        "for (const d of document.querySelectorAll('details')) d.open = true;"
        "for (const b of document.querySelectorAll('button.sort, button.fold')) b.click()",
    )
    setting(chrome, "f-q", evil.lower()[:20])
    assert n_shown(chrome) == N_ROWS
    js(chrome, "document.querySelector('#domains tbody a').click()")
    assert js(chrome, "return window.ran ?? null") is None
    assert (
        js(
            chrome,
            "return ['script', 'img', 'iframe', 'object', 'link', 'form'].map(n => document.querySelectorAll(n).length)",
        )
        == harmless
    )
    shown = js(chrome, "return document.body.innerText + document.getElementById('detail').innerText")
    assert "window.ran" in shown  # as text
    assert not [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]
    del made


def test_the_policy_lets_nothing_else_run_or_load(chrome: Chrome, page: str) -> None:
    opened(chrome, page)
    refused = js(
        chrome,
        """
        const heard = [];
        document.addEventListener("securitypolicyviolation", event => heard.push(event.effectiveDirective));
        const script = document.createElement("script"); script.append("window.ran = 1"); document.body.append(script);
        const image = new Image(); image.src = "http://127.0.0.1:9/x.png"; document.body.append(image);
        document.body.append(Object.assign(document.createElement("link"), {rel: "stylesheet", href: "http://127.0.0.1:9/x.css"}));
        try { document.body.innerHTML += "<b>x</b>"; } catch (error) { heard.push(error.name); }
        return new Promise(done => setTimeout(() => done([window.ran ?? null, heard]), 300));
        """,
    )
    assert refused[0] is None
    assert {"require-trusted-types-for", "img-src", "style-src-elem", "TypeError"} <= set(refused[1])
