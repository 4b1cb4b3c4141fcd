"""Short answers, scored by exact match and by token F1, as in SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250).

Normalisation, the same for both: one Unicode form (NFKC), no case, no emphasis; punctuation is deleted (so "well-known" is one word and
"U.S." is "us"); the articles a, an and the are left out, unless nothing else is there; words are what whitespace separates. SQuAD deletes
ASCII punctuation alone; here so is any other (category P), and thus also typographic quotes and dashes.

Of a generated text the answer is what follows its last "Answer:" or "the answer is", to the end of the line, and without such a
statement its first line. With several right answers the best counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from salad_eval.answers.reply import answer_part

_LEAD = re.compile(r"\banswer\s*(?:is\b\s*:?|:)", re.IGNORECASE)
_ARTICLES = frozenset(("a", "an", "the"))
_EMPHASIS = re.compile(r"[*`]|\\boxed\s*\{([^{}]*)\}")
_ASCII = frozenset(string.punctuation)


def short_answer(text: str) -> str:
    """What a generated text answers: after its last statement of an answer, else its first line. May be empty."""
    text = _EMPHASIS.sub(lambda match: match[1] or "", unicodedata.normalize("NFKC", answer_part(text)))
    stated = [text[match.end() :].strip() for match in _LEAD.finditer(text)]
    found = next((one for one in reversed(stated) if tokens(one)), text.strip())
    return found.partition("\n")[0].strip()


def tokens(text: str) -> tuple[str, ...]:
    """The words that are compared: normalised, in their order; empty where a text has none (see the module)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = "".join(c for c in folded if c not in _ASCII and not unicodedata.category(c).startswith("P")).split()
    return tuple(word for word in words if word not in _ARTICLES) or tuple(words)


def exact_match(answer: str, right: Sequence[str]) -> float:
    """1.0 where the answer's words are those of a right answer, in order; else 0.0."""
    return float(tokens(answer) in {tokens(one) for one in right})


def token_f1(answer: str, right: Sequence[str]) -> float:
    """The best F1 of the answer's words against those of a right answer, both as multisets; in [0, 1]."""
    return max((_f1(tokens(answer), tokens(one)) for one in right), default=0.0)


def _f1(first: Sequence[str], second: Sequence[str]) -> float:
    if not first and not second:
        return 1.0
    shared = sum((Counter(first) & Counter(second)).values())
    return 2 * shared / (len(first) + len(second))  # = 2PR / (P + R)
