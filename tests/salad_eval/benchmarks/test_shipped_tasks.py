"""The benchmarks of tasks/: what is asked, what is spoken, what is refused, and that text form and scores are lm-eval's own."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from salad_eval import resources
from salad_eval.answers.score import score_response
from salad_eval.audio.store import AudioStore
from salad_eval.benchmarks.catalogue import find_tasks, load_tasks
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.recordings import recorded_jobs, render_recorded
from salad_eval.benchmarks.spec import Speak
from salad_eval.cli.tasks import with_spoken_marked
from salad_eval.errors import TaskError
from salad_eval.types import Item, Rendering, Request, Response, TextSegment
from tests.helpers import benchmark_rows as rows
from tests.helpers.benchmark_rows import REAL_ROWS, Row, Splits, invented, write_mirror


@dataclass(frozen=True)
class Expected:
    """A benchmark as its card states it. ``twin``: lm-eval's own task, its YAML under lm_eval/tasks."""

    dataset: str
    config: str | None
    splits: dict[str, str]
    score: str
    rows: list[Row]
    twin: str | None = None
    n_shots: int = 0
    shot_split: str = "train"


ARC = {"test": "test", "validation": "validation", "train": "train"}
VALIDATION_ONLY = {"test": "validation", "validation": "validation", "train": "train"}
MMSU_DOMAINS = (
    "biology", "business", "chemistry", "economics", "engineering", "health", "history", "law", "other", "philosophy", "physics",
    "psychology",
)  # fmt: skip
TASKS: dict[str, Expected] = {
    "salad_arc_easy": Expected("allenai/ai2_arc", "ARC-Easy", ARC, "ll_norm", rows.ARC, "arc/arc_easy.yaml"),
    "salad_arc_challenge": Expected("allenai/ai2_arc", "ARC-Challenge", ARC, "ll_norm", rows.ARC, "arc/arc_challenge.yaml"),
    "salad_openbookqa": Expected("allenai/openbookqa", "main", ARC, "ll_norm", rows.OPENBOOKQA, "openbookqa/openbookqa.yaml"),
    "salad_hellaswag": Expected(
        "Rowan/hellaswag", None, VALIDATION_ONLY, "ll_norm", rows.HELLASWAG, "hellaswag/hellaswag.yaml"
    ),
    "salad_piqa": Expected("baber/piqa", None, VALIDATION_ONLY, "ll_norm", rows.PIQA, "piqa/piqa.yaml"),
    "salad_mmlu": Expected(
        "cais/mmlu", "all", {"test": "test", "validation": "validation"}, "ll", rows.MMLU, "mmlu/default/_default_template_yaml",
        shot_split="dev",
    ),
    "salad_commonsenseqa": Expected(
        "tau/commonsense_qa", None, VALIDATION_ONLY, "ll", rows.COMMONSENSEQA, "commonsense_qa/default.yaml"
    ),
    "salad_boolq": Expected("aps/super_glue", "boolq", VALIDATION_ONLY, "ll", rows.BOOLQ, "super_glue/boolq/default.yaml"),
    "salad_gsm8k": Expected(
        "openai/gsm8k", "main", {"test": "test", "train": "train"}, "numeric", rows.GSM8K, "gsm8k/gsm8k.yaml", n_shots=5
    ),
    "salad_storycloze": Expected(
        "LSDSem/story_cloze", "2016", {"test": "test", "validation": "validation"}, "ll", rows.STORYCLOZE,
        "storycloze/storycloze_2016.yaml", shot_split="validation",
    ),
    "mmsu_voicebench": Expected("hlt-lab/voicebench", "mmsu", {"test": "+".join(MMSU_DOMAINS)}, "ll", rows.VOICEBENCH_MMSU),
    "openbookqa_voicebench": Expected(
        "hlt-lab/voicebench", "openbookqa", {"test": "test"}, "ll", rows.VOICEBENCH_OPENBOOKQA
    ),
}  # fmt: skip
SAME_ROWS = {  # other domains, or another prompt
    "salad_mmlu_subjects": "salad_mmlu", "salad_mmlu_categories": "salad_mmlu", "salad_arc_challenge_mcq": "salad_arc_challenge",
    "salad_openbookqa_mcq": "salad_openbookqa",
}  # fmt: skip
TWINS = [name for name, expected in TASKS.items() if expected.twin]


