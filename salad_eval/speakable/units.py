"""Amounts with a unit: ``9.8 m/s²`` is *nine point eight meters per second squared*."""

from __future__ import annotations

import re

from salad_eval.speakable.engine import Rules, after, any_of, before
from salad_eval.speakable.numbers import DIGITS, NUM, START, cardinal, number, ordinal, part

powers = Rules()  # before the signs: the dash of "s-1" is none
rules = Rules()

_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "μm": "micrometer",
    "mi": "mile", "ft": "foot", "yd": "yard", "kg": "kilogram", "g": "gram", "mg": "milligram", "μg": "microgram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "L": "liter", "l": "liter", "mL": "milliliter", "ml": "milliliter",
    "s": "second", "ms": "millisecond", "μs": "microsecond", "ns": "nanosecond", "sec": "second", "min": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "W": "watt", "kW": "kilowatt",
    "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour", "J": "joule", "kJ": "kilojoule", "MJ": "megajoule",
    "N": "newton", "kN": "kilonewton", "Pa": "pascal", "kPa": "kilopascal", "hPa": "hectopascal", "MPa": "megapascal",
    "atm": "atmosphere", "mol": "mole", "mmol": "millimole", "eV": "electronvolt", "keV": "kiloelectronvolt",
    "MeV": "megaelectronvolt", "GeV": "gigaelectronvolt", "dB": "decibel", "cal": "calorie", "kcal": "kilocalorie",
    "K": "kelvin", "Ω": "ohm", "kΩ": "kiloohm", "MΩ": "megaohm", "mA": "milliampere", "kB": "kilobyte",
    "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "mph": "mile per hour",
    "kph": "kilometer per hour", "km/h": "kilometer per hour", "rpm": "revolution per minute",
    "bpm": "beat per minute", "ppm": "part per million", "ppb": "part per billion", "°C": "degree Celsius",
    "°F": "degree Fahrenheit", "°": "degree", "ha": "hectare", "Å": "angstrom", "lm": "lumen", "lx": "lux",
    "mmHg": "millimeter of mercury", "mm Hg": "millimeter of mercury", "cmH2O": "centimeter of water",
    "IU": "international unit", "dL": "deciliter", "dl": "deciliter", "mcL": "microliter", "μL": "microliter",
    "μl": "microliter", "mcg": "microgram", "ng": "nanogram", "pg": "picogram", "mEq": "milliequivalent",
    "mOsm": "milliosmole", "mC": "millicoulomb", "μC": "microcoulomb", "nC": "nanocoulomb", "μF": "microfarad",
    "nF": "nanofarad", "pF": "picofarad", "μA": "microampere", "mW": "milliwatt", "rad": "radian", "gal": "gallon",
    "psi": "pound per square inch", "mM": "millimolar", "μM": "micromolar", "nM": "nanomolar", "Bq": "becquerel",
    "Torr": "torr", "torr": "torr", "tsp": "teaspoon", "tbsp": "tablespoon", "tbs": "tablespoon", "qt": "quart",
    "hp": "horsepower", "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "cc": "cubic centimeter", "pm": "picometer", "dm": "decimeter", "pc": "parsec", "yr": "year",
    "wk": "week", "nmi": "nautical mile", "kbit": "kilobit",
    "μmol": "micromole", "nmol": "nanomole", "kVA": "kilovolt ampere", "Nm": "newton meter", "tbsps": "tablespoon",
    "J s": "joule second", "J·s": "joule second", "Pa s": "pascal second", "N m": "newton meter", "N s": "newton second",
    "kg m": "kilogram meter", "kW h": "kilowatt hour", "W h": "watt hour", "Wh": "watt hour", "MWh": "megawatt hour",
    "GWh": "gigawatt hour", "Ah": "ampere hour", "mAh": "milliampere hour",
    "tsps": "teaspoon", "qts": "quart", "yds": "yard", "mpg": "mile per gallon", "fps": "foot per second", "pt": "pint",
    "secs": "second", "mins": "minute", "bbl": "barrel", "μU": "microunit", "mU": "milliunit", "mIU": "milli-international unit",
}  # fmt: skip
UNIT_NAMES = _UNIT = any_of(_UNITS)
_LONG_UNIT = any_of(unit for unit in _UNITS if len(unit) > 1 and unit.isalpha() and (unit.isascii() or unit[0] == "μ"))

