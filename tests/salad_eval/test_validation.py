"""What a user wrote wrong is named as it was written."""

from __future__ import annotations

from typing import Any

import pytest

from salad_eval.benchmarks.spec import SaladFields
from salad_eval.errors import UserInputError
from salad_eval.pipeline.plan import Plan
from salad_eval.validation import parse, parse_setting, with_overrides

LEAST: dict[str, Any] = {
    "tasks": ["salad_nano"],
    "asr": {"name": "toy"},
    "base": {"system": "toy"},
    "adapted": {"system": "toy"},
}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("Seed=1", "unknown key 'Seed'; did you mean 'seed'?"),
        ("SPLIT=test", "unknown key 'SPLIT'; did you mean 'split'?"),
        ("base.Foo=1", "unknown key 'base.Foo'"),
        ("base.Options={}", "unknown key 'base.Options'; did you mean 'options'?"),
        ("str=1", "unknown key 'str'"),
        ("list=1", "unknown key 'list'"),
        ("base.System=x", "unknown key 'base.System'; did you mean 'system'?"),
        ("seed=x", "seed is 'x'"),
        ("tasks=[]", "tasks is"),
    ],
)
def test_a_key_of_the_plan_is_named_as_it_was_written(setting: str, message: str) -> None:
    with pytest.raises(UserInputError) as refused:
        Plan.from_mapping(with_overrides(LEAST, dict([parse_setting(setting)])))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"Speak": "context"}, "unknown key 'Speak'; did you mean 'speak'?"),
        ({"speak": "context", "domain": {"Map": {}, "column": "x"}}, "domain"),
        ({}, "the key 'speak' is missing"),
    ],
)
def test_a_key_of_a_task_is_named_as_it_was_written(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as refused:
        parse(SaladFields, fields, "metadata.salad")
    assert message in str(refused.value)


@pytest.mark.parametrize("table", [{"name": "a\ud800"}, {"adapted": {"options": {"\ud800pretrained": "x"}}}])
def test_half_a_surrogate_pair_is_no_text(table: dict[str, Any]) -> None:
    """No file holds it: read again, the plan would be another."""
    with pytest.raises(UserInputError, match=r"is no text \(surrogates not allowed\)"):
        Plan.from_mapping(table)
