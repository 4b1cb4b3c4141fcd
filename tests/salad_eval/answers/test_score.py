"""Scoring as a specification: lm-eval's acc and acc_norm, and strict reading of generated answers."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.answers.choice import extract_choice, shows_letters
from salad_eval.answers.score import UNPARSED, score_response
from salad_eval.errors import DataError
from salad_eval.types import Item, Response

METALS = ("iron", "carbon", "calcium", "iron oxide")
LISTED = "Which is in bones?\nA. iron\nB. carbon\nC. calcium\nD. iron oxide\nAnswer:"


def item(choices=METALS, gold=2, context=LISTED, answers=()):
    return Item("i", "t", "test", "d", context, tuple(choices), gold, "i", (), answers=tuple(answers))


def response(logprobs=None, text=None, item_id="i"):
    return Response(item_id, "adapted_speech", "speech", "en", "clean", logprobs, text)


# --- log-probabilities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "logprobs", "ll", "ll_norm"),
    [
        (("a", "b"), (-1.0, -2.0), 0, 0),
        (("a", "b"), (-2.0, -1.0), 1, 1),
        (("a", "b", "c"), (-1.0, -1.0, -1.0), 0, 0),  # the first of equals
        (("a", "b", "c"), (-2.0, -1.0, -1.0), 1, 1),
        (("ab", "abcdefgh"), (-2.0, -4.0), 0, 1),  # -1 against -0.5 a character
        (("abcd", "ab"), (-4.0, -2.0), 1, 0),  # equal a character: the first
        (("é", "ee"), (-1.0, -1.5), 0, 1),  # characters, not bytes
    ],
)
def test_ll_and_ll_norm_choose_as_lm_eval_does(choices, logprobs, ll, ll_norm):
    asked = item(choices, gold=0)
    assert score_response(asked, response(logprobs), "ll").predicted == ll
    assert score_response(asked, response(logprobs), "ll_norm").predicted == ll_norm
    assert ll == int(np.argmax(logprobs))
    assert ll_norm == int(np.argmax(np.array(logprobs) / np.array([float(len(c)) for c in choices])))


@pytest.mark.parametrize(
    ("choices", "logprobs", "by_bytes", "by_gain"),
    [
        (
            ("é", "ee"),
            (-1.0, -1.5, -0.5, -2.0),
            0,
            1,
        ),  # -0.5 and -0.75 a byte; +(-0.5) and +0.5 beyond the options by themselves
        (("a", "bb"), (-1.0, -1.5, -2.0, -2.5), 1, 0),
        (("a", "b"), (-3.0, -4.0, -1.0, -6.0), 0, 1),
    ],
)
def test_ll_bytes_and_ll_mutual_info_choose_as_lm_eval_does(choices, logprobs, by_bytes, by_gain):
    asked = item(choices, gold=0)
    assert score_response(asked, response(logprobs[:2]), "ll_bytes").predicted == by_bytes
    assert score_response(asked, response(logprobs), "ll_mutual_info").predicted == by_gain
    with pytest.raises(DataError, match="4 log-probabilities; expected 2"):
        score_response(asked, response(logprobs), "ll_bytes")


def test_a_score_carries_who_was_asked_and_how():
    score = score_response(item(), response((-9.0, -8.0, -1.0, -7.0)), "ll")
    assert (score.item_id, score.column, score.voice, score.perturbation) == ("i", "adapted_speech", "en", "clean")
    assert (score.value, score.predicted, score.parsed, score.reason) == (1.0, 2, True, "")


@pytest.mark.parametrize("kind", ["ll", "ll_norm"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 3])
def test_log_probabilities_that_are_not_finite_are_missing_not_wrong(kind, bad, place):
    logprobs = [-1.0, -2.0, -3.0, -4.0]
    logprobs[place] = bad
    score = score_response(item(), response(tuple(logprobs)), kind)
    assert score.value is None
    assert "finite" in score.reason


@pytest.mark.parametrize(
    ("asked", "given_response", "kind", "word"),
    [
        (item(gold=None), response((-1.0,) * 4), "ll", "gold"),
        (item(gold=None), response(text="C"), "generate", "gold"),
        (item(choices=(), gold=None), response(text="C"), "generate", "gold"),
        (item(), response(), "ll", "log-probabilities"),
        (item(), response(), "generate", "text"),
        (item(choices=("", "x"), gold=0), response((-1.0, -2.0)), "ll_norm", "empty"),
    ],
)
def test_what_cannot_be_scored_is_missing_with_a_reason(asked, given_response, kind, word):
    score = score_response(asked, given_response, kind)
    assert score.value is None
    assert word in score.reason


def test_item_and_response_must_belong_together():
    with pytest.raises(DataError, match="'other'"):
        score_response(item(), response((-1.0,) * 4, item_id="other"), "ll")
    with pytest.raises(DataError, match="4 options"):
        score_response(item(), response((-1.0, -2.0)), "ll")


# --- generated answers -----------------------------------------------------------------------------------------------

A, B, C, D = range(4)
CASES: list[tuple[str, int | None]] = [
    # the answer alone
    ("C", C),
    (" C", C),
    ("c", C),
    ("C.", C),
    ("C)", C),
    ("C:", C),
    ("(C)", C),
    ("(c)", C),
    ("[C]", C),
    ("**C**", C),
    ("__C__", C),
    ("`C`", C),
    ("*C*.", C),
    ("$\\boxed{C}$", C),
    ("\\boxed{\\text{C}}", C),
    ("a", A),
    ("A", A),
    ("option C", C),
    ("Choice (c).", C),
    ("calcium", C),
    ("Calcium.", C),
    ("CALCIUM", C),
    ('"calcium"', C),
    ("the calcium", C),
    ("iron", A),
    ("iron oxide", D),  # the longer option, not the shorter within it
    ("iron  oxide", D),
    ("C. calcium", C),
    ("(C) calcium.", C),
    ("**C) calcium**", C),
    ("C\n\nBones store it.", C),
    ("Bones are hard.\nC", C),
    # stated
    ("Answer: C", C),
    ("answer: c.", None),  # a lower-case letter in running text may be a word
    ("Answer: (c)", C),
    ("**Answer:** C", C),
    ("Answer: **C**", C),
    ("Answer C", C),
    ("Final answer: C. calcium", C),
    ("Answer: A", A),
    ("The answer is C.", C),
    ("The answer is (C).", C),
    ("The answer is: C", C),
    ("The answer is C because bones need it, not B.", C),
    ("The correct option is D, since it rusts.", D),
    ("The best choice is C (calcium).", C),
    ("I'd go with C.", C),
    ("I choose calcium.", C),
    ("The answer is calcium.", C),
    ("The answer is the calcium in it.", C),
    ("The answer is iron oxide.", D),
    ("The answer is most likely carbon.", B),
    ("So the answer is carbon, not calcium.", B),
    ("The answer is calcium rather than iron.", C),
    ("C. Because bones are made of it.", C),
    # the only option named
    ("It is calcium.", C),
    ("Bones contain a lot of calcium, which is why.", C),
    ("That would be (C).", C),
    # not an answer
    ("", None),
    ("   \n", None),
    ("calciums", None),
    ("carbonate", None),
    ("The answer is carbonic acid.", None),
    ("The answer is copper.", None),  # begins with C, and is not C
    ("The answer is a metal.", None),  # "a" is an article
    ("The answer is A metal", None),
    ("A cat sat on the mat.", None),
    ("Answer: E", None),
    ("E", None),
    ("Certainly! Let me think about it.", None),
    ("Because it does.", None),
    ("The answer is not calcium.", None),
    ("It isn't calcium.", None),
    ("None of them.", None),
    ("iron-on patches", None),
    ("xiron", None),
    # contradictions
    ("C. carbon", None),
    ("Answer: C. carbon", None),
    ("The answer is calcium (B).", None),
    ("B or C", None),
    ("Both A and B", None),
    ("Answer: B, C", None),
    ("Answer: (B) or (C)", None),
    ("The answer is calcium or carbon.", None),
    ("The answer is B. No, the answer is C.", None),
    ("iron and carbon", None),
    ("A. iron\nB. carbon\nC. calcium\nD. iron oxide", None),  # an echo of the options
    ("A. iron B. carbon C. calcium D. iron oxide", None),
    ("A\nB", None),
    ("A. I think the answer is B.", None),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_answer_is_read_strictly(text, expected):
    assert extract_choice(text, METALS) == expected


def test_the_table_is_long_enough_to_mean_something():
    assert len(CASES) >= 60
    assert len(dict(CASES)) == len(CASES)


@pytest.mark.parametrize(
    ("text", "choices", "lettered", "expected"),
    [
        ("12", ("1", "12", "120", "2"), True, 1),
        ("The answer is 12.", ("1", "12", "120", "2"), True, 1),
        ("It is 12.5 or so", ("1", "12", "120", "2"), True, None),
        ("3.12", ("1", "12", "120", "2"), True, None),
        ("There are 120 of them.", ("1", "12", "120", "2"), True, 2),
        ("-2", ("-2", "2"), True, 0),
        ("the answer is 2", ("-2", "2"), True, 1),
        ("Yes", ("Yes", "No"), False, 0),
        ("No, it does not.", ("Yes", "No"), False, 1),
        ("The answer is no.", ("yes", "no"), False, 1),
        ("It is well-known.", ("known", "unknown"), False, None),
        ("Newton's law", ("Newton", "Kepler"), False, None),
        ("C", ("H", "C", "K", "N"), True, None),  # option B's text or letter C
        ("B. C", ("H", "C", "K", "N"), True, 1),  # both, in agreement
        ("K", ("H", "C", "K", "N"), True, 2),
        ("C", ("H", "C", "K", "N"), False, 1),  # no letters: the symbol
        ("C", METALS, False, None),
        ("Answer: C", METALS, False, None),
        ("Answer: C", ("A", "B", "C", "D"), True, 2),
        ("C.", ("A", "B", "C", "D"), True, 2),
        ("same", ("same", "same"), False, None),
        ("naïve", ("nai\u0308ve", "wise"), False, 0),
        ("C++", ("C++", "C"), False, 0),
    ],
)
def test_numbers_symbols_and_letters(text, choices, lettered, expected):
    assert extract_choice(text, choices, lettered=lettered) == expected


@pytest.mark.parametrize(
    ("context", "choices", "expected"),
    [
        (LISTED, METALS, True),
        ("Q? (A) iron (B) carbon (C) calcium (D) iron oxide", METALS, True),
        ("Q? A: iron\nB: carbon\nC: calcium\nD: iron oxide\n", METALS, True),
        ("Which is in bones?\nAnswer:", METALS, False),
        ("A. iron\nB. carbon\nAnswer:", METALS, False),
        ("anything", ("A", "B", "C", "D"), True),
        ("anything", (), False),
    ],
)
def test_letters_count_where_the_item_shows_them(context, choices, expected):
    assert shows_letters(context, choices) is expected


def test_a_letter_is_no_answer_to_an_item_without_letters():
    unlettered = item(context="Which is in bones?\nAnswer:")
    assert score_response(unlettered, response(text="C"), "generate").parsed is False
    assert score_response(item(), response(text="C"), "generate").value == 1.0
    assert score_response(unlettered, response(text="calcium"), "generate").value == 1.0


@given(
    st.sampled_from(METALS), st.sampled_from(["{}", "{}.", "The answer is {}.", "Answer: {}", "**{}**", "It is {}."])
)
def test_an_options_own_text_is_always_read_as_that_option(choice, frame):
    assert extract_choice(frame.format(choice), METALS) == METALS.index(choice)


@given(st.text())
def test_any_text_is_read_as_an_option_or_as_none(text):
    assert extract_choice(text, METALS) in {None, 0, 1, 2, 3}


def test_garbage_scores_zero_and_all_of_it_is_unparsed():
    rng = random.Random(0)
    inner = string.ascii_letters + string.digits
    texts = [
        " ".join("".join(rng.choices(inner, k=rng.randint(3, 12))) for _ in range(n % 9)) + "." for n in range(500)
    ]
    texts += ["!!!", "\n\n", "....", "�", "{}[]", "the the the the", "As an AI language model, I", "????? ?? ?"]
    scores = [score_response(item(), response(text=text), "generate") for text in texts]
    assert {score.value for score in scores} == {0.0}
    assert {score.parsed for score in scores} == {False}
    assert {score.reason for score in scores} == {UNPARSED}


# --- free answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answers", "value", "parsed"),
    [
        ("Paris", ("Paris",), 1.0, True),
        (" paris. ", ("Paris",), 1.0, True),
        ("The answer is Paris.", ("Paris",), 1.0, True),
        ("Answer: **Paris**", ("Paris",), 1.0, True),
        ("the Nile", ("Nile", "River Nile"), 1.0, True),
        ("1,200", ("1200",), 1.0, True),
        ("Paris, France", ("Paris",), 0.0, True),
        ("Pari", ("Paris",), 0.0, True),
        ("", ("Paris",), 0.0, False),
        ("...", ("Paris",), 0.0, False),
    ],
)
def test_free_answers_match_exactly_after_normalisation(text, answers, value, parsed):
    score = score_response(item(choices=(), gold=None, answers=answers), response(text=text), "generate")
    assert (score.value, score.parsed) == (value, parsed)