# --- the YAMLs -------------------------------------------------------------------------------------------------------


def benchmark_yamls() -> dict[str, Path]:
    """Those in a folder of their own; the embedded benchmark, and what is made for lm-eval, have tests of their own."""
    tasks = resources.tasks_dir()
    return {
        name: path
        for name, path in find_tasks().items()
        if path.parent.parent == tasks and path.parent.name not in ("nano", "check", "lm_eval")
    }


def test_every_yaml_is_a_task_of_the_table() -> None:
    assert set(benchmark_yamls()) == {*TASKS, *SAME_ROWS}


def test_lm_eval_indexes_every_one() -> None:
    from lm_eval.tasks import TaskManager

    # A malformed YAML is skipped by lm-eval without a word, so the names are compared.
    manager = TaskManager(include_path=str(resources.tasks_dir()), include_defaults=False)
    assert {*TASKS, *SAME_ROWS} <= set(manager.all_tasks)


@pytest.mark.parametrize("name", [*TASKS, *SAME_ROWS])
def test_protocol(name: str) -> None:
    (task,) = load_tasks([name])
    expected = TASKS[SAME_ROWS.get(name, name)]
    assert task.name == name
    assert (task.dataset_path, task.dataset_name) == (expected.dataset, expected.config)
    assert dict(task.splits) == expected.splits
    score = "ll" if name.endswith("_mcq") else expected.score
    assert (task.speak, task.score, task.num_fewshot) == ("context", score, expected.n_shots)
    assert task.metadata["version"] == 1.0


@pytest.mark.parametrize("name", [*TASKS, *SAME_ROWS])
def test_every_benchmark_has_a_card_that_names_its_source(name: str) -> None:
    (task,) = load_tasks([name])
    card = (benchmark_yamls()[name].parent / "CARD.md").read_text(encoding="utf-8")
    assert task.gated == ("gated" in card), "no page shows rows that are given to those alone who ask"
    assert f"`{name}`" in card
    assert f"`{task.dataset_path}`" in card
    assert task.revision is None or f"`{task.revision}`" in card
    for heading in ("Licence", "Protocol", "Domains", "Spoken form", "Data", "Coverage"):
        assert heading in card


# --- invented rows, in the dataset's own columns ----------------------------------------------------------------------


def splits_of(name: str, table: list[Row]) -> Splits:
    expected = TASKS[SAME_ROWS.get(name, name)]
    if name == "mmsu_voicebench":  # one split a domain
        return {domain: [row for row in table if row["category"] == domain] for domain in MMSU_DOMAINS}
    return invented(table, dict.fromkeys([*expected.splits.values(), expected.shot_split]))


def items_of(
    name: str, folder: Path, table: list[Row] | None = None, speak: Speak | None = None
) -> tuple[list[Item], list[tuple[str, str]]]:
    """The test items of a task on ``table`` (default: its invented rows), and its rejects as (id, reason)."""
    expected = TASKS[SAME_ROWS.get(name, name)]
    write_mirror(folder, expected.dataset, expected.config, splits_of(name, expected.rows if table is None else table))
    (task,) = load_tasks([name], data_dir=folder, speak=speak)
    items, rejects, _ = load_items(task, "test", shots=0)
    return items, [(reject.item_id, reject.reason) for reject in rejects]


