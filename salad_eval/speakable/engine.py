"""Rules that replace written forms by words, and the account they keep of every character they replace.

A ``Rule`` is a pattern with a function from a match to words. It may not make ink vanish: a match with anything but
blanks and ``PUNCTUATION`` in it must leave a word behind, unless the rule says what class of silent marks it removes
(``silences``). That local condition is enough for the whole: a character that became words is part of whatever those
words become next, and that must be words again. ``Trace`` follows the characters through all rules, for
``spoken_spans``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Protocol

from salad_eval.errors import SaladError

PUNCTUATION = frozenset(".,;:?!'\"()-–—‐‑‒―…’‘‛‚ʻʼʿʾ´“”„«»‹›¿¡")
"""Marks that shape the melody of a sentence: they may go, or turn into each other, without leaving a word."""
NO_WIDTH = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\ufe0e\ufe0f")
"""Hints to a typesetter and marks of a file's beginning: neither seen nor heard."""


class Unspeakable(SaladError):
    """A written text that has no spoken form.

    ``kind`` is one of ``REJECTS`` and is what reports count; ``reason`` says what in the text cannot be said.
    """

    def __init__(self, reason: str, kind: str = "symbol") -> None:
        self.reason, self.kind = reason, kind
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Edit:
    """The characters ``[start, end)`` of a text, replaced."""

    start: int
    end: int
    words: str


Say = Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of written form and how it is said. The words are set off by spaces where they would touch a word.

    Args:
        needs, also: characters of which the form has at least one each: most texts have none of most, and the search is saved.
        silences: the class of marks that the rule may remove without a word; empty if it may not.
        spaced: whether the words are set off by spaces; not where a letter takes the place of another.
    """

    name: str
    pattern: str
    needs: frozenset[str]
    say: Say
    silences: str = ""
    spaced: bool = True
    also: frozenset[str] = frozenset()

    def __call__(self, text: str, edits: list[Edit] | None = None) -> str:
        """The text with every match replaced; the replacements are added to ``edits``, if given, in their order."""

        def replace(match: re.Match[str]) -> str:
            written, words = match.group(), self.say(match)
            if words == written:
                return words
            if not self.silences and _is_silent(words) and not _is_silent(written):
                raise Unspeakable(f"the rule {self.name!r} leaves no word of {written[:40]!r}", "lost")
            if words and self.spaced:
                if text[match.start() - 1 : match.start()].isalnum() and words[0].isalnum():
                    words = " " + words
                if text[match.end() : match.end() + 1].isalnum() and words[-1].isalnum():
                    words += " "
            if edits is not None:
                edits.append(Edit(match.start(), match.end(), words))
            return words

        return _compiled(self.pattern).sub(replace, text)


# Not where a rule is made: two hundred of them take most of a second, and many a process that imports them speaks nothing.
_compiled = cache(re.compile)


def any_of(words: Iterable[str]) -> str:
    """An expression for any of the words, the longest first, in which what they have in common stands once.

    Tried at each letter of a text, a plain alternation of a hundred units takes ten times as long.
    """
    trie: dict[str, Any] = {}
    for word in words:
        node = trie
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _expression(trie)


def _expression(trie: dict[str, Any]) -> str:
    branches = [re.escape(character) + _expression(rest) for character, rest in trie.items() if character]
    if not branches:
        return ""
    optional = "?" if "" in trie else ""
    return branches[0] if len(branches) == 1 and not optional else f"(?:{'|'.join(branches)}){optional}"


def before(match: re.Match[str], n: int = 24) -> str:
    """Up to ``n`` characters before a match: a rule that looks at all of them would be quadratic in the text."""
    return match.string[max(0, match.start() - n) : match.start()]


def after(match: re.Match[str], n: int = 24) -> str:
    """Up to ``n`` characters after a match."""
    return match.string[match.end() : match.end() + n]


@lru_cache(maxsize=64)
def is_anywhere(pattern: str, text: str) -> bool:
    """Whether a text has a form anywhere in it: kept, for a rule asks at each of its matches in the same text."""
    return re.search(pattern, text) is not None


class Rules(list["Rule"]):
    """A list of rules in the order they are applied in; ``add`` as a decorator adds a function to its end."""

    def __init__(self, spaced: bool = True) -> None:
        super().__init__()
        self.spaced = spaced

    def add(
        self, pattern: str, needs: Iterable[str] = "", also: Iterable[str] = "", silences: str = ""
    ) -> Callable[[Say], Say]:
        def add(say: Say) -> Say:
            name = say.__name__.strip("_")
            self.append(Rule(name, pattern, frozenset(needs), say, silences, self.spaced, frozenset(also)))
            return say

        return add


class Rewriter(Protocol):
    """What the rules of a list have in common; a ``Rule`` is one pattern, ``latex.Latex`` a small parser."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def also(self) -> frozenset[str]: ...
    @property
    def silences(self) -> str: ...
    def __call__(self, text: str, edits: list[Edit] | None = None) -> str: ...