_DENOMINATORS = {**_UNITS, "C": "coulomb", "d": "day", "day": "day", "year": "year", "hour": "hour", "minute": "minute",
                 "second": "second", "person": "person", "week": "week", "month": "month"}  # fmt: skip
_SAME_PLURAL = frozenset({
    "hertz", "kilohertz", "megahertz", "gigahertz", "kelvin", "lux", "torr", "millimolar", "micromolar", "nanomolar",
    "horsepower", "molar", "siemens", "millisiemens", "decisiemens",
})  # fmt: skip
_OPERATORS = tuple("+=*^/×÷·<>−")
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻−–", "0123456789+---")
_EXPONENT = r"(?:\^\{?[-−–]?[1-4]\}?|⁻?[¹²³⁴]|(?<=m)[23](?![0-9])|(?<=[a-zK])[-−–][1-3](?![0-9.,]))"
_BELOW = any_of(_DENOMINATORS)
_FACTOR = rf"(?:{_UNIT}){_EXPONENT}?"
_DIVISOR = rf"(?:{_BELOW}){_EXPONENT}?"
_CHAIN = (
    rf"(?:(?:sq|cu)\.? )?{_FACTOR}(?: ?[·•∙⋅*] ?{_FACTOR}| (?:{_UNIT})(?:\^\{{?[-−–][1-4]\}}?|⁻[¹²³⁴]"
    rf"|[-−–][1-3](?![0-9.,])))*"
    rf"(?:(?: ?/ ?| per )(?:\({_DIVISOR}(?:(?: ?[·•∙⋅*-] ?| ){_DIVISOR})*\)|{_DIVISOR}(?:[-·](?=[K°]){_DIVISOR})?))*"
)
_SQUARES = {"2": "square ", "3": "cubic "}


def _unit(unit: str, exponent: str, many: bool) -> str:
    """A unit with its exponent: ``square meters``, ``second squared``; ``per mole`` for a negative one."""
    name = _NAMES[unit]
    power = exponent.translate(_SUPER).strip("^{}")
    below = power.startswith("-")
    power = power.lstrip("-")
    if many and not below and name not in _SAME_PLURAL:
        marks = (" per ", " Celsius", " Fahrenheit", " of ")
        split = next((at for mark in marks if (at := name.find(mark)) > 0), len(name))
        name = ("feet" if name == "foot" else name[:split] + "s") + name[split:] * (name != "foot")
    if power in ("2", "3") and "second" in name:
        name = f"{name} {'squared' if power == '2' else 'cubed'}"
    elif power in ("2", "3"):
        name = _SQUARES[power] + name
    elif power in ("4", "5", "6"):
        name = f"{name} to the {ordinal(power)}"
    return f"per {name}" if below else name


def _chain(chain: str, many: bool) -> str:
    """``kg·m/s^2`` to ``kilogram meters per second squared``."""
    prefix = re.match(r"(sq|cu)\.? ", chain)
    if prefix is not None:
        chain = chain[prefix.end() :]
    above, *below = re.split(r" ?/ ?| per ", chain)
    factors = re.findall(rf"({_BELOW})({_EXPONENT}?)", above)
    n_above = sum("-" not in exponent.translate(_SUPER) for _, exponent in factors)
    words = []
    for k, (unit, exponent) in enumerate(factors):
        if prefix is not None and k == 0:
            exponent = "2" if prefix.group(1) == "sq" else "3"
        words.append(_unit(unit, exponent, many and k == max(n_above, 1) - 1))
    for divisor in below:
        words.append("per")
        words += [_unit(unit, exponent, False) for unit, exponent in re.findall(rf"({_BELOW})({_EXPONENT}?)", divisor)]
    return " ".join(words)


# --- negative powers -------------------------------------------------------------------------------------------------

# Units that are too short to be told from variables and labels but in a chain with others.
_IN_CHAINS = {"A": "ampere", "T": "tesla", "Wb": "weber", "cd": "candela", "M": "molar", "d": "day", "F": "farad", "S": "siemens",
              "bar": "bar", "mbar": "millibar", "sr": "steradian", "mN": "millinewton", "mPa": "millipascal", "pmol": "picomole",
              "Gy": "gray", "Sv": "sievert", "mSv": "millisievert", "fs": "femtosecond", "ps": "picosecond", "mT": "millitesla",
              "kcal": "kilocalorie", "dS": "decisiemens", "mS": "millisiemens", "t": "tonne", "erg": "erg", "dyn": "dyne",
              "GPa": "gigapascal", "TW": "terawatt", "kK": "kilokelvin", "nA": "nanoampere", "pN": "piconewton"}  # fmt: skip
