"""What a dash is: the sign of a number, a subtraction, a range, or, left as it is, the hyphen or dash of prose.

The same character stands for all of them. Between words it is prose. Between the parts of a formula it is *minus*: a formula
is what stands between words and has an operator (``MC = TC - TFC``), a function (``sin x - cos x``) or a power in it. Between
two numbers it is a range or a score (``5-10``, *won 7-3*), but *minus* in a formula, after a question for its value (*What is
7-3?*), and where it falls and is all there is (``7-3``). What cannot be told is refused (``unclear``).
"""

from __future__ import annotations

import re
import unicodedata

from salad_eval.speakable.engine import Rules, Unspeakable, after, before, is_anywhere
from salad_eval.speakable.numbers import DIGITS, END, NUM, START, number, spelled, tokens
from salad_eval.speakable.units import UNIT_NAMES

rules = Rules()

GREEK = "αβγδεζηθικλμνξοπρστυφχψωςϵϕϑϱϖΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
VARIABLE = rf"(?:[A-Za-z{GREEK}](?![A-Za-z]))"
FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|lim|max|min|gcd|det"
_FUNCTION = rf"(?<![A-Za-z])(?:{FUNCTIONS})(?![a-z])"
_VULGAR = "½⅓⅔¼¾⅛⅜⅝⅞"

# --- what a formula is -----------------------------------------------------------------------------------------------

# A word, or the end of a sentence or line: what parts a formula from prose. Letters that are no word ("cx", "MC") do not.
_WORD = re.compile(
    rf"(?<![A-Za-z])(?!(?:{FUNCTIONS}|mod|minus|blank)(?![a-z]))(?:[A-Za-z]?[a-z]{{3,}}|[A-Z][a-z]{{2,}}"
    r"|(?:of|to|in|is|or|an|as|at|be|by|do|if|it|no|on|so|up|us|we|he|me|my|go|am|all|and|the|for|are|was|has|had|not|but|any"
    r"|its|his|her|who|two|six|ten|one|a(?= [a-z]))(?![A-Za-z]))|[.?!;:](?=\s|\Z)|\n"
)
_OPERATOR = re.compile(rf"(?<![-–])>|[=+*^×÷·<≤≥≠≈±√∑∫∪∩∠²³⁻ⁿ]|\|[^|]{{1,12}}\||\)!|{_FUNCTION}")


def _formula_around(match: re.Match[str]) -> tuple[str, str]:
    """The parts of a formula before and after a match, as far as the next words."""
    left, right = before(match, 40), after(match, 40)
    words = list(_WORD.finditer(left))
    first = _WORD.search(right)
    return left[words[-1].end() :] if words else left, right[: first.start()] if first else right


def is_in_formula(match: re.Match[str]) -> bool:
    """Whether what stands around a match, as far as the next words, has an operator in it."""
    return any(map(_OPERATOR.search, _formula_around(match)))


_ASKED = re.compile(
    r"(?:(?:[Ww]hat(?:['’]s| is| are)|[Hh]ow much is|[Ee]valuate|[Cc]alculate|[Cc]ompute|[Ss]implify|[Ss]ubtract|[Ss]olve|[Ff]ind|"
    r"[Ww]ork out|[Pp]erform|[Gg]ives?)(?: the)?(?: exact)?(?: (?:value|result|difference|answer|subtraction|expression)(?: of| to| in)?)?"
    r"|(?:value|result|difference) of(?: the expression)?|answer(?: to)?|[Ee]quals?|equal to|[Ss]um of)[:.,]? ?\(?\Z"
)
_ANSWERED = re.compile(r"\)? ?(?:=|(?:is|are) (?:equal|the same|[0-9-])|equals?\b|gives\b|makes\b|leaves [0-9])")
_COUNTED = re.compile(
    rf"[ -]?(?:%|°|{UNIT_NAMES})(?![A-Za-z0-9])|[ -](?!(?:and|or|but|then|when|if|as|equals?|plus|minus|times|divided|multiplied"
    r"|is|in|for|with|was|were|are|has|the|at|on|by|to|from|without|using|correctly|exactly|mentally)(?![a-z]))[a-z]{2,}"
)
_AMOUNT = re.compile(
    rf"[ -]?(?:%|°|{UNIT_NAMES}|percent|thousand|million|billion|trillion)(?![A-Za-z0-9])|[ -](?:[a-z]+ )?[a-z]{{3,}}s(?![a-z])"
)
_BEFORE_SUM = re.compile(r"[=+*×÷^√/]\s?\(?\Z")
_AFTER_SUM = re.compile(r"\)? ?(?:[=+*×÷^<>]|/ ?[0-9(])")
_LABEL_OF_RANGE = re.compile(r"(?:(?<![A-Za-z])[nN]|[A-Z]{2}|[a-z]{3}|\]) ?= ?\Z")


