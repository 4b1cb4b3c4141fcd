"""The normaliser behind every word and character error rate of this package.

An error rate compares what was said with what was heard, so two texts that sound alike must become the same string. In this
order:

1. Written forms that are read otherwise become what is said, by the same rules as the rendering step
   (``speakable.to_spoken``): digits, units, symbols and abbreviations. A text those rules refuse is taken as it is, and
   digits that are left become cardinal numbers.
2. The full stops of abbreviations go: ``U.S.`` is ``us``.
3. Unicode NFKC, lower case, accents off: ``Dvořák`` is ``dvorak``.
4. Apostrophes go without a trace (``don't`` is ``dont``, ``cow's`` is ``cows``): they cannot be heard.
5. Everything else that is neither letter nor digit, hyphens and underscores among them, separates words.
6. One wording for what is said in two ways (``wording.one_wording``): *it is* and *it's*, *okay* and *ok*, *colour* and
   *color*, *one hundred and one*, *two and a half* and *2.5*, *eighteen twelve* and *1812*.

Letters of all scripts stay. The result holds words separated by single spaces and normalises to itself.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from salad_eval.speakable import Unspeakable, cardinal, to_spoken
from salad_eval.speakable.wording import one_wording

NORMALISER = "salad-3"  # the name of these rules; it changes when a result does

_APOSTROPHES = re.compile("['\u2018\u2019\u201b\u02bc\u2032`\u00b4]")
_DIGITS = re.compile(r"\d+")
_STOPS = re.compile(r"(?<![^\W\d_])(?:[A-Za-z]\.){2,}|(?<![^\W\d_])Ph\.D\.?")
_NOT_A_WORD = re.compile(r"[\W_]+")


@lru_cache(maxsize=16_384)
def normalise(text: str) -> str:
    """``text`` as the words that are said: ``"It's 3 p.m., Zoë!"`` and ``"it is three p m zoe"`` become the same."""
    words = text if _is_normal(text) else _words(_STOPS.sub(_letters, _spoken(text)))
    return " ".join(one_wording(words.split()))


def _is_normal(text: str) -> bool:
    """Whether ``text`` consists of plain lower-case words already; these are not read as written forms again."""
    return not _DIGITS.search(text) and text == _words(text)


def _spoken(text: str) -> str:
    try:
        return to_spoken(text)
    except Unspeakable:  # a transcript may hold anything; what cannot be said separates words below
        return text


def _words(text: str) -> str:
    text = _DIGITS.sub(_cardinal, unicodedata.normalize("NFKC", text))
    decomposed = unicodedata.normalize("NFD", text.casefold())
    plain = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return _NOT_A_WORD.sub(" ", _APOSTROPHES.sub("", unicodedata.normalize("NFKC", plain))).strip()


def _letters(match: re.Match[str]) -> str:
    return match.group().replace(".", "")


def _cardinal(match: re.Match[str]) -> str:
    return f" {cardinal(match.group())} "
