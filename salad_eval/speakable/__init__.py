"""Written English to the words a speaker would say: ordered small rules with names, then a check of each character.

A synthesiser skips what it does not know without a word, and then a benchmark measures the skip. So nothing is left to
it: after the rules a text holds letters, the marks that shape its melody (``. , ; : ? ! ' " ( ) -``), nothing else. What
has no spoken form raises ``Unspeakable``, and the item becomes a counted reject; ``limits`` states when.

``spoken_spans`` is the account: each written character with the words it became, or with the class of silent marks it
belongs to.

The text is untrusted. No rule backtracks over more than a number or a word, and a number is entered at its first digit.

    engine.py     rules that replace written forms, and the account they keep
    limits.py     what is not read aloud at all
    text.py       prose: options, bullets, emphasis, abbreviations
    dates.py      dates, times, years
    money.py      sums of money
    units.py      amounts with a unit
    numbers.py    numbers in words
    roman.py      Roman numerals, by what stands around them
    signs.py      what a dash is: sign, subtraction, range
    formulas.py   formulas in plain notation
    latex.py      simple LaTeX
    chemistry.py  formulas of chemistry
    code.py       addresses, paths, identifiers
    symbols.py    signs and letters that are left
    normalise.py  the normaliser of word and character errors
    spelling.py   one spelling of a word that has two
    wording.py    one wording of what is said in two ways
"""

from __future__ import annotations

import unicodedata

from salad_eval.speakable import chemistry, code, dates, formulas, money, roman, signs, symbols, text, units
from salad_eval.speakable.engine import NO_WIDTH, PUNCTUATION, Rewriter, SpokenSpan, Trace, Unspeakable, apply
from salad_eval.speakable.latex import Latex
from salad_eval.speakable.limits import REJECTS, check_layout, check_written
from salad_eval.speakable.numbers import cardinal, number, ordinal, spelled, year

__all__ = [
    "NO_WIDTH", "PUNCTUATION", "REJECTS", "RULES", "Rewriter", "SpokenSpan", "Unspeakable", "cardinal", "number", "ordinal",
    "spelled", "spoken_spans", "to_spoken", "year",
]  # fmt: skip

RULES: tuple[Rewriter, ...] = (
    *code.addresses,
    Latex(),
    *money.notations,
    *text.layout,
    *roman.rules,
    *text.abbreviations,
    *dates.rules,
    *money.rules,
    *dates.years,
    *units.powers,
    *code.code,
    *chemistry.rules,
    *signs.rules,
    *units.rules,
    *formulas.rules,
    *symbols.rules,
)
"""The rules in the order they are applied in."""

MAX_ROUNDS = 8  # one does nearly always; a second finds what the first brought together
_PROSODY = frozenset(".,;:?!'\"()- ")


def to_spoken(text: str) -> str:
    """The words a reader would say for a written English text, with the punctuation that shapes its melody.

    Pure, and the identity on its own results. Plain English comes back as it is but for its whitespace. Raises
    ``Unspeakable`` where a character or a piece of mark-up has no spoken form, where it cannot be told how a sign is read,
    and where nothing but punctuation would be left, so that nothing is dropped in silence.
    """
    return _spoken(text, None)


def spoken_spans(text: str) -> list[SpokenSpan]:
    """The written text cut into spans with what became of each; raises ``Unspeakable`` as ``to_spoken`` does.

    The ``written`` parts, joined, are the text; the ``spoken`` parts, joined, are ``to_spoken`` of it. A span in which
    nothing is heard says why in ``silent``; a rule that dropped more than it may would show there as ``lost``.
    """
    trace = Trace(text)
    return trace.spans(_spoken(text, trace))


def _spoken(text: str, trace: Trace | None) -> str:
    check_layout(text)
    given, written = text, apply(symbols.forms, text, trace)
    check_written(written)
    for _ in range(MAX_ROUNDS):
        spoken = apply(symbols.tidy, apply(RULES, written, trace), trace)
        if spoken == written:
            _check(spoken, given)
            return spoken
        written = spoken
    _check(written, given)
    raise Unspeakable(f"the text does not come to rest when its written forms are replaced: {text!r:.80}", "complexity")


def _check(text: str, written: str) -> None:
    for character in set(text):
        latin = character.isalpha() and (character.isascii() or "\u00c0" <= character <= "\u00ff")
        if not (latin or character in _PROSODY):
            name = unicodedata.name(character, "an unnamed character")
            raise Unspeakable(f"no spoken form for {character!r} (U+{ord(character):04X}, {name})", "symbol")
    if written.strip() and not any(map(str.isalpha, text)):
        raise Unspeakable(f"there is nothing to say: {written[:40]!r}", "silent")
