"""The normaliser as a table, and what must hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.speakable.normalise import normalise

TABLE = [
    ("", ""),
    (" \n\t ", ""),
    ("?!… —", ""),
    ("What is the symbol for hydrogen?", "what is the symbol for hydrogen"),
    ("WHAT IS THE SYMBOL FOR HYDROGEN", "what is the symbol for hydrogen"),
    ("two  spaces\nand a line", "two spaces and a line"),
    # apostrophes cannot be heard
    ("It's the cow's calf, isn't it?", "its the cows calf isnt it"),
    ("It\u2019s the cow\u2018s", "its the cows"),
    ("rock 'n' roll", "rock n roll"),
    # hyphens, dashes and underscores separate
    ("forty-two", "forty two"),
    ("half\u2010life", "half life"),
    ("well\u2014then", "well then"),
    # numbers as they are said
    ("What is 3 plus 4?", "what is three plus four"),
    ("42", "forty two"),
    ("1,000,000", "one million"),
    ("3.5 kg", "three point five kilograms"),
    ("the 21st", "the twenty first"),
    ("10%", "ten percent"),
    ("In 1969", "in nineteen sixty nine"),
    # symbols and abbreviations as they are said
    ("Dr. Smith", "doctor smith"),
    ("salt & pepper", "salt and pepper"),
    ("H2O", "h two o"),
    ("\u03c0 r\u00b2", "pi r squared"),
    # accents and letter forms
    ("Dvo\u0159\u00e1k", "dvorak"),
    ("Dvor\u030ca\u0301k", "dvorak"),
    ("na\u00efve caf\u00e9", "naive cafe"),
    ("Stra\u00dfe", "strasse"),
    ("\ufb01ne", "fine"),
    # other scripts stay, where the rules for English have nothing to say
    ("\u0394\u03b5\u03bb\u03c6\u03bf\u03af!", "\u03b4\u03b5\u03bb\u03c6\u03bf\u03b9"),
    ("\u6c34\u3002", "\u6c34"),
    ("<b>3</b>", "b three b"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_table(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(("text", "_"), TABLE)
def test_table_is_stable(text: str, _: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("What is 17 plus 10?", "what is seventeen plus ten"),
        ("The sum 27 plus 10 equals 37.", "The sum twenty-seven plus ten equals thirty-seven."),
        ("It weighs 3.5 kg.", "It weighs three point five kilograms."),
    ],
)
def test_a_recogniser_that_writes_and_one_that_spells_are_equal(written: str, spoken: str) -> None:
    assert normalise(written) == normalise(spoken)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OK", "okay"),
        ("O.K.", "okay"),
        ("U.S.", "US"),
        ("the U S A", "the U.S.A."),
        ("p.m.", "pm"),
        ("5 p.m.", "five PM"),
        ("it is", "it's"),
        ("it has not", "it hasn't"),
        ("you cannot", "you can't"),
        ("colour", "color"),
        ("the centre was realised", "the center was realized"),
        ("one hundred and one", "101"),
        ("one thousand and one", "1,001"),
        ("two and a half", "2.5"),
        ("two and a half", "2 1/2"),
        ("the war of eighteen twelve", "The War of 1812"),
        ("nineteen hundred and five", "1905"),
        ("fifteen hundred", "1,500"),
        ("two and a half million", "2,500,000"),
        ("negative five", "-5"),
        ("fifty per cent", "50%"),
    ],
)
def test_what_sounds_alike_is_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("one hundred one", "one hundred, two"),
        ("it is", "it was"),
        ("it is", "it is not"),
        ("five", "minus five"),
        ("two and a half", "two and a quarter"),
        ("three and four", "thirty-four"),
        ("wise", "wide"),
        ("a us dollar", "a dollar"),
        ("fourteen", "forty"),
    ],
)
def test_what_differs_to_the_ear_stays_apart(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_normalises_to_words_that_normalise_to_themselves(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())
    assert once == once.casefold()
    assert not any(character.isdecimal() for character in once)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**15))
def test_digits_become_words(number: int) -> None:
    assert normalise(f"{number}").replace(" ", "").isalpha()


def test_a_number_without_a_name_is_said_digit_by_digit() -> None:
    assert set(normalise("\u0665" * 400).split()) == {"five"}
