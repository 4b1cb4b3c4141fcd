"""The plug-ins of a plan, each built once and only when a step needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from salad_eval import plugins
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.formats.peft import sources
from salad_eval.identity import digest
from salad_eval.pipeline.folder import RunFolder
from salad_eval.pipeline.plan import Plan
from salad_eval.resources import locate_pretrained, resolve_path
from salad_eval.types import ASR, TTS, System

Role = Literal["tts", "asr", "base", "adapted"]
WRITTEN_BY_PLUGINS = ("frames", "cache")  # options that name what a plug-in keeps for itself


class Loaded:
    """Plug-ins by role, and the audio store. Nothing is loaded by making one."""

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        self.store = AudioStore(plan.audio_store)
        self._folder = folder
        self._choices: dict[Role, tuple[plugins.Group, str, Mapping[str, Any]]] = {
            "asr": ("salad.asr", plan.asr.name, plan.asr.options),
            "base": ("salad.systems", plan.base.system, plan.base.options),
            "adapted": ("salad.systems", plan.adapted.system, plan.adapted.options),
        }
        if plan.tts is not None:
            self._choices["tts"] = ("salad.tts", plan.tts.name, plan.tts.options)
        self._built: dict[Role, Any] = {}
        self._fingerprints: dict[Role, str] = {}

    @property
    def tts(self) -> TTS:
        return self._get("tts")

    @property
    def asr(self) -> ASR:
        return self._get("asr")

    @property
    def base(self) -> System:
        return self._get("base")

    @property
    def adapted(self) -> System:
        return self._get("adapted")

    def system(self, role: Literal["base", "adapted"]) -> System:
        return self.base if role == "base" else self.adapted

    def _get(self, role: Role) -> Any:
        if role not in self._built:
            if role not in self._choices:
                raise UserInputError(f"plan: the key {role!r} is missing, and something is to be spoken.")
            quiet_loading()
            self._built[role] = plugins.create(*self._choices[role])
        return self._built[role]

    def release(self, role: Role) -> None:
        """Let go of a plug-in that no later step needs; its memory is free for the next one."""
        self._built.pop(role, None)

    def fingerprint(self, role: Role) -> str:
        """What the plug-in is, weights included.

        A model that lies in a local folder, unchanged since an earlier run in this run folder, is not loaded to be asked.
        """
        if role not in self._fingerprints:
            built_from = None if role in self._built else self._built_from(role)
            self._fingerprints[role] = self._folder.fingerprint(
                role, built_from, lambda: str(self._get(role).fingerprint())
            )
        return self._fingerprints[role]

    def _built_from(self, role: Role) -> str | None:
        """A digest of name, options, package versions and of the files' sizes and times; ``None`` where they are not all local."""
        if role not in self._choices:
            return None
        group, name, options = self._choices[role]
        if "pretrained" not in options:
            return None
        files: list[str] = []
        for named in _named(options):
            inside = sorted(named.iterdir()) if named.is_dir() else [named]
            stats = ((path, path.stat()) for path in inside if path.is_file())
            files += [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        if not files:
            return None
        info = next(info for info in plugins.available(group) if info.name == name)
        return digest(
            group,
            name,
            json.dumps(options, sort_keys=True),
            f"{info.package} {info.version}",
            version("salad-gap"),
            files,
        )


def quiet_loading() -> None:
    """No progress bars of weights being loaded where nobody watches them."""
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()


def _named(options: Mapping[str, Any]) -> Iterator[Path]:
    """The files and folders that a plug-in is made of, as its options name them at any depth; not those it writes itself."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif isinstance(value, str) and key not in WRITTEN_BY_PLUGINS:
            yield from _model_files(value) if key == "pretrained" else [resolve_path(value)]


def _model_files(pretrained: str) -> Iterator[Path]:
    stated = sources(pretrained)
    yield Path(locate_pretrained(stated.base))
    if stated.adapter is not None:
        yield stated.adapter
