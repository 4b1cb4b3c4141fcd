"""Values of a column, row by row: everything a row says comes from one question with its options, so that its columns agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.parity.columns import Reads

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NOUNS = ("cup", "tree", "river", "bird", "café", "stone", "naïve poet", "winter", "Öl", "garden", "смысл", "木")
_VERBS = ("sees", "holds", "needs", "finds", "draws", "carries", "wants", "keeps", "hears", "makes", "knows", "sells")


@dataclass(frozen=True)
class Question:
    """Row ``n`` of a made-up data set; ``gold`` goes through the options in turn. ``plain``: no leading spaces and ASCII only."""

    n: int
    options: tuple[str, ...]
    gold: int

    @property
    def right(self) -> str:
        return self.options[self.gold]


def question(n: int, n_options: int, *, plain: bool = False) -> Question:
    texts = []
    for k in range(n_options):
        text = f"{_VERBS[(n + k) % 12]} {n * 7 + k} {_NOUNS[(n * 5 + 3 * k) % 12]}" + ("s" * (k % 3))
        texts.append(" " + text if (n + k) % 4 == 1 and not plain else text)
    if plain:
        texts = [text.encode("ascii", "ignore").decode().strip() for text in texts]
    return Question(n, tuple(texts), (n * 3 + n // n_options) % n_options if n_options > 1 else 0)


Kind = Callable[[Question], Any]


def _sentence(what: str) -> Kind:
    return lambda q: (
        f"{what} {q.n}: the {_NOUNS[q.n % 12]} {_VERBS[(q.n + 5) % 12]} a {_NOUNS[(q.n * 7 + 2) % 12]} of {q.n + 40}."
    )


def _option(k: int) -> Kind:
    return lambda q: q.options[k] if k < len(q.options) else f"none of {q.n} and {k}"


def _wrong(k: int) -> Kind:
    def wrong(q: Question) -> str:
        others = [text for place, text in enumerate(q.options) if place != q.gold]
        return others[k % len(others)] if others else f"no {q.n}"

    return wrong


def _cycle(words: Sequence[Any]) -> Kind:
    """One after the other; of texts and numbers the texts, since a column is of one kind."""
    alike = [word for word in words if isinstance(word, str)] or [*words]
    return lambda q: alike[q.gold % len(alike)]


# By what a column that says which option is right may hold.
GOLDS: Mapping[str, Kind] = {
    "index": lambda q: q.gold,
    "letter": lambda q: LETTERS[q.gold],
    "index text": lambda q: str(q.gold),
    "right text": lambda q: q.right,
    "index from 1": lambda q: q.gold + 1,
    "index from 1 text": lambda q: str(q.gold + 1),
    "small letter": lambda q: LETTERS[q.gold].lower(),
    "bool": lambda q: q.gold % 2 == 1,
    "bool text": lambda q: str(q.gold % 2 == 1),
    "one-hot": lambda q: [int(k == q.gold) for k in range(len(q.options))],
    "[index]": lambda q: [q.gold],
    "[letter]": lambda q: [LETTERS[q.gold]],
    "[right text]": lambda q: [q.right],
    "[right text twice]": lambda q: [q.right, q.right.upper()],
    "(letter)": lambda q: f"({LETTERS[q.gold]})",
    "number": lambda q: q.n + 2,
    "number text": lambda q: str(q.n * 3 + 2),
    "#### number": lambda q: f"Let us see. It is so.\n#### {q.n * 3 + 2}",
    "boxed": lambda q: f"We count to {q.n}, so it is $\\boxed{{{q.n * 3 + 2}}}$.",
    "float": lambda q: q.n / 4,
    "answers": lambda q: {"text": [q.right.strip(), q.right.strip().upper()], "answer_start": [0, 0]},
}
FREE_GOLDS = ("right text", "number text", "letter", "[right text]", "#### number", "boxed", *GOLDS)
LISTS: Mapping[str, Kind] = {
    "options": lambda q: list(q.options),
    "{text, label}": lambda q: {"text": list(q.options), "label": list(LETTERS[: len(q.options)])},
    "[{text, label}]": lambda q: [
        {"text": text, "label": letter} for text, letter in zip(q.options, LETTERS, strict=False)
    ],
    "{A: …}": lambda q: dict(zip(LETTERS, q.options, strict=False)),
    "{a: …}": lambda q: dict(zip(LETTERS.lower(), q.options, strict=False)),
    "options as JSON": lambda q: json.dumps(list(q.options), ensure_ascii=False),
    "options as Python": lambda q: repr(list(q.options)),
    "A. options": lambda q: [f"{letter}. {text.strip()}" for letter, text in zip(LETTERS, q.options, strict=False)],
    "options in lines": lambda q: "\n".join(
        f"{letter}. {text.strip()}" for letter, text in zip(LETTERS, q.options, strict=False)
    ),
    "options as a ) …": lambda q: " , ".join(
        f"{letter} ) {text.strip()}" for letter, text in zip(LETTERS.lower(), q.options, strict=False)
    ),
    "{A: one-hot}": lambda q: {letter: int(k == q.gold) for k, letter in enumerate(LETTERS[: len(q.options)])},
    "problems as Python": lambda q: repr(
        [{"question": _sentence("Problem")(q), "options": list(q.options), "answer": LETTERS[q.gold]}]
    ),
    "(A) options": lambda q: [f"({letter}){text.strip()}" for letter, text in zip(LETTERS, q.options, strict=False)],
    "{choices, labels}": lambda q: {
        "choices": list(q.options),
        "labels": [int(k == q.gold) for k in range(len(q.options))],
    },
    "wrong": lambda q: [text for place, text in enumerate(q.options) if place != q.gold],
    "[right]": lambda q: [q.right],
    "[[options]]": lambda q: [list(q.options)],
    "letters": lambda q: list(LETTERS[: len(q.options)]),
}
TEXTS: Mapping[str, Kind] = {
    "question": _sentence("Question"),
    "passage": _sentence("Passage"),
    "word": lambda q: f"w{q.n}ö",
    "other word": lambda q: f"v{q.n}ü",
    "blank": lambda q: (
        f"In {q.n + 40} the {_NOUNS[q.n % 12]} saw the {_NOUNS[(q.n + 4) % 12]}, since _ was near number {q.n}."
    ),
    "words": lambda q: [f"word{q.n}", "of", f"line{q.n}"],
    "number": lambda q: q.n,
    "number text": lambda q: str(q.n),
    "empty": lambda q: "",
    "null": lambda q: None,
    "[text]": lambda q: [f"First {q.n}.", f"Second {q.n}."],
    "drop answer": lambda q: {
        "number": "",
        "date": {"day": "", "month": "", "year": ""},
        "spans": [q.right.strip()],
        "worker_id": "w",
        "hit_id": "h",
    },
    "drop answers": lambda q: {
        "number": ["", ""],
        "date": [{"day": "", "month": "", "year": ""}] * 2,
        "spans": [[q.right.strip()], [q.options[0].strip()]],
        "worker_id": ["", ""],
        "hit_id": ["", ""],
    },
    "{stem}": lambda q: {
        "stem": _sentence("Stem")(q),
        "text": _sentence("Text")(q),
        "value": q.right,
        "aliases": [q.right],
    },
}
KINDS: Mapping[str, Kind] = {
    **{f"gold {name}": kind for name, kind in GOLDS.items()},
    **{f"list {name}": kind for name, kind in LISTS.items()},
    **{f"text {name}": kind for name, kind in TEXTS.items()},
    **{f"option {k}": _option(k) for k in range(10)},
    "right": lambda q: q.right,
    **{f"wrong {k}": _wrong(k) for k in range(9)},
}

_LISTS_NAMED = """
    choices? options? endings candidates alternatives answers?_?(choices|options|list) opcoes opciones variants
    multiple_choice_targets targets references? distractors completions
