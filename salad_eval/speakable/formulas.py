"""Formulas in plain notation: ranges and signs of numbers, powers and indices, fractions, functions, brackets, symbols."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, Unspeakable, after, any_of, before
from salad_eval.speakable.numbers import (
    BARE,
    DIGITS,
    END,
    INT,
    START,
    cardinal,
    fraction,
    number,
    ordinal,
    part,
    tokens,
)
from salad_eval.speakable.signs import GREEK, VARIABLE, is_asked, is_in_formula
from salad_eval.speakable.units import VULGAR

rules = Rules()

# --- powers and indices ----------------------------------------------------------------------------------------------

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₓᵢⱼₙₐₑₒ", "0123456789+-xijnaeo")
_SUPERS, _SUBS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "₀₁₂₃₄₅₆₇₈₉₊₋ₓᵢⱼₙₐₑₒ"


def _power(exponent: str) -> str:
    exponent = exponent.strip("{}() ").replace("–", "-")
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    if exponent[-1] in "+-":  # the charge of an ion
        return f" {tokens(exponent)}"
    if exponent in ("'", "*", "°", "T"):
        return {"'": " prime", "*": " star", "°": " degrees", "T": " transpose"}[exponent]
    return f" to the power of {tokens(exponent)}"


_COUNTS_OF_ORDERS = re.compile(
    r" (?:ways|permutations|arrangements|possible|possibilities|orders|orderings|different|distinct|elements|is|are|equals|terms|grows)"
    r"(?![a-z])"
)
_IN_BRACKETS = re.compile(r"\((?:[0-9]*[A-Za-z]?(?: ?(?:[-+*/·×−–]|minus|plus|times|over|factorial) ?)?){1,6}\Z")


@rules.add(r"(?<![A-Za-z0-9.])(?:[0-9]{0,3}[nkrmN]|[0-9]{1,3})!(?!!)|(?<=\))!(?!!)", needs="!")
def factorial(match: re.Match[str]) -> str:
    # "I scored 5!" and "five (5)!" are exclamations.
    left, right, written = before(match), after(match), match.group()
    of_bracket = _IN_BRACKETS.search(left[:-1]) if written == "!" else None
    if (
        written == "!"
        and (of_bracket is None or re.fullmatch(r"\([0-9]*", of_bracket.group()))
        and not is_in_formula(match)
    ):
        return written
    in_formula = re.match(r" ?[-+*/=×÷)^·<>≤≥](?!-)|[0-9(√]| minus ", right) or re.search(r"[=/*×÷(+·^−-] ?\Z", left)
    asked = is_asked(left) and re.match(r"[.?]?\s*\Z", right)
    alone = not left.strip() and not right.strip()
    if not (in_formula or asked or alone or of_bracket or _COUNTS_OF_ORDERS.match(right)):
        return written
    return f"{written[:-1]} factorial"


@rules.add(
    rf"(?<=[0-9)\]{_SUPERS}]) ?/ ?(?=[0-9(√]|\? =|{VARIABLE})|(?<=factorial) ?/ ?(?=[0-9(nk])"
    rf"|(?<=\A[a-mo-z])/(?=[a-z]\Z)|(?<=∂[A-Za-z]) ?/ ?(?=∂)|(?:(?<=volts)|(?<=volt))/(?=c(?![A-Za-z]))"
    rf"|(?<![A-Za-z0-9/])(?<=[{GREEK}]) ?/ ?(?=[0-9(]|{VARIABLE})"
    rf"|(?<=[ =(+*-][a-z])/(?=[0-9(])|(?<=^[a-z])/(?=[0-9(])|(?<=[0-9][A-Za-zπ])/(?=[0-9(]|{VARIABLE})"
    rf"|(?<=[=+*×-][ ][A-Za-z]) ?/ ?(?={VARIABLE}|[0-9(])|(?<=[=+*×-][A-Za-z])/(?={VARIABLE}|[0-9(])",
    needs="/",
)
def over(match: re.Match[str]) -> str:
    is_part = re.match(r"[0-9]+(?:st|nd|rd|th)", after(match))  # "1/80th"
    return match.group() if is_part or _is_written_fraction(match) else " over "


def _is_written_fraction(match: re.Match[str]) -> bool:
    above = re.search(
        r"(?<![0-9.,^_/])(?<!\^[−–-])(?<![^A-Za-z][A-Za-z])(?<!^[A-Za-z])(?:[0-9]{1,4} )?[0-9]{1,2}\Z", before(match)
    )
    below = re.match(r"(?:10|16|32|64|100|[2-9])(?![0-9A-Za-z/]|[.,][0-9])", after(match))
    return bool(above and below and match.group() == "/")


@rules.add(
    rf"\^(\{{[+-]?[A-Za-z0-9]{{1,12}}[+-]?\}}|\([+-–]?[A-Za-z0-9]{{1,12}}\)"
    rf"|[+−–-]?[0-9]{{1,12}}(?:\.[0-9]+)?|[+-](?![A-Za-z0-9(])"
    rf"|[−–-]?(?:[0-9]*[a-z{GREEK}]|[A-Z])|[−–-][0-9]*[A-Za-z]{{2,3}}|[*'°])(?:(?![A-Za-z])|(?<=[0-9])(?=[A-Z](?![A-Za-z])))|\^([A-Za-z]{{1,12}})(?![A-Za-z])|[{_SUPERS}]+",
    needs=f"^{_SUPERS}",
)
def power(match: re.Match[str]) -> str:
    return _power(match.group(1) or match.group(2) or match.group().translate(_SUPER))


@rules.add(r"\^([-−–]?)(?:\{([^{}\n]{1,40})\}|\(([^()\n]{1,40})\)|\[([^\[\]\n]{1,40})\])", needs="^")
def power_of_expression(match: re.Match[str]) -> str:
    sign, *exponents = match.groups()
    exponent = next(filter(None, exponents))
    words = _expression(exponent)
    if sign:
        words = f"minus open parenthesis {words} close parenthesis" if _OPERATOR.search(words) else f"minus {words}"
    return f" to the {words} power"


def _expression(text: str) -> str:
    """Inside an exponent or index every sign is one of arithmetic; the rules that follow say all but the minus."""
    return re.sub(r"\s*[-−–]\s*(?=[0-9A-Za-z(])", " minus ", text).strip()


@rules.add(
    rf"(?<=[A-Za-z0-9){GREEK}])_?"
    rf"(?:([{_SUBS}]+)|(?<=[A-Za-z)]_)\{{([A-Za-z0-9]{{1,12}})\}}|(?<=\b[A-Za-z]_)([0-9]{{1,6}}){END})",
    needs=f"_{_SUBS}",
)
def index(match: re.Match[str]) -> str:
    small, braced, plain = match.groups()
    words = tokens((small or "").translate(_SUB) or braced or plain)
    return f" sub {words}"


@rules.add(
    rf"(?<![A-Za-z0-9_])(?<=[A-Za-z{GREEK}])_(?=[A-Za-z0-9]{{1,4}}(?![A-Za-z0-9_]))"
    rf"|(?<![A-Za-z0-9_][A-Za-z{GREEK}])(?<=[A-Za-z{GREEK}])_(?=[A-Za-z0-9]{{1,4}}"
    rf"(?![A-Za-z0-9_]))",
    needs="_",
)
def letter_index(match: re.Match[str]) -> str:
    return " sub "


@rules.add(r"_\{([^{}\n]{1,40})\}|(?<=[A-Za-z)])_\(([^()\n]{1,20})\)", needs="_")
def index_of_expression(match: re.Match[str]) -> str:
    return f" sub {_expression(match.group(1) or match.group(2))}"


# --- fractions and products ------------------------------------------------------------------------------------------


@rules.add(rf"{START}([0-9]{{1,4}})/([0-9]{{1,4}})(?:rds|ths|nds|th|rd|nd)(?![A-Za-z])", needs="/", also=DIGITS)
def named_fraction(match: re.Match[str]) -> str:
    return part(int(match.group(1)), int(match.group(2)))


@rules.add(rf"{START}([0-9]{{1,2}}) ?st\.? ?([0-9]{{1,2}}) ?lbs?(?![A-Za-z])", needs=DIGITS, also="s")
def stones_and_pounds(match: re.Match[str]) -> str:
    stones, pounds = match.groups()
    return f"{cardinal(stones)} stone {cardinal(pounds)} pound{'' if pounds == '1' else 's'}"


@rules.add(rf"{START}({INT})(st|nd|rd|th|ST|ND|RD|TH)(?![A-Za-z0-9])", needs=DIGITS, also="snrtSNRT")
def ordinal_number(match: re.Match[str]) -> str:
    digits, ending = match.groups()
    small = int(digits.replace(",", "")[-2:])
    if ending.lower() != ("th" if 10 < small < 20 else {1: "st", 2: "nd", 3: "rd"}.get(small % 10, "th")):
        raise Unspeakable(f"an ordinal with the ending of another: {match.group()!r}", "unclear")
    return ordinal(digits)


@rules.add(rf"(?:{START}([0-9]{{1,6}}) ?)?([{''.join(VULGAR)}])", needs="".join(VULGAR))
def vulgar_fraction(match: re.Match[str]) -> str:
    whole = f"{cardinal(match.group(1))} and " if match.group(1) else ""
    return whole + part(*VULGAR[match.group(2)])


@rules.add(
    rf"{START}(?<!/)(?:([0-9]{{1,4}})[ -])?([0-9]{{1,2}})/(10|16|32|64|100|[2-9])(?:(th)s?)?(?![0-9A-Za-z/]|[.,][0-9])",
    needs="/",
    also=DIGITS,
)
def written_fraction(match: re.Match[str]) -> str:
    whole, above, below, _ = match.groups()
    if whole is not None:
        return f"{cardinal(whole)} and {part(int(above), int(below))}"
    return fraction(int(above), int(below))


@rules.add(
    r"(?=(?:[A-Za-z] ?| )?[-−–*∗])(?:(?<![A-Za-z0-9'’])([A-Za-z]) [-−–] ([A-Za-z0-9](?![A-Za-z])|(?=\())"
    r"|(?<![A-Za-z])([A-Za-z]) ?[*∗] ?(?=[A-Za-z0-9(])|(?<=[0-9]) ?[*∗] ?(?=[A-Za-z0-9(])"
    r"|(?<=[)\]}]) ?[*∗] ?(?=[A-Za-z0-9(]))",
    needs="-−–*∗",
)
def minus_and_times_of_letters(match: re.Match[str]) -> str:
    if match.group(1):
        return f"{match.group(1)} minus {match.group(2)}"
    return f"{match.group(3) or ''} times "


@rules.add(r"(?<=[A-Za-z)]) [*∗×] (?=[A-Za-z(])", needs="*∗×")
def times_between_words(match: re.Match[str]) -> str:
    return " times "


@rules.add(r"(?<=[0-9)]) ?[xX] ?(?=[0-9])|(?<=\)) ?[xX] ?(?=\()", needs="0123456789)")
def times_between_numbers(match: re.Match[str]) -> str:
    return " times "


@rules.add(
    r"(?<=[a-z])(?<! of)(?<!minus)(?<!plus)(?<!times)(?<!over) x "
    r"(?!(?:minus|plus|times|over|equals|squared|cubed|sub|to)(?![a-z]))(?=[a-z]{3})",
    needs="x",
)
def times_between_nouns(match: re.Match[str]) -> str:
    # "force = mass x acceleration"
    return " times " if re.search(r"= ?[a-z ]{3,30}\Z", before(match, 40)) else match.group()


@rules.add(r"#(?= ?[0-9])|№ ?", needs="#№")
def number_sign(match: re.Match[str]) -> str:
    return "number "


@rules.add(r"(?<![A-Za-z])([A-G])([#♯♭])(?![A-Za-z])", needs="#♯♭")
def sharp_or_flat(match: re.Match[str]) -> str:
    return f"{match.group(1)} {'flat' if match.group(2) == '♭' else 'sharp'}"


@rules.add(r"~ ?(?=[0-9])", needs="~")
def about(match: re.Match[str]) -> str:
    return "about "


# --- functions and brackets ------------------------------------------------------------------------------------------

_FUNCTIONS = {
    "sin": "sine", "cos": "cosine", "tan": "tangent", "cot": "cotangent", "sec": "secant", "csc": "cosecant",
    "arcsin": "arcsine", "arccos": "arccosine", "arctan": "arctangent", "sinh": "hyperbolic sine",
    "cosh": "hyperbolic cosine", "tanh": "hyperbolic tangent", "ln": "natural log", "log": "log", "exp": "exponential",
    "sqrt": "the square root", "lim": "the limit", "gcd": "the greatest common divisor", "max": "max", "min": "min",
    "mod": "mod", "det": "determinant", "Var": "variance", "var": "variance", "Cov": "covariance",
    "Pr": "probability", "abs": "absolute value",
}  # fmt: skip
_NAMES = any_of(_FUNCTIONS)


@rules.add(
    r"log(?<![A-Za-z]log)(?:_\{?| )?(?:base )?([0-9]{1,2}|(?<=_)[a-z]|(?<=_\{)[a-z])\}? ?(?=\()"
    r"|log(?<![A-Za-z]log)(?:_\{([0-9a-z]{1,2})\}|_([0-9]{1,2}|[a-z]))(?: of)? ?(?=[0-9a-z])",
    needs="l",
)
def logarithm(match: re.Match[str]) -> str:
    return f"log base {match.group(1) or match.group(2) or match.group(3)} of "


@rules.add(r"(?<![A-Za-z])d([a-zA-Z]?) ?/ ?d([a-zθ])(?![A-Za-z])", needs="/")
def derivative(match: re.Match[str]) -> str:
    return f"d {match.group(1)} over d {match.group(2)}".replace("  ", " ")


@rules.add(r"(?<![A-Za-z0-9])([OΘΩ])\((?=[^()\n]{0,20}(?:[nNVEkmdlxy1]|log)[^()\n]{0,20}\))", needs="OΘΩ")
def order_of_growth(match: re.Match[str]) -> str:
    return f"big {match.group(1)} of ("


@rules.add(
    rf"(?<![A-Za-z_.])({_NAMES})(?:( ?\^ ?[-−]?[0-9]| squared| cubed"
    rf"| to the power of minus one)?(?: ?(\()"
    rf"| (?=[0-9]*(?:[b-hj-zB-HJ-Z{GREEK}](?![A-Za-z'’])|[0-9]))|(?=[{GREEK}])))",
    needs="snxgpdtbhvVCP",
)
def function(match: re.Match[str]) -> str:
    name, exponent, bracket = match.groups()
    if name == "sec" and before(match, 2).rstrip()[-1:].isdigit():
        return match.group()  # "5 sec"
    words = _FUNCTIONS[name] + (exponent or "")
    if bracket:
        return f"{words} of (" if name not in ("mod",) else f"{words} ("
    return f"{words} of " if name in ("ln", "sqrt", "exp") else f"{words} "


@rules.add(
    r"(?<![A-Za-z0-9_'’])([fghFGHPEpuvφψΦΨ])(?: prime)?(['′]{1,2}"
    r"| inverse)?\((?=[^()\n]{1,40}(?:\([^()\n]{0,20}\)[^()\n]{0,20})?\))(?!(?!minus )[a-z]{2,} )",
    needs="(",
)
def value_of_function(match: re.Match[str]) -> str:
    if match.string[match.end() : match.end() + 2] in ("s)", "es"):
        return match.group()
    prime = {"": "", "'": " prime", "′": " prime"}.get(match.group(2) or "", " double prime")
    return f"{match.group(1)}{prime} of ("


_ENDS_OF_STRANDS = (
    "cap|end|UTR|phosphate|OH|hydroxyl|untranslated|carbon|position|exonuclease|termin|splice|side|direction|ss|ends"
)


@rules.add(
    rf"(?<![0-9])([35])['’′](?=[ -](?:{_ENDS_OF_STRANDS}))|(?<![0-9])([35])['’′](-|–|→| to | -> )([35])['’′](?![0-9A-Za-z])",
    needs="'’′",
    also="35",
)
def end_of_strand(match: re.Match[str]) -> str:
    end, first, _, second = match.groups()
    return f"{end} prime" if end else f"{first} prime to {second} prime"


@rules.add(r"(?<![A-Za-z0-9])([a-zA-Z])′(?!′)|(?<![A-Za-z'’])([f-hxy])'(?= ?[=(+])", needs="′'")
def prime(match: re.Match[str]) -> str:
    return f"{match.group(1) or match.group(2)} prime"


@rules.add(r"<( ?(?:[-−]|minus )?[0-9a-z.]{1,8}(?:, ?(?:[-−]|minus )?[0-9a-z.]{1,8}){1,5} ?)>", needs="<", also=",")
def vector(match: re.Match[str]) -> str:
    return f"open angle bracket {match.group(1).strip()} close angle bracket"


@rules.add(r"(?<![A-Za-z0-9|])\|([^|\n,;:?]{1,24}?)\|(?![A-Za-z0-9|])", needs="|")
def absolute_value(match: re.Match[str]) -> str:
    content = match.group(1)
    if (
        not content.strip()
        or content.count("(") != content.count(")")
        or content.find(")") < content.find("(")
        or not _is_expression(content)
    ):
        return match.group()
    return f"the absolute value of {_expression(content)}"


@rules.add(r"(?<=[A-Za-z0-9)]) ?\| ?(?=[A-Za-z~¬][^|()]{0,30}\))", needs="|")
def given(match: re.Match[str]) -> str:
    is_probability = re.search(r"(?:[PpQf]| of|r) ?\([^()]{1,30}\Z", before(match, 40))
    return " given " if is_probability else match.group()


@rules.add(r"(?<=[=+*/×÷] )\?(?=\Z| ?[=+*/×÷)])|(?<=over )\?|(?<![^\n])\?(?= [=+*/×÷])", needs="?")
def unknown_of_equation(match: re.Match[str]) -> str:
    return "question mark"


# A bracket is said where it groups: something is multiplied with it, raised, or has it as a factor or a term. Elsewhere, and
# around a whole answer or the argument of a function, it is the pause that it is in prose.
_TERM = r"[^()\n]{1,80}"
_OPERATOR = re.compile(
    r"(?<=\S)\s*(?:[-+*/=×÷·−∪∩∧∨⊃≡•→<>≤≥^]|\b(?:plus|minus|times|over|equals|squared|cubed|and|or"
    r"|implies|sub)\b)\s*(?=\S)"
)


@rules.add(rf"\(({_TERM})\)", needs="(")
def grouping_brackets(match: re.Match[str]) -> str:
    inner, left, right = match.group(1), before(match), after(match)
    if _ARGUMENT.search(left):
        compound = _OPERATOR.search(inner) is not None and re.match(r" ?[-+*/×÷·^−]", right) is not None
        if not compound or "," in inner:
            return f"{inner.strip()}" if left.endswith(" ") or not left[-1:].isalnum() else f" {inner.strip()}"
    if not _is_expression(inner):
        return match.group()
    touches = (
        re.search(rf"(?:[0-9)\]]|(?<![A-Za-z])[A-Za-z{GREEK}])\Z", left) is not None
        or re.search(
            r"(?:[-+*/=×÷·^−√~¬∪∩∧∨⊃≡•]|\b(?:times|plus|minus|over|power of|root of|not|open parenthesis"
            r"|exists [a-z]|all [a-z])) ?\Z",
            left,
        )
        is not None
        or re.match(
            rf"(?: ?[-+*/=×÷·^−∪∩∧∨⊃≡•<>≤≥](?!-)|[(A-Za-z{GREEK}](?![a-z]{{2}})| ?(?:squared|cubed"
            rf"|to the|over|times|plus|minus|close parenthesis)\b|²|³)",
            right,
        )
        is not None
    )
    if not touches or _OPERATOR.search(inner) is None:
        return match.group()
    quantified = re.search(r"(?:there exists|for all|[∃∀]) ?[a-z]\)\Z", left) is not None
    times = (
        " times"
        if not quantified and re.search(r"(?:[0-9)\]]|(?<![A-Za-z])[a-zπθ]|close parenthesis|squared|cubed)\Z", left)
        else ""
    )
    sep = " " if left and not left.endswith((" ", "\n")) and not times else ""
    tail = " " if right[:1].isalnum() else ""
    return f"{times}{sep if not times else ' '}open parenthesis {inner.strip()} close parenthesis{tail}"


_ARGUMENT = re.compile(
    rf"(?:(?<![A-Za-z])[A-Za-z{GREEK}](?: prime| double prime| inverse)?"
    rf"|(?:{'|'.join(sorted(set(_FUNCTIONS.values())))})"
    r"(?: squared| cubed)?| base [0-9a-z]+) of ?\Z| mod ?\Z"
)  # what rules above put before the bracket of a function

_WORDS_OF_FORMULAS = frozenset({
    "sine", "cosine", "tangent", "log", "base", "of", "the", "square", "cube", "root", "plus", "minus", "times",
    "over", "squared", "cubed", "to", "power", "sub", "pi", "theta", "alpha", "beta", "gamma", "delta",
    "lambda", "mu", "sigma", "omega", "phi", "rho", "epsilon", "mod", "natural", "equals", "open", "close",
    "parenthesis", "bracket", "and", "or", "not", "there", "exists", "for", "all", "implies", "prime",
    "factorial", "fraction", "with", "numerator", "denominator", "end", "choose", "absolute", "value",
    "infinity", "limit", "approaches", "sum", "from", "integral", "less", "greater", "than", "equal",
    "exponential", "degrees", "percent", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred",
    "thousand", "million", "billion", "point", "half", "halves", "quarter", "quarters", "third", "thirds",
    "identical", "if", "only", "union", "intersection",
})  # fmt: skip


def _is_expression(text: str) -> bool:
    """Whether a text is a formula: symbols, numbers, single letters, and the words that rules above put for them."""
    words = re.findall(r"[A-Za-z]{2,}", text)
    unknown = [w for w in words if w.lower() not in _WORDS_OF_FORMULAS and not (len(w) <= 2 and not w.islower())
               and not re.fullmatch(r"[a-z]{2}", w)]  # fmt: skip
    return not unknown and not re.search(r"[.?!;:]\s", text)


# --- plain numbers


@rules.add(
    r"(?=,? ?(?:\.\.\.|…))(?<=[0-9A-Za-z)]),? ?(?:\.\.\.|…)(?= ?, ?[0-9A-Za-z(][0-9A-Za-z]?(?:[^A-Za-z]|$))", needs=".…"
)
def and_so_on(match: re.Match[str]) -> str:
    if not re.search(
        r"(?:^|[^A-Za-z])[0-9A-Za-z)]$", match.string[max(0, match.start() - 1) : match.start() + 1].rstrip(", .…")
    ):
        return match.group()
    return ", dot dot dot"


@rules.add(rf"{START}(?:{INT}(?:\.[0-9]+)*|{BARE}(?:\.[0-9]+)*)|[0-9]+", needs=DIGITS)
def plain_number(match: re.Match[str]) -> str:
    return number(match.group())
