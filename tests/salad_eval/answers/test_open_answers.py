"""Open-ended answers as a specification: short answers, numbers, yes or no, and what partial scores do to the report."""

from __future__ import annotations

import io
import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from num2words import num2words
from rich.console import Console

from salad_eval.answers.number_words import number_at
from salad_eval.answers.numeric import extract_number, final_answer, numbers_in
from salad_eval.answers.score import NOT_A_NUMBER, NOT_YES_OR_NO, UNPARSED, score_response
from salad_eval.answers.short import exact_match, short_answer, token_f1, tokens
from salad_eval.answers.yes_no import read_yes_no
from salad_eval.errors import DataError
from salad_eval.gap.pair import CORRECT, FORGOTTEN, LOST_IN_ALIGNMENT, LOST_IN_RENDERING, SPEECH_ONLY
from salad_eval.pipeline.respond import Query, respond
from salad_eval.pipeline.transcribe import answers_of
from salad_eval.report import terminal_table
from salad_eval.report.figures import render_figures
from salad_eval.report.json import report_from_json, report_to_json
from salad_eval.report.page import html_page
from salad_eval.report.wording import ACCURACY, MEAN_SCORE, TOKEN_F1, headline, measure, unparsed_shares
from salad_eval.types import LOGPROB_SCORES, Item, Request, Response, TextSegment
from tests.helpers import gap_world


def item(answers=(), choices=(), gold=None):
    return Item("i", "t", "test", "d", "Q?", tuple(choices), gold, "i", (), answers=tuple(answers))


def response(text):
    return Response("i", "adapted_speech", "speech", "en", "clean", text=text)


# --- numbers ---------------------------------------------------------------------------------------------------------

