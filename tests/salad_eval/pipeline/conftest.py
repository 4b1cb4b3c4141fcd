"""A run by stand-ins (``salad_eval.testing``): it takes a second, and loads no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salad_eval.testing.installed import installed
from tests.salad_eval.benchmarks.test_items import make_task

TARGETS = {
    "salad.tts": {"tones": "salad_eval.testing.voices:ToneTTS"},
    "salad.asr": {"tones": "salad_eval.testing.recognisers:ToneASR"},
    "salad.systems": {"hashed": "salad_eval.testing.systems:HashedSystem"},
}


@pytest.fixture(scope="module")
def _stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("stand-ins"), TARGETS):  # type: ignore[arg-type]
        yield


@pytest.fixture
def fake_plan(tmp_path: Path, _stand_ins: None, only_json: None) -> dict[str, Any]:
    """A plan of a task with options and one without, in two voices; a report without its views."""
    free = {
        "output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}, "metric_list": None,
    }  # fmt: skip
    tasks = []
    for name, salad, keys in (("choice", {}, {}), ("free", {"score": "generate"}, free)):
        (tmp_path / name).mkdir()
        tasks.append(make_task(tmp_path / name, salad=salad, task=name, **keys))
    return {
        "tasks": [str(task) for task in tasks],
        "voices": ["high", "low"],
        "tts": {"name": "tones"},
        "asr": {"name": "tones", "options": {"deaf_to": "v"}},
        "base": {"system": "hashed", "options": {"name": "base", "hears": False}},
        "adapted": {"system": "hashed", "options": {"name": "adapted"}},
        "n_resamples": 100,
        "workers": 1,
        "out": str(tmp_path / "run"),
        "audio_store": str(tmp_path / "audio"),
        "created": "2025-01-01T00:00:00+00:00",
    }