_NAMES = {**_IN_CHAINS, **_DENOMINATORS}
_WORDS = frozenset({"day", "year", "hour", "minute", "second", "person", "week", "month", "pm", "in"})
_LINK = any_of(unit for unit in _NAMES if unit not in ("ms", "Nm", "pm", "person") and " " not in unit)
_NEGATIVE = r"(?:\^?[{(]?[-−–][1-6][)}]?|⁻[¹²³⁴⁵⁶]|\*\*[-−–][1-6])"
_POSITIVE = r"(?:\^\{?[1-6]\}?|[¹²³⁴⁵⁶]|(?<=[mL])[23])"
_FACTOR_OF_CHAIN = re.compile(rf"({_LINK})({_NEGATIVE}|{_POSITIVE})?")
_ABOUT_UNITS = re.compile(
    r"(?i)(?:unit|constant|frequenc(?:y|ies)|rate|wavenumber|dimension|measured|expressed|given)s?\b[^.?!]{0,24}\Z"
)


@powers.add(r"(?<=min)/(?=1\.73 ?m(?:\^?2|²)(?![A-Za-z0-9]))", needs="/")
def surface_of_body(match: re.Match[str]) -> str:
    return " per "


_WITH_HYPHEN = {"N-m": "newton meter", "ft-lb": "foot pound", "lb-ft": "pound foot", "kW-h": "kilowatt hour", "A-h": "ampere hour",
                "N-s": "newton second", "kg-m": "kilogram meter", "man-h": "man hour"}  # fmt: skip


@powers.add(rf"(?<=[0-9}}])( ?)({'|'.join(_WITH_HYPHEN)})(?![A-Za-z0-9-])", needs="-", also=DIGITS)
def product_with_hyphen(match: re.Match[str]) -> str:
    one = re.search(r"(?<![0-9.,])1\Z", before(match)) is not None
    return f" {_WITH_HYPHEN[match.group(2)]}{'' if one else 's'}"


@powers.add(
    rf"(?<![^\W\d])(?<![\^\\/.–-])(?:(?:{_LINK})(?:{_NEGATIVE}|{_POSITIVE})?(?:\.| ?[·⋅∙•*] ?| )?(?![0-9])){{0,5}}"
    rf"(?:{_LINK}){_NEGATIVE}(?![0-9A-Za-z(]|[.,][0-9])",
    needs="-−–⁻",
    also="123456¹²³⁴⁵⁶",
)
def negative_powers(match: re.Match[str]) -> str:
    """``5 m s-1``, ``mol L⁻¹ s⁻¹``, ``J·kg^{-1}·K^{-1}``, ``9.8 ms-2``: units below a line that is not drawn."""
    written, left = match.group(), before(match)
    factors = [(unit, _plain_power(power)) for unit, power in _FACTOR_OF_CHAIN.findall(written)]
    if not _are_units(factors, written, left, after(match)):
        return written
    many = re.search(r"(?<![0-9.,])1 ?\Z", left) is None
    last = max(next(k for k, (_, power) in enumerate(factors) if power.startswith("-")) - 1, 0)
    return " ".join(_unit(unit, power, many and k == last) for k, (unit, power) in enumerate(factors))


def _plain_power(power: str) -> str:
    return re.sub(r"[(){}^*]", "", power.translate(_SUPER))


def _are_units(factors: list[tuple[str, str]], written: str, left: str, right: str) -> bool:
    """Whether a chain of symbols that may be units is one, and no variable with a number taken from it (``2m-1``, ``s-1``)."""
    unit = factors[0][0]
    explicit = re.search(r"[⁻^]|\*\*", written) is not None
    counted = re.search(r"[0-9)}⁰¹²³⁴-⁹]( ?)\Z", left)
    if re.match(rf" (?:{_UNIT})(?![A-Za-z0-9⁻^-])", right) and len(factors) == 1 and not explicit:
        return False  # "10 g-2 kg"
    if len(factors) > 1:
        glued = re.search(r"[ ·⋅∙•*.]", written) is None
        if glued and counted is None and not explicit and (len(factors) > 2 or written.isupper() or unit in _IN_CHAINS):
            return False  # "VLS-1" and "Add-1" are names
        all_below = all(power.startswith("-") for _, power in factors)
        return unit not in ("A", "T", "M", "t", "d") or counted is not None or len(factors) > 2 or explicit or all_below
    if unit in _WORDS or (unit in _IN_CHAINS and len(unit) == 1 and not explicit):
        return False
    if counted is not None:
        return len(unit) > 1 or explicit or counted.group(1) == " "
    return (
        len(unit) > 1 or _ABOUT_UNITS.search(left) is not None or (explicit and not left.strip() and not right.strip())
    )


