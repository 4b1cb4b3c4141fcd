"""A voice that is not ours is built in a process of its own before it is built here: what ends its process ends that one.

A library that calls ``exit``, or crashes while it loads a model, would otherwise take the run along without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salad_eval import plugins
from salad_eval.errors import PluginError
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.pipeline.worker import Worker, WorkerDied


@dataclass(frozen=True, slots=True)
class Built:
    """What a plug-in says that it is."""

    fingerprint: str


def build(tools: Tools, setup: PluginRef, chunk: Sequence[PluginRef]) -> list[Built]:
    """Build plug-ins; ``setup`` is the first of them."""
    return [Built(str(tools.plugin(ref).fingerprint())) for ref in chunk]


def is_strange(ref: PluginRef) -> bool:
    """Whether a plug-in speaks by code that does not come with this package."""
    if ref.group != "salad.tts":
        return False
    engines = ref.options.get("engines") if ref.name == "several" else None
    named = (
        [one.get("name") for one in engines.values() if isinstance(one, Mapping)]
        if isinstance(engines, Mapping)
        else []
    )
    foreign = {info.name for info in plugins.available("salad.tts") if not info.is_ours}
    return any(name in foreign for name in (ref.name, *named) if isinstance(name, str))


def opened(tools: Tools, ref: PluginRef) -> Any:
    """The plug-in, opened in this process once it was seen to open in another, if it is strange.

    Raises ``PluginError`` for one that ends its process, or is not built in ten minutes, and what it raises itself.
    """
    if not tools.has(ref):
        try_out(ref)
    return tools.plugin(ref)


def try_out(ref: PluginRef) -> None:
    """Build a strange plug-in elsewhere. Raises as ``opened``."""
    if not is_strange(ref):
        return
    worker = Worker()
    try:
        worker.take_up(build, ref)
        worker.ask([ref])
    except WorkerDied as cause:
        raise PluginError(f"{ref} cannot be built: its {cause}. Mend it or its options, or name another.") from None
    finally:
        worker.close()
