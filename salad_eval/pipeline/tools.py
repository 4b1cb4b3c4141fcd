"""What a process has opened for the steps it works on: plug-ins, models and audio stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from salad_eval import plugins
from salad_eval.audio.store import AudioStore
from salad_eval.identity import digest
from salad_eval.pipeline.care import Caller

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_CALLED: Mapping[str, str] = {"salad.tts": "TTS", "salad.asr": "ASR", "salad.systems": "system"}


@runtime_checkable
class Ref(Protocol[T_co]):
    """A record that holds all that another process needs to open something."""

    def key(self) -> str:
        """Equal for what is the same."""
        ...

    def open(self) -> T_co: ...


@dataclass(frozen=True, slots=True)
class PluginRef:
    """A plug-in by name and what it is built with: all that another process needs to build it."""

    group: plugins.Group
    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the {_CALLED.get(self.group, self.group)} plug-in {self.name!r}"

    def key(self) -> str:
        return digest(self)

    def open(self) -> Any:
        return plugins.create(self.group, self.name, self.options)


class Tools:
    """Each is opened once, when it is first asked for."""

    def __init__(self) -> None:
        self._opened: dict[str, Any] = {}
        self._stores: dict[str, AudioStore] = {}
        self._callers: dict[str, Caller] = {}

    def caller(self, ref: PluginRef) -> Caller:
        """Who asks that plug-in, and counts on what it fails."""
        return self._callers.setdefault(ref.key(), Caller(str(ref)))

    def plugin(self, ref: PluginRef) -> Any:
        return self.open(ref)

    def open(self, ref: Ref[T]) -> T:
        """What a reference stands for."""
        key = ref.key()
        if key not in self._opened:
            self._opened[key] = ref.open()
        found: T = self._opened[key]
        return found

    def put(self, ref: Ref[T], opened: T) -> None:
        """Take what is open already."""
        self._opened[ref.key()] = opened

    def has(self, ref: Ref[Any]) -> bool:
        return ref.key() in self._opened

    def release(self, ref: Ref[Any]) -> None:
        """Let go of what no later step needs; its memory is free for the next one."""
        self._opened.pop(ref.key(), None)

    def keep(self, refs: Iterable[Ref[Any]]) -> None:
        """Let go of all but these."""
        kept = {ref.key() for ref in refs}
        self._opened = {key: opened for key, opened in self._opened.items() if key in kept}

    def store(self, root: str) -> AudioStore:
        return self._stores.setdefault(root, AudioStore(root))

    def use(self, store: AudioStore) -> None:
        """Take a store that is open already."""
        self._stores[str(store.root)] = store
