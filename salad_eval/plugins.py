"""Plug-ins by entry point: ``salad.tts``, ``salad.asr``, ``salad.systems``, ``salad.embedders``, ``salad.signals``,
``salad.trainers``, ``salad.commands``.

Built-ins come through the same groups, so nothing is registered by being imported. A broken plug-in fails when it is asked
for, not when another one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from salad_eval.errors import PluginError, UnknownNameError, UserInputError, did_you_mean

Group = Literal[
    "salad.tts", "salad.asr", "salad.systems", "salad.embedders", "salad.signals", "salad.trainers", "salad.commands"
]
GROUPS: tuple[Group, ...] = (
    "salad.tts",
    "salad.asr",
    "salad.systems",
    "salad.embedders",
    "salad.signals",
    "salad.trainers",
    "salad.commands",
)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    group: Group
    name: str
    target: str
    package: str
    version: str

    @property
    def is_ours(self) -> bool:
        """Whether it comes with this package."""
        return self.target.startswith(("salad_eval.", "salad_train."))


def _found(group: Group) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def available(group: Group) -> list[PluginInfo]:
    """What is registered in a group, sorted by name; loads nothing."""
    infos = []
    for name, point in sorted(_found(group).items()):
        package = point.dist.name if point.dist else "?"
        version = point.dist.version if point.dist else "?"
        infos.append(PluginInfo(group, name, point.value, package, version))
    return infos


def load(group: Group, name: str) -> Any:
    """The object an entry point names (a class or a Typer app).

    Raises ``UnknownNameError`` for a name nobody registered and ``PluginError`` for one that cannot be imported.
    """
    found = _found(group)
    if name not in found:
        raise UnknownNameError(f"{group.removeprefix('salad.')} plug-in", name, found)
    point = found[name]
    try:
        return point.load()
    except Exception as cause:
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
        raise PluginError(
            f"plug-in {name!r} ({group}, {point.value}, from {package}) could not be loaded: "
            f"{type(cause).__name__}: {cause}. Reinstall or remove that package."
        ) from cause


def create(group: Group, name: str, options: Mapping[str, Any]) -> Any:
    """Build a plug-in from its name and its options as a plan states them; wrong options are a ``UserInputError``."""
    return check(group, name, options)(**options)


def check(group: Group, name: str, options: Mapping[str, Any]) -> Any:
    """What builds a plug-in. Raises as ``load``, and ``UserInputError`` for an option that it does not have, or needs and lacks; and what
    a ``check_installed`` of the plug-in's raises."""
    import inspect

    factory = load(group, name)
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if not takes_any:
        for key in options:
            if key not in parameters:
                raise UserInputError(
                    f"{group.removeprefix('salad.')} plug-in {name!r} has no option {key!r}"
                    f"{did_you_mean(key, parameters)}. Options: {', '.join(parameters) or 'none'}."
                )
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in options
    ]
    if missing:
        raise UserInputError(
            f"{group.removeprefix('salad.')} plug-in {name!r} needs the option(s): {', '.join(missing)}."
        )
    if (check_installed := getattr(factory, "check_installed", None)) is not None:
        check_installed()
    return factory
