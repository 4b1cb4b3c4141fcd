"""Formulas in plain notation: ranges and signs of numbers, powers and indices, fractions, functions, brackets, symbols."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, after, before
from salad_eval.speakable.numbers import (
    DIGITS,
    END,
    INT,
    NUM,
    START,
    cardinal,
    fraction,
    number,
    ordinal,
    part,
    spelled,
    tokens,
)
from salad_eval.speakable.units import UNIT_NAMES, VULGAR

signs_of_numbers = Rules()
rules = Rules()

_GREEK_LETTERS = "αβγδεζηθικλμνξοπρστυφχψωςϵϕϑϱϖΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
_VARIABLE = rf"(?:[A-Za-z{_GREEK_LETTERS}](?![A-Za-z]))"

# --- signs and ranges of numbers: these leave the digits to the rules below


@signs_of_numbers.add(rf"{START}({NUM})[eE]([+-]?[0-9]{{1,4}}){END}", needs=DIGITS)
def scientific(match: re.Match[str]) -> str:
    return f"{number(match.group(1))} times ten to the power of {tokens(match.group(2).lstrip('+'))}"


@signs_of_numbers.add(
    rf"{START}(?<![-/])(?:(?:1-)?[0-9]{{3}}-)?[0-9]{{3}}-[0-9]{{4}}(?![0-9A-Za-z-])"
    rf"|\([0-9]{{3}}\) ?[0-9]{{3}}-[0-9]{{4}}(?![0-9A-Za-z-])",
    needs=DIGITS,
)
def phone_number(match: re.Match[str]) -> str:
    return ", ".join(map(spelled, re.findall("[0-9]+", match.group())))


_ARITHMETIC = re.compile(r"\)? ?(?:[=+*×÷^<>]|/ ?[0-9(])")


@signs_of_numbers.add(
    rf"{START}(?<![A-Za-z]-)(?<![A-Za-z_^])({NUM}%?)[-–—−]({NUM})(?![0-9]|[-–][0-9]|/[0-9]|[ixyznk](?![A-Za-z]))",
    needs=DIGITS,
)
def number_range(match: re.Match[str]) -> str:
    sum_ = (
        before(match, 2).rstrip()[-1:] in tuple("=+*×÷^√")
        or _ARITHMETIC.match(match.string, match.end())
        or "−" in match.group()
    )
    if "—" in match.group() and not sum_:
        return match.group()
    return f"{match.group(1)} {'minus' if sum_ else 'to'} {match.group(2)}"


@signs_of_numbers.add(
    rf"(?<=[0-9%]) [-–] (?={NUM} ?(?:{UNIT_NAMES}|%|percent|[a-z]{{2,20}}(?:s|ths))(?![A-Za-z0-9]))", needs="-–"
)
def spaced_range(match: re.Match[str]) -> str:
    return " to "  # "1 - 3 mM" and "10 - 20 minutes"; without a unit it is a subtraction


@signs_of_numbers.add(r"(?<=[0-9]) – (?=[0-9])", needs="–")
def spaced_dash(match: re.Match[str]) -> str:
    left, right = before(match), after(match)
    in_formula = re.search(r"[=+*/×÷^(]", left + right) or not re.search("[a-z]{3}", left)
    return match.group() if in_formula else " to "  # "children aged 5 – 12"


@signs_of_numbers.add(rf"(?<![\w)\].'^{{-])[-−–](?=(?:{NUM}|√))", needs="-−–")
def negative_number(match: re.Match[str]) -> str:
    return "minus "


@signs_of_numbers.add(
    rf"(?<=[=(,<>+*/×|] )[-−](?={_VARIABLE})|(?<=[=(,<>|])[-−](?=[0-9]*{_VARIABLE})|(?<![^\n])[-−](?={_VARIABLE})",
    needs="-−",
)
def negative_variable(match: re.Match[str]) -> str:
    return "minus "


@signs_of_numbers.add(
    rf"(?<=[0-9)\]]) [-−–—] (?=[0-9(\\√]|[0-9]*{_VARIABLE})|(?<=[^A-Za-z0-9'][A-Za-z]) [-−–] (?=[0-9(])"
    rf"|(?<=[0-9][A-Za-z{_GREEK_LETTERS}]) [-−–] (?=[0-9(]|{_VARIABLE})|(?<=^[A-Za-z]) [-−–] (?=[0-9(])"
    rf"|(?<=[0-9)])[-−](?=[0-9]*[b-fjkn-rt-z{_GREEK_LETTERS}](?![A-Za-z])(?!-[A-Za-z]{{2}})"
    rf"|[0-9]+i(?![A-Za-z]))|(?<=[\s(][a-z]) - (?=[a-z]{{1,3}}\^)|(?<=\^[0-9])[-−](?=[0-9])"
    rf"|(?<=\))—(?=[0-9(]+[=+*/])|(?<=[0-9)\]])[-−](?=\()"
    rf"|(?<![A-Za-z'’.-][a-z])(?<![A-Za-z][a-z])(?<=[b-hj-z{_GREEK_LETTERS}])[-−](?=[0-9]{{1,4}}(?![0-9A-Za-z-])|\()"
    rf"|(?<=[0-9(=|,+][b-hj-z])[-−](?=[a-z](?![A-Za-z]))",
    needs="-−–—",
)
def minus(match: re.Match[str]) -> str:
    if re.search(r"[a-z]{3}[^()\[\]]*[)\]]{1,2}\Z|\[[a-z]\]\)?\Z", before(match)):
        return match.group()  # "(source in Zambia) - 2,740 km": a dash after a note
    return " minus "


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


@rules.add(
    r"(?<![A-Za-z0-9.])([0-9]{1,3}|[nkrm])!(?= ?[-+*/=×÷)^]|[0-9(])|(?<=[=/*×÷(] )([0-9]{1,3}"
    r"|[nkrm])!(?=\W|$)|(?<=[=/*×÷(])([0-9]{1,3}|[nkrm])!(?=\W|$)|\)!(?= ?[-+*/=×÷)^])|\A([0-9]{1,3}"
    r"|[nkrm])!\Z",
    needs="!",
)
def factorial(match: re.Match[str]) -> str:
    return match.group().rstrip("!") + " factorial"


@rules.add(
    rf"(?<=[0-9)\]{_SUPERS}]) ?/ ?(?=[0-9(√]|\? =|{_VARIABLE})|(?<=factorial) ?/ ?(?=[0-9(nk])"
    rf"|(?<=\A[a-mo-z])/(?=[a-z]\Z)|(?<=∂[A-Za-z]) ?/ ?(?=∂)|(?:(?<=volts)|(?<=volt))/(?=c(?![A-Za-z]))"
    rf"|(?<![A-Za-z0-9/])(?<=[{_GREEK_LETTERS}]) ?/ ?(?=[0-9(]|{_VARIABLE})"
    rf"|(?<=[ =(+*-][a-z])/(?=[0-9(])|(?<=^[a-z])/(?=[0-9(])|(?<=[0-9][A-Za-zπ])/(?=[0-9(]|{_VARIABLE})"
    rf"|(?<=[=+*×-][ ][A-Za-z]) ?/ ?(?={_VARIABLE}|[0-9(])|(?<=[=+*×-][A-Za-z])/(?={_VARIABLE}|[0-9(])",
    needs="/",
)
def over(match: re.Match[str]) -> str:
    is_part = re.match(r"[0-9]+(?:st|nd|rd|th)", after(match))  # "1/80th"
    return match.group() if is_part or _is_written_fraction(match) else " over "


def _is_written_fraction(match: re.Match[str]) -> bool:
    above = re.search(r"(?<![0-9.,^_/])(?<![^A-Za-z][A-Za-z])(?<!^[A-Za-z])(?:[0-9]{1,4} )?[0-9]{1,2}\Z", before(match))
    below = re.match(r"(?:10|16|32|64|100|[2-9])(?![0-9A-Za-z/]|[.,][0-9])", after(match))
    return bool(above and below and match.group() == "/")


@rules.add(
    rf"\^(\{{[+-]?[A-Za-z0-9]{{1,12}}[+-]?\}}|\([+-–]?[A-Za-z0-9]{{1,12}}\)"
    rf"|[+−–-]?[0-9]{{1,12}}(?:\.[0-9]+)?|[+-](?![A-Za-z0-9])"
    rf"|[A-Za-z*'°])(?![A-Za-z])|\^([A-Za-z]{{1,12}})(?![A-Za-z])|[{_SUPERS}]+",
    needs=f"^{_SUPERS}",
)
def power(match: re.Match[str]) -> str:
    return _power(match.group(1) or match.group(2) or match.group().translate(_SUPER))


@rules.add(r"\^(?:\{([^{}\n]{1,40})\}|\(([^()\n]{1,40})\)|\[([^\[\]\n]{1,40})\])", needs="^")
def power_of_expression(match: re.Match[str]) -> str:
    exponent = match.group(1) or match.group(2) or match.group(3)
    return f" to the {_expression(exponent)} power"


def _expression(text: str) -> str:
    """Inside an exponent or index every sign is one of arithmetic; the rules that follow say all but the minus."""
    return re.sub(r"\s*[-−–]\s*(?=[0-9A-Za-z(])", " minus ", text).strip()


@rules.add(
    rf"(?<=[A-Za-z0-9){_GREEK_LETTERS}])_?"
    rf"(?:([{_SUBS}]+)|(?<=[A-Za-z)]_)\{{([A-Za-z0-9]{{1,12}})\}}|(?<=\b[A-Za-z]_)([0-9]{{1,6}}){END})",
    needs=f"_{_SUBS}",
)
def index(match: re.Match[str]) -> str:
    small, braced, plain = match.groups()
    words = tokens((small or "").translate(_SUB) or braced or plain)
    return f" sub {words}"


@rules.add(
    rf"(?<![A-Za-z0-9_])(?<=[A-Za-z{_GREEK_LETTERS}])_(?=[A-Za-z0-9]{{1,4}}(?![A-Za-z0-9_]))"
    rf"|(?<![A-Za-z0-9_][A-Za-z{_GREEK_LETTERS}])(?<=[A-Za-z{_GREEK_LETTERS}])_(?=[A-Za-z0-9]{{1,4}}"
    rf"(?![A-Za-z0-9_]))",
    needs="_",
)
def letter_index(match: re.Match[str]) -> str:
    return " sub "


@rules.add(r"_\{([^{}\n]{1,40})\}|(?<=[A-Za-z)])_\(([^()\n]{1,20})\)", needs="_")
def index_of_expression(match: re.Match[str]) -> str:
    return f" sub {_expression(match.group(1) or match.group(2))}"


# --- fractions and products ------------------------------------------------------------------------------------------


@rules.add(r"(?<![0-9])([0-9]{1,2})['’′] ?([0-9]{1,2})(?:\"|”|″|'')", needs="'’′")
def height(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    foot_word, inch_word = "foot" if feet == "1" else "feet", "inch" if inches == "1" else "inches"
    return f"{cardinal(feet)} {foot_word} {cardinal(inches)} {inch_word}"


@rules.add(rf"{START}([0-9]{{1,4}})/([0-9]{{1,4}})(?:rds|ths|nds|th|rd|nd)(?![A-Za-z])", needs="/")
def named_fraction(match: re.Match[str]) -> str:
    return part(int(match.group(1)), int(match.group(2)))


@rules.add(rf"{START}({INT})(?:st|nd|rd|th)(?![A-Za-z0-9])", needs=DIGITS)
def ordinal_number(match: re.Match[str]) -> str:
    return ordinal(match.group(1))


@rules.add(rf"(?:{START}([0-9]{{1,6}}) ?)?([{''.join(VULGAR)}])", needs="".join(VULGAR))
def vulgar_fraction(match: re.Match[str]) -> str:
    whole = f"{cardinal(match.group(1))} and " if match.group(1) else ""
    return whole + part(*VULGAR[match.group(2)])


@rules.add(
    rf"{START}(?<!/)(?:([0-9]{{1,4}})[ -])?([0-9]{{1,2}})/(10|16|32|64|100|[2-9])(?:(th)s?)?(?![0-9A-Za-z/]|[.,][0-9])",
    needs="/",
)
def written_fraction(match: re.Match[str]) -> str:
    whole, above, below, _ = match.groups()
    if whole is not None:
        return f"{cardinal(whole)} and {part(int(above), int(below))}"
    return fraction(int(above), int(below))


@rules.add(
    r"(?<![A-Za-z0-9'’])([A-Za-z]) [-−–] ([A-Za-z0-9](?![A-Za-z])|(?=\())"
    r"|(?<![A-Za-z])([A-Za-z]) ?[*∗] ?(?=[A-Za-z0-9(])|(?<=[0-9]) ?[*∗] ?(?=[A-Za-z0-9(])"
    r"|(?<=[)\]}]) ?[*∗] ?(?=[A-Za-z0-9(])",
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


@rules.add(r"(?<=[a-z]) x (?=[a-z]{3})", needs="x")
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
_NAMES = "|".join(sorted(_FUNCTIONS, key=len, reverse=True))


@rules.add(
    r"(?<![A-Za-z])log(?:_\{?| )?(?:base )?([0-9]{1,2}|(?<=_)[a-z]|(?<=_\{)[a-z])\}? ?(?=\()"
    r"|(?<![A-Za-z])log(?:_\{([0-9a-z]{1,2})\}|_([0-9]{1,2}|[a-z]))(?: of)? ?(?=[0-9a-z])",
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
    rf"| (?=[0-9]*(?:[b-hj-zB-HJ-Z{_GREEK_LETTERS}](?![A-Za-z'’])|[0-9]))|(?=[{_GREEK_LETTERS}])))",
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
    r"| inverse)?\((?=[^()\n]{1,40}(?:\([^()\n]{0,20}\)[^()\n]{0,20})?\))(?![a-z]{2,} )",
    needs="(",
)
def value_of_function(match: re.Match[str]) -> str:
    if match.string[match.end() : match.end() + 2] in ("s)", "es"):
        return match.group()
    prime = {"": "", "'": " prime", "′": " prime"}.get(match.group(2) or "", " double prime")
    return f"{match.group(1)}{prime} of ("


@rules.add(r"(?<![A-Za-z0-9])([a-zA-Z])′(?!′)|(?<![A-Za-z'’])([f-hxy])'(?= ?[=(+])", needs="′'")
def prime(match: re.Match[str]) -> str:
    return f"{match.group(1) or match.group(2)} prime"


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
        re.search(rf"(?:[0-9)\]]|(?<![A-Za-z])[A-Za-z{_GREEK_LETTERS}])\Z", left) is not None
        or re.search(
            r"(?:[-+*/=×÷·^−√~¬∪∩∧∨⊃≡•]|\b(?:times|plus|minus|over|power of|root of|not|open parenthesis"
            r"|exists [a-z]|all [a-z])) ?\Z",
            left,
        )
        is not None
        or re.match(
            rf"(?: ?[-+*/=×÷·^−∪∩∧∨⊃≡•<>≤≥](?!-)|[(A-Za-z{_GREEK_LETTERS}](?![a-z]{{2}})| ?(?:squared|cubed"
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
    rf"(?:(?<![A-Za-z])[A-Za-z{_GREEK_LETTERS}](?: prime| double prime| inverse)?"
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


@rules.add(r"(?<=[0-9A-Za-z)]),? ?(?:\.\.\.|…)(?= ?, ?[0-9A-Za-z(][0-9A-Za-z]?(?:[^A-Za-z]|$))", needs=".…")
def and_so_on(match: re.Match[str]) -> str:
    if not re.search(
        r"(?:^|[^A-Za-z])[0-9A-Za-z)]$", match.string[max(0, match.start() - 1) : match.start() + 1].rstrip(", .…")
    ):
        return match.group()
    return ", dot dot dot"


@rules.add(rf"{START}(?:{INT}(?:\.[0-9]+)*|(?<![A-Za-z0-9])\.[0-9]+(?:\.[0-9]+)*)|[0-9]+", needs=DIGITS)
def plain_number(match: re.Match[str]) -> str:
    return number(match.group())
