"""Tiny models of the real classes with random weights, and small tasks: everything a run needs, built in seconds and offline."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from salad_eval.types import GapReport

pytest.register_assert_rewrite("salad_eval.testing.speech_checks")  # a failed check says what it compared

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tiny models gain nothing from threads, and threads that wait for each other on a busy machine lose a great deal.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: Python need not look through a million objects again at each collection of garbage."""
    gc.collect()
    gc.freeze()


def json_alone(report: GapReport, folder: Path, *_: object, **__: object) -> None:
    """``salad_eval.report.write_report`` without the views, which take most of a small run's time and are made from the JSON."""
    from salad_eval.report import REPORT_FILE, save_report

    save_report(report, folder / REPORT_FILE)


@pytest.fixture
def only_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write a report without its views."""
    monkeypatch.setattr("salad_eval.report.write_report", json_alone)


QUESTIONS = (
    ("astronomy", "Which planet has rings?", ("Saturn", "Mars", "Venus"), 0),
    ("astronomy", "Which star gives us light?", ("the moon", "the sun", "Vega"), 1),
    ("astronomy", "What goes around the earth?", ("a star", "a comet", "the moon"), 2),
    ("chemistry", "What is the symbol for tin?", ("Sn", "Ti", "Fe"), 0),
    ("chemistry", "Which gas do we breathe?", ("neon", "oxygen", "argon"), 1),
    ("chemistry", "Which metal is a liquid?", ("iron", "gold", "mercury"), 2),
    ("music", "How many strings has a violin?", ("4", "5", "6"), 0),
    ("music", "Who wrote the moonlight sonata?", ("Mozart", "Beethoven", "Bach"), 1),
)


def rows(split: str = "test") -> list[dict[str, object]]:
    """The rows of the small benchmark; its validation split shares the options and none of the questions."""
    return [
        {
            "id": f"{split}-{n}",
            "domain": domain,
            "question": question if split == "test" else f"What comes as number {n + 1} in {domain}?",
            "choices": list(choices),
            "answer": gold,
            "topic": f"t{n % 2}",
        }
        for n, (domain, question, choices, gold) in enumerate(QUESTIONS)
    ]


def write_rows(path: Path, table: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")


TASK = """\
task: tiny
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/test.jsonl, validation: {folder}/validation.jsonl}}
test_split: test
validation_split: validation
fewshot_split: validation
fewshot_config: {{sampler: first_n}}
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata:
  version: 1.0
  salad: {{speak: context, spoken_text: "{{{{question}}}}", domain: domain}}
"""


@pytest.fixture
def tiny_task(tmp_path: Path) -> Path:
    """A task YAML with eight rows in three domains, beside its data."""
    for split in ("test", "validation"):
        write_rows(tmp_path / f"{split}.jsonl", rows(split))
    path = tmp_path / "tiny.yaml"
    path.write_text(TASK.format(folder=tmp_path), encoding="utf-8")
    return path


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``base`` (a Llama and its tokenizer), ``asr`` (a ``ParakeetForCTC`` and its processor), ``speech`` (a
    ``SaladForConditionalGeneration`` on that Llama's tokenizer): random weights, in Hugging Face folders.
    """
    import torch

    from tests.helpers.speech_llm_world import encoder, language_model, speech_llm, tokenizer

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    language_model("llama", seed=1).save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    model, processor = speech_llm("llama", "parakeet", 2, seed=2)
    model.save_pretrained(folder / "speech")
    processor.save_pretrained(folder / "speech")
    _save_asr(folder / "asr", *encoder("parakeet", seed=3))
    return {name: folder / name for name in ("base", "asr", "speech")}


def _save_asr(folder: Path, model: Any, extractor: Any) -> None:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as token_models
    from transformers import ParakeetProcessor, ParakeetTokenizer

    pieces = {"<pad>": 9, "<unk>": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "▁": 8}
    inner = Tokenizer(token_models.BPE(vocab=pieces, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = ParakeetTokenizer(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    model.save_pretrained(folder)
    ParakeetProcessor(extractor, tokenizer, decoder_type="ctc").save_pretrained(folder)


@pytest.fixture(scope="session")
def audio_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One audio store for the session: speech synthesis is not sample-exact, so runs that are compared share their sound."""
    return tmp_path_factory.mktemp("audio")


@pytest.fixture
def tiny_plan(tiny_models: dict[str, Path], tiny_task: Path, audio_store: Path, tmp_path: Path) -> dict[str, Any]:
    """A plan, as a YAML would state it, that runs the small task on the tiny models in some seconds."""
    return {
        "name": "tiny",
        "tasks": [str(tiny_task)],
        "voices": ["en-us+f3", "en-us+m7"],
        "tts": {"name": "pyttsx3"},
        "asr": {"name": "transformers-ctc", "options": {"pretrained": str(tiny_models["asr"])}},
        "base": {"system": "hf-text", "options": {"pretrained": str(tiny_models["base"])}},
        "adapted": {"system": "salad", "options": {"pretrained": str(tiny_models["speech"])}},
        "n_resamples": 200,
        "workers": 1,
        "out": str(tmp_path / "run"),
        "audio_store": str(audio_store),
        "created": "2025-01-01T00:00:00+00:00",
    }
