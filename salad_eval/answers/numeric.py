"""The number that a generated text gives as its answer, strictly (GSM8K and the like).

How a number is read. In digits: a sign, thousands separators (commas, or the spaces that typography uses), decimals, ``1.5e3`` and
``1.5 × 10^3``, fractions ("3/4", "1 1/2", "½", ``\\frac{3}{4}``), a scale word ("3 million", "$1.5M"). In words: see
``number_words``. Currency, percent signs and units are no part of it and are never converted: "50%" is 50, "50 cents" is 50. What is
no plain number (a time, a date, a range, an ordinal, "1,23", "1.2.3", "5k", "2^10", "5!", "5 squared", "2 pi", "±5") makes its phrase
unreadable, and so do two unknowns ("x = 5, y = 6"). Numbers are exact:
18, 18.0 and 36/2 are the same, 0.33 and 1/3 are not.

Where the answer is looked for; the first rule that finds anything decides, and where it finds two different numbers the text is
contradictory and unparsed:

1. *Marked*: after ``####``, to the end of the line.
2. *Boxed*: in ``\\boxed{…}``.
3. *Stated*: "Answer: …", "the answer is …", followed by the number, which is the only one in its clause; after "=" where there is one.
4. *Alone*: the text, or its first or last line, is nothing but a number and at most two words of unit.
5. *Last* (only where the caller asks for it by name): the last number in the text, whatever it is said of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from salad_eval.answers.number_words import FIRST_WORDS, SIGNS, number_at, part_at, scale_at
from salad_eval.answers.reply import answer_part

MARK = "####"  # before the answer of a worked solution, in GSM8K
_MOST_EXPONENT = 300  # of a power of ten; beyond it a "number" is noise, and an exact one costs memory
_MOST_DIGITS = 100
_MOST_UNIT_WORDS = 2
_MOST_CLAUSE = 1000  # characters in which a stated number ends its clause
_MOST_WORDS = 40  # of a number; both keep reading linear in the text
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f\u2007"), "\u202f")  # spaces that may stand within a number

Found = set[Fraction | None]  # ``None``: something that looks like a number and is not one, or two numbers


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a normalised text, ``text[start:end]``; ``value`` is ``None`` where it only looks like one."""

    start: int
    end: int
    value: Fraction | None


def extract_number(text: str, *, last: bool = False) -> Fraction | None:
    """The number that ``text`` gives as its answer, or ``None`` where it gives none or more than one (see the module).

    ``last``: where no rule finds anything, the last number in the text counts.
    """
    plain = _plain(answer_part(text))
    rules: list[Callable[[str], Found]] = [_marked, _boxed, _stated, _alone]
    for rule in [*rules, _last] if last else rules:
        found = rule(plain)
        if found:
            return next(iter(found)) if len(found) == 1 else None
    return None


def final_answer(answer: str) -> str:
    """The answer in a worked solution that marks it (``… #### 42``); another text as it is."""
    return answer.rpartition(MARK)[2].strip() or answer


def numbers_in(text: str) -> list[Number]:
    """Every number in a text, in digits or in words, in order."""
    return list(_numbers(_plain(text)))


# --- where the answer is looked for ----------------------------------------------------------------------------------

