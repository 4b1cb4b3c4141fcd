"""A model whose frozen parts lie elsewhere: beside its configuration stand the weights of its own and the names of the models that it
shares the others with. An adapter between a text LLM and an audio encoder is so some megabytes instead of both models again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad_eval.errors import DataError, ModelError
from salad_eval.formats.cache import made_once
from salad_eval.identity import file_sha256
from salad_eval.records import loads, whole_folder, write_json

if TYPE_CHECKING:
    import torch

STATED, OWN = "parts.json", "own.safetensors"
_VERSION = 1  # of what this module makes of a folder
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Part:
    """Weights that are another model's.

    Attributes:
        pretrained: that model, as a user would name it.
        prefix: what their names begin with in the whole.
        there: what the same begin with in that model.
        names: the rest of their names.
        sha256: of their numbers, as the whole has them.
    """

    pretrained: str
    prefix: str
    there: str
    names: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Parts:
    """``parts.json``. ``dtype``: of the whole's numbers, such as ``float32``."""

    dtype: str
    parts: tuple[Part, ...]


def is_parts_folder(path: Path) -> bool:
    return (path / STATED).is_file()


def as_transformers(folder: Path) -> Path:
    """The folder of transformers with all weights in it, put together from ``folder`` and the models it names; made now if it is not
    there. Raises ``ModelError`` where one of these has other weights than were trained with, and for damage."""
    import transformers

    stated = _read(folder)
    identity = "\n".join(f"{path.name} {file_sha256(path)}" for path in _files(folder))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    name = f"parts-{digest}-v{_VERSION}-{transformers.__version__}"
    return made_once(name, lambda made: _join(folder, stated, made))


def split(whole: Path, shared: Mapping[str, str], out: Path, own_dtype: str | None = None) -> Path:
    """Write ``whole``, a folder of transformers, as a folder that names what it shares; returns ``out``.

    Args:
        shared: models by the prefix that their weights have in the whole.
        own_dtype: what the weights of its own are stored in, such as ``float16``; by default as they are.

    Raises ``ModelError`` where weights under a prefix are not those of the model named: they were trained.
    """
    import torch
    from safetensors.torch import save_file

    with _opened(whole) as here:
        dtype = next(one.dtype for one in (read() for read in here.values()) if one.is_floating_point())
        parts = tuple(_shared(here, prefix, name, dtype) for prefix, name in shared.items())
        elsewhere = {part.prefix + name for part in parts for name in part.names}
        own = {name: read() for name, read in here.items() if name not in elsewhere}
        if own_dtype is not None:
            own = _in_dtype(own, getattr(torch, own_dtype))
        with whole_folder(out) as unfinished:
            save_file(own, unfinished / OWN, metadata={"format": "pt"})
            _copy_rest(whole, unfinished)
            write_json(unfinished / STATED, Parts(str(dtype).removeprefix("torch."), parts))
    return out


def _read(folder: Path) -> Parts:
    import torch

    file = folder / STATED
    try:
        stated = loads(Parts, file.read_bytes(), str(file))
    except DataError as cause:
        raise ModelError(str(cause)) from None
    if not isinstance(getattr(torch, stated.dtype, None), torch.dtype):
        raise ModelError(f"{file}: dtype is {stated.dtype!r}; expected one of torch's, such as float32.")
    return stated


def _join(folder: Path, stated: Parts, made: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from salad_eval.checkpoints import explained

    dtype = getattr(torch, stated.dtype)
    with explained(str(folder / OWN), "weights"), _opened(folder) as own:
        weights = _in_dtype({name: read() for name, read in own.items()}, dtype)
    for part in stated.parts:
        with _opened(_folder(part.pretrained)) as there:
            lacking = [part.there + name for name in part.names if part.there + name not in there]
            found = {} if lacking else _in_dtype({name: there[part.there + name]() for name in part.names}, dtype)
        if lacking or _digest(found) != part.sha256:
            raise ModelError(
                f"{folder} was trained with other weights than {part.pretrained} has. Give that model in the version that it was "
                "trained with."
            )
        weights.update({part.prefix + name: one for name, one in found.items()})
    save_file(weights, made / _WEIGHTS, metadata={"format": "pt"})
    _copy_rest(folder, made)


def _shared(here: Mapping[str, Callable[[], torch.Tensor]], prefix: str, pretrained: str, dtype: torch.dtype) -> Part:
    """The weights under ``prefix``, found in the model named."""
    import torch

    names = sorted(name.removeprefix(prefix) for name in here if name.startswith(prefix))
    with _opened(_folder(pretrained)) as there:
        heads = [name.removesuffix(names[0]) for name in there if names and name.endswith(names[0])]
        for head in heads:
            if all(head + name in there for name in names):
                found = _in_dtype({name: there[head + name]() for name in names}, dtype)
                if all(torch.equal(one, here[prefix + name]()) for name, one in found.items()):
                    return Part(_stated(pretrained), prefix, head, tuple(names), _digest(found))
    raise ModelError(f"the weights {prefix}… are not those of {pretrained}: they were trained, or are another model's.")


@contextmanager
def _opened(folder: Path) -> Iterator[Mapping[str, Callable[[], torch.Tensor]]]:
    """The tensors of a folder by name, each read when it is called."""
    from safetensors import safe_open

    found: dict[str, Callable[[], torch.Tensor]] = {}
    with ExitStack() as files:
        for file in sorted(folder.glob("*.safetensors")):
            opened: Any = files.enter_context(safe_open(file, "pt"))
            found.update({name: partial(opened.get_tensor, name) for name in opened.keys()})  # noqa: SIM118 -- no dict
        yield found


def _folder(pretrained: str) -> Path:
    """Where a model's weights lie; of a hub id, its files in the hub's cache, fetched if they are not there."""
    from salad_eval.checkpoints import explained
    from salad_eval.resources import resolve_pretrained

    source = resolve_pretrained(pretrained)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    with explained(source, "model"):
        return Path(snapshot_download(source, allow_patterns=["*.safetensors", "*.json"]))


def _stated(pretrained: str) -> str:
    """As it is to be found from any folder: a local path whole, every other name as it is."""
    local = Path(pretrained).expanduser()
    return str(local.resolve()) if local.exists() else pretrained


def _in_dtype(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: one.to(dtype) if one.is_floating_point() else one for name, one in weights.items()}


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    import torch

    hasher = hashlib.sha256()
    for name in sorted(weights):
        one = weights[name].contiguous()
        hasher.update(f"{name} {tuple(one.shape)} {one.dtype}\n".encode())
        hasher.update(one.flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _copy_rest(source: Path, out: Path) -> None:
    """All but weights and this module's own files."""
    for path in _files(source):
        if path.suffix != ".safetensors" and path.name not in (STATED, "model.safetensors.index.json"):
            shutil.copyfile(path, out / path.name)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file())
