"""Whether each sign and unit of real rows is said as often as it is written; what cannot be said so is a rejected row.

    python -m tests.helpers.spoken_counts [--data ../shared/data] [--sources mmlu arc …] [--phonemes N] [--show 5]

A second opinion on ``to_spoken`` that shares nothing with its rules: of each class below one blunt expression counts what is written,
another the words for it. The words that the text had already (*five percent*) are taken off. ``--phonemes`` also asks espeak-ng for
the phonemes of the spoken form of up to N texts a class, and counts those of the word, as a listener would hear it.
"""

from __future__ import annotations

import argparse
import ctypes
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from salad_eval.progress import track
from salad_eval.speakable import Unspeakable, to_spoken
from tests.helpers.places import SHARED_DATA
from tests.speed.bench_speakable import SOURCES, rows


@dataclass(frozen=True, slots=True)
class Class:
    """A kind of sign.

    Attributes:
        written: what counts once each time it stands in the written text.
        said: the words for it.
        word: one word of them whose phonemes are counted; empty for none.
        unless: a text with this in it has the sign, or the word, in another sense too, and is left out.
    """

    written: re.Pattern[str]
    said: re.Pattern[str]
    word: str = ""
    unless: re.Pattern[str] | None = None


def _class(written: str, said: str, word: str = "", unless: str = "") -> Class:
    words = re.compile(rf"(?<![A-Za-z])(?:{said})(?![A-Za-z])", re.IGNORECASE)
    return Class(re.compile(written, re.MULTILINE), words, word, re.compile(unless, re.MULTILINE) if unless else None)


_NUMBER = r"(?<![\w.,])(?:\d[\d,]*)?\.?\d+"
_AFTER_NUMBER = r"(?:(?<=[\d½¼¾⅓⅔])|(?<=[\d½¼¾⅓⅔][ -])|(?<=\d/)|(?<=[A-Za-z]/)|(?<=\d sq )|(?<=\d\) ))"
_LATEX = r"\\[A-Za-z]|\$[^$ ]*[A-Za-z^_=(][^$]*\$|\$[0-9.,]+\$"
_DASHES = r"(?<![\s(\[{=<>,*/^|×])[-–−—]|[-–−—](?!\.?\d)|-[\d.,]+[-–−]"


def _unit(abbreviation: str, name: str, unless: str = "") -> Class:
    return _class(rf"{_AFTER_NUMBER}{abbreviation}(?![A-Za-z0-9'’])", name, unless=unless)


