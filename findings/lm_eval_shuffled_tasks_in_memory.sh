#!/usr/bin/env bash
# A task of lm-eval that shuffles its options (gpqa) is asked in one order and scored in another where its data is in memory.
#
# lm-eval 0.4.13, datasets 5.2.0, Python 3.11.
#
# gpqa's process_docs calls random.shuffle, and lm-eval calls process_docs anew each time it looks at the rows: for the few-shot rows, for
# the requests, for the scores. What makes the orders agree is the cache of the datasets library: rows that lie in Arrow files are
# processed once and then found again by the hash of the function. Rows of a custom_dataset that are made in memory have no such cache.
#
# Seen (30 November 2026), by a model that always chooses the right option of the prompt that it gets, on 40 rows: accuracy 1.0 where the
# rows lie on a disk, about 0.25 where they are in memory (a guess). No warning in either case. It follows, too, that --seed does not
# change the order of gpqa's options once it is in the cache.
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
path = Path(lm_eval.__file__).parent / "tasks/gpqa/zeroshot/gpqa_main_zeroshot.yaml"
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


def accuracy(data):
    config = {key: value for key, value in load_yaml(path).items() if key not in ("tag", "dataset_path", "dataset_name")}
    random.seed(0)
    task = ConfigurableTask(config={**config, "custom_dataset": lambda **_: {"train": data}})
    results = evaluator.evaluate(Knows(), {"gpqa": task}, bootstrap_iters=0)
    return next(iter(results["results"].values()))["acc,none"]


in_memory = datasets.Dataset.from_list(rows)
in_memory.save_to_disk("rows")
on_disk = datasets.load_from_disk("rows")
seen = {"on a disk": accuracy(on_disk), "in memory": accuracy(in_memory)}
print(seen)
sys.exit(0 if seen["on a disk"] == 1.0 and seen["in memory"] < 0.7 else "no longer as described")
PY
