"""Tasks of lm-eval that have no YAML of ours: found as its own index finds them, and given our fields, or refused with the reason."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from salad_eval.benchmarks.catalogue import choose_tasks, load_task, load_tasks
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.lm_eval_fields import spoken_fields
from salad_eval.benchmarks.lm_eval_index import LmEvalIndex, lm_eval_index
from salad_eval.cli.main import app
from salad_eval.errors import TaskError, UnknownNameError, UserInputError
from salad_eval.pipeline.plan import Plan
from tests.helpers.lm_eval_world import write_mirror
from tests.salad_eval.benchmarks.test_parity import arc, invented, mmlu, piqa

# --- the index -------------------------------------------------------------------------------------------------------

FILES = {
    "a/one.yaml": "task: one\ntag: [odd, all_of_them]\ndataset_path: x\noutput_type: multiple_choice\n",
    "a/two.yaml": "include: _base\n'task': \"two\"\n",
    "a/_base": "tag: all_of_them\ndataset_path: y\nnum_fewshot: 1\n",
    "a/three.yaml": "include: two.yaml\ntask: three\n",
    "b/one.yaml": "task: one\ndataset_path: of another file of that name\ntag: late\n",
    "b/python.yaml": "task: in_python\nclass: !function task.Task\n",
    "b/broken.yaml": "task: [\n",
    "c/group.yaml": """\
        group: some
        num_fewshot: 7
        task:
          - one
          - {task: two, target_delimiter: "="}
          - group: within
            description: Hello.
            task: [three]
          - {task: own, dataset_path: z, doc_to_text: "{{q}}"}
        metadata: {version: 1}
    """,
    "c/tags.yaml": "group: by_tag\ntask: [all_of_them]\n",
    "c/nested.yaml": "group: nested\ntask:\n- {group: some, num_fewshot: 2}\n- in_python\n",
    "c/empty.yaml": "group: empty\ntask: []\n",
    "c/loop.yaml": "group: loop\ntask: [loop]\n",
    "c/twice.yaml": "group: twice\ntask: [one, some]\n",
}
NAMES = (
    "one",
    "two",
    "three",
    "in_python",
    "some",
    "by_tag",
    "nested",
    "empty",
    "odd",
    "all_of_them",
    "late",
    "_base",
    "on",
    "own",
)


@pytest.fixture
def index(tmp_path: Path) -> LmEvalIndex:
    for name, text in FILES.items():
        path = tmp_path / "tasks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "tasks/b/python.yaml").write_text("task: in_python\nclass: 3\n", encoding="utf-8")
    return LmEvalIndex(tmp_path / "tasks")


def test_names_are_those_of_lm_evals_index(index: LmEvalIndex) -> None:
    from lm_eval.tasks._index import TaskIndex

    theirs = TaskIndex.build([index.folder])
    for name in NAMES:
        assert index.has(name) == (name in theirs and name != "late"), (
            name
        )  # "late": of a task that is a double, and is skipped
        if index.has(name) and theirs[name].yaml_path is not None:
            assert index._entry(name).path == theirs[name].yaml_path, name  # type: ignore[union-attr]


EXPANDED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "one": [("one", {"dataset_path": "x", "num_fewshot": None})],
    "three": [("three", {"dataset_path": "y", "num_fewshot": 1})],
    "odd": [("one", {})],
    "all_of_them": [("one", {}), ("three", {}), ("two", {})],
    "by_tag": [("one", {}), ("three", {}), ("two", {})],
    "some": [
        ("one", {"num_fewshot": 7, "description": None}),
        ("two", {"num_fewshot": 7, "target_delimiter": "=", "dataset_path": "y"}),
        ("three", {"num_fewshot": 7, "description": "Hello."}),
        ("some::own", {"num_fewshot": 7, "dataset_path": "z", "doc_to_text": "{{q}}"}),
    ],
    "twice": [("one", {"num_fewshot": 7}), ("two", {}), ("three", {}), ("some::own", {})],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPANDED)
def test_groups_are_taken_apart(name: str, index: LmEvalIndex) -> None:
    found = index.expand(name)
    assert [task.name for task in found] == [task for task, _ in EXPANDED[name]]
    for task, (_, values) in zip(found, EXPANDED[name], strict=True):
        assert {key: task.table.get(key) for key in values} == values
        assert not {"tag", "group"} & set(task.table)


BAD_NAMES = {
    "empty": "the group 'empty' of lm-eval holds no task",
    "loop": "holds itself",
    "nothing": "no task, group or tag",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_groups_that_cannot_be_asked(name: str, index: LmEvalIndex) -> None:
    with pytest.raises(TaskError) as caught:
        index.expand(name)
    assert BAD_NAMES[name] in str(caught.value)


@pytest.mark.parametrize("name", ["in_python", "nested"])
def test_members_in_python_are_named(name: str, index: LmEvalIndex) -> None:
    assert [task.name for task in index.expand(name) if "is written in Python" in task.problem] == ["in_python"]


def test_the_installed_index_knows_its_tasks_and_groups() -> None:
    installed = lm_eval_index()
    assert installed is not None
    assert [task.name for task in installed.expand("arc_easy")] == ["arc_easy"]
    mmlu_tasks = installed.expand("mmlu")
    assert len(mmlu_tasks) == 57
    assert {task.table["dataset_path"] for task in mmlu_tasks} == {"cais/mmlu"}
    assert {task.name for task in installed.expand("ai2_arc")} == {"arc_easy", "arc_challenge"}


# --- our fields ------------------------------------------------------------------------------------------------------

HERE = Path("of/lm_eval.yaml")
CHOICE: dict[str, Any] = {
    "task": "t", "output_type": "multiple_choice", "doc_to_text": "Q: {{q}}\nA:", "doc_to_choice": "choices", "doc_to_target": "gold",
    "test_split": "test", "dataset_path": "x",
}  # fmt: skip
FREE: dict[str, Any] = {
    "task": "t",
    "doc_to_text": "{{q}}",
    "doc_to_target": "a",
    "validation_split": "dev",
    "dataset_path": "x",
}


def regex(*functions: str) -> list[dict[str, Any]]:
    return [{"name": "f", "filter": [{"function": function} for function in functions]}]


SCORES: list[tuple[dict[str, Any], str]] = [
    ({**CHOICE, "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}, "ll"),
    ({**CHOICE, "metric_list": [{"metric": "acc_norm"}]}, "ll_norm"),
    ({**CHOICE, "metric_list": [{"metric": "mcc"}]}, "ll"),
    (CHOICE, "ll"),
    ({**CHOICE, "metric_list": [{"metric": "acc_bytes"}]}, "ll_bytes"),
    ({**CHOICE, "metric_list": [{"metric": "acc_mutual_info"}]}, "ll_mutual_info"),
    ({**CHOICE, "metric_list": [{"metric": "acc"}], "process_results": FunctionRef("utils.f", HERE)}, "lm_eval_ll"),
    (FREE, "lm_eval"),
    ({**FREE, "filter_list": regex("regex", "take_first")}, "lm_eval"),
]


@pytest.mark.parametrize(("table", "score"), SCORES)
def test_scores(table: dict[str, Any], score: str) -> None:
    assert spoken_fields(table, HERE, "context", None).score == score
    assert spoken_fields(table, HERE, "context", "generate").score == "generate"


SPLITS: list[tuple[dict[str, str], dict[str, str]]] = [
    (
        {"test_split": "t", "validation_split": "v", "training_split": "r"},
        {"test": "t", "validation": "v", "train": "r"},
    ),
    ({"validation_split": "v", "training_split": "r"}, {"test": "v", "train": "r"}),
    ({"training_split": "r"}, {"train": "r"}),
]


@pytest.mark.parametrize(("named", "expected"), SPLITS)
def test_what_lm_eval_scores_is_the_split_test(named: dict[str, str], expected: dict[str, str]) -> None:
    table = {key: value for key, value in CHOICE.items() if key != "test_split"}
    assert spoken_fields({**table, **named}, HERE, "context", None).splits == expected


LISTING = {**CHOICE, "doc_to_text": "{{q}} {{choices[0]}} or {{choices[1]}}?"}
SPOKEN: list[tuple[dict[str, Any], str, tuple[dict[str, None], tuple[str, ...]]]] = [
    (CHOICE, "context", ({}, ("context",))),
    (LISTING, "context", ({}, ("context",))),
    (LISTING, "context+choices", ({}, ("context", "choices"))),
    ({**CHOICE, "doc_to_text": "q"}, "context", ({"context": None}, ())),
]


@pytest.mark.parametrize(("table", "speak", "expected"), SPOKEN)
def test_what_is_spoken(table: dict[str, Any], speak: Any, expected: tuple[Any, Any]) -> None:
    fields = spoken_fields(table, HERE, speak, None)
    assert (fields.spoken, fields.spoken_printed) == expected


UNSPEAKABLE: list[tuple[dict[str, Any], str, str]] = [
    ({**CHOICE, "output_type": "loglikelihood_rolling"}, "context", "output_type is 'loglikelihood_rolling'"),
    ({**CHOICE, "output_type": "loglikelihood"}, "context", "output_type is 'loglikelihood'"),
    ({**CHOICE, "doc_to_image": "image"}, "context", "it shows images"),
    ({**CHOICE, "doc_to_audio": "audio"}, "context", "sound of its own"),
    ({**CHOICE, "doc_to_text": ""}, "context", "its context is empty"),
    (CHOICE, "context+choices", "lists no options that could be spoken"),
    (
        {**CHOICE, "metric_list": [{"metric": "exact_match"}]},
        "context",
        "what it measures (exact_match) is no score of each item",
    ),
    (
        {**FREE, "metric_list": [{"metric": "bleu"}, {"metric": "chrf", "aggregation": "chrf"}]},
        "context",
        "what it measures (bleu, chrf) is no score of each item by itself",
    ),
    (
        {**FREE, "metric_list": [{"metric": "of_a_hub", "aggregation": "mean"}]},
        "context",
        "what it measures (of_a_hub)",
    ),
    (
        {**FREE, "metric_list": [{"metric": "exact_match", "hf_evaluate": True}]},
        "context",
        "what it measures (exact_match)",
    ),
    ({**FREE, "filter_list": regex("regx")}, "context", "names the function 'regx'; did you mean 'regex'?"),
    ({**FREE, "filter_list": "regex"}, "context", "filter_list is 'regex'; expected a list of mappings"),
    ({**FREE, "metric_list": [{"metric": 3}]}, "context", "metric_list names the metric 3"),
]


@pytest.mark.parametrize(("table", "speak", "message"), UNSPEAKABLE)
def test_what_cannot_be_spoken_is_refused(table: dict[str, Any], speak: Any, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        spoken_fields(table, HERE, speak, None)
    assert message in str(caught.value)


REAL_REFUSALS = {
    "wikitext": "output_type is 'loglikelihood_rolling'",
    "lambada_openai": "output_type is 'loglikelihood'",
    "squadv2": "is written in Python",
    "blimp_adjunct_island": "its context is empty",
    "humaneval": "it runs the code that a model writes",
    "webqs": "what it measures (exact_match) is no score of each item",
    "wmt16-ro-en": "is no score of each item",
    "cruxeval_input": "runs the code that a model writes",
    "longproc_countdown_2k": "it runs the code that a model writes",
    "ask_gec_p0": "its scoring runs programs on what a model writes",
}


@pytest.mark.parametrize("name", REAL_REFUSALS)
def test_real_tasks_that_cannot_be_asked_say_why(name: str) -> None:
    with pytest.raises(TaskError) as caught:
        load_tasks([name], speak="context")
    assert REAL_REFUSALS[name] in str(caught.value)


# --- asked by name ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    splits = {split: invented(arc, 100 * n, 4) for n, split in enumerate(("test", "train", "validation"))}
    write_mirror(root, "allenai/ai2_arc", "ARC-Easy", splits)
    write_mirror(
        root, "baber/piqa", None, {split: invented(piqa, 100 * n, 4) for n, split in enumerate(("validation", "train"))}
    )
    for subject in ("anatomy", "virology"):
        table = [{**row, "subject": subject} for row in invented(mmlu, 0, 4)]
        write_mirror(
            root,
            "cais/mmlu",
            subject,
            {"test": [{**row, "choices": row["choices"][:4]} for row in table], "dev": table},
        )
    return root


def test_tasks_and_groups_by_name(mirror: Path) -> None:
    tasks = load_tasks(["arc_easy", "piqa", "mmlu_anatomy"], speak="context", data_dir=mirror)
    assert [task.name for task in tasks] == ["arc_easy", "piqa", "mmlu_anatomy"]
    found = [load_items(task, "test") for task in tasks]
    assert [len(items) for items, _, _ in found] == [4, 4, 4]
    assert all(" asked as in lm-eval 0." in protocol.data_revision for _, _, protocol in found)
    assert [protocol.domain_field for _, _, protocol in found] == ["task", "task", "subject"]
    assert [items[0].domain for items, _, _ in found] == ["arc_easy", "piqa", "anatomy"]
    assert [items[0].id for items, _, _ in found] == ["arc_easy:test:0", "piqa:test:0", "mmlu_anatomy:test:0"]


def test_options_in_the_prompt_stay_written_unless_they_are_asked_for(mirror: Path) -> None:
    spoken = {}
    for speak in ("context", "context+choices"):
        items, _, _ = load_items(load_task("mmlu_anatomy", speak=speak, data_dir=mirror), "test")  # type: ignore[arg-type]
        spoken[speak] = [(part.name, items[0].part_text(part)) for part in items[0].spoken_parts]
    assert spoken["context"] == [("context", "Why is it 0. So?")]
    options = [("choice1", "red 0"), ("choice2", "blue 0"), ("choice3", "a tree 0"), ("choice4", "two 0")]
    assert spoken["context+choices"] == [*spoken["context"], *options]


OWN = """\
task: {name}
dataset_path: allenai/ai2_arc
dataset_name: ARC-Easy
test_split: test
output_type: {output_type}
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
"""
GROUP = """\
group: mine
task:
  - good
  - bad
  - task: arc_easy
    description: "Answer."
  - group: more
    task: [piqa]
