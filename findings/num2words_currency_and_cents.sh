#!/usr/bin/env bash
# num2words reads an int as cents in a sum of money, and drops the zeros at the end of a decimal fraction.
#
# num2words 0.5.14, Python 3.11.
#
# Seen (30 November 2026):
#   num2words(5, to="currency", currency="USD")      zero dollars, five cents
#   num2words(5.0, to="currency", currency="USD")    five dollars, zero cents
#   num2words("1.10"), and of Decimal("1.10")        one point one
# A normaliser that parses "$5" with int() says a hundredth of it; one that tells 1.10 from 1.1 by Decimal says them alike.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "num2words==0.5.14" 1>&2

"$folder/venv/bin/python" - <<'PY'
import sys
from decimal import Decimal

from num2words import num2words

seen = [
    (num2words(5, to="currency", currency="USD"), "zero dollars, five cents"),
    (num2words(5.0, to="currency", currency="USD"), "five dollars, zero cents"),
    (num2words("1.10"), "one point one"),
    (num2words(Decimal("1.10")), "one point one"),
]
for result, _ in seen:
    print(result)
changed = sum(result != expected for result, expected in seen)
sys.exit(f"{changed} of {len(seen)} are no longer as described" if changed else 0)
PY