NUMBERS: list[tuple[str, str | None]] = [
    # marked
    ("#### 42", "42"),
    ("16 - 3 - 4 = 9 eggs.\n9 * 2 = $18.\n#### 18", "18"),
    ("#### 1,200", "1200"),
    ("####42", "42"),
    ("#### $1,234.50", "1234.5"),
    ("#### -7", "-7"),
    ("#### 42 apples", "42"),
    ("#### 42\nThe answer is 43.", "42"),
    ("#### 41\n#### 42", None),  # contradictory
    ("#### 42\n#### 42", "42"),
    ("#### 12 or 13", None),
    ("#### 5-7", None),
    # boxed
    ("\\boxed{42}", "42"),
    ("So we get $\\boxed{42}$.", "42"),
    ("\\boxed{\\frac{3}{4}}", "3/4"),
    ("\\boxed{\\dfrac{1}{2}}", "1/2"),
    ("\\boxed{1{,}234}", "1234"),
    ("\\boxed{\\$18}", "18"),
    ("\\boxed{50\\%}", "50"),
    ("\\boxed{42 \\text{ apples}}", "42"),
    ("\\boxed{x}", None),
    ("\\boxed{41} or \\boxed{42}", None),
    ("The answer is \\boxed{42}.", "42"),
    # stated
    ("The answer is 42.", "42"),
    ("the answer is: 42", "42"),
    ("The answer is **42**.", "42"),
    ("**Answer:** 42", "42"),
    ("**Answer: $18**", "18"),
    ("Answer: 42 apples", "42"),
    ("Final answer: 42", "42"),
    ("The final answer is 42 apples.", "42"),
    ("The answer to the question is 42.", "42"),
    ("Answer = 42", "42"),
    ("The answer is exactly 42.", "42"),
    ("The answer is therefore 42.", "42"),
    ("The answer is $18.00 per day.", "18"),
    ("The answer is 42 because 6 times 7 is 42.", "42"),
    ("The answer is 42, since there are 7 of them.", "42"),
    ("The answer is 42 (6 x 7).", "42"),
    ("The answer is 5 + 7 = 12.", "12"),
    ("The answer is 3.14.", "3.14"),
    ("The answer is forty-two.", "42"),
    ("The answer is minus five degrees.", "-5"),
    ("The answer is 41. Wait. The answer is 42.", None),
    ("The answer is 42. Again, the answer is 42.0.", "42"),
    ("The answer is not 42.", None),
    ("The answer is 12 or 13.", None),
    ("The answer is between 12 and 13.", None),
    ("The answer is more than 42.", None),
    ("The answer is half of 42.", None),
    ("The answer is 5 + 7", None),
    ("The answer is 3 hours 20 minutes.", None),
    ("The answer is one of them.", None),
    ("The answer is the one above.", None),
    ("The answer depends on 3 things.", None),
    ("I cannot answer 3 questions.", None),
    # alone
    ("42", "42"),
    (" 42 \n", "42"),
    ("42.", "42"),
    ("$42", "42"),
    ("$42$", "42"),
    ("42 apples", "42"),
    ("42 square feet", "42"),
    ("42km", "42"),
    ("`42`", "42"),
    ("= 42", "42"),
    ("42\n\nBecause 6 * 7 is 42.", "42"),
    ("There are 6 rows of 7.\n42", "42"),
    ("41\n42", None),
    ("42 is only one of the many", None),
    ("about what 42 means", None),
    # how a number is written
    ("1,234,567", "1234567"),
    ("1\u202f234\u202f567", "1234567"),
    ("1,23", None),
    ("12,34,567", None),
    ("1.234.567", None),
    ("1.2.3", None),
    (".5", "1/2"),
    ("0.50", "1/2"),
    ("18.00", "18"),
    ("007", "7"),
    ("-5", "-5"),
    ("\u22125", "-5"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("+5", "5"),
    ("negative 5", "-5"),
    ("minus seven", "-7"),
    ("3/4", "3/4"),
    ("1 1/2", "3/2"),
    ("1½", "3/2"),
    ("½", "1/2"),
    ("⅔", "2/3"),
    ("36/2", "18"),
    ("1/0", None),
    ("2 and a half", "5/2"),
    ("50%", "50"),
    ("50 percent", "50"),
    ("12.5%", "12.5"),
    ("50 cents", "50"),
    ("€3.50", "3.5"),
    ("£1,000", "1000"),
    ("3 million", "3000000"),
    ("2.5 million dollars", "2500000"),
    ("$1.5M", "1500000"),
    ("$20k", "20000"),
    ("5k", None),
    ("The answer is 3x", None),
    ("The answer is 7 out of 10", None),
    ("The answer is 3 to 1", None),
    ("The answer is 42,000.", "42000"),
    ("The answer is eighteen (18).", "18"),
    ("Answer: x = 7", "7"),
    ("2 dozen", "24"),
    ("5 hundred", "500"),
    ("1e3", "1000"),
    ("1.5e-3", "0.0015"),
    ("1.5 × 10^3", "1500"),
    ("1.5 \\times 10^{3}", "1500"),
    ("1e999999", None),
    ("2^10", None),
    ("10⁶", None),
    ("10:30", None),
    ("2024-05-01", None),
    ("5-7", None),
    ("5 – 7", None),
    ("42nd", None),
    ("A4", None),
    ("x2", None),
    ("４２", "42"),
    ("9" * 200, None),
    # in words
    ("forty-two", "42"),
    ("Forty two.", "42"),
    ("one hundred and five", "105"),
    ("a hundred", "100"),
    ("a dozen eggs", "12"),
    ("twelve hundred", "1200"),
    ("two thousand, five hundred", "2500"),
    ("one million two hundred thousand", "1200000"),
    ("zero", "0"),
    ("three point one four", "3.14"),
    ("zero point oh five", "0.05"),
    ("two and a half", "5/2"),
    ("two and a half million", "2500000"),
    ("half", "1/2"),
    ("a third", "1/3"),
    ("three quarters", "3/4"),
    ("one second", "1"),
    ("forty-second", None),
    ("twenty-fifth", None),
    ("one hundred and first", None),
    ("one two three", None),
    ("twenty twenty-four", None),
    ("no one", None),
    ("someone", None),
    ("often", None),  # holds "ten"
    ("weight", None),  # holds "eight"
    # another number is made of it, or there are several unknowns
    ("The answer is x = 5, y = 6", None),
    ("The answer is x = 5; y = 6", None),
    ("The answer is a = 3 and b = 4", None),
    ("The answer is x = 5 or x = -5", None),
    ("Answer: x = 5\ny = 6", None),
    ("x = 5\ny = 6", None),
    ("x = 5", "5"),
    ("The answer is x = y = 5", "5"),
    ("5!", None),
    ("The answer is 5!", None),
    ("The answer is forty-two!", "42"),
    ("42 apples!", "42"),
    ("5 !", None),
    ("5**2", None),
    ("The answer is x = 5 when y = 6", None),
    ("The answer is 5 (x) and 6 (y)", None),
    ("The answer is 42 (6 x 7) in all.", "42"),
    ("5 squared", None),
    ("five squared", None),
    ("The answer is 5 cubed.", None),
    ("The answer is 5 factorial", None),
    ("5²", None),
    ("²", "2"),
    ("101₂", None),
    ("2π", None),
    ("The answer is 2 pi", None),
    ("√16", None),
    ("±5", None),
    ("The answer is ±5", None),
    ("The answer is x >= 5", None),
    ("The answer is x ≠ 5", None),
    ("5+", None),
    ("5 or more", None),
    ("The answer is 6 * 7 => 42", "42"),
    ("The answer is 48 / 2 = <<48/2=24>>24", "24"),
    ("The answer is <b>5</b>.", "5"),
    # reasoning
    ("<think>11</think>12", "12"),
    ("<think>… The answer is 11.</think>\n\n**Answer:** 12", "12"),
    ("<think>The answer is 11.", None),
    # nothing
    ("", None),
    ("   ", None),
    ("I do not know.", None),
    ("As an AI language model, I", None),
    ("....", None),
]


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_a_number_is_read_strictly(text: str, expected: str | None) -> None:
    assert extract_number(text) == (Fraction(expected) if expected is not None else None)


def test_the_table_of_numbers_is_long_enough():
    assert len(NUMBERS) >= 120
    assert len(dict(NUMBERS)) == len(NUMBERS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So she has 6 * 7 = 42 apples in all.", 42),
        ("First 12, then 18", 18),
        ("He walks forty-two miles in 3 days", 3),
        ("He walks for 3 days, forty-two miles", 42),
        ("The answer is 42. It is not 43.", 42),  # a stated answer comes first
        ("#### 7\nor 8", 7),
        ("The answer is 41. The answer is 42.", None),  # a contradiction is no lack of an answer
        ("at 10:30", None),
        ("no number here", None),
    ],
)
def test_the_last_number_counts_only_by_name(text: str, expected: int | None) -> None:
    assert extract_number(text, last=True) == expected
    assert extract_number(text) in ({expected, None})
    asked = item(["42"])
    strict, lenient = (score_response(asked, response("so 6 * 7 = 42 in all"), k) for k in ("numeric", "numeric_last"))
    assert (strict.value, strict.parsed) == (0.0, False)
    assert (lenient.value, lenient.parsed) == (1.0, True)


