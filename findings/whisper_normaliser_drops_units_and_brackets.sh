#!/usr/bin/env bash
# Whisper's English normaliser, by which most published word error rates are computed, drops words that were said.
#
# transformers 4.57.3, EnglishTextNormalizer (transformers/models/whisper/english_normalizer.py), Python 3.11.
#
# Seen (30 November 2026):
#   "a 5 mm bolt"         -> "a 5 bolt"     "mm" is taken for a hesitation, like "um": every length in millimetres loses its unit
#   "f (x) equals two"    -> "f equals 2"   whatever stands in brackets is removed, in a reference as in a transcript
#   "1/2 cup"             -> "one 2 cup"    digits on one side, a word on the other; "one half cup" stays "one half cup"
#   "H2O"                 -> "h 20"         the letter O after a digit becomes the digit 0: "h two o" stays apart from it
#   "the cow's calf"      -> "the cow is calf"
# So a transcript that misses all of "5 mm" but the number has no error, and one that says just what stands there has some.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "transformers==4.57.3" 1>&2

"$folder/venv/bin/python" - <<'PY'
import sys

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

normalise = EnglishTextNormalizer({})  # {}: the table of British spellings, which does not matter here
seen = {
    "a 5 mm bolt": "a 5 bolt",
    "a 5 cm bolt": "a 5 cm bolt",
    "f (x) equals two": "f equals 2",
    "1/2 cup": "one 2 cup",
    "one half cup": "one half cup",
    "H2O": "h 20",
    "the cow's calf": "the cow is calf",
}
changed = 0
for written, expected in seen.items():
    result = normalise(written)
    print(f"{written!r:24} -> {result!r}")
    changed += result != expected
sys.exit(f"{changed} of {len(seen)} are no longer as described" if changed else 0)
PY
