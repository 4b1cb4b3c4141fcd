"""The report's page beside inspect_ai's viewer on as many samples: time to the first rows and to a filtered list, and what is loaded.

    python -m tests.speed.bench_viewer [--items 1000 10000] [--alone 100000] [--rounds 3] [--inspect-ai PYTHON]

Same questions, options, answers and scores in both; the same Chromium, headless, a profile of its own for each opening, in one run and
in turns. Ours is opened from disk, theirs from its own server (``inspect view start``), which is started before the clock. The first view
is there when a list shows rows and says how many there are; a filter (wrong answers alone) is done when the list says how many are left.
Theirs runs in a virtual environment of its own, made in a temporary folder by pip, unless the Python of one is named. ``--alone``: our
page by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad_eval.gap.items import RunRecords
from salad_eval.report.listing import PageOptions, page_items
from salad_eval.report.page import html_page
from salad_eval.types import CLEAN, COLUMN_FORM, COLUMNS, Item, Rendering, Response, Score, SpokenPart, Transcript
from tests.helpers.browser import browser, programs
from tests.helpers.gap_world import report
from tests.speed.measured import Measured, tell

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE = 240.0  # seconds
VOICE = "en-us+f3"
WRITE_LOG = r"""
import json, sys
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalMetric, EvalPlan, EvalResults, EvalSample, EvalScore, EvalSpec
from inspect_ai.log import write_eval_log
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score
asked = json.load(sys.stdin)
samples = [
    EvalSample(
        id=one["id"], epoch=1, input=one["question"], choices=one["choices"], target="ABCD"[one["gold"]],
        messages=[ChatMessageUser(content=one["question"] + "\n" + "\n".join(one["choices"])),
                  ChatMessageAssistant(content=f"ANSWER: {'ABCD'[one['chosen']]}")],
        output=ModelOutput.from_content("toy/m", f"ANSWER: {'ABCD'[one['chosen']]}"),
        scores={"choice": Score(value="C" if one["chosen"] == one["gold"] else "I", answer="ABCD"[one["chosen"]])},
        metadata={"domain": one["domain"]},
    )
    for one in asked
]
n = len(samples)
results = EvalResults(total_samples=n, completed_samples=n, scores=[
    EvalScore(name="choice", scorer="choice", metrics={"accuracy": EvalMetric(name="accuracy", value=0.6)})])
data = EvalDataset(name="quiz", samples=n)
spec = EvalSpec(created="2026-01-01T00:00:00+00:00", task="quiz", dataset=data, model="toy/m", config=EvalConfig())
write_eval_log(EvalLog(status="success", eval=spec, plan=EvalPlan(), samples=samples, results=results), sys.argv[1])
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what was chosen by ear."""

    id: str
    domain: str
    question: str
    choices: tuple[str, ...]
    gold: int
    chosen: int

    @property
    def right(self) -> bool:
        return self.chosen == self.gold


def questions(n: int) -> list[Asked]:
    """The same for equal ``n``; no two alike, three in five answered."""
    found = []
    for k in range(n):
        gold = k % 4
        right = k * 2654435761 % 100 < 60
        text = (
            f"Question {k}: which star of group {k % 97} is nearest to the sun, seen from place {k * 7919 % 100_003}?"
        )
        choices = tuple(f"the star {(k + place) % 13} of {place}" for place in range(4))
        found.append(Asked(f"item-{k}", f"domain {k % 14}", text, choices, gold, gold if right else (gold + 1) % 4))
    return found


# --- ours ------------------------------------------------------------------------------------------------------------


def our_page(asked: list[Asked], folder: Path) -> Path:
    """A run's page: these questions in one voice, four columns, a transcript each."""
    items, scores, responses, renderings, transcripts = [], [], [], [], []
    for one in asked:
        item = Item(
            one.id,
            "quiz",
            "test",
            one.domain,
            one.question,
            one.choices,
            one.gold,
            one.id,
            (SpokenPart("q", 0, len(one.question)),),
        )
        items.append(item)
        renderings.append(
            Rendering(
                one.id, "q", VOICE, CLEAN, one.question, hashlib.sha256(one.id.encode()).hexdigest(), 16_000, 80_000
            )
        )
        transcripts.append(Transcript(one.id, "q", VOICE, CLEAN, "asr", one.question.lower(), 1, 16, 0, 60))
        for column in COLUMNS:
            rendered = (None, None) if COLUMN_FORM[column] == "text" else (VOICE, CLEAN)
            chosen = one.gold if column.startswith("base") else one.chosen
            logprobs = tuple(-1.0 if place == chosen else -2.5 for place in range(4))
            responses.append(Response(one.id, column, COLUMN_FORM[column], *rendered, choice_logprobs=logprobs))
            scores.append(Score(one.id, column, *rendered, value=float(chosen == one.gold), predicted=chosen))
    found = report(items, scores, transcripts=transcripts, n_resamples=200)
    listed = page_items(
        found, RunRecords(items, scores, renderings, transcripts, responses), None, folder, PageOptions()
    )
    page = folder / "report.html"
    page.write_text(html_page(found, listed, folder), encoding="utf-8")
    return page


def our_view(chrome: Chrome, address: str, wrong: int) -> tuple[float, float]:
    began = time.perf_counter()
    chrome.get(f"{address}#items")
    until(
        lambda: shown(
            chrome,
            "return document.getElementById('list').innerText.includes('Question') && document.getElementById('count').textContent",
        )
    )
    first = time.perf_counter() - began
    began = time.perf_counter()
    shown(
        chrome,
        "const c = document.getElementById('f-wrong'); c.value = 'adapted_speech'; c.dispatchEvent(new Event('change', {bubbles: true}))",
    )
    until(lambda: number(shown(chrome, "return document.getElementById('count').textContent")) == wrong)
    return first, time.perf_counter() - began


