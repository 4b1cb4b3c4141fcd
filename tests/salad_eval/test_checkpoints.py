"""What identifies a model: every file that changes an answer, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from salad_eval.checkpoints import library_versions, load_causal_lm, model_identity
from tests.helpers.tiny_causal_lm import save_tiny_llama


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_llama(tmp_path_factory.mktemp("llama"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000, "padding": "repeat"}))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def test_loading_shows_no_bar_of_its_own(original: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.enable_progress_bar()
    load_causal_lm(str(original))
    assert "Loading weights" not in capfd.readouterr().err


def setting(name: str, **changed: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}, indent=7))

    return change


def added(name: str, content: bytes = b"{}") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)

    return change


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def another_word(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        another_word,
        setting("config.json", rms_norm_eps=1e-2),
        setting("tokenizer_config.json", add_bos_token=True),
        setting("generation_config.json", eos_token_id=[1, 2]),
        setting("preprocessor_config.json", padding="none"),
        setting("tokenizer.json", normalizer={"type": "Lowercase"}),
        added("modeling_own.py", b"x = 1"),
        added("parts/deep/own.py", b"x = 1"),
        added("adapter_config.json"),
        added("added_tokens.json"),
        added("merges.txt", b"a b"),
        added("quantize_config.json"),
        lambda folder: (folder / "generation_config.json").unlink(),
    ],
)
def test_it_changes_with_what_a_loader_reads(original: Path, folder: Path, change: Callable[[Path], None]) -> None:
    assert model_identity(str(folder)) == model_identity(str(original))  # not the place
    change(folder)
    assert model_identity(str(folder)) != model_identity(str(original))


@pytest.mark.parametrize(
    "change",
    [
        added("README.md", b"# a card"),
        added("LICENSE.txt", b"free"),
        added("trainer_state.json"),
        added("all_results.json"),
        added("training_args.bin"),
        added("optimizer.pt"),
        added("pytorch_model.bin", b"not read beside safetensors"),
        added("consolidated.safetensors", b"nor is another form of the same"),
        added("checkpoint-500/model.safetensors"),
        added(".cache/huggingface/x.json"),
        added("modeling/__pycache__/own.py"),
        added("chat_template.jinja", b"{{ messages }}"),
        setting("tokenizer_config.json", chat_template="{{ messages }}"),
        setting("config.json", _name_or_path="/elsewhere", transformers_version="9"),
        setting("tokenizer.json", padding={"strategy": "BatchLongest"}),
        lambda folder: os.utime(folder / "model.safetensors", (1, 1)),
    ],
)
def test_it_does_not_change_with_what_is_only_written_beside_a_model(
    original: Path, folder: Path, change: Callable[[Path], None]
) -> None:
    change(folder)
    assert model_identity(str(folder)) == model_identity(str(original))


def test_each_part_can_be_asked_for_alone(original: Path, folder: Path) -> None:
    another_word(folder)
    setting("generation_config.json", eos_token_id=7)(folder)
    same = {part: model_identity(str(folder), parts=[part]) == model_identity(str(original), parts=[part])
            for part in ("weights", "processor", "tokenizer", "generation")}  # fmt: skip
    assert same == {"weights": True, "processor": True, "tokenizer": False, "generation": False}


def test_the_weights_are_those_that_are_loaded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    safe, pickled = model_identity(str(folder)), model_identity(str(folder), weights="pickle")
    torch.save({**tensors, "model.norm.weight": tensors["model.norm.weight"] + 1}, folder / "pytorch_model.bin")
    assert model_identity(str(folder)) == safe
    assert model_identity(str(folder), weights="pickle") != pickled


def test_shards_are_those_of_the_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 2}, "weight_map": dict(zip("ab", names, strict=True))})
    )
    for name in names:
        save_file({name[8]: torch.zeros(1)}, folder / name)
    before = model_identity(str(folder))
    added("model-00003-of-00003.safetensors", b"of another save")(folder)
    assert model_identity(str(folder)) == before
    save_file({"b": torch.ones(1)}, folder / names[1])
    assert model_identity(str(folder)) != before


def test_a_hub_id_is_itself_and_its_commit() -> None:
    assert model_identity("somebody/some-model") == "hub:somebody/some-model@unknown"


def test_libraries_are_named_with_their_versions() -> None:
    assert library_versions("torch", "no-such-package-at-all") == f"torch={torch.__version__.partition('+')[0]}"


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says which file a page of memory is of")
@pytest.mark.parametrize(("dtype", "shared"), [("float32", True), ("auto", True), ("bfloat16", False)])
def test_weights_read_as_they_were_saved_are_pages_of_their_file(folder: Path, dtype: str, shared: bool) -> None:
    """Which all processes that look at them share."""
    model, _ = load_causal_lm(str(folder), dtype=dtype, device="cpu")
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    pages = [line[0].split("-") for line in lines if line[-1] == str(folder / "model.safetensors")]
    ranges = [(int(start, 16), int(end, 16)) for start, end in pages]
    mapped = {any(start <= weight.data_ptr() < end for start, end in ranges) for weight in model.parameters()}
    assert mapped == {shared}
