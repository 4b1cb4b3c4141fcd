"""A whole run over served models: its report, what a run that was stopped asks again, and a key that is in none of its files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from salad_eval import plugins
from salad_eval.errors import UserInputError
from salad_eval.pipeline.run import evaluate
from salad_eval.served.endpoint import EndpointError
from tests.conftest import QUESTIONS
from tests.helpers.served_world import Answer, Call, Server, chat, failed, ok, serving

KEY = "sk-secret-0123456789"
PLUGINS = {
    "salad.systems": {
        "openai-text": "salad_eval.served.systems:OpenAIText",
        "openai-audio": "salad_eval.served.systems:OpenAIAudio",
    },
    "salad.asr": {"openai-asr": "salad_eval.served.asr:OpenAIASR"},
}
RIGHT = {question: choices[gold] for _, question, choices, gold in QUESTIONS}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = plugins._found

    def with_ours(group: plugins.Group) -> dict[str, EntryPoint]:
        return {**{n: EntryPoint(n, value, group) for n, value in PLUGINS.get(group, {}).items()}, **found(group)}

    monkeypatch.setattr(plugins, "_found", with_ours)


def _answers(call: Call) -> Answer:
    """Knows all answers where it reads the question; names the second option where it hears it; hears "gas" in every recording."""
    if call.headers.get("Authorization") != f"Bearer {KEY}":
        return failed(401)
    if call.path.startswith("/v1/audio/transcriptions?"):
        return ok({"text": "Which gas"})
    content = call.json["messages"][-1]["content"]
    if isinstance(content, str):
        return ok(chat(next((right for question, right in RIGHT.items() if question in content), "no idea")))
    text = "".join(part.get("text", "") for part in content)
    options = [line[2:] for line in text.splitlines() if line.startswith("- ")]
    sounds = sum(part["type"] == "input_audio" for part in content)
    return ok(chat(f"The answer is {options[1]}.", prompt_tokens=len(text.split()) + 50 * sounds))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(_answers) as running:
        yield running


@pytest.fixture
def plan(server: Server, tiny_task: Path, audio_store: Path, tmp_path: Path) -> dict[str, Any]:
    options = {"model": "m", "base_url": server.url + "?sig=topsecret", "concurrency": 3}
    return {
        "tasks": [str(tiny_task)],
        "voices": ["en-us+f3", "en-us+m7"],
        "tts": {"name": "pyttsx3"},
        "asr": {"name": "openai-asr", "options": options},
        "base": {"system": "openai-text", "options": {**options, "api": "chat", "list_options": True}},
        "adapted": {"system": "openai-audio", "options": {**options, "list_options": True}},
        "score": "generate",
        "n_resamples": 200,
        "workers": 1,
        "out": str(tmp_path / "run"),
        "audio_store": str(audio_store),
        "created": "2025-01-01T00:00:00+00:00",
    }


def test_a_run_over_served_models(plan: dict[str, Any], server: Server, tmp_path: Path) -> None:
    report = evaluate(plan)
    accuracy = {column: estimate.value for column, estimate in report.overall.accuracy.items()}
    second = sum(gold == 1 for *_, gold in QUESTIONS) / len(QUESTIONS)
    assert accuracy == {"base_text": 1.0, "base_transcript": 0.0, "adapted_text": 1.0, "adapted_speech": second}
    assert report.unparsed["base_transcript"] == 16  # "no idea" is no option: counted, and wrong
    assert {column.fingerprint.partition("(")[0] for column in report.columns} == {"openai-text", "openai-audio"}

    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert len(files) > 8
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file
        if file.name not in ("plan.json",):  # which says what the user wrote
            assert b"topsecret" not in file.read_bytes(), file

    n = len(server.calls)
    assert evaluate(plan) == report
    assert len(server.calls) == n  # what is complete is not asked again


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_that_was_stopped_goes_on(plan: dict[str, Any], server: Server, tmp_path: Path, cached: bool) -> None:
    """Complete steps are not asked again; with a cache, no request that was answered is."""
    plan["controls"] = []  # which ask after the columns, and are no part of what is counted here
    if cached:
        for role in ("asr", "base", "adapted"):
            plan[role]["options"] = {**plan[role]["options"], "cache": str(tmp_path / "answers.sqlite")}
    expected = evaluate({**plan, "out": str(tmp_path / "whole")}) if not cached else None
    answered: list[bytes] = []
    lock = threading.Lock()

    def until_the_seventh_recording(call: Call) -> Answer:
        heard = b"input_audio" in call.body
        with lock:
            if heard and sum(b"input_audio" in body for body in answered) >= 7:
                return failed(400, {"detail": "stop"})
            answered.append(_content(call))
        return _answers(call)

    server.behave = until_the_seventh_recording
    with pytest.raises(EndpointError, match=r"answered 400 \(stop\)"):
        evaluate(plan)
    server.calls.clear()
    server.behave = _answers
    report = evaluate(plan)
    assert report == expected if expected is not None else report.overall.n_items == 8
    again = [_content(call) for call in server.calls]
    heard = [body for body in again if b"input_audio" in body]
    assert len(again) - len(heard) == (0 if cached else 1)  # but for the look whether audio is heard
    assert len(heard) == (16 + 1 - 7 if cached else 16 + 1)
    if cached:
        assert not set(again) & set(answered)


def _content(call: Call) -> bytes:
    """A request without what differs from one time to the next: the boundary of a form."""
    boundary = call.headers.get("Content-Type", "").partition("boundary=")[2].encode()
    return call.path.encode() + (call.body.replace(boundary, b"") if boundary else call.body)


def test_options_by_log_probability_are_refused_with_what_to_do(plan: dict[str, Any]) -> None:
    with pytest.raises(EndpointError, match="score: generate in the plan"):
        evaluate({**plan, "score": "ll"})


def test_a_wrong_option_is_named(plan: dict[str, Any], server: Server) -> None:
    plan["adapted"]["options"] = {**plan["adapted"]["options"], "concurrenci": 2}
    with pytest.raises(UserInputError, match=r"openai-audio.*unknown key 'concurrenci'; did you mean 'concurrency'"):
        evaluate(plan)
    assert all(b"input_audio" not in call.body for call in server.calls)