CLASSES: Mapping[str, Class] = {
    "plus": _class(r"\+|±", "plus", "plus"),
    "equals": _class(
        r"(?<![<>!=])=(?![=>])", "(?<!double )(?<!triple )equals|(?<!or )(?<!not )equal to", "equals", rf"^=[^=]+=--|{_LATEX}"),
    "percent": _class("%", "percent", "percent", "% [0-9]"),
    "dollars": _class(
        r"\$ ?\.?\d[\d.,]*", r"dollars?(?: and [a-z-]+(?: [a-z-]+)? cents?)?|(?<!and )cents?", "", rf"{_LATEX}|\$[\d.,]+[-–]\d|\$ \(|\$\$"),
    "pounds": _class(r"£", "pounds?", "", r"\d ?(?:lbs?|l\.)|£0?\.\d"),
    "minus": _class("−", "minus", "minus", "-"),
    "sign of a number": _class(r"-", "minus", "minus", rf"{_DASHES}|−|\\(?:frac|[dt]frac)|[a-z]\^-"),
    "degrees": _class("[°º]", "degrees?", "", r"^\s*° [A-Z]"),
    "times": _class("×", "times|(?<!divided )by", "", r"\d ?[xX*] ?\d|[)\d]\("),
    "divided by": _class("÷", "divided by", "divided"),
    "less than": _class(r"[<≤⩽](?!-)", "less than", "", r"<<|\\le|<[a-z/]|<[\d, ]+>"),
    "greater than": _class(r"(?<![-=–—])[>≥⩾]", "greater than", "", r">>|\\ge|[a-z/\"]>|<[\d, ]+>"),
    "infinity": _class("∞", "infinity", "infinity"),
    "root": _class("√", "square root of", "root"),
    "squared": _class(
        r"(?<=[A-Za-z0-9)}|])(?:²|\^2(?!\d|\.\d)|\^\{2\})", "squared|square(?! root)", "", r"[mM]2|sq\b|\d/[A-Za-z]+[23]|\^2[−+]\("),
    "section": _class("§", "section", "", "Ã"),
    "kilometers": _unit("km", "kilometers?", r"kph|\(km"), "kilograms": _unit("kg", "kilograms?"),
    "centimeters": _unit("cm(?!-1|H2O| H2O)", "centimeters?"),
    "millimeters": _class(rf"{_AFTER_NUMBER}mm[23]?(?![A-Za-z0-9])|mm ?Hg", "millimeters?"), "milligrams": _unit("mg", "milligrams?"),
    "milliliters": _unit("m[Ll]", "milliliters?"), "hertz": _unit("Hz", "hertz"), "megahertz": _unit("MHz", "megahertz"),
    "kilojoules": _unit("kJ", "kilojoules?"), "moles": _unit("mol", "moles?", "mol-1"), "ounces": _unit("oz", "ounces?"),
    "pounds of weight": _unit("lbs?", "pounds?"), "nanometers": _unit("nm", "nanometers?"), "feet": _unit("ft", "feet|foot", "'"),
    "hours": _unit("hrs?", "hours?"), "miles per hour": _unit("mph", "miles? per hour"),
    **{
        name: _class(f"[{letters}]", name, name, r"µ|μ[mgLlsFCAUVW]|\d[ -]?Ω|∆")
        for name, letters in {
            "alpha": "αΑ", "beta": "βΒ", "gamma": "γΓ", "delta": "δΔ", "theta": "θΘϑ", "lambda": "λΛ", "mu": "μΜ", "pi": "πΠ",
            "sigma": "σΣς", "omega": "ωΩ", "phi": "φΦϕ", "rho": "ρ", "epsilon": "εϵ", "chi": "χ", "psi": "ψΨ", "tau": "τ",
        }.items()
    },
}  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Of one class: texts that have it, those that were refused, and those where the counts differ."""

    n_texts: int = 0
    n_signs: int = 0
    n_refused: int = 0
    unequal: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def count(texts: Iterable[str]) -> dict[str, Tally]:
    """Every class of ``CLASSES`` with what came of the texts that have it."""
    found: dict[str, Tally] = defaultdict(Tally)
    for text in texts:
        has = [(name, n) for name, kind in CLASSES.items() if (n := _written(kind, text))]
        if not has:
            continue
        try:
            spoken = to_spoken(text)
        except Unspeakable:
            for name, _ in has:
                found[name].n_refused += 1
            continue
        for name, n in has:
            kind, tally = CLASSES[name], found[name]
            tally.n_texts, tally.n_signs = tally.n_texts + 1, tally.n_signs + n
            tally.said.append(spoken)
            if len(kind.said.findall(spoken)) - len(kind.said.findall(text)) != n:
                tally.unequal.append((text, spoken))
    return found


def _written(kind: Class, text: str) -> int:
    n = len(kind.written.findall(text))
    return 0 if not n or (kind.unless is not None and kind.unless.search(text)) else n


# --- as it is heard --------------------------------------------------------------------------------------------------


@cache
def _espeak() -> ctypes.CDLL:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(2, 0, str(Path(espeakng_loader.get_data_path())).encode(), 0) < 0:
        raise RuntimeError("espeak-ng does not start")
    library.espeak_SetVoiceByName(b"en-us")
    return library


def phonemes(text: str) -> list[str]:
    """The words of a text in espeak-ng's phonemes, as IPA without stress and length."""
    parts = []
    for clause in re.split(
        r"[^A-Za-zÀ-ÿ' -]+", text
    ):  # one at a time: what follows a mark may be kept for the next call
        pointer = ctypes.c_char_p(clause.encode())
        while pointer.value:
            parts.append((_espeak().espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2) or b"").decode())
    return re.sub("[ˈˌː]", "", " ".join(parts)).split()


def unheard(name: str, spoken: str) -> bool:
    """Whether the word of a class is heard another number of times than it stands in the spoken form."""
    word = CLASSES[name].word
    heard = phonemes(word)
    n = len(re.findall(rf"(?<![A-Za-z]){word}(?:age)?(?![A-Za-z'])", spoken, re.IGNORECASE))
    return sum(h in w for w in phonemes(spoken) for h in heard) != n


def texts_of(data: Path, sources: Iterable[str] = tuple(SOURCES)) -> Iterator[str]:
    """Every distinct text of the real rows."""
    return iter(dict.fromkeys(text for source in sources for row in rows(data, source) for text in row.texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--sources", nargs="*", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--phonemes", type=int, default=0, metavar="N")
    parser.add_argument("--show", type=int, default=5)
    arguments = parser.parse_args()
    texts = list(texts_of(arguments.data, arguments.sources))
    found = count(track(texts, "counting", total=len(texts)))
    print(f"{len(texts)} texts\n| class | texts | signs | refused | unequal | heard |\n|---|---|---|---|---|---|")
    for name in CLASSES:
        tally, heard = found.get(name, Tally()), "–"
        if arguments.phonemes and CLASSES[name].word:
            asked = tally.said[:: max(1, len(tally.said) // arguments.phonemes)]
            heard = f"{sum(not unheard(name, spoken) for spoken in asked)} of {len(asked)}"
        print(f"| {name} | {tally.n_texts} | {tally.n_signs} | {tally.n_refused} | {len(tally.unequal)} | {heard} |")
    for name, tally in found.items():
        for text, spoken in tally.unequal[: arguments.show]:
            print(f"{name}: {text!r:.400}\n    -> {spoken!r:.400}")


if __name__ == "__main__":
    main()
