"""Loading causal LMs from an embedded model, a folder or the hub, with errors that say what is wrong with the
checkpoint.

Weights are safetensors. Pickle weights can run code when they are read and are refused unless asked for by name, and so
is code that a checkpoint brings along.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from salad_eval.errors import MissingExtraError, ModelError, UserInputError, did_you_mean
from salad_eval.formats.peft import Sources, sources, with_adapter
from salad_eval.identity import file_sha256
from salad_eval.records import parse_json
from salad_eval.resources import resolve_pretrained

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
Weights = Literal["safetensors", "pickle"]
Quantization = Literal["8bit", "4bit"]
LIBRARIES = ("tokenizers", "torch", "transformers")  # whose versions decide what a model of transformers answers
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer_config.json",
)


def load_causal_lm(
    pretrained: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    weights: Weights = "safetensors",
    quantization: Quantization | None = None,
    peft: str | None = None,
    **model_kwargs: Any,
) -> tuple[Any, Any]:
    """A causal LM in evaluation mode and its tokenizer.

    ``pretrained`` is ``nano/base``, a folder, a GGUF file, a hub id, or the folder of a PEFT adapter, which is folded into the
    base model that it names; ``peft`` is such a folder whose base is ``pretrained``. ``dtype`` is one of ``DTYPES`` (``auto``:
    as the checkpoint was saved). ``device`` is ``auto`` (a GPU where there is one) or what torch calls a device; with
    ``device_map`` among ``model_kwargs`` (which go to ``from_pretrained``) it is left to that. ``weights="pickle"`` allows
    ``.bin`` files. ``quantization`` needs the package bitsandbytes.

    Raises ``ModelError``, naming the path and what is missing or wrong: no configuration, no weights, no tokenizer, not
    a causal LM, corrupt or incomplete weights, a tokenizer with more tokens than the model, a hub that cannot be
    reached.
    """
    from transformers import AutoModelForCausalLM

    source, adapter = located(pretrained, peft, weights=weights, quantization=quantization)
    config = load_config(source, revision=revision, trust_remote_code=trust_remote_code)
    _check_causal_lm(source, config, trust_remote_code)
    own_tokenizer = adapter if adapter is not None and has_tokenizer(adapter) else source
    tokenizer = load_tokenizer(str(own_tokenizer), revision=revision, trust_remote_code=trust_remote_code)
    kwargs = loading_options(
        dtype, device, weights, quantization, revision=revision, trust_remote_code=trust_remote_code, **model_kwargs
    )
    with explained(source, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, config=config, output_loading_info=True, **kwargs)
    model, info = loaded
    return ready(source, model, info, tokenizer, adapter, None if "device_map" in kwargs else device), tokenizer


def located(
    pretrained: str, peft: str | None, *, weights: Weights, quantization: str | None
) -> tuple[str, Path | None]:
    """Where a model's own weights lie, checked, and the adapter that is to be folded into them."""
    stated = sources(pretrained, peft)
    check_foldable(stated, quantization)
    source = resolve_pretrained(stated.base)
    check_folder(source, weights=weights)
    return source, stated.adapter


def loading_options(
    dtype: str, device: str, weights: Weights, quantization: Quantization | None, **more: Any
) -> dict[str, Any]:
    """What ``from_pretrained`` is told; what nobody states (``None`` among ``attn_implementation`` and the like) is left to it.

    A revision is told all the same: ``None`` is a hub's default branch, and what is left out is ``main``.
    """
    stated = {key: value for key, value in more.items() if value is not None or key == "revision"}
    kwargs = {"dtype": torch_dtype(dtype), "use_safetensors": weights == "safetensors", **stated}
    if quantization is not None:
        kwargs["quantization_config"] = quantization_config(quantization)
        kwargs.setdefault("device_map", resolve_device(device))
    return kwargs


def ready(
    source: str, model: Any, info: Mapping[str, Any], tokenizer: Any, adapter: Path | None, device: str | None
) -> Any:
    """A loaded model, checked, with its adapter folded in, on its device (``None``: where it is) and in evaluation mode."""
    check_complete(source, info)
    check_vocabulary(source, model, tokenizer)
    if adapter is not None:
        model = with_adapter(model, adapter)
    return (model if device is None else model.to(resolve_device(device))).eval()


