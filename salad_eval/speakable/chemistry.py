"""Formulas of chemistry, letter by letter as chemists say them: ``Ca2+`` is *C A two plus*, ``->`` between formulas *yields*."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, after, any_of, before
from salad_eval.speakable.numbers import DIGITS, START, cardinal, mass_number, number

rules = Rules()

ELEMENTS = {
    "H": "hydrogen", "He": "helium", "Li": "lithium", "Be": "beryllium", "B": "boron", "C": "carbon", "N": "nitrogen",
    "O": "oxygen", "F": "fluorine", "Ne": "neon", "Na": "sodium", "Mg": "magnesium", "Al": "aluminum", "Si": "silicon",
    "P": "phosphorus", "S": "sulfur", "Cl": "chlorine", "Ar": "argon", "K": "potassium", "Ca": "calcium",
    "Sc": "scandium", "Ti": "titanium", "V": "vanadium", "Cr": "chromium", "Mn": "manganese", "Fe": "iron",
    "Co": "cobalt", "Ni": "nickel", "Cu": "copper", "Zn": "zinc", "Ga": "gallium", "Ge": "germanium", "As": "arsenic",
    "Se": "selenium", "Br": "bromine", "Kr": "krypton", "Rb": "rubidium", "Sr": "strontium", "Y": "yttrium",
    "Zr": "zirconium", "Nb": "niobium", "Mo": "molybdenum", "Tc": "technetium", "Ru": "ruthenium", "Rh": "rhodium",
    "Pd": "palladium", "Ag": "silver", "Cd": "cadmium", "In": "indium", "Sn": "tin", "Sb": "antimony",
    "Te": "tellurium", "I": "iodine", "Xe": "xenon", "Cs": "cesium", "Ba": "barium", "La": "lanthanum", "Ce": "cerium",
    "Pr": "praseodymium", "Nd": "neodymium", "Pm": "promethium", "Sm": "samarium", "Eu": "europium",
    "Gd": "gadolinium", "Tb": "terbium", "Dy": "dysprosium", "Ho": "holmium", "Er": "erbium", "Tm": "thulium",
    "Yb": "ytterbium", "Lu": "lutetium", "Hf": "hafnium", "Ta": "tantalum", "W": "tungsten", "Re": "rhenium",
    "Os": "osmium", "Ir": "iridium", "Pt": "platinum", "Au": "gold", "Hg": "mercury", "Tl": "thallium", "Pb": "lead",
    "Bi": "bismuth", "Po": "polonium", "At": "astatine", "Rn": "radon", "Fr": "francium", "Ra": "radium",
    "Ac": "actinium", "Th": "thorium", "Pa": "protactinium", "U": "uranium", "Np": "neptunium", "Pu": "plutonium",
    "Am": "americium", "Cm": "curium", "Bk": "berkelium", "Cf": "californium",
}  # fmt: skip
_ELEMENT = any_of(ELEMENTS)
_SUBS, _SUPERS = "₀₁₂₃₄₅₆₇₈₉", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
_PLAIN = str.maketrans(_SUBS + _SUPERS + "−–", "0123456789" + "0123456789+-" + "--")
_COUNT = rf"(?:[{_SUBS}]{{1,3}}|_\{{[0-9]{{1,3}}\}}|_?[0-9]{{1,3}})"
_GROUP = rf"\((?:{_ELEMENT}{_COUNT}?){{1,6}}\){_COUNT}"
_CHARGE = r"(?:\^\{?[0-9]?[+−–-]\}?|[⁰¹²³⁴⁵⁶⁷⁸⁹]?[⁺⁻]|[0-9]?\+(?![\w+])|(?<=[a-z0-9)}₀-₉OFINH])[−–-](?![\w-]))"
_FORMULA = rf"(?:{_ELEMENT}{_COUNT}?|{_GROUP}){{1,10}}"
_STATE = r"(?: ?\((?:aq|s|l|g)\))"
_STATES = {"aq": "aqueous", "s": "solid", "l": "liquid", "g": "gas"}
# Formulas without a digit that are no words: the rest ("CO", "NO", "In", "HeLa") stays as written.
_COMMON = [
    "NaCl", "NaOH", "NaBr", "NaF", "NaI", "NaH", "KCl", "KOH", "KBr", "KI", "KF", "LiCl", "LiF", "LiOH", "LiH",
    "HCl", "HBr", "HF", "HI", "HCN", "AgCl", "AgBr", "AgI", "CuO", "CuS", "CuCl", "MgO", "CaO", "CaS", "FeO",
    "FeS", "ZnO", "ZnS", "BaO", "BeO", "SiC", "GaAs", "PbO", "PbS", "SnO", "HgO", "TiN", "NiO", "CoO", "MnO",
    "CsCl", "RbCl", "NaHS", "KCN", "NaCN", "HClO", "HOCl", "BrCl", "ICl",
]  # fmt: skip
_BARE_SIGNS = ("+", "-", "−", "–")
_COMMON_SET = frozenset(_COMMON)
_MOLECULES = frozenset(["O2", "H2", "N2", "O3", "Cl2", "Br2", "F2", "I2", "S8", "P4", "C60"])  # of one element

_BEFORE_ARROW = re.compile(rf"(?:^|[\s(:+])(?:[0-9]{{1,3}} ?)?{_FORMULA}{_CHARGE}?{_STATE}? ?$")
_AFTER_ARROW = re.compile(rf" ?(?:[0-9]{{1,3}} ?)?{_FORMULA}{_CHARGE}?{_STATE}?(?![A-Za-z])")


@rules.add(r" ?(?:-{1,2}>|=>|→|⟶) ?", needs=">→⟶")
def yields(match: re.Match[str]) -> str:
    left, right = _BEFORE_ARROW.search(before(match, 40)), _AFTER_ARROW.match(after(match, 40))
    # "T: V -> W" maps a space to a space: one of the two must be a compound, or have a count or a charge.
    chemical = left and right and re.search(r"[0-9₀-₉+(]|[A-Z][a-z]?[A-Z]", f"{left.group()} {right.group()}")
    return " yields " if chemical else match.group()


@rules.add(
    rf"(?:\^\{{([0-9]{{1,3}})\}}(?:_\{{[0-9]{{1,3}}\}})?|\^([0-9]{{1,3}})"
    rf"|([⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,3}})[₀-₉]{{0,3}})({_ELEMENT})(?![A-Za-z0-9])",
    needs="^" + _SUPERS,
)
def isotope(match: re.Match[str]) -> str:
    if match.start() and match.string[match.start() - 1] in "0123456789)]}" + _SUBS:
        return match.group()  # the power of what stands before it
    if match.start() and match.string[match.start() - 1].isalpha():
        return match.group()
    mass = (match.group(1) or match.group(2) or match.group(3)).translate(_PLAIN)
    number = re.search(r"_\{([0-9]+)\}|([₀-₉]+)", match.group())
    words = f"{ELEMENTS[match.group(4)]} {mass_number(mass)}"
    if number:
        words += f", atomic number {cardinal((number.group(1) or number.group(2)).translate(_PLAIN))}"
    return words


@rules.add(rf"(?<![A-Za-z0-9_^]){'(' + _ELEMENT + ')'}-([0-9]{{1,3}})(?![A-Za-z0-9-]|[.,][0-9])", needs="-")
def isotope_by_mass(match: re.Match[str]) -> str:
    symbol, mass = match.groups()
    if (symbol, mass) not in _KNOWN_ISOTOPES:
        return match.group()  # "B-52", "F-16", "V-8"
    return f"{ELEMENTS[symbol]} {mass_number(mass)}"


_KNOWN_ISOTOPES = {
    (symbol, mass)
    for symbol, masses in {
        "H": "1 2 3", "He": "3 4", "C": "11 12 13 14", "N": "13 14 15", "O": "15 16 17 18", "F": "18", "Na": "22 23 24",
        "P": "31 32 33", "S": "35", "Cl": "35 36 37", "K": "39 40", "Ar": "39 40", "Ca": "40 45", "Co": "57 60",
        "Fe": "55 56 59", "Sr": "87 90", "Tc": "99", "I": "123 125 127 131", "Xe": "133 135", "Cs": "137", "Ra": "226",
        "Rn": "222", "Th": "230 232 234", "U": "233 234 235 238", "Pu": "238 239 240", "Pb": "204 206 207 208",
        "Am": "241", "Po": "210", "Kr": "85 92", "Ba": "141", "Rb": "87",
    }.items()
    for mass in masses.split()
}  # fmt: skip


@rules.add(
    r"(?<![A-Za-z0-9])(?:[1-7][spdf](?:\^\{?[0-9]{1,2}\}?|[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2}|[0-9]{1,2})[ ,]*){2,12}(?![A-Za-z0-9])",
    needs=DIGITS,
)
def electron_configuration(match: re.Match[str]) -> str:
    shells = re.findall(r"([1-7])([spdf])[\^{]*([0-9⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2})", match.group())
    words = [f"{cardinal(n)} {letter} {cardinal(count.translate(_PLAIN))}" for n, letter, count in shells]
    tail = match.group()[len(match.group().rstrip(" ,")) :]
    return ", ".join(words) + tail


@rules.add(r"(?<=[A-Z0-9₀-₉])[•·](?=[\s),.;]|\Z)", needs="•·")
def radical(match: re.Match[str]) -> str:
    return " radical"  # "CH3•"


@rules.add(r"(?<=[πσ])\*", needs="*")
def antibonding(match: re.Match[str]) -> str:
    return " star"


@rules.add(r"(?<=[A-Za-z0-9₀-₉)]) ?[·•∙⋅*] ?(?=(?:[0-9]{1,2} ?)?H(?:2|₂|_2|_\{2\})O(?![A-Za-z]))", needs="·•∙⋅*")
def water_of_crystals(match: re.Match[str]) -> str:
    return " dot "


@rules.add(
    rf"(?=[0-9A-Z(])(?:{START}(?<![A-Za-z_^.])([0-9]{{1,3}}(?:\.[0-9]{{1,3}})?) ?)?(?<![A-Za-z_^\\])"
    rf"(?<![0-9][-–])({_FORMULA})({_CHARGE})?({_STATE})?(?![A-Za-z0-9_]|['’][a-z])",
    needs=DIGITS + _SUBS + "+-−⁺⁻NHLKABCFGMZSPTRI",
)
def chemical_formula(match: re.Match[str]) -> str:
    amount, formula, charge, state = match.groups()
    charge = charge or ""
    if charge in _BARE_SIGNS and (run_together := re.fullmatch(r"(.*O[2-9])([1-4])", formula)):
        formula, charge = run_together.group(1), run_together.group(2) + charge  # "SO42-", of which the type is lost
    if not _is_chemical(formula, charge, match):
        return match.group()
    # The amount is said here: left as a digit before "N H three" it would be one of newtons.
    words = [number(amount), _letters(formula)] if amount else [_letters(formula)]
    if charge:
        sign = charge.translate(_PLAIN).strip("^{}")
        count = sign.rstrip("+-")
        words.append((cardinal(count) + " " if count else "") + ("plus" if sign.endswith("+") else "minus"))
    if state:
        words.append(_STATES[state.strip(" ()")])
    return " ".join(words)


def _is_chemical(formula: str, charge: str, match: re.Match[str]) -> bool:
    if formula in _COMMON_SET:
        return True
    symbols = re.findall(_ELEMENT, formula)
    counts = [int(n) for n in re.findall(r"[0-9]+", formula.translate(_PLAIN))]
    if charge:
        if charge in "-−–" and not (counts or any(len(s) > 1 for s in symbols) or formula in ("OH", "CN")):
            return False  # "F-" and "I-" may be a grade and the first part of a compound
        is_sum = after(match, 2).strip()[:1].isdigit() or before(match).rstrip()[-1:] in ("=", "+")
        return not (len(symbols) == 1 and not counts and charge == "+" and is_sum and not match.group(4))
    if not counts:
        return bool(match.group(4)) and formula not in ("I", "In", "As", "At")
    if len(symbols) == 1 and "(" not in formula:
        return re.sub("[_{}]", "", formula.translate(_PLAIN)) in _MOLECULES  # "V₁" and "P2" count voltages and players
    return max(counts) < 20 or {"C", "H"} <= set(symbols)


def _letters(formula: str) -> str:
    words: list[str] = []
    for token in re.findall(rf"{_ELEMENT}|[0-9]+|\(|\)", formula.translate(_PLAIN)):
        if token == "(":
            words.append("open parenthesis")
        elif token == ")":
            words.append("close parenthesis")
        elif token.isdigit():
            words.append(cardinal(token))
        else:
            words += [letter.upper() for letter in token]
    return " ".join(words)
