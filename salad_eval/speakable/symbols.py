"""Signs and letters that are left when all forms have been read: each by its name, in context where it has several."""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

from salad_eval.speakable.engine import NO_WIDTH, Rules, after, any_of, before

rules = Rules()

# In formal logic these stand for other words than in arithmetic and in sets.
_LOGIC = re.compile(r"[∀∃⊃∨∧¬⊢⊨]|there exists|for all|[A-Z~)] ?[≡•⊃] ?[A-Z~(]|^~|[(\s]~[A-Z(]")
_SETS = re.compile(r"[⊂⊆∪∩∈∅]")


@lru_cache(maxsize=16)
def _is_logic(text: str) -> tuple[bool, bool]:
    """Whether a text has formulas of logic, and whether of sets: asked again for each of its signs."""
    return _LOGIC.search(text) is not None, _SETS.search(text) is not None


@rules.add(r" ?([⊃•·∙⋅≡~∼]) ?", needs="⊃•·∙⋅≡~∼")
def sign_of_logic(match: re.Match[str]) -> str:
    sign = match.group(1)
    is_logic, has_sets = _is_logic(match.string)
    if not is_logic or (sign == "⊃" and has_sets):
        return match.group()
    if sign == "⊃":
        return " implies "
    if sign in "~∼":
        following = after(match, 1)
        return " not " if following.isalpha() or following in ("(", "~", "∼", "¬") else match.group()
    return " if and only if " if sign == "≡" else " and "


@rules.add(r" ?≡ ?(?=[^()\n]{1,30}(?:\(mod|mod ))", needs="≡")
def congruent(match: re.Match[str]) -> str:
    return " is congruent to "


@rules.add(r" ?• ?(?=[0-9A-Za-z(])", needs="•")
def dot_of_product(match: re.Match[str]) -> str:
    left = before(match).rstrip()
    between = match.group().count(" ") != 1 or match.group() == " • "
    product = between and re.search(r"(?:[0-9)]|squared|cubed|[a-z]|(?:^|\W)[A-Z])\Z", left)
    return " times " if product else " bullet "


SIGNS = {
    "+/-": "plus or minus", "<=>": "if and only if", "<=": "less than or equal to", ">=": "greater than or equal to",
    "!=": "not equal to", "==": "double equals", "-->": "to", "->": "to", "=>": "implies", "<-": "from",
    ">>": "much greater than", "<<": "much less than", "+": "plus", "=": "equals", "<": "less than",
    ">": "greater than", "&": "and", "%": "percent", "@": "at", "#": "hash", "*": "asterisk", "/": "slash",
    "\\": "backslash", "|": "vertical bar", "^": "caret", "~": "tilde", "_": "underscore", "`": "backtick",
    "[": "open bracket", "]": "close bracket", "{": "open brace", "}": "close brace", "−": "minus",
    "±": "plus or minus", "∓": "minus or plus", "×": "times", "÷": "divided by", "·": "times", "∙": "times",
    "⋅": "times", "∗": "times", "∘": "composed with", "≤": "less than or equal to", "≥": "greater than or equal to",
    "⩽": "less than or equal to", "⩾": "greater than or equal to", "≠": "not equal to", "≈": "approximately equal to",
    "≅": "congruent to", "≡": "identical to", "∼": "similar to", "≃": "approximately equal to", "∝": "proportional to",
    "∞": "infinity", "√": "the square root of", "∛": "the cube root of", "∑": "the sum of", "∏": "the product of",
    "∫": "the integral of", "∮": "the contour integral of", "∂": "partial", "∇": "nabla", "∆": "delta", "∈": "in",
    "∉": "not in", "∋": "contains", "∪": "union", "∩": "intersection", "⊂": "subset of", "⊆": "subset of or equal to",
    "⊃": "superset of", "⊇": "superset of or equal to", "∅": "the empty set", "∖": "set minus", "∀": "for all ",
    "∃": "there exists ", "∄": "there does not exist ", "¬": "not ", "∧": "and", "∨": "or", "⊕": "exclusive or",
    "⊗": "circled times", "⊢": "proves", "⊨": "entails", "⊤": "true", "⊥": "perpendicular to", "∴": "therefore",
    "∵": "because", "∠": "angle", "∥": "parallel to", "△": "triangle", "□": "box", "○": "circle", "◯": "circle",
    "■": "black square", "●": "black circle", "→": "to", "⟶": "to", "←": "from", "↔": "to and from", "⇒": "implies",
    "⟹": "implies", "⇐": "is implied by", "⇔": "if and only if", "⟺": "if and only if", "⇌": "in equilibrium with",
    "⇋": "in equilibrium with", "⇄": "in equilibrium with", "↑": "up", "↓": "down", "↦": "maps to",
    "°C": "degrees Celsius", "°F": "degrees Fahrenheit", "°": "degrees", "º": "degrees", "ª": "a", "′": "prime",
    "″": "double prime", "‰": "per mille", "§": "section", "¶": "paragraph", "©": "copyright", "®": "registered",
    "™": "trademark", "†": "dagger", "‡": "double dagger", "•": "bullet", "ℓ": "l", "ℏ": "h bar", "♯": "sharp",
    "♭": "flat", "♀": "female", "♂": "male", "✓": "check mark", "✔": "check mark", "✗": "cross", "✘": "cross",
    "★": "star", "☆": "star", "⋯": "dot dot dot", "⋮": "dot dot dot", "¦": "vertical bar", "ℝ": "the real numbers",
    "ℤ": "the integers", "ℕ": "the natural numbers", "ℚ": "the rational numbers", "ℂ": "the complex numbers",
    "⟨": "open angle bracket", "⟩": "close angle bracket", "⌊": "floor of", "⌋": "end floor", "⌈": "ceiling of",
    "⌉": "end ceiling", "℅": "care of", "‖": "parallel to", "∣": "divides", "≪": "much less than",
    "≫": "much greater than", "♠": "spades", "♣": "clubs", "♥": "hearts", "♦": "diamonds", "∎": "end of proof",
}  # fmt: skip
GREEK_NAMES = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
    "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
]  # fmt: skip
_GREEK = dict(zip("αβγδεζηθικλμνξοπρστυφχψω", GREEK_NAMES, strict=True))
_GREEK |= dict(zip("ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ", GREEK_NAMES, strict=True))
_GREEK |= {"ς": "sigma", "ϵ": "epsilon", "ϕ": "phi", "ϑ": "theta", "ϱ": "rho", "ϖ": "pi", "ϰ": "kappa"}
GREEK_LETTERS = frozenset(_GREEK)


