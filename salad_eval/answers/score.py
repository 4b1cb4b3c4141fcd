"""From a response to right, wrong or missing.

``ll`` and ``ll_norm`` are lm-eval's acc and acc_norm. The other kinds read the answer out of a text, strictly: what
cannot be read is wrong and counted as unparsed, never given an option by chance or by default.

- ``generate``: the option that the text gives (below); without options, the whole text has to be a right answer.
- ``exact_match``, ``f1``: short answers by SQuAD's measures (``answers.short``); ``f1`` lies between 0 and 1.
- ``numeric``, ``numeric_last``: the number that the text gives, and it only (``answers.numeric``); ``numeric_last`` takes the last
  number of a text that states none.
- ``yes_no``: yes or no (``answers.yes_no``).

How a generated answer to a multiple-choice item is read. Case, Unicode form, emphasis (``**C**``) and ``\\boxed{}`` are
ignored.

1. *The answer alone*: the text, or its first or last line, is nothing but an option letter ("C", "(c)", "C."), an
   option's text, or both ("C. calcium").
2. *A stated answer*: "Answer: …", "the answer is …", "the correct option is …", followed by an option letter that ends
   its phrase or by an option's text. "The answer is calcium." is not C, unless option C is calcium.
3. *The only option named*: exactly one option's text (at word boundaries, the longest option first) or bracketed letter
   occurs in the text, and no negation comes before it in its sentence.

The first rule that finds anything decides. Where it finds two different options ("Answer: B … the answer is C", or "C.
carbon" where carbon is B) the text is contradictory and unparsed. Letters count only where the item shows lettered
options or its options are letters.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

from salad_eval.answers import numeric, short, yes_no
from salad_eval.errors import DataError
from salad_eval.types import LOGPROB_SCORES, Item, Response, Score, ScoreKind

NO_GOLD = "the item has no gold answer"
NO_LOGPROBS = "no finite log-probabilities"
EMPTY_OPTION = "an option is empty, so its log-probability cannot be divided by its length"
NO_TEXT = "no generated text"
NOT_A_NUMBER = "the right answer is not a number"
NOT_YES_OR_NO = "the right answer is neither yes nor no"
UNPARSED = "unparsed"
LETTERS = string.ascii_uppercase


def score_response(item: Item, response: Response, kind: ScoreKind) -> Score:
    """1.0 where the response is right, 0.0 where it is wrong (``f1``: in between too), ``None`` with a reason where that cannot be said.

    ``ll``: the option of highest summed log-probability, the first of equals. ``ll_norm``: divided by the option's
    length in characters before (lm-eval's acc_norm). The kinds that read a text (see the module): one that cannot be read
    scores 0.0 with ``parsed=False``. Raises ``DataError`` where item and response do not belong together.
    """
    if item.id != response.item_id:
        raise DataError(f"the response of item {response.item_id!r} was to be scored against item {item.id!r}.")
    if kind in LOGPROB_SCORES:
        return _score_logprobs(item, response, normalised=kind == "ll_norm")
    if response.text is None:
        return _made(response, None, NO_TEXT)
    return _READERS[kind](item, response, response.text)


def _made(
    response: Response, value: float | None, reason: str = "", predicted: int | None = None, parsed: bool = True
) -> Score:
    return Score(
        response.item_id, response.column, response.voice, response.perturbation, value, reason, predicted, parsed
    )


def _score_logprobs(item: Item, response: Response, *, normalised: bool) -> Score:
    logprobs = response.choice_logprobs
    if logprobs is None:
        return _made(response, None, NO_LOGPROBS)
    if len(logprobs) != len(item.choices):
        raise DataError(
            f"item {item.id!r} has {len(item.choices)} options, but its response {len(logprobs)} log-probabilities."
        )
    if item.gold is None:
        return _made(response, None, NO_GOLD)
    if not logprobs or not all(map(math.isfinite, logprobs)):
        return _made(response, None, NO_LOGPROBS)
    values = list(logprobs)
    if normalised:
        if not all(item.choices):
            return _made(response, None, EMPTY_OPTION)
        values = [value / len(choice) for value, choice in zip(values, item.choices, strict=True)]
    predicted = values.index(max(values))
    return _made(response, float(predicted in item.golds), predicted=predicted)


def _unparsed(response: Response) -> Score:
    return _made(response, 0.0, UNPARSED, parsed=False)


def _score_option(item: Item, response: Response, text: str) -> Score:
    """``generate``."""
    if not item.choices:
        return _score_whole(item, response, text)
    if item.gold is None:
        return _made(response, None, NO_GOLD)
    predicted = extract_choice(text, item.choices, lettered=shows_letters(item.context, item.choices))
    if predicted is None:
        return _unparsed(response)
    return _made(response, float(predicted in item.golds), predicted=predicted)


def _score_whole(item: Item, response: Response, text: str) -> Score:
    if not item.answers:
        return _made(response, None, NO_GOLD)
    answer = normalised_answer(text)
    if not answer:
        return _unparsed(response)
    return _made(response, float(answer in {normalised_answer(accepted) for accepted in item.answers}))


def right_answers(item: Item) -> tuple[str, ...]:
    """What is right in words: the accepted answers, or for an item that has options alone the texts of the right ones."""
    return item.answers or tuple(item.choices[gold] for gold in item.golds)


def _score_short(measure: Callable[[str, Sequence[str]], float], item: Item, response: Response, text: str) -> Score:
    """``exact_match`` and ``f1``."""
    right = [answer for answer in right_answers(item) if short.tokens(answer)]
    if not right:
        return _made(response, None, NO_GOLD)
    answer = short.short_answer(text)
    return _made(response, measure(answer, right)) if short.tokens(answer) else _unparsed(response)


def _score_number(last: bool, item: Item, response: Response, text: str) -> Score:
    """``numeric`` and ``numeric_last``. A right answer that is no number makes the item one without a score."""
    right = {numeric.extract_number(numeric.final_answer(answer)) for answer in right_answers(item)}
    if not right or None in right:
        return _made(response, None, NO_GOLD if not right else NOT_A_NUMBER)
    number = numeric.extract_number(text, last=last)
    return _made(response, float(number in right)) if number is not None else _unparsed(response)


def _score_yes_no(item: Item, response: Response, text: str) -> Score:
    """``yes_no``. ``predicted`` is the option that says the same, where there is one."""
    right = {yes_no.is_yes(answer) for answer in right_answers(item)}
    if not right or None in right:
        return _made(response, None, NO_GOLD if not right else NOT_YES_OR_NO)
    said = yes_no.read_yes_no(text)
    if said is None:
        return _unparsed(response)
    options = [index for index, choice in enumerate(item.choices) if yes_no.is_yes(choice) is said]
    return _made(response, float(said in right), predicted=options[0] if options else None)


_READERS: Mapping[ScoreKind, Callable[[Item, Response, str], Score]] = {
    "generate": _score_option,
    "exact_match": partial(_score_short, short.exact_match),
    "f1": partial(_score_short, short.token_f1),
    "numeric": partial(_score_number, False),
    "numeric_last": partial(_score_number, True),
    "yes_no": _score_yes_no,
}


# --- free answers ----------------------------------------------------------------------------------------------------

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


# --- multiple choice -------------------------------------------------------------------------------------------------


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