def is_asked(left: str) -> bool:
    """Whether the words before a formula ask for its value: *What is*, *Evaluate*, *the difference of*."""
    return _ASKED.search(left) is not None


def is_sum(match: re.Match[str]) -> bool:
    """Whether a match, two numbers with a dash between, is a subtraction by what stands around it."""
    left, right = before(match, 48), after(match)
    if _LABEL_OF_RANGE.search(left) and not _AFTER_SUM.match(right):
        return False  # "n = 5-10 mice", "normal = 7-10"
    if _BEFORE_SUM.search(left) or _AFTER_SUM.match(right) or _ANSWERED.match(right):
        return True
    if is_asked(left) and not _COUNTED.match(right):
        return True
    return any(map(re.compile(r"[=*^×÷√]").search, _formula_around(match)))


_RANGE_NEAR = re.compile(
    r"(?i)(?<![a-z])(?:from|between|vot(?:e|es|ed)|scor(?:e|es|ed|ing)|w[io]n(?:s|ning)?|beat(?:s|en|ing)?|los(?:t|e|es|s|ing)|leads?|leading|"
    r"led|defeat(?:s|ed|ing)?|victor(?:y|ies)|ties?|tied|drew|draw|draws|match(?:es)?|games?|majority|decision|decided|rul(?:ed|ing|es?)|"
    r"elected|reelected|confirmed|approved|passed|rejected|odds|final|finals|half-time|halftime|team|teams|season|goals?|points?|"
    r"league|championship|series|ahead|behind|trail(?:s|ed|ing)?|record|court|parliament|assembly|split|ranges?|ages?|aged|grades?|"
    r"pages?|pp|years?|dates?|weeks?|days?|verses?|chapters?|psalms?|lines?|rooms?|phone|call|dial|zip|code|number|no|road|route|flight|"
    r"model|boeing|size|ratio|count(?:down)?|down|against|formation|diet|work|shift|open|hours|spread|bet|costs?|prices?|priced|fees?|pay|pays)(?![a-z])|[0-9]{1,2}:[0-9]"
)


def subtracts(match: re.Match[str], first: str, second: str) -> bool:
    """Whether ``first-second``, the match, is a subtraction and no range or score; ``Unspeakable`` if it cannot be told."""
    if is_sum(match):
        return True
    if _value(first) <= _value(second):
        return False
    left, right = before(match, 80), after(match, 40)
    line = (left.rpartition("\n")[2] + right.partition("\n")[0]).strip()
    if not re.search("[A-Za-z]", line):
        return True
    if _AMOUNT.match(right) or _RANGE_NEAR.search(left) or _RANGE_NEAR.search(right):
        return False
    raise Unspeakable(f"a range or a subtraction: {match.group()!r}", "unclear")


def _value(written: str) -> float:
    return float(re.sub("[^0-9.]", "", written).strip(".") or 0)


# --- numbers ---------------------------------------------------------------------------------------------------------


@rules.add(rf"{START}({NUM})[eE]([+-]?[0-9]{{1,4}}){END}", needs=DIGITS, also="eE")
def scientific(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} times ten to the power of {tokens(match.group(2).lstrip('+'))}"