@rules.add("[" + "".join(_GREEK) + "]", needs=_GREEK)
def greek_letter(match: re.Match[str]) -> str:
    return _GREEK[match.group()]


@rules.add(r"(?<=[a-z]{2})/(?=[a-z]{2})|(?<=[A-Za-z])/(?=[A-Za-z])|\s/\s", needs="/")
def slash_between_words(match: re.Match[str]) -> str:
    return " slash "


@rules.add(any_of(SIGNS), needs="".join(SIGNS))
def sign(match: re.Match[str]) -> str:
    left, right = before(match, 1), after(match, 1)
    spaces = "" if left.isspace() or left in '("' else " ", "" if right.isspace() or right in ').,;:?!"' else " "
    return f"{spaces[0]}{SIGNS[match.group()].strip()}{spaces[1]}"


# --- letter forms, before everything else ----------------------------------------------------------------------------

forms = Rules(spaced=False)

_SAME = {
    "’": "'", "‘": "'", "‛": "'", "‚": "'", "ʻ": "'", "ʼ": "'", "´": "'", "‹": "'", "›": "'", "“": '"', "”": '"',
    "„": '"', "«": '"', "»": '"', "‐": "-", "‑": "-", "‒": "–", "―": "—", "…": "...", "µ": "μ", "⁄": "/", "∕": "/",
    "℃": "°C", "℉": "°F", "˚": "°", "¿": "", "¡": "", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th", "ð": "th", "Ð": "Th", "ı": "i",
    "ʿ": "'", "ʾ": "'", "﹣": "-", "˗": "-", "➖": "−", "➕": "+", "➗": "÷", "✖": "×", "✕": "×", "⨯": "×",
    **dict.fromkeys(NO_WIDTH, ""),
}  # fmt: skip
# Ranges whose characters are other shapes of plain ones: ligatures, full and half width, letters for mathematics, Roman numerals.
_SHAPES = (("\ufb00", "\ufb06"), ("\uff01", "\uff5e"), ("\uffe0", "\uffe6"), ("\U0001d400", "\U0001d7ff"), ("\u2160", "\u217f"),
           ("\u210a", "\u210e"), ("\u2110", "\u2113"), ("\u212a", "\u212b"), ("\u2070", "\u2071"))  # fmt: skip
_SHAPES_KEPT = frozenset("⁰ⁱℓ")
# Numbers and letters in a circle, in brackets or with a full stop: each is one sign, and is not read with the digit beside it.
_IN_CIRCLES = (("\u2460", "\u24ff"), ("\u2776", "\u2793"), ("\u3251", "\u325f"), ("\u32b1", "\u32bf"))


