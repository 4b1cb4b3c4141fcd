"""What a process has opened for the steps it works on: plug-ins and audio stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from salad_eval import plugins
from salad_eval.audio.store import AudioStore
from salad_eval.identity import digest
from salad_eval.pipeline.care import Caller

_CALLED: Mapping[str, str] = {"salad.tts": "TTS", "salad.asr": "ASR", "salad.systems": "system"}


@dataclass(frozen=True, slots=True)
class PluginRef:
    """A plug-in by name and what it is built with: all that another process needs to build it."""

    group: plugins.Group
    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the {_CALLED.get(self.group, self.group)} plug-in {self.name!r}"


class Tools:
    """Each is opened once, when it is first asked for."""

    def __init__(self) -> None:
        self._plugins: dict[str, Any] = {}
        self._stores: dict[str, AudioStore] = {}
        self._callers: dict[str, Caller] = {}

    def caller(self, ref: PluginRef) -> Caller:
        """Who asks that plug-in, and counts on what it fails."""
        return self._callers.setdefault(digest(ref), Caller(str(ref)))

    def plugin(self, ref: PluginRef) -> Any:
        key = digest(ref)
        if key not in self._plugins:
            self._plugins[key] = plugins.create(ref.group, ref.name, ref.options)
        return self._plugins[key]

    def has(self, ref: PluginRef) -> bool:
        return digest(ref) in self._plugins

    def release(self, ref: PluginRef) -> None:
        """Let go of a plug-in that no later step needs; its memory is free for the next one."""
        self._plugins.pop(digest(ref), None)

    def keep(self, refs: Iterable[PluginRef]) -> None:
        """Let go of all plug-ins but these."""
        kept = set(map(digest, refs))
        self._plugins = {key: plugin for key, plugin in self._plugins.items() if key in kept}

    def store(self, root: str) -> AudioStore:
        return self._stores.setdefault(root, AudioStore(root))

    def use(self, store: AudioStore) -> None:
        """Take a store that is open already."""
        self._stores[str(store.root)] = store
