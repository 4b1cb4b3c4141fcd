"""Our tasks as lm-eval's: the generated YAMLs, the rows they load, and the command that brings both along."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval import resources
from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.catalogue import find_tasks, load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.requests import build_request
from salad_eval.errors import AudioError, TaskError, UserInputError
from salad_eval.lm_eval_bridge import rows as bridge
from salad_eval.lm_eval_bridge.audio_refs import marker, parse_refs, read_ref, split_at_markers
from salad_eval.lm_eval_bridge.rows import RowOptions, dataset, options_from, process_answer, rows
from salad_eval.lm_eval_bridge.task_files import FOLDER, declared_domains, files_of, subtask_names, task_files
from salad_eval.lm_eval_bridge.wrapper import generated_names, include_paths, refuse_what_misleads, run_lm_eval
from salad_eval.types import TextSegment
from tests.conftest import TASK, write_rows
from tests.conftest import rows as tiny_rows
from tests.helpers.tiny_causal_lm import save_tiny_llama
from tests.salad_eval.lm_eval_bridge.test_line import only_our_tasks
from tests.salad_eval.lm_eval_bridge.test_models import CHAT

NANO_DOMAINS = 14


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Temporary tasks of one test are none of the next one's."""
    bridge._loaded.cache_clear()
    yield
    bridge._loaded.cache_clear()


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_generated_files_are_up_to_date() -> None:
    """After a change to a task's YAML: python -m salad_eval.lm_eval_bridge.task_files"""
    root = resources.tasks_dir()
    there = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in (root / FOLDER).glob("**/*.yaml")
    }
    assert there == task_files()


def test_every_generated_file_is_indexed_by_lm_eval() -> None:
    """lm-eval leaves out a YAML that it cannot read, and says so at debug level only."""
    from lm_eval.tasks import TaskManager

    index = TaskManager(include_path=str(resources.tasks_dir()), include_defaults=False)
    assert set(generated_names()) <= set(index.all_tasks)
    for task in find_tasks():
        assert f"{task}_text" in index.all_tasks
    assert {"salad_nano_text", "salad_nano_cascade", "salad_nano_speech"} <= set(index.all_groups)


def test_our_reader_of_tasks_leaves_the_generated_ones_out() -> None:
    assert not set(find_tasks()) & set(generated_names())


def test_the_embedded_benchmark_has_a_subtask_a_domain() -> None:
    spec = load_task("salad_nano")
    files = files_of(spec)
    assert len(declared_domains(spec)) == NANO_DOMAINS
    assert len(files) == 3 * (NANO_DOMAINS + 2)
    assert "domain" not in files[f"{FOLDER}/salad_nano/salad_nano_text_all.yaml"]
    group = yaml.safe_load(files[f"{FOLDER}/salad_nano/salad_nano_speech.yaml"])
    assert len(group["task"]) == NANO_DOMAINS
    assert all(metric["weight_by_size"] for metric in group["aggregate_metric_list"])


def test_domains_that_are_not_known_before_the_data_make_one_task(tiny_task: Path) -> None:
    files = files_of(load_task(str(tiny_task)))
    assert sorted(files) == [f"{FOLDER}/tiny/tiny_{form}.yaml" for form in ("cascade", "speech", "text")]
    assert all("domain" not in text for text in files.values())


def test_a_domain_map_declares_its_domains(tiny_task: Path) -> None:
    text = tiny_task.read_text(encoding="utf-8")
    rule = "domain: {field: domain, map: {astronomy: Sky & Space, chemistry: Matter}, default: other}"
    tiny_task.write_text(text.replace("domain: domain}", f"{rule}}}"), encoding="utf-8")
    files = files_of(load_task(str(tiny_task)))
    names = [Path(name).stem for name in files if "/text/" in name]
    assert f"{FOLDER}/tiny/tiny_text_all.yaml" in files
    assert names == ["tiny_text_matter", "tiny_text_sky_space", "tiny_text_other"]
    assert "domain: Sky & Space" in files[f"{FOLDER}/tiny/text/tiny_text_sky_space.yaml"]


@pytest.mark.parametrize(
    ("domains", "names"),
    [
        (("History", "maths"), ["history", "maths"]),
        (("C", "C++", "c#"), ["c", "c_2", "c_3"]),
        (("../../etc", "漢字", "…"), ["etc", "domain", "domain_2"]),
        (("a b", "a-b"), ["a_b", "a_b_2"]),
        (("all", "all_2"), ["all_2", "all_2_2"]),
    ],
)
def test_subtask_names_are_safe_and_different(domains: tuple[str, ...], names: list[str]) -> None:
    assert list(subtask_names(domains).values()) == names


