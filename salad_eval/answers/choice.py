"""Which of the given options a free reply names, read strictly: by letter or by text, with negation and several answers told.

Strict where a reply is ambiguous, not where it is plain: "B", "It's B.", "Therefore, B.", "Option B is correct" and "ANSWER: b" all
answer. See ``answers.score`` for the rules. Reading takes time linear in the reply's length.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from salad_eval.answers.reply import answer_part

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
    """The option a generated text gives as its answer, or ``None`` where it gives none or more than one (see ``answers.score``).

    Of options with equal texts it is the first.
    """
    plain = _plain(answer_part(text))
    reader = _reader(tuple(choices), lettered)
    for rule in (reader.final, reader.plain, reader.only_named):
        found = rule(plain)
        if found:
            return next(iter(found)) if len(found) == 1 else None
    return None


def same_text(first: str, second: str) -> bool:
    """Whether two options say the same, but for whitespace."""
    return first.split() == second.split()


def _are_letters(choices: Sequence[str]) -> bool:
    return [choice.strip().upper().strip("().") for choice in choices] == list(LETTERS[: len(choices)])


_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")


def _plain(text: str) -> str:
    """One Unicode form, without emphasis or LaTeX around words; what is boxed stands as "final answer: …"."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = _BOXED.sub(
        lambda match: f"\nfinal answer: {match[1]}\n" if match[0] != text.strip("$ \n.") else match[1], text
    )
    text = re.sub(r"[*`$✓✔✅☑]|\\[()\[\]]|</?[a-z]{1,10}>", "", text)
    return re.sub(r"(?<!\w)_+|_+(?!\w)", "", text)


def _trimmed(text: str) -> str:
    """Without whitespace and quotes around it, or sentence punctuation at its end."""
    return text.strip().strip("\"'“”").rstrip(".!,;:").strip().strip("\"'“”")


# --- the words around an answer --------------------------------------------------------------------------------------

