"""Written English to spoken English, as a table of what is written and what a reader says."""

from __future__ import annotations

import contextlib
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salad_eval.errors import SaladError
from salad_eval.speakable import RULES, Unspeakable, to_spoken

CASES = [
    # whole numbers
    ("0", "zero"),
    ("7", "seven"),
    ("21 cats", "twenty-one cats"),
    ("100", "one hundred"),
    ("101", "one hundred and one"),
    ("1,234", "one thousand two hundred and thirty-four"),
    ("2,100,000 people", "two million one hundred thousand people"),
    ("1500 people", "one thousand five hundred people"),
    ("007", "zero zero seven"),
    ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
    ("Apollo 11 landed", "Apollo eleven landed"),
    ("I scored 5!", "I scored five!"),
    ("I have 5. You have 6.", "I have five. You have six."),
    ('"5" and (6)', '"five" and (six)'),
    # decimals
    ("3.14", "three point one four"),
    ("0.05", "zero point zero five"),
    (".5", "zero point five"),
    ("1,000,000.50", "one million point five zero"),
    ("version 1.2.3", "version one point two point three"),
    # negative numbers and subtraction
    ("-5", "minus five"),
    ("x = -3", "x equals minus three"),
    ("(-2.5)", "(minus two point five)"),
    ("−7", "minus seven"),
    ("10 - 5 = 5", "ten minus five equals five"),
    ("a - b", "a minus b"),
    # ordinals
    ("the 1st, 2nd, 3rd and 4th", "the first, second, third and fourth"),
    ("the 21st century", "the twenty-first century"),
    ("the 100th day", "the one hundredth day"),
    # years
    ("in 1905", "in nineteen oh five"),
    ("since 1776", "since seventeen seventy-six"),
    ("before 2003", "before two thousand and three"),
    ("in 2021 it was", "in twenty twenty-one it was"),
    ("in 1900", "in nineteen hundred"),
    ("in 1500 cases", "in one thousand five hundred cases"),
    ("the 1990s", "the nineteen nineties"),
    ("the mid-1960s", "the mid-nineteen sixties"),
    ("the '60s and 80s", "the sixties and eighties"),
    ("1914-1918", "nineteen fourteen to nineteen eighteen"),
    ("1914–18", "nineteen fourteen to eighteen"),
    ("from 1939 to 1945", "from nineteen thirty-nine to nineteen forty-five"),
    ("between 1800 and 1850", "between eighteen hundred and eighteen fifty"),
    ("the war (1812)", "the war (eighteen twelve)"),
    ("1066 AD", "one thousand and sixty-six AD"),
    ("1215 CE", "twelve fifteen CE"),
    # dates
    ("July 4, 1776", "July fourth, seventeen seventy-six"),
    ("4 July 1776", "the fourth of July, seventeen seventy-six"),
    ("on July 4th", "on July fourth"),
    ("The 4th of July", "The fourth of July"),
    ("July 1776", "July seventeen seventy-six"),
    ("2021-01-05", "January fifth, twenty twenty-one"),
    ("1/5/2021", "January fifth, twenty twenty-one"),
    ("25/12/2020", "December twenty-fifth, twenty twenty"),
    ("Jan. 5, 2020", "January fifth, twenty twenty"),
    ("12 May be wrong", "twelve May be wrong"),
    # times
    ("5:30 p.m. sharp", "five thirty p.m. sharp"),
    ("At 5:00.", "At five o'clock."),
    ("17:00", "seventeen hundred"),
    ("5:05 am", "five oh five a.m."),
    ("12:00 PM", "twelve p.m."),
    ("9 am", "nine a.m."),
    ("20:17", "twenty seventeen"),
    ("12:30-13:45", "twelve thirty to thirteen forty-five"),
    ("1:02:03", "one oh two and three seconds"),
    # ranges, ratios, telephones
    ("pages 5-10", "pages five to ten"),
    ("5–10 kg", "five to ten kilograms"),
    ("50%-60%", "fifty percent to sixty percent"),
    ("a 3:1 ratio", "a three to one ratio"),
    ("2:3:4", "two to three to four"),
    ("555-1234", "five five five, one two three four"),
    # percent and money
    ("5%", "five percent"),
    ("12.5 %", "twelve point five percent"),
    ("$5", "five dollars"),
    ("$1", "one dollar"),
    ("$5.50", "five dollars and fifty cents"),
    ("$0.99", "ninety-nine cents"),
    ("£1.01", "one pound and one penny"),
    ("$3.5 million", "three point five million dollars"),
    ("£2bn", "two billion pounds"),
    ("€1,000", "one thousand euros"),
    ("-$5", "minus five dollars"),
    ("¥300", "three hundred yen"),
    ("5¢", "five cents"),
    # units
    ("5 km", "five kilometers"),
    ("1 km", "one kilometer"),
    ("a 5-km run", "a five kilometer run"),
    ("6 ft", "six feet"),
    ("60 km/h", "sixty kilometers per hour"),
    ("1 mph, 60 mph", "one mile per hour, sixty miles per hour"),
    ("9.8 m/s²", "nine point eight meters per second squared"),
    ("9.8 m/s^2", "nine point eight meters per second squared"),
    ("25 m²", "twenty-five square meters"),
    ("1000 kg/m³", "one thousand kilograms per cubic meter"),
    ("300 K", "three hundred kelvin"),
    ("10 Ω", "ten ohms"),
    ("5 µm", "five micrometers"),
    ("30 kWh", "thirty kilowatt hours"),
    ("150 million km", "one hundred and fifty million kilometers"),
    ("37 °C", "thirty-seven degrees Celsius"),
    ("-40 °F", "minus forty degrees Fahrenheit"),
    ("90°", "ninety degrees"),
    ("1°", "one degree"),
    ("3m + 4 = 10", "three m plus four equals ten"),
    ("5'10\"", "five feet ten inches"),
    # fractions
    ("1/2", "one half"),
    ("3/4", "three quarters"),
    ("2 1/2", "two and one half"),
    ("½", "one half"),
    ("2½", "two and one half"),
    ("17/23", "seventeen over twenty-three"),
    ("22/7", "twenty-two over seven"),
    # formulas
    ("2+2=4", "two plus two equals four"),
    ("3 x 4", "three times four"),
    ("3*4", "three times four"),
    ("6 ÷ 2 ± 0.5", "six divided by two plus or minus zero point five"),
    ("a < b", "a less than b"),
    ("a >= b", "a greater than or equal to b"),
    ("x ≠ y", "x not equal to y"),
    ("x² + y^2 = z³", "x squared plus y squared equals z cubed"),
    ("10⁻³", "ten to the power of minus three"),
    ("x^{10}", "x to the power of ten"),
    ("6.02 × 10^23", "six point zero two times ten to the power of twenty-three"),
    ("1e-5", "one times ten to the power of minus five"),
    ("x₁ and x_2", "x sub one and x sub two"),
    ("H₂O", "H two O"),
    ("CO2", "CO two"),
    ("SO₄²⁻", "SO four two minus"),
    ("f(x) = 2x + 1", "f(x) equals two x plus one"),
    ("∞", "infinity"),
    ("√2", "square root of two"),
    # Greek
    ("α and Ω", "alpha and omega"),
    ("Δx", "delta x"),
    ("2πr", "two pi r"),
    # abbreviations
    ("Dr. Smith met Mr. Jones.", "Doctor Smith met Mister Jones."),
    ("Mrs. Ray vs. Prof. Day", "Missus Ray versus Professor Day"),
    ("St. Paul", "Saint Paul"),
    ("on Main St. in town", "on Main Street in town"),
    ("a fruit, e.g. an apple", "a fruit, for example an apple"),
    ("the last, i.e. the third", "the last, that is the third"),
    ("cats, dogs, etc.", "cats, dogs, et cetera."),
    ("cats, etc. are", "cats, et cetera are"),
    ("No. 5 and Fig. 3", "Number five and Figure three"),
    ("pp. 5-10", "pages five to ten"),
    ("World War II", "World War two"),
    ("Henry VIII", "Henry the eighth"),
    ("w/o sugar", "without sugar"),
    # options and blanks
    ("Which?\n(A) cat\n(B) dog", "Which? A: cat; B: dog"),
    ("Choose\nA. cat\nB. dog\nC. bird", "Choose; A: cat; B: dog; C: bird"),
    ("B) dog", "B: dog"),
    ("A. Einstein", "A. Einstein"),
    ("The ____ is red.", "The blank is red."),
    ("The____is red.", "The blank is red."),
    # signs and names with signs
    ("R&D", "R and D"),
    ("C# and C++", "C sharp and C plus plus"),
    ("#1", "number one"),
    ("#tag", "hash tag"),
    ("~5", "about five"),
    ("and/or", "and slash or"),
    ("snake_case", "snake underscore case"),
    ("[sic]", "open bracket sic close bracket"),
    ("user@example.com", "user at example dot com"),
    ("see www.example.com.", "see www dot example dot com."),
    ("file.txt", "file dot txt"),
    ("COVID-19", "COVID-nineteen"),
    ("a 3-year-old", "a three-year-old"),
    ("H1N1, B12 and MP3", "H one N one, B twelve and MP three"),
    ("A → B", "A to B"),
    # type and letters
    ("“Hello” — it’s fine…", '"Hello", it\'s fine...'),
    ("this – that", "this, that"),
    ("a café in Łódź", "a café in Lódz"),
    ("ﬁne", "fine"),
    ("soft\u00adware", "software"),
    ("two\n  lines\there", "two lines here"),
    ("", ""),
]


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_table(written: str, spoken: str) -> None:
    assert to_spoken(written) == spoken


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_its_own_results_stay_as_they_are(written: str, spoken: str) -> None:
    assert to_spoken(spoken) == spoken


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("日本", "U+65E5"),
        ("well done 👍", "THUMBS UP"),
        ("привет", "CYRILLIC"),
        ("a\0b", "U+0000"),
        (r"\frac{1}{2}", "markup"),
        ("<b>bold</b>", "markup"),
        ("a &amp; b", "markup"),
        ("let $x$ be", "currency sign"),
        ("schwa ə", "U+0259"),
        ("٣", "ARABIC-INDIC"),
    ],
)
def test_what_has_no_spoken_form_is_refused_by_name(written: str, cause: str) -> None:
    with pytest.raises(Unspeakable, match=cause.replace("+", r"\+")):
        to_spoken(written)


