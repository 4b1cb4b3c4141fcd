"""The line end to end on tiny random models: its records, what it rejects, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from salad_eval import evaluate, load_report, records, report
from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, ModelError, SaladError, TaskError, UnknownNameError, UserInputError
from salad_eval.pipeline import render
from salad_eval.pipeline.folder import STEPS_FILE
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import RenderOutcome
from salad_eval.pipeline.run import run, steps_of
from salad_eval.pipeline.transcribe import TranscribeOutcome
from salad_eval.types import COLUMNS, GapReport, Item, Reject, Rendering, Response, Score
from tests.conftest import json_alone, rows, write_rows
from tests.salad_eval.benchmarks.test_items import make_task


@pytest.fixture(autouse=True)
def only_json(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without the views of a report, but for the test that is about them."""
    if "views" not in request.keywords:
        monkeypatch.setattr(report, "write_report", json_alone)


def ran(plan: dict[str, Any], **changes: Any) -> GapReport:
    return run(Plan.from_mapping({**plan, **changes}), again=True)


def rejected(found: GapReport) -> dict[str, int]:
    return {f"{count.step}: {count.reason}": count.n for count in found.rejects}


# --- end to end ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_every_view_of_a_run_is_written(tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = ran(tiny_plan)
    folder = Path(tiny_plan["out"])
    assert load_report(folder) == found
    for name in (
        "plan.json",
        "steps.json",
        "items.jsonl",
        "rejects.jsonl",
        "gap_report.json",
        "report.html",
        "report.md",
        "DONE",
    ):
        assert (folder / name).stat().st_size > 0 or name == "rejects.jsonl"
    assert list((folder / "figures").glob("*.svg"))
    assert not list(folder.glob("*.partial"))


def test_the_four_columns_are_about_the_same_items(tiny_plan: dict[str, Any]) -> None:
    found = ran(tiny_plan)
    folder = Path(tiny_plan["out"])
    items = {item.id for item in records.read_jsonl(folder / "items.jsonl", Item)}
    assert len(items) == 8
    for column in COLUMNS:
        responses = records.read_jsonl(folder / f"respond.{column}.jsonl", Response)
        assert Counter(response.item_id for response in responses) == dict.fromkeys(
            items, 1 if column.endswith("text") else 2
        )
        assert all(len(response.choice_logprobs or ()) == 3 for response in responses)
        scores = [score for score in records.read_jsonl(folder / "score.jsonl", Score) if score.column == column]
        value = sum(score.value or 0.0 for score in scores) / len(scores)
        assert found.overall.accuracy[column].value == pytest.approx(value)
    assert found.overall.gap.value == pytest.approx(found.overall.forgetting.value + found.overall.misalignment.value)
    assert [row.name for row in found.domains] == ["astronomy", "chemistry", "music"]
    assert {(part.field, part.row.name) for part in found.slices} == {("voice", "en-us+f3"), ("voice", "en-us+m7")}
    assert found.overall.divergence_nats is not None
    assert found.overall.divergence_nats.misalignment > 0
    assert rejected(found) == {}


def test_what_was_done_is_in_the_report(tiny_plan: dict[str, Any]) -> None:
    found = ran(tiny_plan, seed=5)
    assert found.signature.startswith("tiny@sha256:")
    assert "seed:5" in found.signature
    assert [(column.name, column.system, column.input_form) for column in found.columns] == [
        ("base_text", "hf-text", "text"), ("base_transcript", "hf-text", "transcript"),
        ("adapted_text", "salad", "text"), ("adapted_speech", "salad", "speech"),
    ]  # fmt: skip
    assert (found.protocols[0].speak, found.protocols[0].shots, found.protocols[0].score) == ("context", 0, "ll")


