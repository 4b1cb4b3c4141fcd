"""Which of the given options a free reply names, read strictly: by letter or by text, with negation and several answers told."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

LETTERS = string.ascii_uppercase


_ANSWER_LEAD = re.compile(r"^(?:(?:the|my)\s+)?(?:(?:final|correct|right)\s+)?answer\s*(?:is|:)\s*:?\s*", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:a|an|the)\s+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def normalised_answer(text: str) -> str:
    """A free answer for exact comparison: one Unicode form, no case, no emphasis, no "The answer is", article, or outer
    punctuation.
    """
    text = _ANSWER_LEAD.sub("", _plain(text).strip())
    text = _THOUSANDS.sub("", " ".join(text.casefold().split()))
    return _ARTICLE.sub("", _trimmed(text))


def shows_letters(context: str, choices: Sequence[str]) -> bool:
    """Whether letters name the options: the context lists every option with its letter, or the options are the letters
    themselves.
    """
    if not choices or len(choices) > len(LETTERS):
        return False
    if _are_letters(choices):
        return True
    return all(
        re.search(rf"(?<!\w)[(\[]?{letter}[)\].:]\s*{re.escape(choice.strip())}(?!\w)", context)
        for letter, choice in zip(LETTERS, choices, strict=False)
    )


def extract_choice(text: str, choices: Sequence[str], *, lettered: bool = True) -> int | None:
    """The option a generated text gives as its answer, or ``None`` where it gives none or more than one (see the
    module).
    """
    plain = _plain(text)
    reader = _reader(tuple(choices), lettered)
    for rule in (reader.alone, reader.stated, reader.only_named):
        found = rule(plain)
        if found:
            return next(iter(found)) if len(found) == 1 and None not in found else None
    return None


def _are_letters(choices: Sequence[str]) -> bool:
    return [choice.strip().upper().strip("().") for choice in choices] == list(LETTERS[: len(choices)])


def _plain(text: str) -> str:
    """One Unicode form, without emphasis or ``\\boxed{…}``."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    for command in ("text", "boxed"):
        text = re.sub(rf"\\{command}\s*\{{([^{{}}]*)\}}", r"\1", text)
    text = re.sub(r"[*`$]", "", text)
    return re.sub(r"(?<!\w)_+|_+(?!\w)", "", text)


def _trimmed(text: str) -> str:
    """Without whitespace and quotes around it, or sentence punctuation at its end."""
    return text.strip().strip("\"'“”").rstrip(".!,;:").strip().strip("\"'“”")


