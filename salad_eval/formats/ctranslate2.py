"""Whisper in CTranslate2's format (what faster-whisper runs) as a folder of transformers' class.

CTranslate2 keeps the same numbers under other names: query, key and value of an attention are one matrix, and the key, which has no
bias in Whisper, has one of zeros. ``model.bin`` is a list of named arrays; it is read here without the package that wrote it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.errors import ModelError
from salad_eval.formats.cache import made_once
from salad_eval.identity import file_sha256
from salad_eval.records import parse_json

_VERSION = 1  # of what this module makes of a folder
_NEEDED = ("model.bin", "config.json", "tokenizer.json")
_BINARY_VERSIONS = (4, 5, 6)  # those that name the type and the size of each array
_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_MOST_TRANSCRIPT_TOKENS = 448


def is_ctranslate2_folder(path: Path) -> bool:
    return path.is_dir() and (path / "model.bin").is_file() and not any(path.glob("*.safetensors"))


def as_transformers(folder: Path) -> Path:
    """The folder of transformers (configuration, weights as they were stored, tokenizer, extractor, generation settings) that was
    made of ``folder``; made now if it is not there.

    Raises ``ModelError`` for a folder that lacks a file, holds another model than Whisper, or whole numbers in place of weights.
    """
    import transformers

    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder} has a model.bin as CTranslate2 writes it, and lacks {', '.join(missing)}. Convert the model again with "
            "--copy_files tokenizer.json preprocessor_config.json."
        )
    files = [path for name in (*_NEEDED, "preprocessor_config.json") if (path := folder / name).is_file()]
    identity = "\n".join(f"{path.name} {file_sha256(path)}" for path in files)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    name = f"ctranslate2-{digest}-v{_VERSION}-{transformers.__version__}"
    return made_once(name, lambda made: _convert(folder, made))


# --- the file --------------------------------------------------------------------------------------------------------


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a ``model.bin`` by its name, those that stand for another (tied ones) included.

    Raises ``ModelError`` for a file that is not one of CTranslate2's Whisper models, or is cut short.
    """
    reader = _Reader(str(path), np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8))
    version = reader.number("<I")
    if version not in _BINARY_VERSIONS:
        raise ModelError(f"{path} is not a model.bin of CTranslate2 that can be read here (binary version {version}).")
    spec, _ = reader.text(), reader.number("<I")
    if spec != "WhisperSpec":
        raise ModelError(f"{path} holds a {spec or 'model without a name'}, not Whisper. Give a Whisper model.")
    arrays: dict[str, np.ndarray] = {}
    for _ in range(reader.number("<I")):
        name = reader.text()
        shape = [reader.number("<I") for _ in range(reader.number("<B"))]
        kind, n_bytes = reader.number("<B"), reader.number("<I")
        raw = reader.take(n_bytes)
        size = int(np.prod(shape, dtype=np.int64))
        if kind not in _DTYPES or n_bytes != size * np.dtype(_DTYPES[kind]).itemsize:
            raise ModelError(
                f"{path}: the array {name!r} of shape {shape} cannot be of type {kind} in {n_bytes} bytes."
            )
        arrays[name] = np.frombuffer(raw, _DTYPES[kind]).reshape(shape)
    for _ in range(reader.number("<I")):
        alias, name = reader.text(), reader.text()
        if name in arrays:
            arrays[alias] = arrays[name]
    return arrays


class _Reader:
    """Little-endian numbers and NUL-ended texts one after another."""

    def __init__(self, source: str, data: np.ndarray) -> None:
        self._source, self._data, self._at = source, data, 0

    def take(self, n: int) -> bytes:
        if self._at + n > len(self._data):
            raise ModelError(f"{self._source} is cut short: {len(self._data)} bytes. Copy or download it again.")
        self._at += n
        return self._data[self._at - n : self._at].tobytes()

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        return self.take(self.number("<H")).rstrip(b"\0").decode(errors="replace")


# --- names -----------------------------------------------------------------------------------------------------------