# --- rows ------------------------------------------------------------------------------------------------------------


def options(store: Path | None = None, **given: Any) -> RowOptions:
    return RowOptions(workers=1, audio_store=str(store) if store else None, **given)


@pytest.mark.parametrize("shots", [0, 2])
def test_text_rows_are_our_items(tiny_task: Path, shots: int) -> None:
    items, _, protocol = load_items(load_task(str(tiny_task)), "test", shots=shots)
    made, lost = rows(str(tiny_task), "text", None, options(shots=shots))
    assert not lost
    assert [(row.id, row.context, row.choices, row.golds, row.domain, row.group) for row in made] == [
        (item.id, item.context, item.choices, item.golds, item.domain, item.group) for item in items
    ]
    assert {(row.shots, row.data_revision, row.score) for row in made} == {(shots, protocol.data_revision, "ll")}
    assert all(row.audio == () and row.voice is None for row in made)


def test_limit_and_split_are_those_of_a_run(tiny_task: Path) -> None:
    expected, _, _ = load_items(load_task(str(tiny_task)), "test", limit=4, seed=3)
    made, _ = rows(str(tiny_task), "text", None, options(limit=4, seed=3))
    assert [row.id for row in made] == [item.id for item in expected]
    validation, _ = rows(str(tiny_task), "text", "music", options(split="validation"))
    assert {(row.split, row.domain) for row in validation} == {("validation", "music")}
    assert [row.id for row in rows(str(tiny_task), "text", "music", options(first=1))[0]] == ["tiny:test-6"]


@pytest.mark.parametrize(("shots", "spoken_shots"), [(0, False), (2, False), (2, True)])
def test_spoken_rows_hold_what_a_run_asks(tiny_task: Path, audio_store: Path, shots: int, spoken_shots: bool) -> None:
    """Markers and references give the very prompt that a run builds from the same recordings, spoken shots included."""
    how = options(audio_store, shots=shots, spoken_shots=spoken_shots, limit=3)
    items, _, _ = load_items(load_task(str(tiny_task)), "test", limit=3, shots=shots, spoken_shots=spoken_shots)
    made, lost = rows(str(tiny_task), "speech", None, how)
    assert not lost
    for row, item in zip(made, items, strict=True):
        assert (row.voice, row.perturbation, row.form) == ("en-us+f3", "clean", "speech")
        pieces = split_at_markers(row.context, row.audio, row.id)
        sounds = [read_ref(piece) for piece in pieces if not isinstance(piece, str)]
        assert len(sounds) == len(item.spoken_parts) == 1 + (shots if spoken_shots else 0)
        parts = sorted(item.spoken_parts, key=lambda part: part.start)
        expected = build_request(item, "speech", audio={part.name: s for part, s in zip(parts, sounds, strict=True)})
        texts = [piece for piece in pieces if isinstance(piece, str)]
        runs = itertools.groupby(expected.prompt, key=lambda segment: isinstance(segment, TextSegment))
        assert texts == ["".join(segment.text for segment in run) for is_text, run in runs if is_text]
        assert item.part_text(parts[-1]) not in row.context
    text, _ = rows(str(tiny_task), "text", None, options(limit=3, shots=shots, spoken_shots=spoken_shots))
    assert [row.question_sha256 for row in text] == [row.question_sha256 for row in made]


def test_documents_are_a_dataset_with_references(tiny_task: Path, audio_store: Path) -> None:
    found = dataset(
        task=str(tiny_task), form="speech", domain="music", audio_store=str(audio_store), workers=1, voice="en-us+m7",
        perturbation="noise,snr=20", pretrained="nano", config_source="x", version=1.0,
    )["test"]  # fmt: skip
    assert len(found) == 2
    doc = found[0]
    assert (doc["voice"], doc["domain"]) == ("en-us+m7", "music")
    assert doc["perturbation"].startswith("noise")
    (ref,) = parse_refs({"audio": bridge.doc_to_audio(doc)}, "here")
    assert marker(ref.sha256) in doc["context"]
    assert ref.path == str(AudioStore(audio_store).path(ref.sha256))
    assert json.loads(doc["fields"]) == {}


