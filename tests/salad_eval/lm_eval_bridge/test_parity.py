"""The text column against lm-eval's own ``hf`` model: same weights, same prompts, same log-probabilities, same accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from salad_eval.answers.score import score_response
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.types import Item, Request, Response, TextSegment
from tests.helpers.tiny_causal_lm import save_tiny_llama

SUBJECTS = ["bones", "rust", "France", "Mars", "the lazy dog", "the moon", "carbon dioxide", "Jupiter", "a fox", "iron"]
OPTIONS = ["calcium", "iron oxide", "Paris", "red", "the quick brown fox", "  two spaces", "größer", "42"]


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield


@pytest.fixture(scope="module", params=[False, True], ids=["no_bos", "bos"])
def folder(request, tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"), bos=request.param)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    """A multiple-choice task in lm-eval's own form, over local JSONL files."""
    root = tmp_path_factory.mktemp("tasks")

    def rows(offset: int, n: int) -> list[dict[str, object]]:
        made = []
        for i in range(offset, offset + n):
            choices = [OPTIONS[(i + step * 3) % len(OPTIONS)] for step in range(2 + i % 3)]
            question = f"What of {SUBJECTS[i % len(SUBJECTS)]}" + " and so on" * (i % 4)
            made.append({"question": question, "choices": choices, "answer": i % len(choices)})
        return made

    for split, offset, n in (("train", 100, 6), ("test", 0, 12)):
        text = "\n".join(json.dumps(row) for row in rows(offset, n))
        (root / f"{split}.jsonl").write_text(text + "\n", encoding="utf-8")
    task = {
        "task": "tiny_parity",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {split: str(root / f"{split}.jsonl") for split in ("train", "test")},
            "cache_dir": str(root / "cache"),
        },
        "output_type": "multiple_choice",
        "test_split": "test",
        "fewshot_split": "train",
        "doc_to_text": "Question: {{question}}?\nAnswer:",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    (root / "tiny_parity.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return root


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_log_probabilities_and_accuracies_equal_lm_evals(folder, tasks, shots, batch_size):
    import lm_eval
    from lm_eval.tasks import TaskManager

    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        device="cpu",
        batch_size=batch_size,
        tasks=["tiny_parity"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        num_fewshot=shots,
        log_samples=True,
        bootstrap_iters=0,
        cache_requests=False,
    )
    samples = sorted(theirs["samples"]["tiny_parity"], key=lambda sample: sample["doc_id"])
    assert len(samples) == 12

    requests, items = [], []
    for sample in samples:
        # The arguments lm-eval logged are the (context, continuation) pairs it scored.
        pairs = [(argument[0], argument[1]) for argument in sample["arguments"]]
        (context,) = {context for context, _ in pairs}
        assert context.count("Question:") == shots + 1
        item_id, choices = str(sample["doc_id"]), tuple(sample["doc"]["choices"])
        requests.append(Request(item_id, (TextSegment(context),), tuple(continuation for _, continuation in pairs)))
        items.append(Item(item_id, "t", "test", "d", context, choices, sample["doc"]["answer"], item_id, ()))
    ours = HFTextSystem(str(folder), device="cpu").loglikelihoods(requests)

    for sample, logprobs in zip(samples, ours, strict=True):
        expected = [float(response[0][0]) for response in sample["resps"]]
        assert list(logprobs) == pytest.approx(expected, abs=1e-4)
    metrics = theirs["results"]["tiny_parity"]
    for kind, metric in (("ll", "acc,none"), ("ll_norm", "acc_norm,none")):
        scores = [
            score_response(item, Response(item.id, "base_text", "text", None, None, tuple(logprobs)), kind)
            for item, logprobs in zip(items, ours, strict=True)
        ]
        assert sum(score.value or 0.0 for score in scores) / len(scores) == pytest.approx(metrics[metric], abs=1e-12)
        for sample, score in zip(samples, scores, strict=True):
            assert score.value == sample[metric.split(",")[0]]


EDGES = [
    ("", "Paris"),
    ("", " Paris"),
    ("", "<s>Paris"),
    ("Question: ", "Paris"),
    ("Question:  \n ", "Paris is"),
    ("<s>Question:", " Paris"),
    ("calc", "ium"),  # the whole merges across the border
    ("Question: bones?\nAnswer:", " calcium"),
    ("The moon " * 300, "the dog"),  # longer than the model
    ("x" * 900, " " + "y" * 40),
    ("größer", "e 🐕"),
]


def test_every_odd_context_is_encoded_and_scored_as_lm_eval_does(folder):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)
    instances = [Instance("loglikelihood", {}, edge, 0) for edge in EDGES]
    expected = [value for value, _ in theirs.loglikelihood(instances, disable_tqdm=True)]
    requests = [Request(str(i), (TextSegment(context),), (text,)) for i, (context, text) in enumerate(EDGES)]
    ours = HFTextSystem(str(folder), device="cpu").loglikelihoods(requests)
    assert [row[0] for row in ours] == pytest.approx(expected, abs=1e-4)


def test_greedy_generation_equals_lm_evals(folder):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)
    prompts = ["Question: Which metal is in bones?\nAnswer:", "The quick brown", "Mars"]
    settings = {"until": ["e", "\n"], "max_gen_toks": 12, "do_sample": False}
    instances = [Instance("generate_until", {}, (prompt, settings), i) for i, prompt in enumerate(prompts)]
    expected = theirs.generate_until(instances, disable_tqdm=True)
    requests = [Request(str(i), (TextSegment(prompt),)) for i, prompt in enumerate(prompts)]
    ours = HFTextSystem(str(folder), device="cpu").generate(requests, max_new_tokens=12, stop=("e", "\n"))
    assert ours == expected
