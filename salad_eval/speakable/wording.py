"""One wording of what is said in two ways: *it is* and *it's*, *one hundred and one* and *101*, *p m* and *p.m.*.

Lower-case words in, lower-case words out, by rules that lose nothing a listener could tell apart in a benchmark: numbers by
their value, abbreviations by their letters, contractions by what they stand for, spellings by ``spelling.american``.
"""

from __future__ import annotations

from collections.abc import Sequence

from salad_eval.speakable.numbers import cardinal, ordinal, spelled
from salad_eval.speakable.spelling import american

# --- numbers ---------------------------------------------------------------------------------------------------------

_ONES = {cardinal(str(n)): n for n in range(20)}
_TENS = {cardinal(str(n)): n for n in range(20, 100, 10)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMERALS = _ONES.keys() | _TENS.keys() | _SCALES.keys() | {"hundred"}
_ORDINALS = frozenset(ordinal(str(n)).replace("-", " ").split()[-1] for n in range(1, 100))
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4, "fifth": 5, "fifths": 5, "eighth": 8,
          "eighths": 8, "tenth": 10, "tenths": 10}  # fmt: skip
_MAX_VALUE = 10**15


def _below_hundred(words: Sequence[str], at: int) -> tuple[int, int] | None:
    """A number from 0 to 99 at ``words[at]``, and where it ends."""
    word = words[at] if at < len(words) else ""
    if word in _TENS:
        one = _ONES.get(words[at + 1], 0) if at + 1 < len(words) else 0
        return (_TENS[word] + one, at + 2) if 0 < one < 10 else (_TENS[word], at + 1)
    return (_ONES[word], at + 1) if word in _ONES else None


def _below_ten_thousand(words: Sequence[str], at: int) -> tuple[int, int] | None:
    """``nine hundred and two``, ``fifteen hundred``, a year in pairs (``nineteen oh five``), or a number below a hundred."""
    found = _below_hundred(words, at)
    if found is None:
        if words[at : at + 1] == ["a"] and words[at + 1 : at + 2] == ["hundred"]:
            found = (1, at + 1)
        else:
            return None
    value, at = found
    if value and words[at : at + 1] == ["hundred"]:
        value, at = value * 100, at + 1
        link = at + (words[at : at + 1] == ["and"])
        rest = _below_hundred(words, link)
        if rest is not None and rest[0] and words[link] != "zero":
            return value + rest[0], rest[1]
        return value, at
    if value and words[at : at + 1] in (["oh"], ["o"]):
        rest = _below_hundred(words, at + 1)
        if (
            rest is not None
            and 0 < rest[0] < 10
            and (value >= 10 or words[rest[1] : rest[1] + 1] not in (["oh"], ["o"]))
        ):
            return value * 100 + rest[0], rest[1]
    rest = _below_hundred(words, at)
    if 10 <= value < 100 and rest is not None and rest[0] >= 10 and words[rest[1] : rest[1] + 1] != ["hundred"]:
        return value * 100 + rest[0], rest[1]
    return value, at


def _whole(words: Sequence[str], at: int) -> tuple[int, int] | None:
    """A whole number by its groups: ``two million five hundred thousand and one``."""
    total, scale, end = 0, _MAX_VALUE, at
    while True:
        link = end + (total > 0 and words[end : end + 1] == ["and"])
        if words[link : link + 1] == ["a"] and words[link + 1 : link + 2] and words[link + 1] in _SCALES:
            group: tuple[int, int] | None = (1, link + 1)
        else:
            group = _below_ten_thousand(words, link)
        if group is None or (link > end and group[0] >= 100):
            break
        value, after = group
        size = _SCALES.get(words[after], 1) if after < len(words) else 1
        if size >= scale or (total and value * size >= scale) or (total and not value):
            break
        total, scale, end = total + value * size, size, after + (size > 1)
        if size == 1:
            break
    return (total, end) if end > at else None


def _decimals(words: Sequence[str], at: int) -> tuple[str, int]:
    """The digits after ``point``, one by one, or of ``and a half``; empty if there are none."""
    if words[at : at + 1] == ["point"]:
        end = at + 1
        while end < len(words) and (words[end] == "oh" or _ONES.get(words[end], 10) < 10):
            end += 1
        return "".join(
            "0" if word == "oh" else str(_ONES[word]) for word in words[at + 1 : end]
        ), end if end > at + 1 else at
    if words[at : at + 1] == ["and"] and at + 2 < len(words):
        above = 1 if words[at + 1] == "a" else _ONES.get(words[at + 1], 0)
        below = _PARTS.get(words[at + 2], 0)
        if below and 0 < above < below:
            return f"{above / below:.10f}"[2:].rstrip("0"), at + 3
    return "", at


def _said(value: int) -> str:
    """Of two ways to read a number of four digits the shorter: ``eighteen twelve``, ``fifteen hundred``."""
    if not 1010 <= value < 10_000 or value % 1000 < 10:
        return cardinal(str(value)).replace("-", " ")
    high, low = divmod(value, 100)
    tail = "hundred" if low == 0 else f"oh {cardinal(str(low))}" if low < 10 else cardinal(str(low))
    return f"{cardinal(str(high))} {tail}".replace("-", " ")