def test_no_more_is_rendered_than_the_first_rows_need(tiny_task: Path, tmp_path: Path) -> None:
    """An item that cannot be spoken does not count: the first two rows are those that all rows begin with."""
    table = tiny_rows()
    table[0]["question"] = "🦄🦄🦄"
    write_rows(tiny_task.parent / "test.jsonl", table)
    made, lost = rows(str(tiny_task), "speech", None, options(tmp_path / "audio", first=2))
    assert [row.id for row in made] == ["tiny:test-1", "tiny:test-2"]
    assert [reject.item_id for reject in lost] == ["tiny:test-0"]
    assert len(list((tmp_path / "audio" / "pcm").glob("*/*.wav"))) == 2


def test_rows_that_cannot_be_asked_are_counted(
    tmp_path: Path, audio_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tiny_rows()
    table[0]["question"] = f"What is {marker('a' * 64)}?"
    table[1]["answer"] = 9
    table[7]["question"] = "🦄🦄🦄"
    for split in ("test", "validation"):
        write_rows(tmp_path / f"{split}.jsonl", table)
    path = tmp_path / "tiny.yaml"
    path.write_text(TASK.format(folder=tmp_path), encoding="utf-8")
    found = dataset(task=str(path), form="speech", audio_store=str(audio_store), workers=1)["test"]
    assert len(found) == 5
    for step, reason in (
        ("items", "its text holds an audio marker"),
        ("items", "gold out of range"),
        ("render", "unspeakable: symbol"),
    ):
        assert f"1 items left out ({step}: {reason})" in caplog.text


def test_a_domain_without_items_says_why(tiny_task: Path) -> None:
    with pytest.raises(TaskError, match=r"domain 'music'.*ask tiny_text_all"):
        rows(str(tiny_task), "text", "music", options(limit=2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"voices": "x"}, "did you mean 'voice'"),
        ({"limits": 3}, "did you mean 'limit'"),
        ({"limit": 0}, "limit is 0"),
        ({"shots": "five"}, "shots is 'five'"),
    ],
)
def test_wrong_metadata_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        options_from(given)


def test_the_models_arguments_are_left_alone() -> None:
    given = {"pretrained": "x", "dtype": "float32", "asr": "y", "shots": 2, "version": 1.0, "config_source": "z"}
    assert options_from(given) == RowOptions(shots=2)


def test_unknown_voice_and_task_are_named(tiny_task: Path, audio_store: Path) -> None:
    with pytest.raises(UserInputError, match="no-such-voice"):
        rows(str(tiny_task), "speech", None, options(audio_store, voice="no-such-voice"))
    with pytest.raises(UserInputError, match="salad_nano"):
        dataset(task="salad_nanoo", form="text")


# --- under lm-eval ---------------------------------------------------------------------------------------------------