def test_the_text_column_is_lm_evals_own(
    tiny_plan: dict[str, Any], tiny_models: dict[str, Path], tiny_task: Path
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found = ran(tiny_plan, shots=2)
    theirs = simple_evaluate(
        model="hf", model_args={"pretrained": str(tiny_models["base"]), "dtype": "float32"}, tasks=["tiny"], num_fewshot=2, device="cpu",
        batch_size=4, task_manager=TaskManager(include_path=str(tiny_task.parent), include_defaults=False), bootstrap_iters=0,
    )  # fmt: skip
    assert found.overall.accuracy["base_text"].value == pytest.approx(theirs["results"]["tiny"]["acc,none"])
    ours = records.read_jsonl(Path(tiny_plan["out"]) / "respond.base_text.jsonl", Response)
    samples = sorted(theirs["samples"]["tiny"], key=lambda sample: sample["doc_id"])
    for response, sample in zip(ours, samples, strict=True):
        assert response.choice_logprobs == pytest.approx([float(answer[0][0]) for answer in sample["resps"]], abs=1e-4)


def test_evaluate_takes_plans_in_every_form(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    expected = evaluate(tiny_plan)
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps(tiny_plan))
    assert evaluate(file) == expected
    assert evaluate(str(file), out=tmp_path / "again") == expected
    assert evaluate(Plan.from_mapping(tiny_plan), limit=3, again=True).overall.n_items == 3
    with pytest.raises(UnknownNameError, match="unknown preset"):
        evaluate("nanoo")


def test_one_step_after_the_other_reads_the_ones_before(tiny_plan: dict[str, Any]) -> None:
    ran(tiny_plan)
    steps = json.loads((Path(tiny_plan["out"]) / "steps.json").read_text())["steps"]
    assert all(len(step["sha256"]) == 64 for step in steps.values())
    assert {name: step["n_lines"] for name, step in steps.items()} == {
        "render": 16, "transcribe": 16, "respond.base_text": 8, "respond.base_transcript": 16, "respond.adapted_text": 8,
        "limits": 16, "respond.adapted_speech": 16, "score": 48, "comparable": 1, "divergence": 16,
        "control.base_floor": 8, "control.adapted_floor": 8, "control.adapted_silent": 8, "control.adapted_swapped": 8,
    }  # fmt: skip


# --- protocols -------------------------------------------------------------------------------------------------------


def test_spoken_shots_and_several_parts(tiny_plan: dict[str, Any]) -> None:
    found = ran(tiny_plan, shots=1, spoken_shots=True, voices=["en-us+f3"])
    assert (found.protocols[0].shots, found.protocols[0].spoken_shots) == (1, True)
    renderings = [
        o.rendering for o in records.read_jsonl(Path(tiny_plan["out"]) / "render.jsonl", RenderOutcome) if o.rendering
    ]
    assert Counter(rendering.part for rendering in renderings) == {"shot1.context": 8, "context": 8}
    assert len({rendering.sha256 for rendering in renderings if rendering.part == "shot1.context"}) == 1


def test_generation_is_scored_strictly(tiny_plan: dict[str, Any]) -> None:
    found = ran(tiny_plan, score="generate", voices=["en-us+f3"])
    assert found.protocols[0].score == "generate"
    assert found.overall.accuracy["base_text"].value == 0.0  # a random model's text names no option
    assert found.unparsed["base_text"] == 8


def test_tasks_with_free_answers_have_no_divergences(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    path = make_task(
        tmp_path, salad={"score": "generate"}, output_type="generate_until", doc_to_choice=None, doc_to_target="{{choices[answer]}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 8}, metric_list=None,
    )  # fmt: skip
    found = ran(tiny_plan, tasks=[str(path)], voices=["en-us+f3"])
    assert found.overall.divergence_nats is None
    assert found.notes == ("divergences not measured for 8 items without options.",)


def test_several_tasks_and_slices(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    other = make_task(tmp_path)
    found = ran(tiny_plan, tasks=[*tiny_plan["tasks"], str(other)], voices=["en-us+f3"], slice_fields=["task", "topic"])
    assert found.overall.n_items == 16
    assert {(part.field, part.row.name, part.row.n_items) for part in found.slices} == {
        ("task", "tiny", 8), ("task", "made", 8), ("topic", "t0", 8), ("topic", "t1", 8),
    }  # fmt: skip


# --- rejects ---------------------------------------------------------------------------------------------------------


def fail_to_render(monkeypatch: pytest.MonkeyPatch, fails: Any) -> None:
    """A synthesiser that cannot say some of the jobs."""
    original = render.render

    def failing(jobs: Any, **kwargs: Any) -> Any:
        for job, outcome in zip(jobs, original(jobs, **kwargs), strict=True):
            yield Reject(job.item_id, "render", "silent") if fails(job) else outcome

    monkeypatch.setattr(render, "render", failing)


def test_an_item_that_fails_in_one_voice_is_left_out_of_all_columns(
    tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_render(monkeypatch, lambda job: job.item_id == "tiny:test-2" and job.voice == "en-us+m7")
    found = ran(tiny_plan)
    assert found.overall.n_items == 7
    assert rejected(found) == {"render: silent": 1}
    assert found.rejects[0].domains == {"astronomy": 1}
    for column in COLUMNS:
        assert "tiny:test-2" not in (Path(tiny_plan["out"]) / f"respond.{column}.jsonl").read_text()


def test_an_item_that_fails_in_every_voice_is_counted_once(
    tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_render(monkeypatch, lambda job: job.item_id == "tiny:test-2")
    assert rejected(ran(tiny_plan)) == {"render: silent": 1}


def test_where_nothing_is_left_the_run_fails(tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_render(monkeypatch, lambda job: True)
    with pytest.raises(SaladError, match=r"no item is left after rendering: all 8 were rejected. Reasons: silent"):
        ran(tiny_plan)
    assert not (Path(tiny_plan["out"]) / "DONE").exists()


def test_bad_rows_are_counted_in_the_report(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    table = rows()
    bad = [{**table[0], "answer": 9}, {**table[1], "id": table[2]["id"]}, {**table[3], "choices": ["", "x"]}]
    write_rows(tmp_path / "test.jsonl", [*table, *bad[1:], {**bad[0], "id": "out-of-range"}])
    found = ran(tiny_plan, voices=["en-us+f3"])
    assert found.overall.n_items == 8
    # the fourth row's id is there already, which is seen first
    assert rejected(found) == {"items: duplicate id": 2, "items: gold out of range": 1}


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_sound_that_was_damaged_in_the_store_is_a_reject(
    damage: str, tiny_plan: dict[str, Any], tmp_path: Path
) -> None:
    plan = {**tiny_plan, "audio_store": str(tmp_path / "audio")}
    ran(plan)
    outcomes = records.read_jsonl(Path(plan["out"]) / "render.jsonl", RenderOutcome)
    hurt = next(o.rendering for o in outcomes if o.rendering is not None and o.rendering.item_id == "tiny:test-3")
    file = AudioStore(tmp_path / "audio").path(hurt.sha256)
    data = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": data[:3001], "changed": data[:-2] + b"\x55\x55"}[damage])
    # a run that has transcribed already meets the sound again where it is heard, and says which file it is
    with pytest.raises(AudioError, match="damaged"):
        ran({**plan, "adapted": {**plan["adapted"], "options": {**plan["adapted"]["options"], "max_length": 99}}})
    shutil.rmtree(plan["out"])
    found = ran(plan)
    if damage == "changed":  # not seen by its length, so it was not spoken again
        assert rejected(found) == {"transcribe: unreadable_audio": 1}
        assert found.overall.n_items == 7
    else:
        assert rejected(found) == {}


def test_a_prompt_that_spells_out_what_is_spoken_is_a_reject(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    text = "In words: how many strings are four and twenty. {{question}}\nAnswer:"
    table = [
        {**row, "question": "How many strings are 4 and twenty?"} if n == 6 else row for n, row in enumerate(rows())
    ]
    found = ran(tiny_plan, tasks=[str(make_task(tmp_path, table, doc_to_text=text))], voices=["en-us+f3"])
    assert rejected(found) == {"render: spoken text is also written in the prompt": 1}
    assert found.overall.n_items == 7


# --- what is refused, and when ---------------------------------------------------------------------------------------


def test_names_are_looked_up_before_anything_is_made(tiny_plan: dict[str, Any]) -> None:
    for changes, message in (
        ({"tts": {"name": "pyttsx"}}, "did you mean 'pyttsx3'"),
        ({"asr": {"name": "ctc"}}, "unknown asr plug-in 'ctc'"),
        ({"base": {"system": "hf"}}, "unknown systems plug-in 'hf'"),
        ({"tasks": ["salad_nan"]}, "did you mean 'salad_nano'"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"slice_fields": ["topics"]}, "did you mean 'topic'"),
        ({"voices": ["xx-nowhere"]}, "unknown espeak-ng voice"),
        ({"voices": ["en-us,rate=fast"]}, "rate is 'fast'"),
        ({"perturbations": ["nose"]}, "unknown perturbation 'nose'"),
    ):
        with pytest.raises(UserInputError) as caught:
            ran(tiny_plan, **changes)
        assert message in str(caught.value)
        assert not Path(tiny_plan["out"]).exists()


def test_tasks_that_cannot_be_run_are_refused(tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    silent = make_task(tmp_path, salad={"speak": "none", "spoken_text": None})
    with pytest.raises(TaskError, match="a gap needs something spoken"):
        ran(tiny_plan, tasks=[str(silent)])
    (tmp_path / "again.yaml").write_text(Path(tiny_plan["tasks"][0]).read_text())
    with pytest.raises(UserInputError, match="two of its tasks are called 'tiny'"):
        ran(tiny_plan, tasks=[*tiny_plan["tasks"], str(tmp_path / "again.yaml")])


@pytest.mark.parametrize("role", ["base", "asr", "adapted"])
def test_a_checkpoint_without_its_tokenizer_is_explained(role: str, tiny_plan: dict[str, Any], tmp_path: Path) -> None:
    whole = Path(tiny_plan[role]["options"]["pretrained"])
    maimed = tmp_path / "maimed"
    maimed.mkdir()
    for file in whole.iterdir():
        if "token" not in file.name and file.name not in ("vocab.json", "merges.txt"):
            shutil.copy(file, maimed)
    with pytest.raises(ModelError, match="tokenizer"):
        ran(tiny_plan, **{role: {**tiny_plan[role], "options": {"pretrained": str(maimed)}}})


def test_systems_that_cannot_be_compared_are_noted(tiny_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from salad_eval.systems.hf_text import HFTextSystem

    monkeypatch.setattr(HFTextSystem, "tokenizer_fingerprint", lambda self: "another")
    found = ran(tiny_plan, voices=["en-us+f3"])
    assert found.overall.divergence_nats is None
    assert "tokenizers differ" in found.notes[0]
    assert ran(tiny_plan, voices=["en-us+f3"]).notes == found.notes


def test_records_survive_their_files(tiny_plan: dict[str, Any]) -> None:
    ran(tiny_plan)
    folder = Path(tiny_plan["out"])
    for name, cls in (("render", RenderOutcome), ("transcribe", TranscribeOutcome), ("items", Item)):
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        assert [records.dumps(record) for record in records.read_jsonl(folder / f"{name}.jsonl", cls)] == lines
    assert {field.name for field in dataclasses.fields(Rendering)} <= set(
        json.loads((folder / "render.jsonl").read_text().splitlines()[0])["rendering"]
    )


# --- what is said on the way -----------------------------------------------------------------------------------------


def test_every_step_that_runs_is_numbered(fake_plan: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan.from_mapping(fake_plan)
    run(plan)
    names = steps_of(plan)
    assert set(names) == json.loads((plan.folder / STEPS_FILE).read_text())["steps"].keys()
    began = [line for line in capsys.readouterr().err.splitlines() if line.endswith(" to do")]
    assert [line.partition(":")[0] for line in began] == [
        f"· step {n} of {len(names)}, {name}" for n, name in enumerate(names, start=1)
    ]