def test_cardinals_are_read_back_from_num2words():
    rng = random.Random(0)
    for n in [
        *range(1200),
        *(rng.randrange(10**6) for _ in range(2000)),
        10**6,
        *(rng.randrange(10**12) for _ in range(300)),
    ]:
        words = num2words(n)
        assert number_at(words.replace("-", " ").replace(",", "").split()) == (n, len(words.replace("-", " ").split()))
        assert extract_number(words) == n


@given(
    st.integers(-(10**9), 10**9),
    st.sampled_from(["{}", "{:,}", "${}", "#### {}", "The answer is {:,}.", "\\boxed{{{}}}", "{}.00", "{} km"]),
)
def test_a_number_is_read_back_however_it_is_framed(n: int, frame: str) -> None:
    assert extract_number(frame.format(n)) == n


@given(st.fractions(0, 1000, max_denominator=1000))
def test_a_fraction_is_exact(value: Fraction) -> None:
    assert extract_number(f"The answer is {value.numerator}/{value.denominator}.") == value


@pytest.mark.parametrize(
    "piece", ["one hundred ", "1,", "1-", "answer is ", "answer = 1 ", "\\boxed{", "$1.1.", "####", "1 x 10 ^ ", "*"]
)
def test_noise_is_read_in_time(piece: str) -> None:
    """A generation that runs away is read all the same, and costs no minutes."""
    noise = piece * (4000 // len(piece))
    found = extract_number(noise, last=True)
    assert found is None or isinstance(found, Fraction)
    assert read_yes_no(noise) is None


@given(st.text(max_size=80))
def test_any_text_is_a_number_or_none(text: str) -> None:
    found = extract_number(text, last=True)
    assert found is None or isinstance(found, Fraction)
    places = [(number.start, number.end) for number in numbers_in(text)]
    assert all(start < end for start, end in places)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(places))