def test_unspeakable_is_an_error_the_package_explains() -> None:
    assert issubclass(Unspeakable, SaladError)


def test_rules_have_names_of_their_own() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) > 40


def test_a_rule_is_not_kept_from_a_text_by_its_needs() -> None:
    """``needs`` only saves time: without it every case of the table comes out the same."""
    for written, _ in CASES:
        for rule in RULES:
            if rule.needs and rule.needs.isdisjoint(written):
                assert rule.pattern.search(written) is None, (rule.name, written)


_WORDS = st.sampled_from(
    ["the", "cat", "sat", "on", "a", "mat", "and", "it", "was", "red", "I", "went", "home", "friend's", "well-known"]
)


@given(st.lists(_WORDS, min_size=1, max_size=12), st.sampled_from(".?!"), st.sampled_from([" ", "  ", "\n", ", "]))
def test_plain_english_is_unchanged_but_for_whitespace(words: list[str], end: str, between: str) -> None:
    text = between.join(words) + end
    assert to_spoken(text) == " ".join(text.split())


_PIECES = [
    *"aAxXskmK2519/%$£°²₂⁻^_{}()[]+=<>&#~*'\"½πΔΩ.,:;!?-–—@|\\•→′éř…\n ",
    "B. ", "St.", "Dr. ", "No. ", "e.g.", "etc.", "p.m.", " pm", "in ", "the ", "of May ", "May ", "July ", "km", "--",
    " - ", "10", "1905", "1914", "2003", "007", "1,234", "3.14", ".5", "th", "1st", "__", "million", "between ", "and ",
    "to ", "vs", "w/", "II", "War ", "Henry ", "12:30", "x_", "^{", "²⁺", "www.", "a.b",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join) | st.text(max_size=12))
