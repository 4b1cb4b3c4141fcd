"""Answers scored by a task's own filters and metrics: literal tables of what lm-eval's tasks say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.functions import FunctionRef
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.measures import AnswerFilter, FilterStep, Metric
from salad_eval.benchmarks.scoring import measure_notes, scorer_of, scoring_fingerprint
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError, UserInputError
from salad_eval.types import Item, Response, Score, TaskProtocol
from tests.conftest import write_rows
from tests.helpers.lm_eval_world import Rows, write_mirror


def loaded(
    root: Path, name: str, dataset: str, config: str | None, rows: Rows, splits: tuple[str, ...], **asked: Any
) -> tuple[TaskSpec, list[Item]]:
    mirror = write_mirror(root, dataset, config, dict.fromkeys(splits, rows))
    task = load_task(name, speak="context", data_dir=mirror, **asked)
    return task, load_items(task, "test", shots=0)[0]


def said(task: TaskSpec, item: Item, text: str) -> Score:
    return scorer_of(task)(item, Response(item.id, "base_text", "text", None, None, text=text))


def weighed(task: TaskSpec, item: Item, *logprobs: float) -> Score:
    return scorer_of(task)(item, Response(item.id, "base_text", "text", None, None, choice_logprobs=logprobs))


# --- generated answers -----------------------------------------------------------------------------------------------

GSM8K: Rows = [{"question": "How much is 3 + 4?", "answer": "3 + 4 = 7\n#### 7"}]
STRICT, FLEXIBLE = "exact_match,strict-match", "exact_match,flexible-extract"


@pytest.mark.parametrize(
    ("answer", "strict", "flexible", "parsed"),
    [
        ("3 + 4 is seven.\n#### 7", 1.0, 1.0, True),
        ("The answer is 7.", 0.0, 1.0, False),
        ("It is $7 in all", 0.0, 1.0, False),
        ("#### 8", 0.0, 0.0, True),
        ("7, or was it 8", 0.0, 0.0, False),  # flexible takes the last number
        ("seven", 0.0, 0.0, False),
        ("", 0.0, 0.0, False),
    ],
)
def test_gsm8k_has_a_strict_and_a_flexible_reading(
    answer: str, strict: float, flexible: float, parsed: bool, tmp_path: Path
) -> None:
    task, (item,) = loaded(tmp_path, "gsm8k", "openai/gsm8k", "main", GSM8K, ("train", "test"))
    score = said(task, item, answer)
    assert (score.value, dict(score.metrics), score.parsed) == (strict, {FLEXIBLE: flexible}, parsed)
    flexibly, (item,) = loaded(tmp_path, "gsm8k", "openai/gsm8k", "main", GSM8K, ("train", "test"), metric=FLEXIBLE)
    other = said(flexibly, item, answer)
    assert (other.value, dict(other.metrics)) == (flexible, {STRICT: strict})


def test_any_of_several_targets_is_right(tmp_path: Path) -> None:
    rows: Rows = [
        {
            "question": "Which planet has rings?",
            "answer": {"aliases": ["Saturn", "the planet Saturn"], "value": "Saturn"},
        }
    ]
    task, (item,) = loaded(tmp_path, "triviaqa", "mandarjoshi/trivia_qa", "rc.nocontext", rows, ("train", "validation"))
    assert item.answers == ("Saturn", "the planet Saturn")
    assert [said(task, item, text).value for text in ("saturn!", " The planet Saturn", "Mars", "rings")] == [
        1.0,
        1.0,
        0.0,
        0.0,
    ]


def test_drop_has_its_own_measures(tmp_path: Path) -> None:
    answer = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["red fox"]}
    rows: Rows = [
        {"section_id": "s", "query_id": "q", "passage": "A red fox ran.", "question": "What ran?", "answer": answer, "validated_answers": {
            "number": [], "date": [], "spans": []}}
    ]  # fmt: skip
    task, (item,) = loaded(tmp_path, "drop", "EleutherAI/drop", None, rows, ("train", "validation"))
    assert (said(task, item, "red fox").value, said(task, item, "red fox").metrics) == (1.0, {"f1": 1.0})
    assert (said(task, item, "a fox").value, said(task, item, "a fox").metrics["f1"]) == (0.0, pytest.approx(0.67))


# --- options ---------------------------------------------------------------------------------------------------------


def test_truthfulqa_weighs_all_true_answers_against_the_false(tmp_path: Path) -> None:
    rows: Rows = [
        {
            "question": "Can pigs fly?", "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
            "mc2_targets": {"choices": ["No.", "They cannot.", "Yes."], "labels": [1, 1, 0]},
        }
    ]  # fmt: skip
    task, (item,) = loaded(
        tmp_path, "truthfulqa_mc2", "truthfulqa/truthful_qa", "multiple_choice", rows, ("validation",)
    )
    assert task.score == "lm_eval_ll"
    expected = (exp(-1) + exp(-2)) / (exp(-1) + exp(-2) + exp(-3))
    assert weighed(task, item, -1.0, -2.0, -3.0).value == pytest.approx(expected, abs=1e-12)
    assert weighed(task, item, -2.0, -3.0, -1.0).value < 0.5  # type: ignore[operator]


def test_options_have_the_other_measures_that_the_task_names(tmp_path: Path) -> None:
    rows: Rows = [{"goal": "Boil an egg", "sol1": "water", "sol2": "in very hot oil", "label": 0}]
    task, (item,) = loaded(tmp_path, "piqa", "baber/piqa", None, rows, ("train", "validation"))
    score = weighed(task, item, -2.0, -2.5)
    assert (task.score, score.value, dict(score.metrics)) == ("ll", 1.0, {"acc_norm": 0.0})


def test_an_option_that_the_model_would_write_is_not_asked_for(tmp_path: Path) -> None:
    """Code that reads is_greedy is told that nobody knows, rather than no."""
    targets = {"choices": ["a", "b"], "labels": [1, 0]}
    rows: Rows = [{"question": "Q?", "mc1_targets": targets, "mc2_targets": targets}]
    task, (item,) = loaded(
        tmp_path, "truthfulqa_mc2", "truthfulqa/truthful_qa", "multiple_choice", rows, ("validation",)
    )
    code = tmp_path / "utils.py"
    code.write_text(
        "def f(doc, results):\n    return {'acc': float(any(greedy for _, greedy in results))}\n", encoding="utf-8"
    )
    own = replace(task.measures, process_results=FunctionRef("utils.f", code))
    score = weighed(replace(task, measures=own), item, -1.0, -2.0)
    assert score.value is None
    assert "NotAsked: it asks whether the model would write an option" in score.reason


# --- YAMLs of one's own ----------------------------------------------------------------------------------------------


def own_task(folder: Path, **keys: Any) -> Path:
    write_rows(folder / "rows.jsonl", [{"id": str(n), "q": f"Say {n}.", "a": str(n)} for n in range(3)])
    table = {
        "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}, "test_split": "test",
        "output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}",
        "filter_list": [{"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\d)"}, {"function": "take_first"}]}],
        "metadata": {"salad": {"speak": "context", "domain": "q", "score": "lm_eval"}}, **keys,
    }  # fmt: skip
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    return path


def test_filters_of_ones_own(tmp_path: Path) -> None:
    task = load_task(str(own_task(tmp_path)))
    items, _, protocol = load_items(task, "test")
    assert (protocol.score, protocol.metric, protocol.not_computed) == ("lm_eval", "exact_match,first", ())
    assert [said(task, items[1], text).value for text in ("It is 1.", "2", "one")] == [1.0, 0.0, 0.0]
    assert said(task, items[1], "one").reason == "unparsed"


REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    "a function of its own": ({"filter_list": [{"name": "f", "filter": [{"function": "os.system"}]}]}, "names the function 'os.system'"),
    "a metric of a hub": ({"metric_list": [{"metric": "someone/metric", "aggregation": "mean"}]}, "is no score of each item"),
    "an expression that is none": (
        {"filter_list": [{"name": "f", "filter": [{"function": "regex", "regex_pattern": "("}]}]}, "own scoring fails",
    ),
    "a filter without its options": ({"filter_list": [{"name": "f", "filter": [{"function": "take_first_k"}]}]}, "own scoring fails"),
    "no steps": ({"filter_list": [{"name": "f"}]}, "expected a name, and a filter of one or more steps"),
    "options with generated answers": (
        {"output_type": "multiple_choice", "doc_to_choice": ["0", "1", "2"]}, "the task's own measures are of its options",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_scored_is_refused_before_anything_is_asked(name: str, tmp_path: Path) -> None:
    keys, message = REFUSED[name]
    with pytest.raises(TaskError) as caught:
        load_items(load_task(str(own_task(tmp_path, **keys))), "test")
    assert message in str(caught.value)


def of_code(folder: Path, code: str, **keys: Any) -> TaskSpec:
    """The task with functions of a module beside it, as tasks of lm-eval have them."""
    (folder / "utils.py").write_text(code, encoding="utf-8")
    task = load_task(str(own_task(folder)))
    refs = {key: FunctionRef(f"utils.{name}", folder / "utils.py") for key, name in keys.items()}
    own = {key: refs.pop(key) for key in ("process_results",) if key in refs}
    return replace(task, **refs, measures=replace(task.measures, filters=(), **own))  # type: ignore[arg-type]


def test_a_measure_of_another_scale_is_refused_where_an_answer_shows_it(tmp_path: Path) -> None:
    """The target, an empty text or a line of a list, is no right answer to the task's own code; other texts of its row are."""
    task = of_code(
        tmp_path,
        "def f(doc, results):\n    return {'exact_match': 100.0 * (results[0] == doc['q'])}\n",
        process_results="f",
    )
    with pytest.raises(TaskError, match="its measure exact_match is 100 for an answer; expected a number from 0 to 1"):
        load_items(task, "test")