@rules.add(rf"{START}([0-9][0-9.]*) ?([×x]) ?10[-−–]([0-9]{{1,2}})(?![0-9A-Za-z-]|[.,][0-9])", needs="×x", also="-−–")
def power_set_flat(match: re.Match[str]) -> str:
    # "3.5 × 10-3": the raised exponent of a page that lost its type
    mantissa, _, exponent = match.groups()
    if not re.fullmatch(r"[1-9]\.[0-9]+", mantissa):
        raise Unspeakable(f"a power of ten or a subtraction: {match.group()!r}", "unclear")
    return f"{mantissa} × 10^-{exponent}"


@rules.add(
    rf"{START}(?<![-/])(?:(?:1-)?[0-9]{{3}}-)?[0-9]{{3}}-[0-9]{{4}}(?![0-9A-Za-z-])"
    rf"|\([0-9]{{3}}\) ?[0-9]{{3}}-[0-9]{{4}}(?![0-9A-Za-z-])|{START}(?<=[A-Z]{{2}} )[0-9]{{5}}-[0-9]{{4}}(?![0-9A-Za-z-])",
    needs="-",
    also=DIGITS,
)
def phone_number(match: re.Match[str]) -> str:
    return ", ".join(map(spelled, re.findall("[0-9]+", match.group())))


_CALLED = re.compile(r"(?i)(?:phone|fax|tel\.?|call|dial(?:ed)?|\+)\W{0,3}(?:\W{0,3}[0-9]{1,4}\W{0,3}){0,2}\Z")


@rules.add(rf"{START}(?<![-/])[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{2,4}}(?![0-9A-Za-z-])", needs="-", also=DIGITS)
def number_called(match: re.Match[str]) -> str:
    called = _CALLED.search(before(match, 40))  # "FAX: [34] (93) 280-61-75"
    return ", ".join(map(spelled, match.group().split("-"))) if called else match.group()


@rules.add(
    rf"{START}(?<![A-Za-z]-)(?<![A-Za-z_^/])([0-9]+)[-–]([0-9]{{1,2}}/[0-9]{{1,2}})(?![0-9/]|[.,][0-9])",
    needs="/",
    also="-–",
)
def number_and_fraction(match: re.Match[str]) -> str:
    first, part = match.groups()
    above, _, below = part.partition("/")
    if int(above) >= int(below):
        return f"{first} minus {part}"  # "7-3/2"
    if is_sum(match):
        raise Unspeakable(f"a mixed number or a subtraction: {match.group()!r}", "unclear")
    return match.group()  # "3-1/2 cups"


@rules.add(
    rf"{START}(?<![A-Za-z_^/])([0-9]{{1,2}}/[0-9]{{1,2}}|[{_VULGAR}])[-–]([0-9]{{1,3}}(?:/[0-9]{{1,2}})?|[0-9]?[{_VULGAR}])(?![0-9/]|[.,][0-9])",
    needs="/" + _VULGAR,
    also="-–",
)
def range_of_fractions(match: re.Match[str]) -> str:
    first, second = match.groups()
    alone = not is_anywhere("[A-Za-z]", match.string) and _share(first) > _share(second)
    return f"{first} {'minus' if alone or is_sum(match) else 'to'} {second}"


def _share(written: str) -> float:
    above, _, below = written.partition("/")
    return int(above) / max(int(below or 1), 1) if above.isdigit() else sum(map(unicodedata.numeric, written))


