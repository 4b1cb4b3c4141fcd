"""Options that a task does not list, listed by letters: in every column's prompt alike, written or spoken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salad_eval.answers.score import score_response
from salad_eval.benchmarks.catalogue import load_task, load_tasks
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.lettered import list_options
from salad_eval.benchmarks.requests import build_request
from salad_eval.errors import TaskError, UserInputError
from salad_eval.gap.signature import signature
from salad_eval.pipeline.items import read_tasks
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import evaluate
from salad_eval.report.json import report_from_json, report_to_json
from salad_eval.types import Audio, AudioSegment, Response
from tests.conftest import QUESTIONS
from tests.helpers import gap_world
from tests.helpers.served_world import Answer, Call, chat, ok, serving
from tests.salad_eval.benchmarks.test_items import make_task

ROWS = [
    {"id": "1", "question": "Which metal is in bones?", "choices": ["iron", "calcium"], "answer": 1, "domain": "body"},
    {
        "id": "2",
        "question": "Which gas do plants take in?",
        "choices": ["carbon dioxide", "helium", "neon"],
        "answer": 0,
        "domain": "air",
    },
]
LISTED = "Question: Which metal is in bones?\nA. iron\nB. calcium\nAnswer:"


@pytest.mark.parametrize(
    ("question", "spoken", "expected"),
    [
        ("Question: Q one?\nAnswer:", "Q one?", "Question: Q one?\nA. x\nB. y\nAnswer:"),
        (
            "Question: Q one?\nAnswer:",
            "Q one",
            "Question: Q one?\nA. x\nB. y\nAnswer:",
        ),  # its question mark stays with it
        ("Question: Q one? Answer:", "Q one?", "Question: Q one?\nA. x\nB. y\nAnswer:"),
        ("Q one?", "Q one?", "Q one?\nA. x\nB. y\nAnswer:"),  # a prompt that would end in the list
        ("Q one?\n", "Q one?", "Q one?\nA. x\nB. y\nAnswer:"),
        ("P. Q one?\n\nThe answer is", "Q one?", "P. Q one?\nA. x\nB. y\n\nThe answer is"),
        ("Q one?\nA. x\nB. y\nAnswer:", "Q one?", None),  # listed already
        ("Q one?\n(A) x\n(B) y\n", "Q one?", None),
    ],
)
def test_where_options_are_listed(question: str, spoken: str, expected: str | None) -> None:
    found = list_options(question, question.index(spoken) + len(spoken), ("x", "y"))
    assert (found.text if found else None) == expected
    if found:
        assert found.text[found.start : found.end] == "A. x\nB. y"


def test_letters_run_out() -> None:
    with pytest.raises(ValueError, match="27 options"):
        list_options("Q?", 2, tuple(map(str, range(27))))


def items_of(tmp_path: Path, salad: dict | None = None, shots: int = 0, **asked):
    path = make_task(tmp_path, ROWS, salad=salad)
    return load_items(load_task(str(path), **asked), "test", shots=shots)


@pytest.mark.parametrize(("salad", "asked"), [({}, {"options": "lettered"}), ({"options": "lettered"}, {})])
def test_the_list_is_part_of_the_item(tmp_path: Path, salad: dict, asked: dict) -> None:
    items, rejects, protocol = items_of(tmp_path, salad, **asked)
    assert not rejects
    assert items[0].context == LISTED
    assert [items[0].part_text(part) for part in items[0].spoken_parts] == ["Which metal is in bones?"]
    assert items[1].context.count("\n") == 4
    assert protocol.options == "lettered"
    plain, _, without = items_of(tmp_path, {}, options="none")
    assert plain[0].context == "Question: Which metal is in bones?\nAnswer:"
    assert plain[0].choices == items[0].choices
    assert without.options == "none"


def test_a_plan_s_none_overrides_the_task(tmp_path: Path) -> None:
    items, _, protocol = items_of(tmp_path, {"options": "lettered"}, options="none")
    assert "A." not in items[0].context
    assert protocol.options == "none"


def test_all_columns_are_shown_the_same_list(tmp_path: Path) -> None:
    (item, _), _, _ = items_of(tmp_path, options="lettered")
    sound = AudioSegment(Audio([0.0], 16000), "x")  # type: ignore[arg-type]
    text = build_request(item, "text").text
    cascade = build_request(item, "transcript", transcripts={"context": "which metal is in bones"}).text
    speech = build_request(item, "speech", audio={"context": sound}).text
    assert text == LISTED
    assert cascade == "Question: which metal is in bones\nA. iron\nB. calcium\nAnswer:"
    assert speech == "Question: \nA. iron\nB. calcium\nAnswer:"


def test_spoken_options_are_heard_and_not_written(tmp_path: Path) -> None:
    (item, _), _, _ = items_of(tmp_path, options="lettered", speak="context+choices")
    assert {part.name: item.part_text(part) for part in item.spoken_parts} == {
        "context": "Which metal is in bones?",
        "choices": "A. iron\nB. calcium",
    }
    sound = AudioSegment(Audio([0.0], 16000), "x")  # type: ignore[arg-type]
    assert build_request(item, "speech", audio={"context": sound, "choices": sound}).text == "Question: \n\nAnswer:"
    with pytest.raises(TaskError, match="options: lettered"):
        items_of(tmp_path, speak="context+choices")


@pytest.mark.parametrize("text", ["B", "(b)", "Answer: B", "calcium", "B. calcium", "The answer is calcium."])
def test_letter_and_text_are_answers(tmp_path: Path, text: str) -> None:
    (item, _), _, _ = items_of(tmp_path, options="lettered")
    response = Response(item.id, "adapted_speech", "speech", "v", "clean", text=text)
    assert score_response(item, response, "generate").value == 1.0


def test_shots_list_their_options_and_answer_by_letter(tmp_path: Path) -> None:
    (item, _), _, _ = items_of(tmp_path, shots=2, options="lettered")
    shots, _, question = item.context.rpartition("\n\n")
    assert question == LISTED
    for shot in shots.split("\n\n"):
        lines = shot.splitlines()
        assert lines[0].startswith("Question: ")
        assert lines[1].startswith("A. ")
        assert lines[-1].removeprefix("Answer: ") in {line[0] for line in lines[1:-1]}
    assert [part.name for part in item.spoken_parts] == ["context"]


def test_spoken_shots_keep_their_places(tmp_path: Path) -> None:
    items, _, _ = load_items(
        load_task(str(make_task(tmp_path, ROWS)), options="lettered"), "test", shots=1, spoken_shots=True
    )
    names = [part.name for part in items[0].spoken_parts]
    assert names == ["shot1.context", "context"]
    assert all("\n" not in items[0].part_text(part) for part in items[0].spoken_parts)


def test_a_prompt_that_lists_its_options_stays_as_it_is(tmp_path: Path) -> None:
    listing = "{{question}}\n{% for c in choices %}{{'ABC'[loop.index0]}}. {{c}}\n{% endfor %}Answer:"
    path = make_task(tmp_path, ROWS, doc_to_text=listing)
    asked, plain = (load_items(load_task(str(path), options=options), "test")[0] for options in ("lettered", "none"))
    assert asked == plain
    with_choices = {"spoken_choices": "{% for c in choices %}{{'ABC'[loop.index0]}}. {{c}}\n{% endfor %}"}
    path = make_task(tmp_path, ROWS, salad=with_choices, doc_to_text=listing)
    task = load_task(str(path), options="lettered", speak="context+choices")
    assert task.options == "none"
    items, _, _ = load_items(task, "test")
    assert [part.name for part in items[0].spoken_parts] == ["context", "choices"]


def test_a_list_that_nobody_says_is_a_reject(tmp_path: Path) -> None:
    listed = dict(ROWS[0], question="Which is it, A. iron or B. calcium?")
    path = make_task(tmp_path, [listed, ROWS[1]])
    _, rejects, _ = load_items(load_task(str(path), options="lettered", speak="context+choices"), "test")
    assert [reject.reason for reject in rejects] == ["options are listed in writing"]


def test_more_options_than_letters_is_a_reject(tmp_path: Path) -> None:
    many = dict(ROWS[0], choices=[f"option{n}" for n in range(27)])
    path = make_task(tmp_path, [many, ROWS[1]])
    items, rejects, _ = load_items(load_task(str(path), options="lettered"), "test")
    assert len(items) == 1
    assert [(reject.reason, reject.detail) for reject in rejects] == [
        ("more options than letters", "27 options, and 26 letters to name them")
    ]


def test_a_task_without_options_has_none_to_list(tmp_path: Path) -> None:
    keys = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[answer]}}"}
    path = make_task(tmp_path, ROWS, salad={"score": "exact_match", "options": "lettered"}, **keys)
    with pytest.raises(TaskError, match="has no options"):
        load_task(str(path))
    path = make_task(tmp_path, ROWS, salad={"score": "exact_match"}, **keys)
    (task,) = load_tasks([str(path)], options="lettered")  # of a plan with several tasks, for those that have some
    assert task.options == "none"


def plan_of(path: Path, **changes) -> Plan:
    system = {"system": "hf-text", "options": {"pretrained": "nano/base"}}
    table = {
        "tasks": [str(path)],
        "voices": ["en-us"],
        "tts": {"name": "pyttsx3"},
        "asr": {"name": "transformers-ctc", "options": {"pretrained": "nano/asr"}},
        "base": system,
        "adapted": system,
    }
    return Plan.from_mapping({**table, **changes})


def test_a_system_s_own_list_does_not_go_with_it(tmp_path: Path) -> None:
    path = make_task(tmp_path, ROWS)
    chat = {"system": "openai-text", "options": {"model": "m", "api": "chat", "list_options": True}}
    for role in ("base", "adapted"):
        with pytest.raises(UserInputError, match=rf"{role}\.options\.list_options"):
            read_tasks(plan_of(path, options="lettered", score="generate", **{role: chat}))
        assert read_tasks(plan_of(path, score="generate", **{role: chat}))
    with pytest.raises(UserInputError, match="options"):
        plan_of(path, options="numbered")


def test_a_plan_that_lists_what_no_task_has_is_refused(tmp_path: Path) -> None:
    keys = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[answer]}}"}
    path = make_task(tmp_path, ROWS, salad={"score": "exact_match"}, **keys)
    with pytest.raises(UserInputError, match="none of its tasks has options"):
        read_tasks(plan_of(path, options="lettered"))


def test_signature_and_report_say_so(tmp_path: Path) -> None:
    _, _, listed = items_of(tmp_path, options="lettered")
    _, _, plain = items_of(tmp_path)
    assert "|options:lettered|" in signature(gap_world.protocol(protocols=(listed,)))
    assert "options" not in signature(gap_world.protocol(protocols=(plain,)))
    report = gap_world.report(gap_world.ITEMS, gap_world.SCORES, protocols=(listed,))
    data = json.loads(json.dumps(report_to_json(report)))
    assert report_from_json(data) == report
    del data["protocols"][0]["options"]  # as in a report from before there were any
    assert report_from_json(data).protocols[0].options == "none"


def _by_letter(call: Call) -> Answer:
    """A chat server that answers by the letter of the list it is shown: the right one where it reads, B where it hears."""
    if call.path.startswith("/v1/audio/transcriptions"):
        return ok({"text": "what"})
    content = call.json["messages"][-1]["content"]
    heard = not isinstance(content, str)
    text = "".join(part.get("text", "") for part in content) if heard else content
    listed = {line[3:]: line[0] for line in text.splitlines() if line[1:3] == ". "}
    right = next((choices[gold] for _, question, choices, gold in QUESTIONS if question in text), None)
    sounds = sum(part["type"] == "input_audio" for part in content) if heard else 0
    said = "B" if heard else listed[right] if right else "I did not get that."
    return ok(chat(said, prompt_tokens=len(text.split()) + 50 * sounds))


def test_a_run_over_chat_models_shows_all_four_columns_one_list(
    tiny_task: Path, audio_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with serving(_by_letter) as server:
        options = {"model": "m", "base_url": server.url}
        report = evaluate(
            {
                "tasks": [str(tiny_task)],
                "voices": ["en-us+f3"],
                "tts": {"name": "pyttsx3"},
                "asr": {"name": "openai-asr", "options": options},
                "base": {"system": "openai-text", "options": {**options, "api": "chat"}},
                "adapted": {"system": "openai-audio", "options": options},
                "score": "generate",
                "options": "lettered",
                "n_resamples": 200,
                "workers": 1,
                "out": str(tmp_path / "run"),
                "audio_store": str(audio_store),
            }
        )
        asked = [call for call in server.calls if "chat" in call.path]
    second = sum(gold == 1 for *_, gold in QUESTIONS) / len(QUESTIONS)
    accuracy = {column: estimate.value for column, estimate in report.overall.accuracy.items()}
    assert accuracy == {"base_text": 1.0, "base_transcript": 0.0, "adapted_text": 1.0, "adapted_speech": second}
    assert report.unparsed == {"base_text": 0, "base_transcript": 8, "adapted_text": 0, "adapted_speech": 0}
    assert report.generated == dict.fromkeys(report.unparsed, 8)
    assert all(b"A. " in call.body and b"B. " in call.body for call in asked)
    assert "|options:lettered|" in report.signature
