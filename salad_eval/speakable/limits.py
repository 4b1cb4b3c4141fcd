"""What is not read aloud at all: texts that nobody could follow by ear, by rules that are few and stated.

========== ============================================================================================================
kind       rule
========== ============================================================================================================
script     a letter of a script other than Latin; or three or more Greek letters in a row, a Greek word
garbled    a control or replacement character, one of private use, or the remains of a wrong decoding
markup     a tag of HTML, a command of LaTeX that is not in our tables, a brace or argument that is not closed
layout     a table (two lines with two bars or tabs each, or one with four), a LaTeX environment
code       a block of code: three lines or more that look like a program, or a third of at least eight
symbols    more than ``MAX_SIGNS_IN_A_ROW`` signs in a row; or signs that are more than ``MAX_SHARE_OF_SIGNS`` of a text
           with at least ``MIN_SIGNS`` of them: ASCII art
complexity brackets more than ``MAX_DEPTH`` deep or more than ``MAX_OPERATORS`` operators in a line without a word between,
           LaTeX more than three arguments deep or of more than forty commands, an ordinal of more than fifteen digits
unclear    a sign or number that is read in two ways, with nothing to tell by which: ``7-3`` in the midst of a sentence, ``2st``
symbol     a character without a name in our tables
silent     nothing but punctuation: ``!`` alone makes a synthesiser say a breath or its name
lost       a rule would leave no word of what it replaces (never seen; the guard of last resort)
========== ============================================================================================================
"""

from __future__ import annotations

import re
import unicodedata

from salad_eval.speakable.engine import NO_WIDTH, Unspeakable
from salad_eval.speakable.symbols import GREEK_LETTERS, SIGNS

REJECTS = (
    "script", "garbled", "markup", "layout", "code", "symbols", "complexity", "unclear", "symbol", "silent", "lost",
)  # fmt: skip
"""The kinds of ``Unspeakable``, in the order of the table above."""

MAX_SIGNS_IN_A_ROW = 5  # not counting blanks: "____", and rules "-----" and ". . . ."
MAX_SHARE_OF_SIGNS = 0.4
MIN_SIGNS = 30
MAX_OPERATORS = 30
MAX_DEPTH = 4  # of brackets, in a formula
MIN_CODE_LINES = 3

_SIGN = "[" + re.escape("".join(sorted({c for sign in SIGNS for c in sign} - set("-°′″%$")))) + "]"
_ROW_OF_SIGNS = re.compile(
    rf"(?:(?!__|\.\.|--|\*\*\*|===|~~~|&&|\|\|){_SIGN}){{{MAX_SIGNS_IN_A_ROW + 1},}}"
    rf"|([*=~#+|\\/<>^])\1{{{MAX_SIGNS_IN_A_ROW},}}"
)
_GREEK_WORD = re.compile("[\u0370-\u03ff\u1f00-\u1fff]{3,}")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,20}(?: [^<>\n]{0,200})?/?>")
_COMPARISONS = re.compile(r"</?[A-Za-z] [^=]*>")  # "a <b and c> d"
_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|for|while|if|elif|else|return|import|from|print|public|private|static|void"
    r"|int|float|double|char|"
    r"var|let|const|function|switch|case|try|except|with|using|#include|SELECT|INSERT|UPDATE)\b.*[(:;{}=].*|[}\]{)]+;?|"
    r"[\w.\[\]\"']+ ?(?:=|\+=|-=|:=|<-) ?\S.*|.*[=()\[\]{}<>+].*;|.*\{|[\w.]+\(.*\);?|//.*|/\*.*|#\s?\w.*)\s*$"
)
_OPERATOR = re.compile(r"[-+*/=×÷·^_<>≤≥−]")
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{3,}")


def check_layout(text: str) -> None:
    """Raise ``Unspeakable`` for a text, as it is written, that is a table or a program."""
    if "|" in text or "\t" in text:
        _check_table(text)
    if "\n" in text:
        _check_code(text)


def check_written(text: str) -> None:
    """Raise ``Unspeakable`` for a text (after ``symbols.forms``) that is not to be read aloud; see the module."""
    if not text.isascii():
        _check_characters(text)
    tag = _TAG.search(text) if "<" in text else None
    if tag and not _COMPARISONS.match(tag.group()):
        raise Unspeakable(f"markup that no reader would say aloud: {tag.group()[:40]!r}", "markup")
    if row := _ROW_OF_SIGNS.search(text):
        raise Unspeakable(f"more than {MAX_SIGNS_IN_A_ROW} signs in a row: {row.group()[:40]!r}", "symbols")
    n_signs = sum(map(text.count, SIGN_CHARACTERS & set(text)))
    if n_signs >= MIN_SIGNS:
        _check_density(text, n_signs)
    if n_signs > MAX_DEPTH:
        _check_depth(text)


