"""A model whose frozen parts lie elsewhere: the same to the last bit when it is put together, and never with other parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from salad_eval.errors import ModelError, UserInputError
from salad_eval.formats.parts import OWN, STATED, split
from salad_eval.resources import resolve_pretrained
from salad_train.model.loading import load_salad
from tests.helpers import speech_llm_world as world


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=world.PAIRS[:2], ids=lambda pair: "+".join(map(str, pair[:2])))
def models(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The whole, and what it shares weights with."""
    lm, audio, stack = request.param[:3]
    base, encoder = world.save_parts(tmp_path, lm, audio)
    model, processor = world.speech_llm(lm, audio, stack)
    model.save_pretrained(tmp_path / "whole")
    processor.save_pretrained(tmp_path / "whole")
    return tmp_path / "whole", {"language_model.": str(base), "encoder.": str(encoder)}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def test_put_together_it_is_the_whole(models: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    whole, shared = models
    parts = split(whole, shared, tmp_path / "parts")
    assert {name.partition(".")[0] for name in weights(parts)} == {"adapter"}
    together, expected = weights(Path(resolve_pretrained(str(parts)))), weights(whole)
    assert together.keys() == expected.keys()
    assert all(torch.equal(together[name], one) for name, one in expected.items())
    model, _ = load_salad(str(parts), device="cpu")
    assert all(torch.equal(one, expected[name]) for name, one in model.state_dict().items() if name in expected)


def test_its_own_weights_may_be_rounded(models: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    whole, shared = models
    parts = split(whole, shared, tmp_path / "parts", own_dtype="float16")
    together = weights(Path(resolve_pretrained(str(parts))))
    for name, one in weights(whole).items():
        rounded = one.half().float() if name.startswith("adapter.") and one.is_floating_point() else one
        assert torch.equal(together[name], rounded)
    assert (parts / OWN).stat().st_size < 0.6 * sum(one.nbytes for one in weights(parts).values()) * 2


def test_what_was_trained_is_not_said_to_be_shared(models: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    whole, shared = models
    changed = weights(whole)
    name = next(name for name in changed if name.startswith("language_model."))
    changed[name] = changed[name] + 1e-3
    (file,) = whole.glob("*.safetensors")
    save_file(changed, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"language_model\.… are not those of .*base: they were trained"):
        split(whole, shared, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_other_weights_under_a_models_name_are_refused(models: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    whole, shared = models
    parts = split(whole, shared, tmp_path / "parts")
    base = Path(shared["language_model."])
    (file,) = base.glob("*.safetensors")
    changed = load_file(file)
    save_file({name: one + 1e-3 for name, one in changed.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"trained with other weights than .*base has"):
        resolve_pretrained(str(parts))
    shutil.rmtree(base)
    with pytest.raises(UserInputError, match=r"no model folder at .*base"):
        resolve_pretrained(str(parts))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("dtype", "eval", "dtype is 'eval'"), ("parts", 3, "parts"), ("dtype", None, "dtype")],
)
def test_damage_is_named(
    models: tuple[Path, dict[str, str]], tmp_path: Path, key: str, value: object, said: str
) -> None:
    parts = split(*models, tmp_path / "parts")
    stated = json.loads((parts / STATED).read_text())
    (parts / STATED).write_text(json.dumps({**stated, key: value}))
    with pytest.raises(ModelError, match=said):
        resolve_pretrained(str(parts))


def test_a_model_of_the_hub_is_taken_from_its_cache(
    models: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, shared = models
    fetched: list[str] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        fetched.append(name)
        return shared["language_model."]

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    parts = split(whole, {**shared, "language_model.": "someone/base"}, tmp_path / "parts")
    assert weights(Path(resolve_pretrained(str(parts)))).keys() == weights(whole).keys()
    assert fetched == ["someone/base"] * 2