@pytest.mark.parametrize(
    ("answers", "text", "kind", "value", "parsed"),
    [
        (["Janet sells 16 - 3 - 4 = 9.\n9 * 2 = 18\n#### 18"], "She makes $18.\n#### 18", "numeric", 1.0, True),
        (["#### 1,200"], "1200", "numeric", 1.0, True),
        (["18"], "The answer is eighteen dollars.", "numeric", 1.0, True),
        (["18"], "The answer is 18.0.", "numeric", 1.0, True),
        (["18"], "The answer is 81.", "numeric", 0.0, True),
        (["0.5"], "50%", "numeric", 0.0, True),
        (["3", "4"], "4", "numeric", 1.0, True),
        (["18"], "I would say a lot.", "numeric", 0.0, False),
        (["Paris"], "Paris", "numeric", None, True),
    ],
)
def test_numeric_scores(answers, text, kind, value, parsed):
    score = score_response(item(answers), response(text), kind)
    assert (score.value, score.parsed) == (value, parsed)
    assert (score.reason == NOT_A_NUMBER) == (value is None)


def test_the_final_answer_of_a_worked_solution():
    assert final_answer("9 * 2 = 18\n#### 18") == "18"
    assert final_answer("18") == "18"


def test_the_words_of_a_worked_solution_bear_no_answer():
    """Else nearly every word of the question would have to be heard for it to count as answerable."""
    assert answers_of(item(["Janet sells 9 eggs at 2 dollars.\n#### 18"])) == ("18",)
    assert answers_of(item(["Paris"])) == ("Paris",)


def test_options_are_answers_in_words_too():
    assert (
        score_response(item(choices=("12", "15"), gold=1), response("The answer is fifteen."), "numeric").value == 1.0
    )


# --- yes or no -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True), ("Yes.", True), ("YES!", True), ("**Yes**", True), ('"Yes"', True), ("(yes)", True), ("\\boxed{yes}", True),
        ("yeah", True), ("True", True), ("no", False), ("No.", False), ("nope", False), ("False.", False), ("Yes, it is.", True),
        ("Yes it is", True), ("No, it does not.", False), ("No it isn't.", False), ("No; the passage says otherwise.", False),
        ("Yes.\n\nThe passage says so.", True), ("The passage says so.\nYes", True), ("The answer is yes.", True),
        ("The answer is: no, because it sank.", False), ("Answer: True", True), ("the answer to the question is no.", False),
        ("It sank. So the answer is no.", False), ("Yes, no one can.", True),
        ("", None), ("Maybe.", None), ("No one knows.", None), ("No doubt it is.", None), ("None", None), ("nobody", None),
        ("I think yes", None), ("The answer is not yes.", None), ("Yes and no.", None), ("yes / no", None), ("Answer: yes or no", None),
        ("yes\nno", None), ("The answer is yes. No, the answer is no.", None), ("Not really.", None), ("yesterday", None),
        ("Sure", True), ("Of course", True), ("Absolutely", True), ("Certainly.", True), ("Definitely", True), ("Indeed.", True),
        ("Sure thing!", True),
        ("Correct.", True), ("That's right.", True), ("That’s correct", True), ("Of course it does.", True), ("Indeed, it is.", True),
        ("Absolutely! It is one of the largest.", True), ("Answer - yes", True), ("Affirmative", True),
        ("You bet", True), ("Naturally.", True), ("Yes, sir", True), ("Absolutely yes", True), ("Of course, yes.", True), ("Oh yes", True),
        ("It is.", True), ("They do.", True), ("It’s true.", True), ("It isn't.", False), ("It does not.", False), ("They cannot.", False),
        ("Definitely no", False), ("It's false.", False), ("Yes. No.", None), ("Yes, absolutely not.", None), ("It depends.", None),
        ("Of course not.", False), ("Absolutely not!", False), ("Definitely not", False), ("Not at all.", False), ("Incorrect", False),
        ("Wrong.", False),
        ("That is not correct.", False), ("Of course it doesn't.", False), ("The answer is certainly not.", False), ("Never.", False),
        ("Sure! Here is the answer:\nNo", False), ("<think>yes</think>no", False), ("<think>\n\n</think>\n\nYes.", True),
        ("Sure, I can help with that.", None), ("Certainly! Let me explain.", None), ("Of course, this is a hard question.", None),
        ("Right, so the passage", None), ("<think>yes", None),
    ],
)  # fmt: skip
def test_yes_or_no_is_read_strictly(text: str, expected: bool | None) -> None:
    assert read_yes_no(text) is expected
    score = score_response(item(choices=("no", "yes"), gold=1), response(text), "yes_no")
    assert (score.value, score.parsed) == (float(expected is True), expected is not None)
    assert score.predicted == (None if expected is None else int(expected))


def test_what_is_right_has_to_be_yes_or_no():
    assert score_response(item(["Paris"]), response("yes"), "yes_no").reason == NOT_YES_OR_NO
    assert score_response(item(["True"]), response("Yes."), "yes_no").value == 1.0
    assert score_response(item(["no"]), response("Yes."), "yes_no").value == 0.0


