r"""Simple LaTeX as words, or as the plain notation that the other rules say: ``\frac{1}{2}`` is ``one half``, ``\le`` is ``≤``.

A formula is marked by ``$…$``, ``$$…$$``, ``\(…\)`` or ``\[…\]``; commands are also taken where they stand bare, as in the
options of many a question. A command that is not in the tables below raises ``Unspeakable``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from salad_eval.speakable.engine import Edit, Unspeakable
from salad_eval.speakable.numbers import fraction, ordinal
from salad_eval.speakable.symbols import GREEK_NAMES

MAX_DEPTH = 3  # arguments within arguments: beyond it no listener keeps track
MAX_COMMANDS = 40  # in one text

_WORDS = {
    **{name: name for name in GREEK_NAMES},
    **{name.capitalize(): name for name in GREEK_NAMES},
    **{f"var{name}": name for name in ("epsilon", "theta", "pi", "rho", "sigma", "phi", "kappa")},
    "sin": "sine", "cos": "cosine", "tan": "tangent", "cot": "cotangent", "sec": "secant", "csc": "cosecant",
    "arcsin": "arcsine", "arccos": "arccosine", "arctan": "arctangent", "sinh": "hyperbolic sine",
    "cosh": "hyperbolic cosine", "tanh": "hyperbolic tangent", "exp": "exponential of", "det": "determinant of",
    "dim": "dimension of", "ker": "kernel of", "deg": "degree of", "gcd": "greatest common divisor of",
    "arg": "argument of", "max": "maximum of", "min": "minimum of", "sup": "supremum of", "inf": "infimum of",
    "Pr": "probability of", "bmod": "mod", "mod": "mod", "ldots": "dot dot dot", "cdots": "dot dot dot",
    "dots": "dot dot dot", "dotsc": "dot dot dot", "dotsb": "dot dot dot", "vdots": "dot dot dot", "Box": "box",
    "square": "box", "star": "star", "ell": "l", "hbar": "h bar", "Re": "real part of", "Im": "imaginary part of",
    "vdash": "proves", "models": "models", "top": "top", "bot": "bottom", "therefore": "therefore", "because": "because",
    "aleph": "aleph", "oplus": "circled plus", "otimes": "circled times", "setminus": "set minus", "mapsto": "maps to",
    "colon": ":", "S": "§", "pounds": "£", "backslash": "backslash", "checkmark": "check mark", "dagger": "dagger",
}  # fmt: skip
_SIGNS = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥",
    "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "equiv": "≡", "cong": "≅", "sim": "∼",
    "simeq": "≅", "propto": "∝", "infty": "∞", "partial": "∂", "nabla": "∇", "in": "∈", "notin": "∉", "cup": "∪",
    "cap": "∩", "subset": "⊂", "subseteq": "⊆", "supset": "⊃", "emptyset": "∅", "varnothing": "∅", "forall": "∀",
    "exists": "∃", "neg": "¬", "lnot": "¬", "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨", "angle": "∠",
    "perp": "⊥", "parallel": "∥", "triangle": "△", "to": "→", "rightarrow": "→", "longrightarrow": "→",
    "leftarrow": "←", "leftrightarrow": "↔", "Rightarrow": "⇒", "implies": "⇒", "Leftrightarrow": "⇔", "iff": "⇔",
    "rightleftharpoons": "⇌", "uparrow": "↑", "downarrow": "↓", "circ": "∘", "degree": "°", "prime": "′", "lt": "<",
    "gt": ">", "ll": "<<", "gg": ">>", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "Vert": "∥", "lbrace": "{",
    "rbrace": "}", "bullet": "•", "ast": "∗", "langle": "(", "rangle": ")", "lfloor": "floor of (", "rfloor": ")",
    "lceil": "ceiling of (", "rceil": ")",
}  # fmt: skip
_SILENT = frozenset({
    "left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr",
    "quad", "qquad", "displaystyle", "textstyle", "limits", "nolimits", "hfill", "noindent", "thinspace", ",",
    ";", ":", "!",
}) | {" "}  # fmt: skip
_AS_IS = frozenset({
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "mathrm", "mathbf", "mathit", "mathsf", "mathcal",
    "mathscr", "mathfrak", "mathtt", "operatorname", "boxed", "emph", "underline", "mbox", "ensuremath",
    "boldsymbol", "bm",
})  # fmt: skip
_AFTER = {
    "bar": "bar", "overline": "bar", "hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde",
    "dot": "dot", "ddot": "double dot",
}  # fmt: skip
_BEFORE = {"vec": "vector", "overrightarrow": "ray", "overleftrightarrow": "line", "overarc": "arc"}
_NUMBER_SETS = {
    "R": "the real numbers", "Z": "the integers", "N": "the natural numbers", "Q": "the rational numbers",
    "C": "the complex numbers",
}  # fmt: skip
_BIG = {"sum": "sum", "prod": "product", "int": "integral", "oint": "contour integral", "bigcup": "union",
        "bigcap": "intersection"}  # fmt: skip
_ESCAPED = {"$": "$", "%": "%", "&": "&", "#": "#", "_": "_", "{": "{", "}": "}", "|": "∥", "\\": "\n"}

_DASHES = "-−–"
_TWO_NUMBERS = re.compile(
    r"\$[0-9.,]+ ?[-–] ?[0-9.,]+(?:\\?%)?\$ ?(?:%|(?!(?:is|are|and|or|equals)(?![a-z]))[a-z]{2,})"
)
_DASH_AT_END = re.compile(r"(?<![a-z]{2})(?<![-–])(?:(?<=[a-z]{2} )|(?<![a-z]{2} ))([-−–])(?:(?<![a-z]{2} .) )?\Z")
_DASH_BEFORE_OPERAND = re.compile(r" ?([-−–]) ?(?=[0-9({.]|\\[A-Za-z]|[A-Za-z](?![A-Za-z'’]|-[A-Za-z]{2}))")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+\*?|[^A-Za-z\n])")
_DOLLARS = re.compile(
    r"(?<![A-Za-z0-9\\$])(\$\$?)(?=[A-Za-z0-9\\(\[|{+.=<>-])((?:\\.|[^$\\\n])*?(?:\\.|[^$\\\s]))\1(?![0-9$])"
)
_PROSE = re.compile(
    r"(?<!\\)\b(?!(?:sin|cos|tan|log|mod|lim|max|min|gcd|exp)\b)(?:[a-z]{3,}|or|and|to|of|is|in|at|per)\b"
)
_TEXT_ARGUMENT = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname|sqrt|d?frac)[a-z]*|\\[A-Za-z]+")
_SIMPLE = re.compile(r"(?:[+-]|minus )?(?:[0-9][0-9.,]*|[0-9]*[A-Za-z](?:\^[0-9])?|[a-z]{2,8})'?")


@dataclass(frozen=True, slots=True)
class Latex:
    """The rewriter for LaTeX; see the module."""

    name: ClassVar[str] = "latex"
    needs: ClassVar[frozenset[str]] = frozenset("\\$")
    also: ClassVar[frozenset[str]] = frozenset()
    silences: ClassVar[str] = "markup"

    def __call__(self, text: str, edits: list[Edit] | None = None) -> str:
        reader = _Reader(text)
        reader.read_text()
        if edits is not None:
            edits += reader.edits
        return reader.result()


class _Reader:
    """One pass over a text or an argument that collects edits; an argument within is read by a reader of its own."""

    def __init__(self, text: str, depth: int = 0, commands: list[int] | None = None) -> None:
        if depth > MAX_DEPTH:
            raise Unspeakable(f"a formula with more than {MAX_DEPTH} levels of LaTeX", "complexity")
        self.text, self.depth, self.edits = text, depth, list[Edit]()
        self.commands = commands if commands is not None else [0]  # read so far, shared by the readers of a text

    def result(self) -> str:
        parts, at = [], 0
        for edit in self.edits:
            parts += [self.text[at : edit.start], edit.words]
            at = edit.end
        return "".join([*parts, self.text[at:]])

    def inner(self, text: str) -> str:
        reader = _Reader(text, self.depth + 1, self.commands)
        reader.read_formula(0, len(text))
        return reader.result().strip()

    def edit(self, start: int, end: int, words: str) -> None:
        """Replace; words are set off by spaces from the letters and digits they would touch."""
        if words == self.text[start:end]:
            return
        if words and words[0].isalnum() and start and self.text[start - 1].isalnum():
            words = " " + words
        if words and words[-1].isalnum() and self.text[end : end + 1].isalnum():
            words += " "
        self.edits.append(Edit(start, end, words))

    # --- where formulas are

    def read_text(self) -> None:
        at = 0
        for match in self._formulas():
            self._read(at, match.start(), False)
            start, end = match.span(match.lastindex or 0)
            self.edit(match.start(), start, "")
            self._read(start, end, True)
            self.edit(end, match.end(), "")
            at = match.end()
        self._read(at, len(self.text), False)

    def _formulas(self) -> list[re.Match[str]]:
        marked = re.finditer(
            r"\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]|" + _DOLLARS.pattern.replace(r"\1", r"\3"), self.text, re.DOTALL
        )
        return [m for m in marked if m.group(4) is None or _is_formula(m.group(4))]

    def read_formula(self, start: int, end: int) -> None:
        self._read(start, end, True)

    # --- what is in them

    def _read(self, at: int, end: int, formula: bool) -> None:
        triggers = re.compile(r"[\\{}~^_!−–-]" if formula else r"[\\^_]")
        while match := triggers.search(self.text, at, end):
            at = self._construct(match.start(), match.group(), end, formula)

    def _construct(self, at: int, character: str, end: int, formula: bool) -> int:
        if character == "\\":
            if not formula and self.text[at + 1 : at + 2] not in _ESCAPED and not self.text[at + 1 : at + 2].isalpha():
                return at + 1  # a backslash in prose, which has a name
            if formula or self._is_mark_up(at):
                return self._command(at, end)
            self._minus_before(at)
            return self._minus_after(self._command(at, end), end)
        if character == "!":
            if at and (self.text[at - 1].isalnum() or self.text[at - 1] in ")}"):
                self.edit(at, at + 1, " factorial")
            return at + 1
        if character in "^_":
            return self._script(at, end, formula)
        if character in _DASHES:
            if not self._is_hyphen(at) and not self._is_range(at):
                self._minus(at, at + 1)
            return at + 1
        self.edit(at, at + 1, " " if character == "~" else "")
        return at + 1

    # --- dashes: in a formula each is a minus, in prose those beside a command are

    def _minus(self, start: int, end: int) -> None:
        left, right = self.text[start - 1 : start], self.text[end : end + 1]
        opened = left in ("", "(", "[", "{", " ", "$", "|")
        self.edit(start, end, f"{'' if opened else ' '}minus{'' if right.isspace() else ' '}")

    def _is_hyphen(self, at: int) -> bool:
        """Whether the dash is a part of an arrow or of a longer dash, or stands between words."""
        left, right = self.text[max(at - 2, 0) : at], self.text[at + 1 : at + 3]
        return (
            right[:1] in (">", "-") or left[-1:] == "-" or (len(left) == len(right) == 2 and (left + right).isalpha())
        )

    def _is_range(self, at: int) -> bool:
        """Whether the dash is in two numbers that are all of a formula, before a noun or unit: "$3-4$ days"."""
        start = self.text.rfind("$", 0, at)
        return start >= 0 and _TWO_NUMBERS.match(self.text, start) is not None

    def _is_mark_up(self, at: int) -> bool:
        command = _COMMAND.match(self.text, at)
        return command is None or command.group()[1:].rstrip("*") in _AS_IS | _SILENT | _ESCAPED.keys()

    def _minus_before(self, at: int) -> None:
        dash = _DASH_AT_END.search(self.text, max(at - 24, self.edits[-1].end if self.edits else 0), at)
        if dash is not None:
            self._minus(dash.start(1), dash.end(1))

    def _minus_after(self, after: int, end: int) -> int:
        dash = _DASH_BEFORE_OPERAND.match(self.text, after, end)
        if dash is None:
            return after
        self._minus(dash.start(1), dash.end(1))
        return dash.end(1)

    def _script(self, at: int, end: int, formula: bool) -> int:
        if self.text[at + 1 : at + 2] == "\\":
            content, after = self._argument(at + 1, end)
        elif self.text[at + 1 : at + 2] == "{" and (formula or "\\" in self.text[at : at + 60]):
            content, after = self._argument(at + 1, end)
            if "\\" not in content and "{" not in content:
                return after  # a rule for plain notation says it
        else:
            return at + 1
        if content.strip() in (r"\circ", r"\prime"):
            self.edit(at, after, "°" if "circ" in content else "′")
        elif self.text[at] == "^":
            words = self.inner(content)
            self.edit(at, after, f"^{words}" if words in "+-" else f" to the {words} power")
        else:
            self.edit(at, after, f" sub {self.inner(content)}")
        return after

    def _argument(self, at: int, end: int) -> tuple[str, int]:
        """The argument that begins at ``at``, without its braces, and where it ends: a group, a command, a character."""
        while at < end and self.text[at] == " ":
            at += 1
        if at >= end or re.match("[A-Za-z]{3}", self.text[at : at + 3]):  # a word, in "see \\frac here"
            raise Unspeakable("a LaTeX command without its argument", "markup")
        if self.text[at] == "{":
            depth = 0
            for k in range(at, end):
                if self.text[k] in "{}" and (k == at or self.text[k - 1] != "\\"):
                    depth += 1 if self.text[k] == "{" else -1
                    if depth == 0:
                        return self.text[at + 1 : k], k + 1
            raise Unspeakable("a LaTeX brace that is not closed", "markup")
        command = _COMMAND.match(self.text, at, end)
        if command is not None:
            return command.group(), command.end()
        return self.text[at], at + 1

    def _command(self, at: int, end: int) -> int:
        match = _COMMAND.match(self.text, at, end)
        if match is None:
            raise Unspeakable(f"a backslash that begins no LaTeX command: {self.text[at : at + 12]!r}", "markup")
        self.commands[0] += 1
        if self.commands[0] > MAX_COMMANDS:
            raise Unspeakable(f"more than {MAX_COMMANDS} LaTeX commands", "complexity")
        name, after = match.group()[1:].rstrip("*"), match.end()
        special: dict[str, Callable[[int, int, int], int]] = {
            "frac": self._frac, "dfrac": self._frac, "tfrac": self._frac, "cfrac": self._frac, "sqrt": self._sqrt,
            "binom": self._binom, "dbinom": self._binom, "tbinom": self._binom, "log": self._log, "ln": self._log,
            "lg": self._log, "lim": self._lim, "mathbb": self._number_set, "pmod": self._pmod,
        }  # fmt: skip
        if name in special:
            return special[name](at, after, end)
        if name in _BIG:
            return self._big(_BIG[name], at, after, end)
        if name in _SILENT:
            self.edit(at, after, "" if name in ("left", "right", "middle", "!") or name.lower()[:3] == "big" else " ")
            if name in ("left", "right") and self.text[after : after + 1] == ".":
                self.edit(after, after + 1, "")  # a delimiter that is not printed
                return after + 1
            return after
        if name in _AS_IS or name in _AFTER or name in _BEFORE:
            content, after = self._argument(after, end)
            words = content if name.startswith("text") else self.inner(content)
            words = " ".join(filter(None, (_BEFORE.get(name), words, _AFTER.get(name))))
            self.edit(at, after, words)
            return after
        if name == "begin":
            raise Unspeakable(f"a LaTeX environment: {self.text[at : at + 30]!r}", "layout")
        found = _WORDS.get(name) or _SIGNS.get(name) or _ESCAPED.get(name)
        if found is None:
            raise Unspeakable(f"a LaTeX command that has no spoken form: {match.group()!r}", "markup")
        self.edit(at, after, found)
        return after

    # --- commands with a grammar of their own

    def _frac(self, at: int, after: int, end: int) -> int:
        above, after = self._argument(after, end)
        below, after = self._argument(after, end)
        if _is_digits(above) and _is_digits(below) and int(below):
            words = fraction(int(above), int(below))
            if at and self.text[at - 1].isdigit():  # 3\frac{1}{2} is a mixed number
                words = f" and {words}"
        else:
            above, below = self.inner(above), self.inner(below)
            if _SIMPLE.fullmatch(above) and _SIMPLE.fullmatch(below):
                words = f"{above} over {below}"
            else:
                words = (
                    f"the fraction with numerator {above} and denominator {below}{self._end('fraction', after, end)}"
                )
        self.edit(at, after, words)
        return after

    def _end(self, what: str, after: int, end: int) -> str:
        """``end root`` where more of the formula follows, which would otherwise be heard as a part of the root."""
        return (
            f" end {what}"
            if re.match(r"\s*(?:[-+*/=^_(A-Za-z0-9<>]|\\(?!right|text|\]|\)|[,;]))", self.text[after:end])
            else ""
        )

    def _sqrt(self, at: int, after: int, end: int) -> int:
        degree = re.compile(r"\s*\[([^\]]{1,10})\]").match(self.text, after, end)
        kind = "square"
        if degree is not None:
            kind = {"2": "square", "3": "cube"}.get(degree.group(1)) or (
                ordinal(degree.group(1)) if _is_digits(degree.group(1)) else f"{degree.group(1)}th"
            )
            after = degree.end()
        content, after = self._argument(after, end)
        under = self.inner(content)
        tail = "" if _SIMPLE.fullmatch(under) else self._end("root", after, end)
        times = " times " if at and self.text[at - 1].isalnum() else ""
        self.edit(at, after, f"{times}the {kind} root of {under}{tail}")
        return after

    def _binom(self, at: int, after: int, end: int) -> int:
        above, after = self._argument(after, end)
        below, after = self._argument(after, end)
        self.edit(at, after, f"{self.inner(above)} choose {self.inner(below)}")
        return after

    def _log(self, at: int, after: int, end: int) -> int:
        natural = self.text[at:after] == r"\ln"
        base, after = self._script_of("_", after, end)
        self.edit(at, after, f"log base {base} of " if base else "natural log of " if natural else "log ")
        return after

    def _lim(self, at: int, after: int, end: int) -> int:
        where, after = self._script_of("_", after, end)
        where = re.sub(r" ?→ ?", " approaches ", where)
        self.edit(at, after, f"the limit as {where} of " if where else "the limit of ")
        return after

    def _big(self, name: str, at: int, after: int, end: int) -> int:
        limits: dict[str, str] = {}
        for _ in range(2):
            for mark in "_^":
                if mark not in limits and self.text[after : after + 1] == mark:
                    limits[mark], after = self._script_of(mark, after, end)
        words = f"the {name}"
        if limits.get("_"):
            words += f" {'from' if '^' in limits else 'over'} {limits['_']}"
        if limits.get("^"):
            words += f" to {limits['^']}"
        self.edit(at, after, f"{words} of ")
        return after

    def _script_of(self, mark: str, at: int, end: int) -> tuple[str, int]:
        if self.text[at : at + 1] != mark:
            return "", at
        content, at = self._argument(at + 1, end)
        return self.inner(content), at

    def _number_set(self, at: int, after: int, end: int) -> int:
        content, after = self._argument(after, end)
        self.edit(at, after, _NUMBER_SETS.get(content.strip(), content.strip()))
        return after

    def _pmod(self, at: int, after: int, end: int) -> int:
        content, after = self._argument(after, end)
        self.edit(at, after, f" mod {self.inner(content)}")
        return after


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _is_formula(content: str) -> bool:
    """Whether what stands between two dollar signs is a formula and not the words between two sums of money."""
    if "\\" in content and not re.search(r"\\\$", content):
        return True
    plain = _TEXT_ARGUMENT.sub("", content)
    return _PROSE.search(plain) is None and plain.count("(") >= plain.count(")") - 1
