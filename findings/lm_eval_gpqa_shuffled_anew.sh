#!/usr/bin/env bash
# gpqa_*_n_shot of lm-eval: a model that is always right is scored a quarter, since the options are shuffled anew for the scores.
#
# lm-eval 0.4.13, datasets 5.2.0, Python 3.11.
#
# gpqa/n_shot/utils.py shuffles options by a generator of the module, rng = random.Random(42), in process_docs. The cache of the datasets
# library, which makes other shuffled tasks agree with themselves, finds rows by a hash of the function; dill hashes the module's
# variables that it uses, and the generator has moved on: each look at the rows, for the requests and for the scores, shuffles anew.
#
# Seen (30 November 2026), by a model that always chooses the right option of the prompt that it gets, on 40 rows that lie on a disk:
# gpqa_main_zeroshot (which shuffles by the random module) 1.0, gpqa_main_n_shot about 0.25, a guess. No warning in either case.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install "lm_eval==0.4.13" "datasets==5.2.0" 1>&2

cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" "$folder/venv/bin/python" - <<'PY'
import logging
import random
import re
import sys
from pathlib import Path

import datasets
import lm_eval
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

logging.disable(logging.CRITICAL)
datasets.disable_progress_bars()
folder = Path(lm_eval.__file__).parent / "tasks/gpqa"
rows = [
    {"Question": f"Which is {n}?", "Correct Answer": f"right {n}", **{f"Incorrect Answer {k}": f"wrong {n} {k}" for k in (1, 2, 3)}}
    for n in range(40)
]


class Knows(LM):
    """Chooses the option that the prompt calls right."""

    def loglikelihood(self, requests):
        found = []
        for request in requests:
            prompt, letter = request.args
            said = re.search(r"\((.)\) right", prompt)[1]
            found.append((0.0 if said in letter else -9.0, False))
        return found

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def accuracy(path, data):
    config = {key: value for key, value in load_yaml(path).items() if key not in ("tag", "dataset_path", "dataset_name")}
    random.seed(0)
    task = ConfigurableTask(config={**config, "custom_dataset": lambda **_: {"train": data}})
    results = evaluator.evaluate(Knows(), {"gpqa": task}, bootstrap_iters=0)
    return next(iter(results["results"].values()))["acc,none"]


datasets.Dataset.from_list(rows).save_to_disk("rows")
on_disk = datasets.load_from_disk("rows")
seen = {kind: accuracy(folder / kind / f"gpqa_main_{kind}.yaml", on_disk) for kind in ("zeroshot", "n_shot")}
print(seen)
sys.exit(0 if seen["zeroshot"] == 1.0 and seen["n_shot"] < 0.7 else "no longer as described")
PY
