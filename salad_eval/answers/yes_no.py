"""Yes or no, read strictly from a generated text (BoolQ and the like).

1. *The answer alone*: the text, or its first or last line, is nothing but "yes" or "no", or a word or phrase that says the same ("true",
   "nope", "of course", "absolutely not", …).
2. *A stated answer*: "Answer: …", "the answer is …", followed by such a word.
3. *The opening word* of the text, where it answers: "Yes, …", "No. …", "No, it is not"; not "No one …", which denies something else.

The first rule that finds anything decides; "yes and no" and two different answers are contradictory and unparsed. "Sure", "of course",
"certainly" and "absolutely" also open replies to a request ("Sure! Here is …"): they answer where they are the whole text, or where what
follows says that something is so ("Of course it does").
"""

from __future__ import annotations

import re
import unicodedata

from salad_eval.answers.reply import answer_part

_THAT = ("that", "this", "it")
_RIGHT = ("right", "correct", "true")
_WRONG = ("wrong", "incorrect", "false", "not true", "not correct", "not right")
YES = frozenset((
    "yes", "yeah", "yep", "yup", "aye", "true", "correct", "affirmative", "indeed", "yes indeed", "definitely", "exactly",
    "without a doubt", "without question", "you bet", "uh-huh",
    *(f"{that}{is_} {word}" for that in _THAT for is_ in ("'s", " is") for word in _RIGHT),
))  # fmt: skip
NO = frozenset((
    "no", "nope", "nah", "nay", "negative", "never", "absolutely not", "certainly not", "definitely not", "of course not", "surely not",
    "not at all", "no way", "by no means", "false", "incorrect", "wrong", "not true", "not correct",
    *(f"{that}{is_} {word}" for that in _THAT for is_ in ("'s", " is") for word in _WRONG),
))  # fmt: skip
# Also what a helpful assistant begins with, whatever it goes on to say.
OBLIGING = frozenset(
    [
        "sure",
        "sure thing",
        "surely",
        "right",
        "totally",
        "naturally",
        "of course",
        "certainly",
        "absolutely",
        "for sure",
        "by all means",
    ]
)


def _any_of(*kinds: frozenset[str]) -> str:
    phrases = sorted(frozenset().union(*kinds), key=len, reverse=True)
    return r"(?:" + "|".join(phrase.replace(" ", r"\s+") for phrase in phrases) + r")\b"


_WORD = rf"(?P<word>{_any_of(YES, NO)})"
_ANY_WORD = rf"(?P<word>{_any_of(YES, NO, OBLIGING)})"
_OTHER = r"(?P<other>(?:yes|yeah|yep|true|no|nope|false|(?:absolutely|certainly|definitely|of course|surely) not)\b)"
# "Oh yes", "absolutely yes", "yes, sir", "yes, of course".
_BEFORE = rf"(?:(?:oh|well|clearly|definitely|{_any_of(OBLIGING)})[\s,!]+)?"
_AFTER = rf"(?:[\s,]+(?:sir|ma'am|indeed|definitely|please|{_any_of(OBLIGING)})(?!\s+not\b))?"
_ALONE = re.compile(rf"[\"'“(\s]*{_BEFORE}{_ANY_WORD}{_AFTER}[\"'”).,;:!\s]*", re.IGNORECASE)
_STATED = re.compile(
    rf"\banswer[\"']?(?:\s+(?:to\s[^.\n:]{{1,80}}?\s)?(?:is|would be|must be|should be)\b\s*:?|\s*(?::|=|\s[-–—](?=\s)))[\s\"'“(:,]*"
    rf"(?:(?:clearly|definitely|therefore|simply|a|an)\s+)*{_ANY_WORD}(?P<rest>[^\n.!?]*)",
    re.IGNORECASE,
)
_PRONOUN = r"(?:it|they|he|she|we|you|there|this|that|these|those)"
_IT_IS = re.compile(  # "It is.", "They do not.": the whole text
    rf"[\"'“(\s]*{_PRONOUN}(?:'s|\s+(?:is|are|was|were|does|do|did|can|could|will|would|has|have|had|should|must))"
    r"(?P<not>n't|\s+not)?[\"'”).!\s]*|[\"'“(\s]*" + _PRONOUN + r"\s+(?P<cannot>can't|cannot|won't)[\"'”).!\s]*",
    re.IGNORECASE,
)
_ANSWERS = rf"(?=\s*(?:$|[\n.,;:!)\"'”–—]|-\s|(?:{_PRONOUN}|i|because|since|as)\b))"
# After an obliging word: "it is", "they do", and the whole sentence.
_VERB = r"(?:'s|\s+(?:(?:is|are|was|were|does|do|did|can|could|will|would|has|have|had|should|must|may|might)(?:n't)?|can't|won't))\b"
_SAYS_SO = rf"(?=\s+{_PRONOUN}{_VERB}|[,!.]\s+(?:it|they|he|she|there){_VERB})"
_OPENING = re.compile(
    rf"[\"'“(\s]*(?:{_WORD}{_ANSWERS}|(?P<obliging>{_any_of(OBLIGING)}){_SAYS_SO})(?P<rest>[^\n.!?]*)", re.IGNORECASE
)
_BOTH = re.compile(
    rf"\W*(?:(?:and|or|but|but also|maybe|/)\W*)?{_OTHER}(?!\s+(?:one|longer|more|doubt|matter)\b)", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:not|no|never|cannot|neither|nor)\b|n't\b", re.IGNORECASE)