# --- short answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris", ("paris",)), ("The Eiffel Tower", ("eiffel", "tower")), ("a an the", ("a", "an", "the")), ("U.S.", ("us",)),
        ("well-known", ("wellknown",)), ("Newton's law", ("newtons", "law")), ("“Paris”", ("paris",)), ("PARIS!!!", ("paris",)),
        ("1,200", ("1200",)), ("  two\n words ", ("two", "words")), ("", ()), ("...", ()), ("ﬁsh", ("fish",)), ("STRASSE", ("strasse",)),
        ("Straße", ("strasse",)), ("5 °C", ("5", "°c")), ("theatre", ("theatre",)),
    ],
)  # fmt: skip
def test_words_are_normalised_as_squad_does(text: str, expected: tuple[str, ...]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris", "Paris"), ("The answer is Paris.", "Paris."), ("Answer: Paris\nIt is big.", "Paris"), ("Paris\nFrance", "Paris"),
        ("**Paris**", "Paris"), ("\\boxed{Paris}", "Paris"), ("Let me think. The answer is the Nile", "the Nile"),
        ("Answer: Rome. No: the answer is Paris", "Paris"), ("Answer:\nParis", "Paris"), ("\n\nParis", "Paris"), ("", ""),
        ("<think>\n\n</think>\n\nSaturn", "Saturn"), ("<think>Saturn", ""), ("Paris<|im_end|>", "Paris"),
    ],
)  # fmt: skip
def test_the_answer_in_a_text(text: str, expected: str) -> None:
    assert short_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "answers", "em", "f1", "parsed"),
    [
        ("Paris", ["Paris"], 1.0, 1.0, True),
        ("the Eiffel Tower.", ["Eiffel Tower"], 1.0, 1.0, True),
        ("The answer is Paris.", ["Paris"], 1.0, 1.0, True),
        ("Paris, France", ["Paris"], 0.0, 2 / 3, True),
        ("Tower Eiffel", ["Eiffel Tower"], 0.0, 1.0, True),  # the same words in another order
        ("big big dog", ["big dog"], 0.0, 0.8, True),  # words count as often as they stand there
        ("Rome", ["Paris"], 0.0, 0.0, True),
        ("London", ["Paris", "London"], 1.0, 1.0, True),
        ("north London", ["Paris", "London"], 0.0, 2 / 3, True),
        ("", ["Paris"], 0.0, 0.0, False),
        ("?!", ["Paris"], 0.0, 0.0, False),
        ("Paris", ["..."], None, None, True),
        ("Paris", [], None, None, True),
    ],
)
def test_exact_match_and_f1(text, answers, em, f1, parsed):
    for kind, value in (("exact_match", em), ("f1", f1)):
        score = score_response(item(answers), response(text), kind)
        assert score.value == pytest.approx(value) if value is not None else score.value is None
        assert score.parsed is parsed
        assert (score.reason == UNPARSED) is (not parsed)


TEXTS = st.lists(st.sampled_from(["the", "a", "red", "Red", "fox", "fox.", "ran", "42", "—"]), max_size=6).map(" ".join)


@given(TEXTS, TEXTS)
def test_f1_is_symmetric_and_one_for_equal_words_alone(first: str, second: str) -> None:
    value = token_f1(first, [second])
    assert 0.0 <= value <= 1.0
    assert value == token_f1(second, [first])
    assert (value == 1.0) == (Counter(tokens(first)) == Counter(tokens(second)))
    assert exact_match(first, [second]) <= value
    assert (value == 0.0) == (
        not (Counter(tokens(first)) & Counter(tokens(second))) and bool(tokens(first) or tokens(second))
    )


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), TEXTS)
def test_a_further_right_answer_never_hurts(text: str, right: list[str], further: str) -> None:
    assert token_f1(text, [*right, further]) == max(token_f1(text, right), token_f1(text, [further]))
    assert exact_match(text, [*right, further]) >= exact_match(text, right)


# --- asking and reporting --------------------------------------------------------------------------------------------


class Parrot:
    """A system that says the same to everything, and has no log-probabilities."""

    def fingerprint(self) -> str:
        return "parrot"

    def loglikelihoods(self, requests):
        raise AssertionError("asked for log-probabilities")

    def generate(self, requests, *, max_new_tokens, stop):
        return ["#### 42"] * len(requests)


