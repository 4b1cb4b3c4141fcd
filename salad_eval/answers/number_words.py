"""English numbers in words: "forty-two", "one hundred and five", "minus three point one four", "two and a half".

A small table-driven parser, the inverse of num2words for English cardinals. A run of words that is no one number ("one two",
"twenty twenty-four") is read as the several numbers that it is, and an ordinal ("forty-second") as none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth "
    "ninetieth hundredth thousandth millionth billionth"
)
UNITS: Mapping[str, int] = {word: value for value, word in enumerate(_UNITS.split())}
TENS: Mapping[str, int] = {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
ORDINALS = frozenset(_ORDINALS.split())
SCALES: Mapping[str, int] = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
COUNTED: Mapping[str, int] = {"hundred": 100, "dozen": 12, **SCALES}  # what stands after a number, or after "a"
DIGITS: Mapping[str, int] = {**{word: value for word, value in UNITS.items() if value < 10}, "oh": 0}
HALVES: Mapping[str, Fraction] = {  # a part, in the singular
    "half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4), "fourth": Fraction(1, 4), "fifth": Fraction(1, 5),
    "sixth": Fraction(1, 6), "seventh": Fraction(1, 7), "eighth": Fraction(1, 8), "ninth": Fraction(1, 9), "tenth": Fraction(1, 10),
}  # fmt: skip
PARTS: Mapping[str, Fraction] = {("halves" if word == "half" else f"{word}s"): part for word, part in HALVES.items()}
SIGNS = frozenset(("minus", "negative"))
_ARTICLES = frozenset(("a", "an"))
FIRST_WORDS = frozenset((*UNITS, *TENS, *SIGNS, *_ARTICLES, "half"))  # with which a number can begin
_MOST_PARTS = 20  # "three quarters" is a fraction; "twenty fifths" is more likely misheard

Read = tuple[Fraction | None, int]  # a number, ``None`` where the words are an ordinal; and how many words it takes


def number_at(words: Sequence[str], start: int = 0) -> Read | None:
    """The longest number that begins at ``words[start]``, and how many words it takes; ``None`` where none begins there.

    ``words`` are lower-case and without hyphens. The number itself is ``None`` where the words turn out to be an ordinal.
    """
    if _word(words, start) in SIGNS:
        unsigned = number_at(words, start + 1) if _word(words, start + 1) not in SIGNS else None
        if unsigned is None:
            return None
        return (-unsigned[0] if unsigned[0] is not None else None), unsigned[1] + 1
    if fraction := _fraction(words, start):
        return fraction
    whole = _cardinal(words, start)
    if whole is None:
        return None
    value, taken = whole
    if n_ordinal := _ordinal(words, start + taken, value):
        return None, taken + n_ordinal
    at = start + taken
    if _word(words, at) == "point" and (digits := _digits(words, at + 1)):
        exact = value + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
        return _times(words, exact, at + 1 + len(digits), start)
    if _word(words, at) == "and" and (part := part_at(words, at + 1)):
        return _times(words, value + part[0], at + 1 + part[1], start)
    return Fraction(value), taken


def part_at(words: Sequence[str], start: int) -> tuple[Fraction, int] | None:
    """A proper fraction in words ("a half", "three quarters") that begins at ``words[start]``, and how many words it takes."""
    found = _fraction(words, start)
    return found if found is not None and found[0] < 1 else None


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""


def _ordinal(words: Sequence[str], at: int, value: int) -> int:
    """How many words make an ordinal of a number that ends before ``words[at]`` ("forty second"; "one second" is a time)."""
    joined = 1 if _word(words, at) == "and" else 0
    word = _word(words, at + joined)
    return joined + 1 if word in ORDINALS and not (value == 1 and word == "second") else 0


def _times(words: Sequence[str], value: Fraction, at: int, start: int) -> tuple[Fraction, int]:
    """``value`` with the scale words that follow it ("two and a half million")."""
    factor, taken = scale_at(words, at)
    return value * factor, at + taken - start


def _fraction(words: Sequence[str], start: int) -> tuple[Fraction, int] | None:
    """Fractions: "half", "a third", "two thirds"; more than one whole ("three halves") too."""
    first, second = _word(words, start), _word(words, start + 1)
    if first == "half":
        return Fraction(1, 2), 2 if second in _ARTICLES else 1  # "half a"
    if (first in _ARTICLES or first == "one") and second in HALVES:
        return HALVES[second], 2
    number = UNITS.get(first, 0)
    if 1 < number < _MOST_PARTS and second in PARTS:
        return number * PARTS[second], 2
    return None


def _digits(words: Sequence[str], start: int) -> list[int]:
    found: list[int] = []
    while _word(words, start + len(found)) in DIGITS:
        found.append(DIGITS[words[start + len(found)]])
    return found


def scale_at(words: Sequence[str], at: int) -> tuple[int, int]:
    """The scale words ("hundred thousand") that stand at ``words[at]`` as one factor, and how many they are; (1, 0) where none do."""
    factor, taken = 1, 0
    while (word := _word(words, at + taken)) in COUNTED:
        factor, taken = factor * COUNTED[word], taken + 1
    return factor, taken


def _cardinal(words: Sequence[str], start: int) -> tuple[int, int] | None:
    """A whole number: groups below a thousand, each with its scale, the scales falling."""
    total, at, least = 0, start, 0
    while least != 1:
        joined = 1 if least and _word(words, at) == "and" else 0
        group = _below_thousand(words, at + joined, article=not least)
        if group is None:
            break
        value, taken = group
        scale, scale_words = _scale_of(words, at + joined + taken)
        if least and (scale >= least or value == 0 or value * scale >= least):
            break  # another number begins here
        total += value * scale
        at += joined + taken + scale_words
        least = scale
    return (total, at - start) if least else None


def _scale_of(words: Sequence[str], at: int) -> tuple[int, int]:
    word = _word(words, at)
    return (SCALES[word], 1) if word in SCALES else (1, 0)


def _below_thousand(words: Sequence[str], start: int, *, article: bool) -> tuple[int, int] | None:
    """Up to 99 hundred ("twelve hundred"), "a hundred and five", "two dozen"; "a" only before what is counted."""
    first, second = _word(words, start), _word(words, start + 1)
    if article and first in _ARTICLES:
        if second in SCALES:
            return 1, 1
        if second not in COUNTED:
            return None
        small: tuple[int, int] | None = (1, 1)
    else:
        small = _below_hundred(words, start)
    if small is None:
        return None
    value, taken = small
    counted = _word(words, start + taken)
    if counted == "dozen":
        return 12 * value, taken + 1
    if counted != "hundred" or not value:
        return value, taken
    value, taken = 100 * value, taken + 1
    joined = 1 if _word(words, start + taken) == "and" else 0
    rest = _below_hundred(words, start + taken + joined)
    if rest is None or rest[0] == 0 or _word(words, start + taken + joined + rest[1]) in ("hundred", "dozen"):
        return value, taken
    if joined and part_at(words, start + taken + joined):  # "a hundred and one half"
        return value, taken
    return value + rest[0], taken + joined + rest[1]


def _below_hundred(words: Sequence[str], start: int) -> tuple[int, int] | None:
    first, second = _word(words, start), _word(words, start + 1)
    if first in TENS:
        unit = UNITS.get(second, 0)
        return (TENS[first] + unit, 2) if 0 < unit < 10 else (TENS[first], 1)
    return (UNITS[first], 1) if first in UNITS else None