@lru_cache(maxsize=4096)
def _form(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    if character not in _SHAPES_KEPT and any(low <= character <= high for low, high in _SHAPES):
        return unicodedata.normalize("NFKC", character)
    return unicodedata.normalize("NFC", character)


@forms.add(
    "\x80[\x93\x94\x98\x99\x9c\x9d\xa6]|[\xc2\xc3][\x80-\x9f\xa1-\xaa\xac-\xba\xbc-\xbf]|\xe2\x80[\x80-\xbf]",
    needs="\x80\xc2\xc3",
    silences="encoding",
)
def wrong_encoding(match: re.Match[str]) -> str:
    """UTF-8 that was read as Latin-1, in whole or with its first byte lost: the character it was."""
    octets = match.group().encode("latin-1")
    if octets[0] == 0x80:
        octets = b"\xe2" + octets
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return match.group()


@forms.add(r"‚Ä[\u0080-\uffff]", needs="‚", silences="encoding")
def wrong_encoding_of_mac(match: re.Match[str]) -> str:
    """UTF-8 that was read as Mac Roman."""
    try:
        return match.group().encode("mac_roman").decode("utf-8")
    except UnicodeError:
        return match.group()


@forms.add(r"&(?:[A-Za-z]{2,8}|#[0-9]{1,6}|#x[0-9a-fA-F]{1,5});", needs="&", silences="markup")
def entity(match: re.Match[str]) -> str:
    return html.unescape(match.group())


@forms.add(r"<(sub|sup)>([^<>\n]{1,30})</\1>", needs="<", silences="markup")
def small_print(match: re.Match[str]) -> str:
    return f"{'_' if match.group(1) == 'sub' else '^'}{{{match.group(2)}}}"


@forms.add(
    r"(?<=[a-z])Õ(?=(?:s|t|d|m|re|ve|ll)(?![a-zA-Z]))|(?<=s)Õ(?![A-Za-zÀ-ÿ])|(?<![A-Za-zÀ-ÿ])Ò(?=[A-Za-z])"
    r"|(?<=[A-Za-z.,?!])Ó(?![A-Za-zÀ-ÿ])",
    needs="ÕÒÓ",
    silences="encoding",
)
def quote_of_mac_roman(match: re.Match[str]) -> str:
    return "'" if match.group() == "Õ" else '"'


@forms.add(r"\S[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+", needs=[chr(c) for c in range(0x300, 0x370)])
def composed(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match.group())


@forms.add(r"(?<=[0-9]) ?[º°˚] ?([CFcf])(?![A-Za-z])", needs="º°˚")
def degrees_of_temperature(match: re.Match[str]) -> str:
    return f"°{match.group(1).upper()}"


@forms.add(
    "[" + "".join(f"{low}-{high}" for low, high in _IN_CIRCLES) + "]",
    needs=[chr(c) for low, high in _IN_CIRCLES for c in range(ord(low), ord(high) + 1)],
)
def in_circle(match: re.Match[str]) -> str:
    number = unicodedata.numeric(match.group(), None)
    return f" {int(number) if number is not None else unicodedata.normalize('NFKC', match.group()).strip('().')} "


@forms.add(r"(?<=[0-9])[\u00ad\u200b\u200c\u200d\ufeff]+(?=[0-9])", needs=NO_WIDTH)
def no_width_between_digits(match: re.Match[str]) -> str:
    return " "


@forms.add(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))", needs="\u00a0\u2009\u202f")
def thin_blank_of_thousands(match: re.Match[str]) -> str:
    return ","


@forms.add(r"[^\x00-\x7f]")
def letter_form(match: re.Match[str]) -> str:
    return _form(match.group())


@forms.add(r"[^\S\n ]|\s{2,}|\A\s|\s\Z")
def blanks(match: re.Match[str]) -> str:
    if match.start() == 0 or match.end() == len(match.string):
        return ""
    return "\n" if "\n" in match.group() or "\r" in match.group() else " "


# --- and after -------------------------------------------------------------------------------------------------------

tidy = Rules(spaced=False)


@tidy.add(r"[^\x00-\x7f]")
def plain_letter(match: re.Match[str]) -> str:
    """A letter of the Latin alphabet with marks English does not use, as the letter under them."""
    character = match.group()
    if character <= "\u00ff" or not unicodedata.name(character, "").startswith("LATIN "):
        return character
    base = unicodedata.normalize("NFD", character)[0]
    return base if base.isascii() else character


@tidy.add(r"(?:(?<!\s)\s+)?(?:—|--+|(?<=\s)–(?=\s))\s*", needs="—-–")
def dash(match: re.Match[str]) -> str:
    return " " if before(match, 1) in (".", ",", ";", ":", "?", "!") else ", "


@tidy.add("–", needs="–")
def short_dash(match: re.Match[str]) -> str:
    return "-"


@tidy.add(r"\s{2,}|\n|\A\s|\s\Z")
def one_blank(match: re.Match[str]) -> str:
    return "" if match.start() == 0 or match.end() == len(match.string) else " "


@tidy.add(r"\s(?=[.,;:?!)])|(?<=\()\s")
def blank_at_mark(match: re.Match[str]) -> str:
    return ""


@tidy.add(r"\A(?:, ?)+|,(?=[,.;:?!])", needs=",")
def lone_comma(match: re.Match[str]) -> str:
    return ""


@tidy.add(r",(?=[A-Za-z])", needs=",")
def blank_after_comma(match: re.Match[str]) -> str:
    return ", "