"""
_GOLDS_NAMED = """
    answers? labels? golds? targets? answer_?key correct.* solution ans idx cop ground_truth answer_?idx
    gold_index output completion class category_label is_.* resposta respuesta answer_number verdict label_.*
    final_answer answer_right_ending relation sentiment rating score
"""
_OPTIONS_NAMED = """
    option choice opt? sol ending answer ans sentence sent candidate alternative op mc choices endings?
    continuation completion solution
"""
_LIST_NAMES = re.compile(rf"(.*_)?({'|'.join(_LISTS_NAMED.split())})(_text|_list)?", re.I)
_GOLD_NAMES = re.compile(rf"(.*[_ ])?({'|'.join(_GOLDS_NAMED.split())})", re.I)
_OPTION_NAME = re.compile(rf"(?:.*[_ ])?(?:{'|'.join(_OPTIONS_NAMED.split())})[ _]?([a-jA-J]|\d)", re.I)
_WRONG_NAME = re.compile(r".*(?:incorrect|wrong|distractor|bad|false|neg).*?(\d*)$", re.I)
_RIGHT_NAME = re.compile(r"(?:.*[_ ])?(?:correct|right|good|true|best|pos)(?:[_ ].*)?", re.I)


def value_of(kind: str, column: str, reads: Reads, q: Question) -> Any:
    """The value of a column of that kind in the row of ``q``; a kind in braces is JSON: by key the kinds of what lies below."""
    if kind == "own words":
        return _cycle(reads.words[column])(q)
    if kind == "given":
        return reads.given[0]
    if kind.startswith("given after "):
        return kind.removeprefix("given after ") + reads.given[0]
    if kind.startswith("words "):
        return _cycle(reads.groups[int(kind.removeprefix("words "))])(q)
    if kind.startswith(("{", "[")):
        return _nested(json.loads(kind), column, reads, q)
    if kind.startswith("each "):
        return [dict.fromkeys(kind.removeprefix("each ").split(","), option) for option in q.options]
    if kind.startswith("="):
        return json.loads(kind[1:])
    if kind.startswith("~"):
        return (values := json.loads(kind[1:]))[q.n % len(values)]
    made = KINDS[kind](q)
    return (
        made.replace(":", f" of {column}:", 1)
        if kind in ("text question", "text passage") and isinstance(made, str)
        else made
    )


def _nested(kinds: Any, column: str, reads: Reads, q: Question) -> Any:
    if isinstance(kinds, dict):
        return {key: _nested(kind, key, reads, q) for key, kind in kinds.items()}
    if isinstance(kinds, list):
        return [_nested(kind, column, reads, q) for kind in kinds]
    return value_of(kinds, column, reads, q)


def kinds_for(column: str, reads: Reads, *, generated: bool = False) -> list[str]:
    """The kinds that a column of that name may be, the likeliest first; ``generated``: the answer is a text."""
    keys, looped = reads.columns.get(column, set()), column in reads.lists
    first: list[str] = [f"list options as {reads.parsed[column]}"] if column in reads.parsed else []
    if keys & {"text", "label"} and keys <= {"text", "label"}:
        first += ["list {text, label}", "gold answers", "list [{text, label}]"]
    if keys & {"choices", "labels"}:
        first += ["list {choices, labels}"]
    if keys & set(LETTERS):
        first += ["list {A: …}"]
    if keys & set(LETTERS.lower()):
        first += ["list {a: …}"]
    if keys & {"stem", "value", "aliases"}:
        first += ["text {stem}"]
    if column in reads.each:
        first += ["each " + ",".join(sorted(reads.each[column]))]
    if keys and not first:
        below = {key: kinds_for(key, Reads({key: set()}), generated=generated)[0] for key in sorted(keys)}
        first += [json.dumps(below), json.dumps([below])]
    if len(column) == 1 and column.upper() in LETTERS[:10]:
        first += [f"option {LETTERS.index(column.upper())}"]
    if match := _OPTION_NAME.fullmatch(column):
        place = match[1]
        number = int(place) if place.isdigit() else LETTERS.index(place.upper())
        first += [f"option {max(0, number - 1) if place.isdigit() else number}", f"option {min(number, 9)}"]
    if (match := _WRONG_NAME.fullmatch(column)) and not looped:
        first += [f"wrong {max(0, int(match[1] or 1) - 1) % 9}"]
    elif _WRONG_NAME.fullmatch(column):
        first += ["list wrong"]
    if _RIGHT_NAME.fullmatch(column):
        first += ["right", "list [right]"]
    lists = [f"list {name}" for name in LISTS]
    golds = [f"gold {name}" for name in (FREE_GOLDS if generated else GOLDS)]
    texts = [f"text {name}" for name in TEXTS]
    words = ["own words"] if reads.words.get(column) else []
    groups = [
        f"words {place}" for place in sorted(range(len(reads.groups)), key=lambda place: len(reads.groups[place]))
    ]
    if column in reads.chosen:
        first = [*words, *groups, *first]
    if _LIST_NAMES.fullmatch(column):
        first += lists[:2]
    if _GOLD_NAMES.fullmatch(column):
        first += [*(words if len(reads.words.get(column, ())) > 1 else []), *(golds[:4] if generated else golds[:6])]
    if looped:
        rest = [*words, *lists, "text words", "text [text]", *golds, *texts, *groups]
    elif _GOLD_NAMES.fullmatch(column):
        rest = [*words, *(groups if len(groups) < 12 else ()), *golds, *groups, *texts, *lists]
    elif _LIST_NAMES.fullmatch(column):
        rest = [*lists, *golds, *texts, *words, *groups]
    else:
        rest = [*words, *texts[:4], *groups, *golds, *texts, *lists, "right", "wrong 0"]
    return list(dict.fromkeys([*first, *rest]))