_TAKEN_BACK = re.compile(rf"[.!?;]\s*{_OTHER}(?=\s*(?:[.,!;]|\Z))", re.IGNORECASE)  # "Yes. No."
_EMPHASIS = re.compile(r"[*`_]|\\boxed\s*\{([^{}]*)\}")


def read_yes_no(text: str) -> bool | None:
    """True for yes, False for no, ``None`` where the text gives neither or both (see the module)."""
    plain = unicodedata.normalize("NFKC", answer_part(text)).replace("’", "'")
    plain = _EMPHASIS.sub(lambda match: match[1] or "", plain).strip()
    for rule in (_alone, _stated, _opening):
        found = rule(plain)
        if found:
            return next(iter(found)) if len(found) == 1 else None
    return None


def is_yes(word: str) -> bool | None:
    """What an option or a right answer says: True, False, or ``None`` where it is neither yes nor no."""
    folded = " ".join(word.strip().strip("\"'().!").casefold().split())
    return True if folded in YES or folded in OBLIGING else False if folded in NO else None


def _alone(text: str) -> set[bool | None]:
    if it_is := _IT_IS.fullmatch(text):
        return {not (it_is["not"] or it_is["cannot"])}
    lines = [line for line in text.splitlines() if line.strip()]
    found: set[bool | None] = set()
    for place, line in enumerate(lines):
        match = _ALONE.fullmatch(line) if place in (0, len(lines) - 1) else None
        if match and (place == len(lines) - 1 or _folded(match["word"]) not in OBLIGING):
            found.add(is_yes(match["word"]))
    return found


def _stated(text: str) -> set[bool | None]:
    return {_unless_both(match) for match in _STATED.finditer(text)}


def _opening(text: str) -> set[bool | None]:
    match = _OPENING.match(text)
    if match is None:
        return set()
    if match["obliging"]:  # "Of course it does not" says no
        return {not _DENIED.search(match["rest"])}
    back = _TAKEN_BACK.match(text, match.end())
    if back and is_yes(back["other"]) is not is_yes(match["word"]):
        return {None}
    return {_unless_both(match)}


def _folded(word: str) -> str:
    return " ".join(word.casefold().split())


def _unless_both(match: re.Match[str]) -> bool | None:
    """What the word says; ``None`` where another such word stands right beside it and says the contrary."""
    said = is_yes(match["word"])
    other = _BOTH.match(match["rest"])
    return None if other and is_yes(other["other"]) is not said else said
