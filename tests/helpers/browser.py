"""A headless Chromium by its own driver. Where there is none, tests that need one are skipped by that name."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars",
)  # fmt: skip
PATIENCE = 60.0  # seconds: the machine may be busy


def programs() -> tuple[str | None, str | None]:
    """The browser and its driver, as they lie on the path."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    return browser, shutil.which("chromedriver")


def needs_browser() -> None:
    """Skip the test where there is no browser."""
    pytest.importorskip("selenium", reason="no browser: selenium is not installed (pip install 'salad-gap[test]')")
    if None in programs():
        pytest.skip(
            "no browser: chromium and chromedriver are not on the path (apt-get install chromium chromium-driver)"
        )


@contextmanager
def browser(width: int = 1280, height: int = 900, *, dark: bool = False) -> Iterator[Chrome]:
    """A browser with a profile of its own. No other page is opened and nothing is fetched."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        chrome = webdriver.Chrome(options=options, service=Service(driver))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            yield chrome
        finally:
            chrome.quit()


def wait(what: str, true: Callable[[], Any]) -> Any:
    """The first true value; a failure that names ``what`` where none comes in time."""
    end = time.monotonic() + PATIENCE
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.02)
    return value


def axe(chrome: Chrome, script: Path) -> list[tuple[str, list[str]]]:
    """What axe finds wrong on the page: the rule, and the elements it is broken by."""
    chrome.execute_script(script.read_text(encoding="utf-8"))  # type: ignore[no-untyped-call]
    found = chrome.execute_async_script(
        "axe.run().then(arguments[0], error => arguments[0]({violations: [{id: String(error), nodes: []}], passes: [1]}))"
    )  # type: ignore[no-untyped-call]
    assert found["passes"]
    return [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found["violations"]]
