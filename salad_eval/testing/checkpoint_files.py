"""Each file of a checkpoint, changed so that answers may change, and files that lie beside one and are read by nobody who runs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

# What stands in a settings file of the name and decides answers: the first that is found, at any depth, and what it becomes.
_SETTINGS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "config.json": {
        "rms_norm_eps": lambda value: value * 3,
        "layer_norm_eps": lambda value: value * 3,
        "norm_eps": lambda value: value * 3,
        "scale_embedding": lambda value: not value,
        "scale_input": lambda value: not value,
        "normalize_before": lambda value: not value,
        "suppress_ids": lambda value: [*value, 3],  # CTranslate2's
    },
    "generation_config.json": {"eos_token_id": lambda value: [3, 5]},
    "tokenizer_config.json": {
        "clean_up_tokenization_spaces": lambda value: not value,
        "do_lower_case": lambda value: not value,
    },
    "preprocessor_config.json": {"n_fft": lambda value: value * 2, "hop_length": lambda value: value + 1},
    "processor_config.json": {
        "n_fft": lambda value: value * 2,
        "do_normalize": lambda value: not value,
        "sampling_rate": lambda value: value // 2,
        "audio_seq_length": lambda value: value + 1,
    },
    "adapter_config.json": {"lora_alpha": lambda value: value * 2},
}
_ABSENT: dict[str, dict[str, Any]] = {
    "tokenizer_config.json": {"clean_up_tokenization_spaces": True},
    "generation_config.json": {"eos_token_id": [3, 5]},
}
BESIDE = {
    "README.md": b"# A card",
    ".gitattributes": b"*.safetensors filter=lfs",
    "LICENSE.txt": b"free",
    "optimizer.pt": b"moments",
    "scheduler.pt": b"a rate",
    "rng_state.pth": b"numbers",
    "training_args.bin": b"pickled",
    "trainer_state.json": b'{"global_step": 500}',
    "all_results.json": b'{"loss": 1.0}',
    "pytorch_model.bin": b"the weights again, which are not read beside safetensors",
    "model.onnx": b"and again",
    "checkpoint-500/model.safetensors": b"those of an earlier step",
}


def unseen(folder: Path, room: Path, fingerprint: Callable[[str], str], silent: tuple[str, ...] = ()) -> list[str]:
    """The files of ``folder`` whose change leaves the fingerprint as it was. ``room``: where changed copies are made; ``silent``:
    settings files that say nothing of this class's answers, and are left alone.

    Raises ``ValueError`` for a file of which it does not know what to change.
    """
    before, found = fingerprint(str(folder)), []
    for name in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        if name in silent:
            continue
        copy = Path(shutil.copytree(folder, room / name.replace("/", "-")))
        change(copy / name)
        found += [name] if fingerprint(str(copy)) == before else []
        shutil.rmtree(copy)
    return found


def with_beside(folder: Path, room: Path) -> Path:
    """A copy with everything beside it that a publisher and a trainer leave, and settings that say nothing of the model."""
    copy = Path(shutil.copytree(folder, room / "beside"))
    for name, content in BESIDE.items():
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(content)
    path = copy / "config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "transformers_version": "4.0", "_name_or_path": "/elsewhere"})
    )
    return copy


def change(path: Path) -> None:
    """Change one file of a checkpoint so that its loader still takes it."""
    if path.suffix == ".safetensors":
        _other_weights(path)
    elif path.name == "model.bin":  # CTranslate2's
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif path.name == "vocabulary.json":
        tokens = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps([tokens[1], tokens[0], *tokens[2:]]), encoding="utf-8")
    elif path.name == "tokenizer.json":
        _edited(path, _another_reading)
    elif path.name in ("vocab.json", "tekken.json"):
        _edited(path, _two_exchanged)
    elif path.name == "chat_template.json":
        _edited(path, lambda table: table.update(chat_template=table["chat_template"] + " "))
    elif path.name == "merges.txt":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    elif path.suffix == ".jinja":
        path.write_text(path.read_text() + " ")
    elif path.name in _SETTINGS:
        _edited(path, lambda table: _one_changed(path.name, table))
    else:
        raise ValueError(f"{path.name}: no change is known; state one.")


def _other_weights(path: Path) -> None:
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].is_floating_point() and tensors[name].numel())
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, path, metadata=metadata)


def _edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    edit(table)
    path.write_text(json.dumps(table), encoding="utf-8")


def _one_changed(name: str, table: dict[str, Any]) -> None:
    for part in _tables(table):
        for key, changed in _SETTINGS[name].items():
            if part.get(key) is not None:
                part[key] = changed(part[key])
                return
    if name not in _ABSENT:
        raise ValueError(f"{name} holds none of {', '.join(_SETTINGS[name])}: {sorted(table)}")
    table.update(_ABSENT[name])


def _tables(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield table
    for value in table.values():
        if isinstance(value, dict):
            yield from _tables(value)


def _another_reading(table: dict[str, Any]) -> None:
    """A pair of pieces that is joined no more; where nothing is joined, text in small letters."""
    if table["model"].get("merges"):
        table["model"]["merges"].pop()
    else:
        table["normalizer"] = {"type": "Lowercase"}


def _two_exchanged(table: dict[str, Any]) -> None:
    """Two tokens' ids (vocab.json) or bytes (tekken.json)."""
    if isinstance(table.get("vocab"), list):
        first, second = table["vocab"][-2:]
        for key in ("token_bytes", "token_str"):
            first[key], second[key] = second[key], first[key]
        return
    first, second = list(table)[-2:]
    table[first], table[second] = table[second], table[first]
