"""PEFT's adapter folders, against the model with the adapter merged by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from salad_eval.checkpoints import load_causal_lm
from salad_eval.errors import ModelError, UserInputError
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.testing.checkpoint_files import unseen
from salad_eval.types import Request
from tests.helpers.tiny_causal_lm import save_tiny_llama

REQUESTS = [
    Request("1", "Question: Which metal is in bones?\nAnswer:", (" calcium", " iron")),
    Request("2", "Paris", (" a", " b")),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("tied")
    model, tokenizer = load_causal_lm(str(base))
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_adapter(base: Path, folder: Path, config: Any) -> Any:
    """An adapter with random weights saved in ``folder``; what it makes of the base, still unmerged."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 12)[None]).logits


LINEAR = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"])


@pytest.mark.parametrize("stated", [False, True])
def test_a_folder_of_lora_is_the_base_with_the_adapter(stated: bool, base: Path, tmp_path: Path) -> None:
    expected = logits(train_adapter(base, tmp_path, LINEAR))
    system = HFTextSystem(str(base), peft=str(tmp_path)) if stated else HFTextSystem(str(tmp_path))
    assert type(system.model).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(logits(system.model), expected, rtol=0, atol=1e-5)
    assert system.loglikelihoods(REQUESTS) != HFTextSystem(str(base)).loglikelihoods(REQUESTS)


def test_both_are_in_the_fingerprint(base: Path, tmp_path: Path) -> None:
    train_adapter(base, tmp_path, LINEAR)
    alone, with_adapter = HFTextSystem(str(base)).fingerprint(), HFTextSystem(str(tmp_path)).fingerprint()
    assert alone != with_adapter == HFTextSystem(str(base), peft=str(tmp_path)).fingerprint()
    assert "peft=" in with_adapter


def test_each_file_of_either_is_in_the_fingerprint_and_where_they_lie_is_not(base: Path, tmp_path: Path) -> None:
    adapter, elsewhere = tmp_path / "adapter", Path(shutil.copytree(base, tmp_path / "elsewhere"))
    train_adapter(base, adapter, LINEAR)

    def of_adapter(path: str) -> str:
        return HFTextSystem(str(base), peft=path, device="cpu").fingerprint()

    def of_base(path: str) -> str:
        return HFTextSystem(path, peft=str(adapter), device="cpu").fingerprint()

    assert unseen(adapter, tmp_path, of_adapter, silent=("README.md",)) == []
    assert unseen(base, tmp_path, of_base) == []
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(elsewhere)}))
    assert HFTextSystem(str(adapter), device="cpu").fingerprint() == of_base(str(base))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_one_end_of_tied_embeddings_leaves_the_other(target: str, tied: Path, tmp_path: Path) -> None:
    model = train_adapter(tied, tmp_path, LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", target]))
    loaded, _ = load_causal_lm(str(tmp_path))
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-5)
    loaded.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "whole")), logits(model), rtol=0, atol=1e-5
    )


def test_what_cannot_be_folded_in_is_refused(base: Path, tmp_path: Path) -> None:
    train_adapter(base, tmp_path / "prefix", PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match="PREFIX_TUNING"):
        load_causal_lm(str(tmp_path / "prefix"))
    train_adapter(base, tmp_path / "lora", LINEAR)
    with pytest.raises(UserInputError, match="quantization is '8bit' for a model with an adapter"):
        load_causal_lm(str(tmp_path / "lora"), quantization="8bit")
    with pytest.raises(UserInputError, match=r"peft is .*adapter_config.json"):
        load_causal_lm(str(base), peft=str(base))
    settings = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    for change, says in (
        ({"ensure_weight_tying": True}, "folds such an update in twice"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "/no/such/model"}, "no model folder at '/no/such/model'"),
    ):
        (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises((ModelError, UserInputError), match=says):
            load_causal_lm(str(tmp_path / "lora"))
    (tmp_path / "lora" / "adapter_config.json").write_text("[")
    with pytest.raises(ModelError, match="not readable"):
        load_causal_lm(str(tmp_path / "lora"))
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks adapter_model.safetensors"):
        load_causal_lm(str(tmp_path / "lora"))
