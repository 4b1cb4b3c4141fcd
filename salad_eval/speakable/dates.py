"""Dates, times of day, years: digits read as ordinals, hours or in pairs, by the words around them."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, before
from salad_eval.speakable.numbers import DIGITS, NUM, START, cardinal, number, ordinal, plural, year
from salad_eval.speakable.signs import is_sum

rules = Rules()

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = "|".join(_MONTHS)
_YEAR = r"(?:10[1-9][0-9]|1[1-9][0-9]{2}|20[0-9]{2})(?![0-9]|[.,][0-9])"  # four digits read in pairs where the words speak of a date


_SHORT = "|".join(name[:3] for name in _MONTHS if name != "May") + "|Sept"


@rules.add(
    rf"(?<![A-Za-z])({_SHORT})\.? (?=[0-9]{{1,2}}(?![0-9])|{_YEAR})|(?<=[0-9] )({_SHORT})\.?(?=,? {_YEAR})"
    rf"|(?<=[0-9]-)({_SHORT})(?=-(?:{_YEAR}|[0-9]{{2}}(?![0-9])))",
    needs=DIGITS,
)
def short_month(match: re.Match[str]) -> str:
    short = match.group(1) or match.group(2) or match.group(3)
    return next(name for name in _MONTHS if name.startswith(short[:3])) + (" " if match.group(1) else "")


def _date(of_year: str, month: int, day: int) -> str:
    return f"{_MONTHS[month - 1]} {ordinal(str(day))}, {_year_of_date(of_year)}"


def _year_of_date(digits: str) -> str:
    """A year of four digits, or of two: ``"05"`` is *oh five*."""
    if len(digits) == 4:
        return year(digits)
    if digits == "00":
        return "two thousand"
    return f"oh {cardinal(digits[1])}" if digits[0] == "0" else cardinal(digits)


# The last digit, or before a time of day, which then stands apart: 2021-01-05T10:30.
_END = r"(?![0-9]|[-/.][0-9]|[A-SU-Za-z])(?:T(?=[0-9]{2}:?[0-9]{2})| (?=[0-2]?[0-9]:[0-5][0-9]))?"


@rules.add(
    rf"{START}(?<![-/A-Za-z])([12][0-9]{{3}})([-/.])(0?[1-9]|1[0-2])\2(0?[1-9]|[12][0-9]|3[01]){_END}",
    needs=DIGITS,
    also="-/.",
)
def iso_date(match: re.Match[str]) -> str:
    of_year, _, month, day = match.groups()
    return _date(of_year, int(month), int(day)) + (", " if match.group()[-1] in "T " else "")


@rules.add(
    rf"{START}(?<![-/A-Za-z])(0?[1-9]|[12][0-9]|3[01])([-.])(0?[1-9]|[12][0-9]|3[01])\2([12][0-9]{{3}}){_END}",
    needs=DIGITS,
    also="-.",
)
def dotted_date(match: re.Match[str]) -> str:
    # With full stops the day comes first, as in Europe; with hyphens the month, as in the United States, if it can.
    first, mark, second, of_year = match.groups()
    day, month = (int(first), int(second)) if mark == "." else (int(second), int(first))
    if month > 12:
        day, month = month, day
    if month > 12:
        return match.group()
    return _date(of_year, month, day) + (", " if match.group()[-1] in "T " else "")


@rules.add(rf"{START}(3[01]|[12][0-9]|0?[1-9])-({_MONTH})-({_YEAR}|[0-9]{{2}}(?![0-9]))", needs=DIGITS, also="-")
def date_with_hyphens(match: re.Match[str]) -> str:
    day, month, of_year = match.groups()
    return f"{month} {ordinal(day)}, {_year_of_date(of_year)}"


@rules.add(rf"{START}(?<!/)([0-9]{{1,2}})/([0-9]{{1,2}})/([12][0-9]{{3}}|[0-9]{{2}})(?![0-9/])", needs=DIGITS, also="/")
def slashed_date(match: re.Match[str]) -> str:
    month, day = int(match.group(1)), int(match.group(2))  # month first, as in the United States, if it can be
    if month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match.group()
    return _date(match.group(3), month, day)


_DAY = "3[01]|[12][0-9]|0?[1-9]"


@rules.add(
    rf"(?<![A-Za-z])({_MONTH}) ({_DAY})[-–]({_DAY})(?![0-9])(?:, ({_YEAR}))?"
    rf"|{START}({_DAY})[-–]({_DAY}) ({_MONTH})(?![A-Za-z])(?: ({_YEAR}))?",
    needs=DIGITS,
    also="-–",
)
def days_of_month(match: re.Match[str]) -> str:
    month, first, last, of_year, first_2, last_2, month_2, of_year_2 = match.groups()
    days = f"{month} {ordinal(first)} to {ordinal(last)}" if month else ""
    days = days or f"the {ordinal(first_2)} to the {ordinal(last_2)} of {month_2}"
    return days + (f", {year(of_year or of_year_2)}" if of_year or of_year_2 else "")


@rules.add(
    rf"{START}([0-9]{{2,4}})[-–]([0-9]{{2,4}})(?= ?(?:B\. ?C|A\. ?D|BC|AD|CE|C\.E)(?![a-z]))", needs=DIGITS, also="-–"
)
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


@rules.add(r"(?<=:[0-9]{2})[-–](?=[0-9]{1,2}:[0-9]{2})", needs=":", also="-–")
def time_range(match: re.Match[str]) -> str:
    return " to "


@rules.add(
    rf"{START}(?<![:.])(2[0-3]|[01]?[0-9]|24(?=:00)):([0-5][0-9])(?::([0-5][0-9](?:\.[0-9]+)?))?(?![0-9:]|\.[0-9])"
    r"(?: ?([AaPp])\.? ?[Mm]\.?(?![A-Za-z])|(Z)(?![A-Za-z0-9]))?",
    needs=":",
    also=DIGITS,
)
def time_of_day(match: re.Match[str]) -> str:
    hour, minute, second, half, zulu = match.groups()
    words = cardinal(str(int(hour)))
    if int(minute):
        words += f" oh {cardinal(minute[1])}" if minute[0] == "0" else f" {cardinal(minute)}"
    elif second is None and half is None:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    elif second is not None:
        words += " oh oh"
    if second is not None:
        words += f" and {number(re.sub('^0(?=[0-9])', '', second))} second{'' if second == '01' else 's'}"
    return words + (f" {half.lower()}.m." if half else " U T C" if zulu else "")


@rules.add(rf"{START}(1[0-2]|0?[1-9])\.([0-5][0-9]) ?([AaPp])\.? ?[Mm]\.?(?![A-Za-z])", needs=DIGITS, also=".")
def time_with_point(match: re.Match[str]) -> str:
    hour, minute, half = match.groups()  # "10.30 am", as in Britain
    return f"{cardinal(str(int(hour)))}{'' if minute == '00' else f' {_minutes(minute)}'} {half.lower()}.m."


@rules.add(
    rf"(?:(?<=at )|(?<=until )|{START}(?=0)){START}([01][0-9]|2[0-3])([0-5][0-9])(?= ?(?:hours|hrs|h)(?![a-z]))",
    needs=DIGITS,
    also="h",
)
def time_of_soldiers(match: re.Match[str]) -> str:
    hour, minute = match.groups()  # "0800 hours"
    return f"{_minutes(hour)} {'hundred' if minute == '00' else _minutes(minute)}"


def _minutes(digits: str) -> str:
    return f"oh {cardinal(digits[1])}" if digits[0] == "0" else cardinal(digits)


@rules.add(rf"{START}(1[0-2]|[1-9]) ?[-–] ?(?=(?:1[0-2]|[1-9]) ?[AaPp]\.?[Mm](?![A-Za-z]))", needs=DIGITS, also="-–")
def hours_apart(match: re.Match[str]) -> str:
    return f"{match.group(1)} to "


@rules.add(rf"{START}(1[0-2]|[1-9]) ?([AaPp])\.?[Mm]\.?(?![A-Za-z])", needs=DIGITS, also="aApP")
def hour_of_day(match: re.Match[str]) -> str:
    return f"{cardinal(match.group(1))} {match.group(2).lower()}.m."


@rules.add(rf"{START}{NUM}(?: ?: ?{NUM}){{1,5}}(?![0-9:])", needs=":", also=DIGITS)
def ratio(match: re.Match[str]) -> str:
    return " to ".join(number(part.strip()) for part in match.group().split(":"))


# --- years -----------------------------------------------------------------------------------------------------------

years = Rules()

_NOT_PLURALS = "was|is|has|as|this|its|his|across|does|us|perhaps|besides|towards|always|sometimes|thus|unless|plus|versus|means|marks"
_COUNTS = (
    "hundred|thousand|million|billion|people|men|women|children|feet|percent|or more|or fewer|or less|of (?:the|them|these)|"
    "(?:square|cubic) |(?:[kc]?m|[km]?g|mi|ft|lb|mph|[kM]?[JNWVKL]|[kMG]?Hz|k?Pa|m[lL])(?![A-Za-z])|"
    "(?:meter|metre|foot|mile|pound|calorie|watt|gram|kilogram|liter|litre|volt|acre|dollar|yard|ton|degree|word|page|year|day|hour)"
    "(?![a-z])|(?:different|new|more|other|small|large|such|young|old|long|individual|separate|additional) [a-z]+s(?![a-z])"
)
# "in 1500 cases", "the 1500 meter race" and "after 1200 + 300" speak of no year.
_NO_COUNT = (
    rf"(?! ?(?:-(?!-)|[+=*/×÷%°]))(?!,? (?:and|or|to|through) [12][0-9]{{3}})(?! (?:{_COUNTS}))"
    rf"(?! (?!(?:{_NOT_PLURALS})(?![a-z]))[a-z]{{2,20}}s(?![a-z]))"
)
_YEARS = rf"{_YEAR}(?:(?:,? (?:and|or|to|until|through) |, ){_YEAR})*"


def _each_year(written: str) -> str:
    return re.sub("[0-9]{4}", lambda match: year(match.group()), written)


@years.add(r"(?<![A-Za-z0-9])['’]([2-9]0)s(?![A-Za-z0-9])", needs=DIGITS, also="'’")
def short_decade(match: re.Match[str]) -> str:
    return plural(cardinal(match.group(1)))


@years.add(rf"{START}(?<![$£€¥₹])((?:1[1-9]|20)[0-9]0|[1-9]00|[1-9]0)['’]?s(?![A-Za-z0-9])", needs=DIGITS, also="s")
def decade(match: re.Match[str]) -> str:
    digits = match.group(1)
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


@years.add(
    rf"{START}((?:1[1-9]|20)[0-9]{{2}})(?:–| – | - |--?)((?:1[1-9]|20)[0-9]{{2}}|(?<=[0-9][-–])[0-9]{{2}})"
    r"(?![0-9A-Za-z]|[-–.,/][0-9])",
    needs=DIGITS,
    also="-–",
)
def years_apart(match: re.Match[str]) -> str:
    first, second = match.groups()
    if int(second) <= int(first[2:] if len(second) == 2 else first) or is_sum(match):
        return match.group()
    return f"{year(first)} to {_year_of_date(second)}"


@years.add(
    rf"(?<![A-Za-z])([Bb]etween|[Ff]rom) ({_YEAR}) (and|to|until|through) ({_YEAR})(?! [a-z]{{2,20}}s(?![a-z])| ?%)",
    needs=DIGITS,
)
def years_between(match: re.Match[str]) -> str:
    between, first, link, second = match.groups()
    return f"{between} {year(first)} {link} {year(second)}"


_BEFORE_YEARS = re.compile(
    r"(?<![A-Za-z])(?:[Ii]n|[Ss]ince|[Uu]ntil|[Tt]ill|[Bb]efore|[Aa]fter|[Dd]uring|[Yy]ears?|[Ee]arly|[Ll]ate|[Mm]id|[Cc]irca|AD|[Ff]all|"
    r"[Ff]iscal|FY|[Ff]rom|[Aa]round|[Pp]ublished|[Bb]orn|[Dd]ied|[Ff]ounded|[Ee]stablished|[Bb]uilt|[Ww]ritten|[Cc]omposed|[Pp]ainted|"
    r"[Ii]nvented|[Dd]iscovered|[Rr]eleased|[Ii]ntroduced|[Ss]igned|[Rr]atified|[Aa]dopted|[Ee]nacted|[Dd]ated|[Cc]opyright|©|[Pp]rior to|"
    r"[Bb]ack to|[Aa]s of|[Oo]pened|[Ll]aunched|[Aa]bolished|[Ee]lected|[Dd]rafted|[Pp]atented|[Rr]eprinted|[Ee]rected|[Cc]rowned)[ -]\Z"
)


@years.add(rf"(?<=[A-Za-z©][ -])({_YEARS}){_NO_COUNT}", needs=DIGITS)
def year_after_word(match: re.Match[str]) -> str:
    return _each_year(match.group()) if _BEFORE_YEARS.search(before(match)) else match.group()


_RISE = re.compile(
    r"(?:creas|multipl|divi[ds]|subtract|exceed|reduc)\w*\b[^.?!]*\Z|(?:r[iao]se\w*|rising|risen|f[ae]ll\w*|gr[eo]w\w*|drop\w*|short|off"
    r"|up|down|chang\w*|differ\w*|times|[0-9]) \Z"
)


@years.add(rf"(?<=[Bb]y )(?<![A-Za-z]by )({_YEARS}){_NO_COUNT}(?! ?[x×])", needs=DIGITS)
def year_after_by(match: re.Match[str]) -> str:
    return match.group() if _RISE.search(before(match, 60)[:-3]) else _each_year(match.group())


_EVENTS = (
    "war|panic|treaty|act|revolution|crisis|crash|depression|elections?|constitution|compromise|battle|earthquake|law|edict|"
    "proclamation|convention|census|fire|flood|recession|drought|riots?|strike|massacre|reform|class|summer|winter|spring|autumn|"
    "fall|year|charter|code|statute|ordinance|bill|amendments?|agreement|accords?|protocol|pact|peace|union|rebellion|uprising|"
    "mutiny|famine|plague|epidemic|pandemic|blizzard|hurricane|storm|eruption|games|olympics|season|vintage|end|beginning|start|"
    "close|tariff|armistice|declaration|conference|congress|campaign|invasion|conquest|coup|decree|settlement|christmas|half|"
    "january|february|march|april|may|june|july|august|september|october|november|december|acts|treaties|wars|laws"
)
_EVENT_OF = re.compile(rf"(?<![A-Za-z])(?:(?i:{_EVENTS})|(?:[Tt]he|[A-Z][a-z]+) [A-Z][a-z]+) of \Z")


@years.add(rf"(?<= of )({_YEARS}){_NO_COUNT}", needs=DIGITS)
def year_of_event(match: re.Match[str]) -> str:
    return _each_year(match.group()) if _EVENT_OF.search(before(match)) else match.group()


_WORKS = (
    "study|survey|paper|article|novel|film|movie|book|report|essay|speech|interview|poll|song|album|painting|play|poem|letter|lecture|"
    "census|election|decision|ruling|case|trial|law|act|treaty|agreement|conference|war|coup|referendum|edition|model|meeting"
)


@years.add(
    rf"(?<=[Tt]he )(?<![A-Za-z]the ){_YEAR}(?= [A-Za-z]){_NO_COUNT}|(?<=\(){_YEAR}(?= est\.)"
    rf"|(?:(?<=[Aa] )|(?<=[Hh]is )|(?<=[Hh]er )){_YEAR}(?= (?:{_WORKS})(?![a-z]))|(?:(?<=\([bd]\. )|(?<=[Pp]re-)|(?<=[Pp]ost-)){_YEAR}"
    rf"|(?:(?<=[Ii]t was )|(?<=[Ii]t is )|(?<=year was )|(?<=year is )|(?<=date was )){_YEAR}(?=[.,;:!?)]| when | and |\Z)",
    needs=DIGITS,
)
def year_by_itself(match: re.Match[str]) -> str:
    return _each_year(match.group())


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
