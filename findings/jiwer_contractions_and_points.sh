#!/usr/bin/env bash
# Two transforms of jiwer that recipes for word error rates apply to both sides change what was said.
#
# jiwer 4.0.0, Python 3.11.
#
# Seen (30 November 2026):
#   ExpandCommonEnglishContractions: every "'s" is "is": "the cow's calf" -> "the cow is calf", while a recogniser that writes
#     "the cows calf", which sounds the same, is left with two errors; "he'd gone" -> "he would gone"; "ain't" -> "ai not".
#   RemovePunctuation: the point of a number goes as well, so that "3.5 kg" and "35 kg" are the same: an error of ten times is none;
#     "+" and "<" are no punctuation, "%" and "-" are.
# Both act as they are written; neither page says that they may make errors or take them away.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "jiwer==4.0.0" 1>&2

"$folder/venv/bin/python" - <<'PY'
import sys

import jiwer

expand = jiwer.ExpandCommonEnglishContractions()
plain = jiwer.Compose([jiwer.RemovePunctuation(), jiwer.ReduceToListOfListOfWords()])
seen = [
    (expand(["the cow's calf"]), ["the cow is calf"]),
    (expand(["he'd gone"]), ["he would gone"]),
    (expand(["ain't"]), ["ai not"]),
    (jiwer.RemovePunctuation()(["3.5 kg"]), ["35 kg"]),
    (jiwer.RemovePunctuation()(["5% - 3 + 2 < 9"]), ["5  3 + 2 < 9"]),
    (jiwer.wer("3.5 kg", "35 kg", reference_transform=plain, hypothesis_transform=plain), 0.0),
    (jiwer.wer("the cow is calf", "the cows calf"), 0.5),
]
for result, _ in seen:
    print(result)
changed = sum(result != expected for result, expected in seen)
sys.exit(f"{changed} of {len(seen)} are no longer as described" if changed else 0)
PY
