"""Written English to the words a speaker would say: ordered small rules with names, then a check of each character.

A synthesiser skips what it does not know without a word, and then a benchmark measures the skip. So nothing is left to
it: after the rules a text holds letters, the marks that shape its melody (``. , ; : ? ! ' " ( ) -``), nothing else. A
character with no spoken form raises ``Unspeakable``, and the item becomes a counted reject.

The text is untrusted. No rule backtracks over more than a number or a word, and a number is entered at its first digit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from num2words import num2words

from salad_eval.errors import SaladError


class Unspeakable(SaladError):
    """A written text that has no spoken form; ``reason`` says what in it cannot be said."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


# --- numbers in words ------------------------------------------------------------------------------------------------

MAX_CARDINAL_DIGITS = 15  # above a quadrillion nobody reads a number other than digit by digit
YEARS = range(1100, 2100)  # four digits that are read in pairs where the words around them speak of a date


@lru_cache(maxsize=4096)
def cardinal(digits: str) -> str:
    """``"1,234"`` to ``one thousand two hundred and thirty-four``; digit by digit if very long or after a zero."""
    plain = digits.replace(",", "")
    if len(plain) > MAX_CARDINAL_DIGITS or (len(plain) > 1 and plain[0] == "0"):
        return spelled(plain)
    return str(num2words(int(plain))).replace(",", "")


@lru_cache(maxsize=16)
def _digit(digit: str) -> str:
    return str(num2words(int(digit)))


def spelled(digits: str) -> str:
    """``"407"`` to ``four zero seven``."""
    return " ".join(_digit(digit) for digit in digits if digit.isdigit())


@lru_cache(maxsize=4096)
def number(written: str) -> str:
    """A number as written, ``1,234.50`` or ``.5`` or ``1.2.3``, in words; digits after a point are read one by one."""
    whole, *rest = written.split(".")
    return " point ".join([cardinal(whole or "0"), *(spelled(part) for part in rest)])


def ordinal(digits: str) -> str:
    """``"21"`` to ``twenty-first``."""
    plain = digits.replace(",", "")
    if len(plain) > MAX_CARDINAL_DIGITS:
        raise Unspeakable(f"an ordinal of {len(plain)} digits")
    return str(num2words(int(plain), to="ordinal")).replace(",", "")


def year(digits: str) -> str:
    """``"1905"`` to ``nineteen oh five``."""
    return str(num2words(int(digits), to="year")).replace("oh-", "oh ")


def _plural(word: str) -> str:
    """The plural of a number word: ``nineteen nineties``."""
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith("x") else "s")


