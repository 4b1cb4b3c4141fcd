"""Numbers in words, by ``num2words``, as an American reader says them: without *and* inside a whole number."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from num2words import num2words

from salad_eval.speakable.engine import Unspeakable

MAX_CARDINAL_DIGITS = 15  # above a quadrillion nobody reads a number other than digit by digit


@lru_cache(maxsize=4096)
def cardinal(digits: str) -> str:
    """``"1,234"`` to ``one thousand two hundred thirty-four``; digit by digit if very long or after a zero."""
    plain = digits.replace(",", "")
    if len(plain) > MAX_CARDINAL_DIGITS or (len(plain) > 1 and plain[0] == "0"):
        return spelled(plain)
    return _american(str(num2words(int(plain))))


def _american(words: str) -> str:
    return words.replace(",", "").replace(" and ", " ")


@lru_cache(maxsize=16)
def _digit(digit: str) -> str:
    return str(num2words(unicodedata.digit(digit)))  # which "²" has as well


def spelled(digits: str) -> str:
    """``"407"`` to ``four zero seven``."""
    return " ".join(_digit(digit) for digit in digits if digit.isdigit())


@lru_cache(maxsize=4096)
def number(written: str) -> str:
    """A number as written, ``1,234.50`` or ``.5`` or ``1.2.3``, in words; digits after a point are read one by one."""
    whole, *rest = written.split(".")
    return " point ".join([cardinal(whole or "0"), *(spelled(part) for part in rest)])


@lru_cache(maxsize=1024)
def ordinal(digits: str) -> str:
    """``"21"`` to ``twenty-first``."""
    plain = digits.replace(",", "")
    if len(plain) > MAX_CARDINAL_DIGITS:
        raise Unspeakable(f"an ordinal of {len(plain)} digits", "complexity")
    return _american(str(num2words(int(plain), to="ordinal")))


@lru_cache(maxsize=1024)
def year(digits: str) -> str:
    """``"1905"`` to ``nineteen oh five``."""
    return _american(str(num2words(int(digits), to="year"))).replace("oh-", "oh ")


def mass_number(digits: str) -> str:
    """Of an isotope: ``"235"`` to ``two thirty-five``, ``"14"`` to ``fourteen``."""
    if len(digits) != 3 or digits[0] == "0" or digits[1:] == "00":
        return cardinal(digits)
    rest = f"oh {_digit(digits[2])}" if digits[1] == "0" else cardinal(digits[1:])
    return f"{_digit(digits[0])} {rest}"


def plural(word: str) -> str:
    """The plural of a number word: ``nineteen nineties``."""
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith("x") else "s")


_NAMED_PARTS = frozenset((*range(2, 11), 16, 32, 64, 100))  # denominators with a name that is heard as a fraction


def fraction(above: int, below: int) -> str:
    """``3, 4`` to ``three quarters``; ``22, 7`` and ``1, 30`` to ``twenty-two over seven`` and ``one over thirty``."""
    if below not in _NAMED_PARTS or (above >= below and above != 0):
        return f"{cardinal(str(above))} over {cardinal(str(below))}"
    return part(above, below)


def part(above: int, below: int) -> str:
    """``3, 4`` to ``three quarters``."""
    name = {2: "half", 4: "quarter", 100: "hundredth"}.get(below) or ordinal(str(below))
    many = "halves" if below == 2 else f"{name}s"
    return f"{cardinal(str(above))} {name if above == 1 else many}"


# A number is entered at its first digit only (no digit, or point or comma after a digit, before it): each is read once.
START = r"(?<![0-9])(?<![0-9][.,])"
INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
BARE = r"(?<![A-Za-z0-9.)\]])\.[0-9]+"  # a decimal without its zero; after a full stop, a bracket or a word the point is not its
NUM = rf"(?:{INT}(?:\.[0-9]+)?|{BARE})"
END = r"(?![A-Za-z0-9])"
DIGITS = "0123456789"


def tokens(expression: str) -> str:
    """A short exponent or index, ``-3`` or ``2n`` or ``10+``, token by token; letters stay."""
    signs = {"+": "plus", "-": "minus", "−": "minus"}
    found = re.findall(r"[0-9]+|[A-Za-z]+|[+−-]|[^\s]", expression)
    return " ".join(signs.get(t) or (cardinal(t) if t.isdigit() and t.isascii() else t) for t in found)