@rules.add(
    rf"{START}({NUM})( ?)({UNIT_NAMES})( ?)[-–] ?(?=({NUM}) ?({UNIT_NAMES})(?![A-Za-z0-9⁻^-]))",
    needs="-–",
    also=DIGITS,
)
def range_of_amounts(match: re.Match[str]) -> str:
    # "10 g-2 kg"; with blanks, falling or in a formula, a difference: "5 kg - 3 kg = 2 kg"
    first, blank, unit, spaced, second, unit_of_second = match.groups()
    alone = not is_anywhere("[A-Za-z]{3}", match.string)
    falls = (
        unit == unit_of_second
        and (spaced or alone)
        and _value(first) > _value(second)
        and not _RANGE_NEAR.search(before(match))
    )
    return f"{first}{blank}{unit} {'minus' if falls or is_sum(match) or is_in_formula(match) else 'to'} "


@rules.add(
    rf"{START}(?<![A-Za-z]-)(?<![0-9][-–])(?<![A-Za-z_^])({NUM}(?:%|°[CF]?)?)[-–—−]({NUM})(?![0-9]|[-–][0-9]|/[0-9]|[ixyznk](?![A-Za-z]))",
    needs=DIGITS,
    also="-–—−",
)
def number_range(match: re.Match[str]) -> str:
    first, second = match.groups()
    if "—" in match.group() and not is_sum(match):
        return match.group()
    if re.search(r"(?:Boeing|Airbus|DC|MD|[Mm]odel) \Z", before(match)):
        return f"{first}-{second}"
    if match.group() in ("50-50", "20-20"):
        return f"{first}-{second}" if not is_sum(match) else f"{first} minus {second}"
    return f"{first} {'minus' if '−' in match.group() or subtracts(match, first, second) else 'to'} {second}"


@rules.add(r"(?<=[0-9])--(?=([0-9.,]*[0-9]))", needs="-", also=DIGITS)
def double_hyphen(match: re.Match[str]) -> str:
    # "-5--3" and "5--3", but "1914--1918", as printers write a range
    left, second = before(match), match.group(1)
    first = re.search(r"[0-9.,]+\Z", left)
    if re.search(r"(?:\A|[=(,+*/<>\s])[-−–][0-9.,]+\Z", left) or is_in_formula(match):
        return " minus minus "
    if first is not None and _value(first.group()) < _value(second):
        return " to "
    return match.group() if re.search("[A-Za-z]", left) else " minus minus "


@rules.add(
    rf"(?<=[0-9%]) [-–] (?={NUM} ?(?:{UNIT_NAMES}|%|percent|[a-z]{{2,20}}(?:s|ths))(?![A-Za-z0-9]))",
    needs="-–",
    also=DIGITS,
)
def spaced_range(match: re.Match[str]) -> str:
    # "1 - 3 mM" and "10 - 20 minutes"; without a unit it is a subtraction
    left, right = before(match, 48), after(match)
    first = re.search(r"[0-9.,]+%?\Z", left)
    second = re.match("[0-9.,]+", right)
    falls = first and second and _value(first.group()) > _value(second.group()) and not _RANGE_NEAR.search(left)
    asked = is_asked(re.sub(r"[0-9.,]+%?\Z", "", left))
    return " minus " if falls or asked or is_in_formula(match) else " to "


@rules.add(r"(?<=[0-9]) – (?=[0-9])", needs="–", also=DIGITS)
def spaced_dash(match: re.Match[str]) -> str:
    left, right = before(match), after(match)
    in_formula = re.search(r"[=+*/×÷^(]", left + right) or not re.search("[a-z]{3}", left)
    asked = is_asked(re.sub(r"[0-9.,]+\Z", "", before(match, 48)))
    return match.group() if in_formula or asked else " to "  # "children aged 5 – 12"


# --- subtractions ----------------------------------------------------------------------------------------------------