def _numbers(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "point" and (not found or found[-1] not in _NUMERALS):
            words = [*words[:at], "zero", *words[at:]] if _decimals(words, at)[0] else words
        number = _whole(words, at)
        if number is None:
            following = words[at + 1] if at + 1 < len(words) else ""
            found.append("minus" if words[at] == "negative" and following in _NUMERALS else words[at])
            at += 1
            continue
        value, end = number
        digits, after = _decimals(words, end)
        size = _SCALES.get(words[after], 0) if digits and after < len(words) else 0
        if size and value * size + 1 < _MAX_VALUE and len(digits) <= len(str(size)) - 1:
            value, digits, after = value * size + int(digits) * size // 10 ** len(digits), "", after + 1
        found += _said(value).split()
        if digits:
            found += ["point", *spelled(digits).split()]
        at = after
        if (
            words[at : at + 1] == ["and"]
            and found[-1] in ("hundred", *_SCALES)
            and words[at + 1 : at + 2]
            and words[at + 1] in _ORDINALS
        ):
            at += 1  # "one hundred and first"
    return found


def _fractions(words: Sequence[str]) -> list[str]:
    """``one half`` and ``a half`` as ``half``, ``one fourth`` as ``quarter``, ``half a million`` as the number."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        if word in ("half", "quarter", "fourth") and before in ("a", "one") and found[-2:-1] != ["and"]:
            found[-1] = "quarter" if word == "fourth" else word
        elif word == "third" and before == "a":
            found[-1:] = ["one", word]
        elif word == "fourths" and before in _ONES:
            found.append("quarters")
        elif word in _SCALES and before in ("a", "one") and found[-2:-1] == ["half"]:
            found[-2:] = _said(_SCALES[word] // 2).split()
        else:
            found.append(word)
    return found


# --- letters, contractions --------------------------------------------------------------------------------------------


def _letters_joined(words: Sequence[str]) -> list[str]:
    """Letters said one by one, as one word: ``u s`` is ``us``, ``p m`` is ``pm``; *a* before two letters is the article."""
    found: list[str] = []
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and len(words[end]) == 1 and words[end].isalpha():
            end += 1
        if end - at >= 3 and words[at] in ("a", "i"):
            found.append(words[at])
            at += 1
        if end - at >= 2:
            found.append("".join(words[at:end]))
            at = end
        else:
            found += words[at : at + 1]
            at += 1
    return found


# Pronouns are joined with their verb, as the joined form ("its", "were", "well") may be another word; other words are not.
_SUBJECTS = {
    "is": "he she it", "has": "he she it", "am": "i", "are": "you we they", "will": "i you he she it we they",
    "have": "i you we they could would should might must", "had": "i you he she it we they", "would": "i you he she it we they",
}  # fmt: skip
_SHORT = {"is": "s", "has": "s", "am": "m", "are": "re", "will": "ll", "have": "ve", "had": "d", "would": "d"}
_WITH_VERB = {
    (subject, verb): subject + _SHORT[verb] for verb, subjects in _SUBJECTS.items() for subject in subjects.split()
} | {
    ("let", "us"): "lets",
    ("o", "clock"): "oclock",
    ("per", "cent"): "percent",
    ("e", "mail"): "email",
    ("e", "mails"): "emails",
}
_AUXILIARIES = (
    "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "would", "could", "should", "must", "might", "need",
)  # fmt: skip
_WITH_NOT = {f"{verb}nt": verb for verb in _AUXILIARIES} | {
    "wont": "will",
    "cant": "can",
    "cannot": "can",
    "shant": "shall",
}
_NOT = {verb: short for short, verb in _WITH_NOT.items() if short != "cannot"}
_APART = {
    **{short: (verb, "not") for short, verb in _WITH_NOT.items()},
    **{f"{word}s": (word, "is") for word in ("what", "that", "there", "here", "where", "who", "how", "when", "why")},
    **{f"{word}ll": (word, "will") for word in ("what", "that", "there", "who")},
    "gonna": ("going", "to"), "wanna": ("want", "to"), "gotta": ("got", "to"),
}  # fmt: skip


def _contracted(words: Sequence[str]) -> list[str]:
    """``it is`` and ``it has`` as ``its``, ``is not`` as ``isnt``, ``it isnt`` as ``its not``."""
    found: list[str] = []
    for word in (part for whole in words for part in _APART.get(whole, (whole,))):
        if found and (found[-1], word) in _WITH_VERB:
            found[-1] = _WITH_VERB[found[-1], word]
        elif word == "not" and found and found[-1] in _NOT:
            found[-1] = _NOT[found[-1]]
        else:
            found.append(word)
    return found


MAX_ROUNDS = 8  # one does nearly always; what a rule brings together may be a number again: "point one thousand"


def one_wording(words: Sequence[str]) -> list[str]:
    """Lower-case words, apostrophes off, in the wording that stands for all that sound like it; a fixed point of itself."""
    found = list(words)
    for _ in range(MAX_ROUNDS):
        spelt = [part for word in _letters_joined(found) for part in american(word).split()]
        words, found = found, _contracted(_fractions(_numbers(spelt)))
        if found == words:
            break
    return found