# --- rules -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of written form and how it is said. The words are set off by spaces where they would touch a word.

    ``needs`` are characters of which the form has at least one: most texts have none of most, and the search is saved.
    """

    name: str
    pattern: re.Pattern[str]
    needs: frozenset[str]
    say: Callable[[re.Match[str]], str]

    def __call__(self, text: str) -> str:
        if self.needs and self.needs.isdisjoint(text):
            return text

        def replace(match: re.Match[str]) -> str:
            words = self.say(match)
            if not words or words == match.group():
                return words
            before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
            left = " " if before.isalnum() and words[0].isalnum() else ""
            right = " " if after.isalnum() and words[-1].isalnum() else ""
            return left + words + right

        return self.pattern.sub(replace, text)


RULES: list[Rule] = []


def _rule(pattern: str, needs: str = "") -> Callable[[Callable[[re.Match[str]], str]], Callable[[re.Match[str]], str]]:
    """Add a function to the end of ``RULES`` under its own name. The order below is the order they are applied in."""

    def add(say: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        RULES.append(Rule(say.__name__.strip("_"), re.compile(pattern), frozenset(needs), say))
        return say

    return add


# A number is entered at its first digit only (no digit, or point or comma after a digit, before it): each is read once.
_START = r"(?<![0-9])(?<![0-9][.,])"
_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUM = rf"(?:{_INT}(?:\.[0-9]+)?|(?<![A-Za-z0-9])\.[0-9]+)"
_END = r"(?![A-Za-z0-9])"
_DIGITS = "0123456789"
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = "|".join(_MONTHS)
_YEAR = r"(?:1[1-9][0-9]{2}|20[0-9]{2})(?![0-9]|[.,][0-9])"


@_rule(
    r"\\[A-Za-z]+|\\[()\[\]]|</?[A-Za-z][A-Za-z0-9]{0,20}(?: [^<>\n]{0,200})?/?>|&(?:[a-z]{2,8}|#[0-9]{1,6});",
    needs="\\<&",
)
def markup(match: re.Match[str]) -> str:
    raise Unspeakable(f"markup that no reader would say aloud: {match.group()[:40]!r}")


@_rule(r"(?m)^ ?(?:\(([A-J])\)|([A-J])\)) +(?=\S)", needs=")")
def option_in_brackets(match: re.Match[str]) -> str:
    return f"{match.group(1) or match.group(2)}: "


@_rule(r"(?<![^\n])A\. (?=[^\n]*\nB\. )|(?<=\n)[B-J]\. ", needs="\n")
def option_in_list(match: re.Match[str]) -> str:
    # "A. Einstein" alone may be a name; with a line "B. …" below it, it is a list. A lone "B. Franklin" at the start of
    # a later line is read as an option: a pause too many, no word too few.
    return f"{match.group()[0]}: "


@_rule(r"(?<=[^\n])\n(?=[A-J]: )", needs="\n")
def pause_before_option(match: re.Match[str]) -> str:
    return " " if match.string[match.start() - 1] in ".,;:?!" else "; "


@_rule(r"_{2,}|(?<!\S)_(?!\S)", needs="_")
def blank(match: re.Match[str]) -> str:
    return "blank"


@_rule(
    r"(?<![^\s(\"'])(?:https?://|www\.)[A-Za-z0-9./_~%?=&#:+-]{1,300}"
    r"|(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}\.[a-z]{2,20}",
    needs="./@",
)
def web_address(match: re.Match[str]) -> str:
    written = match.group()
    address = written.rstrip(".?:")
    names = {
        ".": "dot", "/": "slash", ":": "colon", "@": "at", "-": "dash", "_": "underscore", "~": "tilde", "%": "percent",
        "?": "question mark", "=": "equals", "&": "and", "#": "hash", "+": "plus",
    }  # fmt: skip
    parts = re.findall(r"[A-Za-z]+|[0-9]+|.", address)
    words = [names.get(part, spelled(part) if part.isdigit() else part) for part in parts]
    return " ".join(words) + written[len(address) :]


@_rule(r"(?<![A-Za-z.])[a-z0-9]{2,40}\.[a-z]{2,20}(?![A-Za-z.])", needs=".")
def file_name(match: re.Match[str]) -> str:
    stem, ending = match.group().split(".")
    return match.group() if stem.isdigit() else f"{stem} dot {ending}"


# --- abbreviations

_ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Ms", "Prof.": "Professor", "Jr.": "Junior", "Sr.": "Senior",
    "Mt.": "Mount", "Gen.": "General", "Col.": "Colonel", "Lt.": "Lieutenant", "Capt.": "Captain", "Sgt.": "Sergeant",
    "Gov.": "Governor", "Sen.": "Senator", "Rep.": "Representative", "Rev.": "Reverend", "Ave.": "Avenue",
    "Blvd.": "Boulevard", "Rd.": "Road", "Inc.": "Incorporated", "Ltd.": "Limited", "Corp.": "Corporation",
    "Dept.": "Department", "approx.": "approximately", "Approx.": "Approximately", "vs.": "versus", "vs": "versus",
    "cf.": "compare", "viz.": "namely", "ca.": "circa", "e.g.": "for example", "E.g.": "For example",
    "i.e.": "that is", "I.e.": "That is", "w/o": "without", "w/": "with", "etc.": "et cetera", "et al.": "and others",
}  # fmt: skip
_FULL_STOP_STAYS = {"etc.", "Jr.", "Sr.", "Inc.", "Ltd.", "Corp.", "et al.", "Ave.", "Blvd.", "Rd."}


@_rule(
    r"(?<![A-Za-z.])(?:"
    + "|".join(re.escape(short) for short in sorted(_ABBREVIATIONS, key=len, reverse=True))
    + r")(?![A-Za-z])(?=( [A-Z]|\s*$)?)"
)
def abbreviation(match: re.Match[str]) -> str:
    # At the end of a sentence one full stop does two duties, and the second one is still needed.
    ends_sentence = match.group(1) is not None and match.group() in _FULL_STOP_STAYS
    return _ABBREVIATIONS[match.group()] + ("." if ends_sentence else "")


@_rule(r"(?<![A-Za-z.])(St|Dr)\.( (?=[A-Z]))?", needs=".")
def saint_street_doctor_drive(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 30) : match.start()]
    named = re.search(r"[A-Z0-9][a-z0-9]+ $", before) is not None
    title, road = {"St": ("Saint", "Street"), "Dr": ("Doctor", "Drive")}[match.group(1)]
    if match.group(2):
        return f"{title} "
    at_end = not match.string[match.end() :].strip()
    return (road if named else title) + ("." if at_end else "")


_BEFORE_NUMBER = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "eq": "equation", "eqs": "equations",
    "p": "page", "pp": "pages", "ch": "chapter", "sec": "section", "vol": "volume", "c": "circa", "art": "article",
}  # fmt: skip


@_rule(rf"(?i)(?<![A-Za-z.])({'|'.join(sorted(_BEFORE_NUMBER, key=len, reverse=True))})\. ?(?=[0-9])", needs=_DIGITS)
def abbreviation_before_number(match: re.Match[str]) -> str:
    word = _BEFORE_NUMBER[match.group(1).lower()]
    return (word.capitalize() if match.group(1)[0].isupper() else word) + " "


@_rule(
    rf"(?<![A-Za-z])({'|'.join(name[:3] for name in _MONTHS if name != 'May')}|Sept)\.? (?=[0-9]{{1,2}}(?![0-9]))",
    needs=_DIGITS,
)
def short_month(match: re.Match[str]) -> str:
    return next(name for name in _MONTHS if name.startswith(match.group(1)[:3])) + " "


_ROMAN = {
    "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12,
    "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
}  # fmt: skip
_ROMANS = "|".join(sorted(_ROMAN, key=len, reverse=True))
_COUNTED = (
    "War|Chapter|chapter|Part|part|Act|Volume|volume|Book|Phase|phase|Type|type|Stage|stage|Class|class|Section|Article"
)
_RULERS = (
    "Henry|Louis|Charles|George|Edward|William|Elizabeth|James|Richard|Philip|Napoleon|Catherine|Frederick|Wilhelm|Pius"
)


@_rule(rf"(?<![A-Za-z])({_COUNTED}) ({_ROMANS})(?![A-Za-z0-9'.-])", needs="IVX")
def roman_cardinal(match: re.Match[str]) -> str:
    return f"{match.group(1)} {cardinal(str(_ROMAN[match.group(2)]))}"


@_rule(rf"(?<![A-Za-z])({_RULERS}) ({_ROMANS})(?![A-Za-z0-9-])", needs="IVX")
def roman_ordinal(match: re.Match[str]) -> str:
    return f"{match.group(1)} the {ordinal(str(_ROMAN[match.group(2)]))}"


# --- dates and times


@_rule(rf"{_START}([12][0-9]{{3}})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(?![0-9-])", needs=_DIGITS)
def iso_date(match: re.Match[str]) -> str:
    return f"{_MONTHS[int(match.group(2)) - 1]} {ordinal(match.group(3))}, {year(match.group(1))}"


@_rule(rf"{_START}(?<!/)([0-9]{{1,2}})/([0-9]{{1,2}})/([12][0-9]{{3}})(?![0-9/])", needs=_DIGITS)
def slashed_date(match: re.Match[str]) -> str:
    month, day = int(match.group(1)), int(match.group(2))  # month first, as in the United States, if it can be
    if month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match.group()
    return f"{_MONTHS[month - 1]} {ordinal(str(day))}, {year(match.group(3))}"


@_rule(
    rf"(?<![A-Za-z])({_MONTH}) (3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?(?![0-9A-Za-z:%/-]|[.,][0-9])(?:,? ({_YEAR}))?",
    needs=_DIGITS,
)
def month_day_year(match: re.Match[str]) -> str:
    day = f"{match.group(1)} {ordinal(match.group(2))}"
    return f"{day}, {year(match.group(3))}" if match.group(3) else day


@_rule(
    rf"(?<![A-Za-z])([Tt]he )?{_START}(3[01]|[12][0-9]|0?[1-9])(st|nd|rd|th)?( of)? ({_MONTH})(?![A-Za-z])"
    rf"(?:,? ({_YEAR}))?",
    needs=_DIGITS,
)
def day_month_year(match: re.Match[str]) -> str:
    the, day, ending, of, month, of_year = match.groups()
    if month == "May" and not (ending or of or of_year):  # "12 May be wrong"
        return match.group()
    words = f"{the or 'the '}{ordinal(day)} of {month}"
    return f"{words}, {year(of_year)}" if of_year else words


@_rule(rf"(?<![A-Za-z])({_MONTH}|[Ss]pring|[Ss]ummer|[Aa]utumn|[Ww]inter),? ({_YEAR})(?! ?%)", needs=_DIGITS)
def month_year(match: re.Match[str]) -> str:
    return f"{match.group(1)} {year(match.group(2))}"


@_rule(r"(?<=:[0-9]{2})[-–](?=[0-9]{1,2}:[0-9]{2})", needs=":")
def time_range(match: re.Match[str]) -> str:
    return " to "


@_rule(
    rf"{_START}(?<![:.])(2[0-3]|[01]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9:])"
    r"(?: ?([AaPp])\.?[Mm]\.?(?![A-Za-z]))?",
    needs=_DIGITS,
)
def time_of_day(match: re.Match[str]) -> str:
    hour, minute, second, half = match.groups()
    words = cardinal(str(int(hour)))
    if int(minute):
        words += f" oh {cardinal(minute[1])}" if minute[0] == "0" else f" {cardinal(minute)}"
    elif second is None and half is None:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    elif second is not None:
        words += " oh oh"
    if second is not None:
        words += f" and {cardinal(str(int(second)))} second{'' if int(second) == 1 else 's'}"
    return words + (f" {half.lower()}.m." if half else "")


@_rule(rf"{_START}(1[0-2]|[1-9]) ?([AaPp])\.?[Mm]\.?(?![A-Za-z])", needs=_DIGITS)
def hour_of_day(match: re.Match[str]) -> str:
    return f"{cardinal(match.group(1))} {match.group(2).lower()}.m."


@_rule(rf"{_START}{_INT}(?: ?: ?{_INT}){{1,5}}(?![0-9:])", needs=":")
def ratio(match: re.Match[str]) -> str:
    return " to ".join(cardinal(part.strip()) for part in match.group().split(":"))


# --- money

_CURRENCY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_SCALE = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "bn": "billion",
    "B": "billion", "b": "billion", "tn": "trillion", "T": "trillion",
}  # fmt: skip


@_rule(
    rf"([-−]?)([$£€¥₹]) ?({_NUM})"
    rf"(?:( (?:hundred|thousand|million|billion|trillion))(?![a-z])|(k|K|mn|m|M|bn|b|B|tn|T){_END})?",
    needs="$£€¥₹",
)
def money(match: re.Match[str]) -> str:
    sign, symbol, amount, scale_word, scale_letter = match.groups()
    one, many, cent, cents = _CURRENCY[symbol]
    minus = "minus " if sign else ""
    scale = scale_word or (f" {_SCALE[scale_letter]}" if scale_letter else "")
    whole, point, part = amount.partition(".")
    if scale or (point and len(part) != 2):
        return f"{minus}{number(amount)}{scale} {many}"
    words = f"{cardinal(whole or '0')} {one if whole == '1' else many}"
    if point and int(part):
        small = f"{cardinal(str(int(part)))} {cent if int(part) == 1 else cents}"
        words = small if whole in ("", "0") else f"{words} and {small}"
    return minus + words


@_rule(rf"{_START}({_NUM}) ?¢", needs=_DIGITS)
def cents(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} cent{'' if match.group(1) == '1' else 's'}"


@_rule(r"[$£€¥₹¢]", needs="$£€¥₹¢")
def lone_currency(match: re.Match[str]) -> str:
    raise Unspeakable(f"a currency sign without an amount ({match.group()!r}); it may be the mark-up of a formula")


# --- years

_OF_DATE = "[Ii]n|[Ss]ince|[Uu]ntil|[Tt]ill|[Bb]efore|[Aa]fter|[Dd]uring|[Yy]ear|[Ee]arly|[Ll]ate|[Mm]id|[Cc]irca|AD"
_NOT_PLURALS = (
    "was|is|has|as|this|its|his|across|does|us|perhaps|besides|towards|always|sometimes|thus|unless|plus|versus"
)


@_rule(r"(?<![A-Za-z0-9])['’]([2-9]0)s(?![A-Za-z0-9])", needs=_DIGITS)
def short_decade(match: re.Match[str]) -> str:
    return _plural(cardinal(match.group(1)))


@_rule(rf"{_START}(?<![$£€¥₹])((?:1[1-9]|20)[0-9]0|[1-9]0)['’]?s(?![A-Za-z0-9])", needs=_DIGITS)
def decade(match: re.Match[str]) -> str:
    digits = match.group(1)
    return _plural(year(digits) if len(digits) == 4 else cardinal(digits))


@_rule(
    rf"{_START}((?:1[1-9]|20)[0-9]{{2}})(?:–| – |-)((?:1[1-9]|20)[0-9]{{2}}|(?<=[0-9][-–])[0-9]{{2}})"
    r"(?![0-9A-Za-z]|[-–.,/][0-9])",
    needs=_DIGITS,
)
def years_apart(match: re.Match[str]) -> str:
    first, second = match.groups()
    if len(second) == 2 and int(second) <= int(first[2:]):
        return match.group()
    return f"{year(first)} to {year(second) if len(second) == 4 else cardinal(second)}"


@_rule(
    rf"(?<![A-Za-z])([Bb]etween|[Ff]rom) ({_YEAR}) (and|to|until|through) ({_YEAR})(?! [a-z]{{2,20}}s(?![a-z])| ?%)",
    needs=_DIGITS,
)
def years_between(match: re.Match[str]) -> str:
    between, first, link, second = match.groups()
    return f"{between} {year(first)} {link} {year(second)}"


@_rule(
    rf"(?<![A-Za-z])({_OF_DATE})( |-)({_YEAR})(?! ?[-+=*/×÷%])"
    rf"(?! (?!(?:{_NOT_PLURALS})(?![a-z]))[a-z]{{2,20}}s(?![a-z]))",  # "in 1500 cases" speaks of no year
    needs=_DIGITS,
)
def year_after_word(match: re.Match[str]) -> str:
    return match.group(1) + match.group(2) + year(match.group(3))


@_rule(rf"{_START}({_YEAR})(?= (?:AD|BC|CE|BCE)(?![A-Za-z]))|(?<=\()({_YEAR})(?=\))", needs=_DIGITS)
def year_alone(match: re.Match[str]) -> str:
    return year(match.group())


# --- signs and ranges of numbers: these leave the digits to the rules below


@_rule(rf"{_START}(?<![-/])(?:[0-9]{{3}}-)?[0-9]{{3}}-[0-9]{{4}}(?![0-9A-Za-z-])", needs=_DIGITS)
def phone_number(match: re.Match[str]) -> str:
    return ", ".join(spelled(part) for part in match.group().split("-"))


@_rule(rf"{_START}(?<![A-Za-z]-)(?<![A-Za-z])({_NUM}%?)[-–]({_NUM})(?![0-9]|[-–][0-9])", needs="-–")
def number_range(match: re.Match[str]) -> str:
    return f"{match.group(1)} to {match.group(2)}"


@_rule(rf"(?<![\w)\].'-])[-−](?={_NUM})", needs=_DIGITS)
def negative_number(match: re.Match[str]) -> str:
    return "minus "


@_rule(r"(?<=[0-9)]) - (?=[0-9(]|[A-Za-z](?![A-Za-z]))|(?<=[^A-Za-z0-9'][A-Za-z]) - (?=[0-9])", needs="-")
def minus(match: re.Match[str]) -> str:
    return " minus "


# --- powers and indices

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_SUPERS, _SUBS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋"


def _said(expression: str) -> str:
    """A short exponent or index, ``-3`` or ``2n`` or ``10+``, token by token."""
    tokens = re.findall(r"[0-9]+|[A-Za-z]|[+−-]", expression)
    signs = {"+": "plus", "-": "minus", "−": "minus"}
    return " ".join(signs.get(token) or (cardinal(token) if token.isdigit() else token) for token in tokens)


def _power(exponent: str) -> str:
    exponent = exponent.strip("{}()")
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    if exponent[-1] in "+-":  # the charge of an ion
        return f" {_said(exponent)}"
    return f" to the power of {_said(exponent)}"


@_rule(rf"{_START}({_NUM})[eE]([+-]?[0-9]{{1,4}}){_END}", needs=_DIGITS)
def scientific(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} times ten to the power of {_said(match.group(2).lstrip('+'))}"


_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "μm": "micrometer",
    "mi": "mile", "ft": "foot", "yd": "yard", "kg": "kilogram", "g": "gram", "mg": "milligram", "μg": "microgram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "L": "liter", "l": "liter", "mL": "milliliter", "ml": "milliliter",
    "s": "second", "ms": "millisecond", "μs": "microsecond", "ns": "nanosecond", "sec": "second", "min": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "W": "watt", "kW": "kilowatt",
    "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour", "J": "joule", "kJ": "kilojoule", "MJ": "megajoule",
    "N": "newton", "kN": "kilonewton", "Pa": "pascal", "kPa": "kilopascal", "hPa": "hectopascal", "MPa": "megapascal",
    "atm": "atmosphere", "mol": "mole", "mmol": "millimole", "eV": "electronvolt", "keV": "kiloelectronvolt",
    "MeV": "megaelectronvolt", "GeV": "gigaelectronvolt", "dB": "decibel", "cal": "calorie", "kcal": "kilocalorie",
    "K": "kelvin", "Ω": "ohm", "kΩ": "kiloohm", "MΩ": "megaohm", "mA": "milliampere", "kB": "kilobyte",
    "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "mph": "mile per hour",
    "kph": "kilometer per hour", "km/h": "kilometer per hour", "rpm": "revolution per minute",
    "bpm": "beat per minute", "ppm": "part per million", "ppb": "part per billion", "°C": "degree Celsius",
    "°F": "degree Fahrenheit", "°": "degree", "ha": "hectare", "Å": "angstrom", "lm": "lumen", "lx": "lux",
}  # fmt: skip
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_SAME_PLURAL = {"hertz", "kilohertz", "megahertz", "gigahertz", "kelvin", "lux"}
_OPERATORS = tuple("+=*^/×÷·<>−")


def _unit(unit: str, exponent: str, many: bool) -> str:
    name = _UNITS[unit]
    if many and name not in _SAME_PLURAL:
        split = next((at for mark in (" per ", " Celsius", " Fahrenheit") if (at := name.find(mark)) > 0), len(name))
        name = ("feet" if name == "foot" else name[:split] + "s") + name[split:] * (name != "foot")
    if exponent and "second" in name:
        return f"{name} {'squared' if exponent == '2' else 'cubed'}"
    return {"2": "square ", "3": "cubic "}.get(exponent, "") + name


@_rule(
    rf"{_START}(?<![A-Za-z])({_NUM})( thousand| million| billion| trillion)?( ?|-)({_UNIT})(?:\^?([23²³])(?![0-9]))?"
    rf"(?:(?: ?/ ?| per )({_UNIT})(?:\^?([23²³])(?![0-9]))?)?(?![A-Za-z0-9°])",
    needs=_DIGITS,
)
def quantity(match: re.Match[str]) -> str:
    amount, scale, link, unit, exponent, per, per_exponent = match.groups()
    before, after = match.string[: match.start()][-4:].rstrip(), match.string[match.end() :][:4].lstrip()
    if (
        link == ""
        and len(unit) == 1
        and unit.isalpha()
        and (before.endswith(_OPERATORS) or after.startswith(_OPERATORS))
    ):
        return match.group()  # "3m + 4" is algebra
    many = link != "-" and (amount != "1" or scale is not None)
    words = f"{number(amount)}{scale or ''} {_unit(unit, (exponent or '').translate(_SUPER), many)}"
    return words + (f" per {_unit(per, (per_exponent or '').translate(_SUPER), False)}" if per else "")


@_rule(
    r"\^(\{[+-]?[A-Za-z0-9]{1,12}\}|\([+-]?[A-Za-z0-9]{1,12}\)|[+-]?[0-9]{1,12}|[A-Za-z])(?![A-Za-z])"
    rf"|[{_SUPERS}]+",
    needs=f"^{_SUPERS}",
)
def power(match: re.Match[str]) -> str:
    return _power(match.group(1) or match.group().translate(_SUPER))


@_rule(
    rf"(?<=([A-Za-z0-9)]))_?"
    rf"(?:([{_SUBS}]+)|(?<=[A-Za-z]_)\{{([A-Za-z0-9]{{1,12}})\}}|(?<=\b[A-Za-z]_)([0-9]{{1,6}}){_END})",
    needs=f"_{_SUBS}",
)
def index(match: re.Match[str]) -> str:
    before, small, braced, plain = match.groups()
    words = _said((small or "").translate(_SUB) or braced or plain)
    # A lone small letter is a variable with an index; anything else is taken for a chemical formula.
    variable = before.islower() and not match.string[max(0, match.start() - 2) : match.start() - 1].isalpha()
    return f" {words}" if small and not variable else f" sub {words}"


# --- plain numbers


@_rule(r"(?<![0-9])([0-9]{1,2})'([0-9]{1,2})\"", needs=_DIGITS)
def feet_and_inches(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    foot_word, inch_word = "foot" if feet == "1" else "feet", "inch" if inches == "1" else "inches"
    return f"{cardinal(feet)} {foot_word} {cardinal(inches)} {inch_word}"


@_rule(rf"{_START}({_INT})(?:st|nd|rd|th)(?![A-Za-z0-9])", needs=_DIGITS)
def ordinal_number(match: re.Match[str]) -> str:
    return ordinal(match.group(1))


_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
    "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip


def _fraction(above: int, below: int) -> str:
    name = {2: "half", 4: "quarter"}.get(below) or ordinal(str(below))
    many = "halves" if below == 2 else f"{name}s"
    return f"{cardinal(str(above))} {name if above == 1 else many}"


@_rule(rf"(?:{_START}([0-9]{{1,6}}) ?)?([{''.join(_VULGAR)}])", needs="".join(_VULGAR))
def vulgar_fraction(match: re.Match[str]) -> str:
    whole = f"{cardinal(match.group(1))} and " if match.group(1) else ""
    return whole + _fraction(*_VULGAR[match.group(2)])


@_rule(
    rf"{_START}(?<!/)(?:([0-9]{{1,4}}) )?([0-9]{{1,2}})/(10|16|32|64|100|[2-9])(?![0-9A-Za-z/]|[.,][0-9])",
    needs=_DIGITS,
)
def written_fraction(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    if int(above) >= int(below) and whole is None and int(above) != 0:
        return f"{cardinal(above)} over {cardinal(below)}"
    return (f"{cardinal(whole)} and " if whole else "") + _fraction(int(above), int(below))


@_rule(
    r"(?<![A-Za-z0-9])([A-Za-z]) - ([A-Za-z0-9])(?![A-Za-z])|(?<![A-Za-z])([A-Za-z]|[0-9]) ?[*∗] ?(?=[A-Za-z0-9(])",
    needs="-*∗",
)
def minus_and_times_of_letters(match: re.Match[str]) -> str:
    return f"{match.group(1)} minus {match.group(2)}" if match.group(1) else f"{match.group(3)} times "


@_rule(r"(?<=[0-9)]) ?[xX] ?(?=[0-9])(?=[0-9])", needs=_DIGITS)
def times_between_numbers(match: re.Match[str]) -> str:
    return " times "


@_rule(r"(?<=[0-9)]) ?/ ?(?=[0-9(])", needs=_DIGITS)
def over(match: re.Match[str]) -> str:
    return " over "


@_rule(r"#(?= ?[0-9])|№ ?", needs="#№")
def number_sign(match: re.Match[str]) -> str:
    return "number "


@_rule(r"(?<![A-Za-z])([A-G])([#♯♭])(?![A-Za-z])", needs="#♯♭")
def sharp_or_flat(match: re.Match[str]) -> str:
    return f"{match.group(1)} {'flat' if match.group(2) == '♭' else 'sharp'}"


@_rule(r"~ ?(?=[0-9])", needs=_DIGITS)
def about(match: re.Match[str]) -> str:
    return "about "


@_rule(rf"{_START}(?:{_INT}(?:\.[0-9]+)*|(?<![A-Za-z0-9])\.[0-9]+(?:\.[0-9]+)*)|[0-9]+", needs=_DIGITS)
def plain_number(match: re.Match[str]) -> str:
    return number(match.group())


# --- signs

_SIGNS = {
    "+/-": "plus or minus", "<=>": "if and only if", "<=": "less than or equal to", ">=": "greater than or equal to",
    "!=": "not equal to", "==": "equals", "->": "to", "=>": "implies", "<-": "from", ">>": "much greater than",
    "<<": "much less than", "+": "plus", "=": "equals", "<": "less than", ">": "greater than", "&": "and",
    "%": "percent", "@": "at", "#": "hash", "*": "asterisk", "/": "slash", "\\": "backslash", "|": "vertical bar",
    "^": "caret", "~": "tilde", "_": "underscore", "`": "backtick", "[": "open bracket", "]": "close bracket",
    "{": "open brace", "}": "close brace", "−": "minus", "±": "plus or minus", "∓": "minus or plus", "×": "times",
    "÷": "divided by", "·": "times", "∙": "times", "⋅": "times", "∗": "times", "∘": "composed with",
    "≤": "less than or equal to", "≥": "greater than or equal to", "≠": "not equal to", "≈": "approximately equal to",
    "≅": "congruent to", "≡": "identical to", "∼": "similar to", "∝": "proportional to", "∞": "infinity",
    "√": "square root of", "∑": "sum of", "∏": "product of", "∫": "integral of", "∂": "partial", "∇": "nabla",
    "∆": "delta", "∈": "in", "∉": "not in", "∪": "union", "∩": "intersection", "⊂": "subset of",
    "⊆": "subset of or equal to", "⊃": "superset of", "∅": "the empty set", "∀": "for all", "∃": "there exists",
    "¬": "not", "∧": "and", "∨": "or", "∴": "therefore", "∵": "because", "∠": "angle", "⊥": "perpendicular to",
    "∥": "parallel to", "△": "triangle", "→": "to", "←": "from", "↔": "to and from", "⇒": "implies",
    "⇔": "if and only if", "⇌": "in equilibrium with", "↑": "up", "↓": "down", "°C": "degrees Celsius",
    "°F": "degrees Fahrenheit", "°": "degrees", "º": "degrees", "′": "prime", "″": "double prime", "‰": "per mille",
    "§": "section", "¶": "paragraph", "©": "copyright", "®": "registered", "™": "trademark", "†": "dagger",
    "‡": "double dagger", "•": "bullet", "ℓ": "l", "ℏ": "h bar", "♯": "sharp", "♭": "flat", "♀": "female",
    "♂": "male", "✓": "check mark", "✗": "cross", "ℝ": "the real numbers", "ℤ": "the integers",
    "ℕ": "the natural numbers", "ℚ": "the rational numbers", "ℂ": "the complex numbers",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "ο": "omicron", "π": "pi", "ρ": "rho",
    "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
_GREEK |= {name.upper(): word for name, word in _GREEK.items()} | {
    "ς": "sigma",
    "ϵ": "epsilon",
    "ϕ": "phi",
    "ϑ": "theta",
}
_GREEK |= {"ϱ": "rho", "ϖ": "pi"}


@_rule("[" + "".join(_GREEK) + "]", needs="".join(_GREEK))
def greek_letter(match: re.Match[str]) -> str:
    return _GREEK[match.group()]


@_rule("|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True)), needs="".join(_SIGNS))
def sign(match: re.Match[str]) -> str:
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    left = "" if before.isspace() or before in '("' else " "
    right = "" if after.isspace() or after in ').,;:?!"' else " "
    return left + _SIGNS[match.group()] + right


# --- before and after the rules --------------------------------------------------------------------------------------

_SAME = str.maketrans({
    "’": "'", "‘": "'", "‛": "'", "ʻ": "'", "ʼ": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"',
    "»": '"', "‐": "-", "‑": "-", "‒": "–", "―": "—", "…": "...", "µ": "μ", "⁄": "/", "∕": "/", "℃": "°C",
    "℉": "°F", "˚": "°", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ß": "ss", "æ": "ae",
    "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th", "ð": "th", "Ð": "Th", "ı": "i",
    # These have no width and no sound: hints to a typesetter and marks of a file's beginning.
    "\u00ad": "", "\u200b": "", "\u200c": "", "\u200d": "", "\u200e": "", "\u200f": "", "\u2060": "", "\ufeff": "",
})  # fmt: skip
_PROSODY = frozenset(".,;:?!'\"()- ")
MAX_ROUNDS = 8  # one does nearly always; a second finds what the first brought together


def _unify(text: str) -> str:
    """One form for characters that look alike, composed; runs of blanks to one, line ends kept."""
    text = unicodedata.normalize("NFC", text).translate(_SAME)
    text = "".join(
        unicodedata.normalize("NFKC", c) if "\ufb00" <= c <= "\ufb06" or "\uff01" <= c <= "\uff5e" else c for c in text
    )
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _tidy(text: str) -> str:
    """Dashes as the pauses they are, blanks where they belong."""
    text = re.sub(r"\s*(?:—|--+|(?<=\s)–(?=\s))\s*", ", ", text).replace("–", "-")
    text = re.sub(r"\s+([.,;:?!)])", r"\1", re.sub(r"\(\s+", "(", " ".join(text.split())))
    return re.sub(r"^(?:, ?)+|,(?=[,.;:?!])", "", text).strip()


def _plain_letter(character: str) -> str:
    """A letter of the Latin alphabet with marks English does not use, as the letter under them."""
    if character <= "\u00ff" or not unicodedata.name(character, "").startswith("LATIN "):
        return character
    base = unicodedata.normalize("NFD", character)[0]
    return base if base.isascii() else character


def _check(text: str) -> None:
    for character in text:
        latin = character.isalpha() and (character.isascii() or "\u00c0" <= character <= "\u00ff")
        if not (latin or character in _PROSODY):
            name = unicodedata.name(character, "an unnamed character")
            raise Unspeakable(f"no spoken form for {character!r} (U+{ord(character):04X}, {name})")


def to_spoken(text: str) -> str:
    """The words a reader would say for a written English text, with the punctuation that shapes its melody.

    Pure, and the identity on its own results. Plain English comes back as it is but for its whitespace. Raises
    ``Unspeakable`` where a character or a piece of mark-up has no spoken form, so that nothing is dropped in silence.
    """
    written = _unify(text)
    for _ in range(MAX_ROUNDS):
        spoken = written
        for rule in RULES:
            spoken = rule(spoken)
        spoken = _tidy("".join(map(_plain_letter, spoken)))
        if spoken == written:
            _check(spoken)
            return spoken
        written = spoken
    _check(written)
    raise Unspeakable(f"the text does not come to rest when its written forms are replaced: {text!r:.80}")