_LETTERS = (  # of a variable, a product ("cx") or an abbreviation ("MC"), but no word of two letters
    r"(?!(?:of|to|in|is|or|an|as|at|be|by|do|if|it|no|on|so|up|us|we|he|me|my|go|am|I'|th|st|nd|rd|ed|ly|er|al|ing|est)(?![A-Za-z]))"
    rf"(?:[A-Z]{{1,4}}|[a-z]{{1,3}}|[{GREEK}])"
)
_LEFT = re.compile(
    rf"(?<![A-Za-z0-9_.,#])(?:[$£€]?[0-9][0-9.,]*)?{_LETTERS}?(?:_\{{?\w{{1,4}}\}}?|[₀-₉ₓᵢⱼₙₜ]{{1,3}})?['′]{{0,2}}[%°!]?\Z"
    rf"|(?:\^\{{?-?[0-9A-Za-z]{{1,5}}\}}?|[⁰¹²³⁴-⁹ⁿˣ]|[)\]}}|∞{_VULGAR}])[%°!]?\Z"
)
_RIGHT = re.compile(
    rf"[-−–]?(?:[$£€]?\.?[0-9]|[(\[{{|√∞∂∫∑∆∠{_VULGAR}]|(?:{FUNCTIONS})(?![a-z])|[{GREEK}][A-Z](?![A-Za-z])|(?P<letters>{_LETTERS})(?![A-Za-z'’]|-[A-Za-z]{{2}}))"
)
_SERIAL = re.compile("[0-9]-[0-9]{1,6}-[0-9]")
_LETTERS_AT_END = re.compile(r"[A-Za-z]{2,}\Z")
_BEFORE_LETTERS = re.compile(r"[=+*/^<>×÷·(]\s?[0-9]*[A-Za-z]+\Z")
_AFTER_CAPITALS = re.compile(r".{0,4}?[A-Z]{2,4}[A-Z]{2,4} ?=")


@rules.add(
    rf"(?= ?[-−–—])(?:(?<=[0-9)\]]) [-−–—] (?=[0-9(\\√]|[0-9]*{VARIABLE})|(?<=[^A-Za-z0-9'][A-Za-z]) [-−–] (?=[0-9(])"
    rf"|(?<=[0-9][A-Za-z{GREEK}]) [-−–] (?=[0-9(]|{VARIABLE})|(?<=^[A-Za-z]) [-−–] (?=[0-9(])"
    rf"|(?<=[0-9)])[-−](?!Ω)(?=[0-9]*[b-fjkn-rt-z{GREEK}](?![A-Za-z])(?!-[A-Za-z]{{2}})"
    rf"|[0-9]+i(?![A-Za-z]))|(?<=[\s(][a-z]) - (?=[a-z]{{1,3}}\^)|(?<=\^[0-9])[-−](?=[0-9])"
    rf"|(?<=\))—(?=[0-9(]+[=+*/])|(?<=[0-9)\]])[-−](?=\()|(?<=[0-9])(?: [-−–] ?|[-−–] )(?=[-−–] ?[0-9])"
    rf"|(?<![A-Za-z'’.-][a-z])(?<![A-Za-z][a-z])(?<=[b-hj-z{GREEK}])[-−](?=[0-9]{{1,4}}(?![0-9A-Za-z-])|\()"
    rf"|(?<=[0-9(=|,+][b-hj-z])[-−](?=[a-z](?![A-Za-z]))|(?<=[₀-₉ᵢⱼₙₜ]) ?[-−–] ?(?=[A-Za-z{GREEK}][₀-₉ᵢⱼₙₜ])"
    rf"|(?<=[nk]!) ?[-−–] ?(?=[0-9(]|{VARIABLE})|(?<=[{_VULGAR}]) [-−–] (?=[{_VULGAR}0-9(])|(?<=^[A-Z]) [-−–] (?=\{{)"
    rf"|(?<=[{GREEK}][A-Za-z]) [-−–] (?=[{GREEK}0-9(]|{VARIABLE})"
    rf"|(?<=[{GREEK}]) [-−–] (?=[{GREEK}](?![A-Za-z])|[0-9(])|(?<=\A[a-z])[-−](?=[a-z]\Z))",
    needs="-−–—",
)
def difference(match: re.Match[str]) -> str:
    left = before(match)
    if re.search(r"[a-z]{3}[^()\[\]]*[)\]]{1,2}\Z|\[[a-z]\]\)?\Z", left):
        return match.group()  # "(source in Zambia) - 2,740 km": a dash after a note
    return " minus "


