#!/usr/bin/env bash
# faster-whisper fills a short recording up with the number 0 after the log-mel step; Whisper's own program and transformers fill it up
# with silence before it. In log-mel, 0 is no silence: it is far louder than the quietest frames of the recording.
#
# faster-whisper 1.2.1, transformers 5.23.0, Python 3.11; no model is needed to see it.
#
# Seen (30 November 2026), 2 s of noise in a window of 30 s: the last 20 s of the features are
#   transformers     one number, the floor of the recording (its loudest value less 2; here -1.28), in every band
#   faster-whisper   0.0 in every band
# The frames of the sound itself agree within 1e-6. So the same weights are shown another input by the two programs, and their transcripts of
# short recordings cannot be expected to be the same.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "faster-whisper==1.2.1" "transformers==5.23.0" 1>&2

"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
from faster_whisper.audio import pad_or_trim
from faster_whisper.feature_extractor import FeatureExtractor
from transformers import WhisperFeatureExtractor

wave = np.random.default_rng(0).normal(0, 0.05, 2 * 16_000).astype(np.float32)
theirs = pad_or_trim(FeatureExtractor()(wave)[..., :-1])  # as WhisperModel.transcribe does
reference = np.asarray(WhisperFeatureExtractor()(wave, sampling_rate=16_000, return_tensors="np").input_features[0])
tail, silence = theirs[:, 1000:], reference[:, 1000:]
print(f"shapes {theirs.shape} {reference.shape}")
print(f"last 20 s: faster-whisper {tail.min():.3f} to {tail.max():.3f}, transformers {silence.min():.3f} to {silence.max():.3f}")
print(f"the sound itself: largest difference {np.abs(theirs - reference)[:, :195].max():.1e}, its loudest value {reference.max():.3f}")
as_described = (
    not tail.any() and np.ptp(silence) < 1e-6 and silence.max() < -0.3 and np.abs(theirs - reference)[:, :195].max() < 1e-2
)
sys.exit(0 if as_described else "no longer as described")
PY