# name -> its first invented row as a model sees it, what is spoken between ⟨ and ⟩; options; gold; domain; group
SPOKEN: dict[str, tuple[str, tuple[str, ...], int | None, str, str]] = {
    "salad_arc_easy": (
        "Question: ⟨Which planet has rings?⟩\nAnswer:", ("Mars", "Saturn", "the Moon", "Venus"), 1, "space", "salad_arc_easy:Mercury_1",
    ),
    "salad_arc_challenge": (
        "Question: ⟨Which planet has rings?⟩\nAnswer:", ("Mars", "Saturn", "the Moon", "Venus"), 1, "space",
        "salad_arc_challenge:Mercury_1",
    ),
    "salad_arc_challenge_mcq": (
        "Question: ⟨Which planet has rings?⟩\nA. Mars\nB. Saturn\nC. the Moon\nD. Venus\nAnswer:", ("A", "B", "C", "D"), 1, "space",
        "salad_arc_challenge_mcq:Mercury_1",
    ),
    "salad_openbookqa_mcq": (
        "Question: ⟨A squirrel stores nuts for the⟩\nA. summer\nB. weekend\nC. winter\nD. night\nAnswer:", ("A", "B", "C", "D"), 2,
        "space", "salad_openbookqa_mcq:7-1",
    ),
    "salad_openbookqa": (
        "⟨A squirrel stores nuts for the⟩", ("summer", "weekend", "winter", "night"), 2, "space", "salad_openbookqa:7-1",
    ),
    "salad_hellaswag": (
        "⟨Sharpening knives: A man stands at a table. He⟩",
        ("flies away.", "paints the wall.", "draws a knife over a stone.", "sings."), 2, "video: household work",
        "salad_hellaswag:activitynet~v_1",
    ),
    "salad_piqa": (
        "Question: ⟨To boil an egg,⟩\nAnswer:", ("put it in boiling water.", "put it in the freezer."), 0, "cooking and food",
        "salad_piqa:test:0",
    ),
    "salad_mmlu": (
        "The following are multiple choice questions (with answers) about elementary mathematics.\n\n"
        "⟨What is 2 + 2?⟩\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:", ("A", "B", "C", "D"), 1, "math", "salad_mmlu:test:0",
    ),
    "salad_mmlu_subjects": (
        "The following are multiple choice questions (with answers) about elementary mathematics.\n\n"
        "⟨What is 2 + 2?⟩\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:", ("A", "B", "C", "D"), 1, "elementary mathematics",
        "salad_mmlu_subjects:test:0",
    ),
    "salad_mmlu_categories": (
        "The following are multiple choice questions (with answers) about elementary mathematics.\n\n"
        "⟨What is 2 + 2?⟩\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:", ("A", "B", "C", "D"), 1, "STEM", "salad_mmlu_categories:test:0",
    ),
    "salad_commonsenseqa": (
        "Question: ⟨Where do you keep milk?⟩\nA. a shoe\nB. the roof\nC. a car\nD. the fridge\nE. a hat\nAnswer:",
        ("A", "B", "C", "D", "E"), 3, "everyday commonsense", "salad_commonsenseqa:a1",
    ),
    "salad_boolq": (
        "⟨Barley -- Barley, a member of the grass family, is a grain.⟩\nQuestion: ⟨is barley a grass?⟩\nAnswer:", ("no", "yes"), 1,
        "encyclopedia", "salad_boolq:Barley",
    ),
    "salad_gsm8k": (
        "Question: ⟨Ann has 3 boxes of 4 pens. How many pens has she?⟩\nAnswer:", (), None, "arithmetic word problems",
        "salad_gsm8k:test:0",
    ),
    "salad_storycloze": (
        "⟨Ann was hungry. She had no bread. She took her purse. She walked to the baker.⟩",
        ("She bought a loaf.", "She sold her house."), 0, "everyday stories", "salad_storycloze:s1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOKEN)
def test_what_is_spoken_of_a_row(name: str, tmp_path: Path) -> None:
    items, rejects = items_of(name, tmp_path)
    assert rejects == []
    first = items[0]
    assert (with_spoken_marked(first), first.choices, first.gold, first.domain, first.group) == SPOKEN[name]


WITH_OPTIONS = {
    "salad_mmlu": "⟨What is 2 + 2?⟩\n⟨A. 3\nB. 4\nC. 5\nD. 6⟩\nAnswer:",
    "salad_commonsenseqa": "Question: ⟨Where do you keep milk?⟩\n⟨A. a shoe\nB. the roof\nC. a car\nD. the fridge\nE. a hat⟩\nAnswer:",
    "salad_arc_challenge_mcq": "Question: ⟨Which planet has rings?⟩\n⟨A. Mars\nB. Saturn\nC. the Moon\nD. Venus⟩\nAnswer:",
    "salad_openbookqa_mcq": "Question: ⟨A squirrel stores nuts for the⟩\n⟨A. summer\nB. weekend\nC. winter\nD. night⟩\nAnswer:",
}


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_options_that_the_prompt_lists_can_be_spoken_as_well(name: str, tmp_path: Path) -> None:
    items, rejects = items_of(name, tmp_path, speak="context+choices")
    assert rejects == []
    assert with_spoken_marked(items[0]).endswith(WITH_OPTIONS[name])


@pytest.mark.parametrize("name", ["salad_arc_easy", "salad_piqa", "salad_hellaswag", "salad_boolq"])
def test_options_that_the_prompt_does_not_list_cannot(name: str) -> None:
    with pytest.raises(TaskError, match="spoken_choices"):
        load_tasks([name], speak="context+choices")


def test_arcs_options_may_be_numbered_in_the_data_and_are_lettered_all_the_same(tmp_path: Path) -> None:
    items, _ = items_of("salad_arc_challenge_mcq", tmp_path)
    assert items[1].context.endswith("\nA. ruler\nB. balance\nC. clock\nAnswer:")
    assert (items[1].choices, items[1].gold) == (("A", "B", "C"), 1)


def test_no_shot_is_spoken_and_all_are_written_out(tmp_path: Path) -> None:
    table = [{**row, "id": str(n), "question": f"What is thing {n}?"} for n, row in enumerate(rows.ARC * 3)]
    write_mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", {"test": rows.ARC, "train": table})
    (task,) = load_tasks(["salad_arc_easy"], data_dir=tmp_path)
    (item, _), rejects, protocol = load_items(task, "test", shots=5)
    assert rejects == []
    assert (protocol.shots, protocol.spoken_shots) == (5, False)
    assert with_spoken_marked(item).count("⟨") == 1
    assert item.context.count("Answer:") == 6


def test_mmlus_shots_are_of_the_rows_own_subject(tmp_path: Path) -> None:
    dev = [
        {"question": f"{subject} {n}?", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": n % 4}
        for subject in ("anatomy", "elementary_mathematics", "philosophy")
        for n in range(5)
    ]
    write_mirror(tmp_path, "cais/mmlu", "all", {"test": rows.MMLU, "validation": [], "dev": dev})
    (task,) = load_tasks(["salad_mmlu"], data_dir=tmp_path)
    items, _, _ = load_items(task, "test", shots=5)
    for item, subject in zip(items, ("elementary_mathematics", "philosophy"), strict=True):
        asked = [line for line in item.context.splitlines() if line.endswith("?")][:5]
        assert asked == [f"{subject} {n}?" for n in range(5)]


def test_mmlu_is_sliced_by_what_its_domains_are_not(tmp_path: Path) -> None:
    fields = {}
    for name in ("salad_mmlu", "salad_mmlu_subjects", "salad_mmlu_categories"):
        items, _ = items_of(name, tmp_path)
        fields[name] = [dict(item.fields) for item in items]
    assert fields == {
        "salad_mmlu": [
            {"category": "STEM", "subject": "elementary_mathematics"},
            {"category": "humanities", "subject": "philosophy"},
        ],
        "salad_mmlu_subjects": [
            {"category": "STEM", "subcategory": "math"},
            {"category": "humanities", "subcategory": "philosophy"},
        ],
        "salad_mmlu_categories": [{"subcategory": "math"}, {"subcategory": "philosophy"}],
    }


def test_mmlus_maps_know_the_same_57_subjects() -> None:
    maps = {
        name: json.loads((resources.tasks_dir() / "mmlu" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("subcategories", "categories")
    }
    assert {name: len(table) for name, table in maps.items()} == {"subcategories": 57, "categories": 57}
    assert set(maps["subcategories"]) == set(maps["categories"])
    assert {name: len(set(table.values())) for name, table in maps.items()} == {"subcategories": 17, "categories": 4}


def test_every_activity_of_the_real_rows_has_a_domain_of_its_own_group() -> None:
    known = json.loads((resources.tasks_dir() / "hellaswag" / "domains.json").read_text(encoding="utf-8"))
    assert {row["activity_label"] for row in REAL_ROWS["salad_hellaswag"]()["validation"]} <= set(known)
    assert {domain.partition(": ")[0] for domain in known.values()} == {"video", "how-to"}


def test_story_cloze_is_also_read_from_the_authors_own_csv(tmp_path: Path) -> None:
    names = [
        "InputStoryid",
        *(f"InputSentence{n}" for n in (1, 2, 3, 4)),
        "RandomFifthSentenceQuiz1",
        "RandomFifthSentenceQuiz2",
    ]
    story = ["Ann, at last, was hungry.", "She had no bread.", "She took her purse.", "She walked to the baker."]
    header, told = (
        ",".join([*names, "AnswerRightEnding"]),
        ",".join(f'"{text}"' for text in [*story, "She ate.", "She slept."]),
    )
    folder = tmp_path / "LSDSem__story_cloze" / "2016"
    folder.mkdir(parents=True)
    for split in ("test", "validation"):
        (folder / f"{split}.csv").write_text(f"{header}\ns1,{told},1\ns2,{told},2\n", encoding="utf-8")
    (task,) = load_tasks(["salad_storycloze"], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test")
    assert rejects == []
    assert [(item.id, item.gold) for item in items] == [("salad_storycloze:s1", 0), ("salad_storycloze:s2", 1)]
    assert (
        items[0].context == "Ann, at last, was hungry. She had no bread. She took her purse. She walked to the baker."
    )


def test_hellaswag_marks_of_the_web_pages_are_cleaned_from_context_and_endings(tmp_path: Path) -> None:
    items, _ = items_of("salad_hellaswag", tmp_path)
    assert items[1].context == "Home and Garden: How to dry herbs. Pick them early. Go out at dawn."
    assert items[1].choices == ("Cut the stems. Use scissors.", "Boil them.", "Freeze.. Wait.", "Burn them.")
    assert items[1].domain == "how-to: home and garden"


GSM8K_ANSWERS = [
    ("She has 3 x 4 = <<3*4=12>>12 pens.\n#### 12", 1.0, True),
    ("3 times 4 is 12.\n#### 12.0", 1.0, True),
    ("The answer is 12.", 1.0, True),
    ("The answer is 13.", 0.0, True),
    ("3 boxes, 4 pens\n#### 34", 0.0, True),
    ("I do not know.", 0.0, False),
    ("", 0.0, False),
]


@pytest.mark.parametrize(("answer", "value", "parsed"), GSM8K_ANSWERS)
def test_gsm8ks_number_is_taken_from_a_worked_solution(answer: str, value: float, parsed: bool, tmp_path: Path) -> None:
    items, _ = items_of("salad_gsm8k", tmp_path)
    assert [item.answers for item in items] == [("12",), ("1,200",)]
    score = score_response(items[0], Response(items[0].id, "base_text", "text", None, None, text=answer), "numeric")
    assert (score.value, score.parsed) == (value, parsed)


# --- ready audio ------------------------------------------------------------------------------------------------------


def write_parquet(folder: Path, table: list[Row], seconds: float = 0.5) -> None:
    """Rows with an ``audio`` column, as a hub clone holds them; ``silent`` rows have no sound."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import soundfile

    def sound(row: Row) -> dict[str, Any]:
        if row.get("silent"):
            return {"bytes": None, "path": None}
        file = io.BytesIO()
        tone = 0.3 * np.sin(np.arange(int(16000 * seconds)) * 0.1)
        soundfile.write(file, tone, 16000, format="WAV", subtype="PCM_16")
        return {"bytes": file.getvalue(), "path": "x.wav"}

    columns = [{"audio": sound(row), **{key: value for key, value in row.items() if key != "silent"}} for row in table]
    folder.mkdir(parents=True, exist_ok=True)
    by_split: dict[str, list[Row]] = {}
    for row in columns:
        by_split.setdefault(row.get("category", "test"), []).append(row)
    for split, found in by_split.items():
        pq.write_table(pa.Table.from_pylist(found), folder / f"{split}-00000-of-00001.parquet")


def test_mmsu_reads_its_twelve_splits_as_one_and_brings_its_own_sound(tmp_path: Path) -> None:
    table = [
        {**row, "question_id": n, "category": domain}
        for n, domain in enumerate(MMSU_DOMAINS)
        for row in rows.VOICEBENCH_MMSU[:1]
    ]
    write_parquet(tmp_path / "hlt-lab" / "voicebench" / "mmsu", table)
    (task,) = load_tasks(["mmsu_voicebench"], data_dir=tmp_path)
    items, rejects, protocol = load_items(task, "test")
    assert rejects == []
    assert [item.domain for item in items] == list(MMSU_DOMAINS)
    assert [item.id for item in items] == [f"mmsu_voicebench:{n}" for n in range(12)]
    assert protocol.speak == "context"
    first = items[0]
    prompt = rows.VOICEBENCH_MMSU[0]["prompt"]
    assert with_spoken_marked(first) == f"⟨{prompt}⟩\nAnswer:"
    assert (first.choices, first.gold) == (("A", "B", "C", "D"), 0)
    (recording,) = first.recordings
    assert (recording.part, recording.voice, recording.perturbation) == ("context", "google-tts", "clean")


def test_openbookqa_of_voicebench_brings_its_own_sound_and_a_row_without_any_is_rejected(tmp_path: Path) -> None:
    table = [
        *rows.VOICEBENCH_OPENBOOKQA,
        {"prompt": "Snow is\nA. a\nB. b\nC. c\nD. d", "reference": "C", "silent": True},
    ]
    table += [{**rows.VOICEBENCH_OPENBOOKQA[0], "prompt": "Rain is\nA. a\nB. b\nC. c\nD. d", "reference": "E"}]
    write_parquet(tmp_path / "hlt-lab__voicebench" / "openbookqa", table)
    (task,) = load_tasks(["openbookqa_voicebench"], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test")
    assert [reject.reason for reject in rejects] == ["gold is neither a number nor an option"]
    jobs, lost = recorded_jobs(items, ["clean"])
    heard = [*lost, *render_recorded(jobs, AudioStore(tmp_path / "audio"))]
    voices = {sound.item_id: sound.voice for sound in heard if isinstance(sound, Rendering)}
    assert voices == {"openbookqa_voicebench:test:0": "google-tts", "openbookqa_voicebench:test:1": "google-tts"}
    assert [one.item_id for one in heard if not isinstance(one, Rendering)] == ["openbookqa_voicebench:test:2"]


# name -> a change of its first row, and the reason of the reject
REJECTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "arc, key out of range": ("salad_arc_easy", {"answerKey": "E"}, "template failed"),
    "arc, no key": ("salad_arc_easy", {"answerKey": None}, "template failed"),
    "arc, empty question": ("salad_arc_easy", {"question": " "}, "empty spoken text"),
    "arc, question missing": ("salad_arc_easy", {"question": None}, "missing field"),
    "arc, one option": ("salad_arc_easy", {"choices": {"text": ["Saturn"], "label": ["B"]}}, "fewer than two choices"),
    "openbookqa, key out of range": ("salad_openbookqa", {"answerKey": "F"}, "template failed"),
    "hellaswag, label hidden": ("salad_hellaswag", {"label": ""}, "gold is neither a number nor an option"),
    "hellaswag, label out of range": ("salad_hellaswag", {"label": "4"}, "gold out of range"),
    "hellaswag, context missing": ("salad_hellaswag", {"ctx_a": None}, "missing field"),
    "piqa, label hidden": ("salad_piqa", {"label": -1}, "gold out of range"),
    "piqa, option missing": ("salad_piqa", {"sol2": None}, "a choice is not text"),
    "mmlu, answer out of range": ("salad_mmlu", {"answer": 4}, "gold out of range"),
    "mmlu, unknown subject": ("salad_mmlu", {"subject": "alchemy"}, "domain not in the map"),
    "commonsenseqa, key hidden": ("salad_commonsenseqa", {"answerKey": ""}, "gold is neither a number nor an option"),
    "commonsenseqa, key out of range": ("salad_commonsenseqa", {"answerKey": "F"}, "gold is neither a number nor an option"),
    "boolq, label hidden": ("salad_boolq", {"label": -1}, "gold out of range"),
    "boolq, no passage": ("salad_boolq", {"passage": None}, "missing field"),
    "gsm8k, no answer": ("salad_gsm8k", {"answer": None}, "missing field"),
    "gsm8k, no number at the end": ("salad_gsm8k", {"answer": "It is 12."}, "missing field"),
    "storycloze, answer hidden": ("salad_storycloze", {"answer_right_ending": -1}, "gold out of range"),
    "storycloze, sentence missing": ("salad_storycloze", {"input_sentence_3": None}, "missing field"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTS)
def test_a_bad_row_is_a_counted_reject_and_the_good_one_stays(case: str, tmp_path: Path) -> None:
    name, change, reason = REJECTS[case]
    first, second = TASKS[name].rows
    items, rejects = items_of(name, tmp_path, [{**first, **change}, second])
    assert [found for _, found in rejects] == [reason]
    assert len(items) == 1


# --- equal to lm-eval's own task --------------------------------------------------------------------------------------


def lm_eval_yaml(name: str) -> Path:
    """A YAML of the installed lm-eval's own tasks."""
    package = importlib.util.find_spec("lm_eval")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "tasks" / name


def twin(name: str, splits: Splits, path: Path | None = None, **changes: Any) -> Any:
    """lm-eval's own task of that name (or the YAML at ``path``) over these rows, by its own reader and its own Python."""
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = dict(load_yaml(path or lm_eval_yaml(str(TASKS[name].twin))))
    tables = {split: datasets.Dataset.from_list(table) for split, table in splits.items()}
    config |= {"task": "twin", "dataset_name": None, "custom_dataset": lambda **_: tables, **changes}
    config.pop("group", None)
    return ConfigurableTask(config={key: value for key, value in config.items() if value is not None})


@dataclass(frozen=True)
class Asked:
    """What a model is asked of one row: context, continuations (none where it generates), and what counts as right."""

    context: str
    continuations: tuple[str, ...]
    gold: int | str


def asked_by_lm_eval(task: Any, shots: int) -> list[Asked]:
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    by_row: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_row.setdefault(instance.doc_id, []).append(instance)
    asked = []
    for number in sorted(by_row):
        first, *_ = found = sorted(by_row[number], key=lambda instance: instance.idx)
        gold = task.doc_to_target(first.doc)
        if task.OUTPUT_TYPE == "multiple_choice":
            options = task.doc_to_choice(first.doc)
            index = gold if isinstance(gold, int) else options.index(gold)
            asked.append(Asked(first.args[0], tuple(instance.args[1] for instance in found), index))
        else:  # lm-eval takes the number out of GSM8K's solution when it scores
            asked.append(Asked(first.args[0], (), str(gold).rpartition("#### ")[2].strip()))
    return asked


def asked_by_us(items: list[Item]) -> list[Asked]:
    return [
        Asked(item.context, item.continuations, item.gold if item.gold is not None else item.answers[0])
        for item in items
    ]


def with_other_shots(name: str) -> Splits:
    """The invented rows, and a shot that is about neither of them: one that is would write out what is spoken."""
    expected = TASKS[name]
    table = expected.rows if name != "salad_mmlu" else [{**row, "subject": "philosophy"} for row in expected.rows]
    shot = {**table[0], **{key: "An example of another thing." for key in ASKED_IN if key in table[0]}}
    return {**invented(table, dict.fromkeys(expected.splits.values())), expected.shot_split: [shot]}


ASKED_IN = ("question", "question_stem", "goal", "ctx_a", "passage", "input_sentence_1")
FIRST_N = {"fewshot_config": {"sampler": "first_n"}}  # ours; lm-eval's default draws other shots for every row


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize("name", TWINS)
def test_invented_rows_are_asked_as_lm_eval_asks_them(name: str, shots: int, tmp_path: Path) -> None:
    expected, splits = TASKS[name], with_other_shots(name)
    write_mirror(tmp_path, expected.dataset, expected.config, splits)
    (task,) = load_tasks([name], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test", shots=shots)
    assert rejects == []
    about = (
        "The following are multiple choice questions (with answers) about philosophy.\n\n"
        if name == "salad_mmlu"
        else None
    )
    theirs = twin(name, splits, **FIRST_N, fewshot_split=expected.shot_split, description=about)
    assert asked_by_us(items) == asked_by_lm_eval(theirs, shots)


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize("name", TWINS)
def test_our_yaml_means_the_same_to_stock_lm_eval(name: str, shots: int, tmp_path: Path) -> None:
    expected, splits = TASKS[name], with_other_shots(name)
    write_mirror(tmp_path, expected.dataset, expected.config, splits)
    (task,) = load_tasks([name], data_dir=tmp_path)
    items, _, _ = load_items(task, "test", shots=shots)
    assert asked_by_us(items) == asked_by_lm_eval(twin(name, splits, find_tasks()[name]), shots)


ALL_ROWS = bool(os.environ.get("SALAD_ALL_ROWS"))  # every real row, and not some hundreds a benchmark: a few minutes


def some(table: list[Row], most: int) -> list[Row]:
    return table if ALL_ROWS else table[:: max(1, len(table) // most)]


def in_order(part: list[Asked], whole: list[Asked]) -> bool:
    """Whether ``part`` is ``whole`` with some left out."""
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in part)


@pytest.mark.parametrize("name", [name for name in TWINS if name in REAL_ROWS and name != "salad_mmlu"])
def test_real_rows_are_asked_as_lm_eval_asks_them(name: str, tmp_path: Path) -> None:
    expected = TASKS[name]
    splits = {split: some(table, 300) for split, table in REAL_ROWS[name]().items()}
    write_mirror(tmp_path, expected.dataset, expected.config, splits)
    (task,) = load_tasks([name], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test")
    ours, theirs = asked_by_us(items), asked_by_lm_eval(twin(name, splits), 0)
    assert len(ours) + len(rejects) == len(theirs)
    assert in_order(ours, theirs)
    assert len(rejects) <= len(theirs) // 100


SUBJECTS = ("abstract_algebra", "high_school_us_history", "professional_law", "us_foreign_policy")


@pytest.mark.parametrize("shots", [0, 5])
def test_real_mmlu_rows_are_asked_as_lm_evals_57_tasks_ask_them(shots: int, tmp_path: Path) -> None:
    splits = REAL_ROWS["salad_mmlu"]()
    subjects = sorted({row["subject"] for row in splits["test"]}) if ALL_ROWS else SUBJECTS
    of_subject = {
        subject: {split: some([r for r in table if r["subject"] == subject], 60) for split, table in splits.items()}
        for subject in subjects
    }
    together = {split: [row for subject in subjects for row in of_subject[subject][split]] for split in splits}
    write_mirror(tmp_path, "cais/mmlu", "all", together)
    (task,) = load_tasks(["salad_mmlu_subjects"], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test", shots=shots)
    theirs: list[Asked] = []
    for subject, own in of_subject.items():
        theirs += asked_by_lm_eval(twin("salad_mmlu", own, lm_eval_yaml(f"mmlu/default/mmlu_{subject}.yaml")), shots)
    ours = asked_by_us(items)
    assert len(ours) + len(rejects) == len(theirs)
    assert in_order(ours, theirs)
    assert len(rejects) <= len(theirs) // 50, rejects


@pytest.mark.parametrize("name", ["salad_openbookqa", "salad_arc_easy"])
def test_scores_on_real_rows_equal_lm_evals(name: str, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from salad_eval.systems.hf_text import HFTextSystem
    from tests.helpers.tiny_causal_lm import save_tiny_llama

    expected = TASKS[name]
    splits = {split: table[:50] for split, table in REAL_ROWS[name]().items()}
    write_mirror(tmp_path, expected.dataset, expected.config, splits)
    (task,) = load_tasks([name], data_dir=tmp_path)
    items, rejects, _ = load_items(task, "test")
    assert rejects == []
    assert len(items) == 50
    model = str(save_tiny_llama(tmp_path / "llama", positions=1024))

    own = twin(name, splits)
    asked_by_lm_eval(own, 0)
    answers = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=8).loglikelihood(
        own.instances, disable_tqdm=True
    )
    theirs: dict[int, list[tuple[float, bool]]] = {}
    for instance, answer in zip(own.instances, answers, strict=True):
        theirs.setdefault(instance.doc_id, []).append(answer)

    requests = [Request(item.id, (TextSegment(item.context),), item.continuations) for item in items]
    ours = HFTextSystem(model, device="cpu").loglikelihoods(requests)
    for number, (item, logprobs) in enumerate(zip(items, ours, strict=True)):
        assert list(logprobs) == pytest.approx([value for value, _ in theirs[number]], abs=1e-4, rel=3e-7)
        right = own.process_results(own.dataset["test"][number], theirs[number])
        for kind, metric in (("ll", "acc"), ("ll_norm", "acc_norm")):
            score = score_response(item, Response(item.id, "base_text", "text", None, None, tuple(logprobs)), kind)
            assert score.value == right[metric]
