"""Items from task YAMLs: equal to what lm-eval makes of the same YAML, and every bad row a counted reject."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval import resources
from salad_eval.benchmarks.catalogue import find_tasks, load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.reader import read_yaml
from salad_eval.errors import TaskError, UnknownNameError, UserInputError
from salad_eval.types import Item
from tests.conftest import rows, write_rows

OURS = {"speak": "context", "spoken_text": "{{question}}", "domain": "domain"}


def make_task(
    folder: Path, table: list[dict[str, Any]] | None = None, salad: Mapping[str, Any] | None = None, **keys: Any
) -> Path:
    """A task YAML and its data; ``keys`` replace or (``None``) remove those of the small benchmark."""
    for split in ("test", "validation"):
        write_rows(folder / f"{split}.jsonl", rows(split) if table is None or split == "validation" else table)
    task = {
        "task": "made",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "test.jsonl"), "validation": str(folder / "validation.jsonl")}
        },
        "test_split": "test",
        "validation_split": "validation",
        "fewshot_split": "validation",
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "salad": {**OURS, **(salad or {})}},
        **keys,
    }
    path = folder / "made.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in task.items() if value is not None}, sort_keys=False),
        encoding="utf-8",
    )
    return path


# --- parity with lm-eval ---------------------------------------------------------------------------------------------


def lm_eval_requests(
    path: Path, shots: int, folder: Path
) -> tuple[list[tuple[str, list[str]]], list[Any], list[dict[str, Any]]]:
    """(context, continuations) of every row, its target, and the row, as lm-eval makes them."""
    from lm_eval.tasks import TaskManager

    name = load_task(str(path)).name
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    task = manager.load([name])["tasks"][name]
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)  # what its command line sets
    task.build_all_requests()
    by_row: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_row.setdefault(instance.doc_id, []).append(instance)
    found, targets, docs = [], [], []
    for number in sorted(by_row):
        instances = sorted(by_row[number], key=lambda instance: instance.idx)
        found.append(
            (instances[0].args[0], [i.args[1] for i in instances] if task.OUTPUT_TYPE == "multiple_choice" else [])
        )
        docs.append(instances[0].doc)
        targets.append(task.doc_to_target(instances[0].doc))
    return found, targets, docs


PROTOCOLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "field shortcuts": {"doc_to_text": "question", "salad": {"spoken_text": None}},
    "description": {"description": "Answer about {{domain}}.\n\n"},
    "delimiters": {"target_delimiter": "\n", "fewshot_delimiter": "\n###\n"},
    "options in the prompt, letters as choices": {
        "doc_to_text": "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"],
    },
    "choices as a template": {"doc_to_choice": "{{[choices[0], choices[1], choices[2] | upper]}}"},
    "choices as a mapping": {"doc_to_choice": {"first": "A", "second": "B", "third": "C"}},
    "target by label": {"doc_to_choice": ["A", "B", "C"], "doc_to_target": "{{['A', 'B', 'C'][answer]}}"},
    "target by template number": {"doc_to_target": "{{answer}}"},
    "constant target": {"doc_to_target": 1},
    "generation prefix": {"gen_prefix": "The answer is"},
    "generation prefix after a newline": {"doc_to_text": "{{question}}\n", "gen_prefix": "A:"},
    "filters": {"doc_to_text": "{{question | trim | regex_replace('planet', 'world')}}", "salad": {"spoken_text": None}},
    "shots told differently": {
        "fewshot_config": {"sampler": "first_n", "doc_to_text": "Q: {{question}}", "fewshot_delimiter": "\n", "target_delimiter": "\nA: "}
    },
    "shots given in the task": {
        "fewshot_split": None,
        "fewshot_config": {"sampler": "first_n", "samples": [{**row, "id": f"s{n}"} for n, row in enumerate(rows("validation"))]},
    },
    "shots from the same split": {"fewshot_split": "test"},
    "shots drawn at random": {"fewshot_config": None},
    "shots drawn at random from the same split": {"fewshot_config": {"sampler": "default"}, "fewshot_split": "test"},
    "several golds": {"doc_to_target": "{{[answer, 0]}}", "fewshot_config": {"sampler": "first_n", "doc_to_target": "answer"}},
    "several golds, the same for every row": {
        "doc_to_target": [2, 0], "fewshot_config": {"sampler": "first_n", "doc_to_target": "{{choices[answer]}}"},
    },
    "generate, one answer": {
        "output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[answer]}}", "salad": {"score": "generate"},
        "generation_kwargs": {"until": ["\n"], "do_sample": False}, "metric_list": None,
    },
    "generate, several answers": {
        "output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "choices", "salad": {"score": "generate"},
        "generation_kwargs": {"until": ["\n"], "do_sample": False}, "metric_list": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_items_read_as_lm_eval_reads_them(protocol: str, shots: int, tmp_path: Path) -> None:
    keys = dict(PROTOCOLS[protocol])
    path = make_task(tmp_path, salad=keys.pop("salad", None), **keys)
    theirs, targets, _ = lm_eval_requests(path, shots, tmp_path)
    items, rejects, found = load_items(load_task(str(path)), "test", shots=shots)
    assert rejects == []
    assert found.shots == shots
    assert [(item.context, list(item.continuations)) for item in items] == theirs
    for item, target in zip(items, targets, strict=True):
        if item.choices:
            assert item.gold is not None
            if isinstance(target, list):
                assert set(item.golds) == set(target)
            else:
                assert item.golds == (item.gold,)
                assert target in (item.gold, item.choices[item.gold])
        else:
            assert list(item.answers) == (target if isinstance(target, list) else [target])


@pytest.mark.parametrize("shots", [0, 2])
def test_packaged_tasks_read_as_lm_eval_reads_them(shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # from any working directory
    theirs, targets, _ = lm_eval_requests(find_tasks()["salad_nano"], shots, resources.tasks_dir())
    items, rejects, _ = load_items(load_task("salad_nano"), "test", shots=shots)
    assert rejects == []
    assert [(item.context, list(item.continuations)) for item in items] == theirs
    assert [item.gold for item in items] == targets


def test_every_yaml_of_ours_is_indexed_by_lm_eval() -> None:
    from lm_eval.tasks import TaskManager

    files = sorted(resources.tasks_dir().glob("**/*.yaml"))
    tables = [read_yaml(path) for path in files]  # raises for one that cannot be read
    ours = [path for path, table in zip(files, tables, strict=True) if "salad" in (table.get("metadata") or {})]
    names = {load_task(str(path)).name for path in ours}
    assert len(names) == len(ours) > 0
    assert set(find_tasks()) == names
    manager = TaskManager(include_path=str(resources.tasks_dir()), include_defaults=False)
    assert names <= set(manager.all_tasks)


# --- what an item is -------------------------------------------------------------------------------------------------


def only(path: Path, **kwargs: Any) -> list[Item]:
    items, rejects, _ = load_items(load_task(str(path)), "test", **kwargs)
    assert rejects == []
    return items


def test_an_item_by_hand(tiny_task: Path) -> None:
    item = only(tiny_task)[1]
    assert (item.id, item.task, item.split, item.domain, item.group) == (
        "tiny:test-1",
        "tiny",
        "test",
        "astronomy",
        "tiny:test-1",
    )
    assert item.context == "Question: Which star gives us light?\nAnswer:"
    assert item.continuations == (" the moon", " the sun", " Vega")
    assert item.gold == 1
    assert [item.part_text(part) for part in item.spoken_parts] == ["Which star gives us light?"]


def test_shots_come_first_and_may_be_spoken(tiny_task: Path) -> None:
    item = only(tiny_task, shots=2, spoken_shots=True)[0]
    assert item.context == (
        "Question: What comes as number 1 in astronomy?\nAnswer: Saturn\n\n"
        "Question: What comes as number 2 in astronomy?\nAnswer: the sun\n\n"
        "Question: Which planet has rings?\nAnswer:"
    )
    assert [(part.name, item.part_text(part)) for part in item.spoken_parts] == [
        ("shot1.context", "What comes as number 1 in astronomy?"),
        ("shot2.context", "What comes as number 2 in astronomy?"),
        ("context", "Which planet has rings?"),
    ]


def test_a_shot_that_writes_out_the_spoken_question_is_a_reject(tmp_path: Path) -> None:
    table = [
        {**row, "question": "What comes as number 1 in astronomy?"} if n == 4 else row for n, row in enumerate(rows())
    ]
    items, rejects, _ = load_items(load_task(str(make_task(tmp_path, table))), "test", shots=2)
    assert [(r.item_id, r.reason) for r in rejects] == [("made:test-4", "spoken text is also written in the prompt")]
    assert len(items) == 7
    assert len(only(make_task(tmp_path, table))) == 8  # without shots there is nothing to give it away


def test_several_parts_may_be_spoken(tmp_path: Path) -> None:
    salad = {
        "speak": "context+choices",
        "spoken_text": {"topic": "About {{domain}}.", "question": "{{question}}"},
        "spoken_choices": "{{choices | join(', ')}}",
    }
    path = make_task(
        tmp_path, salad=salad, doc_to_text="About {{domain}}. {{question}} Is it {{choices | join(', ')}}?\nAnswer:"
    )
    item = only(path)[0]
    assert [(part.name, item.part_text(part)) for part in item.spoken_parts] == [
        ("topic", "About astronomy."), ("question", "Which planet has rings?"), ("choices", "Saturn, Mars, Venus"),
    ]  # fmt: skip


def test_without_spoken_text_all_of_the_question_is_spoken(tmp_path: Path) -> None:
    item = only(make_task(tmp_path, salad={"spoken_text": None}, description="Please answer.\n"))[0]
    assert [item.part_text(part) for part in item.spoken_parts] == ["Question: Which planet has rings?\nAnswer:"]


def test_groups_slices_ids_and_domains_from_the_row(tmp_path: Path) -> None:
    domain = {"field": "domain", "map": {"astronomy": "science", "chemistry": "science"}, "default": "arts"}
    salad = {"group": "{{domain}}/{{topic}}", "slices": ["topic"], "id": "{{id}}!", "domain": domain}
    items = only(make_task(tmp_path, salad=salad))
    assert {item.domain for item in items} == {"science", "arts"}
    assert (items[0].id, items[0].group, dict(items[0].fields)) == (
        "made:test-0!",
        "made:astronomy/t0",
        {"topic": "t0"},
    )


def test_a_domain_map_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"astronomy": "a", "chemistry": "b", "music": "c"}))
    items = only(make_task(tmp_path, salad={"domain": {"field": "domain", "map": "map.json"}}))
    assert {item.domain for item in items} == {"a", "b", "c"}


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    table = [{key: value for key, value in row.items() if key != "id"} for row in rows()]
    items, _, _ = load_items(load_task(str(make_task(tmp_path, table, fewshot_split=None))), "test")
    assert [item.id for item in items][:2] == ["made:test:0", "made:test:1"]


@pytest.mark.parametrize("limit", [1, 3, 5, 8, 100])
def test_a_limit_takes_of_every_domain_in_turn(limit: int, tiny_task: Path) -> None:
    items = only(tiny_task, limit=limit, seed=3)
    assert len(items) == min(limit, 8)
    counts = [sum(item.domain == domain for item in items) for domain in ("astronomy", "chemistry", "music")]
    assert max(counts) - min(counts) <= 1
    assert {item.id for item in items} <= {item.id for item in only(tiny_task, limit=limit + 1, seed=3)}
    assert [item.id for item in items] == sorted(item.id for item in items)  # in the order of the rows


def test_other_seeds_draw_other_items(tiny_task: Path) -> None:
    assert len({tuple(item.id for item in only(tiny_task, limit=3, seed=seed)) for seed in range(10)}) > 1


# --- rejects ---------------------------------------------------------------------------------------------------------

GOOD = {"id": "x", "domain": "d", "question": "Is it so?", "choices": ["yes", "no"], "answer": 0, "topic": "t"}
OTHER = {**GOOD, "id": "other", "question": "Or not?"}
BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "gold too large": ({"answer": 2}, "gold out of range"),
    "every option right": ({"answer": [0, 1]}, "every option is right"),
    "right and wrong the same": (
        {"choices": ["dog", "dog"], "answer": 1},
        "two options are the same, and one of them is right",
    ),
    "gold negative": ({"answer": -1}, "gold out of range"),
    "gold a number in quotes": ({"answer": "7"}, "gold out of range"),
    "gold a word": ({"answer": "maybe"}, "gold is neither a number nor an option"),
    "gold a fraction": ({"answer": 0.5}, "gold is neither a number nor an option"),
    "gold true": ({"answer": True}, "gold is neither a number nor an option"),
    "gold missing": ({"answer": None}, "missing field"),
    "no gold in a list": ({"answer": []}, "no gold"),
    "one gold of several out of range": ({"answer": [0, 2]}, "gold out of range"),
    "a word among the golds": ({"answer": ["yes", "maybe"]}, "gold is neither a number nor an option"),
    "no question": ({"question": None}, "missing field"),
    "empty question": ({"question": " "}, "empty spoken text"),
    "empty choice": ({"choices": ["yes", ""]}, "empty choice"),
    "one choice": ({"choices": ["yes"]}, "fewer than two choices"),
    "choices not a list": ({"choices": "yes or no"}, "choices are not a list"),
    "choice a number": ({"choices": ["yes", 4]}, "a choice is not text"),
    "no domain": ({"domain": None}, "missing field"),
    "empty domain": ({"domain": ""}, "empty domain"),
    "id again": ({"id": "other"}, "duplicate id"),
    "no id": ({"id": None}, "missing field"),
    "question in the frame too": ({"question": "Answer"}, "spoken text found more than once in the context"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_a_counted_reject(case: str, tmp_path: Path) -> None:
    change, reason = BAD_ROWS[case]
    bad = {**GOOD, **change}
    items, rejects, protocol = load_items(load_task(str(make_task(tmp_path, [OTHER, bad]))), "test")
    assert [item.id for item in items] == ["made:other"]
    assert [(reject.step, reject.reason) for reject in rejects] == [("items", reason)]
    assert protocol.n_items == 1


def test_a_field_that_a_row_lacks_is_missing(tmp_path: Path) -> None:
    bad = {key: value for key, value in GOOD.items() if key != "question"}
    _, rejects, _ = load_items(load_task(str(make_task(tmp_path, [OTHER, bad]))), "test")
    assert [reject.reason for reject in rejects] == ["missing field"]


def test_spoken_text_that_is_not_in_the_context_is_a_reject(tmp_path: Path) -> None:
    path = make_task(
        tmp_path, [OTHER, {**GOOD, "topic": "spoken"}], salad={"spoken_text": "{{question if topic == 't' else topic}}"}
    )
    _, rejects, _ = load_items(load_task(str(path)), "test")
    assert [reject.reason for reject in rejects] == ["spoken text not found in the context"]


def test_a_row_may_have_several_golds(tmp_path: Path) -> None:
    three = ["yes", "no", "maybe"]
    path = make_task(tmp_path, [{**OTHER, "choices": three, "answer": [1, 0]}, {**GOOD, "answer": [1, 1]}])
    assert [(item.gold, item.also_gold, item.golds) for item in only(path)] == [(1, (0,), (1, 0)), (1, (), (1,))]


def test_a_question_that_is_a_number_is_a_question_where_it_is_a_column(tmp_path: Path) -> None:
    """In a template a number is lm-eval's sign for one context per option; a column's text is a text."""
    table = [{**OTHER, "question": "1984"}, GOOD]
    by_column = make_task(tmp_path, table, doc_to_text="question", salad={"spoken_text": None})
    assert [item.context for item in only(by_column)] == ["1984", "Is it so?"]
    by_template = make_task(tmp_path, table, doc_to_text="{{question}}", salad={"spoken_text": None})
    _, rejects, _ = load_items(load_task(str(by_template)), "test")
    assert [(reject.item_id, reject.reason) for reject in rejects] == [("made:other", "context is a number")]


@pytest.mark.parametrize("sampler", [None, {"sampler": "first_n"}])
def test_a_row_that_is_its_own_shot_is_a_reject(tmp_path: Path, sampler: dict[str, str] | None) -> None:
    """The few-shot split is the one that is asked and lm-eval, not knowing it, lets a row be its own shot: its answer would be written."""
    path = make_task(tmp_path, fewshot_config=sampler, fewshot_split="validation", test_split=None)
    items, rejects, _ = load_items(load_task(str(path)), "validation", shots=3)
    theirs, _, _ = lm_eval_requests(path, 3, tmp_path)
    assert {reject.reason for reject in rejects} == {"item is one of its own shots"}
    kept = {item.id: item.context for item in items}
    assert 0 < len(kept) < 8
    for row, (context, _) in zip(rows("validation"), theirs, strict=True):
        assert kept.get(f"made:{row['id']}", context) == context
        assert (f"made:{row['id']}" in kept) == (context.count(str(row["question"])) == 1)


def test_shots_of_the_same_kind(tmp_path: Path) -> None:
    path = make_task(tmp_path, salad={"shots_by": "domain"})
    for item in only(path, shots=2):
        assert item.context.count(f"in {item.domain}?") == 2
    with pytest.raises(TaskError, match="has 2 rows with domain 'music' for them"):
        load_items(load_task(str(path)), "test", shots=3)


def test_splits_may_be_joined(tmp_path: Path) -> None:
    path = make_task(tmp_path, salad={"splits": {"both": "validation+test"}})
    items, rejects, protocol = load_items(load_task(str(path)), "both")
    assert rejects == []
    assert [item.id for item in items] == [f"made:{split}-{n}" for split in ("validation", "test") for n in range(8)]
    single = {load_items(load_task(str(path)), split)[2].data_revision for split in ("validation", "test")}
    assert protocol.data_revision not in single


def test_what_is_spoken_may_be_overridden(tmp_path: Path) -> None:
    path = make_task(
        tmp_path,
        salad={"spoken_choices": "{{choices | join(', ')}}"},
        doc_to_text="{{question}} ({{choices | join(', ')}})",
    )
    by_itself = load_items(load_task(str(path)), "test")
    both = load_items(load_task(str(path), speak="context+choices"), "test")
    assert [part.name for part in by_itself[0][0].spoken_parts] == ["context"]
    assert [part.name for part in both[0][0].spoken_parts] == ["context", "choices"]
    assert (by_itself[2].speak, both[2].speak) == ("context", "context+choices")
    with pytest.raises(TaskError, match="spoken_choices is None"):
        load_task(str(make_task(tmp_path)), speak="context+choices")


def test_an_empty_context_is_a_reject(tmp_path: Path) -> None:
    path = make_task(tmp_path, [OTHER, {**GOOD, "question": ""}], doc_to_text="question", salad={"spoken_text": None})
    _, rejects, _ = load_items(load_task(str(path)), "test")
    assert [reject.reason for reject in rejects] == ["empty context"]


def test_optional_fields_may_be_absent(tmp_path: Path) -> None:
    path = make_task(
        tmp_path,
        [OTHER, {**GOOD, "hint": "look up"}],
        doc_to_text="{% if hint %}Hint: {{hint}}. {% endif %}{{question}}",
    )
    assert [item.context for item in only(path)] == ["Or not?", "Hint: look up. Is it so?"]


# --- errors ----------------------------------------------------------------------------------------------------------

BAD_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key of lm-eval": ({"doc_to_txt": "x"}, "unknown key 'doc_to_txt'; did you mean 'doc_to_text'?"),
    "unknown key of ours": ({"salad": {"spoken_txt": "x"}}, "unknown key 'spoken_txt'; did you mean 'spoken_text'?"),
    "unknown way to speak": ({"salad": {"speak": "contexts"}}, "speak is 'contexts': input should be 'context'"),
    "no metadata.salad": ({"metadata": {"version": 1}}, "has no metadata.salad"),
    "no domain": ({"metadata": {"salad": {"speak": "context"}}}, "the key 'domain' is missing"),
    "domain of no column": ({"salad": {"domain": "domian"}}, "neither a column of the data; did you mean 'domain'?"),
    "group of no column": ({"salad": {"group": "topics"}}, "did you mean 'topic'?"),
    "slice of no column": ({"salad": {"slices": ["topics"]}}, "did you mean 'topic'?"),
    "choices of no column": ({"doc_to_choice": "choises"}, "did you mean 'choices'?"),
    "broken template": ({"doc_to_text": "{{question"}, "doc_to_text is '{{question', which is not a Jinja template"),
    "broken spoken text": ({"salad": {"spoken_text": "{% if %}"}}, "not a Jinja template"),
    "no choices": ({"doc_to_choice": None}, "there is no doc_to_choice"),
    "rolling likelihood": ({"output_type": "loglikelihood_rolling"}, "expected multiple_choice or generate_until"),
    "processed rows": ({"process_docs": "x"}, "process_docs is 'x'; expected !function"),
    "code that is run": ({"unsafe_code": True}, "generated code is never run"),
    "results processed by code": ({"process_results": "x"}, "Say how they are scored"),
    "a list of nothing as target": ({"doc_to_target": []}, "doc_to_target is []"),
    "an unknown sampler": ({"fewshot_config": {"sampler": "balanced"}, "num_fewshot": 1}, "expected one of: default, first_n"),
    "generation scored by likelihood": ({"output_type": "generate_until"}, "expected 'generate'"),
    "data file missing": ({"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}}, "the data file 'nowhere.jsonl' is missing"),
    "split without data": ({"test_split": "tests"}, "has no split 'tests'"),
    "no data": ({"dataset_kwargs": None}, "data_files is None"),
    "options without spoken form": ({"salad": {"speak": "context+choices"}}, "spoken_choices is None"),
    "a map that is not there": ({"salad": {"domain": {"field": "domain", "map": "nowhere.json"}}}, "cannot be read"),
    "sampling": ({"output_type": "generate_until", "salad": {"score": "generate"}, "generation_kwargs": {"do_sample": True}}, "sampling"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_bad_task_is_explained(case: str, tmp_path: Path) -> None:
    keys, message = BAD_TASKS[case]
    keys = dict(keys)
    path = make_task(tmp_path, salad=keys.pop("salad", None), **keys)
    with pytest.raises(TaskError) as caught:
        load_items(load_task(str(path)), "test")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


BAD_FILES = {
    "task: [": "is not valid YAML",
    "- a\n- b\n": "a task is a mapping of keys to values",
    "task: x\ninclude: nowhere.yaml\n": "cannot read the task file",
    "task: x\ninclude: made.yaml\n": "includes itself",
    "task: x\ndoc_to_text: !function utils.text\n": "!function utils.text would run code",
    "task: x\ndoc_to_text: !function os.system\n": "Only a few functions are called",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_explained(text: str, tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(text)
    with pytest.raises(TaskError, match=BAD_FILES[text]):
        load_task(str(path))


BAD_DATA = {
    '{"id": 1}\n{"id": \n': "line 2",
    "[1, 2]": "row 1: a row is an object",
    '"text"\n': "line 1: a row is an object",
    "": "none of its 0 rows can be used",
}


@pytest.mark.parametrize("text", BAD_DATA)
def test_bad_data_is_explained(text: str, tmp_path: Path) -> None:
    path = make_task(tmp_path)
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(TaskError, match=BAD_DATA[text]):
        load_items(load_task(str(path)), "test")


def test_unknown_names_list_what_there_is(tiny_task: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'salad_nano'"):
        load_task("salad_nana")
    with pytest.raises(TaskError, match="no task file at"):
        load_task(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(UserInputError, match="unknown split of task tiny 'tset'; did you mean 'test'"):
        load_items(load_task(str(tiny_task)), "tset")


def test_more_shots_than_there_are_rows(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="9 shots were asked for, but the few-shot split 'validation' has 8 rows"):
        load_items(load_task(str(make_task(tmp_path))), "test", shots=9)


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    path = make_task(tmp_path, doc_to_text="{{question}} {{ ''.__class__.__mro__ }}")
    with pytest.raises(TaskError, match="template failed"):
        load_items(load_task(str(path)), "test")


def test_includes_are_merged_and_the_file_itself_wins(tmp_path: Path) -> None:
    made = make_task(tmp_path)
    (tmp_path / "child.yaml").write_text("include: made.yaml\ntask: child\ntarget_delimiter: '='\n")
    child, parent = load_task(str(tmp_path / "child.yaml")), load_task(str(made))
    assert (child.name, child.target_delimiter, child.doc_to_text) == ("child", "=", parent.doc_to_text)


# --- datasets --------------------------------------------------------------------------------------------------------


def test_a_dataset_folder_reads_as_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    local = only(make_task(tmp_path))
    for split in ("test", "validation"):
        write_rows(folder / f"{split}.jsonl", rows(split))
    items = only(make_task(tmp_path, dataset_path=str(folder), dataset_kwargs=None))
    assert items == local


def test_a_dataset_that_cannot_be_reached_is_explained(tmp_path: Path) -> None:
    path = make_task(tmp_path, dataset_path="nobody/nothing-here", dataset_kwargs=None)
    with pytest.raises(TaskError, match="cannot be loaded"):
        load_items(load_task(str(path)), "test")


def test_the_revision_follows_the_data(tmp_path: Path) -> None:
    first = load_items(load_task(str(make_task(tmp_path))), "test")[2].data_revision
    second = load_items(load_task(str(make_task(tmp_path, [OTHER, GOOD]))), "test")[2].data_revision
    assert first.startswith("sha256:")
    assert first != second