@rules.add(
    rf"(?= ?[-−–])(?<=[0-9A-Za-z{GREEK})\]}}|!'′%°∞{_VULGAR}⁰¹²³⁴-⁹ⁿˣ₀-₉ₓᵢⱼₙₜ])"
    rf" ?[-−–] ?(?=[-−–]?[0-9A-Za-z{GREEK}(\[{{|√∞∂∫∑∆∠$£€.{_VULGAR}])",
    needs="-−–",
)
def difference_in_formula(match: re.Match[str]) -> str:
    left, right = before(match), after(match)
    operand = _RIGHT.match(right)
    if operand is None or _LEFT.search(left) is None or left[-1:].isspace() or not is_in_formula(match):
        return match.group()
    if _SERIAL.search(left[-8:] + match.group() + right[:8]) and "=" not in left + right:
        return match.group()  # "[+33] 43-12-22-22"
    if " " not in match.group():
        # "R-sq = 98.1%" and "CD-ROM + disk" are compounds: of letters without blanks each must stand beside an operator
        long_left, long_right = _LETTERS_AT_END.search(left), len(operand.group("letters") or "") > 1
        sure = not (long_left or long_right) or _BEFORE_LETTERS.search(left) or _AFTER_CAPITALS.match(left[-5:] + right)
        if not sure:
            return match.group()
    return " minus "


@rules.add(r"(?:(?<=blank)|(?<=\?)) ?[-−–] ?(?=[0-9(])|(?<=[0-9)]) ?[-−–] ?(?=blank|\?)", needs="-−–")
def difference_of_unknown(match: re.Match[str]) -> str:
    return " minus " if is_in_formula(match) else match.group()  # "___ - 5 = 3"


@rules.add(r"(?<=[0-9])[-−–] (?=[0-9])", needs="-−–", also=DIGITS)
def difference_with_one_blank(match: re.Match[str]) -> str:
    in_formula = is_in_formula(match) or not is_anywhere("[A-Za-z]", match.string)
    return " minus " if in_formula else match.group()  # "10- 3"


_EQUATION_OF_WORDS = re.compile(r"=\s?(?:[A-Za-z]+ ){0,3}[A-Za-z]+\Z")
_REST_OF_EQUATION = re.compile(
    r"(?:[A-Za-z]+ ){0,2}[A-Za-z]+(?:\Z|[.,;)?]| ?[-+*/=×÷])|(?:[A-Za-z]+ ){0,2}[A-Za-z]+\)? ?="
)


@rules.add(r"(?<=[A-Za-z)]) [-−–] (?=[A-Za-z(])", needs="-−–")
def difference_of_words(match: re.Match[str]) -> str:
    # "profit = total revenue - total cost", "Assets - Liabilities = Equity"
    left, right = before(match, 48), after(match, 48)
    after_equals = _EQUATION_OF_WORDS.search(left) and _REST_OF_EQUATION.match(right)
    before_equals = re.match(r"(?:[A-Za-z]+ ){0,2}[A-Za-z]+ = [A-Za-z]", right) and re.search(
        r"(?:\A|[.:;\n] ?)(?:[A-Za-z]+ ){0,2}[A-Za-z]+\Z", left
    )
    return " minus " if after_equals or before_equals else match.group()


# --- signs -----------------------------------------------------------------------------------------------------------

_OPENERS = tuple("=([{,<>≤≥≠≈+*/×÷·^±√→")
_BEFORE_SIGN = re.compile(
    r"(?<![A-Za-z])(?:of|is|are|to|by|than|equals?|times|plus|minus|over|and|or|between|from|value|result|roots?|inverse|solutions?|"
    r"at|for|when|if|where|with|let|slope|charge|sum|product|axis|gives?|becomes?|power|factor|exactly|either|include|matrix|number)\Z"
)
_OF_LANGUAGE = re.compile(
    r"(?i)suffix|ending|ends in|plural|prefix|verb|noun|spell|syllable|flag|option|command|switch|argument|parameter|terminal|"
    r"shell|linux|unix"
)


