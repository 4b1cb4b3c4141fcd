#!/usr/bin/env bash
# torch's log_softmax in float32 on a CPU errs to one side over a large vocabulary: log-probabilities come out too high, token after token.
#
# torch 2.13.0 (CPU, x86-64 with AVX2), Python 3.11.
#
# 64 rows of normal logits (standard deviation 3), the first column, less the same in float64. Seen (30 November 2026), 1 thread:
#   vocabulary   log_softmax, mean   x - logsumexp(x), mean
#        1,000            +1.5e-08                 +5.2e-08
#       49,152            +2.5e-06                 -7.2e-08
#      151,936            +1.3e-05                 +1.2e-07
# The two ways are one formula, and the second is right to the last bits. The error does not average out: over an answer of 50 tokens it is
# fifty times that. lm-eval's hf adds up log_softmax's rows; on SmolLM2-135M (49,152 tokens) an option of 51 tokens of PIQA was so 9.5e-4 too
# likely, where one plain forward pass with float64 log_softmax is within 3e-5 of a float64 model. softmax_dtype="float64" mends it there.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "torch==2.13.0" "numpy" 1>&2

"$folder/venv/bin/python" - <<'PY'
import torch

torch.set_num_threads(1)
for vocabulary, least in ((1_000, None), (49_152, 1e-6), (151_936, 5e-6)):
    torch.manual_seed(0)
    logits = 3 * torch.randn(64, vocabulary)
    right = logits.double().log_softmax(-1)[:, 0]
    softmax = float((logits.log_softmax(-1)[:, 0].double() - right).mean())
    by_sum = float(((logits - logits.logsumexp(-1, keepdim=True))[:, 0].double() - right).mean())
    print(f"{vocabulary:>9,} {softmax:+.1e} {by_sum:+.1e}")
    assert abs(by_sum) < 5e-7, "x - logsumexp(x) errs too"
    assert abs(softmax) < 5e-7 if least is None else softmax > least, "log_softmax is as it was not"
PY