_STATEMENT = re.compile(
    r"\banswer(?:(?:\s+(?!is\b)[a-z']+){0,6}\s+(?:is|would be|must be|should be|will be)\b|\s*(?=[:=]))\s*[:=]?",
    re.IGNORECASE,
)
# "x = 5", of which a clause may have several: "x = 5, y = 6", below one another, or "x = 5 or x = -5".
_EQUATION = re.compile(
    r"(?:\A|(?<=[,;&\n])|\b(?:and|or|when|where|with|while|if|for)\b)[\s\"'“:]*([^\W\d]\w{0,9})\s*[=≈]\s*([^\s=≈,;&]*)"
)
_BEYOND_BRACKET = re.compile(r"\([^()]{0,80}\)\s*(?:and|or|,|&)\s+(?=[-\d])")  # "5 (x) and 6 (y)"
_INEQUALITY = re.compile(r"[<>≤≥≠≲≳]|!=")
_ARROW = re.compile(r"[-=]+>|[→⇒⟹]")
_CLAUSE_END = re.compile(
    r"\n(?!\s*[^\W\d]\w{0,2}\s*=)|[(?]|(?<!\d)(?<!\d\s)!|;(?!\s*[^\W\d]\w*\s*=)|\.(?=\s|$)|,?\s\b(?:because|since|as|which|so)\b",
    re.IGNORECASE,
)
# What may stand between "the answer is" and its number. Not "about half of", "more than", "not": these change it.
_LEAD = re.compile(
    r"(?:[\s:\"'“]|\b(?:exactly|only|just|simply|therefore|thus|then|equal to|a total of|approximately|about|roughly)\b)*",
    re.IGNORECASE,
)
_NOT_A_NUMBER_AFTER = re.compile(
    r"\s*(?:of|that|who|which|can|should|could|would|may|might|must|or|to)\b", re.IGNORECASE
)
_BEFORE_PRONOUN = re.compile(
    r"\b(?:the|this|that|which|each|every|any|no|some|another|other|first|last|correct)\s+\Z", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")


_SOLVED = re.compile(r"^[\"'“(]*[^\W\d]\w{0,2}\s*=\s*(?=\S)")  # "x = 5" by itself


def _marked(text: str) -> Found:
    found: Found = set()
    for part in text.split(MARK)[1:]:
        found |= _clause(part.lstrip("# ").partition("\n")[0])
    return found


def _boxed(text: str) -> Found:
    found: Found = set()
    for match in _BOXED.finditer(text):
        found |= _clause(match[1]) or {None}
    return found


def _stated(text: str) -> Found:
    text = _BOXED.sub(r"\1", text)
    found: Found = set()
    for match in _STATEMENT.finditer(text):
        found |= _clause(text[match.end() : match.end() + _MOST_CLAUSE].lstrip())
    return found


def _alone(text: str) -> Found:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: Found = set()
    for whole in dict.fromkeys((lines[0], lines[-1])) if lines else ():
        line = _SOLVED.sub("", whole)
        numbers = list(_numbers(line))
        around = line[: numbers[0].start] + " " + line[numbers[0].end :] if len(numbers) == 1 else ""
        before = line[: numbers[0].start] if numbers else ""
        if len(numbers) == 1 and not before.strip(" \"'“(=:") and _is_unit(around):
            found.add(numbers[0].value)
    return found


def _last(text: str) -> Found:
    numbers = list(_numbers(_BOXED.sub(r"\1", text)))
    return {numbers[-1].value} if numbers else set()


def _is_unit(around: str) -> bool:
    words = re.findall(r"[^\W\d_]+", around)
    return len(words) <= _MOST_UNIT_WORDS and not re.search(r"[+*/=<>?^-]", around.strip(" =-"))


def _clause(text: str) -> Found:
    """The one number of the clause that begins ``text``; nothing where it does not begin with one, ``None`` where it has several."""
    end = _CLAUSE_END.search(text)
    clause = text[: end.start()] if end else text
    if (
        end
        and (beyond := _BEYOND_BRACKET.match(text, end.start()))
        and next(_numbers(text[beyond.end() :][:_MOST_CLAUSE]), None)
    ):
        return {None}
    clause = _ARROW.sub("=", clause)
    if _INEQUALITY.search(clause):
        return {None} if any(_numbers(clause)) else set()
    if len({match.groups() for match in _EQUATION.finditer(clause)}) > 1:
        return {None}
    if re.search(r"[=≈]", clause):
        clause = re.split(r"[=≈]", clause)[-1]
    numbers = list(_numbers(clause))
    if not numbers:
        return set()
    if _LEAD.match(clause).end() < numbers[0].start:  # type: ignore[union-attr]  # matches the empty text too
        return set()
    if _NOT_A_NUMBER_AFTER.match(clause, numbers[0].end):
        return {None}
    values: Found = {number.value for number in numbers}
    return values if len(values) == 1 else {None}


# --- how a number is written -----------------------------------------------------------------------------------------

_SIGN = r"(?:(?<![\w)\].])[-+]\s?)?"
_RUN = re.compile(
    rf"(?P<sign>{_SIGN})(?P<run>(?<!\w)(?<!\d[.,:/])(?:\d|\.\d)(?:[\w,:/^'\u202f]|\.(?=\w)|(?<=[eE])[-+](?=\d))*)"
)
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:\u202f\d{3})+|\d+)"
_WELL_FORMED = re.compile(
    rf"(?P<number>{_DIGITS}(?:\.\d+)?|\.\d+)(?:(?P<exponent>[eE][-+]?\d+)|/(?P<below>{_DIGITS}(?:\.\d+)?)|(?P<unit>[^\W\d_]+))?"
)
_ORDINAL_UNITS = frozenset(("st", "nd", "rd", "th"))
# "5M" is five million or five of something; "3x" is three times, or a term of x.
_UNCLEAR_UNITS = frozenset((*"kKMBxXyYzZnijabeπθ", "bn", "mn", "tn", "pi"))
# What makes another number of the one before it: "5!", "5 squared", "2 pi", "5+".
_CHANGED_AFTER = re.compile(
    r"\s?!(?!=)|\s?\+(?!\s?[\d.(])|\s?[π√]|\s(?:squared|cubed|factorial|pi|[xyzn]|or\s+(?:more|less|fewer|so))\b(?!')",
    re.IGNORECASE,
)
_CHANGED_BEFORE = tuple("±∓√∛∜")
_SPACE_BEFORE_DIGIT = re.compile(r"[ ]+(?=[\d.])")
_MIXED = re.compile(r"[ ]+(?:and[ ]+)?(\d+)/(\d+)(?![\w/])(?!\.\d)")
_FIRST_WORD, _NEXT_WORD = re.compile(r"[ ]?([^\W\d_]+)"), re.compile(r"[ ]+([^\W\d_]+)")
_CURRENCY = re.compile(r"[$€£¥₹₩]")
_IN_MONEY = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}  # "$1.5M"
_TOKEN = re.compile(rf"{_RUN.pattern}|(?P<word>[^\W\d_]+)")
_RANGES = re.compile(r"(?:\s?[-–]\s?\d[\w.,:/]*(?<![.,:/]))+")  # "5-7", "2024-05-01", and a subtraction


