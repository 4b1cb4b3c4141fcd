"""What a user wrote, as YAML or on the command line, against a typed plan: every fault is one sentence that names the key, the
value and what was expected."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from salad_eval.errors import UserInputError, did_you_mean

T = TypeVar("T")
MOST_FAULTS = 5
_FAULTS_OF_KEYS = ("missing", "extra_forbidden", "unexpected_keyword_argument")


# --- reading ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.1, in which 1e-4 is a number as in 1.2, and not a text for want of a point."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(text: str, where: str) -> Any:
    """The values that YAML states. Raises ``UserInputError`` naming ``where`` for what is none."""
    try:
        return yaml.load(text, _Loader)
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        RecursionError,
    ) as cause:  # PyYAML's own constructors raise the last three
        raise UserInputError(f"{where}: is not valid YAML: {' '.join(str(cause).split())}.") from None


def read_table(path: Path, what: str, otherwise: str) -> dict[str, Any]:
    """The mapping in a YAML file that states ``what`` ("plan"); ``otherwise`` says what to give where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserInputError(f"no {what} at {path}. Give the path of a YAML file, or {otherwise}.") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise UserInputError(f"cannot read the {what} {path}: {cause}.") from None
    table = load_yaml(text, str(path))
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        held = type(table).__name__
        raise UserInputError(f"{path}: a {what} is a mapping of keys to values, this file holds a {held}.")
    return table


def parse_setting(text: str) -> tuple[str, Any]:
    """``base.options.dtype=bfloat16`` as key and value; the value is read as YAML, so 3 is a number and [a, b] a list."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserInputError(f"--set {text!r}: expected key=value, for example base.options.dtype=bfloat16.")
    return key.strip(), load_yaml(value, f"--set {text!r}")


def with_overrides(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` with values replaced by dotted keys; tables on the way are made where they are missing."""
    changed = dict(table)
    for key, value in overrides.items():
        _set(changed, key, key.split("."), value)
    return changed


def _set(table: dict[str, Any], whole_key: str, path: Sequence[str], value: Any) -> None:
    if len(path) == 1:
        table[path[0]] = value
        return
    inner = table.get(path[0]) or {}
    if not isinstance(inner, Mapping):
        raise UserInputError(f"setting {whole_key!r}: {path[0]!r} is {inner!r:.60}, which has no keys below it.")
    table[path[0]] = dict(inner)
    _set(table[path[0]], whole_key, path[1:], value)


def dotted(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= dotted(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


# --- checking --------------------------------------------------------------------------------------------------------


def parse(cls: type[T], table: object, where: str, error: type[UserInputError] = UserInputError) -> T:
    """``table`` (parsed YAML or keyword arguments) as a pydantic model or a frozen dataclass; no type is bent to fit.

    Raises ``error`` listing what is wrong in ``where``.
    """
    if not isinstance(table, Mapping):
        raise error(f"{where}: expected a mapping of keys to values, got {_show(table)}.")
    _check_text(table, where, error)
    try:
        if issubclass(cls, BaseModel):
            return cast(T, cls.model_validate(dict(table)))
        text = json.dumps(table, allow_nan=False)
        return cast(T, _adapter(cast(Hashable, cls)).validate_json(text, strict=True, extra="forbid"))
    except ValidationError as cause:
        faults = list(dict.fromkeys(_sentence(fault, cls, table) for fault in cause.errors(include_url=False)))
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise error(f"{where}: {'; '.join([*faults[:MOST_FAULTS], *more])}.") from None
    except UserInputError as cause:  # of a record's own checks
        raise error(f"{where}: {cause}") from None
    except (TypeError, ValueError) as cause:
        raise error(f"{where}: holds a value that is no text, number, list or table ({cause}).") from None


def _check_text(table: object, where: str, error: type[UserInputError]) -> None:
    """Refuse half a surrogate pair, which no file holds: written and read again it would be another value."""
    try:
        json.dumps(table, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as cause:
        raise error(
            f"{where}: {cause.object[max(0, cause.start - 20) : cause.end]!r} is no text ({cause.reason})."
        ) from None
    except (TypeError, ValueError):
        return  # no JSON: said below, with its key


@cache
def _adapter(cls: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, cls))


def _sentence(fault: Any, cls: type[Any], table: Mapping[str, Any]) -> str:
    path = _path(fault, table)
    key = ".".join(path)
    if fault["type"] == "missing":
        return f"the key {key!r} is missing"
    if fault["type"] in _FAULTS_OF_KEYS:
        known = _keys_at(cls, path[:-1])
        return f"unknown key {key!r}{did_you_mean(path[-1].lower(), known)} (known: {', '.join(known)})"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{key} is {_show(fault['input'])}: {message[:1].lower()}{message[1:]}"


def _path(fault: Any, table: object) -> list[str]:
    """The keys that lead to a fault. What pydantic adds to the way (members of a union that it tried) is not in the data."""
    path: list[str] = []
    here: Any = table
    for place, step in enumerate(fault["loc"]):
        inside = (
            step in here if isinstance(here, Mapping) else isinstance(here, (list, tuple)) and isinstance(step, int)
        )
        if inside:
            here = here[step]
        elif fault["type"] not in _FAULTS_OF_KEYS or place < len(fault["loc"]) - 1:
            continue
        path.append(str(step))
    return path


def _keys_at(cls: type[Any], path: Sequence[str]) -> tuple[str, ...]:
    """The keys that are known where ``path`` leads, following nested records."""
    here = cls
    for step in path:
        here = _record_in(typing.get_type_hints(here).get(step)) or here
    if issubclass(here, BaseModel):
        return tuple(here.model_fields)
    return tuple(one.name for one in dataclasses.fields(here))


def _record_in(annotation: Any) -> type[Any] | None:
    """The first model or dataclass that a type is made of."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) else None
    return next((found for part in typing.get_args(annotation) if (found := _record_in(part))), None)


def _show(value: object) -> str:
    return f"{value!r:.80}"
