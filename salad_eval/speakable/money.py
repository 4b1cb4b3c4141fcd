"""Sums of money, whose sign is written first and said last."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, Unspeakable, after, before
from salad_eval.speakable.numbers import DIGITS, END, NUM, START, cardinal, number
from salad_eval.speakable.signs import subtracts

rules = Rules()

_CURRENCY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₪": ("shekel", "shekels", "agora", "agorot"),
    "₦": ("naira", "naira", "kobo", "kobo"),
    "₫": ("dong", "dong", "hao", "hao"),
}
_SIGNS = "".join(_CURRENCY)
_SCALE = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "bn": "billion",
    "B": "billion", "b": "billion", "tn": "trillion", "T": "trillion",
}  # fmt: skip


_COUNTRIES = {
    "US": "US", "CA": "Canadian", "C": "Canadian", "AU": "Australian", "A": "Australian", "HK": "Hong Kong",
    "NZ": "New Zealand",
}  # fmt: skip


# --- other notations, written as the one that is read below -----------------------------------------------------------

notations = Rules(spaced=False)

_CODES = {
    "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "Rs.": "₹", "Rs": "₹", "USD": "US$", "CAD": "C$", "AUD": "A$",
    "NZD": "NZ$", "HKD": "HK$",
}  # fmt: skip
_CODE = "|".join(map(re.escape, _CODES))


@notations.add(rf"(?<![A-Za-z])({_CODE})(?: |(?<=\.)|(?<=[A-Z]))(?=[0-9])", needs=DIGITS, also="ERUGJICAN")
def code_before_amount(match: re.Match[str]) -> str:
    return _CODES[match.group(1)]


_EUROPEAN = r"((?:[0-9]{1,3}(?:[.,' ][0-9]{3})+|[0-9]+)(?:[.,][0-9]{1,2})?)"


@notations.add(
    rf"{START}(?<![{_SIGNS}])(?<![{_SIGNS}] ){_EUROPEAN} ?([{_SIGNS}])(?! ?[0-9])(?![A-Za-z])",
    needs=_SIGNS,
    also=DIGITS,
)
def currency_after_amount(match: re.Match[str]) -> str:
    amount, sign = match.groups()
    if sign == "$" and match.string.find("$", 0, match.start()) >= 0:
        return match.group()  # the end of a formula, or of another sum
    return f"{sign}{amount}"


@notations.add(rf"(?<=[0-9]) ({_CODE})(?![A-Za-z])", needs=DIGITS, also="ERUGJICAN")
def code_after_amount(match: re.Match[str]) -> str:
    names = {"€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees"}
    sign = _CODES[match.group(1)]
    return f" {names.get(sign) or f'{_COUNTRIES[sign[:-1]]} dollars'}"


@notations.add(
    rf"([{_SIGNS}]) ?([0-9]{{1,3}}(?:[.' ][0-9]{{3}})*|[0-9]+),([0-9]{{2}})(?![0-9]|,[0-9])", needs=_SIGNS, also=","
)
def decimal_comma(match: re.Match[str]) -> str:
    sign, whole, cents = match.groups()
    return f"{sign}{re.sub('[^0-9]', '', whole)}.{cents}"


@notations.add(r"(€ ?)([0-9]{1,3}(?:[.' ][0-9]{3})+)(?![0-9]|[.,][0-9])", needs="€")
def thousands_with_points(match: re.Match[str]) -> str:
    sign, amount = match.groups()
    if re.fullmatch(r"[0-9]+\.[0-9]{3}", amount):
        raise Unspeakable(f"thousands or a decimal fraction: {match.group()!r}", "unclear")
    return sign + re.sub("[.' ]", ",", amount)


@notations.add(r"(₹ ?)([0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?![0-9])", needs="₹")
def thousands_of_india(match: re.Match[str]) -> str:
    return match.group(1) + match.group(2).replace(",", "")


@notations.add(rf"([{_SIGNS}])[-−–](?=[0-9])", needs=_SIGNS, also="-−–")
def sign_after_currency(match: re.Match[str]) -> str:
    return f"-{match.group(1)}"  # "$-5"


# --- sums ------------------------------------------------------------------------------------------------------------

_AMOUNT = rf"[{_SIGNS}] ?{NUM}(?: (?:hundred|thousand|million|billion|trillion)|(?:k|K|mn|m|M|bn|b|B|tn|T){END})?"


@rules.add(rf"({_AMOUNT}) ?[-–] ?({_AMOUNT})", needs=_SIGNS, also="-–")
def range_of_money(match: re.Match[str]) -> str:
    first, second = match.groups()
    scaled = re.search("[A-Za-z]", first + second) is not None
    return f"{first} {'minus' if not scaled and subtracts(match, first, second) else 'to'} {second}"


@rules.add(rf"(?<=[0-9]) ?[-–] ?(?=[{_SIGNS}] ?[0-9])", needs=_SIGNS, also="-–")
def range_to_money(match: re.Match[str]) -> str:
    return " to "  # "3, 000-$5, 000", as some data has it


@rules.add(
    rf"((?<![0-9A-Za-z%)])[-−])?(?:(?<![A-Za-z])(US|CA|C|AU|A|HK|NZ|R))?([{_SIGNS}]) ?({NUM})(?:[-–]({NUM})(?![-–/]))?"
    rf"(?:( (?:hundred|thousand|million|billion|trillion))(?![a-z])|(k|K|mn|m|M|bn|b|B|tn|T){END})?",
    needs=_SIGNS,
)
def money(match: re.Match[str]) -> str:
    sign, country, symbol, amount, upper, scale_word, scale_letter = match.groups()
    one, many, cent, cents = _CURRENCY[symbol]
    if country == "R":
        one, many = "Brazilian real", "Brazilian reais"
    elif country:
        one, many = f"{_COUNTRIES[country]} {one}", f"{_COUNTRIES[country]} {many}"
    minus = "minus " if sign else ""
    scale = scale_word or (f" {_SCALE[scale_letter]}" if scale_letter else "")
    whole, point, part = amount.partition(".")
    if upper and not scale and subtracts(match, amount, upper):
        return f"{minus}{number(amount)} {many} minus {number(upper)}"
    if upper:
        return f"{minus}{number(amount)} to {number(upper)}{scale} {many}"
    if scale or (point and len(part) != 2):
        return f"{minus}{number(amount)}{scale} {many}"
    words = f"{cardinal(whole or '0')} {one if whole == '1' else many}"
    if point and int(part):
        small = f"{cardinal(str(int(part)))} {cent if int(part) == 1 else cents}"
        words = small if whole in ("", "0") else f"{words} and {small}"
    return minus + words


@rules.add(rf"(?<![A-Za-z])CHF ?({NUM})|{START}({NUM}) CHF(?![A-Za-z])", needs="H", also=DIGITS)
def francs(match: re.Match[str]) -> str:
    amount = match.group(1) or match.group(2)
    return f"{number(amount)} Swiss franc{'' if amount == '1' else 's'}"


@rules.add(rf"{START}({NUM}) ?¢", needs="¢")
def cents(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} cent{'' if match.group(1) == '1' else 's'}"


@rules.add(rf"([{_SIGNS}])([A-Za-z])(?![A-Za-z0-9])", needs=_SIGNS)
def unknown_amount(match: re.Match[str]) -> str:
    return f"{match.group(2)} {_CURRENCY[match.group(1)][1]}"


_CURRENCY_SIGNS = {
    "$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "¢": "cent", "₤": "lira", "₽": "ruble",
    "₩": "won", "₿": "bitcoin", "₦": "naira", "₫": "dong", "₪": "shekel",
}  # fmt: skip


@rules.add("[" + "".join(_CURRENCY_SIGNS) + "]", needs=_CURRENCY_SIGNS)
def lone_currency(match: re.Match[str]) -> str:
    left, right = before(match, 1), after(match, 1)
    spaces = " " if left.isalnum() else "", " " if right and not right.isspace() and right not in ".,;:?!)" else ""
    return f"{spaces[0]}{_CURRENCY_SIGNS[match.group()]} sign{spaces[1]}"
