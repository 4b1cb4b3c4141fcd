#!/usr/bin/env bash
# espeak-ng says some signs of a formula and is silent about others that look the same or mean as much.
#
# espeak-ng 1.52 as in espeakng-loader 0.2.4, voice en-us, asked for phonemes, Python 3.11.
#
# Seen (30 November 2026), as words:
#   "x = -7"  x equals seven          a hyphen before a digit is "minus" at the beginning of a text only: "-7" is minus seven,
#   "x = −7"  x equals minus seven    the sign U+2212 is said everywhere
#   "x - y"   x y
#   "a < b"   a b                     "<" and ">" are silent, "≤" and "≥" are said
#   "n!"      n
#   "x^2"     x two                   as "x 2"; and "10^-3" is ten three
#   "μm"      mjum, one syllable      Greek mu (U+03BC) with a letter is a word; the micro sign (U+00B5) is micro, m
#   "1984"    nineteen hundred eighty-four
# No error, no mark in the sound: a benchmark that is spoken so loses its signs, not its score.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "espeakng-loader==0.2.4" 1>&2

"$folder/venv/bin/python" - <<'PY'
import ctypes
import re
import sys

import espeakng_loader

library = ctypes.CDLL(espeakng_loader.get_library_path())
library.espeak_TextToPhonemes.restype = ctypes.c_char_p
library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
library.espeak_SetVoiceByName(b"en-us")


def phonemes(text: str) -> str:
    pointer = ctypes.c_char_p(text.encode())
    ipa = library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2)
    return re.sub(r"[ˈˌː\s]", "", ipa.decode())


silent = [("x = -7", "x = 7"), ("x - y", "x y"), ("a < b", "a b"), ("n!", "n"), ("x^2", "x 2"), ("10^-3", "10 3")]
said = [("-7", "7"), ("x = \u22127", "x = 7"), ("a \u2264 b", "a b"), ("5 \u00b5m", "5 \u03bcm")]
changed = 0
for one, other in silent + said:
    equal = phonemes(one) == phonemes(other)
    print(f"{one!r:12} {phonemes(one):24} {'=' if equal else 'is not'} {other!r:10} {phonemes(other)}")
    changed += equal != ((one, other) in silent)
year = phonemes("1984") == phonemes("nineteen hundred eighty four")
print(f"'1984'       {phonemes('1984'):24} {'=' if year else 'is not'} 'nineteen hundred eighty four'")
sys.exit("no longer as described" if changed or not year else 0)
PY