_WINDS = {"N": "north", "S": "south", "E": "east", "W": "west"}


@rules.add(
    rf"{START}([0-9]{{1,3}}) ?°"
    r"(?: ?([0-9]{1,2}) ?['′](?: ?([0-9]{1,2}(?:\.[0-9]+)?) ?[\"″])? ?([NSEW](?![A-Za-z0-9]))?| ?([NSEW])(?![A-Za-z0-9]))",
    needs="°",
    also=DIGITS,
)
def degrees_and_minutes(match: re.Match[str]) -> str:
    degrees, minutes, seconds, *winds = match.groups()
    wind = winds[0] or winds[1]
    words = f"{cardinal(degrees)} degree{'' if degrees == '1' else 's'}"
    if minutes:
        words += f" {cardinal(minutes)} minute{'' if minutes == '1' else 's'}"
    if seconds:
        words += f" {number(seconds)} second{'' if seconds == '1' else 's'}"
    return words + (f" {_WINDS[wind]}" if wind else "")


@rules.add(
    rf"{START}({NUM}(?: [1-9]/[2-9]|/[2-9])?|[0-9]*[½¼¾⅛⅜⅝⅞]) in\.?(?=\Z|[,;)]| (?:long|wide|tall|high"
    rf"|deep|thick|by|x|in (?:length|diameter|width|height))(?![a-z]))",
    needs=DIGITS,
)
def inches_spelled(match: re.Match[str]) -> str:
    return f"{match.group(1)} inch{'' if match.group(1) == '1' else 'es'}"


_WITH_STOPS = {
    "m.p.h": "mph", "k.p.h": "kph", "r.p.m": "rpm", "p.p.m": "ppm", "p.p.b": "ppb", "m.p.g": "mpg", "b.p.m": "bpm",
    "p.s.i": "psi", "h.p": "hp", "c.c": "cc", "k.w.h": "kWh", "kw.h": "kWh", "f.p.s": "fps",
}  # fmt: skip


@rules.add(rf"(?<=[0-9])([ -]?)({'|'.join(map(re.escape, _WITH_STOPS))})\.?(?![A-Za-z])", needs=".", also=DIGITS)
def unit_with_stops(match: re.Match[str]) -> str:
    ends = "." if match.group().endswith(".") and re.match(r"\s*\Z|\s+[A-Z]", after(match)) else ""
    return f"{match.group(1) or ' '}{_WITH_STOPS[match.group(2)]}{ends}"


@rules.add(
    r"(?<=[0-9½¼¾⅓⅔])( ?(?:sq\. ?|cu\. ?)?(?:lbs?|ft|hrs?|oz|tsps?|tbsps?|min|secs?|mi|yds?|gal|qts?|cm|mm|km|kg|ml|mg|in))\."
    r"(?=[,;)]| (?![A-Z])| [A-Z]{2})",
    needs=".",
    also=DIGITS,
)
def stop_of_unit(match: re.Match[str]) -> str:
    return match.group(1) if match.group(1).strip() != "in" else match.group()


@rules.add(rf"(?<=[0-9])( ?{_LONG_UNIT})['’]s(?![A-Za-z])", needs=DIGITS, also="'’")
def unit_in_plural(match: re.Match[str]) -> str:
    return match.group(1)  # "1,000 mg's"


_OLD_MONEY = re.compile(r"£|[0-9] ?d\.|shilling|[0-9]s\.[^0-9]{1,12}[0-9]{1,2}s\.")