# --- theirs ----------------------------------------------------------------------------------------------------------


def their_python(folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "inspect-ai"], check=True)
    return python


def their_log(python: str, asked: list[Asked], folder: Path) -> Path:
    folder.mkdir(parents=True)
    file = folder / "quiz.eval"
    subprocess.run(
        [python, "-c", WRITE_LOG, file], input=json.dumps([asdict(one) for one in asked]), text=True, check=True
    )
    return file


@contextmanager
def their_server(python: str, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(python).with_name("inspect")
    command = [program, "view", "start", "--log-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            until(lambda: listens(port))
            yield f"http://127.0.0.1:{port}/#/tasks/quiz.eval"
        finally:
            server.terminate()
            server.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def their_view(chrome: Chrome, address: str, n: int, wrong: int) -> tuple[float, float]:
    from selenium.webdriver.common.by import By

    rows = r"return (document.body.innerText.match(/([\d,.]+) (?:of [\d,.]+ )?rows/) || [''])[0]"
    began = time.perf_counter()
    chrome.get(address)
    until(
        lambda: number(shown(chrome, rows)) == n and shown(chrome, "return document.body.innerText.includes('item-')")
    )
    first = time.perf_counter() - began
    field = chrome.find_element(By.CSS_SELECTOR, "[contenteditable=true]")
    field.click()
    began = time.perf_counter()
    field.send_keys('choice == "I"')
    until(lambda: number(shown(chrome, rows)) == wrong)
    return first, time.perf_counter() - began


# --- measuring -------------------------------------------------------------------------------------------------------


def shown(chrome: Chrome, script: str) -> Any:
    return chrome.execute_script(script)  # type: ignore[no-untyped-call]


def number(text: str) -> int | None:
    found = re.match(r"[\d,.]+", text or "")
    return int(re.sub(r"\D", "", found[0])) if found else None


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"not within {PATIENCE:.0f} s")
        time.sleep(0.005)


def middle(times: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(first for first, _ in times), statistics.median(second for _, second in times)


def beside(python: str, n: int, rounds: int, folder: Path) -> None:
    """Both on ``n`` samples, in turns."""
    asked = questions(n)
    wrong = sum(not one.right for one in asked)
    page = our_page(asked, folder)
    log = their_log(python, asked, folder / "logs")
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with their_server(python, log.parent) as address:
        for _ in range(rounds):
            with browser() as chrome:
                ours.append(our_view(chrome, page.as_uri(), wrong))
            with browser() as chrome:
                theirs.append(their_view(chrome, address, n, wrong))
    (our_first, our_filter), (their_first, their_filter) = middle(ours), middle(theirs)
    print(
        f"{n:,} samples: ours {page.stat().st_size / 1e6:.2f} MB, first view {our_first:.2f} s, filter {1000 * our_filter:.0f} ms; "
        f"inspect_ai's log {log.stat().st_size / 1e6:.2f} MB, first view {their_first:.2f} s, filter {1000 * their_filter:.0f} ms"
    )
    tell(
        Measured(
            f"first view of {n:,} samples",
            their_first / our_first,
            "×",
            3,
            "more",
            f"inspect_ai's viewer, {their_first:.2f} s",
        ),
        Measured(
            f"filter of {n:,} samples",
            their_filter / our_filter,
            "×",
            3,
            "more",
            f"inspect_ai's viewer, {their_filter:.2f} s",
        ),
        Measured(f"first view of {n:,} samples, ours", our_first, "s"),
        Measured(
            f"page of {n:,} samples",
            page.stat().st_size / 1e6,
            "MB",
            against=f"its log, {log.stat().st_size / 1e6:.2f} MB",
        ),
    )


def alone(n: int, rounds: int, folder: Path) -> None:
    asked = questions(n)
    wrong = sum(not one.right for one in asked)
    page = our_page(asked, folder)
    times = []
    for _ in range(rounds):
        with browser() as chrome:
            times.append(our_view(chrome, page.as_uri(), wrong))
    first, filtered = middle(times)
    print(
        f"{n:,} samples: ours {page.stat().st_size / 1e6:.2f} MB, first view {first:.2f} s, filter {1000 * filtered:.0f} ms"
    )
    tell(
        Measured(f"first view of {n:,} samples, ours alone", first, "s", 3.0, "less"),
        Measured(f"filter of {n:,} samples, ours alone", filtered, "s"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--alone", type=int, nargs="*", default=[100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inspect-ai", help="the Python of an environment that has it")
    options = parser.parse_args()
    if None in programs():
        raise SystemExit("chromium and chromedriver are not on the path (apt-get install chromium chromium-driver).")
    with tempfile.TemporaryDirectory(prefix="salad-viewer-") as place:
        home = Path(place)
        if options.items:
            python = options.inspect_ai or their_python(home / "inspect-ai")
            version = "from importlib.metadata import version; print(version('inspect-ai'))"
            print(
                f"inspect-ai {subprocess.run([python, '-c', version], capture_output=True, text=True, check=True).stdout.strip()}"
            )
            for n in options.items:
                (home / f"{n}").mkdir()
                beside(python, n, options.rounds, home / f"{n}")
        for n in options.alone:
            (home / f"alone-{n}").mkdir()
            alone(n, options.rounds, home / f"alone-{n}")


if __name__ == "__main__":
    main()