@rules.add(
    rf"(?<![\w)\]'’\".!?°%′″^])[-−–] ?(?=[0-9A-Za-z{GREEK}(\[{{|√∞∂∫∑∆.{_VULGAR}])(?!-)",
    needs="-−–",
)
def negative_operand(match: re.Match[str]) -> str:
    left, right = before(match, 48), after(match)
    operand = _RIGHT.match(right)
    if operand is None or match.string[match.start() - 2 : match.start()] in ("^{", "_{"):
        return match.group()
    known = (
        _is_signed(left, right, operand, match) if match.group()[-1] != " " else _is_signed_apart(left, right, match)
    )
    return "minus " if known else match.group()


def _is_signed(left: str, right: str, operand: re.Match[str], match: re.Match[str]) -> bool:
    """Of a dash that touches what follows: ``-x``, ``-sin x``, ``-(a + b)``."""
    letters = operand.group("letters") or ""
    opened, bare = left.rstrip().endswith(_OPENERS) or left.rstrip()[-1:] == "|", left.rpartition("\n")[2].strip() == ""
    if len(letters) > 1:
        return opened and left.rstrip()[-1:] != "," and is_in_formula(match)
    if letters and re.match(r"[A-Za-z][.)]? [A-Za-z]{2}|[sdyn]\)", right) and not is_in_formula(match):
        return opened and left.rstrip()[-1:] in "=<>+*/^"
    if right[:1] in "([{" and not (opened or is_in_formula(match)):
        inner = re.match(r"[(\[{]([^()\[\]{}]{1,30})[)\]}]", right)
        if inner is None or _WORD.search(inner.group(1)):
            return False
    if opened or bare:
        return True
    if left[-1:].isspace() and _BEFORE_SIGN.search(left.rstrip()):
        return not _OF_LANGUAGE.search(before(match, 80) + right)
    return left.endswith("minus ") or (left[-1:] in " " and not letters and right[:1] != "|" and is_in_formula(match))


def _is_signed_apart(left: str, right: str, match: re.Match[str]) -> bool:
    """Of a dash with a blank after it: ``x = - 7``, ``(- 2, 4)``; at the beginning of a line it is the mark of an item."""
    opener = left.rstrip()[-1:]
    if left.endswith("<"):
        return False  # an arrow
    if opener in tuple("=([{<>≤≥≠≈+*/×÷·^±"):
        return opener not in "([{" or re.match(rf"{NUM}|[0-9]*{VARIABLE}(?! [a-z]{{2}})", right) is not None
    if opener == ",":
        return re.search(r"[(\[{][^)\]}a-z]*\Z", left) is not None and re.match(NUM, right) is not None
    if re.search(r"(?<![A-Za-z])(?:is|equals?|was|minus|plus|times|over|than|of)\Z", left.rstrip()):
        return re.match(rf"{NUM}|{VARIABLE}(?! [a-z]{{2}})", right) is not None
    return (
        match.start() == 0
        and re.fullmatch(rf"(?:{NUM}(?:/[0-9]+)?|{VARIABLE})\W?", match.string[match.end() :]) is not None
    )


@rules.add(rf"(?<![\w)\].'’°%^{{-])[-−–](?=(?:{NUM}|√))", needs="-−–", also=DIGITS + "√.")
def negative_number(match: re.Match[str]) -> str:
    return "minus "


@rules.add(r"(?<![A-Za-z0-9])([0-9]*e)(?:\^?[-−–]|⁻)(?=\s|[)+,.;]|→|\Z)", needs="e", also="-−–⁻")
def electron(match: re.Match[str]) -> str:
    around = before(match, 40) + after(match, 40)
    charged = re.search(r"[→⟶⇌]|->|[A-Za-z0-9][+⁺]|electron", around)
    return f"{match.group(1)} minus" if charged else match.group()
