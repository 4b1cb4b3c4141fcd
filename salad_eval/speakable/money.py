"""Sums of money, whose sign is written first and said last."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, after, before
from salad_eval.speakable.numbers import END, NUM, START, cardinal, number

rules = Rules()

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


_COUNTRIES = {
    "US": "US", "CA": "Canadian", "C": "Canadian", "AU": "Australian", "A": "Australian", "HK": "Hong Kong",
    "NZ": "New Zealand",
}  # fmt: skip


@rules.add(r"(?:(?<=[0-9])|(?<=illion)|(?<=thousand)) ?[-–] ?(?=[$£€¥₹] ?[0-9])", needs="$£€¥₹")
def range_of_money(match: re.Match[str]) -> str:
    return " to "


@rules.add(
    rf"((?<![0-9A-Za-z%)])[-−])?(?:(?<![A-Za-z])(US|CA|C|AU|A|HK|NZ))?([$£€¥₹]) ?({NUM})(?:[-–]({NUM})(?![-–]))?"
    rf"(?:( (?:hundred|thousand|million|billion|trillion))(?![a-z])|(k|K|mn|m|M|bn|b|B|tn|T){END})?",
    needs="$£€¥₹",
)
def money(match: re.Match[str]) -> str:
    sign, country, symbol, amount, upper, scale_word, scale_letter = match.groups()
    one, many, cent, cents = _CURRENCY[symbol]
    if country:
        one, many = f"{_COUNTRIES[country]} {one}", f"{_COUNTRIES[country]} {many}"
    minus = "minus " if sign else ""
    scale = scale_word or (f" {_SCALE[scale_letter]}" if scale_letter else "")
    whole, point, part = amount.partition(".")
    if upper:
        return f"{minus}{number(amount)} to {number(upper)}{scale} {many}"
    if scale or (point and len(part) != 2):
        return f"{minus}{number(amount)}{scale} {many}"
    words = f"{cardinal(whole or '0')} {one if whole == '1' else many}"
    if point and int(part):
        small = f"{cardinal(str(int(part)))} {cent if int(part) == 1 else cents}"
        words = small if whole in ("", "0") else f"{words} and {small}"
    return minus + words


@rules.add(rf"{START}({NUM}) ?¢", needs="¢")
def cents(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} cent{'' if match.group(1) == '1' else 's'}"


@rules.add(r"([$£€¥₹])([A-Za-z])(?![A-Za-z0-9])", needs="$£€¥₹")
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