def _plain(text: str) -> str:
    """One Unicode form, without emphasis, LaTeX around numbers, currency signs, or commas after scale words."""
    text = text.translate(_SPACES)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)  # "1½" would become "11/2"
    text = "".join(c if c == "\u202f" else unicodedata.normalize("NFKC", c) for c in _superscripts(text))
    text = text.replace("\u2044", "/").replace("\u2212", "-").replace("’", "'")
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2 ", text)
    text = re.sub(r"\{,\}|,\\!", ",", text)
    text = re.sub(r"\\[,;!: ]|\\(?:quad|left|right)\b", " ", text)
    text = re.sub(r"<<[^<>]*>>|</?[a-z]+\d?>", "", text)  # a calculator's marks, and HTML
    text = re.sub(r"\\([%$€£#])", r"\1", text).replace("\\times", "×").replace("\\cdot", "×")
    text = re.sub(r"(\d)\s*[x×*]\s*10\s*\^\s*\{?\s*([-+]?\d+)\s*\}?", r"\1e\2", text)
    text = re.sub(r"(?<=\d)\s?\*\*\s?(?=\d+(?![\d*]|\.\d))", "^", text)  # Python's power, which is no emphasis
    text = re.sub(r"`|(?!(?<=\d)\*\s?\d)(?!(?<=\d\s)\*\s?\d)\*", "", text)  # emphasis goes, 6 * 7 stays
    money = "|".join(sorted(_IN_MONEY, key=len, reverse=True))
    text = re.sub(
        rf"(?<=[$€£¥₹])(\s?[\d.,]*\d)\s?({money})\b",
        lambda m: f"{m[1]} {_IN_MONEY[m[2].lower()]}",
        text,
        flags=re.IGNORECASE,
    )
    text = re.sub(r"([-+])\s?[$€£¥₹₩]\s?(?=[\d.])", r"\1", text)
    text = re.sub(r"[$€£¥₹₩]\s?([-+])(?=[\d.])", r"\1", text)
    text = _CURRENCY.sub("", text)
    text = re.sub(r"(?<=thousand|.million|.billion|trillion),(?= )", "", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", text)


def _superscripts(text: str) -> str:
    """Powers written by raised digits as ``^``: 10⁶ is not 106."""
    raised = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    text = re.sub(r"(?<=\w)[₀-₉]+", lambda m: "_" + unicodedata.normalize("NFKC", m[0]), text)  # 101₂ is not 1012
    return re.sub(
        rf"(?<=\d)[⁻⁺]?[{raised}]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0]).replace("\u2212", "-"), text
    )


def _numbers(text: str) -> Iterator[Number]:
    """The numbers of a plain text, digits and words alike."""
    at = 0
    while token := _TOKEN.search(text, at):
        number = _of_words(text, token) if token["word"] else _of_digits(text, token)
        if number is not None:
            before = text[max(0, number.start - 2) : number.start].rstrip()
            changed = _CHANGED_AFTER.match(text, number.end) or before.endswith(_CHANGED_BEFORE)
            yield Number(number.start, number.end, None) if changed else number
        at = number.end if number is not None else token.end()


def _of_digits(text: str, token: re.Match[str]) -> Number:
    end = token.end("run")
    run = token["run"].rstrip(".,:/^'\u202f")
    end -= len(token["run"]) - len(run)
    value = _value(run)
    if between := _RANGES.match(text, end):
        return Number(token.start(), between.end(), None)
    if value is not None and value.denominator == 1 and "/" not in run:
        value, end = _with_part(text, value, end)
    if value is not None and not any(c.isalpha() for c in run):
        value, end = _with_scale(text, value, end)
    negative = token["sign"].strip() == "-"
    return Number(token.start(), end, -value if value is not None and negative else value)


def _value(run: str) -> Fraction | None:
    """A run of digits and what is joined to it as a number, or ``None`` where it is none."""
    match = _WELL_FORMED.fullmatch(run)
    if match is None or len(run) > _MOST_DIGITS:
        return None
    unit = match["unit"] or ""
    if unit.lower() in _ORDINAL_UNITS or unit in _UNCLEAR_UNITS:
        return None
    number = Fraction(re.sub(r"[,\u202f]", "", match["number"]))
    if match["exponent"]:
        power = int(match["exponent"][1:])
        return number * Fraction(10) ** power if abs(power) <= _MOST_EXPONENT else None
    if match["below"]:
        below = Fraction(re.sub(r"[,\u202f]", "", match["below"]))
        return number / below if below else None
    return number


def _with_part(text: str, whole: Fraction, end: int) -> tuple[Fraction | None, int]:
    """A whole number and the proper fraction behind it: "1 1/2", "2 and a half"."""
    mixed = _MIXED.match(text, end)
    if mixed and 0 < int(mixed[1]) < int(mixed[2]):
        return whole + Fraction(int(mixed[1]), int(mixed[2])), mixed.end()
    words, ends = _words_from(text, end)
    if words[:1] == ["and"] and (part := part_at(words, 1)):
        return whole + part[0], ends[part[1]]
    return whole, end


def _with_scale(text: str, value: Fraction, end: int) -> tuple[Fraction, int]:
    words, ends = _words_from(text, end)
    factor, taken = scale_at(words, 0)
    return value * factor, ends[taken - 1] if taken else end


def _of_words(text: str, token: re.Match[str]) -> Number | None:
    first = token[0].lower()
    if first not in FIRST_WORDS:
        return None
    words, ends = _words_from(text, token.start(), glued=True)
    found = number_at(words, 0)
    if found is None:
        sign = _SPACE_BEFORE_DIGIT.match(text, token.end()) if first in SIGNS else None
        digits = _RUN.match(text, sign.end()) if sign else None
        if digits is None:
            return None
        unsigned = _of_digits(text, digits)
        return Number(token.start(), unsigned.end, -unsigned.value if unsigned.value is not None else None)
    value, taken = found
    end = ends[taken - 1]
    # "one of them", "no one", "the one that …", "a third of": no number is meant, or not this one.
    is_pronoun = _NOT_A_NUMBER_AFTER.match(text, end) or _BEFORE_PRONOUN.search(
        text, max(0, token.start() - 16), token.start()
    )
    if taken == 1 and first == "one" and is_pronoun:
        return None
    return Number(token.start(), end, value)


def _words_from(text: str, start: int, *, glued: bool = False) -> tuple[list[str], list[int]]:
    """The run of words, separated by single spaces, that begins at ``start`` (or one space after), in lower case, and their ends."""
    words: list[str] = []
    ends: list[int] = []
    match = (_FIRST_WORD if glued else _NEXT_WORD).match(text, start)
    while match and len(words) < _MOST_WORDS:
        words.append(match[1].lower())
        ends.append(match.end())
        match = _NEXT_WORD.match(text, match.end())
    return words, ends