def test_code_that_draws_anew_each_time_is_refused(tmp_path: Path) -> None:
    code = "import random\ndef f(doc):\n    return f\"{doc['q']} {random.random()}\"\n"
    with pytest.raises(
        TaskError, match=r"its doc_to_target \(utils\.f\) gives something else of the same row each time"
    ):
        load_items(of_code(tmp_path, code, doc_to_target="f"), "test")


def test_a_gold_may_be_a_number_of_numpys(tmp_path: Path) -> None:
    choices = ("0", "1", "2")
    code = "import numpy\ndef f(doc):\n    return numpy.int32(doc['a'])\n"
    task = replace(
        of_code(tmp_path, code, doc_to_target="f"), doc_to_choice=choices, output_type="multiple_choice", score="ll"
    )
    assert [item.gold for item in load_items(task, "test")[0]] == [0, 1, 2]


def test_a_measure_that_the_task_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserInputError, match=r"it has no measure 'exact_match,second'; did you mean 'exact_match,first'"
    ):
        load_items(load_task(str(own_task(tmp_path)), metric="exact_match,second"), "test")


def test_whatever_changes_a_score_changes_its_fingerprint(tmp_path: Path) -> None:
    task = load_task(str(own_task(tmp_path)))
    code = tmp_path / "code.py"
    code.write_text("def f(doc, results): return {}\n", encoding="utf-8")

    def measured(**changes: Any) -> TaskSpec:
        return replace(task, measures=replace(task.measures, **changes))

    steps = (FilterStep("regex", (("regex_pattern", "(\\w)"),)),)
    changed = [
        task,
        replace(task, score="generate"),
        replace(task, metric="exact_match"),
        replace(task, doc_to_target="q"),
        measured(filters=(AnswerFilter("first", steps),)),
        measured(metrics=(Metric("exact_match", True, None, (("ignore_case", True),)),)),
        measured(process_results=FunctionRef("code.f", code)),
    ]
    prints = [scoring_fingerprint(one) for one in changed]
    assert len(set(prints)) == len(prints)
    code.write_text("def f(doc, results): return {'exact_match': 1.0}\n", encoding="utf-8")
    assert scoring_fingerprint(changed[-1]) not in prints
    assert scoring_fingerprint(load_task(str(own_task(tmp_path)))) == prints[0]


SCORED = (
    ("a", "base_text", {"f1": 0.5}), ("b", "base_text", {"f1": 1.0}), ("a", "adapted_speech", {"f1": 0.25}), ("b", "adapted_speech", {}),
)  # fmt: skip


def test_a_report_names_what_else_was_measured_and_what_was_not() -> None:
    protocol = TaskProtocol(
        "t", "test", "r", "context", 0, False, "lm_eval", "d", 2, metric="em", not_computed=("bleu", "chrf")
    )
    scores = [Score(f"t:{item}", column, None, None, 1.0, metrics=others) for item, column, others in SCORED]  # type: ignore[arg-type]
    assert measure_notes([protocol], {"t:a": "t", "t:b": "t"}, scores) == [
        "t: scored by em; also measured f1: base_text 0.750, adapted_speech 0.250.",
        "t: scored by lm_eval; of the measures that it names, not computed: bleu, chrf.",
    ]
    assert measure_notes([replace(protocol, score="ll", metric="", not_computed=())], {}, []) == []