"""


def write_own(folder: Path) -> Path:
    folder.mkdir()
    (folder / "good.yaml").write_text(OWN.format(name="good", output_type="multiple_choice"), encoding="utf-8")
    (folder / "bad.yaml").write_text(OWN.format(name="bad", output_type="loglikelihood"), encoding="utf-8")
    (folder / "mine.yaml").write_text(GROUP, encoding="utf-8")
    return folder


def test_a_group_of_one_s_own_and_a_folder_are_read_and_a_bad_member_is_named(tmp_path: Path) -> None:
    folder = write_own(tmp_path / "own")
    group = choose_tasks([folder / "mine.yaml"], speak="context")
    assert [task.name for task in group.tasks] == ["good", "arc_easy", "piqa"]
    assert [task.description for task in group.tasks] == ["", "Answer.", ""]
    (refused,) = group.refused
    assert "task bad: its output_type is 'loglikelihood'" in refused
    assert choose_tasks([folder], speak="context").refused == (refused,)
    assert [task.name for task in load_tasks([folder], speak="context")] == ["good"]
    with pytest.raises(TaskError, match="its output_type is 'loglikelihood'"):
        load_tasks([folder / "bad.yaml"], speak="context")
    with pytest.raises(UnknownNameError):
        load_tasks([folder / "good.yaml", "no_such_task"], speak="context")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="holds no YAML of a task"):
        load_tasks([tmp_path / "empty"], speak="context")


@pytest.mark.parametrize(("name", "least"), [("leaderboard", 20), ("agieval", 15)])
def test_members_of_lm_eval_s_groups_that_can_be_asked_are(name: str, least: int) -> None:
    assert len(choose_tasks([name], speak="context").tasks) >= least


def test_a_task_that_cannot_be_asked_is_named_and_the_others_go_on() -> None:
    chosen = choose_tasks(["arc_easy", "lambada_openai", "squadv2", "winogrande"], speak="context")
    assert [task.name for task in chosen.tasks] == ["arc_easy", "winogrande"]
    assert [why.split(":")[0] for why in chosen.refused] == [
        "task lambada_openai", "the task 'squadv2' of lm-eval is written in Python, not as a YAML, and cannot be read. Ask another.",
    ]  # fmt: skip


def test_a_group_is_asked_whole_and_one_task_is_one(mirror: Path) -> None:
    assert len(load_tasks(["mmlu"], speak="context", data_dir=mirror)) == 57
    with pytest.raises(TaskError, match="'ai2_arc' is a group of 2 tasks; name one of them"):
        load_task("ai2_arc", speak="context")


def test_rows_that_lm_eval_scores_are_not_selected_on(mirror: Path) -> None:
    with pytest.raises(
        TaskError, match="here they are the split 'test', so that nothing is chosen on what is reported"
    ):
        load_items(load_task("piqa", speak="context", data_dir=mirror), "validation")


def test_a_task_of_lm_evals_needs_to_know_what_is_spoken() -> None:
    with pytest.raises(TaskError, match=r"say what of it is spoken\. Say it: --speak context"):
        load_task("arc_easy")


def test_an_unknown_name_is_looked_for_in_lm_eval_too() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'arc_easy'"):
        load_task("arc_eazy", speak="context")


def test_a_yaml_without_our_fields_may_be_spoken_by_its_path(tmp_path: Path) -> None:
    from tests.salad_eval.benchmarks.test_items import make_task

    path = make_task(tmp_path, metadata={"version": 1})
    with pytest.raises(TaskError, match=r"has no metadata\.salad"):
        load_task(str(path))
    items, rejects, protocol = load_items(load_task(str(path), speak="context"), "test")
    assert rejects == []
    assert [item.part_text(part) for part in items[0].spoken_parts for item in items[:1]] == ["Which planet has rings?"]
    assert protocol.domain_field == "domain"


def test_plan_and_command_line_say_what_is_spoken(mirror: Path) -> None:
    result = CliRunner().invoke(
        app, ["tasks", "show", "piqa", "--speak", "context", "--data-dir", str(mirror), "--shots", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "\nQuestion: ⟨Why is it " in result.output
    with pytest.raises(UserInputError, match="speak is 'contexts': input should be 'context' or 'context"):
        Plan.preset("nano", {"speak": "contexts"})
    with pytest.raises(UnknownNameError, match="unknown way to speak a task 'choices'"):
        CliRunner().invoke(app, ["tasks", "show", "piqa", "--speak", "choices"], catch_exceptions=False)


def test_a_run_of_lm_evals_tasks(tiny_plan: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    from salad_eval.pipeline.run import evaluate

    report = evaluate(
        {
            **tiny_plan,
            "tasks": ["arc_easy", "piqa"],
            "speak": "context",
            "data_dir": str(mirror),
            "voices": ["en-us+f3"],
            "limit": 2,
        }
    )
    assert [(p.task, p.speak, p.score, p.n_items) for p in report.protocols] == [
        ("arc_easy", "context", "ll", 2), ("piqa", "context", "ll", 2),
    ]  # fmt: skip
    assert [row.name for row in report.domains] == ["arc_easy", "piqa"]
    assert (tmp_path / "run" / "DONE").is_file()
