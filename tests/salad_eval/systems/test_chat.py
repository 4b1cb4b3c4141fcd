"""Prompts as conversations, against lm-eval's own messages and its ``hf`` model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.requests import build_request
from salad_eval.systems.chat import ChatStyle, conversation, delimited, text_of
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.types import Request, TextSegment
from tests.helpers.tiny_causal_lm import save_tiny_llama
from tests.salad_eval.benchmarks.test_items import make_task

# Every way in which a task can shape a conversation, each with each.
TARGET_DELIMITERS = (" ", "\n", "", " : ")
GEN_PREFIXES = (None, "The answer is", "A: ", "{{'' if topic == 't0' else 'It is'}}")
DESCRIPTIONS = ("", "Answer about {{domain}}.\n\n", "Answer.")
SYSTEM_INSTRUCTIONS = (None, "Be brief.")
FORMS = ((0, False), (2, False), (2, True))  # shots, as turns of their own


def task_of(folder: Path, delimiter: str, gen_prefix: str | None, description: str, **keys: Any) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    return make_task(
        folder, target_delimiter=delimiter, gen_prefix=gen_prefix, description=description or None,
        fewshot_delimiter="\n---\n", **keys,
    )  # fmt: skip


def asked_by_lm_eval(
    path: Path, shots: int, *, chat_template: Any, multiturn: bool, system: str | None
) -> list[tuple[str, list[str]]]:
    """(context, continuations) of every row, as lm-eval makes them in chat form."""
    from lm_eval.tasks import TaskManager

    name = load_task(str(path)).name
    task = TaskManager(include_path=str(path.parent), include_defaults=False).load([name])["tasks"][name]
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests(
        system_instruction=system, apply_chat_template=True, fewshot_as_multiturn=multiturn, chat_template=chat_template
    )
    by_row: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_row.setdefault(instance.doc_id, []).append(instance)
    rows = [sorted(instances, key=lambda one: one.idx) for _, instances in sorted(by_row.items())]
    chosen = task.OUTPUT_TYPE == "multiple_choice"
    return [(row[0].args[0], [one.args[1] for one in row] if chosen else []) for row in rows]


def messages_as_json(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    return json.dumps([list(messages), add_generation_prompt])


@pytest.mark.parametrize(("shots", "multiturn"), FORMS)
@pytest.mark.parametrize("delimiter", TARGET_DELIMITERS)
def test_conversations_are_lm_evals(tmp_path: Path, delimiter: str, shots: int, multiturn: bool) -> None:
    for number, (gen_prefix, description) in enumerate(itertools.product(GEN_PREFIXES, DESCRIPTIONS)):
        path = task_of(tmp_path / str(number), delimiter, gen_prefix, description)
        items, _, _ = load_items(load_task(str(path)), "test", shots=shots)
        for system in SYSTEM_INSTRUCTIONS:
            theirs = asked_by_lm_eval(path, shots, chat_template=messages_as_json, multiturn=multiturn, system=system)
            ours = []
            for item in items:
                request = build_request(item, "text")
                turns = conversation(request, ChatStyle(system, multiturn))
                said = [{"role": turn.role, "content": text_of(turn.content)} for turn in turns]
                ours.append((json.dumps([said, turns[-1].role != "assistant"]), list(request.chat_continuations)))
            assert ours == theirs


# --- what is scored --------------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{{ m.role | capitalize }}:\n{{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\nAssistant:\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_tiny_llama(tmp_path_factory.mktemp("chat"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.mark.parametrize(
    ("delimiter", "gen_prefix", "asked", "scored"),
    [
        (" ", None, "Assistant:\n", "helium"),
        ("\n", None, "Assistant:\n", "helium"),
        ("", None, "Assistant:\n", "helium"),
        (" ", "The answer is", "Assistant:\nThe answer is", " helium"),
        (" ", "The answer is ", "Assistant:\nThe answer is ", "helium"),
        ("\n", "Answer:", "Assistant:\nAnswer:", "\nhelium"),
        ("", "The answer is", "Assistant:\nThe answer is", "helium"),
    ],
)
def test_what_is_scored_after_a_template(
    folder: Path, tmp_path: Path, delimiter: str, gen_prefix: str | None, asked: str, scored: str
) -> None:
    """No target_delimiter, unless a gen_prefix without trailing space stands before it."""
    keys = {"target_delimiter": delimiter, "gen_prefix": gen_prefix, "doc_to_choice": ["helium", "iron"]}
    items, _, _ = load_items(load_task(str(make_task(tmp_path, **keys))), "test")
    request = build_request(items[0], "text")
    llm = HFTextSystem(str(folder), device="cpu", chat_template=True).llm
    assert llm.render(request, ChatStyle()).endswith(asked)
    assert llm.options(request, ChatStyle())[0] == scored


@pytest.mark.parametrize(("shots", "multiturn"), FORMS)
def test_log_probabilities_in_chat_form_are_lm_evals(folder: Path, tmp_path: Path, shots: int, multiturn: bool) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)
    cases = [(" ", None, "", None), (" ", "The answer is", "Answer.", "Be brief."), ("\n", "A: ", "Answer.", None)]
    for number, (delimiter, gen_prefix, description, system) in enumerate(cases):
        path = task_of(tmp_path / str(number), delimiter, gen_prefix, description)
        asked = asked_by_lm_eval(
            path, shots, chat_template=theirs.apply_chat_template, multiturn=multiturn, system=system
        )
        pairs = [(context, option) for context, options in asked for option in options]
        found = theirs.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)])
        items, _, _ = load_items(load_task(str(path)), "test", shots=shots)
        ours = HFTextSystem(
            str(folder), device="cpu", chat_template=True, system_prompt=system, fewshot_as_multiturn=multiturn
        )
        scored = ours.loglikelihoods([build_request(item, "text") for item in items])
        assert [value for options in scored for value in options] == pytest.approx(
            [value for value, _ in found], abs=1e-4
        )


def test_a_request_without_turns_is_one_of_the_users() -> None:
    request = Request("i", (TextSegment("Mars "), TextSegment("is")), (" red",))
    (turn,) = conversation(request, ChatStyle())
    assert (turn.role, text_of(turn.content)) == ("user", "Mars is")
    assert request.chat_continuations == (" red",)


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [("", "", ""), ("a", "", "a"), ("", "b", "b"), ("a", "b", "a-b"), ("a ", "b", "a b"), ("a", "\nb", "a\nb")],
)
def test_a_delimiter_stands_where_nothing_else_parts_two_texts(first: str, second: str, joined: str) -> None:
    assert delimited(first, second, "-") == joined
