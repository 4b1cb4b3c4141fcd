"""Yes or no, read strictly from a generated text (BoolQ and the like).

1. *The answer alone*: the text, or its first or last line, is nothing but "yes" or "no" (or "true", "yeah", "nope", …).
2. *A stated answer*: "Answer: …", "the answer is …", followed by such a word.
3. *The opening word* of the text, where it answers: "Yes, …", "No. …", "No, it is not"; not "No one …", which denies something else.

The first rule that finds anything decides; "yes and no" and two different answers are contradictory and unparsed.
"""

from __future__ import annotations

import re
import unicodedata

YES = frozenset(("yes", "yeah", "yep", "yup", "true"))
NO = frozenset(("no", "nope", "nah", "false"))

_WORD = r"(?P<word>" + "|".join(sorted(YES | NO)) + r")\b"
_OTHER = r"(?:" + "|".join(sorted(YES | NO)) + r")\b"
_ALONE = re.compile(rf"[\"'“(\s]*{_WORD}[\"'”).,;:!\s]*", re.IGNORECASE)
_STATED = re.compile(
    rf"\banswer(?:\s+(?:to\s[^.\n:]{{1,80}}?\s)?(?:is|would be|must be|should be)\b\s*:?|\s*:)[\s\"'“(:,]*"
    rf"(?:(?:clearly|definitely|therefore|simply|a|an)\s+)*{_WORD}(?P<rest>[^\n.!?]*)",
    re.IGNORECASE,
)
_ANSWERS = (
    r"(?=\s*(?:$|[\n.,;:!)\"'”–—]|-\s|(?:it|they|he|she|we|you|there|this|that|these|those|i|because|since|as)\b))"
)
_OPENING = re.compile(rf"[\"'“(\s]*{_WORD}{_ANSWERS}(?P<rest>[^\n.!?]*)", re.IGNORECASE)
_BOTH = re.compile(
    rf"\W*(?:(?:and|or|but|but also|maybe|/)\W*)?{_OTHER}(?!\s+(?:one|longer|more|doubt|matter)\b)", re.IGNORECASE
)
_EMPHASIS = re.compile(r"[*`_]|\\boxed\s*\{([^{}]*)\}")


def read_yes_no(text: str) -> bool | None:
    """True for yes, False for no, ``None`` where the text gives neither or both (see the module)."""
    plain = _EMPHASIS.sub(lambda match: match[1] or "", unicodedata.normalize("NFKC", text)).strip()
    for rule in (_alone, _stated, _opening):
        found = rule(plain)
        if found:
            return next(iter(found)) if len(found) == 1 else None
    return None


def is_yes(word: str) -> bool | None:
    """What an option or a right answer says: True, False, or ``None`` where it is neither yes nor no."""
    folded = word.strip().strip("\"'().!").casefold()
    return True if folded in YES else False if folded in NO else None


def _alone(text: str) -> set[bool | None]:
    lines = [line for line in text.splitlines() if line.strip()]
    matches = [_ALONE.fullmatch(line) for line in dict.fromkeys((lines[0], lines[-1]))] if lines else []
    return {is_yes(match["word"]) for match in matches if match}


def _stated(text: str) -> set[bool | None]:
    return {_unless_both(match) for match in _STATED.finditer(text)}


def _opening(text: str) -> set[bool | None]:
    match = _OPENING.match(text)
    return {_unless_both(match)} if match else set()


def _unless_both(match: re.Match[str]) -> bool | None:
    """What the word says; ``None`` where another such word stands right beside it and says the contrary."""
    said = is_yes(match["word"])
    other = _BOTH.match(match["rest"])
    return None if other and is_yes(re.findall(r"\w+", other[0])[-1]) is not said else said