def evaluated(task: Path, model: Any, folder: Path, **settings: Any) -> Any:
    """``<task>_text`` under lm-eval, from its generated file."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    for name, text in files_of(load_task(str(task))).items():
        target = folder / "include" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("task: tiny,", f"task: {task},"), encoding="utf-8")
    manager = TaskManager(include_path=str(folder / "include"), include_defaults=False)
    return simple_evaluate(
        model=model,
        tasks=["tiny_text"],
        task_manager=manager,
        bootstrap_iters=0,
        fewshot_as_multiturn=False,
        **settings,
    )


@pytest.mark.parametrize("template", [False, True])
def test_our_text_model_is_lm_evals_with_and_without_a_chat_template(
    tiny_task: Path, tmp_path: Path, template: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same prompts, log-probabilities and accuracies; and asked again, the answers come from the cache."""
    from lm_eval.models.huggingface import HFLM

    from salad_eval.lm_eval_bridge.models import SaladTextLM

    weights = save_tiny_llama(tmp_path / "llama")
    (weights / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    theirs = HFLM(pretrained=str(weights), dtype="float32", device="cpu", batch_size=1)
    expected = evaluated(tiny_task, theirs, tmp_path, apply_chat_template=template)
    ours = SaladTextLM(pretrained=str(weights), device="cpu")
    cache = str(tmp_path / "cache")
    found = evaluated(tiny_task, ours, tmp_path, apply_chat_template=template, use_cache=cache)
    monkeypatch.setattr(ours.system, "loglikelihoods", None)  # whoever asks it now fails
    again = evaluated(tiny_task, ours, tmp_path, apply_chat_template=template, use_cache=cache)
    for mine, cached, other in zip(*(e["samples"]["tiny_text"] for e in (found, again, expected)), strict=True):
        assert mine["arguments"] == other["arguments"]
        assert mine["arguments"][0][0].startswith("<s>user: ") == template
        logprobs = [response[0] for response in mine["filtered_resps"]]
        assert logprobs == pytest.approx([response[0] for response in other["filtered_resps"]], abs=1e-4)
        assert cached["filtered_resps"] == mine["filtered_resps"]
    for metric in ("acc,none", "acc_norm,none"):
        assert found["results"]["tiny_text"][metric] == expected["results"]["tiny_text"][metric]


@pytest.fixture
def generative(tiny_task: Path) -> Path:
    text = tiny_task.read_text(encoding="utf-8").replace('spoken_text: "', 'score: generate, spoken_text: "')
    tiny_task.write_text(text, encoding="utf-8")
    return tiny_task


def test_generated_answers_are_scored_as_in_a_run(generative: Path) -> None:
    doc = dataset(task=str(generative), form="text")["test"][0]
    assert process_answer(doc, [" Saturn."]) == {"acc": 1.0, "unparsed": 0.0}
    assert process_answer(doc, [" Mars"]) == {"acc": 0.0, "unparsed": 0.0}
    assert process_answer(doc, ["I cannot say."]) == {"acc": 0.0, "unparsed": 1.0}


def test_a_generative_task_runs_under_lm_eval(generative: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    from salad_eval.lm_eval_bridge.models import SaladTextLM

    found = evaluated(generative, SaladTextLM(pretrained=str(tiny_models["base"])), tmp_path)
    answers = [sample["filtered_resps"][0] for sample in found["samples"]["tiny_text"]]
    docs = [sample["doc"] for sample in found["samples"]["tiny_text"]]
    expected = [process_answer(doc, [answer]) for doc, answer in zip(docs, answers, strict=True)]
    for metric in ("acc", "unparsed"):
        mean = sum(scores[metric] for scores in expected) / len(expected)
        assert found["results"]["tiny_text"][f"{metric},none"] == pytest.approx(mean)


# --- the wrapper -----------------------------------------------------------------------------------------------------


def arguments(*argv: str) -> Any:
    """What lm-eval's own parser makes of a command line."""
    from lm_eval._cli import HarnessCLI

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lm-eval", *argv])
        return HarnessCLI().parse_args()


def test_flags_that_would_mislead_are_refused() -> None:
    with pytest.raises(UserInputError, match="--metadata shots=5"):
        refuse_what_misleads(arguments("--tasks", "salad_nano_speech", "--num_fewshot", "5"))
    with pytest.raises(UserInputError, match="--cache_requests"):
        refuse_what_misleads(arguments("--tasks", "arc_easy,salad_nano_*", "--cache_requests", "true"))
    refuse_what_misleads(arguments("--tasks", "arc_easy", "--num_fewshot", "5", "--cache_requests", "true"))
    refuse_what_misleads(arguments("--tasks", "salad_nano_speech", "--num_fewshot", "0"))


def test_our_tasks_stand_beside_the_users(tmp_path: Path) -> None:
    ours = str(resources.tasks_dir())
    assert include_paths(arguments("--tasks", "x")) == [ours]
    assert include_paths(arguments("--tasks", "x", "--include_path", str(tmp_path))) == [ours, str(tmp_path)]
    config = tmp_path / "config.yaml"
    config.write_text("include_path: elsewhere\n", encoding="utf-8")
    assert include_paths(arguments("--tasks", "x", "--config", str(config))) == [ours, "elsewhere"]


def test_the_wrapper_passes_a_broken_recording_on_as_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered, then lost before it is heard: the run stops; nothing is scored from text."""
    only_our_tasks(monkeypatch)
    render = bridge.render

    def losing(*args: Any, **kwargs: Any) -> Any:
        for outcome in render(*args, **kwargs):
            AudioStore(tmp_path).path(outcome.sha256).unlink()
            yield outcome

    monkeypatch.setattr(bridge, "render", losing)
    argv = ["--model", "salad-speech", "--model_args", "pretrained=nano", "--tasks", "salad_nano_speech_music"]
    with pytest.raises(AudioError, match=r"cannot read audio from .*no such file"):
        run_lm_eval([*argv, "--limit", "1", "--metadata", f"audio_store={tmp_path}", "workers=1"])
