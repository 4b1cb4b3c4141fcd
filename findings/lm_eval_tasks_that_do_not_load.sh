#!/usr/bin/env bash
# Some of lm-eval's tasks cannot be loaded beside the newest transformers and datasets that lm-eval itself allows.
#
# lm-eval 0.4.13, transformers 5.23.0, datasets 5.2.0, Python 3.11.
#
# Seen (30 November 2026): bec2016eu (of basqueglue) imports datasets.load_metric, which left datasets in its third major release; coqa imports
# transformers.data.metrics.squad_metrics, which left transformers in its fifth. Both are listed by `lm-eval ls tasks`, and fail when
# their YAML is read, before any data is asked for. lm-eval asks for datasets>=2.16.0 and for transformers without an upper bound.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "lm_eval==0.4.13" "datasets==5.2.0" "transformers==5.23.0" 1>&2

cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" "$folder/venv/bin/python" - <<'PY'
import logging
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks._yaml_loader import load_yaml

logging.disable(logging.CRITICAL)
tasks = Path(lm_eval.__file__).parent / "tasks"
expected = {
    "basqueglue/bec.yaml": "cannot import name 'load_metric' from 'datasets'",
    "coqa/default.yaml": "No module named 'transformers.data.metrics'",
    "boolq (for comparison)": "",
}
changed = 0
for name, words in expected.items():
    path = tasks / ("super_glue/boolq/default.yaml" if name.startswith("boolq") else name)
    try:
        table = load_yaml(path)
        for value in table.values():
            repr(value)
        said = ""
    except ImportError as cause:
        said = str(cause)
    print(f"{name}: {said or 'loads'}")
    changed += words not in said or bool(said) != bool(words)
sys.exit(f"{changed} of {len(expected)} are no longer as described" if changed else 0)
PY
