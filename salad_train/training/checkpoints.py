"""Resumable checkpoints: what is trained and its optimiser's moments, by parameter name, as safetensors. Nothing is pickled.

A folder ``step-0000123`` holds ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``. It is written whole under
another name and then renamed, so that one that is there is a whole one. Sharded parameters are gathered when written and
sharded again when read: a checkpoint does not know how many processes made it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from salad_eval.errors import DataError
from salad_eval.identity import digest, file_sha256
from salad_eval.records import loads, whole_folder, write_json
from salad_train.training.optim import CombinedOptimizer

Parameters = Mapping[str, torch.nn.Parameter]
STATE_FILE, WEIGHTS, MOMENTS = "state.json", "model.safetensors", "optimizer.safetensors"


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """``state.json``: steps done, whether it outlives later ones, the teacher it was trained against, and the sha256 of its other
    files by their names."""

    step: int
    keep: bool
    teacher: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    state: CheckpointState,
    parameters: Parameters,
    optimizer: CombinedOptimizer,
    *,
    writes: bool = True,
    also: Callable[[Path], None] | None = None,
) -> Path:
    """Write ``folder/step-…`` and remove those before it that are not kept.

    Every process must call this, since shards are gathered; only the one that ``writes`` touches the disk. ``also`` may put
    more files into the folder before it counts.
    """
    weights = {name: _whole(parameter) for name, parameter in parameters.items()}
    moments = {
        f"{name}::{key}": _whole(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    target = folder / f"step-{state.step:07d}"
    if not writes:
        return target
    with whole_folder(target) as unfinished:
        save_file(weights, unfinished / WEIGHTS)
        save_file(moments, unfinished / MOMENTS)
        if also is not None:
            also(unfinished)
        sums = {path.name: file_sha256(path) for path in sorted(unfinished.iterdir())}
        write_json(unfinished / STATE_FILE, replace(state, sha256=sums))
    for other in checkpoints_in(folder):
        if other != target and not read_state(other).keep:
            shutil.rmtree(other)
    return target


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def newest_checkpoint(folder: Path) -> Path | None:
    found = checkpoints_in(folder)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> CheckpointState:
    """Raises ``DataError`` where ``checkpoint`` is none."""
    try:
        return loads(CheckpointState, (checkpoint / STATE_FILE).read_bytes(), STATE_FILE)
    except (OSError, DataError) as cause:
        raise DataError(
            f"{checkpoint} is no whole checkpoint ({cause}). Give a folder step-… as training writes them."
        ) from None


def check_files(checkpoint: Path, names: Sequence[str] | None = None) -> None:
    """Raise ``DataError`` naming a file of a checkpoint (one of ``names``) that is not what was written."""
    for name, sha256 in read_state(checkpoint).sha256.items():
        if names is None or name in names:
            try:
                same = file_sha256(checkpoint / name) == sha256
            except OSError:
                same = False
            if not same:
                raise DataError(
                    f"{checkpoint / name} is not what was written (its checksum is another one). Remove {checkpoint}: training goes on "
                    "from a checkpoint before it, or begins anew."
                )


def checkpoint_fingerprint(checkpoint: Path) -> str:
    """Of what a checkpoint holds; wherever it lies."""
    state = read_state(checkpoint)
    return digest(state.sha256 or {name: file_sha256(checkpoint / name) for name in (WEIGHTS, MOMENTS)})


def check_teacher(checkpoint: Path, teacher: str) -> None:
    """Raise ``DataError`` for a checkpoint trained against another teacher: another base LLM, or one of another tokenizer."""
    found = read_state(checkpoint).teacher
    if found and teacher and found != teacher:
        raise DataError(
            f"the checkpoint {checkpoint} was trained against another base LLM (fingerprint {found}, this one is {teacher}); "
            "its tokens may mean other things. Give the base LLM it was trained from."
        )


def weight_names(checkpoint: Path) -> tuple[str, ...]:
    """Of the parameters that a checkpoint holds."""
    return tuple(_load(checkpoint / WEIGHTS))


def load_weights(checkpoint: Path, parameters: Parameters, *, only_known: bool = False) -> None:
    """Copy the checkpoint's weights into ``parameters``, whose names and shapes must be exactly its own.

    ``only_known``: the checkpoint may leave some of ``parameters`` as they are. Raises ``DataError`` naming what differs.
    """
    weights = _load(checkpoint / WEIGHTS)
    odd = set(weights) - set(parameters) if only_known else set(weights) ^ set(parameters)
    if odd:
        raise DataError(
            f"the checkpoint {checkpoint} is of another model or of another choice of what is trained "
            f"(for example {sorted(odd)[:3]})."
        )
    for name, value in weights.items():
        if value.shape != parameters[name].shape:
            raise DataError(
                f"the checkpoint {checkpoint} is of another model: {name} has shape {tuple(value.shape)}, "
                f"expected {tuple(parameters[name].shape)}."
            )
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(_like(value, parameters[name]))


def load_moments(checkpoint: Path, parameters: Parameters, optimizer: CombinedOptimizer) -> None:
    """Give the optimiser the checkpoint's moments. A parameter that had not been stepped has none.

    Raises ``DataError`` where they are missing or of another optimiser.
    """
    moments = _load(checkpoint / MOMENTS)
    names = optimizer.moment_names()
    by_name: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        name, _, moment = key.rpartition("::")
        by_name.setdefault(name, {})[moment] = value
    if not by_name and read_state(checkpoint).step:
        raise DataError(
            f"the checkpoint {checkpoint} holds no optimiser moments. To start from its weights alone, say so."
        )
    for name, found in by_name.items():
        expected = names[parameters[name]] if name in parameters else ()
        if set(found) != set(expected):
            raise DataError(
                f"the checkpoint {checkpoint} was made with another optimiser: {name} has {sorted(found)}, expected "
                f"{sorted(expected)}. Use its optimiser, or start from its weights alone."
            )
    for name, found in by_name.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {key: _like(value, parameter) for key, value in found.items()}


def teacher_fingerprint(teacher: torch.nn.Module, samples: int = 64) -> str:
    """12 hex digits over names, shapes and ``samples`` evenly spaced values of each parameter: cheap at any size, and no two
    base LLMs share it. Take it before the parameters are sharded."""
    digest = hashlib.sha256()
    for name, parameter in teacher.named_parameters():
        flat = parameter.detach().flatten()
        taken = flat[:: max(1, len(flat) // samples)][:samples]
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(taken.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def whole_state_dict(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """``model.state_dict()`` with shards gathered: what ``save_pretrained`` can write. Every process must call it."""
    gathered: dict[tuple[int, torch.Size], torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if _is_sharded(value):
            sharded: Any = value
            memory = (sharded.to_local().data_ptr(), value.shape)  # tied weights stay tied, and are written once
            value = gathered[memory] if memory in gathered else gathered.setdefault(memory, sharded.full_tensor())
        found[name.replace(_CHECKPOINTED, "")] = value
    return found


def named_parameters(model: torch.nn.Module, *, trained: bool = True) -> dict[str, torch.nn.Parameter]:
    """The model's (trained) parameters by the names they have in a checkpoint."""
    return {
        name.replace(_CHECKPOINTED, ""): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or not trained
    }


_CHECKPOINTED = "_checkpoint_wrapped_module."  # put into names by activation checkpointing under FSDP


def _load(path: Path) -> dict[str, torch.Tensor]:
    check_files(path.parent, [path.name])
    try:
        return load_file(path)
    except (OSError, SafetensorError) as cause:
        raise DataError(f"cannot read {path}: {cause}. The checkpoint is not whole; use one before it.") from None


def _is_sharded(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    value: Any = tensor.detach()
    gathered: torch.Tensor = value.full_tensor() if _is_sharded(value) else value
    return gathered.cpu().contiguous()


def _like(value: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
    """``value`` where ``parameter`` is: on its device, and sharded as it is. Counters stay on the CPU."""
    if value.shape != parameter.shape:
        return value
    value = value.to(parameter.device)
    if not _is_sharded(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None)
