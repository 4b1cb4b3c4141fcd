"""Dates, times of day, years: digits read as ordinals, hours or in pairs, by the words around them."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules
from salad_eval.speakable.numbers import DIGITS, INT, START, cardinal, ordinal, plural, year

rules = Rules()

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = "|".join(_MONTHS)
_YEAR = r"(?:10[1-9][0-9]|1[1-9][0-9]{2}|20[0-9]{2})(?![0-9]|[.,][0-9])"  # four digits read in pairs where the words speak of a date


@rules.add(
    rf"(?<![A-Za-z])({'|'.join(name[:3] for name in _MONTHS if name != 'May')}|Sept)\.? (?=[0-9]{{1,2}}(?![0-9]))",
    needs=DIGITS,
)
def short_month(match: re.Match[str]) -> str:
    return next(name for name in _MONTHS if name.startswith(match.group(1)[:3])) + " "


@rules.add(rf"{START}([12][0-9]{{3}})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(?![0-9-])", needs=DIGITS)
def iso_date(match: re.Match[str]) -> str:
    return f"{_MONTHS[int(match.group(2)) - 1]} {ordinal(match.group(3))}, {year(match.group(1))}"


@rules.add(rf"{START}(?<!/)([0-9]{{1,2}})/([0-9]{{1,2}})/([12][0-9]{{3}}|[0-9]{{2}})(?![0-9/])", needs="/")
def slashed_date(match: re.Match[str]) -> str:
    month, day = int(match.group(1)), int(match.group(2))  # month first, as in the United States, if it can be
    if month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match.group()
    of_year = match.group(3)
    if len(of_year) == 2:
        words = (
            "two thousand"
            if of_year == "00"
            else f"oh {cardinal(of_year[1])}"
            if of_year[0] == "0"
            else cardinal(of_year)
        )
    else:
        words = year(of_year)
    return f"{_MONTHS[month - 1]} {ordinal(str(day))}, {words}"


_DAY = "3[01]|[12][0-9]|0?[1-9]"


@rules.add(
    rf"(?<![A-Za-z])({_MONTH}) ({_DAY})[-–]({_DAY})(?![0-9])(?:, ({_YEAR}))?"
    rf"|{START}({_DAY})[-–]({_DAY}) ({_MONTH})(?![A-Za-z])(?: ({_YEAR}))?",
    needs=DIGITS,
)
def days_of_month(match: re.Match[str]) -> str:
    month, first, last, of_year, first_2, last_2, month_2, of_year_2 = match.groups()
    days = f"{month} {ordinal(first)} to {ordinal(last)}" if month else ""
    days = days or f"the {ordinal(first_2)} to the {ordinal(last_2)} of {month_2}"
    return days + (f", {year(of_year or of_year_2)}" if of_year or of_year_2 else "")


@rules.add(rf"{START}([0-9]{{2,4}})[-–]([0-9]{{2,4}})(?= ?(?:B\. ?C|A\. ?D|BC|AD|CE|C\.E)(?![a-z]))", needs=DIGITS)
def years_of_era(match: re.Match[str]) -> str:
    return " to ".join(year(digits) if 1010 <= int(digits) < 2100 else cardinal(digits) for digits in match.groups())


@rules.add(
    rf"(?<![A-Za-z])({_MONTH}) (3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?(?![0-9A-Za-z:%/-]|[.,][0-9])(?:,? ({_YEAR}))?",
    needs=DIGITS,
)
def month_day_year(match: re.Match[str]) -> str:
    day = f"{match.group(1)} {ordinal(match.group(2))}"
    return f"{day}, {year(match.group(3))}" if match.group(3) else day


@rules.add(
    rf"(?<![A-Za-z])([Tt]he )?{START}(3[01]|[12][0-9]|0?[1-9])(st|nd|rd|th)?( of)? ({_MONTH})(?![A-Za-z])"
    rf"(?:,? ({_YEAR}))?",
    needs=DIGITS,
)
def day_month_year(match: re.Match[str]) -> str:
    the, day, ending, of, month, of_year = match.groups()
    if month == "May" and not (ending or of or of_year):  # "12 May be wrong"
        return match.group()
    words = f"{the or 'the '}{ordinal(day)} of {month}"
    return f"{words}, {year(of_year)}" if of_year else words


@rules.add(rf"(?<![A-Za-z])({_MONTH}|[Ss]pring|[Ss]ummer|[Aa]utumn|[Ww]inter),? ({_YEAR})(?! ?%)", needs=DIGITS)
def month_year(match: re.Match[str]) -> str:
    return f"{match.group(1)} {year(match.group(2))}"


@rules.add(r"(?<=:[0-9]{2})[-–](?=[0-9]{1,2}:[0-9]{2})", needs=":")
def time_range(match: re.Match[str]) -> str:
    return " to "


@rules.add(
    rf"{START}(?<![:.])(2[0-3]|[01]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9:])"
    r"(?: ?([AaPp])\.? ?[Mm]\.?(?![A-Za-z]))?",
    needs=DIGITS,
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


@rules.add(rf"{START}(1[0-2]|[1-9]) ?[-–] ?(?=(?:1[0-2]|[1-9]) ?[AaPp]\.?[Mm](?![A-Za-z]))", needs=DIGITS)
def hours_apart(match: re.Match[str]) -> str:
    return f"{match.group(1)} to "


@rules.add(rf"{START}(1[0-2]|[1-9]) ?([AaPp])\.?[Mm]\.?(?![A-Za-z])", needs=DIGITS)
def hour_of_day(match: re.Match[str]) -> str:
    return f"{cardinal(match.group(1))} {match.group(2).lower()}.m."


@rules.add(rf"{START}{INT}(?: ?: ?{INT}){{1,5}}(?![0-9:])", needs=":")
def ratio(match: re.Match[str]) -> str:
    return " to ".join(cardinal(part.strip()) for part in match.group().split(":"))


# --- years -----------------------------------------------------------------------------------------------------------

years = Rules()

_OF_DATE = "[Ii]n|[Ss]ince|[Uu]ntil|[Tt]ill|[Bb]efore|[Aa]fter|[Dd]uring|[Yy]ear|[Ee]arly|[Ll]ate|[Mm]id|[Cc]irca|AD"
_NOT_PLURALS = (
    "was|is|has|as|this|its|his|across|does|us|perhaps|besides|towards|always|sometimes|thus|unless|plus|versus"
)


@years.add(r"(?<![A-Za-z0-9])['’]([2-9]0)s(?![A-Za-z0-9])", needs=DIGITS)
def short_decade(match: re.Match[str]) -> str:
    return plural(cardinal(match.group(1)))


@years.add(rf"{START}(?<![$£€¥₹])((?:1[1-9]|20)[0-9]0|[1-9]00|[1-9]0)['’]?s(?![A-Za-z0-9])", needs=DIGITS)
def decade(match: re.Match[str]) -> str:
    digits = match.group(1)
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


@years.add(
    rf"{START}((?:1[1-9]|20)[0-9]{{2}})(?:–| – | - |-)((?:1[1-9]|20)[0-9]{{2}}|(?<=[0-9][-–])[0-9]{{2}})"
    r"(?![0-9A-Za-z]|[-–.,/][0-9])",
    needs=DIGITS,
)
def years_apart(match: re.Match[str]) -> str:
    first, second = match.groups()
    if len(second) == 2 and int(second) <= int(first[2:]):
        return match.group()
    return f"{year(first)} to {year(second) if len(second) == 4 else cardinal(second)}"


@years.add(
    rf"(?<![A-Za-z])([Bb]etween|[Ff]rom) ({_YEAR}) (and|to|until|through) ({_YEAR})(?! [a-z]{{2,20}}s(?![a-z])| ?%)",
    needs=DIGITS,
)
def years_between(match: re.Match[str]) -> str:
    between, first, link, second = match.groups()
    return f"{between} {year(first)} {link} {year(second)}"


@years.add(
    rf"(?<![A-Za-z])({_OF_DATE})( |-)({_YEAR})(?! ?(?:-(?!-)|[+=*/×÷%°]))(?! (?:[kcm]?m|[km]?g|mi|ft"
    rf"|[kM]?[JNWVKL]|[kMG]?Hz|k?Pa|m[lL])(?![A-Za-z]))"
    rf"(?! (?!(?:{_NOT_PLURALS})(?![a-z]))[a-z]{{2,20}}s(?![a-z]))",  # "in 1500 cases" speaks of no year
    needs=DIGITS,
)
def year_after_word(match: re.Match[str]) -> str:
    return match.group(1) + match.group(2) + year(match.group(3))


@years.add(rf"{START}({_YEAR})(?= (?:AD|BC|CE|BCE|A\.D\.|B\.C\.)(?![A-Za-z]))|(?<=\()({_YEAR})(?=\))", needs=DIGITS)
def year_alone(match: re.Match[str]) -> str:
    return year(match.group())


@years.add(
    rf"(?<=\()({_YEAR})(?=[,;] )|(?<=A\.D\. )({_YEAR})|(?<=[,;] )({_YEAR})(?=\))"
    rf"|(?<=[Aa]ct of )({_YEAR})|(?<=[a-z], )({_YEAR})(?=[:.]? *$)",
    needs=DIGITS,
)
def year_in_reference(match: re.Match[str]) -> str:
    return year(match.group())
