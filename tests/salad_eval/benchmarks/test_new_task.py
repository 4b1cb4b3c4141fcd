"""A table of questions becomes a task that validates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.new_task import TableColumns, answer_index, write_task
from salad_eval.errors import SaladError, TaskError, UserInputError

LETTERED = """Question,A,B,C,D,Answer,Subject
Which planet is largest?,Mars,Jupiter,Venus,Earth,B,astronomy
What is H2O?,water,salt,air,,(a),chemistry
Who wrote Faust?,Schiller,Goethe,Heine,Kleist,Goethe,letters
"""
SHAPES = {
    "letters in columns": ("quiz.csv", LETTERED, TableColumns()),
    "numbered options": (
        "quiz.csv",
        "stem;x,option 1,option 2,key\nIs it?,yes,no,0\n".replace("stem;x", "stem"),
        TableColumns(),
    ),
    "a column that lists them": ("quiz.csv", "prompt,choices,label\nIs it?,yes|no,no\n", TableColumns()),
    "rows of JSON": (
        "quiz.jsonl",
        json.dumps({"q": "Is it?", "options": ["yes", "no"], "gold": 1}) + "\n",
        TableColumns(),
    ),
    "named columns": (
        "quiz.csv",
        "Frage,r,f,Lösung,Fach\nIst es?,ja,nein,f,Kunde\n".replace(",f,Kunde", ",nein,Kunde"),
        TableColumns("Frage", "r,f", "Lösung", "Fach"),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("speak_choices", [False, True])
def test_every_shape_of_a_table_validates(shape: str, speak_choices: bool, tmp_path: Path) -> None:
    name, text, columns = SHAPES[shape]
    (tmp_path / name).write_text(text, encoding="utf-8")
    made = write_task(tmp_path / name, columns=columns, speak_choices=speak_choices)
    items, rejects, _ = load_items(load_task(str(made.yaml)), "test")
    assert not rejects
    assert len(items) == made.n_items == len(text.strip().splitlines()) - (name.endswith("csv"))
    assert all(item.part_text(item.spoken_parts[0]).endswith("?") for item in items)
    assert len(items[0].spoken_parts) == 1 + speak_choices


def test_letters_texts_and_numbers_are_understood(tmp_path: Path) -> None:
    (tmp_path / "quiz.csv").write_text(LETTERED, encoding="utf-8")
    made = write_task(tmp_path / "quiz.csv")
    items, _, _ = load_items(load_task(str(made.yaml)), "test")
    assert [(item.choices[item.gold or 0], item.domain) for item in items] == [
        ("Jupiter", "astronomy"), ("water", "chemistry"), ("Goethe", "letters"),
    ]  # fmt: skip
    assert len(items[1].choices) == 3, "an empty cell is no option"
    assert made.n_domains == 3


@pytest.mark.parametrize(
    ("answer", "choices", "place"),
    [
        ("B", "wxyz", 1),
        ("b.", "wxyz", 1),
        ("(d)", "wxyz", 3),
        ("0", "wxyz", 0),
        ("Z", "wxyz", 3),
        ("a", "ba", 1),
        ("2", "32", 1),
    ],
)
def test_a_text_goes_before_a_letter_and_a_letter_before_a_number(answer: str, choices: str, place: int) -> None:
    assert answer_index(answer, list(choices), "here") == place


@pytest.mark.parametrize("answer", ["E", "4", "none", "", "-1"])
def test_an_answer_that_is_no_option_is_named_with_its_row(answer: str) -> None:
    with pytest.raises(
        TaskError, match=r"quiz.csv, row 7: the answer .* none of its 4 options; .*from A to D, or a number from 0 to 3"
    ):
        answer_index(answer, list("wxyz"), "quiz.csv, row 7")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("Question,A,B\nx?,1,2\n", TableColumns(), "no column of the answer was found .* Name it: --answer COLUMN"),
        ("Question,Answer\nx?,1\n", TableColumns(), "no columns of options were found"),
        ("Question,A,B,Answer\nx?,1,2,A\n", TableColumns(question="Qestion"), "did you mean 'Question'"),
        ("Question,A,B,Answer\nx?,1,,A\n", TableColumns(), "row 1: has 1 options"),
        ("Question,A,B,Answer\n", TableColumns(), "holds no rows"),
    ],
)
def test_what_is_missing_is_named(text: str, columns: TableColumns, message: str, tmp_path: Path) -> None:
    (tmp_path / "quiz.csv").write_text(text)
    with pytest.raises(SaladError, match=message):
        write_task(tmp_path / "quiz.csv", columns=columns)
    assert not (tmp_path / "quiz.yaml").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "quiz.csv").write_text(LETTERED)
    write_task(tmp_path / "quiz.csv")
    with pytest.raises(UserInputError, match="is there already"):
        write_task(tmp_path / "quiz.csv")