_STATEMENT = re.compile(
    r"\b(?:answer|option|choice)(?:\s+is)?\s*:"
    r"|\b(?:answer|(?:correct|right|best)\s+(?:option|choice|one))\s+(?:is|would be|must be|should be|has to be)\b\s*:?"
    r"|\bI(?:'d|'ll| would| will)?\s+(?:choose|pick|select|go with)\b",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:[\s\"'“,:]|\b(?:a|an|the|option|choice|letter|clearly|definitely|therefore|most|likely|probably)\b(?!\s*[.)]))*",
    re.IGNORECASE,
)
_DELIMITER = re.compile(r"[\s.:,;()\]\"'”-]*")
_ANOTHER = re.compile(r"[\s,]*(?:or|and|/)\s*(?!not\b)", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|cannot|without|except|unlike|wrong|incorrect|false|rather than|instead of)\b"
    r"|n't\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_NEVER = r"(?!)"


class _Reader:
    """The three rules for one set of options. Each gives the options found; ``None`` among them is a contradiction."""

    def __init__(self, choices: tuple[str, ...], lettered: bool) -> None:
        self.letters = LETTERS[: len(choices)] if lettered else ""
        self.by_text: dict[str, set[int]] = {}
        if not (lettered and _are_letters(choices)):
            for index, choice in enumerate(choices):
                self.by_text.setdefault(_folded(choice), set()).add(index)
            self.by_text.pop("", None)
        upper = f"[{self.letters}]" if self.letters else _NEVER
        either = f"[{self.letters}{self.letters.lower()}]" if self.letters else _NEVER
        bracketed = rf"[(\[]\s*(?P<bracketed>{either})\s*[)\]]"
        ends = r"(?=\s*(?:$|[\n.,;:!?)(\]\"']|-\s|(?:because|since|as|which|and not|not)\b))"
        self._bracketed = re.compile(rf"(?<!\w){bracketed}")
        self._letter_alone = re.compile(
            rf"(?:(?:answer|option|choice|letter)\s*)?(?:{bracketed}|(?P<letter>{either}))\s*[.:,;)!]?", re.IGNORECASE
        )
        self._letter_stated = re.compile(rf"(?:{bracketed}|(?P<letter>{upper}){ends})")
        self._letter_listed = re.compile(rf"(?<![\w.'-])(?:{bracketed}|(?P<letter>{upper})\s*[.:)])(?=\s+\S)")
        texts = "|".join(_spaced(text) for text in sorted(self.by_text, key=len, reverse=True)) or _NEVER
        # Not within a longer word, number or compound: "12" is not in "120" or "12.5", nor "known" in "well-known".
        self._option = re.compile(rf"(?<![\w-])(?<!\d[.,])(?P<text>{texts})(?!\w)(?![-'/]\w)(?![.,]\d)", re.IGNORECASE)

    def alone(self, plain: str) -> set[int | None]:
        """Rule 1: the text, its first or its last line is a letter, an option's text, or both in agreement."""
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        found: set[int | None] = set()
        for line in dict.fromkeys((" ".join(lines), lines[0], lines[-1])) if lines else ():
            listed = self._letter_listed.match(line)
            named = self._exact(line[listed.end() :]) if listed else set()
            if listed and named:
                found.add(self._index(listed) if self._index(listed) in named else None)
            else:
                found |= self._exact(line)
                if letter := self._letter_alone.fullmatch(line):
                    found.add(self._index(letter))
        return found

    def stated(self, plain: str) -> set[int | None]:
        """Rule 2: what follows "Answer:" or "the answer is", and a letter with its delimiter that opens the text."""
        found: set[int | None] = set()
        for statement in _STATEMENT.finditer(plain):
            found |= self._begins_with(plain[statement.end() :].strip().partition("\n")[0])
        if self._letter_listed.match(plain.strip()):
            # "C. Because …" answers; "A. iron B. zinc …" repeats the options.
            listed = {self._index(match) for match in self._letter_listed.finditer(plain)}
            found |= self._begins_with(plain.strip()) if len(listed) == 1 else {None}
        return found

    def only_named(self, plain: str) -> set[int | None]:
        """Rule 3: every option named anywhere, by its text or by its letter in brackets; a negated one is no answer."""
        found: set[int | None] = set()
        for sentence in _SENTENCE_END.split(plain):
            mentions = [(m.start(), self._of_text(m)) for m in self._option.finditer(sentence)]
            mentions += [(m.start(), {self._index(m)}) for m in self._bracketed.finditer(sentence)]
            for start, options in mentions:
                found |= {None} if _NEGATION.search(sentence[:start]) or len(options) > 1 else options
        return found

    def _begins_with(self, phrase: str) -> set[int | None]:
        """The option a phrase begins with: a letter that ends there or an option's text; ``None`` where another stands
        beside it.
        """
        letter = None
        for start in (0, _end_of(_OPENING, phrase, 0)):  # "A" is a letter before it is an article
            letter = letter or self._letter_stated.match(phrase, start)
        if letter:
            index = self._index(letter)
            next_start = _end_of(_DELIMITER, phrase, letter.end())
            beside = self._letter_stated.match(phrase, next_start)
            named = self._option.match(phrase, _end_of(_OPENING, phrase, next_start))
            disagrees = (beside and self._index(beside) != index) or (named and index not in self._of_text(named))
            return {None} if disagrees or _ANOTHER.match(phrase, letter.end()) else {index}
        option = self._option.match(phrase, _end_of(_OPENING, phrase, 0))
        if not option:
            return set()
        options = self._of_text(option)
        rest = phrase[option.end() :]
        if (another := _ANOTHER.match(rest)) and self._begins_with(rest[another.end() :]):
            return {None}
        if (label := self._bracketed.match(rest.lstrip())) and self._index(label) not in options:
            return {None}
        return set(options) if len(options) == 1 else {None}

    def _exact(self, text: str) -> set[int]:
        folded = _folded(text)
        return self.by_text.get(folded) or self.by_text.get(_ARTICLE.sub("", folded)) or set()

    def _of_text(self, match: re.Match[str]) -> set[int]:
        return self.by_text[_folded(match["text"])]

    def _index(self, match: re.Match[str]) -> int:
        groups = match.groupdict()
        return self.letters.index((groups.get("bracketed") or groups.get("letter") or "").upper())


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where the run of ``pattern`` that begins at ``start`` ends."""
    match = pattern.match(text, start)
    return match.end() if match else start


@lru_cache(maxsize=4096)
def _reader(choices: tuple[str, ...], lettered: bool) -> _Reader:
    return _Reader(choices, lettered)


def _folded(text: str) -> str:
    return " ".join(_trimmed(_plain(text)).casefold().split())


def _spaced(folded: str) -> str:
    """A pattern for an option's text that takes any run of whitespace where it has a space."""
    return r"\s+".join(re.escape(word) for word in folded.split())