class _Weights:
    """Arrays under CTranslate2's names, collected under those of transformers."""

    def __init__(self, source: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._source, self._arrays = source, arrays
        self.named: dict[str, Any] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise ModelError(f"{self._source} lacks the array {name!r} of a Whisper model.")
        array = self._arrays[name]
        if array.dtype.kind != "f":
            raise ModelError(
                f"{self._source} holds its weights as {array.dtype.name}, which CTranslate2 alone computes with. Give it to the "
                "ASR plug-in 'faster-whisper', or a model that was converted with --quantization float16."
            )
        return array

    def put(self, name: str, array: np.ndarray) -> None:
        import torch

        self.named[name] = torch.from_numpy(np.array(array))  # a copy: of the file, and of what is tied

    def pair(self, name: str, theirs: str) -> None:
        self.put(f"{name}.weight", self[f"{theirs}/weight"])
        self.put(f"{name}.bias", self[f"{theirs}/bias"])

    def norm(self, name: str, theirs: str) -> None:
        self.put(f"{name}.weight", self[f"{theirs}/gamma"])
        self.put(f"{name}.bias", self[f"{theirs}/beta"])

    def fused(self, name: str, theirs: str, parts: tuple[str, ...]) -> None:
        """One matrix that holds ``parts`` (of q, k, v) one below the other; of the key's bias nothing is kept but that it is zero."""
        weights, biases = (np.split(self[f"{theirs}/{kind}"], len(parts)) for kind in ("weight", "bias"))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            self.put(f"{name}.{part}_proj.weight", weight)
            if part != "k":
                self.put(f"{name}.{part}_proj.bias", bias)
            elif np.any(bias):
                raise ModelError(f"{self._source}: {theirs} has a bias on its key, which Whisper has not.")


def state_dict(source: str, arrays: Mapping[str, np.ndarray], n_layers: Mapping[str, int]) -> dict[str, Any]:
    """The weights of ``WhisperForConditionalGeneration``; ``n_layers`` of ``encoder`` and ``decoder``."""
    found = _Weights(source, arrays)
    for side, count in n_layers.items():
        for n in range(count):
            ours, theirs = f"model.{side}.layers.{n}", f"{side}/layer_{n}"
            found.fused(f"{ours}.self_attn", f"{theirs}/self_attention/linear_0", ("q", "k", "v"))
            found.pair(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            found.norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            if side == "decoder":
                found.fused(f"{ours}.encoder_attn", f"{theirs}/attention/linear_0", ("q",))
                found.fused(f"{ours}.encoder_attn", f"{theirs}/attention/linear_1", ("k", "v"))
                found.pair(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
                found.norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
            found.norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
            found.pair(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            found.pair(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
        found.norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        found.put(f"model.{side}.embed_positions.weight", found[f"{side}/position_encodings/encodings"])
    for convolution in ("conv1", "conv2"):
        found.pair(f"model.encoder.{convolution}", f"encoder/{convolution}")
    found.put("model.decoder.embed_tokens.weight", found["decoder/embeddings/weight"])
    return found.named


def _n_layers(source: str, arrays: Mapping[str, np.ndarray], side: str) -> int:
    numbers = {
        int(name.split("/")[1][6:])
        for name in arrays
        if name.startswith(f"{side}/layer_") and name[len(side) + 7].isdigit()
    }
    if not numbers or numbers != set(range(len(numbers))):
        raise ModelError(f"{source} has the {side} layers {sorted(numbers)}; expected them from 0 on.")
    return len(numbers)


# --- the folder ------------------------------------------------------------------------------------------------------


def _convert(folder: Path, made: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    source = str(folder)
    arrays = read_arrays(folder / "model.bin")
    settings = _json(folder / "config.json")
    sides = {side: _n_layers(source, arrays, side) for side in ("encoder", "decoder")}
    weights = state_dict(source, arrays, sides)
    tokens = _added_tokens(folder / "tokenizer.json")
    generation = _generation_settings(source, settings, tokens, arrays["decoder/embeddings/weight"].shape[0])
    width, n_mels = weights["model.encoder.conv1.weight"].shape[:2]
    config = WhisperConfig(
        vocab_size=weights["model.decoder.embed_tokens.weight"].shape[0],
        d_model=width,
        num_mel_bins=n_mels,
        encoder_layers=sides["encoder"],
        decoder_layers=sides["decoder"],
        encoder_attention_heads=_heads(source, arrays, "encoder"),
        decoder_attention_heads=_heads(source, arrays, "decoder"),
        encoder_ffn_dim=weights["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=weights["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=weights["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=weights["model.decoder.embed_positions.weight"].shape[0],
        bos_token_id=tokens["<|endoftext|>"],
        eos_token_id=tokens["<|endoftext|>"],
        pad_token_id=tokens["<|endoftext|>"],
        decoder_start_token_id=tokens["<|startoftranscript|>"],
    )
    dtype = weights["model.encoder.conv1.weight"].dtype
    model = WhisperForConditionalGeneration(config).to(dtype)
    _load(source, model, weights)
    model.generation_config = generation
    model.save_pretrained(made)
    _save_processor(folder, made, int(n_mels))


def _load(source: str, model: Any, weights: dict[str, Any]) -> None:
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]  # tied in every Whisper
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        raise ModelError(f"{source}: its arrays do not make a Whisper model ({', '.join(wrong[:3])} …).")
    model.load_state_dict(weights)


def _heads(source: str, arrays: Mapping[str, np.ndarray], side: str) -> int:
    if f"{side}/num_heads" not in arrays:
        raise ModelError(f"{source} does not say how many attention heads its {side} has. Convert the model again.")
    return int(arrays[f"{side}/num_heads"])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise ModelError(f"{path} is not readable JSON ({cause}). Convert the model again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON object. Convert the model again.")
    return found


def _added_tokens(path: Path) -> dict[str, int]:
    """Whisper's special tokens by their texts, and the empty token where there is one."""
    table = _json(path)
    added = table.get("added_tokens") or []
    tokens = {str(one.get("content")): int(one["id"]) for one in added if isinstance(one, dict) and "id" in one}
    inner = (table.get("model") or {}).get("vocab") or {}
    tokens.update({"": int(inner[""])} if "" in inner else {})
    missing = [token for token in ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>") if token not in tokens]
    if missing:
        raise ModelError(f"{path} lacks {', '.join(missing)}: it is not Whisper's tokenizer. Convert the model again.")
    return tokens


def _generation_settings(source: str, settings: Mapping[str, Any], tokens: Mapping[str, int], n_tokens: int) -> Any:
    """What CTranslate2's config.json and the tokenizer say of decoding, as transformers wants it.

    A multilingual Whisper is told by its empty token, as CTranslate2 does; the English ones have language tokens too, and never
    learned them.
    """
    from transformers import GenerationConfig
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    multilingual = "" in tokens
    languages = {f"<|{code}|>": tokens[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in tokens}
    tasks = {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate") if f"<|{task}|>" in tokens}
    asked: dict[str, Any] = {"lang_to_id": languages, "task_to_id": tasks} if multilingual else {}
    return GenerationConfig(
        bos_token_id=tokens["<|endoftext|>"],
        eos_token_id=tokens["<|endoftext|>"],
        pad_token_id=tokens["<|endoftext|>"],
        decoder_start_token_id=tokens["<|startoftranscript|>"],
        no_timestamps_token_id=tokens["<|notimestamps|>"],
        prev_sot_token_id=tokens.get("<|startofprev|>"),
        suppress_tokens=_ids(source, settings, "suppress_ids", n_tokens),
        begin_suppress_tokens=_ids(source, settings, "suppress_ids_begin", n_tokens),
        alignment_heads=settings.get("alignment_heads"),
        is_multilingual=multilingual,
        max_initial_timestamp_index=50,
        max_length=_MOST_TRANSCRIPT_TOKENS,
        return_timestamps=False,
        **asked,
    )


def _ids(source: str, settings: Mapping[str, Any], key: str, n_tokens: int) -> list[int]:
    ids = settings.get(key) or []
    if not isinstance(ids, list) or not all(isinstance(one, int) and 0 <= one < n_tokens for one in ids):
        raise ModelError(
            f"{source}: {key} in config.json is not a list of ids below {n_tokens}. Convert the model again."
        )
    return ids


def _save_processor(folder: Path, made: Path, n_mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    shutil.copyfile(folder / "tokenizer.json", made / "tokenizer.json")
    end = "<|endoftext|>"
    tokenizer = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        **{f"{name}_token": end for name in ("bos", "eos", "unk", "pad")},
        "clean_up_tokenization_spaces": False,
        "model_max_length": _MOST_TRANSCRIPT_TOKENS,
    }
    (made / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2), encoding="utf-8")
    if (folder / "preprocessor_config.json").is_file():
        shutil.copyfile(folder / "preprocessor_config.json", made / "preprocessor_config.json")
    else:
        WhisperFeatureExtractor(feature_size=n_mels).save_pretrained(made)