@pytest.mark.parametrize("kind", ["generate", "exact_match", "f1", "numeric", "numeric_last", "yes_no"])
def test_every_kind_but_two_asks_for_a_text(kind):
    assert kind not in LOGPROB_SCORES
    (answer,) = respond(Parrot(), [Query((Request("i", (TextSegment("Q?"),)),))], "base_text", kind)
    assert answer.text == "#### 42"


def test_partial_scores_keep_every_identity_of_the_report():
    rows = gap_world.scores("a1", 0.8, (0.5, 0.9), 0.6, (0.25, 0.7))
    found = gap_world.report([gap_world.item("a1", "A")], rows, n_resamples=200).overall
    assert found.accuracy["adapted_speech"].value == pytest.approx(0.475)
    assert found.gap.value == found.forgetting.value + found.misalignment.value
    # ann: text 0.8, cascade 0.5, adapted 0.6, speech 0.25; bob: cascade 0.9, speech 0.7
    assert found.taxonomy[CORRECT] == pytest.approx((0.25 + 0.7) / 2)
    assert found.taxonomy[LOST_IN_RENDERING] == pytest.approx((0.3 + 0.0) / 2)
    assert found.taxonomy[LOST_IN_ALIGNMENT] == pytest.approx((0.25 + 0.0) / 2)
    assert found.taxonomy[FORGOTTEN] == pytest.approx((0.0 + 0.1) / 2)


VALUES = st.floats(0, 1)


@settings(max_examples=25, deadline=None)
@given(VALUES, VALUES, VALUES, VALUES)
def test_the_causes_add_up_for_any_score(text, cascade, adapted, speech):
    rows = gap_world.scores("a1", text, (cascade,), adapted, (speech,), voices=("ann",))
    found = gap_world.report([gap_world.item("a1", "A")], rows, n_resamples=100).overall
    causes = found.taxonomy
    assert sum(causes.values()) == pytest.approx(1.0)
    lost = causes[LOST_IN_RENDERING] + causes[FORGOTTEN] + causes[LOST_IN_ALIGNMENT] - causes[SPEECH_ONLY]
    assert lost == pytest.approx(found.gap.value)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in (found.gap, *found.accuracy.values()))


def of_kind(*kinds: str):
    """A report of the small world with a task of each kind, and one answer of the first that could not be read."""
    items = [replace(one, task=f"task{n % len(kinds)}") for n, one in enumerate(gap_world.ITEMS)]
    protocols = [replace(gap_world.PROTOCOL, task=f"task{n}", score=kind) for n, kind in enumerate(kinds)]
    found = [replace(score, parsed=score.item_id != "b1" or score.column != "base_text") for score in gap_world.SCORES]
    return gap_world.report(items, found, protocols=protocols, n_resamples=100)


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (("ll",), ACCURACY), (("generate", "numeric"), ACCURACY), (("exact_match",), ACCURACY), (("f1",), TOKEN_F1),
        (("f1", "ll"), MEAN_SCORE),
    ],
)  # fmt: skip
def test_a_report_says_what_its_columns_are(kinds, name):
    report = of_kind(*kinds)
    assert measure(report) == name
    assert (name in headline(report)[0]) == (name != ACCURACY)
    figures = render_figures(report) if kinds == ("f1",) else ()
    assert all(figure.title == "Token F1 by reading and by ear" for figure in figures if figure.name == "accuracy")


def test_the_share_of_unparsed_answers_is_shown():
    report = of_kind("numeric")
    assert report.unparsed["base_text"] == 1
    assert report.generated == {"base_text": 4, "base_transcript": 8, "adapted_text": 4, "adapted_speech": 8}
    assert unparsed_shares(report) == ["Reads: 1 of 4 (25.0%)"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(report))
    assert "Reads: 1 of 4 (25.0%)" in " ".join(console.export_text().split())
    page = html_page(report)
    assert "Reads: 1 of 4 (25.0%) answers could not be parsed" in page
    assert report_from_json(json.loads(json.dumps(report_to_json(report)))) == replace(
        report, protocols=tuple(report.protocols)
    )
    assert of_kind("ll").generated == {}
    assert unparsed_shares(replace(report, generated={})) == ["Reads: 1"]  # a report from before it was counted


def test_a_score_above_one_is_refused():
    rows = gap_world.scores("a1", 1.5, (1.0, 1.0), 1.0, (1.0, 1.0))
    with pytest.raises(DataError, match=r"1\.5"):
        gap_world.report([gap_world.item("a1", "A")], rows)
