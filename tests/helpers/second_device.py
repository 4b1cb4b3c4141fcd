"""A second device for tests on machines that have none: ``second``, whose tensors hold one of the CPU and compute by it.

    register()
    torch.ones(3).to("second")

As on a GPU, an operation of tensors on two devices fails and so does ``numpy()`` of one that is not on the CPU; autograd, optimisers and
checkpoints work. It stays registered as long as the process lives, so a test gives it one of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"
_COPIES = ("aten._copy_from.default", "aten._copy_from_and_resize.default", "aten.copy_.default")
_VIEWS = ("aten.view.default", "aten._unsafe_view.default", "aten._reshape_alias.default")
# A tensor's storage → its tensor of the CPU. A shallow copy that autograd makes has the same storage, and nothing else of its original.
_held: dict[int, torch.Tensor] = {}
_libraries: list[torch.library.Library] = []


class _Module:
    """What torch asks a device's module."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def nothing(self, *_: object) -> None:
        """Of one device there is nothing to set, to seed or to wait for."""

    set_device = set_rng_state = manual_seed = manual_seed_all = synchronize = empty_cache = nothing

    def get_rng_state(self, *_: object) -> torch.Tensor:
        return torch.get_rng_state()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Second(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _Second:
        made = torch._C._acc.create_empty_tensor(inner.shape, inner.dtype)
        made.__class__ = _Second
        _held[made.untyped_storage()._cdata] = inner
        return made  # type: ignore[no-any-return]


def inner(value: Any) -> Any:
    """What a tensor of the device holds, the CPU for the device itself, and everything else as it is."""
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    if isinstance(value, torch.Tensor) and value.device.type == NAME:
        return _held[value.untyped_storage()._cdata]
    return value


def _call(op: Any, *args: Any, **kwargs: Any) -> Any:
    if str(op) in _COPIES:
        source, target = args[:2] if "from" in str(op) else args[1::-1]
        inner(target).copy_(inner(source))
        return target
    given, form = pytree.tree_flatten((args, kwargs))
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    elsewhere = [tuple(one.shape) for one in tensors if one.device.type != NAME and one.ndim]
    if elsewhere and "copy" not in str(op):
        raise RuntimeError(f"expected all tensors on one device, but {op} was given some on the CPU: {elsewhere}")
    own = {id(inner(one)): one for one in tensors if one.device.type == NAME}
    inner_args, inner_kwargs = pytree.tree_unflatten([inner(one) for one in given], form)
    # Strides are the inner tensor's alone, so what looks like a view may need a copy.
    found = inner_args[0].reshape(inner_args[1]) if str(op) in _VIEWS else op(*inner_args, **inner_kwargs)
    to_cpu = kwargs.get("device") is not None and kwargs["device"].type == "cpu"

    def outer(value: Any) -> Any:
        if to_cpu or not isinstance(value, torch.Tensor):
            return value
        return own[id(value)] if id(value) in own else _Second(value)

    return pytree.tree_map(outer, found)


def _kernel(op: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: _call(op, *args, **kwargs)


def register() -> None:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    every = torch.library.Library("_", "IMPL")
    every.fallback(_call, "PrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    _libraries.extend((every, aten))  # a library that is collected takes its kernels back
    names = {
        name
        for key in ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
        for name in torch._C._dispatch_get_registrations_for_dispatch_key(key)
        if name.startswith("aten::")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some have a kernel for every device, which must not be taken here
        for name in sorted(names):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            op = getattr(getattr(torch.ops.aten, packet), overload or "default")
            aten.impl(name.removeprefix("aten::"), _kernel(op), "PrivateUse1")
