"""What a template prints of a row, and what of it is an option."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.benchmarks.spoken_spans import lists_options, option_columns, printed_spans
from salad_eval.benchmarks.templates import MissingField, environment, template

ROW: dict[str, Any] = {
    "question": " Why? ", "goal": "go", "choices": ["red", "blue"], "option_a": "one", "A": "x", "empty": " ", "null": None,
    "sol1": "s", "text": ["t", "u"], "n": 3,
}  # fmt: skip

# (template, what is printed of the row and whether it is an option)
SPANS: list[tuple[str, list[tuple[str, str]]]] = [
    ("Question: {{goal}}\nAnswer:", [("go", "context")]),
    ("{{question}}", [("Why?", "context")]),
    ("{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}", [("Why?", "context"), ("red", "choices"), ("blue", "choices")]),
    ("{{goal}}{{question}}", [("go", "context"), ("Why?", "context")]),
    ("{{goal}} {{option_a}} {{A}} {{sol1}}", [("go", "context"), ("one", "choices"), ("x", "choices"), ("s", "choices")]),
    ("{% for c in choices %}{{ 'AB'[loop.index0] }}. {{c}}\n{% endfor %}", [("red", "choices"), ("blue", "choices")]),
    ("{% for i in range(2) %}{{ i }}: {{choices[i]}} {% endfor %}", [("red", "choices"), ("blue", "choices")]),
    ("{% set q = question %}{{ q | trim }}!", [("Why?", "context")]),
    ("{% if n > 2 %}Hint: {{goal | upper}}{% endif %}", [("GO", "context")]),
    ("{{ 'Q: ' + goal }}", [("Q: go", "context")]),
    ("{{empty}}{{goal}}", [("go", "context")]),
    ("{{n}} of {{ 'them' }}", [("3", "context")]),
    ("no row at all {{ 1 + 1 }}", []),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), SPANS)
def test_spans(source: str, expected: list[tuple[str, str]]) -> None:
    text = template(source).render(**ROW)
    spans = printed_spans(source, ROW, frozenset())
    assert spans is not None
    assert [(text[span.start : span.end], span.kind) for span in spans] == expected


UNTOLD = (
    "{% set q %}Q: {{question}}{% endset %}{{ q | trim }}",  # a block that is worked on after its words were printed
    "{% macro m(x) %}<{{x}}>{% endmacro %}{{ m(goal) | length }}",
)


@pytest.mark.parametrize("source", UNTOLD)
def test_a_template_that_works_on_what_it_printed_is_not_told_apart(source: str) -> None:
    assert printed_spans(source, ROW, frozenset()) is None


def test_a_row_with_the_marks_in_it_is_not_told_apart() -> None:
    assert printed_spans("a {{goal}} b", {"goal": "x\uf8f2y\uf8f0z"}, frozenset()) is None


def test_a_null_that_is_printed_is_missing() -> None:
    with pytest.raises(MissingField):
        printed_spans("{{null}}", ROW, frozenset())


@given(st.text(), st.text(), st.lists(st.text(), min_size=2, max_size=3))
def test_spans_hold_what_was_printed(goal: str, question: str, choices: list[str]) -> None:
    row = {"goal": goal, "question": question, "choices": choices}
    source = "{{goal}} is asked:{{question}}|{% for c in choices %}- {{c}}\n{% endfor %}end"
    spans = printed_spans(source, row, frozenset())
    if spans is not None:
        text = template(source).render(**row)
        printed = [value.strip() for value in (goal, question, *choices)]
        assert [text[span.start : span.end] for span in spans] == [value for value in printed if value]


OPTION_COLUMNS: list[tuple[object, set[str]]] = [
    ("choices", {"choices"}),
    ("{{choices.text}}", {"choices"}),
    ("{{[sol1, sol2]}}", {"sol1", "sol2"}),
    ("{{choices['text'][0]}}", {"choices"}),
    ("{{[premise + ', right? Yes, ' + hypothesis]}}", set()),
    ("{{[a, 'none of them']}}", set()),
    ("{{ broken", set()),
    (["A", "B"], set()),
    (None, set()),
]


@pytest.mark.parametrize(("doc_to_choice", "expected"), OPTION_COLUMNS)
def test_columns_of_options(doc_to_choice: object, expected: set[str]) -> None:
    assert option_columns(doc_to_choice) == expected


def test_options_are_known_by_doc_to_choice_or_by_name() -> None:
    assert lists_options("{{q}} {{x[0]}}", frozenset({"x"}))
    assert not lists_options("{{q}} {{x[0]}}", frozenset())
    for name in (
        "choices",
        "options",
        "choice1",
        "ending0",
        "option_b",
        "mc_answer3",
        "candidates",
        "B",
        "opa",
        "sol2",
        "endings",
    ):
        assert lists_options(f"{{{{{name}}}}}", frozenset()), name
    for name in ("question", "passage", "answer", "context", "story", "AB", "a", "opinion", "option_text"):
        assert not lists_options(f"{{{{{name}}}}}", frozenset()), name


def test_too_deep_a_nesting_is_no_template() -> None:
    deep = "{{ " + "(" * 5_000 + "question" + ")" * 5_000 + " }}"
    for read in (template, environment().parse):
        with pytest.raises(jinja2.TemplateSyntaxError, match="nested too deeply"):
            read(deep)
