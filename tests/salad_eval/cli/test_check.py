"""One question, one sentence: on the embedded models, and on a server."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from salad_eval import resources
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.cli.check import text_model, verdict, voice_model
from salad_eval.errors import SaladError, UserInputError
from salad_eval.report import load_report
from salad_eval.types import Estimate
from tests.helpers.gap_world import ITEMS, SCORES, report
from tests.helpers.served_world import Call, chat, failed, ok, serving
from tests.salad_eval.cli.conftest import Salad


def test_the_hundred_questions_are_sound() -> None:
    items, rejects, _ = load_items(load_task("salad_check"), "test")
    assert (len(items), len(rejects)) == (100, 0)
    assert Counter(item.gold for item in items) == {0: 25, 1: 25, 2: 25, 3: 25}
    assert set(Counter(item.domain for item in items).values()) == {20}
    assert len({item.part_text(item.spoken_parts[0]) for item in items}) == 100
    rows = [json.loads(line) for line in (resources.tasks_dir() / "check/questions.jsonl").read_text().splitlines()]
    assert all(len({choice.casefold() for choice in row["choices"]}) == 4 for row in rows)


def test_the_embedded_models_are_checked(salad: Salad, tmp_path: Path) -> None:
    shown = salad(
        "check", "--text", "nano", "--voice", "nano", "--limit", 6, "--voices", "en-us+f3", "--out", tmp_path / "c"
    )
    assert shown.code == 0, shown.err
    assert shown.out.startswith("6 questions, 6 recordings, ")
    assert "On 6 easy questions nano/base reads" in shown.out
    assert load_report(tmp_path / "c").overall.n_items == 6
    assert (tmp_path / "c" / "report.html").is_file()


def test_a_server_is_checked(salad: Salad, tmp_path: Path) -> None:
    def answer(call: Call):  # type: ignore[no-untyped-def]
        if call.path.endswith("/models"):
            return ok({"data": [{"id": "only"}]})
        return ok(chat("A", prompt_tokens=7 + len(call.body) // 1000))

    with serving(answer) as server:
        url = server.url
        shown = salad(
            "check", "--text", url, "--voice", url, "--limit", 4, "--voices", "en-us+f3", "--out", tmp_path / "c"
        )
    assert shown.code == 0, shown.err
    assert "calls to served models" in shown.out
    assert "no clear difference" in shown.out
    assert "On 4 easy questions only reads " in shown.out
    assert "Nothing shows that it hears at all." in shown.out, "it says A to everything"


def test_a_url_names_its_model_or_has_one() -> None:
    assert voice_model("http://localhost:9/v1#m")["options"] == {"base_url": "http://localhost:9/v1", "model": "m"}
    assert text_model("org/name") == {"system": "hf-text", "options": {"pretrained": "org/name"}}
    assert voice_model("org/name") == {"system": "hf-speech", "options": {"pretrained": "org/name"}}
    with pytest.raises(SaladError, match=r"Name one: http://127.0.0.1:9/v1#MODEL"):
        voice_model("http://127.0.0.1:9/v1")
    with (
        serving(lambda call: ok({"data": [{"id": "a"}, {"id": "b"}]})) as server,
        pytest.raises(UserInputError, match="serves 2 models"),
    ):
        voice_model(server.url)
    with serving(lambda call: failed(404)) as server, pytest.raises(SaladError, match="does not say"):
        text_model(server.url)


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (Estimate(0.2, 0.1, 0.3, 100), "it understands 20.0 points [10.0, 30.0] less"),
        (Estimate(-0.2, -0.3, -0.1, 100), "it understands 20.0 points [10.0, 30.0] more"),
        (Estimate(0.02, -0.1, 0.14, 100), "no clear difference (+2.0 points [−10.0, 14.0])"),
    ],
)
def test_the_sentence_says_what_the_interval_allows(gap: Estimate, said: str) -> None:
    made = report(ITEMS, SCORES)
    assert said in verdict(replace(made, overall=replace(made.overall, gap=gap)))