def load_tokenizer(source: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a resolved folder or hub id; ``ModelError`` where there is none or it cannot be read."""
    from transformers import AutoTokenizer

    if Path(source).is_dir() and not has_tokenizer(Path(source)):
        raise ModelError(
            f"{source} holds a model but no tokenizer (expected one of {', '.join(_TOKENIZER_FILES)}). "
            f"Copy the tokenizer it was trained with into that folder."
        )
    with explained(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def check_foldable(stated: Sources, quantization: str | None) -> None:
    """An adapter is folded into weights, and quantised ones would be rounded again. Raises ``UserInputError``."""
    if stated.adapter is not None and quantization is not None:
        raise UserInputError(
            f"quantization is {quantization!r} for a model with an adapter ({stated.adapter}), which is folded into the weights. "
            "Leave quantization out, or merge the two and give the merged model."
        )


# --- what the caller asks for ----------------------------------------------------------------------------------------


def torch_dtype(name: str) -> Any:
    """The torch dtype of that name, or ``"auto"``; ``UserInputError`` for any other."""
    import torch

    if name not in DTYPES:
        raise UserInputError(
            f"dtype {name!r} is not supported{did_you_mean(name, DTYPES)}. Expected one of {', '.join(DTYPES)}."
        )
    return name if name == "auto" else getattr(torch, name)


def resolve_device(name: str) -> str:
    """``auto`` becomes ``cuda`` where a GPU is there and ``cpu`` where not; ``UserInputError`` for a device torch
    cannot use.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as cause:
        raise UserInputError(f"device {name!r} is not one that torch knows. Use auto, cpu, cuda or cuda:N.") from cause
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserInputError(f"device {name!r} was asked for, but torch sees no GPU here. Use auto or cpu.")
    return name


def default_batch_tokens(model: Any) -> int:
    """New positions a forward pass should hold: a GPU wants many; a CPU is fastest while activations fit its caches."""
    return 16_384 if next(iter(model.parameters())).device.type == "cuda" else 1024


def quantization_config(quantization: str) -> Any:
    """What transformers loads 8-bit or 4-bit weights by; ``MissingExtraError`` without bitsandbytes."""
    import importlib.util

    from transformers import BitsAndBytesConfig

    if quantization not in ("8bit", "4bit"):
        raise UserInputError(f"quantization {quantization!r} is not supported. Expected 8bit, 4bit or none at all.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError(f"{quantization} quantization", "bitsandbytes", "pip install bitsandbytes accelerate")
    return BitsAndBytesConfig(load_in_8bit=quantization == "8bit", load_in_4bit=quantization == "4bit")


# --- what is wrong with a checkpoint ---------------------------------------------------------------------------------


def check_folder(source: str, *, weights: Weights = "safetensors") -> None:
    """Check what a local checkpoint folder holds; a hub id is left to the hub. Raises ``ModelError`` naming what is
    missing.
    """
    if weights not in ("safetensors", "pickle"):
        raise UserInputError(f"weights {weights!r} is not a kind of file. Expected safetensors or pickle.")
    folder = Path(source)
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        adapter = (
            " It holds a PEFT adapter, which hf-text, hf-speech and salad take; here, merge it into its base model first."
            if (folder / "adapter_config.json").is_file()
            else ""
        )
        raise ModelError(f"{source} has no config.json, so it is not a Hugging Face model folder.{adapter}")
    if any(folder.glob("*.safetensors")):
        _check_shards(folder)
    elif not any(folder.glob("*.bin")):
        raise ModelError(
            f"{source} has a config.json but no weights (expected model.safetensors). Was it saved completely?"
        )
    elif weights != "pickle":
        raise ModelError(
            f"{source} holds its weights as pickle (.bin) only, which can run code when read. Convert them to "
            f"safetensors (load once, save_pretrained), or ask for them with weights=pickle if you trust their source."
        )


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    shards = _shards(index)
    missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} of {len(shards)} weight files: {', '.join(missing[:5])}.")


def _shards(index: Path) -> set[str]:
    """The weight files that an index names."""
    try:
        return set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as cause:
        raise ModelError(f"{index} is not a readable index of weights: {cause!r}. Download the model again.") from cause


def load_config(source: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The configuration of a resolved folder or hub id; ``ModelError`` where there is none or it cannot be read."""
    from transformers import AutoConfig

    with explained(source, "configuration"):
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)


def architecture(config: Any) -> str:
    """What a checkpoint says it is, for messages."""
    return ", ".join(getattr(config, "architectures", None) or []) or type(config).__name__


def load_weights(
    source: str,
    model_class: Any,
    *,
    config: Any,
    dtype: str,
    weights: Weights,
    optional: tuple[str, ...] = (),
    **hub: Any,
) -> Any:
    """A model with all its weights; ``optional`` are the endings of names that may be missing. ``hub``: revision and the like."""
    with explained(source, "model"):
        model, info = model_class.from_pretrained(
            source,
            config=config,
            dtype=torch_dtype(dtype),
            use_safetensors=weights == "safetensors",
            output_loading_info=True,
            **hub,
        )
    missing = [key for key in info["missing_keys"] if not str(key).endswith(optional)]
    check_complete(source, {**info, "missing_keys": missing})
    return model


def _check_causal_lm(source: str, config: Any, trust_remote_code: bool) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures = list(getattr(config, "architectures", None) or [])
    own_code = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if own_code:
        return
    known = {
        name
        for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        for name in ([names] if isinstance(names, str) else names)
    }
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or (architectures and not known.intersection(architectures)):
        raise ModelError(
            f"{source} is a {architecture(config)}, not a causal language model. Give a text LM here (an architecture …ForCausalLM)."
        )


def check_complete(source: str, info: Mapping[str, Any]) -> None:
    """Refuse weights that are missing or of another shape: transformers fills those with random numbers and goes on."""
    for kind in ("missing_keys", "mismatched_keys"):
        keys = sorted(str(key[0] if isinstance(key, (tuple, list)) else key) for key in info.get(kind) or ())
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ModelError(f"{source}: its weights do not fit its configuration ({kind.replace('_', ' ')}: {shown}).")


def check_vocabulary(source: str, model: Any, tokenizer: Any) -> None:
    """A tokenizer that yields ids the model has no embedding for belongs to another model."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens and the model {rows} embeddings: not a pair."
        )


@contextmanager
def explained(source: str, what: str) -> Iterator[None]:
    """Load ``what`` from ``source`` in the block, without a bar of transformers': a library's failure becomes a ``ModelError`` that
    names both and the likely cause."""
    if (transformers := sys.modules.get("transformers.utils.logging")) is not None:
        transformers.disable_progress_bar()
    try:
        yield
    except (ModelError, UserInputError):
        raise
    except Exception as cause:
        raise ModelError(f"cannot load the {what} of {source}: {_reason(source, cause)}") from cause


def _reason(source: str, cause: Exception) -> str:
    """What a failure means for the user, in a sentence or two."""
    chain: list[BaseException] = []
    link: BaseException | None = cause
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    names = {type(link).__name__ for link in chain}
    text = " ".join(str(cause).split())
    short = text if len(text) <= 300 else text[:300] + "…"
    if Path(source).is_dir():
        if "SafetensorError" in names:
            return f"a safetensors file is corrupt or cut short ({short}). Copy or download it again."
        if "trust_remote_code" in text:
            return "it needs code of its own. Set trust_remote_code=true if you trust its source."
        return f"{type(cause).__name__}: {short}"
    if names & {"GatedRepoError"}:
        return "it is gated on the hub. Accept its licence there and log in with: hf auth login"
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return "the hub has no such repository or revision (or it is private), and there is no such folder."
    offline = {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "MaxRetryError",
        "ProxyError",
    }
    if names & offline or "couldn't connect" in text or "offline mode" in text:
        return (
            "it is neither a local folder nor in the local cache, and the hub cannot be reached. Check the name and "
            "the network, or give the folder of a downloaded copy."
        )
    if "trust_remote_code" in text:
        return "it needs code of its own. Set trust_remote_code=true if you trust its source."
    return f"{type(cause).__name__}: {short}"


# --- identity --------------------------------------------------------------------------------------------------------

Part = Literal["weights", "tokenizer", "processor", "generation"]
PARTS: tuple[Part, ...] = ("weights", "tokenizer", "processor", "generation")
_PART_OF: Mapping[str, Part] = {
    "generation_config.json": "generation",
    "preprocessor_config.json": "processor",
    "processor_config.json": "processor",
    "audio_tokenizer_config.json": "processor",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer",
    "special_tokens_map.json": "tokenizer",
    "added_tokens.json": "tokenizer",
    "vocab.json": "tokenizer",
    "vocabulary.json": "tokenizer",
    "normalizer.json": "tokenizer",
    "tekken.json": "tokenizer",
}
_PART_OF_KIND: Mapping[str, Part] = {
    ".json": "weights",  # the configuration, an adapter's, a quantiser's; a class with code of its own may read any
    ".py": "weights",
    ".gguf": "weights",
    ".txt": "tokenizer",
    ".model": "tokenizer",
    ".spm": "tokenizer",
    ".tiktoken": "tokenizer",
    ".codes": "tokenizer",
}
# Written beside a model by those who train and publish it, and read by nobody who runs it; weights and templates are looked at apart.
_NEVER_READ = re.compile(
    r"trainer_state\.json|.*_results\.json|(requirements|licen[sc]e|notice)[^/]*\.txt|.*\.index\.json|chat_template\.(json|jinja)",
    re.IGNORECASE,
)
# What a settings file says of itself and not of the model. A tokenizer's padding is set anew by whoever pads.
_SAYS_NOTHING = ("_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version", "chat_template")
_OF_BATCHES = ("padding", "truncation")


def model_identity(
    pretrained: str,
    model: Any = None,
    *,
    parts: Collection[Part] = PARTS,
    weights: Weights = "safetensors",
    peft: str | None = None,
) -> str:
    """What identifies a checkpoint, wherever it lies: ``sha256:…`` of a folder, ``hub:<id>@<commit>`` of a hub id; with an adapter,
    its own after the base's. ``model`` knows the commit of a hub id; ``parts`` and ``weights`` are those of ``folder_identity``.
    """
    stated = sources(pretrained, peft)
    source = resolve_pretrained(stated.base)
    if Path(source).is_dir():
        base = folder_identity(Path(source), parts=parts, weights=weights)
    else:
        commit = getattr(getattr(model, "config", None), "_commit_hash", None)
        base = f"hub:{source}@{commit or 'unknown'}"
    return base if stated.adapter is None else f"{base}+peft {folder_identity(stated.adapter, parts=parts)}"


def folder_identity(folder: Path, *, parts: Collection[Part] = PARTS, weights: Weights = "safetensors") -> str:
    """``sha256:…`` of a model's folder.

    It changes with every file that a loader reads of the ``parts``: the weight files that ``weights`` takes, configuration, code and
    LoRA adapter; tokenizer; processor; generation settings. It does not change with what is only written beside a model (cards,
    licences, optimizer states, weights in another format), nor with what says nothing of it (the name it was saved under, the version
    that saved it). A chat template is left to the system that uses one.

    File hashes are kept for the process by path, size and modification time, so that asking again is free.
    """
    digest = hashlib.sha256()
    for file in _files_read(folder, parts, weights):
        stat = file.stat()
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{_file_sha256(str(file), stat.st_size, stat.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def library_versions(*names: str) -> str:
    """``name=version`` of each installed package of those, joined by commas; what a build adds after ``+`` is left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in sorted(names):
        try:
            found.append(f"{name}={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return ",".join(found)


def _files_read(folder: Path, parts: Collection[Part], weights: Weights) -> list[Path]:
    top = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    chosen = [path for path in top if not _NEVER_READ.fullmatch(path.name) and _part_of(path) in parts]
    if "weights" in parts:
        nested = (path for path in folder.glob("*/**/*.py") if "__pycache__" not in path.parts)
        chosen += [*_weight_files(top, weights), *sorted(nested)]
    return chosen


def _part_of(path: Path) -> Part | None:
    return _PART_OF.get(path.name, _PART_OF_KIND.get(path.suffix))


def _weight_files(files: Sequence[Path], weights: Weights) -> list[Path]:
    """What is read of a folder's weights: one whole file, or else the shards that an index names, and the adapter's; CTranslate2's file
    whatever lies beside it."""
    named = {path.name: path for path in files}
    pickled = {name: path for name, path in named.items() if path.suffix == ".bin" and name != "training_args.bin"}
    safe = {name: path for name, path in named.items() if path.suffix == ".safetensors"}
    converted = ["model.bin"] if "model.bin" in named and weights == "safetensors" else []
    by_pickle = weights == "pickle" or not (safe or converted)
    kind, stem = (pickled, "pytorch_model.bin") if by_pickle else (safe, "model.safetensors")
    if stem in kind:
        chosen = [stem]
    elif f"{stem}.index.json" in named:
        chosen = sorted(_shards(named[f"{stem}.index.json"]) & kind.keys())
    else:
        chosen = sorted(kind)
    if "adapter_config.json" in named:
        chosen += [name for name in ("adapter_model.safetensors", "adapter_model.bin") if name in named]
    return [named[name] for name in dict.fromkeys([*chosen, *converted])]


@lru_cache(maxsize=1024)
def _file_sha256(path: str, size: int, mtime_ns: int) -> str:
    """Of a file's bytes; of a settings file, of what it says but for what says nothing."""
    if path.endswith(".json"):
        try:
            settings = parse_json(Path(path).read_bytes())
        except ValueError:  # whoever loads it will say so
            settings = None
        if isinstance(settings, dict):
            silent = (*_SAYS_NOTHING, *(_OF_BATCHES if Path(path).name == "tokenizer.json" else ()))
            said = {key: value for key, value in settings.items() if key not in silent}
            return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return file_sha256(path)
