"""Strings that a machine reads: addresses, paths, identifiers, operators of programs, numbers in base sixteen."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules
from salad_eval.speakable.numbers import DIGITS, cardinal, spelled

addresses = Rules()  # before LaTeX: a backslash in a path begins no command
code = Rules()

_NAMES = {
    ".": "dot", "/": "slash", "\\": "backslash", ":": "colon", "@": "at", "-": "dash", "_": "underscore", "~": "tilde",
    "%": "percent", "?": "question mark", "=": "equals", "&": "and", "#": "hash", "+": "plus", ",": "comma",
    "!": "exclamation mark", ";": "semicolon",
}  # fmt: skip


def _by_name(address: str) -> str:
    """Letters as words, digits one by one, everything else by its name."""
    parts = re.findall(r"[A-Za-z]+|[0-9]+|.", address)
    return " ".join(_NAMES.get(part, spelled(part) if part.isdigit() else part) for part in parts)


@addresses.add(
    r"(?<![^\s(\"'<\[])(?:(?:https?|ftp)://|www\.)[A-Za-z0-9./_~%?=&#:+,@!;-]{1,300}"
    r"|(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[a-z]{2,20}",
    needs="./@",
)
def web_address(match: re.Match[str]) -> str:
    written = match.group()
    address = written.rstrip(".?:,!;")
    return _by_name(address) + written[len(address) :]


@addresses.add(
    r"(?<![A-Za-z0-9])[A-Za-z]:\\(?:[\w.-]{1,60}\\){0,10}[\w.-]{0,60}|(?<![\w\\])\\\\[\w.-]{1,60}\\[\w.\\-]{1,200}",
    needs="\\",
)
def windows_path(match: re.Match[str]) -> str:
    path = match.group().rstrip(".")
    return _by_name(path) + match.group()[len(path) :]


@addresses.add(
    r"(?<![\w/.)~])(?:~|\.{1,2})?(?:/[A-Za-z_.][\w.-]{0,60}){2,12}/?(?!\w)|(?<![\w/.)])(?:~"
    r"|\.{1,2})/[A-Za-z_.][\w.-]{0,60}"
    r"|(?<![\w/.)])/(?:usr|etc|home|tmp|var|bin|dev|opt|root|proc)(?:/[\w.-]{1,60}){0,10}",
    needs="/",
)
def unix_path(match: re.Match[str]) -> str:
    path = match.group().rstrip(".")
    return _by_name(path) + match.group()[len(path) :]


@addresses.add(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::([0-9]{2,5}))?(?![\w.]|\.[0-9])", needs=".", also=DIGITS)
def network_address(match: re.Match[str]) -> str:
    host, _, port = match.group().partition(":")
    words = " dot ".join(cardinal(str(int(part))) for part in host.split("."))
    return words + (f" colon {cardinal(port)}" if port else "")


@addresses.add(r"(?<![A-Za-z.])[a-z0-9_]{2,40}\.[a-z]{2,20}(?:\.[a-z]{2,20})?(?![A-Za-z.])", needs=".")
def file_name(match: re.Match[str]) -> str:
    stem, *endings = match.group().split(".")
    return match.group() if stem.isdigit() else " dot ".join([stem, *endings])


@code.add(r"(?<![A-Za-z0-9])0[xX]([0-9A-Fa-f]{1,32})(?![A-Za-z0-9])", needs="xX")
def hexadecimal(match: re.Match[str]) -> str:
    return f"zero x {_digits_and_letters(match.group(1))}"


@code.add(r"(?<!\w)#(?=[0-9A-Fa-f]*[A-Fa-f])([0-9A-Fa-f]{6})(?!\w)|(?<!\w)#([0-9]{6})(?=\s+color)", needs="#")
def color(match: re.Match[str]) -> str:
    return f"hash {_digits_and_letters(match.group(1) or match.group(2))}"


@code.add(
    r"(?<!\w)(?=[0-9a-fA-F]*[0-9][a-fA-F]|[0-9a-fA-F]*[a-fA-F][0-9])[0-9a-fA-F]{8}(?:[0-9a-fA-F]{2}){0,30}(?!\w)",
    needs=DIGITS,
)
def long_hexadecimal(match: re.Match[str]) -> str:
    mixed = sum(a.isdigit() != b.isdigit() for a, b in zip(match.group(), match.group()[1:], strict=False))
    return _digits_and_letters(match.group()) if mixed >= 2 else match.group()


def _digits_and_letters(text: str) -> str:
    return " ".join(spelled(c) if c.isdigit() else c.upper() for c in text)


@code.add(
    r"(?<![A-Za-z])[a-z]{2,20}(?:[A-Z][a-z]{1,20}|[A-Z]{2,6}(?![a-z])){1,6}(?![A-Za-z])",
    needs="ABCDEFGHIJKLMNOPQRSTUVWXYZ",
)
def camel_case(match: re.Match[str]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", match.group())


@code.add(r"(?<=[A-Za-z0-9_])\(\)", needs="(")
def empty_call(match: re.Match[str]) -> str:
    return " open parenthesis close parenthesis"


@code.add(r"\.(?:(?<=[a-z0-9_]\.)(?=[a-z_]{2,30}(?:\(| open))|(?<=[A-Za-z]\w\.)(?=[a-z]+_[a-z]))", needs=".", also="(_")
def attribute(match: re.Match[str]) -> str:
    return " dot "


_ASSIGNMENTS = {"+": "plus", "-": "minus", "*": "times", "/": "slash", "%": "percent", "|": "or", "&": "and"}


@code.add(r"(?<=[\w)\]]) ?([+*/%|&-])= ?(?=[\w(\[\"'-])", needs="=")
def assignment(match: re.Match[str]) -> str:
    return f" {_ASSIGNMENTS[match.group(1)]} equals "


@code.add(r"(?<=[A-Za-z0-9_)\]])(\+\+(?=[;),\s]|$)|--(?=[;)]))|(?<![\w+-])(\+\+|--)(?=[a-z](?![A-Za-z]))", needs="+-")
def increment(match: re.Match[str]) -> str:
    if match.group().startswith("-"):
        return " minus minus "
    return " plus plus "


@code.add(r"(?<=\|[A-Z])\|\|(?=[A-Z]\|)", needs="|")
def product_of_bars(match: re.Match[str]) -> str:
    return "| times |"


@code.add(r" ?(&&) ?| (\|\|) |(?<=\))(\|\|)(?=[(!])", needs="&|")
def logical(match: re.Match[str]) -> str:
    return " and " if "&" in match.group() else " or "


@code.add(r"(?<![\w)!?.'\"])!(?=[A-Za-z(])", needs="!")
def logical_not(match: re.Match[str]) -> str:
    return "not "


@code.add(r"(?<=[\w)\]]) ?===? ?", needs="=")
def double_equals(match: re.Match[str]) -> str:
    return f" {'double' if match.group().count('=') == 2 else 'triple'} equals "


@code.add(r"(?<=[a-z0-9)]) % (?=[A-Za-z0-9(](?![A-Za-z]))", needs="%")
def modulo(match: re.Match[str]) -> str:
    return " mod "


@code.add(r"(?<=[\w)]) ?// ?(?=[\w(])", needs="/")
def slashes(match: re.Match[str]) -> str:
    return " slash slash "