SIGN_CHARACTERS = frozenset(c for sign in SIGNS for c in sign) - set("!-°'_CF%$")


def _check_density(text: str, n_signs: int) -> None:
    n_ink = len("".join(text.split()))
    if n_signs > MAX_SHARE_OF_SIGNS * n_ink:
        raise Unspeakable(f"{n_signs} of {n_ink} characters are signs", "symbols")
    for line in text.splitlines():
        for formula in _WORD.split(line):
            if len(_OPERATOR.findall(formula)) > MAX_OPERATORS:
                raise Unspeakable(
                    f"a formula with more than {MAX_OPERATORS} operators: {formula.strip()[:40]!r}", "complexity"
                )


def _check_depth(text: str) -> None:
    for line in text.splitlines():
        if sum(map(line.count, "([")) <= MAX_DEPTH:
            continue
        for formula in _WORD.split(line):
            depth = 0
            for character in formula:
                depth += (character in "([") - (character in ")]")
                if depth > MAX_DEPTH:
                    raise Unspeakable(f"brackets more than {MAX_DEPTH} deep: {formula.strip()[:40]!r}", "complexity")


def _check_characters(text: str) -> None:
    for character in text:
        if character.isascii() or character in NO_WIDTH:
            continue
        category = unicodedata.category(character)
        name = unicodedata.name(character, "an unnamed character")
        what = f"{character!r} (U+{ord(character):04X}, {name})"
        if category in ("Cc", "Co", "Cs", "Cn") or character == "\ufffd":
            raise Unspeakable(f"a character that is the trace of a damaged text: {what}", "garbled")
        if category[0] in "LMN" and character not in GREEK_LETTERS and _script(name) and character not in SIGNS:
            raise Unspeakable(
                f"a letter of the {_script(name).capitalize()} script, which is not read as English: {what}", "script"
            )
    if word := _GREEK_WORD.search(text):
        raise Unspeakable(f"a word in the Greek script, which is not read as English: {word.group()[:40]!r}", "script")


_SCRIPTS_OF_SIGNS = frozenset({
    "LATIN", "SUPERSCRIPT", "SUBSCRIPT", "VULGAR", "FRACTION", "DOUBLE-STRUCK", "SCRIPT", "MICRO", "OHM", "KELVIN",
    "ANGSTROM", "FEMININE", "MASCULINE", "MODIFIER", "CIRCLED", "MATHEMATICAL", "PLANCK", "BLACK-LETTER", "ALEF", "ROMAN",
    "FULLWIDTH", "COMBINING", "GREEK",
})  # fmt: skip


def _script(name: str) -> str:
    """The script in a character's Unicode name; empty for signs and for Latin."""
    first = name.split(" ")[0]
    return (
        "" if (first in _SCRIPTS_OF_SIGNS and name[:5] not in ("GREEK",)) or name == "an unnamed character" else first
    )


def _check_table(text: str) -> None:
    n_rows = 0
    for line in text.splitlines():
        n_cells = max(line.count("|") - 2 * line.count("||"), line.strip().count("\t"))
        if n_cells >= 4 and not re.search(r"[=<>≤≥]|\|[^|]{1,12}\| ?[-+−]", line):  # else bars of absolute values
            raise Unspeakable(f"a row of a table: {line.strip()[:40]!r}", "layout")
        n_rows += n_cells >= 2
    if n_rows >= 2:
        raise Unspeakable("a table", "layout")


def _check_code(text: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < MIN_CODE_LINES:
        return
    n_code = sum(_CODE_LINE.match(line) is not None and not _is_sentence(line) for line in lines)
    if n_code >= MIN_CODE_LINES and n_code * 3 >= len(lines):
        raise Unspeakable(f"a block of code ({n_code} lines)", "code")


def _is_sentence(line: str) -> bool:
    """A line of prose may end in a semicolon, or begin with *for*; it has words and few signs."""
    return (len(re.findall(r"\b[A-Za-z]{2,}\b", line)) >= 5 and not re.search(r"[={}\[\]]|\(\)|;$", line)) or (
        len(re.findall(r"(?<![\w.])[A-Za-z]{2,}(?![\w(=.])", line)) >= 6 and not re.search(r"[={}\[\]]", line)
    )