def apply(rules: Iterable[Rewriter], text: str, trace: Trace | None = None) -> str:
    """The text after all rules, one after the other."""
    characters = set(text)
    for rule in rules:
        if (rule.needs and rule.needs.isdisjoint(characters)) or (rule.also and rule.also.isdisjoint(characters)):
            continue
        edits: list[Edit] | None = None if trace is None else []
        new = rule(text, edits)
        if trace is not None and edits:
            trace.follow(rule, edits)
        if new is not text and new != text:
            text, characters = new, set(new)
    return text


def _is_silent(text: str) -> bool:
    return all(c in PUNCTUATION or c in NO_WIDTH or c.isspace() for c in text)


# --- the account -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpokenSpan:
    """Characters of a written text and what became of them.

    Attributes:
        written: the characters as given.
        spoken: what they became in the spoken form, blanks included; empty if nothing is left of them.
        silent: why nothing is heard of them: ``blank``, ``punctuation``, ``no width``, or the class that a rule declares
            (``markup``, ``bullet`` …). Empty for a span that is heard.
        rules: the names of the rules that made it; none where the characters stayed as they were.
    """

    written: str
    spoken: str
    silent: str = ""
    rules: tuple[str, ...] = ()


@dataclass(slots=True)
class Trace:
    """For each character of a text on its way through the rules, the characters of the written text it came from."""

    written: str
    origins: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)
    removed: list[tuple[int, int, str, str]] = field(default_factory=list)  # start, end, rule, what it silences

    def __post_init__(self) -> None:
        self.origins = [(k, k + 1, ()) for k in range(len(self.written))]

    def follow(self, rule: Rewriter, edits: Iterable[Edit]) -> None:
        """Carry the origins over one rule's edits, which are in order and do not overlap."""
        new: list[tuple[int, int, tuple[str, ...]]] = []
        at = 0
        for edit in edits:
            new += self.origins[at : edit.start]
            old = self.origins[edit.start : edit.end]
            if old:
                start, end = min(o[0] for o in old), max(o[1] for o in old)
            else:
                start = end = self.origins[edit.start - 1][1] if edit.start else 0
            if end > start and _is_silent(edit.words):
                self.removed.append((start, end, rule.name, rule.silences))
            names = tuple(dict.fromkeys([*(name for o in old for name in o[2]), rule.name]))
            new += [(start, end, names)] * len(edit.words)
            at = edit.end
        self.origins = new + self.origins[at:]

    def spans(self, spoken: str) -> list[SpokenSpan]:
        """The written text cut into spans, each with its share of ``spoken``; in order, with no gap and no overlap."""
        cuts: list[list[int]] = []  # start and end in the written text, start and end in the spoken one
        for at, (start, end, _) in enumerate(self.origins):
            if cuts and start < max(cuts[-1][1], cuts[-1][0] + 1):
                cuts[-1][1], cuts[-1][3] = max(cuts[-1][1], end), at + 1
            else:
                cuts.append([start, end, at, at + 1])
        found: list[SpokenSpan] = []
        at = 0
        for start, end, first, last in cuts:
            found += self._gap(at, start)
            rules = tuple(dict.fromkeys(name for o in self.origins[first:last] for name in o[2]))
            written, words = self.written[start:end], spoken[first:last]
            silent = "" if any(map(str.isalnum, words)) else self._silence(start, end)
            previous = found[-1] if found else None
            plain = not rules and not silent
            if plain and previous is not None and not (previous.rules or previous.silent) and previous.spoken:
                found[-1] = SpokenSpan(previous.written + written, previous.spoken + words)
            else:
                found.append(SpokenSpan(written, words, silent, rules))
            at = end
        return found + self._gap(at, len(self.written))

    def _gap(self, start: int, end: int) -> list[SpokenSpan]:
        if end <= start:
            return []
        rules = tuple(dict.fromkeys(rule for a, b, rule, _ in self.removed if a < end and b > start))
        return [SpokenSpan(self.written[start:end], "", self._silence(start, end), rules)]

    def _silence(self, start: int, end: int) -> str:
        written = self.written[start:end]
        if not written.strip():
            return "blank"
        if all(c in NO_WIDTH or c.isspace() for c in written):
            return "no width"
        if _is_silent(written):
            return "punctuation"
        declared = [(a, b, silences) for a, b, _, silences in self.removed if silences and a < end and b > start]
        covered = {k for a, b, _ in declared for k in range(a, b)}
        if all(k in covered or _is_silent(self.written[k]) for k in range(start, end)):
            return declared[0][2]
        return "lost"
