"""What each step makes of a small fixed input, as digests: a step whose output changes must say so by its version.

Where a test here fails and the change is meant: raise the step's ``version`` (its old lines in people's run folders are then not used
again) and note the new digest. The table of digests rests on stand-ins (``salad_eval.testing``), whose sound is made of whole numbers; the
other tests are about real models with weights that are stated here.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from salad_eval.identity import digest
from salad_eval.pipeline import controls, divergence, limits, render, respond, score, transcribe
from salad_eval.pipeline.folder import Step
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run

GOLDEN: dict[str, tuple[Step[Any], str, str]] = {
    "render": (render.STEP, "1", "6235a6f8b7b189fd"),
    "transcribe": (transcribe.STEP, "2", "44d3b46bd4424b1a"),
    "limits": (limits.STEP, "1", "72ec11dec6e6355f"),
    "respond.base_text": (respond.STEP, "1", "01c6cfd5403fe52a"),
    "respond.base_transcript": (respond.STEP, "1", "faf0d05e3d1b1ea4"),
    "respond.adapted_text": (respond.STEP, "1", "c084915b495ed240"),
    "respond.adapted_speech": (respond.STEP, "1", "534ce32e5b7442a3"),
    "score": (score.STEP, "2", "b0c9401fc16e8deb"),
    "comparable": (divergence.ASKED_BEFORE, "1", "ea361eb1313838a1"),
    "divergence": (divergence.STEP, "1", "14721aaa3346b65d"),
    "control.base_floor": (controls.STEP, "2", "21ced81d63961dc4"),
    "control.adapted_floor": (controls.STEP, "2", "e4ca2e0a90164e53"),
    "control.adapted_silent": (controls.STEP, "2", "f462def548f0c92d"),
    "control.adapted_swapped": (controls.STEP, "2", "ccd0de7df2ba7c03"),
}


@pytest.fixture
def finished(fake_plan: dict[str, Any]) -> Path:
    run(Plan.from_mapping(fake_plan))
    return Path(fake_plan["out"])


def rounded_digest(file: Path) -> str:
    """Of a file of records, floats to four decimals: a library of mathematics may differ in the last place."""
    with file.open(encoding="utf-8") as lines:
        return digest(*(json.loads(line, parse_float=lambda number: round(float(number), 4)) for line in lines))[:16]


def test_a_step_whose_output_changes_has_another_version(finished: Path) -> None:
    found = {name: (step.version, rounded_digest(finished / f"{name}.jsonl")) for name, (step, _, _) in GOLDEN.items()}
    expected = {name: (version, digest) for name, (_, version, digest) in GOLDEN.items()}
    assert found == expected


def test_no_step_is_missing_here(finished: Path) -> None:
    assert set(json.loads((finished / "steps.json").read_text())["steps"]) == set(GOLDEN)


# --- real models -----------------------------------------------------------------------------------------------------

LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "long rope": {"max_position_embeddings": 256, "rope_parameters": LONG_ROPE},
    "llama 3 rope": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
}  # fmt: skip
# Log-probabilities of three options after a short and a long prompt; made under version "1" of the step ``respond``.
LOGPROBS: dict[str, list[list[float]]] = {
    "llama": [[-4.8691, -7.5811, -12.4092], [-4.8636, -7.1778, -12.5114]],
    "long rope": [[-4.8763, -7.5337, -12.4184], [-4.7149, -7.2619, -12.7507]],
    "llama 3 rope": [[-4.9833, -7.7572, -12.3007], [-4.8849, -7.5758, -12.5116]],
}


def model_of(changes: dict[str, Any]) -> Any:
    """A Llama whose weights are waves: no generator's stream has a say in them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 128, **changes,
        }
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                phase = zlib.crc32(name.encode()) % 97
                steps = torch.arange(parameter.numel(), dtype=torch.float64).reshape(parameter.shape)
                parameter.copy_(0.4 * torch.sin(steps * (1.7 + 0.01 * phase) + phase))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_models_answer_as_they_did_under_this_version(name: str) -> None:
    import torch

    from salad_eval.systems.branching import continuation_logprobs

    model = model_of(MODELS[name])
    prompts = [torch.arange(12) * 5 % 64, torch.arange(60) * 7 % 64]
    options = [[[3], [40, 9], [17, 17, 2]]] * 2
    found = [[float(sum(tokens)) for tokens in row] for row in continuation_logprobs(model, prompts, options)]
    assert respond.STEP.version == "1"
    assert found == [pytest.approx(row, abs=1e-3) for row in LOGPROBS[name]]