@example("St.St.St.")
@example("5--3")
def test_any_text_is_spoken_or_refused_and_then_at_rest(text: str) -> None:
    try:
        spoken = to_spoken(text)
    except Unspeakable:
        return
    assert to_spoken(spoken) == spoken
    assert all(c.isalpha() or c in ".,;:?!'\"()- " for c in spoken)


# Marks that only shape the melody, and marks without width, may go or change; anything else must leave a word behind.
_MAY_GO = set(".,;:?!'\"()-–—‐‑‒―…’‘‛ʻʼ´“”„«»\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")


@settings(max_examples=400, deadline=None)
@given(st.characters(codec="utf-8"))
@example("/")
@example("°")
@example("_")
@example("*")
def test_no_character_is_dropped(character: str) -> None:
    """Between two words, whatever has ink is heard: the text is longer by something other than punctuation."""
    if character.isspace() or unicodedata.normalize("NFKC", character) in _MAY_GO or character in _MAY_GO:
        return
    try:
        spoken = to_spoken(f"cat {character} dog")
    except Unspeakable:
        return
    said = spoken.removeprefix("cat").removesuffix("dog")
    assert any(c.isalpha() for c in said), (character, spoken)


@pytest.mark.parametrize(
    "unit", ["1", "1,", "1.", "-", " - ", "1/", "5 km ", "in 1905 ", "$1", "^{", "<a ", "a@", "_", "St. "]
)
def test_hostile_repetition_takes_no_more_than_proportional_time(unit: str) -> None:
    def seconds(n: int) -> float:
        text = (unit * n)[:n]
        began = time.process_time()
        with contextlib.suppress(Unspeakable):
            to_spoken(text)
        return time.process_time() - began

    seconds(500)
    assert seconds(16_000) < 40 * max(seconds(1_000), 0.002)  # 16 times is linear, 256 times quadratic
