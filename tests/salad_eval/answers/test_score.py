"""Scoring as a specification: lm-eval's acc and acc_norm, and strict reading of generated answers."""

from __future__ import annotations

import random
import string
import time

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
    ("answer: c.", C),
    ("ANSWER: c", C),
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
        ("same", ("same", "same"), False, 0),  # the first of equals, which are right together
        ("A. same", ("other", "same", "same"), True, None),
        ("C. same", ("other", "same", "same"), True, 1),
        ("mA", ("MA", "mA"), False, 1),
        ("ma", ("MA", "mA"), False, None),
        ("naïve", ("nai\u0308ve", "wise"), False, 0),
        ("C++", ("C++", "C"), False, 0),
    ],
)
def test_numbers_symbols_and_letters(text, choices, lettered, expected):
    assert extract_choice(text, choices, lettered=lettered) == expected


CAT, DOG = range(2)
ANIMALS: list[tuple[str, int | None]] = [
    # plain replies
    ("B is correct", DOG), ("Option B is correct.", DOG), ("(b) is right", DOG), ("It's B.", DOG), ('"B"', DOG), ("B!", DOG), ("b)", DOG),
    ("Answer - B", DOG), ("My choice is B", DOG), ("Therefore, B.", DOG), ("Hence, option B.", DOG), ("So B", DOG), ("It must be B", DOG),
    ("The correct choice would be B.", DOG), ("The right option is (B).", DOG), ("The answer is most likely B", DOG), ("answer is b.", DOG),
    ("The answer is: b) dog", DOG), ("answer: a", CAT), ("I'd say B.", DOG), ("I think B.", DOG), ("Let's go with B.", DOG),
    ("I choose option B", DOG), ("B is the best answer.", DOG), ("B - dog", DOG), ("B dog", DOG), ("A dog", DOG), ("- B", DOG),
    ("B, because dogs bark.", DOG), ("B because it barks", DOG), ("### Answer\nB", DOG), ("**Answer:**\n\nB", DOG),
    ('{"answer": "B"}', DOG),
    ("Correct answer: (B) dog", DOG), ("So I get $\\boxed{\\text{B}}$.", DOG), ("A. I first thought.\nFinal answer: B", DOG),
    ("A. cat\nB. dog\nAnswer: B", DOG),  # an echo of the options, and an answer
    ("B\n\nQuestion: Which one mews?\nA. cat\nB. cow\nAnswer: A", DOG),  # a base model goes on by itself
    ("Is it the cat or the dog? It is the dog.", DOG),
    ("I'm going with B", DOG), ("Definitely B.", DOG), ("B it is", DOG), ("B, I think", DOG), ("Ans: B", DOG), ("Correct: B", DOG),
    ("I'll say B", DOG),
    ("The answer's B", DOG), ("<b>B</b>", DOG), ("B ✓", DOG), ("answer=B", DOG), ("Answer → B", DOG), ("The dog (B)", DOG),
    ("The most accurate answer based on the question is (B).", DOG), ("The most appropriate next step is (B).", DOG),
    ("The pet that is most likely to bark is: B. dog. Cats do not.", DOG), ("The answer is (B). Dog is not a cat.", DOG),
    ("The pet that best fits is:\n\nB. dog\n\nA cat does not bark.", DOG), ("The answer is \\(\\boxed{B}\\).", DOG),
    ("It may be (A) or (B).\n\nFinal Answer:\nThe answer is (B). It barks.", DOG),
    ("Therefore, (A) and (B) are animals. The answer is (A).", CAT),
    ("Not A. B.", DOG), ("A? No. B? Yes.", DOG), ("A: no. B: yes.", DOG), ("A is wrong, so B.", DOG), ("dog instead of cat", DOG),
    ("I was going to say A, but B is correct.", DOG), ("B rather than A", DOG), ("It can't be A, therefore B", DOG),
    # no option, whatever is named on the way
    ("The cat mews. The correct answer is not listed.", None), ("The answer is (B).\nThe answer is none of the above.", None),
    ("A dog barks, but none of the options fits.", None), ("It may be the dog, but I cannot say.", None),
    ("The answer is (A) for the first and (B) for the second.", None), ("The two are (A) and (B).", None),
    ("The answer is (B).\nThe answer is ... A. cat", None), ("We have to see whether it is a dog.", None),
    ("We test each option:\n\nA. cat: it mews, which is no bark.\n\nB. dog: if it", None),
    # denied after the mention, or before it
    ("The cat is wrong.", None), ("(A) is wrong", None), ("The cat? No.", None), ("The cat isn't right", None), ("A: wrong.", None),
    ("I eliminated the dog.", None), ("dog - no", None), ("dog (wrong)", None), ("The wrong answer is dog", None), ("Rule out (B).", None),
    ("Anything but B", None), ("Everything except the dog", None), ("I would not pick B", None),
    ("I doubt it's B", None), ("The dog? Wrong.", None),
    ("The cat cannot be the answer", None), ("cat: incorrect", None), ("Neither A nor B.", None), ("It is not a dog.", None),
    ("Cat is not it. B", DOG), ("A is incorrect. B is correct.", DOG), ("The answer is not A. It is B.", DOG), ("The cat? Yes.", CAT),
    ("It isn't the cat, it's the dog.", DOG), ("Not the cat but the dog.", DOG), ("The dog, not the cat.", DOG),
    ("No, the cat is wrong; the dog is right.", DOG), ("The answer is A, but not B.", CAT),
    ("Dog is the correct answer, while cat is not.", DOG), ("There is no doubt that it is the dog.", DOG),
    ("I don't think the answer is B.", None), ("Is the answer B?", None), ("The answer is B? No.", None),
    ("If the answer is B, cats bark.", None),
    # ambiguous
    ("The answer is either A or B", None), ("Clearly B or A", None), ("The answer is a", None), ("A. cat\nB. dog", None),
    ("A is a letter, and so is B.", None), ("The answer is B. No, the answer is A.", None), ("B.\n\nThe answer is A.", None),
    # reasoning
    ("<think>\n\n</think>\n\nB", DOG), ("<think>A or B? A is a cat.</think>\n\nB", DOG), ("Hm, A is a cat.\n</think>\nB", DOG),
    ("<think>\nA", None), ("<think>The answer is B.", None), ("B <think>or not?", None), ("<think>a</think><think>B", None),
    ("<scratchpad>A</scratchpad>B", DOG),
    ("<|thinking|>A<|/thinking|>B", DOG), ("B<reflection>or A?</reflection>", None), ("<THINK>A</THINK>B", DOG),
    ("<thinking>A</thinking>B", DOG), ("[THINK]A[/THINK]B", DOG), ("◁think▷A◁/think▷B", DOG), ("<seed:think>A</seed:think>B", DOG),
    ("<think>A</think><answer>B</answer>", DOG), ("<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>", DOG),
    ("<|START_THINKING|>A<|END_THINKING|><|START_RESPONSE|>B<|END_RESPONSE|>", DOG),
    ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>", DOG),
    ("<|channel|>analysis<|message|>It is B", None), ("analysisIs it A?assistantfinalB", DOG), ("analysisIt is B.", None),
    ("B<|im_end|>", DOG), ("B</s>\nA", DOG),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ANIMALS)
