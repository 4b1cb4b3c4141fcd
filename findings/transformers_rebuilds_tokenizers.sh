#!/usr/bin/env bash
# transformers reads vocabulary and merges of a tokenizer.json, and makes the rest anew by the class that tokenizer_config.json names.
#
# transformers 5.23.0, Python 3.11, no torch.
#
# A tokenizer of Qwen2's class is saved, and its tokenizer.json is edited: another normaliser (small letters), no pre-tokeniser but
# bytes. Seen (30 November 2026) for "ABC 12":
#   tokenizers.Tokenizer.from_file    reads both
#   PreTrainedTokenizerFast           reads both
#   AutoTokenizer (Qwen2Tokenizer)    reads neither: capital letters, digits one by one
# No warning. A fine-tuned checkpoint that changed its normaliser or pre-tokeniser so has other token ids here than in servers that read
# tokenizer.json by the tokenizers library; a digest of the file is no digest of what is read.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "transformers==5.23.0" 1>&2

"$folder/venv/bin/python" - "$folder/tokenizer" <<'PY' 2>"$folder/warnings"
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

folder = sys.argv[1]
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {letter: number for number, letter in enumerate([*letters, "12"])}
Qwen2Tokenizer(vocab=vocabulary, merges=[("1", "2")], unk_token=None, eos_token="<|im_end|>").save_pretrained(folder)

file = Path(folder, "tokenizer.json")
table = json.loads(file.read_text())
table["normalizer"] = {"type": "Lowercase"}
table["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
file.write_text(json.dumps(table))

text = "ABC 12"
plain = Tokenizer.from_file(str(file))
fast = PreTrainedTokenizerFast(tokenizer_file=str(file))
auto = AutoTokenizer.from_pretrained(folder)
read = {
    "tokenizers": plain.encode(text, add_special_tokens=False).tokens,
    "PreTrainedTokenizerFast": fast.convert_ids_to_tokens(fast.encode(text, add_special_tokens=False)),
    f"AutoTokenizer ({type(auto).__name__})": auto.convert_ids_to_tokens(auto.encode(text, add_special_tokens=False)),
}
for reader, tokens in read.items():
    print(f"{reader:32} {tokens}")
stated, again, rebuilt = read.values()
as_described = stated == again == ["a", "b", "c", "Ġ", "12"] and rebuilt == ["A", "B", "C", "Ġ", "1", "2"]
sys.exit(0 if as_described else "no longer as described")
PY