_IS = r"(?:is|was|would be|must be|should be|has to be|will be|seems to be|appears to be)"
_BEST = r"(?:correct|right|best|most\s+\w+|only\s+correct|true|final)"
_NOUN = r"(?:answer|option|choice|response|solution|one|letter|selection|pick|guess)"
_PICK = r"(?:choose|pick|select|go\s+with|going\s+with|answer|opt\s+for|vote\s+for)"
# What an answer stands after: a final one, any, or one that only a letter can be.
_STATEMENT = re.compile(
    rf"(?P<final>\bfinal\s+{_NOUN}\b[\"']?(?:\s+{_IS}\b)?\s*(?::|=|-+>?|[–—→])?)"
    rf"|(?<!\beach )(?<!\bevery )(?<!\bany )\b(?:(?:{_NOUN}|ans|correct|final|conclusion|selected|chosen)[\"']?(?:\s+{_IS})?"
    r"\s*(?::|=|\s-+>?(?=\s)|->|[–—→])"
    rf"|(?:answer|the\s+letter|(?:{_BEST}|my(?:\s+\w+)?)\s+{_NOUN})"
    r"(?:\s+(?:to|for|here|of|in|based|given|according|from|among|provided|that|which)\b[^.\n:?]{0,80}?)?"
    rf"(?:\s+{_IS}|'s)\b\s*:?"
    rf"|(?:I(?:'d|'ll|'m|\s+am|\s+would|\s+will)?(?:\s+have\s+to)?|let's)\s+{_PICK}\b)"
    rf"|(?P<letter>\bI(?:'d|'ll|\s+would|\s+will)?\s+(?:say|think|believe|guess)\b"
    rf"|\b(?:it|that|this)(?:'s|\s+(?:is|must\s+be|has\s+to\s+be|would\s+be|should\s+be))\b"
    r"|\b(?:therefore|thus|hence|so|ergo|consequently|in\s+conclusion|in\s+short)\b)",
    re.IGNORECASE,
)
# "The most appropriate step is (A)", "the false statement is: C. …": only where nothing is stated as the answer.
_PREDICATE = re.compile(r"\b(?:is|are|was|be)\b\s*:?\s*", re.IGNORECASE)
_WRONG_NOUN = re.compile(rf"\b(?:wrong|incorrect|false|worst)\s+{_NOUN}\s*\Z", re.IGNORECASE)
# "The answer is none of the above", "… is not listed": a statement, of no option.
_NO_OPTION = re.compile(
    r"[\s:]*(?:none\b|neither\b|not\s+(?:listed|provided|given|among|in\s+the|one\s+of|available|included)\b"
    r"|unknown\b|unclear\b|all\s+of\b)",
    re.IGNORECASE,
)
# What keeps an option that is only named from being the answer.
_REFUSAL = re.compile(
    r"\bnone\s+of\s+(?:the|these|those)\s+(?:\w+\s+)?(?:above|options?|choices|answers|statements|given|provided|following|them)\b"
    r"|\bno\s+(?:correct|right|suitable|clear|definitive|single)\s+(?:answer|option|choice)\b"
    r"|\b(?:answer|option)\s+(?:is|may|might)\s+not\s+(?:be\s+)?(?:listed|provided|given|among|in)\b"
    r"|\b(?:cannot|can't|can\s+not|could\s+not|couldn't|unable\s+to|not\s+able\s+to)\s+(?:\w+\s+)?"
    r"(?:answer|provide|give|select|choose|determine|decide|say|be\s+determined)\b|\bnot\s+enough\s+information\b",
    re.IGNORECASE,
)
# "I don't think the answer is …", "if the answer is …", "is the answer …"
_UNSTATED = re.compile(
    r"(?:n't|\bnot|\bnever|\bcannot|\bdoubt|\bunlikely)(?:\s+(?:think|believe|say|mean|sure|certain|clear|true|know|the\s+case|that|if|whether)"
    r")*\s+(?:(?:the|a|my)\s+)?(?:\w+\s+)?\Z|\b(?:if|whether|unless|suppose|suppose\s+that|is|could|might)\s+(?:(?:the|a|my)\s+)?\Z|\b(?:wrong|incorrect|false|worst)\s+\Z",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:[\s\"'“,:>]|\.{2,}|\b(?:a|an|the|option|choice|letter|number|answer(?:\s+is)?|indeed|clearly|definitely|certainly|therefore|thus|most|likely|probably"
    r"|actually|simply|just|either|that|it's)\b(?!\s*[.)])){0,12}",
    re.IGNORECASE,
)
# Words around a letter that answers alone: "definitely B", "option B", "B, I think", "B it is".
_LED = r"answer|option|choice|letter|definitely|clearly|probably|obviously|surely|certainly|simply|just|most\s+likely|likely|must\s+be|yes"
_FOLLOWED = (
    r"it\s+is|for\s+sure|i\s+(?:think|guess|believe|suppose|would\s+say)|i'd\s+say"
    r"|obviously|definitely|clearly|probably|of\s+course|final\s+answer"
)
_DELIMITER = re.compile(r"[\s.:,;()\]\"'”–—-]*")
_ANOTHER = re.compile(r"[\s,\"'”)]*(?:\b(?:or|and)\b|/|&)\s*(?!not\b)", re.IGNORECASE)
# "B is correct", "option B seems to be the best answer": what makes a subject the answer.
_IS_RIGHT = re.compile(
    r"[)\]\"'”.:]*\s*(?:is|was|would\s+be|must\s+be|should\s+be|has\s+to\s+be|seems|seems\s+to\s+be|looks|sounds|appears\s+to\s+be)"
    r"(?:\s+(?:clearly|definitely|certainly|probably|most\s+likely|likely|therefore|indeed|actually|also|thus))*"
    rf"\s+(?:(?:the|my)\s+(?:(?:only|most|best|correct|right|final|single)\s+)*{_NOUN}\b|correct\b|right\b|true\b|accurate\b"
    r"|(?:the\s+)?(?:best|most\s+(?:likely|accurate|appropriate|suitable|plausible))\b)",
    re.IGNORECASE,
)
_MARKED_RIGHT = re.compile(
    r"[)\]\"'”.]*\s*[:–—-]\s*(?:yes|correct|right)\b(?!\s+\w)", re.IGNORECASE
)  # "A: no. B: yes."
_SUBJECT = re.compile(
    r"(?:\A|(?<=[.!?;:,(\n])|\b(?:option|choice|answer|letter|that|so|therefore|thus|hence|think|believe|say|and|but)\b)[\s\"'“(\[]*",
    re.IGNORECASE,
)

_NEGATIVE = (
    r"(?:not|whether|if|no(?!\s+(?:doubt|question))|never|neither|nor|none|cannot|without(?!\s+(?:a\s+|any\s+)?doubt)|except|excluding|unlike"
    r"|(?:rul|eliminat|exclud|discard|reject|dismiss)(?:es?|ed|ing)?(?:\s+out)?"
    r"|rather\s+than|instead\s+of|wrong|incorrect|false)"
)
_FAULT = (
    r"(?:wrong|incorrect|false|untrue|inaccurate|impossible|implausible|unlikely|irrelevant|mistaken|out"
    r"|(?:ruled|crossed)\s+out|eliminated|excluded|rejected|a\s+distractor)"
)
_BE = (
    r"(?:is|are|was|were|be|been|being|seems?|looks?|sounds?|appears?|can|could|would|will|does|do|did|has|have|had|must|should|may|might"
    r"|'s)"
)
# Of a mention before it in its clause: "the cat is wrong", "calcium does not", "(A): incorrect".
_DENIES = (
    rf"{_BE}\s+(?:\w+\s+)?(?:not|never|no(?!\s+(?:doubt|question))|neither|nor|none|hardly|far\s+from)\b|n't\b|\bcannot\b"
    rf"|\b{_BE}\s+(?:\w+\s+)?{_FAULT}\b|\s?[:(\-–—]\s*(?:{_FAULT}\b|nope\b|no\b(?!\s+\w))"
)
_WEAK_END = r"[,;:]|\s[-–—]+\s|\b(?:because|since|which|who|whereas|while|although|though|as|so|that)\b"
# After these a negation said before no longer holds: "it isn't the cat, it's the dog".
_STRONG_END = (
    r";|\bbut\b|\bhowever\b|\bso\b|\btherefore\b|\bhence\b|\bthus\b"
    r"|,\s*(?:it|that|this|the\s+answer)(?:'s|\s+is)\b|\binstead\b(?!\s+of)"
)
_TURNS = re.compile(
    rf"(?P<strong>{_STRONG_END})|(?P<denies>{_DENIES})|(?P<negative>\b{_NEGATIVE}\b)|(?P<weak>{_WEAK_END})",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"[\"'”)\s]*(?:no|nope|not|wrong|incorrect|false)\b", re.IGNORECASE)
_AFFIRMED = re.compile(r"[\"'”)\s]*(?:yes|yeah|yep|correct|right|exactly|true|indeed)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"'”)]*\s+|\n+")
_AFTER_WORD = re.compile(r"(?<=\w\w[.!?])\s+")  # not between a letter and its option: "C. calcium"
_NEVER = r"(?!)"
_MOST_BEFORE = 60  # characters looked back for what unsays a statement
# In a longer text (characters) a number is more likely part of a calculation than the answer, and one that breaks off has not come to it.
_MOST_NAMED = 400
_COMPLETE = re.compile(r"[.!?)\]}\"'”]\s*\Z")
_MOST_CLAUSE = 120  # characters looked ahead for what denies it

_Kind = Literal["final", "answer", "letter"]  # of a statement, by the group of its pattern
Found = set[int | None]  # ``None``: more than one option, or a contradiction


@dataclass(frozen=True, slots=True)
class _Mention:
    """Options named at ``text[start:end]``; more than one where options differ only in what is not compared."""

    start: int
    end: int
    options: frozenset[int]

    @property
    def found(self) -> Found:
        return set(self.options) if len(self.options) == 1 else {None}


def _options(mentions: Sequence[_Mention]) -> Found:
    return {option for mention in mentions for option in mention.found}


class _Reader:
    """The three rules for one set of options. Each gives the options found; ``None`` among them is a contradiction."""

    def __init__(self, choices: tuple[str, ...], lettered: bool) -> None:
        self.choices = choices
        self.letters = LETTERS[: len(choices)] if lettered else ""
        self.by_text: dict[str, list[int]] = {}
        if not (lettered and _are_letters(choices)):
            for index, choice in enumerate(choices):
                if not any(
                    same_text(choice, choices[other]) for other in range(index)
                ):  # of equals the first stands for all
                    self.by_text.setdefault(_folded(choice), []).append(index)
            self.by_text.pop("", None)
        upper = f"[{self.letters}]" if self.letters else _NEVER
        lower = f"[{self.letters.lower()}]" if self.letters else _NEVER
        either = f"[{self.letters}{self.letters.lower()}]" if self.letters else _NEVER
        bracketed = rf"[(\[{{]\s*(?:(?:(?i:option|choice)\s+|选项)\s*)?(?P<bracketed>{either})\s*[)\]}}]"
        ends = (
            r"(?=\s*(?:$|[\n.,;:!?)(\]}\"'”–—]|-\s"
            r"|(?:because|since|as|which|and\s+not|not|rather|instead|for|due|based|given|where|but|if)\b))"
        )
        self._bracketed = re.compile(rf"(?<!\w){bracketed}")
        self._letter_alone = re.compile(
            rf"(?:(?i:{_LED})[\s,]*)*(?:{bracketed}|[\"'“]?(?P<letter>{either})[\"'”]?)\s*[.:,;)!\"'”]*(?:\s*(?i:{_FOLLOWED})[.!]*)?"
        )
        self._letter_stated = re.compile(rf"(?:{bracketed}|(?P<letter>{upper}){ends})")
        # "a" may be an article, and a lower-case letter a word: only where the phrase ends with it.
        self._lower_stated = re.compile(
            rf"(?P<letter>{lower})(?=[\"'”]?(?:\s*(?:\n|\Z)|[.)](?:\s|\Z)))(?:(?<![ai])|(?=[.)])|(?<=[:=-]\w)|(?<=[:=-]\s\w))"
        )
        self._letter_listed = re.compile(
            rf"(?<![\w.'-])(?:{bracketed}|(?P<letter>{upper})\s*(?:[.:)]|\s[-–—]))(?=\s+\S)"
        )
        self._letter_named = re.compile(
            rf"(?<!\w){bracketed}|\b(?i:option|choice|answer|letter)s?\s+[\"'“]?(?P<letter>{upper})(?![\w'])(?:(?<![AI])|{ends})"
        )
        # "the answer is (A) for the buyer and (B) for the seller"
        self._further = re.compile(rf"\b(?:and|or)\s+{bracketed}")
        self._letter_asked = re.compile(rf"(?<![\w'])(?P<letter>{upper})(?=\s?\?)")  # "A? No. B? Yes."
        self._letter_spaced = re.compile(rf"(?P<letter>{upper})\s+(?=\S)")
        self._subject_letter = re.compile(rf"(?:{bracketed}|[\"'“]?(?P<letter>{upper})\b)")
        texts = "|".join(_spaced(text) for text in sorted(self.by_text, key=len, reverse=True)) or _NEVER
        # Not within a longer word, number or compound: "12" is not in "120" or "12.5", nor "known" in "well-known".
        self._option = re.compile(rf"(?<![\w-])(?<!\d[.,])(?P<text>{texts})(?!\w)(?![-'/]\w)(?![.,]\d)", re.IGNORECASE)

    # --- the rules ---------------------------------------------------------------------------------------------------

    def final(self, plain: str) -> Found:
        """Rule 0: what is stated as the final answer, or boxed."""
        return self._stated(plain, "final")

    def plain(self, plain: str) -> Found:
        """Rules 1 and 2: the answer alone, and the answer stated; they have to agree."""
        found = self._alone(plain) | self._stated(plain, "answer")
        lesser = self._stated(plain, "letter") | self._held_right(plain) | self._predicated(plain)
        found |= lesser - {None} if found else lesser
        start = len(plain) - len(plain.lstrip())
        if not self._letter_listed.match(plain, start):
            return found | (self._begins_with(plain, start)[0] if self._letter_stated.match(plain, start) else set())
        # "C. Because …" answers; "A. iron B. zinc …" repeats the options.
        if len({self._index(match) for match in self._letter_listed.finditer(plain)}) == 1:
            return found | self._begins_with(plain, start)[0]
        return found or {None}

    def _predicated(self, plain: str) -> Found:
        """A letter in brackets, or with its option's text, that something is said to be."""
        found: Found = set()
        for match in _PREDICATE.finditer(plain):
            letter = self._bracketed.match(plain, match.end()) or self._letter_listed.match(plain, match.end())
            wrong = _WRONG_NOUN.search(plain, max(0, match.start() - _MOST_BEFORE), match.start())
            if letter and not wrong and not self._is_denied(plain, letter.end()):
                mention = self._with_text(plain, letter)
                if (
                    letter.groupdict().get("bracketed")
                    or mention.end > letter.end()
                    or self._option.match(plain, letter.end() + 1)
                ):
                    found |= self._begins_with(plain, match.end())[0]
        return found

    def only_named(self, plain: str) -> Found:
        """Rule 3: every option named anywhere, by its text or by its letter in brackets; a negated one is no answer."""
        long = len(plain) > _MOST_NAMED
        if (long and not _COMPLETE.search(plain)) or _REFUSAL.search(plain) or self._lists(plain):
            return set()
        named: Found = set()
        denied: Found = set()
        asked: list[_Mention] = []
        for sentence in _SENTENCE_END.split(plain):
            if not sentence.strip():
                continue
            if _REFUSED.match(sentence):
                denied |= _options(asked)
            elif _AFFIRMED.match(sentence):
                named |= _options(asked)
            asked, positive, negative = [], *self._said(sentence, numbers=not long)
            if sentence.rstrip("\"'”) ").endswith("?"):
                asked = positive
            else:
                named |= _options(positive)
            denied |= _options(negative)
        return {None} if named & denied else named

    # --- what they are made of ---------------------------------------------------------------------------------------

    def _said(self, sentence: str, *, numbers: bool) -> tuple[list[_Mention], list[_Mention]]:
        """The mentions of a sentence that it affirms, and those that it denies."""
        said: list[_Mention] = []
        denied: list[_Mention] = []
        clause: list[_Mention] = []
        negated = False
        for event in self._events(sentence):
            if isinstance(event, _Mention):
                if not numbers and not any(map(str.isalpha, sentence[event.start : event.end])):
                    continue
                (denied if negated else said).append(event)
                clause.append(event)
                continue
            if event["denies"]:
                denied += clause
            if not event["negative"]:
                clause = []
            negated = not event["strong"] and (negated or bool(event["negative"] or event["denies"]))
        return said, denied

    def _events(self, sentence: str) -> Iterator[_Mention | re.Match[str]]:
        """Mentions and turns of a sentence in their order; a turn within a mention ("none of the above") is part of it."""
        mentions = sorted(self._mentions(sentence), key=lambda mention: (mention.start, -mention.end))
        turns = list(_TURNS.finditer(sentence)) if mentions else []
        at, end = 0, 0
        for mention in mentions:
            while at < len(turns) and turns[at].start() < mention.start:
                if turns[at].start() >= end:
                    yield turns[at]
                at += 1
            yield mention
            end = max(end, mention.end)
        for turn in turns[at:]:
            if turn.start() >= end:
                yield turn

    def _mentions(self, sentence: str) -> Iterator[_Mention]:
        yield from (self._mention(match) for match in self._option.finditer(sentence))
        yield from (self._mention(match) for match in self._letter_named.finditer(sentence))
        yield from (self._mention(match) for match in self._letter_asked.finditer(sentence))

    def _alone(self, plain: str) -> Found:
        """The text, its first or last line or its last sentence is a letter, an option's text, or both in agreement."""
        lines = [_BULLET.sub("", line).strip() for line in plain.splitlines() if line.strip()]
        if self._lists(plain):
            lines = [line for line in lines if not self._letter_listed.match(line)]
        if not lines:
            return set()
        found: Found = set()
        last_sentence = _AFTER_WORD.split(lines[-1])[-1].strip()
        if (
            len(words := lines[-1].split()) > 2
            and self._letter_alone.fullmatch(words[-1])
            and words[-2].endswith((".", "!", "?"))
        ):
            last_sentence = words[-1]  # "Not A. B."
        for line in dict.fromkeys((" ".join(lines), lines[0], lines[-1], last_sentence)):
            found |= self._whole(line)
        return found

    def _lists(self, plain: str) -> bool:
        """Whether the options are gone through, a line each."""
        lines = (_BULLET.sub("", line).strip() for line in plain.splitlines())
        return len({self._index(match) for line in lines if (match := self._letter_listed.match(line))}) > 1

    def _whole(self, line: str) -> Found:
        for pattern in (self._letter_listed, self._letter_spaced):
            letter = pattern.match(line)
            named = self._same(self._exact(line[letter.end() :])) if letter else frozenset()
            if letter and named and self._index(letter) in named:
                return {self._index(letter)}
            if named and pattern is self._letter_listed:
                return {None}
        found: Found = set(self._mention_found(self._exact(line)))
        if alone := self._letter_alone.fullmatch(line):
            found.add(self._index(alone))
        return found

    def _stated(self, plain: str, kind: _Kind) -> Found:
        found: Found = set()
        until = 0  # what stands within an answer that was read is no statement of another
        for statement in _STATEMENT.finditer(plain):
            if statement.start() < until or (statement.lastgroup or "answer") != kind:
                continue
            if kind != "final" and _UNSTATED.search(plain, max(0, statement.start() - _MOST_BEFORE), statement.start()):
                continue
            begun, until = self._begins_with(plain, statement.end(), texts=kind != "letter")
            found |= begun
        return found

    def _held_right(self, plain: str) -> Found:
        """The options said to be right: "B is correct", "calcium is the best answer"."""
        return {option for subject in _SUBJECT.finditer(plain) for option in self._is_right(plain, subject.end())}

    def _is_right(self, plain: str, start: int) -> Found:
        match = self._subject_letter.match(plain, start) or self._option.match(plain, _end_of(_OPENING, plain, start))
        if match and (_IS_RIGHT.match(plain, match.end()) or _MARKED_RIGHT.match(plain, match.end())):
            return self._mention(match).found
        return set()

    def _begins_with(self, plain: str, start: int, *, texts: bool = True) -> tuple[Found, int]:
        """The option that the text begins with at ``start`` (a letter that ends there or an option's text), and where it ends.

        ``None`` where another stands beside it; nothing where it is denied.
        """
        start = _end_of(_BLANK, plain, start)
        first = self._option_at(plain, start, texts=texts)
        if first is None:
            return ({None} if texts and _NO_OPTION.match(plain, start) else set()), start
        if self._is_denied(plain, first.end):
            return set(), start
        found, end = first.found, first.end
        while (another := _ANOTHER.match(plain, end)) and (other := self._option_at(plain, another.end())):
            found, end = found | other.found, other.end
        further = self._further.search(plain, end, self._clause_end(plain, end))
        if further and self._index(further) not in found:
            return {None}, end
        return (found if len(found) == 1 else {None}), end

    def _clause_end(self, plain: str, start: int) -> int:
        end = min(_line_end(plain, start), start + _MOST_CLAUSE)
        ends = (_TURNS.search(plain, start, end), _SENTENCE_END.search(plain, start, end))
        return min((match.start() for match in ends if match), default=end)

    def _option_at(self, plain: str, start: int, *, texts: bool = True) -> _Mention | None:
        opened = _end_of(_OPENING, plain, start)
        for at in (start, opened):  # "A" is a letter before it is an article
            if letter := self._letter_stated.match(plain, at) or self._lower_stated.match(plain, at):
                return self._with_text(plain, letter)
        text = self._option.match(plain, opened) if texts else None
        return self._with_label(plain, text) if text else None

    def _with_text(self, plain: str, letter: re.Match[str]) -> _Mention:
        """A letter, and the option's text or another letter that may stand beside it on its line."""
        index = self._index(letter)
        line_end = plain.find("\n", letter.end())
        beside = _end_of(_DELIMITER, plain, letter.end())
        if line_end != -1 and beside > line_end:
            return _Mention(letter.start(), letter.end(), frozenset((index,)))
        other = self._letter_stated.match(plain, beside)
        named = self._option.match(plain, _end_of(_OPENING, plain, beside))
        if other and self._index(other) != index and not (named and index in self._equals(named)):
            return _Mention(letter.start(), letter.end(), frozenset((index, self._index(other))))
        if named and index not in self._equals(named):
            return _Mention(letter.start(), named.end(), frozenset((index, *self._equals(named))))
        ends_sentence = plain.startswith(".", letter.end())  # "the answer is (B). Succession is not …"
        return _Mention(
            letter.start(), letter.end() if ends_sentence or not named else named.end(), frozenset((index,))
        )

    def _with_label(self, plain: str, text: re.Match[str]) -> _Mention:
        """An option's text, and the bracketed letter that may follow it."""
        mention = self._mention(text)
        label = self._bracketed.match(plain, _end_of(_BLANK, plain, text.end()))
        if label is None:
            return mention
        named = self._equals(text)
        index = self._index(label)
        return _Mention(text.start(), label.end(), frozenset((index,)) if index in named else mention.options | {index})

    def _is_denied(self, plain: str, end: int) -> bool:
        """Whether the rest of the clause says that what it begins with is wrong."""
        turn = _TURNS.search(plain, end, min(len(plain), _line_end(plain, end), end + _MOST_CLAUSE))
        sentence = _SENTENCE_END.search(plain, end, end + _MOST_CLAUSE)
        return bool(_ASKED.match(plain, end)) or bool(
            turn and turn["denies"] and (sentence is None or turn.start() < sentence.start())
        )

    def _exact(self, text: str) -> frozenset[int]:
        folded = _folded(text)
        return self._resolved(self.by_text.get(folded) or self.by_text.get(_ARTICLE.sub("", folded)) or [], text)

    def _mention_found(self, options: frozenset[int]) -> Found:
        return set(options) if len(options) < 2 else {None}

    def _mention(self, match: re.Match[str]) -> _Mention:
        if match.groupdict().get("text") is None:
            return _Mention(match.start(), match.end(), frozenset((self._index(match),)))
        return _Mention(match.start(), match.end(), self._resolved(self.by_text[_folded(match["text"])], match["text"]))

    def _resolved(self, options: Sequence[int], text: str) -> frozenset[int]:
        """Of options that differ in case or punctuation alone, the one that is written so."""
        exact = [option for option in options if same_text(_plain(self.choices[option]), text)]
        return frozenset(exact if len(exact) == 1 else options)

    def _equals(self, match: re.Match[str]) -> frozenset[int]:
        return self._same(self._mention(match).options)

    def _same(self, options: frozenset[int]) -> frozenset[int]:
        """These options and those with equal texts."""
        return frozenset(
            i for i, text in enumerate(self.choices) if any(same_text(text, self.choices[one]) for one in options)
        )

    def _index(self, match: re.Match[str]) -> int:
        groups = match.groupdict()
        index = self.letters.index((groups.get("bracketed") or groups.get("letter") or "").upper())
        return next(
            other for other in range(index + 1) if other == index or same_text(self.choices[other], self.choices[index])
        )


_BLANK = re.compile(r"\s*")
_ASKED = re.compile(r"[\"'”)\]]*\s?\?")
_BULLET = re.compile(r"^\s*(?:[-•>#]+\s+)+")


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start, start + _MOST_CLAUSE)
    return end if end != -1 else start + _MOST_CLAUSE


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