def test_plain_replies_are_read_and_ambiguous_ones_are_not(text, expected):
    assert extract_choice(text, ("cat", "dog")) == expected


@pytest.mark.parametrize(
    "piece",
    ["cat or ", "Answer: cat or ", "the answer is ", "cat is not ", "(A) ", "A. ", "not ", "Answer: ", "\n", "<think>"],
)
def test_a_reply_that_repeats_itself_is_read_in_linear_time(piece):
    def seconds(n: int) -> float:
        start = time.process_time()
        found = extract_choice(piece * n, ("cat", "dog"))
        assert found in {None, CAT}
        return time.process_time() - start

    seconds(100)
    short, long = min(seconds(1000) for _ in range(3)), seconds(10_000)
    assert long < 40 * short + 0.5


@pytest.mark.parametrize("kind", ["ll", "ll_norm"])
def test_options_with_equal_texts_are_right_together(kind):
    asked = item(("dog", "dog", "cat"), gold=1)
    assert score_response(asked, response((-1.0, -1.0, -2.0)), kind).value == 1.0
    assert score_response(asked, response((-2.0, -2.0, -1.0)), kind).value == 0.0
    shown = item(("dog", "dog ", "cat"), gold=1, context="Which barks?\nA. dog\nB. dog\nC. cat\nAnswer:")
    assert [score_response(shown, response(text=text), "generate").value for text in ("A", "B", "dog", "C")] == [
        1.0,
        1.0,
        1.0,
        0.0,
    ]


def test_reasoning_that_is_not_closed_is_unparsed_whatever_is_asked_for():
    for kind, said in (
        ("exact_match", "Saturn"),
        ("f1", "Saturn"),
        ("generate", "Saturn"),
        ("numeric", "12"),
        ("yes_no", "yes"),
    ):
        free = item(choices=(), gold=None, answers=(said,))
        closed = score_response(free, response(text=f"<think>\n\n</think>\n\n{said}"), kind)
        assert (closed.value, closed.parsed) == (1.0, True)
        unclosed = score_response(free, response(text=f"<think>\nThe answer is {said}"), kind)
        assert (unclosed.value, unclosed.parsed, unclosed.reason) == (0.0, False, UNPARSED)


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
