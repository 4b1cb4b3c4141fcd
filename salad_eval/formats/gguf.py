"""GGUF files (llama.cpp's format) as folders of transformers.

transformers can read a GGUF, but the model it gives calls itself quantised and will not be saved, and its tokenizer splits numbers
in other places than the one the model was trained with. Here the weights are read once, as float32 and as plain ones, and kept with
a tokenizer that gives llama.cpp's ids.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from salad_eval.errors import MissingExtraError, ModelError
from salad_eval.formats.cache import made_once
from salad_eval.formats.gguf_tokenizer import read_tokenizer
from salad_eval.identity import file_sha256

INSTALL = "pip install 'salad-gap[gguf]'"
_VERSION = 1  # of what this module makes of a file
_MAGIC = b"GGUF"


def gguf_file(path: Path) -> Path | None:
    """The GGUF that ``path`` is or, as a folder that is no checkpoint of transformers, holds; ``None`` where there is none.

    Raises ``ModelError`` for a folder with several.
    """
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise ModelError(
            f"{path} holds {len(found)} GGUF files ({', '.join(one.name for one in found[:4])}…). Give the path of one; one model in "
            "several files is joined by llama.cpp's llama-gguf-split --merge."
        )
    return found[0] if found else None


def as_transformers(file: Path) -> Path:
    """The folder (configuration, float32 safetensors, tokenizer) that was made of ``file``; made now if it is not there.

    Its size is four bytes a parameter. Raises ``MissingExtraError`` without the packages that read a GGUF, and ``ModelError`` for a
    file that is none, one of several parts, or whose architecture or tokenizer is not known.
    """
    import transformers

    with open(file, "rb") as opened:
        if opened.read(4) != _MAGIC:
            raise ModelError(f"{file} is not a GGUF file (it does not begin with the letters GGUF). Download it again.")
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"{file.name}, a GGUF file,", package, INSTALL)
    made_by = f"v{_VERSION}-{transformers.__version__}"
    return made_once(f"gguf-{file_sha256(file)[:16]}-{made_by}", lambda folder: _convert(file, folder))


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    from salad_eval.checkpoints import check_complete, explained

    with explained(str(file), "tokenizer"):
        tokenizer = read_tokenizer(file)
    with explained(str(file), "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32, output_loading_info=True,
            quantization_config=GgufConfig(dequantize=True),
        )  # fmt: skip
    model, info = loaded
    check_complete(str(file), info)
    # It was unpacked, but still calls itself quantised; such a model is not saved.
    model.hf_quantizer = None
    model.is_quantized = False
    for config in (model.config, getattr(model.config, "text_config", None)):
        if config is not None and hasattr(config, "quantization_config"):
            del config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