@rules.add(
    rf"{START}([0-9]{{1,3}}) ?s\.(?:[ :]?([0-9]{{1,2}}) ?d\.)?|{START}([0-9]{{1,2}}) ?d\.", needs=DIGITS, also="."
)
def shillings_and_pence(match: re.Match[str]) -> str:
    shillings, pence, only_pence = match.groups()
    if not _OLD_MONEY.search(before(match, 200) + match.group() + after(match, 200)):
        return match.group()
    words = [f"{cardinal(shillings)} shilling{'' if shillings == '1' else 's'}"] if shillings else []
    if pence or only_pence:
        words.append(f"{cardinal(pence or only_pence)} {'penny' if '1' in (pence, only_pence) else 'pence'}")
    ends = "." if not after(match, 2).strip() or after(match, 3).lstrip()[:1].isupper() else ""
    return " ".join(words) + ends


@rules.add(rf"{START}(?<!/)([0-9]{{2,3}}) ?/ ?([0-9]{{2,3}})(?= ?mm ?Hg(?![A-Za-z]))", needs=DIGITS, also="/")
def blood_pressure(match: re.Match[str]) -> str:
    return f"{match.group(1)} over {match.group(2)}"


@rules.add(rf"{START}([0-9]{{1,2}}) ?ft\.?,? ([0-9]{{1,2}}) ?in(?![A-Za-z])\.?(?! [a-z])", needs=DIGITS, also="f")
def feet_and_inches(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    return (
        f"{cardinal(feet)} {'foot' if feet == '1' else 'feet'} {cardinal(inches)} inch{'' if inches == '1' else 'es'}"
    )


@rules.add(
    r"(?<![0-9.,°])([0-9]{1,3}) ?['’′] ?([0-9]{1,2}(?:\.[0-9]+)?(?: ?[½¼¾]| [1-9]/[2-8])?) ?(?:[\"”″]|''|′′)(?![A-Za-z0-9])",
    needs="'’′",
    also=DIGITS,
)
def height(match: re.Match[str]) -> str:
    feet, inches = match.groups()
    one = inches == "1"
    return f"{cardinal(feet)} {'foot' if feet == '1' else 'feet'} {inches} inch{'' if one else 'es'}"


@rules.add(r"(?<![0-9.,°/])([0-9]{1,3}) ?['’′] ?[x×] ?([0-9]{1,3}) ?['’′](?![A-Za-z0-9])", needs="x×", also="'’′")
def feet_by_feet(match: re.Match[str]) -> str:
    return " by ".join(f"{feet} {'foot' if feet == '1' else 'feet'}" for feet in match.groups())


@rules.add(
    r"(?<![0-9.,°/])([0-9]{1,3}) ?['’′](?=(?: ?[x×] ?| by )[0-9]| (?:tall|long|wide|high|deep|thick|above|below|away|apart"
    r"|in (?:height|length|width|depth|diameter))(?![a-z]))"
    r"|(?:(?<=[x×])|(?<=[x×] )|(?<=' by )|(?<=feet by ))([0-9]{1,3}) ?['’′](?![A-Za-z0-9])",
    needs="'’′",
    also=DIGITS,
)
def feet_by_mark(match: re.Match[str]) -> str:
    feet = match.group(1) or match.group(2)
    return f"{feet} {'foot' if feet == '1' else 'feet'}"


@rules.add(
    rf"{START}"
    r"(?<![\w/^.])([0-9]+(?:\.[0-9]+)?) ?[x×] ?([0-9]+(?:\.[0-9]+)?)(?: ?[x×] ?([0-9]+(?:\.[0-9]+)?))?"
    rf"(?=[ -]?(?:(?:{_UNIT}|inch|feet|foot|meter|yard)(?:es|s)?(?![A-Za-z0-9])|[\"”″]))",
    needs="x×",
    also=DIGITS,
)
def dimensions(match: re.Match[str]) -> str:
    return " by ".join(part for part in match.groups() if part)


def _quotation_is_open(text: str) -> bool:
    """Whether the last quotation mark of a text is an opening one: after a blank, and not after the number of an inch."""
    left = text[: text.rfind('"')] if '"' in text else "0"
    return left[-1:] in ("", " ", "(", "\n") and re.search(r"[0-9½¼¾] ?\Z", left) is None


@rules.add(
    rf"{START}(?<![0-9]['’′])(?<![0-9]/)({NUM}|[0-9]+[ -][0-9]{{1,2}}/[0-9]{{1,2}}"
    rf"|[0-9]{{1,2}}/[0-9]{{1,2}}|[0-9]*[½⅓⅔¼¾⅛⅜⅝⅞])"
    rf" ?(?:[\"”″]|'')(?![A-Za-z0-9])",
    needs=DIGITS + "½⅓⅔¼¾⅛⅜⅝⅞",
    also="\"”″'",
)
def inch_mark(match: re.Match[str]) -> str:
    if match.group()[-1] in '"”' and _quotation_is_open(before(match, 200)):
        return match.group()  # the same mark closes a quotation
    amount = match.group(1)
    small = amount == "1" or (
        ("/" in amount or not amount.isascii()) and not re.match(r"[0-9]+[ -]|[0-9]+[½⅓⅔¼¾⅛⅜⅝⅞]", amount)
    )
    adjective = re.match(
        rf" (?!(?:{_AFTER_INCHES})(?![a-z]))[a-z]", after(match)
    )  # "a 16-inch wreath", "16 inches by 20"
    return f"{amount} inch{'' if small or adjective else 'es'}"


_AFTER_INCHES = (
    "by|x|of|long|wide|tall|high|deep|thick|from|at|and|or|in|to|above|below|apart|off|away|on|into|between|with|is|he|she|"
    "it|they|we|for|than|if|as|so|but|then|each|over|under|up|down|more|less|across|longer|wider|taller|higher|deeper"
)


@rules.add(
    rf"{START}(?<![/.^_A-Za-z])(?:([0-9]{{1,4}})(?: |-|(?=[½⅓⅔¼¾⅛⅜⅝⅞])))?(?:([0-9]{{1,2}})/(10|16|32"
    rf"|64|100|[2-9])|([½⅓⅔¼¾⅛⅜⅝⅞]))( ?|-)({_CHAIN})(?![A-Za-z0-9°²³^])",
    needs="/½⅓⅔¼¾⅛⅜⅝⅞",
    also=DIGITS + "½⅓⅔¼¾⅛⅜⅝⅞",
)
def part_of_unit(match: re.Match[str]) -> str:
    whole, above, below, sign, link, chain = match.groups()
    if whole is None and above is not None and int(above) >= int(below):
        return match.group()
    words = part(int(above), int(below)) if sign is None else part(*VULGAR[sign])
    if whole is not None:
        return f"{cardinal(whole)} and {words} {_chain(chain, link != '-')}"
    name = _chain(chain, False)
    if link == "-":
        return f"{words} {name}"
    return f"{words} of {'an' if (name[0] in 'aeio' and not name.startswith('one')) or name.startswith('hour') else 'a'} {name}"


VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
    "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip


_NO_ADJECTIVE = "from|and|away|above|below|per|with"
_NEVER_VARIABLES = frozenset({"hr", "km", "cm", "mm", "kg", "ft", "lb", "oz", "Hz"})


def _is_adjective(match: re.Match[str], right: str) -> bool:
    """Whether an amount stands before its noun, its unit then in the singular: "a 10 μF capacitor", "14 oz cans"."""
    return _CONTAINER.match(right) is not None or (
        re.search(r"(?<![A-Za-z])[Aa]n? \Z", before(match)) is not None
        and re.match(rf" (?!(?:{_NO_ADJECTIVE})(?![a-z]))[a-z]{{3}}", after(match)) is not None
    )


_CONTAINER = re.compile(  # "a 14 oz can", where the unit is no plural
    r"(?:cans?(?! (?:be|not|also|have|make|cause|help|hold|weigh)(?![a-z]))|bottles?|jars?|bags?|packages?|pkgs?|box(?:es)?|cartons?|"
    r"containers?|tins?|packets?|steaks?|glass(?:es)?)(?![a-z])"
)


@rules.add(
    rf"{START}(?<![\^_A-Za-z])(?<![\^_{{][-−–])({NUM})( thousand| million| billion| trillion)?( ?"
    rf"|-)({_CHAIN})(?![A-Za-z0-9°²³^⁻]|['’]s(?![a-z])|/(?!c(?![A-Za-z]))[A-Za-z(])",
    needs=DIGITS,
)
def quantity(match: re.Match[str]) -> str:
    amount, scale, link, chain = match.groups()
    left, right = before(match, 4).rstrip(), after(match, 4).lstrip()
    if chain not in _NEVER_VARIABLES and re.fullmatch(r"[A-Za-z]{1,2}(?:\^[0-9]|[23²³])?", chain):
        if link == "" and (left.endswith(_OPERATORS) or right.startswith((*_OPERATORS, "min", "plu"))):
            return match.group()  # "3m + 4" is algebra
        if link == "" and re.search(r"[A-Za-z]\(\Z", before(match, 4)):
            return match.group()  # "f(2N)"
        if link == "" and re.fullmatch("[a-z][23]", chain):
            return match.group()  # "1s2" is a shell of electrons
    many = link != "-" and (amount != "1" or scale is not None) and not _is_adjective(match, right)
    return f"{number(amount)}{scale or ''} {_chain(chain, many)}"


@rules.add(
    rf"{START}({NUM}) M(?= (?:solution|[A-Z][A-Za-z]?[A-Z0-9a-z]*(?:[0-9A-Z]|Cl|Br)|(?:in"
    rf"|of) [A-Z])(?![A-Za-z]))|{START}([0-9]*\.[0-9]+) M(?![A-Za-z0-9])",
    needs=DIGITS,
    also="M",
)
def molarity(match: re.Match[str]) -> str:
    return f"{number(match.group(1) or match.group(2))} molar"


@rules.add(
    rf"(\^\{{?[-−–]?[0-9]{{1,3}}\}}?|(?<=[0-9])⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+) (M(?![A-Za-z0-9])|{_CHAIN})(?![A-Za-z0-9°²³^/])",
    needs="^⁰¹²³⁴⁵⁶⁷⁸⁹",
)
def unit_after_power(match: re.Match[str]) -> str:
    return f"{match.group(1)} {'molar' if match.group(2) == 'M' else _chain(match.group(2), True)}"


_LONE_RATIOS = [
    "m/s", "N/m", "V/m", "J/s", "N/C", "g/L", "J/K", "W/m", "m/h", "U/L", "C/s", "J/C", "C/V", "N/kg", "J/kg",
    "m/min", "g/mol", "J/mol",
]  # fmt: skip


@rules.add(
    rf"(?<![A-Za-z0-9/°])(?:(?:{'|'.join(_LONE_RATIOS)})|[JNW]/\((?:{_BELOW})[·•∙⋅*](?:{_BELOW})\)"
    rf"|(?:{_LONG_UNIT}|g|m|L)(?:{_EXPONENT})?/(?:\((?:{_BELOW})[·•∙⋅*](?:{_BELOW})\)|(?:{_BELOW})))"
    rf"(?:{_EXPONENT})?(?![A-Za-z0-9/^])",
    needs="/",
)
def unit_alone(match: re.Match[str]) -> str:
    if match.group().startswith("U/"):
        return "units per " + _chain(match.group()[2:], False)
    return _chain(match.group(), True)


@rules.add(
    r"(?<![^\W_])(?<!/)(?:[ckm]m|dm)(?:\^?[23]|[²³])(?![A-Za-z0-9/^])|(?<![^\W_])μ(?:m|L|l|F|s|mol)(?=\s*\)|\s*\Z)",
    needs="mμ",
    also="23²³μ",
)
def unit_as_label(match: re.Match[str]) -> str:
    return _chain(match.group(), True)  # "area (cm2)"


_PER = r"mL|L|mcL|μL|dL|kg|min|mm\^?3|mm³|cm\^?3|h|hr|sec|s|mol|cm\^?2|day|week|month|year|hour|minute|second|person"


@rules.add(rf"(?<=[a-z])/({_PER})(?:/({_PER}))?(?![A-Za-z0-9/])", needs="/")
def per_unit(match: re.Match[str]) -> str:
    if not re.search(r"(?:[a-z]s|hertz|feet)\Z", before(match, 6)):  # "parent/s", "month/year"
        return match.group()
    return "".join(f" per {_chain(unit, False)}" for unit in match.groups() if unit)


@rules.add(
    r"(?<=[0-9])/(mL|L|mcL|μL|dL|kg|min|mm\^?3|mm³|hr|sec|hour|day|week|month|year|minute|second"
    r"|person|cm H2O)(?![A-Za-z0-9/])",
    needs="/",
    also=DIGITS,
)
def rate(match: re.Match[str]) -> str:
    return f" per {_chain(match.group(1), False)}"


@rules.add(r"(?<=[0-9]) ?(U|mEq)/(L|mL|dL)(?![A-Za-z])", needs="/", also=DIGITS)
def units_per(match: re.Match[str]) -> str:
    return f" {'units' if match.group(1) == 'U' else 'milliequivalents'} per {_chain(match.group(2), False)}"
